//! A full disk: nothing is acknowledged that is not kept, what needs no commit goes on, and it comes back by itself.
//!
//! The store stands on a tmpfs that only the agent sees; a file that takes all of it is put there and taken away.

use std::fs::File;
use std::io::Write;

use chargegate::bkv::{CardNo, CardSwipe, Downlink, StatusByte, SwitchOrder, Uplink};
use chargegate::ids::{MessageId, PortNo};
use serde_json::{Value, json};

use crate::support::{Agent, Client, Device, FAST, IDLE, Shows, charging, id, socket, start, wait_for};
use crate::{healthy, heartbeat_bytes, made_right, nonsense, quiet_beat, quiet_status, status_bytes};

const QUICK: &str = "[alerts]\nclear_after = \"1s\"\n";

fn on_small_disk() -> Agent {
    Agent::on_small_disk(4, &format!("{FAST}{QUICK}"))
}

/// Files that take the whole disk: what is left is less than a page.
fn fill(agent: &Agent) {
    let mut file = File::create(agent.inside("disk/fill")).unwrap();
    for size in [64 * 1024, 4096, 512, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

fn free(agent: &Agent) {
    std::fs::remove_file(agent.inside("disk/fill")).unwrap();
}

/// A device whose idle port A is in the store.
fn known(agent: &Agent) -> Device {
    let device = Device::idle(agent);
    assert_eq!(agent.rows("SELECT status FROM ports WHERE device_id = '82241218000382'"), [json!({ "status": 9 })]);
    device
}

fn taken_back(agent: &Agent) -> usize {
    agent.log().matches("commit taken back").count()
}

/// Waits until so many more commits have failed; the device shows this meanwhile.
fn while_commits_fail(agent: &Agent, device: &mut Device, shows: Shows) {
    let before = taken_back(agent);
    wait_for("the commits to fail", || {
        quiet_beat(device, shows);
        (taken_back(agent) >= before + 2).then_some(())
    });
}

/// Waits until the store takes commits again.
fn until_kept(agent: &Agent, device: &mut Device, shows: Shows) {
    wait_for("the store", || {
        quiet_beat(device, shows);
        let log = agent.log();
        let (failed, works) = (log.rfind("commit taken back"), log.rfind("store takes commits again"));
        (works > failed).then_some(())
    });
}

fn stop_of(order_no: &str) -> Value {
    json!({ "type": "stop_charge", "order_no": order_no })
}

/// Waits for a reply while the device shows this.
fn reply_of(client: &Client, device: &mut Device, shows: Shows) -> Value {
    wait_for("the reply", || {
        quiet_beat(device, shows);
        client.try_reply()
    })
}

fn code(reply: &Value) -> (&str, &str) {
    (reply["result"].as_str().unwrap(), reply["error"]["code"].as_str().unwrap_or("-"))
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_that_is_not_kept_and_it_comes_back_by_itself() {
    // No grace ends in the middle of it, so nothing is asked.
    let mut agent = Agent::on_small_disk(4, &format!("[orders]\nanswer_timeout = \"1s\"\n{QUICK}"));
    let mut beside = healthy(&agent);
    let mut device = Device::connect(&agent);
    device.status_of(&[(PortNo::A, IDLE), (PortNo::B, IDLE)]);
    let order_no = device.run_order(&agent, 26, 60);
    device.status_of(&[(PortNo::A, charging(26, 1, 0)), (PortNo::B, IDLE)]);
    // What it showed is kept: it need not be asked about afterwards.
    agent.rows("SELECT 1");
    fill(&agent);
    // Statuses and heartbeats go on, on both devices.
    device.status_of(&[(PortNo::A, charging(26, 2, 0)), (PortNo::B, IDLE)]);
    device.heartbeat();
    beside.heartbeat();
    // A start is refused, and nothing is sent for it.
    let mut second = start(60);
    second["port"] = 1.into();
    let reply = agent.command(second.clone());
    assert_eq!((&reply["result"], &reply["error"]["code"]), (&json!("rejected"), &json!("store_full")), "{reply}");
    device.heartbeat();
    // A stop goes out, and its reply is given; an end that could not be kept does not stand in its way.
    device.end(0x80, 26, 3, 1);
    device.heartbeat();
    let client = agent.begin(json!({ "type": "stop_charge", "order_no": order_no }));
    let stop = device.expect_stop();
    device.answer(stop, true, 26);
    assert_eq!(client.reply()["result"], "done");
    // The end is not acknowledged: the device will repeat it.
    let taken_back = |agent: &Agent| agent.log().matches("commit taken back").count();
    let before = taken_back(&agent);
    device.end(0x80, 26, 3, 1);
    wait_for("the commits to fail", || {
        device.heartbeat();
        beside.heartbeat();
        (taken_back(&agent) >= before + 2).then_some(())
    });
    free(&agent);
    device.end(0x80, 26, 3, 1);
    device.expect_end_ack();
    let order = agent.order();
    assert_eq!(
        (&order["status"], &order["settlement"], &order["energy_wh"]),
        (&json!(7), &json!("reported"), &json!(3))
    );
    assert_eq!(agent.events("order"), ["order.started", "order.completed"], "counted once");
    wait_for("the alert", || (agent.events("alert") == ["alert.raised", "alert.cleared"]).then_some(()));
    let alert = agent.rows("SELECT rule, severity, cleared_at FROM alerts").pop().unwrap();
    assert_eq!((&alert["rule"], &alert["severity"]), (&json!("store_failing"), &json!("critical")));
    assert!(alert["cleared_at"].is_i64());
    // The refused start is not remembered.
    second["id"] = "again".into();
    let client = agent.begin(second);
    device.expect_start();
    drop(client);
    assert_eq!(agent.rows("PRAGMA integrity_check")[0]["integrity_check"], "ok");
    assert!(agent.end().success());
}

#[test]
fn an_accepted_start_is_told_once_it_is_kept_and_not_before() {
    let agent = on_small_disk();
    let mut beside = healthy(&agent);
    let mut device = known(&agent);
    let client = agent.begin(start(60));
    let message_id = device.expect_start();
    fill(&agent);
    device.answer(message_id, true, 26);
    while_commits_fail(&agent, &mut device, charging(26, 1, 0));
    beside.heartbeat();
    assert_eq!(client.try_reply(), None, "a power cut now would take it back");
    free(&agent);
    let reply = reply_of(&client, &mut device, charging(26, 1, 0));
    assert_eq!(code(&reply), ("done", "-"), "{reply}");
    assert_eq!(agent.order()["status"], 2);
    assert_eq!(agent.events("order"), ["order.started"]);
}

#[test]
fn a_stop_that_the_device_refuses_on_a_full_disk_has_failed_and_is_owed_after_it() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    fill(&agent);
    let client = agent.begin(stop_of(&order_no));
    let stop = device.expect_stop();
    device.answer(stop, false, 26);
    let reply = reply_of(&client, &mut device, charging(26, 1, 0));
    assert_eq!(code(&reply), ("failed", "refused_by_device"), "{reply}");
    assert_eq!(reply["data"], json!({ "stop_owed": true }));
    while_commits_fail(&agent, &mut device, charging(26, 1, 0));
    free(&agent);
    until_kept(&agent, &mut device, charging(26, 1, 0));
    // It goes out again when the device returns.
    let mut device = Device::connect(&agent);
    let stop = quiet_switch(&mut device, charging(26, 1, 0));
    device.answer(stop.0, true, 26);
    device.end(0x80, 26, 1, 0);
    quiet_beat(&mut device, IDLE);
    assert_eq!((&agent.order()["status"], &agent.order()["end_reason"]), (&json!(7), &json!("remote_stop")));
}

/// The next start or stop; questions are answered meanwhile.
fn quiet_switch(device: &mut Device, shows: Shows) -> (MessageId, SwitchOrder) {
    loop {
        let (message_id, message) = device.hear().unwrap();
        match message {
            Downlink::QueryStatus(_) => device.answer_question(message_id, shows),
            Downlink::Switch(switch) => return (message_id, switch.order),
            _ => {}
        }
    }
}

#[test]
fn a_stop_that_was_accepted_on_a_full_disk_gives_the_reason_when_the_report_is_booked() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    fill(&agent);
    let client = agent.begin(stop_of(&order_no));
    let stop = device.expect_stop();
    device.answer(stop, true, 26);
    assert_eq!(reply_of(&client, &mut device, charging(26, 1, 0))["result"], "done");
    while_commits_fail(&agent, &mut device, charging(26, 1, 0));
    free(&agent);
    until_kept(&agent, &mut device, charging(26, 1, 0));
    device.end(0xb0, 26, 1, 0);
    quiet_beat(&mut device, IDLE);
    let order = agent.order();
    assert_eq!((&order["status"], &order["end_reason"]), (&json!(7), &json!("remote_stop")), "{order}");
    assert!(order["stopped_by"].is_string(), "{order}");
}

#[test]
fn a_stop_that_was_accepted_on_a_full_disk_ends_the_order_without_a_report_too() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    fill(&agent);
    let client = agent.begin(stop_of(&order_no));
    let stop = device.expect_stop();
    device.answer(stop, true, 26);
    assert_eq!(reply_of(&client, &mut device, IDLE)["result"], "done");
    while_commits_fail(&agent, &mut device, IDLE);
    free(&agent);
    until_kept(&agent, &mut device, IDLE);
    quiet_status(&mut device, IDLE);
    let order = wait_for("the close", || {
        quiet_beat(&mut device, IDLE);
        Some(agent.order()).filter(|order| order["status"] == 7)
    });
    assert_eq!((&order["end_reason"], &order["settlement"]), (&json!("remote_stop"), &json!("estimated")), "{order}");
}

