//! Tables `devices` and `sockets`.

use rusqlite::{Row, params};

use super::row::Columns;
use super::{Store, StoreError};
use crate::device::{Device, Socket};
use crate::ids::DeviceId;

/// The columns in the order in which [`device`] reads them.
macro_rules! select_devices {
    ($rest:literal) => {
        concat!(
            "SELECT device_id, device_model, firmware_version, iccid, rssi, operator_enabled, policy_disabled, online,
                    last_seen, heard_up, note
               FROM devices ",
            $rest
        )
    };
}

/// The columns in the order in which [`socket`] reads them.
macro_rules! select_sockets {
    ($rest:literal) => {
        concat!(
            "SELECT device_id, socket_no, mac, uid, firmware, temperature_c, rssi, online, operator_enabled,
                    policy_disabled, last_seen, heard_up, lost_up
               FROM sockets ",
            $rest
        )
    };
}

pub(super) const ALL_DEVICES: &str = select_devices!("");
pub(super) const ALL_SOCKETS: &str = select_sockets!("");
pub(super) const ONE_DEVICE: &str = select_devices!("WHERE device_id = ?1");
pub(super) const ONE_SOCKET: &str = select_sockets!("WHERE device_id = ?1 AND socket_no = ?2");
pub(super) const DEVICE_SEEN: &str =
    "UPDATE devices SET (last_seen, heard_up, rssi) = (?2, ?3, ?4) WHERE device_id = ?1";
pub(super) const SOCKET_SEEN: &str = "UPDATE sockets SET (last_seen, heard_up, temperature_c, rssi) = (?3, ?4, ?5, ?6)
                    WHERE device_id = ?1 AND socket_no = ?2";

impl Store {
    /// All devices, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn devices(&self) -> Result<Vec<Device>, StoreError> {
        let sql = select_devices!("ORDER BY device_id");
        self.read("read devices", |db| db.prepare_cached(sql)?.query_map([], device)?.collect())
    }

    /// All sockets, by device and number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sockets(&self) -> Result<Vec<Socket>, StoreError> {
        let sql = select_sockets!("ORDER BY device_id, socket_no");
        self.read("read sockets", |db| db.prepare_cached(sql)?.query_map([], socket)?.collect())
    }

    /// Writes a device whole, new or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_device(&mut self, device: &Device) -> Result<(), StoreError> {
        let sql = "INSERT INTO devices (device_id, device_model, firmware_version, iccid, rssi, operator_enabled,
                                        policy_disabled, online, last_seen, heard_up, note, status)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                   ON CONFLICT (device_id) DO UPDATE
                      SET (device_model, firmware_version, iccid, rssi, operator_enabled, policy_disabled, online,
                           last_seen, heard_up, note, status)
                        = (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
        let status = if device.enabled && !device.policy_disabled { "enabled" } else { "disabled" };
        self.write("write a device", |db| {
            db.prepare_cached(sql)?.execute(params![
                device.id,
                device.model,
                device.firmware,
                device.iccid,
                device.rssi,
                device.enabled,
                device.policy_disabled,
                device.online,
                device.last_seen,
                device.heard,
                device.note,
                status,
            ])
        })?;
        Ok(())
    }

    /// Writes a socket whole, new or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_socket(&mut self, socket: &Socket) -> Result<(), StoreError> {
        let sql = "INSERT INTO sockets (device_id, socket_no, mac, uid, firmware, temperature_c, rssi, online,
                                        operator_enabled, policy_disabled, last_seen, heard_up, lost_up, enabled)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
                   ON CONFLICT (device_id, socket_no) DO UPDATE
                      SET (mac, uid, firmware, temperature_c, rssi, online, operator_enabled, policy_disabled,
                           last_seen, heard_up, lost_up, enabled)
                        = (?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
        self.write("write a socket", |db| {
            db.prepare_cached(sql)?.execute(params![
                socket.device,
                socket.no,
                socket.mac,
                socket.uid,
                socket.firmware.map(|firmware| format!("{firmware:04x}")),
                socket.temperature_c,
                socket.rssi,
                socket.online,
                socket.enabled,
                socket.policy_disabled,
                socket.last_seen,
                socket.heard,
                socket.lost,
                socket.enabled && !socket.policy_disabled,
            ])
        })?;
        Ok(())
    }

    /// Writes only what moves with every frame of a device that the store knows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_device_seen(&mut self, device: &Device) -> Result<(), StoreError> {
        self.write("write a device", |db| {
            let moving = params![device.id, device.last_seen, device.heard, device.rssi];
            db.prepare_cached(DEVICE_SEEN)?.execute(moving)
        })?;
        Ok(())
    }

    /// Writes only what moves with every status of a socket that the store knows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_socket_seen(&mut self, socket: &Socket) -> Result<(), StoreError> {
        self.write("write a socket", |db| {
            db.prepare_cached(SOCKET_SEEN)?.execute(params![
                socket.device,
                socket.no,
                socket.last_seen,
                socket.heard,
                socket.temperature_c,
                socket.rssi
            ])
        })?;
        Ok(())
    }

    /// Forgets a device with its sockets and ports, their time included. Its orders stay.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove_device(&mut self, id: DeviceId) -> Result<(), StoreError> {
        self.write("remove a device", |db| {
            db.prepare_cached("DELETE FROM inconsistencies WHERE device_id = ?1")?.execute([id])?;
            db.prepare_cached("DELETE FROM ports WHERE device_id = ?1")?.execute([id])?;
            db.prepare_cached("DELETE FROM sockets WHERE device_id = ?1")?.execute([id])?;
            db.prepare_cached("DELETE FROM devices WHERE device_id = ?1")?.execute([id])
        })?;
        Ok(())
    }
}

pub(super) fn device(row: &Row<'_>) -> rusqlite::Result<Device> {
    let mut columns = Columns::of(row);
    Ok(Device {
        id: columns.take()?,
        model: columns.take()?,
        firmware: columns.take()?,
        iccid: columns.take()?,
        rssi: columns.take()?,
        enabled: columns.take()?,
        policy_disabled: columns.take()?,
        online: columns.take()?,
        last_seen: columns.take()?,
        heard: columns.take()?,
        note: columns.take()?,
    })
}

pub(super) fn socket(row: &Row<'_>) -> rusqlite::Result<Socket> {
    let mut columns = Columns::of(row);
    Ok(Socket {
        device: columns.take()?,
        no: columns.take()?,
        mac: columns.take()?,
        uid: columns.take()?,
        firmware: columns.take::<Option<String>>()?.and_then(|hex| u16::from_str_radix(&hex, 16).ok()),
        temperature_c: columns.take()?,
        rssi: columns.take()?,
        online: columns.take()?,
        enabled: columns.take()?,
        policy_disabled: columns.take()?,
        last_seen: columns.take()?,
        heard: columns.take()?,
        lost: columns.take()?,
    })
}
