//! Parameters `1011` `1012`, abnormal events `1010`, reconnects `1013` (§7) and voice hours `1b` (§6).
//!
//! Their keys come in any order and number; all are kept, in their order.

use crate::bkv::code::{Key, WrapperSub};
use crate::bkv::error::{Cause, Fault};
use crate::bkv::field::{Header, Item, ItemWriter, Reader, Write as _, once, required};
use crate::bkv::value::{DeviceTime, Extras, ResultByte, Sequence, UpTo, VoiceTarget};
use crate::ids::{PortNo, SocketNo};

/// One key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: SettingValue,
}

/// A value as wide as its key asks for; of a key that is not a number, or not known, the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// One byte.
    U8(u8),
    /// Two bytes.
    U16(u16),
    /// Four bytes.
    U32(u32),
    /// Any.
    Raw(Box<[u8]>),
}

impl Setting {
    /// A number under a key of one, two or four bytes; `None` when the key is another, or it does not fit.
    pub fn number(key: Key, number: u32) -> Option<Self> {
        let value = match key.shape().width()? {
            1 => SettingValue::U8(number.try_into().ok()?),
            2 => SettingValue::U16(number.try_into().ok()?),
            4 => SettingValue::U32(number),
            _ => return None,
        };
        Some(Self { key, value })
    }

    /// Its value, when that is a number.
    pub fn as_number(&self) -> Option<u32> {
        match self.value {
            SettingValue::U8(n) => Some(n.into()),
            SettingValue::U16(n) => Some(n.into()),
            SettingValue::U32(n) => Some(n),
            SettingValue::Raw(_) => None,
        }
    }

    fn read(item: Item<'_>) -> Result<Self, Fault> {
        let (found, width) = (item.value.left(), item.key.shape().width());
        if let Some(expected) = width.filter(|expected| *expected != found) {
            return Err(item.fault(Cause::Width { expected, found }));
        }
        let value = match (width, item.raw()) {
            (Some(1), &[a]) => SettingValue::U8(a),
            (Some(2), &[a, b]) => SettingValue::U16(u16::from_be_bytes([a, b])),
            (Some(4), &[a, b, c, d]) => SettingValue::U32(u32::from_be_bytes([a, b, c, d])),
            (_, raw) => SettingValue::Raw(raw.into()),
        };
        Ok(Self { key: item.key, value })
    }

    fn write(&self, items: &mut ItemWriter<'_>) {
        match &self.value {
            SettingValue::U8(n) => items.byte(self.key, *n),
            SettingValue::U16(n) => items.bytes(self.key, &n.to_be_bytes()),
            SettingValue::U32(n) => items.bytes(self.key, &n.to_be_bytes()),
            SettingValue::Raw(raw) => items.bytes(self.key, raw),
        }
    }
}

/// The number under a key, from the first of such.
fn number(settings: &[Setting], key: Key) -> Option<u32> {
    settings.iter().find(|setting| setting.key == key)?.as_number()
}

/// Socket, perhaps a result, and all other keys in their order.
fn read_settings(
    r: &mut Reader<'_>,
    mut result: Option<&mut Option<ResultByte>>,
) -> Result<(SocketNo, Vec<Setting>), Fault> {
    let (mut socket, mut settings) = (None, Vec::new());
    while let Some(item) = r.item()? {
        match (item.key, &mut result) {
            (Key::Socket, _) => once(&mut socket, item, item.socket()?)?,
            (Key::Result, Some(result)) => once(result, item, item.result()?)?,
            _ => settings.push(Setting::read(item)?),
        }
    }
    Ok((required(socket, Key::Socket, r.offset())?, settings))
}

fn write_settings(
    out: &mut Vec<u8>,
    (sub, sequence, header): (WrapperSub, Sequence, &Header),
    socket: SocketNo,
    result: Option<ResultByte>,
    settings: &[Setting],
) {
    let none = Extras::default();
    let mut items = ItemWriter::message(out, sub.code(), sequence, header, &none);
    items.byte(Key::Socket, socket.get());
    if let Some(result) = result {
        items.byte(Key::Result, result.0);
    }
    settings.iter().for_each(|setting| setting.write(&mut items));
    items.finish();
}

