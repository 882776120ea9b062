//! Starts: how each is judged, what goes out byte by byte, and what becomes of it.

use chargegate::ids::PortNo;
use serde_json::{Value, json};

use crate::bytes::{framed, hex};
use crate::code;
use crate::support::{Agent, Client, Device, FAST, IDLE, Shows, charging, id, start, wait_for};

const ID: &str = "82241218000382";

fn with(mut command: Value, more: &Value) -> Value {
    command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    command
}

fn at(more: &Value) -> Value {
    with(json!({ "type": "start_charge", "device": ID, "socket": 1, "port": 0 }), more)
}

#[test]
fn each_mode_has_its_bytes_on_the_wire() {
    let agent = Agent::start("[[models]]\ndevice_model = \"N\"\ntiers_command = \"0005\"\n");
    let mut device = Device::idle(&agent);
    let tiers = json!([{ "power_w": 200, "price_cents": 25, "minutes": 60 },
                       { "power_w": 400.5, "price_cents": 50, "minutes": 60 }]);
    let by_tiers = at(&json!({ "mode": "tiers", "amount_cents": 100, "tiers": tiers }));
    let tiers_data = "001217010001006402".to_owned() + "07d00019003c" + "0fa50032003c";
    let fee = json!([{ "until": "08:00", "electricity_cents": 30, "service_cents": 10 },
                     { "until": "23:59", "electricity_cents": 50, "service_cents": 20 }]);
    let rows = [
        (at(&json!({ "mode": "time", "minutes": 240 })), 0x0015, "0008070100010100f00000".to_owned()),
        (at(&json!({ "mode": "energy", "energy_wh": 1500 })), 0x0015, "00080701000100000005dc".to_owned()),
        (by_tiers.clone(), 0x0015, tiers_data.clone()),
        (
            at(&json!({ "mode": "fee", "amount_cents": 100, "service_fee_by": "energy", "tiers": fee })),
            0x1000,
            "040101 1007 0a0102 00000000MESSAGID 090103 82241218000382 03014a01 03010800 03011301 03011204 03014701 \
             0301f402 04018800 64 03018001 03018902 0e0183 0800001e000a 173b00320014"
                .to_owned(),
        ),
        (by_tiers, 0x0005, tiers_data),
    ];
    for (place, (command, carrier, data)) in rows.into_iter().enumerate() {
        if carrier == 0x0005 {
            agent.command(json!({ "type": "set_device", "device": ID, "device_model": "N" }));
        }
        let client = agent.begin(command);
        let (message_id, _) = device.hear().unwrap();
        let data = data.replace("MESSAGID", &message_id.to_string());
        let expected = framed(carrier, ID, message_id.0, &crate::bytes::unhex(&data));
        assert_eq!(hex(&device.last), hex(&expected));
        let number = 100 + u16::try_from(place).unwrap();
        device.answer(message_id, true, number);
        assert_eq!(code(&client.reply()).0, "done");
        device.ends(0x98, number, 0, 0);
    }
}

#[test]
fn a_stop_has_its_bytes_on_the_wire() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let _client = agent.begin(json!({ "type": "stop_charge", "order_no": order_no }));
    let stop = device.expect_stop();
    let data = [0, 8, 7, 1, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(hex(&device.last), hex(&framed(0x0015, ID, stop.0, &data)));
}

