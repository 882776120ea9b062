//! The whole site, seeded: simulated devices with every fault, a real store, and an agent that is killed and reopened
//! between any two commits, and between a commit and its answers. A shadow knows what really happened at each socket.
//!
//! `CHARGEGATE_SEEDS=500` runs more of them, `CHARGEGATE_SEED=17` one again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use chargegate::bkv::{Deframer, Direction, Downlink, EndReport, Frame, SwitchOrder};
use chargegate::clock::{Now, UpTime, WallTime};
use chargegate::config::Config;
use chargegate::ids::{DeviceId, PortNo, SocketNo};
use chargegate::sim::fleet::device_id;
use chargegate::sim::{Device, Fault, Random};
use chargegate::site::Site;
use chargegate::store::{Settings, Store};
use chargegate::trust::BUILT;
use chargegate::turn::{ClientId, ConnId, Core, Output};
use rusqlite::Connection;
use serde_json::{Value, json};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DEVICES: u32 = 20;
/// What is simulated of each seed.
const SPAN: u64 = 10 * HOUR;
/// Nothing new happens in the end: every grace runs out.
const QUIET: u64 = 3 * HOUR;
const SEEDS: u64 = 16;

struct Line {
    device: Device,
    conn: Option<ConnId>,
    deframer: Deframer,
}

/// What somebody asked for.
struct Plan {
    at: u64,
    device: usize,
    port: u8,
    minutes: u64,
    stop_after: Option<u64>,
}

struct World {
    seed: u64,
    random: Random,
    folder: tempfile::TempDir,
    now: u64,
    /// Up-time at which the present run of the agent began, and when that was.
    base: (u64, u64),
    site: Option<Site>,
    lines: Vec<Line>,
    next_conn: u64,
    plans: Vec<Plan>,
    stops: Vec<(u64, String)>,
    crash_at: u64,
    commit_at: Option<u64>,
    commands: u64,
    /// Orders that somebody wanted stopped.
    stopped: BTreeSet<String>,
    /// Reports that devices were told are received.
    ledger: Vec<(DeviceId, EndReport)>,
    faults: String,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // On a file system in memory where there is one: kills are simulated, power cuts are not.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut faults = String::new();
        let lines = (0..DEVICES)
            .map(|place| {
                let fault =
                    (place % 3 == 2).then(|| Fault::ALL[random.within(0, Fault::ALL.len() as u64 - 1) as usize]);
                faults += &fault.map_or(String::new(), |fault| format!("{place}={} ", fault.word()));
                let mut device = Device::new(device_id(place).unwrap(), 1, fault, random.bits(), 0);
                device.batteries = (30, 400);
                Line { device, conn: None, deframer: Deframer::new(Direction::Up) }
            })
            .collect();
        let mut plans: Vec<Plan> = (0..SPAN / (4 * MINUTE))
            .map(|_| Plan {
                at: random.within(2 * MINUTE, SPAN - 30 * MINUTE),
                device: usize::try_from(random.within(0, u64::from(DEVICES) - 1)).unwrap(),
                port: u8::try_from(random.within(0, 1)).unwrap(),
                minutes: random.within(1, 60),
                stop_after: random.once_in(4).then(|| random.within(1000, 20 * MINUTE)),
            })
            .collect();
        plans.sort_by_key(|plan| std::cmp::Reverse(plan.at));
        let mut world = Self {
            seed,
            folder,
            now: 0,
            base: (0, 0),
            site: None,
            lines,
            next_conn: 0,
            plans,
            stops: Vec::new(),
            crash_at: random.within(10 * MINUTE, 2 * HOUR),
            commit_at: None,
            commands: 0,
            stopped: BTreeSet::new(),
            ledger: Vec::new(),
            faults,
            random,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let wall = WallTime(BUILT.0 + 86_400_000 + i64::try_from(self.now).unwrap());
        let store = Store::open(&self.folder.path().join("store.db"), &Settings::default(), wall).unwrap();
        self.base = (store.up_base().0, self.now);
        let now = self.at();
        self.site = Some(Site::open(Config::default(), store, now).unwrap());
        self.settle();
    }

