//! Table `inconsistencies`, and `state_consistency_rate` (contract §7), which is measured from it and from the time
//! since which each port is known.
//!
//! Time is up-time: what the agent can answer for. Ports know no other time while it is down, and a wall clock may
//! jump by decades. The file alone is enough, with or without a running agent.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::open::newest_up;
use super::row::{Columns, word_columns};
use super::{Meta, Store, StoreError, open, to_i64};
use crate::clock::{UpTime, WallTime};
use crate::ids::PortKey;
use crate::port::{Issue, IssueType};

word_columns!(IssueType);

/// A disagreement of order and port that outlasted its grace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inconsistency {
    /// Where.
    pub port: PortKey,
    /// Which.
    pub issue: Issue,
    /// When it began.
    pub began: (WallTime, UpTime),
    /// When its grace was over: from here on it counts.
    pub late: UpTime,
    /// When it ended; none while it lasts.
    pub ended: Option<(WallTime, UpTime)>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT device_id, socket_no, port_no, issue_type, order_no, began_at, began_up, late_up, ended_at, ended_up
               FROM inconsistencies ",
            $rest
        )
    };
}

pub(super) const ALL: &str = select!("");

impl Store {
    /// Writes an inconsistency, new or ended since. The same once more changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_inconsistency(&mut self, row: &Inconsistency) -> Result<(), StoreError> {
        let sql = "INSERT INTO inconsistencies (device_id, socket_no, port_no, issue_type, order_no, began_at, began_up,
                                                late_up, ended_at, ended_up)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                   ON CONFLICT (device_id, socket_no, port_no, began_up) DO UPDATE SET (ended_at, ended_up) = (?9, ?10)";
        self.write("write an inconsistency", |db| {
            db.prepare_cached(sql)?.execute(params![
                row.port.device,
                row.port.socket,
                row.port.port,
                row.issue.kind,
                row.issue.order_no,
                row.began.0,
                row.began.1,
                row.late,
                row.ended.map(|(wall, _)| wall),
                row.ended.map(|(_, up)| up),
            ])
        })?;
        Ok(())
    }

    /// Those that last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_inconsistencies(&self) -> Result<Vec<Inconsistency>, StoreError> {
        let sql = select!("WHERE ended_up IS NULL");
        self.read("read inconsistencies", |db| db.prepare_cached(sql)?.query_map([], inconsistency)?.collect())
    }

    /// Port time over the last `window` of up-time, as far as it is committed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn port_time(&self, now: UpTime, window: Duration) -> Result<PortTime, StoreError> {
        self.read("read port time", |db| port_time(db, now, window))
    }
}

pub(super) fn inconsistency(row: &Row<'_>) -> rusqlite::Result<Inconsistency> {
    let mut columns = Columns::of(row);
    Ok(Inconsistency {
        port: PortKey { device: columns.take()?, socket: columns.take()?, port: columns.take()? },
        issue: Issue { kind: columns.take()?, order_no: columns.take()? },
        began: (columns.take()?, columns.take()?),
        late: columns.take()?,
        ended: columns.take::<Option<WallTime>>()?.zip(columns.take()?),
    })
}

/// The time of all ports together, and how much of it was inconsistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortTime {
    /// While they were known.
    pub known: Duration,
    /// Of that, with an issue beyond its grace; ignored stops aside.
    pub inconsistent: Duration,
}

impl PortTime {
    /// Over the last `window` of the up-time that the file knows of; for a program beside the agent. `None` when the
    /// file is of a version that kept no such evidence.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn read(db: &Connection, window: Duration) -> rusqlite::Result<Option<Self>> {
        let kept = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'inconsistencies'";
        if db.query_row(kept, [], |_| Ok(())).optional()?.is_none() {
            return Ok(None);
        }
        let noted: Option<UpTime> = open::meta(db, Meta::Up)?;
        let newest = newest_up(db)?.max(noted.unwrap_or_default());
        port_time(db, newest, window).map(Some)
    }

    /// `state_consistency_rate`, 0–1; `None` while no port is known.
    pub fn consistency_rate(&self) -> Option<f64> {
        let known = self.known.as_secs_f64();
        (known > 0.0).then(|| (1.0 - self.inconsistent.as_secs_f64() / known).max(0.0))
    }
}

/// A port of which it is not known since when it is known counts on neither side.
fn port_time(db: &Connection, until: UpTime, window: Duration) -> rusqlite::Result<PortTime> {
    let since = until.0.saturating_sub(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
    let sql = "SELECT (SELECT ifnull(sum(max(0, ?2 - max(known_up, ?1))), 0) FROM ports),
                      (SELECT ifnull(sum(max(0, min(ifnull(i.ended_up, ?2), ?2) - max(i.late_up, p.known_up, ?1))), 0)
                         FROM inconsistencies i JOIN ports p USING (device_id, socket_no, port_no))";
    db.prepare_cached(sql)?.query_row((to_i64(since), until), |row| {
        let span = |column| Ok::<_, rusqlite::Error>(Duration::from_millis(row.get::<_, UpTime>(column)?.0));
        Ok(PortTime { known: span(0)?, inconsistent: span(1)? })
    })
}
