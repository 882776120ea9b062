//! The program as a process, its command line, its clock, and what it keeps of commands.

use std::time::Duration;

use chargegate::bkv::{Downlink, Uplink};
use chargegate::clock::{Clock, Stopwatch, UpTime, WallTime};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::code;
use crate::support::{Agent, Device, FAST, IDLE, Shows, charging, id, start, wait_for};

fn read(agent: &Agent, arguments: &[&str]) -> Value {
    let (code, out, err) = agent.cli(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

fn names(row: &Value) -> Vec<&str> {
    row.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_reading_commands_have_the_columns_of_the_contract_by_name_agent_or_not() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let order_no = device.run_order(&agent, 26, 60);
    device.status(charging(26, 4, 1));
    let expected = [
        ("devices", "device_id device_model firmware_version iccid last_seen note online rssi status"),
        (
            "ports",
            "business_no current_a device_id energy_wh minutes port_no power_w raw_status socket_no status updated_at \
             voltage_v",
        ),
        (
            "orders",
            "business_no card_no device_end_time device_id electricity_cents end_reason end_time energy_max_wh \
             energy_wh final flags minutes minutes_max mode order_no peak_power_w plan port_no raw_reason raw_status \
             revision service_cents settlement settlement_power_w socket_no source spent_cents start_time started_by \
             status stopped_by tiers verdict",
        ),
        ("events", "at data device_id order_no seq stream type"),
    ];
    let mut running = Vec::new();
    for (command, columns) in expected {
        let rows = read(&agent, &[command, "--json"]);
        assert_eq!(names(&rows[0]), columns.split_whitespace().collect::<Vec<_>>(), "{command}");
        running.push(rows);
    }
    assert_eq!(
        (&running[1][0]["status"], &running[1][0]["power_w"], &running[1][0]["energy_wh"]),
        (&json!(129), &json!(120.0), &json!(4)),
        "flushed first"
    );
    let order = &running[2][0];
    assert_eq!(
        (&order["order_no"], &order["status"], &order["plan"]["minutes"]),
        (&json!(order_no), &json!(2), &json!(60))
    );
    assert!(order["start_time"].as_str().unwrap().ends_with('Z') && order["flags"] == json!([]), "{order}");
    assert_eq!(running[3].as_array().unwrap().len(), 3);
    for listing in ["alerts", "outbox"] {
        assert_eq!(read(&agent, &[listing, "--json"]), json!([]));
    }
    assert!(agent.end().success());
    for ((command, _), rows) in expected.iter().zip(&running) {
        assert_eq!(read(&agent, &[command, "--json"]), *rows, "{command} without the agent");
    }
    assert_eq!(read(&agent, &["orders", "--json", "--device", "82241218000001"]), json!([]));
    assert_eq!(read(&agent, &["events", "--json", "--since", "1h"]), running[3]);
}

#[test]
fn the_outbox_of_a_running_agent_is_told_with_its_connection() {
    let agent = Agent::start("[site]\nid = \"yard\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n");
    agent.command(json!({ "type": "set_device", "device": "82241218000001" }));
    let (code, out, _) = agent.cli(&["outbox"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, lines[0]), (Some(0), "waiting     1"), "{out}");
    assert!(lines[2].starts_with("rate        ") && lines[3].starts_with("connection  down: "), "{out}");
    assert!(lines[6].contains("event/device"), "{out}");
    let rows = read(&agent, &["outbox", "--json"]);
    assert_eq!((&rows[0]["stream"], &rows[0]["seq"], &rows[0]["payload"]), (&json!("device"), &json!(1), &Value::Null));
}

#[test]
fn the_command_of_the_command_line_makes_up_an_id_and_says_no_with_its_exit_code() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let (code, out, _) = agent.cli(&["command", r#"{"type":"get_order","order_no":"none"}"#]);
    let reply: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &reply["error"]["code"]), (Some(1), &json!("unknown_order")));
    let answer = std::thread::spawn(move || {
        let sent = device.expect_start();
        device.answer(sent, true, 26);
        device
    });
    let (code, out, _) = agent.cli(&["command", &start(60).to_string()]);
    let reply: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &reply["result"]), (Some(0), &json!("done")));
    assert_eq!(agent.order()["order_no"], reply["order_no"]);
    drop(answer.join().unwrap());
    // Whoever asks is known by the user of its process, unless the command says.
    let me = rustix::process::getuid().as_raw().to_string();
    assert_eq!(agent.order()["started_by"], json!(me));
}