    fn at(&self) -> Now {
        let up = UpTime(self.base.0 + self.now - self.base.1);
        Now { up, wall: WallTime(BUILT.0 + 86_400_000 + i64::try_from(self.now).unwrap()), synchronized: false }
    }

    fn run(mut self) {
        while self.now < SPAN {
            self.step(true);
        }
        // Whoever has a fault is let be honest enough to end: nothing new is asked for.
        self.crash_at = u64::MAX;
        while self.now < SPAN + QUIET {
            self.step(false);
        }
        self.check_the_end();
    }

    fn step(&mut self, busy: bool) {
        self.now = self.next_time();
        // A kill hurts most while a turn waits for its commit: it comes then, or at the latest a while later.
        let waits = self.commit_at.is_some() || self.now >= self.crash_at.saturating_add(20 * MINUTE);
        if busy && self.now >= self.crash_at && waits {
            self.crash();
        }
        self.ask(busy);
        for place in 0..self.lines.len() {
            self.serve(place);
        }
        let now = self.at();
        self.with_site(|site| site.timeout(now).unwrap());
        self.settle();
    }

    fn next_time(&mut self) -> u64 {
        let mut next = self.now + MINUTE;
        for line in &self.lines {
            next = next.min(line.device.next_deadline(self.now));
        }
        if let Some(deadline) = self.site.as_ref().and_then(|site| site.next_deadline()) {
            next = next.min(deadline.0.saturating_sub(self.base.0) + self.base.1);
        }
        if let Some(plan) = self.plans.last() {
            next = next.min(plan.at);
        }
        next = self.stops.iter().map(|(at, _)| *at).chain(self.commit_at).fold(next, u64::min);
        next.max(self.now + 1)
    }

    fn with_site<R>(&mut self, act: impl FnOnce(&mut Site) -> R) -> R {
        act(self.site.as_mut().unwrap())
    }

    /// What devices say reaches the agent; who wants a connection gets one.
    fn serve(&mut self, place: usize) {
        let (wall_now, now) = (self.now, self.at());
        let line = &mut self.lines[place];
        if line.conn.is_none() && line.device.wants_connection(wall_now) {
            self.next_conn += 1;
            let conn = ConnId(self.next_conn);
            line.conn = Some(conn);
            line.deframer = Deframer::new(Direction::Up);
            line.device.connected(wall_now);
            self.site.as_mut().unwrap().connected(conn, IpAddr::V4(Ipv4Addr::LOCALHOST), now);
        }
        let line = &mut self.lines[place];
        line.device.tick(wall_now);
        let bytes = line.device.take_output();
        let Some(conn) = line.conn else { return };
        let mut input = &bytes[..];
        let site = self.site.as_mut().unwrap();
        while let Some(found) = line.deframer.next(&mut input) {
            match found {
                Ok(frame) => site.frame(conn, &frame, now).unwrap(),
                Err(_) => site.noise(conn, now),
            }
        }
        if line.device.wants_disconnect() {
            self.hang_up(place);
        }
    }

    fn hang_up(&mut self, place: usize) {
        let now = self.at();
        let line = &mut self.lines[place];
        if let Some(conn) = line.conn.take() {
            self.site.as_mut().unwrap().disconnected(conn, now).unwrap();
        }
        line.device.disconnected(self.now);
    }

    fn ask(&mut self, busy: bool) {
        while busy && self.plans.last().is_some_and(|plan| plan.at <= self.now) {
            let plan = self.plans.pop().unwrap();
            let order_no = format!("o-{}", self.commands);
            let device = self.lines[plan.device].device.id();
            self.command(&json!({ "type": "start_charge", "device": device, "socket": 1, "port": plan.port,
                                  "mode": "time", "minutes": plan.minutes, "order_no": order_no }));
            if let Some(after) = plan.stop_after {
                self.stops.push((self.now + after, order_no));
            }
        }
        let now = self.now;
        let due: Vec<String> = self.stops.iter().filter(|(at, _)| *at <= now).map(|(_, no)| no.clone()).collect();
        self.stops.retain(|(at, _)| *at > now);
        for order_no in due {
            self.stopped.insert(order_no.clone());
            self.command(&json!({ "type": "stop_charge", "order_no": order_no }));
        }
    }

