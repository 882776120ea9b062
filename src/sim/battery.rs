//! What draws the power: a battery that takes less and less when it is nearly full.

use crate::ids::DeciWatts;
use crate::sim::random::Random;

/// 1 Wh in deciwatt-milliseconds.
pub const WATT_HOUR: u64 = 10 * 3_600_000;

/// A battery at a port, while a session lasts.
#[derive(Debug, Clone)]
pub struct Battery {
    /// Drawn while it is far from full.
    full_power: DeciWatts,
    /// Energy until it is full, deciwatt-milliseconds.
    capacity: u64,
    /// Drawn from a third on, where it rises.
    risen: Option<DeciWatts>,
}

impl Battery {
    /// Some battery: 60–300 W, `least`–`most` Wh until it is full.
    pub fn some(random: &mut Random, least: u64, most: u64) -> Self {
        let power = u32::try_from(random.within(600, 3000)).unwrap_or(600);
        Self { full_power: DeciWatts(power), capacity: random.within(least, most) * WATT_HOUR, risen: None }
    }

    /// Nothing is plugged in.
    pub const fn none() -> Self {
        Self { full_power: DeciWatts(0), capacity: 0, risen: None }
    }

    /// Draws 900 W once a third is taken.
    pub const fn rising(self) -> Self {
        Self { risen: Some(DeciWatts(9000)), ..self }
    }

    /// Drawn after so much energy: full power up to 85 %, then ever less; nothing once it is full.
    pub fn power(&self, taken: u64) -> DeciWatts {
        let knee = self.capacity / 100 * 85;
        if let Some(risen) = self.risen
            && taken >= self.capacity / 3
            && taken < knee
        {
            return risen;
        }
        if taken < knee {
            return self.full_power;
        }
        let left = self.capacity.saturating_sub(taken);
        let share = left * 100 / (self.capacity - knee).max(1);
        DeciWatts(u32::try_from(u64::from(self.full_power.0) * share / 100).unwrap_or(0))
    }
}
