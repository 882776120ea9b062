//! Charge ends: the four reports, their acknowledgements, and what can be saved of one that cannot be read whole.

use crate::bkv::code::{Command, ControlSub, Key, Shape, WrapperSub};
use crate::bkv::error::Fault;
use crate::bkv::field::{Header, ItemWriter, Reader, Write as _, once, required};
use crate::bkv::frame::{DATA, Direction, Frame};
use crate::bkv::value::{CardNo, DeviceTime, EnergyUnits, Extras, ResultByte, Sequence, StatusByte, TierUse, UpTo};
use crate::ids::{BusinessNo, Cents, DeciWatts, MilliAmperes, Minutes, PortNo, SocketNo};

/// Which of the four reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndKind {
    /// `0015/02`, of an order by time or energy.
    Charge,
    /// `0015/18`, of an order by tiers.
    Tiers,
    /// `0015/0c`, of a card's order.
    Card,
    /// `1000/1004`, of an order by fee.
    Fee,
}

/// What `02`, `18` and `0c` have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndFigures {
    /// Socket.
    pub socket: SocketNo,
    /// Its firmware, `ffff` when unknown.
    pub firmware: u16,
    /// Its temperature, °C.
    pub temperature_c: i8,
    /// Strength of its radio signal.
    pub rssi: u8,
    /// Port.
    pub port: PortNo,
    /// Status at the end.
    pub status: StatusByte,
    /// The order that ended.
    pub business_no: Option<BusinessNo>,
    /// Power at the end, usually 0.
    pub power: DeciWatts,
    /// Current at the end.
    pub current: MilliAmperes,
    /// Energy, in units of the device.
    pub energy_units: EnergyUnits,
    /// Minutes.
    pub minutes: Minutes,
}

impl EndFigures {
    fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            socket: r.socket()?,
            firmware: r.firmware()?,
            temperature_c: r.temperature()?,
            rssi: r.rssi()?,
            port: r.port()?,
            status: r.status()?,
            business_no: r.business_no()?,
            power: r.power("power")?,
            current: r.current()?,
            energy_units: r.energy()?,
            minutes: r.minutes()?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.socket.get());
        out.word(self.firmware.into());
        out.extend_from_slice(&[self.temperature_c.cast_unsigned(), self.rssi, self.port.get(), self.status.0]);
        out.word(BusinessNo::wire(self.business_no).into());
        out.word(self.power.0);
        out.word(self.current.0);
        out.word(self.energy_units.0.into());
        out.word(self.minutes.0);
    }
}

/// `02`: an order by time or energy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChargeEnd {
    /// All that it says.
    pub figures: EndFigures,
}

impl ChargeEnd {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { figures: EndFigures::read(r)? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.figures.write(out);
    }
}

/// `18`: an order by tiers ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TiersEnd {
    /// What `02` says.
    pub figures: EndFigures,
    /// When, by the device's clock; binary on the wire.
    pub end_time: DeviceTime,
    /// The device's reason.
    pub reason: u8,
    /// Spent.
    pub amount: Cents,
    /// Power that it was settled by.
    pub settlement_power: DeciWatts,
    /// How many of the slots below count, at most 5.
    pub tiers: u8,
    /// Minutes per tier, always five slots.
    pub tier_minutes: [Minutes; 5],
}

impl TiersEnd {
    const SLOTS: u8 = 5;

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let figures = EndFigures::read(r)?;
        let end_time = DeviceTime::from_binary(r.array("end_time", Shape::BinaryTime)?);
        let (reason, amount) = (r.u8("reason")?, r.cents("amount")?);
        let (settlement_power, tiers) = (r.power("settlement_power")?, r.u8("tiers")?);
        if tiers > Self::SLOTS {
            return Err(r.refuse("tiers", tiers));
        }
        let mut tier_minutes = [Minutes(0); Self::SLOTS as usize];
        for slot in &mut tier_minutes {
            *slot = Minutes(r.word("tier_minutes", Shape::Minutes)?.into());
        }
        Ok(Self { figures, end_time, reason, amount, settlement_power, tiers, tier_minutes })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.figures.write(out);
        out.extend_from_slice(&self.end_time.raw());
        out.push(self.reason);
        out.word(self.amount.0);
        out.word(self.settlement_power.0);
        out.push(self.tiers.min(Self::SLOTS));
        self.tier_minutes.iter().for_each(|minutes| out.word(minutes.0));
    }
}

