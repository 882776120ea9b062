//! Stops: accepted, refused, unanswered, owed, and the ends that they lead to.

use chargegate::ids::{MessageId, PortNo};
use serde_json::{Value, json};

use crate::code;
use crate::scaled::Scaled;
use crate::support::{Agent, Device, FAST, IDLE, Shows, charging, end_of, id, start, wait_for};

fn stop(order_no: &str) -> Value {
    json!({ "type": "stop_charge", "order_no": order_no })
}

fn stop_port(more: &Value) -> Value {
    let mut command = json!({ "type": "stop_charge", "device": id(), "socket": 1, "port": 0 });
    command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    command
}

#[test]
fn a_stop_is_done_when_the_report_comes_before_its_answer() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let client = agent.begin(stop(&order_no));
    let sent = device.expect_stop();
    device.ends(0x80, 26, 3, 0);
    let reply = client.reply();
    assert_eq!((code(&reply).0, &reply["order_no"]), ("done", &json!(order_no)));
    device.answer(sent, true, 26);
    device.heartbeat();
    let order = agent.order();
    assert_eq!((&order["end_reason"], &order["settlement"]), (&json!("remote_stop"), &json!("reported")));
    assert_eq!(agent.events("order"), ["order.started", "order.completed"]);
}

#[test]
fn an_unanswered_stop_is_repeated_and_then_owed() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let client = agent.begin(stop(&order_no));
    let sent: Vec<MessageId> = (0..3).map(|_| device.expect_stop()).collect();
    assert!(sent.iter().all(|id| *id == sent[0]), "one stop, one message id: {sent:?}");
    let reply = client.reply();
    assert_eq!((code(&reply), &reply["data"]), (("failed", "no_answer", None), &json!({ "stop_owed": true })));
    assert_eq!(agent.order()["status"], 2);
    // It worked all the same: the report says so.
    device.ends(0x80, 26, 1, 0);
    assert_eq!(agent.order()["end_reason"], "remote_stop");
    // Unanswered, so the port is held until it is proven idle.
    device.status(IDLE);
    assert_eq!(code(&agent.command(start(60))), ("rejected", "port_busy", Some("port")));
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    device.run_order(&agent, 27, 60);
}

#[test]
fn a_stop_names_the_order_that_it_expects() {
    let agent = Agent::start(&format!("{FAST}offline_timeout = \"1s\"\n"));
    let mut device = Device::idle(&agent);
    let first = device.run_order(&agent, 26, 60);
    device.ends(0x98, 26, 0, 0);
    let second = device.run_order(&agent, 27, 60);
    for expected in [first.as_str(), "nobody's"] {
        let reply = agent.command(stop_port(&json!({ "expect_order_no": expected })));
        assert_eq!(code(&reply), ("rejected", "order_not_open", Some("expect_order_no")), "{expected}");
    }
    assert_eq!(code(&agent.command(stop(&first))), ("rejected", "order_not_open", Some("order_no")));
    device.heartbeat();
    // Closed by a time limit only, it may still charge: that can be stopped.
    drop(device);
    wait_for("the close", || (agent.order()["settlement"] == "provisional").then_some(()));
    let reply = agent.command(stop_port(&json!({ "expect_order_no": second })));
    assert_eq!((code(&reply), &reply["data"]), (("failed", "device_offline", None), &json!({ "stop_owed": true })));
    let mut device = Device::connect(&agent);
    let sent = device.expect_stop();
    device.expect_question();
    device.answer(sent, true, 27);
    device.ends(0x80, 27, 2, 0);
    let order = agent.order();
    assert_eq!((&order["settlement"], &order["end_reason"]), (&json!("corrected"), &json!("remote_stop")));
    assert!(!agent.events("order").contains(&"order.resumed".to_owned()), "what was to be stopped does not resume");
}

#[test]
fn a_repeated_stop_gets_the_same_reply_and_nothing_more_is_sent() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let mut command = stop(&order_no);
    command["id"] = "stop-1".into();
    let first = agent.begin(command.clone());
    let second = agent.begin(command.clone());
    let sent = device.expect_stop();
    device.heartbeat();
    device.answer(sent, true, 26);
    let reply = first.reply();
    assert_eq!(second.reply(), reply);
    device.ends(0x80, 26, 1, 0);
    assert_eq!(agent.command(command), reply);
    device.heartbeat();
}

#[test]
fn a_stop_by_port_stops_the_open_order_and_joins_one_under_way() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let by_port = agent.begin(stop_port(&json!({ "actor": "guard" })));
    let by_order = agent.begin(stop(&order_no));
    let sent = device.expect_stop();
    wait_for("both stops", || {
        let asked = agent.rows("SELECT count(*) AS n FROM commands WHERE type = 'stop_charge'");
        (asked[0]["n"] == 2).then_some(())
    });
    device.heartbeat();
    device.answer(sent, true, 26);
    for client in [by_port, by_order] {
        let reply = client.reply();
        assert_eq!((code(&reply).0, &reply["order_no"]), ("done", &json!(order_no)));
    }
    assert_eq!(agent.order()["status"], 9);
}

#[test]
fn an_accepted_stop_without_a_report_closes_after_the_grace() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let client = agent.begin(stop(&order_no));
    let sent = device.expect_stop();
    device.answer(sent, true, 26);
    client.reply();
    device.status(IDLE);
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    let order = wait_for("the close", || Some(agent.order()).filter(|order| order["status"] == 7));
    assert_eq!(
        (&order["end_reason"], &order["settlement"], &order["verdict"]),
        (&json!("remote_stop"), &json!("estimated"), &json!("never_received"))
    );
    assert_eq!(agent.events("order"), ["order.started", "order.closed"]);
}

