//! What the cloud is told: the data of each event (contract §6). Writes no row: `store` does.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::clock::WallTime;
use crate::device::{Device, Socket};
use crate::ids::{DeviceId, PortKey};
use crate::order::Order;
use crate::order::words;
use crate::port::Port;
use crate::store::StreamRange;
use crate::time_text::rfc3339;

words! {
    /// The four event streams, each with a `seq` of its own.
    Stream {
        /// `event/order`.
        Order = "order",
        /// `event/device`.
        Device = "device",
        /// `event/alert`.
        Alert = "alert",
        /// `event/abnormal`.
        Abnormal = "abnormal",
    }
}

words! {
    /// How good a time is (contract §6 `clock`).
    ClockQuality {
        /// The system calls its clock synchronised.
        Synced = "synced",
        /// Believed without that.
        Restored = "restored",
        /// Not to be believed.
        Unset = "unset",
    }
}

fn time(time: Option<WallTime>) -> Value {
    time.map_or(Value::Null, |time| rfc3339(time).into())
}

fn word<T: Copy>(value: Option<T>, word: fn(T) -> &'static str) -> Value {
    value.map_or(Value::Null, |value| word(value).into())
}

/// The whole order: the columns of contract §4 by their names, but `device` `socket` `port` for the ids, the
/// status as its word, `final` as true or false, times as text, and JSON columns as values.
pub fn order_data(order: &Order) -> Value {
    let flags: Vec<&str> = order.flags.iter().map(|flag| flag.word()).collect();
    json!({
        "order_no": order.order_no,
        "device": order.port.device,
        "socket": order.port.socket,
        "port": order.port.port,
        "business_no": order.business_no,
        "source": order.source.word(),
        "mode": order.plan.as_ref().map(crate::order::Plan::mode),
        "plan": order.plan,
        "status": order.status.word(),
        "start_time": time(order.start_time),
        "end_time": time(order.end_time),
        "end_reason": word(order.end_reason, crate::order::EndReason::word),
        "settlement": word(order.settlement, crate::order::Settlement::word),
        "final": order.is_final,
        "revision": order.revision,
        "verdict": word(order.verdict, crate::order::Verdict::word),
        "energy_wh": order.energy_wh,
        "energy_max_wh": order.energy_max_wh,
        "minutes": order.minutes,
        "minutes_max": order.minutes_max,
        "spent_cents": order.spent_cents,
        "electricity_cents": order.electricity_cents,
        "service_cents": order.service_cents,
        "settlement_power_w": order.settlement_power.map(crate::ids::DeciWatts::watts),
        "tiers": order.tiers,
        "peak_power_w": order.peak_power.map(crate::ids::DeciWatts::watts),
        "raw_reason": order.raw_reason,
        "raw_status": order.raw_status,
        "device_end_time": order.device_end_time,
        "started_by": order.started_by,
        "stopped_by": order.stopped_by,
        "card_no": order.card_no,
        "flags": flags,
    })
}

/// A device with the columns of contract §4, times as text.
pub fn device_data(device: &Device) -> Value {
    let enabled = device.enabled && !device.policy_disabled;
    json!({
        "device_id": device.id,
        "device_model": device.model,
        "firmware_version": device.firmware,
        "iccid": device.iccid,
        "rssi": device.rssi,
        "status": if enabled { "enabled" } else { "disabled" },
        "online": u8::from(device.online),
        "last_seen": time(device.last_seen),
        "note": device.note,
    })
}

/// A socket with the columns of contract §4, times as text.
pub fn socket_data(socket: &Socket, effective_online: bool, effective_enabled: bool) -> Value {
    json!({
        "device_id": socket.device,
        "socket_no": socket.no,
        "mac": socket.mac,
        "uid": socket.uid,
        "firmware": socket.firmware.map(|firmware| format!("{firmware:04x}")),
        "temperature_c": socket.temperature_c,
        "rssi": socket.rssi,
        "online": u8::from(effective_online),
        "enabled": u8::from(effective_enabled),
        "last_seen": time(socket.last_seen),
    })
}

/// A port with the columns of contract §4, times as text.
pub fn port_data(port: &Port) -> Value {
    json!({
        "device_id": port.key.device,
        "socket_no": port.key.socket,
        "port_no": port.key.port,
        "status": port.status.code(),
        "raw_status": port.raw_status,
        "business_no": port.business_no,
        "voltage_v": port.figures.map(|figures| figures.voltage.volts()),
        "power_w": port.figures.map(|figures| figures.power.watts()),
        "current_a": port.figures.map(|figures| figures.current.amperes()),
        "energy_wh": port.figures.map(|figures| figures.energy),
        "minutes": port.figures.map(|figures| figures.minutes),
        "updated_at": time(port.updated_at),
    })
}

/// An alert with the columns of contract §4, times as text.
pub fn alert_data(alert: &crate::store::Alert) -> Value {
    let details = alert.details.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
    json!({
        "alert_id": alert.id,
        "rule": alert.rule,
        "severity": alert.severity.word(),
        "device_id": alert.subject.device,
        "socket_no": alert.subject.socket,
        "port_no": alert.subject.port,
        "raised_at": rfc3339(alert.raised_at),
        "acknowledged_at": time(alert.acknowledged_at),
        "cleared_at": time(alert.cleared_at),
        "details": details,
    })
}

/// What is kept of each stream, as `state` has it.
pub fn streams_data(streams: &BTreeMap<Stream, StreamRange>) -> Value {
    streams
        .iter()
        .map(|(stream, StreamRange { oldest, next })| {
            (stream.word().to_owned(), json!({ "oldest": oldest, "next": next }))
        })
        .collect::<Map<String, Value>>()
        .into()
}

/// `device` `socket` `port`, and what else an event says of a port.
pub fn port_event(key: PortKey, more: Value) -> Value {
    let mut data = Map::new();
    data.insert("device".to_owned(), key.device.to_string().into());
    data.insert("socket".to_owned(), key.socket.get().into());
    data.insert("port".to_owned(), key.port.get().into());
    if let Value::Object(more) = more {
        data.extend(more);
    }
    Value::Object(data)
}

/// `device`, and what else an event says of it.
pub fn device_event(device: Option<DeviceId>, more: Value) -> Value {
    let mut data = Map::new();
    data.insert("device".to_owned(), device.map_or(Value::Null, |device| device.to_string().into()));
    if let Value::Object(more) = more {
        data.extend(more);
    }
    Value::Object(data)
}
