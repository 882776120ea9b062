//! Table `journal`: the frames that belong to an order or were refused, bounded; the oldest go first.

use rusqlite::{Connection, Row, params};

use super::row::{Columns, Sum, word_columns};
use super::{Meta, Store, StoreError, to_i64};
use crate::clock::{UpTime, WallTime};
use crate::ids::{DeviceId, OrderNo, PortNo, SocketNo};
use crate::order::words;

words! {
    /// Which way a frame went.
    Direction {
        /// From the device.
        Up = "up",
        /// To the device.
        Down = "down",
    }
}

words! {
    /// What became of a frame (contract §4 `journal`).
    FrameVerdict {
        /// Booked.
        Accepted = "accepted",
        /// Said again.
        Duplicate = "duplicate",
        /// Of nobody.
        Unmatched = "unmatched",
        /// Not to be read.
        Malformed = "malformed",
        /// Of a command or key that nobody knows.
        Unsupported = "unsupported",
        /// Ours.
        Sent = "sent",
    }
}

word_columns!(Direction, FrameVerdict);

/// A frame to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalRow<'a> {
    /// When.
    pub at: WallTime,
    /// The same in up-time.
    pub up: UpTime,
    /// The device that it came from or went to; none while a connection has not said whose it is.
    pub device: Option<DeviceId>,
    /// The socket that it is about.
    pub socket: Option<SocketNo>,
    /// The port that it is about.
    pub port: Option<PortNo>,
    /// Which way.
    pub direction: Direction,
    /// Its bytes.
    pub frame: &'a [u8],
    /// What became of it.
    pub verdict: FrameVerdict,
    /// Why.
    pub reason: Option<&'a str>,
    /// The order that it belongs to.
    pub order_no: Option<&'a OrderNo>,
}

/// A frame as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Rises.
    pub id: i64,
    /// When.
    pub at: WallTime,
    /// The same in up-time.
    pub up: UpTime,
    /// The device that it came from or went to.
    pub device: Option<DeviceId>,
    /// The socket that it is about.
    pub socket: Option<SocketNo>,
    /// The port that it is about.
    pub port: Option<PortNo>,
    /// Which way.
    pub direction: Direction,
    /// Its bytes.
    pub frame: Vec<u8>,
    /// What became of it.
    pub verdict: FrameVerdict,
    /// Why.
    pub reason: Option<String>,
    /// The order that it belongs to.
    pub order_no: Option<OrderNo>,
    /// The row is as it was written: its sum is right.
    pub intact: bool,
}

impl JournalEntry {
    fn row(&self) -> JournalRow<'_> {
        JournalRow {
            at: self.at,
            up: self.up,
            device: self.device,
            socket: self.socket,
            port: self.port,
            direction: self.direction,
            frame: &self.frame,
            verdict: self.verdict,
            reason: self.reason.as_deref(),
            order_no: self.order_no.as_ref(),
        }
    }
}

/// Bytes that the journal takes, kept along instead of asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) bytes: u64,
    durable: u64,
}

impl Size {
    pub(super) const fn new(bytes: u64) -> Self {
        Self { bytes, durable: bytes }
    }

    pub(super) const fn committed(&mut self) {
        self.durable = self.bytes;
    }

    pub(super) const fn rolled_back(&mut self) {
        self.bytes = self.durable;
    }
}

/// What a row takes beside its texts and its frame.
const ROW_BYTES: u64 = 64;

macro_rules! cost {
    () => {
        "64 + length(frame) + ifnull(length(reason), 0) + ifnull(length(order_no), 0)"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, at, up, device_id, socket_no, port_no, direction, frame, verdict, reason, order_no, crc
               FROM journal ",
            $rest
        )
    };
}

pub(super) const ALL: &str = select!("");
pub(super) const ALL_IN_ORDER: &str = select!("ORDER BY id");
/// The frames under one of the numbers in the JSON list `?1`, and those of a device since a moment.
pub(super) const OF_ORDER: &str =
    select!("WHERE order_no IN (SELECT value FROM json_each(?1)) OR device_id = ?2 AND up >= ?3 ORDER BY id");
pub(super) const ONE: &str = select!("WHERE id = ?1");
pub(super) const REFUSED: &str =
    select!("WHERE device_id = ?1 AND verdict IN ('malformed', 'unmatched') ORDER BY id DESC");

