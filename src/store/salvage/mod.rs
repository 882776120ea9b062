//! A damaged store: set aside, a new one started, and whatever can be read brought over (contract §5).
//!
//! The damaged file is read by its pages, not through SQLite, which gives up a table at the first bad page on the way
//! and everything when the first page or the schema is bad. Trees are walked around bad pages, leaves whose way in is
//! lost are found by themselves, and where the schema is lost its trees stand where a new file has them.
//!
//! **Events.** The new file has a new instance, whose numbers begin at 1 in each stream. Events that the cloud had
//! confirmed stay in the set-aside file: brought over, they would have numbers that the receiver never got, and nothing
//! could prove them complete. Those that wait for it come over in their order, numbered from 1 without gaps, and are told
//! under the new instance. When no event was ever put out for a cloud there is no receiver, and all come over. When it
//! cannot be known what waits, all come over and all wait: told twice is better than never. The alert's details name
//! the old instance and how far each of its streams went, so that the receiver knows what to expect of it no more.
//!
//! **Orders.** Open ones come over as they are, with the holds and owed stops of their ports. When orders may be
//! missing, a port with none open is marked: a session that it shows belongs to a customer whose order was lost, and
//! is adopted, not stopped.

mod aside;

mod pages;
mod rows;
mod tree;
mod wal;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use rusqlite::types::Value as Column;
use rusqlite::{Connection, TransactionBehavior};
use serde_json::{Map, Value, json};

use super::open::{OpenError, Opening, meta, set_meta};
use super::row::json as to_json;
use super::{Meta, Settings, Store, StoreError, Stream, events, outbox, to_i64};
use crate::clock::{UpTime, WallTime};
use crate::ids::MessageId;

pub(super) use aside::finish;
pub(super) use rows::unreadable;
pub(super) use wal::Log;

use pages::Pages;
use rows::{Filler, TABLES, Tallies};
use tree::{Forest, RawRow};

/// What each file of SQLite begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Of our files.
const PAGE: usize = 4096;
/// Far more ids than a day needs: what was used last is not known.
const IDS_AHEAD: u64 = 1 << 24;
/// Ids of rows that are not to be used again, when it is not known how far they went.
const ROWS_AHEAD: i64 = 1_000_000;
/// Numbers of connections to the broker that may have been used after the newest mark that can be read.
const SESSIONS_AHEAD: u64 = 1024;

