//! What sockets and ports show: status report `1017` (§7), status query `1d` and its answer `1c` (§6).

use crate::bkv::code::{ControlSub, Key, WrapperSub};
use crate::bkv::error::{Cause, Fault};
use crate::bkv::field::{Header, Item, ItemWriter, Reader, Write as _, once, required};
use crate::bkv::value::{EnergyUnits, Extras, ResultByte, Sequence, StatusByte, UpTo};
use crate::ids::{BusinessNo, DeciVolts, DeciWatts, MilliAmperes, Minutes, PortNo, SocketNo};

/// What one socket shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketStatus {
    /// Its number.
    pub socket: SocketNo,
    /// Its firmware, `ffff` when unknown.
    pub firmware: u16,
    /// Its temperature, °C.
    pub temperature_c: i8,
    /// Strength of its radio signal.
    pub rssi: u8,
    /// Its ports, each once.
    pub ports: UpTo<PortReading, { PortNo::COUNT }>,
    /// Items that are not known.
    pub extras: Extras,
}

/// What one port shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortReading {
    /// Its number.
    pub port: PortNo,
    /// Its status byte.
    pub status: StatusByte,
    /// The order that it names.
    pub business_no: Option<BusinessNo>,
    /// Voltage.
    pub voltage: DeciVolts,
    /// Power.
    pub power: DeciWatts,
    /// Current.
    pub current: MilliAmperes,
    /// Energy of the order, in units of the device.
    pub energy_units: EnergyUnits,
    /// Minutes of the order.
    pub minutes: Minutes,
}

/// Port A, offline, nothing measured.
impl Default for PortReading {
    fn default() -> Self {
        Self {
            port: PortNo::A,
            status: StatusByte(0),
            business_no: None,
            voltage: DeciVolts(0),
            power: DeciWatts(0),
            current: MilliAmperes(0),
            energy_units: EnergyUnits(0),
            minutes: Minutes(0),
        }
    }
}

impl SocketStatus {
    /// Its firmware, unless it says that this is not known.
    pub fn known_firmware(&self) -> Option<u16> {
        (self.firmware != 0xffff).then_some(self.firmware)
    }

    /// What this port of it shows.
    pub fn port(&self, port: PortNo) -> Option<&PortReading> {
        self.ports.iter().find(|reading| reading.port == port)
    }

    /// Item `94`. The usual order of its items is known by sight, which is several times as fast.
    #[inline]
    fn read_item(item: Item<'_>) -> Result<Self, Fault> {
        let mut r = item.open();
        let mut extras = Extras::default();
        let mut ports = UpTo::default();
        let (mut socket, mut firmware, mut temperature, mut rssi) = (None, None, None, None);
        let mut at = 0;
        if let Some([3, 1, 0x4a, no, 4, 1, 0x3e, f0, f1, 3, 1, 0x07, degrees, 3, 1, 0x96, signal]) = r.peek::<17>()
            && let Some(no) = SocketNo::new(*no)
        {
            (socket, firmware) = (Some(no), Some(u16::from_be_bytes([*f0, *f1])));
            (temperature, rssi) = (Some(degrees.cast_signed()), Some(*signal));
            at = 4;
            r.skip(17);
        }
        while let Some(item) = r.item()? {
            match item.key {
                Key::Socket => once(&mut socket, item, item.socket()?)?,
                Key::Firmware => once(&mut firmware, item, item.word()?)?,
                Key::Temperature => once(&mut temperature, item, item.temperature()?)?,
                Key::Rssi => once(&mut rssi, item, item.byte()?)?,
                Key::PortItem => {
                    let reading = PortReading::read_item(item, ports.len() as u8 + 1, &mut extras)?;
                    add_port(&mut ports, reading).map_err(|cause| item.fault(cause))?;
                }
                _ => item.keep(0, at, &mut extras),
            }
            at += 1;
        }
        let end = r.offset();
        Ok(Self {
            socket: required(socket, Key::Socket, end)?,
            firmware: required(firmware, Key::Firmware, end)?,
            temperature_c: required(temperature, Key::Temperature, end)?,
            rssi: required(rssi, Key::Rssi, end)?,
            ports: required((!ports.is_empty()).then_some(ports), Key::PortItem, end)?,
            extras,
        })
    }

