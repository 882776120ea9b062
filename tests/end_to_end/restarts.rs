//! The agent is ended or killed and comes back: what was committed goes on, what was said holds.

use chargegate::bkv::Downlink;
use chargegate::ids::MessageId;
use serde_json::{Value, json};

use crate::code;
use crate::support::{Agent, Device, FAST, IDLE, charging, id, start, wait_for};

/// Ends the agent, cleanly or not, and starts it again.
fn again(agent: &mut Agent, clean: bool) {
    if clean {
        assert!(agent.end().success());
    } else {
        agent.kill();
    }
    agent.run();
}

/// What the device hears at its return, stop and question in either order.
fn stop_and_question(device: &mut Device) -> (MessageId, MessageId) {
    let (mut stop, mut question) = (None, None);
    while stop.is_none() || question.is_none() {
        match device.hear().unwrap() {
            (message_id, Downlink::Switch(_)) => stop = Some(message_id),
            (message_id, Downlink::QueryStatus(_)) => question = Some(message_id),
            (_, other) => panic!("{other:?}"),
        }
    }
    (stop.unwrap(), question.unwrap())
}

#[test]
fn down_time_counts_as_paid_time_also_after_a_kill_in_the_first_moments_of_a_run() {
    let mut agent = Agent::start(&format!("{FAST}overrun_grace = \"1s\"\n"));
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 1);
    device.status(charging(26, 3, 0));
    agent.kill();
    // As if it had been down for three minutes.
    let db = rusqlite::Connection::open(agent.path("store.db")).unwrap();
    let sql = "UPDATE meta SET value = value - 180000 WHERE key = 'believed_wall_ms'";
    assert_eq!(db.execute(sql, []).unwrap(), 1, "the first commit of a run tells when it was");
    db.close().unwrap();
    agent.run();
    let mut device = Device::connect(&agent);
    // Past its paid time it is stopped at once.
    stop_and_question(&mut device);
}

#[test]
fn a_running_order_goes_on_and_its_end_counts_once() {
    for clean in [true, false] {
        let mut agent = Agent::start(FAST);
        let mut device = Device::idle(&agent);
        let order_no = device.run_order(&agent, 26, 60);
        device.status(charging(26, 3, 0));
        again(&mut agent, clean);
        let ports = agent.rows("SELECT status FROM ports");
        assert_eq!(ports[0]["status"], 0, "nobody is connected");
        assert_eq!(agent.order()["status"], 2);
        let mut device = Device::connect(&agent);
        let question = device.expect_question();
        device.answer_question(question, charging(26, 4, 0));
        device.heartbeat();
        assert_eq!(agent.rows("SELECT status FROM ports")[0]["status"], 129);
        device.ends(0xb0, 26, 5, 1);
        again(&mut agent, clean);
        let mut device = Device::connect(&agent);
        device.expect_question();
        device.ends(0xb0, 26, 5, 1);
        let order = agent.order();
        assert_eq!(
            (&order["order_no"], &order["settlement"], &order["energy_wh"], &order["revision"]),
            (&json!(order_no), &json!("reported"), &json!(5), &json!(1))
        );
        assert_eq!(agent.events("order"), ["order.started", "order.completed"]);
        // Back within `offline_after`: nobody is told that the device was away.
        assert_eq!(agent.events("device"), ["device.registered", "device.online"]);
    }
}

#[test]
fn a_held_port_is_still_held_after_a_restart() {
    let mut agent = Agent::start("[orders]\nanswer_timeout = \"1s\"\nanswer_retries = 0\nend_report_grace = \"8s\"\n");
    let mut device = Device::idle(&agent);
    let client = agent.begin(start(60));
    device.expect_start();
    let stop = device.expect_stop();
    device.answer(stop, true, 0);
    client.reply();
    again(&mut agent, false);
    let mut device = Device::connect(&agent);
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    device.heartbeat();
    assert_eq!(code(&agent.command(start(60))), ("rejected", "port_busy", Some("port")), "asked too early to prove it");
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    device.run_order(&agent, 30, 60);
    assert_eq!(agent.events("order")[..2], ["order.failed".to_owned(), "order.corrected".to_owned()]);
}

#[test]
fn an_owed_stop_goes_out_at_the_return_after_a_restart() {
    for clean in [true, false] {
        let mut agent = Agent::start(FAST);
        let mut device = Device::idle(&agent);
        let order_no = device.run_order(&agent, 26, 60);
        let client = agent.begin(json!({ "type": "stop_charge", "order_no": order_no }));
        let stop = device.expect_stop();
        device.answer(stop, false, 26);
        client.reply();
        again(&mut agent, clean);
        let mut device = Device::connect(&agent);
        let (stop, _) = stop_and_question(&mut device);
        device.answer(stop, true, 26);
        device.ends(0x80, 26, 1, 0);
        assert_eq!(agent.order()["end_reason"], "remote_stop");
    }
}

#[test]
fn a_stop_that_waited_for_its_answer_is_owed_after_a_kill_and_its_reply_says_so() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let mut command = json!({ "id": "off", "type": "stop_charge", "order_no": order_no });
    command["actor"] = "night guard".into();
    let _client = agent.begin(command.clone());
    device.expect_stop();
    // What comes after it is committed with it.
    device.ends(0x98, 999, 0, 0);
    again(&mut agent, false);
    let reply = agent.command(command);
    assert_eq!((code(&reply), &reply["data"]), (("failed", "no_answer", None), &json!({ "stop_owed": true })));
    let mut device = Device::connect(&agent);
    let (stop, _) = stop_and_question(&mut device);
    device.answer(stop, true, 26);
    wait_for("the stop", || (agent.order()["status"] == 9).then_some(()));
    assert_eq!(agent.order()["stopped_by"], "night guard");
}

