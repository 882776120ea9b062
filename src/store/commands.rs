//! Tables `commands` and `sendings`: what others asked of the agent, and what the agent asked of devices.

use rusqlite::{OptionalExtension, Row, params};

use super::row::{Columns, word_columns};
use super::{Store, StoreError, to_i64};
use crate::clock::{UpTime, WallTime};
use crate::ids::{DeviceId, MessageId, OrderNo, PortNo, SocketNo};
use crate::order::words;

words! {
    /// Whence a command came.
    CommandSource {
        /// Over MQTT.
        Cloud = "cloud",
        /// Over the control socket.
        Site = "site",
    }
}

words! {
    /// What was sent to a device.
    SendingKind {
        /// A start.
        Start = "start",
        /// A stop.
        Stop = "stop",
        /// Anything else that has an answer.
        Other = "other",
    }
}

word_columns!(CommandSource, SendingKind);

/// A command and what came of it (contract §4 `commands`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRow {
    /// The sender's; makes a repetition harmless.
    pub id: String,
    /// When it came.
    pub at: WallTime,
    /// The same in up-time.
    pub created_up: UpTime,
    /// Whence.
    pub source: CommandSource,
    /// By whom.
    pub actor: String,
    /// Its `type`.
    pub kind: String,
    /// The whole command as JSON: another one under the same id is told by it.
    pub payload: String,
    /// The reply as JSON; none while it is under way.
    pub reply: Option<String>,
    /// The order that it is about.
    pub order_no: Option<OrderNo>,
}

/// A message to a device: a late answer finds by it what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// To whom.
    pub device: DeviceId,
    /// Under which id.
    pub message_id: MessageId,
    /// What.
    pub kind: SendingKind,
    /// Last sent.
    pub sent_up: UpTime,
    /// About which socket.
    pub socket: Option<SocketNo>,
    /// About which port.
    pub port: Option<PortNo>,
    /// About which order.
    pub order_no: Option<OrderNo>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, at, created_up, source, actor, type, payload, reply, order_no FROM commands ", $rest)
    };
}

macro_rules! select_sendings {
    ($rest:literal) => {
        concat!("SELECT device_id, message_id, kind, sent_up, socket_no, port_no, order_no FROM sendings ", $rest)
    };
}

pub(super) const ALL: &str = select!("");
pub(super) const ALL_SENDINGS: &str = select_sendings!("");
pub(super) const BY_ID: &str = select!("WHERE id = ?1");
/// What was asked about an order, under one of the numbers in the JSON list `?1`, or of its socket while it lived. Who
/// only looked at it is no part of its story.
pub(super) const OF_ORDER: &str = select!(
    "WHERE type NOT IN ('get_order', 'get_snapshot')
       AND (order_no IN (SELECT value FROM json_each(?1))
            OR json_extract(payload, '$.order_no') IN (SELECT value FROM json_each(?1))
            OR json_extract(payload, '$.new_order_no') IN (SELECT value FROM json_each(?1))
            OR json_extract(payload, '$.expect_order_no') IN (SELECT value FROM json_each(?1))
            OR type = 'redecode'
            OR type IN ('query_status', 'stop_charge') AND created_up BETWEEN ?4 AND ?5
               AND json_extract(payload, '$.device') = ?2 AND json_extract(payload, '$.socket') = ?3)
     ORDER BY rowid"
);
pub(super) const SET_REPLY: &str = "UPDATE commands SET reply = ?2, order_no = coalesce(?3, order_no) WHERE id = ?1";
pub(super) const SENDING: &str = select_sendings!("WHERE message_id = ?1 AND device_id = ?2");

