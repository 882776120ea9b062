//! Orders from start to settlement: the real program, real sockets, a device that says what it is told to.

use chargegate::bkv::{
    Abnormal, CardNo, CardPlan, CardSwipe, Downlink, EnergyUnits, Extras, FeeEnd, Key, ResultByte, Sequence, Setting,
    SettingValue, StatusByte, SwitchOrder, Uplink,
};
use chargegate::clock::{Clock, UpTime};
use chargegate::ids::{BusinessNo, Cents, DeciWatts, MessageId, Minutes, PortNo, WattHours};
use serde_json::{Value, json};

use crate::code;
use crate::scaled::Scaled;
use crate::support::{self, Agent, Client, Device, FAST, IDLE, charging, end_of, id, socket, start, wait_for};

/// The seed's first scene, on a clock sixty times as fast: every figure is right.
#[test]
fn a_seven_minute_charge_with_statuses_and_end_report_has_every_figure_right() {
    let inside = Scaled::start(60, "");
    let agent = &inside.agent;
    let mut device = Device::idle(agent);
    let order_no = device.run_order(agent, 26, 7);
    let begun = inside.now();
    for minute in 0..7 {
        device.status(charging(26, u16::try_from(minute * 2).unwrap(), minute));
        inside.wait_until(begun + u64::from(minute + 1) * 60_000);
    }
    device.ends(0xb0, 26, 14, 7);
    device.status(IDLE);
    let order = agent.order();
    let expected = json!({
        "order_no": order_no, "device_id": id(), "socket_no": 1, "port_no": 0, "business_no": 26, "source": "site",
        "mode": "time", "status": 7, "end_reason": "time_reached", "settlement": "reported", "final": 1, "revision": 1,
        "verdict": null, "energy_wh": 14, "energy_max_wh": 14, "minutes": 7, "minutes_max": 7, "spent_cents": null,
        "peak_power_w": 120.0, "raw_status": 0xb0, "flags": "[]", "stopped_by": null,
    });
    for (column, value) in expected.as_object().unwrap() {
        assert_eq!(order[column], *value, "{column}");
    }
    let lasted = order["end_time"].as_i64().unwrap() - order["start_time"].as_i64().unwrap();
    assert!((420_000..480_000).contains(&lasted), "{lasted} ms");
    assert_eq!(agent.events("order"), ["order.started", "order.completed"]);
    let port = agent.rows("SELECT status, business_no, power_w FROM ports").pop().unwrap();
    assert_eq!((&port["status"], &port["business_no"]), (&json!(9), &Value::Null));
}

#[test]
fn each_mode_goes_out_as_it_was_ordered() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let at = |mode: &str, more: Value| {
        let mut command = json!({ "type": "start_charge", "device": id(), "socket": 1, "port": 0, "mode": mode });
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        command
    };
    let tiers = json!([{ "power_w": 200, "price_cents": 25, "minutes": 60 }, { "power_w": 400.5, "price_cents": 50, "minutes": 60 }]);
    let fee = json!([{ "until": "08:00", "electricity_cents": 30, "service_cents": 10 },
                     { "until": "23:59", "electricity_cents": 50, "service_cents": 20 }]);
    let rows = [
        at("time", json!({ "minutes": 240 })),
        at("energy", json!({ "energy_wh": 1500 })),
        at("tiers", json!({ "amount_cents": 100, "tiers": tiers })),
        at("fee", json!({ "amount_cents": 100, "service_fee_by": "energy", "tiers": fee })),
    ];
    for (place, command) in rows.into_iter().enumerate() {
        let number = 100 + u16::try_from(place).unwrap();
        let client = agent.begin(command);
        let (message_id, message) = device.hear().unwrap();
        match (place, message) {
            (0, Downlink::Switch(switch)) => assert_eq!(switch.order, SwitchOrder::Time(Minutes(240))),
            (1, Downlink::Switch(switch)) => assert_eq!(switch.order, SwitchOrder::Energy(WattHours(1500))),
            (2, Downlink::StartByTiers(start)) => {
                assert_eq!((start.amount, start.tiers.len()), (Cents(100), 2));
                assert_eq!((start.tiers[1].limit, start.tiers[1].price), (DeciWatts(4005), Cents(50)));
            }
            (3, Downlink::StartByFee(start)) => {
                assert_eq!((start.amount, start.tiers.len()), (Cents(100), 2));
                assert_eq!((start.tiers[0].until_hour, start.tiers[1].until_minute), (8, 59));
            }
            (_, other) => panic!("start {place} went out as {other:?}"),
        }
        device.answer(message_id, true, number);
        assert_eq!(code(&client.reply()).0, "done");
        device.ends(0x98, number, 0, 0);
        device.status(IDLE);
    }
    let modes: Vec<Value> =
        agent.rows("SELECT mode FROM orders ORDER BY serial").iter().map(|row| row["mode"].clone()).collect();
    assert_eq!(modes, ["time", "energy", "tiers", "fee"]);
}