/// `1010`: something is wrong with a socket or a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abnormal {
    /// Key `02`.
    pub sequence: Sequence,
    /// Socket.
    pub socket: SocketNo,
    /// All that it tells, in its order.
    pub settings: Vec<Setting>,
}

impl Abnormal {
    /// The number under a key: reasons and states, voltages, leakage, temperatures, statuses.
    pub fn number(&self, key: Key) -> Option<u32> {
        number(&self.settings, key)
    }

    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let (socket, settings) = read_settings(r, None)?;
        Ok(Self { sequence, socket, settings })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let start = (WrapperSub::Abnormal, self.sequence, header);
        write_settings(out, start, self.socket, None, &self.settings);
    }
}

/// Acknowledges a `1010`, under its message id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbnormalAck {
    /// Key `02` of what it acknowledges.
    pub sequence: Sequence,
    /// The socket as the event gave it, which may be one that does not exist.
    pub socket: u8,
    /// 1 ok, 0 error.
    pub result: ResultByte,
    /// Items that are not known.
    pub extras: Extras,
}

impl AbnormalAck {
    /// Of an event with this key `02`.
    pub fn new(sequence: Sequence, socket: u8, result: ResultByte) -> Self {
        Self { sequence, socket, result, extras: Extras::default() }
    }

    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let (mut socket, mut result) = (None, None);
        let (mut extras, mut at) = (Extras::default(), 0);
        while let Some(item) = r.item()? {
            match item.key {
                Key::Socket => once(&mut socket, item, item.byte()?)?,
                Key::Result => once(&mut result, item, item.result()?)?,
                _ => item.keep(0, at, &mut extras),
            }
            at += 1;
        }
        let end = r.offset();
        let (socket, result) = (required(socket, Key::Socket, end)?, required(result, Key::Result, end)?);
        Ok(Self { sequence, socket, result, extras })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let sub = WrapperSub::Abnormal.code();
        let mut items = ItemWriter::message(out, sub, self.sequence, header, &self.extras);
        items.byte(Key::Socket, self.socket);
        items.byte(Key::Result, self.result.0);
        items.finish();
    }
}

/// `1011`: set parameters of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetParams {
    /// Key `02`.
    pub sequence: Sequence,
    /// Socket.
    pub socket: SocketNo,
    /// What is set.
    pub settings: Vec<Setting>,
}

impl SetParams {
    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let (socket, settings) = read_settings(r, None)?;
        Ok(Self { sequence, socket, settings })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let start = (WrapperSub::SetParams, self.sequence, header);
        write_settings(out, start, self.socket, None, &self.settings);
    }
}

/// The answer to `1011`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetParamsAnswer {
    /// Key `02`.
    pub sequence: Sequence,
    /// Socket.
    pub socket: SocketNo,
    /// 1 ok.
    pub result: ResultByte,
    /// What else it says.
    pub settings: Vec<Setting>,
}

impl SetParamsAnswer {
    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let mut result = None;
        let (socket, settings) = read_settings(r, Some(&mut result))?;
        Ok(Self { sequence, socket, result: required(result, Key::Result, r.offset())?, settings })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let start = (WrapperSub::SetParams, self.sequence, header);
        write_settings(out, start, self.socket, Some(self.result), &self.settings);
    }
}

/// `1012` from the platform: which parameters does a socket have?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryParams {
    /// Key `02`.
    pub sequence: Sequence,
    /// Socket.
    pub socket: SocketNo,
    /// What else it says.
    pub settings: Vec<Setting>,
}

impl QueryParams {
    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let (socket, settings) = read_settings(r, None)?;
        Ok(Self { sequence, socket, settings })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let start = (WrapperSub::QueryParams, self.sequence, header);
        write_settings(out, start, self.socket, None, &self.settings);
    }
}