/// `0c`: a card's order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardEnd {
    /// What `02` says.
    pub figures: EndFigures,
    /// The card.
    pub card_no: CardNo,
    /// 0 online card.
    pub card_kind: u8,
    /// 1 time, 2 energy, 3 power.
    pub billing: u8,
    /// Spent.
    pub amount: Cents,
    /// Power that it was settled by.
    pub settlement_power: DeciWatts,
    /// Minutes per tier.
    pub tier_minutes: UpTo<Minutes, 5>,
}

impl CardEnd {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            figures: EndFigures::read(r)?,
            card_no: r.card_no()?,
            card_kind: r.u8("card_kind")?,
            billing: r.byte("billing", Shape::Billing)?,
            amount: r.cents("amount")?,
            settlement_power: r.power("settlement_power")?,
            tier_minutes: r.counted("tiers", |r| r.word("tier_minutes", Shape::Minutes).map(|n| Minutes(n.into())))?,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.figures.write(out);
        out.extend_from_slice(&self.card_no.0);
        out.extend_from_slice(&[self.card_kind, self.billing]);
        out.word(self.amount.0);
        out.word(self.settlement_power.0);
        out.counted(&self.tier_minutes, |out, minutes| out.word(minutes.0));
    }
}

/// `1000/1004`: an order by fee ended. What money and matching need has to be there; the rest may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeeEnd {
    /// Key `02`.
    pub sequence: Sequence,
    /// Temperature of the socket, °C.
    pub temperature_c: Option<i8>,
    /// Socket.
    pub socket: SocketNo,
    /// Port.
    pub port: PortNo,
    /// Status at the end.
    pub status: StatusByte,
    /// The order that ended.
    pub business_no: Option<BusinessNo>,
    /// Power at the end, usually 0.
    pub power: DeciWatts,
    /// Current at the end.
    pub current: Option<MilliAmperes>,
    /// Energy, in units of the device.
    pub energy_units: EnergyUnits,
    /// Minutes.
    pub minutes: Minutes,
    /// When, by the device's clock; BCD on the wire.
    pub end_time: Option<DeviceTime>,
    /// The device's reason.
    pub reason: Option<u8>,
    /// Mode of the order, 4.
    pub mode: Option<u8>,
    /// Spent on electricity.
    pub electricity_fee: Option<Cents>,
    /// Spent on service.
    pub service_fee: Option<Cents>,
    /// How many tiers it says it has.
    pub tiers: Option<u8>,
    /// Values of its items `84`, whose layout is a guess: see [`FeeEnd::tier_use`].
    pub tier_items: Vec<Box<[u8]>>,
    /// Items that are not known.
    pub extras: Extras,
}

impl FeeEnd {
    /// Per tier minutes and energy; empty when the items cannot be read so.
    pub fn tier_use(&self) -> UpTo<TierUse, 5> {
        let bytes = self.tier_items.concat();
        let (tiers, rest) = bytes.as_chunks::<6>();
        let parsed: Vec<_> = tiers.iter().map(read_tier_use).collect();
        let declared = usize::from(self.tiers.unwrap_or(0));
        if !rest.is_empty() || parsed.len() != declared {
            return UpTo::default();
        }
        UpTo::from_slice(&parsed).unwrap_or_default()
    }

    /// An item `84` that [`FeeEnd::tier_use`] reads back.
    pub fn tier_item(tiers: &[TierUse]) -> Box<[u8]> {
        let mut out = Vec::with_capacity(tiers.len() * 6);
        for tier in tiers {
            out.word(tier.minutes.0);
            out.extend_from_slice(&tier.energy_units.unwrap_or(0).to_be_bytes());
        }
        out.into()
    }