/// With the contract's own times, sixty times as fast.
#[test]
fn a_refused_stop_is_repeated_every_thirty_seconds_until_it_is_ignored_and_idle_ends_that() {
    let config = "[orders]\nanswer_timeout = \"5m\"\nend_report_grace = \"20m\"\nsilent_timeout = \"2h\"\n";
    let inside = Scaled::start(30, config);
    let agent = &inside.agent;
    let mut device = Device::idle(agent);
    let order_no = device.run_order(agent, 26, 600);
    let client = agent.begin(stop(&order_no));
    let sent = device.expect_stop();
    device.answer(sent, false, 26);
    let reply = client.reply();
    assert_eq!((code(&reply), &reply["data"]), (("failed", "refused_by_device", None), &json!({ "stop_owed": true })));
    let mut last = inside.now();
    for _ in 0..2 {
        // A status within thirty seconds brings no stop, the first one after them does.
        device.status(charging(26, 1, 0));
        device.heartbeat();
        inside.wait_until(last + 31_000);
        device.status(charging(26, 1, 0));
        let sent = device.expect_stop();
        assert!(inside.now() >= last + 30_000);
        last = inside.now();
        device.answer(sent, false, 26);
        device.heartbeat();
    }
    assert!(agent.events("alert").is_empty());
    inside.wait_until(last + 31_000);
    device.status(charging(26, 1, 0));
    let sent = device.expect_stop();
    let alert =
        agent.rows("SELECT rule, severity, device_id, socket_no, port_no, cleared_at FROM alerts").pop().unwrap();
    let expected = json!({ "rule": "stop_ignored", "severity": "critical", "device_id": id(), "socket_no": 1,
                           "port_no": 0, "cleared_at": null });
    assert_eq!(alert, expected);
    device.answer(sent, true, 26);
    device.ends(0x80, 26, 1, 1);
    device.status(IDLE);
    assert_eq!(agent.events("alert"), ["alert.raised"], "its condition has to be gone for a while");
    wait_for("the alert to clear", || (agent.events("alert") == ["alert.raised", "alert.cleared"]).then_some(()));
    assert_eq!(agent.order()["end_reason"], "remote_stop");
}

#[test]
fn an_order_past_its_paid_time_is_stopped_and_an_obeyed_stop_ends_it_by_overrun() {
    let config = "[orders]\nanswer_timeout = \"5m\"\noverrun_grace = \"1m\"\nend_report_grace = \"10m\"\n";
    let inside = Scaled::start(60, config);
    let agent = &inside.agent;
    let mut device = Device::idle(agent);
    device.run_order(agent, 26, 1);
    let sent = device.expect_stop();
    assert!(inside.now() >= 120_000, "a minute paid and a minute of grace");
    device.answer(sent, true, 26);
    device.end(0x80, 26, 1, 2);
    device.expect_end_ack();
    let order = agent.order();
    assert_eq!(
        (&order["end_reason"], &order["settlement"], &order["stopped_by"]),
        (&json!("overrun"), &json!("reported"), &json!("agent"))
    );
}

#[test]
fn a_silent_port_is_asked_and_closed_and_opens_again_when_it_is_heard_of() {
    let config = "[devices]\nstatus_interval = \"1m\"\noffline_after = \"24h\"\n[orders]\nanswer_timeout = \"1m\"\nsilent_timeout = \"5m\"\n";
    let inside = Scaled::start(60, config);
    let agent = &inside.agent;
    let mut device = Device::idle(agent);
    device.run_order(agent, 26, 600);
    device.expect_question();
    let order = wait_for("the close", || Some(agent.order()).filter(|order| order["status"] == 7));
    assert_eq!((&order["end_reason"], &order["settlement"]), (&json!("timeout"), &json!("provisional")));
    assert_eq!((&order["minutes_max"], &order["energy_max_wh"]), (&json!(600), &json!(10_000)), "the whole plan");
    assert_eq!(agent.rows("SELECT status FROM ports")[0]["status"], 1);
    device.status(charging(26, 2, 5));
    let order = agent.order();
    assert_eq!((&order["status"], &order["revision"], &order["end_time"]), (&json!(2), &json!(2), &Value::Null));
    assert_eq!(agent.events("order"), ["order.started", "order.closed", "order.resumed"]);
}

#[test]
fn a_stop_of_one_port_leaves_the_other_alone() {
    let agent = Agent::start(FAST);
    let mut device = Device::connect(&agent);
    device.status_of(&[(PortNo::A, IDLE), (PortNo::B, IDLE)]);
    let order_no = device.run_order(&agent, 26, 60);
    let mut other = start(60);
    other["port"] = 1.into();
    let client = agent.begin(other);
    let sent = device.expect_start();
    device.answer_at(PortNo::B, sent, true, 27);
    client.reply();
    let client = agent.begin(stop(&order_no));
    let sent = device.expect_stop();
    device.answer(sent, true, 26);
    client.reply();
    device.status_of(&[(PortNo::A, IDLE), (PortNo::B, charging(27, 1, 0))]);
    device.say(&end_of(0x80, 26, 1, 0));
    device.expect_end_ack();
    let orders = agent.rows("SELECT port_no, status FROM orders ORDER BY serial");
    assert_eq!(orders, [json!({ "port_no": 0, "status": 7 }), json!({ "port_no": 1, "status": 2 })]);
    // Bit 4 is what tells a session just begun from an idle port.
    device.status_of(&[(PortNo::A, IDLE), (PortNo::B, Shows { raw: 0x90, ..charging(27, 1, 0) })]);
    assert_eq!(agent.rows("SELECT status FROM ports WHERE port_no = 1")[0]["status"], 129);
}