/// The same command with one thing less wrong each time: the first reason is the one that is told.
#[test]
fn a_start_is_judged_in_the_order_of_the_contract() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let known = device.run_order(&agent, 26, 60);
    let elsewhere = "82241218000999";
    let rejected = |command: &Value, expected: (&str, Option<&str>)| {
        let reply = agent.command(command.clone());
        assert_eq!(code(&reply), ("rejected", expected.0, expected.1), "{command} {reply}");
    };
    let mut command = at(&json!({
        "device": elsewhere, "socket": 9, "port": 1, "mode": "time", "minutes": 0, "order_no": known,
        "expires_at": "2020-01-01T00:00:00Z", "colour": "red",
    }));
    rejected(&command, ("out_of_range", Some("colour")));
    command.as_object_mut().unwrap().remove("colour");
    rejected(&command, ("expired", Some("expires_at")));
    command["expires_at"] = "2099-01-01T00:00:00Z".into();
    rejected(&command, ("duplicate_order_no", Some("order_no")));
    command["order_no"] = "fresh".into();
    rejected(&command, ("unknown_device", Some("device")));
    agent.command(json!({ "type": "set_device", "device": elsewhere, "enabled": false }));
    rejected(&command, ("device_offline", Some("device")));
    let mut other = Device::connect_as(&agent, elsewhere.parse().unwrap());
    rejected(&command, ("device_disabled", Some("device")));
    agent.command(json!({ "type": "set_device", "device": elsewhere, "enabled": true }));
    rejected(&command, ("unknown_port", Some("socket")));
    other.status(Shows { raw: 0xc0, ..IDLE });
    command["socket"] = 1.into();
    rejected(&command, ("unknown_port", Some("port")));
    command["port"] = 0.into();
    rejected(&command, ("port_fault", Some("port")));
    other.status(charging(9, 1, 1));
    rejected(&command, ("port_busy", Some("port")));
    other.status(Shows { raw: 0, ..IDLE });
    rejected(&command, ("device_offline", Some("socket")));
    other.ends(0xb0, 9, 1, 1);
    other.status(IDLE);
    rejected(&command, ("out_of_range", Some("minutes")));
    command["minutes"] = 900.into();
    let _client = agent.begin(command);
    let sent = other.expect_start();
    other.answer(sent, true, 10);
    other.heartbeat();
}

