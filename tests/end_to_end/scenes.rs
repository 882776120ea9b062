//! Scenes of a site, told whole.

use serde_json::{Value, json};

use crate::code;
use crate::support::{Agent, Device, FAST, IDLE, charging, start, wait_for};

fn port(agent: &Agent) -> Value {
    agent.rows("SELECT status FROM ports")[0]["status"].clone()
}

fn no_issues(agent: &Agent) {
    let (code, issues, _) = agent.cli(&["check", "--json"]);
    assert_eq!((code, issues.trim()), (Some(0), "[]"));
}

/// The five minutes are two seconds here; `tests/lateness` has them whole, on a clock of its own.
#[test]
fn a_device_offline_for_5_minutes_ends_its_order_and_resets_its_port() {
    let agent = Agent::start(&format!("{FAST}offline_timeout = \"2s\"\n"));
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 1, 0));
    assert_eq!(port(&agent), 129);

    drop(device);
    wait_for("the loss", || (port(&agent) == 0).then_some(()));
    assert_eq!(agent.order()["status"], 2, "not before its time");
    assert_eq!(code(&agent.command(start(60))), ("rejected", "device_offline", Some("device")));
    let order = wait_for("the close", || Some(agent.order()).filter(|order| order["status"] == 7));
    assert_eq!(
        (&order["end_reason"], &order["settlement"], &order["final"], &order["revision"]),
        (&json!("offline"), &json!("provisional"), &json!(0), &json!(1))
    );
    assert_eq!((&order["energy_max_wh"], &order["minutes_max"]), (&json!(1000), &json!(60)), "the whole plan");
    assert_eq!(port(&agent), 0);
    no_issues(&agent);

    let mut device = Device::connect(&agent);
    let question = device.expect_question();
    assert_eq!(port(&agent), 1, "online, but not known which");
    assert_eq!(code(&agent.command(start(60))), ("rejected", "port_busy", Some("port")));
    device.answer_question(question, IDLE);
    wait_for("the reset", || (port(&agent) == 9).then_some(()));
    let order = wait_for("the estimate", || Some(agent.order()).filter(|order| order["settlement"] == "estimated"));
    assert_eq!((&order["end_reason"], &order["revision"]), (&json!("offline"), &json!(2)));
    let (least, most) = (order["energy_wh"].as_i64().unwrap(), order["energy_max_wh"].as_i64().unwrap());
    assert!(
        least == 1 && (1..=20).contains(&most),
        "{least} to {most} Wh: bounded by the time until it was shown idle"
    );
    assert_eq!(agent.events("order"), ["order.started", "order.closed", "order.corrected"]);
    no_issues(&agent);

    device.run_order(&agent, 27, 60);
    assert_eq!(port(&agent), 129);
    no_issues(&agent);
}