#[test]
fn a_pending_order_that_is_stopped_on_a_full_disk_is_never_started_again() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    let starting = agent.begin(start(60));
    device.expect_start();
    let order_no = agent.rows("SELECT order_no FROM orders")[0]["order_no"].as_str().unwrap().to_owned();
    fill(&agent);
    let stopping = agent.begin(stop_of(&order_no));
    let stop = device.expect_stop();
    device.answer(stop, true, 0);
    assert_eq!(reply_of(&stopping, &mut device, IDLE)["result"], "done");
    while_commits_fail(&agent, &mut device, IDLE);
    free(&agent);
    let reply = reply_of(&starting, &mut device, IDLE);
    assert_eq!(code(&reply), ("failed", "cancelled"), "{reply}");
    until_kept(&agent, &mut device, IDLE);
    let order = agent.order();
    assert_eq!((&order["status"], &order["end_reason"]), (&json!(5), &json!("cancelled")), "{order}");
    // Told once; when its hold has ended, the bounds are told as well.
    let told = agent.events("order");
    let wanted: &[&str] = &["order.cancelled", "order.corrected"];
    assert!(told == wanted[..1] || told == wanted, "{told:?}");
}

#[test]
fn a_start_that_was_refused_with_store_full_can_be_repeated_under_its_id() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    fill(&agent);
    let mut command = start(60);
    command["id"] = "the same".into();
    for _ in 0..2 {
        let reply = agent.command(command.clone());
        assert_eq!(code(&reply), ("rejected", "store_full"), "{reply}");
        device.heartbeat();
    }
    free(&agent);
    let client = agent.begin(command);
    let message_id = device.expect_start();
    device.answer(message_id, true, 26);
    assert_eq!(client.reply()["result"], "done");
    assert_eq!(agent.rows("SELECT count(*) AS n FROM orders")[0]["n"], 1);
}

