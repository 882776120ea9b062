//! The command line from outside: the real binary, its output and exit codes (contract §2).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use chargegate::config::Config;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A working directory with a store, a socket and a configuration of its own.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chargegate"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("CHARGEGATE_CONFIG").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }

    fn run_with_config(&self, text: &str, arguments: &[&str]) -> Ran {
        std::fs::write(self.path("site.toml"), text).unwrap();
        self.run(&[&["--config", "site.toml"], arguments].concat())
    }

    /// A store with exactly the contract's columns.
    fn store(&self) -> Connection {
        let store = Connection::open(self.path("chargegate.db")).unwrap();
        store.pragma_update(None, "journal_mode", "wal").unwrap();
        store.execute_batch(STORE).unwrap();
        store
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// What came of a run.
#[derive(Debug, PartialEq)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

const STORE: &str = "
CREATE TABLE devices (device_id TEXT PRIMARY KEY, device_model, firmware_version, iccid, rssi, status, online, last_seen,
  note, extra);
CREATE TABLE ports (device_id, socket_no, port_no, status, raw_status, business_no, voltage_v, power_w, current_a,
  energy_wh, minutes, updated_at, extra);
CREATE TABLE orders (order_no TEXT PRIMARY KEY, device_id, socket_no, port_no, business_no, source, mode, plan, status,
  start_time, end_time, end_reason, settlement, final, revision, verdict, energy_wh, energy_max_wh, minutes,
  minutes_max, spent_cents, electricity_cents, service_cents, settlement_power_w, tiers, peak_power_w, raw_reason,
  raw_status, device_end_time, started_by, stopped_by, card_no, flags, extra);
CREATE TABLE alerts (alert_id INTEGER PRIMARY KEY, rule, severity, device_id, socket_no, port_no, raised_at,
  acknowledged_at, cleared_at, details, extra);
CREATE TABLE events (stream, seq, at, type, device_id, order_no, data, extra);
CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, topic, stream, seq, payload, created_at, extra);
CREATE TABLE issues (issue_type, device_id, socket_no, port_no, order_no, details);
CREATE VIEW consistency_issues AS SELECT * FROM issues;
";

const DEVICE: &str = "82241218000382";

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    let site = Site::new();
    for (arguments, line) in [
        (&[][..], "chargegate: usage: a command is missing, see chargegate --help"),
        (&["frobnicate"], "chargegate: frobnicate: no such command, see chargegate --help"),
        (&["fro\nb"], "chargegate: fro\\nb: no such command, see chargegate --help"),
        (&["help", "frobnicate"], "chargegate: frobnicate: no such command, see chargegate --help"),
        (&["--frobnicate"], "chargegate: usage: no such option: --frobnicate"),
        (&["-x", "run"], "chargegate: usage: no such option: -x"),
        (&["--config"], "chargegate: usage: missing argument for option '--config'"),
        (&["run", "now"], "chargegate: run: unexpected argument \"now\""),
        (&["run", "--json"], "chargegate: run: no such option: --json"),
        (&["config", "x"], "chargegate: config: unexpected argument \"x\""),
        (&["check", "--open"], "chargegate: check: no such option: --open"),
        (&["devices", "--open"], "chargegate: devices: no such option: --open"),
        (&["orders", "--json=x"], "chargegate: orders: unexpected argument for option '--json': \"x\""),
        (&["orders", "--since"], "chargegate: orders: missing argument for option '--since'"),
        (&["orders", "--since", "24"], "chargegate: orders: --since \"24\": is not a duration such as 90s, 24h or 7d"),
        (&["ports", "--device", "7"], "chargegate: ports: --device \"7\": a device id is 14 decimal digits"),
        (&["command"], "chargegate: command: the command is missing: a JSON object, or - to read it from stdin"),
        (&["command", "{}", "{}"], "chargegate: command: unexpected argument \"{}\""),
        (&["command", " "], "chargegate: command: there is nothing to send"),
        (&["decode", "--json"], "chargegate: decode: no such option: --json"),
        (&["demo", "--devices", "0"], "chargegate: demo: --devices \"0\": is not a number from 1 to 10000"),
        (&["demo", "--speed", "fast"], "chargegate: demo: --speed \"fast\": is not a number from 1 to 1000"),
        (
            &["demo", "--mqtt", "http://x"],
            "chargegate: demo: --mqtt \"http://x\": a broker's URL is mqtt://HOST:PORT or mqtts://HOST:PORT",
        ),
        (&["simulate"], "chargegate: simulate: --connect HOST:PORT is missing"),
        (&["simulate", "--connect", "host"], "chargegate: simulate: --connect \"host\": is not HOST:PORT"),
        (
            &["simulate", "--connect", "h:1", "--devices", "1", "--fault", "deaf=2"],
            "chargegate: simulate: 2 faulty devices are more than 1",
        ),
    ] {
        let expected = Ran { code: 2, out: String::new(), err: format!("{line}\n") };
        assert_eq!(site.run(arguments), expected, "{arguments:?}");
    }
    let unknown_fault = site.run(&["simulate", "--connect", "h:1", "--fault", "slow=2"]);
    assert_eq!((unknown_fault.code, unknown_fault.err.lines().count()), (2, 1));
    assert!(unknown_fault.err.contains("slow=2") && unknown_fault.err.contains("no-end"));
    assert_eq!(site.files(), [""; 0]);
}

