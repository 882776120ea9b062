//! `claim_order`: an adopted order gets the cloud's number.

use serde_json::{Value, json};

use crate::code;
use crate::support::{Agent, Device, FAST, IDLE, charging, wait_for};

/// An agent that found a session running: its device, and the number that it made up.
fn adopted(agent: &Agent) -> (Device, String) {
    let mut device = Device::connect(agent);
    device.status(charging(500, 90, 30));
    let order = agent.order();
    assert_eq!(order["source"], "adopted");
    (device, order["order_no"].as_str().unwrap().to_owned())
}

fn claim(was: &str, new: &str) -> Value {
    json!({ "type": "claim_order", "order_no": was, "new_order_no": new })
}

fn told(agent: &Agent) -> Vec<(String, String)> {
    let rows = agent.rows("SELECT type, order_no FROM events WHERE stream = 'order' ORDER BY seq");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rows.iter().map(|row| (text(&row["type"]), text(&row["order_no"]))).collect()
}

#[test]
fn a_claimed_order_goes_on_under_the_clouds_number_and_with_its_plan() {
    let mut agent = Agent::start(FAST);
    let (device, was) = adopted(&agent);
    let mut command = claim(&was, "CLOUD-1");
    command["id"] = "claim-1".into();
    command["mode"] = "time".into();
    command["minutes"] = 240.into();
    let reply = agent.command(command.clone());
    assert_eq!(code(&reply).0, "done", "{reply}");
    assert_eq!((&reply["order_no"], &reply["data"]["order_no"]), (&json!("CLOUD-1"), &json!("CLOUD-1")));
    assert_eq!(agent.command(command), reply, "once more is the same reply");
    let order = agent.order();
    assert_eq!((&order["order_no"], &order["mode"], &order["status"]), (&json!("CLOUD-1"), &json!("time"), &json!(2)));
    assert_eq!(serde_json::from_str::<Value>(order["plan"].as_str().unwrap()).unwrap()["minutes"], 240);

    let event = agent.rows("SELECT data FROM events WHERE type = 'order.claimed'").pop().unwrap();
    let event: Value = serde_json::from_str(event["data"].as_str().unwrap()).unwrap();
    assert_eq!((&event["order_no"], &event["was_order_no"]), (&json!("CLOUD-1"), &json!(was)));
    assert_eq!(event["plan"]["minutes"], 240);

    let by = |kind: &str, no: &str| agent.command(json!({ "type": kind, "order_no": no }));
    assert_eq!(code(&by("get_order", &was)).1, "unknown_order");
    assert_eq!(by("get_order", "CLOUD-1")["data"]["source"], "adopted");
    assert_eq!(code(&by("stop_charge", &was)).1, "unknown_order");

    // A restart later, too.
    drop(device);
    agent.end();
    agent.run();
    let mut device = Device::connect(&agent);
    let question = device.expect_question();
    device.answer_question(question, charging(500, 95, 31));
    let stop = agent.begin(json!({ "type": "stop_charge", "order_no": "CLOUD-1" }));
    let message_id = device.expect_stop();
    device.answer(message_id, true, 500);
    assert_eq!(code(&stop.reply()).0, "done");
    device.ends(0xb0, 500, 96, 31);
    device.status(IDLE);
    assert_eq!(agent.order()["end_reason"], "remote_stop");
    assert_eq!(
        told(&agent),
        [("order.adopted", was.as_str()), ("order.claimed", "CLOUD-1"), ("order.completed", "CLOUD-1")]
            .map(|(kind, no)| (kind.to_owned(), no.to_owned()))
    );
    let left = agent.rows(&format!(
        "SELECT (SELECT count(*) FROM journal WHERE order_no = '{was}') AS frames,
                (SELECT count(*) FROM sendings WHERE order_no = '{was}') AS sendings,
                (SELECT count(*) FROM journal WHERE order_no = 'CLOUD-1') > 3 AS follow"
    ));
    assert_eq!(left, [json!({ "frames": 0, "sendings": 0, "follow": 1 })]);
}

