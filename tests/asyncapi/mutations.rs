//! The description can fail: a message that is changed is none any more.

use serde_json::{Value, json};

use crate::support::asyncapi::asyncapi;

/// The topic of a channel, the message and its examples, commands and their many forms aside.
fn examples() -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (channel, topic) in asyncapi().topics() {
        for message in asyncapi().messages_of(&channel) {
            for mut example in asyncapi().examples(&message) {
                if message == "event.unsendable" {
                    example["id"] =
                        example["id"].as_str().unwrap().replace("order", topic.rsplit('/').next().unwrap()).into();
                }
                all.push((topic.clone(), message.clone(), example));
            }
        }
    }
    all
}

#[test]
fn every_example_is_a_message_of_its_topic() {
    for (topic, message, example) in examples() {
        asyncapi().check(&topic, &example).unwrap_or_else(|why| panic!("{message} on {topic}: {why}"));
    }
    for (channel, topic) in asyncapi().topics() {
        let has_example = examples().iter().any(|(at, _, _)| *at == topic);
        assert!(has_example, "{channel} has no example");
    }
}

#[test]
fn a_message_with_a_field_missing_or_too_many_is_none() {
    for (topic, message, example) in examples() {
        let mut more = example.clone();
        more["surprise"] = json!(1);
        assert!(asyncapi().check(&topic, &more).is_err(), "{message} with one more");
        for name in required_of(&topic, &example) {
            let mut less = example.clone();
            less.as_object_mut().unwrap().remove(&name);
            assert!(asyncapi().check(&topic, &less).is_err(), "{message} without {name}");
        }
    }
}

