//! Values that messages are made of and that only this protocol has.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{MessageId, Minutes, SocketNo};

/// Status byte of a port (§5). The raw byte is kept; what it proves is not decided here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StatusByte(pub u8);

impl StatusByte {
    /// Online, idle.
    pub const IDLE: Self = Self(0x80);
    /// Charging, just switched on.
    pub const STARTED: Self = Self(0x90);
    /// Charging with load.
    pub const CHARGING: Self = Self(0xb0);
    /// Charging without load.
    pub const NO_LOAD: Self = Self(0x98);

    /// Bit 7. Clear: the socket lost its radio link, and all else here says nothing.
    pub const fn online(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// Bit 6.
    pub const fn metering_fault(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// Bit 5.
    pub const fn metering(self) -> bool {
        self.0 & 0x20 != 0
    }

    /// Bit 4.
    pub const fn charging(self) -> bool {
        self.0 & 0x10 != 0
    }

    /// Bit 3.
    pub const fn no_load(self) -> bool {
        self.0 & 0x08 != 0
    }

    /// Bit 2.
    pub const fn over_temperature(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// Bit 1.
    pub const fn over_current(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// Bit 0.
    pub const fn over_power(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// Any of bits 6, 2, 1, 0.
    pub const fn has_fault(self) -> bool {
        self.0 & 0x47 != 0
    }
}

impl fmt::Display for StatusByte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BITS: [(u8, &str); 7] = [
            (0x40, "metering fault"),
            (0x20, "metering"),
            (0x10, "charging"),
            (0x08, "no load"),
            (0x04, "over-temperature"),
            (0x02, "over-current"),
            (0x01, "over-power"),
        ];
        f.write_str(if self.online() { "online" } else { "socket offline" })?;
        if self.online() && self.0 & 0x7f == 0 {
            f.write_str(", idle")?;
        }
        BITS.iter().filter(|(bit, _)| self.0 & bit != 0).try_for_each(|(_, name)| write!(f, ", {name}"))
    }
}

/// Result of an answer or acknowledgement: 1 is ok, anything else is not; the raw byte is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResultByte(pub u8);

impl ResultByte {
    /// Ok, accepted.
    pub const OK: Self = Self(1);
    /// Refused, or an error.
    pub const REFUSED: Self = Self(0);

    /// Whether it is ok.
    pub const fn ok(self) -> bool {
        self.0 == 1
    }
}

impl From<bool> for ResultByte {
    fn from(ok: bool) -> Self {
        Self(ok.into())
    }
}

/// Reported energy in units of the device; how many Wh one is depends on its model (§6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EnergyUnits(pub u16);

/// Number of a card, 6 bytes; written in hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CardNo(pub [u8; 6]);

impl fmt::Display for CardNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for CardNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hardware address of a socket; written in hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A field of text, NUL-padded. The bytes are kept; what cannot be printed is shown as `?`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AsciiText<const N: usize>(pub [u8; N]);

impl<const N: usize> AsciiText<N> {
    /// `None` when the text is longer than the field or not printable ASCII.
    pub fn new(text: &str) -> Option<Self> {
        let printable = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        let mut bytes = [0; N];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        printable.then_some(Self(bytes))
    }
}

impl<const N: usize> fmt::Display for AsciiText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        self.0[..end].iter().try_for_each(|b| {
            let printable = *b == b' ' || b.is_ascii_graphic();
            write!(f, "{}", if printable { char::from(*b) } else { '?' })
        })
    }
}

impl<const N: usize> fmt::Debug for AsciiText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// Calendar fields, without a zone and without a promise that such a day exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CalendarTime {
    /// Year.
    pub year: u16,
    /// Month, 1–12 when sound.
    pub month: u8,
    /// Day, from 1.
    pub day: u8,
    /// Hour.
    pub hour: u8,
    /// Minute.
    pub minute: u8,
    /// Second.
    pub second: u8,
}

