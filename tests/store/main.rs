//! The store on real files: what is kept, what is refused, and what a full disk, a rollback or a kill leaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may end so")]

mod kills;
mod opening;
mod orders;
mod outbox;
mod records;
mod told;
mod turn;

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