impl Store {
    /// A command by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn command(&self, id: &str) -> Result<Option<CommandRow>, StoreError> {
        self.read("read a command", |db| db.prepare_cached(BY_ID)?.query_row([id], command).optional())
    }

    /// Takes in a new command, or writes it again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_command(&mut self, command: &CommandRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO commands (id, at, created_up, source, actor, type, payload, reply, order_no)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                   ON CONFLICT (id) DO UPDATE
                      SET (at, created_up, source, actor, type, payload, reply, order_no)
                        = (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.write("write a command", |db| {
            db.prepare_cached(sql)?.execute(params![
                command.id,
                command.at,
                command.created_up,
                command.source,
                command.actor,
                command.kind,
                command.payload,
                command.reply,
                command.order_no,
            ])
        })?;
        Ok(())
    }

    /// Notes what came of a command, and the order that it was about when that is known only now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_reply(&mut self, id: &str, reply: &str, order_no: Option<&OrderNo>) -> Result<(), StoreError> {
        self.write("write a reply", |db| db.prepare_cached(SET_REPLY)?.execute((id, reply, order_no)))?;
        Ok(())
    }

    /// Forgets a command: when it is repeated, it is a new one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_command(&mut self, id: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM commands WHERE id = ?1";
        self.write("drop a command", |db| db.prepare_cached(sql)?.execute([id])).map(drop)
    }

    /// Forgets the oldest commands of a type, one that changes nothing, until the replies to the others take at most
    /// so many bytes: a repetition of a forgotten one is answered anew. Goes through the whole table.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_long_replies(&mut self, kind: &str, most: usize) -> Result<(), StoreError> {
        let sql = "SELECT rowid, octet_length(reply) FROM commands
                    WHERE type = ?1 AND reply IS NOT NULL ORDER BY rowid DESC";
        let mut left = to_i64(most as u64);
        let mut forgotten: Vec<i64> = Vec::new();
        self.read("read commands", |db| {
            let mut statement = db.prepare_cached(sql)?;
            let mut rows = statement.query([kind])?;
            while let Some(row) = rows.next()? {
                left = left.saturating_sub(row.get(1)?);
                if left < 0 {
                    forgotten.push(row.get(0)?);
                }
            }
            Ok(())
        })?;
        if forgotten.is_empty() {
            return Ok(());
        }
        self.write("drop commands", |db| {
            let mut delete = db.prepare_cached("DELETE FROM commands WHERE rowid = ?1")?;
            forgotten.iter().try_for_each(|rowid| delete.execute([rowid]).map(drop))
        })
    }

    /// An order has another number now: what was asked and sent about it, and its frames, follow. Reads the whole of
    /// these tables, which is seldom.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rename_order(&mut self, was: &OrderNo, is: &OrderNo) -> Result<(), StoreError> {
        self.write("rename an order", |db| {
            db.prepare_cached("UPDATE commands SET order_no = ?2 WHERE order_no = ?1")?.execute((was, is))?;
            db.prepare_cached("UPDATE sendings SET order_no = ?2 WHERE order_no = ?1")?.execute((was, is))
        })?;
        self.rename_in_journal(was, is)
    }

    /// Notes a message that was, or is about to be, sent.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_sending(&mut self, sending: &Sending) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO sendings (message_id, device_id, kind, sent_up, socket_no, port_no, order_no)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.write("write a sending", |db| {
            db.prepare_cached(sql)?.execute(params![
                sending.message_id,
                sending.device,
                sending.kind,
                sending.sent_up,
                sending.socket,
                sending.port,
                sending.order_no,
            ])
        })?;
        Ok(())
    }

    /// What was sent to a device under an id, within the last day.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sending(&self, device: DeviceId, message_id: MessageId) -> Result<Option<Sending>, StoreError> {
        self.read("read a sending", |db| {
            db.prepare_cached(SENDING)?.query_row(params![message_id, device], sending).optional()
        })
    }
}

pub(super) fn command(row: &Row<'_>) -> rusqlite::Result<CommandRow> {
    let mut columns = Columns::of(row);
    Ok(CommandRow {
        id: columns.take()?,
        at: columns.take()?,
        created_up: columns.take()?,
        source: columns.take()?,
        actor: columns.take()?,
        kind: columns.take()?,
        payload: columns.take()?,
        reply: columns.take()?,
        order_no: columns.take()?,
    })
}

pub(super) fn sending(row: &Row<'_>) -> rusqlite::Result<Sending> {
    let mut columns = Columns::of(row);
    Ok(Sending {
        device: columns.take()?,
        message_id: columns.take()?,
        kind: columns.take()?,
        sent_up: columns.take()?,
        socket: columns.take()?,
        port: columns.take()?,
        order_no: columns.take()?,
    })
}
