//! The store on real files: what is kept, what is refused, and what a full disk, a rollback or a kill leaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may end so")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use chargegate::clock::{Now, UpTime, WallTime};
use chargegate::device::{Device, Socket};
use chargegate::ids::{
    BusinessNo, Cents, DeciVolts, DeciWatts, DeviceId, MessageId, MilliAmperes, Minutes, OrderNo, PortKey, PortNo,
    SocketNo, WattHours,
};
use chargegate::order::{
    Course, EndReason, FeeTier, Flag, Order, OrderStatus, Plan, PowerTier, ReportedFigures, ServiceFeeBy, Settlement,
    Source, StartCourse, TierSpent, Verdict,
};
use chargegate::port::state::{
    Doubt, Figures, Hold, KeptReport, Memory, Port, PortStatus, Report, Stop, StopCause, StopPhase, Stray,
};
use chargegate::store::{
    ClockQuality, CommandRow, CommandSource, Direction, FrameVerdict, JournalRow, Lane, NewEvent, OpenError, Sending,
    SendingKind, Settings, Severity, Store, StoreError, Stream, StreamRange, Subject,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

const WALL: WallTime = WallTime(1_790_000_000_000);
const DAY: u64 = 24 * 3600 * 1000;

/// A folder that goes with the test, and a store in it that can be opened again and again.
struct Place {
    _folder: TempDir,
    path: PathBuf,
    settings: Settings,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.db");
        Self { _folder: folder, path, settings: Settings::default() }
    }

    fn try_open(&self) -> Result<Store, OpenError> {
        Store::open(&self.path, &self.settings, WALL)
    }

    fn open(&self) -> Store {
        self.try_open().unwrap()
    }

    /// Another program that looks at, or meddles with, the file.
    fn outside(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.outside().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn device_id() -> DeviceId {
    "82200520004869".parse().unwrap()
}

fn socket_no(no: u8) -> SocketNo {
    SocketNo::new(no).unwrap()
}

fn port_key(socket: u8, port: u8) -> PortKey {
    PortKey { device: device_id(), socket: socket_no(socket), port: PortNo::new(port).unwrap() }
}

fn no(text: &str) -> OrderNo {
    OrderNo::new(text).unwrap()
}

fn number(no: u16) -> BusinessNo {
    BusinessNo::new(no).unwrap()
}

fn order(text: &str, port: PortKey, status: OrderStatus) -> Order {
    let mut order = Order::new(no(text), port, Source::Cloud, (WALL, UpTime(1000)));
    order.status = status;
    order
}

fn closed(text: &str, port: PortKey, at: u64) -> Order {
    let mut order = Order::new(no(text), port, Source::Cloud, (WALL, UpTime(at)));
    order.status = OrderStatus::Completed;
    order.settlement = Some(Settlement::Reported);
    order.is_final = true;
    order.course.closed = Some(UpTime(at));
    order
}

fn event<'a>(stream: Stream, data: &'a Value) -> NewEvent<'a> {
    let kind = "order.started";
    NewEvent { stream, kind, device: None, order_no: None, at: WALL, up: UpTime(5), clock: ClockQuality::Synced, data }
}

fn frame<'a>(bytes: &'a [u8], verdict: FrameVerdict) -> JournalRow<'a> {
    JournalRow {
        at: WALL,
        up: UpTime(7),
        device: Some(device_id()),
        socket: None,
        port: None,
        direction: Direction::Up,
        frame: bytes,
        verdict,
        reason: None,
        order_no: None,
    }
}

fn full_device() -> Device {
    Device {
        model: Some("DC-10".into()),
        firmware: Some("V1.r46".into()),
        iccid: Some("89860463112070319417".into()),
        rssi: Some(28),
        enabled: false,
        policy_disabled: true,
        online: true,
        last_seen: Some(WALL),
        heard: Some(UpTime(12)),
        note: Some("behind the lift".into()),
        ..Device::new(device_id())
    }
}

fn full_socket() -> Socket {
    Socket {
        mac: Some("0102030405ff".into()),
        uid: Some("A-17".into()),
        firmware: Some(0x00a1),
        temperature_c: Some(-7),
        rssi: Some(200),
        online: true,
        enabled: false,
        policy_disabled: true,
        last_seen: Some(WALL),
        heard: Some(UpTime(13)),
        lost: Some(UpTime(14)),
        ..Socket::new(device_id(), socket_no(250))
    }
}

fn full_report() -> Report {
    Report {
        number: Some(number(77)),
        raw_status: 0x91,
        energy: WattHours(1234),
        minutes: Minutes(61),
        amount: Some(Cents(120)),
        electricity: Some(Cents(70)),
        service: Some(Cents(50)),
        settlement_power: Some(DeciWatts(2204)),
        tiers: Some(vec![TierSpent { minutes: Minutes(61), energy_wh: Some(WattHours(1234)) }]),
        device_end_time: Some("2026-07-30 16:45:45".into()),
        raw_reason: Some(0x0b),
        card_no: Some("010203040506".into()),
    }
}

fn full_port() -> Port {
    let memory = Memory {
        hold: Some(Hold { unanswered: 1, lingers: true, evidence: 1, ..Hold::new(UpTime(100)) }),
        stop: Some(Stop {
            order_no: Some(no("A-1")),
            number: Some(number(9)),
            cause: StopCause::Overrun,
            phase: StopPhase::Owed,
            message_id: MessageId(u32::MAX),
            sent: Some(UpTime(101)),
            tries: 2,
            counted: true,
            in_vain: 3,
            commands: vec!["c-1".into()],
        }),
        kept: vec![KeptReport { report: full_report(), at: UpTime(102), wall: WALL, asked: true }],
        doubt: Some(Doubt {
            number: Some(number(8)),
            charging: true,
            since: UpTime(103),
            first_sight: true,
            settled: true,
        }),
        stray: Some(Stray { number: None, since: UpTime(104), told: true }),
        orders_lost: true,
    };
    Port {
        status: PortStatus::Charging,
        raw_status: Some(0x91),
        business_no: Some(number(65535)),
        figures: Some(Figures {
            voltage: DeciVolts(2203),
            power: DeciWatts(2051),
            current: MilliAmperes(931),
            energy: WattHours(0),
            minutes: Minutes(0),
        }),
        updated_at: Some(WALL),
        updated_up: Some(UpTime(99)),
        memory: Some(Box::new(memory)),
        ..Port::unseen(port_key(250, 1))
    }
}