#[test]
fn starts_are_refused_for_the_first_reason_that_holds() {
    let agent = Agent::start(&format!("[devices]\n{FAST}"));
    let mut device = Device::idle(&agent);
    let other = "82241218000999";
    let with = |more: Value| {
        let mut command = start(60);
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        command
    };
    assert_eq!(agent.command(json!({ "type": "set_device", "device": other }))["result"], "done");
    let rows = [
        (with(json!({ "colour": 1 })), ("rejected", "out_of_range", Some("colour"))),
        (with(json!({ "energy_wh": 5 })), ("rejected", "out_of_range", Some("energy_wh"))),
        (with(json!({ "mode": "magic" })), ("rejected", "out_of_range", Some("mode"))),
        (
            with(json!({ "expires_at": "2020-01-01T00:00:00Z", "device": "82241218000001" })),
            ("rejected", "expired", Some("expires_at")),
        ),
        (with(json!({ "device": "82241218000001", "minutes": 0 })), ("rejected", "unknown_device", Some("device"))),
        (with(json!({ "device": other, "minutes": 0 })), ("rejected", "device_offline", Some("device"))),
        (with(json!({ "socket": 2, "minutes": 0 })), ("rejected", "unknown_port", Some("socket"))),
        (with(json!({ "port": 1, "minutes": 0 })), ("rejected", "unknown_port", Some("port"))),
        (with(json!({ "port": 7 })), ("rejected", "out_of_range", Some("port"))),
        (with(json!({ "minutes": 0 })), ("rejected", "out_of_range", Some("minutes"))),
        (with(json!({ "minutes": 901 })), ("rejected", "out_of_range", Some("minutes"))),
        (
            json!({ "type": "claim_order", "order_no": "x", "new_order_no": "y" }),
            ("rejected", "not_supported", Some("type")),
        ),
        (json!({ "type": "dance" }), ("rejected", "unknown_type", Some("type"))),
        (json!({ "type": "get_order", "order_no": "nobody's" }), ("rejected", "unknown_order", Some("order_no"))),
    ];
    for (command, expected) in rows {
        let reply = agent.command(command.clone());
        if command["type"] == "claim_order" && code(&reply) != expected {
            continue; // a later version knows it
        }
        assert_eq!(code(&reply), expected, "{command} {reply}");
    }
    agent.command(json!({ "type": "set_device", "device": id(), "enabled": false }));
    assert_eq!(code(&agent.command(start(60))).1, "device_disabled");
    agent.command(json!({ "type": "set_device", "device": id(), "enabled": true }));
    device.status(support::Shows { raw: 0xc0, ..IDLE });
    assert_eq!(code(&agent.command(start(60))), ("rejected", "port_fault", Some("port")));
    device.status(support::Shows { raw: 0x00, ..IDLE });
    assert_eq!(code(&agent.command(start(60))), ("rejected", "device_offline", Some("socket")));
    device.status(IDLE);
    let order_no = device.run_order(&agent, 26, 60);
    assert_eq!(code(&agent.command(start(60))), ("rejected", "port_busy", Some("port")));
    let again = agent.command(with(json!({ "order_no": order_no })));
    assert_eq!(code(&again).1, "duplicate_order_no");
    assert_eq!(again["data"]["order_no"], order_no);
    device.heartbeat();
    assert_eq!(agent.rows("SELECT count(*) AS n FROM orders")[0]["n"], 1);
}

