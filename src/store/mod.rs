//! The one copy of the truth: devices, sockets, ports, orders, events, commands, journal and alerts in one SQLite file.
//!
//! SQL stands here and in `schema.sql` only. Everything is synchronous on one connection. The first write opens a
//! transaction that takes in all that follows, reads see it, and [`Store::commit`] makes it durable: what may only be
//! said once it is durable waits for that. After an error the transaction is lost; [`Store::rollback`] forgets it
//! whole, and until then every write fails, so that nothing of a torn turn is ever committed.
//!
//! The store knows no clock: times are handed in. Ages are judged by up-time, which never runs ahead of real time,
//! so that no step of a wall clock drops what has to be kept.

mod alerts;
mod commands;
mod consistency;
mod devices;
mod events;
mod journal;
mod open;
mod orders;
mod outbox;
mod ports;
mod replaying;
mod reread;
mod rereading;
mod retention;
mod row;
mod salvage;
mod story;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::clock::{UpTime, WallTime};
use crate::ids::MessageId;
use crate::port::Downtime;

pub use alerts::{Alert, Severity, Subject};
pub use commands::{CommandRow, CommandSource, Sending, SendingKind};
pub use consistency::{Inconsistency, PortTime};
pub use events::{ClockQuality, Event, NewEvent, Stream, StreamRange};
pub use journal::{Direction, FrameVerdict, JournalEntry, JournalRow};
pub use open::{APPLICATION_ID, OpenError, version};
pub use outbox::{Lane, OutboxRow, SentMarks, Waiting};
pub use rereading::{Material, Wanted};
pub use retention::Dropped;
pub use story::Records;

/// Bounds of the store (contract §3 `store.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Of the file, bytes.
    pub max_size: u64,
    /// Of the frames kept, bytes.
    pub journal_max: u64,
    /// How long closed orders, events and cleared alerts are kept.
    pub retention: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_size: 256 << 20, journal_max: 16 << 20, retention: Duration::from_secs(90 * 24 * 3600) }
    }
}

/// Why something could not be kept or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk or the quota is full: roll back whole, refuse what needs a commit, try again later.
    #[error("the store is full")]
    Full,
    /// Another program holds the file for writing: as [`StoreError::Full`], it passes.
    #[error("another program keeps the store locked")]
    Busy,
    /// Anything else. What a failed commit left on the disk is not known: the process has to end.
    #[error("{0}")]
    Failed(String),
}

impl StoreError {
    /// Whether it goes by itself: roll back and go on. Else the process ends.
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Full | Self::Busy)
    }
}

/// An open store; nobody else has it.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
    settings: Settings,
    /// Held as long as the store is open; the lock goes with the process.
    lock: File,
    instance: String,
    up_base: UpTime,
    noted_up: UpTime,
    after_unclean_stop: bool,
    /// A transaction was begun and neither committed nor rolled back.
    begun: bool,
    /// What broke it: nothing is written until it is rolled back.
    broken: Option<StoreError>,
    journal: journal::Size,
    ids: MessageIds,
    /// The newest id of the outbox that is durable.
    outbox_newest: u64,
    sessions: outbox::Sessions,
}

impl Store {
    /// Opens or creates the store at `path`, alone. `wall` is noted in a new file only, and in the name that a damaged
    /// one is set aside under: a new one takes its place, with whatever could be read and something to tell
    /// ([`Store::damage`]).
    ///
    /// # Errors
    /// A file of another program or of a newer version is left untouched; see [`OpenError`].
    pub fn open(path: &Path, settings: &Settings, wall: WallTime) -> Result<Self, OpenError> {
        open::open(path, settings, wall)
    }

    /// The random name that the file got when it was created.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Up-time of the last thing that the last run wrote: this one goes on from there.
    pub const fn up_base(&self) -> UpTime {
        self.up_base
    }

    /// Whether the last run ended without closing the store.
    pub const fn after_unclean_stop(&self) -> bool {
        self.after_unclean_stop
    }

