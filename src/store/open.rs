//! The opening ritual: whose file is it, who else has it, is it whole, is it of this version.
//!
//! What must not be touched is recognised before anything is changed. What is ours and damaged is set aside, and a new
//! file takes its place with whatever could be read ([`salvage`]).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::FromSql;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, ToSql, TransactionBehavior};

use super::{MessageIds, Meta, Settings, Store, StoreError, failure, to_i64};
use super::{journal, outbox, salvage};
use crate::clock::{UpTime, WallTime};

/// "chgt": the file is ours.
pub const APPLICATION_ID: i32 = 0x6368_6774;
const SCHEMA: &str = include_str!("../../schema.sql");
/// Each brings a file from its version, counted from 1, to the next, in one transaction. `schema.sql` is the sum.
const STEPS: &[&str] = &[
    // Port time counts from here on: what was before left no evidence.
    "ALTER TABLE ports ADD COLUMN known_up INTEGER;
     UPDATE ports SET known_up = (SELECT value FROM meta WHERE key = 'up_ms');
     CREATE TABLE inconsistencies (
       device_id  TEXT NOT NULL,
       socket_no  INTEGER NOT NULL,
       port_no    INTEGER NOT NULL,
       issue_type TEXT NOT NULL
                  CHECK (issue_type IN ('order_port_mismatch', 'orphaned_charging_order', 'lonely_charging_port')),
       began_at   INTEGER NOT NULL,
       began_up   INTEGER NOT NULL,
       late_up    INTEGER NOT NULL,
       order_no   TEXT,
       ended_at   INTEGER,
       ended_up   INTEGER,
       PRIMARY KEY (device_id, socket_no, port_no, began_up)
     ) STRICT;",
];
const PAGE: u64 = 4096;

/// The version of the schema that this program writes.
pub const fn version() -> i32 {
    STEPS.len() as i32 + 1
}

/// Why a store was not opened. Its file is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another program's file.
    #[error("{0} is an SQLite file of another program; give store.path another name")]
    ForeignFile(PathBuf),
    /// Written by a newer version of this program.
    #[error("{path} has version {found} and this program knows {known}; install the newer program again")]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
        /// The newest that is known here.
        known: i32,
    },
    /// Another agent runs on it.
    #[error("{0} is in use by another chargegate; stop it first, or give store.path another name")]
    InUse(PathBuf),
    /// It is damaged, and no new one could take its place.
    #[error("{path} is damaged ({what}), and {why}")]
    Unsalvaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What kept it from being set aside.
        why: String,
    },
    /// No room for the few bytes that opening writes.
    #[error("{0} cannot be opened because the disk is full; free some space")]
    Full(PathBuf),
    /// Anything else.
    #[error("cannot open {path}: {why}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}

/// Why a file was not opened yet.
enum Obstacle {
    /// It is ours, or nobody's, and cannot be read as what it is.
    Damaged(String),
    Refused(OpenError),
}

impl From<OpenError> for Obstacle {
    fn from(error: OpenError) -> Self {
        Self::Refused(error)
    }
}

/// Opens the store as [`Store::open`] says.
pub(super) fn open(path: &Path, settings: &Settings, wall: WallTime) -> Result<Store, OpenError> {
    let file = behind_links(path);
    let opening = Opening { path: &file, application_id: APPLICATION_ID, schema: SCHEMA, steps: STEPS };
    if let Err(Obstacle::Refused(error)) = opening.check_header() {
        return Err(error);
    }
    let lock = opening.lock()?;
    salvage::finish(&file)
        .map_err(|error| opening.failed(format_args!("cannot go on with setting a damaged file aside: {error}")))?;
    let (db, begun) = match opening.open_whole(settings, wall) {
        Ok(opened) => opened,
        Err(Obstacle::Refused(error)) => return Err(error),
        Err(Obstacle::Damaged(what)) => {
            salvage::salvage(&opening, settings, wall, &what)?;
            opening.open_whole(settings, wall).map_err(|obstacle| match obstacle {
                Obstacle::Refused(error) => error,
                Obstacle::Damaged(what) => opening.failed(format_args!("the new file is damaged, too: {what}")),
            })?
        }
    };
    // From here on a lock that somebody else holds passes, or the turn does.
    db.busy_timeout(Duration::from_secs(2)).map_err(|error| opening.failed(error))?;
    Ok(Store {
        db,
        path: file,
        settings: *settings,
        lock,
        instance: begun.instance,
        up_base: begun.up_base,
        noted_up: begun.noted_up,
        after_unclean_stop: !begun.clean,
        begun: false,
        broken: None,
        journal: journal::Size::new(begun.journal_bytes),
        ids: begun.ids,
        outbox_newest: begun.outbox_newest,
        sessions: outbox::Sessions::starting_behind(begun.sessions),
    })
}