impl Store {
    /// Keeps a frame; older ones go when there are too many bytes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn add_journal(&mut self, row: &JournalRow<'_>) -> Result<(), StoreError> {
        self.write("write the journal", |db| insert(db, row))?;
        let texts = row.reason.map_or(0, |text| text.chars().count())
            + row.order_no.map_or(0, |no| no.as_str().chars().count());
        self.journal.bytes += ROW_BYTES + row.frame.len() as u64 + texts as u64;
        if self.journal.bytes > self.settings.journal_max {
            // A twentieth at a time: most insertions delete nothing.
            self.shorten_journal(self.settings.journal_max / 20 * 19)?;
        }
        Ok(())
    }

    /// Gives up the oldest twentieth of the journal, so that what matters more finds room below the quota; `false`
    /// when there is nothing left to give. It needs the store to be able to write at all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn make_room(&mut self) -> Result<bool, StoreError> {
        if self.journal.bytes == 0 {
            return Ok(false);
        }
        let step = (self.settings.journal_max / 20).max(64 * 1024);
        self.shorten_journal(self.journal.bytes.saturating_sub(step))?;
        Ok(true)
    }

    /// The frames of an order, in their order. Reads the whole journal: for people.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn journal_of_order(&self, order_no: &OrderNo) -> Result<Vec<JournalEntry>, StoreError> {
        let sql = select!("WHERE order_no = ?1 ORDER BY id");
        self.read("read the journal", |db| db.prepare_cached(sql)?.query_map([order_no], entry)?.collect())
    }

    /// The frames of a device since a moment, in their order. Reads the whole journal: for people.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn journal_of_device_since(&self, device: DeviceId, since: UpTime) -> Result<Vec<JournalEntry>, StoreError> {
        let sql = select!("WHERE device_id = ?1 AND up >= ?2 ORDER BY id");
        self.read("read the journal", |db| db.prepare_cached(sql)?.query_map(params![device, since], entry)?.collect())
    }

    /// The malformed and unmatched frames of a device since a moment, newest first: why a report is missing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn refused_frames_since(&self, device: DeviceId, since: UpTime) -> Result<Vec<JournalEntry>, StoreError> {
        self.read("read the journal", |db| {
            let mut statement = db.prepare_cached(REFUSED)?;
            let mut rows = statement.query([device])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let entry = entry(row)?;
                if entry.up < since {
                    break;
                }
                found.push(entry);
            }
            Ok(found)
        })
    }

    /// Entries after an id, in their order, at most `limit`: for reading it all again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn journal_after(&self, id: i64, limit: u32) -> Result<Vec<JournalEntry>, StoreError> {
        let sql = select!("WHERE id > ?1 ORDER BY id LIMIT ?2");
        self.read("read the journal", |db| db.prepare_cached(sql)?.query_map((id, limit), entry)?.collect())
    }

    /// An order has another number now: its frames follow. Reads the whole journal, which is seldom.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn rename_in_journal(&mut self, was: &OrderNo, is: &OrderNo) -> Result<(), StoreError> {
        self.journal_of_order(was)?.iter().try_for_each(|entry| self.give_frame(entry, is))
    }

    /// A frame turned out to belong to this order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn frame_is_of(&mut self, id: i64, order_no: &OrderNo) -> Result<(), StoreError> {
        let found = self.journal_after(id - 1, 1)?.into_iter().find(|entry| entry.id == id);
        found.map_or(Ok(()), |entry| self.give_frame(&entry, order_no))
    }

    fn give_frame(&mut self, entry: &JournalEntry, order_no: &OrderNo) -> Result<(), StoreError> {
        if !entry.intact {
            // What rotted must not look sound again.
            return Ok(());
        }
        let sum = crc(entry.id, &JournalRow { order_no: Some(order_no), ..entry.row() });
        let sql = "UPDATE journal SET (order_no, crc) = (?2, ?3) WHERE id = ?1";
        self.write("write the journal", |db| db.prepare_cached(sql)?.execute(params![entry.id, order_no, sum]))?;
        let length = |no: &OrderNo| no.as_str().chars().count() as u64;
        self.journal.bytes += length(order_no);
        self.journal.bytes -= entry.order_no.as_ref().map_or(0, length);
        Ok(())
    }

    /// How far back the journal is whole: `None` when nothing was ever given up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn journal_whole_since(&self) -> Result<Option<UpTime>, StoreError> {
        self.read("read the journal", whole_since)
    }

    /// Bytes that the journal takes.
    pub const fn journal_bytes(&self) -> u64 {
        self.journal.bytes
    }

    /// Deletes the oldest rows until at most `target` bytes are left; the newest one stays.
    fn shorten_journal(&mut self, target: u64) -> Result<(), StoreError> {
        let excess = self.journal.bytes.saturating_sub(target);
        let freed = self.write("shorten the journal", |db| delete_oldest(db, excess))?;
        self.journal.bytes = self.journal.bytes.saturating_sub(freed);
        Ok(())
    }
}

