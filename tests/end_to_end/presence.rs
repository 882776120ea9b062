//! Devices and sockets that come and go, who is let in, and who may start.

use std::net::TcpStream;

use chargegate::bkv::{CardPlan, Downlink, Uplink};
use chargegate::ids::{DeviceId, MessageId, PortNo};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bytes::uplink;
use crate::code;
use crate::support::{Agent, Device, FAST, IDLE, Shows, charging, end_of, id, start, wait_for};

fn numbered(no: u32) -> DeviceId {
    format!("8224121800{no:04}").parse().unwrap()
}

/// Data of the events of this type, in their order.
fn told(agent: &Agent, kind: &str) -> Vec<Value> {
    let rows = agent.rows(&format!("SELECT data FROM events WHERE type = '{kind}' ORDER BY at, seq"));
    rows.iter().map(|row| serde_json::from_str(row["data"].as_str().unwrap()).unwrap()).collect()
}

#[test]
fn past_the_known_devices_an_unknown_one_is_refused_and_told_once_a_minute() {
    let agent = Agent::start("[devices]\nmax_known = 1\n");
    let mut known = Device::idle(&agent);
    for _ in 0..3 {
        let mut stranger = Device::silent(&agent, numbered(1));
        stranger.say(&end_of(0x98, 1, 0, 0));
        assert!(stranger.hear().is_none());
        known.heartbeat();
    }
    let refused = told(&agent, "device.refused");
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (&refused[0]["reason"], &refused[0]["count"], &refused[0]["device"]),
        (&json!("limit"), &json!(1), &json!("82241218000001"))
    );
    assert_eq!(agent.rows("SELECT count(*) AS n FROM devices")[0]["n"], 1);
}

#[test]
fn what_was_refused_meanwhile_is_told_with_its_count_after_a_minute() {
    let inside = crate::scaled::Scaled::start(60, "[devices]\nadmission = \"registered\"\n");
    let knock = || {
        let mut stranger = Device::silent(&inside.agent, id());
        // Two frames in one go are one refusal.
        let frame = end_of(0x98, 1, 0, 0).encode(id(), MessageId::DEVICE);
        stranger.raw(&frame.repeat(2));
        assert!(stranger.hear().is_none());
    };
    (0..4).for_each(|_| knock());
    let refused = wait_for("the second telling", || {
        let refused = told(&inside.agent, "device.refused");
        (refused.len() == 2).then_some(refused)
    });
    let counts: Vec<&Value> = refused.iter().map(|data| &data["count"]).collect();
    assert_eq!(counts, [&json!(1), &json!(3)]);
}

#[test]
fn a_frame_that_waits_on_the_older_connection_does_not_win_it_back() {
    let agent = Agent::start(FAST);
    let mut older = Device::idle(&agent);
    let mut newer = Device::silent(&agent, id());
    // Both are served in one turn, the newer one first.
    wait_for("the connection", || {
        let log = agent.log();
        (log.matches("connected conn=").count() == 2).then_some(())
    });
    agent.signal(Signal::STOP);
    newer.raw(&uplink(0, id(), &[b'1'; 29]));
    older.raw(&uplink(0, id(), &[b'1'; 29]));
    agent.signal(Signal::CONT);
    assert!(matches!(newer.hear(), Some((_, Downlink::HeartbeatReply(_)))));
    while older.hear().is_some() {}
    newer.expect_question();
    newer.heartbeat();
    assert_eq!(agent.rows("SELECT online FROM devices")[0]["online"], 1);
    assert!(!agent.events("device").contains(&"device.offline".to_owned()));
}

#[test]
fn a_frame_under_another_id_closes_its_connection_and_leaves_the_other_device_alone() {
    let agent = Agent::start(FAST);
    let mut beside = Device::connect_as(&agent, numbered(2));
    let mut device = Device::idle(&agent);
    device.id = numbered(2);
    device.say(&end_of(0x98, 1, 0, 0));
    assert!(device.hear().is_none());
    beside.heartbeat();
    let refused = told(&agent, "device.refused");
    assert_eq!(
        (refused.len(), &refused[0]["reason"], &refused[0]["device"]),
        (1, &json!("foreign_id"), &json!(numbered(2)))
    );
    let events = agent.rows("SELECT device_id FROM events WHERE type = 'device.offline'");
    assert_eq!(events, [json!({ "device_id": id() })]);
}