/// Of a command or a reply, what all of them have; of others all.
fn required_of(topic: &str, example: &Value) -> Vec<String> {
    if topic.ends_with("/command") {
        return vec!["id".to_owned(), "type".to_owned()];
    }
    if topic.ends_with("/reply") {
        return vec!["v".to_owned(), "id".to_owned(), "result".to_owned()];
    }
    example.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn every_field_of_an_order_is_needed_and_typed() {
    let topic = "chargegate/site-1/event/order";
    let event = asyncapi().examples("order.completed").remove(0);
    assert_eq!(event["data"].as_object().unwrap().len(), 33);
    for name in event["data"].as_object().unwrap().keys() {
        let mut less = event.clone();
        less["data"].as_object_mut().unwrap().remove(name);
        assert!(asyncapi().check(topic, &less).is_err(), "without {name}");
        let mut wrong = event.clone();
        wrong["data"][name] = json!({ "wrong": true });
        assert!(asyncapi().check(topic, &wrong).is_err(), "{name} is an object");
    }
}

#[test]
fn a_word_a_number_or_a_time_that_cannot_be_is_refused() {
    let rows = [
        ("event/order", "order.completed", "/type", json!("order.exploded")),
        ("event/order", "order.completed", "/v", json!(2)),
        ("event/order", "order.completed", "/seq", json!(0)),
        ("event/order", "order.completed", "/seq", json!("41")),
        ("event/order", "order.completed", "/seq", json!(42)),
        ("event/order", "order.completed", "/instance", json!("ffffffffffffffff")),
        ("event/order", "order.completed", "/site", json!("site-2")),
        ("event/order", "order.completed", "/clock", json!("good")),
        ("event/order", "order.completed", "/time", json!("2026-01-31T14:00:02.120+08:00")),
        ("event/order", "order.completed", "/time", json!("2026-01-31 14:00:02Z")),
        ("event/order", "order.completed", "/time", json!(1_769_868_002_120_i64)),
        ("event/order", "order.completed", "/device", json!("8224121800038")),
        ("event/order", "order.completed", "/device", json!("82241218000383")),
        ("event/order", "order.completed", "/data/status", json!(7)),
        ("event/order", "order.completed", "/data/status", json!("done")),
        ("event/order", "order.completed", "/data/status", json!("charging")),
        ("event/order", "order.completed", "/data/final", json!(1)),
        ("event/order", "order.completed", "/data/final", json!(false)),
        ("event/order", "order.completed", "/data/settlement", json!("provisional")),
        ("event/order", "order.completed", "/data/end_reason", json!("bored")),
        ("event/order", "order.completed", "/data/end_time", json!(null)),
        ("event/order", "order.completed", "/data/energy_wh", json!(-1)),
        ("event/order", "order.completed", "/data/energy_wh", json!(1.5)),
        ("event/order", "order.completed", "/data/plan", json!({ "mode": "time" })),
        ("event/order", "order.completed", "/data/plan", json!("{\"mode\":\"time\",\"minutes\":120}")),
        ("event/order", "order.completed", "/data/tiers", json!([{ "minutes": 1 }])),
        ("event/order", "order.completed", "/data/flags", json!("[]")),
        ("event/order", "order.completed", "/data/flags", json!(["odd"])),
        ("event/order", "order.completed", "/data/port", json!(7)),
        ("event/order", "order.completed", "/data/socket", json!(251)),
        ("event/order", "order.completed", "/data/was_order_no", json!("A-1")),
        ("event/alert", "alert.raised", "/data/rule", json!("strange")),
        ("event/alert", "alert.raised", "/data/severity", json!("info")),
        ("event/alert", "alert.raised", "/data/cleared_at", json!("2026-01-31T14:00:02.120Z")),
        ("event/alert", "alert.raised", "/data/details", json!("{}")),
        ("event/abnormal", "abnormal.reported", "/data/port_a_reason", json!(256)),
        ("event/abnormal", "abnormal.reported", "/data/other", json!(null)),
        ("event/device", "device.online", "/device", json!(null)),
        ("state", "state", "/session", json!(0)),
        ("state", "state", "/online", json!("yes")),
        ("state", "state", "/streams/order", json!({ "oldest": 1 })),
        ("state", "state", "/streams/orders", json!({ "oldest": 1, "next": 2 })),
        ("progress", "progress", "/power_w", json!("214 W")),
        ("summary", "summary", "/hour/compliance_rate", json!(99.5)),
        ("summary", "summary", "/day/store_commit_ms_p99", json!(-1)),
        ("ack", "ack", "/stream", json!("orders")),
        ("ack", "ack", "/upto", json!(0)),
    ];
    for (tail, message, pointer, value) in rows {
        let mut example = asyncapi().examples(message).remove(0);
        put(&mut example, pointer, value.clone());
        let topic = format!("chargegate/site-1/{tail}");
        assert!(asyncapi().check(&topic, &example).is_err(), "{message} with {pointer} {value}");
    }
}

fn put(message: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    message.pointer_mut(parent).unwrap()[name] = value;
}

#[test]
fn a_topic_that_nobody_knows_has_no_messages() {
    let state = asyncapi().examples("state").remove(0);
    asyncapi().check("a/b/site-1/state", &state).unwrap();
    for topic in
        ["chargegate/site-1/states", "chargegate/site-1/event/orders", "state", "/site-1/state", "chargegate//state"]
    {
        assert!(asyncapi().check(topic, &state).is_err(), "{topic}");
    }
    let event = asyncapi().examples("order.completed").remove(0);
    assert!(asyncapi().check("chargegate/site-1/event/device", &event).is_err());
    assert!(asyncapi().check("chargegate/site-2/event/order", &event).is_err());
}

#[test]
fn a_reply_answers_its_command() {
    let order = asyncapi().examples("reply.order").remove(0);
    asyncapi().check_reply("get_order", &order).unwrap();
    for other in ["stop_charge", "replay", "get_snapshot", "query_status"] {
        assert!(asyncapi().check_reply(other, &order).is_err(), "{other}");
    }
    let not_done = asyncapi().examples("reply.not_done");
    for (pointer, value) in [
        ("/result", json!("done")),
        ("/error/code", json!("weird")),
        ("/error/message", json!(null)),
        ("/data", json!({ "stop_owed": false })),
        ("/data", json!({})),
    ] {
        for mut reply in not_done.clone() {
            put(&mut reply, pointer, value.clone());
            assert!(asyncapi().check_reply("start_charge", &reply).is_err(), "{pointer} {value}");
        }
    }
}
