//! Table `outbox`: what waits for the cloud's confirmation. An event stands here by its number alone, anything else
//! (a reply) with its payload; an event with a payload is one whose content can never be sent.
//!
//! Rows are read in pages, behind an id that the reader has come to, and only those that are durable: nobody is told
//! what a power cut would take back.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::row::{Columns, Sum};
use super::{Meta, Store, StoreError, Stream, to_i64};
use crate::clock::WallTime;

/// What waits, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Never given twice; rises.
    pub id: u64,
    /// When it began to wait.
    pub created_at: WallTime,
    /// Behind the prefix and the site's id.
    pub topic: String,
    /// The stream of an event.
    pub stream: Option<Stream>,
    /// The event's number there.
    pub seq: Option<u64>,
    /// What is sent, as JSON, when it is no event; of an event, what is sent instead.
    pub payload: Option<String>,
    /// The row is as it was written: its sum is right.
    pub intact: bool,
}

/// Which rows go before which: within a lane they go in the order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Alerts and replies.
    Urgent,
    /// Everything else.
    Rest,
}

/// How far the sending has ever come in each lane, by outbox ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct SentMarks {
    /// In [`Lane::Urgent`].
    pub urgent: u64,
    /// In [`Lane::Rest`].
    pub rest: u64,
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Rows.
    pub rows: u64,
    /// When the oldest began to wait.
    pub oldest: Option<WallTime>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, created_at, crc, topic, stream, seq, payload FROM outbox ", $rest)
    };
}

pub(super) const ALL: &str = select!("");
pub(super) const URGENT: &str =
    select!("WHERE id > ?1 AND id <= ?2 AND (stream IS NULL OR stream = 'alert') ORDER BY id LIMIT ?3");
pub(super) const REST: &str = select!("WHERE id > ?1 AND id <= ?2 AND stream <> 'alert' ORDER BY id LIMIT ?3");
pub(super) const CONFIRMED: &str = "SELECT id FROM outbox WHERE id <= ?1 AND stream = ?2 AND seq <= ?3 LIMIT ?4";
pub(super) const DELETE: &str = "DELETE FROM outbox WHERE id = ?1";
pub(super) const SET_SUM: &str = "UPDATE outbox SET crc = ?2 WHERE id = ?1";
pub(super) const SET_PAYLOAD: &str = "UPDATE outbox SET (payload, crc) = (?2, ?3) WHERE id = ?1";
const BY_ID: &str = select!("WHERE id = ?1");
const INSERT: &str = "INSERT INTO outbox (created_at, crc, topic, stream, seq, payload) VALUES (?1, 0, ?2, ?3, ?4, ?5)";

impl Store {
    /// An event is to be told to the cloud (again). Returns the row's id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn enqueue_event(&mut self, stream: Stream, seq: u64, at: WallTime) -> Result<u64, StoreError> {
        let topic = event_topic(stream);
        self.enqueue_row(at, &topic, Some((stream, seq)), None)
    }

    /// Anything else is to be told to the cloud: a topic behind the prefix and the site's id, and JSON. Returns the
    /// row's id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn enqueue(&mut self, topic: &str, payload: &str, at: WallTime) -> Result<u64, StoreError> {
        self.enqueue_row(at, topic, None, Some(payload))
    }

    fn enqueue_row(
        &mut self,
        at: WallTime,
        topic: &str,
        event: Option<(Stream, u64)>,
        payload: Option<&str>,
    ) -> Result<u64, StoreError> {
        self.write("write to the outbox", |db| insert(db, at, topic, event, payload))
    }

    /// The next rows of a lane behind the id `after`, durable ones only, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outbox_page(&self, lane: Lane, after: u64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let sql = match lane {
            Lane::Urgent => URGENT,
            Lane::Rest => REST,
        };
        let bounds = params![to_i64(after), to_i64(self.outbox_newest), to_i64(limit as u64)];
        self.read("read the outbox", |db| db.prepare_cached(sql)?.query_map(bounds, row)?.collect())
    }

    /// A row by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outbox_row(&self, id: u64) -> Result<Option<OutboxRow>, StoreError> {
        self.read("read the outbox", |db| db.prepare_cached(BY_ID)?.query_row([to_i64(id)], row).optional())
    }

    /// The newest id that is durable: no row behind it can be read.
    pub const fn outbox_newest(&self) -> u64 {
        self.outbox_newest
    }

    /// Has something else sent in a row's place: its own content can never be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn replace_in_outbox(&mut self, id: u64, payload: &str) -> Result<(), StoreError> {
        let Some(mut row) = self.outbox_row(id)? else { return Ok(()) };
        row.payload = Some(payload.to_owned());
        self.write("write to the outbox", |db| {
            db.prepare_cached(SET_PAYLOAD)?.execute(params![to_i64(id), payload, sum(&row)])
        })?;
        Ok(())
    }

    /// These are confirmed, or nothing can be made of them. One that is gone already is no error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove_from_outbox(&mut self, ids: &[u64]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.write("delete from the outbox", |db| {
            let mut delete = db.prepare_cached(DELETE)?;
            ids.iter().try_for_each(|id| delete.execute([to_i64(*id)]).map(drop))
        })
    }

    /// There is nobody any more who could confirm: everything goes. Returns how many rows that were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn empty_outbox(&mut self) -> Result<u64, StoreError> {
        let rows = self.outbox_waiting()?.rows;
        if rows > 0 {
            self.write("empty the outbox", |db| db.execute("DELETE FROM outbox", []))?;
        }
        Ok(rows)
    }

    /// The receiver has a stream up to this number: rows up to the id `sent` go, at most `limit` of them. Returns how
    /// many went.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn confirm_outbox(&mut self, stream: Stream, upto: u64, sent: u64, limit: usize) -> Result<usize, StoreError> {
        let bounds = params![to_i64(sent), stream, to_i64(upto), to_i64(limit as u64)];
        let ids: Vec<i64> = self.read("read the outbox", |db| {
            db.prepare_cached(CONFIRMED)?.query_map(bounds, |row| row.get(0))?.collect()
        })?;
        let ids: Vec<u64> = ids.into_iter().map(i64::unsigned_abs).collect();
        self.remove_from_outbox(&ids)?;
        Ok(ids.len())
    }

    /// How much waits. Reads the whole table.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outbox_waiting(&self) -> Result<Waiting, StoreError> {
        let sql = "SELECT count(*), min(created_at) FROM outbox";
        self.read("count the outbox", |db| {
            db.prepare_cached(sql)?
                .query_row([], |row| Ok(Waiting { rows: row.get::<_, i64>(0)?.unsigned_abs(), oldest: row.get(1)? }))
        })
    }

    /// How far the sending had come, as last noted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outbox_sent(&self) -> Result<SentMarks, StoreError> {
        let kept: Option<String> = self.meta(Meta::OutboxSent)?;
        Ok(kept.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default())
    }

    /// Notes it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_outbox_sent(&mut self, sent: SentMarks) -> Result<(), StoreError> {
        let json =
            serde_json::to_string(&sent).map_err(|error| StoreError::Failed(format!("cannot write meta: {error}")))?;
        self.set_meta(Meta::OutboxSent, json)
    }

    /// The number of a new connection to the broker. Rises for ever, over restarts too: numbers are taken from a block
    /// that was set aside durably; `None` when it is used up and the next commit has to set aside another.
    pub fn next_session(&mut self) -> Option<u64> {
        if self.sessions.next >= self.sessions.reserved {
            return None;
        }
        Some(self.next_session_at_any_rate())
    }

    /// The same when there is no commit to be had: after a kill the number may come once more.
    pub const fn next_session_at_any_rate(&mut self) -> u64 {
        self.sessions.next += 1;
        self.sessions.next
    }

    /// Sets aside another block of session numbers with the next commit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn reserve_sessions(&mut self) -> Result<(), StoreError> {
        let mark = self.sessions.next + Sessions::BLOCK;
        self.set_meta(Meta::Sessions, to_i64(mark))?;
        self.sessions.reserving = mark;
        Ok(())
    }
}

