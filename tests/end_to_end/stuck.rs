//! No order stays stuck: each cause of contract §5 by which an order ends, with the real program.

use chargegate::bkv::{Downlink, StatusReport, Uplink};
use chargegate::ids::{MessageId, PortNo};
use serde_json::{Value, json};

use crate::scaled::Scaled;
use crate::support::{Agent, Client, Device, FAST, IDLE, Shows, charging, socket_status, start, wait_for};

/// Status, reason and settlement of an order.
fn fate(order: &Value) -> (&Value, &str, &str) {
    (&order["status"], order["end_reason"].as_str().unwrap_or("-"), order["settlement"].as_str().unwrap_or("-"))
}

fn closed(agent: &Agent) -> Value {
    wait_for("the close", || Some(agent.order()).filter(|order| order["status"] == 7))
}

fn port(agent: &Agent) -> Value {
    agent.rows("SELECT status FROM ports")[0]["status"].clone()
}

fn no_issues(agent: &Agent) {
    let (code, issues, _) = agent.cli(&["check", "--json"]);
    assert_eq!((code, issues.trim()), (Some(0), "[]"));
}

#[test]
fn the_devices_own_end_report_ends_its_order_as_reported() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 1);
    device.status(charging(26, 1, 0));
    device.ends(0xb0, 26, 2, 1);
    assert_eq!(fate(&agent.order()), (&json!(7), "time_reached", "reported"));
    assert_eq!(port(&agent), 9);
    no_issues(&agent);
}

#[test]
fn an_idle_port_whose_socket_does_not_answer_ends_its_order_too() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 1, 0));
    device.status(IDLE);
    device.expect_question();
    let order = closed(&agent);
    assert_eq!(fate(&order), (&json!(7), "end_report_missing", "estimated"));
    assert_eq!((&order["verdict"], &order["final"]), (&json!("never_received"), &json!(0)));
    assert_eq!(port(&agent), 9);
    no_issues(&agent);
}

/// Has a stop of the order accepted.
fn accept_stop(agent: &Agent, device: &mut Device, order_no: &str) {
    let client = agent.begin(json!({ "type": "stop_charge", "order_no": order_no }));
    let sent = device.expect_stop();
    device.answer(sent, true, 26);
    assert_eq!(client.reply()["result"], "done");
}

#[test]
fn an_accepted_stop_without_a_report_or_a_status_ends_its_order_provisionally() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    accept_stop(&agent, &mut device, &order_no);
    device.expect_question();
    let order = closed(&agent);
    assert_eq!(fate(&order), (&json!(7), "remote_stop", "provisional"));
    assert_eq!((&order["minutes_max"], &order["energy_max_wh"]), (&json!(60), &json!(1000)), "the whole plan");
    assert_eq!(port(&agent), 1, "it may still charge");
    no_issues(&agent);
}

/// A stop is repeated every thirty seconds at the most: thirty times as fast.
#[test]
fn a_port_that_charges_on_after_an_accepted_stop_is_stopped_again_before_its_order_ends() {
    let inside = Scaled::start(30, "[orders]\nanswer_timeout = \"1m\"\nend_report_grace = \"1m\"\n");
    let agent = &inside.agent;
    let mut device = Device::idle(agent);
    let order_no = device.run_order(agent, 26, 60);
    accept_stop(agent, &mut device, &order_no);
    let question = device.expect_question();
    device.answer_question(question, charging(26, 1, 0));
    // The grace ends, the stop was in vain: it is owed, and a status that shows the session brings it.
    let sent = wait_for("the next stop", || {
        device.say(&status(charging(26, 1, 0)));
        std::iter::from_fn(|| device.hear()).find_map(|(message_id, message)| match message {
            Downlink::Switch(_) => Some(Some(message_id)),
            Downlink::StatusAck(_) => Some(None),
            _ => None,
        })?
    });
    assert_eq!(agent.order()["status"], 9, "not closed while it is shown charging");
    device.answer(sent, true, 26);
    device.say(&status(IDLE));
    let order = closed(agent);
    assert_eq!(fate(&order), (&json!(7), "remote_stop", "estimated"));
    assert_eq!(port(agent), 9);
    no_issues(agent);
}