    /// An item `84` for people; `None` when it cannot be read so.
    pub(crate) fn describe_tiers(value: &[u8]) -> Option<String> {
        let (tiers, rest) = value.as_chunks::<6>();
        let describe = |bytes: &[u8; 6]| {
            let TierUse { minutes, energy_units } = read_tier_use(bytes);
            format!("{minutes} min {} Wh (at 1 Wh per unit)", energy_units.unwrap_or(0))
        };
        rest.is_empty().then(|| tiers.iter().map(describe).collect::<Vec<_>>().join(", "))
    }

    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let (mut extras, mut tier_items, mut at) = (Extras::default(), Vec::new(), 0);
        let (mut temperature_c, mut socket, mut port, mut status) = (None, None, None, None);
        let (mut business_no, mut power, mut current, mut energy) = (None, None, None, None);
        let (mut minutes, mut end_time, mut reason, mut mode) = (None, None, None, None);
        let (mut electricity_fee, mut service_fee, mut tiers) = (None, None, None);
        while let Some(item) = r.item()? {
            match item.key {
                Key::Temperature => once(&mut temperature_c, item, item.temperature()?)?,
                Key::Socket => once(&mut socket, item, item.socket()?)?,
                Key::Port => once(&mut port, item, item.port()?)?,
                Key::Status => once(&mut status, item, item.status()?)?,
                Key::BusinessNo => once(&mut business_no, item, item.business_no()?)?,
                Key::Power => once(&mut power, item, item.power()?)?,
                Key::Current => once(&mut current, item, item.current()?)?,
                Key::Energy => once(&mut energy, item, item.energy()?)?,
                Key::Minutes => once(&mut minutes, item, item.minutes()?)?,
                Key::EndTime => once(&mut end_time, item, item.bcd_time()?)?,
                Key::Reason => once(&mut reason, item, item.byte()?)?,
                Key::Mode => once(&mut mode, item, item.byte()?)?,
                Key::ElectricityFee => once(&mut electricity_fee, item, item.cents()?)?,
                Key::ServiceFee => once(&mut service_fee, item, item.cents()?)?,
                Key::Tiers => once(&mut tiers, item, item.byte()?)?,
                Key::TierUse => tier_items.push(item.raw().into()),
                _ => item.keep(0, at, &mut extras),
            }
            at += 1;
        }
        let end = r.offset();
        Ok(Self {
            sequence,
            temperature_c,
            socket: required(socket, Key::Socket, end)?,
            port: required(port, Key::Port, end)?,
            status: required(status, Key::Status, end)?,
            business_no: required(business_no, Key::BusinessNo, end)?,
            power: required(power, Key::Power, end)?,
            current,
            energy_units: required(energy, Key::Energy, end)?,
            minutes: required(minutes, Key::Minutes, end)?,
            end_time,
            reason,
            mode,
            electricity_fee,
            service_fee,
            tiers,
            tier_items,
            extras,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let sub = WrapperSub::FeeEnd.code();
        let mut items = ItemWriter::message(out, sub, self.sequence, header, &self.extras);
        if let Some(degrees) = self.temperature_c {
            items.byte(Key::Temperature, degrees.cast_unsigned());
        }
        items.byte(Key::Socket, self.socket.get());
        items.byte(Key::Port, self.port.get());
        items.byte(Key::Status, self.status.0);
        items.word(Key::BusinessNo, BusinessNo::wire(self.business_no).into());
        items.word(Key::Power, self.power.0);
        if let Some(current) = self.current {
            items.word(Key::Current, current.0);
        }
        items.word(Key::Energy, self.energy_units.0.into());
        items.word(Key::Minutes, self.minutes.0);
        if let Some(time) = self.end_time {
            items.bytes(Key::EndTime, &time.raw());
        }
        for (key, byte) in [(Key::Reason, self.reason), (Key::Mode, self.mode)] {
            byte.into_iter().for_each(|byte| items.byte(key, byte));
        }
        for (key, fee) in [(Key::ElectricityFee, self.electricity_fee), (Key::ServiceFee, self.service_fee)] {
            fee.into_iter().for_each(|fee| items.word(key, fee.0));
        }
        if let Some(tiers) = self.tiers {
            items.byte(Key::Tiers, tiers);
        }
        self.tier_items.iter().for_each(|value| items.bytes(Key::TierUse, value));
        items.finish();
    }
}

fn read_tier_use(bytes: &[u8; 6]) -> TierUse {
    let [m, n, a, b, c, d] = *bytes;
    TierUse {
        minutes: Minutes(u16::from_be_bytes([m, n]).into()),
        energy_units: Some(u32::from_be_bytes([a, b, c, d])),
    }
}

/// The four reports as one. `None` is what a report does not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndReport {
    /// Which of the four.
    pub kind: EndKind,
    /// Key `02`, which the acknowledgement of `1004` repeats.
    pub sequence: Sequence,
    /// Socket.
    pub socket: SocketNo,
    /// Port.
    pub port: PortNo,
    /// Status at the end.
    pub status: StatusByte,
    /// The order that ended.
    pub business_no: Option<BusinessNo>,
    /// Power at the end, usually 0.
    pub power: DeciWatts,
    /// Current at the end.
    pub current: Option<MilliAmperes>,
    /// Energy, in units of the device.
    pub energy_units: EnergyUnits,
    /// Minutes.
    pub minutes: Minutes,
    /// Temperature of the socket, °C.
    pub temperature_c: Option<i8>,
    /// When, by the device's clock.
    pub device_end_time: Option<DeviceTime>,
    /// The device's reason.
    pub raw_reason: Option<u8>,
    /// Spent.
    pub amount: Option<Cents>,
    /// Power that it was settled by.
    pub settlement_power: Option<DeciWatts>,
    /// Use of each tier; empty when there are none.
    pub tiers: UpTo<TierUse, 5>,
    /// Spent on electricity.
    pub electricity_fee: Option<Cents>,
    /// Spent on service.
    pub service_fee: Option<Cents>,
    /// The card.
    pub card_no: Option<CardNo>,
}