/// The file itself: its companions stand beside it, not beside a link to it.
fn behind_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..8 {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().map_or_else(|| target.clone(), |folder| folder.join(&target));
    }
    path
}

/// What a run begins with.
struct Begun {
    instance: String,
    clean: bool,
    up_base: UpTime,
    noted_up: UpTime,
    ids: MessageIds,
    journal_bytes: u64,
    outbox_newest: u64,
    sessions: u64,
}

/// The newest up-time in any row: up-time is noted by itself only once a minute, and must never run behind what was
/// written with it.
const NEWEST_UP: &str = "
    SELECT max(coalesce((SELECT up FROM journal ORDER BY id DESC LIMIT 1), 0),
               coalesce((SELECT created_up FROM events ORDER BY rowid DESC LIMIT 1), 0),
               coalesce((SELECT created_up FROM commands ORDER BY rowid DESC LIMIT 1), 0),
               coalesce((SELECT max(updated_up) FROM ports), 0),
               coalesce((SELECT max(max(ifnull(figures_up, 0), ifnull(start_last_up, 0))) FROM orders WHERE final = 0), 0),
               coalesce((SELECT max(heard_up) FROM devices), 0),
               coalesce((SELECT max(max(ifnull(heard_up, 0), ifnull(lost_up, 0))) FROM sockets), 0),
               coalesce((SELECT max(sent_up) FROM sendings), 0),
               coalesce((SELECT max(max(late_up, ifnull(ended_up, 0))) FROM inconsistencies), 0))";

/// A run begins behind all that was kept, so that what it does at once is told from what the last one did.
const fn behind(newest: UpTime) -> UpTime {
    if newest.0 == 0 { newest } else { UpTime(newest.0 + 1) }
}

pub(super) fn newest_up(db: &Connection) -> rusqlite::Result<UpTime> {
    db.query_row(NEWEST_UP, [], |row| row.get(0))
}

/// A file that is being opened.
pub(super) struct Opening<'a> {
    pub(super) path: &'a Path,
    application_id: i32,
    schema: &'a str,
    steps: &'a [&'a str],
}

