//! The configuration file: where it comes from, and how each mistake in it is named.

use chargegate::config::Config;

use crate::site::{Ran, Site};

#[test]
fn config_prints_what_reads_back_as_the_same() {
    let site = Site::new();
    let printed = site.run(&["config"]);
    assert_eq!(Config::parse(&printed.out), Ok(Config::default()));
    let text = "site.id = \"yard\"\norders.answer_timeout = \"1m30s\"\n[[models]]\ndevice_model = \"DC\"\n";
    let printed = site.run_with_config(text, &["config"]);
    assert_eq!((printed.code, Config::parse(&printed.out)), (0, Config::parse(text)));
    let again = site.run_with_config(&printed.out, &["config"]);
    assert_eq!(again, printed);
}

#[test]
fn the_file_comes_from_the_option_else_from_the_environment() {
    let site = Site::new();
    std::fs::write(site.path("option.toml"), "site.id = \"option\"").unwrap();
    std::fs::write(site.path("environment.toml"), "site.id = \"environment\"").unwrap();
    for (arguments, environment, expected) in [
        (&["--config", "option.toml", "config"][..], "environment.toml", "option"),
        (&["config", "--config=option.toml"], "", "option"),
        (&["config"], "environment.toml", "environment"),
        (&["config"], "", "site-1"),
    ] {
        let output = site.command(arguments).env("CHARGEGATE_CONFIG", environment).output().unwrap();
        let config = Config::parse(&Ran::of(output).out).unwrap();
        assert_eq!(config.site.id, expected);
    }
    let missing = site.run(&["--config", "none.toml", "config"]);
    assert_eq!((missing.code, missing.err.lines().count()), (2, 1));
    assert!(missing.err.starts_with("chargegate: configuration: none.toml: "), "{missing:?}");
}

/// Key, a value of the wrong type, an impossible one.
const REJECTED: &[(&str, &str, &str)] = &[
    ("site.id", "1", "\"a b\""),
    ("site.utc_offset", "8", "\"+25:00\""),
    ("site.clock_synchronized_file", "true", "\"\""),
    ("log.level", "1", "\"loud\""),
    ("devices.listen", "7065", "\"localhost\""),
    ("devices.admission", "true", "\"closed\""),
    ("devices.max_known", "\"4096\"", "0"),
    ("devices.allow_from", "\"10.0.0.0/8\"", "[\"10.0.0.0/33\"]"),
    ("devices.max_connections", "1.5", "0"),
    ("devices.max_connections_per_address", "\"1\"", "-1"),
    ("devices.heartbeat_interval", "60", "\"0s\""),
    ("devices.offline_after", "150", "\"150\""),
    ("devices.status_interval", "[]", "\"500ms\""),
    ("devices.default_model", "1", "\"\""),
    ("orders.answer_timeout", "15", "\"-1s\""),
    ("orders.answer_retries", "\"2\"", "101"),
    ("orders.end_report_grace", "1.0", "\"1.5m\""),
    ("orders.silent_timeout", "30", "\"1x\""),
    ("orders.offline_timeout", "true", "\"\""),
    ("orders.overrun_grace", "5", "\"5 m\""),
    ("orders.longest", "15", "\"9999999d\""),
    ("orders.on_return", "1", "\"wait\""),
    ("orders.unknown_session", "1", "\"ignore\""),
    ("orders.final_after", "2026-01-01", "\"h\""),
    ("orders.power_ceiling_w", "\"1000\"", "0"),
    ("store.path", "[]", "\"\""),
    ("store.flush_interval", "5", "\"0m\""),
    ("store.max_size", "256", "\"1KiB\""),
    ("store.journal_max", "16", "\"16MB\""),
    ("store.retention", "90", "\"0d\""),
    (
        "control.socket",
        "1",
        "\"/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789\"",
    ),
    ("mqtt.url", "1883", "\"http://host\""),
    ("mqtt.client_id", "1", "\"\""),
    ("mqtt.username", "1", "\"\""),
    ("mqtt.password_file", "1", "\"\""),
    ("mqtt.ca_file", "1", "\"\""),
    ("mqtt.cert_file", "1", "\"\""),
    ("mqtt.key_file", "1", "\"\""),
    ("mqtt.protocol", "\"5\"", "3"),
    ("mqtt.topic_prefix", "1", "\"a/#\""),
    ("mqtt.summary_interval", "5", "\"0s\""),
    ("mqtt.drain_rate", "\"100\"", "0"),
    ("mqtt.confirm", "true", "\"nobody\""),
    ("metrics.listen", "9465", "\"9465\""),
    ("alerts.min_samples", "\"20\"", "0"),
    ("alerts.clear_after", "60", "\"0s\""),
    ("alerts.compliance_low", "\"95\"", "101"),
    ("alerts.charging_success_low", "\"98\"", "-0.5"),
    ("alerts.stuck_orders_high", "\"2\"", "nan"),
    ("alerts.stop_ignored", "\"3\"", "0"),
    ("alerts.store_failing", "\"5\"", "1e3"),
    ("alerts.status_report_late", "10", "\"10\""),
    ("alerts.device_offline", "5", "\"x\""),
    ("alerts.abnormal_unhandled", "30", "\"0s\""),
    ("alerts.protocol_errors_high", "\"1\"", "inf"),
    ("alerts.end_reports_missing", "\"3\"", "0"),
    ("alerts.cloud_unreachable", "5", "\"-5m\""),
];

