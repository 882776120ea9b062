//! Events that are to be sent again: new rows of table `outbox` for what stands in `events` (contract §6 `replay`).

use std::ops::RangeInclusive;

use rusqlite::params;

use super::outbox::{event_topic, insert};
use super::{Store, StoreError, Stream, to_i64};
use crate::clock::WallTime;

/// The first and the last event that is kept of a range.
pub(super) const KEPT: &str = "SELECT (SELECT min(seq) FROM events WHERE stream = ?1 AND seq >= ?2),
                           (SELECT max(seq) FROM events WHERE stream = ?1 AND seq <= ?3)";
const WAITING: &str = "SELECT seq FROM outbox WHERE stream = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY id";
const AMONG: &str = "SELECT seq FROM events WHERE stream = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq";

impl Store {
    /// The first and last of these events that are kept; `None` when none is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn kept_events(
        &self,
        stream: Stream,
        seqs: RangeInclusive<u64>,
    ) -> Result<Option<RangeInclusive<u64>>, StoreError> {
        let (from, to) = (to_i64(*seqs.start()), to_i64(*seqs.end()));
        let (first, last): (Option<i64>, Option<i64>) = self.read("read events", |db| {
            db.prepare_cached(KEPT)?.query_row(params![stream, from, to], |row| Ok((row.get(0)?, row.get(1)?)))
        })?;
        Ok(first
            .zip(last)
            .filter(|(first, last)| first <= last)
            .map(|(first, last)| first.unsigned_abs()..=last.unsigned_abs()))
    }

    /// Which of these events do not wait in the outbox, as ranges, the last one first. Goes through the whole table.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn not_in_outbox(
        &self,
        stream: Stream,
        seqs: RangeInclusive<u64>,
    ) -> Result<Vec<RangeInclusive<u64>>, StoreError> {
        let mut waiting: Vec<RangeInclusive<u64>> = Vec::new();
        self.read("read the outbox", |db| {
            let mut statement = db.prepare_cached(WAITING)?;
            let mut rows = statement.query(params![stream, to_i64(*seqs.start()), to_i64(*seqs.end())])?;
            while let Some(row) = rows.next()? {
                let seq = row.get::<_, i64>(0)?.unsigned_abs();
                // They wait in their order, so that there are few ranges however many wait.
                match waiting.last_mut().filter(|run| run.end() + 1 == seq) {
                    Some(run) => *run = *run.start()..=seq,
                    None => waiting.push(seq..=seq),
                }
            }
            Ok(())
        })?;
        Ok(between(seqs, waiting))
    }

    /// Puts these events into the outbox again, behind what waits there; how many they are. What is not kept of them is
    /// left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn enqueue_again(
        &mut self,
        stream: Stream,
        seqs: RangeInclusive<u64>,
        at: WallTime,
    ) -> Result<usize, StoreError> {
        self.write("write the outbox", |db| {
            let range = params![stream, to_i64(*seqs.start()), to_i64(*seqs.end())];
            let kept: Vec<i64> =
                db.prepare_cached(AMONG)?.query_map(range, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            let topic = event_topic(stream);
            for seq in &kept {
                insert(db, at, &topic, Some((stream, seq.unsigned_abs())), None)?;
            }
            Ok(kept.len())
        })
    }
}

/// What is left of `all` without the ranges in it, the last one first.
fn between(all: RangeInclusive<u64>, mut taken: Vec<RangeInclusive<u64>>) -> Vec<RangeInclusive<u64>> {
    taken.sort_by_key(|range| *range.start());
    let (mut from, to) = all.into_inner();
    let mut left = Vec::new();
    for range in taken {
        if from < *range.start() {
            left.push(from..=range.start() - 1);
        }
        from = from.max(range.end() + 1);
    }
    if from <= to {
        left.push(from..=to);
    }
    left.reverse();
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UpTime;
    use crate::store::{ClockQuality, NewEvent, Settings};

    #[test]
    fn each_row_has_the_sum_that_a_reader_makes_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("store.db"), &Settings::default(), WallTime(0)).unwrap();
        let (stream, kind, at, up) = (Stream::Abnormal, "abnormal.reported", WallTime(1), UpTime(2));
        let (clock, data) = (ClockQuality::Synced, serde_json::json!({}));
        let event = NewEvent { stream, kind, device: None, order_no: None, at, up, clock, data: &data };
        for seq in 1..=3 {
            assert_eq!(store.add_event(&event).unwrap(), seq);
        }
        assert_eq!(store.enqueue_again(stream, 2..=9, WallTime(7)).unwrap(), 2);
        assert_eq!(store.not_in_outbox(stream, 1..=3).unwrap(), [1..=1]);
        let sql = "SELECT id, created_at, crc, topic, stream, seq, payload FROM outbox ORDER BY id";
        let mut statement = store.db.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            let is_right = crate::store::outbox::row(row)?.intact;
            Ok((row.get(0)?, row.get(1)?, row.get(3)?, row.get(5)?, is_right))
        });
        let rows: Vec<(i64, i64, String, i64, bool)> = rows.unwrap().map(Result::unwrap).collect();
        let topic = || "event/abnormal".to_owned();
        assert_eq!(rows, [(1, 7, topic(), 2, true), (2, 7, topic(), 3, true)]);
    }

    #[test]
    fn what_waits_is_left_out_wherever_it_stands() {
        for (taken, left) in [
            (vec![], vec![1..=9]),
            (vec![1..=9], vec![]),
            (vec![1..=3], vec![4..=9]),
            (vec![8..=9], vec![1..=7]),
            (vec![4..=5, 2..=2, 5..=7, 4..=4], vec![8..=9, 3..=3, 1..=1]),
        ] {
            assert_eq!(between(1..=9, taken.clone()), left, "{taken:?}");
        }
    }
}
