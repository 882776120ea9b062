//! `acknowledge`: a person took note.

use serde_json::{Value, json};

use crate::code;
use crate::support::{Agent, Device, FAST, charging, id, wait_for};

/// An agent with one alert that lasts: a session of nobody whose stop the device refuses.
fn alerted() -> (Agent, Device, i64) {
    let agent = Agent::start(&format!("{FAST}[alerts]\nstop_ignored = 1\n"));
    let mut device = Device::idle(&agent);
    device.status(charging(888, 1, 1));
    let question = device.expect_question();
    device.answer_question(question, charging(888, 1, 1));
    let message_id = device.expect_stop();
    device.answer(message_id, false, 888);
    device.status(charging(888, 2, 1));
    let alert = wait_for("the alert", || agent.rows("SELECT alert_id FROM alerts").pop());
    let alert_id = alert["alert_id"].as_i64().unwrap();
    (agent, device, alert_id)
}

#[test]
fn an_alert_is_acknowledged_once_and_lasts_all_the_same() {
    let (agent, _device, alert_id) = alerted();
    let (ended, out, error) = agent.cli(&["alerts", "--acknowledge", &alert_id.to_string()]);
    assert_eq!((ended, error.as_str()), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["result"], "done");
    let sql = "SELECT acknowledged_at, cleared_at FROM alerts";
    let first = agent.rows(sql).pop().unwrap();
    assert!(first["acknowledged_at"].is_i64() && first["cleared_at"].is_null(), "{first}");
    assert_eq!(code(&agent.command(json!({ "type": "acknowledge", "alert_id": alert_id }))).0, "done");
    assert_eq!(agent.rows(sql), [first], "the first time counts");
    assert_eq!(agent.events("alert"), ["alert.raised", "alert.acknowledged"]);
    let event = agent.rows("SELECT data FROM events WHERE type = 'alert.acknowledged'").pop().unwrap();
    let event: Value = serde_json::from_str(event["data"].as_str().unwrap()).unwrap();
    assert_eq!((&event["alert_id"], &event["rule"]), (&json!(alert_id), &json!("stop_ignored")));
    assert!(event["acknowledged_at"].is_string());
}

#[test]
fn only_what_is_there_can_be_acknowledged() {
    let (mut agent, _device, alert_id) = alerted();
    let rows = [
        (json!({}), ("rejected", "missing_field", Some("alert_id"))),
        (json!({ "alert_id": 99 }), ("rejected", "out_of_range", Some("alert_id"))),
        (json!({ "alert_id": "1" }), ("rejected", "out_of_range", Some("alert_id"))),
        (json!({ "alert_id": alert_id, "device": id() }), ("rejected", "out_of_range", Some("device"))),
        (json!({ "device": "82241218000001" }), ("rejected", "unknown_device", Some("device"))),
        (json!({ "device": id() }), ("done", "-", None)),
    ];
    for (mut command, expected) in rows {
        command["type"] = "acknowledge".into();
        assert_eq!(code(&agent.command(command.clone())), expected, "{command}");
    }
    let untouched = agent.rows("SELECT acknowledged_at FROM alerts");
    assert_eq!(untouched, [json!({ "acknowledged_at": null })], "a device's abnormal events only");
    assert_eq!(agent.cli(&["alerts", "--acknowledge", "99"]).0, Some(1));
    assert_eq!(agent.cli(&["alerts", "--acknowledge", "x"]).0, Some(2));
    assert_eq!(agent.cli(&["alerts", "--acknowledge", "1", "--open"]).0, Some(2));
    agent.end();
    let (ended, _, error) = agent.cli(&["alerts", "--acknowledge", "1"]);
    assert_eq!(ended, Some(1));
    assert!(error.starts_with("chargegate: alerts: no agent answers at"), "{error}");
}