#[test]
fn help_and_version_are_fine_everywhere() {
    let site = Site::new();
    let commands = "run demo simulate command devices ports orders alerts events outbox check decode config";
    let overview = site.run(&["--help"]);
    assert_eq!((overview.code, overview.err.as_str()), (0, ""));
    assert_eq!(site.run(&["help"]), overview);
    assert_eq!(site.run(&["-h"]), overview);
    for command in commands.split(' ') {
        assert!(overview.out.contains(&format!("\n  {command} ")), "{command}");
        let help = site.run(&[command, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (0, ""));
        assert!(help.out.starts_with(&format!("usage: chargegate [--config FILE] {command}")), "{help:?}");
        assert_eq!(site.run(&["help", command]), help);
    }
    assert_eq!(site.run(&["--version"]).out, format!("chargegate {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_has_enough_makes_a_success() {
    let site = Site::new();
    for arguments in [&["config"][..], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = site.command(arguments).stdout(writer).status().unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}

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

const READERS: [&str; 7] = ["devices", "ports", "orders", "alerts", "events", "outbox", "check"];

#[test]
fn without_a_store_a_reader_fails_and_creates_none() {
    let site = Site::new();
    for command in READERS {
        for arguments in [&[command][..], &[command, "--json"]] {
            let line = format!("chargegate: {command}: there is no store at chargegate.db\n");
            assert_eq!(site.run(arguments), Ran { code: 1, out: String::new(), err: line });
        }
    }
    assert_eq!(site.files(), [""; 0]);
}

#[test]
fn what_is_no_store_is_one_line_and_left_alone() {
    let site = Site::new();
    std::fs::write(site.path("chargegate.db"), "a text file that is long enough to be taken for something else")
        .unwrap();
    let ran = site.run(&["orders"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.lines().count()), (1, "", 1));
    assert!(ran.err.starts_with("chargegate: orders: cannot read chargegate.db: "), "{ran:?}");
    std::fs::write(site.path("chargegate.db"), "").unwrap();
    assert_eq!(site.run(&["orders"]).err, "chargegate: orders: cannot read chargegate.db: no such table: orders\n");
    assert_eq!(std::fs::read(site.path("chargegate.db")).unwrap(), b"");
    std::fs::remove_file(site.path("chargegate.db")).unwrap();
    std::fs::create_dir(site.path("chargegate.db")).unwrap();
    assert_eq!(site.run(&["orders"]).err, "chargegate: orders: chargegate.db is not a file\n");
}

fn fill(store: &Connection) {
    store
        .execute_batch(
            "INSERT INTO devices VALUES ('82241218000382', 'DC', 'v1.9', 'x' || char(27) || '[2J', -71, 'enabled', 1,
               1709251199250, NULL, 'no');
             INSERT INTO devices VALUES ('00000000000001', NULL, NULL, NULL, NULL, 'disabled', 0, NULL, 'spare', 'no');
             INSERT INTO ports VALUES ('82241218000382', 1, 0, 129, 144, 17, 230.1, 300.5, 1.31, 80, 12,
               1709251199000, 'no');
             INSERT INTO ports VALUES ('82241218000382', 1, 1, 9, 128, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'no');
             INSERT INTO orders (order_no, device_id, socket_no, port_no, status, final, plan, flags)
               VALUES ('new', '82241218000382', 1, 0, 0, 0, '{\"mode\":\"time\",\"minutes\":60}', '[]');
             INSERT INTO orders (order_no, device_id, socket_no, port_no, status, final, start_time, end_time, plan, tiers,
               flags, device_end_time)
               VALUES ('old', '00000000000001', 1, 0, 7, 1, 1000, 2000, 'not json', '[{\"minutes\":5,\"energy_wh\":null}]',
               '[\"clock_unset\"]', '2024-02-29T23:59:59');
             INSERT INTO alerts VALUES (1, 'port_fault', 'warning', '82241218000382', 1, 0, 1000, NULL, 2000, NULL, 'no');
             INSERT INTO alerts VALUES (2, 'device_offline', 'warning', '00000000000001', NULL, NULL, 3000, NULL, NULL,
               '{\"since\":1}', 'no');
             INSERT INTO events VALUES ('order', 1, 1000, 'order.started', '82241218000382', 'new', '{\"b\":1,\"a\":2}', 'no');
             INSERT INTO events VALUES ('device', 1, 2000, 'device.online', '00000000000001', NULL, x'00ff', 'no');
             INSERT INTO outbox VALUES (7, 'a/event/order', 'order', 1, NULL, 1000, 'no');
             INSERT INTO outbox VALUES (8, 'a/reply', NULL, NULL, '{\"v\":1}', 2000, 'no');",
        )
        .unwrap();
}

fn keys(object: &Value) -> Vec<&String> {
    object.as_object().unwrap().keys().collect()
}

#[test]
fn json_has_the_contracts_columns_in_their_order_and_no_others() {
    let site = Site::new();
    fill(&site.store());
    for (command, columns) in [
        ("devices", "device_id,device_model,firmware_version,iccid,rssi,status,online,last_seen,note"),
        (
            "ports",
            "device_id,socket_no,port_no,status,raw_status,business_no,voltage_v,power_w,current_a,energy_wh,minutes,updated_at",
        ),
        (
            "orders",
            "order_no,device_id,socket_no,port_no,business_no,source,mode,plan,status,start_time,end_time,end_reason,\
             settlement,final,revision,verdict,energy_wh,energy_max_wh,minutes,minutes_max,spent_cents,electricity_cents,\
             service_cents,settlement_power_w,tiers,peak_power_w,raw_reason,raw_status,device_end_time,started_by,\
             stopped_by,card_no,flags",
        ),
        ("alerts", "alert_id,rule,severity,device_id,socket_no,port_no,raised_at,acknowledged_at,cleared_at,details"),
        ("events", "stream,seq,at,type,device_id,order_no,data"),
        ("outbox", "id,topic,stream,seq,payload,created_at"),
    ] {
        let ran = site.run(&[command, "--json"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
        let rows = ran.json();
        assert_eq!(rows.as_array().unwrap().len(), 2, "{command}");
        let mut columns: Vec<&str> = columns.split(',').collect();
        // In the text they stand in the contract's order.
        let places: Vec<usize> = columns.iter().map(|name| ran.out.find(&format!("\"{name}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{command}");
        columns.sort_unstable();
        assert!(rows.as_array().unwrap().iter().all(|row| keys(row) == columns), "{command}: {rows}");
    }
}

#[test]
fn json_has_times_as_text_null_for_null_and_json_columns_as_values() {
    let site = Site::new();
    fill(&site.store());
    let devices = site.run(&["devices", "--json"]).json();
    assert_eq!(devices[0]["last_seen"], Value::Null);
    assert_eq!(devices[1]["last_seen"], "2024-02-29T23:59:59.250Z");
    assert_eq!((&devices[1]["iccid"], &devices[1]["online"]), (&json!("x\u{1b}[2J"), &json!(1)));
    let ports = site.run(&["ports", "--json"]).json();
    assert_eq!((&ports[0]["status"], &ports[0]["voltage_v"]), (&json!(129), &json!(230.1)));
    assert_eq!(ports[0]["updated_at"], "2024-02-29T23:59:59Z");
    let orders = site.run(&["orders", "--json"]).json();
    assert_eq!((&orders[0]["order_no"], &orders[0]["plan"]), (&json!("old"), &json!("not json")));
    assert_eq!((&orders[0]["final"], &orders[0]["start_time"]), (&json!(1), &json!("1970-01-01T00:00:01Z")));
    assert_eq!(orders[0]["tiers"], json!([{"minutes": 5, "energy_wh": null}]));
    assert_eq!(orders[0]["flags"], json!(["clock_unset"]));
    assert_eq!(orders[0]["device_end_time"], "2024-02-29T23:59:59");
    assert_eq!(orders[1]["plan"], json!({"mode": "time", "minutes": 60}));
    assert_eq!((&orders[1]["mode"], &orders[1]["tiers"]), (&Value::Null, &Value::Null));
    let events = site.run(&["events", "--json"]).json();
    assert_eq!((&events[0]["data"], &events[1]["data"]), (&json!({"a": 2, "b": 1}), &json!("00ff")));
    let outbox = site.run(&["outbox", "--json"]).json();
    assert_eq!((&outbox[0]["payload"], &outbox[1]["payload"]), (&Value::Null, &json!("{\"v\":1}")));
    let alerts = site.run(&["alerts", "--json"]).json();
    assert_eq!((&alerts[0]["details"], &alerts[1]["details"]), (&Value::Null, &json!({"since": 1})));
}

#[test]
fn a_table_is_for_people() {
    let site = Site::new();
    fill(&site.store());
    let lines = |command: &str| -> Vec<String> { site.run(&[command]).out.lines().map(str::to_owned).collect() };
    let devices = lines("devices");
    assert_eq!(devices.len(), 3);
    assert!(devices[0].starts_with("device_id       device_model  firmware_version  iccid"), "{devices:#?}");
    assert!(devices[1].ends_with("disabled  no      -                     spare"), "{devices:#?}");
    assert!(devices[2].contains("x\\u{1b}[2J") && devices[2].contains("2024-02-29 23:59:59Z"), "{devices:#?}");
    let ports = lines("ports");
    assert!(ports[1].contains("charging") && ports[2].contains("idle"), "{ports:#?}");
    let orders = lines("orders");
    assert!(orders[1].contains("completed") && orders[2].contains("pending"), "{orders:#?}");
}

#[test]
fn filters_choose_by_device_age_and_openness() {
    let site = Site::new();
    let store = site.store();
    fill(&store);
    // One port, order, alert, event and message of right now, whatever the clock says.
    for (table, column, condition) in [
        ("devices", "last_seen", "device_id = '82241218000382'"),
        ("ports", "updated_at", "port_no = 1"),
        ("orders", "end_time", "order_no = 'old'"),
        ("alerts", "raised_at", "alert_id = 1"),
        ("events", "at", "stream = 'order'"),
        ("outbox", "created_at", "id = 8"),
    ] {
        let now = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
        store.execute(&format!("UPDATE {table} SET {column} = {now} WHERE {condition}"), []).unwrap();
    }
    for (arguments, key, expected) in [
        (&["devices", "--device", DEVICE][..], "device_id", json!([DEVICE])),
        (&["devices", "--since", "1h"], "device_id", json!([DEVICE])),
        (&["ports", "--device", "00000000000001"], "port_no", json!([])),
        (&["ports", "--since", "90s"], "port_no", json!([1])),
        (&["orders", "--device", DEVICE], "order_no", json!(["new"])),
        // The pending one is as new as can be.
        (&["orders", "--since", "24h"], "order_no", json!(["old", "new"])),
        (&["orders", "--since", "24h", "--device", "00000000000001"], "order_no", json!(["old"])),
        (&["orders", "--open"], "order_no", json!(["new"])),
        (&["orders", "--open", "--device", "00000000000001"], "order_no", json!([])),
        (&["alerts", "--open"], "alert_id", json!([2])),
        (&["alerts", "--since", "7d"], "alert_id", json!([1])),
        (&["alerts", "--open", "--since", "7d"], "alert_id", json!([])),
        (&["events", "--since", "1m", "--device", DEVICE], "type", json!(["order.started"])),
        (&["events", "--device", "00000000000001"], "type", json!(["device.online"])),
        (&["outbox", "--device", DEVICE], "id", json!([7])),
        (&["outbox", "--since", "1h"], "id", json!([8])),
    ] {
        let ran = site.run(&[arguments, &["--json"]].concat());
        let found: Value = ran.json().as_array().unwrap().iter().map(|row| row[key].clone()).collect();
        assert_eq!(found, expected, "{arguments:?}");
    }
}

#[test]
fn a_reader_leaves_nothing_behind_a_stopped_agent() {
    let site = Site::new();
    fill(&site.store());
    let before = std::fs::read(site.path("chargegate.db")).unwrap();
    assert_eq!(site.files(), ["chargegate.db"]);
    for command in READERS {
        assert_eq!(site.run(&[command]).code, 0, "{command}");
    }
    assert_eq!(site.files(), ["chargegate.db"]);
    assert!(before == std::fs::read(site.path("chargegate.db")).unwrap());
}

#[test]
fn what_a_running_agent_has_committed_is_seen() {
    let site = Site::new();
    let store = site.store();
    store.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    fill(&store);
    assert_eq!(site.run(&["orders", "--json"]).json().as_array().unwrap().len(), 2);
    assert_eq!(site.files(), ["chargegate.db", "chargegate.db-shm", "chargegate.db-wal"]);
}

#[test]
fn check_says_no_when_there_are_issues() {
    let site = Site::new();
    let store = site.store();
    let fine = site.run(&["check", "--json"]);
    assert_eq!((fine.code, fine.json()), (0, json!([])));
    assert_eq!(site.run(&["check"]).code, 0);
    let issue = "INSERT INTO issues VALUES ('order_port_mismatch', '82241218000382', 1, 0, 'A1', 'idle')";
    store.execute(issue, []).unwrap();
    let issues = site.run(&["check", "--json"]);
    let expected = json!([{"issue_type": "order_port_mismatch", "device_id": DEVICE, "socket_no": 1, "port_no": 0,
        "order_no": "A1", "details": "idle"}]);
    assert_eq!((issues.code, issues.err.as_str(), issues.json()), (1, "", expected));
    let table = site.run(&["check"]);
    assert_eq!((table.code, table.err.as_str(), table.out.lines().count()), (1, "", 2));
}

/// Answers each connection's first line by `reply`; hands the lines back.
fn agent(
    socket: &Path,
    connections: usize,
    reply: impl Fn(&Value) -> String + Send + 'static,
) -> thread::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let connection = |_| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            let request = serde_json::from_str(&line).unwrap_or_default();
            stream.write_all(reply(&request).as_bytes()).unwrap();
            line
        };
        (0..connections).map(connection).collect()
    })
}

#[test]
fn a_reader_asks_the_running_agent_to_flush_first() {
    let site = Site::new();
    let store = site.store();
    let flushed = move |request: &Value| {
        fill(&store);
        format!("{}\n", json!({"v": 1, "id": request["id"], "result": "done"}))
    };
    let agent = agent(&site.path("chargegate.sock"), 1, flushed);
    assert_eq!(site.run(&["ports", "--json"]).json().as_array().unwrap().len(), 2);
    let request: Value = serde_json::from_str(&agent.join().unwrap()[0]).unwrap();
    assert_eq!((&request["type"], keys(&request).len()), (&json!("flush"), 2));
}

#[test]
fn a_reader_reads_what_is_there_when_the_agent_cannot_flush() {
    let site = Site::new();
    fill(&site.store());
    let agent = agent(&site.path("chargegate.sock"), 1, |_| String::new());
    assert_eq!(site.run(&["ports"]).code, 0);
    agent.join().unwrap();
    // Nobody listens any more.
    assert_eq!(site.run(&["ports"]).code, 0);
}

#[test]
fn a_command_prints_the_reply_and_tells_whether_it_was_done() {
    let site = Site::new();
    let by_type = |request: &Value| {
        let done = json!({"v": 1, "id": request["id"], "result": request["type"]});
        // Another's reply, should it ever come, is not ours.
        format!("{}\n{done}\n", json!({"v": 1, "id": "another", "result": "done"}))
    };
    let agent = agent(&site.path("chargegate.sock"), 4, by_type);
    let done = site.run(&["command", r#"{"id":"a", "type":"done"}"#]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(done.json(), json!({"v": 1, "id": "a", "result": "done"}));
    let failed = site.run_with_input(&["command", "-"], "{\n  \"id\": \"b\",\n  \"type\": \"failed\"\n}\n");
    assert_eq!((failed.code, failed.err.as_str(), &failed.json()["id"]), (1, "", &json!("b")));
    assert_eq!(site.run(&["command", r#"{"id":"c","type":"rejected"}"#]).code, 1);
    let made_up = site.run(&["command", r#"{"type":"done"}"#]);
    assert_eq!(made_up.code, 0);
    let lines = agent.join().unwrap();
    assert_eq!(lines[0], "{\"id\":\"a\",\"type\":\"done\"}\n");
    assert_eq!(lines[1], "{\"id\":\"b\",\"type\":\"failed\"}\n");
    let sent: Value = serde_json::from_str(&lines[3]).unwrap();
    assert_eq!(sent["id"], made_up.json()["id"]);
}

#[test]
fn what_is_no_json_is_for_the_agent_to_refuse() {
    let site = Site::new();
    let refusal = r#"{"v":1,"id":null,"result":"rejected","error":{"code":"invalid_json"}}"#;
    let agent = agent(&site.path("chargegate.sock"), 1, move |_| format!("{refusal}\n"));
    let refused = site.run(&["command", "{stop\nit}"]);
    assert_eq!(refused, Ran { code: 1, out: format!("{refusal}\n"), err: String::new() });
    assert_eq!(agent.join().unwrap(), ["{stop it}\n"]);
}

#[test]
fn a_command_without_an_agent_fails_in_one_line() {
    let site = Site::new();
    let start = "chargegate: command: no agent answers at chargegate.sock: ";
    let missing = site.run(&["command", "{}"]);
    assert_eq!((missing.code, missing.out.as_str(), missing.err.lines().count()), (1, "", 1));
    assert!(missing.err.starts_with(start), "{missing:?}");
    let agent = agent(&site.path("chargegate.sock"), 1, |_| String::new());
    let closed = site.run(&["command", "{}"]);
    assert_eq!((closed.code, closed.out.as_str()), (1, ""));
    assert!(closed.err.starts_with(start), "{closed:?}");
    agent.join().unwrap();
    assert!(site.run(&["command", "{}"]).err.starts_with(start));
}