#[test]
fn figures_that_were_not_flushed_survive() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    device.run_order(&agent, 26, 60);
    device.status(charging(26, 1, 0));
    device.status(charging(26, 2, 0));
    fill(&agent);
    device.status(charging(26, 3, 0));
    // Something of the same port and order that cannot be kept.
    device.end(0xb0, 26, 9, 0);
    while_commits_fail(&agent, &mut device, charging(26, 3, 0));
    device.status(charging(26, 4, 0));
    free(&agent);
    until_kept(&agent, &mut device, charging(26, 4, 0));
    let order = agent.order();
    assert_eq!((&order["status"], &order["energy_wh"]), (&json!(2), &json!(4)), "{order}");
    assert_eq!(agent.rows("SELECT energy_wh FROM ports")[0]["energy_wh"], 4);
}

#[test]
fn a_device_that_comes_for_the_first_time_on_a_full_disk_is_served_and_known_after_it() {
    let agent = on_small_disk();
    let mut beside = healthy(&agent);
    fill(&agent);
    let mut device = Device::connect(&agent);
    quiet_status(&mut device, IDLE);
    while_commits_fail(&agent, &mut device, IDLE);
    quiet_status(&mut device, IDLE);
    beside.heartbeat();
    free(&agent);
    until_kept(&agent, &mut device, IDLE);
    quiet_status(&mut device, IDLE);
    quiet_beat(&mut device, IDLE);
    let client = agent.begin(start(60));
    let (message_id, _) = quiet_switch(&mut device, IDLE);
    device.answer(message_id, true, 26);
    assert_eq!(client.reply()["result"], "done");
    let told = agent.rows("SELECT type, device_id FROM events WHERE stream = 'device' ORDER BY seq");
    let of_it: Vec<&Value> =
        told.iter().filter(|row| row["device_id"] == json!(id())).map(|row| &row["type"]).collect();
    assert_eq!(of_it, ["device.registered", "device.online"]);
}

