//! `redecode`: old end reports read with the present decoder and configuration.

use std::fs;

use chargegate::clock::{UpTime, WallTime};
use chargegate::ids::{MessageId, PortNo};
use chargegate::store::{Direction, FrameVerdict, JournalRow, Settings, Store};
use serde_json::{Value, json};

use crate::support::{Agent, Device, FAST, IDLE, charging, end_of, id, socket, wait_for};

fn configure(agent: &Agent, more: &str) {
    let file = agent.path("agent.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, format!("{text}{more}")).unwrap();
}

fn corrections(agent: &Agent, arguments: &[&str], code: i32) -> Vec<Value> {
    let (ended, out, error) = agent.cli(&[&["redecode", "--json"], arguments].concat());
    assert_eq!(ended, Some(code), "{error}");
    serde_json::from_str(&out).unwrap()
}

/// An order that ran and told 120 units of energy.
fn reported(agent: &Agent) -> (Device, String) {
    let mut device = Device::idle(agent);
    let order_no = device.run_order(agent, 26, 60);
    device.status(charging(26, 1, 0));
    device.ends(0xb0, 26, 12, 1);
    device.status(IDLE);
    (device, order_no)
}

#[test]
fn nothing_is_told_when_the_reports_read_as_they_did() {
    let agent = Agent::start(FAST);
    let (_device, _) = reported(&agent);
    assert_eq!(corrections(&agent, &[], 0), [] as [Value; 0]);
    assert_eq!(corrections(&agent, &["--apply"], 0), [] as [Value; 0]);
    assert_eq!(agent.cli(&["redecode"]), (Some(0), String::new(), String::new()));
}

#[test]
fn another_energy_unit_is_told_and_booked_once_as_a_correction() {
    let agent = Agent::start(FAST);
    let (_device, order_no) = reported(&agent);
    let set = json!({ "type": "set_device", "device": id(), "device_model": "tenfold" });
    assert_eq!(agent.command(set)["result"], "done");
    configure(&agent, "[[models]]\ndevice_model = \"tenfold\"\nenergy_unit_wh = 10\n");

    let found = corrections(&agent, &[], 1);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["order_no"], order_no.as_str());
    assert_eq!((&found[0]["stands"]["energy_wh"], &found[0]["would_book"]["energy_wh"]), (&json!(12), &json!(120)));
    let (_, line, _) = agent.cli(&["redecode"]);
    assert_eq!(line.lines().count(), 1);
    assert!(line.starts_with(&order_no) && line.contains("energy_wh 12 -> 120"), "{line}");
    assert_eq!(agent.order()["energy_wh"], 12, "nothing is booked without --apply");

    // The agent still reads as it was started.
    let (ended, out, error) = agent.cli(&["redecode", "--apply"]);
    assert_eq!((ended, out.as_str()), (Some(1), ""));
    assert!(error.contains("SIGHUP"), "{error}");
    agent.signal(rustix::process::Signal::HUP);
    wait_for("the configuration", || {
        let (ended, _, _) = agent.cli(&["redecode", "--apply"]);
        (ended == Some(0)).then_some(())
    });
    let order = agent.order();
    let expected = json!({
        "energy_wh": 120, "energy_max_wh": 120, "settlement": "corrected", "revision": 2, "final": 1, "status": 7,
        "verdict": null, "minutes": 1,
    });
    for (column, value) in expected.as_object().unwrap() {
        assert_eq!(order[column], *value, "{column}");
    }
    assert_eq!(agent.events("order"), ["order.started", "order.completed", "order.corrected"]);
    assert_eq!(corrections(&agent, &["--apply"], 0), [] as [Value; 0], "once");
    assert_eq!(agent.order()["revision"], 2);
    let (_, story, _) = agent.cli(&["orders", "--explain", &order_no]);
    let corrected = story.lines().find(|line| line.contains("order.corrected")).unwrap();
    assert!(corrected.contains("with the present decoder and configuration (redecode)"), "{story}");
    assert!(story.contains("asked    redecode by "), "who had it booked: {story}");
}

#[test]
fn a_reason_that_was_not_known_is_booked_with_its_meaning() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let tiers = json!([{ "power_w": 200, "price_cents": 25, "minutes": 60 }]);
    let start = json!({ "type": "start_charge", "device": id(), "socket": 1, "port": 0, "mode": "tiers",
                        "amount_cents": 100, "tiers": tiers });
    let client = agent.begin(start);
    let (message_id, _) = device.hear().unwrap();
    device.answer(message_id, true, 26);
    assert_eq!(client.reply()["result"], "done");
    let chargegate::bkv::Uplink::ChargeEnd(plain) = end_of(0xb0, 26, 5, 1) else { panic!("an end") };
    device.say(&chargegate::bkv::Uplink::TiersEnd(chargegate::bkv::TiersEnd {
        figures: plain.figures,
        end_time: chargegate::bkv::DeviceTime::from_binary([0; 7]),
        reason: 9,
        amount: chargegate::ids::Cents(3),
        settlement_power: chargegate::ids::DeciWatts(1200),
        tiers: 1,
        tier_minutes: [1, 0, 0, 0, 0].map(chargegate::ids::Minutes),
    }));
    device.expect_end_ack();
    assert_eq!(agent.order()["end_reason"], "unknown");
    agent.end();
    configure(&agent, "[[reasons]]\ncode = 9\nend_reason = \"full\"\n");
    let (ended, _, error) = agent.cli(&["redecode", "--apply"]);
    assert_eq!(ended, Some(1));
    assert!(error.starts_with("chargegate: redecode: only a running agent can book"), "{error}");
    assert_eq!(error.lines().count(), 1);
    agent.run();
    assert_eq!(corrections(&agent, &["--apply"], 0)[0]["would_book"]["end_reason"], "full");
    assert_eq!(agent.order()["end_reason"], "full");
    assert_eq!(agent.order()["spent_cents"], 3);
}