#[test]
fn commands_are_kept_with_who_asked_what_and_what_came_of_it() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let mut command = start(60);
    command["id"] = "c-1".into();
    command["actor"] = "app:17".into();
    command["order_no"] = "K-1".into();
    let client = agent.begin(command.clone());
    let sent = device.expect_start();
    device.answer(sent, true, 26);
    let reply = client.reply();
    agent.command(json!({ "id": "c-2", "type": "dance", "step": 1 }));
    let rows = agent.rows("SELECT id, at, source, actor, type, payload, reply, order_no FROM commands ORDER BY id");
    assert_eq!(rows.len(), 2, "{rows:?}");
    let text = |row: &Value, name: &str| serde_json::from_str::<Value>(row[name].as_str().unwrap()).unwrap();
    assert_eq!(
        (&rows[0]["source"], &rows[0]["actor"], &rows[0]["type"]),
        (&json!("site"), &json!("app:17"), &json!("start_charge"))
    );
    assert_eq!((text(&rows[0], "payload"), text(&rows[0], "reply")), (command, reply));
    assert_eq!(rows[0]["order_no"], "K-1");
    assert_eq!(
        (&rows[1]["type"], &text(&rows[1], "reply")["error"]["code"]),
        (&json!("dance"), &json!("unknown_type"))
    );
    assert_eq!(agent.order()["started_by"], "app:17");
}

#[test]
fn an_id_stays_taken_whatever_came_of_its_command() {
    let agent = Agent::start(FAST);
    let first = agent.command(json!({ "id": "x", "type": "get_order", "order_no": "none" }));
    let again = agent.command(json!({ "order_no": "none", "type": "get_order", "id": "x" }));
    assert_eq!(again, first, "the same content in another order");
    for other in [
        json!({ "id": "x", "type": "get_order", "order_no": "other" }),
        json!({ "id": "x", "type": "get_order", "order_no": "none", "actor": "me" }),
        json!({ "id": "x", "type": "dance" }),
    ] {
        assert_eq!(code(&agent.command(other)), ("rejected", "out_of_range", Some("id")));
    }
    for id in [json!(""), json!("x".repeat(65)), json!(7), json!(null)] {
        let reply = agent.command(json!({ "id": id, "type": "get_order", "order_no": "none" }));
        assert_eq!((code(&reply), &reply["id"]), (("rejected", "out_of_range", Some("id")), &Value::Null), "{id}");
    }
    let longest = "é".repeat(64);
    let reply = agent.command(json!({ "id": longest, "type": "get_order", "order_no": "none" }));
    assert_eq!((code(&reply).1, &reply["id"]), ("unknown_order", &json!(longest)));
}

#[test]
fn a_signal_ends_the_agent_within_five_seconds_whatever_waits() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = Agent::start("");
        let mut device = Device::idle(&agent);
        device.status(Shows { power: 7, ..IDLE });
        let _waiting = agent.begin(start(60));
        device.expect_start();
        let _idle = std::net::TcpStream::connect(agent.address).unwrap();
        let watch = Stopwatch::start();
        agent.signal(signal);
        assert_eq!(agent.ended().code(), Some(0));
        assert!(watch.elapsed() < Duration::from_secs(5));
        let row =
            agent.rows_as_they_are("SELECT p.power_w, d.online, o.status FROM ports p, devices d, orders o").pop();
        assert_eq!(row.unwrap(), json!({ "power_w": 0.7, "online": 1, "status": 0 }), "the last figures are kept");
        assert!(agent.log().lines().last().unwrap().contains("ended"), "{}", agent.log());
    }
}

#[test]
fn sighup_changes_the_log_level_and_what_policies_say() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let file = agent.path("agent.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let policy = "[[policies]]\nfirmware_below = \"v2\"\naction = \"disable\"\n";
    std::fs::write(&file, format!("{}{policy}", text.replace("level = \"debug\"", "level = \"warn\""))).unwrap();
    agent.signal(Signal::HUP);
    wait_for("the policy", || (agent.events("device").last()? == "device.disabled").then_some(()));
    assert_eq!(code(&agent.command(start(60))), ("rejected", "device_disabled", Some("device")));
    let before = agent.log();
    drop(Device::connect(&agent));
    wait_for("the end", || (agent.events("device").last()? == "device.offline").then_some(()));
    assert_eq!(agent.log(), before, "neither info nor debug any more");
    std::fs::write(&file, text).unwrap();
    agent.signal(Signal::HUP);
    wait_for("the lifting", || (agent.events("device").last()? == "device.enabled").then_some(()));
    wait_for("info again", || {
        let _ = Device::connect(&agent);
        (agent.log().len() > before.len()).then_some(())
    });
    assert!(device.hear().is_none());
}

