//! Every type of event, from the real program, and each as it is described.

use std::collections::BTreeSet;

use chargegate::bkv::{
    Abnormal, AsciiText, CardNo, CardSwipe, Heartbeat, Key, Sequence, Setting, SettingValue, StatusByte, Uplink,
};
use chargegate::ids::{BusinessNo, PortNo};
use serde_json::{Value, json};

use crate::support::asyncapi::asyncapi;
use crate::support::{Agent, Device, FAST, IDLE, charging, end_of, id, socket, start, wait_for};

/// Told and described; what an agent told is checked by its type and topic when it goes.
#[test]
fn every_type_of_event_is_told_by_the_program_as_it_is_described() {
    let scenes = [closed_and_corrected, resumed, finalized, failed, cancelled, claimed, of_nobody, of_devices, alerted];
    let mut told = BTreeSet::new();
    for scene in scenes {
        let agent = scene();
        for (topic, event) in agent.told() {
            asyncapi().check(&topic, &event).unwrap_or_else(|why| panic!("{topic}: {why}\n{event}"));
            told.insert(event["type"].as_str().unwrap().to_owned());
        }
    }
    // It takes a broker that refuses a message.
    told.insert("event.unsendable".to_owned());
    let streams = ["order", "device", "alert", "abnormal"];
    let described = streams.iter().flat_map(|stream| asyncapi().messages_of(&format!("event_{stream}")));
    assert_eq!(told, described.collect());
}

fn has_told(agent: &Agent, stream: &str, kind: &str) {
    wait_for(kind, || agent.events(stream).iter().any(|told| told == kind).then_some(()));
}

fn closed_and_corrected() -> Agent {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 3, 0));
    device.status(IDLE);
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    has_told(&agent, "order", "order.closed");
    device.ends(0xb0, 26, 4, 1);
    has_told(&agent, "order", "order.corrected");
    device.run_order(&agent, 27, 7);
    device.ends(0xb0, 27, 14, 7);
    has_told(&agent, "order", "order.completed");
    agent
}

fn resumed() -> Agent {
    let agent = Agent::start(&format!("{FAST}offline_timeout = \"1s\"\n"));
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 1, 0));
    drop(device);
    has_told(&agent, "order", "order.closed");
    let mut device = Device::connect(&agent);
    let question = device.expect_question();
    device.answer_question(question, charging(26, 2, 0));
    has_told(&agent, "order", "order.resumed");
    agent
}

fn finalized() -> Agent {
    let agent = Agent::start(&format!("{FAST}offline_timeout = \"1s\"\nfinal_after = \"1s\"\n"));
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    drop(device);
    has_told(&agent, "order", "order.finalized");
    agent
}

fn failed() -> Agent {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let client = agent.begin(start(60));
    let message_id = device.expect_start();
    device.answer(message_id, false, 0);
    assert_eq!(client.reply()["error"]["code"], "refused_by_device");
    agent
}

fn cancelled() -> Agent {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let mut command = start(60);
    command["order_no"] = "A-1".into();
    let start = agent.begin(command);
    device.expect_start();
    let _stop = agent.begin(json!({ "type": "stop_charge", "order_no": "A-1" }));
    device.expect_stop();
    assert_eq!(start.reply()["error"]["code"], "cancelled");
    agent
}

fn claimed() -> Agent {
    let agent = Agent::start(FAST);
    let mut device = Device::connect(&agent);
    device.status(charging(500, 90, 30));
    let was = agent.order()["order_no"].clone();
    let claim = json!({ "type": "claim_order", "order_no": was, "new_order_no": "CLOUD-1", "mode": "time",
                        "minutes": 240 });
    assert_eq!(agent.command(claim)["result"], "done");
    agent
}

fn of_nobody() -> Agent {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.ends(0x98, 77, 5, 1);
    device.status(charging(888, 1, 1));
    let question = device.expect_question();
    device.answer_question(question, charging(888, 1, 1));
    device.expect_stop();
    agent
}

