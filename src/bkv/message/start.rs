//! Starts and stops and their answers (§6 `07` `17`, §7 `1007`).

use crate::bkv::code::{ControlSub, Key, Shape, WrapperSub};
use crate::bkv::error::{Cause, Fault};
use crate::bkv::field::{Header, ItemWriter, Reader, Write as _, once, required};
use crate::bkv::value::{Carrier, Extras, ResultByte, Sequence, UpTo};
use crate::ids::{BusinessNo, Cents, DeciWatts, Minutes, PortNo, SocketNo, WattHours};

/// What a [`Switch`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchOrder {
    /// On, by time.
    Time(Minutes),
    /// On, by energy.
    Energy(WattHours),
    /// Off, which ends an order of any mode.
    Off,
}

/// `0015/07`: start by time or energy, or stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// Socket.
    pub socket: SocketNo,
    /// Port.
    pub port: PortNo,
    /// What it does.
    pub order: SwitchOrder,
}

impl Switch {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let (socket, port) = (r.socket()?, r.port()?);
        let order = match r.byte("switch", Shape::Switch)? {
            0 => {
                r.array::<5>("unused", Shape::Bytes)?;
                SwitchOrder::Off
            }
            1 => Self::read_order(r)?,
            other => return Err(r.refuse("switch", other)),
        };
        Ok(Self { socket, port, order })
    }

    fn read_order(r: &mut Reader<'_>) -> Result<SwitchOrder, Fault> {
        Ok(match r.byte("mode", Shape::Mode)? {
            1 => {
                let minutes = r.minutes()?;
                r.zero("energy", Shape::WattHours)?;
                SwitchOrder::Time(minutes)
            }
            0 => {
                r.zero("minutes", Shape::Minutes)?;
                SwitchOrder::Energy(r.watt_hours()?)
            }
            other => return Err(r.refuse("mode", other)),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (switch, mode, minutes, energy) = match self.order {
            SwitchOrder::Time(minutes) => (1, 1, minutes.0, 0),
            SwitchOrder::Energy(energy) => (1, 0, 0, energy.0),
            SwitchOrder::Off => (0, 0, 0, 0),
        };
        out.extend_from_slice(&[self.socket.get(), self.port.get(), switch, mode]);
        out.word(minutes);
        out.word(energy);
    }
}

/// A tier of power and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PowerTier {
    /// Up to this power.
    pub limit: DeciWatts,
    /// Price of the minutes below.
    pub price: Cents,
    /// Minutes that the price buys.
    pub minutes: Minutes,
}

impl PowerTier {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { limit: r.power("power_limit")?, price: r.cents("price")?, minutes: r.minutes()? })
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.word(self.limit.0);
        out.word(self.price.0);
        out.word(self.minutes.0);
    }
}

/// `17`: start by power tiers, under `0015` or, for some models, `0005`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartByTiers {
    /// The command that it travels under.
    pub carrier: Carrier,
    /// Socket.
    pub socket: SocketNo,
    /// Port.
    pub port: PortNo,
    /// Paid.
    pub amount: Cents,
    /// The tiers.
    pub tiers: UpTo<PowerTier, 5>,
}

impl StartByTiers {
    pub(super) fn read(r: &mut Reader<'_>, carrier: Carrier) -> Result<Self, Fault> {
        let (socket, port) = (r.socket()?, r.port()?);
        r.exactly("switch", Shape::Switch, 1)?;
        let (amount, tiers) = (r.cents("amount")?, r.counted("tiers", PowerTier::read)?);
        Ok(Self { carrier, socket, port, amount, tiers })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.socket.get(), self.port.get(), 1]);
        out.word(self.amount.0);
        out.counted(&self.tiers, |out, tier| tier.write(out));
    }
}

/// The answer to `07` or `17`, under the command of what it answers, or another one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchAnswer {
    /// The command that it travels under.
    pub carrier: Carrier,
    /// Under sub-command `17`, else `07`.
    pub to_tiers: bool,
    /// 1 ok, 0 refused.
    pub result: ResultByte,
    /// Socket.
    pub socket: SocketNo,
    /// Port.
    pub port: PortNo,
    /// The device's number of the order.
    pub business_no: Option<BusinessNo>,
}

