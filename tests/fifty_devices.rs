//! Fifty simulated devices that charge at once, over real sockets, at the real program. A third of them are faulty: each
//! order ends as its device's fault says, and what a device was told is received is booked once.
//!
//! The devices' clocks run twenty times as fast, and the agent's time limits are about as much shorter.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use chargegate::bkv::EndReport;
use chargegate::clock::{Clock, UpTime};
use chargegate::ids::DeviceId;
use chargegate::sim::fleet::device_id;
use chargegate::sim::{Device, Fault, Truth};
use serde_json::{Value, json};
use support::{Agent, Client, wait_within};

const DEVICES: u32 = 50;
/// How many times as fast the devices' clocks run.
const SPEED: u32 = 20;
/// A device can be silent for ten of its minutes, and has ordered time to run before and after that.
const PATIENCE: Duration = Duration::from_secs(90);

const QUICK: &str = "[devices]\nheartbeat_interval = \"3s\"\noffline_after = \"8s\"\nstatus_interval = \"15s\"\n\
                     [orders]\nanswer_timeout = \"1s\"\nend_report_grace = \"3s\"\noffline_timeout = \"5s\"\n";

/// The faults among the fifty: each, and what sites see most of twice.
const FAULTY: [Fault; 17] = [
    Fault::NoEnd,
    Fault::NoStatus,
    Fault::Refuse,
    Fault::NoAnswer,
    Fault::LateAnswer,
    Fault::LostAck,
    Fault::Garbage,
    Fault::HalfFrame,
    Fault::Silent,
    Fault::Drop,
    Fault::Deaf,
    Fault::OldNumber,
    Fault::NoEnd,
    Fault::NoStatus,
    Fault::LostAck,
    Fault::Silent,
    Fault::Drop,
];

fn fault_of(place: u32) -> Option<Fault> {
    let honest = DEVICES - u32::try_from(FAULTY.len()).unwrap();
    place.checked_sub(honest).map(|place| FAULTY[place as usize])
}

/// The fifty, each in a thread of its own.
struct Site {
    threads: Vec<JoinHandle<Told>>,
    stop: Arc<AtomicBool>,
    /// Devices with an end report that is not acknowledged, or a session that runs.
    busy: Arc<AtomicU32>,
}

/// What a device was told, and what was true.
struct Told {
    id: DeviceId,
    fault: Option<Fault>,
    acknowledged: Vec<EndReport>,
    truth: Truth,
}

impl Site {
    fn start(address: SocketAddr) -> Self {
        let (stop, busy) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let clock = Clock::scaled(UpTime(0), SPEED);
        let threads = (0..DEVICES)
            .map(|place| {
                let (stop, busy, clock) = (Arc::clone(&stop), Arc::clone(&busy), clock.clone());
                let device = Device::new(device_id(place).unwrap(), 1, fault_of(place), u64::from(place), 0);
                let line = Line { device, stream: None, acknowledged: Vec::new(), was_busy: false };
                std::thread::spawn(move || line.live(address, &clock, &stop, &busy))
            })
            .collect();
        Self { threads, stop, busy }
    }

    fn end(self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

/// One device and its connection.
struct Line {
    device: Device,
    stream: Option<TcpStream>,
    acknowledged: Vec<EndReport>,
    was_busy: bool,
}

impl Line {
    fn live(mut self, address: SocketAddr, clock: &Clock, stop: &AtomicBool, busy: &AtomicU32) -> Told {
        while !stop.load(Ordering::Relaxed) {
            let now = clock.now().up.0;
            if self.stream.is_none() && self.device.wants_connection(now) {
                self.connect(address, now);
            }
            self.device.tick(now);
            self.say(now);
            self.hear(clock);
            self.acknowledged.extend(self.device.take_acknowledged());
            self.note(busy);
        }
        let truth = self.truth();
        Told { id: self.device.id(), fault: self.device.fault(), acknowledged: self.acknowledged, truth }
    }

    fn connect(&mut self, address: SocketAddr, now: u64) {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true).unwrap();
                self.stream = Some(stream);
                self.device.connected(now);
            }
            Err(_) => self.device.disconnected(now),
        }
    }

    fn say(&mut self, now: u64) {
        let bytes = self.device.take_output();
        let Some(stream) = &mut self.stream else { return };
        if stream.write_all(&bytes).is_err() || self.device.wants_disconnect() {
            self.hang_up(now);
        }
    }

    fn hang_up(&mut self, now: u64) {
        self.stream = None;
        self.device.disconnected(now);
    }

    /// Until something comes, or the device has to act.
    fn hear(&mut self, clock: &Clock) {
        let due = UpTime(self.device.next_deadline(clock.now().up.0));
        let wait = clock.real_time_until(due).clamp(Duration::from_millis(1), Duration::from_millis(50));
        let Some(stream) = &mut self.stream else { return std::thread::park_timeout(wait) };
        stream.set_read_timeout(Some(wait)).unwrap();
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => self.device.received(&buffer[..length], clock.now().up.0),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(0) | Err(_) => self.hang_up(clock.now().up.0),
        }
    }

    /// Port A, where every order is.
    fn truth(&self) -> Truth {
        self.device.truth().next().unwrap().2
    }

    fn note(&mut self, busy: &AtomicU32) {
        let Truth { charges, ends, acknowledged, .. } = self.truth();
        // One that hears no acknowledgement is never done with its report.
        let is_busy = charges || (ends > acknowledged && self.device.fault() != Some(Fault::LostAck));
        if is_busy != self.was_busy {
            self.was_busy = is_busy;
            let _ = if is_busy { busy.fetch_add(1, Ordering::Relaxed) } else { busy.fetch_sub(1, Ordering::Relaxed) };
        }
    }
}

