//! What is kept no longer.
//!
//! Ages are judged by up-time alone. It never runs ahead of real time, so what is old by it is old; a wall clock may
//! have stood in 1970 or 2050 when a row was written, or stand there now. Time that the agent was down does not
//! count, so a row may stay longer than it had to, never shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rusqlite::{Connection, params};

use super::{Store, StoreError, Stream, to_i64};
use crate::clock::UpTime;
use crate::ids::OrderNo;

/// Rows dropped at a time: a turn stays short.
const CHUNK: usize = 500;
/// How long a repeated command gets its first reply (contract §6).
const COMMANDS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long ids of messages to devices are not used again (contract §5).
const SENDINGS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Orders, or alerts, wait whole when more of them than this are still to be told.
const UNTOLD_MAX: usize = 10_000;

/// What a call dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Rows, of all tables.
    pub rows: usize,
    /// Call again soon: there may be more.
    pub more: bool,
}

impl Store {
    /// Drops closed final orders, events, cleared alerts and ended inconsistencies that are older than the retention, commands with a reply
    /// that are older than 7 days, and sendings that are older than a day; of each at most 500 rows a call. What the
    /// cloud has not confirmed stays, and so do the newest order and the newest event of each stream, from which the
    /// next ones are numbered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn drop_old(&mut self, now: UpTime) -> Result<Dropped, StoreError> {
        let before = |age: Duration| now.0.checked_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)).map(UpTime);
        let kept = before(self.settings.retention);
        let (commands, sendings) = (before(COMMANDS_KEPT), before(SENDINGS_KEPT));
        let sweeps = [
            ("drop orders", kept, orders as Find, "DELETE FROM orders WHERE serial = ?1"),
            ("drop events", kept, events, "DELETE FROM events WHERE rowid = ?1"),
            ("drop alerts", kept, alerts, "DELETE FROM alerts WHERE alert_id = ?1"),
            ("drop inconsistencies", kept, inconsistencies, "DELETE FROM inconsistencies WHERE rowid = ?1"),
            ("drop commands", commands, commands_with_reply, "DELETE FROM commands WHERE rowid = ?1"),
            ("drop sendings", sendings, all_sendings, "DELETE FROM sendings WHERE message_id = ?1"),
        ];
        let mut dropped = Dropped::default();
        for (what, before, find, delete) in sweeps {
            // Not up for so long yet.
            let Some(before) = before else { continue };
            let old = self.read(what, |db| find(db, before))?;
            if old.is_empty() {
                continue;
            }
            self.write(what, |db| {
                let mut delete = db.prepare_cached(delete)?;
                old.iter().try_for_each(|id| delete.execute([id]).map(drop))
            })?;
            dropped.rows += old.len();
            dropped.more |= old.len() >= CHUNK;
        }
        Ok(dropped)
    }
}

/// The keys of the oldest rows of a table that may go, at most [`CHUNK`].
type Find = fn(&Connection, UpTime) -> rusqlite::Result<Vec<i64>>;

fn orders(db: &Connection, before: UpTime) -> rusqlite::Result<Vec<i64>> {
    let Some(untold) = untold_orders(db)? else { return Ok(Vec::new()) };
    let sql = "SELECT serial, order_no, created_up,
                      ifnull(closed_up, created_up) < ?1 AND final = 1 AND status NOT IN (0, 2, 9)
                 FROM orders WHERE serial < (SELECT max(serial) FROM orders) ORDER BY serial";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([before])?;
    let mut old = Vec::new();
    while old.len() < CHUNK {
        let Some(row) = rows.next()? else { break };
        // None was closed before it began, and later ones began later.
        if row.get::<_, UpTime>(2)? >= before {
            break;
        }
        if row.get(3)? && !untold.contains(&row.get::<_, OrderNo>(1)?) {
            old.push(row.get(0)?);
        }
    }
    Ok(old)
}