/// How far back the journal is whole.
pub(super) fn whole_since(db: &Connection) -> rusqlite::Result<Option<UpTime>> {
    // Ids begin at 1: a journal that still has its first row has all of them.
    let sql = "SELECT CASE WHEN id > 1 THEN up END FROM journal ORDER BY id LIMIT 1";
    let given_up: Option<UpTime> = {
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        rows.next()?.map_or(Ok(None), |row| row.get(0))?
    };
    // Frames that a damaged file has lost may be missing anywhere before.
    Ok(given_up.max(super::open::meta(db, Meta::JournalWholeSince)?))
}

/// The sum of all rows: reads them all.
pub(super) fn sum(db: &Connection) -> rusqlite::Result<u64> {
    let sql = concat!("SELECT ifnull(sum(", cost!(), "), 0) FROM journal");
    db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

fn delete_oldest(db: &Connection, bytes: u64) -> rusqlite::Result<u64> {
    let sql = concat!("SELECT id, ", cost!(), " FROM journal WHERE id < (SELECT max(id) FROM journal) ORDER BY id");
    let mut freed = 0;
    let mut last = 0;
    {
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while freed < bytes {
            let Some(row) = rows.next()? else { break };
            last = row.get(0)?;
            freed += row.get::<_, i64>(1)?.unsigned_abs();
        }
    }
    db.prepare_cached("DELETE FROM journal WHERE id <= ?1")?.execute([last])?;
    Ok(freed)
}

fn insert(db: &Connection, row: &JournalRow<'_>) -> rusqlite::Result<()> {
    let newest = "SELECT ifnull(max(id), 0) FROM journal";
    let id = db.prepare_cached(newest)?.query_row([], |row| row.get::<_, i64>(0))? + 1;
    let sql = "INSERT INTO journal (id, at, up, device_id, socket_no, port_no, direction, frame, verdict, reason,
                                    order_no, crc)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    db.prepare_cached(sql)?
        .execute(params![
            id,
            row.at,
            row.up,
            row.device,
            row.socket,
            row.port,
            row.direction,
            row.frame,
            row.verdict,
            row.reason,
            row.order_no,
            crc(id, row),
        ])
        .map(drop)
}

fn crc(id: i64, row: &JournalRow<'_>) -> u32 {
    Sum::new()
        .integer(Some(id))
        .integer(Some(row.at.0))
        .integer(Some(to_i64(row.up.0)))
        .bytes(row.device.map(DeviceId::bcd).as_ref().map(<[u8; 7]>::as_slice))
        .integer(row.socket.map(|no| i64::from(no.get())))
        .integer(row.port.map(|no| i64::from(no.get())))
        .text(Some(row.direction.word()))
        .bytes(Some(row.frame))
        .text(Some(row.verdict.word()))
        .text(row.reason)
        .text(row.order_no.map(OrderNo::as_str))
        .finish()
}

pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<JournalEntry> {
    let mut columns = Columns::of(row);
    let mut entry = JournalEntry {
        id: columns.take()?,
        at: columns.take()?,
        up: columns.take()?,
        device: columns.take()?,
        socket: columns.take()?,
        port: columns.take()?,
        direction: columns.take()?,
        frame: columns.take()?,
        verdict: columns.take()?,
        reason: columns.take()?,
        order_no: columns.take()?,
        intact: false,
    };
    let sum = crc(entry.id, &entry.row());
    entry.intact = columns.take::<i64>()? == i64::from(sum);
    Ok(entry)
}