    /// Whether something waits for a commit.
    pub const fn in_transaction(&self) -> bool {
        self.begun
    }

    /// Makes durable what was written since the last commit; `false` when that was nothing.
    ///
    /// # Errors
    /// Nothing may be said that waited for it. When the error [passes](StoreError::passes): [`Store::rollback`].
    pub fn commit(&mut self) -> Result<bool, StoreError> {
        if !self.begun {
            return Ok(false);
        }
        if self.ids.next + MessageIds::BLOCK / 2 > self.ids.reserved {
            let mark = self.ids.next + MessageIds::BLOCK;
            self.set_meta(Meta::MessageIds, to_i64(mark))?;
            self.ids.reserving = mark;
        }
        if self.sessions.is_running_out() {
            self.reserve_sessions()?;
        }
        // Whoever put rows in: from here on they can be sent.
        let newest = self.write("read the outbox", outbox::newest)?;
        self.write("commit", |db| db.prepare_cached("COMMIT")?.execute([]))?;
        self.begun = false;
        self.ids.reserved = self.ids.reserving;
        self.sessions.reserved = self.sessions.reserving;
        self.outbox_newest = newest;
        self.journal.committed();
        Ok(true)
    }

    /// Forgets what was written since the last commit. Records that the caller holds have to be read again.
    ///
    /// # Errors
    /// When not even that works: the process has to end.
    pub fn rollback(&mut self) -> Result<(), StoreError> {
        // SQLite may have rolled back by itself.
        if !self.db.is_autocommit() {
            self.db.execute_batch("ROLLBACK").map_err(|error| failure("roll back", &error))?;
        }
        self.begun = false;
        self.broken = None;
        self.ids.reserving = self.ids.reserved;
        self.sessions.reserving = self.sessions.reserved;
        self.journal.rolled_back();
        Ok(())
    }

    /// Writes everything into the one file and marks it as closed.
    ///
    /// # Errors
    /// When the last commit fails; the file then counts as not closed.
    pub fn close(mut self) -> Result<(), StoreError> {
        let journal_bytes = to_i64(self.journal.bytes);
        self.set_meta(Meta::JournalBytes, journal_bytes)?;
        self.set_meta(Meta::MessageIds, to_i64(self.ids.next))?;
        if self.sessions.next > 0 {
            self.set_meta(Meta::Sessions, to_i64(self.sessions.next))?;
        }
        self.set_meta(Meta::Clean, 1)?;
        self.ids.reserved = u64::MAX;
        self.sessions.reserved = u64::MAX;
        self.commit()?;
        let moves = self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        moves.map_err(|error| failure("close", &error))?;
        // Closing the last connection moves the log into the file; a reader that is still there prevents it, and
        // then the log simply stays for the next open.
        self.db.close().map_err(|(_, error)| failure("close", &error))?;
        // A process that is just being started from this one may hold the same file open for a moment.
        let _ = self.lock.unlock();
        Ok(())
    }

    /// An id for a message to a device: none twice within a day, restarts included. Needs no commit of its own:
    /// ids are taken from a block that was set aside before.
    pub fn next_message_id(&mut self) -> MessageId {
        let id = self.ids.next;
        self.ids.next += 1;
        MessageIds::wire(id)
    }