#[test]
fn a_pending_start_that_is_idle_when_asked_after_a_restart_has_failed() {
    for clean in [true, false] {
        let mut agent = Agent::start(FAST);
        let mut device = Device::idle(&agent);
        let mut command = start(60);
        command["id"] = "on".into();
        let _client = agent.begin(command.clone());
        device.expect_start();
        again(&mut agent, clean);
        let order = agent.order();
        assert_eq!((&order["status"], &order["settlement"]), (&json!(0), &Value::Null));
        let mut device = Device::connect(&agent);
        let waiting = agent.begin(command);
        let question = device.expect_question();
        device.heartbeat();
        assert!(waiting.waits(), "its reply follows the order's fate");
        device.answer_question(question, IDLE);
        assert_eq!(code(&waiting.reply()), ("failed", "no_answer", None));
        let order = agent.order();
        assert_eq!((&order["status"], &order["end_reason"]), (&json!(6), &json!("start_timeout")));
        assert_eq!(agent.events("order"), ["order.failed"]);
    }
}

#[test]
fn a_pending_start_whose_device_does_not_return_fails_and_its_stop_is_owed() {
    let times = "[devices]\nheartbeat_interval = \"1s\"\noffline_after = \"2s\"\n";
    let mut agent = Agent::start(&format!("{times}{FAST}"));
    let mut device = Device::idle(&agent);
    let _client = agent.begin(start(60));
    device.expect_start();
    again(&mut agent, false);
    drop(device);
    wait_for("the failure", || (agent.order()["end_reason"] == "start_timeout").then_some(()));
    wait_for("the event", || (agent.events("device").last()? == "device.offline").then_some(()));
    let mut device = Device::connect(&agent);
    let (stop, question) = stop_and_question(&mut device);
    device.answer(stop, true, 0);
    device.answer_question(question, IDLE);
    device.heartbeat();
    assert_eq!(agent.rows("SELECT count(*) AS n FROM orders WHERE status = 6")[0]["n"], 1);
}

#[test]
fn a_late_answer_finds_its_order_after_a_restart() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let mut command = start(60);
    command["id"] = "on".into();
    let _client = agent.begin(command.clone());
    let sent = device.expect_start();
    again(&mut agent, false);
    let mut device = Device::connect(&agent);
    device.expect_question();
    device.answer(sent, true, 61);
    assert_eq!(code(&agent.command(command)).0, "done");
    assert_eq!((&agent.order()["status"], &agent.order()["business_no"]), (&json!(2), &json!(61)));
}

#[test]
fn an_alert_whose_condition_is_over_clears_after_a_restart_too() {
    let mut agent = Agent::start(&format!("{FAST}[alerts]\nstop_ignored = 1\nclear_after = \"2s\"\n"));
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let client = agent.begin(json!({ "type": "stop_charge", "order_no": order_no }));
    let stop = device.expect_stop();
    device.answer(stop, false, 26);
    client.reply();
    device.status(charging(26, 1, 0));
    assert_eq!(agent.events("alert"), ["alert.raised"]);
    // The end makes the port obey, and the kill comes before the alert has cleared.
    device.ends(0x80, 26, 1, 0);
    again(&mut agent, false);
    wait_for("the alert to clear", || (agent.events("alert") == ["alert.raised", "alert.cleared"]).then_some(()));
}

#[test]
fn an_alert_whose_condition_lasts_is_still_there_after_a_restart() {
    let mut agent = Agent::start(&format!("{FAST}[alerts]\nstop_ignored = 1\nclear_after = \"1s\"\n"));
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let client = agent.begin(json!({ "type": "stop_charge", "order_no": order_no }));
    let stop = device.expect_stop();
    device.answer(stop, false, 26);
    client.reply();
    device.status(charging(26, 1, 0));
    assert_eq!(agent.events("alert"), ["alert.raised"]);
    again(&mut agent, false);
    let mut device = Device::connect(&agent);
    let (stop, question) = stop_and_question(&mut device);
    device.answer_question(question, charging(26, 1, 0));
    device.answer(stop, false, 26);
    // A question without an answer takes longer than the alert would need to clear.
    let reply = agent.command(json!({ "type": "query_status", "device": id(), "socket": 1 }));
    assert_eq!(code(&reply).1, "no_answer");
    assert_eq!(agent.events("alert"), ["alert.raised"]);
}

#[test]
fn message_ids_are_not_given_twice_over_restarts() {
    let mut agent = Agent::start(FAST);
    let mut seen = std::collections::BTreeSet::new();
    for clean in [true, false, false, true] {
        let mut device = Device::connect(&agent);
        device.raw(
            &chargegate::bkv::Uplink::Status(chargegate::bkv::StatusReport::of(crate::support::socket_status(&[(
                chargegate::ids::PortNo::A,
                IDLE,
            )])))
            .encode(id(), MessageId::DEVICE),
        );
        while !matches!(device.hear(), Some((_, Downlink::StatusAck(_)))) {}
        let client = agent.begin(start(60));
        let sent = device.expect_start();
        assert!(seen.insert(sent), "{sent} again");
        device.answer(sent, false, 0);
        client.reply();
        again(&mut agent, clean);
    }
}

#[test]
fn a_status_query_that_was_under_way_has_got_no_answer() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let command = json!({ "id": "q", "type": "query_status", "device": id(), "socket": 1 });
    let _client = agent.begin(command.clone());
    device.expect_question();
    device.ends(0x98, 999, 0, 0);
    again(&mut agent, false);
    assert_eq!(code(&agent.command(command)), ("failed", "no_answer", None));
}
