//! Simulated devices behave as docs/bkv.md says that real ones do, and each fault shows what its name says.
//!
//! The devices are pure: a platform of a few lines stands at the other end, on a clock of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use chargegate::bkv::{
    CalendarTime, Carrier, Deframer, Direction, Downlink, EndAck, EndKind, EndReport, Extras, FeeEndAck, FeeTier,
    Frame, HeartbeatReply, PowerTier, QueryStatus, ResultByte, Sequence, ServiceFeeBy, StartByFee, StartByTiers,
    StatusAck, Switch, SwitchOrder, UpTo, Uplink,
};
use chargegate::config::Config;
use chargegate::ids::{Cents, DeciWatts, DeviceId, MessageId, Minutes, PortNo, SocketNo, WattHours};
use chargegate::sim::fleet::device_id;
use chargegate::sim::{Device, Fault, Truth};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const START: MessageId = MessageId(7);

/// A device and the platform at the other end of its link.
struct Line {
    device: Device,
    now: u64,
    connected: bool,
    connections: u32,
    /// What the device said, with the time.
    said: Vec<(u64, MessageId, Uplink)>,
    deframer: Deframer,
    broken: u32,
    acknowledges_ends: bool,
    answers_heartbeats: bool,
}

impl Line {
    fn new(fault: Option<Fault>) -> Self {
        Self::of(Device::new(id(), 1, fault, 3, 0))
    }

    fn of(device: Device) -> Self {
        Self {
            device,
            now: 0,
            connected: false,
            connections: 0,
            said: Vec::new(),
            deframer: Deframer::new(Direction::Up),
            broken: 0,
            acknowledges_ends: true,
            answers_heartbeats: true,
        }
    }

    /// Lets `span` pass.
    fn run(&mut self, span: u64) {
        let end = self.now + span;
        while self.now < end {
            self.step();
            let next = self.device.next_deadline(self.now);
            assert!(next > self.now, "a device that acted has nothing due: {:?}", self.device.fault());
            self.now = next.min(end);
        }
        self.step();
    }

    fn step(&mut self) {
        if !self.connected && self.device.wants_connection(self.now) {
            self.connected = true;
            self.connections += 1;
            self.deframer = Deframer::new(Direction::Up);
            self.device.connected(self.now);
        }
        self.device.tick(self.now);
        loop {
            let bytes = self.device.take_output();
            if self.connected && self.device.wants_disconnect() {
                self.connected = false;
                self.device.disconnected(self.now);
                return;
            }
            if bytes.is_empty() {
                return;
            }
            self.hear(&bytes);
        }
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        let mut heard = Vec::new();
        while let Some(found) = self.deframer.next(&mut bytes) {
            match found {
                Ok(frame) => heard.push((frame.message_id(), Uplink::decode(&frame).unwrap())),
                Err(_) => self.broken += 1,
            }
        }
        for (message_id, message) in heard {
            self.answer(&message, message_id);
            self.said.push((self.now, message_id, message));
        }
    }

