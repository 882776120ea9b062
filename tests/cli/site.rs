//! A site to run the binary in, and what came of a run.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// A working directory with a store, a socket and a configuration of its own.
pub struct Site {
    folder: TempDir,
}

impl Site {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chargegate"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("CHARGEGATE_CONFIG").stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }

    pub fn run_with_config(&self, text: &str, arguments: &[&str]) -> Ran {
        std::fs::write(self.path("site.toml"), text).unwrap();
        self.run(&[&["--config", "site.toml"], arguments].concat())
    }

    /// A store with exactly the contract's columns.
    pub fn store(&self) -> Connection {
        let store = Connection::open(self.path("chargegate.db")).unwrap();
        store.pragma_update(None, "journal_mode", "wal").unwrap();
        store.execute_batch(STORE).unwrap();
        store.pragma_update(None, "application_id", chargegate::store::APPLICATION_ID).unwrap();
        store
    }

    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// What came of a run.
#[derive(Debug, PartialEq)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub const STORE: &str = "
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
CREATE TABLE journal (at, device_id, direction, frame, verdict, reason, order_no, extra);
CREATE TABLE meta (key TEXT PRIMARY KEY, value);
CREATE TABLE issues (issue_type, device_id, socket_no, port_no, order_no, details);
CREATE VIEW consistency_issues AS SELECT * FROM issues;
";

pub const DEVICE: &str = "82241218000382";

/// Answers each connection's first line by `reply`; hands the lines back.
pub fn agent(
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
