//! Hundreds of simulated devices over TCP in one thread, against the real agent and against nobody.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chargegate::agent::Agent;
use chargegate::clock::{Clock, Stopwatch, UpTime};
use chargegate::config::Config;
use chargegate::server::raise_open_files;
use chargegate::sim::fleet::{Fleet, Member, device_id};
use chargegate::sim::{Fault, FleetCounts};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A fleet in its thread.
struct Running {
    counts: Arc<FleetCounts>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(target: SocketAddr, devices: u32, fault: Option<Fault>, speed: u32) -> Self {
        raise_open_files(4096);
        let members: Vec<Member> = (0..devices).map(|place| Member { id: device_id(place).unwrap(), fault }).collect();
        let mut fleet = Fleet::new(target, &members, 1, Clock::scaled(UpTime(0), speed)).unwrap();
        let (counts, stop) = (fleet.counts(), fleet.stop_flag());
        Self { counts, stop, thread: thread::spawn(move || fleet.run().unwrap()) }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// Waits for the condition, which is looked at now and then.
fn wait_until(what: &str, is: impl Fn() -> bool) {
    let (_nobody, tick) = mpsc::channel::<()>();
    let waited = Stopwatch::start();
    while !is() {
        assert!(waited.elapsed() < PATIENCE, "{what}");
        let _ = tick.recv_timeout(Duration::from_millis(5));
    }
}

/// Sends one start to each device until all are done.
fn start_all(socket: &std::path::Path, devices: u32) {
    let mut out = UnixStream::connect(socket).unwrap();
    out.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut replies = BufReader::new(out.try_clone().unwrap()).lines();
    let mut waiting: Vec<u32> = (0..devices).collect();
    for round in 0..1000 {
        for place in &waiting {
            let id = format!("{round}-{place}");
            let device = device_id(*place).unwrap();
            let start = json!({ "id": id, "type": "start_charge", "device": device, "socket": 1, "port": 1,
                                "mode": "time", "minutes": 1 });
            writeln!(out, "{start}").unwrap();
        }
        let mut rejected = Vec::new();
        for _ in 0..waiting.len() {
            let reply: Value = serde_json::from_str(&replies.next().unwrap().unwrap()).unwrap();
            let place = reply["id"].as_str().and_then(|id| id.split_once('-')).unwrap().1.parse().unwrap();
            match reply["result"].as_str() {
                Some("done") => {}
                // Its port has not been heard of yet.
                Some("rejected") => rejected.push(place),
                _ => assert_eq!(reply, Value::Null),
            }
        }
        if rejected.is_empty() {
            return;
        }
        waiting = rejected;
    }
    assert!(waiting.is_empty(), "{waiting:?} are not started");
}

#[test]
fn five_hundred_devices_in_one_thread_connect_are_served_and_have_their_ends_acknowledged() {
    const DEVICES: u32 = 500;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let text = format!(
        "[devices]\nlisten = \"127.0.0.1:0\"\n[store]\npath = {:?}\n[control]\nsocket = {socket:?}\n",
        folder.path().join("agent.db")
    );
    raise_open_files(4096);
    let speed = 60;
    let agent = Agent::open(Config::parse(&text).unwrap(), speed).unwrap();
    let (address, handle) = (agent.devices_address().unwrap(), agent.handle());
    let agent = thread::spawn(move || agent.run(None).map(|_| ()));
    let fleet = Running::start(address, DEVICES, None, speed);
    wait_until("all are connected", || fleet.counts.connected.load(Ordering::Relaxed) == DEVICES);
    start_all(&socket, DEVICES);
    let settled = || {
        let acknowledged = fleet.counts.acknowledged.load(Ordering::Relaxed);
        acknowledged == DEVICES && fleet.counts.charging.load(Ordering::Relaxed) == 0
    };
    wait_until("all ends are acknowledged", settled);
    assert_eq!(fleet.counts.ends.load(Ordering::Relaxed), DEVICES);
    handle.stop();
    agent.join().unwrap().unwrap();
    fleet.end();
}

#[test]
fn devices_go_on_trying_while_nobody_listens_and_come_from_many_addresses() {
    const DEVICES: usize = 450;
    // Bound, so that nobody else takes it, and not yet listening.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let fleet = Running::start(address, 450, None, 20);
    // Long enough for most to have tried.
    let (_nobody, tick) = mpsc::channel::<()>();
    let _ = tick.recv_timeout(Duration::from_millis(100));
    listener.listen(1024).unwrap();
    let listener = TcpListener::from(listener);
    let mut held = Vec::new();
    let mut per_address = BTreeMap::<IpAddr, usize>::new();
    while held.len() < DEVICES {
        let (stream, peer) = listener.accept().unwrap();
        *per_address.entry(peer.ip()).or_default() += 1;
        held.push(stream);
    }
    assert_eq!(per_address.len(), 3);
    // The default of devices.max_connections_per_address.
    assert!(per_address.values().all(|count| *count <= 256), "{per_address:?}");
    fleet.end();
}

#[test]
fn simulate_reports_what_its_devices_do_and_ends_cleanly_when_it_is_interrupted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("localhost:{}", listener.local_addr().unwrap().port());
    let mut simulate = Command::new(env!("CARGO_BIN_EXE_chargegate"))
        .args(["simulate", "--connect", &target, "--devices", "3", "--fault", "garbage=1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(simulate.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("3 devices connect to 127.0.0.1:"), "{first}");
    let held: Vec<_> = (0..3).map(|_| listener.accept().unwrap()).collect();
    assert!(lines.any(|line| line.unwrap() == "connected=3 charging=0 ends=0 acknowledged=0"));
    let process = rustix::process::Pid::from_child(&simulate);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let output = simulate.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    drop(held);
}
