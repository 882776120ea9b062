//! Everything that the store holds of one order, for people. Reads only, for a program beside the agent.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::commands::{self, CommandRow};
use super::events::{self, Event};
use super::journal::{self, JournalEntry};
use super::{Meta, open, orders};
use crate::clock::UpTime;
use crate::ids::OrderNo;
use crate::order::Order;
use crate::port::Downtime;

/// What is kept of an order, and of its device while it lived; who tells the story picks from it.
#[derive(Debug, Clone)]
pub struct Records {
    /// As it stands.
    pub order: Order,
    /// Its number, and those that it had before it was claimed.
    pub numbers: BTreeSet<OrderNo>,
    /// When the next order of its port began.
    pub next_began: Option<UpTime>,
    /// Its device's model.
    pub model: Option<String>,
    /// In the order in which they came.
    pub commands: Vec<CommandRow>,
    /// In the order in which they came.
    pub frames: Vec<JournalEntry>,
    /// In the order in which they were told.
    pub events: Vec<Event>,
    /// When the agent was down.
    pub downtime: Downtime,
    /// How far back the journal is whole: none when it has everything.
    pub journal_since: Option<UpTime>,
}

impl Records {
    /// Of the order that has, or had, this number.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn read(db: &Connection, order_no: &OrderNo) -> rusqlite::Result<Option<Self>> {
        let Some(order) = find(db, order_no)? else { return Ok(None) };
        let numbers = numbers_of(db, &order.order_no)?;
        let port = params![order.port.device, order.port.socket, order.port.port, order.serial];
        let next = "SELECT min(created_up) FROM orders
                     WHERE device_id = ?1 AND socket_no = ?2 AND port_no = ?3 AND serial > ?4";
        let next_began = db.query_row(next, port, |row| row.get(0))?;
        let model = "SELECT device_model FROM devices WHERE device_id = ?1";
        let model: Option<Option<String>> = db.query_row(model, [order.port.device], |row| row.get(0)).optional()?;
        let downtime: Option<String> = open::meta(db, Meta::Downtime)?;
        Ok(Some(Self {
            commands: commands_of(db, &order, &numbers)?,
            frames: frames_of(db, &order, &numbers)?,
            events: events_of(db, &order, &numbers)?,
            next_began,
            model: model.flatten(),
            downtime: downtime.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
            journal_since: journal::whole_since(db)?,
            numbers,
            order,
        }))
    }
}

/// By the number that it has, or had before it was claimed.
fn find(db: &Connection, order_no: &OrderNo) -> rusqlite::Result<Option<Order>> {
    let mut no = order_no.clone();
    let mut asked = BTreeSet::new();
    while asked.insert(no.clone()) {
        let found = db.query_row(orders::BY_NO, [&no], orders::order).optional()?;
        if found.is_some() {
            return Ok(found);
        }
        let claimed = "SELECT order_no FROM events
                        WHERE type = 'order.claimed' AND json_extract(data, '$.was_order_no') = ?1
                        ORDER BY seq DESC LIMIT 1";
        match db.query_row(claimed, [&no], |row| row.get(0)).optional()? {
            Some(later) => no = later,
            None => return Ok(None),
        }
    }
    Ok(None)
}

fn numbers_of(db: &Connection, order_no: &OrderNo) -> rusqlite::Result<BTreeSet<OrderNo>> {
    let mut numbers = BTreeSet::new();
    let mut next = Some(order_no.clone());
    let was = "SELECT json_extract(data, '$.was_order_no') FROM events
                WHERE type = 'order.claimed' AND order_no = ?1 ORDER BY seq LIMIT 1";
    while let Some(no) = next.take().filter(|no| !numbers.contains(no)) {
        next = db.query_row(was, [&no], |row| row.get(0)).optional()?;
        numbers.insert(no);
    }
    Ok(numbers)
}

/// A list for `IN`, as JSON.
fn list(numbers: &BTreeSet<OrderNo>) -> rusqlite::Result<String> {
    super::row::json(numbers)
}

fn commands_of(db: &Connection, order: &Order, numbers: &BTreeSet<OrderNo>) -> rusqlite::Result<Vec<CommandRow>> {
    let until = order.course.closed.unwrap_or(UpTime(i64::MAX.unsigned_abs()));
    db.prepare(commands::OF_ORDER)?
        .query_map(
            params![list(numbers)?, order.port.device, order.port.socket, order.created_up, until],
            commands::command,
        )?
        .collect()
}

fn frames_of(db: &Connection, order: &Order, numbers: &BTreeSet<OrderNo>) -> rusqlite::Result<Vec<JournalEntry>> {
    db.prepare(journal::OF_ORDER)?
        .query_map(params![list(numbers)?, order.port.device, order.created_up], journal::entry)?
        .collect()
}

fn events_of(db: &Connection, order: &Order, numbers: &BTreeSet<OrderNo>) -> rusqlite::Result<Vec<Event>> {
    db.prepare(events::OF_ORDER)?
        .query_map(params![list(numbers)?, order.port.device, order.created_up], events::event)?
        .collect()
}