    fn answer(&mut self, message: &Uplink, message_id: MessageId) {
        let time = CalendarTime { year: 2026, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
        let answer = match message {
            Uplink::Heartbeat(_) if self.answers_heartbeats => Downlink::HeartbeatReply(HeartbeatReply { time }),
            Uplink::Status(_) => Downlink::StatusAck(StatusAck::new(Sequence::MessageId, ResultByte::OK)),
            Uplink::FeeEnd(end) if self.acknowledges_ends => Downlink::FeeEndAck(FeeEndAck::new(
                Sequence::MessageId,
                ResultByte::OK,
                end.socket.get(),
                end.port.get(),
            )),
            end if end.end_report().is_some() && self.acknowledges_ends => Downlink::EndAck(EndAck::ok(socket())),
            _ => return,
        };
        self.send(&answer, message_id);
    }

    fn send(&mut self, message: &Downlink, message_id: MessageId) {
        let bytes = message.encode(id(), message_id);
        self.device.received(&bytes, self.now);
    }

    fn start(&mut self, order: SwitchOrder) {
        self.send(&Downlink::Switch(Switch { socket: socket(), port: PortNo::A, order }), START);
    }

    /// Connected, and quiet after the first reports.
    fn ready(fault: Option<Fault>) -> Self {
        let mut line = Self::new(fault);
        line.run(10 * SECOND);
        line.said.clear();
        line
    }

    /// In the middle of a session of so many minutes.
    fn charging(fault: Option<Fault>, minutes: u32) -> Self {
        let mut line = Self::ready(fault);
        line.device.batteries = (2000, 3000);
        line.start(SwitchOrder::Time(Minutes(minutes)));
        line
    }

    fn truth(&self) -> Truth {
        self.device.truth().next().unwrap().2
    }

    fn times_of(&self, is: impl Fn(&Uplink) -> bool) -> Vec<u64> {
        self.said.iter().filter(|(.., message)| is(message)).map(|(at, ..)| *at).collect()
    }

    fn ends(&self) -> Vec<u64> {
        self.times_of(|message| message.end_report().is_some())
    }

    /// The first one.
    fn end_report(&self) -> EndReport {
        self.said.iter().find_map(|(.., message)| message.end_report()).unwrap()
    }

    fn statuses(&self) -> Vec<u64> {
        self.times_of(|message| matches!(message, Uplink::Status(_)))
    }

    fn answers(&self) -> Vec<(u64, bool)> {
        let answer = |(at, message_id, message): &(u64, MessageId, Uplink)| {
            message.start_answer().filter(|_| *message_id == START).map(|answer| (*at, answer.ok))
        };
        self.said.iter().filter_map(answer).collect()
    }
}

fn id() -> DeviceId {
    "82241218000001".parse().unwrap()
}

fn socket() -> SocketNo {
    SocketNo::new(1).unwrap()
}

#[test]
fn a_session_by_time_ends_when_its_minutes_are_over_and_its_report_is_right() {
    let mut line = Line::charging(None, 7);
    line.run(6 * MINUTE);
    assert!(line.truth().charges && line.ends().is_empty());
    line.run(2 * MINUTE);
    let end = line.end_report();
    let truth = line.truth();
    assert_eq!((end.minutes, truth.minutes), (Minutes(7), Minutes(7)));
    assert_eq!(u32::from(end.energy_units.0), truth.energy.0);
    assert_eq!(end.business_no, truth.number);
    assert_eq!((truth.charges, truth.ends, truth.acknowledged), (false, 1, 1));
}

#[test]
fn a_session_by_energy_ends_when_it_was_delivered() {
    let mut line = Line::ready(None);
    line.device.batteries = (2000, 3000);
    line.start(SwitchOrder::Energy(WattHours(5)));
    line.run(20 * MINUTE);
    assert_eq!((line.truth().charges, line.truth().energy), (false, WattHours(5)));
}

#[test]
fn a_session_by_tiers_ends_when_its_amount_is_used_up_in_the_tier_of_its_power() {
    let mut line = Line::ready(None);
    line.device.batteries = (2000, 3000);
    // A battery draws 60–300 W: only the third tier can be its own. 60 cents an hour, 12 cents: 12 minutes.
    let tier = |limit, price| PowerTier { limit: DeciWatts(limit), price: Cents(price), minutes: Minutes(60) };
    let tiers = UpTo::from_slice(&[tier(100, 10), tier(500, 20), tier(4000, 60)]).unwrap();
    let (carrier, port, amount) = (Carrier::Network, PortNo::A, Cents(12));
    line.send(&Downlink::StartByTiers(StartByTiers { carrier, socket: socket(), port, amount, tiers }), START);
    line.run(11 * MINUTE);
    assert!(line.answers()[0].1 && line.truth().charges);
    line.run(3 * MINUTE);
    let end = line.end_report();
    let tier_minutes: Vec<u32> = end.tiers.iter().map(|tier| tier.minutes.0).collect();
    assert_eq!((end.kind, end.amount, end.minutes), (EndKind::Tiers, Some(amount), Minutes(12)));
    assert_eq!(tier_minutes, [0, 0, 12]);
    assert_eq!(line.truth().acknowledged, 1);
}

#[test]
fn a_session_by_fee_ends_when_its_amount_is_used_up_and_splits_what_it_spent() {
    let mut line = Line::ready(None);
    line.device.batteries = (2000, 3000);
    let tier = FeeTier { until_hour: 23, until_minute: 59, electricity: Cents(700), service: Cents(300) };
    let start = StartByFee {
        sequence: Sequence::MessageId,
        socket: socket(),
        port: PortNo::A,
        amount: Cents(9),
        service_fee_by: ServiceFeeBy::Energy,
        tiers: UpTo::from_slice(&[tier]).unwrap(),
        extras: Extras::default(),
    };
    line.send(&Downlink::StartByFee(start), START);
    line.run(20 * MINUTE);
    let end = line.end_report();
    assert!(line.answers()[0].1);
    // A cent a Wh.
    assert_eq!((end.kind, end.amount, end.energy_units.0), (EndKind::Fee, Some(Cents(9)), 9));
    assert_eq!(end.electricity_fee.unwrap() + end.service_fee.unwrap(), Cents(9));
    assert_eq!((line.truth().charges, line.truth().acknowledged), (false, 1));
}

#[test]
fn some_devices_answer_a_query_with_a_status_report() {
    let with_report = |seed| {
        let mut line = Line::of(Device::new(id(), 1, None, seed, 0));
        line.run(10 * SECOND);
        line.said.clear();
        line.send(&Downlink::QueryStatus(QueryStatus { socket: socket() }), MessageId(9));
        line.run(SECOND);
        line.said.iter().any(|(_, message_id, message)| {
            assert!(message.socket_statuses().next().is_some());
            *message_id == MessageId::DEVICE
        })
    };
    let reports = (0..100).filter(|seed| with_report(*seed)).count();
    assert!((10..50).contains(&reports), "{reports}");
}

#[test]
fn the_first_heartbeat_comes_twice_within_50_ms_now_and_then() {
    let twice = |seed| {
        let mut line = Line::of(Device::new(id(), 1, None, seed, 0));
        line.run(10 * SECOND);
        let heartbeats = line.times_of(|message| matches!(message, Uplink::Heartbeat(_)));
        assert!(matches!(heartbeats.len(), 1 | 2) && heartbeats.iter().all(|at| *at <= heartbeats[0] + 50));
        heartbeats.len() == 2
    };
    let count = (0..200).filter(|seed| twice(*seed)).count();
    assert!((5..80).contains(&count), "{count}");
}

#[test]
fn an_abnormal_event_is_told_at_once() {
    let mut line = Line::ready(None);
    let now = line.now;
    line.device.report_abnormal(socket(), now);
    line.run(SECOND);
    assert_eq!(line.times_of(|message| matches!(message, Uplink::Abnormal(_))), [now]);
}

#[test]
fn five_thousand_devices_differ_in_id_and_sim_card() {
    let mut known = BTreeSet::new();
    for place in 0..5000 {
        let mut device = Device::new(device_id(place).unwrap(), 1, None, 1, 0);
        device.connected(0);
        let bytes = device.take_output();
        let Ok(Uplink::Heartbeat(heartbeat)) = Uplink::decode(&Frame::parse(&bytes).unwrap()) else {
            panic!("the first words of a device are a heartbeat")
        };
        assert!(known.insert(device.id().to_string()) && known.insert(heartbeat.iccid.to_string()), "{place}");
    }
}

#[test]
fn a_full_battery_ends_its_session_with_no_load() {
    let mut line = Line::ready(None);
    line.device.batteries = (5, 6);
    line.start(SwitchOrder::Time(Minutes(900)));
    line.run(60 * MINUTE);
    assert!(line.end_report().status.no_load());
}

#[test]
fn statuses_come_on_change_and_every_five_minutes() {
    let mut line = Line::charging(None, 60);
    line.run(30 * SECOND);
    let first = line.statuses();
    assert!(first.len() >= 2, "just on, then with load: {first:?}");
    line.run(16 * MINUTE);
    let later: Vec<u64> = line.statuses().split_off(first.len());
    assert_eq!(later.len(), 3);
    assert!(later.windows(2).all(|pair| pair[1] - pair[0] == 5 * MINUTE), "{later:?}");
}

#[test]
fn an_unacknowledged_end_is_repeated_three_times_then_the_link_is_closed_and_it_starts_over() {
    let mut line = Line::charging(None, 1);
    line.acknowledges_ends = false;
    line.run(MINUTE + 40 * SECOND);
    let ends = line.ends();
    assert_eq!(ends.len(), 4, "once, and three times more");
    assert!(ends.windows(2).all(|pair| pair[1] - pair[0] == 11 * SECOND), "{ends:?}");
    assert_eq!(line.connections, 1);
    line.run(30 * SECOND);
    assert_eq!(line.connections, 2);
    assert!(line.said.iter().any(|(.., message)| matches!(message, Uplink::Reconnected(_))));
    assert!(line.ends().len() > 4, "it starts over");
}

#[test]
fn a_heartbeat_without_a_reply_costs_the_link_after_a_minute() {
    let mut line = Line::new(None);
    line.answers_heartbeats = false;
    line.run(55 * SECOND);
    assert!(line.connected);
    line.run(10 * SECOND);
    assert_eq!(line.connections, 1);
    assert!(!line.connected);
}

#[test]
fn a_query_is_answered_and_a_stop_ends_the_session() {
    let mut line = Line::charging(None, 60);
    line.run(3 * MINUTE);
    line.said.clear();
    line.send(&Downlink::QueryStatus(QueryStatus { socket: socket() }), MessageId(9));
    line.run(SECOND);
    assert!(line.said.iter().any(|(.., message)| message.socket_statuses().next().is_some()));
    line.start(SwitchOrder::Off);
    line.run(2 * SECOND);
    assert!(!line.truth().charges);
    assert_eq!(line.ends().len(), 1);
}

#[test]
fn a_second_start_is_refused_while_one_charges() {
    let mut line = Line::charging(None, 60);
    line.run(SECOND);
    line.start(SwitchOrder::Time(Minutes(5)));
    line.run(SECOND);
    assert_eq!(line.answers().iter().map(|(_, ok)| *ok).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn the_same_seed_gives_the_same_device() {
    let said = || {
        let mut line = Line::charging(Some(Fault::Garbage), 10);
        line.run(20 * MINUTE);
        (line.said, line.broken)
    };
    assert_eq!(said(), said());
}

#[test]
fn each_fault_shows_what_its_name_says() {
    for fault in Fault::ALL {
        let mut line = Line::charging(Some(*fault), 12);
        line.run(5 * SECOND);
        let answered = line.answers();
        line.run(7 * MINUTE);
        let statuses = line.statuses().len();
        let connected_midway = line.connected;
        line.start(SwitchOrder::Off);
        line.run(MINUTE);
        let stopped = !line.truth().charges;
        line.run(90 * MINUTE);
        let truth = line.truth();
        match fault {
            Fault::NoEnd => assert_eq!((truth.ends, line.ends().len()), (0, 0)),
            Fault::NoStatus => assert_eq!(statuses, 0),
            Fault::Refuse => assert_eq!(answered.first().map(|(_, ok)| *ok), Some(false)),
            Fault::NoAnswer => assert_eq!((answered.len(), truth.number), (0, None)),
            Fault::LateAnswer => {
                assert!(answered.is_empty() && !line.answers().is_empty());
            }
            Fault::LostAck => assert!(truth.acknowledged == 0 && line.connections > 2),
            Fault::Garbage => assert!(line.broken > 0),
            // Half a heartbeat gets no reply, which costs the link.
            Fault::HalfFrame => assert!(line.broken > 0 || line.connections > 1),
            Fault::Silent => {
                let gap = line.said.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
                assert!(gap > Some(2 * MINUTE), "{gap:?}");
            }
            Fault::Drop => assert!(!connected_midway || line.connections > 1),
            Fault::Deaf => assert!(!stopped, "a stop is ignored"),
            // Needs two sessions: a test of its own.
            Fault::OldNumber => {}
        }
    }
}

#[test]
fn an_old_number_is_shown_from_the_second_session_on() {
    let mut line = Line::charging(Some(Fault::OldNumber), 1);
    line.run(3 * MINUTE);
    let first = line.truth().number;
    line.start(SwitchOrder::Time(Minutes(30)));
    line.said.clear();
    line.run(6 * MINUTE);
    let shown: Vec<_> = line
        .said
        .iter()
        .flat_map(|(.., message)| message.socket_statuses())
        .filter_map(|status| status.port(PortNo::A))
        .filter(|reading| reading.status.charging())
        .map(|reading| reading.business_no)
        .collect();
    assert!(!shown.is_empty() && shown.iter().all(|number| *number == first), "{shown:?}");
    assert_ne!(line.truth().number, first);
}

/// Runs a demo of 18 devices, 3 of them faulty, that keeps its store in the folder; gives what it shows.
fn demo(seconds: &str, kept: &Path, more: &[&str]) -> String {
    let kept = kept.to_str().unwrap();
    let arguments = ["demo", "--seconds", seconds, "--speed", "120", "--devices", "18", "--keep", kept];
    let (code, shown, complaints) = chargegate(&[&arguments, more].concat());
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{shown}");
    shown
}

fn chargegate(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_chargegate")).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The orders of a kept store, by the command that the demo prints.
fn kept_orders(kept: &Path) -> Vec<serde_json::Value> {
    let config = kept.join("chargegate.toml");
    let (code, orders, _) = chargegate(&["--config", config.to_str().unwrap(), "orders", "--json"]);
    assert_eq!(code, Some(0));
    serde_json::from_str(&orders).unwrap()
}

#[test]
fn the_demo_ends_with_a_summary_in_which_honest_orders_are_completed_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let shown = demo("10", &kept, &[]);
    assert!(shown.contains("18 orders; of 15 at honest devices 15 are completed and reported"), "{shown}");
    for line in ["refuse       failed start_refused", "no-end       completed end_report_missing"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let orders = kept_orders(&kept);
    let reported = orders.iter().filter(|order| order["settlement"] == "reported").count();
    assert_eq!((orders.len(), reported >= 15), (18, true));
    let mut files: Vec<_> = kept.read_dir().unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["chargegate.db", "chargegate.db.lock", "chargegate.toml"], "closed cleanly");
}

#[test]
fn a_demo_in_the_folder_of_an_earlier_one_goes_on_from_there_and_sums_up_its_own_orders() {
    let folder = tempfile::tempdir().unwrap();
    // A broker that does not answer keeps nothing from being shown.
    for (round, broker) in [(1, &[][..]), (2, &["--mqtt", "mqtt://127.0.0.1:1"])] {
        let shown = demo("5", folder.path(), broker);
        assert!(shown.contains("18 orders; of 15 at honest devices"), "{shown}");
        let orders = kept_orders(folder.path());
        let flagged = orders.iter().find(|order| order["flags"].as_array().is_none_or(|flags| !flags.is_empty()));
        assert_eq!((orders.len(), flagged), (18 * round, None));
    }
    let config = Config::load(&folder.path().join("chargegate.toml")).unwrap();
    assert_eq!(config.mqtt.url.unwrap().to_string(), "mqtt://127.0.0.1:1");
}