fn full_order() -> Order {
    let start = StartCourse {
        message_id: MessageId(4_000_000_000),
        first_sent: UpTime(1),
        last_sent: UpTime(2),
        sendings: 3,
        tries: 2,
        asking: Some(UpTime(3)),
        refusal: true,
        restarted: true,
        accepted: Some(UpTime(4)),
        expires_at: Some(WALL),
        expires_up: Some(UpTime(6)),
    };
    let course = Course {
        start: Some(start),
        numbers: vec![number(5), number(77)],
        command_id: Some("c-9".into()),
        stop_accepted: Some(UpTime(5)),
        stop_by_command: true,
        stop_by_agent: true,
        stop_by_overrun: true,
        idle_since: Some(UpTime(6)),
        idle_wall: Some(WALL),
        grace_asked: true,
        closed: Some(UpTime(7)),
        end_shown: true,
        waits_since: Some(UpTime(8)),
        resumed_after_timeout: 2,
        reported: Some(ReportedFigures {
            number: Some(number(77)),
            energy_wh: WattHours(1234),
            minutes: Minutes(61),
            amount: Some(Cents(120)),
        }),
    };
    Order {
        business_no: Some(number(77)),
        plan: Some(Plan::Tiers {
            amount_cents: 300,
            tiers: vec![PowerTier { power_w: 200.5, price_cents: 100, minutes: 60 }],
        }),
        status: OrderStatus::Completed,
        start_time: Some(WALL),
        end_time: Some(WallTime(WALL.0 + 1)),
        end_reason: Some(EndReason::AmountReached),
        settlement: Some(Settlement::Corrected),
        is_final: true,
        revision: 3,
        verdict: Some(Verdict::ReceivedMalformed),
        energy_wh: Some(WattHours(1234)),
        energy_max_wh: Some(WattHours(1240)),
        minutes: Some(Minutes(61)),
        minutes_max: Some(Minutes(62)),
        spent_cents: Some(Cents(120)),
        electricity_cents: Some(Cents(70)),
        service_cents: Some(Cents(50)),
        settlement_power: Some(DeciWatts(2204)),
        tiers: full_report().tiers,
        peak_power: Some(DeciWatts(2311)),
        raw_reason: Some(0x0b),
        raw_status: Some(0x91),
        device_end_time: Some("2026-07-30 16:45:45".into()),
        started_by: Some("cloud".into()),
        stopped_by: Some("1000".into()),
        card_no: Some("010203040506".into()),
        flags: BTreeSet::from([Flag::ImplausibleEnergy, Flag::ReusedNumber]),
        figures_up: Some(UpTime(8)),
        loads: 12,
        load_power: DeciWatts(26_000),
        course,
        ..Order::new(no("A-1"), port_key(1, 0), Source::Site, (WallTime(-5), UpTime(0)))
    }
}

// ---- records ----------------------------------------------------------------------------------------------------

#[test]
fn every_record_survives_a_reopening_as_it_was() {
    let place = Place::new();
    let devices = [Device::new("00000000000001".parse().unwrap()), full_device()];
    let sockets = [Socket::new(device_id(), socket_no(0)), full_socket()];
    let ports = [Port::unseen(port_key(0, 0)), full_port()];
    let mut store = place.open();
    devices.iter().for_each(|device| store.put_device(device).unwrap());
    sockets.iter().for_each(|socket| store.put_socket(socket).unwrap());
    ports.iter().for_each(|port| store.put_port(port).unwrap());
    let mut orders = [order("empty", port_key(0, 0), OrderStatus::Pending), full_order()];
    orders.iter_mut().for_each(|order| store.put_order(order).unwrap());
    assert_eq!(orders.each_ref().map(|order| order.serial), [1, 2]);
    store.commit().unwrap();
    store.close().unwrap();

    let store = place.open();
    assert_eq!(store.devices().unwrap(), devices);
    assert_eq!(store.sockets().unwrap(), sockets);
    assert_eq!(store.ports().unwrap(), ports);
    assert_eq!(store.open_orders().unwrap(), [orders[0].clone()]);
    assert_eq!(store.order(&no("A-1")).unwrap(), Some(orders[1].clone()));
    assert!(store.order_exists(&no("A-1")).unwrap() && !store.order_exists(&no("A-2")).unwrap());
    assert_eq!(store.order(&no("A-2")).unwrap(), None);
}

#[test]
fn a_record_that_is_written_again_replaces_every_column() {
    let place = Place::new();
    let mut store = place.open();
    store.put_device(&full_device()).unwrap();
    store.put_device(&Device::new(device_id())).unwrap();
    assert_eq!(store.devices().unwrap(), [Device::new(device_id())]);
    let socket = Socket::new(full_socket().device, full_socket().no);
    store.put_socket(&full_socket()).unwrap();
    store.put_socket(&socket).unwrap();
    assert_eq!(store.sockets().unwrap(), [socket]);
    let port = Port::unseen(full_port().key);
    store.put_port(&full_port()).unwrap();
    store.put_port(&port).unwrap();
    assert_eq!(store.ports().unwrap(), [port]);
    let mut order = full_order();
    store.put_order(&mut order).unwrap();
    let mut bare = Order::new(no("A-2"), order.port, order.source, (order.created_at, order.created_up));
    bare.serial = order.serial;
    store.put_order(&mut bare).unwrap();
    assert_eq!(store.open_orders().unwrap(), [bare]);
    assert_eq!(store.order(&no("A-1")).unwrap(), None, "a claimed order has its new number alone");
}

#[test]
fn plans_of_all_modes_survive() {
    let place = Place::new();
    let mut store = place.open();
    let fee = FeeTier { until: "23:59".into(), electricity_cents: 60, service_cents: 40 };
    let plans = [
        Plan::Time { minutes: 60 },
        Plan::Energy { energy_wh: 500 },
        Plan::Tiers { amount_cents: 100, tiers: vec![PowerTier { power_w: 300.0, price_cents: 50, minutes: 30 }] },
        Plan::Fee { amount_cents: 100, service_fee_by: ServiceFeeBy::Energy, tiers: vec![fee] },
    ];
    for (socket, plan) in plans.iter().enumerate() {
        let mut order = order(&format!("P-{socket}"), port_key(socket as u8, 0), OrderStatus::Charging);
        order.plan = Some(plan.clone());
        store.put_order(&mut order).unwrap();
    }
    store.commit().unwrap();
    assert_eq!(store.open_orders().unwrap().into_iter().map(|order| order.plan.unwrap()).collect::<Vec<_>>(), plans);
    assert_eq!(place.one::<String>("SELECT group_concat(mode) FROM orders"), "time,energy,tiers,fee");
    assert_eq!(place.one::<String>("SELECT plan FROM orders LIMIT 1"), r#"{"mode":"time","minutes":60}"#);
}

#[test]
fn narrow_writes_move_only_what_moves() {
    let place = Place::new();
    let mut store = place.open();
    let (mut device, mut socket, mut port, mut order) = (full_device(), full_socket(), full_port(), full_order());
    store.put_device(&device).unwrap();
    store.put_socket(&socket).unwrap();
    store.put_port(&port).unwrap();
    store.put_order(&mut order).unwrap();
    (device.last_seen, device.heard, device.rssi) = (Some(WallTime(1)), Some(UpTime(1)), None);
    (socket.last_seen, socket.heard, socket.temperature_c) = (None, None, Some(40));
    let figures = port.figures.as_mut().unwrap();
    (figures.energy, figures.power, port.updated_up) = (WattHours(40), DeciWatts(0), Some(UpTime(1_000_000)));
    (order.energy_wh, order.figures_up, order.loads) = (Some(WattHours(40)), Some(UpTime(1_000_000)), 0);
    store.put_device_seen(&device).unwrap();
    store.put_socket_seen(&socket).unwrap();
    store.put_port_figures(&port).unwrap();
    store.put_order_figures(&order).unwrap();
    assert_eq!(store.devices().unwrap(), [device]);
    assert_eq!(store.sockets().unwrap(), [socket]);
    assert_eq!(store.ports().unwrap(), [port]);
    assert_eq!(store.order(&no("A-1")).unwrap(), Some(order));
}

#[test]
fn others_read_units_words_and_nulls() {
    let place = Place::new();
    let mut store = place.open();
    store.put_device(&full_device()).unwrap();
    store.put_socket(&full_socket()).unwrap();
    store.put_port(&full_port()).unwrap();
    store.put_port(&Port::unseen(port_key(0, 0))).unwrap();
    store.put_order(&mut full_order()).unwrap();
    store.put_order(&mut order("B", port_key(0, 0), OrderStatus::Stopping)).unwrap();
    store.commit().unwrap();
    let read = |sql: &str| place.one::<String>(sql);
    assert_eq!(read("SELECT device_id || ' ' || status || ' ' || online FROM devices"), "82200520004869 disabled 1");
    assert_eq!(read("SELECT firmware || ' ' || enabled || ' ' || temperature_c FROM sockets"), "00a1 0 -7");
    let figures = "SELECT voltage_v || ' ' || power_w || ' ' || current_a || ' ' || energy_wh FROM ports
                    WHERE status = 129";
    assert_eq!(read(figures), "220.3 205.1 0.931 0");
    let unseen = "SELECT status = 1 AND coalesce(raw_status, business_no, voltage_v, power_w, current_a, energy_wh,
                         minutes, updated_at, memory) IS NULL FROM ports WHERE socket_no = 0";
    assert!(place.one::<bool>(unseen), "a port that nobody heard of has no figures");
    let closed = "SELECT settlement_power_w || ' ' || peak_power_w || ' ' || tiers || ' ' || flags || ' ' || settlement
                    FROM orders WHERE order_no = 'A-1'";
    let expected = r#"220.4 231.1 [{"minutes":61,"energy_wh":1234}] ["implausible_energy","reused_number"] corrected"#;
    assert_eq!(read(closed), expected);
    let open = "SELECT flags = '[]' AND status = 9 AND final = 0 AND revision = 1 AND coalesce(energy_wh, minutes,
                       end_reason, plan, mode, tiers) IS NULL FROM orders WHERE order_no = 'B'";
    assert!(place.one::<bool>(open));
}

