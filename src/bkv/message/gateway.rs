//! Heartbeat `0000` (§4) and firmware upgrade `0007` (§9): what concerns the gateway itself.

use std::net::Ipv4Addr;

use crate::bkv::code::Shape;
use crate::bkv::error::{Cause, Fault};
use crate::bkv::field::{Reader, Write as _};
use crate::bkv::value::{AsciiText, CalendarTime, DeviceTime};
use crate::ids::SocketNo;

/// A device is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its SIM card.
    pub iccid: AsciiText<20>,
    /// Its firmware version.
    pub firmware: AsciiText<8>,
    /// Strength of its radio signal.
    pub rssi: u8,
}

impl Heartbeat {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { iccid: r.text("iccid")?, firmware: r.text("firmware")?, rssi: r.rssi()? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.iccid.0);
        out.extend_from_slice(&self.firmware.0);
        out.push(self.rssi);
    }
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// The site's local time.
    pub time: CalendarTime,
}

impl HeartbeatReply {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let offset = r.offset();
        let time = DeviceTime::from_bcd(r.array("time", Shape::BcdTime)?);
        let time = time.calendar().ok_or(Fault { field: "time", offset, cause: Cause::NoSuchTime })?;
        Ok(Self { time })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&DeviceTime::bcd(self.time).raw());
    }
}

/// What an upgrade is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtaTarget {
    /// The gateway itself, 1 on the wire.
    Gateway,
    /// A socket, 2 on the wire and its number.
    Socket(SocketNo),
}

/// Fetch a firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ota {
    /// What it is for.
    pub target: OtaTarget,
    /// FTP server.
    pub server: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// The file.
    pub file: AsciiText<13>,
}

impl Ota {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let target = match r.u8("target")? {
            1 => OtaTarget::Gateway,
            2 => OtaTarget::Socket(r.socket()?),
            other => return Err(r.refuse("target", other)),
        };
        let server = Ipv4Addr::from(r.array::<4>("server", Shape::Address)?);
        Ok(Self { target, server, port: r.word("server_port", Shape::U16)?, file: r.text("file")? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self.target {
            OtaTarget::Gateway => out.push(1),
            OtaTarget::Socket(no) => out.extend_from_slice(&[2, no.get()]),
        }
        out.extend_from_slice(&self.server.octets());
        out.word(self.port.into());
        out.extend_from_slice(&self.file.0);
    }
}

/// How an upgrade goes; the guide gives no layout, so it is kept raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtaProgress {
    /// The data.
    pub data: Box<[u8]>,
}

impl OtaProgress {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        Self { data: r.rest("progress").into() }
    }
}
