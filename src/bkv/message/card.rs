//! Cards: swipe, order, balance (§6, `0b` `0f` `1a`).

use super::start::PowerTier;
use crate::bkv::code::Shape;
use crate::bkv::error::Fault;
use crate::bkv::field::{Reader, Write as _};
use crate::bkv::value::{CardNo, ResultByte, StatusByte, UpTo};
use crate::ids::{BusinessNo, Cents, Minutes, PortNo, SocketNo, WattHours};

/// `0b` from the device: a card was swiped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardSwipe {
    /// Socket.
    pub socket: SocketNo,
    /// Port.
    pub port: PortNo,
    /// The number that the device gives to what may become an order.
    pub business_no: Option<BusinessNo>,
    /// Status of the port.
    pub status: StatusByte,
    /// The card.
    pub card_no: CardNo,
    /// 20 bytes, zero in all that was seen.
    pub reserved: [u8; 20],
}

impl CardSwipe {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            socket: r.socket()?,
            port: r.port()?,
            business_no: r.business_no()?,
            status: r.status()?,
            card_no: r.card_no()?,
            reserved: r.array("reserved", Shape::Bytes)?,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.socket.get(), self.port.get()]);
        out.word(BusinessNo::wire(self.business_no).into());
        out.push(self.status.0);
        out.extend_from_slice(&self.card_no.0);
        out.extend_from_slice(&self.reserved);
    }

    /// The answer that turns it down.
    pub fn turned_down(&self) -> CardOrder {
        CardOrder { socket: self.socket, port: self.port, business_no: self.business_no, plan: CardPlan::Off }
    }
}

/// What a card gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardPlan {
    /// Turned down: switch 0, the rest 0.
    Off,
    /// By time, mode 1.
    Time(Minutes),
    /// By energy, mode 0.
    Energy(WattHours),
    /// By power tiers, mode 3.
    Power {
        /// Paid.
        amount: Cents,
        /// The tiers.
        tiers: UpTo<PowerTier, 5>,
    },
}

/// `0b` from the platform: the order for a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardOrder {
    /// Socket.
    pub socket: SocketNo,
    /// Port.
    pub port: PortNo,
    /// The swipe's number.
    pub business_no: Option<BusinessNo>,
    /// What the card gets.
    pub plan: CardPlan,
}

impl CardOrder {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let (socket, port, business_no) = (r.socket()?, r.port()?, r.business_no()?);
        let plan = match r.byte("switch", Shape::Switch)? {
            0 => {
                r.array::<5>("unused", Shape::Bytes)?;
                CardPlan::Off
            }
            1 => Self::read_plan(r)?,
            other => return Err(r.refuse("switch", other)),
        };
        Ok(Self { socket, port, business_no, plan })
    }

    fn read_plan(r: &mut Reader<'_>) -> Result<CardPlan, Fault> {
        Ok(match r.byte("mode", Shape::Mode)? {
            1 => {
                let minutes = r.minutes()?;
                r.zero("energy", Shape::WattHours)?;
                CardPlan::Time(minutes)
            }
            0 => {
                r.zero("minutes", Shape::Minutes)?;
                CardPlan::Energy(r.watt_hours()?)
            }
            3 => {
                r.zero("minutes", Shape::Minutes)?;
                r.zero("energy", Shape::WattHours)?;
                CardPlan::Power { amount: r.cents("amount")?, tiers: r.counted("tiers", PowerTier::read)? }
            }
            other => return Err(r.refuse("mode", other)),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.socket.get(), self.port.get()]);
        out.word(BusinessNo::wire(self.business_no).into());
        let (switch, mode, minutes, energy) = match self.plan {
            CardPlan::Off => (0, 0, 0, 0),
            CardPlan::Time(minutes) => (1, 1, minutes.0, 0),
            CardPlan::Energy(energy) => (1, 0, 0, energy.0),
            CardPlan::Power { .. } => (1, 3, 0, 0),
        };
        out.extend_from_slice(&[switch, mode]);
        out.word(minutes);
        out.word(energy);
        if let CardPlan::Power { amount, tiers } = self.plan {
            out.word(amount.0);
            out.counted(&tiers, |out, tier| tier.write(out));
        }
    }
}

/// `0f`: the device took the order for a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardAccepted {
    /// Socket.
    pub socket: SocketNo,
    /// Port.
    pub port: PortNo,
    /// 1 ok.
    pub result: ResultByte,
}

impl CardAccepted {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { socket: r.socket()?, port: r.port()?, result: r.result()? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.socket.get(), self.port.get(), self.result.0]);
    }
}

/// `1a` from the device: what is on this card?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BalanceQuery {
    /// Socket.
    pub socket: SocketNo,
    /// Port.
    pub port: PortNo,
    /// The card.
    pub card_no: CardNo,
}

impl BalanceQuery {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { socket: r.socket()?, port: r.port()?, card_no: r.card_no()? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.socket.get(), self.port.get()]);
        out.extend_from_slice(&self.card_no.0);
    }
}

/// `1a` from the platform: so much is on this card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BalanceAnswer {
    /// Socket.
    pub socket: SocketNo,
    /// Port.
    pub port: PortNo,
    /// The card.
    pub card_no: CardNo,
    /// What is on it.
    pub balance: Cents,
}

impl BalanceAnswer {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let BalanceQuery { socket, port, card_no } = BalanceQuery::read(r)?;
        Ok(Self { socket, port, card_no, balance: r.long_cents("balance")? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.socket.get(), self.port.get()]);
        out.extend_from_slice(&self.card_no.0);
        out.extend_from_slice(&self.balance.0.to_be_bytes());
    }
}