impl Opening<'_> {
    fn version(&self) -> i32 {
        i32::try_from(self.steps.len() + 1).unwrap_or(i32::MAX)
    }

    fn open_whole(&self, settings: &Settings, wall: WallTime) -> Result<(Connection, Begun), Obstacle> {
        self.check_header()?;
        self.check_log()?;
        let mut db = self.connect()?;
        self.check_identity(&db)?;
        self.configure(&db, settings).map_err(|error| self.error("set it up", &error))?;
        self.create(&mut db, wall)
            .and_then(|()| self.upgrade(&mut db))
            .map_err(|error| self.error("create or upgrade it", &error))?;
        let begun = self.begin_run(&mut db)?;
        Ok((db, begun))
    }

    /// Makes a new file at another path, not yet with a log: for rows to be put in at once.
    pub(super) fn create_at(
        &self,
        path: &Path,
        settings: &Settings,
        wall: WallTime,
    ) -> Result<Connection, rusqlite::Error> {
        let mut db = Connection::open(path)?;
        db.set_prepared_statement_cache_capacity(64);
        self.configure(&db, settings)?;
        // It counts only when it is whole and synced.
        db.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
        db.pragma_update(None, "synchronous", "OFF")?;
        self.create(&mut db, wall)?;
        Ok(db)
    }

    /// Looks at the first bytes of the file without SQLite, which would play back a log that it finds.
    fn check_header(&self) -> Result<(), Obstacle> {
        const EIO: i32 = 5;
        let mut header = [0; 100];
        let length = match File::open(self.path).and_then(|file| read_up_to(file, &mut header)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) if error.raw_os_error() == Some(EIO) => return Err(Obstacle::Damaged(error.to_string())),
            Err(error) => return Err(self.failed(error).into()),
            Ok(length) => length,
        };
        if length == 0 && beside(self.path, "-wal").metadata().is_ok_and(|log| log.len() > 0) {
            // SQLite would delete the log.
            return Err(Obstacle::Damaged("it is empty and its log is not".to_owned()));
        }
        // A file whose creation was cut short has a journal beside it, which says how to undo that.
        let half_created = beside(self.path, "-journal").metadata().is_ok_and(|journal| journal.len() > 0);
        if length < header.len() || !header.starts_with(b"SQLite format 3\0") {
            let fresh = length == 0 || half_created;
            let what = "it does not begin as an SQLite file does";
            return if fresh { Ok(()) } else { Err(Obstacle::Damaged(what.to_owned())) };
        }
        let number = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Ok(self.judge(number(68), number(60), half_created)?)
    }

    /// SQLite takes a log as far as it is whole, and drops the rest without a word.
    fn check_log(&self) -> Result<(), Obstacle> {
        let log = salvage::Log::read(&beside(self.path, "-wal")).map_err(|error| self.failed(error))?;
        if log.damaged { Err(Obstacle::Damaged("commits in its log are lost".to_owned())) } else { Ok(()) }
    }

    fn judge(&self, application_id: i32, version: i32, may_be_empty: bool) -> Result<(), OpenError> {
        if application_id != self.application_id && !(may_be_empty && application_id == 0) {
            return Err(OpenError::ForeignFile(self.path.to_owned()));
        }
        if version > self.version() {
            let path = self.path.to_owned();
            return Err(OpenError::NewerVersion { path, found: version, known: self.version() });
        }
        Ok(())
    }

    /// Takes the file beside the store that says that somebody has it. A stale one is harmless: the lock is the
    /// kernel's, and goes with the process.
    fn lock(&self) -> Result<File, OpenError> {
        let path = beside(self.path, ".lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| self.failed(format_args!("{}: {error}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(self.path.to_owned())),
            Err(TryLockError::Error(error)) => Err(self.failed(format_args!("{}: {error}", path.display()))),
        }
    }

    fn connect(&self) -> Result<Connection, Obstacle> {
        // One thread: SQLite needs no locks of its own.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(self.path, flags).map_err(|error| self.error("open it", &error))?;
        db.set_prepared_statement_cache_capacity(64);
        // A reader may be busy recovering the log of a killed agent.
        db.busy_timeout(Duration::from_secs(10)).map_err(|error| self.error("open it", &error))?;
        Ok(db)
    }

    /// The same questions as to the header, now that a log counts, too.
    fn check_identity(&self, db: &Connection) -> Result<(), Obstacle> {
        let ask = || -> rusqlite::Result<(i32, i32, bool)> {
            // Not even closing may touch what turns out not to be for us, or damaged: only a clean end does.
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            let application_id = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
            let version = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            Ok((application_id, version, is_empty(db)?))
        };
        let (application_id, version, empty) = ask().map_err(|error| self.error("read it", &error))?;
        Ok(self.judge(application_id, version, empty)?)
    }

    /// Every setting with its reason; none lasts but the journal mode, so each open sets them all.
    fn configure(&self, db: &Connection, settings: &Settings) -> rusqlite::Result<()> {
        // No view or trigger that somebody else planted runs functions.
        db.pragma_update(None, "trusted_schema", false)?;
        // Plans do not depend on what is bound: else a statement near a partial index is prepared anew each time.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // A rotten page is an error, not a strange answer.
        db.pragma_update(None, "cell_size_check", true)?;
        // Nothing temporary reaches the flash.
        db.pragma_update(None, "temp_store", "MEMORY")?;
        // Half a MiB of pages: what one turn touches; the rest is in the cache of the system anyway.
        db.pragma_update(None, "cache_size", -512)?;
        // A commit that was said to be durable survives a power cut: NORMAL loses the last ones.
        db.pragma_update(None, "synchronous", "FULL")?;
        // The log goes into the file every 4 MB …
        db.pragma_update(None, "wal_autocheckpoint", 1000)?;
        // … and gives back what a reader in the way made it grow beyond 8 MiB.
        db.pragma_update(None, "journal_size_limit", 8 << 20)?;
        // The quota: full is met long before the partition is.
        let pages = (settings.max_size / PAGE).clamp(1, u64::from(u32::MAX - 1));
        db.pragma_update(None, "max_page_count", to_i64(pages))
    }

    /// Makes a new file in one transaction.
    fn create(&self, db: &mut Connection, wall: WallTime) -> rusqlite::Result<()> {
        if is_empty(db)? {
            // Before there is a log, so that the file alone says whose it is.
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(self.schema)?;
            transaction.pragma_update(None, "application_id", self.application_id)?;
            transaction.pragma_update(None, "user_version", self.version())?;
            set_meta(&transaction, Meta::Instance, random_name()?)?;
            set_meta(&transaction, Meta::CreatedAt, wall.0)?;
            set_meta(&transaction, Meta::Clean, 1)?;
            transaction.commit()?;
        }
        Ok(())
    }

    /// Takes an older file step by step to this version.
    fn upgrade(&self, db: &mut Connection) -> rusqlite::Result<()> {
        // One sync a commit instead of four, and readers are never in the way.
        let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            let why = format!("the file system has no shared memory for a write-ahead log (mode {mode})");
            return Err(rusqlite::Error::ToSqlConversionFailure(why.into()));
        }
        loop {
            let version: i32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            let step = usize::try_from(version - 1).ok().and_then(|done| self.steps.get(done));
            let Some(step) = step else { return Ok(()) };
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", version + 1)?;
            transaction.commit()?;
        }
    }

    /// Checks what an unclean stop may have left, and notes that this run has begun.
    fn begin_run(&self, db: &mut Connection) -> Result<Begun, Obstacle> {
        let clean = meta(db, Meta::Clean).map_err(|error| self.error("read it", &error))? == Some(1);
        let suspect = suspicion(self.path).exists();
        if suspect || !clean {
            self.check(db, suspect)?;
        }
        let begun = self.note_run(db, clean).map_err(|error| self.error("write to it", &error))?;
        if suspect {
            let _ = fs::remove_file(suspicion(self.path));
        }
        Ok(begun)
    }

    /// Whether the pages hang together and every row can be read; after a run that met damage the indexes, too.
    fn check(&self, db: &Connection, thoroughly: bool) -> Result<(), Obstacle> {
        let check = if thoroughly { "PRAGMA integrity_check(1)" } else { "PRAGMA quick_check(1)" };
        let found: String =
            db.query_row(check, [], |row| row.get(0)).map_err(|error| self.error("check it", &error))?;
        if found != "ok" {
            return Err(Obstacle::Damaged(found));
        }
        match salvage::unreadable(db).map_err(|error| self.error("check it", &error))? {
            Some(what) => Err(Obstacle::Damaged(what)),
            None => Ok(()),
        }
    }

    fn note_run(&self, db: &mut Connection, clean: bool) -> rusqlite::Result<Begun> {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let number =
            |key| Ok::<_, rusqlite::Error>(meta::<i64>(&transaction, key)?.map_or(0, |n| n.max(0).unsigned_abs()));
        let ids = MessageIds::starting_at(number(Meta::MessageIds)?);
        let journal_bytes = match clean {
            true => number(Meta::JournalBytes)?,
            // The check has just read every page, so this costs little beside it.
            false => journal::sum(&transaction)?,
        };
        let instance = meta(&transaction, Meta::Instance)?;
        let begun = Begun {
            instance: instance.ok_or(rusqlite::Error::QueryReturnedNoRows)?,
            clean,
            up_base: behind(UpTime(number(Meta::Up)?).max(newest_up(&transaction)?)),
            noted_up: UpTime(number(Meta::Up)?),
            ids,
            journal_bytes,
            outbox_newest: outbox::newest(&transaction)?,
            sessions: number(Meta::Sessions)?,
        };
        set_meta(&transaction, Meta::MessageIds, to_i64(ids.reserved))?;
        set_meta(&transaction, Meta::Clean, 0)?;
        transaction.commit()?;
        Ok(begun)
    }

    fn error(&self, what: &str, error: &rusqlite::Error) -> Obstacle {
        if is_damage(error) {
            return Obstacle::Damaged(error.to_string());
        }
        Obstacle::Refused(match failure(what, error) {
            StoreError::Full => OpenError::Full(self.path.to_owned()),
            StoreError::Busy => self.failed("another program keeps it locked"),
            StoreError::Failed(why) => self.failed(why),
        })
    }

    fn failed(&self, why: impl ToString) -> OpenError {
        OpenError::Failed { path: self.path.to_owned(), why: why.to_string() }
    }
}

