//! One charging session of a simulated port: what was ordered, what flowed, and when it ends.

use crate::bkv::{
    CalendarTime, ChargeEnd, DeviceTime, EndFigures, EnergyUnits, Extras, FeeEnd, FeeTier, PowerTier, Sequence,
    StatusByte, TierUse, TiersEnd, Uplink,
};
use crate::ids::{BusinessNo, Cents, DeciWatts, MilliAmperes, Minutes, PortNo, SocketNo, WattHours};
use crate::sim::battery::{Battery, WATT_HOUR};

const MINUTE: u64 = 60_000;
/// A session whose battery draws less than this for a minute ends with no load.
const NO_LOAD: DeciWatts = DeciWatts(80);
/// Integration step, ms.
const STEP: u64 = 1000;
/// An end is seen so much later at the most, ms.
const LOOK: u64 = 5000;

/// What was ordered.
#[derive(Debug, Clone)]
pub(super) enum Ordered {
    Time(Minutes),
    Energy(WattHours),
    /// Cents for minutes, in the tier of the power drawn.
    Tiers(Cents, Vec<PowerTier>),
    /// Cents for energy and service, both per kWh here.
    Fee(Cents, Vec<FeeTier>),
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Reached,
    NoLoad,
    SwitchedOff,
}

#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) number: BusinessNo,
    pub(super) ordered: Ordered,
    battery: Battery,
    begun: u64,
    until: u64,
    /// Deciwatt-milliseconds.
    taken: u64,
    /// Cents × 10⁹, to lose nothing on the way.
    spent: u64,
    tier_time: [u64; 5],
    idle_since: Option<u64>,
}

impl Session {
    pub(super) const fn begin(number: BusinessNo, ordered: Ordered, battery: Battery, now: u64) -> Self {
        Self {
            number,
            ordered,
            battery,
            begun: now,
            until: now,
            taken: 0,
            spent: 0,
            tier_time: [0; 5],
            idle_since: None,
        }
    }

    pub(super) fn power(&self) -> DeciWatts {
        self.battery.power(self.taken)
    }

    pub(super) fn energy(&self) -> WattHours {
        WattHours(u32::try_from(self.taken / WATT_HOUR).unwrap_or(u32::MAX))
    }

    pub(super) fn minutes(&self) -> Minutes {
        Minutes(u32::try_from((self.until - self.begun) / MINUTE).unwrap_or(u32::MAX))
    }

    /// Its time and its figures begin anew.
    pub(super) fn begin_anew(&mut self, now: u64) {
        *self = Self::begin(self.number, self.ordered.clone(), self.battery.clone(), now);
    }

    pub(super) const fn begun(&self) -> u64 {
        self.begun
    }

    /// Lets time pass; tells when and why it ended, if it did.
    pub(super) fn advance(&mut self, now: u64) -> Option<Ended> {
        while self.until < now {
            let step = STEP.min(now - self.until).min(self.left());
            if step == 0 {
                return Some(Ended::Reached);
            }
            let power = self.power();
            self.until += step;
            self.taken += u64::from(power.0) * step;
            self.pay(power, step);
            if self.is_reached() {
                return Some(Ended::Reached);
            }
            if power < NO_LOAD {
                let since = *self.idle_since.get_or_insert(self.until);
                if self.until - since >= MINUTE {
                    return Some(Ended::NoLoad);
                }
            }
        }
        None
    }

    /// When to look whether it ended: when its minutes are over, or before long.
    pub(super) fn look_at(&self, now: u64) -> u64 {
        (now + LOOK).min(self.until.saturating_add(self.left())).max(now + 1)
    }

    /// Time until the ordered minutes are over.
    fn left(&self) -> u64 {
        match self.ordered {
            Ordered::Time(minutes) => (self.begun + u64::from(minutes.0) * MINUTE).saturating_sub(self.until),
            _ => u64::MAX,
        }
    }

    fn pay(&mut self, power: DeciWatts, step: u64) {
        match &self.ordered {
            Ordered::Tiers(_, tiers) => {
                let tier = tiers.iter().position(|tier| power <= tier.limit).unwrap_or(tiers.len().saturating_sub(1));
                let Some(terms) = tiers.get(tier) else { return };
                self.tier_time[tier.min(4)] += step;
                self.spent +=
                    u64::from(terms.price.0) * step * 1_000_000_000 / (u64::from(terms.minutes.0.max(1)) * MINUTE);
            }
            Ordered::Fee(_, tiers) => {
                let price = tiers.first().map_or(0, |tier| tier.electricity.0 + tier.service.0);
                self.spent += u64::from(power.0) * step * u64::from(price) / 36_000 * 1_000;
            }
            Ordered::Time(_) | Ordered::Energy(_) => {}
        }
    }

    fn is_reached(&self) -> bool {
        match &self.ordered {
            Ordered::Time(minutes) => self.until >= self.begun + u64::from(minutes.0) * MINUTE,
            Ordered::Energy(energy) => self.energy() >= *energy,
            Ordered::Tiers(amount, _) | Ordered::Fee(amount, _) => self.spent() >= *amount,
        }
    }

    fn spent(&self) -> Cents {
        Cents(u32::try_from(self.spent / 1_000_000_000).unwrap_or(u32::MAX))
    }

    /// The end report of its mode.
    pub(super) fn end_report(&self, socket: SocketNo, port: PortNo, ended: Ended, clock: CalendarTime) -> Uplink {
        let status = StatusByte(match ended {
            Ended::Reached => 0xb0,
            Ended::NoLoad => 0x98,
            Ended::SwitchedOff => 0x80,
        });
        let reason = if ended == Ended::NoLoad { 8 } else { 2 };
        let units = EnergyUnits(u16::try_from(self.energy().0).unwrap_or(u16::MAX));
        let figures = EndFigures {
            socket,
            firmware: 0x5036,
            temperature_c: 31,
            rssi: 28,
            port,
            status,
            business_no: Some(self.number),
            power: DeciWatts(0),
            current: MilliAmperes(0),
            energy_units: units,
            minutes: self.minutes(),
        };
        match &self.ordered {
            Ordered::Time(_) | Ordered::Energy(_) => Uplink::ChargeEnd(ChargeEnd { figures }),
            Ordered::Tiers(_, tiers) => Uplink::TiersEnd(TiersEnd {
                figures,
                end_time: DeviceTime::binary(clock),
                reason,
                amount: self.spent(),
                settlement_power: self.power(),
                tiers: u8::try_from(tiers.len()).unwrap_or(5),
                tier_minutes: self.tier_time.map(|time| Minutes(u32::try_from(time / MINUTE).unwrap_or(0))),
            }),
            Ordered::Fee(..) => {
                let spent = self.spent();
                let service = Cents(spent.0 / 4);
                Uplink::FeeEnd(FeeEnd {
                    sequence: Sequence::MessageId,
                    temperature_c: Some(31),
                    socket,
                    port,
                    status,
                    business_no: Some(self.number),
                    power: DeciWatts(0),
                    current: Some(MilliAmperes(0)),
                    energy_units: units,
                    minutes: self.minutes(),
                    end_time: Some(DeviceTime::bcd(clock)),
                    reason: Some(reason),
                    mode: Some(4),
                    electricity_fee: Some(Cents(spent.0 - service.0)),
                    service_fee: Some(service),
                    tiers: Some(1),
                    tier_items: vec![FeeEnd::tier_item(&[TierUse {
                        minutes: self.minutes(),
                        energy_units: Some(u32::from(units.0)),
                    }])],
                    extras: Extras::default(),
                })
            }
        }
    }
}
