//! The record of an order and the words in it (contract §4). Decides nothing: `port` does.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{UpTime, WallTime};
use crate::ids::{BusinessNo, Cents, DeciWatts, MessageId, Minutes, OrderNo, PortKey, WattHours};

/// Declares an enum whose variants are words in tables and topics; one table serves both directions.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        #[allow(dead_code, reason = "a closed set of words has all three, whether or not this one needs them")]
        impl $name {
            /// Every value, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in tables and topics.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value of a word, `None` for any other.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Who wanted the order.
    Source {
        /// A command over MQTT.
        Cloud = "cloud",
        /// A command over the control socket.
        Site = "site",
        /// A card swiped at the device.
        Card = "card",
        /// A session that ran before this store knew the port.
        Adopted = "adopted",
    }
}

words! {
    /// What ended an order (contract §4).
    EndReason {
        /// The ordered minutes are over.
        TimeReached = "time_reached",
        /// The ordered energy was delivered.
        EnergyReached = "energy_reached",
        /// The amount is used up.
        AmountReached = "amount_reached",
        /// The battery is full.
        Full = "full",
        /// Nothing draws power.
        NoLoad = "no_load",
        /// The customer stopped at the device.
        UserStop = "user_stop",
        /// A stop command.
        RemoteStop = "remote_stop",
        /// Fault bit 1.
        OverCurrent = "over_current",
        /// Fault bit 2.
        OverTemperature = "over_temperature",
        /// Fault bit 0.
        OverPower = "over_power",
        /// Fault bit 6.
        MeteringFault = "metering_fault",
        /// No news of the port for too long.
        Timeout = "timeout",
        /// The device or the socket was away for too long.
        Offline = "offline",
        /// Ran past what was paid.
        Overrun = "overrun",
        /// The port is idle and no report came.
        EndReportMissing = "end_report_missing",
        /// The device refused the start.
        StartRefused = "start_refused",
        /// The device did not answer the start.
        StartTimeout = "start_timeout",
        /// Stopped before it charged.
        Cancelled = "cancelled",
        /// The device gave no reason that is known.
        Unknown = "unknown",
    }
}

words! {
    /// On what evidence an order was closed (contract §4).
    Settlement {
        /// The device's own end report.
        Reported = "reported",
        /// The evidence of the device that it ended.
        Estimated = "estimated",
        /// A time limit only; the port may still be charging.
        Provisional = "provisional",
        /// An end report came after the close.
        Corrected = "corrected",
    }
}

words! {
    /// Why an order has no end report (contract §5).
    Verdict {
        /// No such frame came.
        NeverReceived = "never_received",
        /// One came and could not be read.
        ReceivedMalformed = "received_malformed",
        /// One came that belonged to nobody.
        ReceivedUnmatched = "received_unmatched",
        /// The journal no longer reaches back.
        Unknown = "unknown",
    }
}

words! {
    /// What a person should look at before money moves.
    Flag {
        /// Energy that cannot be, or is far from what the statuses showed.
        ImplausibleEnergy = "implausible_energy",
        /// Minutes that cannot be.
        ImplausibleMinutes = "implausible_minutes",
        /// Times are from a clock that could not be believed.
        ClockUnset = "clock_unset",
        /// The device used a business number that an earlier order has.
        ReusedNumber = "reused_number",
        /// The end report could not be read whole.
        UnreadableReport = "unreadable_report",
        /// An open order of the device has the same number.
        DuplicateNumber = "duplicate_number",
    }
}

/// Status of an order, as the store has it (contract §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderStatus {
    /// 0: the start is sent.
    Pending,
    /// 2.
    Charging,
    /// 9: a stop was accepted.
    Stopping,
    /// 5: before it charged.
    Cancelled,
    /// 6: to start.
    Failed,
    /// 7.
    Completed,
}

impl OrderStatus {
    /// The number in the store.
    pub const fn code(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Charging => 2,
            Self::Stopping => 9,
            Self::Cancelled => 5,
            Self::Failed => 6,
            Self::Completed => 7,
        }
    }

    /// The status of a number in the store.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Pending,
            2 => Self::Charging,
            9 => Self::Stopping,
            5 => Self::Cancelled,
            6 => Self::Failed,
            7 => Self::Completed,
            _ => return None,
        })
    }

    /// The word in events and replies (contract §6).
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Charging => "charging",
            Self::Stopping => "stopping",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Completed => "completed",
        }
    }

    /// Whether the order still occupies its port.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Charging | Self::Stopping)
    }

    /// Whether the start was accepted and the end has not come.
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Charging | Self::Stopping)
    }
}