#[test]
fn a_removed_device_takes_its_sockets_and_ports_along_and_leaves_its_orders() {
    let place = Place::new();
    let mut store = place.open();
    let other = Device::new("00000000000001".parse().unwrap());
    store.put_device(&full_device()).unwrap();
    store.put_device(&other).unwrap();
    store.put_socket(&full_socket()).unwrap();
    store.put_port(&full_port()).unwrap();
    store.put_order(&mut full_order()).unwrap();
    store.remove_device(device_id()).unwrap();
    store.commit().unwrap();
    assert_eq!(store.devices().unwrap(), [other]);
    assert!(store.sockets().unwrap().is_empty() && store.ports().unwrap().is_empty());
    assert!(store.order_exists(&no("A-1")).unwrap());
}

// ---- orders -----------------------------------------------------------------------------------------------------

#[test]
fn a_port_has_at_most_one_open_order() {
    let place = Place::new();
    let mut store = place.open();
    store.put_order(&mut order("first", port_key(1, 0), OrderStatus::Charging)).unwrap();
    store.put_order(&mut order("other port", port_key(1, 1), OrderStatus::Pending)).unwrap();
    store.commit().unwrap();
    let refused = store.put_order(&mut order("second", port_key(1, 0), OrderStatus::Pending)).unwrap_err();
    assert!(!refused.passes() && refused.to_string().contains("UNIQUE"), "{refused}");
    store.rollback().unwrap();
    let insert = "INSERT INTO orders (order_no, device_id, socket_no, port_no, status, final, revision, source,
                                      created_at, created_up)
                  SELECT 'third', device_id, socket_no, port_no, 9, 0, 0, 'site', 0, 0 FROM orders LIMIT 1";
    assert!(place.outside().execute(insert, []).is_err(), "whoever writes it");
}

#[test]
fn an_order_number_is_taken_once() {
    let place = Place::new();
    let mut store = place.open();
    store.put_order(&mut order("A", port_key(1, 0), OrderStatus::Completed)).unwrap();
    assert!(store.put_order(&mut order("A", port_key(2, 0), OrderStatus::Pending)).is_err());
}