#[test]
fn what_is_wrong_in_a_command_is_named_with_its_field() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let time = json!({ "mode": "time", "minutes": 7 });
    let tier = json!({ "power_w": 200, "price_cents": 25, "minutes": 60 });
    let last = json!({ "until": "23:59", "electricity_cents": 1, "service_cents": 1 });
    let tiers = |tiers: Value| at(&json!({ "mode": "tiers", "amount_cents": 9, "tiers": tiers }));
    let fee = |tiers: Value| at(&json!({ "mode": "fee", "amount_cents": 9, "service_fee_by": "time", "tiers": tiers }));
    let long: String = "x".repeat(65);
    let rows = [
        (json!({ "type": "start_charge" }), "missing_field", "device"),
        (json!({ "type": "start_charge", "device": ID }), "missing_field", "socket"),
        (json!({ "type": "start_charge", "device": ID, "socket": 1 }), "missing_field", "port"),
        (at(&json!({})), "missing_field", "mode"),
        (at(&json!({ "mode": "time" })), "missing_field", "minutes"),
        (at(&json!({ "mode": "energy" })), "missing_field", "energy_wh"),
        (at(&json!({ "mode": "tiers", "amount_cents": 9 })), "missing_field", "tiers"),
        (at(&json!({ "mode": "fee", "amount_cents": 9, "tiers": [last] })), "missing_field", "service_fee_by"),
        (with(at(&time), &json!({ "device": 82_241_218_000_382_u64 })), "out_of_range", "device"),
        (with(at(&time), &json!({ "device": "8224" })), "out_of_range", "device"),
        (with(at(&time), &json!({ "socket": 251 })), "out_of_range", "socket"),
        (with(at(&time), &json!({ "socket": -1 })), "out_of_range", "socket"),
        (with(at(&time), &json!({ "port": 2 })), "out_of_range", "port"),
        (with(at(&time), &json!({ "port": "0" })), "out_of_range", "port"),
        (with(at(&time), &json!({ "order_no": "" })), "out_of_range", "order_no"),
        (with(at(&time), &json!({ "order_no": long })), "out_of_range", "order_no"),
        (with(at(&time), &json!({ "order_no": "a\tb" })), "out_of_range", "order_no"),
        (with(at(&time), &json!({ "minutes": 7.5 })), "out_of_range", "minutes"),
        (with(at(&time), &json!({ "minutes": null })), "out_of_range", "minutes"),
        (with(at(&time), &json!({ "minutes": 0 })), "out_of_range", "minutes"),
        (with(at(&time), &json!({ "minutes": 901 })), "out_of_range", "minutes"),
        (with(at(&time), &json!({ "amount_cents": 1 })), "out_of_range", "amount_cents"),
        (with(at(&time), &json!({ "expires_at": 5 })), "out_of_range", "expires_at"),
        (with(at(&time), &json!({ "expires_at": "2020-01-01" })), "out_of_range", "expires_at"),
        (with(at(&time), &json!({ "expires_at": "2020-01-01T00:00:00Z" })), "expired", "expires_at"),
        (with(at(&time), &json!({ "actor": 5 })), "out_of_range", "actor"),
        (at(&json!({ "mode": "energy", "energy_wh": 0 })), "out_of_range", "energy_wh"),
        (at(&json!({ "mode": "energy", "energy_wh": 65536 })), "out_of_range", "energy_wh"),
        (with(tiers(json!([tier])), &json!({ "amount_cents": 0 })), "out_of_range", "amount_cents"),
        (with(tiers(json!([tier])), &json!({ "amount_cents": 65536 })), "out_of_range", "amount_cents"),
        (tiers(json!([])), "out_of_range", "tiers"),
        (tiers(json!([tier, tier])), "out_of_range", "tiers"),
        (tiers(json!([tier, tier, tier, tier, tier, tier])), "out_of_range", "tiers"),
        (tiers(json!([{ "power_w": 200, "price_cents": 25 }])), "out_of_range", "tiers"),
        (tiers(json!({ "power_w": 200 })), "out_of_range", "tiers"),
        (fee(json!([{ "until": "12:00", "electricity_cents": 1, "service_cents": 1 }])), "out_of_range", "tiers"),
        (fee(json!([last, last])), "out_of_range", "tiers"),
        (with(fee(json!([last])), &json!({ "service_fee_by": "weight" })), "out_of_range", "service_fee_by"),
        (json!({ "type": "stop_charge", "order_no": 5 }), "out_of_range", "order_no"),
        (json!({ "type": "stop_charge", "order_no": "none" }), "unknown_order", "order_no"),
        (json!({ "type": "stop_charge", "device": ID, "port": 0 }), "missing_field", "socket"),
        (
            json!({ "type": "stop_charge", "device": "82241218000001", "socket": 1, "port": 0 }),
            "unknown_device",
            "device",
        ),
        (json!({ "type": "stop_charge", "device": ID, "socket": 2, "port": 0 }), "unknown_port", "socket"),
        (json!({ "type": "stop_charge", "device": ID, "socket": 1, "port": 1 }), "unknown_port", "port"),
        (json!({ "type": "query_status", "device": "82241218000001", "socket": 1 }), "unknown_device", "device"),
        (json!({ "type": "query_status", "device": ID, "socket": 2 }), "unknown_port", "socket"),
        (json!({ "type": "set_device", "device": ID, "enabled": "yes" }), "out_of_range", "enabled"),
        (json!({ "type": "set_socket", "device": ID, "socket": 1, "mac": "12" }), "out_of_range", "mac"),
        (json!({ "type": "set_socket", "device": "82241218000001", "socket": 1 }), "unknown_device", "device"),
        (json!({ "type": 5 }), "out_of_range", "type"),
        (json!({ "no_type": 5 }), "missing_field", "type"),
    ];
    for (command, expected, field) in rows {
        let reply = agent.command(command.clone());
        assert_eq!(code(&reply), ("rejected", expected, Some(field)), "{command} {reply}");
        assert!(reply["error"]["message"].is_string() && reply["v"] == 1, "{reply}");
    }
    let mut client = Client::connect(&agent);
    for line in ["{", "[]", "7", "\"x\"", "{\"id\":\"a\"} {", "nonsense", "\u{1}"] {
        client.send(line.as_bytes());
        let reply = client.reply();
        assert_eq!((code(&reply), &reply["id"]), (("rejected", "invalid_json", None), &Value::Null), "{line}");
    }
    client.send(b"{\"type\":\"get_order\",\"order_no\":\"x\"}");
    let reply = client.reply();
    assert_eq!((code(&reply), &reply["id"]), (("rejected", "missing_field", Some("id")), &Value::Null));
    // Nothing of all that reached the device.
    device.heartbeat();
    assert_eq!(agent.rows("SELECT count(*) AS n FROM orders")[0]["n"], 0);
}

