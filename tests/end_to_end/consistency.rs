//! Where order and port disagree: what is listed, how it is repaired, what is told, and what of it counts against
//! `state_consistency_rate` (contract §5 *Consistency*, §7).

use std::time::Duration;

use chargegate::bkv::Downlink;
use chargegate::ids::PortNo;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::code;
use crate::scaled::Scaled;
use crate::support::{Agent, Device, FAST, IDLE, Shows, charging, id, start, wait_for, wait_within};

/// The issues that `check` tells, and how it ends.
fn check(agent: &Agent) -> (Option<i32>, Vec<Value>) {
    let (exit, out, err) = agent.cli(&["check", "--json"]);
    assert_eq!(err, "");
    (exit, serde_json::from_str(&out).unwrap())
}

fn issue(kind: &str, order_no: Option<&str>, details: &str) -> Value {
    json!({ "issue_type": kind, "device_id": id(), "socket_no": 1, "port_no": 0, "order_no": order_no,
            "details": details })
}

fn kept(agent: &Agent) -> Vec<Value> {
    agent.rows("SELECT * FROM inconsistencies ORDER BY began_up")
}

fn repaired(agent: &Agent) -> Vec<Value> {
    let rows = agent.rows("SELECT data FROM events WHERE type = 'consistency.repaired' ORDER BY seq");
    rows.iter().map(|row| serde_json::from_str(row["data"].as_str().unwrap()).unwrap()).collect()
}

/// The per cent that `check` tells.
fn told_rate(agent: &Agent) -> f64 {
    let (_, out, _) = agent.cli(&["check"]);
    let line = out.lines().last().unwrap();
    let rate = line.strip_prefix("state consistency: ").and_then(|rest| rest.strip_suffix(" % of port time in 24 h"));
    rate.unwrap_or_else(|| panic!("no rate: {out}")).parse().unwrap()
}

#[test]
fn an_ordinary_order_leaves_no_row_though_its_port_is_idle_before_the_report_comes() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    device.status(charging(26, 1, 0));
    assert_eq!(check(&agent), (Some(0), vec![]));
    device.status(IDLE);
    let mismatch = issue("order_port_mismatch", Some(&order_no), "the order is charging and its port is idle");
    assert_eq!(check(&agent), (Some(1), vec![mismatch]));
    device.ends(0x80, 26, 2, 0);
    assert_eq!(check(&agent), (Some(0), vec![]));
    assert_eq!((kept(&agent), repaired(&agent)), (vec![], vec![]));
    assert_eq!(told_rate(&agent), 100.0);
}

#[test]
fn an_order_on_an_idle_port_is_closed_within_its_grace_and_leaves_no_row() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(IDLE);
    // The socket does not answer the question in the grace.
    device.expect_question();
    wait_for("an empty view", || (check(&agent).0 == Some(0)).then_some(()));
    let order = agent.order();
    assert_eq!((&order["end_reason"], &order["settlement"]), (&json!("end_report_missing"), &json!("estimated")));
    assert_eq!(kept(&agent), [] as [Value; 0]);
}

/// A socket that seldom answers is asked ever more seldom; an order must not wait for that.
#[test]
fn an_order_on_an_idle_port_is_closed_in_time_though_its_socket_left_questions_unanswered() {
    let agent = Agent::start(&format!("{FAST}answer_retries = 5\n"));
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    let reply = agent.command(json!({ "type": "query_status", "device": id(), "socket": 1 }));
    assert_eq!(code(&reply).1, "no_answer");
    for _ in 0..6 {
        device.expect_question();
    }
    device.status(IDLE);
    device.expect_question();
    wait_for("an empty view", || (check(&agent).0 == Some(0)).then_some(()));
    assert_eq!(agent.order()["end_reason"], "end_report_missing");
    assert_eq!(kept(&agent), [] as [Value; 0]);
}

#[test]
fn a_session_without_an_order_is_listed_stopped_and_told() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.status(charging(888, 1, 1));
    let lonely = issue("lonely_charging_port", None, "the port is charging and no order is open there");
    assert_eq!(check(&agent), (Some(1), vec![lonely]));
    let question = device.expect_question();
    device.answer_question(question, charging(888, 1, 1));
    let sent = device.expect_stop();
    let told =
        json!({ "device": id(), "socket": 1, "port": 0, "issue_type": "lonely_charging_port", "order_no": null });
    assert_eq!(repaired(&agent), [told]);
    device.answer(sent, true, 888);
    device.status(IDLE);
    assert_eq!((check(&agent), kept(&agent)), ((Some(0), vec![]), vec![]));
}

