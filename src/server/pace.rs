//! When to commit: early enough for those that wait, seldom enough that syncs do not stall the site.
//!
//! A commit comes when the oldest answer that waits for one is older than twice what the last commit took: so syncs
//! take at most a third of the loop's time on a slow disk. On a fast one commits keep a short distance, so that a busy
//! site shares them; one that comes alone is not put off. Times are real ones, counted from any fixed moment.

use std::time::Duration;

use crate::limits::{COMMIT_DISTANCE, COMMIT_WAIT};

/// When the next commit is due.
#[derive(Debug, Default)]
pub struct Pace {
    last: Duration,
    ended: Option<Duration>,
    waiting_since: Option<Duration>,
}

impl Pace {
    /// Notes at the end of a turn that began at `at` whether something waits for a commit.
    pub fn note(&mut self, wanted: bool, at: Duration) {
        if !wanted {
            self.waiting_since = None;
        } else if self.waiting_since.is_none() {
            self.waiting_since = Some(at);
        }
    }

    /// Time until the commit is due, zero when it is; `None` when nothing waits.
    pub fn until_due(&self, at: Duration) -> Option<Duration> {
        let since = self.waiting_since?;
        let distance = self.ended.map_or(Duration::ZERO, |ended| (ended + COMMIT_DISTANCE).saturating_sub(since));
        let wait = (self.last * 2).max(distance).min(COMMIT_WAIT);
        Some((since + wait).saturating_sub(at))
    }

    /// How long a poll may sleep for it, in whole milliseconds: polls round up, and what is due in less is not slept
    /// for.
    pub fn sleep(&self, at: Duration) -> Option<Duration> {
        let until = self.until_due(at)?;
        Some(Duration::from_millis(u64::try_from(until.as_millis()).unwrap_or(u64::MAX)))
    }

    /// A commit began and ended.
    pub fn committed(&mut self, began: Duration, ended: Duration) {
        *self = Self { last: ended.saturating_sub(began), ended: Some(ended), waiting_since: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn the_first_commit_comes_at_the_end_of_its_turn() {
        let mut pace = Pace::default();
        assert_eq!(pace.until_due(us(7)), None);
        pace.note(true, us(5));
        assert_eq!(pace.until_due(us(7)), Some(Duration::ZERO));
    }

    #[test]
    fn a_commit_waits_for_twice_the_last_one_from_the_oldest_answer_on() {
        let mut pace = Pace::default();
        pace.committed(us(90_000), us(95_000));
        pace.note(true, us(100_000));
        pace.note(true, us(104_000));
        assert_eq!(pace.until_due(us(104_000)), Some(us(6_000)));
        assert_eq!(pace.until_due(us(110_000)), Some(Duration::ZERO));
        pace.committed(us(110_000), us(112_000));
        assert_eq!(pace.until_due(us(112_000)), None);
        pace.note(true, us(112_000));
        assert_eq!(pace.until_due(us(112_000)), Some(us(4_000)));
    }

    #[test]
    fn quick_commits_keep_their_distance_and_one_that_comes_alone_does_not_wait_for_it() {
        let mut pace = Pace::default();
        pace.committed(us(1_000), us(1_100));
        pace.note(true, us(1_500));
        assert_eq!(pace.until_due(us(1_500)), Some(us(1_100) + COMMIT_DISTANCE - us(1_500)));
        pace.committed(us(4_100), us(4_200));
        pace.note(true, us(1_000_000));
        assert_eq!(pace.until_due(us(1_000_000)), Some(us(200)));
    }

    #[test]
    fn syncs_take_at_most_a_third_of_the_time_up_to_25_ms_each() {
        for took in [us(2_000), us(10_000), us(25_000)] {
            let mut pace = Pace::default();
            pace.committed(Duration::ZERO, took);
            pace.note(true, took);
            assert_eq!(pace.until_due(took), Some(took * 2));
        }
    }

    #[test]
    fn no_answer_waits_longer_than_the_bound() {
        let mut pace = Pace::default();
        pace.committed(Duration::ZERO, us(3_000_000));
        pace.note(true, us(3_000_000));
        assert_eq!(pace.until_due(us(3_000_000)), Some(COMMIT_WAIT));
    }

    #[test]
    fn a_poll_never_oversleeps_a_commit() {
        let mut pace = Pace::default();
        pace.committed(Duration::ZERO, us(2_700));
        pace.note(true, us(2_700));
        assert_eq!(pace.sleep(us(2_700)), Some(us(5_000)));
        assert_eq!(pace.sleep(us(7_700)), Some(Duration::ZERO));
    }

    #[test]
    fn what_no_longer_waits_is_forgotten() {
        let mut pace = Pace::default();
        pace.note(true, us(1));
        pace.note(false, us(2));
        assert_eq!(pace.until_due(us(3)), None);
    }
}