/// One power tier of a start by tiers (protocol §6 `17`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerTier {
    /// Upper limit of the tier, W, in steps of 0.1.
    pub power_w: f64,
    /// Price of `minutes`, cents.
    pub price_cents: u16,
    /// Minutes that the price buys.
    pub minutes: u16,
}

impl PowerTier {
    /// The limit on the wire.
    pub fn limit(self) -> DeciWatts {
        // Validated to 0–6553.5 when the command was read.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "validated on entry")]
        DeciWatts((self.power_w * 10.0).round() as u32)
    }
}

/// What the service fee goes by (protocol §7 `80`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceFeeBy {
    /// Per time.
    Time,
    /// Per energy.
    Energy,
}

/// One tariff period of a start by fee (protocol §7 `83`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeeTier {
    /// Last minute of the period, `"hh:mm"`; the last one is 23:59.
    pub until: String,
    /// Electricity price, cents.
    pub electricity_cents: u16,
    /// Service price, cents.
    pub service_cents: u16,
}

/// What was ordered and paid (contract §4 `plan`, §6 `start_charge`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Plan {
    /// So many minutes, 1–900.
    Time {
        /// Ordered.
        minutes: u16,
    },
    /// So much energy, 1–65535 Wh.
    Energy {
        /// Ordered.
        energy_wh: u16,
    },
    /// An amount, by power tiers.
    Tiers {
        /// Paid, 1–65535 cents.
        amount_cents: u16,
        /// 1–5, limits rising.
        tiers: Vec<PowerTier>,
    },
    /// An amount, by electricity and service fee.
    Fee {
        /// Paid, 1–65535 cents.
        amount_cents: u16,
        /// Per time or per energy.
        service_fee_by: ServiceFeeBy,
        /// 1–5 periods of the day, rising to 23:59.
        tiers: Vec<FeeTier>,
    },
}

impl Plan {
    /// The word of column `mode`.
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::Time { .. } => "time",
            Self::Energy { .. } => "energy",
            Self::Tiers { .. } => "tiers",
            Self::Fee { .. } => "fee",
        }
    }

    /// Ordered minutes, in mode time only.
    pub fn ordered_minutes(&self) -> Option<Minutes> {
        match self {
            Self::Time { minutes } => Some(Minutes(u32::from(*minutes))),
            _ => None,
        }
    }

    /// Ordered energy, in mode energy only.
    pub fn ordered_energy(&self) -> Option<WattHours> {
        match self {
            Self::Energy { energy_wh } => Some(WattHours(u32::from(*energy_wh))),
            _ => None,
        }
    }

    /// Paid amount, in the modes that have one.
    pub fn amount(&self) -> Option<Cents> {
        match self {
            Self::Tiers { amount_cents, .. } | Self::Fee { amount_cents, .. } => Some(Cents(u32::from(*amount_cents))),
            _ => None,
        }
    }

    /// Paid time (contract §5): by time its minutes; by tiers the longest that the amount buys in any tier;
    /// `None` where `orders.longest` holds.
    pub fn paid_minutes(&self) -> Option<Minutes> {
        match self {
            Self::Time { minutes } => Some(Minutes(u32::from(*minutes))),
            Self::Tiers { amount_cents, tiers } => tiers
                .iter()
                .map(|tier| {
                    let bought = u32::from(*amount_cents) * u32::from(tier.minutes);
                    // A free tier buys time without end: no answer from the plan.
                    (tier.price_cents > 0).then(|| bought.div_ceil(u32::from(tier.price_cents)))
                })
                .collect::<Option<Vec<_>>>()
                .and_then(|bought| bought.into_iter().max())
                .map(Minutes),
            Self::Energy { .. } | Self::Fee { .. } => None,
        }
    }
}

/// Time and energy spent in one tier, as the end report tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierSpent {
    /// Minutes in the tier.
    pub minutes: Minutes,
    /// Energy in the tier, where the report has it.
    pub energy_wh: Option<WattHours>,
}

