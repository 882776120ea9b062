//! What old frames are read again with: the frames, the orders of their ports as they stand, the models, the times
//! that the agent was down. Reads only, for a program beside the agent as well.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::journal::{self, Direction, JournalEntry};
use super::{Meta, Store, StoreError, open, orders};
use crate::ids::{DeviceId, PortKey};
use crate::order::Order;
use crate::port::Downtime;

/// Frames of devices, and what they are judged with.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// In the order in which they came.
    pub frames: Vec<JournalEntry>,
    /// All that are kept of the ports that these frames are about, by serial.
    pub orders: BTreeMap<PortKey, Vec<Order>>,
    /// Of devices that have one.
    pub models: BTreeMap<DeviceId, String>,
    /// When the agent was down.
    pub downtime: Downtime,
}

/// Which port a frame is about, if it is one that is wanted.
pub type Wanted = fn(&JournalEntry) -> Option<PortKey>;

impl Material {
    /// From the whole journal.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn read(db: &Connection, wanted: Wanted) -> rusqlite::Result<Self> {
        let mut found = Found::new(wanted);
        let mut statement = db.prepare(journal::ALL_IN_ORDER)?;
        let rows = statement.query_map([], journal::entry)?;
        for entry in rows {
            found.take(entry?);
        }
        found.with_records(db)
    }

    fn of_frames(db: &Connection, ids: &BTreeSet<i64>, wanted: Wanted) -> rusqlite::Result<Self> {
        let mut found = Found::new(wanted);
        let mut statement = db.prepare_cached(journal::ONE)?;
        for id in ids {
            for entry in statement.query_map([id], journal::entry)? {
                found.take(entry?);
            }
        }
        drop(statement);
        found.with_records(db)
    }
}

impl Store {
    /// From these frames of the journal.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn material(&self, frames: &BTreeSet<i64>, wanted: Wanted) -> Result<Material, StoreError> {
        self.read("read the journal", |db| Material::of_frames(db, frames, wanted))
    }
}

struct Found {
    wanted: Wanted,
    frames: Vec<JournalEntry>,
    ports: BTreeSet<PortKey>,
}

impl Found {
    const fn new(wanted: Wanted) -> Self {
        Self { wanted, frames: Vec::new(), ports: BTreeSet::new() }
    }

    fn take(&mut self, entry: JournalEntry) {
        let port = (entry.intact && entry.direction == Direction::Up).then(|| (self.wanted)(&entry)).flatten();
        if let Some(port) = port {
            self.ports.insert(port);
            self.frames.push(entry);
        }
    }

    fn with_records(self, db: &Connection) -> rusqlite::Result<Material> {
        let mut of_ports = BTreeMap::new();
        let mut statement = db.prepare_cached(orders::ALL_OF_PORT)?;
        for port in self.ports {
            let of_port = statement.query_map((port.device, port.socket, port.port), orders::order)?;
            of_ports.insert(port, of_port.collect::<rusqlite::Result<_>>()?);
        }
        let models = "SELECT device_id, device_model FROM devices WHERE device_model IS NOT NULL";
        let mut models = db.prepare_cached(models)?;
        let models = models.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        let downtime: Option<String> = open::meta(db, Meta::Downtime)?;
        Ok(Material {
            frames: self.frames,
            orders: of_ports,
            models,
            downtime: downtime.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
        })
    }
}