/// Numbers the connections to the broker: those up to `reserved` are set aside durably. After a clean end the next
/// run goes on without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sessions {
    pub(super) next: u64,
    pub(super) reserved: u64,
    pub(super) reserving: u64,
}

impl Sessions {
    /// A broker that is away for a day costs a handful of commits.
    const BLOCK: u64 = 64;

    pub(super) const fn starting_behind(mark: u64) -> Self {
        Self { next: mark, reserved: mark, reserving: mark }
    }

    /// Another block goes with a commit that is made anyway. One that never connected sets nothing aside.
    pub(super) const fn is_running_out(self) -> bool {
        self.reserved > 0 && self.next + Self::BLOCK / 2 > self.reserved && self.reserved == self.reserving
    }
}

/// The topic of a stream's events, behind the prefix and the site's id.
pub(super) fn event_topic(stream: Stream) -> String {
    format!("event/{}", stream.word())
}

/// Puts a row in and returns its id.
pub(super) fn insert(
    db: &Connection,
    at: WallTime,
    topic: &str,
    event: Option<(Stream, u64)>,
    payload: Option<&str>,
) -> rusqlite::Result<u64> {
    let (stream, seq) = event.unzip();
    db.prepare_cached(INSERT)?.execute(params![at, topic, stream, seq.map(to_i64), payload])?;
    let id = db.last_insert_rowid().unsigned_abs();
    let (topic, payload) = (topic.to_owned(), payload.map(str::to_owned));
    let row = OutboxRow { id, created_at: at, topic, stream, seq, payload, intact: true };
    // The sum covers the id, which only the insert tells.
    db.prepare_cached(SET_SUM)?.execute((to_i64(id), sum(&row)))?;
    Ok(id)
}

/// The newest id that was ever given.
pub(super) fn newest(db: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'";
    let newest: Option<i64> = db.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(newest.unwrap_or(0).unsigned_abs())
}

pub(super) fn row(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    let mut columns = Columns::of(row);
    let id = columns.take::<i64>()?.unsigned_abs();
    let created_at = columns.take()?;
    let crc: i64 = columns.take()?;
    let mut row = OutboxRow {
        id,
        created_at,
        topic: columns.take()?,
        stream: columns.take()?,
        seq: columns.take::<Option<i64>>()?.map(i64::unsigned_abs),
        payload: columns.take()?,
        intact: false,
    };
    row.intact = crc == i64::from(sum(&row));
    Ok(row)
}

/// CRC-32 over all other columns in their order.
pub(super) fn sum(row: &OutboxRow) -> u32 {
    Sum::new()
        .integer(Some(to_i64(row.id)))
        .integer(Some(row.created_at.0))
        .text(Some(&row.topic))
        .text(row.stream.map(Stream::word))
        .integer(row.seq.map(to_i64))
        .text(row.payload.as_deref())
        .finish()
}
