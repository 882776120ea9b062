use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

fn error(text: &str) -> String {
    Config::parse(text).expect_err(text).to_string()
}

fn all_set() -> Config {
    Config::parse(
        r#"
        site.id = "yard-7"
        devices.default_model = 'DC "10"'
        devices.allow_from = ["10.1.0.0/16", "2001:db8::/32"]
        metrics.listen = "[::1]:9465"
        alerts.stuck_orders_high = 2.5
        [mqtt]
        url = "mqtts://broker"
        client_id = "a\\b"
        username = "u"
        password_file = "p"
        ca_file = "ca"
        cert_file = "c"
        key_file = "k"
        protocol = 4
        [[models]]
        device_model = "DC"
        energy_unit_wh = 10
        end_ack = "echo"
        tiers_command = "0005"
        power_ceiling_w = 500
        [[models]]
        device_model = "AC"
        [[reasons]]
        code = 0x08
        end_reason = "full"
        [[reasons]]
        code = 8
        end_reason = "user_stop"
        device_model = "DC"
        [[policies]]
        firmware_below = "v1.10"
        [[policies]]
        device_model = "DC"
        socket_firmware_below = "0110"
        action = "disable"
        "#,
    )
    .unwrap()
}

#[test]
fn what_is_rendered_reads_back_as_the_same() {
    for config in [Config::default(), all_set()] {
        assert_eq!(Config::parse(&config.render()), Ok(config));
    }
}

#[test]
fn every_key_is_rendered_with_a_comment_whether_it_has_a_value_or_not() {
    for config in [Config::default(), all_set()] {
        let text = config.render();
        let lines: Vec<&str> = text.lines().collect();
        for (name, section) in config.sections() {
            assert!(lines.contains(&format!("[{name}]").as_str()));
            for key in section.keys() {
                let is_key = |line: &&str| line.trim_start_matches('#').starts_with(&format!("{} = ", key.name));
                let at = lines.iter().position(is_key).expect(key.full);
                assert!(lines[at - 1].starts_with("# "), "{}", key.full);
            }
        }
    }
}

/// Contract §3 and §7, word for word.
#[test]
fn the_defaults_are_those_of_the_contract() {
    let defaults = r#"
        site.id = "site-1"
        site.utc_offset = "+08:00"
        site.clock_synchronized_file = "/run/systemd/timesync/synchronized"
        log.level = "info"
        devices.listen = "127.0.0.1:7065"
        devices.admission = "open"
        devices.max_known = 4096
        devices.allow_from = []
        devices.max_connections = 1024
        devices.max_connections_per_address = 256
        devices.heartbeat_interval = "60s"
        devices.offline_after = "150s"
        devices.status_interval = "5m"
        orders.answer_timeout = "15s"
        orders.answer_retries = 2
        orders.end_report_grace = "60s"
        orders.silent_timeout = "30m"
        orders.offline_timeout = "5m"
        orders.overrun_grace = "5m"
        orders.longest = "15h"
        orders.on_return = "resume"
        orders.unknown_session = "stop"
        orders.final_after = "24h"
        orders.power_ceiling_w = 1000
        store.path = "chargegate.db"
        store.flush_interval = "5m"
        store.max_size = "256MiB"
        store.journal_max = "16MiB"
        store.retention = "90d"
        control.socket = "chargegate.sock"
        mqtt.protocol = 5
        mqtt.topic_prefix = "chargegate"
        mqtt.summary_interval = "5m"
        mqtt.drain_rate = 100
        mqtt.confirm = "broker"
        alerts.min_samples = 20
        alerts.clear_after = "60s"
        alerts.compliance_low = 95
        alerts.charging_success_low = 98
        alerts.stuck_orders_high = 2
        alerts.stop_ignored = 3
        alerts.store_failing = 5
        alerts.status_report_late = "10m"
        alerts.device_offline = "5m"
        alerts.abnormal_unhandled = "30m"
        alerts.protocol_errors_high = 1
        alerts.end_reports_missing = 3
        alerts.cloud_unreachable = "5m"
    "#;
    assert_eq!(Config::parse(defaults), Ok(Config::default()));
    // The text is as the contract has it, too, and no key with a value is missing above.
    let stated: BTreeSet<&str> = defaults.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let config = Config::default();
    let mut rendered = BTreeSet::new();
    for (_, section) in config.sections() {
        let with_value = section.keys().iter().filter_map(|key| Some(format!("{} = {}", key.full, section.text(key)?)));
        rendered.extend(with_value);
    }
    assert_eq!(rendered.iter().map(String::as_str).collect::<BTreeSet<_>>(), stated);
}