fn status(shows: Shows) -> Uplink {
    Uplink::Status(StatusReport::of(socket_status(&[(PortNo::A, shows)])))
}

#[test]
fn a_port_without_a_status_is_asked_and_its_order_ends_by_timeout() {
    let config = "[devices]\nstatus_interval = \"2s\"\n[orders]\nanswer_timeout = \"1s\"\nsilent_timeout = \"2s\"\n";
    let agent = Agent::start(config);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 1, 0));
    device.expect_question();
    device.heartbeat();
    let order = closed(&agent);
    assert_eq!(fate(&order), (&json!(7), "timeout", "provisional"));
    assert_eq!(port(&agent), 1, "online, and nobody knows which");
    assert_eq!(agent.rows("SELECT online FROM devices")[0]["online"], 1);
    no_issues(&agent);
}

#[test]
fn an_order_of_a_socket_without_radio_ends_as_offline_while_its_device_is_there() {
    let agent = Agent::start(&format!("{FAST}offline_timeout = \"2s\"\n"));
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 1, 0));
    device.status(Shows { raw: 0, ..IDLE });
    device.heartbeat();
    assert_eq!(agent.order()["status"], 2);
    let order = closed(&agent);
    assert_eq!(fate(&order), (&json!(7), "offline", "provisional"));
    assert_eq!(port(&agent), 0);
    device.heartbeat();
    no_issues(&agent);
}

/// An order of 100 Wh whose port shows more and more, until a stop of the agent's own comes.
fn run_past_its_energy(agent: &Agent) -> (Device, MessageId) {
    let mut device = Device::idle(agent);
    let mut command = start(60);
    let fields = command.as_object_mut().unwrap();
    fields.remove("minutes");
    fields.insert("mode".to_owned(), "energy".into());
    fields.insert("energy_wh".to_owned(), 100.into());
    let client: Client = agent.begin(command);
    let sent = device.expect_start();
    device.answer(sent, true, 26);
    assert_eq!(client.reply()["result"], "done");
    for energy in [40, 80, 120, 150] {
        device.status(charging(26, energy, 0));
        device.heartbeat();
    }
    device.status(charging(26, 151, 0));
    let sent = device.expect_stop();
    (device, sent)
}

fn ended_by_overrun(agent: &Agent) {
    let order = closed(agent);
    assert_eq!(fate(&order), (&json!(7), "overrun", "provisional"));
    assert_eq!((&order["energy_max_wh"], &order["stopped_by"]), (&json!(151), &json!("agent")));
    assert_eq!(port(agent), 1);
    no_issues(agent);
}

#[test]
fn an_order_past_its_energy_whose_stop_is_refused_ends_by_overrun() {
    let agent = Agent::start(FAST);
    let (mut device, sent) = run_past_its_energy(&agent);
    device.answer(sent, false, 26);
    ended_by_overrun(&agent);
}

#[test]
fn an_order_past_its_energy_whose_stop_finds_no_answer_ends_by_overrun() {
    let agent = Agent::start(FAST);
    let (_device, _) = run_past_its_energy(&agent);
    ended_by_overrun(&agent);
}

#[test]
fn an_order_past_its_energy_that_charges_on_after_its_stop_ends_by_overrun() {
    let agent = Agent::start(FAST);
    let (mut device, sent) = run_past_its_energy(&agent);
    device.answer(sent, true, 26);
    let question = device.expect_question();
    device.answer_question(question, charging(26, 151, 0));
    ended_by_overrun(&agent);
}

/// The paid time is a minute at least: it passes sixty times as fast.
#[test]
fn an_order_past_its_paid_time_whose_stop_is_refused_ends_by_overrun() {
    let inside = Scaled::start(60, "[orders]\nanswer_timeout = \"5m\"\noverrun_grace = \"1m\"\n");
    let agent = &inside.agent;
    let mut device = Device::idle(agent);
    device.run_order(agent, 26, 1);
    let sent = device.expect_stop();
    assert!(inside.now() >= 120_000, "a minute paid and a minute of grace");
    device.answer(sent, false, 26);
    let order = closed(agent);
    assert_eq!(fate(&order), (&json!(7), "overrun", "provisional"));
    no_issues(agent);
}