#[test]
fn a_silent_device_is_offline_with_all_its_ports_and_asked_at_its_return() {
    let agent =
        Agent::start(&format!("[devices]\nheartbeat_interval = \"1s\"\noffline_after = \"2s\"\n{FAST}[alerts]\n"));
    let mut device = Device::connect(&agent);
    device.status_of(&[(PortNo::A, IDLE), (PortNo::B, IDLE)]);
    assert!(device.hear().is_none(), "closed after two silent seconds");
    wait_for("the event", || (agent.events("device").last()? == "device.offline").then_some(()));
    let statuses = |agent: &Agent| agent.rows("SELECT status FROM ports ORDER BY port_no");
    assert_eq!(statuses(&agent), [json!({ "status": 0 }), json!({ "status": 0 })]);
    assert_eq!(agent.rows("SELECT online FROM devices")[0]["online"], 0);
    assert_eq!(agent.rows("SELECT online FROM sockets")[0]["online"], 0);
    assert_eq!(code(&agent.command(start(60))), ("rejected", "device_offline", Some("device")));
    let mut device = Device::connect(&agent);
    let question = device.expect_question();
    assert_eq!(statuses(&agent), [json!({ "status": 1 }), json!({ "status": 1 })]);
    assert_eq!(code(&agent.command(start(60))), ("rejected", "port_busy", Some("port")));
    device.answer_question_of(question, &[(PortNo::A, IDLE), (PortNo::B, charging(7, 1, 1))]);
    device.heartbeat();
    assert_eq!(statuses(&agent), [json!({ "status": 9 }), json!({ "status": 129 })]);
    assert_eq!(agent.events("device"), ["device.registered", "device.online", "device.offline", "device.online"]);
}

#[test]
fn a_socket_without_radio_is_offline_by_itself_and_that_ends_no_order() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 1, 0));
    device.status(Shows { raw: 0, ..IDLE });
    let port = || agent.rows("SELECT status FROM ports")[0]["status"].clone();
    assert_eq!(port(), 0);
    assert_eq!(agent.rows("SELECT online FROM sockets")[0]["online"], 0);
    assert_eq!(agent.rows("SELECT online FROM devices")[0]["online"], 1);
    assert_eq!(agent.order()["status"], 2);
    let stop = agent.command(json!({ "type": "stop_charge", "device": id(), "socket": 1, "port": 0 }));
    assert_eq!(
        (code(&stop), &stop["data"]),
        (("failed", "device_offline", Some("socket")), &json!({ "stop_owed": true }))
    );
    let query = agent.command(json!({ "type": "query_status", "device": id(), "socket": 1 }));
    assert_eq!(code(&query), ("rejected", "device_offline", Some("socket")));
    device.status(charging(26, 2, 0));
    let stop = device.expect_stop();
    device.answer(stop, true, 26);
    device.ends(0x80, 26, 2, 0);
    assert_eq!((&agent.order()["end_reason"], &agent.order()["energy_wh"]), (&json!("remote_stop"), &json!(2)));
}

#[test]
fn a_socket_that_is_first_heard_of_without_radio_has_its_ports_offline() {
    let agent = Agent::start(FAST);
    let mut device = Device::connect(&agent);
    device.status_of(&[(PortNo::A, Shows { raw: 0, ..IDLE }), (PortNo::B, Shows { raw: 0, ..IDLE })]);
    let ports = agent.rows("SELECT status FROM ports ORDER BY port_no");
    assert_eq!(ports, [json!({ "status": 0 }), json!({ "status": 0 })]);
    assert_eq!(code(&agent.command(start(60))), ("rejected", "device_offline", Some("socket")));
    // What charges when the radio is back already ran when the port was first seen.
    device.status_of(&[(PortNo::A, charging(5, 10, 3)), (PortNo::B, IDLE)]);
    assert_eq!(agent.order()["source"], "adopted");
    assert_eq!(agent.rows("SELECT status FROM ports WHERE port_no = 1")[0]["status"], 9);
}