#[test]
fn what_is_set_of_a_device_on_a_full_disk_is_not_done() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    fill(&agent);
    let stranger = json!({ "type": "set_device", "device": "82241218000999", "note": "new" });
    for command in [
        json!({ "type": "set_device", "device": id(), "enabled": false, "note": "out of order" }),
        json!({ "type": "set_socket", "device": id(), "socket": 1, "enabled": false }),
        json!({ "type": "set_socket", "device": id(), "socket": 2, "mac": "001122334455" }),
        stranger,
    ] {
        let reply = agent.command(command);
        assert_eq!(code(&reply), ("rejected", "store_full"), "{reply}");
        quiet_beat(&mut device, IDLE);
    }
    free(&agent);
    until_kept(&agent, &mut device, IDLE);
    let row = agent.rows("SELECT status, note FROM devices WHERE device_id = '82241218000382'").pop().unwrap();
    assert_eq!(row, json!({ "status": "enabled", "note": null }));
    assert_eq!(agent.rows("SELECT count(*) AS n FROM devices")[0]["n"], 1);
    assert_eq!(agent.rows("SELECT count(*) AS n FROM sockets")[0]["n"], 1);
    device.run_order(&agent, 26, 60);
}

#[test]
fn a_device_that_could_not_be_removed_is_as_it_was() {
    let agent = on_small_disk();
    let _device = known(&agent);
    agent.command(json!({ "type": "set_device", "device": id(), "note": "at the gate" }));
    fill(&agent);
    let reply = agent.command(json!({ "type": "remove_device", "device": id() }));
    assert_eq!(code(&reply), ("rejected", "store_full"), "{reply}");
    let reply = agent.command(json!({ "type": "query_status", "device": id(), "socket": 1 }));
    assert_ne!(reply["error"]["code"], "unknown_device", "{reply}");
    free(&agent);
    // If its connection was closed, it comes back as a device does.
    let mut device = Device::connect(&agent);
    until_kept(&agent, &mut device, IDLE);
    quiet_status(&mut device, IDLE);
    let client = agent.begin(start(60));
    let (message_id, _) = quiet_switch(&mut device, IDLE);
    device.answer(message_id, true, 26);
    assert_eq!(client.reply()["result"], "done");
    assert_eq!(agent.rows("SELECT note FROM devices")[0]["note"], "at the gate");
    let registered = agent.events("device").iter().filter(|kind| *kind == "device.registered").count();
    assert_eq!(registered, 1);
}

#[test]
fn what_only_reads_is_answered_on_a_full_disk() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    fill(&agent);
    agent.command(start(60));
    let reply = agent.command(json!({ "type": "get_order", "order_no": order_no }));
    assert_eq!((&reply["result"], &reply["data"]["status"]), (&json!("done"), &json!("charging")), "{reply}");
    // The answer takes longer than a commit.
    let client = agent.begin(json!({ "type": "query_status", "device": id(), "socket": 1 }));
    let question = device.expect_question();
    while_commits_fail(&agent, &mut device, charging(26, 1, 0));
    device.answer_question(question, charging(26, 1, 0));
    let reply = reply_of(&client, &mut device, charging(26, 1, 0));
    assert_eq!((&reply["result"], &reply["data"]["ports"][0]["status"]), (&json!("done"), &json!(129)), "{reply}");
}