#[test]
fn a_repeated_id_gets_the_same_reply_and_has_no_second_effect() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let mut command = start(60);
    command["id"] = "once".into();
    let first = agent.begin(command.clone());
    let message_id = device.expect_start();
    let second = agent.begin(command.clone());
    device.heartbeat();
    assert!(second.waits(), "it waits for the one that is under way");
    device.answer(message_id, true, 26);
    let reply = first.reply();
    assert_eq!(second.reply(), reply);
    assert_eq!(agent.command(command.clone()), reply);
    let mut other = command.clone();
    other["minutes"] = 61.into();
    assert_eq!(code(&agent.command(other)), ("rejected", "out_of_range", Some("id")));
    device.heartbeat();
    agent.kill();
    agent.run();
    assert_eq!(agent.command(command), reply, "after a restart, too");
    assert_eq!(agent.rows("SELECT count(*) AS n FROM orders")[0]["n"], 1);
}

#[test]
fn an_unanswered_start_is_asked_about_before_it_is_repeated_under_the_same_id() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let client = agent.begin(start(60));
    let message_id = device.expect_start();
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    assert_eq!(device.expect_start(), message_id);
    device.answer(message_id, false, 0);
    // The port may be busy because the first one worked: the refusal decides nothing.
    let question = device.expect_question();
    assert!(client.waits());
    device.answer_question(question, charging(26, 0, 0));
    let reply = client.reply();
    assert_eq!(code(&reply).0, "done");
    assert_eq!((agent.order()["status"].clone(), agent.order()["business_no"].clone()), (json!(2), json!(26)));
}

#[test]
fn a_start_that_stays_unanswered_fails_and_its_stop_is_owed_until_the_port_is_idle() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let client = agent.begin(start(60));
    device.expect_start();
    device.expect_question();
    device.expect_question();
    let stop = device.expect_stop();
    assert_eq!(code(&client.reply()), ("failed", "no_answer", None));
    let order = agent.order();
    assert_eq!(
        (&order["status"], &order["end_reason"], &order["settlement"]),
        (&json!(6), &json!("start_timeout"), &json!("provisional"))
    );
    assert_eq!((&order["energy_max_wh"], &order["minutes_max"]), (&json!(1000), &json!(60)));
    device.answer(stop, true, 0);
    assert_eq!(code(&agent.command(start(60))).1, "port_busy", "held");
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    let order = wait_for("the estimate", || Some(agent.order()).filter(|order| order["settlement"] == "estimated"));
    assert_eq!((&order["status"], &order["revision"]), (&json!(6), &json!(2)));
    device.run_order(&agent, 27, 60);
}

#[test]
fn a_stop_of_a_pending_order_cancels_it_at_once_and_a_late_ok_is_answered_with_a_stop() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let mut command = start(60);
    command["order_no"] = "A-1".into();
    let started = agent.begin(command);
    let message_id = device.expect_start();
    let stopped = agent.begin(json!({ "type": "stop_charge", "order_no": "A-1" }));
    let stop = device.expect_stop();
    assert_eq!(code(&started.reply()), ("failed", "cancelled", None));
    device.answer(stop, true, 0);
    assert_eq!(code(&stopped.reply()).0, "done");
    device.answer(message_id, true, 44);
    device.expect_stop();
    device.ends(0x80, 44, 1, 0);
    let order = agent.order();
    assert_eq!(
        (&order["status"], &order["end_reason"], &order["business_no"]),
        (&json!(5), &json!("cancelled"), &json!(44))
    );
    assert_eq!((&order["settlement"], &order["energy_wh"]), (&json!("corrected"), &json!(1)));
}