    fn command(&mut self, command: &Value) {
        self.commands += 1;
        let mut command = command.clone();
        command["id"] = self.commands.to_string().into();
        let (line, now) = (command.to_string(), self.at());
        self.with_site(|site| site.command(ClientId(1), line.as_bytes(), None, now).unwrap());
        self.settle();
    }

    /// Outputs go out; a commit comes at once or a little later.
    fn settle(&mut self) {
        loop {
            self.deliver();
            if !self.with_site(|site| site.wants_commit()) {
                self.commit_at = None;
                return;
            }
            let wait = self.random.within(0, 50);
            let due = *self.commit_at.get_or_insert(self.now + if wait < 20 { 0 } else { wait });
            if due > self.now {
                return;
            }
            self.commit_at = None;
            let now = self.at();
            self.with_site(|site| site.commit(now).unwrap());
        }
    }

    fn deliver(&mut self) {
        loop {
            let Some((output, bytes)) =
                self.with_site(|site| site.outputs().next().map(|(output, bytes)| (output, bytes.to_vec())))
            else {
                self.with_site(|site| site.outputs().recycle());
                return;
            };
            match output {
                Output::Send(conn, _) => {
                    if let Some(place) = self.lines.iter().position(|line| line.conn == Some(conn)) {
                        self.check_stop(place, &bytes);
                        let device = &mut self.lines[place].device;
                        device.received(&bytes, self.now);
                        let id = device.id();
                        let acknowledged = device.take_acknowledged();
                        self.ledger.extend(acknowledged.into_iter().map(|report| (id, report)));
                    }
                }
                Output::Close(conn) => {
                    if let Some(place) = self.lines.iter().position(|line| line.conn == Some(conn)) {
                        self.hang_up(place);
                    }
                }
                Output::Reply(..) => {}
            }
        }
    }

    /// SIGKILL: between a commit and its answers, or with a turn not committed.
    fn crash(&mut self) {
        if self.random.once_in(2) {
            let now = self.at();
            self.with_site(|site| site.commit(now).unwrap());
        }
        self.site = None;
        self.commit_at = None;
        for line in &mut self.lines {
            if line.conn.take().is_some() {
                line.device.disconnected(self.now);
            }
        }
        // Down for a moment, or for hours.
        let down = if self.random.once_in(4) {
            self.random.within(MINUTE, 90 * MINUTE)
        } else {
            self.random.within(1, 20_000)
        };
        let back = self.now + down;
        while self.now < back {
            self.now = (self.now + 10_000).min(back);
            for line in &mut self.lines {
                line.device.tick(self.now);
                line.device.take_output();
            }
        }
        self.crash_at = self.now + self.random.within(10 * MINUTE, 3 * HOUR);
        self.open();
    }

    /// No stop reaches a session that somebody paid for and nobody wants stopped.
    fn check_stop(&mut self, place: usize, bytes: &[u8]) {
        let mut input = bytes;
        let mut deframer = Deframer::new(Direction::Down);
        while let Some(Ok(frame)) = deframer.next(&mut input) {
            let frame: Frame<'_> = frame;
            if let Ok(Downlink::Switch(switch)) = Downlink::decode(&frame)
                && switch.order == SwitchOrder::Off
            {
                self.check_off(place, switch.socket, switch.port);
            }
        }
    }