fn order_no(place: u32) -> String {
    format!("order-{place}")
}

fn start(agent: &Agent, place: u32, order_no: &str, minutes: u32) -> Client {
    let device = device_id(place).unwrap();
    agent.begin(json!({ "type": "start_charge", "device": device, "socket": 1, "port": 0, "mode": "time",
                        "minutes": minutes, "order_no": order_no }))
}

fn count(agent: &Agent, what: &str) -> u32 {
    let rows = agent.rows_as_they_are(&format!("SELECT count(*) AS n FROM {what}"));
    u32::try_from(rows[0]["n"].as_u64().unwrap()).unwrap()
}

/// What has ended, status and all, and how: reason and settlements.
fn expected(fault: Option<Fault>) -> (u8, &'static str, &'static [&'static str]) {
    match fault {
        Some(Fault::Refuse) => (6, "start_refused", &["estimated"]),
        Some(Fault::NoAnswer) => (6, "start_timeout", &["estimated"]),
        Some(Fault::NoEnd) => (7, "end_report_missing", &["estimated"]),
        // They are stopped, to no avail, and end by themselves.
        Some(Fault::Deaf) => (7, "remote_stop", &["reported"]),
        // Closed while they were away. The report corrects that; back in time, the order is resumed first.
        Some(Fault::Silent | Fault::Drop) => (7, "time_reached", &["corrected", "reported"]),
        _ => (7, "time_reached", &["reported"]),
    }
}

#[test]
fn fifty_devices_charging_at_once_all_have_their_orders_ended_rightly() {
    let agent = Agent::start(QUICK);
    let site = Site::start(agent.address);
    let idle = "ports WHERE port_no = 0 AND status = 9";
    wait_within(PATIENCE, "the fifty", || (count(&agent, idle) == DEVICES).then_some(()));
    // It shows the number of an earlier order, so it needs one.
    let old_number = (0..DEVICES).find(|place| fault_of(*place) == Some(Fault::OldNumber)).unwrap();
    assert_eq!(start(&agent, old_number, "earlier", 1).reply()["result"], "done");
    wait_within(PATIENCE, "the earlier order", || (agent.order()["settlement"] == "reported").then_some(()));
    wait_within(PATIENCE, "the fifty again", || (count(&agent, idle) == DEVICES).then_some(()));

    start_all(&agent);
    let stop = (0..DEVICES).find(|place| fault_of(*place) == Some(Fault::Deaf)).map(order_no).unwrap();
    let stop = agent.begin(json!({ "type": "stop_charge", "order_no": stop }));
    wait_within(PATIENCE, "the devices", || (site.busy.load(Ordering::Relaxed) == 0).then_some(()));
    let unsettled = "orders WHERE status IN (0, 2, 9) OR settlement = 'provisional'";
    wait_within(PATIENCE, "the end of all orders", || (count(&agent, unsettled) == 0).then_some(()));
    let lost_ack = ids(Fault::LostAck);
    let others = format!("ports WHERE port_no = 0 AND status = 9 AND device_id NOT IN ({lost_ack})");
    let all = DEVICES - u32::try_from(lost_ack.split(',').count()).unwrap();
    wait_within(PATIENCE, "idle ports", || (count(&agent, &others) == all).then_some(()));
    assert_eq!(stop.reply()["data"]["stop_owed"], true, "nobody listened");

    let told = site.end();
    for told in &told {
        check_order(&agent, told);
    }
    check_ledger(&agent, &told);
    // These come and go: offline, online, or known to be idle.
    let lost = agent.rows(&format!("SELECT status FROM ports WHERE port_no = 0 AND device_id IN ({lost_ack})"));
    assert!(lost.iter().all(|port| [0, 1, 9].map(Value::from).contains(&port["status"])), "{lost:?}");
    let (code, issues, _) = agent.cli(&["check", "--json"]);
    assert_eq!((code, issues.trim()), (Some(0), "[]"));
    assert_eq!(count(&agent, "events WHERE type = 'consistency.repaired'"), 0);
    assert_eq!(count(&agent, "orders"), DEVICES + 1);
}

/// All at once, until all that can be charge together.
fn start_all(agent: &Agent) {
    let minutes = |place| match fault_of(place) {
        // Long enough to be lost from sight in between.
        Some(Fault::Silent | Fault::Drop) => 5,
        _ => 2,
    };
    let clients: Vec<_> = (0..DEVICES).map(|place| start(agent, place, &order_no(place), minutes(place))).collect();
    let unable = (0..DEVICES).filter(|place| matches!(fault_of(*place), Some(Fault::Refuse | Fault::NoAnswer))).count();
    let able = DEVICES - u32::try_from(unable).unwrap();
    let charging = "orders WHERE status = 2";
    wait_within(PATIENCE, "all to charge at once", || (count(agent, charging) == able).then_some(()));
    for (client, place) in clients.into_iter().zip(0..) {
        let reply = client.reply();
        let expected = match fault_of(place) {
            Some(Fault::Refuse) => ("failed", "refused_by_device"),
            Some(Fault::NoAnswer) => ("failed", "no_answer"),
            _ => ("done", "-"),
        };
        let code = reply["error"]["code"].as_str().unwrap_or("-");
        assert_eq!((reply["result"].as_str().unwrap(), code), expected, "{:?}: {reply}", fault_of(place));
    }
}

/// The ids of those with this fault, for SQL.
fn ids(fault: Fault) -> String {
    let ids = (0..DEVICES).filter(|place| fault_of(*place) == Some(fault));
    ids.map(|place| format!("'{}'", device_id(place).unwrap())).collect::<Vec<_>>().join(",")
}

fn check_order(agent: &Agent, told: &Told) {
    let of_it = format!("SELECT * FROM orders WHERE device_id = '{}' ORDER BY serial DESC LIMIT 1", told.id);
    let order = agent.rows_as_they_are(&of_it).pop().unwrap();
    let (status, reason, settlements) = expected(told.fault);
    let settlement = order["settlement"].as_str().unwrap();
    assert_eq!((&order["status"], &order["end_reason"]), (&json!(status), &json!(reason)), "{:?}", told.fault);
    assert!(settlements.contains(&settlement), "{:?}: {settlement}", told.fault);
    if ["reported", "corrected"].contains(&settlement) {
        let Truth { energy, minutes, number, .. } = told.truth;
        let number = number.map(chargegate::ids::BusinessNo::get);
        assert_eq!(
            (&order["energy_wh"], &order["minutes"], &order["business_no"]),
            (&json!(energy.0), &json!(minutes.0), &json!(number)),
            "{:?}",
            told.fault
        );
    }
    let flags = match told.fault {
        Some(Fault::OldNumber) => "[\"reused_number\"]",
        // Five minutes within fifteen seconds: the clock of these runs too fast for the agent to believe.
        Some(Fault::Silent | Fault::Drop) => "[\"implausible_minutes\"]",
        _ => "[]",
    };
    assert_eq!(order["flags"], flags, "{:?}", told.fault);
    let was_away = format!(
        "events WHERE type = 'order.closed' AND data ->> 'end_reason' = 'offline' AND device_id = '{}'",
        told.id
    );
    let goes_away = matches!(told.fault, Some(Fault::Silent | Fault::Drop));
    assert_eq!(count(agent, &was_away) > 0, goes_away, "{:?}", told.fault);
}

/// Each report that a device was told is received stands once, with an order.
fn check_ledger(agent: &Agent, told: &[Told]) {
    let mut booked: BTreeMap<(String, u64, u64, u64), u32> = BTreeMap::new();
    let sql = "SELECT device_id, business_no, energy_wh, minutes FROM orders
                WHERE settlement IN ('reported', 'corrected')";
    for row in agent.rows_as_they_are(sql) {
        let number = |name: &str| row[name].as_u64().unwrap();
        let device = row["device_id"].as_str().unwrap().to_owned();
        *booked.entry((device, number("business_no"), number("energy_wh"), number("minutes"))).or_default() += 1;
    }
    let mut acknowledged = 0;
    for (told, report) in told.iter().flat_map(|told| told.acknowledged.iter().map(move |report| (told, report))) {
        let number = report.business_no.unwrap().get();
        let figures = (u64::from(report.energy_units.0), u64::from(report.minutes.0));
        let key = (told.id.to_string(), u64::from(number), figures.0, figures.1);
        assert_eq!(booked.get(&key), Some(&1), "{key:?} of {:?}: {booked:?}", told.fault);
        acknowledged += 1;
    }
    // All but those that refuse, do not answer, send none or hear nothing; and the earlier one.
    assert_eq!(acknowledged, 50 - 1 - 1 - 2 - 2 + 1);
    assert_eq!(count(agent, "events WHERE type = 'order.unknown_end'"), 0);
}
