//! Reads the agent's store as any other program would.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// An order with what its port shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) order_no: String,
    pub(super) device: String,
    pub(super) socket: u8,
    pub(super) port: u8,
    pub(super) mode: String,
    pub(super) plan: String,
    pub(super) status: u8,
    pub(super) end_reason: Option<String>,
    pub(super) settlement: Option<String>,
    pub(super) energy_wh: u32,
    pub(super) minutes: u32,
    pub(super) power_w: f64,
}

impl Row {
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.status, 0 | 2 | 9)
    }

    /// What a person calls its status.
    pub(super) const fn word(&self) -> &'static str {
        match self.status {
            0 => "starting",
            2 => "charging",
            9 => "stopping",
            5 => "cancelled",
            6 => "failed",
            _ => "completed",
        }
    }
}

/// The store, read-only.
#[derive(Debug)]
pub(super) struct Watch(Connection);

impl Watch {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.pragma_update(None, "query_only", true)?;
        Ok(Self(db))
    }

    /// All orders, oldest first.
    pub(super) fn orders(&self) -> rusqlite::Result<Vec<Row>> {
        let sql = "SELECT o.order_no, o.device_id, o.socket_no, o.port_no, coalesce(o.mode, 'adopted'),
                          coalesce(o.plan, '{}'), o.status, o.end_reason, o.settlement, coalesce(o.energy_wh, 0),
                          coalesce(o.minutes, 0), CASE WHEN o.status IN (2, 9) THEN coalesce(p.power_w, 0) ELSE 0.0 END
                     FROM orders o LEFT JOIN ports p USING (device_id, socket_no, port_no) ORDER BY o.serial";
        let mut statement = self.0.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Row {
                order_no: row.get(0)?,
                device: row.get(1)?,
                socket: row.get(2)?,
                port: row.get(3)?,
                mode: row.get(4)?,
                plan: row.get(5)?,
                status: row.get(6)?,
                end_reason: row.get(7)?,
                settlement: row.get(8)?,
                energy_wh: row.get(9)?,
                minutes: row.get(10)?,
                power_w: row.get(11)?,
            })
        })?;
        rows.collect()
    }
}