    /// Notes the up-time, from which the next run goes on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_up(&mut self, up: UpTime) -> Result<(), StoreError> {
        self.set_meta(Meta::Up, to_i64(up.0))
    }

    /// The newest wall time that was ever believed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn believed_wall(&self) -> Result<Option<WallTime>, StoreError> {
        Ok(self.meta(Meta::BelievedWall)?.map(WallTime))
    }

    /// The newest wall time that was believed, and the up-time at which it was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn believed(&self) -> Result<Option<(WallTime, UpTime)>, StoreError> {
        let up: Option<i64> = self.meta(Meta::BelievedUp)?;
        let up = up.map_or(self.noted_up, |up| UpTime(up.max(0).unsigned_abs()));
        Ok(self.believed_wall()?.map(|wall| (wall, up)))
    }

    /// Notes both.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_believed(&mut self, wall: WallTime, up: UpTime) -> Result<(), StoreError> {
        self.set_meta(Meta::BelievedWall, wall.0)?;
        self.set_meta(Meta::BelievedUp, to_i64(up.0))
    }

    /// When the agent was down, as far as it matters to orders.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn downtime(&self) -> Result<Downtime, StoreError> {
        let kept: Option<String> = self.meta(Meta::Downtime)?;
        Ok(kept.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default())
    }

    /// Notes it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_downtime(&mut self, downtime: &Downtime) -> Result<(), StoreError> {
        let json = serde_json::to_string(downtime)
            .map_err(|error| StoreError::Failed(format!("cannot write meta: {error}")))?;
        self.set_meta(Meta::Downtime, json)
    }

    /// The kernel's boot id when it was last noted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn boot(&self) -> Result<Option<String>, StoreError> {
        self.meta(Meta::Boot)
    }

    /// Notes it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_boot(&mut self, boot: &str) -> Result<(), StoreError> {
        self.set_meta(Meta::Boot, boot)
    }

    /// Bytes of the file, and what is free of its quota, for `status` and the metrics.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn size(&self) -> Result<Size, StoreError> {
        self.read("size", |db| {
            let one = |pragma| db.prepare_cached(pragma)?.query_row([], |row| row.get::<_, i64>(0));
            let page = one("PRAGMA page_size")?;
            let pages = one("PRAGMA page_count")?;
            let free = one("PRAGMA freelist_count")?;
            let max = one("PRAGMA max_page_count")?;
            let bytes = |pages: i64| u64::try_from(pages * page).unwrap_or(0);
            Ok(Size { file: bytes(pages), used: bytes(pages - free), max: bytes(max) })
        })
    }

    /// The path that it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn meta<T: rusqlite::types::FromSql>(&self, key: Meta) -> Result<Option<T>, StoreError> {
        self.read("read meta", |db| open::meta(db, key))
    }

    fn set_meta(&mut self, key: Meta, value: impl rusqlite::ToSql) -> Result<(), StoreError> {
        self.write("write meta", |db| open::set_meta(db, key, value))
    }

    /// Runs a statement that only reads.
    fn read<T>(
        &self,
        what: &str,
        run: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, StoreError> {
        run(&self.db).map_err(|error| self.failed(what, &error))
    }

    /// The error of the store that an error of SQLite is. Damage is noted, so that the next opening looks for it.
    fn failed(&self, what: &str, error: &rusqlite::Error) -> StoreError {
        if open::is_damage(error) {
            // A disk that does not even take this leaves the check that follows each unclean stop.
            let _ = File::create(open::suspicion(&self.path));
        }
        failure(what, error)
    }

    /// Runs a statement that writes, inside the one transaction.
    fn write<T>(
        &mut self,
        what: &str,
        run: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, StoreError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let done = self.begin().and_then(|()| run(&self.db));
        done.map_err(|error| {
            let error = self.failed(what, &error);
            self.broken = Some(error.clone());
            error
        })
    }

    fn begin(&mut self) -> Result<(), rusqlite::Error> {
        if self.begun {
            return Ok(());
        }
        // Even a BEGIN that fails has to be rolled back by the caller: the turn is torn.
        self.begun = true;
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)
    }
}

/// How much room the file takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Bytes of the file.
    pub file: u64,
    /// Of these, bytes that hold something.
    pub used: u64,
    /// Bytes that it may have.
    pub max: u64,
}

/// Keys of table `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meta {
    Instance,
    CreatedAt,
    Clean,
    Up,
    MessageIds,
    BelievedWall,
    BelievedUp,
    Boot,
    JournalBytes,
    Downtime,
    /// Up-time before which frames may be missing that are newer than the oldest.
    JournalWholeSince,
    /// What a salvage still has to tell.
    Damage,
    /// Numbers of connections to the broker that are set aside.
    Sessions,
    /// How far the outbox was sent.
    OutboxSent,
}

