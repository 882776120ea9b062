//! Reading and writing fields: the reader names the field that it could not read and refuses leftovers.
//!
//! An item of a `1000` message (§7):
//!
//! ```text
//! | len | 1 | key | value ... |      len counts the bytes after it, so the value has len - 2
//! ```

use std::cell::RefCell;

use super::code::{Key, Shape};
use super::error::{Cause, Fault};
use super::explain::Line;
use super::value::{
    AsciiText, CardNo, DeviceTime, EnergyUnits, Extra, Extras, ResultByte, Sequence, StatusByte, UpTo, VoiceTarget,
};
use crate::ids::{
    BusinessNo, Cents, DeciVolts, DeciWatts, MessageId, MilliAmperes, Minutes, PortNo, SocketNo, WattHours,
};

/// Where the fields that are read are noted, when somebody wants them explained.
#[derive(Debug, Default)]
pub(crate) struct Trace(RefCell<Vec<Line>>);

impl Trace {
    #[cold]
    #[inline(never)]
    pub(crate) fn note(&self, offset: usize, field: &str, raw: &[u8], meaning: String) {
        self.0.borrow_mut().push(Line { offset, field: field.to_owned(), raw: raw.to_vec(), meaning });
    }

    pub(crate) fn into_lines(self) -> Vec<Line> {
        self.0.into_inner()
    }
}