/// A start that goes out, or is refused.
fn try_start(agent: &Agent, device: &mut Device) -> Option<MessageId> {
    let client = agent.begin(start(60));
    loop {
        device.raw(&heartbeat_bytes(id()));
        loop {
            match device.hear().unwrap() {
                (message_id, Downlink::Switch(_)) => return Some(message_id),
                (_, Downlink::HeartbeatReply(_)) => break,
                _ => {}
            }
        }
        if let Some(reply) = client.try_reply() {
            assert_eq!(code(&reply), ("rejected", "store_full"), "{reply}");
            return None;
        }
    }
}

/// An end report, acknowledged or not.
fn try_end(device: &mut Device) -> Option<()> {
    device.end(0x80, 26, 3, 1);
    device.raw(&heartbeat_bytes(id()));
    loop {
        match device.hear().unwrap().1 {
            Downlink::EndAck(_) => return Some(()),
            Downlink::HeartbeatReply(_) => return None,
            _ => {}
        }
    }
}

#[test]
fn with_its_quota_reached_the_journal_gives_way_and_orders_go_on() {
    let mut agent = Agent::prepare(&format!("{FAST}{QUICK}"));
    let file = agent.path("agent.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, text.replace("[store]\n", "[store]\nmax_size = \"512KiB\"\n")).unwrap();
    agent.run();
    let mut device = known(&agent);
    let nonsense = nonsense(id(), 900);
    for _ in 0..40 {
        for _ in 0..25 {
            device.raw(&nonsense);
        }
        quiet_beat(&mut device, IDLE);
    }
    // The one commit that finds no room takes with it whatever shares it: it is tried again, as the cloud and devices do.
    let start = wait_for("the start", || try_start(&agent, &mut device));
    device.answer(start, true, 26);
    wait_for("the end", || try_end(&mut device));
    assert_eq!(agent.order()["settlement"], "reported");
    assert_eq!(agent.rows("SELECT count(*) AS n FROM orders")[0]["n"], 1);
    let size = std::fs::metadata(agent.path("store.db")).unwrap().len();
    assert!(size <= 512 * 1024, "{size}");
    wait_for("the alert to clear", || (agent.events("alert").last()? == "alert.cleared").then_some(()));
    assert_eq!(agent.rows("PRAGMA integrity_check")[0]["integrity_check"], "ok");
}

#[test]
fn an_agent_on_a_full_disk_ends_in_time_and_what_was_committed_is_there_after_it() {
    let mut agent = on_small_disk();
    let mut device = known(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    fill(&agent);
    device.end(0xb0, 26, 2, 1);
    while_commits_fail(&agent, &mut device, charging(26, 1, 0));
    let watch = chargegate::clock::Stopwatch::start();
    let before = agent.order();
    assert_eq!((&before["order_no"], &before["status"]), (&json!(order_no), &json!(2)));
    agent.end();
    assert!(watch.elapsed() < std::time::Duration::from_secs(5));
    let last = agent.log().lines().last().unwrap().to_owned();
    assert!(last.contains("full"), "{last}");
}

#[test]
fn a_device_that_goes_while_the_disk_is_full_is_offline_after_it() {
    let agent = on_small_disk();
    let mut beside = healthy(&agent);
    let device = known(&agent);
    fill(&agent);
    drop(device);
    while_commits_fail(&agent, &mut beside, IDLE);
    free(&agent);
    until_kept(&agent, &mut beside, IDLE);
    wait_for("the event", || (agent.events("device").last()? == "device.offline").then_some(()));
    let of_it = "WHERE device_id = '82241218000382'";
    assert_eq!(agent.rows(&format!("SELECT online FROM devices {of_it}")), [json!({ "online": 0 })]);
    assert_eq!(agent.rows(&format!("SELECT online FROM sockets {of_it}")), [json!({ "online": 0 })]);
    assert_eq!(agent.rows(&format!("SELECT status FROM ports {of_it}")), [json!({ "status": 0 })]);
}

#[test]
fn a_device_that_comes_back_while_the_disk_is_full_is_online_after_it_with_what_it_shows() {
    let agent = on_small_disk();
    let mut beside = healthy(&agent);
    drop(known(&agent));
    wait_for("the event", || (agent.events("device").last()? == "device.offline").then_some(()));
    fill(&agent);
    let mut device = Device::connect(&agent);
    quiet_status(&mut device, IDLE);
    while_commits_fail(&agent, &mut beside, IDLE);
    quiet_beat(&mut device, IDLE);
    free(&agent);
    until_kept(&agent, &mut device, IDLE);
    let port = wait_for("the status", || {
        quiet_beat(&mut device, IDLE);
        agent.rows("SELECT status FROM ports WHERE device_id = '82241218000382' AND status = 9").pop()
    });
    assert_eq!(port["status"], 9);
    assert_eq!(agent.rows("SELECT count(*) AS n FROM devices WHERE online = 1")[0]["n"], 2);
    assert_eq!(agent.events("device").last().unwrap(), "device.online");
}

#[test]
fn what_a_port_showed_while_the_disk_was_full_is_asked_about_after_it() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    device.run_order(&agent, 26, 60);
    quiet_status(&mut device, charging(26, 1, 0));
    agent.rows("SELECT 1");
    fill(&agent);
    // Its one status that says so: the next is due in five minutes.
    quiet_status(&mut device, Shows { raw: 0x84, ..IDLE });
    while_commits_fail(&agent, &mut device, Shows { raw: 0x84, ..IDLE });
    free(&agent);
    until_kept(&agent, &mut device, Shows { raw: 0x84, ..IDLE });
    let order = wait_for("the close", || {
        quiet_beat(&mut device, Shows { raw: 0x84, ..IDLE });
        Some(agent.order()).filter(|order| order["status"] == 7)
    });
    assert_eq!(order["end_reason"], "end_report_missing");
    assert_eq!(agent.rows("SELECT raw_status FROM ports")[0]["raw_status"], 0x84);
}

