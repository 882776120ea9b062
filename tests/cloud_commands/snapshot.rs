//! `get_snapshot`: everything that is known, as of one moment.

use chargegate::clock::{UpTime, WallTime};
use chargegate::device::{Device as Unit, Socket};
use chargegate::ids::{
    BusinessNo, DeciVolts, DeciWatts, DeviceId, MilliAmperes, Minutes, OrderNo, PortKey, PortNo, SocketNo, WattHours,
};
use chargegate::order::{Order, OrderStatus, Plan, Source};
use chargegate::port::state::{Figures, Port, PortStatus};
use chargegate::store::Store;
use serde_json::{Value, json};

use crate::support::{Agent, Client, Device, FAST, IDLE, charging, id, wait_for};
use crate::{Turns, add_events, code, fill};

fn snapshot(agent: &Agent) -> Value {
    let reply = agent.command(json!({ "type": "get_snapshot" }));
    assert_eq!(reply["result"], "done", "{reply}");
    reply["data"].clone()
}

/// The values of one column.
fn column(rows: &Value, name: &str) -> Vec<Value> {
    rows.as_array().unwrap().iter().map(|row| row[name].clone()).collect()
}

#[test]
fn a_snapshot_tells_everything_by_the_names_of_the_tables_with_figures_that_are_not_flushed() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 7, 60);
    device.status(charging(7, 10, 1));
    agent.command(json!({ "type": "flush" }));
    device.status(charging(7, 12, 1));
    let data = snapshot(&agent);
    let unflushed = agent.rows_as_they_are("SELECT energy_wh FROM ports").pop().unwrap();
    assert_eq!(unflushed["energy_wh"], 10, "the newest figures are in memory alone");
    assert_eq!(column(&data["ports"], "energy_wh"), [12]);
    assert_eq!(column(&data["orders"], "energy_wh"), [12]);
    let order = agent.command(json!({ "type": "get_order", "order_no": order_no }))["data"].clone();
    assert_eq!(data["orders"], json!([order]));
    let asked = agent.begin(json!({ "type": "query_status", "device": id(), "socket": 1 }));
    let question = device.expect_question();
    device.answer_question(question, charging(7, 12, 1));
    let status = asked.reply()["data"].clone();
    for (list, one) in [(&data["sockets"][0], &status["socket"]), (&data["ports"][0], &status["ports"][0])] {
        let (mut list, mut one) = (list.clone(), one.clone());
        // It answered meanwhile.
        for seen in ["last_seen", "updated_at"] {
            (list[seen], one[seen]) = (Value::Null, Value::Null);
        }
        assert_eq!(list, one);
    }
    let columns = "device_id, device_model, firmware_version, iccid, rssi, status, online, note";
    let mut known = agent.rows(&format!("SELECT {columns} FROM devices")).pop().unwrap();
    known["last_seen"] = data["devices"][0]["last_seen"].clone();
    assert!(known["last_seen"].as_str().unwrap().ends_with('Z'));
    assert_eq!(data["devices"], json!([known]));
    assert_eq!(data["alerts"], json!([]));
}

#[test]
fn streams_say_up_to_where_the_snapshot_goes() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 7, 60);
    let data = snapshot(&agent);
    let next = |stream: &str| {
        let sql = format!("SELECT count(*) + 1 AS next FROM events WHERE stream = '{stream}'");
        agent.rows(&sql)[0]["next"].clone()
    };
    for stream in ["order", "device", "alert", "abnormal"] {
        assert_eq!(data["streams"][stream], json!({ "oldest": 1, "next": next(stream) }), "{stream}");
    }
    // The last event before `next` tells what the snapshot does.
    let last = agent.rows("SELECT data FROM events WHERE stream = 'order' ORDER BY seq DESC LIMIT 1").pop().unwrap();
    let told: Value = serde_json::from_str(last["data"].as_str().unwrap()).unwrap();
    assert_eq!((&told["status"], &told["revision"]), (&json!("charging"), &data["orders"][0]["revision"]));
    agent.end();
}

