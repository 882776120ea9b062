//! Table `orders`.

use rusqlite::{OptionalExtension, Row, params};

use super::row::{Columns, json};
use super::{Store, StoreError};
use crate::clock::UpTime;
use crate::ids::{BusinessNo, DeciWatts, MessageId, OrderNo, PortKey};
use crate::order::{Course, EndReason, Order, OrderStatus, StartCourse};

/// The columns in the order in which [`order`] reads them.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT serial, order_no, device_id, socket_no, port_no, business_no, source, plan, status, created_at,
                    created_up, start_time, end_time, end_reason, settlement, final, revision, verdict, energy_wh,
                    energy_max_wh, minutes, minutes_max, spent_cents, electricity_cents, service_cents,
                    settlement_power_w, tiers, peak_power_w, raw_reason, raw_status, device_end_time, started_by,
                    stopped_by, card_no, flags, figures_up, loads, load_power_dw, closed_up, start_id,
                    start_first_up, start_last_up, start_sendings, start_expires_at, accepted_up,
                    course
               FROM orders ",
            $rest
        )
    };
}

pub(super) const ALL: &str = select!("");
pub(super) const OPEN: &str = select!("WHERE status IN (0, 2, 9)");
pub(super) const UNSETTLED: &str = select!("WHERE final = 0");
pub(super) const TO_FINALIZE: &str = select!("WHERE final = 0 AND closed_up <= ?1 ORDER BY closed_up LIMIT ?2");
pub(super) const FIRST_TO_FINALIZE: &str =
    "SELECT min(closed_up) FROM orders WHERE final = 0 AND closed_up IS NOT NULL";
pub(super) const BY_NO: &str = select!("WHERE order_no = ?1");
pub(super) const ALL_OF_PORT: &str =
    select!("WHERE device_id = ?1 AND socket_no = ?2 AND port_no = ?3 ORDER BY serial");
pub(super) const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM orders WHERE order_no = ?1)";
pub(super) const BY_SERIAL: &str = select!("WHERE serial = ?1");
/// Newest first; the last column tells whether it ever had another number.
pub(super) const OF_PORT: &str = "SELECT serial, closed_up, business_no, ifnull(instr(course, '\"numbers\"'), 0) <> 0
       FROM orders WHERE device_id = ?1 AND socket_no = ?2 AND port_no = ?3 ORDER BY serial DESC";

pub(super) const FIGURES: &str =
    "UPDATE orders SET (energy_wh, minutes, peak_power_w, figures_up, loads, load_power_dw)
                                   = (?2, ?3, ?4, ?5, ?6, ?7) WHERE serial = ?1";
pub(super) const KEYS: &str = "SELECT order_no, status, final, closed_up FROM orders WHERE serial = ?1";
pub(super) const SET_KEYS: &str = "UPDATE orders SET (status, final, closed_up) = (?2, ?3, ?4) WHERE serial = ?1";
pub(super) const SET_BODY: &str = "UPDATE orders
                  SET (business_no, mode, plan, start_time, end_time, end_reason, settlement, revision, verdict,
                       energy_wh, energy_max_wh, minutes, minutes_max, spent_cents, electricity_cents, service_cents,
                       settlement_power_w, tiers, peak_power_w, raw_reason, raw_status, device_end_time, started_by,
                       stopped_by, card_no, flags, figures_up, loads, load_power_dw, start_id, start_first_up,
                       start_last_up, start_sendings, start_expires_at, accepted_up, course)
                    = (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                       ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37)
                WHERE serial = ?1";

