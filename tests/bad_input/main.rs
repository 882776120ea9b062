//! Bad input never ends the agent, blocks another device, or loses the good frame next to it (contract §5): the real
//! program, with a healthy device beside it that is served throughout.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod connections;
mod control;
mod failing_store;
mod full_disk;
mod fuzz;
mod noise;
mod nonsense;
mod store_file;

use chargegate::bkv::{Downlink, Uplink};
use chargegate::ids::{DeviceId, MessageId, PortNo};
use support::{Agent, Device, IDLE, Shows, id};

fn healthy_id() -> DeviceId {
    "82241218000777".parse().unwrap()
}

/// A device beside the bad one.
fn healthy(agent: &Agent) -> Device {
    let mut device = Device::connect_as(agent, healthy_id());
    device.status(IDLE);
    device
}

fn numbered(place: u32) -> DeviceId {
    chargegate::sim::fleet::device_id(place).unwrap()
}

fn heartbeat_bytes(id: DeviceId) -> Vec<u8> {
    let heartbeat = chargegate::bkv::Heartbeat {
        iccid: chargegate::bkv::AsciiText::new("89860446112070301941").unwrap(),
        firmware: chargegate::bkv::AsciiText::new("v1.146").unwrap(),
        rssi: 28,
    };
    Uplink::Heartbeat(heartbeat).encode(id, MessageId::DEVICE)
}

fn status_bytes(shows: Shows) -> Vec<u8> {
    status_bytes_of(id(), shows)
}

fn status_bytes_of(id: DeviceId, shows: Shows) -> Vec<u8> {
    let report = chargegate::bkv::StatusReport::of(support::socket_status(&[(PortNo::A, shows)]));
    Uplink::Status(report).encode(id, MessageId::DEVICE)
}

/// With its checksum wrong.
fn broken(mut frame: Vec<u8>) -> Vec<u8> {
    let checksum = frame.len() - 3;
    frame[checksum] ^= 0x55;
    frame
}

/// With its length and checksum right, whatever it says.
fn made_right(mut frame: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(frame.len() - 4).unwrap();
    frame[2..4].copy_from_slice(&length.to_be_bytes());
    let end = frame.len() - 3;
    frame[end] = frame[2..end].iter().fold(0, |sum, byte| sum.wrapping_add(*byte));
    frame
}

/// A heartbeat, answered. What was asked before is answered with what port A shows; the rest is passed over.
fn quiet_beat(device: &mut Device, shows: Shows) {
    let heartbeat = heartbeat_bytes(device.id);
    device.raw(&heartbeat);
    loop {
        let (message_id, message) = device.hear().unwrap();
        match message {
            Downlink::HeartbeatReply(_) => return,
            Downlink::QueryStatus(_) => device.answer_question(message_id, shows),
            _ => {}
        }
    }
}

/// A status of port A, acknowledged; otherwise as [`quiet_beat`].
fn quiet_status(device: &mut Device, shows: Shows) {
    let status = status_bytes_of(device.id, shows);
    device.raw(&status);
    quiet_beat(device, shows);
}

/// A well-formed frame that makes no sense, so long.
fn nonsense(id: DeviceId, length: usize) -> Vec<u8> {
    let data = vec![0xaa; length].into();
    Uplink::Unknown(chargegate::bkv::Unknown { command: 0x1000, sub: None, data }).encode(id, MessageId::DEVICE)
}
