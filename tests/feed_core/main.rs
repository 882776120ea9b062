//! The cloud feed (contract §6) without a network: the site on one side, a broker that does as the test says on the
//! other. Time is handed in; a crash drops the site with whatever was not committed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod commands;
mod confirm;
mod delivery;
mod refusals;
mod sessions;
mod taken_back;
mod telling;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use chargegate::bkv::{
    AsciiText, Carrier, Deframer, Direction, Downlink, EnergyUnits, Extras, Heartbeat, PortReading, SocketStatus,
    StatusByte, StatusReport, SwitchAnswer, SwitchOrder, UpTo, Uplink,
};
use chargegate::clock::{Now, UpTime, WallTime};
use chargegate::cloud::{
    CloudInput, CloudOutput, Message, Receipt, ReplyTo, Session, Settlement, Subject, Ticket, Trouble,
};
use chargegate::config::Config;
use chargegate::event::{ClockQuality, Stream};
use chargegate::ids::{BusinessNo, DeciVolts, DeciWatts, DeviceId, MessageId, MilliAmperes, Minutes, PortNo, SocketNo};
use chargegate::site::Site;
use chargegate::store::{NewEvent, Settings, Store};
use chargegate::trust::BUILT;
use chargegate::turn::{ClientId, ConnId, Core, Output};
use rusqlite::Connection;
use serde_json::{Value, json};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const BIG: usize = 1 << 20;

/// A site with a cloud, and the clock that it is told.
struct Yard {
    folder: tempfile::TempDir,
    config: Config,
    settings: Settings,
    now: u64,
    /// Up-time at which this run began, and when that was.
    base: (u64, u64),
    /// What the wall clock is off by, ms.
    wall_off: i64,
    site: Option<Site>,
    outputs: VecDeque<CloudOutput>,
    replies: Vec<Value>,
    /// What devices were sent.
    frames: Vec<(MessageId, Downlink)>,
    next_id: u64,
    next_receipt: u64,
}

impl Yard {
    fn new() -> Self {
        Self::with("")
    }

    /// With more configuration, keys with their whole names.
    fn with(more: &str) -> Self {
        let mut yard = Self::closed(more);
        yard.open();
        yard
    }

    fn closed(more: &str) -> Self {
        let text = format!("site.id = \"yard\"\nmqtt.url = \"mqtt://127.0.0.1:1883\"\n{more}");
        Self {
            // On a file system in memory where there is one: power cuts are not simulated here.
            folder: tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap(),
            config: Config::parse(&text).unwrap(),
            settings: Settings::default(),
            now: 0,
            base: (0, 0),
            wall_off: 0,
            site: None,
            outputs: VecDeque::new(),
            replies: Vec::new(),
            frames: Vec::new(),
            next_id: 0,
            next_receipt: 0,
        }
    }

    fn wall(&self) -> WallTime {
        WallTime(BUILT.0 + 86_400_000 + self.wall_off + i64::try_from(self.now).unwrap())
    }

    fn open_store(&self) -> Store {
        Store::open(&self.folder.path().join("store.db"), &self.settings, self.wall()).unwrap()
    }

    fn open(&mut self) {
        let store = self.open_store();
        self.base = (store.up_base().0, self.now);
        let now = self.at();
        self.site = Some(Site::open(self.config.clone(), store, now).unwrap());
        self.turn();
    }

    /// SIGKILL: what was not committed is gone, and so are outputs that were not carried out.
    fn crash(&mut self) {
        self.site = None;
        self.outputs.clear();
    }

    fn at(&self) -> Now {
        Now { up: UpTime(self.base.0 + self.now - self.base.1), wall: self.wall(), synchronized: false }
    }

    fn site(&mut self) -> &mut Site {
        self.site.as_mut().unwrap()
    }

    /// Turns of the loop until nothing is due, nothing waits for a commit and nothing is to be sent.
    fn turn(&mut self) {
        let now = self.at();
        for _ in 0..10_000 {
            self.site().timeout(now).unwrap();
            self.take_outputs();
            if !self.site().wants_commit() {
                return;
            }
            self.site().commit(now).unwrap();
            self.take_outputs();
        }
        panic!("the site never comes to rest");
    }

    fn take_outputs(&mut self) {
        let Self { site, outputs, replies, frames, .. } = self;
        let site = site.as_mut().unwrap();
        while let Some((output, bytes)) = site.outputs().next() {
            match output {
                Output::Reply(..) => replies.push(serde_json::from_slice(bytes).unwrap()),
                Output::Send(..) => {
                    let (mut deframer, mut input) = (Deframer::new(Direction::Down), bytes);
                    while let Some(Ok(frame)) = deframer.next(&mut input) {
                        frames.push((frame.message_id(), Downlink::decode(&frame).unwrap()));
                    }
                }
                Output::Close(_) => {}
            }
        }
        site.outputs().recycle();
        outputs.extend(std::iter::from_fn(|| site.take_cloud_output()));
    }