#[test]
fn with_a_clock_that_cannot_be_believed_nothing_that_hangs_on_it_is_begun() {
    let mut agent = Agent::start("[site]\nclock_synchronized_file = \"/nowhere\"\nutc_offset = \"+00:00\"\n");
    drop(Device::idle(&agent));
    assert!(agent.end().success());
    // The store has believed a time of next week: the gateway's clock was set back.
    let week = 7 * 86_400_000;
    let next_week = Clock::start(UpTime(0)).now().wall.0 + week;
    let db = rusqlite::Connection::open(agent.path("store.db")).unwrap();
    db.execute("UPDATE meta SET value = ?1 WHERE key = 'believed_wall_ms'", [next_week]).unwrap();
    db.close().unwrap();
    agent.run();
    let mut device = Device::connect(&agent);
    let question = device.expect_question();
    device.answer_question(question, IDLE);
    let heartbeat = Uplink::Heartbeat(chargegate::bkv::Heartbeat {
        iccid: chargegate::bkv::AsciiText::new("89860446112070301941").unwrap(),
        firmware: chargegate::bkv::AsciiText::new("v1.146").unwrap(),
        rssi: 28,
    });
    device.say(&heartbeat);
    let Some((_, Downlink::HeartbeatReply(told))) = device.hear() else { panic!("no reply") };
    let expected = chargegate::time_text::calendar(WallTime(next_week));
    assert_eq!((told.time.day, told.time.month), (expected.day, expected.month), "the newest time known to be true");
    let mut expiring = start(60);
    expiring["expires_at"] = "2099-01-01T00:00:00Z".into();
    assert_eq!(code(&agent.command(expiring)), ("rejected", "clock_unknown", Some("expires_at")));
    let mut by_fee = start(60);
    by_fee.as_object_mut().unwrap().remove("minutes");
    for (name, value) in [
        ("mode", json!("fee")),
        ("amount_cents", json!(100)),
        ("service_fee_by", json!("time")),
        ("tiers", json!([{ "until": "23:59", "electricity_cents": 1, "service_cents": 1 }])),
    ] {
        by_fee[name] = value;
    }
    assert_eq!(code(&agent.command(by_fee)), ("rejected", "clock_unknown", Some("mode")));
    // Whatever else is asked for is done, and marked.
    let order_no = device.run_order(&agent, 26, 60);
    let client =
        agent.begin(json!({ "type": "stop_charge", "order_no": order_no, "expires_at": "2020-01-01T00:00:00Z" }));
    let sent = device.expect_stop();
    device.answer(sent, true, 26);
    assert_eq!(code(&client.reply()).0, "done", "a stop never expires");
    device.ends(0x80, 26, 1, 0);
    assert_eq!(agent.order()["flags"], "[\"clock_unset\"]");
    assert_eq!(agent.rows("SELECT clock FROM events WHERE stream = 'order'")[0]["clock"], "unset");
    assert!(agent.order()["end_time"].as_i64().unwrap() < next_week - week / 2, "times are the clock's own");
}

#[test]
fn what_is_set_of_devices_stays_over_restarts_and_null_takes_it_away() {
    let mut agent = Agent::start(FAST);
    let device = "82241218000042";
    let set = |agent: &Agent, more: Value| {
        let mut command = json!({ "type": "set_device", "device": device });
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(code(&agent.command(command)).0, "done");
    };
    set(&agent, json!({ "device_model": "X", "note": "gate", "enabled": false }));
    agent.command(json!({ "type": "set_socket", "device": device, "socket": 3, "uid": "U", "mac": "0A3500307012", "enabled": false }));
    agent.kill();
    agent.run();
    let row = || {
        let sql = "SELECT d.device_model, d.note, d.status, s.uid, s.mac, s.enabled FROM devices d JOIN sockets s USING (device_id)";
        agent.rows(sql).pop().unwrap()
    };
    let expected = json!({ "device_model": "X", "note": "gate", "status": "disabled", "uid": "U", "mac": "0a3500307012", "enabled": 0 });
    assert_eq!(row(), expected);
    set(&agent, json!({ "device_model": null, "note": null }));
    assert_eq!(
        (&row()["device_model"], &row()["note"], &row()["status"]),
        (&Value::Null, &Value::Null, &json!("disabled"))
    );
    set(&agent, json!({}));
    assert_eq!(agent.events("device"), ["device.registered", "device.disabled", "device.disabled"]);
    assert_eq!(agent.rows("SELECT status, online FROM devices")[0], json!({ "status": "disabled", "online": 0 }));
}

#[test]
fn nothing_that_waited_is_lost_when_many_ask_at_once() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    let mut command = start(60);
    command["id"] = "all".into();
    let clients: Vec<_> = (0..20).map(|_| agent.begin(command.clone())).collect();
    let sent = device.expect_start();
    device.heartbeat();
    device.answer(sent, true, 26);
    let replies: Vec<Value> = clients.iter().map(crate::support::Client::reply).collect();
    assert!(replies.iter().all(|reply| *reply == replies[0] && reply["result"] == "done"));
    let query = json!({ "type": "query_status", "device": id(), "socket": 1 });
    let clients: Vec<_> = (0..5).map(|_| agent.begin(query.clone())).collect();
    let question = device.expect_question();
    wait_for("the queries", || {
        let asked = agent.rows("SELECT count(*) AS n FROM commands WHERE type = 'query_status'");
        (asked[0]["n"] == 5).then_some(())
    });
    // One question serves them all.
    device.answer_question(question, charging(26, 1, 0));
    for client in clients {
        assert_eq!(client.reply()["data"]["ports"][0]["energy_wh"], 1);
    }
    device.heartbeat();
    let events = agent.rows("SELECT count(*) AS n FROM events WHERE type = 'order.started'");
    assert_eq!(events[0]["n"], 1);
}