#[test]
fn an_accepted_stop_ends_with_the_devices_report() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    device.status(charging(26, 1, 0));
    let client = agent.begin(json!({ "type": "stop_charge", "order_no": order_no, "actor": "guard" }));
    let stop = device.expect_stop();
    device.answer(stop, true, 26);
    assert_eq!(code(&client.reply()).0, "done");
    assert_eq!(agent.order()["status"], 9);
    device.ends(0x80, 26, 2, 1);
    let order = agent.order();
    assert_eq!(
        (&order["end_reason"], &order["settlement"], &order["stopped_by"]),
        (&json!("remote_stop"), &json!("reported"), &json!("guard"))
    );
    let again = agent.command(json!({ "type": "stop_charge", "order_no": order_no }));
    assert_eq!(code(&again), ("rejected", "order_not_open", Some("order_no")));
}

#[test]
fn a_stop_that_is_refused_or_finds_nobody_stays_owed() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let client = agent.begin(json!({ "type": "stop_charge", "order_no": order_no }));
    let stop = device.expect_stop();
    device.answer(stop, false, 26);
    let reply = client.reply();
    assert_eq!((code(&reply), &reply["data"]), (("failed", "refused_by_device", None), &json!({ "stop_owed": true })));
    drop(device);
    wait_for("the device offline", || {
        agent.events("device").last().filter(|event| *event == "device.offline").map(drop)
    });
    let reply = agent
        .command(json!({ "type": "stop_charge", "device": id(), "socket": 1, "port": 0, "expect_order_no": order_no }));
    assert_eq!((code(&reply), &reply["data"]), (("failed", "device_offline", None), &json!({ "stop_owed": true })));
    let mut device = Device::connect(&agent);
    let stop = device.expect_stop();
    device.answer(stop, true, 26);
    wait_for("the order to stop", || (agent.order()["status"] == 9).then_some(()));
}

#[test]
fn a_stop_by_port_without_an_order_is_sent_all_the_same() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let client = agent.begin(json!({ "type": "stop_charge", "device": id(), "socket": 1, "port": 0 }));
    let stop = device.expect_stop();
    device.answer(stop, true, 0);
    assert_eq!(code(&client.reply()).0, "done");
}

#[test]
fn a_repeated_end_report_is_acknowledged_again_and_changes_nothing() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 7);
    device.ends(0xb0, 26, 14, 1);
    let order = agent.order();
    device.ends(0xb0, 26, 14, 1);
    assert_eq!(agent.order(), order);
    agent.kill();
    agent.run();
    let mut device = Device::connect(&agent);
    device.expect_question();
    device.ends(0xb0, 26, 14, 1);
    assert_eq!(agent.order()["revision"], order["revision"]);
    assert_eq!(agent.events("order"), ["order.started", "order.completed"]);
    let verdicts = agent.rows("SELECT verdict FROM journal WHERE verdict = 'duplicate'");
    assert_eq!(verdicts.len(), 2);
    device.ends(0xb0, 26, 15, 1);
    device.ends(0xb0, 26, 15, 1);
    assert_eq!(
        agent.events("order"),
        ["order.started", "order.completed", "order.unknown_end"],
        "another one for an order that has its report: acknowledged each time, told once"
    );
}

#[test]
fn an_end_before_the_answer_is_kept_and_an_ok_without_a_number_takes_it() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let client = agent.begin(start(60));
    let message_id = device.expect_start();
    device.ends(0x98, 33, 0, 0);
    device.answer(message_id, true, 0);
    assert_eq!(code(&client.reply()).0, "done");
    let order = agent.order();
    assert_eq!(
        (&order["status"], &order["business_no"], &order["end_reason"]),
        (&json!(7), &json!(33), &json!("no_load"))
    );
    assert_eq!(order["start_time"], order["created_at"], "ok and end in one: it began with the first sending");
}