/// The orders with an event that waits for the cloud; `None` when they are too many to tell apart.
fn untold_orders(db: &Connection) -> rusqlite::Result<Option<BTreeSet<OrderNo>>> {
    let sql = "SELECT DISTINCT e.order_no FROM outbox o JOIN events e ON e.stream = o.stream AND e.seq = o.seq
                WHERE e.order_no IS NOT NULL LIMIT ?1";
    let untold: BTreeSet<OrderNo> = db
        .prepare_cached(sql)?
        .query_map([to_i64(UNTOLD_MAX as u64 + 1)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok((untold.len() <= UNTOLD_MAX).then_some(untold))
}

fn events(db: &Connection, before: UpTime) -> rusqlite::Result<Vec<i64>> {
    // Events are told in their order, so what waits begins at one number of each stream.
    let sql = "SELECT stream, min(seq) FROM outbox WHERE stream IS NOT NULL GROUP BY stream";
    let mut first_kept: BTreeMap<String, i64> = db
        .prepare_cached(sql)?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for stream in Stream::ALL {
        let sql = "SELECT max(seq) FROM events WHERE stream = ?1";
        let newest: Option<i64> = db.prepare_cached(sql)?.query_row([stream], |row| row.get(0))?;
        let first = first_kept.entry(stream.word().to_owned()).or_insert(i64::MAX);
        *first = (*first).min(newest.unwrap_or(i64::MAX));
    }
    let sql = "SELECT rowid, created_up, stream, seq FROM events ORDER BY rowid";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut old = Vec::new();
    while old.len() < CHUNK {
        let Some(row) = rows.next()? else { break };
        if row.get::<_, UpTime>(1)? >= before {
            break;
        }
        let stream: String = row.get(2)?;
        if first_kept.get(&stream).is_none_or(|first| row.get::<_, i64>(3).is_ok_and(|seq| seq < *first)) {
            old.push(row.get(0)?);
        }
    }
    Ok(old)
}

fn alerts(db: &Connection, before: UpTime) -> rusqlite::Result<Vec<i64>> {
    let Some(untold) = untold_alerts(db)? else { return Ok(Vec::new()) };
    let sql = "SELECT alert_id FROM alerts WHERE cleared_up < ?1 ORDER BY alert_id";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([before])?;
    let mut old = Vec::new();
    while old.len() < CHUNK {
        let Some(row) = rows.next()? else { break };
        let id: i64 = row.get(0)?;
        if !untold.contains(&id) {
            old.push(id);
        }
    }
    Ok(old)
}

/// The alerts with an event that waits for the cloud; `None` when they are too many to tell apart.
fn untold_alerts(db: &Connection) -> rusqlite::Result<Option<BTreeSet<i64>>> {
    let sql = "SELECT DISTINCT CAST(json_extract(e.data, '$.alert_id') AS INTEGER)
                 FROM outbox o JOIN events e ON e.stream = o.stream AND e.seq = o.seq
                WHERE o.stream = 'alert' AND json_valid(e.data) LIMIT ?1";
    let untold: BTreeSet<Option<i64>> = db
        .prepare_cached(sql)?
        .query_map([to_i64(UNTOLD_MAX as u64 + 1)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok((untold.len() <= UNTOLD_MAX).then(|| untold.into_iter().flatten().collect()))
}

fn inconsistencies(db: &Connection, before: UpTime) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT rowid FROM inconsistencies WHERE ended_up < ?1 ORDER BY rowid LIMIT ?2";
    db.prepare_cached(sql)?.query_map(params![before, to_i64(CHUNK as u64)], |row| row.get(0))?.collect()
}

fn commands_with_reply(db: &Connection, before: UpTime) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT rowid, created_up, reply IS NOT NULL FROM commands ORDER BY rowid";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut old = Vec::new();
    while old.len() < CHUNK {
        let Some(row) = rows.next()? else { break };
        if row.get::<_, UpTime>(1)? >= before {
            break;
        }
        if row.get(2)? {
            old.push(row.get(0)?);
        }
    }
    Ok(old)
}

fn all_sendings(db: &Connection, before: UpTime) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT message_id FROM sendings WHERE sent_up < ?1 LIMIT ?2";
    db.prepare_cached(sql)?.query_map(params![before, to_i64(CHUNK as u64)], |row| row.get(0))?.collect()
}