#[test]
fn a_refused_start_is_final_costs_nothing_and_leaves_the_port_free() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let client = agent.begin(with(start(60), &json!({ "order_no": "R-1", "actor": "app" })));
    let sent = device.expect_start();
    device.answer(sent, false, 0);
    let reply = client.reply();
    assert_eq!((code(&reply), &reply["order_no"]), (("failed", "refused_by_device", None), &json!("R-1")));
    let order = agent.command(json!({ "type": "get_order", "order_no": "R-1" }));
    let expected = json!({
        "order_no": "R-1", "device": ID, "socket": 1, "port": 0, "status": "failed", "end_reason": "start_refused",
        "settlement": "estimated", "final": true, "revision": 1, "energy_max_wh": 0, "minutes_max": 0,
        "energy_wh": null, "minutes": null, "start_time": null, "mode": "time", "started_by": "app", "source": "site",
        "plan": { "mode": "time", "minutes": 60 }, "verdict": null, "flags": [],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(order["data"][name], *value, "{name}");
    }
    assert_eq!(agent.events("order"), ["order.failed"]);
    device.run_order(&agent, 27, 60);
}

#[test]
fn a_status_report_may_answer_the_question_after_a_start_and_one_that_was_not_asked_for_proves_nothing() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let client = agent.begin(start(60));
    device.expect_start();
    device.status(charging(26, 0, 0));
    assert!(client.waits());
    assert_eq!(agent.order()["status"], 0, "no ok: nobody had asked");
    device.expect_question();
    device.status(charging(26, 0, 0));
    assert_eq!(code(&client.reply()).0, "done");
    let order = agent.order();
    assert_eq!((&order["status"], &order["business_no"]), (&json!(2), &json!(26)));
}

#[test]
fn no_repetition_goes_out_past_expires_at_and_the_start_has_failed() {
    let agent = Agent::start("[orders]\nanswer_timeout = \"2s\"\n");
    let mut device = Device::idle(&agent);
    let soon = chargegate::clock::Clock::start(chargegate::clock::UpTime(0)).now().wall.0 + 1_500;
    let soon = chargegate::time_text::rfc3339(chargegate::clock::WallTime(soon));
    let client = agent.begin(with(start(60), &json!({ "expires_at": soon })));
    device.expect_start();
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    device.expect_stop();
    assert_eq!(code(&client.reply()), ("failed", "no_answer", None));
    assert_eq!(agent.order()["end_reason"], "start_timeout");
}

#[test]
fn an_ok_without_a_number_is_an_ok_and_the_next_status_brings_the_number() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let client = agent.begin(start(60));
    let sent = device.expect_start();
    device.answer(sent, true, 0);
    assert_eq!(code(&client.reply()).0, "done");
    let order = agent.order();
    assert_eq!((&order["status"], &order["business_no"]), (&json!(2), &Value::Null));
    assert_eq!(agent.rows("SELECT status FROM ports")[0]["status"], 129);
    device.status(charging(31, 0, 0));
    let question = device.expect_question();
    device.answer_question(question, charging(31, 0, 0));
    wait_for("the number", || (agent.order()["business_no"] == 31).then_some(()));
    device.ends(0xb0, 31, 1, 0);
    assert_eq!(agent.order()["settlement"], "reported");
}

#[test]
fn a_late_ok_of_a_start_that_was_given_up_is_stopped_and_its_report_corrects_the_order() {
    let agent = Agent::start("[orders]\nanswer_timeout = \"1s\"\nanswer_retries = 0\nend_report_grace = \"30s\"\n");
    let mut device = Device::idle(&agent);
    let client = agent.begin(start(60));
    let sent = device.expect_start();
    let stop = device.expect_stop();
    assert_eq!(code(&client.reply()).1, "no_answer");
    device.answer(stop, true, 0);
    device.answer(sent, true, 44);
    let stop = device.expect_stop();
    device.answer(stop, true, 44);
    device.ends(0x80, 44, 2, 0);
    let order = agent.order();
    assert_eq!(
        (&order["status"], &order["end_reason"], &order["settlement"], &order["energy_wh"], &order["revision"]),
        (&json!(6), &json!("start_timeout"), &json!("corrected"), &json!(2), &json!(2))
    );
    assert_eq!((&order["energy_max_wh"], &order["business_no"]), (&json!(2), &json!(44)));
    assert_eq!(agent.events("order"), ["order.failed", "order.corrected"]);
}