#[test]
fn a_model_that_could_not_be_kept_scales_nothing() {
    let tens = "[[models]]\ndevice_model = \"T\"\nenergy_unit_wh = 10\n";
    let agent = Agent::on_small_disk(4, &format!("{FAST}{QUICK}{tens}"));
    let mut device = known(&agent);
    device.run_order(&agent, 26, 60);
    fill(&agent);
    let reply = agent.command(json!({ "type": "set_device", "device": id(), "device_model": "T" }));
    assert_eq!(code(&reply), ("rejected", "store_full"), "{reply}");
    free(&agent);
    until_kept(&agent, &mut device, charging(26, 2, 0));
    quiet_status(&mut device, charging(26, 2, 0));
    assert_eq!(agent.order()["energy_wh"], 2);
}

#[test]
fn cards_and_abnormal_events_wait_for_room_and_are_told_once() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    let swipe = Uplink::CardSwipe(CardSwipe {
        socket: socket(),
        port: PortNo::A,
        business_no: None,
        status: StatusByte(0x80),
        card_no: CardNo([1, 2, 3, 4, 5, 6]),
        reserved: [0; 20],
    });
    fill(&agent);
    device.say(&swipe);
    let taken = taken_back(&agent);
    wait_for("the commits to fail", || {
        device.heartbeat();
        (taken_back(&agent) >= taken + 2).then_some(())
    });
    free(&agent);
    until_kept(&agent, &mut device, IDLE);
    for _ in 0..2 {
        device.say(&swipe);
        let (_, answer) = device.hear().unwrap();
        assert!(matches!(answer, Downlink::CardOrder(_)), "{answer:?}");
    }
    let told = agent.events("device").iter().filter(|kind| *kind == "card.refused").count();
    assert_eq!(told, 1);
}

fn commands(agent: &Agent, kind: &str) -> Vec<Value> {
    agent.rows(&format!("SELECT id, reply FROM commands WHERE type = '{kind}'"))
}

#[test]
fn a_stop_that_was_answered_on_a_full_disk_has_no_second_effect_under_its_id() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let mut command = stop_of(&order_no);
    command["id"] = "once".into();
    fill(&agent);
    let client = agent.begin(command.clone());
    let stop = device.expect_stop();
    let beside = agent.begin(command.clone());
    device.answer(stop, true, 26);
    let reply = reply_of(&client, &mut device, charging(26, 1, 0));
    assert_eq!(reply["result"], "done");
    assert_eq!(reply_of(&beside, &mut device, charging(26, 1, 0)), reply, "it waited for the one under way");
    assert_eq!(agent.command(command.clone()), reply, "while the disk is full");
    free(&agent);
    until_kept(&agent, &mut device, charging(26, 1, 0));
    assert_eq!(agent.command(command), reply, "and after it");
    let [kept] = &commands(&agent, "stop_charge")[..] else { panic!("one command") };
    assert_eq!(kept["reply"].as_str().unwrap(), reply.to_string());
}