#[test]
fn orders_are_those_that_may_still_change_and_alerts_those_that_last() {
    let agent = Agent::start(&format!("{FAST}[alerts]\nstop_ignored = 1\n"));
    let mut device = Device::idle(&agent);
    let reported = device.run_order(&agent, 7, 60);
    device.ends(0x80, 7, 10, 1);
    device.status(IDLE);
    // Closed without a report: not final for a day.
    let missing = device.run_order(&agent, 8, 60);
    device.status(charging(8, 1, 1));
    device.status(IDLE);
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    wait_for("the close", || (agent.order()["status"] == 7).then_some(()));
    // A session of nobody that ignores its stop.
    device.status(charging(888, 1, 1));
    let question = device.expect_question();
    device.answer_question(question, charging(888, 1, 1));
    let message_id = device.expect_stop();
    device.answer(message_id, false, 888);
    device.status(charging(888, 2, 1));
    let alert = wait_for("the alert", || agent.rows("SELECT alert_id FROM alerts").pop());
    let data = snapshot(&agent);
    assert_eq!(column(&data["orders"], "order_no"), [missing.as_str()], "not {reported}");
    assert_eq!(data["orders"][0]["final"], json!(false));
    assert_eq!(column(&data["alerts"], "alert_id"), [alert["alert_id"].clone()]);
    assert_eq!(data["alerts"][0]["rule"], "stop_ignored");
}

#[test]
fn a_snapshot_of_one_device_tells_of_that_one_alone() {
    let agent = Agent::start(FAST);
    let other: DeviceId = "82241218000001".parse().unwrap();
    let (mut one, mut two) = (Device::idle(&agent), Device::connect_as(&agent, other));
    two.status(IDLE);
    let order_no = one.run_order(&agent, 7, 60);
    let of = |device: DeviceId| agent.command(json!({ "type": "get_snapshot", "device": device }))["data"].clone();
    let (first, second) = (of(id()), of(other));
    for list in ["devices", "sockets", "ports"] {
        assert_eq!(column(&first[list], "device_id"), [json!(id())], "{list}");
        assert_eq!(column(&second[list], "device_id"), [json!(other)], "{list}");
    }
    assert_eq!(column(&first["orders"], "order_no"), [order_no.as_str()]);
    assert_eq!(second["orders"], json!([]));
    assert_eq!(first["streams"], second["streams"]);
    let unknown = agent.command(json!({ "type": "get_snapshot", "device": "82241218000002" }));
    assert_eq!(code(&unknown), ("rejected", "unknown_device", Some("device")));
}

#[test]
fn a_repeated_snapshot_gets_the_first_reply_and_is_no_part_of_an_orders_story() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 7, 60);
    let ask = json!({ "id": "again", "type": "get_snapshot" });
    let first = agent.command(ask.clone());
    device.ends(0x80, 7, 10, 1);
    assert_eq!(agent.command(ask), first);
    assert_eq!(
        code(&agent.command(json!({ "id": "again", "type": "get_snapshot", "device": id() }))).1,
        "out_of_range"
    );
    let (_, story, _) = agent.cli(&["orders", "--explain", &order_no]);
    assert!(!story.contains("get_snapshot"), "{story}");
}

#[test]
fn a_full_disk_keeps_no_snapshot_back_and_it_tells_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    // Its text is longer than the room that is left in the pages of the file.
    let mut turns = Turns::open(&path, |store| {
        large_site(store, 20);
        add_events(store, 9);
    });
    let outside = rusqlite::Connection::open(&path).unwrap();
    let one = |sql| outside.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    outside.execute("INSERT INTO meta VALUES ('other', zeroblob(2000000))", []).unwrap();
    for id in ["first", "second"] {
        let ask = json!({ "id": id, "type": "get_snapshot" });
        let reply = turns.command(&ask).unwrap_or_else(|| turns.reply());
        assert_eq!((&reply["id"], &reply["result"]), (&json!(id), &json!("done")), "{reply}");
        let next = one("SELECT max(seq) + 1 FROM events WHERE stream = 'device'");
        assert_eq!(reply["data"]["streams"]["device"], json!({ "oldest": 1, "next": next }));
    }
    assert_eq!(one("SELECT count(*) FROM commands"), 0, "the disk was full");
}