/// A part of a frame that is read from front to back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    /// Offset of `bytes[0]` in the frame.
    offset: usize,
    trace: Option<&'a Trace>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], offset: usize, trace: Option<&'a Trace>) -> Self {
        Self { bytes, offset, trace }
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    /// A fault in the field that was read last, `width` bytes back.
    #[cold]
    fn fault_before(&self, width: usize, field: &'static str, cause: Cause) -> Fault {
        Fault { field, offset: self.offset - width, cause }
    }

    #[cold]
    pub(crate) fn fault(&self, field: &'static str, cause: Cause) -> Fault {
        Fault { field, offset: self.offset, cause }
    }

    #[inline]
    fn note(&self, field: &str, shape: Shape, raw: &[u8]) {
        if let Some(trace) = self.trace {
            trace.note(self.offset - raw.len(), field, raw, shape.describe(raw));
        }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str, shape: Shape) -> Result<[u8; N], Fault> {
        match self.bytes.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.bytes = rest;
                self.offset += N;
                self.note(field, shape, taken);
                Ok(*taken)
            }
            None => Err(self.fault(field, Cause::Short { needed: N, left: self.bytes.len() })),
        }
    }

    /// A number of one byte.
    #[inline]
    pub(crate) fn byte(&mut self, field: &'static str, shape: Shape) -> Result<u8, Fault> {
        self.array::<1>(field, shape).map(|[byte]| byte)
    }

    /// A number of two bytes.
    #[inline]
    pub(crate) fn word(&mut self, field: &'static str, shape: Shape) -> Result<u16, Fault> {
        self.array(field, shape).map(u16::from_be_bytes)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Fault> {
        self.byte(field, Shape::U8)
    }

    #[inline]
    pub(crate) fn socket(&mut self) -> Result<SocketNo, Fault> {
        let no = self.byte("socket", Shape::Socket)?;
        SocketNo::new(no).ok_or_else(|| self.fault_before(1, "socket", Cause::OutOfRange { value: no.into() }))
    }

    #[inline]
    pub(crate) fn port(&mut self) -> Result<PortNo, Fault> {
        let no = self.byte("port", Shape::Port)?;
        PortNo::new(no).ok_or_else(|| self.fault_before(1, "port", Cause::OutOfRange { value: no.into() }))
    }

    pub(crate) fn voice_target(&mut self) -> Result<VoiceTarget, Fault> {
        let no = self.byte("socket", Shape::Socket)?;
        VoiceTarget::from_code(no).ok_or_else(|| self.fault_before(1, "socket", Cause::OutOfRange { value: no.into() }))
    }

    pub(crate) fn result(&mut self) -> Result<ResultByte, Fault> {
        self.byte("result", Shape::Result).map(ResultByte)
    }

    #[inline]
    pub(crate) fn status(&mut self) -> Result<StatusByte, Fault> {
        self.byte("status", Shape::Status).map(StatusByte)
    }

    #[inline]
    pub(crate) fn temperature(&mut self) -> Result<i8, Fault> {
        self.byte("temperature", Shape::Celsius).map(u8::cast_signed)
    }

    #[inline]
    pub(crate) fn rssi(&mut self) -> Result<u8, Fault> {
        self.byte("rssi", Shape::U8)
    }

    #[inline]
    pub(crate) fn firmware(&mut self) -> Result<u16, Fault> {
        self.word("firmware", Shape::Firmware)
    }

    #[inline]
    pub(crate) fn business_no(&mut self) -> Result<Option<BusinessNo>, Fault> {
        self.word("business_no", Shape::BusinessNo).map(BusinessNo::new)
    }

    #[inline]
    pub(crate) fn voltage(&mut self) -> Result<DeciVolts, Fault> {
        self.word("voltage", Shape::DeciVolts).map(|n| DeciVolts(n.into()))
    }

    #[inline]
    pub(crate) fn power(&mut self, field: &'static str) -> Result<DeciWatts, Fault> {
        self.word(field, Shape::DeciWatts).map(|n| DeciWatts(n.into()))
    }

    #[inline]
    pub(crate) fn current(&mut self) -> Result<MilliAmperes, Fault> {
        self.word("current", Shape::MilliAmperes).map(|n| MilliAmperes(n.into()))
    }

    #[inline]
    pub(crate) fn energy(&mut self) -> Result<EnergyUnits, Fault> {
        self.word("energy", Shape::Energy).map(EnergyUnits)
    }

    pub(crate) fn watt_hours(&mut self) -> Result<WattHours, Fault> {
        self.word("energy", Shape::WattHours).map(|n| WattHours(n.into()))
    }

    #[inline]
    pub(crate) fn minutes(&mut self) -> Result<Minutes, Fault> {
        self.word("minutes", Shape::Minutes).map(|n| Minutes(n.into()))
    }

    pub(crate) fn cents(&mut self, field: &'static str) -> Result<Cents, Fault> {
        self.word(field, Shape::Cents).map(|n| Cents(n.into()))
    }

    pub(crate) fn long_cents(&mut self, field: &'static str) -> Result<Cents, Fault> {
        self.array(field, Shape::LongCents).map(|b| Cents(u32::from_be_bytes(b)))
    }

    pub(crate) fn card_no(&mut self) -> Result<CardNo, Fault> {
        self.array("card_no", Shape::Bytes).map(CardNo)
    }

    pub(crate) fn text<const N: usize>(&mut self, field: &'static str) -> Result<AsciiText<N>, Fault> {
        self.array(field, Shape::Text).map(AsciiText)
    }

    /// A byte that has only one meaning here.
    pub(crate) fn exactly(&mut self, field: &'static str, shape: Shape, value: u8) -> Result<(), Fault> {
        let found = self.byte(field, shape)?;
        if found == value {
            return Ok(());
        }
        Err(self.fault_before(1, field, Cause::OutOfRange { value: found.into() }))
    }

    /// A number of two bytes that is 0 here.
    pub(crate) fn zero(&mut self, field: &'static str, shape: Shape) -> Result<(), Fault> {
        match self.word(field, shape)? {
            0 => Ok(()),
            other => Err(self.fault_before(2, field, Cause::OutOfRange { value: other.into() })),
        }
    }

    /// A count byte, then so many of what `read` reads.
    pub(crate) fn counted<T: Copy + Default, const N: usize>(
        &mut self,
        field: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, Fault>,
    ) -> Result<UpTo<T, N>, Fault> {
        let count = self.u8(field)?;
        if usize::from(count) > N {
            return Err(self.fault_before(1, field, Cause::OutOfRange { value: count.into() }));
        }
        let mut list = UpTo::default();
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    /// The fault of a byte that was just read and cannot have this value.
    #[cold]
    pub(crate) fn refuse(&self, field: &'static str, value: u8) -> Fault {
        self.fault_before(1, field, Cause::OutOfRange { value: value.into() })
    }

    /// The next `N` bytes, for those who know a usual run of items by sight; none while each is to be explained.
    #[inline]
    pub(crate) fn peek<const N: usize>(&self) -> Option<&'a [u8; N]> {
        if self.trace.is_some() { None } else { self.bytes.first_chunk() }
    }

    /// Passes over bytes that were read by sight.
    #[inline]
    pub(crate) fn skip(&mut self, count: usize) {
        let count = count.min(self.bytes.len());
        self.bytes = &self.bytes[count..];
        self.offset += count;
    }

    /// All that is left.
    pub(crate) fn rest(&mut self, field: &'static str) -> &'a [u8] {
        let rest = std::mem::take(&mut self.bytes);
        self.offset += rest.len();
        if !rest.is_empty() {
            self.note(field, Shape::Bytes, rest);
        }
        rest
    }

    /// Refuses what is left.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        match self.bytes.len() {
            0 => Ok(()),
            count => Err(self.fault("data", Cause::LeftOver { count })),
        }
    }

    /// The next item, `None` at the end.
    #[inline]
    pub(crate) fn item(&mut self) -> Result<Option<Item<'a>>, Fault> {
        let Some((&len, rest)) = self.bytes.split_first() else { return Ok(None) };
        let start = self.offset;
        let len = usize::from(len);
        if len < 2 {
            return Err(self.fault("item length", Cause::OutOfRange { value: len as u64 }));
        }
        let Some((body, rest)) = rest.split_at_checked(len) else {
            return Err(self.fault("item length", Cause::Short { needed: len, left: rest.len() }));
        };
        if body[0] != 1 {
            let cause = Cause::OutOfRange { value: body[0].into() };
            return Err(Fault { field: "key length", offset: start + 1, cause });
        }
        self.bytes = rest;
        self.offset = start + 1 + len;
        let value = Reader { bytes: &body[2..], offset: start + 3, trace: self.trace };
        Ok(Some(Item { key: Key::from_code(body[1]), value }))
    }
}