#[test]
fn a_stop_that_was_sent_before_the_disk_was_full_and_answered_then_is_noted_with_its_reply() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    let client = agent.begin(stop_of(&order_no));
    let stop = device.expect_stop();
    assert_eq!(commands(&agent, "stop_charge").len(), 1);
    fill(&agent);
    device.answer(stop, true, 26);
    let reply = reply_of(&client, &mut device, charging(26, 1, 0));
    free(&agent);
    until_kept(&agent, &mut device, charging(26, 1, 0));
    let [kept] = &commands(&agent, "stop_charge")[..] else { panic!("one command") };
    assert_eq!(kept["reply"].as_str().unwrap(), reply.to_string());
}

/// With an order whose stops are in vain: one is enough for the alert.
fn with_ignored_stop(before: impl FnOnce(&Agent)) -> (Agent, Device) {
    let agent = Agent::on_small_disk(4, &format!("{FAST}{QUICK}stop_ignored = 1\n"));
    let mut device = known(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    quiet_status(&mut device, charging(26, 1, 0));
    agent.rows("SELECT 1");
    before(&agent);
    let client = agent.begin(stop_of(&order_no));
    let stop = device.expect_stop();
    device.answer(stop, true, 26);
    reply_of(&client, &mut device, charging(26, 1, 0));
    quiet_status(&mut device, charging(26, 1, 0));
    (agent, device)
}

fn told_of_alert(agent: &Agent, rule: &str) -> Vec<Value> {
    let sql = "SELECT type, json_extract(data, '$.rule') AS rule FROM events WHERE stream = 'alert' ORDER BY seq";
    agent.rows(sql).iter().filter(|row| row["rule"] == rule).map(|row| row["type"].clone()).collect()
}

#[test]
fn an_alert_that_was_raised_on_a_full_disk_is_raised_once_there_is_room() {
    let (agent, mut device) = with_ignored_stop(fill);
    while_commits_fail(&agent, &mut device, charging(26, 1, 0));
    free(&agent);
    until_kept(&agent, &mut device, charging(26, 1, 0));
    assert_eq!(told_of_alert(&agent, "stop_ignored"), ["alert.raised"]);
    quiet_status(&mut device, IDLE);
    wait_for("the alert to clear", || {
        quiet_beat(&mut device, IDLE);
        (told_of_alert(&agent, "stop_ignored") == ["alert.raised", "alert.cleared"]).then_some(())
    });
}

#[test]
fn an_alert_that_was_cleared_on_a_full_disk_is_cleared_and_told_once() {
    let (agent, mut device) = with_ignored_stop(|_| ());
    assert_eq!(told_of_alert(&agent, "stop_ignored"), ["alert.raised"]);
    quiet_status(&mut device, IDLE);
    agent.rows("SELECT 1");
    // It clears a second later.
    fill(&agent);
    wait_for("the alert to clear", || {
        quiet_beat(&mut device, IDLE);
        agent.log().contains("alert cleared rule=stop_ignored").then_some(())
    });
    while_commits_fail(&agent, &mut device, IDLE);
    assert_eq!(agent.rows_as_they_are("SELECT count(*) AS n FROM alerts WHERE cleared_at IS NOT NULL")[0]["n"], 0);
    free(&agent);
    wait_for("the alert to clear", || {
        quiet_beat(&mut device, IDLE);
        (told_of_alert(&agent, "stop_ignored") == ["alert.raised", "alert.cleared"]).then_some(())
    });
    let open = "SELECT count(*) AS n FROM alerts WHERE rule = 'stop_ignored' AND cleared_at IS NULL";
    assert_eq!(agent.rows(open)[0]["n"], 0);
}

#[test]
fn a_policy_that_came_on_a_full_disk_holds_and_is_told_once() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    agent.rows("SELECT 1");
    fill(&agent);
    let file = agent.path("agent.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, format!("{text}\n[[policies]]\nfirmware_below = \"v2\"\naction = \"disable\"\n")).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    while_commits_fail(&agent, &mut device, IDLE);
    free(&agent);
    until_kept(&agent, &mut device, IDLE);
    let rows = agent.rows("SELECT status FROM devices WHERE device_id = '82241218000382'");
    assert_eq!(rows, [json!({ "status": "disabled" })]);
    let told = agent.events("device").iter().filter(|kind| *kind == "device.disabled").count();
    assert_eq!(told, 1, "{:?}", agent.rows("SELECT type, data FROM events WHERE stream = 'device'"));
    assert_eq!(code(&agent.command(start(60))), ("rejected", "device_disabled"));
}

