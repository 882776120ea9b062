//! Reads the agent's store as any other program would.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// An order with what its port shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) serial: i64,
    pub(super) order_no: String,
    pub(super) device: String,
    pub(super) socket: u8,
    pub(super) port: u8,
    pub(super) mode: String,
    /// JSON.
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

/// The orders that are to be shown.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// All that are open, and at least the newest that are not; oldest first.
    pub(super) rows: Vec<Row>,
    /// Older ones that are over.
    pub(super) older: usize,
}

/// The store, read-only; orders of earlier demos aside.
#[derive(Debug)]
pub(super) struct Watch {
    db: Connection,
    /// Serial of the last order of an earlier demo.
    earlier: i64,
    /// Serial of the last order that is not read again, and how many those are.
    passed: i64,
    older: usize,
}

/// Orders that are over and are still read.
const KEPT: usize = 200;

impl Watch {
    /// Before the first order of this demo.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let db = connect(path)?;
        let earlier = db.query_row("SELECT coalesce(max(serial), 0) FROM orders", [], |row| row.get(0))?;
        Ok(Self { db, earlier, passed: earlier, older: 0 })
    }

    /// Serial of the last order of an earlier demo, 0 when there was none.
    pub(super) const fn earlier(&self) -> i64 {
        self.earlier
    }

    /// Lets go of the store; gives what [`Watch::all`] needs.
    pub(super) fn close(self) -> i64 {
        self.earlier
    }

    /// All orders after those of earlier demos, oldest first.
    pub(super) fn all(path: &Path, earlier: i64) -> rusqlite::Result<Vec<Row>> {
        after(&connect(path)?, earlier)
    }

    /// What is to be shown now. What is long over is not read again, however many there are.
    pub(super) fn look(&mut self) -> rusqlite::Result<Orders> {
        let mut rows = after(&self.db, self.passed)?;
        let over = rows.iter().take_while(|row| !row.is_open()).count();
        let passed = over.saturating_sub(KEPT);
        if let Some(last) = rows.drain(..passed).next_back() {
            self.passed = last.serial;
            self.older += passed;
        }
        Ok(Orders { rows, older: self.older })
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.pragma_update(None, "query_only", true)?;
    Ok(db)
}

fn after(db: &Connection, serial: i64) -> rusqlite::Result<Vec<Row>> {
    let sql = "SELECT o.serial, o.order_no, o.device_id, o.socket_no, o.port_no, coalesce(o.mode, 'adopted'),
                          coalesce(o.plan, '{}'), o.status, o.end_reason, o.settlement, coalesce(o.energy_wh, 0),
                          coalesce(o.minutes, 0), CASE WHEN o.status IN (2, 9) THEN coalesce(p.power_w, 0) ELSE 0.0 END
                     FROM orders o LEFT JOIN ports p USING (device_id, socket_no, port_no)
                    WHERE o.serial > ?1 ORDER BY o.serial";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([serial], |row| {
        Ok(Row {
            serial: row.get(0)?,
            order_no: row.get(1)?,
            device: row.get(2)?,
            socket: row.get(3)?,
            port: row.get(4)?,
            mode: row.get(5)?,
            plan: row.get(6)?,
            status: row.get(7)?,
            end_reason: row.get(8)?,
            settlement: row.get(9)?,
            energy_wh: row.get(10)?,
            minutes: row.get(11)?,
            power_w: row.get(12)?,
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store of so many orders that are over, with one that is open at its end.
    fn store(folder: &Path, over: u32) -> std::path::PathBuf {
        let path = folder.join("chargegate.db");
        let mut db = Connection::open(&path).unwrap();
        let db = db.transaction().unwrap();
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS orders (serial INTEGER PRIMARY KEY, order_no, device_id, socket_no, port_no,
               mode, plan, status, end_reason, settlement, energy_wh, minutes);
             CREATE TABLE IF NOT EXISTS ports (device_id, socket_no, port_no, power_w);",
        )
        .unwrap();
        for status in std::iter::repeat_n(7, over as usize).chain([2]) {
            let sql =
                "INSERT INTO orders (order_no, device_id, socket_no, port_no, status) VALUES ('o', 'd', 1, 0, ?1)";
            db.execute(sql, [status]).unwrap();
        }
        db.commit().unwrap();
        path
    }

    #[test]
    fn what_is_long_over_is_counted_and_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = store(folder.path(), 0);
        let mut watch = Watch::open(&path).unwrap();
        assert_eq!((watch.earlier(), watch.look().unwrap().rows.len()), (1, 0));
        store(folder.path(), 500);
        for _ in 0..2 {
            let orders = watch.look().unwrap();
            assert_eq!((orders.rows.len(), orders.older), (KEPT + 1, 500 - KEPT));
        }
        let earlier = watch.close();
        assert_eq!(Watch::all(&path, earlier).unwrap().len(), 501);
    }
}