/// One item of a `1000` message; its value is read with the width that its key asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) key: Key,
    pub(crate) value: Reader<'a>,
}

impl<'a> Item<'a> {
    #[cold]
    pub(crate) fn fault(&self, cause: Cause) -> Fault {
        Fault { field: self.key.name(), offset: self.value.offset, cause }
    }

    /// Its value, as wide as `read` reads it.
    #[inline]
    fn whole<const N: usize, T>(mut self, read: impl FnOnce(&mut Reader<'a>) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.value.left() != N {
            return Err(self.fault(Cause::Width { expected: N, found: self.value.left() }));
        }
        read(&mut self.value)
    }

    /// A number of one byte.
    #[inline]
    pub(crate) fn byte(self) -> Result<u8, Fault> {
        self.whole::<1, _>(|r| r.byte(self.key.name(), self.key.shape()))
    }

    /// A number of two bytes.
    #[inline]
    pub(crate) fn word(self) -> Result<u16, Fault> {
        self.whole::<2, _>(|r| r.word(self.key.name(), self.key.shape()))
    }

    /// A number of eight bytes.
    #[inline]
    pub(crate) fn long(self) -> Result<u64, Fault> {
        self.whole::<8, _>(|r| r.array(self.key.name(), Shape::U64)).map(u64::from_be_bytes)
    }

    /// A gateway id as it came.
    #[inline]
    pub(crate) fn gateway(self) -> Result<[u8; 7], Fault> {
        self.whole::<7, _>(|r| r.array(self.key.name(), Shape::Gateway))
    }

