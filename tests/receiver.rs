//! `examples/receiver.rs` as a process on a real broker. The test is the site: it publishes what the agent would, and
//! hears what the receiver asks for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client, Event, MqttOptions};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use support::asyncapi::asyncapi;
use support::{needs, rows_of, wait_for};

const SITE: &str = "chargegate/site-1";
/// What only a failure waits for.
const DEADLINE: Duration = Duration::from_secs(20);
/// The stores of a site, one after the other.
const OLD: &str = "5d0c1f2e9a3b4c6d";
const NEW: &str = "00aa11bb22cc33dd";

/// A broker of its own, in a folder of its own; its messages survive it.
struct Broker {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Broker {
    fn start() -> Self {
        needs("mosquitto", "mosquitto");
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = folder.path().display();
        // As another user it could not write its file.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location {path}/\nmax_queued_messages 0\nlog_dest file {path}/log\nlog_type subscribe\n"
        );
        fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let child = Self::run(&folder, port);
        Self { folder, port, child }
    }

    fn run(folder: &tempfile::TempDir, port: u16) -> Child {
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(folder.path().join("mosquitto.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        wait_for("the broker", || TcpStream::connect(("127.0.0.1", port)).ok());
        child
    }

    /// Gone without a word, and back with nothing that it knew.
    fn forget_all(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = fs::remove_file(self.folder.path().join("mosquitto.db"));
        self.child = Self::run(&self.folder, self.port);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The agent's place: it publishes, and hears commands and acks.
struct Site {
    client: Client,
    heard: Receiver<(String, Value)>,
}

impl Site {
    fn connect(broker: &Broker) -> Self {
        let mut options = MqttOptions::new("site-1", "127.0.0.1", broker.port);
        options.set_max_packet_size(Some(1 << 20)).set_outgoing_inflight_upper_limit(512);
        let (client, mut connection) = Client::new(options, 1024);
        client.try_subscribe(format!("{SITE}/command"), QoS::AtLeastOnce).unwrap();
        client.try_subscribe(format!("{SITE}/ack"), QoS::AtLeastOnce).unwrap();
        let (sender, heard) = channel();
        let (subscribed, both) = channel();
        thread::spawn(move || {
            for event in connection.iter().map_while(Result::ok) {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => subscribed.send(()).unwrap(),
                    Event::Incoming(Packet::Publish(message)) => {
                        let topic = String::from_utf8(message.topic.to_vec()).unwrap();
                        let payload: Value = serde_json::from_slice(&message.payload).unwrap();
                        asyncapi().check(&topic, &payload).unwrap_or_else(|why| panic!("{topic}: {why}\n{payload}"));
                        let _ = sender.send((topic.rsplit('/').next().unwrap().to_owned(), payload));
                    }
                    _ => {}
                }
            }
        });
        both.recv_timeout(DEADLINE).unwrap();
        both.recv_timeout(DEADLINE).unwrap();
        Self { client, heard }
    }

    /// Only what the agent could say.
    fn say(&self, tail: &str, retain: bool, payload: &Value) {
        let topic = format!("{SITE}/{tail}");
        asyncapi().check(&topic, payload).unwrap_or_else(|why| panic!("{topic}: {why}\n{payload}"));
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload.to_string()).unwrap();
    }

    fn tell(&self, event: &Value) {
        let stream = event["id"].as_str().unwrap().split('/').nth(2).unwrap();
        self.say(&format!("event/{stream}"), false, event);
    }

    /// What is kept of the order stream; the others are empty.
    fn is_online(&self, instance: &str, oldest: u64, next: u64) {
        let none = json!({ "oldest": 1, "next": 1 });
        let state = json!({ "v": 1, "online": true, "session": 1, "since": "2026-01-31T12:00:00.000Z",
                            "version": "0.1.0", "instance": instance,
                            "streams": { "order": { "oldest": oldest, "next": next }, "device": none, "alert": none,
                                         "abnormal": none } });
        self.say("state", true, &state);
    }

    fn hears(&self) -> (String, Value) {
        self.heard.recv_timeout(DEADLINE).unwrap()
    }

    /// The gap that is asked for next.
    fn hears_ask(&self) -> (u64, u64) {
        let (topic, command) = self.hears();
        assert_eq!(
            (topic.as_str(), &command["type"], &command["stream"]),
            ("command", &json!("replay"), &json!("order"))
        );
        (command["from_seq"].as_u64().unwrap(), command["to_seq"].as_u64().unwrap())
    }

    /// Nothing was asked for: whatever the receiver took before has come with its question before.
    fn hears_nothing(&self) {
        assert_eq!(self.heard.try_recv().ok(), None);
    }
}

/// The example.
struct Process {
    child: Child,
    said: Receiver<String>,
    file: PathBuf,
}

impl Process {
    fn start(broker: &Broker, more: &[&str]) -> Self {
        let file = broker.folder.path().join("receiver.db");
        let address = format!("127.0.0.1:{}", broker.port);
        let mut command = Command::new(program());
        command.args(more).arg(address).arg(SITE).arg(&file).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, said) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        let process = Self { child, said, file };
        let subscribed = || fs::read_to_string(broker.folder.path().join("log")).unwrap().contains("site-1/event/+");
        wait_for("its subscription", || subscribed().then_some(()));
        process
    }

    fn rows(&self, sql: &str) -> Vec<Value> {
        let db = Connection::open_with_flags(&self.file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        db.busy_timeout(DEADLINE).unwrap();
        rows_of(&db, sql)
    }

    /// Waits until the events have come, and no more.
    fn has_events(&self, count: u64) {
        wait_for("the events", || {
            let found = self.rows("SELECT count(*) AS n FROM events")[0]["n"].as_u64().unwrap();
            (found == count).then_some(())
        });
    }

    /// Up to where the order stream of an instance is complete.
    fn is_complete_to(&self, instance: &str, seq: u64) {
        let sql = format!("SELECT done FROM streams WHERE instance = '{instance}' AND stream = 'order'");
        wait_for("completeness", || {
            let done = self.rows(&sql).pop()?["done"].as_u64()?;
            (done == seq).then_some(())
        });
    }

    fn order(&self, order_no: &str) -> Option<(u64, Value)> {
        let row = self.rows(&format!("SELECT revision, data FROM orders WHERE order_no = '{order_no}'")).pop()?;
        Some((row["revision"].as_u64()?, serde_json::from_str(row["data"].as_str()?).ok()?))
    }

    fn says(&self) -> String {
        self.said.recv_timeout(DEADLINE).unwrap()
    }

    fn has_said_all(&self) {
        assert_eq!(self.said.try_recv().ok(), None);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Beside this test. A whole `cargo test` builds it, one of this test alone does not.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/receiver");
    let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let source = changed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/receiver.rs"));
    assert!(changed(&program) >= source, "older than its source: cargo build --example receiver");
    program
}

fn event(instance: &str, seq: u64, kind: &str, data: Value) -> Value {
    let mut event = asyncapi().examples("order.completed").remove(0);
    event["id"] = format!("site-1/{instance}/order/{seq}").into();
    event["instance"] = instance.into();
    event["seq"] = seq.into();
    event["type"] = kind.into();
    event["data"] = data;
    event
}

fn reported(order_no: &str, energy_wh: u64) -> Value {
    let mut order = asyncapi().examples("order.completed").remove(0)["data"].take();
    order["order_no"] = order_no.into();
    order["energy_wh"] = energy_wh.into();
    order["energy_max_wh"] = energy_wh.into();
    order
}

/// With these columns changed.
fn with(mut order: Value, changes: Value) -> Value {
    order.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    order
}

fn started(order_no: &str) -> Value {
    let open = json!({ "status": "charging", "end_time": null, "end_reason": null, "settlement": null, "final": false,
                       "energy_wh": null, "energy_max_wh": null, "minutes": null, "minutes_max": null,
                       "raw_status": null, "raw_reason": null });
    with(reported(order_no, 0), open)
}

fn provisional(order_no: &str) -> Value {
    let changes = json!({ "settlement": "provisional", "end_reason": "offline", "final": false, "energy_wh": 5,
                          "verdict": "never_received", "raw_status": null, "raw_reason": null });
    with(reported(order_no, 500), changes)
}

#[test]
fn events_are_kept_once_and_settled_orders_printed_once() {
    let broker = Broker::start();
    let (site, receiver) = (Site::connect(&broker), Process::start(&broker, &[]));
    site.is_online(OLD, 1, 1);
    let first = event(OLD, 1, "order.started", started("A-1"));
    let second = event(OLD, 2, "order.completed", reported("A-1", 412));
    for event in [&first, &first, &second, &first, &second, &second] {
        site.tell(event);
    }
    receiver.is_complete_to(OLD, 2);
    assert_eq!(receiver.says(), "settled \"A-1\" revision 1 energy_wh 412");
    site.tell(&event(OLD, 3, "order.completed", reported("A-2", 7)));
    assert_eq!(receiver.says(), "settled \"A-2\" revision 1 energy_wh 7");
    receiver.has_events(3);
    assert_eq!(receiver.order("A-1").unwrap(), (1, second["data"].clone()));
    let kept = receiver.rows("SELECT event FROM events WHERE seq = 2").remove(0);
    assert_eq!(serde_json::from_str::<Value>(kept["event"].as_str().unwrap()).unwrap(), second);
    site.hears_nothing();
    receiver.has_said_all();
}

#[test]
fn a_gap_is_asked_for_once_and_filled() {
    let broker = Broker::start();
    let (site, receiver) = (Site::connect(&broker), Process::start(&broker, &[]));
    site.is_online(OLD, 1, 1);
    let events: Vec<Value> =
        (1..=9).map(|seq| event(OLD, seq, "order.started", started(&format!("A-{seq}")))).collect();
    for place in [0, 1, 4, 5, 8] {
        site.tell(&events[place]);
    }
    assert_eq!((site.hears_ask(), site.hears_ask()), ((3, 4), (7, 8)));
    receiver.is_complete_to(OLD, 2);
    for place in [2, 3, 6] {
        site.tell(&events[place]);
    }
    receiver.is_complete_to(OLD, 7);
    site.tell(&events[7]);
    receiver.is_complete_to(OLD, 9);
    site.tell(&event(OLD, 10, "order.started", started("A-10")));
    receiver.is_complete_to(OLD, 10);
    site.hears_nothing();
}

#[test]
fn the_highest_revision_wins_and_then_the_highest_seq() {
    let broker = Broker::start();
    let (site, receiver) = (Site::connect(&broker), Process::start(&broker, &[]));
    site.is_online(OLD, 1, 1);
    let closed = event(OLD, 2, "order.closed", provisional("A-1"));
    let corrected = with(reported("A-1", 30), json!({ "settlement": "corrected", "revision": 2 }));
    let corrected = event(OLD, 3, "order.corrected", corrected);
    let again = with(corrected["data"].clone(), json!({ "energy_wh": 31, "energy_max_wh": 31, "revision": 3 }));
    for event in [
        event(OLD, 4, "order.corrected", again.clone()),
        corrected,
        closed,
        event(OLD, 1, "order.started", started("A-1")),
        event(OLD, 5, "order.completed", reported("A-2", 2)),
    ] {
        site.tell(&event);
    }
    receiver.is_complete_to(OLD, 5);
    assert_eq!(receiver.order("A-1").unwrap(), (3, again));
    // What came late is no news, and is not printed.
    assert_eq!(receiver.says(), "settled \"A-1\" revision 3 energy_wh 31");
    assert_eq!(receiver.says(), "settled \"A-2\" revision 1 energy_wh 2");
    receiver.has_said_all();
    // Within a revision, too.
    site.tell(&event(OLD, 7, "order.completed", reported("A-3", 3)));
    site.tell(&event(OLD, 6, "order.started", started("A-3")));
    receiver.is_complete_to(OLD, 7);
    assert_eq!(receiver.order("A-3").unwrap().1["status"], "completed");
}

#[test]
fn an_order_that_is_closed_provisionally_is_not_settled_yet() {
    let broker = Broker::start();
    let (site, receiver) = (Site::connect(&broker), Process::start(&broker, &[]));
    site.is_online(OLD, 1, 1);
    site.tell(&event(OLD, 1, "order.closed", provisional("A-1")));
    let finalized = with(provisional("A-1"), json!({ "final": true, "revision": 2 }));
    site.tell(&event(OLD, 2, "order.finalized", finalized));
    assert_eq!(receiver.says(), "settled \"A-1\" revision 2 energy_wh 5");
    receiver.has_said_all();
}

#[test]
fn a_claimed_order_stands_under_its_new_number_alone() {
    let broker = Broker::start();
    let (site, receiver) = (Site::connect(&broker), Process::start(&broker, &[]));
    site.is_online(OLD, 1, 1);
    let adopted = with(started("made-up-1"), json!({ "source": "adopted", "plan": null, "mode": null }));
    let claimed = with(adopted.clone(), json!({ "order_no": "CLOUD-1", "was_order_no": "made-up-1" }));
    let first = event(OLD, 1, "order.adopted", adopted.clone());
    site.tell(&event(OLD, 3, "order.claimed", claimed));
    assert_eq!(site.hears_ask(), (1, 2));
    site.tell(&first);
    site.tell(&event(OLD, 2, "order.resumed", with(adopted, json!({ "revision": 9 }))));
    receiver.is_complete_to(OLD, 3);
    assert_eq!(receiver.order("made-up-1"), None, "what comes late under the old number is older");
    assert!(receiver.order("CLOUD-1").is_some());
    // In their order.
    let adopted = with(started("made-up-2"), json!({ "source": "adopted", "plan": null, "mode": null }));
    let claimed = with(adopted.clone(), json!({ "order_no": "CLOUD-2", "was_order_no": "made-up-2" }));
    site.tell(&event(OLD, 4, "order.adopted", adopted));
    site.tell(&event(OLD, 5, "order.claimed", claimed));
    receiver.is_complete_to(OLD, 5);
    assert!(receiver.order("made-up-2").is_none() && receiver.order("CLOUD-2").is_some());
}

#[test]
fn a_new_store_begins_anew_and_its_orders_are_newer() {
    let broker = Broker::start();
    let (site, receiver) = (Site::connect(&broker), Process::start(&broker, &[]));
    site.is_online(OLD, 1, 1);
    site.tell(&event(OLD, 1, "order.started", started("A-1")));
    site.tell(&event(OLD, 4, "order.started", started("A-2")));
    assert_eq!(site.hears_ask(), (2, 3));
    site.is_online(NEW, 1, 1);
    site.tell(&event(NEW, 1, "order.completed", reported("A-2", 77)));
    receiver.is_complete_to(NEW, 1);
    receiver.has_events(3);
    assert_eq!(receiver.says(), "settled \"A-2\" revision 1 energy_wh 77", "though its seq is lower");
    // Late from the old one, with a gap before it: nobody can fill that any more.
    site.tell(&event(OLD, 6, "order.started", started("A-2")));
    site.tell(&event(NEW, 3, "order.started", started("A-3")));
    assert_eq!(site.hears_ask(), (2, 2), "of the new store");
    receiver.has_events(5);
    assert_eq!(receiver.order("A-2").unwrap().1["energy_wh"], 77);
    receiver.is_complete_to(OLD, 1);
}

#[test]
fn only_what_is_complete_is_acknowledged() {
    let broker = Broker::start();
    let (site, receiver) = (Site::connect(&broker), Process::start(&broker, &["--ack"]));
    site.is_online(OLD, 1, 1);
    let upto = |seq: u64| ("ack".to_owned(), json!({ "stream": "order", "instance": OLD, "upto": seq }));
    site.tell(&event(OLD, 1, "order.started", started("A-1")));
    assert_eq!(site.hears(), upto(1));
    site.tell(&event(OLD, 3, "order.started", started("A-3")));
    assert_eq!(site.hears_ask(), (2, 2));
    assert_eq!(site.hears(), upto(1));
    site.tell(&event(OLD, 2, "order.started", started("A-2")));
    assert_eq!(site.hears(), upto(3));
    let device = asyncapi().examples("device.online").remove(0);
    site.tell(&device);
    let missing = site.hears();
    assert_eq!((&missing.1["stream"], &missing.1["to_seq"]), (&json!("device"), &json!(7)));
    site.tell(&event(OLD, 3, "order.started", started("A-3")));
    assert_eq!(site.hears(), upto(3), "a repetition says that the ack was lost");
    receiver.has_events(4);
}

#[test]
fn a_receiver_that_was_killed_goes_on_where_it_was() {
    let broker = Broker::start();
    let site = Site::connect(&broker);
    site.is_online(OLD, 1, 1);
    let receiver = Process::start(&broker, &[]);
    site.tell(&event(OLD, 1, "order.started", started("A-1")));
    receiver.is_complete_to(OLD, 1);
    drop(receiver);
    // The broker keeps these for it.
    site.tell(&event(OLD, 2, "order.completed", reported("A-1", 412)));
    site.tell(&event(OLD, 4, "order.started", started("A-2")));
    let receiver = Process::start(&broker, &[]);
    assert_eq!(receiver.says(), "settled \"A-1\" revision 1 energy_wh 412");
    assert_eq!(site.hears_ask(), (3, 3));
    receiver.has_events(3);
}

#[test]
fn after_a_broker_that_lost_everything_the_state_tells_what_is_missing() {
    let mut broker = Broker::start();
    let site = Site::connect(&broker);
    site.is_online(OLD, 1, 1);
    let receiver = Process::start(&broker, &[]);
    site.tell(&event(OLD, 1, "order.started", started("A-1")));
    receiver.is_complete_to(OLD, 1);
    broker.forget_all();
    let site = Site::connect(&broker);
    // Of what was told meanwhile, some is not even kept by the site any more.
    site.is_online(OLD, 3, 6);
    assert_eq!(site.hears_ask(), (3, 5));
    for seq in 3..=5 {
        site.tell(&event(OLD, seq, "order.started", started(&format!("A-{seq}"))));
    }
    receiver.is_complete_to(OLD, 5);
    receiver.has_events(4);
}

#[test]
fn what_is_no_message_of_the_feed_does_no_harm() {
    let broker = Broker::start();
    let (site, receiver) = (Site::connect(&broker), Process::start(&broker, &[]));
    site.is_online(OLD, 1, 1);
    for (tail, junk) in [("event/order", "junk"), ("event/order", "{}"), ("state", "[1]"), ("event/order", "")] {
        site.client.publish(format!("{SITE}/{tail}"), QoS::AtLeastOnce, false, junk).unwrap();
    }
    site.tell(&event(OLD, 1, "order.completed", reported("A-1", 1)));
    assert_eq!(receiver.says(), "settled \"A-1\" revision 1 energy_wh 1");
    assert_eq!(receiver.said.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout), "it runs on");
}