#[test]
fn the_orders_that_a_frame_may_be_about_are_found() {
    let place = Place::new();
    let mut store = place.open();
    let port = port_key(1, 0);
    let put = |store: &mut Store, mut order: Order, numbers: &[u16]| {
        order.business_no = numbers.first().map(|no| number(*no));
        order.course.numbers = numbers.iter().skip(1).map(|no| number(*no)).collect();
        store.put_order(&mut order).unwrap();
    };
    put(&mut store, closed("too long ago, same number", port, 50), &[7]);
    put(&mut store, closed("other number", port, 100), &[8]);
    put(&mut store, closed("same number", port, 110), &[7]);
    put(&mut store, closed("an earlier number", port, 120), &[8, 7]);
    put(&mut store, closed("never numbered", port, 130), &[]);
    let mut refused = closed("refused", port, 140);
    refused.end_reason = Some(EndReason::StartRefused);
    put(&mut store, refused, &[]);
    put(&mut store, closed("other port, same number", port_key(1, 1), 150), &[7]);
    put(&mut store, closed("other number, closed last", port, 160), &[9]);
    put(&mut store, order("open", port, OrderStatus::Charging), &[10]);
    let find = |numbers: &[u16], since| {
        let numbers: Vec<_> = numbers.iter().map(|no| number(*no)).collect();
        let orders = store.orders_of_port(port, &numbers, UpTime(since)).unwrap();
        orders.into_iter().map(|order| order.order_no.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(find(&[7], 100), ["same number", "an earlier number", "never numbered", "open"]);
    assert_eq!(find(&[], 100), ["never numbered", "open"]);
    assert_eq!(find(&[7, 9], 131), ["other number, closed last", "open"]);
    assert_eq!(find(&[7], 0)[0], "too long ago, same number");
    let mut last = store.order(&no("open")).unwrap().unwrap();
    (last.status, last.course.closed) = (OrderStatus::Completed, Some(UpTime(200)));
    store.put_order(&mut last).unwrap();
    let find = |since| store.orders_of_port(port, &[], UpTime(since)).unwrap();
    assert_eq!(find(1000).into_iter().map(|order| order.order_no).collect::<Vec<_>>(), [no("open")], "the newest one");
}

#[test]
fn orders_that_are_not_final_are_found_and_in_the_order_of_their_close() {
    let place = Place::new();
    let mut store = place.open();
    for (socket, (text, at)) in [("b", 200), ("a", 100), ("c", 300)].into_iter().enumerate() {
        let mut order = closed(text, port_key(socket as u8, 0), at);
        order.is_final = false;
        store.put_order(&mut order).unwrap();
    }
    store.put_order(&mut closed("final", port_key(9, 0), 50)).unwrap();
    store.put_order(&mut order("open", port_key(9, 0), OrderStatus::Charging)).unwrap();
    let names = |orders: Vec<Order>| orders.into_iter().map(|order| order.order_no.to_string()).collect::<Vec<_>>();
    assert_eq!(names(store.unsettled_orders().unwrap()), ["b", "a", "c", "open"]);
    assert_eq!(names(store.orders_to_finalize(UpTime(200), 10).unwrap()), ["a", "b"]);
    assert_eq!(store.first_to_finalize().unwrap(), Some(UpTime(100)));
    for mut order in store.orders_to_finalize(UpTime(1000), 10).unwrap() {
        order.is_final = true;
        store.put_order(&mut order).unwrap();
    }
    assert_eq!(store.first_to_finalize().unwrap(), None);
}

#[test]
fn the_view_lists_each_of_the_four_issues_and_nothing_else() {
    let place = Place::new();
    let mut store = place.open();
    let port = |key, status| Port { status, ..Port::unseen(key) };
    let issues = || {
        let outside = place.outside();
        let sql = "SELECT issue_type, device_id, socket_no, port_no, ifnull(order_no, '-') FROM consistency_issues";
        let mut statement = outside.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            assert_eq!(row.get::<_, String>(1)?, device_id().to_string());
            Ok(format!(
                "{} {}/{} {}",
                row.get::<_, String>(0)?,
                row.get::<_, u8>(2)?,
                row.get::<_, u8>(3)?,
                row.get::<_, String>(4)?
            ))
        });
        rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    // All that is in order.
    for (socket, status) in [PortStatus::Offline, PortStatus::Unclear, PortStatus::Charging].into_iter().enumerate() {
        store.put_port(&port(port_key(socket as u8, 0), status)).unwrap();
        store.put_order(&mut order(&format!("ok {socket}"), port_key(socket as u8, 0), OrderStatus::Charging)).unwrap();
    }
    for (socket, status) in [OrderStatus::Pending, OrderStatus::Stopping].into_iter().enumerate() {
        store.put_port(&port(port_key(socket as u8 + 10, 0), PortStatus::Charging)).unwrap();
        store.put_order(&mut order(&format!("ok 1{socket}"), port_key(socket as u8 + 10, 0), status)).unwrap();
    }
    store.put_port(&port(port_key(20, 0), PortStatus::Idle)).unwrap();
    store.put_order(&mut order("stopping on an idle port", port_key(20, 0), OrderStatus::Stopping)).unwrap();
    store.put_order(&mut closed("closed", port_key(21, 0), 5)).unwrap();
    store.commit().unwrap();
    assert_eq!(issues(), [""; 0]);
    // All that is not.
    store.put_port(&port(port_key(1, 0), PortStatus::Idle)).unwrap();
    store.put_order(&mut order("no port", port_key(30, 1), OrderStatus::Charging)).unwrap();
    store.put_port(&port(port_key(31, 1), PortStatus::Charging)).unwrap();
    for text in ["ok 0", "ok 10"] {
        let mut order = store.order(&no(text)).unwrap().unwrap();
        order.business_no = Some(number(12));
        store.put_order(&mut order).unwrap();
    }
    store.commit().unwrap();
    assert_eq!(
        issues(),
        [
            "order_port_mismatch 1/0 ok 1",
            "orphaned_charging_order 30/1 no port",
            "lonely_charging_port 31/1 -",
            "duplicate_business_no 10/0 ok 10"
        ]
    );
}

// ---- events, journal, alerts, commands ---------------------------------------------------------------------------

#[test]
fn numbers_of_events_have_no_gaps_after_rollbacks_and_reopenings() {
    let place = Place::new();
    let data = json!({"energy_wh": 5});
    let mut store = place.open();
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 1);
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 2);
    assert_eq!(store.add_event(&event(Stream::Alert, &data)).unwrap(), 1);
    store.commit().unwrap();
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 3);
    store.rollback().unwrap();
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 3);
    store.commit().unwrap();
    // Not committed: as if the power had gone.
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 4);
    drop(store);
    let mut store = place.open();
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 4);
    let seqs: Vec<_> = store.events_from(Stream::Order, 2, 2).unwrap().into_iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [2, 3]);
    let streams = store.streams().unwrap();
    assert_eq!(streams[&Stream::Order], StreamRange { oldest: 1, next: 5 });
    assert_eq!(streams[&Stream::Device], StreamRange { oldest: 1, next: 1 });
}

#[test]
fn events_are_read_as_they_were_written() {
    let place = Place::new();
    let mut store = place.open();
    let (data, order_no) = (json!({"device": "x", "tiers": [{"minutes": 5, "energy_wh": null}]}), no("A-1"));
    let kind = "order.completed";
    let written =
        NewEvent { kind, device: Some(device_id()), order_no: Some(&order_no), ..event(Stream::Order, &data) };
    store.add_event(&written).unwrap();
    let read = store.events_from(Stream::Order, 1, 9).unwrap().remove(0);
    assert!(read.intact);
    assert_eq!(
        (read.stream, read.seq, read.at, read.up, read.clock),
        (Stream::Order, 1, WALL, UpTime(5), written.clock)
    );
    assert_eq!((read.kind.as_str(), read.device, read.order_no), (kind, Some(device_id()), Some(order_no)));
    assert_eq!(serde_json::from_str::<Value>(&read.data).unwrap(), data);
}

#[test]
fn a_flipped_bit_in_an_event_or_a_frame_is_noticed() {
    let place = Place::new();
    let mut store = place.open();
    let data = json!({"energy_wh": 500});
    for _ in 0..2 {
        store.add_event(&event(Stream::Order, &data)).unwrap();
        store.add_journal(&frame(&[0xfc, 0xfe, 0x00], FrameVerdict::Accepted)).unwrap();
    }
    store.commit().unwrap();
    let outside = place.outside();
    outside.execute("UPDATE events SET data = replace(data, '500', '501') WHERE seq = 2", []).unwrap();
    outside.execute("UPDATE journal SET frame = x'fcfe01' WHERE id = 2", []).unwrap();
    let intact: Vec<_> = store.events_from(Stream::Order, 1, 9).unwrap().iter().map(|event| event.intact).collect();
    assert_eq!(intact, [true, false]);
    let intact: Vec<_> = store.journal_after(0, 9).unwrap().iter().map(|entry| entry.intact).collect();
    assert_eq!(intact, [true, false]);
}

#[test]
fn the_journal_stays_within_its_bytes_whatever_happens() {
    let place = Place { settings: Settings { journal_max: 20_000, ..Settings::default() }, ..Place::new() };
    let mut store = place.open();
    let bytes = [0x5a; 100];
    let mut newest = 0;
    for turn in 0..60_u32 {
        for _ in 0..10 {
            store.add_journal(&frame(&bytes, FrameVerdict::Accepted)).unwrap();
        }
        match turn % 6 {
            0 => store.rollback().unwrap(),
            _ => newest += if store.commit().unwrap() { 10 } else { 0 },
        }
        if turn % 20 == 7 {
            store.close().unwrap();
            store = place.open();
            assert!(!store.after_unclean_stop());
        }
        if turn % 20 == 13 {
            drop(store);
            store = place.open();
            assert!(store.after_unclean_stop());
        }
        let size = place.one::<i64>("SELECT ifnull(sum(length(frame) + 64), 0) FROM journal");
        assert_eq!(size.unsigned_abs(), store.journal_bytes());
        assert!(size <= 20_000);
    }
    let entries = store.journal_after(0, 1000).unwrap();
    assert!(entries.len() > 100, "nearly all of the room is used: {}", entries.len());
    assert_eq!(entries.last().unwrap().id, newest, "the oldest went");
    assert!(store.journal_whole_since().unwrap().is_some());
}