/// How a salvage ended that brought nothing about. The damaged file is where it was.
enum Failure {
    /// The disk, or the quota, has no room for the new file.
    Full,
    Other(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match super::failure("write the new file", &error) {
            StoreError::Full => Self::Full,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Sets the file at the path aside and leaves in its place a new one with what could be read.
pub(super) fn salvage(opening: &Opening<'_>, settings: &Settings, wall: WallTime, what: &str) -> Result<(), OpenError> {
    let path = opening.path;
    let made = make(opening, settings, wall, what, true).or_else(|failure| match failure {
        // The frames take the most room and matter least.
        Failure::Full => make(opening, settings, wall, what, false),
        other => Err(other),
    });
    let failed =
        |why: &str| OpenError::Unsalvaged { path: path.to_owned(), what: what.to_owned(), why: why.to_owned() };
    let details = made.map_err(|failure| {
        aside::clean(path);
        match failure {
            Failure::Full => failed("the disk has no room for a new one; free some space"),
            Failure::Other(why) => failed(&format!("it could not be set aside: {why}")),
        }
    })?;
    finish(path).map_err(|error| failed(&format!("it could not be set aside: {error}")))?;
    log::warn!(
        "store damaged: {what}; started anew, the old file is kept as {}; rows brought over: {}; left out: {}; pages lost: {}",
        details["file"],
        details["kept"],
        details["left_out"],
        details["pages_lost"]
    );
    Ok(())
}

/// Makes the new file, complete, beside the damaged one.
fn make(
    opening: &Opening<'_>,
    settings: &Settings,
    wall: WallTime,
    what: &str,
    with_journal: bool,
) -> Result<Value, Failure> {
    let path = opening.path;
    aside::clean(path);
    aside::make_place(path)?;
    let time = aside::stamp(path, wall)?;
    let unfinished = aside::unfinished(path);
    let mut db = opening.create_at(&unfinished, settings, wall)?;
    let pages = Pages::open(path)?;
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let old = Old::fill(&transaction, &pages, with_journal)?;
    let details = old.settle(&transaction, &aside::corrupt(path, &time), what)?;
    transaction.commit()?;
    db.close().map_err(|(_, error)| error)?;
    aside::finished(path, &time)?;
    Ok(details)
}

/// What was found in the damaged file, its rows being in the new one already.
struct Old {
    tallies: Tallies,
    meta: BTreeMap<String, Column>,
    /// Table `sqlite_sequence`: the highest ids ever given.
    highest: BTreeMap<String, i64>,
    highest_known: bool,
    log_is_damaged: bool,
}

impl Old {
    fn fill(db: &Connection, pages: &Pages, with_journal: bool) -> rusqlite::Result<Self> {
        let mut forest = Forest::new(pages);
        let roots = roots(db, &mut forest)?;
        let mut old = Self {
            tallies: Tallies::new(),
            meta: BTreeMap::new(),
            highest: BTreeMap::new(),
            highest_known: true,
            log_is_damaged: pages.log_is_damaged(),
        };
        let root = |name: &str| roots.get(name).copied().unwrap_or(0);
        forest.walk(root("meta"), &mut |row| {
            if let [Column::Text(key), value] = row.values.as_slice() {
                old.meta.insert(key.clone(), value.clone());
            }
            Ok(())
        })?;
        let lost = forest.walk(root("sqlite_sequence"), &mut |row| {
            if let [Column::Text(name), Column::Integer(highest)] = row.values.as_slice() {
                old.highest.insert(name.clone(), *highest);
            }
            Ok(())
        })?;
        old.highest_known = lost == 0;
        let mut short = Vec::new();
        for table in TABLES {
            let Some(&root) = roots.get(table.name) else { continue };
            if table.name == "journal" && !with_journal {
                old.tallies.entry(table.name).or_default().pages = 1;
                continue;
            }
            let filler = Filler::new(db, table)?;
            let tally = old.tallies.entry(table.name).or_default();
            tally.pages = forest.walk(root, &mut |row| {
                let kept = filler.take(row)?;
                *(if kept { &mut tally.kept } else { &mut tally.left_out }) += 1;
                Ok(())
            })?;
            if tally.pages > 0 {
                short.push((table.name, filler));
            }
        }
        if !short.is_empty() {
            // Sums tell whose row it is; of the others the one that takes it.
            forest.lost_leaves(&mut |row| {
                for (name, filler) in short.iter().rev() {
                    let copy = RawRow { rowid: row.rowid, values: row.values.clone(), sound: row.sound };
                    if filler.take(copy)? {
                        old.tallies.entry(name).or_default().kept += 1;
                        break;
                    }
                }
                Ok(())
            })?;
        }
        Ok(old)
    }

    /// Everything beside the rows themselves, and the word about it that the agent tells.
    fn settle(self, db: &Connection, aside: &Path, what: &str) -> rusqlite::Result<Value> {
        self.keep_meta(db)?;
        self.keep_highest(db)?;
        self.complete_ports(db)?;
        let streams = self.number_events(db)?;
        if self.tallies.get("journal").is_some_and(|tally| tally.is_short()) || self.log_is_damaged {
            let up: i64 = meta(db, Meta::Up)?.unwrap_or(0);
            set_meta(db, Meta::JournalWholeSince, up)?;
        }
        let each = |of: fn(&rows::Tally) -> u64| -> Map<String, Value> {
            let counts = self.tallies.iter().map(|(name, tally)| ((*name).to_owned(), of(tally)));
            counts.filter(|(_, count)| *count > 0).map(|(name, count)| (name, count.into())).collect()
        };
        let instance = match self.meta.get(Meta::Instance.key()) {
            Some(Column::Text(instance)) => Some(instance.as_str()),
            _ => None,
        };
        let details = json!({
            "what": what,
            "file": aside.display().to_string(),
            "was_instance": instance,
            "was_streams": streams,
            "kept": each(|tally| tally.kept),
            "left_out": each(|tally| tally.left_out),
            "pages_lost": each(|tally| u64::from(tally.pages)),
        });
        set_meta(db, Meta::Damage, to_json(&details)?)?;
        Ok(details)
    }

    fn number(&self, key: Meta) -> Option<u64> {
        match self.meta.get(key.key()) {
            Some(Column::Integer(number)) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    fn keep_meta(&self, db: &Connection) -> rusqlite::Result<()> {
        let newest_up = "SELECT max(up) FROM (SELECT max(up) AS up FROM journal UNION ALL
                         SELECT max(created_up) FROM events UNION ALL SELECT max(created_up) FROM orders)";
        let up = match self.number(Meta::Up) {
            Some(up) => up,
            None => db.query_row(newest_up, [], |row| row.get::<_, Option<UpTime>>(0))?.map_or(0, |up| up.0),
        };
        set_meta(db, Meta::Up, to_i64(up))?;
        for key in [Meta::BelievedWall, Meta::BelievedUp, Meta::Boot, Meta::Downtime] {
            if let Some(value) = self.meta.get(key.key()) {
                set_meta(db, key, value)?;
            }
        }
        let used = "SELECT max(id) FROM (SELECT max(message_id) AS id FROM sendings
                                         UNION ALL SELECT max(start_id) FROM orders)";
        let used: Option<MessageId> = db.query_row(used, [], |row| row.get(0))?;
        let used = used.map(|used| u64::from(used.0));
        let mark = match (self.number(Meta::MessageIds), used) {
            (Some(mark), used) if !self.log_is_damaged => mark.max(used.unwrap_or(0)),
            // The newest mark is lost, too.
            (Some(mark), used) => mark.max(used.unwrap_or(0)) + IDS_AHEAD,
            (None, Some(used)) => used + IDS_AHEAD,
            (None, None) => u64::from(super::open::random_number()?),
        };
        set_meta(db, Meta::MessageIds, to_i64(mark))?;
        if let Some(session) = self.number(Meta::Sessions) {
            // So that the last will of an earlier connection is told from a new one.
            set_meta(db, Meta::Sessions, to_i64(session + SESSIONS_AHEAD))?;
        }
        // The next opening checks the new file, as after a kill.
        set_meta(db, Meta::Clean, 0)
    }

    fn keep_highest(&self, db: &Connection) -> rusqlite::Result<()> {
        for (table, key) in [("outbox", "id"), ("alerts", "alert_id")] {
            let kept: i64 =
                db.query_row(&format!("SELECT ifnull(max({key}), 0) FROM {table}"), [], |row| row.get(0))?;
            let highest = match self.highest.get(table) {
                Some(highest) => kept.max(*highest),
                None if self.highest_known => kept,
                None => kept + ROWS_AHEAD,
            };
            if highest > 0 {
                db.execute("DELETE FROM sqlite_sequence WHERE name = ?1", [table])?;
                db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (table, highest))?;
            }
        }
        Ok(())
    }

    /// No order without its port, no port without its device; and no session of a lost order is switched off.
    fn complete_ports(&self, db: &Connection) -> rusqlite::Result<()> {
        db.execute_batch(
            "INSERT OR IGNORE INTO ports (device_id, socket_no, port_no, status)
                  SELECT device_id, socket_no, port_no, 1 FROM orders WHERE status IN (0, 2, 9);",
        )?;
        if self.log_is_damaged || self.tallies.get("orders").is_none_or(|tally| tally.is_short()) {
            // What was owed or held stays so; else the port is as good as new.
            db.execute_batch(
                r#"INSERT OR IGNORE INTO ports (device_id, socket_no, port_no, status)
                        SELECT DISTINCT device_id, socket_no, port_no, 1 FROM orders
                         WHERE device_id IN (SELECT device_id FROM devices);
                   UPDATE ports SET memory = json_set(ifnull(memory, '{}'), '$.orders_lost', json('true'))
                    WHERE NOT EXISTS (SELECT 1 FROM orders o
                                       WHERE o.device_id = ports.device_id AND o.socket_no = ports.socket_no
                                         AND o.port_no = ports.port_no AND o.status IN (0, 2, 9));"#,
            )?;
        }
        db.execute_batch(
            "INSERT OR IGNORE INTO devices (device_id, status, online, operator_enabled, policy_disabled)
                  SELECT device_id, 'enabled', 0, 1, 0 FROM sockets UNION SELECT device_id, 'enabled', 0, 1, 0 FROM ports;",
        )
    }

    /// Numbers the events from 1 without gaps, and leaves out what the receiver had confirmed. Returns how far each
    /// stream of the old instance went.
    fn number_events(&self, db: &Connection) -> rusqlite::Result<Value> {
        let waiting: BTreeSet<(String, i64)> = db
            .prepare("SELECT stream, seq FROM outbox WHERE stream IS NOT NULL")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let outbox = self.tallies.get("outbox").copied().unwrap_or_default();
        let never_used = self.highest_known && !self.highest.contains_key("outbox") && outbox.kept == 0;
        let all = never_used || outbox.is_short() || self.log_is_damaged;
        let all_wait = all && !never_used;
        db.execute_batch("DELETE FROM outbox WHERE stream IS NOT NULL")?;
        let mut streams = Map::new();
        for stream in Stream::ALL {
            let keys: Vec<(i64, i64)> = db
                .prepare("SELECT rowid, seq FROM events WHERE stream = ?1 ORDER BY seq")?
                .query_map([stream], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let (Some((_, oldest)), Some((_, newest))) = (keys.first(), keys.last()) else { continue };
            let missing = newest - oldest + 1 - to_i64(keys.len() as u64);
            streams
                .insert(stream.word().to_owned(), json!({ "oldest": oldest, "next": newest + 1, "missing": missing }));
            let mut seq = 0;
            for (rowid, was) in keys {
                let waits = waiting.contains(&(stream.word().to_owned(), was));
                if !(all || waits) {
                    db.prepare_cached("DELETE FROM events WHERE rowid = ?1")?.execute([rowid])?;
                    continue;
                }
                seq += 1;
                renumber(db, rowid, seq)?;
                if all_wait || waits {
                    put_out(db, *stream, seq, rowid)?;
                }
            }
        }
        Ok(Value::Object(streams))
    }
}

/// Ascending, as a lower number is always free.
fn renumber(db: &Connection, rowid: i64, seq: u64) -> rusqlite::Result<()> {
    let mut event = db.prepare_cached(events::ONE)?.query_row([rowid], events::event)?;
    if event.seq == seq {
        return Ok(());
    }
    event.seq = seq;
    let sql = "UPDATE events SET (seq, crc) = (?2, ?3) WHERE rowid = ?1";
    db.prepare_cached(sql)?.execute((rowid, to_i64(seq), events::sum(&event))).map(drop)
}

/// An event waits for the cloud, under its new number.
fn put_out(db: &Connection, stream: Stream, seq: u64, event: i64) -> rusqlite::Result<()> {
    let at = db.prepare_cached("SELECT at FROM events WHERE rowid = ?1")?.query_row([event], |row| row.get(0))?;
    outbox::insert(db, at, &outbox::event_topic(stream), Some((stream, seq)), None).map(drop)
}

/// Where the trees begin: as the schema of the damaged file says. What a damaged schema does not say, as in a new file,
/// since trees stay where they began; what a whole one does not say, an older version did not have.
fn roots(db: &Connection, forest: &mut Forest<'_>) -> rusqlite::Result<BTreeMap<String, u32>> {
    let mut roots: BTreeMap<String, u32> = db
        .prepare("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut found = BTreeSet::new();
    let lost = forest.walk(1, &mut |row| {
        if let [Column::Text(kind), Column::Text(name), _, Column::Integer(root), ..] = row.values.as_slice()
            && kind == "table"
            && let Ok(root) = u32::try_from(*root)
            && row.sound
        {
            roots.insert(name.clone(), root);
            found.insert(name.clone());
        }
        Ok(())
    })?;
    if lost == 0 && found.contains("meta") {
        roots.retain(|name, _| found.contains(name));
    }
    Ok(roots)
}

/// SQLite's numbers in headers, most significant byte first.
fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Store {
    /// What a salvage has to tell, until that is told: the details of alert `store_damaged`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn damage(&self) -> Result<Option<Value>, StoreError> {
        let kept: Option<String> = self.meta(Meta::Damage)?;
        Ok(kept.map(|json| serde_json::from_str(&json).unwrap_or(Value::Null)))
    }

    /// It is told, with what else is committed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn damage_told(&mut self) -> Result<(), StoreError> {
        self.write("write meta", |db| db.execute("DELETE FROM meta WHERE key = ?1", [Meta::Damage.key()]))?;
        Ok(())
    }
}
