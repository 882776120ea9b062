//! Rows from a damaged file into a new one: each is put in as it was and read back as the program reads it; what the
//! tables do not take, or the program could not read, or whose sum is wrong, is left out.

use std::collections::BTreeMap;

use rusqlite::types::{Type, Value};
use rusqlite::{Connection, ErrorCode, Row, params_from_iter};

use super::tree::RawRow;
use crate::store::{alerts, commands, consistency, devices, events, journal, orders, outbox, ports};

/// Tells whether the program can use a row.
type Check = fn(&Row<'_>) -> rusqlite::Result<bool>;

/// A table whose rows are brought over.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// All its rows, as the program reads them.
    select: &'static str,
    check: Check,
    /// Each row has a sum: it can be believed wherever it is found.
    pub(super) has_sum: bool,
}

/// What matters most comes first.
pub(super) const TABLES: &[Table] = &[
    Table { name: "devices", select: devices::ALL_DEVICES, check: |row| read(devices::device(row)), has_sum: false },
    Table { name: "sockets", select: devices::ALL_SOCKETS, check: |row| read(devices::socket(row)), has_sum: false },
    Table { name: "ports", select: ports::ALL, check: |row| read(ports::port(row)), has_sum: false },
    Table { name: "orders", select: orders::ALL, check: order, has_sum: false },
    Table {
        name: "sendings",
        select: commands::ALL_SENDINGS,
        check: |row| read(commands::sending(row)),
        has_sum: false,
    },
    Table { name: "commands", select: commands::ALL, check: command, has_sum: false },
    Table { name: "alerts", select: alerts::ALL, check: |row| read(alerts::alert(row)), has_sum: false },
    Table { name: "outbox", select: outbox::ALL, check: |row| Ok(outbox::row(row)?.intact), has_sum: true },
    Table { name: "events", select: events::ALL, check: |row| Ok(events::event(row)?.intact), has_sum: true },
    Table { name: "journal", select: journal::ALL, check: |row| Ok(journal::entry(row)?.intact), has_sum: true },
    Table {
        name: "inconsistencies",
        select: consistency::ALL,
        check: |row| read(consistency::inconsistency(row)),
        has_sum: false,
    },
];

fn read<T>(row: rusqlite::Result<T>) -> rusqlite::Result<bool> {
    row.map(|_| true)
}

fn order(row: &Row<'_>) -> rusqlite::Result<bool> {
    match orders::order(row)?.contradiction() {
        None => Ok(true),
        Some(what) => Err(rusqlite::Error::FromSqlConversionFailure(0, Type::Integer, what.into())),
    }
}

fn command(row: &Row<'_>) -> rusqlite::Result<bool> {
    let command = commands::command(row)?;
    let is_json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    Ok(is_json(&command.payload) && command.reply.as_deref().is_none_or(is_json))
}

/// Whether the program can read every row of every table; what is wrong with the first that it cannot. A wrong sum
/// is dealt with where the row is used.
pub(in crate::store) fn unreadable(db: &Connection) -> rusqlite::Result<Option<String>> {
    for table in TABLES {
        let mut statement = db.prepare(table.select)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Err(error) = (table.check)(row) {
                return Ok(Some(format!("a row of {} cannot be read: {error}", table.name)));
            }
        }
    }
    Ok(None)
}

/// What became of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) kept: u64,
    /// Rows that were found and cannot be used.
    pub(super) left_out: u64,
    /// Pages that could not be read, or not whole.
    pub(super) pages: u32,
}

impl Tally {
    /// Rows may be missing.
    pub(super) const fn is_short(self) -> bool {
        self.left_out > 0 || self.pages > 0
    }
}

pub(super) type Tallies = BTreeMap<&'static str, Tally>;

/// Puts rows into one table of the new file.
pub(super) struct Filler<'a> {
    db: &'a Connection,
    table: &'a Table,
    insert: String,
    read_back: String,
    delete: String,
    columns: usize,
    /// The column that is the row's number.
    number: Option<usize>,
}

impl<'a> Filler<'a> {
    pub(super) fn new(db: &'a Connection, table: &'a Table) -> rusqlite::Result<Self> {
        let mut statement = db.prepare("SELECT name, type, pk FROM pragma_table_info(?1)")?;
        let columns: Vec<(String, String, i64)> = statement
            .query_map([table.name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let keys = columns.iter().filter(|(_, _, key)| *key > 0).count();
        let number = columns.iter().position(|(_, kind, key)| keys == 1 && *key == 1 && kind == "INTEGER");
        let names: Vec<&str> = columns.iter().map(|(name, _, _)| name.as_str()).collect();
        let values: Vec<String> = (1..=columns.len() + 1).map(|n| format!("?{n}")).collect();
        let (list, name) = (names.join(", "), table.name);
        // With its number, so that the order of rows stays.
        let insert = format!("INSERT INTO {name} ({list}, rowid) VALUES ({})", values.join(", "));
        let read_back = format!("{} WHERE rowid = ?1", table.select);
        let delete = format!("DELETE FROM {name} WHERE rowid = ?1");
        Ok(Self { db, table, insert, read_back, delete, columns: columns.len(), number })
    }

    /// Puts a row in; `false` when it is left out.
    pub(super) fn take(&self, row: RawRow) -> rusqlite::Result<bool> {
        let RawRow { rowid, mut values, sound } = row;
        if values.len() > self.columns || !(sound || self.table.has_sum) {
            return Ok(false);
        }
        // Empty columns at the end are not stored.
        values.resize(self.columns, Value::Null);
        if let Some(number) = self.number {
            values[number] = Value::Integer(rowid);
        }
        values.push(Value::Integer(rowid));
        match self.db.prepare_cached(&self.insert)?.execute(params_from_iter(values)) {
            Ok(_) => {}
            Err(error) if is_refusal(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        let checked = self.db.prepare_cached(&self.read_back)?.query_row([rowid], self.table.check);
        match checked {
            Ok(true) => return Ok(true),
            Err(error @ rusqlite::Error::SqliteFailure(..)) => return Err(error),
            Ok(false) | Err(_) => {}
        }
        self.db.prepare_cached(&self.delete)?.execute([rowid])?;
        Ok(false)
    }
}

/// The tables do not take the row.
fn is_refusal(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(e, _)
        if matches!(e.code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig))
}