#[test]
fn the_journal_tells_why_a_report_is_missing() {
    let place = Place::new();
    let mut store = place.open();
    assert_eq!(store.journal_whole_since().unwrap(), None);
    let order_no = no("A-1");
    let at = |row: JournalRow<'static>, up| JournalRow { up: UpTime(up), ..row };
    store.add_journal(&at(frame(b"old", FrameVerdict::Malformed), 10)).unwrap();
    store.add_journal(&at(frame(b"bad", FrameVerdict::Malformed), 20)).unwrap();
    let accepted = at(frame(b"good", FrameVerdict::Accepted), 30);
    store.add_journal(&JournalRow { order_no: Some(&order_no), reason: Some("booked"), ..accepted }).unwrap();
    let nobody =
        JournalRow { socket: Some(socket_no(3)), port: Some(PortNo::B), ..frame(b"mine?", FrameVerdict::Unmatched) };
    store.add_journal(&at(nobody, 40)).unwrap();
    store.add_journal(&JournalRow { device: None, ..at(frame(b"?", FrameVerdict::Malformed), 50) }).unwrap();
    let refused = store.refused_frames_since(device_id(), UpTime(20)).unwrap();
    assert_eq!(refused.iter().map(|entry| entry.frame.as_slice()).collect::<Vec<_>>(), [b"mine?".as_slice(), b"bad"]);
    assert_eq!((refused[0].socket, refused[0].port), (Some(socket_no(3)), Some(PortNo::B)));
    let story = store.journal_of_order(&order_no).unwrap();
    assert_eq!((story.len(), story[0].reason.as_deref()), (1, Some("booked")));
    assert_eq!(store.journal_of_device_since(device_id(), UpTime(20)).unwrap().len(), 3);
    assert_eq!(store.journal_whole_since().unwrap(), None, "nothing was given up yet");
}