#[test]
fn two_ports_of_a_socket_know_nothing_of_each_other() {
    let agent = Agent::start(FAST);
    let mut device = Device::connect(&agent);
    device.status_of(&[(PortNo::A, IDLE), (PortNo::B, IDLE)]);
    let a = agent.begin(start(60));
    let sent_a = device.expect_start();
    let b = agent.begin(with(start(30), &json!({ "port": 1 })));
    let sent_b = device.expect_start();
    assert_ne!(sent_a, sent_b);
    device.answer_at(PortNo::B, sent_b, true, 51);
    assert_eq!(code(&b.reply()).0, "done");
    assert!(a.waits());
    device.answer_at(PortNo::A, sent_a, false, 0);
    assert_eq!(code(&a.reply()).1, "refused_by_device");
    device.status_of(&[(PortNo::A, IDLE), (PortNo::B, charging(51, 3, 0))]);
    // The same number on the other port is another session.
    let number = device.run_order(&agent, 51, 60);
    device.ends(0xb0, 51, 1, 0);
    let orders = agent.rows("SELECT order_no, port_no, status, energy_wh FROM orders ORDER BY serial");
    assert_eq!(orders[1]["status"], 2);
    assert_eq!(orders[2], json!({ "order_no": number, "port_no": 0, "status": 7, "energy_wh": 1 }));
    let ports = agent.rows("SELECT status FROM ports ORDER BY port_no");
    assert_eq!(ports, [json!({ "status": 9 }), json!({ "status": 129 })]);
}

#[test]
fn a_start_and_its_stop_in_one_breath_reach_the_device_in_that_order() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let mut client = Client::connect(&agent);
    let start = with(start(60), &json!({ "id": "on", "order_no": "B-1" })).to_string();
    let stop = json!({ "id": "off", "type": "stop_charge", "order_no": "B-1" }).to_string();
    client.send(format!("{start}\n{stop}").as_bytes());
    let sent = device.expect_start();
    let stop = device.expect_stop();
    device.answer(sent, true, 60);
    device.answer(stop, true, 60);
    let mut replies = [client.reply(), client.reply()];
    replies.sort_by_key(|reply| reply["id"].to_string());
    assert_eq!((code(&replies[0]), code(&replies[1])), (("done", "-", None), ("failed", "cancelled", None)));
    assert_eq!(agent.order()["status"], 5);
}

#[test]
fn a_start_whose_device_goes_away_fails_and_its_stop_waits_for_the_return() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let client = agent.begin(start(60));
    device.expect_start();
    drop(device);
    assert_eq!(code(&client.reply()), ("failed", "no_answer", None));
    assert_eq!(agent.order()["end_reason"], "start_timeout");
    let mut device = Device::connect(&agent);
    let (mut stops, mut questions) = (0, 0);
    for _ in 0..2 {
        match device.hear().unwrap().1 {
            chargegate::bkv::Downlink::Switch(_) => stops += 1,
            chargegate::bkv::Downlink::QueryStatus(_) => questions += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((stops, questions), (1, 1));
}

#[test]
fn every_order_says_its_revision_from_its_first_event_on() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let order = agent.command(json!({ "type": "get_order", "order_no": order_no }));
    assert_eq!(order["data"]["revision"], 1);
    device.ends(0x98, 26, 0, 0);
    let told = agent.rows("SELECT json_extract(data, '$.revision') AS revision FROM events WHERE stream = 'order'");
    assert_eq!(told, [json!({ "revision": 1 }), json!({ "revision": 1 })]);
}

#[test]
fn a_made_up_order_number_is_told_and_no_two_are_the_same() {
    let agent = Agent::start(&format!("[site]\nid = \"north.1\"\n{FAST}"));
    let mut device = Device::idle(&agent);
    let mut numbers = Vec::new();
    for number in 1..4 {
        numbers.push(device.run_order(&agent, number, 60));
        device.ends(0x98, number, 0, 0);
    }
    assert!(numbers.iter().all(|number| number.starts_with("north.1-")), "{numbers:?}");
    numbers.dedup();
    assert_eq!(numbers.len(), 3);
    assert_eq!(agent.rows("SELECT device_id FROM orders")[0]["device_id"], json!(id()));
}
