//! The list of sockets behind a gateway, `0005` (§8).

use crate::bkv::code::{NetworkSub, Shape};
use crate::bkv::error::{Cause, Fault};
use crate::bkv::field::Reader;
use crate::bkv::value::{Mac, ResultByte};
use crate::ids::SocketNo;

/// A socket as the platform lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkEntry {
    /// Its number.
    pub socket: SocketNo,
    /// Its hardware address.
    pub mac: Mac,
}

impl NetworkEntry {
    fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { socket: r.socket()?, mac: Mac(r.array("mac", Shape::Bytes)?) })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.socket.get());
        out.extend_from_slice(&self.mac.0);
    }
}

/// `08`: replace the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRefresh {
    /// Radio channel, 1–15.
    pub channel: u8,
    /// All sockets.
    pub sockets: Vec<NetworkEntry>,
}

impl NetworkRefresh {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let channel = r.u8("channel")?;
        if !(1..=15).contains(&channel) {
            return Err(r.refuse("channel", channel));
        }
        let mut sockets = Vec::new();
        while r.left() > 0 {
            sockets.push(NetworkEntry::read(r)?);
        }
        Ok(Self { channel, sockets })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.channel);
        self.sockets.iter().for_each(|entry| entry.write(out));
    }
}

/// `09` and `0a`: change the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkChange {
    /// Add a socket.
    Add(NetworkEntry),
    /// Delete a socket.
    Delete(SocketNo),
}

impl NetworkChange {
    pub(super) fn read_add(r: &mut Reader<'_>) -> Result<Self, Fault> {
        NetworkEntry::read(r).map(Self::Add)
    }

    pub(super) fn read_delete(r: &mut Reader<'_>) -> Result<Self, Fault> {
        r.socket().map(Self::Delete)
    }

    pub(super) fn sub(&self) -> NetworkSub {
        match self {
            Self::Add(_) => NetworkSub::Add,
            Self::Delete(_) => NetworkSub::Delete,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Add(entry) => entry.write(out),
            Self::Delete(socket) => out.push(socket.get()),
        }
    }
}

/// The device's answer to any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkAnswer {
    /// What it answers: refresh, add or delete.
    pub sub: NetworkSub,
    /// 1 ok.
    pub result: ResultByte,
}

impl NetworkAnswer {
    pub(super) fn read(r: &mut Reader<'_>, sub: u8) -> Result<Self, Fault> {
        Ok(Self { sub: NetworkSub::from_code(sub), result: r.result()? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.result.0);
    }
}

/// A socket as the device lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedSocket {
    /// Its number.
    pub socket: SocketNo,
    /// Its hardware address.
    pub mac: Mac,
    /// The id printed on it.
    pub uid: [u8; 4],
    /// Radio channel.
    pub channel: u8,
    /// Strength of its radio signal.
    pub rssi: u8,
    /// Whether the gateway hears it.
    pub online: bool,
}

/// The device's list, its other answer to a refresh. A single byte is a result, never an empty list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkList {
    /// Its sockets, at most 255.
    pub sockets: Vec<ListedSocket>,
}

impl NetworkList {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let offset = r.offset();
        let count = r.u8("count")?;
        let (entry, found) = (14, r.left());
        if found != usize::from(count) * entry {
            let cause = Cause::Length { declared: usize::from(count) * entry, found };
            return Err(Fault { field: "count", offset, cause });
        }
        let sockets = (0..count).map(|_| ListedSocket::read(r)).collect::<Result<_, _>>()?;
        Ok(Self { sockets })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        use crate::bkv::field::Write as _;
        out.counted(&self.sockets, |out, socket| socket.write(out));
    }
}

impl ListedSocket {
    fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            socket: r.socket()?,
            mac: Mac(r.array("mac", Shape::Bytes)?),
            uid: r.array("uid", Shape::Bytes)?,
            channel: r.u8("channel")?,
            rssi: r.rssi()?,
            online: match r.u8("online")? {
                0 => false,
                1 => true,
                other => return Err(r.refuse("online", other)),
            },
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.push(self.socket.get());
        out.extend_from_slice(&self.mac.0);
        out.extend_from_slice(&self.uid);
        out.extend_from_slice(&[self.channel, self.rssi, self.online.into()]);
    }
}