#[test]
fn a_claim_is_refused_for_the_first_reason_that_holds_and_changes_nothing() {
    let agent = Agent::start(FAST);
    let (mut device, was) = adopted(&agent);
    device.status_of(&[(chargegate::ids::PortNo::A, charging(500, 90, 30)), (chargegate::ids::PortNo::B, IDLE)]);
    let mut start = crate::support::start(60);
    start["port"] = 1.into();
    start["order_no"] = "STARTED".into();
    let started = agent.begin(start);
    let message_id = device.expect_start();
    device.answer_at(chargegate::ids::PortNo::B, message_id, true, 501);
    assert_eq!(code(&started.reply()).0, "done");
    let with = |more: Value| {
        let mut command = claim(&was, "CLOUD-1");
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        command
    };
    let rows = [
        (json!({ "type": "claim_order", "order_no": was }), ("rejected", "missing_field", Some("new_order_no"))),
        (claim(&was, ""), ("rejected", "out_of_range", Some("new_order_no"))),
        (claim("NEVER", "CLOUD-1"), ("rejected", "unknown_order", Some("order_no"))),
        (claim("STARTED", "CLOUD-1"), ("rejected", "out_of_range", Some("order_no"))),
        (claim(&was, "STARTED"), ("rejected", "duplicate_order_no", Some("new_order_no"))),
        (claim(&was, &was), ("rejected", "duplicate_order_no", Some("new_order_no"))),
        (with(json!({ "minutes": 60 })), ("rejected", "out_of_range", Some("minutes"))),
        (with(json!({ "mode": "time" })), ("rejected", "missing_field", Some("minutes"))),
        (with(json!({ "mode": "time", "minutes": 901 })), ("rejected", "out_of_range", Some("minutes"))),
        (
            with(json!({ "mode": "time", "minutes": 9, "energy_wh": 9 })),
            ("rejected", "out_of_range", Some("energy_wh")),
        ),
    ];
    for (command, expected) in rows {
        let reply = agent.command(command.clone());
        assert_eq!(code(&reply), expected, "{command}");
        if expected.1 == "duplicate_order_no" {
            assert_eq!(reply["data"]["order_no"], command["new_order_no"], "the one that is there");
        }
    }
    let orders = agent.rows("SELECT order_no, plan IS NULL AS bare FROM orders WHERE source = 'adopted'");
    assert_eq!(orders, [json!({ "order_no": was, "bare": 1 })]);
    assert!(!agent.events("order").contains(&"order.claimed".to_owned()));
}

#[test]
fn an_order_that_is_over_can_be_claimed_and_is_judged_by_its_plan_then() {
    let agent = Agent::start(FAST);
    let (mut device, was) = adopted(&agent);
    device.ends(0xb0, 500, 91, 30);
    device.status(IDLE);
    let before = agent.order();
    assert_eq!((&before["settlement"], &before["end_reason"]), (&json!("reported"), &json!("unknown")));
    let mut command = claim(&was, "CLOUD-2");
    command["mode"] = "time".into();
    command["minutes"] = 30.into();
    assert_eq!(code(&agent.command(command)).0, "done");
    let after = agent.order();
    assert_eq!((&after["order_no"], &after["revision"]), (&json!("CLOUD-2"), &json!(2)));
    assert_eq!(after["end_reason"], "time_reached");
    for column in ["settlement", "energy_wh", "energy_max_wh", "minutes", "end_time", "final", "status"] {
        assert_eq!(after[column], before[column], "{column}");
    }
}

#[test]
fn a_plan_bounds_a_claimed_order_that_nobody_reported() {
    let agent = Agent::start(&format!("{FAST}offline_timeout = \"1s\"\n"));
    let (device, was) = adopted(&agent);
    drop(device);
    wait_for("the close", || (agent.order()["status"] == 7).then_some(()));
    assert_eq!(agent.order()["settlement"], "provisional");
    let mut command = claim(&was, "CLOUD-3");
    command["mode"] = "energy".into();
    command["energy_wh"] = 400.into();
    assert_eq!(code(&agent.command(command)).0, "done");
    let order = agent.order();
    assert_eq!((&order["energy_wh"], &order["energy_max_wh"]), (&json!(90), &json!(400)));
}