impl CalendarTime {
    /// Whether the calendar has such a moment.
    pub const fn is_valid(self) -> bool {
        let leap = self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let days = match self.month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => 0,
        };
        self.day >= 1 && self.day <= days && self.hour < 24 && self.minute < 60 && self.second < 60
    }
}

impl fmt::Display for CalendarTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

/// How a [`DeviceTime`] is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum TimeForm {
    Bcd,
    Binary,
}

/// A time by a device's clock, as it sent it: it may name a month 13, or nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceTime {
    raw: [u8; 7],
    form: TimeForm,
}

impl DeviceTime {
    /// Seven BCD bytes `YYYYMMDDhhmmss`.
    pub const fn from_bcd(raw: [u8; 7]) -> Self {
        Self { raw, form: TimeForm::Bcd }
    }

    /// A binary year of two bytes, then month, day, hour, minute and second.
    pub const fn from_binary(raw: [u8; 7]) -> Self {
        Self { raw, form: TimeForm::Binary }
    }

    /// As BCD; fields above what two digits hold lose their upper digits.
    pub fn bcd(time: CalendarTime) -> Self {
        let digits = |n: u8| ((n / 10 % 10) << 4) | (n % 10);
        let CalendarTime { year, month, day, hour, minute, second } = time;
        let (century, year) = ((year / 100 % 100) as u8, (year % 100) as u8);
        Self::from_bcd([century, year, month, day, hour, minute, second].map(digits))
    }

    /// As binary.
    pub const fn binary(time: CalendarTime) -> Self {
        let [high, low] = time.year.to_be_bytes();
        Self::from_binary([high, low, time.month, time.day, time.hour, time.minute, time.second])
    }

    /// The bytes as they came.
    pub const fn raw(self) -> [u8; 7] {
        self.raw
    }

    /// The fields as they came; `None` when they are no digits.
    pub fn fields(self) -> Option<CalendarTime> {
        let [a, b, month, day, hour, minute, second] = match self.form {
            TimeForm::Binary => self.raw,
            TimeForm::Bcd => {
                if self.raw.iter().any(|b| b >> 4 > 9 || b & 0x0f > 9) {
                    return None;
                }
                self.raw.map(|b| (b >> 4) * 10 + (b & 0x0f))
            }
        };
        let year = match self.form {
            TimeForm::Binary => u16::from_be_bytes([a, b]),
            TimeForm::Bcd => u16::from(a) * 100 + u16::from(b),
        };
        Some(CalendarTime { year, month, day, hour, minute, second })
    }

    /// The moment that it names; `None` when the calendar has none such.
    pub fn calendar(self) -> Option<CalendarTime> {
        self.fields().filter(|time| time.is_valid())
    }
}

impl fmt::Display for DeviceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fields() {
            Some(fields) => fields.fmt(f),
            None => f.write_str(&super::code::hex(&self.raw)),
        }
    }
}

/// The command that a message travels under, where a model may choose (§6, sub `17`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Carrier {
    /// `0015`.
    #[default]
    Control,
    /// `0005`.
    Network,
}

/// Key `02` of a `1000` message: the message id, unless a device writes something else there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sequence {
    /// The message id, zero-extended.
    #[default]
    MessageId,
    /// Another number, to be repeated as it is.
    Other(u64),
}

impl Sequence {
    /// What `number` is in a frame with this message id.
    pub fn of(number: u64, message_id: MessageId) -> Self {
        if number == u64::from(message_id.0) { Self::MessageId } else { Self::Other(number) }
    }

    /// The number in a frame with this message id.
    pub fn wire(self, message_id: MessageId) -> u64 {
        match self {
            Self::MessageId => message_id.0.into(),
            Self::Other(number) => number,
        }
    }
}

/// Whom voice hours are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VoiceTarget {
    /// Every socket, 254 on the wire.
    All,
    /// One socket.
    Socket(SocketNo),
}

impl VoiceTarget {
    const ALL: u8 = 254;

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        if code == Self::ALL { Some(Self::All) } else { SocketNo::new(code).map(Self::Socket) }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::All => Self::ALL,
            Self::Socket(no) => no.get(),
        }
    }
}

