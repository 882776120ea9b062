//! A gateway and its sockets: what is known of them (contract §4 `devices`, `sockets`).

use crate::clock::{UpTime, WallTime};
use crate::ids::{DeviceId, SocketNo};

/// The record of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// 14 digits.
    pub id: DeviceId,
    /// Given by the operator; the protocol does not tell it.
    pub model: Option<Box<str>>,
    /// From the heartbeat.
    pub firmware: Option<Box<str>>,
    /// From the heartbeat.
    pub iccid: Option<Box<str>>,
    /// From the heartbeat, as sent.
    pub rssi: Option<u8>,
    /// The operator's word.
    pub enabled: bool,
    /// A policy disables it, until its firmware changes.
    pub policy_disabled: bool,
    /// Connected and heard of lately.
    pub online: bool,
    /// Last frame.
    pub last_seen: Option<WallTime>,
    /// The same in up-time.
    pub heard: Option<UpTime>,
    /// Free text of the operator.
    pub note: Option<Box<str>>,
}

impl Device {
    /// A device of which only the id is known.
    pub const fn new(id: DeviceId) -> Self {
        Self {
            id,
            model: None,
            firmware: None,
            iccid: None,
            rssi: None,
            enabled: true,
            policy_disabled: false,
            online: false,
            last_seen: None,
            heard: None,
            note: None,
        }
    }
}

/// The record of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Its gateway.
    pub device: DeviceId,
    /// Its number there.
    pub no: SocketNo,
    /// Six bytes as hex.
    pub mac: Option<Box<str>>,
    /// Printed on it.
    pub uid: Option<Box<str>>,
    /// Two bytes, `ffff` unknown.
    pub firmware: Option<u16>,
    /// Of its last status.
    pub temperature_c: Option<i8>,
    /// Of its last status, as sent.
    pub rssi: Option<u8>,
    /// Bit 7 of its last status, while its device is online.
    pub online: bool,
    /// The operator's word.
    pub enabled: bool,
    /// A policy disables it, until its firmware changes.
    pub policy_disabled: bool,
    /// Last status.
    pub last_seen: Option<WallTime>,
    /// The same in up-time.
    pub heard: Option<UpTime>,
    /// When it was first reported lost, while it is.
    pub lost: Option<UpTime>,
}

impl Socket {
    /// A socket of which only the number is known.
    pub const fn new(device: DeviceId, no: SocketNo) -> Self {
        Self {
            device,
            no,
            mac: None,
            uid: None,
            firmware: None,
            temperature_c: None,
            rssi: None,
            online: false,
            enabled: true,
            policy_disabled: false,
            last_seen: None,
            heard: None,
            lost: None,
        }
    }
}