    #[inline]
    pub(crate) fn socket(self) -> Result<SocketNo, Fault> {
        self.whole::<1, _>(Reader::socket)
    }

    #[inline]
    pub(crate) fn port(self) -> Result<PortNo, Fault> {
        self.whole::<1, _>(Reader::port)
    }

    #[inline]
    pub(crate) fn status(self) -> Result<StatusByte, Fault> {
        self.byte().map(StatusByte)
    }

    pub(crate) fn result(self) -> Result<ResultByte, Fault> {
        self.byte().map(ResultByte)
    }

    #[inline]
    pub(crate) fn temperature(self) -> Result<i8, Fault> {
        self.byte().map(u8::cast_signed)
    }

    #[inline]
    pub(crate) fn business_no(self) -> Result<Option<BusinessNo>, Fault> {
        self.word().map(BusinessNo::new)
    }

    #[inline]
    pub(crate) fn voltage(self) -> Result<DeciVolts, Fault> {
        self.word().map(|n| DeciVolts(n.into()))
    }

    #[inline]
    pub(crate) fn power(self) -> Result<DeciWatts, Fault> {
        self.word().map(|n| DeciWatts(n.into()))
    }

    #[inline]
    pub(crate) fn current(self) -> Result<MilliAmperes, Fault> {
        self.word().map(|n| MilliAmperes(n.into()))
    }

    #[inline]
    pub(crate) fn energy(self) -> Result<EnergyUnits, Fault> {
        self.word().map(EnergyUnits)
    }

    #[inline]
    pub(crate) fn minutes(self) -> Result<Minutes, Fault> {
        self.word().map(|n| Minutes(n.into()))
    }

    pub(crate) fn cents(self) -> Result<Cents, Fault> {
        self.word().map(|n| Cents(n.into()))
    }

    /// A byte that has only one meaning here.
    pub(crate) fn exactly(self, value: u8) -> Result<(), Fault> {
        let found = self.byte()?;
        if found == value { Ok(()) } else { Err(self.fault(Cause::OutOfRange { value: found.into() })) }
    }

    pub(crate) fn bcd_time(self) -> Result<DeviceTime, Fault> {
        self.whole::<7, _>(|r| r.array(self.key.name(), Shape::BcdTime)).map(DeviceTime::from_bcd)
    }

    /// The value as it came.
    pub(crate) fn raw(mut self) -> &'a [u8] {
        let raw = std::mem::take(&mut self.value.bytes);
        if let Some(trace) = self.value.trace {
            let shape = match self.key.shape().width() {
                Some(width) if width != raw.len() => Shape::Bytes,
                _ => self.key.shape(),
            };
            match self.key {
                Key::Unknown(code) => {
                    trace.note(
                        self.value.offset,
                        &format!("key {code:02x}"),
                        raw,
                        format!("unknown, kept: {}", shape.describe(raw)),
                    );
                }
                known => trace.note(self.value.offset, known.name(), raw, shape.describe(raw)),
            }
        }
        raw
    }

    /// Says in an explanation that items follow inside.
    #[inline]
    pub(crate) fn open(self) -> Reader<'a> {
        if let Some(trace) = self.value.trace {
            let meaning = Shape::Items.describe(self.value.bytes);
            trace.note(self.value.offset - 3, self.key.name(), &[], meaning);
        }
        self.value
    }

    /// Keeps an item that means nothing here, `at` items after the beginning.
    #[cold]
    pub(crate) fn keep(self, inside: u8, at: usize, extras: &mut Extras) {
        extras.0.push(Extra { inside, at: at as u16, key: self.key.code(), value: self.raw().into() });
    }
}

/// Puts the value of an item into its slot, once.
#[inline]
pub(crate) fn once<T>(slot: &mut Option<T>, item: Item<'_>, value: T) -> Result<(), Fault> {
    if slot.is_some() {
        return Err(item.fault(Cause::Repeated));
    }
    *slot = Some(value);
    Ok(())
}