    fn write_item(&self, items: &mut ItemWriter<'_>) {
        items.nested(Key::SocketItem, 0, &self.extras, |items| {
            items.byte(Key::Socket, self.socket.get());
            items.word(Key::Firmware, self.firmware.into());
            items.byte(Key::Temperature, self.temperature_c.cast_unsigned());
            items.byte(Key::Rssi, self.rssi);
            for (inside, port) in (1..).zip(self.ports.iter()) {
                items.nested(Key::PortItem, inside, &self.extras, |items| port.write_items(items));
            }
        });
    }

    /// The fixed layout of `1c`.
    fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let (socket, firmware, temperature_c, rssi) = (r.socket()?, r.firmware()?, r.temperature()?, r.rssi()?);
        let mut ports = UpTo::default();
        while ports.is_empty() || r.left() > 0 {
            let offset = r.offset();
            let reading = PortReading::read(r)?;
            add_port(&mut ports, reading).map_err(|cause| Fault { field: "port", offset, cause })?;
        }
        Ok(Self { socket, firmware, temperature_c, rssi, ports, extras: Extras::default() })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.socket.get());
        out.word(self.firmware.into());
        out.push(self.temperature_c.cast_unsigned());
        out.push(self.rssi);
        self.ports.iter().for_each(|port| port.write(out));
    }
}

/// Adds a port that is not there yet.
#[inline]
fn add_port(ports: &mut UpTo<PortReading, { PortNo::COUNT }>, reading: PortReading) -> Result<(), Cause> {
    if ports.iter().any(|other| other.port == reading.port) || !ports.push(reading) {
        return Err(Cause::Repeated);
    }
    Ok(())
}

impl PortReading {
    /// Item `5b`, number `inside` of its socket.
    #[inline]
    fn read_item(item: Item<'_>, inside: u8, extras: &mut Extras) -> Result<Self, Fault> {
        let r = item.open();
        if r.left() == 38
            && let Some(usual) = r.peek().and_then(Self::read_usual)
        {
            return Ok(usual);
        }
        Self::read_any(r, inside, extras)
    }

    /// The items of `5b` in their usual order, with values that make sense.
    #[inline]
    fn read_usual(bytes: &[u8; 38]) -> Option<Self> {
        #[rustfmt::skip]
        let [
            3, 1, 0x08, port,   3, 1, 0x09, status, 4, 1, 0x0a, n0, n1, 4, 1, 0x95, v0, v1,
            4, 1, 0x0b, p0, p1, 4, 1, 0x0c, c0, c1, 4, 1, 0x0d, e0, e1, 4, 1, 0x0e, m0, m1,
        ] = *bytes
        else {
            return None;
        };
        let word = |high, low| u16::from_be_bytes([high, low]);
        Some(Self {
            port: PortNo::new(port)?,
            status: StatusByte(status),
            business_no: BusinessNo::new(word(n0, n1)),
            voltage: DeciVolts(word(v0, v1).into()),
            power: DeciWatts(word(p0, p1).into()),
            current: MilliAmperes(word(c0, c1).into()),
            energy_units: EnergyUnits(word(e0, e1)),
            minutes: Minutes(word(m0, m1).into()),
        })
    }

    /// The items of `5b` in any order, with others between.
    fn read_any(mut r: Reader<'_>, inside: u8, extras: &mut Extras) -> Result<Self, Fault> {
        let (mut port, mut status, mut business_no, mut voltage) = (None, None, None, None);
        let (mut power, mut current, mut energy, mut minutes) = (None, None, None, None);
        let mut at = 0;
        while let Some(item) = r.item()? {
            match item.key {
                Key::Port => once(&mut port, item, item.port()?)?,
                Key::Status => once(&mut status, item, item.status()?)?,
                Key::BusinessNo => once(&mut business_no, item, item.business_no()?)?,
                Key::Voltage => once(&mut voltage, item, item.voltage()?)?,
                Key::Power => once(&mut power, item, item.power()?)?,
                Key::Current => once(&mut current, item, item.current()?)?,
                Key::Energy => once(&mut energy, item, item.energy()?)?,
                Key::Minutes => once(&mut minutes, item, item.minutes()?)?,
                _ => item.keep(inside, at, extras),
            }
            at += 1;
        }
        let end = r.offset();
        Ok(Self {
            port: required(port, Key::Port, end)?,
            status: required(status, Key::Status, end)?,
            business_no: required(business_no, Key::BusinessNo, end)?,
            voltage: required(voltage, Key::Voltage, end)?,
            power: required(power, Key::Power, end)?,
            current: required(current, Key::Current, end)?,
            energy_units: required(energy, Key::Energy, end)?,
            minutes: required(minutes, Key::Minutes, end)?,
        })
    }