impl EndReport {
    fn of(kind: EndKind, figures: &EndFigures) -> Self {
        Self {
            kind,
            sequence: Sequence::MessageId,
            socket: figures.socket,
            port: figures.port,
            status: figures.status,
            business_no: figures.business_no,
            power: figures.power,
            current: Some(figures.current),
            energy_units: figures.energy_units,
            minutes: figures.minutes,
            temperature_c: Some(figures.temperature_c),
            device_end_time: None,
            raw_reason: None,
            amount: None,
            settlement_power: None,
            tiers: UpTo::default(),
            electricity_fee: None,
            service_fee: None,
            card_no: None,
        }
    }
}

fn tiers_by_minutes(minutes: &[Minutes]) -> UpTo<TierUse, 5> {
    let mut tiers = UpTo::default();
    for minutes in minutes {
        tiers.push(TierUse { minutes: *minutes, energy_units: None });
    }
    tiers
}

impl From<&ChargeEnd> for EndReport {
    fn from(report: &ChargeEnd) -> Self {
        Self::of(EndKind::Charge, &report.figures)
    }
}

impl From<&TiersEnd> for EndReport {
    fn from(report: &TiersEnd) -> Self {
        let counting = usize::from(report.tiers).min(report.tier_minutes.len());
        Self {
            device_end_time: Some(report.end_time),
            raw_reason: Some(report.reason),
            amount: Some(report.amount),
            settlement_power: Some(report.settlement_power),
            tiers: tiers_by_minutes(&report.tier_minutes[..counting]),
            ..Self::of(EndKind::Tiers, &report.figures)
        }
    }
}

impl From<&CardEnd> for EndReport {
    fn from(report: &CardEnd) -> Self {
        Self {
            amount: Some(report.amount),
            settlement_power: Some(report.settlement_power),
            tiers: tiers_by_minutes(&report.tier_minutes),
            card_no: Some(report.card_no),
            ..Self::of(EndKind::Card, &report.figures)
        }
    }
}

impl From<&FeeEnd> for EndReport {
    fn from(report: &FeeEnd) -> Self {
        Self {
            kind: EndKind::Fee,
            sequence: report.sequence,
            socket: report.socket,
            port: report.port,
            status: report.status,
            business_no: report.business_no,
            power: report.power,
            current: report.current,
            energy_units: report.energy_units,
            minutes: report.minutes,
            temperature_c: report.temperature_c,
            device_end_time: report.end_time,
            raw_reason: report.reason,
            amount: match (report.electricity_fee, report.service_fee) {
                (None, None) => None,
                (electricity, service) => Some(electricity.unwrap_or_default() + service.unwrap_or_default()),
            },
            settlement_power: None,
            tiers: report.tier_use(),
            electricity_fee: report.electricity_fee,
            service_fee: report.service_fee,
            card_no: None,
        }
    }
}

/// Under which sub-command an end is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndAckForm {
    /// `0c`, which the field understands for all of them.
    Usual,
    /// That of the report. A `1004` has no echo here, and an echoed `0c` is the usual form.
    Echo(EndKind),
}

/// Acknowledges `02`, `18` or `0c`; message id 0 in the usual form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndAck {
    /// Under which sub-command.
    pub form: EndAckForm,
    /// The socket as the report gave it, which may be one that does not exist.
    pub socket: u8,
    /// 1 ok.
    pub result: ResultByte,
}

impl EndAck {
    /// The usual one.
    pub fn ok(socket: SocketNo) -> Self {
        Self { form: EndAckForm::Usual, socket: socket.get(), result: ResultByte::OK }
    }

    pub(super) fn sub(&self) -> ControlSub {
        match self.form {
            EndAckForm::Echo(EndKind::Charge) => ControlSub::ChargeEnd,
            EndAckForm::Echo(EndKind::Tiers) => ControlSub::TiersEnd,
            EndAckForm::Usual | EndAckForm::Echo(EndKind::Card | EndKind::Fee) => ControlSub::CardEnd,
        }
    }

    pub(super) fn read(r: &mut Reader<'_>, form: EndAckForm) -> Result<Self, Fault> {
        Ok(Self { form, socket: r.byte("socket", Shape::Socket)?, result: r.result()? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.socket, self.result.0]);
    }
}