/// The value of an item that has to be there; `end` is where its message ends.
#[inline]
pub(crate) fn required<T>(slot: Option<T>, key: Key, end: usize) -> Result<T, Fault> {
    slot.ok_or(Fault { field: key.name(), offset: end, cause: Cause::Missing })
}

/// Writes the data of a frame.
pub(crate) trait Write {
    /// A number of two bytes; one that does not fit becomes the largest.
    fn word(&mut self, number: u32);
    /// A count byte, then so many of what `write` writes.
    fn counted<T: Copy>(&mut self, list: &[T], write: impl FnMut(&mut Self, T));
}

impl Write for Vec<u8> {
    fn word(&mut self, number: u32) {
        self.extend_from_slice(&u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
    }

    fn counted<T: Copy>(&mut self, list: &[T], mut write: impl FnMut(&mut Self, T)) {
        let count = u8::try_from(list.len()).unwrap_or(u8::MAX);
        self.push(count);
        for one in &list[..usize::from(count)] {
            write(self, *one);
        }
    }
}

/// Writes items, and between them those that were kept.
pub(crate) struct ItemWriter<'w> {
    out: &'w mut Vec<u8>,
    extras: &'w [Extra],
    inside: u8,
    count: usize,
}

impl<'w> ItemWriter<'w> {
    /// Begins a `1000` message with its three leading keys.
    pub(crate) fn message(
        out: &'w mut Vec<u8>,
        sub: u16,
        sequence: Sequence,
        header: &Header,
        extras: &'w Extras,
    ) -> Self {
        let mut items = Self { out, extras: &[], inside: 0, count: 0 };
        items.bytes(Key::Sub, &sub.to_be_bytes());
        items.bytes(Key::Sequence, &sequence.wire(header.message_id).to_be_bytes());
        items.bytes(Key::Gateway, &header.gateway);
        Self { extras: &extras.0, count: 0, ..items }
    }

    /// Writes the kept items whose place is here; at the end, all that are left.
    fn kept(&mut self, at_end: bool) {
        while let Some((first, rest)) = self.extras.split_first() {
            let mine = first.inside == self.inside;
            if mine && !at_end && usize::from(first.at) > self.count {
                return;
            }
            self.extras = rest;
            if mine {
                put(self.out, first.key, &first.value);
                self.count += 1;
            }
        }
    }

    pub(crate) fn bytes(&mut self, key: Key, value: &[u8]) {
        self.kept(false);
        put(self.out, key.code(), value);
        self.count += 1;
    }

    pub(crate) fn byte(&mut self, key: Key, value: u8) {
        self.bytes(key, &[value]);
    }

    pub(crate) fn word(&mut self, key: Key, value: u32) {
        self.bytes(key, &u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes());
    }

    /// An item whose value is items again, number `inside` of those.
    pub(crate) fn nested(&mut self, key: Key, inside: u8, extras: &[Extra], write: impl FnOnce(&mut ItemWriter<'_>)) {
        self.kept(false);
        let start = self.out.len();
        self.out.extend_from_slice(&[0, 1, key.code()]);
        let mut items = ItemWriter { out: &mut *self.out, extras, inside, count: 0 };
        write(&mut items);
        items.finish();
        self.out[start] = u8::try_from(self.out.len() - start - 1).unwrap_or(u8::MAX);
        self.count += 1;
    }

    /// The kept items behind the last one.
    pub(crate) fn finish(mut self) {
        self.kept(true);
    }
}

fn put(out: &mut Vec<u8>, key: u8, value: &[u8]) {
    let value = &value[..value.len().min(253)];
    out.extend_from_slice(&[value.len() as u8 + 2, 1, key]);
    out.extend_from_slice(value);
}

/// What a message needs of its header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) message_id: MessageId,
    pub(crate) gateway: [u8; 7],
}