/// `1012` from a device: the parameters of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// Key `02`.
    pub sequence: Sequence,
    /// Socket.
    pub socket: SocketNo,
    /// 1 ok.
    pub result: ResultByte,
    /// The parameters, in its order.
    pub settings: Vec<Setting>,
}

impl Params {
    /// The number under a key.
    pub fn number(&self, key: Key) -> Option<u32> {
        number(&self.settings, key)
    }

    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let mut result = None;
        let (socket, settings) = read_settings(r, Some(&mut result))?;
        Ok(Self { sequence, socket, result: required(result, Key::Result, r.offset())?, settings })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let start = (WrapperSub::QueryParams, self.sequence, header);
        write_settings(out, start, self.socket, Some(self.result), &self.settings);
    }
}

/// `1013`, sent after each reconnect. Not in the guide: nothing in it is wrong as long as its items can be told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconnected {
    /// Key `02`.
    pub sequence: Sequence,
    /// All keys and their bytes, in their order.
    pub items: Vec<(Key, Box<[u8]>)>,
}

impl Reconnected {
    /// The device's clock.
    pub fn clock(&self) -> Option<DeviceTime> {
        let (_, value) = self.items.iter().find(|(key, _)| *key == Key::Clock)?;
        Some(DeviceTime::from_bcd(value.as_ref().try_into().ok()?))
    }

    /// The socket.
    pub fn socket(&self) -> Option<SocketNo> {
        match self.items.iter().find(|(key, _)| *key == Key::Socket)?.1.as_ref() {
            [no] => SocketNo::new(*no),
            _ => None,
        }
    }

    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let mut items = Vec::new();
        while let Some(item) = r.item()? {
            items.push((item.key, item.raw().into()));
        }
        Ok(Self { sequence, items })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let none = Extras::default();
        let sub = WrapperSub::Reconnected.code();
        let mut items = ItemWriter::message(out, sub, self.sequence, header, &none);
        self.items.iter().for_each(|(key, value)| items.bytes(*key, value));
        items.finish();
    }
}

/// A part of the day, from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VoicePeriod {
    /// Hour and minute of its start.
    pub from: (u8, u8),
    /// Hour and minute of its end.
    pub to: (u8, u8),
}

/// `1b`: when a socket may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoiceHours {
    /// Whom it is for.
    pub target: VoiceTarget,
    /// Port.
    pub port: PortNo,
    /// Buzzer.
    pub buzzer: u8,
    /// Voice.
    pub voice: u8,
    /// When.
    pub periods: UpTo<VoicePeriod, 2>,
}

impl VoiceHours {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            target: r.voice_target()?,
            port: r.port()?,
            buzzer: r.u8("buzzer")?,
            voice: r.u8("voice")?,
            periods: r.counted("periods", |r| {
                Ok(VoicePeriod {
                    from: read_clock(r, ["from_hour", "from_minute"])?,
                    to: read_clock(r, ["to_hour", "to_minute"])?,
                })
            })?,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.target.code(), self.port.get(), self.buzzer, self.voice]);
        out.counted(&self.periods, |out, period| {
            out.extend_from_slice(&[period.from.0, period.from.1, period.to.0, period.to.1]);
        });
    }
}

fn read_clock(r: &mut Reader<'_>, [hour_field, minute_field]: [&'static str; 2]) -> Result<(u8, u8), Fault> {
    let hour = r.u8(hour_field)?;
    if hour > 23 {
        return Err(r.refuse(hour_field, hour));
    }
    let minute = r.u8(minute_field)?;
    if minute > 59 {
        return Err(r.refuse(minute_field, minute));
    }
    Ok((hour, minute))
}

/// The answer to `1b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoiceAnswer {
    /// Who answers.
    pub target: VoiceTarget,
    /// Port.
    pub port: PortNo,
    /// 1 ok.
    pub result: ResultByte,
}

impl VoiceAnswer {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { target: r.voice_target()?, port: r.port()?, result: r.result()? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.target.code(), self.port.get(), self.result.0]);
    }
}
