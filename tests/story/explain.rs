//! `orders --explain`: the story of one order.

use chargegate::ids::{MessageId, PortNo};
use serde_json::{Value, json};

use crate::code;
use crate::support::{Agent, Device, FAST, IDLE, Shows, charging, end_of, id, start, wait_for};

/// The lines for people.
fn told(agent: &Agent, order_no: &str) -> Vec<String> {
    let (ended, out, error) = agent.cli(&["orders", "--explain", order_no]);
    assert_eq!((ended, error.as_str()), (Some(0), ""));
    out.lines().map(str::to_owned).collect()
}

fn objects(agent: &Agent, order_no: &str) -> Vec<Value> {
    let (ended, out, error) = agent.cli(&["orders", "--json", "--explain", order_no]);
    assert_eq!((ended, error.as_str()), (Some(0), ""));
    serde_json::from_str(&out).unwrap()
}

/// These texts stand in lines that follow each other, others between.
fn in_order(lines: &[String], texts: &[&str]) {
    let mut rest = lines.iter();
    for text in texts {
        let text_of = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(rest.any(|line| text_of(line).contains(text)), "{text:?} does not follow in {lines:#?}");
    }
}

fn closes(agent: &Agent) {
    wait_for("the close", || (agent.order()["status"] == 7).then_some(()));
}

const CLOSED_WITHOUT: &str = "decided order.closed end_report_missing estimated — the port was shown idle and no end \
                              report came within orders.end_report_grace";

#[test]
fn the_story_of_an_order_without_a_report_tells_what_was_asked_said_and_decided_and_why() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let mut command = start(60);
    command["actor"] = "ann".into();
    let client = agent.begin(command);
    let message_id = device.expect_start();
    device.answer(message_id, true, 26);
    let order_no = client.reply()["order_no"].as_str().unwrap().to_owned();
    device.status(charging(26, 3, 2));
    device.status(IDLE);
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    closes(&agent);
    let expected = [
        "asked start_charge by ann: time device 82241218000382 minutes 60 port 0 socket 1 -> done",
        "decided order taken in: time minutes 60",
        "down start 07 socket 1 port A 60 min",
        "up start/stop 07 answer ok socket 1 port A number 26",
        "decided order.started — the device accepted the start",
        "up status 1017 socket 1 port A charging number 26 120.0 W 3 Wh 2 min",
        "up status 1017 socket 1 port A idle",
        "down status query 1d socket 1",
        "up status answer 1c socket 1 port A idle",
        CLOSED_WITHOUT,
        "record completed end_report_missing estimated, not final, revision 1; 3 Wh",
        "verdict never_received — no end report of socket 1 port A is among the frames",
    ];
    in_order(&told(&agent, &order_no), &expected);
    let objects = objects(&agent, &order_no);
    for object in &objects {
        for name in ["at", "kind", "text", "why"] {
            assert!(object.get(name).is_some(), "{name} is missing in {object}");
        }
    }
    let kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["asked", "decided"]);
    assert_eq!(kinds[kinds.len() - 2..], ["record", "verdict"]);
    let times: Vec<&str> = objects.iter().filter_map(|object| object["at"].as_str()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(objects[0]["reply"]["result"], "done");
    // Without the agent, too, and nothing is changed by it.
    agent.end();
    in_order(&told(&agent, &order_no), &expected);
}

#[test]
fn an_unknown_order_has_no_story() {
    let agent = Agent::start(FAST);
    let (ended, out, error) = agent.cli(&["orders", "--explain", "NEVER"]);
    assert_eq!((ended, out.as_str()), (Some(1), ""));
    assert_eq!(error, "chargegate: orders: no order has the number NEVER\n");
    assert_eq!(agent.cli(&["orders", "--explain", ""]).0, Some(1));
    assert_eq!(agent.cli(&["orders", "--explain"]).0, Some(2));
    assert_eq!(agent.cli(&["orders", "--explain", "X", "--open"]).0, Some(2));
    assert_eq!(agent.cli(&["ports", "--explain", "X"]).0, Some(2));
}

#[test]
fn an_end_that_could_not_be_read_is_in_the_story_and_is_its_verdict() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    // A port 7 in an end report makes no sense.
    let mut bytes = end_of(0xb0, 26, 7, 2).encode(id(), MessageId::DEVICE);
    let at = bytes.windows(2).position(|pair| pair == [0x1e, 0x00]).unwrap() + 1;
    bytes[at] = 7;
    let end = bytes.len();
    bytes[end - 3] = bytes[end - 3].wrapping_add(7);
    device.raw(&bytes);
    device.expect_end_ack();
    device.status(IDLE);
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    closes(&agent);
    assert_eq!(agent.order()["verdict"], "received_malformed");
    in_order(
        &told(&agent, &order_no),
        &["up unreadable 0015/02 charge end: port at byte", CLOSED_WITHOUT, "verdict received_malformed — one came at"],
    );
    let verdict = objects(&agent, &order_no).pop().unwrap();
    assert!(verdict["why"].as_str().unwrap().contains("0015/02 charge end: port"), "{verdict}");
}

