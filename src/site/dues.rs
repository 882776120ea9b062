//! Everything that is due at some time: one entry a subject, the next one first.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::UpTime;
use crate::ids::{DeviceId, PortKey, SocketNo};

use super::cloud::CloudDue;

/// What can be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A port's own deadline, or the question that it wants to ask.
    Port(PortKey),
    /// The question to a socket has gone unanswered.
    Ask(DeviceId, SocketNo),
    /// A port that ignored its stops has obeyed: its alert clears.
    StopObeyed(PortKey),
    /// Order and port of it disagree for as long as the rules may take to repair that.
    Inconsistency(PortKey),
    /// Figures that only move go to the store.
    Flush,
    /// Up-time is noted while something counts on it.
    NoteUpTime,
    /// Devices that did not come back after a start of the agent are told to be offline.
    Unreturned,
    /// The oldest close without a report becomes final.
    Finalize,
    /// What is older than the retention is dropped.
    Retention,
    /// A full disk is tried again.
    FullRetry,
    /// The next events of a replay go into the outbox.
    Replay,
    /// Refusals that were counted meanwhile are told.
    Refusals,
    /// An alert whose condition is gone clears.
    AlertClear,
    /// Something of the cloud's end.
    Cloud(CloudDue),
}

/// A priority queue whose entries can be moved.
#[derive(Debug, Default)]
pub(super) struct Dues {
    by_time: BTreeSet<(UpTime, Due)>,
    times: BTreeMap<Due, UpTime>,
}

impl Dues {
    /// Sets, moves or removes an entry. Far deadlines are rounded up to whole seconds: those that move with every
    /// status seldom change then, and fall due together.
    pub(super) fn set(&mut self, due: Due, at: Option<UpTime>, now: UpTime) {
        let at = at.map(|at| round_up(at, now));
        let before = self.times.get(&due).copied();
        if at == before {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, due));
        }
        match at {
            Some(at) => {
                self.by_time.insert((at, due));
                self.times.insert(due, at);
            }
            None => {
                self.times.remove(&due);
            }
        }
    }

    pub(super) fn is_set(&self, due: Due) -> bool {
        self.times.contains_key(&due)
    }

    pub(super) fn next(&self) -> Option<UpTime> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the next entry that is due by now.
    pub(super) fn take(&mut self, now: UpTime) -> Option<Due> {
        let (at, due) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.by_time.remove(&(at, due));
        self.times.remove(&due);
        Some(due)
    }
}

fn round_up(at: UpTime, now: UpTime) -> UpTime {
    let grain = match at.0.saturating_sub(now.0) {
        60_000.. => 1000,
        2_000.. => 50,
        _ => 1,
    };
    UpTime(at.0.div_ceil(grain).saturating_mul(grain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_deadline_that_moves_a_little_stays_where_it_is() {
        let mut dues = Dues::default();
        dues.set(Due::Flush, Some(UpTime(100_001)), UpTime(0));
        assert_eq!(dues.next(), Some(UpTime(101_000)));
        dues.set(Due::Flush, Some(UpTime(100_900)), UpTime(900));
        assert_eq!(dues.next(), Some(UpTime(101_000)));
        assert_eq!(dues.take(UpTime(100_999)), None);
        assert_eq!(dues.take(UpTime(101_000)), Some(Due::Flush));
        assert_eq!(dues.next(), None);
    }

    #[test]
    fn a_near_deadline_is_kept_to_the_millisecond() {
        let mut dues = Dues::default();
        dues.set(Due::Flush, Some(UpTime(1_234)), UpTime(1_000));
        assert_eq!(dues.next(), Some(UpTime(1_234)));
        dues.set(Due::Flush, None, UpTime(1_000));
        assert!(!dues.is_set(Due::Flush));
    }
}