impl Store {
    /// The orders that occupy a port, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_orders(&self) -> Result<Vec<Order>, StoreError> {
        let mut orders: Vec<Order> =
            self.read("read orders", |db| db.prepare_cached(OPEN)?.query_map([], order)?.collect())?;
        orders.sort_by_key(|order| order.serial);
        Ok(orders)
    }

    /// The orders that are open or may still change without a new report, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unsettled_orders(&self) -> Result<Vec<Order>, StoreError> {
        let mut orders: Vec<Order> =
            self.read("read orders", |db| db.prepare_cached(UNSETTLED)?.query_map([], order)?.collect())?;
        orders.sort_by_key(|order| order.serial);
        Ok(orders)
    }

    /// Hands out the orders that [`Store::unsettled_orders`] gives one by one, open ones first, then by their close:
    /// they can be many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn each_unsettled_order(&self, mut take: impl FnMut(Order)) -> Result<(), StoreError> {
        self.read("read orders", |db| {
            let mut statement = db.prepare_cached(UNSETTLED)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                take(order(row)?);
            }
            Ok(())
        })
    }

    /// Closed orders that are not final and were closed at or before `until`, longest ago first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn orders_to_finalize(&self, until: UpTime, limit: u32) -> Result<Vec<Order>, StoreError> {
        self.read("read orders", |db| db.prepare_cached(TO_FINALIZE)?.query_map((until, limit), order)?.collect())
    }

    /// When the closed order was closed that is longest not final.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn first_to_finalize(&self) -> Result<Option<UpTime>, StoreError> {
        self.read("read orders", |db| db.prepare_cached(FIRST_TO_FINALIZE)?.query_row([], |row| row.get(0)))
    }

    /// An order by its number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn order(&self, no: &OrderNo) -> Result<Option<Order>, StoreError> {
        self.read("read an order", |db| db.prepare_cached(BY_NO)?.query_row([no], order).optional())
    }

    /// Whether there was ever an order of this number, as far as the store reaches back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn order_exists(&self, no: &OrderNo) -> Result<bool, StoreError> {
        self.read("read an order", |db| db.prepare_cached(EXISTS)?.query_row([no], |row| row.get(0)))
    }

    /// The orders of a port that a frame may be about, oldest first: the newest one; any open one; and of those that
    /// were closed at or after `closed_since` the ones that ran under one of `numbers`, or were not refused and never
    /// got a number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn orders_of_port(
        &self,
        port: PortKey,
        numbers: &[BusinessNo],
        closed_since: UpTime,
    ) -> Result<Vec<Order>, StoreError> {
        self.read("read orders", |db| {
            let mut statement = db.prepare_cached(OF_PORT)?;
            let mut rows = statement.query(params![port.device, port.socket, port.port])?;
            let mut found = Vec::new();
            let mut newest = true;
            while let Some(row) = rows.next()? {
                // One at a time is open on a port, so orders were closed in the order in which they began: behind
                // the first that was closed too long ago there is nothing.
                let closed: Option<UpTime> = row.get(1)?;
                let gone = closed.is_some_and(|closed| closed < closed_since);
                let open = closed.is_none();
                // Most of a port's orders ran under one other number: those are not worth to be read whole.
                if newest || open || !gone && may_have_number(row, numbers)? {
                    let order = db.prepare_cached(BY_SERIAL)?.query_row([row.get::<_, i64>(0)?], order)?;
                    if newest || may_be_meant(&order, numbers) {
                        found.push(order);
                    }
                }
                if gone {
                    break;
                }
                newest = false;
            }
            found.reverse();
            Ok(found)
        })
    }

    /// Writes an order whole. A new one (serial 0) gets its serial.
    ///
    /// # Errors
    /// [`StoreError`]; also when its port has another open order, or its number is taken.
    pub fn put_order(&mut self, order: &mut Order) -> Result<(), StoreError> {
        if order.serial != 0 {
            return self.write("write an order", |db| update(db, order));
        }
        order.serial = self.write("write an order", |db| insert(db, order))?;
        Ok(())
    }

    /// Writes only what moves with every status.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_order_figures(&mut self, order: &Order) -> Result<(), StoreError> {
        self.write("write an order", |db| {
            db.prepare_cached(FIGURES)?.execute(params![
                order.serial,
                order.energy_wh,
                order.minutes,
                order.peak_power,
                order.figures_up,
                not_zero(order.loads),
                not_zero(order.load_power.0),
            ])
        })?;
        Ok(())
    }
}

/// By a row of [`OF_PORT`]: whether the order may have run under one of the numbers.
fn may_have_number(row: &Row<'_>, numbers: &[BusinessNo]) -> rusqlite::Result<bool> {
    let number: Option<BusinessNo> = row.get(2)?;
    let had_another: bool = row.get(3)?;
    Ok(had_another || number.is_none_or(|number| numbers.contains(&number)))
}

fn may_be_meant(order: &Order, numbers: &[BusinessNo]) -> bool {
    let never_numbered = order.business_no.is_none();
    order.status.is_open()
        || never_numbered && order.end_reason != Some(EndReason::StartRefused)
        || numbers.iter().any(|number| order.has_number(*number))
}

fn insert(db: &rusqlite::Connection, order: &Order) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO orders (order_no, device_id, socket_no, port_no, source, created_at, created_up,
                                   status, final, revision, flags)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, '[]')";
    db.prepare_cached(sql)?.execute(params![
        order.order_no,
        order.port.device,
        order.port.socket,
        order.port.port,
        order.source,
        order.created_at,
        order.created_up,
        order.status,
        order.is_final,
        order.revision,
    ])?;
    let serial = db.last_insert_rowid();
    if order.course.closed.is_some() {
        update_keys(db, serial, order)?;
    }
    update_body(db, serial, order)?;
    Ok(serial)
}