    /// Lets time pass, with a turn at each deadline.
    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            let deadline = self.site().next_deadline();
            let due = deadline.map_or(end, |due| due.0.saturating_sub(self.base.0) + self.base.1).max(self.now);
            self.now = due.min(end);
            self.turn();
            if self.now == end {
                return;
            }
        }
    }

    /// A command at the control socket; its reply, when there is one so far.
    fn command(&mut self, mut command: Value) -> Option<Value> {
        self.next_id += 1;
        command["id"] = format!("site-{}", self.next_id).into();
        let (line, now) = (command.to_string(), self.at());
        self.site().command(ClientId(1), line.as_bytes(), Some(0), now).unwrap();
        let before = self.replies.len();
        self.turn();
        self.replies.get(before).cloned()
    }

    /// One event on `event/device`.
    fn make_event(&mut self) {
        let enabled = self.next_id.is_multiple_of(2);
        self.command(json!({ "type": "set_device", "device": "82241218000001", "enabled": enabled }));
    }

    fn cloud(&mut self, input: CloudInput) {
        let now = self.at();
        self.site().cloud(input, now).unwrap();
        self.turn();
    }

    /// The site wants to connect now; the broker is there.
    fn connect(&mut self) -> Session {
        self.connect_to(32, BIG)
    }

    fn connect_to(&mut self, window: usize, largest: usize) -> Session {
        let session = self.expect_connect().0;
        self.cloud(CloudInput::Up { session, window, largest });
        session
    }

    fn expect_connect(&mut self) -> (Session, Value) {
        match self.outputs.pop_front() {
            Some(CloudOutput::Connect { session, will }) => (session, serde_json::from_slice(&will).unwrap()),
            other => panic!("a connect was expected, not {other:?}"),
        }
    }

    fn down(&mut self, session: Session) {
        self.cloud(CloudInput::Down { session, why: Trouble::Lost("cut".to_owned()) });
    }

    fn settled(&mut self, session: Session, ticket: Ticket, settlement: Settlement) {
        self.cloud(CloudInput::Settled { session, ticket, settlement });
    }

    /// Takes what was published, confirmed at once when it asks for that.
    fn received(&mut self) -> Vec<Message> {
        let mut got = Vec::new();
        while let Some(output) = self.outputs.pop_front() {
            if let CloudOutput::Publish { session, ticket, message } = output {
                let confirmed = message.confirmed;
                got.push(message);
                if confirmed {
                    self.settled(session, ticket, Settlement::Confirmed);
                }
            }
        }
        got
    }

    /// Takes what was published, and confirms nothing.
    fn published(&mut self) -> Vec<(Ticket, Message)> {
        let outputs = std::mem::take(&mut self.outputs);
        let publish = |output| match output {
            CloudOutput::Publish { ticket, message, .. } => Some((ticket, message)),
            _ => None,
        };
        outputs.into_iter().filter_map(publish).collect()
    }

    /// A message on `command`.
    fn cloud_command(&mut self, session: Session, command: &Value) -> Receipt {
        self.cloud_message(session, command.to_string().into_bytes(), None, None)
    }

    fn cloud_message(
        &mut self,
        session: Session,
        payload: Vec<u8>,
        expires_in: Option<Duration>,
        reply_to: Option<ReplyTo>,
    ) -> Receipt {
        let receipt = self.next_receipt();
        let (subject, payload, retained) = (Subject::Command, Ok(payload), false);
        self.cloud(CloudInput::Received { session, receipt, subject, payload, retained, expires_in, reply_to });
        receipt
    }

    fn next_receipt(&mut self) -> Receipt {
        self.next_receipt += 1;
        Receipt(self.next_receipt)
    }

    fn ack(&mut self, session: Session, stream: &str, instance: &str, upto: u64) {
        let payload = json!({ "stream": stream, "instance": instance, "upto": upto }).to_string().into_bytes();
        let receipt = self.next_receipt();
        let (subject, payload) = (Subject::Ack, Ok(payload));
        self.cloud(CloudInput::Received {
            session,
            receipt,
            subject,
            payload,
            retained: false,
            expires_in: None,
            reply_to: None,
        });
    }

    fn db(&self) -> Connection {
        Connection::open(self.folder.path().join("store.db")).unwrap()
    }

    fn count(&self, sql: &str) -> i64 {
        self.db().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Rows of the outbox, once what is confirmed has gone.
    fn waiting(&mut self) -> i64 {
        self.command(json!({ "type": "flush" }));
        self.count("SELECT count(*) FROM outbox")
    }

    fn instance(&self) -> String {
        self.db().query_row("SELECT value FROM meta WHERE key = 'instance'", [], |row| row.get(0)).unwrap()
    }

    fn alert(&self, rule: &str) -> Option<bool> {
        let sql = "SELECT cleared_at IS NULL FROM alerts WHERE rule = ?1 ORDER BY alert_id DESC LIMIT 1";
        self.db().query_row(sql, [rule], |row| row.get(0)).ok()
    }

    // ---- a device ---------------------------------------------------------------------------------------------

    fn say(&mut self, message_id: MessageId, message: &Uplink) {
        let bytes = message.encode(device(), message_id);
        let (mut deframer, mut input, now) = (Deframer::new(Direction::Up), &bytes[..], self.at());
        while let Some(Ok(frame)) = deframer.next(&mut input) {
            self.site().frame(ConnId(1), &frame, now).unwrap();
        }
        self.turn();
    }

    /// A device with an idle port A on socket 1.
    fn device_comes(&mut self) {
        let now = self.at();
        self.site().connected(ConnId(1), IpAddr::V4(Ipv4Addr::LOCALHOST), now);
        let (iccid, firmware) = (AsciiText::new("89860463112070319417"), AsciiText::new("V1.r46"));
        let heartbeat = Heartbeat { iccid: iccid.unwrap(), firmware: firmware.unwrap(), rssi: 20 };
        self.say(MessageId::DEVICE, &Uplink::Heartbeat(heartbeat));
        self.shows(0x80, 0, 0, 0);
        self.frames.clear();
    }

    fn shows(&mut self, raw: u8, number: u16, energy: u16, minutes: u32) {
        let reading = PortReading {
            port: PortNo::A,
            status: StatusByte(raw),
            business_no: BusinessNo::new(number),
            voltage: DeciVolts(2300),
            power: DeciWatts(1500),
            current: MilliAmperes(650),
            energy_units: EnergyUnits(energy),
            minutes: Minutes(minutes),
        };
        let status = SocketStatus {
            socket: SocketNo::new(1).unwrap(),
            firmware: 0xffff,
            temperature_c: 30,
            rssi: 30,
            ports: UpTo::from_slice(&[reading]).unwrap(),
            extras: Extras::default(),
        };
        self.say(MessageId::DEVICE, &Uplink::Status(StatusReport::of(status)));
    }

    /// Starts and stops that the device was sent.
    fn switches(&mut self) -> Vec<(MessageId, SwitchOrder)> {
        let frames = std::mem::take(&mut self.frames);
        let switch = |(id, message)| match message {
            Downlink::Switch(switch) => Some((id, switch.order)),
            _ => None,
        };
        frames.into_iter().filter_map(switch).collect()
    }

    fn answer(&mut self, message_id: MessageId, number: u16) {
        let answer = SwitchAnswer {
            carrier: Carrier::Control,
            to_tiers: false,
            result: true.into(),
            socket: SocketNo::new(1).unwrap(),
            port: PortNo::A,
            business_no: BusinessNo::new(number),
        };
        self.say(message_id, &Uplink::SwitchAnswer(answer));
    }
}