#[test]
fn an_acknowledged_report_survives_a_kill_and_a_pending_start_is_asked_about() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 7);
    device.ends(0xb0, 26, 14, 1);
    agent.kill();
    agent.run();
    assert_eq!(agent.order()["settlement"], "reported");
    let mut device = Device::connect(&agent);
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    let mut command = start(60);
    command["id"] = "pending".into();
    let lost = agent.begin(command.clone());
    device.expect_start();
    agent.kill();
    drop(lost);
    agent.run();
    let mut device = Device::connect(&agent);
    let question = device.expect_question();
    device.answer_question(question, charging(27, 0, 0));
    assert_eq!(code(&agent.command(command)).0, "done", "the reply follows the order's fate");
    assert_eq!(agent.order()["business_no"], 27);
}

#[test]
fn a_session_that_ran_before_the_agent_came_becomes_an_order_and_is_let_run() {
    let agent = Agent::start(FAST);
    let mut device = Device::connect(&agent);
    device.status(charging(500, 100, 30));
    let order = agent.order();
    assert_eq!((&order["source"], &order["plan"], &order["status"]), (&json!("adopted"), &Value::Null, &json!(2)));
    let before = order["created_at"].as_i64().unwrap() - order["start_time"].as_i64().unwrap();
    assert_eq!(before, 30 * 60_000);
    device.ends(0xb0, 500, 120, 31);
    assert_eq!(agent.order()["flags"], "[]");
}

#[test]
fn a_session_of_nobody_is_asked_about_after_the_grace_and_stopped() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.status(charging(888, 1, 1));
    let question = device.expect_question();
    device.answer_question(question, charging(888, 1, 1));
    device.expect_stop();
    assert_eq!(agent.events("order"), ["consistency.repaired"]);
}

#[test]
fn another_number_is_asked_about_and_then_the_orders_own() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(27, 1, 0));
    assert_eq!(agent.order()["business_no"], 26, "no evidence until a question repeats it");
    let question = device.expect_question();
    device.answer_question(question, charging(27, 1, 0));
    wait_for("the number", || (agent.order()["business_no"] == 27).then_some(()));
    device.ends(0xb0, 27, 2, 1);
    assert_eq!(agent.order()["settlement"], "reported");
}

#[test]
fn an_idle_port_without_a_report_ends_its_order_with_the_evidence() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 3, 0));
    device.status(IDLE);
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    let order = wait_for("the close", || Some(agent.order()).filter(|order| order["status"] == 7));
    assert_eq!(
        (&order["end_reason"], &order["settlement"], &order["verdict"]),
        (&json!("end_report_missing"), &json!("estimated"), &json!("never_received"))
    );
    device.ends(0xb0, 26, 4, 1);
    let order = agent.order();
    assert_eq!(
        (&order["settlement"], &order["revision"], &order["energy_wh"]),
        (&json!("corrected"), &json!(2), &json!(4))
    );
}

#[test]
fn an_order_of_a_device_that_is_away_is_closed_and_opens_again_when_it_returns_charging() {
    let agent = Agent::start(&format!("{FAST}offline_timeout = \"1s\"\n"));
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 1, 0));
    drop(device);
    let order = wait_for("the close", || Some(agent.order()).filter(|order| order["status"] == 7));
    assert_eq!(
        (&order["end_reason"], &order["settlement"], &order["final"]),
        (&json!("offline"), &json!("provisional"), &json!(0))
    );
    assert_eq!((&order["energy_max_wh"], &order["minutes_max"]), (&json!(1000), &json!(60)), "the whole plan");
    let mut device = Device::connect(&agent);
    let question = device.expect_question();
    device.answer_question(question, charging(26, 2, 0));
    let order = wait_for("the return", || Some(agent.order()).filter(|order| order["status"] == 2));
    assert_eq!(
        (&order["end_reason"], &order["settlement"], &order["revision"]),
        (&Value::Null, &Value::Null, &json!(2))
    );
    assert_eq!(agent.events("order").last().unwrap(), "order.resumed");
}

