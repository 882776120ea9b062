//! Whether the wall clock can be believed, and what devices are told when it cannot (contract §5 *Time*). Pure.

use std::time::Duration;

use crate::clock::{Now, UpTime, WallTime};
use crate::event::ClockQuality;

/// No time before this can be true: the program did not exist.
pub const BUILT: WallTime = WallTime(parse_seconds(env!("CHARGEGATE_BUILT")) * 1000);

const TWENTY_YEARS_MS: i64 = 20 * 366 * 86_400_000;
/// A clock may run back so far against what was believed before.
const BACKWARD_MS: i64 = 5 * 60_000;
/// A difference between the clocks that changes by more than this is a step.
const STEP_MS: i64 = 500;
/// After so long without a step a clock that ran back is believed again.
const SETTLED: Duration = Duration::from_secs(3600);

const fn parse_seconds(text: &str) -> i64 {
    let bytes = text.as_bytes();
    let (mut value, mut place) = (0i64, 0);
    while place < bytes.len() {
        value = value * 10 + (bytes[place] - b'0') as i64;
        place += 1;
    }
    value
}

/// What is known of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// The newest believed time, and the up-time at which it was read.
    newest: Option<(WallTime, UpTime)>,
    /// Wall clock less up-time, as last seen.
    offset: Option<i64>,
    last_step: UpTime,
    quality: ClockQuality,
}

impl Trust {
    /// `newest` is the newest believed time in the store and its up-time.
    pub fn new(newest: Option<(WallTime, UpTime)>, now: Now) -> Self {
        let mut trust = Self { newest, offset: None, last_step: now.up, quality: ClockQuality::Unset };
        trust.judge(now);
        trust
    }

    /// To be called each turn. Tells how far the clock stepped, if it did.
    pub fn judge(&mut self, now: Now) -> Option<i64> {
        let offset = now.wall.0.saturating_sub(i64::try_from(now.up.0).unwrap_or(i64::MAX));
        let step = self.offset.map(|before| offset.saturating_sub(before)).filter(|step| step.abs() > STEP_MS);
        if step.is_some() {
            self.last_step = now.up;
        }
        if step.is_some() || self.offset.is_none() {
            self.offset = Some(offset);
        }
        self.quality = self.quality_of(now);
        if self.quality != ClockQuality::Unset {
            self.newest = Some((now.wall, now.up));
        }
        step
    }

    fn quality_of(&self, now: Now) -> ClockQuality {
        if now.synchronized {
            return ClockQuality::Synced;
        }
        let possible = now.wall >= BUILT && now.wall.0 <= BUILT.0 + TWENTY_YEARS_MS;
        let ran_back = self.newest.is_some_and(|(newest, _)| now.wall.0 < newest.0 - BACKWARD_MS);
        let settled = now.up.since(self.last_step) >= SETTLED;
        if possible && (!ran_back || settled) { ClockQuality::Restored } else { ClockQuality::Unset }
    }

    /// How good the wall clock is.
    pub const fn quality(&self) -> ClockQuality {
        self.quality
    }

    /// Whether it can be believed.
    pub fn is_believed(&self) -> bool {
        self.quality != ClockQuality::Unset
    }

    /// The newest believed time and its up-time, to be stored.
    pub const fn newest(&self) -> Option<(WallTime, UpTime)> {
        self.newest
    }

    /// The time that devices are told: the wall clock's, or the newest that is known to be true, counting on.
    pub fn told(&self, now: Now) -> WallTime {
        if self.is_believed() {
            return now.wall;
        }
        let (newest, at) = self.newest.unwrap_or((BUILT, UpTime(0)));
        let since = if self.newest.is_some() { now.up.since(at) } else { Duration::ZERO };
        WallTime(newest.0 + i64::try_from(since.as_millis()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn at(up: u64, wall: i64) -> Now {
        Now { up: UpTime(up), wall: WallTime(wall), synchronized: false }
    }

    #[test]
    fn a_clock_from_before_the_build_is_not_believed_and_devices_are_told_the_newest_true_time() {
        let newest = WallTime(BUILT.0 + 1_000_000);
        let mut trust = Trust::new(Some((newest, UpTime(5_000))), at(10_000, 0));
        assert_eq!(trust.quality(), ClockQuality::Unset);
        assert_eq!(trust.told(at(12_000, 2_000)), WallTime(newest.0 + 7_000));
        assert!(trust.judge(at(20_000, BUILT.0 + 9_000_000)).is_some_and(|step| step > 0));
        assert_eq!(trust.quality(), ClockQuality::Restored);
    }

    #[test]
    fn a_clock_that_ran_back_is_believed_after_an_hour_without_a_step() {
        let newest = BUILT.0 + 100 * 86_400_000;
        let wall = BUILT.0 + 86_400_000;
        let mut trust = Trust::new(Some((WallTime(newest), UpTime(0))), at(0, wall));
        assert_eq!(trust.quality(), ClockQuality::Unset);
        trust.judge(at(HOUR - 1, wall + HOUR as i64 - 1));
        assert_eq!(trust.quality(), ClockQuality::Unset);
        trust.judge(at(HOUR, wall + HOUR as i64));
        assert_eq!(trust.quality(), ClockQuality::Restored);
    }

    #[test]
    fn the_marker_is_believed_against_everything_else() {
        let now = Now { synchronized: true, ..at(0, BUILT.0 - 86_400_000) };
        assert_eq!(Trust::new(Some((WallTime(i64::MAX / 2), UpTime(0))), now).quality(), ClockQuality::Synced);
    }

    #[test]
    fn a_clock_far_in_the_future_is_not_believed() {
        let now = at(0, BUILT.0 + 21 * 366 * 86_400_000);
        assert_eq!(Trust::new(None, now).quality(), ClockQuality::Unset);
    }
}