fn of_devices() -> Agent {
    let agent = Agent::start("[devices]\nmax_known = 1\n");
    let mut device = Device::idle(&agent);
    let firmware = AsciiText::new("v1.147").unwrap();
    let newer = Heartbeat { iccid: AsciiText::new("89860446112070301941").unwrap(), firmware, rssi: 28 };
    device.say(&Uplink::Heartbeat(newer));
    device.hear().unwrap();
    device.say(&Uplink::Abnormal(abnormal()));
    device.hear().unwrap();
    device.say(&Uplink::CardSwipe(swipe()));
    device.hear().unwrap();
    let mut stranger = Device::silent(&agent, "82241218000001".parse().unwrap());
    stranger.say(&end_of(0x98, 1, 0, 0));
    assert!(stranger.hear().is_none());
    for enabled in [false, true] {
        agent.command(json!({ "type": "set_device", "device": id(), "enabled": enabled }));
        agent.command(json!({ "type": "set_socket", "device": id(), "socket": 1, "enabled": enabled }));
    }
    drop(device);
    has_told(&agent, "device", "device.offline");
    agent
}

/// Every key that the protocol has for it, and one of a form that nobody knows.
fn abnormal() -> Abnormal {
    let byte = |key| Setting { key, value: SettingValue::U8(200) };
    let two = |key| Setting { key, value: SettingValue::U16(2510) };
    let bytes = [
        Key::SocketReason,
        Key::SocketState,
        Key::PortAReason,
        Key::PortAState,
        Key::PortBReason,
        Key::PortBState,
        Key::PortAOverTemperature,
        Key::PortBOverTemperature,
        Key::PortAStatus,
        Key::PortBStatus,
    ];
    let pairs = [Key::OverVoltage, Key::UnderVoltage, Key::PortALeakage, Key::PortBLeakage];
    let unknown = Setting { key: Key::from_code(0xee), value: SettingValue::Raw([1, 2, 3].into()) };
    let settings = bytes.into_iter().map(byte).chain(pairs.into_iter().map(two)).chain([unknown]);
    Abnormal { sequence: Sequence::MessageId, socket: socket(), settings: settings.collect() }
}

fn swipe() -> CardSwipe {
    CardSwipe {
        socket: socket(),
        port: PortNo::A,
        business_no: BusinessNo::new(6800),
        status: StatusByte(0x90),
        card_no: CardNo([0, 0, 0, 0, 2, 9]),
        reserved: [0; 20],
    }
}

fn alerted() -> Agent {
    let agent = Agent::start(&format!("{FAST}[alerts]\nstop_ignored = 1\nclear_after = \"1s\"\n"));
    let mut device = Device::idle(&agent);
    device.status(charging(888, 1, 1));
    let question = device.expect_question();
    device.answer_question(question, charging(888, 1, 1));
    let stop = device.expect_stop();
    device.answer(stop, false, 888);
    device.status(charging(888, 2, 1));
    let alert = wait_for("the alert", || agent.rows("SELECT alert_id FROM alerts").pop());
    agent.command(json!({ "type": "acknowledge", "alert_id": alert["alert_id"] }));
    device.status(IDLE);
    has_told(&agent, "alert", "alert.cleared");
    agent
}

/// Replies that carry data, and every way to be refused that needs no device: `support` checks each.
#[test]
fn every_reply_is_as_it_is_described() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let query = agent.begin(json!({ "type": "query_status", "device": id(), "socket": 1 }));
    let question = device.expect_question();
    device.answer_question(question, charging(26, 5, 1));
    assert_eq!(query.reply()["data"]["ports"][0]["energy_wh"], 5);
    assert_eq!(agent.command(json!({ "type": "get_order", "order_no": order_no }))["data"]["status"], "charging");
    let mut again = start(60);
    again["order_no"] = order_no.clone().into();
    let codes: Vec<Value> = [
        again,
        start(60),
        json!({ "type": "dance" }),
        json!({ "type": "get_order" }),
        json!({ "type": "get_order", "order_no": "none" }),
        json!({ "type": "remove_device", "device": id() }),
        json!({ "type": "set_socket", "device": "82241218000001", "socket": 1 }),
        json!({ "type": "query_status", "device": id(), "socket": 9 }),
        json!({ "type": "query_status", "device": id(), "socket": 1, "expires_at": "2020-01-01T00:00:00Z" }),
    ]
    .into_iter()
    .map(|command| agent.command(command)["error"]["code"].clone())
    .collect();
    let expected = json!([
        "duplicate_order_no",
        "port_busy",
        "unknown_type",
        "missing_field",
        "unknown_order",
        "order_open",
        "unknown_device",
        "unknown_port",
        "expired"
    ]);
    assert_eq!(Value::from(codes), expected);
    drop(device);
    has_told(&agent, "device", "device.offline");
    let owed = agent.command(json!({ "type": "stop_charge", "order_no": order_no }));
    assert_eq!((&owed["result"], &owed["data"]["stop_owed"]), (&json!("failed"), &json!(true)), "{owed}");
}