#[test]
fn every_kind_of_report_is_acknowledged_in_its_form() {
    let agent = Agent::start("[[models]]\ndevice_model = \"E\"\nend_ack = \"echo\"\n");
    let mut device = Device::idle(&agent);
    let fee = FeeEnd {
        sequence: Sequence::MessageId,
        temperature_c: Some(42),
        socket: socket(),
        port: PortNo::A,
        status: StatusByte(0x98),
        business_no: BusinessNo::new(51),
        power: DeciWatts(0),
        current: None,
        energy_units: EnergyUnits(1),
        minutes: Minutes(1),
        end_time: None,
        reason: Some(8),
        mode: Some(4),
        electricity_fee: Some(Cents(3)),
        service_fee: Some(Cents(1)),
        tiers: Some(0),
        tier_items: Vec::new(),
        extras: Extras::default(),
    };
    device.say(&Uplink::FeeEnd(fee));
    let (_, message) = device.hear().unwrap();
    let Downlink::FeeEndAck(ack) = message else { panic!("{message:?}") };
    assert_eq!((ack.result, ack.socket, ack.port), (ResultByte::OK, 1, 0));
    let setting = Setting { key: Key::SocketReason, value: SettingValue::U8(8) };
    let event = Abnormal { sequence: Sequence::MessageId, socket: socket(), settings: vec![setting] };
    for _ in 0..2 {
        device.say(&Uplink::Abnormal(event.clone()));
        let (_, message) = device.hear().unwrap();
        let Downlink::AbnormalAck(ack) = message else { panic!("{message:?}") };
        assert_eq!((ack.socket, ack.result), (1, ResultByte::OK));
    }
    assert_eq!(agent.events("abnormal"), ["abnormal.reported"], "a repetition is acknowledged and told once");
    let card_no = CardNo([0, 0, 0, 0, 2, 9]);
    let swipe = CardSwipe {
        socket: socket(),
        port: PortNo::A,
        business_no: BusinessNo::new(6800),
        status: StatusByte(0x90),
        card_no,
        reserved: [0; 20],
    };
    device.say(&Uplink::CardSwipe(swipe));
    let (message_id, message) = device.hear().unwrap();
    let Downlink::CardOrder(off) = message else { panic!("{message:?}") };
    assert_ne!(message_id, MessageId::DEVICE);
    assert_eq!((off.plan, off.business_no), (CardPlan::Off, BusinessNo::new(6800)));
    assert_eq!(agent.events("device").last().unwrap(), "card.refused");
    agent.command(json!({ "type": "set_device", "device": id(), "device_model": "E" }));
    device.say(&end_of(0x98, 7, 0, 0));
    let (_, message) = device.hear().unwrap();
    let Downlink::EndAck(ack) = message else { panic!("{message:?}") };
    assert_eq!(ack.form, chargegate::bkv::EndAckForm::Echo(chargegate::bkv::EndKind::Charge));
}

#[test]
fn devices_are_told_the_local_time_of_the_site() {
    let agent = Agent::start("[site]\nutc_offset = \"+05:30\"\n");
    let mut device = Device::silent(&agent, id());
    let heartbeat = chargegate::bkv::Heartbeat {
        iccid: chargegate::bkv::AsciiText::new("89860446112070301941").unwrap(),
        firmware: chargegate::bkv::AsciiText::new("v1.146").unwrap(),
        rssi: 28,
    };
    device.say(&Uplink::Heartbeat(heartbeat));
    let (_, message) = device.hear().unwrap();
    let Downlink::HeartbeatReply(reply) = message else { panic!("{message:?}") };
    let local = Clock::start(UpTime(0)).now().wall.0 + (5 * 60 + 30) * 60_000;
    let calendar = chargegate::time_text::calendar(chargegate::clock::WallTime(local));
    assert_eq!((reply.time.hour, reply.time.day), (calendar.hour, calendar.day));
    assert!(reply.time.minute.abs_diff(calendar.minute) <= 1);
}