    fn check_off(&self, place: usize, socket: SocketNo, port: PortNo) {
        let device = &self.lines[place].device;
        let Some((.., truth)) = device.truth().find(|(no, at, _)| (*no, *at) == (socket, port)) else { return };
        let Some(number) = truth.number.filter(|_| truth.charges) else { return };
        let db = self.db();
        // The store has what is committed: an order that is open there under this number, within its time.
        let open: Vec<(String, i64)> = db
            .prepare("SELECT order_no, coalesce(minutes, 0) FROM orders WHERE device_id = ?1 AND port_no = ?2 AND business_no = ?3 AND status = 2")
            .unwrap()
            .query_map((device.id().to_string(), port.get(), number.get()), |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        for (order_no, _) in open {
            assert!(
                self.stopped.contains(&order_no),
                "{}: a stop reached {order_no} at {} port {port}, which is paid and wanted; {}",
                self.replay(),
                device.id(),
                self.faults
            );
        }
    }

    fn db(&self) -> Connection {
        Connection::open(self.folder.path().join("store.db")).unwrap()
    }

    fn replay(&self) -> String {
        format!("CHARGEGATE_SEED={} cargo test --test simulation, at {} min", self.seed, self.now / MINUTE)
    }

    fn check_the_end(&mut self) {
        let (db, replay) = (self.db(), self.replay());
        let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(
            count("SELECT count(*) FROM orders WHERE status IN (0, 2, 9)"),
            0,
            "{replay}: stuck; {}",
            self.stuck(&db)
        );
        assert_eq!(
            count("SELECT count(*) FROM consistency_issues"),
            0,
            "{replay}: port and order disagree; {}",
            self.faults
        );
        let deaf = self.lines.iter().filter(|line| line.device.fault() == Some(Fault::Deaf));
        let deaf: Vec<String> = deaf.map(|line| format!("'{}'", line.device.id())).collect();
        let late = format!("SELECT count(*) FROM inconsistencies WHERE device_id NOT IN ({})", deaf.join(", "));
        assert_eq!(count(&late), 0, "{replay}: they disagreed for longer than their grace; {}", self.faults);
        let gaps = "SELECT count(*) FROM (SELECT stream, max(seq) - count(*) AS gap FROM events GROUP BY stream) WHERE gap <> 0";
        assert_eq!(count(gaps), 0, "{replay}: gaps");
        for line in &self.lines {
            let deaf = line.device.fault() == Some(Fault::Deaf);
            let charges = line.device.truth().any(|(.., truth)| truth.charges);
            assert!(deaf || !charges, "{replay}: {} charges on unpaid; {}", line.device.id(), self.faults);
        }
        self.check_ledger(&db);
        let integrity: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(integrity, "ok", "{replay}");
    }

    /// Each report that a device was told is received stands once: with an order, or told as nobody's.
    fn check_ledger(&self, db: &Connection) {
        let mut booked: BTreeMap<(String, i64, i64, i64, i64), u32> = BTreeMap::new();
        let mut take = |sql: &str| {
            let mut statement = db.prepare(sql).unwrap();
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
            rows.unwrap().for_each(|row| *booked.entry(row.unwrap()).or_default() += 1);
        };
        take(
            "SELECT device_id, port_no, json_extract(course, '$.reported.number'), energy_wh, minutes
               FROM orders WHERE settlement IN ('reported', 'corrected')",
        );
        take(
            "SELECT device_id, json_extract(data, '$.port'), json_extract(data, '$.business_no'),
                    json_extract(data, '$.energy_wh'), json_extract(data, '$.minutes')
               FROM events WHERE type = 'order.unknown_end'",
        );
        for (device, report) in &self.ledger {
            let key = (
                device.to_string(),
                i64::from(report.port.get()),
                i64::from(report.business_no.map_or(0, |number| number.get())),
                i64::from(report.energy_units.0),
                i64::from(report.minutes.0),
            );
            let times = booked.get(&key).copied().unwrap_or(0);
            assert_eq!(
                times,
                1,
                "{}: {key:?} was acknowledged and stands {times} times; {}",
                self.replay(),
                self.faults
            );
        }
    }

    fn stuck(&self, db: &Connection) -> String {
        let sql = "SELECT group_concat(order_no || ' ' || device_id || ' ' || status || ' ' || coalesce(course, ''), '; ') FROM orders WHERE status IN (0, 2, 9)";
        let orders: Option<String> = db.query_row(sql, [], |row| row.get(0)).unwrap();
        format!("{} {}", orders.unwrap_or_default(), self.faults)
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_order_is_stuck_lost_or_counted_twice_whatever_devices_and_kills_do() {
    if let Some(seed) = number_from("CHARGEGATE_SEED") {
        World::new(seed).run();
        return;
    }
    let seeds = number_from("CHARGEGATE_SEEDS").unwrap_or(SEEDS);
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || (0..seeds).filter(|seed| seed % 2 == half).for_each(|seed| World::new(seed).run()));
        }
    });
}
