//! Names and quantities of the field as types, so that no two of them can be swapped (contract §1).
//!
//! Owns the textual forms (a device id is 14 digits) and the ranges that the protocol allows. Knows no
//! bytes beyond the BCD of a device id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The 7-byte BCD id of a device (gateway unit), written as 14 digits (protocol §1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId([u8; 7]);

impl DeviceId {
    /// From the bytes of a frame; `None` when a nibble is no decimal digit.
    pub fn from_bcd(bytes: [u8; 7]) -> Option<Self> {
        bytes.iter().all(|b| b >> 4 <= 9 && b & 0x0f <= 9).then_some(Self(bytes))
    }

    /// The bytes of a frame.
    pub const fn bcd(self) -> [u8; 7] {
        self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no [`DeviceId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device id is 14 decimal digits")]
pub struct BadDeviceId;

impl FromStr for DeviceId {
    type Err = BadDeviceId;

    fn from_str(text: &str) -> Result<Self, BadDeviceId> {
        let digits = text.as_bytes();
        if digits.len() != 14 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(BadDeviceId);
        }
        let mut bytes = [0; 7];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (pair[0] - b'0') << 4 | (pair[1] - b'0');
        }
        Ok(Self(bytes))
    }
}

impl Serialize for DeviceId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Number of a socket behind its device: 0–250 (protocol §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SocketNo(u8);

impl SocketNo {
    /// The highest number that a socket can have.
    pub const MAX: u8 = 250;

    /// `None` above 250.
    pub const fn new(no: u8) -> Option<Self> {
        if no <= Self::MAX { Some(Self(no)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for SocketNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An outlet of a socket: 0 = A (left), 1 = B (right).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortNo(u8);

impl PortNo {
    /// Port A, the left one.
    pub const A: Self = Self(0);
    /// Port B, the right one.
    pub const B: Self = Self(1);
    /// Outlets that a socket can have.
    pub const COUNT: usize = 2;

    /// `None` above 1.
    pub const fn new(no: u8) -> Option<Self> {
        if no <= 1 { Some(Self(no)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for PortNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One port of the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// The gateway unit.
    pub device: DeviceId,
    /// The socket behind it.
    pub socket: SocketNo,
    /// The outlet.
    pub port: PortNo,
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.device, self.socket, self.port)
    }
}

/// The device's own 16-bit name of an open order. 0 on the wire means "no order" and is `None` here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BusinessNo(std::num::NonZeroU16);

impl BusinessNo {
    /// `None` for 0.
    pub const fn new(no: u16) -> Option<Self> {
        match std::num::NonZeroU16::new(no) {
            Some(no) => Some(Self(no)),
            None => None,
        }
    }

    /// The number, never 0.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The number on the wire, 0 for none.
    pub const fn wire(no: Option<Self>) -> u16 {
        match no {
            Some(no) => no.get(),
            None => 0,
        }
    }
}

impl fmt::Display for BusinessNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ours in a frame, repeated in the device's answer; 0 when the device starts (protocol §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct MessageId(pub u32);

impl MessageId {
    /// Of what a device starts by itself.
    pub const DEVICE: Self = Self(0);
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// An order's number, unique for ever: 1–64 printable characters (contract §6).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct OrderNo(Box<str>);

impl OrderNo {
    /// `None` when the text is empty, longer than 64 characters, or holds one that cannot be printed.
    pub fn new(text: &str) -> Option<Self> {
        let length = text.chars().count();
        let printable = text.chars().all(|c| !c.is_control());
        ((1..=64).contains(&length) && printable).then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrderNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OrderNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for OrderNo {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::new(&text).ok_or_else(|| serde::de::Error::custom("an order number is 1-64 printable characters"))
    }
}

macro_rules! quantity {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::ops::Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }
    )+};
}

quantity! {
    /// Energy, Wh.
    WattHours,
    /// Time that an order runs or is paid for, whole minutes.
    Minutes,
    /// Money, 0.01 of the currency.
    Cents,
    /// Power, 0.1 W.
    DeciWatts,
    /// Voltage, 0.1 V.
    DeciVolts,
    /// Current, 0.001 A.
    MilliAmperes,
}

impl DeciWatts {
    /// Watts, as topics and tables carry them.
    pub fn watts(self) -> f64 {
        f64::from(self.0) / 10.0
    }
}

impl DeciVolts {
    /// Volts, as topics and tables carry them.
    pub fn volts(self) -> f64 {
        f64::from(self.0) / 10.0
    }
}

impl MilliAmperes {
    /// Amperes, as topics and tables carry them.
    pub fn amperes(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}