/// How the start of an order went. Kept with the order: an answer may come after reconnects and restarts. What
/// every start has, the store keeps in columns of its own, which are narrower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StartCourse {
    /// Of all sendings of this start.
    #[serde(skip)]
    pub message_id: MessageId,
    /// First sending.
    #[serde(skip)]
    pub first_sent: UpTime,
    /// Last sending.
    #[serde(skip)]
    pub last_sent: UpTime,
    /// How often it was sent.
    #[serde(skip)]
    pub sendings: u8,
    /// Repetitions, and questions without a reply.
    #[serde(skip_serializing_if = "is_default")]
    pub tries: u8,
    /// Since when the socket is asked before the next repetition; none while an answer is awaited.
    #[serde(skip_serializing_if = "is_default")]
    pub asking: Option<UpTime>,
    /// A refusal came that decides nothing: idle when asked means refused.
    #[serde(skip_serializing_if = "is_default")]
    pub refusal: bool,
    /// The agent was restarted while it was pending: it is not sent again.
    #[serde(skip_serializing_if = "is_default")]
    pub restarted: bool,
    /// When the start was accepted.
    #[serde(skip)]
    pub accepted: Option<UpTime>,
    /// Not repeated after this moment.
    #[serde(skip)]
    pub expires_at: Option<WallTime>,
    /// Nor after this one: the message that asked for it held no longer.
    #[serde(skip_serializing_if = "is_default")]
    pub expires_up: Option<UpTime>,
}

/// What the agent remembers of an order beside what others read: no column that the contract fixes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Course {
    /// The start; none when adopted.
    #[serde(skip_serializing_if = "is_default")]
    pub start: Option<StartCourse>,
    /// Numbers under which a device ran this order before it had its present one.
    #[serde(skip_serializing_if = "is_default")]
    pub numbers: Vec<BusinessNo>,
    /// The `start_charge` that waits for the order's fate.
    #[serde(skip_serializing_if = "is_default")]
    pub command_id: Option<String>,
    /// When a stop was accepted by the device.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_accepted: Option<UpTime>,
    /// A stop by command was accepted or not answered.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_by_command: bool,
    /// A stop of the agent's own was accepted or not answered.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_by_agent: bool,
    /// The agent's own stop, past the paid time, was sent or is owed.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_by_overrun: bool,
    /// First evidence that the port is idle, while no end report has come.
    #[serde(skip_serializing_if = "is_default")]
    pub idle_since: Option<UpTime>,
    /// That evidence on the wall clock.
    #[serde(skip_serializing_if = "is_default")]
    pub idle_wall: Option<WallTime>,
    /// The socket was asked in this grace, with or without a reply.
    #[serde(skip_serializing_if = "is_default")]
    pub grace_asked: bool,
    /// When the order was closed. The store has a column for it.
    #[serde(skip)]
    pub closed: Option<UpTime>,
    /// Since the close something spoke for an end: it does not resume.
    #[serde(skip_serializing_if = "is_default")]
    pub end_shown: bool,
    /// Closed provisionally and then shown idle, since when: a grace later it is an estimate.
    #[serde(skip_serializing_if = "is_default")]
    pub waits_since: Option<UpTime>,
    /// How often it came back after `timeout`: each doubles the silence that closes it.
    #[serde(skip_serializing_if = "is_default")]
    pub resumed_after_timeout: u8,
    /// Amount in the report, cents, to tell a duplicate.
    #[serde(skip_serializing_if = "is_default")]
    pub reported: Option<ReportedFigures>,
}

/// What says nothing takes no room in the store.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What makes two end reports the same one (contract §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedFigures {
    /// The number under which it came.
    pub number: Option<BusinessNo>,
    /// Energy.
    pub energy_wh: WattHours,
    /// Minutes.
    pub minutes: Minutes,
    /// Amount, where it has one.
    pub amount: Option<Cents>,
}