impl Meta {
    const fn key(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::CreatedAt => "created_at",
            Self::Clean => "clean",
            Self::Up => "up_ms",
            Self::MessageIds => "message_ids",
            Self::BelievedWall => "believed_wall_ms",
            Self::BelievedUp => "believed_up_ms",
            Self::Boot => "boot_id",
            Self::Downtime => "downtime",
            Self::JournalBytes => "journal_bytes",
            Self::JournalWholeSince => "journal_whole_since_ms",
            Self::Damage => "damage",
            Self::Sessions => "cloud_sessions",
            Self::OutboxSent => "outbox_sent",
        }
    }
}

/// Numbers the messages to devices: ids below `reserved` are set aside durably, and a run begins behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MessageIds {
    next: u64,
    reserved: u64,
    reserving: u64,
}

impl MessageIds {
    /// Ids set aside at a time: far more than are sent between two commits.
    const BLOCK: u64 = 65_536;

    const fn starting_at(mark: u64) -> Self {
        let reserved = mark + Self::BLOCK;
        Self { next: mark, reserved, reserving: reserved }
    }

    /// On the wire an id has 32 bits and is not 0.
    fn wire(id: u64) -> MessageId {
        let wire = id % u64::from(u32::MAX) + 1;
        MessageId(u32::try_from(wire).unwrap_or(u32::MAX))
    }
}

/// The error of the store that an error of SQLite is.
fn failure(what: &str, error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
    // The index of the log cannot grow: a full disk, too, under another name.
    const IOERR_SHMSIZE: i32 = 10 | (19 << 8);
    match error {
        rusqlite::Error::SqliteFailure(e, _) if e.code == DiskFull || e.extended_code == IOERR_SHMSIZE => {
            StoreError::Full
        }
        rusqlite::Error::SqliteFailure(e, _) if matches!(e.code, DatabaseBusy | DatabaseLocked) => StoreError::Busy,
        rusqlite::Error::SqliteFailure(e, _) => {
            StoreError::Failed(format!("cannot {what}: {error} (SQLite {})", e.extended_code))
        }
        _ => StoreError::Failed(format!("cannot {what}: {error}")),
    }
}