    fn write_items(&self, items: &mut ItemWriter<'_>) {
        items.byte(Key::Port, self.port.get());
        items.byte(Key::Status, self.status.0);
        items.word(Key::BusinessNo, BusinessNo::wire(self.business_no).into());
        items.word(Key::Voltage, self.voltage.0);
        items.word(Key::Power, self.power.0);
        items.word(Key::Current, self.current.0);
        items.word(Key::Energy, self.energy_units.0.into());
        items.word(Key::Minutes, self.minutes.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            port: r.port()?,
            status: r.status()?,
            business_no: r.business_no()?,
            voltage: r.voltage()?,
            power: r.power("power")?,
            current: r.current()?,
            energy_units: r.energy()?,
            minutes: r.minutes()?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.port.get());
        out.push(self.status.0);
        out.word(BusinessNo::wire(self.business_no).into());
        out.word(self.voltage.0);
        out.word(self.power.0);
        out.word(self.current.0);
        out.word(self.energy_units.0.into());
        out.word(self.minutes.0);
    }
}

/// `1017`: every five minutes per socket, and on change. Usually of one socket, which then needs no heap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReport {
    /// Key `02`.
    pub sequence: Sequence,
    /// The first socket.
    pub first: SocketStatus,
    /// More of them.
    pub more: Vec<SocketStatus>,
    /// Items that are not known.
    pub extras: Extras,
}

impl StatusReport {
    /// Of one socket.
    pub fn of(status: SocketStatus) -> Self {
        Self { sequence: Sequence::MessageId, first: status, more: Vec::new(), extras: Extras::default() }
    }

    #[inline]
    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let (mut first, mut more, mut extras) = (None, Vec::new(), Extras::default());
        let mut at = 0;
        while let Some(item) = r.item()? {
            match item.key {
                Key::SocketItem if first.is_none() => first = Some(SocketStatus::read_item(item)?),
                Key::SocketItem => more.push(SocketStatus::read_item(item)?),
                _ => item.keep(0, at, &mut extras),
            }
            at += 1;
        }
        Ok(Self { sequence, first: required(first, Key::SocketItem, r.offset())?, more, extras })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let sub = WrapperSub::Status.code();
        let mut items = ItemWriter::message(out, sub, self.sequence, header, &self.extras);
        self.first.write_item(&mut items);
        self.more.iter().for_each(|status| status.write_item(&mut items));
        items.finish();
    }
}

/// Acknowledges a `1017`, under its message id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusAck {
    /// Key `02` of what it acknowledges.
    pub sequence: Sequence,
    /// 1 ok, 0 error.
    pub result: ResultByte,
    /// Items that are not known.
    pub extras: Extras,
}

impl StatusAck {
    /// Of a report with this key `02`.
    pub fn new(sequence: Sequence, result: ResultByte) -> Self {
        Self { sequence, result, extras: Extras::default() }
    }

    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let (mut result, mut extras, mut at) = (None, Extras::default(), 0);
        while let Some(item) = r.item()? {
            match item.key {
                Key::Result => once(&mut result, item, item.result()?)?,
                _ => item.keep(0, at, &mut extras),
            }
            at += 1;
        }
        Ok(Self { sequence, result: required(result, Key::Result, r.offset())?, extras })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let sub = WrapperSub::Status.code();
        let mut items = ItemWriter::message(out, sub, self.sequence, header, &self.extras);
        items.byte(Key::Result, self.result.0);
        items.finish();
    }
}

/// `1d`: what does a socket show?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryStatus {
    /// The socket.
    pub socket: SocketNo,
}

impl QueryStatus {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { socket: r.socket()? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.socket.get());
    }
}

/// `1c`, or `1d` by the guide's text: the answer to `1d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryAnswer {
    /// What the socket shows.
    pub status: SocketStatus,
    /// It came under `1d`.
    pub under_1d: bool,
}

impl QueryAnswer {
    pub(super) fn read(r: &mut Reader<'_>, sub: u8) -> Result<Self, Fault> {
        let under_1d = sub == ControlSub::StatusQuery.code();
        Ok(Self { status: SocketStatus::read(r)?, under_1d })
    }

    pub(super) fn sub(&self) -> u8 {
        if self.under_1d { ControlSub::StatusQuery.code() } else { ControlSub::StatusAnswer.code() }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.status.write(out);
    }
}