/// Acknowledges a `1004`, under its message id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeeEndAck {
    /// Key `02` of what it acknowledges.
    pub sequence: Sequence,
    /// 1 ok.
    pub result: ResultByte,
    /// The socket as the report gave it, which may be one that does not exist.
    pub socket: u8,
    /// The port as the report gave it, which may be one that does not exist.
    pub port: u8,
    /// Items that are not known.
    pub extras: Extras,
}

impl FeeEndAck {
    /// Of a report with this key `02`.
    pub fn new(sequence: Sequence, result: ResultByte, socket: u8, port: u8) -> Self {
        Self { sequence, result, socket, port, extras: Extras::default() }
    }

    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let (mut result, mut socket, mut port) = (None, None, None);
        let (mut extras, mut at) = (Extras::default(), 0);
        while let Some(item) = r.item()? {
            match item.key {
                Key::Result => once(&mut result, item, item.result()?)?,
                Key::Socket => once(&mut socket, item, item.byte()?)?,
                Key::Port => once(&mut port, item, item.byte()?)?,
                _ => item.keep(0, at, &mut extras),
            }
            at += 1;
        }
        let end = r.offset();
        Ok(Self {
            sequence,
            result: required(result, Key::Result, end)?,
            socket: required(socket, Key::Socket, end)?,
            port: required(port, Key::Port, end)?,
            extras,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let sub = WrapperSub::FeeEnd.code();
        let mut items = ItemWriter::message(out, sub, self.sequence, header, &self.extras);
        items.byte(Key::Result, self.result.0);
        items.byte(Key::Socket, self.socket);
        items.byte(Key::Port, self.port);
        items.finish();
    }
}

/// What a report is that cannot be read whole, as far as it owes an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SalvagedKind {
    /// An end report: acknowledged with ok all the same.
    End(EndKind),
    /// A `1017`: acknowledged with error.
    Status,
    /// A `1010`: acknowledged with error.
    Abnormal,
}

/// What can be read of a report that cannot be read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salvaged {
    /// What it is.
    pub kind: SalvagedKind,
    /// Key `02` of a `1000` message.
    pub sequence: Sequence,
    /// Socket as it came.
    pub socket: Option<u8>,
    /// Port as it came.
    pub port: Option<u8>,
}

/// What can be read of a report from a device, so that it can be answered: a device whose end report gets no
/// acknowledgement repeats it, reconnects and takes its sockets along for ever (§10).
pub fn salvage(frame: &Frame<'_>) -> Option<Salvaged> {
    if frame.direction() != Direction::Up {
        return None;
    }
    match Command::from_code(frame.command()) {
        Command::Control => salvage_control(frame),
        Command::Wrapper => salvage_wrapper(frame),
        Command::Heartbeat | Command::Network | Command::Ota | Command::Unknown(_) => None,
    }
}

fn salvage_control(frame: &Frame<'_>) -> Option<Salvaged> {
    let data = frame.data();
    let kind = match ControlSub::from_code(*data.get(2)?) {
        ControlSub::ChargeEnd => EndKind::Charge,
        ControlSub::TiersEnd => EndKind::Tiers,
        ControlSub::CardEnd => EndKind::Card,
        _ => return None,
    };
    Some(Salvaged {
        kind: SalvagedKind::End(kind),
        sequence: Sequence::MessageId,
        socket: data.get(3).copied(),
        port: data.get(8).copied(),
    })
}

fn salvage_wrapper(frame: &Frame<'_>) -> Option<Salvaged> {
    let kind = match WrapperSub::from_code(frame.sub()?) {
        WrapperSub::FeeEnd => SalvagedKind::End(EndKind::Fee),
        WrapperSub::Status => SalvagedKind::Status,
        WrapperSub::Abnormal => SalvagedKind::Abnormal,
        _ => return None,
    };
    let mut saved = Salvaged { kind, sequence: Sequence::MessageId, socket: None, port: None };
    let mut r = Reader::new(frame.data(), DATA, None);
    while let Ok(Some(item)) = r.item() {
        match (item.key, item.byte().ok()) {
            (Key::Socket, socket @ Some(_)) => saved.socket = saved.socket.or(socket),
            (Key::Port, port @ Some(_)) => saved.port = saved.port.or(port),
            (Key::Sequence, _) => {
                let number = item.long().ok();
                saved.sequence = number.map_or(saved.sequence, |n| Sequence::of(n, frame.message_id()));
            }
            _ => {}
        }
    }
    Some(saved)
}
