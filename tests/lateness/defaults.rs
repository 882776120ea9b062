//! The defaults, a minute and five, on a clock of its own: fifty devices at a site without a loop.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use chargegate::bkv::{Deframer, Direction, Downlink, Frame, PortReading, Uplink};
use chargegate::clock::{Now, UpTime, WallTime};
use chargegate::config::Config;
use chargegate::ids::{DeviceId, PortNo};
use chargegate::sim::fleet::device_id;
use chargegate::sim::{Device, Fault, Random};
use chargegate::site::Site;
use chargegate::store::{Settings, Store};
use chargegate::trust::BUILT;
use chargegate::turn::{ClientId, ConnId, Core, Output};
use rusqlite::Connection;
use serde_json::json;

use crate::{MOST_AFTER_GRACE_MS, MOST_AFTER_OFFLINE_MS, judge};

const DEVICES: u32 = 50;
const MINUTE: u64 = 60_000;
/// A device is offline when it was silent for so long: the loop closes its connection then (`devices.offline_after`).
const OFFLINE_AFTER: u64 = 150_000;

/// How a device goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// Its connection ends.
    HangsUp,
    /// It falls silent, and its connection stays.
    FallsSilent,
}

struct Line {
    device: Device,
    conn: Option<ConnId>,
    deframer: Deframer,
    leaves: Option<(u64, Leaving)>,
    /// It hears no question.
    unasked: bool,
    last_frame: u64,
}

struct World {
    folder: tempfile::TempDir,
    now: u64,
    site: Site,
    lines: Vec<Line>,
    connections: u64,
    /// Ports that were shown charging, and those that were then shown idle, and when.
    charging: BTreeMap<(DeviceId, PortNo), bool>,
    shown_idle: BTreeMap<(DeviceId, PortNo), u64>,
}

fn at(now: u64) -> Now {
    Now { up: UpTime(now), wall: WallTime(BUILT.0 + 86_400_000 + i64::try_from(now).unwrap()), synchronized: false }
}

impl World {
    fn new(fault: Option<Fault>, random: &mut Random) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let store = Store::open(&folder.path().join("store.db"), &Settings::default(), at(0).wall).unwrap();
        let site = Site::open(Config::default(), store, at(0)).unwrap();
        let lines = (0..DEVICES).map(|place| {
            let mut device = Device::new(device_id(place).unwrap(), 1, fault, random.bits(), 0);
            device.batteries = (20_000, 30_000);
            let deframer = Deframer::new(Direction::Up);
            Line { device, conn: None, deframer, leaves: None, unasked: false, last_frame: 0 }
        });
        let lines = lines.collect();
        let (charging, shown_idle) = (BTreeMap::new(), BTreeMap::new());
        Self { folder, now: 0, site, lines, connections: 0, charging, shown_idle }
    }

    /// Starts an order at every port, one a moment after the other: nothing falls on a whole second.
    fn start_all(&mut self, random: &mut Random, (least, most): (u64, u64)) {
        for place in 0..DEVICES {
            for port in 0..2 {
                self.run_until(self.now + random.within(1, 999));
                let minutes = random.within(least, most);
                let start = json!({ "id": format!("{place}-{port}"), "type": "start_charge", "socket": 1, "port": port,
                                    "device": device_id(place).unwrap(), "mode": "time", "minutes": minutes });
                self.site.command(ClientId(1), start.to_string().as_bytes(), None, at(self.now)).unwrap();
                self.settle();
            }
        }
    }

    fn run_until(&mut self, end: u64) {
        while self.now < end {
            self.now = self.next_time().min(end);
            for place in 0..self.lines.len() {
                self.serve(place);
            }
            if self.site.next_deadline().is_some_and(|due| due.0 <= self.now) {
                self.site.timeout(at(self.now)).unwrap();
            }
            self.settle();
        }
    }

    fn next_time(&self) -> u64 {
        let of_lines = self.lines.iter().map(|line| line.next_time(self.now));
        let next = of_lines.chain(self.site.next_deadline().map(|due| due.0)).fold(u64::MAX, u64::min);
        next.max(self.now + 1)
    }

    fn serve(&mut self, place: usize) {
        let (now, line) = (self.now, &mut self.lines[place]);
        if let Some(how) = line.has_left(now) {
            let closes = how == Leaving::HangsUp || now >= line.last_frame + OFFLINE_AFTER;
            if let Some(conn) = line.conn.filter(|_| closes) {
                line.conn = None;
                self.site.disconnected(conn, at(now)).unwrap();
            }
            return;
        }
        if line.conn.is_none() && line.device.wants_connection(now) {
            self.connections += 1;
            let conn = ConnId(self.connections);
            line.conn = Some(conn);
            line.device.connected(now);
            self.site.connected(conn, IpAddr::V4(Ipv4Addr::LOCALHOST), at(now));
        }
        self.speak(place);
    }

    fn speak(&mut self, place: usize) {
        let (now, line) = (self.now, &mut self.lines[place]);
        line.device.tick(now);
        let bytes = line.device.take_output();
        let Some(conn) = line.conn.filter(|_| !bytes.is_empty()) else { return };
        line.last_frame = now;
        let mut input = &bytes[..];
        while let Some(frame) = line.deframer.next(&mut input) {
            let frame: Frame<'_> = frame.unwrap();
            note_shown(&frame, now, &mut self.charging, &mut self.shown_idle);
            self.site.frame(conn, &frame, at(now)).unwrap();
        }
    }

    /// Commits at once; what goes out arrives at once.
    fn settle(&mut self) {
        loop {
            while let Some((output, bytes)) = self.site.outputs().next() {
                let Output::Send(conn, _) = output else { continue };
                let line = self.lines.iter_mut().find(|line| line.conn == Some(conn)).unwrap();
                line.hear(bytes, self.now);
            }
            self.site.outputs().recycle();
            if !self.site.wants_commit() {
                return;
            }
            self.site.commit(at(self.now)).unwrap();
        }
    }

    /// Device, port, and when its order was closed for this reason.
    fn closed(&self, reason: &str) -> Vec<(DeviceId, PortNo, u64)> {
        let db = Connection::open(self.folder.path().join("store.db")).unwrap();
        let sql = "SELECT device_id, data ->> 'port', created_up FROM events
                    WHERE type = 'order.closed' AND data ->> 'end_reason' = ?1";
        let mut statement = db.prepare(sql).unwrap();
        let rows = statement.query_map([reason], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)));
        let of = |(device, port, up): (String, u8, i64)| {
            (device.parse().unwrap(), PortNo::new(port).unwrap(), u64::try_from(up).unwrap())
        };
        rows.unwrap().map(|row| of(row.unwrap())).collect()
    }
}