#[test]
fn a_device_that_was_refused_on_a_full_disk_is_told_of_once_there_is_room() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    agent.rows("SELECT 1");
    fill(&agent);
    let mut other = Device::connect_as(&agent, crate::healthy_id());
    other.raw(&heartbeat_bytes(id()));
    assert!(other.hear().is_none(), "closed");
    while_commits_fail(&agent, &mut device, IDLE);
    free(&agent);
    until_kept(&agent, &mut device, IDLE);
    let told = agent.rows("SELECT data FROM events WHERE type = 'device.refused'");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["data"].as_str().unwrap().contains("foreign_id"), "{told:?}");
}

/// A status with key 7e in it.
fn with_strange_key() -> Vec<u8> {
    let mut frame = status_bytes(IDLE);
    let end = frame.len() - 3;
    frame.splice(end..end, [3, 1, 0x7e, 0]);
    made_right(frame)
}

#[test]
fn a_key_that_nobody_knows_is_kept_once_there_is_room() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    agent.rows("SELECT 1");
    let report = with_strange_key();
    fill(&agent);
    device.raw(&report);
    while_commits_fail(&agent, &mut device, IDLE);
    free(&agent);
    until_kept(&agent, &mut device, IDLE);
    for _ in 0..2 {
        device.raw(&report);
        quiet_beat(&mut device, IDLE);
    }
    assert_eq!(agent.rows("SELECT count(*) AS n FROM journal WHERE verdict = 'unsupported'")[0]["n"], 1);
}

#[test]
fn a_claim_that_could_not_be_kept_leaves_the_order_its_number() {
    let agent = on_small_disk();
    let mut device = Device::connect(&agent);
    quiet_status(&mut device, charging(26, 1, 0));
    let order_no = agent.order()["order_no"].as_str().unwrap().to_owned();
    let claim = |id: &str| json!({ "type": "claim_order", "id": id, "order_no": order_no, "new_order_no": "theirs" });
    fill(&agent);
    let reply = agent.command(claim("first"));
    assert_eq!(code(&reply), ("rejected", "store_full"), "{reply}");
    // The stop is for the order as it is called now.
    let stopping = agent.begin(stop_of(&order_no));
    let (stop, _) = quiet_switch(&mut device, charging(26, 1, 0));
    device.answer(stop, true, 26);
    assert_eq!(reply_of(&stopping, &mut device, charging(26, 1, 0))["result"], "done");
    while_commits_fail(&agent, &mut device, charging(26, 1, 0));
    free(&agent);
    until_kept(&agent, &mut device, charging(26, 1, 0));
    assert_eq!((&agent.order()["order_no"], &agent.order()["status"]), (&json!(order_no), &json!(9)));
    assert_eq!(code(&agent.command(claim("second"))).0, "done");
    device.end(0xb0, 26, 1, 0);
    quiet_beat(&mut device, IDLE);
    assert_eq!((&agent.order()["order_no"], &agent.order()["end_reason"]), (&json!("theirs"), &json!("remote_stop")));
}

#[test]
fn a_socket_that_is_lost_while_the_disk_is_full_is_offline_after_it() {
    let agent = on_small_disk();
    let mut device = known(&agent);
    agent.rows("SELECT 1");
    fill(&agent);
    let lost = Shows { raw: 0, ..IDLE };
    quiet_status(&mut device, lost);
    while_commits_fail(&agent, &mut device, lost);
    free(&agent);
    until_kept(&agent, &mut device, lost);
    assert_eq!(agent.rows("SELECT online FROM sockets"), [json!({ "online": 0 })]);
    assert_eq!(agent.rows("SELECT status FROM ports"), [json!({ "status": 0 })]);
    assert_eq!(code(&agent.command(start(60))), ("rejected", "device_offline"));
}