#[test]
fn a_query_brings_the_socket_and_its_ports() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let client = agent.begin(json!({ "type": "query_status", "device": id(), "socket": 1 }));
    let question = device.expect_question();
    device.answer_question(question, charging(9, 5, 1));
    let reply = client.reply();
    assert_eq!(reply["data"]["socket"]["socket_no"], 1, "{reply}");
    assert_eq!(reply["data"]["ports"][0]["business_no"], 9);
    assert_eq!(reply["data"]["ports"][0]["power_w"], 120.0);
    let client = agent.begin(json!({ "type": "query_status", "device": id(), "socket": 1 }));
    for _ in 0..3 {
        device.expect_question();
    }
    assert_eq!(code(&client.reply()), ("failed", "no_answer", None));
}

#[test]
fn devices_and_sockets_are_set_and_removed() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    agent.command(json!({ "type": "set_device", "device": id(), "device_model": "X", "note": "left of the gate" }));
    agent.command(
        json!({ "type": "set_socket", "device": id(), "socket": 1, "uid": "P-17", "mac": "03:35:00:30:70:12" }),
    );
    let row = agent
        .rows("SELECT d.device_model, d.note, s.uid, s.mac FROM devices d JOIN sockets s USING (device_id)")
        .pop()
        .unwrap();
    assert_eq!(row, json!({ "device_model": "X", "note": "left of the gate", "uid": "P-17", "mac": "033500307012" }));
    device.run_order(&agent, 26, 60);
    let remove = json!({ "type": "remove_device", "device": id() });
    assert_eq!(code(&agent.command(remove.clone())), ("rejected", "order_open", Some("device")));
    device.ends(0x98, 26, 0, 0);
    assert_eq!(code(&agent.command(remove)).0, "done");
    assert!(device.hear().is_none(), "its connection is closed");
    assert_eq!(agent.rows("SELECT count(*) AS n FROM devices")[0]["n"], 0);
    assert_eq!(agent.rows("SELECT count(*) AS n FROM orders")[0]["n"], 1, "its orders stay");
}

#[test]
fn unknown_devices_are_refused_where_only_registered_ones_are_let_in() {
    let agent = Agent::start("[devices]\nadmission = \"registered\"\n");
    let mut stranger = Device::silent(&agent, id());
    stranger.say(&end_of(0x98, 1, 0, 0));
    assert!(stranger.hear().is_none());
    let refused = agent.rows("SELECT data FROM events WHERE type = 'device.refused'").pop().unwrap();
    let data: Value = serde_json::from_str(refused["data"].as_str().unwrap()).unwrap();
    assert_eq!((&data["reason"], &data["count"], &data["device"]), (&json!("unknown"), &json!(1), &json!(id())));
    agent.command(json!({ "type": "set_device", "device": id() }));
    Device::connect(&agent);
}

#[test]
fn the_newer_connection_wins_and_another_devices_id_closes() {
    let agent = Agent::start(FAST);
    let mut older = Device::idle(&agent);
    let mut newer = Device::connect(&agent);
    assert!(older.hear().is_none(), "the older is closed");
    newer.expect_question();
    newer.heartbeat();
    assert_eq!(agent.rows("SELECT online FROM devices")[0]["online"], 1);
    assert!(!agent.events("device").contains(&"device.offline".to_owned()));
    let mut beside = Device::connect_as(&agent, "82241218000500".parse().unwrap());
    newer.id = "82241218000501".parse().unwrap();
    newer.say(&end_of(0x98, 1, 0, 0));
    assert!(newer.hear().is_none());
    beside.heartbeat();
    assert!(agent.events("device").contains(&"device.refused".to_owned()));
}