/// A status that changed both ports stands in the journal once, under one of them.
#[test]
fn frames_of_its_own_port_belong_to_it_although_the_journal_names_another_order() {
    let agent = Agent::start(FAST);
    let mut device = Device::connect(&agent);
    device.status_of(&[(PortNo::A, IDLE), (PortNo::B, IDLE)]);
    let a = device.run_order(&agent, 26, 60);
    let mut command = start(60);
    command["port"] = 1.into();
    let client = agent.begin(command);
    let message_id = device.expect_start();
    device.answer_at(PortNo::B, message_id, true, 27);
    let b = client.reply()["order_no"].as_str().unwrap().to_owned();
    device.status_of(&[(PortNo::A, charging(26, 5, 2)), (PortNo::B, charging(27, 2, 2))]);
    let both = "up status 1017 socket 1 port A charging number 26 120.0 W 5 Wh 2 min, port B charging number 27 \
                120.0 W 2 Wh 2 min";
    let of_status = agent.rows("SELECT order_no FROM journal WHERE direction = 'up' ORDER BY id DESC LIMIT 1");
    assert_eq!(of_status, [json!({ "order_no": a })]);
    in_order(&told(&agent, &a), &[both]);
    in_order(&told(&agent, &b), &["port B number 27", both]);
    device.ends(0xb0, 26, 6, 2);
    let of_b = told(&agent, &b);
    assert!(!of_b.iter().any(|line| line.contains("charge end")), "the end of port A is none of its: {of_b:#?}");
    in_order(&told(&agent, &a), &["up charge end 02 socket 1 port A number 26 6 Wh 2 min"]);
}

#[test]
fn who_stopped_it_and_what_became_of_it_is_told() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let client = agent.begin(json!({ "type": "stop_charge", "order_no": order_no, "actor": "bob" }));
    let message_id = device.expect_stop();
    device.answer(message_id, true, 26);
    assert_eq!(code(&client.reply()).0, "done");
    device.ends(0xb0, 26, 1, 1);
    in_order(
        &told(&agent, &order_no),
        &[
            "asked stop_charge by bob:",
            "a command wants it stopped",
            "decided order.completed remote_stop reported — the device's own end report came; a stop by command was \
             accepted or not answered",
            "stopped by bob",
            "verdict none — the device's own end report stands",
        ],
    );
}

#[test]
fn a_lost_device_and_the_late_report_are_part_of_the_story() {
    let agent = Agent::start(&format!("{FAST}offline_timeout = \"1s\"\n"));
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    device.status(charging(26, 3, 0));
    drop(device);
    closes(&agent);
    let mut device = Device::connect(&agent);
    device.expect_question();
    device.end(0xb0, 26, 9, 1);
    wait_for("the correction", || (agent.order()["settlement"] == "corrected").then_some(()));
    in_order(
        &told(&agent, &order_no),
        &[
            "device device.offline",
            "decided order.closed offline provisional — its device or socket was last heard orders.offline_timeout ago",
            "up charge end 02 socket 1 port A number 26 9 Wh 1 min",
            "decided order.corrected unknown corrected — an end report came after the close",
            "record completed unknown corrected, final, revision 2; 9 Wh, 1 min",
            "verdict never_received",
        ],
    );
}

#[test]
fn a_socket_that_was_lost_is_seen_in_its_frames() {
    let agent = Agent::start(&format!("{FAST}offline_timeout = \"1s\"\n"));
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    device.status(charging(26, 3, 0));
    device.status(Shows { raw: 0x30, ..charging(26, 3, 0) });
    closes(&agent);
    in_order(
        &told(&agent, &order_no),
        &["up status 1017 socket 1 port A socket offline", "decided order.closed offline provisional"],
    );
    device.status(charging(26, 4, 1));
    wait_for("the return", || (agent.order()["status"] == 2).then_some(()));
    in_order(
        &told(&agent, &order_no),
        &["order.closed offline", "port A charging number 26 120.0 W 4 Wh 1 min", "decided order.resumed"],
    );
}

#[test]
fn a_claimed_order_has_one_story_under_both_of_its_numbers() {
    let agent = Agent::start(FAST);
    let mut device = Device::connect(&agent);
    device.status(charging(500, 90, 30));
    let was = agent.order()["order_no"].as_str().unwrap().to_owned();
    let claim = json!({ "type": "claim_order", "order_no": was, "new_order_no": "CLOUD-1" });
    assert_eq!(code(&agent.command(claim)).0, "done");
    device.ends(0xb0, 500, 91, 31);
    let lines = told(&agent, "CLOUD-1");
    let claimed =
        format!("decided order.claimed — the cloud gave its own number to an adopted order; until then it was {was}");
    in_order(
        &lines,
        &[
            &format!("order CLOUD-1, claimed from {was}: device 82241218000382 socket 1 port A"),
            "up status 1017 socket 1 port A charging number 500",
            "decided order.adopted — it charged already when its port was first seen",
            "asked claim_order by",
            &claimed,
            "decided order.completed unknown reported",
        ],
    );
    assert_eq!(told(&agent, &was), lines);
}

/// The retries of a start that nobody answers.
#[test]
fn each_try_of_a_start_is_told_with_what_led_to_it() {
    let agent = Agent::start(&format!("{FAST}answer_retries = 1\n"));
    let mut device = Device::idle(&agent);
    let client = agent.begin(start(60));
    device.expect_start();
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    device.expect_start();
    let reply = client.reply();
    assert_eq!(code(&reply), ("failed", "no_answer", None));
    in_order(
        &told(&agent, reply["order_no"].as_str().unwrap()),
        &[
            "-> failed no_answer",
            "down start 07 socket 1 port A 60 min",
            "down status query 1d",
            "up status answer 1c socket 1 port A idle",
            "asked the port was idle: once more",
            "decided order.failed start_timeout provisional — the start was not answered",
            "down stop 07",
        ],
    );
}