/// The record of an order: the columns of contract §4, and the agent's own beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Rises with each order that the store takes in; 0 before the first write.
    pub serial: i64,
    /// Unique for ever.
    pub order_no: OrderNo,
    /// Where it runs.
    pub port: PortKey,
    /// The device's number for it.
    pub business_no: Option<BusinessNo>,
    /// Who wanted it.
    pub source: Source,
    /// What was ordered; none when adopted.
    pub plan: Option<Plan>,
    /// Where it stands.
    pub status: OrderStatus,
    /// When the record was made.
    pub created_at: WallTime,
    /// The same in up-time.
    pub created_up: UpTime,
    /// When the device accepted.
    pub start_time: Option<WallTime>,
    /// First evidence of the end.
    pub end_time: Option<WallTime>,
    /// What ended it.
    pub end_reason: Option<EndReason>,
    /// On what evidence.
    pub settlement: Option<Settlement>,
    /// Nothing more is expected.
    pub is_final: bool,
    /// 0 while open, 1 at the first close, rises with every event after it.
    pub revision: u32,
    /// Why no report came.
    pub verdict: Option<Verdict>,
    /// The device's figure.
    pub energy_wh: Option<WattHours>,
    /// The most that may be charged for.
    pub energy_max_wh: Option<WattHours>,
    /// The device's figure.
    pub minutes: Option<Minutes>,
    /// The most that may be charged for.
    pub minutes_max: Option<Minutes>,
    /// The device's figure.
    pub spent_cents: Option<Cents>,
    /// The device's figure.
    pub electricity_cents: Option<Cents>,
    /// The device's figure.
    pub service_cents: Option<Cents>,
    /// The device's figure.
    pub settlement_power: Option<DeciWatts>,
    /// Time and energy per tier.
    pub tiers: Option<Vec<TierSpent>>,
    /// The highest power that a status showed.
    pub peak_power: Option<DeciWatts>,
    /// End reason as the device sent it.
    pub raw_reason: Option<u8>,
    /// Status byte of the end report.
    pub raw_status: Option<u8>,
    /// The device's own end time, as text; never used for anything.
    pub device_end_time: Option<String>,
    /// Who started it.
    pub started_by: Option<String>,
    /// Who stopped it.
    pub stopped_by: Option<String>,
    /// Six bytes as hex.
    pub card_no: Option<String>,
    /// What a person should look at.
    pub flags: BTreeSet<Flag>,
    /// Up-time of the last good figures.
    pub figures_up: Option<UpTime>,
    /// Statuses with load, and the sum of their power: what the report's energy is held against.
    pub loads: u32,
    /// Sum of the power of those statuses.
    pub load_power: DeciWatts,
    /// How it went.
    pub course: Course,
}

impl Order {
    /// A new order of `port`, pending, nothing known.
    pub fn new(order_no: OrderNo, port: PortKey, source: Source, at: (WallTime, UpTime)) -> Self {
        Self {
            serial: 0,
            order_no,
            port,
            business_no: None,
            source,
            plan: None,
            status: OrderStatus::Pending,
            created_at: at.0,
            created_up: at.1,
            start_time: None,
            end_time: None,
            end_reason: None,
            settlement: None,
            is_final: false,
            revision: 1,
            verdict: None,
            energy_wh: None,
            energy_max_wh: None,
            minutes: None,
            minutes_max: None,
            spent_cents: None,
            electricity_cents: None,
            service_cents: None,
            settlement_power: None,
            tiers: None,
            peak_power: None,
            raw_reason: None,
            raw_status: None,
            device_end_time: None,
            started_by: None,
            stopped_by: None,
            card_no: None,
            flags: BTreeSet::new(),
            figures_up: None,
            loads: 0,
            load_power: DeciWatts(0),
            course: Course::default(),
        }
    }

    /// Takes what only moves from a newer copy of the same order.
    pub fn take_figures_of(&mut self, newer: &Self) {
        self.energy_wh = newer.energy_wh;
        self.minutes = newer.minutes;
        self.peak_power = newer.peak_power;
        self.figures_up = newer.figures_up;
        self.loads = newer.loads;
        self.load_power = newer.load_power;
    }

    /// Whether the device accepted the start (or the session was adopted).
    pub fn was_accepted(&self) -> bool {
        self.start_time.is_some()
    }

    /// What was told of it changes: that counts from the first close on, which is 1 like all before it.
    pub const fn revise(&mut self) {
        if self.course.closed.is_some() || self.revision > 1 {
            self.revision += 1;
        }
    }

    /// What can never be: no decision leaves an order so, and one that was read so is damaged.
    pub fn contradiction(&self) -> Option<&'static str> {
        if self.status.is_open() {
            (self.end_time.is_some() || self.is_final).then_some("open and ended")
        } else if self.settlement.is_none() {
            Some("closed without a settlement")
        } else if self.energy_wh > self.energy_max_wh {
            Some("energy above its bound")
        } else if self.minutes > self.minutes_max {
            Some("minutes above their bound")
        } else {
            None
        }
    }

    /// Whether a device was seen to use `number` for this order.
    pub fn has_number(&self, number: BusinessNo) -> bool {
        self.business_no == Some(number) || self.course.numbers.contains(&number)
    }

    /// Paid time: the plan's, else `longest` (contract §5).
    pub fn paid_minutes(&self, longest: Duration) -> Minutes {
        let longest = Minutes(u32::try_from(longest.as_secs().div_ceil(60)).unwrap_or(u32::MAX));
        self.plan.as_ref().and_then(Plan::paid_minutes).unwrap_or(longest)
    }
}