#[test]
fn an_order_whose_port_is_gone_gets_one_again_and_goes_on() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    for gone in ["DELETE FROM ports", "DELETE FROM ports; DELETE FROM sockets; DELETE FROM devices"] {
        agent.kill();
        Connection::open(agent.path("store.db")).unwrap().execute_batch(gone).unwrap();
        let orphan =
            issue("orphaned_charging_order", Some(&order_no), "the order is charging and its port does not exist");
        assert_eq!(check(&agent), (Some(1), vec![orphan]));
        agent.run();
        let told = json!({ "device": id(), "socket": 1, "port": 0, "issue_type": "orphaned_charging_order",
                           "order_no": order_no });
        assert_eq!(repaired(&agent).last(), Some(&told), "{gone}");
        assert_eq!(check(&agent), (Some(0), vec![]));
    }
    let mut device = Device::connect(&agent);
    let question = device.expect_question();
    device.answer_question(question, charging(26, 3, 1));
    device.ends(0xb0, 26, 4, 1);
    let order = agent.order();
    assert_eq!((&order["order_no"], &order["settlement"]), (&json!(order_no), &json!("reported")));
    assert_eq!(repaired(&agent).len(), 2);
}

#[test]
fn an_order_whose_port_is_gone_and_whose_device_never_returns_is_closed() {
    let config = "[devices]\nheartbeat_interval = \"1s\"\noffline_after = \"2s\"\n[orders]\noffline_timeout = \"1s\"\n";
    let mut agent = Agent::start(config);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    agent.kill();
    let gone = "DELETE FROM ports; DELETE FROM sockets; DELETE FROM devices";
    Connection::open(agent.path("store.db")).unwrap().execute_batch(gone).unwrap();
    agent.run();
    let order = wait_for("the close", || Some(agent.order()).filter(|order| order["status"] == 7));
    assert_eq!((&order["end_reason"], &order["settlement"]), (&json!("offline"), &json!("provisional")));
}

#[test]
fn two_orders_of_a_device_under_one_number_are_listed_only() {
    let agent = Agent::start(FAST);
    let mut device = Device::connect(&agent);
    device.status_of(&[(PortNo::A, IDLE), (PortNo::B, IDLE)]);
    let first = device.run_order(&agent, 26, 60);
    let mut other = start(60);
    other["port"] = 1.into();
    let client = agent.begin(other);
    let sent = device.expect_start();
    device.answer_at(PortNo::B, sent, true, 26);
    let second = client.reply()["order_no"].as_str().unwrap().to_owned();
    device.status_of(&[(PortNo::A, charging(26, 1, 0)), (PortNo::B, charging(26, 1, 0))]);
    let (exit, issues) = check(&agent);
    assert_eq!((exit, issues.len()), (Some(1), 1), "{issues:?}");
    assert_eq!((&issues[0]["issue_type"], &issues[0]["order_no"]), (&json!("duplicate_business_no"), &json!(second)));
    device.heartbeat();
    let open = agent.rows("SELECT order_no, status FROM orders ORDER BY serial");
    assert_eq!(open, [json!({ "order_no": first, "status": 2 }), json!({ "order_no": second, "status": 2 })]);
    assert_eq!((kept(&agent), repaired(&agent)), (vec![], vec![]));
}

/// Times of their own, so that a busy machine answers in time on a clock that is thirty times as fast.
const SLOW_ANSWERS: &str = "[devices]\noffline_after = \"1h\"\n[orders]\nanswer_timeout = \"1m\"\n";

#[test]
fn a_port_that_charges_on_counts_from_the_end_of_its_grace_until_its_stops_count_as_ignored() {
    let inside = Scaled::start(30, SLOW_ANSWERS);
    let agent = &inside.agent;
    let mut device = Device::idle(agent);
    device.status(charging(888, 1, 1));
    let began = inside.now();
    let question = device.expect_question();
    device.answer_question(question, charging(888, 1, 1));
    let sent = device.expect_stop();
    // Accepted, and not obeyed.
    device.answer(sent, true, 888);
    device.heartbeat();
    inside.wait_until(began + 145_000);
    assert_eq!(kept(agent), [] as [Value; 0], "60 s of grace, 60 s for an answer, 30 s to be told of");
    let row = wait_for("the end of the grace", || kept(agent).pop());
    assert_eq!((&row["issue_type"], &row["ended_up"]), (&json!("lonely_charging_port"), &Value::Null));
    assert_eq!(row["late_up"].as_u64().unwrap() - row["began_up"].as_u64().unwrap(), 150_000);
    for _ in 0..3 {
        assert_eq!(agent.events("alert"), [""; 0]);
        device.status(charging(888, 1, 1));
        let sent = device.expect_stop();
        let next = inside.now() + 31_000;
        device.answer(sent, true, 888);
        device.heartbeat();
        inside.wait_until(next);
    }
    assert_eq!(agent.events("alert"), ["alert.raised"]);
    let rows = kept(agent);
    let ended = rows[0]["ended_up"].as_u64().unwrap();
    assert_eq!(check(agent).1.len(), 1, "what is ignored is set aside, and listed all the same");
    device.status(charging(888, 1, 2));
    let told = told_rate(agent);
    let known = agent.rows("SELECT known_up, updated_up FROM ports").pop().unwrap();
    let port_time = known["updated_up"].as_u64().unwrap() - known["known_up"].as_u64().unwrap();
    let expected = 100.0 - 100.0 * (ended - row["late_up"].as_u64().unwrap()) as f64 / port_time as f64;
    assert!((told - expected).abs() < 1.0, "{told} % told, {expected} expected");
    assert!((50.0..90.0).contains(&told), "62 s of some 250: {told} %");
    assert_eq!(kept(agent).len(), 1);
}

