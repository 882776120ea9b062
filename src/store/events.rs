//! Table `events`: what the cloud is told, once each, in four streams without gaps.

use std::collections::BTreeMap;

use rusqlite::{Row, params};
use serde_json::Value;

use super::row::{Columns, Sum, json, word_columns};
use super::{Store, StoreError};
use crate::clock::{UpTime, WallTime};
pub use crate::event::{ClockQuality, Stream};
use crate::ids::{DeviceId, OrderNo};

word_columns!(Stream, ClockQuality);

/// An event to be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewEvent<'a> {
    /// Where it is numbered.
    pub stream: Stream,
    /// Its type, as in contract §6.
    pub kind: &'a str,
    /// The device that it is about.
    pub device: Option<DeviceId>,
    /// The order that it is about.
    pub order_no: Option<&'a OrderNo>,
    /// When it happened.
    pub at: WallTime,
    /// The same in up-time.
    pub up: UpTime,
    /// How good `at` is.
    pub clock: ClockQuality,
    /// What it carries.
    pub data: &'a Value,
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where it is numbered.
    pub stream: Stream,
    /// Its number there.
    pub seq: u64,
    /// When it happened.
    pub at: WallTime,
    /// The same in up-time.
    pub up: UpTime,
    /// How good `at` is.
    pub clock: ClockQuality,
    /// Its type.
    pub kind: String,
    /// The device that it is about.
    pub device: Option<DeviceId>,
    /// The order that it is about.
    pub order_no: Option<OrderNo>,
    /// What it carries, as JSON.
    pub data: String,
    /// The row is as it was written: its sum is right.
    pub intact: bool,
}

/// What is kept of a stream: `oldest` up to before `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct StreamRange {
    /// The oldest event that is kept; `next` when none is.
    pub oldest: u64,
    /// The number that the next one gets.
    pub next: u64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT stream, seq, at, created_up, clock, type, device_id, order_no, data, crc FROM events ", $rest)
    };
}

pub(super) const ALL: &str = select!("");
/// The events under one of the numbers in the JSON list `?1`, and those of a device since a moment.
pub(super) const OF_ORDER: &str = select!(
    "WHERE order_no IN (SELECT value FROM json_each(?1)) OR device_id = ?2 AND created_up >= ?3 ORDER BY rowid"
);
pub(super) const ONE: &str = select!("WHERE rowid = ?1");
pub(super) const FROM: &str = select!("WHERE stream = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3");
pub(super) const OLDEST: &str = "SELECT min(seq) FROM events WHERE stream = ?1";
pub(super) const NEWEST: &str = "SELECT max(seq) FROM events WHERE stream = ?1";

impl Store {
    /// Adds an event and returns its number, which rises by one from 1 on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn add_event(&mut self, event: &NewEvent<'_>) -> Result<u64, StoreError> {
        self.write("write an event", |db| {
            let seq = next_seq(db, event.stream)?;
            let data = json(event.data)?;
            let device = event.device.map(|device| device.to_string());
            let crc = Sum::new()
                .text(Some(event.stream.word()))
                .integer(Some(seq))
                .integer(Some(event.at.0))
                .integer(Some(super::to_i64(event.up.0)))
                .text(Some(event.clock.word()))
                .text(Some(event.kind))
                .text(device.as_deref())
                .text(event.order_no.map(OrderNo::as_str))
                .text(Some(&data))
                .finish();
            let sql = "INSERT INTO events (stream, seq, at, created_up, clock, type, device_id, order_no, data, crc)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
            db.prepare_cached(sql)?.execute(params![
                event.stream,
                seq,
                event.at,
                event.up,
                event.clock,
                event.kind,
                device,
                event.order_no,
                data,
                crc,
            ])?;
            Ok(seq.unsigned_abs())
        })
    }

    /// Events of a stream from `seq` on, in their order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn events_from(&self, stream: Stream, seq: u64, limit: u32) -> Result<Vec<Event>, StoreError> {
        self.read("read events", |db| {
            db.prepare_cached(FROM)?.query_map(params![stream, super::to_i64(seq), limit], event)?.collect()
        })
    }

    /// What is kept of each stream.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn streams(&self) -> Result<BTreeMap<Stream, StreamRange>, StoreError> {
        self.read("read streams", |db| {
            let mut ranges = BTreeMap::new();
            for stream in Stream::ALL {
                let next = next_seq(db, *stream)?;
                let oldest: Option<i64> = db.prepare_cached(OLDEST)?.query_row([stream], |row| row.get(0))?;
                let oldest = oldest.unwrap_or(next).unsigned_abs();
                ranges.insert(*stream, StreamRange { oldest, next: next.unsigned_abs() });
            }
            Ok(ranges)
        })
    }
}

/// The newest row of a stream is never dropped, so its successor is known without a counter.
fn next_seq(db: &rusqlite::Connection, stream: Stream) -> rusqlite::Result<i64> {
    let newest: Option<i64> = db.prepare_cached(NEWEST)?.query_row([stream], |row| row.get(0))?;
    Ok(newest.unwrap_or(0) + 1)
}

pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let mut columns = Columns::of(row);
    let mut event = Event {
        stream: columns.take()?,
        seq: columns.take::<i64>()?.unsigned_abs(),
        at: columns.take()?,
        up: columns.take()?,
        clock: columns.take()?,
        kind: columns.take()?,
        device: columns.take()?,
        order_no: columns.take()?,
        data: columns.take()?,
        intact: false,
    };
    event.intact = columns.take::<i64>()? == i64::from(sum(&event));
    Ok(event)
}

/// CRC-32 over all that a row says.
pub(super) fn sum(event: &Event) -> u32 {
    let device = event.device.map(|device| device.to_string());
    Sum::new()
        .text(Some(event.stream.word()))
        .integer(Some(super::to_i64(event.seq)))
        .integer(Some(event.at.0))
        .integer(Some(super::to_i64(event.up.0)))
        .text(Some(event.clock.word()))
        .text(Some(&event.kind))
        .text(device.as_deref())
        .text(event.order_no.as_ref().map(OrderNo::as_str))
        .text(Some(&event.data))
        .finish()
}