#[test]
fn an_alert_is_raised_once_and_cleared_once() {
    let place = Place::new();
    let mut store = place.open();
    let (site, port) =
        (Subject::default(), Subject { device: Some(device_id()), socket: Some(socket_no(0)), port: Some(PortNo::A) });
    let raise = |store: &mut Store, subject| {
        store.raise_alert("port_fault", Severity::Warning, subject, WALL, &json!({"bit": 6})).unwrap()
    };
    assert_eq!(raise(&mut store, port), Some(1));
    assert_eq!(raise(&mut store, port), None);
    assert_eq!(raise(&mut store, site), Some(2), "about something else");
    store.commit().unwrap();
    assert_eq!(store.open_alerts().unwrap().len(), 2);
    assert_eq!(store.acknowledge_alert(1, WALL).unwrap().unwrap().acknowledged_at, Some(WALL));
    assert_eq!(store.acknowledge_alert(1, WallTime(5)).unwrap().unwrap().acknowledged_at, Some(WALL), "the first time");
    assert_eq!(store.acknowledge_alert(77, WALL).unwrap(), None);
    let now = Now { up: UpTime(9), wall: WallTime(WALL.0 + 1), synchronized: false };
    let cleared = store.clear_alert("port_fault", port, now).unwrap().unwrap();
    assert_eq!((cleared.id, cleared.cleared_at, cleared.subject), (1, Some(now.wall), port));
    assert_eq!(store.clear_alert("port_fault", port, now).unwrap(), None);
    assert_eq!(raise(&mut store, port), Some(3));
    assert_eq!(store.alert(1).unwrap().unwrap().details.as_deref(), Some(r#"{"bit":6}"#));
}

#[test]
fn a_repeated_command_finds_the_first_and_its_reply() {
    let place = Place::new();
    let mut store = place.open();
    let row = CommandRow {
        id: "c-1".into(),
        at: WALL,
        created_up: UpTime(1),
        source: CommandSource::Site,
        actor: "1000".into(),
        kind: "start_charge".into(),
        payload: r#"{"id":"c-1"}"#.into(),
        reply: None,
        order_no: None,
    };
    store.put_command(&row).unwrap();
    store.commit().unwrap();
    assert_eq!(store.command("c-1").unwrap(), Some(row.clone()));
    assert_eq!(store.command("c-2").unwrap(), None);
    store.set_reply("c-1", "{}", Some(&no("A-1"))).unwrap();
    store.set_reply("c-1", r#"{"result":"done"}"#, None).unwrap();
    let reply = Some(r#"{"result":"done"}"#.into());
    assert_eq!(store.command("c-1").unwrap(), Some(CommandRow { reply, order_no: Some(no("A-1")), ..row }));
}

#[test]
fn a_late_answer_finds_what_it_is_about() {
    let place = Place::new();
    let mut store = place.open();
    let sending = Sending {
        device: device_id(),
        message_id: MessageId(3_000_000_000),
        kind: SendingKind::Stop,
        sent_up: UpTime(1),
        socket: Some(socket_no(1)),
        port: Some(PortNo::B),
        order_no: Some(no("A-1")),
    };
    store.put_sending(&sending).unwrap();
    let again = Sending { sent_up: UpTime(2), ..sending };
    store.put_sending(&again).unwrap();
    store.commit().unwrap();
    store.close().unwrap();
    let store = place.open();
    assert_eq!(store.sending(device_id(), again.message_id).unwrap(), Some(again.clone()));
    assert_eq!(store.sending("00000000000001".parse().unwrap(), again.message_id).unwrap(), None, "of another device");
}

#[test]
fn only_what_is_old_by_up_time_and_settled_is_dropped() {
    let place = Place::new();
    let mut store = place.open();
    let data = json!({});
    let old = |row: &mut Order| row.created_up = UpTime(0);
    let mut unsettled = closed("not final", port_key(1, 0), 10);
    unsettled.is_final = false;
    for mut row in [
        closed("old", port_key(1, 0), 10),
        unsettled,
        order("open", port_key(1, 0), OrderStatus::Charging),
        closed("long", port_key(2, 0), 50 * DAY),
        closed("young", port_key(2, 0), 50 * DAY),
        closed("newest", port_key(3, 0), 50 * DAY),
    ] {
        if row.order_no != no("young") {
            old(&mut row);
        }
        // The wall clock says nothing: it may have stood anywhere.
        row.end_time = Some(WallTime(0));
        store.put_order(&mut row).unwrap();
    }
    for up in [0, 1, 50 * DAY] {
        store.add_event(&NewEvent { up: UpTime(up), ..event(Stream::Order, &data) }).unwrap();
    }
    store.add_event(&NewEvent { up: UpTime(0), ..event(Stream::Device, &data) }).unwrap();
    for (rule, cleared) in [("old", Some(UpTime(0))), ("young", Some(UpTime(50 * DAY))), ("open", None)] {
        store.raise_alert(rule, Severity::Warning, Subject::default(), WallTime(0), &Value::Null).unwrap();
        if let Some(up) = cleared {
            store.clear_alert(rule, Subject::default(), Now { up, wall: WallTime(0), synchronized: false }).unwrap();
        }
    }
    let command = |id: &str, reply: Option<&str>, up| CommandRow {
        id: id.into(),
        at: WallTime(0),
        created_up: UpTime(up),
        source: CommandSource::Cloud,
        actor: "cloud".into(),
        kind: "stop_charge".into(),
        payload: "{}".into(),
        reply: reply.map(Into::into),
        order_no: None,
    };
    store.put_command(&command("waits", None, 0)).unwrap();
    store.put_command(&command("old", Some("{}"), 0)).unwrap();
    store.put_command(&command("young", Some("{}"), 90 * DAY)).unwrap();
    assert_eq!(store.drop_old(UpTime(DAY)).unwrap().rows, 0);
    // After 91 days: what is older than 90, and commands older than 7.
    let dropped = store.drop_old(UpTime(91 * DAY)).unwrap();
    store.commit().unwrap();
    let left = |sql: &str| place.one::<String>(sql);
    assert_eq!(
        left("SELECT group_concat(order_no) FROM (SELECT order_no FROM orders ORDER BY serial)"),
        "not final,open,long,young,newest"
    );
    assert_eq!(
        left("SELECT group_concat(stream || seq) FROM (SELECT stream, seq FROM events ORDER BY stream)"),
        "device1,order3"
    );
    assert_eq!(left("SELECT group_concat(rule) FROM alerts"), "young,open");
    assert_eq!(left("SELECT group_concat(id) FROM commands"), "waits,young");
    assert_eq!((dropped.rows, dropped.more), (5, false));
    // The numbers go on all the same.
    assert_eq!(store.add_event(&event(Stream::Device, &data)).unwrap(), 2);
    assert_eq!(store.streams().unwrap()[&Stream::Order], StreamRange { oldest: 3, next: 4 });
    let mut next = closed("next", port_key(4, 0), 1);
    store.put_order(&mut next).unwrap();
    assert_eq!(next.serial, 7);
}

#[test]
fn what_the_cloud_has_not_confirmed_is_not_dropped() {
    let place = Place::new();
    let mut store = place.open();
    let data = json!({});
    for text in ["told", "untold", "newest"] {
        let mut row = closed(text, port_key(1, 0), 10);
        store.put_order(&mut row).unwrap();
        store.add_event(&NewEvent { order_no: Some(&row.order_no), ..event(Stream::Order, &data) }).unwrap();
    }
    store.commit().unwrap();
    let insert = "INSERT INTO outbox (created_at, crc, topic, stream, seq) VALUES (0, 0, 'event/order', 'order', 2)";
    place.outside().execute(insert, []).unwrap();
    store.drop_old(UpTime(100 * DAY)).unwrap();
    store.commit().unwrap();
    assert_eq!(
        place.one::<String>("SELECT group_concat(order_no) FROM (SELECT order_no FROM orders ORDER BY serial)"),
        "untold,newest"
    );
    assert_eq!(place.one::<String>("SELECT group_concat(seq) FROM events"), "2,3");
}

#[test]
fn old_rows_go_in_chunks() {
    let place = Place::new();
    let mut store = place.open();
    for i in 0..1200 {
        store.put_order(&mut closed(&format!("{i}"), port_key(1, 0), 10)).unwrap();
    }
    store.commit().unwrap();
    let mut rows = Vec::new();
    loop {
        let dropped = store.drop_old(UpTime(100 * DAY)).unwrap();
        store.commit().unwrap();
        rows.push(dropped.rows);
        if !dropped.more {
            break;
        }
    }
    assert_eq!(rows, [500, 500, 199]);
}

// ---- the outbox -------------------------------------------------------------------------------------------------

fn page(store: &Store, lane: Lane, after: u64) -> Vec<u64> {
    let rows = store.outbox_page(lane, after, 100).unwrap();
    assert!(rows.iter().all(|row| row.intact), "{rows:?}");
    rows.iter().map(|row| row.id).collect()
}

#[test]
fn the_outbox_is_read_in_two_lanes_and_only_as_far_as_it_is_durable() {
    let place = Place::new();
    let mut store = place.open();
    for stream in [Stream::Order, Stream::Alert, Stream::Device, Stream::Abnormal] {
        store.enqueue_event(stream, 1, WALL).unwrap();
    }
    store.enqueue("reply", r#"{"v":1}"#, WALL).unwrap();
    assert_eq!((page(&store, Lane::Urgent, 0), store.outbox_newest()), (vec![], 0), "a power cut would take them back");
    store.commit().unwrap();
    assert_eq!(page(&store, Lane::Urgent, 0), [2, 5]);
    assert_eq!(page(&store, Lane::Rest, 0), [1, 3, 4]);
    assert_eq!(page(&store, Lane::Rest, 3), [4]);
    assert_eq!(store.outbox_page(Lane::Rest, 0, 2).unwrap().len(), 2);
    store.enqueue("reply", "{}", WALL).unwrap();
    store.rollback().unwrap();
    assert_eq!((store.outbox_newest(), store.outbox_waiting().unwrap().rows), (5, 5));
    let row = store.outbox_row(1).unwrap().unwrap();
    assert_eq!((row.topic.as_str(), row.stream, row.seq), ("event/order", Some(Stream::Order), Some(1)));
}

#[test]
fn ids_of_the_outbox_go_on_when_it_is_empty_and_over_a_restart() {
    let place = Place::new();
    let mut store = place.open();
    store.enqueue("reply", "{}", WALL).unwrap();
    store.commit().unwrap();
    store.remove_from_outbox(&[1, 77]).unwrap();
    store.commit().unwrap();
    drop(store);
    let mut store = place.open();
    assert_eq!(store.outbox_newest(), 1);
    assert_eq!(store.enqueue("reply", "{}", WALL).unwrap(), 2);
}

#[test]
fn a_replaced_row_is_whole_and_a_changed_one_is_not() {
    let place = Place::new();
    let mut store = place.open();
    store.enqueue_event(Stream::Order, 7, WALL).unwrap();
    store.enqueue_event(Stream::Order, 8, WALL).unwrap();
    store.replace_in_outbox(1, r#"{"why":"large"}"#).unwrap();
    store.replace_in_outbox(99, "{}").unwrap();
    store.commit().unwrap();
    place.outside().execute("UPDATE outbox SET seq = 9 WHERE id = 2", []).unwrap();
    let rows = store.outbox_page(Lane::Rest, 0, 10).unwrap();
    assert_eq!((rows[0].payload.as_deref(), rows[0].intact), (Some(r#"{"why":"large"}"#), true));
    assert!(!rows[1].intact);
}

#[test]
fn an_ack_takes_rows_of_its_stream_up_to_its_number_and_to_what_was_sent() {
    let place = Place::new();
    let mut store = place.open();
    for (stream, seq) in
        [(Stream::Order, 1), (Stream::Device, 1), (Stream::Order, 2), (Stream::Order, 3), (Stream::Order, 1)]
    {
        store.enqueue_event(stream, seq, WALL).unwrap();
    }
    store.commit().unwrap();
    assert_eq!(store.confirm_outbox(Stream::Order, 2, 4, 1).unwrap(), 1);
    assert_eq!(store.confirm_outbox(Stream::Order, 2, 4, 10).unwrap(), 1);
    store.commit().unwrap();
    assert_eq!(page(&store, Lane::Rest, 0), [2, 4, 5], "what is sent again later waits for another ack");
}

#[test]
fn session_numbers_rise_over_kills_and_without_a_gap_over_clean_ends() {
    let place = Place::new();
    let mut store = place.open();
    assert_eq!(store.next_session(), None, "none is set aside yet");
    store.reserve_sessions().unwrap();
    assert_eq!(store.next_session(), None, "not durably");
    store.commit().unwrap();
    assert_eq!([store.next_session(), store.next_session()], [Some(1), Some(2)]);
    store.close().unwrap();
    let mut store = place.open();
    store.set_up(UpTime(1)).unwrap();
    store.commit().unwrap();
    assert_eq!(store.next_session(), Some(3), "set aside with a commit that was made anyway");
    drop(store);
    let mut store = place.open();
    store.reserve_sessions().unwrap();
    store.commit().unwrap();
    assert!(store.next_session().is_some_and(|session| session > 3));
}

// ---- the turn ---------------------------------------------------------------------------------------------------

#[test]
fn a_rollback_forgets_the_whole_turn_and_nothing_before_it() {
    let place = Place::new();
    let mut store = place.open();
    assert!(!store.in_transaction() && !store.commit().unwrap());
    store.put_device(&full_device()).unwrap();
    assert!(store.in_transaction() && store.commit().unwrap());
    store.remove_device(device_id()).unwrap();
    store.put_order(&mut full_order()).unwrap();
    store.set_up(UpTime(77)).unwrap();
    assert!(store.devices().unwrap().is_empty(), "a turn sees what it wrote");
    store.rollback().unwrap();
    assert!(!store.in_transaction());
    assert_eq!(store.devices().unwrap(), [full_device()]);
    assert!(!store.order_exists(&no("A-1")).unwrap());
}

#[test]
fn after_an_error_nothing_of_the_turn_can_be_committed() {
    let place = Place::new();
    let mut store = place.open();
    store.put_device(&full_device()).unwrap();
    store.put_order(&mut order("A", port_key(1, 0), OrderStatus::Charging)).unwrap();
    store.put_order(&mut order("B", port_key(1, 0), OrderStatus::Charging)).unwrap_err();
    store.put_socket(&full_socket()).unwrap_err();
    store.commit().unwrap_err();
    store.rollback().unwrap();
    assert!(store.devices().unwrap().is_empty());
    store.put_socket(&full_socket()).unwrap();
    store.commit().unwrap();
}

#[test]
fn a_full_store_refuses_rolls_back_and_is_normal_again_when_the_journal_gives_way() {
    let settings = Settings { max_size: 512 << 10, journal_max: 128 << 10, ..Settings::default() };
    let place = Place { settings, ..Place::new() };
    let mut store = place.open();
    let data = json!({"filler": "x".repeat(2000)});
    let bytes = [0xaa; 500];
    for _ in 0..100 {
        store.add_journal(&frame(&bytes, FrameVerdict::Accepted)).unwrap();
    }
    store.commit().unwrap();
    let mut told = 0;
    let refused = loop {
        match store.add_event(&event(Stream::Order, &data)).and_then(|seq| store.commit().map(|_| seq)) {
            Ok(seq) => told = seq,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::Full);
    assert!(refused.passes());
    assert_eq!(store.put_device(&full_device()), Err(StoreError::Full), "until it is rolled back");
    store.rollback().unwrap();
    assert_eq!(store.streams().unwrap()[&Stream::Order].next, told + 1);
    let size = store.size().unwrap();
    assert!(size.file <= 512 << 10 && size.max == 512 << 10, "{size:?}");
    // Full stays full, and reading goes on.
    assert_eq!(store.add_event(&event(Stream::Order, &data)).and_then(|_| store.commit()), Err(StoreError::Full));
    store.rollback().unwrap();
    assert_eq!(store.events_from(Stream::Order, 1, 1000).unwrap().len() as u64, told);
    assert!(store.make_room().unwrap());
    store.commit().unwrap();
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), told + 1);
    store.commit().unwrap();
    while store.make_room().unwrap() && store.journal_after(0, 9).unwrap().len() > 1 {
        store.commit().unwrap();
    }
    store.close().unwrap();
    let ok = place.one::<String>("PRAGMA integrity_check");
    assert_eq!(ok, "ok");
}

#[test]
fn while_another_program_writes_the_turn_is_lost_and_not_the_agent() {
    let place = Place::new();
    let mut store = place.open();
    let outside = place.outside();
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.put_device(&full_device()).unwrap_err();
    assert_eq!(refused, StoreError::Busy);
    store.rollback().unwrap();
    outside.execute_batch("ROLLBACK").unwrap();
    store.put_device(&full_device()).unwrap();
    store.commit().unwrap();
}

#[test]
fn a_reader_that_stays_does_not_keep_the_store_from_closing() {
    let place = Place::new();
    let mut store = place.open();
    store.put_device(&full_device()).unwrap();
    store.commit().unwrap();
    let outside = place.outside();
    outside.execute_batch("BEGIN; SELECT count(*) FROM devices").unwrap();
    store.put_socket(&full_socket()).unwrap();
    store.close().unwrap();
    drop(outside);
    let store = place.open();
    assert!(!store.after_unclean_stop());
    assert_eq!(store.sockets().unwrap(), [full_socket()]);
}

// ---- opening ----------------------------------------------------------------------------------------------------

#[test]
fn a_store_goes_on_where_it_ended() {
    let place = Place::new();
    let mut store = place.open();
    assert_eq!((store.up_base(), store.after_unclean_stop()), (UpTime(0), false));
    assert_eq!((store.believed_wall().unwrap(), store.boot().unwrap()), (None, None));
    let instance = store.instance().to_owned();
    assert!(instance.len() == 12 && instance.bytes().all(|byte| byte.is_ascii_hexdigit()), "{instance}");
    store.set_up(UpTime(60_000)).unwrap();
    store.set_believed(WALL, UpTime(5_000)).unwrap();
    store.set_boot("5f1c").unwrap();
    store.close().unwrap();
    let store = place.open();
    assert_eq!((store.up_base(), store.after_unclean_stop()), (UpTime(60_001), false));
    assert_eq!((store.believed_wall().unwrap(), store.boot().unwrap()), (Some(WALL), Some("5f1c".into())));
    assert_eq!(store.believed().unwrap(), Some((WALL, UpTime(5_000))), "not the up-time that was noted later");
    assert_eq!(store.instance(), instance);
    assert_ne!(Place::new().open().instance(), instance);
}

#[test]
fn an_unclean_stop_is_noticed_once() {
    let place = Place::new();
    drop(place.open());
    let store = place.open();
    assert!(store.after_unclean_stop());
    store.close().unwrap();
    assert!(!place.open().after_unclean_stop());
}

#[test]
fn message_ids_are_never_used_again_over_reopenings() {
    let place = Place::new();
    let mut used = BTreeSet::new();
    for run in 0..4 {
        let mut store = place.open();
        for _ in 0..40_000 {
            let id = store.next_message_id();
            assert!(id != MessageId::DEVICE && used.insert(id), "{id} in run {run}");
        }
        store.set_up(UpTime(run)).unwrap();
        store.commit().unwrap();
        for _ in 0..40_000 {
            assert!(used.insert(store.next_message_id()), "in run {run}");
        }
        match run % 2 {
            0 => drop(store),
            _ => store.close().unwrap(),
        }
    }
}

#[test]
fn a_store_is_opened_by_one_at_a_time() {
    let place = Place::new();
    let store = place.open();
    let refused = place.try_open().unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    drop(store);
    assert!(place.path.with_extension("db.lock").exists(), "a lock file that was left behind");
    place.open();
}

#[test]
fn files_that_are_not_ours_are_refused_and_stay_as_they_are() {
    let foreign = Place::new();
    let program = foreign.outside();
    program.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE songs (title TEXT)").unwrap();
    drop(program);
    let marked = Place::new();
    marked.outside().execute_batch("PRAGMA application_id = 7; CREATE TABLE songs (title TEXT)").unwrap();
    let newer = Place::new();
    newer.open().close().unwrap();
    newer.outside().execute_batch("PRAGMA user_version = 99").unwrap();
    for (place, expected) in [
        (&foreign, "is an SQLite file of another program; give store.path another name"),
        (&marked, "is an SQLite file of another program; give store.path another name"),
        (&newer, "has version 99 and this program knows 2; install the newer program again"),
    ] {
        let before = std::fs::read(&place.path).unwrap();
        let refused = place.try_open().unwrap_err().to_string();
        assert_eq!(refused, format!("{} {expected}", place.path.display()));
        assert!(std::fs::read(&place.path).unwrap() == before, "{refused}: it was touched");
        assert!(!place.path.with_extension("db-wal").exists());
    }
}

#[test]
fn an_empty_file_becomes_a_store() {
    let place = Place::new();
    std::fs::write(&place.path, "").unwrap();
    place.open().close().unwrap();
    assert_eq!(place.one::<i32>("PRAGMA user_version"), 2);
    assert_eq!(place.one::<i32>("PRAGMA application_id"), 0x6368_6774);
    assert_eq!(place.one::<String>("PRAGMA journal_mode"), "wal");
}

#[test]
fn a_creation_that_was_cut_short_is_begun_anew() {
    let place = Place::new();
    let half = place.outside();
    // More pages than the cache holds, so that they reach the file before the commit.
    half.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE; CREATE TABLE a (b); CREATE TABLE c (d)").unwrap();
    half.execute("INSERT INTO a VALUES (zeroblob(100000))", []).unwrap();
    let copy = Place::new();
    std::fs::copy(&place.path, &copy.path).unwrap();
    std::fs::copy(place.path.with_extension("db-journal"), copy.path.with_extension("db-journal")).unwrap();
    assert!(copy.path.metadata().unwrap().len() > 0);
    copy.open().close().unwrap();
    assert_eq!(copy.one::<i32>("PRAGMA user_version"), 2);
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let place = Place::new();
    let path = place.path.with_file_name("nowhere").join("site.db");
    let refused = Store::open(&path, &Settings::default(), WALL).unwrap_err().to_string();
    assert!(refused.contains("nowhere/site.db") && refused.contains("No such file"), "{refused}");
}

#[test]
fn ten_thousand_closed_orders_do_not_slow_the_opening() {
    let place = Place::new();
    let mut store = place.open();
    for i in 0..10_000_u64 {
        let mut order = full_order();
        (order.order_no, order.port) = (no(&format!("{i:06}")), port_key((i % 200) as u8, 0));
        store.put_order(&mut order).unwrap();
        if i % 10 == 0 {
            store.add_journal(&frame(&[1; 60], FrameVerdict::Accepted)).unwrap();
        }
    }
    store.commit().unwrap();
    store.close().unwrap();
    // In pages read, which no load of the machine changes: 5,000 would be all of them.
    let before = read_bytes();
    let store = place.open();
    assert!(store.open_orders().unwrap().is_empty());
    let read = read_bytes() - before;
    assert!(read < 200_000, "{read} bytes were read");
    drop(store);
}

/// Bytes that this thread asked the kernel for, so far.
fn read_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

// ---- kills ------------------------------------------------------------------------------------------------------

const CHILD: &str = "CHARGEGATE_TEST_STORE";

/// Commits an order with its event, turn after turn, and says so after each commit, until it is killed.
#[test]
#[ignore = "the process that `a_kill_loses_nothing_that_was_said_to_be_durable` kills"]
fn child_that_commits_until_it_is_killed() {
    let path = std::env::var_os(CHILD).unwrap();
    let mut store = Store::open(Path::new(&path), &Settings::default(), WALL).unwrap();
    loop {
        let next = store.streams().unwrap()[&Stream::Order].next;
        let mut order = closed(&format!("{next}"), port_key(1, 0), 10);
        store.put_order(&mut order).unwrap();
        let data = json!({"order_no": order.order_no});
        let seq = store.add_event(&event(Stream::Order, &data)).unwrap();
        store.commit().unwrap();
        println!("committed {seq} {}", store.next_message_id().0);
    }
}

#[test]
fn a_kill_loses_nothing_that_was_said_to_be_durable() {
    let place = Place::new();
    let (mut said, mut ids) = (0_u64, BTreeSet::new());
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_commits_until_it_is_killed", "--ignored", "--nocapture"])
            .env(CHILD, &place.path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut commits = 0;
        for line in &mut lines {
            let line = line.unwrap();
            let Some(numbers) = line.strip_prefix("committed ") else { continue };
            let (seq, id) = numbers.split_once(' ').unwrap();
            said = seq.parse().unwrap();
            assert!(ids.insert(id.parse::<u32>().unwrap()), "message id {id} again in round {round}");
            commits += 1;
            if commits == 25 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(commits >= 25 * round);
        let store = place.open();
        assert!(store.after_unclean_stop());
        let kept = store.streams().unwrap()[&Stream::Order];
        assert!(kept.oldest == 1 && kept.next > said, "{kept:?} after {said}");
        let events = store.events_from(Stream::Order, 1, u32::MAX).unwrap();
        assert!(events.iter().map(|event| event.seq).eq(1..kept.next), "without gaps");
        assert!(events.iter().all(|event| event.intact && store.order_exists(&no(&event.seq.to_string())).unwrap()));
        assert_eq!(place.one::<String>("PRAGMA integrity_check"), "ok");
    }
}

#[test]
fn retention_is_what_the_settings_say() {
    let settings = Settings { retention: Duration::from_secs(60), ..Settings::default() };
    let place = Place { settings, ..Place::new() };
    let mut store = place.open();
    for text in ["old", "newest"] {
        store.put_order(&mut closed(text, port_key(1, 0), 1000)).unwrap();
    }
    assert_eq!(store.drop_old(UpTime(61_000)).unwrap().rows, 0);
    assert_eq!(store.drop_old(UpTime(61_001)).unwrap().rows, 1);
}