/// Up to `N` values in place, without a heap.
#[derive(Clone, Copy)]
pub struct UpTo<T, const N: usize> {
    slots: [T; N],
    len: u8,
}

impl<T: Copy + Default, const N: usize> UpTo<T, N> {
    /// `None` when there are more than `N`.
    pub fn from_slice(values: &[T]) -> Option<Self> {
        let mut list = Self::default();
        values.iter().all(|value| list.push(*value)).then_some(list)
    }

    /// Adds one; `false` when there is no room.
    #[inline]
    pub fn push(&mut self, value: T) -> bool {
        match self.slots.get_mut(usize::from(self.len)) {
            Some(slot) => {
                *slot = value;
                self.len += 1;
                true
            }
            None => false,
        }
    }
}

impl<T: Copy + Default, const N: usize> Default for UpTo<T, N> {
    #[inline]
    fn default() -> Self {
        Self { slots: [T::default(); N], len: 0 }
    }
}

impl<T, const N: usize> std::ops::Deref for UpTo<T, N> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.slots[..usize::from(self.len)]
    }
}

impl<T: PartialEq, const N: usize> PartialEq for UpTo<T, N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq, const N: usize> Eq for UpTo<T, N> {}

impl<T: fmt::Debug, const N: usize> fmt::Debug for UpTo<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What an order used of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierUse {
    /// Time in the tier.
    pub minutes: Minutes,
    /// Energy in the tier, in units of the device, where it is given.
    pub energy_units: Option<u32>,
}

/// An item of a `1000` message that this version does not know, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// 0 in the message or socket itself, else the number of the port item that it stands in.
    pub(crate) inside: u8,
    /// Items before it there.
    pub(crate) at: u16,
    pub(crate) key: u8,
    pub(crate) value: Box<[u8]>,
}

impl Extra {
    /// Its key.
    pub fn key(&self) -> u8 {
        self.key
    }

    /// Its value.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// Items that were passed over and are kept; no heap is used while there are none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras(pub(crate) Vec<Extra>);

impl std::ops::Deref for Extras {
    type Target = [Extra];

    fn deref(&self) -> &[Extra] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_a_status_are_those_of_the_table() {
        assert!(StatusByte::IDLE.online() && !StatusByte::IDLE.charging());
        assert!(StatusByte::NO_LOAD.charging() && StatusByte::NO_LOAD.no_load() && !StatusByte::NO_LOAD.has_fault());
        assert!(StatusByte::CHARGING.metering());
        for bit in [0x40, 0x04, 0x02, 0x01] {
            assert!(StatusByte(0x80 | bit).has_fault());
        }
        assert_eq!(StatusByte(0x98).to_string(), "online, charging, no load");
        assert_eq!(StatusByte(0x80).to_string(), "online, idle");
    }

    #[test]
    fn a_device_clock_that_names_no_day_is_kept_as_it_is() {
        let odd = DeviceTime::from_bcd([0x20, 0x24, 0x13, 0x32, 0x25, 0x61, 0x61]);
        assert_eq!(odd.fields().map(|t| t.month), Some(13));
        assert_eq!(odd.calendar(), None);
        assert_eq!(DeviceTime::from_bcd([0xff; 7]).fields(), None);
        let leap = CalendarTime { year: 2024, month: 2, day: 29, hour: 23, minute: 59, second: 59 };
        assert_eq!(DeviceTime::bcd(leap).calendar(), Some(leap));
        assert_eq!(DeviceTime::binary(leap).calendar(), Some(leap));
        assert!(!CalendarTime { year: 2100, ..leap }.is_valid());
    }

    #[test]
    fn a_list_holds_as_much_as_it_says() {
        assert!(UpTo::<u8, 2>::from_slice(&[1, 2]).is_some());
        assert!(UpTo::<u8, 2>::from_slice(&[1, 2, 3]).is_none());
    }
}
