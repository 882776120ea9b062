//! What is known of one port: what it shows, and what the agent owes it.

use serde::{Deserialize, Serialize};

use crate::clock::{UpTime, WallTime};
use crate::ids::{
    BusinessNo, Cents, DeciVolts, DeciWatts, MessageId, MilliAmperes, Minutes, OrderNo, PortKey, WattHours,
};
use crate::mutants::{self, Mutant};
use crate::order::{TierSpent, is_default};

/// Normalised status of a port (contract §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortStatus {
    /// 0: the socket or its device is offline.
    Offline,
    /// 1: online, but not known which.
    Unclear,
    /// 9.
    Idle,
    /// 129.
    Charging,
}

impl PortStatus {
    /// The number in the store.
    pub const fn code(self) -> u8 {
        match self {
            Self::Offline => 0,
            Self::Unclear => 1,
            Self::Idle => 9,
            Self::Charging => 129,
        }
    }

    /// The status of a number in the store.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Offline,
            1 => Self::Unclear,
            9 => Self::Idle,
            129 => Self::Charging,
            _ => return None,
        })
    }
}

/// Figures of a status report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// At the port.
    pub voltage: DeciVolts,
    /// Drawn.
    pub power: DeciWatts,
    /// Drawn.
    pub current: MilliAmperes,
    /// Of the session, scaled to Wh by the model's unit.
    pub energy: WattHours,
    /// Of the session.
    pub minutes: Minutes,
}

/// A port is held from the moment a start or stop is sent until each sending is answered, and longer when
/// one stays unanswered (contract §5 *Held ports*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Last sending of a start or stop.
    pub sent: UpTime,
    /// Sendings without an answer.
    pub unanswered: u8,
    /// One stayed unanswered or its order was cancelled: idle has to be proven after the grace.
    pub lingers: bool,
    /// Weight of the idle evidence since then; 2 release the port.
    pub evidence: u8,
}

impl Hold {
    /// Nothing sent yet.
    pub const fn new(sent: UpTime) -> Self {
        Self { sent, unanswered: 0, lingers: false, evidence: 0 }
    }
}

/// Why a stop was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCause {
    /// A command.
    Command,
    /// Past the paid time or energy.
    Overrun,
    /// The start was given up, cancelled, or its ok came late.
    Start,
    /// A closed order that still charges.
    Closed,
    /// A session that belongs to no order.
    Stray,
}

/// Where a stop stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopPhase {
    /// Sent, no answer yet.
    Waiting,
    /// Answered ok; kept until the port is shown idle.
    Accepted,
    /// To be sent again: refused, not answered, or the device is away.
    Owed,
}

/// The one stop of a port that is under way or owed (contract §5 *Stop*).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The order that it is for.
    pub order_no: Option<OrderNo>,
    /// The session that it is for.
    pub number: Option<BusinessNo>,
    /// Why.
    pub cause: StopCause,
    /// Where it stands.
    pub phase: StopPhase,
    /// Of all sendings of this try.
    pub message_id: MessageId,
    /// Last sending; none when it could not be sent yet.
    pub sent: Option<UpTime>,
    /// Repetitions of this try.
    pub tries: u8,
    /// This try was already counted as one in vain.
    pub counted: bool,
    /// Tries after which a later status still showed the session.
    pub in_vain: u32,
    /// The commands that wait for its outcome.
    pub commands: Vec<String>,
}

/// A session that belongs to no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// The number that it shows.
    pub number: Option<BusinessNo>,
    /// First seen.
    pub since: UpTime,
    /// Told and stopped (or only told).
    pub told: bool,
}

impl Stray {
    /// First seen at `since`, and nobody's.
    pub(super) fn of_nobody(number: Option<BusinessNo>, since: UpTime) -> Self {
        Self { number, since, told: mutants::off(Mutant::UnknownSession) }
    }
}

/// A number that disagrees, or one without bit 4: no evidence until a question repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The number that was shown.
    pub number: Option<BusinessNo>,
    /// Bit 4 was set with it.
    pub charging: bool,
    /// When it was shown: only a younger question settles it.
    pub since: UpTime,
    /// It was the first that was ever seen of the port.
    #[serde(default)]
    pub first_sight: bool,
    /// A question has repeated it: there is nothing more to ask while it stays.
    #[serde(default)]
    pub settled: bool,
}

/// An end report as the decisions see it: scaled, no bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The number under which it came.
    pub number: Option<BusinessNo>,
    /// The status byte in it.
    pub raw_status: u8,
    /// Energy, scaled.
    pub energy: WattHours,
    /// Minutes.
    pub minutes: Minutes,
    /// Amount spent, where it has one.
    pub amount: Option<Cents>,
    /// Electricity fee, where it has one.
    pub electricity: Option<Cents>,
    /// Service fee, where it has one.
    pub service: Option<Cents>,
    /// Settlement power, where it has one.
    pub settlement_power: Option<DeciWatts>,
    /// Spent per tier, where it has them.
    pub tiers: Option<Vec<TierSpent>>,
    /// The device's end time as text.
    pub device_end_time: Option<String>,
    /// The raw reason, where it has one.
    pub raw_reason: Option<u8>,
    /// Six bytes as hex, where it has one.
    pub card_no: Option<String>,
}

/// A report under a number that was not seen before, while a start is pending: the start's fate decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptReport {
    /// What it says.
    pub report: Report,
    /// When it came.
    pub at: UpTime,
    /// The same on the wall clock.
    pub wall: WallTime,
    /// A question that came after it showed the open order of its number charging.
    #[serde(default, skip_serializing_if = "is_default")]
    pub asked: bool,
}

/// What the agent remembers of a port beside what others read: no column that the contract fixes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Held, and why.
    #[serde(skip_serializing_if = "is_default")]
    pub hold: Option<Hold>,
    /// The stop under way or owed.
    #[serde(skip_serializing_if = "is_default")]
    pub stop: Option<Stop>,
    /// Reports that wait for a start's fate.
    #[serde(skip_serializing_if = "is_default")]
    pub kept: Vec<KeptReport>,
    /// What has to be asked before it counts.
    #[serde(skip_serializing_if = "is_default")]
    pub doubt: Option<Doubt>,
    /// A session without an order.
    #[serde(skip_serializing_if = "is_default")]
    pub stray: Option<Stray>,
    /// Orders of it may have been lost with a damaged store: what it shows charging, when no order is open, is
    /// somebody's. Until a status has told.
    #[serde(skip_serializing_if = "is_default")]
    pub orders_lost: bool,
}

/// The record of a port: the columns of contract §4, and the agent's own beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Which.
    pub key: PortKey,
    /// Normalised.
    pub status: PortStatus,
    /// The byte of the last status; none before the first one ever.
    pub raw_status: Option<u8>,
    /// The number of the last status.
    pub business_no: Option<BusinessNo>,
    /// Of the last status.
    pub figures: Option<Figures>,
    /// When the last status came.
    pub updated_at: Option<WallTime>,
    /// The same in up-time.
    pub updated_up: Option<UpTime>,
    /// What the agent remembers; boxed, as most ports have nothing to remember.
    pub memory: Option<Box<Memory>>,
}

impl Port {
    /// A port of which nothing is known yet.
    pub const fn unseen(key: PortKey) -> Self {
        Self {
            key,
            status: PortStatus::Unclear,
            raw_status: None,
            business_no: None,
            figures: None,
            updated_at: None,
            updated_up: None,
            memory: None,
        }
    }
}