/// A single value of table `meta`.
pub(super) fn meta<T: FromSql>(db: &Connection, key: Meta) -> rusqlite::Result<Option<T>> {
    db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key.key()], |row| row.get(0)).optional()
}

/// Sets it; the same value again costs nothing.
pub(super) fn set_meta(db: &Connection, key: Meta, value: impl ToSql) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value IS NOT excluded.value";
    db.prepare_cached(sql)?.execute((key.key(), value)).map(drop)
}

fn is_empty(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}

/// What is in the file cannot be read, or not as what it should be.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    // A sector that the disk does not give, and a file system that knows its data to be bad.
    const IOERR_READ: i32 = 10 | (1 << 8);
    const IOERR_CORRUPTFS: i32 = 10 | (33 << 8);
    match error {
        Error::SqliteFailure(e, _) => {
            matches!(e.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                || matches!(e.extended_code, IOERR_READ | IOERR_CORRUPTFS)
        }
        Error::FromSqlConversionFailure(..) | Error::IntegralValueOutOfRange(..) | Error::InvalidColumnType(..) => true,
        _ => false,
    }
}

/// Exists when a run met damage: the next one looks closely.
pub(super) fn suspicion(path: &Path) -> PathBuf {
    beside(path, ".suspect")
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn read_up_to(mut file: File, into: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < into.len() {
        match file.read(&mut into[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Twelve hex digits from the kernel.
fn random_name() -> rusqlite::Result<String> {
    Ok(random_bytes::<6>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn random_number() -> rusqlite::Result<u32> {
    random_bytes().map(u32::from_ne_bytes)
}

fn random_bytes<const N: usize>() -> rusqlite::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
                       CREATE TABLE boxes (name TEXT) STRICT;";
    const NEW: &str = "CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
                       CREATE TABLE boxes (name TEXT, weight INTEGER) STRICT;
                       CREATE INDEX boxes_by_weight ON boxes (weight);";
    const NEW_STEPS: &[&str] =
        &["ALTER TABLE boxes ADD COLUMN weight INTEGER;", "CREATE INDEX boxes_by_weight ON boxes (weight);"];

    fn prepare(path: &Path, schema: &str, steps: &[&str]) -> Result<Connection, OpenError> {
        let opening = Opening { path, application_id: APPLICATION_ID, schema, steps };
        let prepared = || -> Result<Connection, Obstacle> {
            opening.check_header()?;
            let mut db = opening.connect()?;
            opening.check_identity(&db)?;
            opening.configure(&db, &Settings::default()).unwrap();
            opening
                .create(&mut db, WallTime(0))
                .and_then(|()| opening.upgrade(&mut db))
                .map_err(|error| opening.error("upgrade", &error))?;
            Ok(db)
        };
        prepared().map_err(|obstacle| match obstacle {
            Obstacle::Refused(error) => error,
            Obstacle::Damaged(what) => panic!("damaged: {what}"),
        })
    }

    /// Names and columns, without the spelling of the statements.
    fn shape(db: &Connection) -> Vec<(String, String, String)> {
        let sql = "SELECT s.type, s.name, ifnull(group_concat(c.name || ' ' || c.type, ', '), '')
                     FROM sqlite_schema s LEFT JOIN pragma_table_info(s.name) c GROUP BY s.name ORDER BY s.name";
        let mut statement = db.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn an_upgraded_old_file_is_like_a_fresh_one_and_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
        let db = prepare(&old, OLD, &[]).unwrap();
        db.execute("INSERT INTO boxes VALUES ('first')", []).unwrap();
        drop(db);
        let upgraded = prepare(&old, NEW, NEW_STEPS).unwrap();
        let fresh = prepare(&new, NEW, NEW_STEPS).unwrap();
        assert_eq!(shape(&upgraded), shape(&fresh));
        for db in [&upgraded, &fresh] {
            assert_eq!(db.query_row("PRAGMA user_version", [], |row| row.get::<_, i32>(0)).unwrap(), 3);
        }
        let kept: String = upgraded.query_row("SELECT name FROM boxes", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "first");
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.db");
        drop(prepare(&path, OLD, &[]).unwrap());
        let broken = &["ALTER TABLE boxes ADD COLUMN weight INTEGER; SELECT nonsense;"];
        assert!(prepare(&path, NEW, broken).is_err());
        let db = prepare(&path, OLD, &[]).unwrap();
        let fresh = prepare(&folder.path().join("new.db"), OLD, &[]).unwrap();
        assert_eq!(shape(&db), shape(&fresh));
    }

    #[test]
    fn a_newer_file_is_refused_even_when_only_its_log_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("a.db"), folder.path().join("b.db"));
        drop(prepare(&path, OLD, &[]).unwrap());
        let db = prepare(&path, NEW, NEW_STEPS).unwrap();
        // As a kill would leave it: the upgrade stands in the log alone.
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(beside(&path, "-wal"), beside(&copy, "-wal")).unwrap();
        drop(db);
        let before = (std::fs::read(&copy).unwrap(), std::fs::read(beside(&copy, "-wal")).unwrap());
        let refused = prepare(&copy, OLD, &[]).unwrap_err();
        assert!(matches!(refused, OpenError::NewerVersion { found: 3, known: 1, .. }), "{refused}");
        let after = (std::fs::read(&copy).unwrap(), std::fs::read(beside(&copy, "-wal")).unwrap());
        assert!(before == after, "the file or its log was touched");
    }
}