/// Columns that stand in an index cost a page of that index each time they are set, changed or not: so only when.
fn update(db: &rusqlite::Connection, order: &Order) -> rusqlite::Result<()> {
    let stored: Option<(OrderNo, OrderStatus, bool, Option<UpTime>)> = db
        .prepare_cached(KEYS)?
        .query_row([order.serial], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    // Dropped by retention meanwhile: there is nothing to amend.
    let Some((order_no, status, is_final, closed)) = stored else { return Ok(()) };
    if order_no != order.order_no {
        let sql = "UPDATE orders SET order_no = ?2 WHERE serial = ?1";
        db.prepare_cached(sql)?.execute(params![order.serial, order.order_no])?;
    }
    if (status, is_final, closed) != (order.status, order.is_final, order.course.closed) {
        update_keys(db, order.serial, order)?;
    }
    update_body(db, order.serial, order)
}

fn update_keys(db: &rusqlite::Connection, serial: i64, order: &Order) -> rusqlite::Result<()> {
    db.prepare_cached(SET_KEYS)?.execute(params![serial, order.status, order.is_final, order.course.closed]).map(drop)
}

fn update_body(db: &rusqlite::Connection, serial: i64, order: &Order) -> rusqlite::Result<()> {
    let start = order.course.start.as_ref();
    let last_sent = start.filter(|start| start.last_sent != start.first_sent).map(|start| start.last_sent);
    db.prepare_cached(SET_BODY)?
        .execute(params![
            serial,
            order.business_no,
            order.plan.as_ref().map(|plan| plan.mode()),
            order.plan.as_ref().map(json).transpose()?,
            order.start_time,
            order.end_time,
            order.end_reason,
            order.settlement,
            order.revision,
            order.verdict,
            order.energy_wh,
            order.energy_max_wh,
            order.minutes,
            order.minutes_max,
            order.spent_cents,
            order.electricity_cents,
            order.service_cents,
            order.settlement_power,
            order.tiers.as_ref().map(json).transpose()?,
            order.peak_power,
            order.raw_reason,
            order.raw_status,
            order.device_end_time,
            order.started_by,
            order.stopped_by,
            order.card_no,
            json(&order.flags)?,
            order.figures_up,
            not_zero(order.loads),
            not_zero(order.load_power.0),
            start.map(|start| start.message_id),
            start.map(|start| start.first_sent),
            last_sent,
            start.map(|start| start.sendings),
            start.and_then(|start| start.expires_at),
            start.and_then(|start| start.accepted),
            rest_of_course(&order.course)?,
        ])
        .map(drop)
}

/// A sum of nothing takes no bytes.
const fn not_zero(sum: u32) -> Option<u32> {
    if sum == 0 { None } else { Some(sum) }
}

pub(super) fn order(row: &Row<'_>) -> rusqlite::Result<Order> {
    let mut columns = Columns::of(row);
    let mut order = Order {
        serial: columns.take()?,
        order_no: columns.take()?,
        port: PortKey { device: columns.take()?, socket: columns.take()?, port: columns.take()? },
        business_no: columns.take()?,
        source: columns.take()?,
        plan: columns.take_json()?,
        status: columns.take()?,
        created_at: columns.take()?,
        created_up: columns.take()?,
        start_time: columns.take()?,
        end_time: columns.take()?,
        end_reason: columns.take()?,
        settlement: columns.take()?,
        is_final: columns.take()?,
        revision: columns.take()?,
        verdict: columns.take()?,
        energy_wh: columns.take()?,
        energy_max_wh: columns.take()?,
        minutes: columns.take()?,
        minutes_max: columns.take()?,
        spent_cents: columns.take()?,
        electricity_cents: columns.take()?,
        service_cents: columns.take()?,
        settlement_power: columns.take()?,
        tiers: columns.take_json()?,
        peak_power: columns.take()?,
        raw_reason: columns.take()?,
        raw_status: columns.take()?,
        device_end_time: columns.take()?,
        started_by: columns.take()?,
        stopped_by: columns.take()?,
        card_no: columns.take()?,
        flags: columns.take_json()?.unwrap_or_default(),
        figures_up: columns.take()?,
        loads: columns.take::<Option<u32>>()?.unwrap_or(0),
        load_power: DeciWatts(columns.take::<Option<u32>>()?.unwrap_or(0)),
        course: Course::default(),
    };
    let closed = columns.take()?;
    let start = start_columns(&mut columns)?;
    order.course = columns.take_json()?.unwrap_or_default();
    order.course.closed = closed;
    order.course.start = start.map(|start| {
        let StartCourse { tries, asking, refusal, restarted, expires_up, .. } = order.course.start.unwrap_or_default();
        StartCourse { tries, asking, refusal, restarted, expires_up, ..start }
    });
    Ok(order)
}

/// What every start has; the rest of it stands in the course.
fn start_columns(columns: &mut Columns<'_, '_>) -> rusqlite::Result<Option<StartCourse>> {
    let message_id: Option<MessageId> = columns.take()?;
    let first_sent: Option<UpTime> = columns.take()?;
    let last_sent: Option<UpTime> = columns.take()?;
    let sendings: Option<u8> = columns.take()?;
    let expires_at = columns.take()?;
    let accepted = columns.take()?;
    let (Some(message_id), Some(first_sent)) = (message_id, first_sent) else { return Ok(None) };
    let (last_sent, sendings) = (last_sent.unwrap_or(first_sent), sendings.unwrap_or(1));
    Ok(Some(StartCourse {
        message_id,
        first_sent,
        last_sent,
        sendings,
        expires_at,
        accepted,
        ..StartCourse::default()
    }))
}

/// What of a course has no column: for most orders nothing.
fn rest_of_course(course: &Course) -> rusqlite::Result<Option<String>> {
    let text = json(course)?;
    Ok((text != "{}" && text != r#"{"start":{}}"#).then_some(text))
}
