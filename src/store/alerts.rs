//! Table `alerts`: conditions with a beginning and an end.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use super::row::{Columns, json, word_columns};
use super::{Store, StoreError};
use crate::clock::{Now, WallTime};
use crate::ids::{DeviceId, PortNo, SocketNo};
use crate::order::words;

words! {
    /// How bad an alert is (contract §7).
    Severity {
        /// Somebody has to act now.
        Critical = "critical",
        /// Somebody has to look.
        Warning = "warning",
    }
}

word_columns!(Severity);

/// What an alert is about: the site, a device, a socket or a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Subject {
    /// The device; none for the whole site.
    pub device: Option<DeviceId>,
    /// Its socket.
    pub socket: Option<SocketNo>,
    /// The outlet.
    pub port: Option<PortNo>,
}

/// An alert as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Never given twice.
    pub id: i64,
    /// Its rule (contract §7).
    pub rule: String,
    /// How bad.
    pub severity: Severity,
    /// About what.
    pub subject: Subject,
    /// When it began.
    pub raised_at: WallTime,
    /// When a person took note.
    pub acknowledged_at: Option<WallTime>,
    /// When it ended; none while it lasts.
    pub cleared_at: Option<WallTime>,
    /// More about it, as JSON.
    pub details: Option<String>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT alert_id, rule, severity, device_id, socket_no, port_no, raised_at, acknowledged_at, cleared_at,
                    details
               FROM alerts ",
            $rest
        )
    };
}

pub(super) const OPEN_ONE: &str = select!(
    "WHERE cleared_at IS NULL AND rule = ?1 AND ifnull(device_id, '') = ifnull(?2, '')
               AND ifnull(socket_no, -1) = ifnull(?3, -1) AND ifnull(port_no, -1) = ifnull(?4, -1)"
);
pub(super) const ALL: &str = select!("");
pub(super) const OPEN: &str = select!("WHERE cleared_at IS NULL");

impl Store {
    /// Raises an alert; `None` when the rule's alert about this subject is open already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn raise_alert(
        &mut self,
        rule: &str,
        severity: Severity,
        subject: Subject,
        at: WallTime,
        details: &Value,
    ) -> Result<Option<i64>, StoreError> {
        if self.open_alert(rule, subject)?.is_some() {
            return Ok(None);
        }
        let sql = "INSERT INTO alerts (rule, severity, device_id, socket_no, port_no, raised_at, details)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.write("write an alert", |db| {
            let details = if details.is_null() { None } else { Some(json(details)?) };
            let Subject { device, socket, port } = subject;
            db.prepare_cached(sql)?.execute(params![rule, severity, device, socket, port, at, details])?;
            Ok(Some(db.last_insert_rowid()))
        })
    }

    /// Ends the rule's open alert about this subject and returns it; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn clear_alert(&mut self, rule: &str, subject: Subject, now: Now) -> Result<Option<Alert>, StoreError> {
        let Some(mut alert) = self.open_alert(rule, subject)? else { return Ok(None) };
        let sql = "UPDATE alerts SET (cleared_at, cleared_up) = (?2, ?3) WHERE alert_id = ?1";
        self.write("write an alert", |db| db.prepare_cached(sql)?.execute((alert.id, now.wall, now.up)))?;
        alert.cleared_at = Some(now.wall);
        Ok(Some(alert))
    }

    /// Notes that a person took note, the first time; returns the alert as it is then, `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn acknowledge_alert(&mut self, id: i64, at: WallTime) -> Result<Option<Alert>, StoreError> {
        let sql = "UPDATE alerts SET acknowledged_at = ?2 WHERE alert_id = ?1 AND acknowledged_at IS NULL";
        self.write("write an alert", |db| db.prepare_cached(sql)?.execute((id, at)))?;
        self.alert(id)
    }

    /// An alert by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn alert(&self, id: i64) -> Result<Option<Alert>, StoreError> {
        let sql = select!("WHERE alert_id = ?1");
        self.read("read an alert", |db| db.prepare_cached(sql)?.query_row([id], alert).optional())
    }

    /// The rule's open alert about a subject.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_alert(&self, rule: &str, subject: Subject) -> Result<Option<Alert>, StoreError> {
        self.read("read an alert", |db| {
            let Subject { device, socket, port } = subject;
            db.prepare_cached(OPEN_ONE)?.query_row(params![rule, device, socket, port], alert).optional()
        })
    }

    /// All alerts that last, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_alerts(&self) -> Result<Vec<Alert>, StoreError> {
        let mut alerts: Vec<Alert> =
            self.read("read alerts", |db| db.prepare_cached(OPEN)?.query_map([], alert)?.collect())?;
        alerts.sort_by_key(|alert| alert.id);
        Ok(alerts)
    }
}

pub(super) fn alert(row: &Row<'_>) -> rusqlite::Result<Alert> {
    let mut columns = Columns::of(row);
    Ok(Alert {
        id: columns.take()?,
        rule: columns.take()?,
        severity: columns.take()?,
        subject: Subject { device: columns.take()?, socket: columns.take()?, port: columns.take()? },
        raised_at: columns.take()?,
        acknowledged_at: columns.take()?,
        cleared_at: columns.take()?,
        details: columns.take()?,
    })
}