#[test]
fn a_session_that_is_only_watched_is_listed_and_counts_for_nothing() {
    let inside = Scaled::start(30, &format!("{SLOW_ANSWERS}unknown_session = \"watch\"\n"));
    let agent = &inside.agent;
    let mut device = Device::idle(agent);
    device.status(charging(888, 1, 1));
    let began = inside.now();
    let question = device.expect_question();
    device.answer_question(question, charging(888, 1, 1));
    device.heartbeat();
    assert_eq!(repaired(agent).len(), 1);
    inside.wait_until(began + 160_000);
    device.status(charging(888, 1, 2));
    assert_eq!((check(agent).1.len(), kept(agent)), (1, vec![]));
    assert_eq!(told_rate(agent), 100.0);
}

/// The device comes back, and its socket shows this when it is asked.
fn returns(agent: &Agent, shows: Shows, status: i64) -> Device {
    let mut device = Device::connect(agent);
    loop {
        if let (message_id, Downlink::QueryStatus(_)) = device.hear().unwrap() {
            device.answer_question(message_id, shows);
            break;
        }
    }
    let shown = |row: Value| (row["status"] == status).then_some(());
    wait_for("its status", || shown(agent.rows("SELECT status FROM ports").pop().unwrap()));
    device
}

#[test]
fn an_inconsistency_that_outlives_a_kill_stays_one_row() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.status(charging(888, 1, 1));
    let question = device.expect_question();
    device.answer_question(question, charging(888, 1, 1));
    let sent = device.expect_stop();
    device.answer(sent, true, 888);
    // 2 s of grace, 1 s for an answer, 30 s to be told of.
    wait_within(Duration::from_secs(60), "the end of the grace", || kept(&agent).pop());
    device.status(charging(888, 1, 2));
    let sent = device.expect_stop();
    device.answer(sent, true, 888);
    device.heartbeat();
    for _ in 0..2 {
        let before = kept(&agent);
        agent.kill();
        assert!(told_rate(&agent) < 100.0, "the file alone tells");
        agent.run();
        let _back = returns(&agent, charging(888, 1, 2), 129);
        assert_eq!(kept(&agent), before);
        assert_eq!(before[0]["ended_up"], Value::Null);
        agent.kill();
        agent.run();
        assert_eq!(kept(&agent), before, "nobody has come back yet");
    }
    // This time it was switched off meanwhile.
    agent.kill();
    agent.run();
    let _back = returns(&agent, IDLE, 9);
    let rows = kept(&agent);
    assert_eq!(rows.len(), 1);
    assert!(rows[0]["ended_up"].as_u64() >= rows[0]["late_up"].as_u64(), "{rows:?}");
    assert!(rows[0]["ended_at"].is_i64());
}

#[test]
fn an_inconsistency_of_a_port_that_is_not_heard_of_again_ended_with_the_run() {
    let config = "[devices]\nheartbeat_interval = \"1s\"\noffline_after = \"2s\"\n[orders]\nanswer_timeout = \"1s\"\n";
    let mut agent = Agent::start(config);
    drop(Device::idle(&agent));
    assert!(agent.end().success());
    let db = Connection::open(agent.path("store.db")).unwrap();
    let row = format!(
        "INSERT INTO inconsistencies VALUES ('{}', 1, 0, 'lonely_charging_port', 5, 1, 2, NULL, NULL, NULL)",
        id()
    );
    db.execute_batch(&row).unwrap();
    drop(db);
    agent.run();
    assert_eq!(kept(&agent)[0]["ended_up"], Value::Null, "its device may return");
    let row = wait_for("its end", || kept(&agent).pop().filter(|row| !row["ended_up"].is_null()));
    let up = agent.rows("SELECT value FROM meta WHERE key = 'up_ms'").pop().unwrap();
    assert!(row["ended_up"].as_u64() <= up["value"].as_u64().map(|up| up + 100), "{row} {up}");
}
