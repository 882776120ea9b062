//! Table `ports`.

use rusqlite::{Row, params};

use super::row::{Columns, json};
use super::{Store, StoreError};
use crate::ids::{DeciVolts, DeciWatts, MilliAmperes, Minutes, PortKey, WattHours};
use crate::port::state::{Figures, Memory, Port};

/// The columns in the order in which [`port`] reads them.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT device_id, socket_no, port_no, status, raw_status, business_no, voltage_v, power_w, current_a,
                    energy_wh, minutes, updated_at, updated_up, memory
               FROM ports ",
            $rest
        )
    };
}

pub(super) const ALL: &str = select!("");
pub(super) const ONE: &str = select!("WHERE device_id = ?1 AND socket_no = ?2 AND port_no = ?3");
pub(super) const FIGURES: &str = "UPDATE ports
                      SET (voltage_v, power_w, current_a, energy_wh, minutes, updated_at, updated_up)
                        = (?4, ?5, ?6, ?7, ?8, ?9, ?10)
                    WHERE device_id = ?1 AND socket_no = ?2 AND port_no = ?3";

impl Store {
    /// All ports, by device, socket and number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn ports(&self) -> Result<Vec<Port>, StoreError> {
        let sql = select!("ORDER BY device_id, socket_no, port_no");
        self.read("read ports", |db| db.prepare_cached(sql)?.query_map([], port)?.collect())
    }

    /// Writes a port whole, new or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_port(&mut self, port: &Port) -> Result<(), StoreError> {
        // A port is known from its first status on, with which it is written.
        let sql = "INSERT INTO ports (device_id, socket_no, port_no, status, raw_status, business_no, voltage_v,
                                      power_w, current_a, energy_wh, minutes, updated_at, updated_up, memory, known_up)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?13)
                   ON CONFLICT (device_id, socket_no, port_no) DO UPDATE
                      SET (status, raw_status, business_no, voltage_v, power_w, current_a, energy_wh, minutes,
                           updated_at, updated_up, memory, known_up)
                        = (?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ifnull(known_up, ?13))";
        self.write("write a port", |db| {
            let memory = port.memory.as_deref().filter(|memory| **memory != Memory::default());
            let figures = port.figures.as_ref();
            db.prepare_cached(sql)?.execute(params![
                port.key.device,
                port.key.socket,
                port.key.port,
                port.status,
                port.raw_status,
                port.business_no,
                figures.map(|figures| figures.voltage),
                figures.map(|figures| figures.power),
                figures.map(|figures| figures.current),
                figures.map(|figures| figures.energy),
                figures.map(|figures| figures.minutes),
                port.updated_at,
                port.updated_up,
                memory.map(json).transpose()?,
            ])
        })?;
        Ok(())
    }

    /// Writes only what moves with every status of a port that the store knows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_port_figures(&mut self, port: &Port) -> Result<(), StoreError> {
        self.write("write a port", |db| {
            let figures = port.figures.as_ref();
            db.prepare_cached(FIGURES)?.execute(params![
                port.key.device,
                port.key.socket,
                port.key.port,
                figures.map(|figures| figures.voltage),
                figures.map(|figures| figures.power),
                figures.map(|figures| figures.current),
                figures.map(|figures| figures.energy),
                figures.map(|figures| figures.minutes),
                port.updated_at,
                port.updated_up,
            ])
        })?;
        Ok(())
    }
}

pub(super) fn port(row: &Row<'_>) -> rusqlite::Result<Port> {
    let mut columns = Columns::of(row);
    Ok(Port {
        key: PortKey { device: columns.take()?, socket: columns.take()?, port: columns.take()? },
        status: columns.take()?,
        raw_status: columns.take()?,
        business_no: columns.take()?,
        figures: figures(&mut columns)?,
        updated_at: columns.take()?,
        updated_up: columns.take()?,
        memory: columns.take_json::<Memory>()?.map(Box::new),
    })
}

/// The five figures of a status come and go together.
fn figures(columns: &mut Columns<'_, '_>) -> rusqlite::Result<Option<Figures>> {
    let voltage: Option<DeciVolts> = columns.take()?;
    let power: Option<DeciWatts> = columns.take()?;
    let current: Option<MilliAmperes> = columns.take()?;
    let energy: Option<WattHours> = columns.take()?;
    let minutes: Option<Minutes> = columns.take()?;
    let (Some(voltage), Some(power), Some(current), Some(energy), Some(minutes)) =
        (voltage, power, current, energy, minutes)
    else {
        return Ok(None);
    };
    Ok(Some(Figures { voltage, power, current, energy, minutes }))
}