/// A site of so many devices with one socket and two ports that charge.
fn large_site(store: &mut Store, devices: u32) {
    let at = (WallTime(1_790_000_000_000), UpTime(0));
    for number in 0..devices {
        let id: DeviceId = format!("8224{number:010}").parse().unwrap();
        let unit = Unit {
            model: Some("DC-10".into()),
            firmware: Some("v1.146".into()),
            iccid: Some("89860446112070301941".into()),
            rssi: Some(28),
            last_seen: Some(at.0),
            heard: Some(at.1),
            ..Unit::new(id)
        };
        store.put_device(&unit).unwrap();
        let no = SocketNo::new(1).unwrap();
        let socket = Socket { mac: Some("0102030405ff".into()), last_seen: Some(at.0), ..Socket::new(id, no) };
        store.put_socket(&socket).unwrap();
        for port in [PortNo::A, PortNo::B] {
            let key = PortKey { device: id, socket: no, port };
            store.put_port(&charging_port(key, at)).unwrap();
            let mut order = charging_order(key, at);
            store.put_order(&mut order).unwrap();
        }
    }
}

fn charging_port(key: PortKey, at: (WallTime, UpTime)) -> Port {
    let figures = Figures {
        voltage: DeciVolts(2285),
        power: DeciWatts(1200),
        current: MilliAmperes(525),
        energy: WattHours(321),
        minutes: Minutes(43),
    };
    let mut port = Port::unseen(key);
    (port.status, port.raw_status, port.business_no) = (PortStatus::Charging, Some(0xb0), BusinessNo::new(7));
    (port.figures, port.updated_at, port.updated_up) = (Some(figures), Some(at.0), Some(at.1));
    port
}

fn charging_order(key: PortKey, at: (WallTime, UpTime)) -> Order {
    let number = OrderNo::new(&format!("site-1-0123abcd-{}-{}", key.device, key.port)).unwrap();
    let mut order = Order::new(number, key, Source::Cloud, at);
    (order.status, order.business_no) = (OrderStatus::Charging, BusinessNo::new(7));
    (order.plan, order.start_time) = (Some(Plan::Time { minutes: 600 }), Some(at.0));
    (order.energy_wh, order.minutes) = (Some(WattHours(321)), Some(Minutes(43)));
    (order.started_by, order.figures_up) = (Some("app user 4711".to_owned()), Some(at.1));
    order
}

/// Kilobytes, by its name in `/proc/PID/status`.
fn kilobytes(agent: &Agent, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

#[test]
fn a_thousand_devices_that_charge_are_told_in_a_few_times_the_memory_of_the_text() {
    let mut agent = Agent::prepare("");
    fill(&agent, |store| large_site(store, 1000));
    agent.run();
    let before = kilobytes(&agent, "VmRSS:");
    let watch = chargegate::clock::Stopwatch::start();
    let reply = agent.command(json!({ "type": "get_snapshot" }));
    let took = watch.elapsed();
    let (text, peak) = (reply.to_string().len() as u64 / 1024, kilobytes(&agent, "VmHWM:") - before);
    println!("{text} KiB in {took:?}, at most {peak} KiB more than {before} KiB");
    let counts = ["devices", "sockets", "ports", "orders"].map(|list| reply["data"][list].as_array().unwrap().len());
    assert_eq!(counts, [1000, 1000, 2000, 2000]);
    assert!(peak < 6 * text, "{peak} KiB for {text} KiB");
    // Many at once are one after the other.
    let clients: Vec<Client> = (0..8).map(|_| agent.begin(json!({ "type": "get_snapshot" }))).collect();
    clients.iter().for_each(|client| assert_eq!(client.reply()["result"], "done"));
    let peak = kilobytes(&agent, "VmHWM:") - before;
    println!("{peak} KiB more for 8 of them");
    assert!(peak < 6 * 8 * text, "{peak} KiB for 8 times {text} KiB");
    // The reply by the command line is as long.
    let (ended, out, error) = agent.cli(&["command", r#"{"type":"get_snapshot"}"#]);
    assert_eq!((ended, error.as_str()), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["data"]["ports"].as_array().unwrap().len(), 2000);
    // What is kept for repetitions has a bound.
    let kept = agent.rows("SELECT sum(octet_length(reply)) AS bytes FROM commands WHERE type = 'get_snapshot'");
    assert!(kept[0]["bytes"].as_u64().unwrap() <= 1024 * text.max(4096), "{kept:?}");
}