/// SQLite's integers have a sign; nothing here comes near its bit.
fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the loop asks while it runs, and which index has to answer it.
    const HOT: &[(&str, &str)] = &[
        (orders::BY_NO, "SEARCH orders USING INDEX sqlite_autoindex_orders_1 (order_no=?)"),
        (orders::EXISTS, "SEARCH orders USING COVERING INDEX sqlite_autoindex_orders_1 (order_no=?)"),
        (orders::OF_PORT, "SEARCH orders USING INDEX orders_of_port (device_id=? AND socket_no=? AND port_no=?)"),
        (orders::BY_SERIAL, "SEARCH orders USING INTEGER PRIMARY KEY (rowid=?)"),
        (orders::OPEN, "SCAN orders USING INDEX orders_one_open_per_port"),
        (orders::UNSETTLED, "SCAN orders USING INDEX orders_not_final"),
        (orders::TO_FINALIZE, "SEARCH orders USING INDEX orders_not_final (closed_up<?)"),
        (orders::FIRST_TO_FINALIZE, "SEARCH orders USING COVERING INDEX orders_not_final (closed_up>?)"),
        (orders::KEYS, "SEARCH orders USING INTEGER PRIMARY KEY (rowid=?)"),
        (orders::SET_KEYS, "SEARCH orders USING INTEGER PRIMARY KEY (rowid=?)"),
        (orders::SET_BODY, "SEARCH orders USING INTEGER PRIMARY KEY (rowid=?)"),
        (orders::FIGURES, "SEARCH orders USING INTEGER PRIMARY KEY (rowid=?)"),
        (devices::DEVICE_SEEN, "SEARCH devices USING INDEX sqlite_autoindex_devices_1 (device_id=?)"),
        (devices::SOCKET_SEEN, "SEARCH sockets USING INDEX sqlite_autoindex_sockets_1 (device_id=? AND socket_no=?)"),
        (
            ports::FIGURES,
            "SEARCH ports USING INDEX sqlite_autoindex_ports_1 (device_id=? AND socket_no=? AND port_no=?)",
        ),
        (commands::BY_ID, "SEARCH commands USING INDEX sqlite_autoindex_commands_1 (id=?)"),
        (commands::SET_REPLY, "SEARCH commands USING INDEX sqlite_autoindex_commands_1 (id=?)"),
        (commands::SENDING, "SEARCH sendings USING INTEGER PRIMARY KEY (rowid=?)"),
        (events::FROM, "SEARCH events USING INDEX sqlite_autoindex_events_1 (stream=? AND seq>?)"),
        (events::OLDEST, "SEARCH events USING COVERING INDEX sqlite_autoindex_events_1 (stream=?)"),
        (events::NEWEST, "SEARCH events USING COVERING INDEX sqlite_autoindex_events_1 (stream=?)"),
        (outbox::URGENT, "SEARCH outbox USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (outbox::REST, "SEARCH outbox USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (outbox::CONFIRMED, "SEARCH outbox USING INTEGER PRIMARY KEY (rowid<?)"),
        (outbox::DELETE, "SEARCH outbox USING INTEGER PRIMARY KEY (rowid=?)"),
        (outbox::SET_SUM, "SEARCH outbox USING INTEGER PRIMARY KEY (rowid=?)"),
        (outbox::SET_PAYLOAD, "SEARCH outbox USING INTEGER PRIMARY KEY (rowid=?)"),
        (replaying::KEPT, "SEARCH events USING COVERING INDEX sqlite_autoindex_events_1 (stream=? AND seq>?)"),
        (journal::REFUSED, "SEARCH journal USING INDEX journal_refused (device_id=?)"),
        (alerts::OPEN_ONE, "SEARCH alerts USING INDEX alerts_open (rule=? AND <expr>=? AND <expr>=? AND <expr>=?)"),
        (alerts::OPEN, "SCAN alerts USING INDEX alerts_open"),
    ];

    #[test]
    fn every_hot_query_is_answered_by_its_index() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("../../schema.sql")).unwrap();
        for (sql, expected) in HOT {
            let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let blank = vec![rusqlite::types::Null; statement.parameter_count()];
            let plan: Vec<String> = statement
                .query_map(rusqlite::params_from_iter(blank), |row| row.get("detail"))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            // The rest of a plan may be steps without a table, like "SCAN CONSTANT ROW".
            assert!(plan.iter().any(|step| step == expected), "{sql}\nhas the plan {plan:?}");
            let touched = plan.iter().filter(|step| step.starts_with("SCAN") && !step.contains("CONSTANT ROW"));
            assert!(touched.eq([expected].iter().filter(|step| step.starts_with("SCAN")).copied()), "{sql}\n{plan:?}");
            assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{sql}\nsorts: {plan:?}");
        }
    }

    #[test]
    fn no_hot_statement_is_prepared_anew_for_what_is_bound() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.db"), &Settings::default(), WallTime(0)).unwrap();
        for (sql, _) in HOT {
            let mut statement = store.db.prepare(sql).unwrap();
            for value in [1, 2] {
                let values = vec![value; statement.parameter_count()];
                let _ = statement.query(rusqlite::params_from_iter(values)).unwrap().next();
            }
            assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0, "{sql}");
        }
    }

    #[test]
    fn ids_of_messages_are_never_zero_and_wrap_after_four_billion() {
        assert_eq!(MessageIds::wire(0), MessageId(1));
        assert_eq!(MessageIds::wire(u64::from(u32::MAX) - 1), MessageId(u32::MAX));
        assert_eq!(MessageIds::wire(u64::from(u32::MAX)), MessageId(1));
    }
}