impl Line {
    fn has_left(&self, now: u64) -> Option<Leaving> {
        self.leaves.filter(|(at, _)| *at <= now).map(|(_, how)| how)
    }

    fn next_time(&self, now: u64) -> u64 {
        match self.leaves {
            Some((at, _)) if at > now => at.min(self.device.next_deadline(now)),
            // The loop closes what is silent.
            Some(_) if self.conn.is_some() => self.last_frame + OFFLINE_AFTER,
            Some(_) => u64::MAX,
            None => self.device.next_deadline(now),
        }
    }

    fn hear(&mut self, bytes: &[u8], now: u64) {
        let mut deframer = Deframer::new(Direction::Down);
        let mut input = bytes;
        while let Some(frame) = deframer.next(&mut input) {
            let frame: Frame<'_> = frame.unwrap();
            let is_question = matches!(Downlink::decode(&frame), Ok(Downlink::QueryStatus(_)));
            if !(is_question && self.unasked) && self.has_left(now).is_none() {
                self.device.received(frame.bytes(), now);
            }
        }
    }
}

/// Notes the first time that a port which charged is shown idle.
fn note_shown(
    frame: &Frame<'_>,
    now: u64,
    charging: &mut BTreeMap<(DeviceId, PortNo), bool>,
    shown_idle: &mut BTreeMap<(DeviceId, PortNo), u64>,
) {
    let readings: Vec<PortReading> = match Uplink::decode(frame) {
        Ok(Uplink::Status(report)) => report.first.ports.to_vec(),
        Ok(Uplink::QueryAnswer(answer)) => answer.status.ports.to_vec(),
        _ => return,
    };
    for reading in readings {
        let key = (frame.device().unwrap(), reading.port);
        let charges = reading.status.charging() || reading.business_no.is_some();
        if charging.insert(key, charges) == Some(true) && !charges {
            shown_idle.entry(key).or_insert(now);
        }
    }
}

fn late(closed: u64, since: u64, limit: u64) -> i64 {
    i64::try_from(closed).unwrap() - i64::try_from(since + limit).unwrap()
}

#[test]
fn at_the_defaults_an_idle_port_without_its_report_is_closed_within_80_seconds() {
    let mut random = Random::new(1);
    let mut world = World::new(Some(Fault::NoEnd), &mut random);
    // A third of the sockets never answer a question.
    world.lines.iter_mut().step_by(3).for_each(|line| line.unasked = true);
    world.run_until(MINUTE);
    world.start_all(&mut random, (2, 40));
    world.run_until(45 * MINUTE);
    let closed = world.closed("end_report_missing");
    assert_eq!(closed.len(), 2 * DEVICES as usize);
    let of = |(device, port, up): &(DeviceId, PortNo, u64)| late(*up, world.shown_idle[&(*device, *port)], MINUTE);
    judge("defaults, idle without a report", closed.iter().map(of).collect(), MOST_AFTER_GRACE_MS, 0);
}

#[test]
fn at_the_defaults_the_orders_of_an_offline_device_are_closed_within_305_seconds_of_its_last_frame() {
    let mut random = Random::new(2);
    let mut world = World::new(None, &mut random);
    world.run_until(MINUTE);
    world.start_all(&mut random, (300, 300));
    for (place, line) in world.lines.iter_mut().enumerate() {
        let how = if place % 2 == 0 { Leaving::HangsUp } else { Leaving::FallsSilent };
        line.leaves = Some((random.within(3 * MINUTE, 40 * MINUTE), how));
    }
    world.run_until(50 * MINUTE);
    let closed = world.closed("offline");
    assert_eq!(closed.len(), 2 * DEVICES as usize);
    let last = |device: &DeviceId| world.lines.iter().find(|line| line.device.id() == *device).unwrap().last_frame;
    let of = |(device, _, up): &(DeviceId, PortNo, u64)| late(*up, last(device), 5 * MINUTE);
    judge("defaults, device offline", closed.iter().map(of).collect(), MOST_AFTER_OFFLINE_MS, 0);
}