impl SwitchAnswer {
    pub(super) fn read(r: &mut Reader<'_>, carrier: Carrier, sub: u8) -> Result<Self, Fault> {
        Ok(Self {
            carrier,
            to_tiers: sub == ControlSub::StartByTiers.code(),
            result: r.result()?,
            socket: r.socket()?,
            port: r.port()?,
            business_no: r.business_no()?,
        })
    }

    pub(super) fn sub(&self) -> u8 {
        if self.to_tiers { ControlSub::StartByTiers.code() } else { ControlSub::Switch.code() }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.result.0, self.socket.get(), self.port.get()]);
        out.word(BusinessNo::wire(self.business_no).into());
    }
}

/// Answers to a start or stop as one: [`SwitchAnswer`] and [`FeeStartAnswer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartAnswer {
    /// Accepted; any result but 1 is a refusal.
    pub ok: bool,
    /// The result as it came.
    pub result: ResultByte,
    /// Socket, where the answer names it.
    pub socket: Option<SocketNo>,
    /// Port, where the answer names it.
    pub port: Option<PortNo>,
    /// The device's number of the order.
    pub business_no: Option<BusinessNo>,
}

impl From<&SwitchAnswer> for StartAnswer {
    fn from(answer: &SwitchAnswer) -> Self {
        let SwitchAnswer { result, socket, port, business_no, .. } = *answer;
        Self { ok: result.ok(), result, socket: Some(socket), port: Some(port), business_no }
    }
}

impl From<&FeeStartAnswer> for StartAnswer {
    fn from(answer: &FeeStartAnswer) -> Self {
        let FeeStartAnswer { result, socket, port, business_no, .. } = *answer;
        Self { ok: result.ok(), result, socket, port, business_no }
    }
}

/// What the service fee is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceFeeBy {
    /// Time, 0 on the wire.
    Time,
    /// Energy, 1 on the wire.
    Energy,
}

/// A tier of the day and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeeTier {
    /// Hour of its end.
    pub until_hour: u8,
    /// Minute of its end; the last tier ends at 23:59.
    pub until_minute: u8,
    /// Price of electricity.
    pub electricity: Cents,
    /// Price of service.
    pub service: Cents,
}

/// `1000/1007`: start with electricity and service fee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartByFee {
    /// Key `02`.
    pub sequence: Sequence,
    /// Socket.
    pub socket: SocketNo,
    /// Port.
    pub port: PortNo,
    /// Paid.
    pub amount: Cents,
    /// What the service fee is counted by.
    pub service_fee_by: ServiceFeeBy,
    /// The tiers.
    pub tiers: UpTo<FeeTier, 5>,
    /// Items that are not known.
    pub extras: Extras,
}

impl StartByFee {
    const SWITCH: u8 = 1;
    const MODE: u8 = 4;
    const CONTROL_KIND: u8 = 1;
    /// As in the only sample.
    const START_FLAG: u8 = 2;

