//! Between records and columns: the conversions, a reader that goes through a row, and the sum of a row.

use std::fmt::Display;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Error, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::to_i64;
use crate::clock::{UpTime, WallTime};
use crate::ids::{
    BusinessNo, Cents, DeciVolts, DeciWatts, DeviceId, MessageId, MilliAmperes, Minutes, OrderNo, PortNo, SocketNo,
    WattHours,
};
use crate::order::{EndReason, Flag, OrderStatus, Settlement, Source, Verdict};
use crate::port::state::PortStatus;

/// A value that does not fit its column's type: the file was changed by somebody else, or rotted.
pub(super) fn odd(value: impl Display) -> FromSqlError {
    FromSqlError::Other(format!("unexpected value {value}").into())
}

/// Columns that hold an integer: how it is made, and how it is read.
macro_rules! integer_columns {
    ($($type:ty: |$value:ident| $to:expr, |$stored:ident| $from:expr;)+) => {$(
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let $value = self;
                Ok(ToSqlOutput::from($to))
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let $stored = value.as_i64()?;
                $from.ok_or_else(|| odd($stored))
            }
        }
    )+};
}

integer_columns! {
    UpTime: |v| to_i64(v.0), |n| u64::try_from(n).ok().map(UpTime);
    WallTime: |v| v.0, |n| Some(WallTime(n));
    SocketNo: |v| i64::from(v.get()), |n| u8::try_from(n).ok().and_then(SocketNo::new);
    PortNo: |v| i64::from(v.get()), |n| u8::try_from(n).ok().and_then(PortNo::new);
    BusinessNo: |v| i64::from(v.get()), |n| u16::try_from(n).ok().and_then(BusinessNo::new);
    MessageId: |v| i64::from(v.0), |n| u32::try_from(n).ok().map(MessageId);
    WattHours: |v| i64::from(v.0), |n| u32::try_from(n).ok().map(WattHours);
    Minutes: |v| i64::from(v.0), |n| u32::try_from(n).ok().map(Minutes);
    Cents: |v| i64::from(v.0), |n| u32::try_from(n).ok().map(Cents);
    OrderStatus: |v| i64::from(v.code()), |n| u8::try_from(n).ok().and_then(OrderStatus::from_code);
    PortStatus: |v| i64::from(v.code()), |n| u8::try_from(n).ok().and_then(PortStatus::from_code);
}

/// Columns in whole units that are counted in fractions of them.
macro_rules! real_columns {
    ($($type:ident: $parts:literal),+ $(,)?) => {$(
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(f64::from(self.0) / $parts))
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let stored = f64::column_result(value)?;
                let parts = (stored * $parts).round();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in bounds as checked")]
                let whole = (0.0..=f64::from(u32::MAX)).contains(&parts).then_some($type(parts as u32));
                whole.ok_or_else(|| odd(stored))
            }
        }
    )+};
}

real_columns!(DeciWatts: 10.0, DeciVolts: 10.0, MilliAmperes: 1000.0);

/// Columns that hold a word of a closed set.
macro_rules! word_columns {
    ($($type:ty),+ $(,)?) => {$(
        impl rusqlite::types::ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
                Ok(rusqlite::types::ToSqlOutput::from(self.word()))
            }
        }

        impl rusqlite::types::FromSql for $type {
            fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
                let word = value.as_str()?;
                Self::from_word(word).ok_or_else(|| $crate::store::row::odd(word))
            }
        }
    )+};
}
pub(super) use word_columns;

word_columns!(Source, EndReason, Settlement, Verdict, Flag);

impl ToSql for DeviceId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.to_string()))
    }
}

impl FromSql for DeviceId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        text.parse().map_err(|_| odd(text))
    }
}

impl ToSql for OrderNo {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.as_str()))
    }
}

impl FromSql for OrderNo {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        Self::new(text).ok_or_else(|| odd(text))
    }
}

/// Goes through the columns of a row in their order.
pub(super) struct Columns<'a, 'stmt> {
    row: &'a Row<'stmt>,
    next: usize,
}

impl<'a, 'stmt> Columns<'a, 'stmt> {
    pub(super) const fn of(row: &'a Row<'stmt>) -> Self {
        Self { row, next: 0 }
    }

    /// The next column.
    pub(super) fn take<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    /// The next column, read as JSON; `None` when it is NULL.
    pub(super) fn take_json<T: DeserializeOwned>(&mut self) -> rusqlite::Result<Option<T>> {
        let at = self.next;
        self.next += 1;
        let Some(text) = self.row.get_ref(at)?.as_str_or_null()? else { return Ok(None) };
        let value = serde_json::from_str(text);
        value.map(Some).map_err(|e| Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(e)))
    }
}

/// A value as JSON text for a column.
pub(super) fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))
}

/// Flash rots without telling: what a row's sum is made with. Slow and small, rows are short.
static CRC: crc::Crc<u32, crc::Table<1>> = crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISCSI);

/// CRC-32 over the columns of a row, each with its length, so that bytes that move from one to the next are seen.
pub(super) struct Sum(crc::Digest<'static, u32, crc::Table<1>>);

impl Sum {
    pub(super) fn new() -> Self {
        Self(CRC.digest())
    }

    #[must_use]
    pub(super) fn bytes(mut self, value: Option<&[u8]>) -> Self {
        match value {
            Some(bytes) => {
                self.0.update(&(bytes.len() as u64 + 1).to_le_bytes());
                self.0.update(bytes);
            }
            None => self.0.update(&0u64.to_le_bytes()),
        }
        self
    }

    #[must_use]
    pub(super) fn text(self, value: Option<&str>) -> Self {
        self.bytes(value.map(str::as_bytes))
    }

    #[must_use]
    pub(super) fn integer(self, value: Option<i64>) -> Self {
        self.bytes(value.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    pub(super) fn finish(self) -> u32 {
        self.0.finalize()
    }
}