#[test]
fn a_disabled_device_is_served_starts_nothing_and_lets_its_order_finish() {
    let agent = Agent::start(FAST);
    let mut device = Device::connect(&agent);
    device.status_of(&[(PortNo::A, IDLE), (PortNo::B, IDLE)]);
    device.run_order(&agent, 26, 60);
    assert_eq!(code(&agent.command(json!({ "type": "set_device", "device": id(), "enabled": false }))).0, "done");
    let mut other = start(60);
    other["port"] = 1.into();
    assert_eq!(code(&agent.command(other)), ("rejected", "device_disabled", Some("device")));
    device.status_of(&[(PortNo::A, charging(26, 1, 0)), (PortNo::B, IDLE)]);
    let swipe = chargegate::bkv::CardSwipe {
        socket: crate::support::socket(),
        port: PortNo::B,
        business_no: None,
        status: chargegate::bkv::StatusByte(0x80),
        card_no: chargegate::bkv::CardNo([1, 2, 3, 4, 5, 6]),
        reserved: [0; 20],
    };
    device.say(&Uplink::CardSwipe(swipe));
    let Some((_, Downlink::CardOrder(off))) = device.hear() else { panic!("no answer to the card") };
    assert_eq!(off.plan, CardPlan::Off);
    assert_eq!(agent.order()["status"], 2, "let finish");
    device.ends(0x98, 26, 1, 0);
    device.heartbeat();
    assert_eq!(agent.order()["settlement"], "reported");
    assert_eq!(agent.rows("SELECT status FROM devices")[0]["status"], "disabled");
    agent.command(json!({ "type": "set_device", "device": id(), "enabled": true }));
    agent.command(json!({ "type": "set_socket", "device": id(), "socket": 1, "enabled": false }));
    assert_eq!(code(&agent.command(start(60))), ("rejected", "device_disabled", Some("socket")));
    assert_eq!(
        agent.events("device")[2..],
        ["device.disabled", "card.refused", "device.enabled", "device.disabled"].map(str::to_owned)
    );
}

#[test]
fn a_policy_disables_by_firmware_and_is_lifted_by_a_newer_one() {
    let policy = "[[policies]]\nfirmware_below = \"v1.147\"\naction = \"disable\"\n";
    let agent = Agent::start(&format!("{policy}[devices]\n{FAST}"));
    let mut device = Device::idle(&agent);
    assert_eq!(code(&agent.command(start(60))), ("rejected", "device_disabled", Some("device")));
    let newer = chargegate::bkv::Heartbeat {
        iccid: chargegate::bkv::AsciiText::new("89860446112070301941").unwrap(),
        firmware: chargegate::bkv::AsciiText::new("v1.150").unwrap(),
        rssi: 28,
    };
    device.say(&Uplink::Heartbeat(newer));
    device.hear().unwrap();
    device.run_order(&agent, 26, 60);
    assert_eq!(
        agent.events("device"),
        ["device.registered", "device.disabled", "device.online", "device.firmware_changed", "device.enabled"]
    );
}

#[test]
fn a_removed_device_that_comes_back_is_a_new_one() {
    let agent = Agent::start(FAST);
    let unknown = json!({ "type": "remove_device", "device": id() });
    assert_eq!(code(&agent.command(unknown.clone())), ("rejected", "unknown_device", Some("device")));
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 60);
    device.ends(0x98, 26, 0, 0);
    assert_eq!(code(&agent.command(unknown)).0, "done");
    while device.hear().is_some() {}
    let device = Device::idle(&agent);
    drop(device);
    assert_eq!(agent.rows("SELECT count(*) AS n FROM ports")[0]["n"], 1);
    assert_eq!(agent.events("device").iter().filter(|event| *event == "device.registered").count(), 2);
    let issues = agent.cli(&["check", "--json"]);
    assert_eq!((issues.0, issues.1.trim()), (Some(0), "[]"));
}

#[test]
fn a_removed_device_takes_the_alert_of_its_ignored_stops_along() {
    let agent = Agent::start(&format!("{FAST}[alerts]\nstop_ignored = 1\n"));
    let mut device = Device::idle(&agent);
    device.status(charging(888, 1, 1));
    let question = device.expect_question();
    device.answer_question(question, charging(888, 1, 1));
    let stop = device.expect_stop();
    device.answer(stop, false, 888);
    device.status(charging(888, 1, 1));
    assert_eq!(agent.events("alert"), ["alert.raised"]);
    assert_eq!(code(&agent.command(json!({ "type": "remove_device", "device": id() }))).0, "done");
    assert_eq!(agent.events("alert"), ["alert.raised", "alert.cleared"]);
}

#[test]
fn a_stop_that_waits_for_a_device_that_is_removed_has_failed() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let client = agent.begin(json!({ "type": "stop_charge", "device": id(), "socket": 1, "port": 0 }));
    device.expect_stop();
    assert_eq!(code(&agent.command(json!({ "type": "remove_device", "device": id() }))).0, "done");
    assert_eq!(code(&client.reply()), ("failed", "device_offline", None));
}

#[test]
fn a_connection_that_says_nothing_holds_nobody_up() {
    let agent = Agent::start("[devices]\nheartbeat_interval = \"1s\"\noffline_after = \"2s\"\n");
    let silent = TcpStream::connect(agent.address).unwrap();
    silent.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut device = Device::idle(&agent);
    device.heartbeat();
    let closed = std::io::Read::read(&mut &silent, &mut [0]).unwrap();
    assert_eq!(closed, 0, "closed when nothing came for so long");
}
