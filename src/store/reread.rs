//! Single records, read again after a full disk took a turn back, and the few look-ups that a repetition needs.

use rusqlite::OptionalExtension;

use super::{Store, StoreError, devices, ports};
use crate::clock::UpTime;
use crate::device::{Device, Socket};
use crate::ids::{DeviceId, PortKey, SocketNo};
use crate::port::Port;

/// A repetition stands among the newest rows: no more of the journal is looked at.
const NEWEST_ROWS: i64 = 1000;
/// What a device repeats for ever is among so many of its last refused frames.
const LAST_REFUSED: i64 = 20;

impl Store {
    /// A device by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn device(&self, id: DeviceId) -> Result<Option<Device>, StoreError> {
        self.read("read a device", |db| {
            db.prepare_cached(devices::ONE_DEVICE)?.query_row([id], devices::device).optional()
        })
    }

    /// A socket by its number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn socket(&self, id: DeviceId, no: SocketNo) -> Result<Option<Socket>, StoreError> {
        self.read("read a socket", |db| {
            db.prepare_cached(devices::ONE_SOCKET)?.query_row((id, no), devices::socket).optional()
        })
    }

    /// A port by its key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn port(&self, key: PortKey) -> Result<Option<Port>, StoreError> {
        let of = (key.device, key.socket, key.port);
        self.read("read a port", |db| db.prepare_cached(ports::ONE)?.query_row(of, ports::port).optional())
    }

    /// Commands without a reply, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn commands_under_way(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT id FROM commands WHERE reply IS NULL ORDER BY rowid";
        self.read("read commands", |db| db.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect())
    }

    /// Whether exactly these bytes are among the last frames of a device that were refused since a moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn has_refused_frame_since(&self, device: DeviceId, frame: &[u8], since: UpTime) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM (SELECT frame, up FROM journal
                                                  WHERE device_id = ?1 AND verdict IN ('malformed', 'unmatched')
                                                  ORDER BY id DESC LIMIT ?2)
                                   WHERE frame = ?3 AND up >= ?4)";
        let of = (device, LAST_REFUSED, frame, since);
        self.read("read the journal", |db| db.prepare_cached(sql)?.query_row(of, |row| row.get(0)))
    }

    /// Whether a device sent exactly these bytes since a moment and they were taken.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn has_frame_since(&self, device: DeviceId, frame: &[u8], since: UpTime) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM journal
                                   WHERE id > (SELECT max(id) FROM journal) - ?1 AND device_id = ?2 AND up >= ?3
                                     AND direction = 'up' AND verdict = 'accepted' AND frame = ?4)";
        let of = (NEWEST_ROWS, device, since, frame);
        self.read("read the journal", |db| db.prepare_cached(sql)?.query_row(of, |row| row.get(0)))
    }
}