fn device() -> DeviceId {
    "82241218000382".parse().unwrap()
}

fn start(id: &str, more: Value) -> Value {
    let mut command = json!({ "id": id, "type": "start_charge", "device": device(), "socket": 1, "port": 0,
                              "mode": "time", "minutes": 60 });
    command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    command
}

/// Puts events of a stream into the outbox, as a site whose cloud was away would have.
fn fill(store: &mut Store, stream: Stream, count: u32) {
    for n in 0..count {
        let data = json!({ "n": n, "padding": "x".repeat(400) });
        let event = NewEvent {
            stream,
            kind: "order.completed",
            device: Some(device()),
            order_no: None,
            at: BUILT,
            up: UpTime(1),
            clock: ClockQuality::Restored,
            data: &data,
        };
        let seq = store.add_event(&event).unwrap();
        store.enqueue_event(stream, seq, BUILT).unwrap();
    }
    store.commit().unwrap();
}

fn body(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}

/// Topics behind the prefix and the site, with the number of an event.
fn names(messages: &[Message]) -> Vec<String> {
    let name = |message: &Message| {
        let topic = message.topic.strip_prefix("chargegate/yard/").unwrap_or(&message.topic);
        body(message)["seq"].as_u64().map_or_else(|| topic.to_owned(), |seq| format!("{topic} {seq}"))
    };
    messages.iter().map(name).collect()
}

/// Numbers of a stream as they came.
fn numbers(messages: &[Message], stream: &str) -> Vec<u64> {
    let topic = format!("chargegate/yard/event/{stream}");
    messages
        .iter()
        .filter(|message| message.topic == topic)
        .map(|message| body(message)["seq"].as_u64().unwrap())
        .collect()
}

/// What a receiver has: each stream's events by number.
#[derive(Default)]
struct Receiver {
    streams: BTreeMap<String, BTreeMap<u64, Value>>,
    messages: u64,
}

impl Receiver {
    /// None may be left out, and a repetition says the same under the same id.
    fn take(&mut self, message: &Message, context: &str) {
        self.messages += 1;
        let Some(stream) = message.topic.strip_prefix("chargegate/yard/event/") else { return };
        let (event, has) = (body(message), self.streams.entry(stream.to_owned()).or_default());
        let seq = event["seq"].as_u64().unwrap();
        let newest = has.last_key_value().map_or(0, |(seq, _)| *seq);
        assert!(seq <= newest + 1, "{context}: {stream} {seq} after {newest}");
        match has.get(&seq) {
            Some(before) => assert_eq!(*before, event, "{context}: {stream} {seq} came otherwise before"),
            None => drop(has.insert(seq, event)),
        }
    }
}