fn assert_names_key_and_line(ran: &Ran, key: &str, line: usize) {
    assert_eq!((ran.code, ran.out.as_str(), ran.err.lines().count()), (2, "", 1), "{key}: {ran:?}");
    let start = format!("chargegate: configuration: site.toml: line {line}: {key}");
    let rest = ran.err.strip_prefix(&start).unwrap_or_else(|| panic!("{start}: {ran:?}"));
    assert!(rest.starts_with(": ") || rest.starts_with('['), "{ran:?}");
}

#[test]
fn every_key_is_refused_by_name_and_line_with_a_wrong_type_and_an_impossible_value() {
    let site = Site::new();
    for (key, wrong_type, impossible) in REJECTED {
        let (section, name) = key.split_once('.').unwrap();
        for value in [wrong_type, impossible] {
            let ran = site.run_with_config(&format!("# here\n[{section}]\n\n{name} = {value}\n"), &["config"]);
            assert_names_key_and_line(&ran, key, 4);
        }
        let ran = site.run_with_config(&format!("\n{section}.{name}x = 1\n"), &["config"]);
        assert_names_key_and_line(&ran, &format!("{key}x"), 2);
    }
    // No key is missing above.
    let rendered = Config::default().render();
    let keys = rendered.lines().filter(|line| !line.starts_with("# ") && line.contains(" = ")).count();
    let entry_keys = 5 + 3 + 4;
    assert_eq!(REJECTED.len() + entry_keys, keys);
}

#[test]
fn entries_are_refused_by_index_key_and_line() {
    let site = Site::new();
    let model = "[[models]]\ndevice_model = \"a\"\n";
    for (text, key, line) in [
        (format!("{model}{model}"), "models[1].device_model", 4),
        ("[[models]]\nend_ack = \"0c\"".to_owned(), "models[0].device_model", 1),
        (format!("{model}[[models]]\ndevice_model = 1"), "models[1].device_model", 4),
        (format!("{model}energy_unit_wh = \"1\""), "models[0].energy_unit_wh", 3),
        (format!("{model}energy_unit_wh = 0"), "models[0].energy_unit_wh", 3),
        (format!("{model}end_ack = 12"), "models[0].end_ack", 3),
        (format!("{model}end_ack = \"0b\""), "models[0].end_ack", 3),
        (format!("{model}tiers_command = 15"), "models[0].tiers_command", 3),
        (format!("{model}tiers_command = \"0007\""), "models[0].tiers_command", 3),
        (format!("{model}power_ceiling_w = \"1\""), "models[0].power_ceiling_w", 3),
        (format!("{model}power_ceiling_w = 0"), "models[0].power_ceiling_w", 3),
        (format!("{model}colour = 1"), "models[0].colour", 3),
        ("models = 1".to_owned(), "models", 1),
        ("models = [1]".to_owned(), "models[0]", 1),
        ("[[reasons]]\nend_reason = \"full\"".to_owned(), "reasons[0].code", 1),
        ("[[reasons]]\ncode = 8".to_owned(), "reasons[0].end_reason", 1),
        ("[[reasons]]\ncode = \"8\"\nend_reason = \"full\"".to_owned(), "reasons[0].code", 2),
        ("[[reasons]]\ncode = 256\nend_reason = \"full\"".to_owned(), "reasons[0].code", 2),
        ("[[reasons]]\ncode = 8\nend_reason = 1".to_owned(), "reasons[0].end_reason", 3),
        ("[[reasons]]\ncode = 8\nend_reason = \"tired\"".to_owned(), "reasons[0].end_reason", 3),
        ("[[reasons]]\ncode = 8\nend_reason = \"full\"\ndevice_model = 1".to_owned(), "reasons[0].device_model", 4),
        ("[[policies]]\naction = \"disable\"".to_owned(), "policies[0]", 1),
        ("[[policies]]\ndevice_model = 1".to_owned(), "policies[0].device_model", 2),
        ("[[policies]]\nfirmware_below = 1.9".to_owned(), "policies[0].firmware_below", 2),
        ("[[policies]]\nfirmware_below = \"new\"".to_owned(), "policies[0].firmware_below", 2),
        ("[[policies]]\nsocket_firmware_below = 1".to_owned(), "policies[0].socket_firmware_below", 2),
        ("[[policies]]\nsocket_firmware_below = \"ffff\"".to_owned(), "policies[0].socket_firmware_below", 2),
        ("[[policies]]\ndevice_model = \"a\"\naction = \"enable\"".to_owned(), "policies[0].action", 3),
        ("[[policies]]\ndevice_model = \"a\"\naction = true".to_owned(), "policies[0].action", 3),
    ] {
        assert_names_key_and_line(&site.run_with_config(&text, &["config"]), key, line);
    }
}

#[test]
fn contradictions_and_broken_toml_are_refused_with_their_line() {
    let site = Site::new();
    for (text, key, line) in [
        ("[devices]\noffline_after = \"30s\"", "devices.offline_after", 2),
        ("devices.heartbeat_interval = \"5m\"", "devices.offline_after", 1),
        ("\n[orders]\nsilent_timeout = \"60s\"", "orders.silent_timeout", 3),
        ("[devices]\nstatus_interval = \"31m\"", "orders.silent_timeout", 2),
        ("[mqtt]\nurl = \"mqtt://b\"", "site.id", 2),
        ("[site]\nid = \"a\"\nid = \"b\"", "site.id", 3),
        ("[weather]\n", "weather", 1),
        ("[alerts]\nport_fault = 1", "alerts.port_fault", 2),
    ] {
        assert_names_key_and_line(&site.run_with_config(text, &["config"]), key, line);
    }
    let broken = site.run_with_config("[site]\nid = a", &["run"]);
    assert_eq!((broken.code, broken.err.lines().count()), (2, 1));
    assert!(broken.err.starts_with("chargegate: configuration: site.toml: line 2: "), "{broken:?}");
}
