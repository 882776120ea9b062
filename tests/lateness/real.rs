//! The real program with short limits, by the system's clock.

use chargegate::clock::{Clock, UpTime};
use chargegate::ids::DeviceId;
use chargegate::sim::fleet::device_id;
use serde_json::json;

use crate::support::{Agent, Device, IDLE, charging, wait_for};
use crate::{MOST_AFTER_GRACE_MS, MOST_AFTER_OFFLINE_MS, judge};

const DEVICES: u16 = 20;
/// Limits run on the monotonic clock, the wall clock tells when they were met; each is read in whole milliseconds.
const CLOCKS_MS: i64 = 10;

fn wall() -> i64 {
    Clock::start(UpTime(0)).now().wall.0
}

/// Devices with an order each that is shown charging.
fn charge_all(agent: &Agent) -> Vec<Device> {
    (0..DEVICES)
        .map(|place| {
            let id = device_id(u32::from(place)).unwrap();
            let mut device = Device::connect_as(agent, id);
            device.status(IDLE);
            let start = json!({ "type": "start_charge", "device": id, "socket": 1, "port": 0, "mode": "time",
                                "minutes": 60 });
            let client = agent.begin(start);
            let sent = device.expect_start();
            device.answer(sent, true, 100 + place);
            assert_eq!(client.reply()["result"], "done");
            device.status(charging(100 + place, 1, 0));
            device
        })
        .collect()
}

/// How late each order was closed for this reason; `since` has what its limit counts from.
fn lateness(agent: &Agent, reason: &str, limit_ms: i64, since: &[(DeviceId, i64)]) -> Vec<i64> {
    let sql =
        format!("SELECT device_id, at FROM events WHERE type = 'order.closed' AND data ->> 'end_reason' = '{reason}'");
    let closed = wait_for("the closes", || {
        let closed = agent.rows_as_they_are(&sql);
        (closed.len() == since.len()).then_some(closed)
    });
    let of = |row: &serde_json::Value| {
        let (_, since) = since.iter().find(|(id, _)| row["device_id"] == json!(id)).unwrap();
        row["at"].as_i64().unwrap() - since - limit_ms
    };
    closed.iter().map(of).collect()
}

#[test]
fn an_idle_port_without_its_report_is_closed_within_the_grace_and_twenty_seconds() {
    let agent = Agent::start("[orders]\nanswer_timeout = \"1s\"\nend_report_grace = \"3s\"\n");
    let mut devices = charge_all(&agent);
    let mut shown = Vec::new();
    for device in &mut devices {
        shown.push((device.id, wall()));
        device.status(IDLE);
    }
    // Every other socket answers when it is asked.
    for device in devices.iter_mut().step_by(2) {
        let question = device.expect_question();
        device.answer_question(question, IDLE);
    }
    let late = lateness(&agent, "end_report_missing", 3_000, &shown);
    judge("real program, idle without a report", late, MOST_AFTER_GRACE_MS, CLOCKS_MS);
}

#[test]
fn the_orders_of_an_offline_device_are_closed_within_five_seconds_of_its_timeout() {
    let agent = Agent::start(
        "[devices]\nheartbeat_interval = \"1s\"\noffline_after = \"2s\"\n[orders]\noffline_timeout = \"3s\"\n",
    );
    let mut devices = charge_all(&agent);
    let mut last = Vec::new();
    for device in &mut devices {
        last.push((device.id, wall()));
        device.heartbeat();
    }
    // Of some the connection ends, the others only fall silent.
    let silent: Vec<Device> = devices.into_iter().step_by(2).collect();
    let late = lateness(&agent, "offline", 3_000, &last);
    judge("real program, device offline", late, MOST_AFTER_OFFLINE_MS, CLOCKS_MS);
    drop(silent);
}