/// Puts an end report into the journal of the agent, which is not running, as one that could not be read when the order
/// was closed.
fn misread(agent: &Agent, order: &Value, number: u16, minutes: u32) {
    let mut store = Store::open(&agent.path("store.db"), &Settings::default(), WallTime(0)).unwrap();
    let frame = end_of(0xb0, number, 7, minutes).encode(id(), MessageId::DEVICE);
    let up = order["closed_up"].as_u64().or(order["created_up"].as_u64()).unwrap();
    let row = JournalRow {
        at: WallTime(order["created_at"].as_i64().unwrap()),
        up: UpTime(up),
        device: Some(id()),
        socket: Some(socket()),
        port: Some(PortNo::A),
        direction: Direction::Up,
        frame: &frame,
        verdict: FrameVerdict::Malformed,
        reason: Some("of another time"),
        order_no: None,
    };
    store.add_journal(&row).unwrap();
    store.close().unwrap();
}

/// A frame that an earlier decoder could not read stands in the journal; the present one reads it.
#[test]
fn an_end_that_was_misread_when_it_came_is_found_again_and_booked_for_its_order() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    device.status(charging(26, 3, 0));
    device.status(IDLE);
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    wait_for("the close", || (agent.order()["status"] == 7).then_some(()));
    // Another order has begun since then: it is none of its business.
    let later = device.run_order(&agent, 26, 60);
    device.status(charging(26, 1, 0));
    let order = agent.rows(&format!("SELECT * FROM orders WHERE order_no = '{order_no}'")).pop().unwrap();
    assert_eq!((&order["settlement"], &order["verdict"]), (&json!("estimated"), &json!("never_received")));
    agent.end();

    misread(&agent, &order, 26, 2);

    agent.run();
    let found = corrections(&agent, &[], 1);
    assert_eq!((&found[0]["order_no"], &found[0]["journal_verdict"]), (&json!(order_no), &json!("malformed")));
    assert_eq!(found.len(), 1);
    assert_eq!(corrections(&agent, &["--apply"], 0).len(), 1);
    let corrected = agent.rows(&format!("SELECT * FROM orders WHERE order_no = '{order_no}'")).pop().unwrap();
    let expected = json!({
        "settlement": "corrected", "revision": 2, "energy_wh": 7, "energy_max_wh": 7, "minutes": 2, "minutes_max": 2,
        "raw_status": 0xb0, "final": 1, "verdict": "never_received", "end_time": order["end_time"],
    });
    for (column, value) in expected.as_object().unwrap() {
        assert_eq!(corrected[column], *value, "{column}");
    }
    let untouched = agent.rows(&format!("SELECT * FROM orders WHERE order_no = '{later}'")).pop().unwrap();
    assert_eq!((&untouched["status"], &untouched["energy_wh"]), (&json!(2), &json!(1)));
    assert_eq!(corrections(&agent, &["--apply"], 0), [] as [Value; 0], "once");
    let asked = agent.rows("SELECT actor FROM commands WHERE type = 'redecode'");
    assert_eq!(asked.len(), 1, "who had it booked is kept");
}

#[test]
fn a_misread_end_is_taken_by_the_order_that_never_got_a_number_if_it_was_open_then() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 0, 60);
    device.status(IDLE);
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    wait_for("the close", || (agent.order()["status"] == 7).then_some(()));
    let order = agent.order();
    assert_eq!(order["business_no"], Value::Null);
    agent.end();
    misread(&agent, &order, 31, 2);
    agent.run();
    assert_eq!(corrections(&agent, &[], 0), [] as [Value; 0], "two minutes are more than it can have run");
    agent.end();
    misread(&agent, &order, 31, 1);
    agent.run();
    let found = corrections(&agent, &["--apply"], 0);
    assert_eq!((found.len(), &found[0]["order_no"]), (1, &json!(order_no)));
    assert_eq!((&agent.order()["business_no"], &agent.order()["energy_wh"]), (&json!(31), &json!(7)));
}

#[test]
fn an_order_that_is_open_is_left_to_what_its_device_says() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 3, 0));
    let order = agent.order();
    agent.end();
    misread(&agent, &order, 26, 2);
    agent.run();
    assert_eq!(corrections(&agent, &["--apply"], 0), [] as [Value; 0]);
    assert_eq!((&agent.order()["status"], &agent.order()["energy_wh"]), (&json!(2), &json!(3)));
}