#[test]
fn the_tables_for_people_and_programs_read_the_same_with_and_without_the_agent() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 5, 1));
    let read = |agent: &Agent| {
        let (code, text, _) = agent.cli(&["orders", "--json", "--open"]);
        assert_eq!(code, Some(0));
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let orders = read(&agent);
    assert_eq!((&orders[0]["energy_wh"], &orders[0]["plan"]["minutes"]), (&json!(5), &json!(60)), "flushed first");
    assert!(agent.end().success());
    assert_eq!(read(&agent), orders);
    let (code, text, _) = agent.cli(&["ports"]);
    assert!(code == Some(0) && text.contains("82241218000382"), "{text}");
    let (code, _, complaint) = agent.cli(&["command", r#"{"type":"flush"}"#]);
    assert_eq!((code, complaint.lines().count()), (Some(1), 1), "{complaint}");
}

#[test]
fn sigterm_ends_cleanly_with_every_figure_kept() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 5, 1));
    let status = agent.end();
    assert_eq!(status.code(), Some(0));
    let order = agent.rows_as_they_are("SELECT energy_wh, status FROM orders").pop().unwrap();
    assert_eq!(order, json!({ "energy_wh": 5, "status": 2 }));
    assert!(!agent.socket().exists());
}

#[test]
fn sighup_takes_over_what_it_may_and_refuses_a_wrong_file() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let file = agent.path("agent.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("answer_timeout = \"1s\"", "answer_timeout = \"soon\"")).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    wait_for("the refusal", || agent.log().contains("the old configuration stays").then_some(()));
    let changed = text.replace("answer_timeout = \"1s\"", "answer_timeout = \"1s\"\nanswer_retries = 0");
    std::fs::write(&file, changed.replace("[log]", "[site]\nid = \"other\"\n[log]")).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    wait_for("the warning", || agent.log().contains("site.id changed, which needs a restart").then_some(()));
    let client = agent.begin(start(60));
    device.expect_start();
    device.expect_stop();
    assert_eq!(code(&client.reply()).1, "no_answer", "no retries any more");
}

#[test]
fn a_taken_port_a_foreign_store_and_a_second_agent_each_get_one_line() {
    let taken = Agent::start("");
    let mut second = Agent::prepare("");
    let text = std::fs::read_to_string(second.path("agent.toml")).unwrap();
    std::fs::write(second.path("agent.toml"), text.replace(&second.address.to_string(), &taken.address.to_string()))
        .unwrap();
    second.spawn();
    assert_eq!(second.ended().code(), Some(1));
    assert_eq!(last_line(&second), format!("chargegate: run: cannot listen on {}: address in use", taken.address));
    let mut same = Agent::prepare("");
    let text = std::fs::read_to_string(same.path("agent.toml")).unwrap();
    let other_store = text.replace(same.path("store.db").to_str().unwrap(), taken.path("store.db").to_str().unwrap());
    std::fs::write(same.path("agent.toml"), other_store).unwrap();
    same.spawn();
    assert_eq!(same.ended().code(), Some(1));
    assert!(last_line(&same).contains("in use"), "{}", last_line(&same));
    let mut foreign = Agent::prepare("");
    let db = rusqlite::Connection::open(foreign.path("store.db")).unwrap();
    db.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(db);
    let before = std::fs::read(foreign.path("store.db")).unwrap();
    foreign.spawn();
    assert_eq!(foreign.ended().code(), Some(2));
    assert_eq!(std::fs::read(foreign.path("store.db")).unwrap(), before);
}

fn last_line(agent: &Agent) -> String {
    agent.log().lines().last().unwrap_or_default().to_owned()
}

#[test]
fn replies_come_in_the_order_in_which_they_are_ready() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let mut client = Client::connect(&agent);
    let mut first = start(60);
    first["id"] = "slow".into();
    client.send(first.to_string().as_bytes());
    client.send(br#"{"id":"quick","type":"get_order","order_no":"none"}"#);
    assert_eq!(client.reply()["id"], "quick");
    let message_id = device.expect_start();
    device.answer(message_id, true, 26);
    assert_eq!(client.reply()["id"], "slow");
}