    /// Key `83` holds all tiers; some one each is understood as well.
    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let (mut extras, mut tiers, mut at) = (Extras::default(), UpTo::default(), 0);
        let (mut socket, mut port, mut amount, mut by, mut count) = (None, None, None, None, None);
        let mut fixed = [None; 4];
        while let Some(item) = r.item()? {
            match item.key {
                Key::Socket => once(&mut socket, item, item.socket()?)?,
                Key::Port => once(&mut port, item, item.port()?)?,
                Key::Switch => once(&mut fixed[0], item, item.exactly(Self::SWITCH)?)?,
                Key::Mode => once(&mut fixed[1], item, item.exactly(Self::MODE)?)?,
                Key::ControlKind => once(&mut fixed[2], item, item.exactly(Self::CONTROL_KIND)?)?,
                Key::StartFlag => once(&mut fixed[3], item, item.exactly(Self::START_FLAG)?)?,
                Key::Amount => once(&mut amount, item, item.cents()?)?,
                Key::ServiceFeeBy => {
                    let kind = match item.byte()? {
                        0 => ServiceFeeBy::Time,
                        1 => ServiceFeeBy::Energy,
                        other => return Err(item.fault(Cause::OutOfRange { value: other.into() })),
                    };
                    once(&mut by, item, kind)?;
                }
                Key::Tiers => once(&mut count, item, (item, item.byte()?))?,
                Key::FeeTier => FeeTier::read_all(item.open(), &mut tiers)?,
                _ => item.keep(0, at, &mut extras),
            }
            at += 1;
        }
        let end = r.offset();
        for (slot, key) in fixed.into_iter().zip([Key::Switch, Key::Mode, Key::ControlKind, Key::StartFlag]) {
            required(slot, key, end)?;
        }
        let (item, declared) = required(count, Key::Tiers, end)?;
        if usize::from(declared) != tiers.len() {
            return Err(item.fault(Cause::Length { declared: declared.into(), found: tiers.len() }));
        }
        Ok(Self {
            sequence,
            socket: required(socket, Key::Socket, end)?,
            port: required(port, Key::Port, end)?,
            amount: required(amount, Key::Amount, end)?,
            service_fee_by: required(by, Key::ServiceFeeBy, end)?,
            tiers,
            extras,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let sub = WrapperSub::StartByFee.code();
        let mut items = ItemWriter::message(out, sub, self.sequence, header, &self.extras);
        items.byte(Key::Socket, self.socket.get());
        items.byte(Key::Port, self.port.get());
        items.byte(Key::Switch, Self::SWITCH);
        items.byte(Key::Mode, Self::MODE);
        items.byte(Key::ControlKind, Self::CONTROL_KIND);
        items.byte(Key::StartFlag, Self::START_FLAG);
        items.word(Key::Amount, self.amount.0);
        items.byte(Key::ServiceFeeBy, u8::from(self.service_fee_by == ServiceFeeBy::Energy));
        items.byte(Key::Tiers, self.tiers.len() as u8);
        let mut tiers = Vec::with_capacity(30);
        self.tiers.iter().for_each(|tier| tier.write(&mut tiers));
        items.bytes(Key::FeeTier, &tiers);
        items.finish();
    }
}

impl FeeTier {
    fn read_all(mut r: Reader<'_>, tiers: &mut UpTo<Self, 5>) -> Result<(), Fault> {
        while r.left() > 0 {
            let offset = r.offset();
            let tier = Self::read(&mut r)?;
            if !tiers.push(tier) {
                return Err(Fault { field: Key::FeeTier.name(), offset, cause: Cause::OutOfRange { value: 6 } });
            }
        }
        Ok(())
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let until_hour = r.u8("until_hour")?;
        if until_hour > 23 {
            return Err(r.refuse("until_hour", until_hour));
        }
        let until_minute = r.u8("until_minute")?;
        if until_minute > 59 {
            return Err(r.refuse("until_minute", until_minute));
        }
        let (electricity, service) = (r.cents("electricity_price")?, r.cents("service_price")?);
        Ok(Self { until_hour, until_minute, electricity, service })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.until_hour, self.until_minute]);
        out.word(self.electricity.0);
        out.word(self.service.0);
    }
}

/// `1000/1007` from a device: an answer that the guide does not document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeeStartAnswer {
    /// Key `02`.
    pub sequence: Sequence,
    /// 1 ok, 0 refused.
    pub result: ResultByte,
    /// Socket, if it is named.
    pub socket: Option<SocketNo>,
    /// Port, if it is named.
    pub port: Option<PortNo>,
    /// The device's number of the order, if it is named.
    pub business_no: Option<BusinessNo>,
    /// Items that are not known.
    pub extras: Extras,
}

impl FeeStartAnswer {
    pub(super) fn read(r: &mut Reader<'_>, sequence: Sequence) -> Result<Self, Fault> {
        let (mut extras, mut at) = (Extras::default(), 0);
        let (mut result, mut socket, mut port, mut number) = (None, None, None, None);
        while let Some(item) = r.item()? {
            match item.key {
                Key::Result => once(&mut result, item, item.result()?)?,
                Key::Socket => once(&mut socket, item, item.socket()?)?,
                Key::Port => once(&mut port, item, item.port()?)?,
                Key::BusinessNo => once(&mut number, item, item.business_no()?)?,
                _ => item.keep(0, at, &mut extras),
            }
            at += 1;
        }
        let result = required(result, Key::Result, r.offset())?;
        Ok(Self { sequence, result, socket, port, business_no: number.flatten(), extras })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, header: &Header) {
        let sub = WrapperSub::StartByFee.code();
        let mut items = ItemWriter::message(out, sub, self.sequence, header, &self.extras);
        items.byte(Key::Result, self.result.0);
        if let Some(socket) = self.socket {
            items.byte(Key::Socket, socket.get());
        }
        if let Some(port) = self.port {
            items.byte(Key::Port, port.get());
        }
        if let Some(number) = self.business_no {
            items.word(Key::BusinessNo, number.get().into());
        }
        items.finish();
    }
}