#[test]
fn the_sample_file_is_the_rendered_defaults() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/chargegate.toml");
    let text = std::fs::read_to_string(sample).unwrap();
    assert_eq!(text, Config::default().render(), "write it anew: chargegate config > systemd/chargegate.toml");
}

#[test]
fn examples_of_keys_without_a_value_are_good_values() {
    let config = Config::default();
    for (_, section) in config.sections() {
        for key in section.keys().iter().filter(|key| section.text(key).is_none()) {
            let pair = "site.id = \"a\"\nmqtt.cert_file = \"c\"\nmqtt.key_file = \"k\"\n";
            let others: String =
                pair.lines().filter(|line| !line.starts_with(key.full)).map(|l| format!("{l}\n")).collect();
            let text = format!("{others}{} = {}", key.full, key.example);
            assert!(Config::parse(&text).is_ok(), "{text}: {}", error(&text));
        }
    }
}

#[test]
fn a_mistake_is_named_by_its_full_key_and_line_and_the_first_line_wins() {
    for (text, expected) in [
        ("\n\n[orders]\nanswer_timeout = \"0s\"", "line 4: orders.answer_timeout: \"0s\" is below \"1s\""),
        ("orders.answer_timout = \"9s\"", "line 1: orders.answer_timout: no such key"),
        ("a = 1\nb = 2", "line 1: a: no such key"),
        ("orders = 5", "line 1: orders: expected a table [orders], found an integer"),
        ("[[orders]]\n", "line 1: orders: expected a table [orders], found an array"),
        (
            "[devices]\nallow_from = [\n\"10.0.0.0/8\",\n\"x\",\n]",
            "line 4: devices.allow_from[1]: \"x\" is not a network, such as \"10.1.0.0/16\"",
        ),
        (
            "[[models]]\ndevice_model = \"a\"\n[[models]]\ndevice_model = \"b\"\nend_ack = \"0d\"",
            "line 5: models[1].end_ack: \"0d\" is not \"0c\" or \"echo\"",
        ),
        (
            "[[models]]\ndevice_model = \"a\"\n[[models]]\ndevice_model = \"a\"",
            "line 4: models[1].device_model: stands twice",
        ),
        ("\n[[models]]\nend_ack = \"0c\"", "line 2: models[0].device_model: is missing"),
        ("models = 1", "line 1: models: expected tables [[models]], found an integer"),
        (
            "\n[[policies]]\naction = \"disable\"",
            "line 2: policies[0]: needs a device_model, firmware_below or socket_firmware_below",
        ),
        ("[site]\nid = \"a\"\nid = \"b\"", "line 3: site.id: duplicate key"),
        ("site.id = \"a\"\nsite.id = \"b\"", "line 2: site.id: duplicate key"),
        ("[log]\n[site]\n[log]", "line 3: log: duplicate key"),
        (
            "orders.answer_retries = 2\nlog.level = \"loud\"\nsite.id = 3",
            "line 2: log.level: \"loud\" is not \"error\" or \"warn\" or \"info\" or \"debug\" or \"trace\"",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    for text in ["a = ", "[site", "site.id = \"a", "= 1", "site.id = a"] {
        let why = error(&format!("\n{text}"));
        assert!(why.starts_with("line 2: ") && !why.contains('\n'), "{why}");
    }
}

#[test]
fn contradictions_are_named_at_the_line_that_the_file_sets_last() {
    for (text, expected) in [
        (
            "\ndevices.offline_after = \"59s\"",
            "line 2: devices.offline_after: \"59s\" is below devices.heartbeat_interval, which is \"60s\"",
        ),
        (
            "devices.heartbeat_interval = \"151s\"",
            "line 1: devices.offline_after: \"150s\" is below devices.heartbeat_interval, which is \"151s\"",
        ),
        (
            "[devices]\noffline_after = \"5s\"\nheartbeat_interval = \"6s\"",
            "line 3: devices.offline_after: \"5s\" is below devices.heartbeat_interval, which is \"6s\"",
        ),
        (
            "orders.silent_timeout = \"4m\"",
            "line 1: orders.silent_timeout: \"240s\" is below devices.status_interval, which is \"5m\"",
        ),
        ("mqtt.url = \"mqtt://b\"", "line 1: site.id: must be set when mqtt.url is"),
        ("mqtt.cert_file = \"c\"", "line 1: mqtt.cert_file: needs mqtt.key_file"),
        ("mqtt.key_file = \"c\"", "line 1: mqtt.key_file: needs mqtt.cert_file"),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    assert!(Config::parse("devices.offline_after = \"60s\"\nmqtt.url = \"mqtt://b\"\nsite.id = \"site-1\"").is_ok());
}

#[test]
fn a_reload_takes_over_what_may_change_and_names_what_needs_a_restart() {
    let new = Config::parse(
        r#"
        site.id = "other"
        log.level = "debug"
        orders.answer_timeout = "7s"
        alerts.stop_ignored = 9
        devices.heartbeat_interval = "2m"
        devices.listen = "127.0.0.1:9"
        store.flush_interval = "1m"
        store.path = "other.db"
        mqtt.url = "mqtt://b"
        mqtt.summary_interval = "1m"
        [[reasons]]
        code = 1
        end_reason = "full"
        "#,
    )
    .unwrap();
    let mut running = Config::default();
    assert_eq!(running.changed_keys_that_need_a_restart(&new), ["site.id", "devices.listen", "store.path", "mqtt.url"]);
    running.take_over(&new);
    assert_eq!(running.orders.answer_timeout, Duration::from_secs(7));
    assert_eq!((running.alerts.stop_ignored, running.log.level), (9, log::LevelFilter::Debug));
    assert_eq!(running.devices.heartbeat_interval, Duration::from_secs(120));
    assert_eq!(running.store.flush_interval, Duration::from_secs(60));
    assert_eq!(running.mqtt.summary_interval, Duration::from_secs(60));
    assert_eq!(running.end_reason(1, None), Some("full"));
    assert_eq!((running.site.id.as_str(), running.mqtt.url.as_ref()), ("site-1", None));
    assert_eq!(running.changed_keys_that_need_a_restart(&running.clone()), [""; 0]);
}

#[test]
fn what_is_said_of_a_model_goes_before_what_is_said_of_all() {
    let config = all_set();
    assert_eq!(config.end_reason(8, Some("DC")), Some("user_stop"));
    assert_eq!(config.end_reason(8, Some("AC")), Some("full"));
    assert_eq!(config.end_reason(8, None), Some("full"));
    assert_eq!(config.end_reason(9, Some("DC")), None);
    assert_eq!(config.power_ceiling_w(Some("DC")), 500);
    assert_eq!(config.power_ceiling_w(Some("AC")), 1000);
    assert_eq!(config.model(Some("DC")).energy_unit_wh, 10);
    assert_eq!(config.model(None), Model::default());
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    let why = Config::load(&missing).unwrap_err().to_string();
    assert!(why.starts_with(&format!("{}: ", missing.display())), "{why}");
    assert!(Config::load(folder.path()).is_err());
    let path = folder.path().join("a.toml");
    std::fs::write(&path, b"[site]\nid = \"\xff\"").unwrap();
    assert_eq!(Config::load(&path).unwrap_err().to_string(), format!("{}: line 2: is not UTF-8", path.display()));
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(Config::load(&path).is_err());
}
