//! Which commands, frames and events belong to the story of an order.
//!
//! While it lives all that its own socket and port say does, whatever order the journal put it down to. Afterwards
//! what is its own by number, and what its port says until the next order begins there.

use std::time::Duration;

use serde_json::Value;

use crate::bkv::{Downlink, Frame, Uplink};
use crate::clock::UpTime;
use crate::event::Stream;
use crate::ids::{OrderNo, PortKey};
use crate::limits::REPORT_MATCHES_FOR_MS;
use crate::store::{CommandRow, Direction, Event, JournalEntry, Records};

/// What belongs to it.
pub(super) struct Picked<'a> {
    pub(super) port: PortKey,
    pub(super) began: UpTime,
    /// The first close; later ones follow from the events.
    pub(super) closed: Option<UpTime>,
    pub(super) commands: Vec<&'a CommandRow>,
    pub(super) frames: Vec<&'a JournalEntry>,
    pub(super) events: Vec<&'a Event>,
    /// When the agent came back, and how long it had been away.
    pub(super) restarts: Vec<(UpTime, Duration)>,
}

pub(super) fn of(records: &Records) -> Picked<'_> {
    let order = &records.order;
    let span = Span::of(records);
    let frames = records.frames.iter().filter(|entry| span.has_frame(entry)).collect::<Vec<_>>();
    let events = records.events.iter().filter(|event| span.has_event(event)).collect::<Vec<_>>();
    let end = span.end(&frames, &events);
    // What only its device went through ends with the last thing that it went through itself.
    let events = events.into_iter().filter(|event| span.is_own(event.order_no.as_ref()) || event.up <= end);
    Picked {
        port: order.port,
        began: order.created_up,
        closed: order.course.closed,
        commands: records.commands.iter().filter(|command| span.has_command(command)).collect(),
        events: events.collect(),
        frames,
        restarts: records.downtime.0.iter().filter(|(up, _)| *up >= span.began && *up <= end).copied().collect(),
    }
}

struct Span<'a> {
    records: &'a Records,
    began: UpTime,
    /// Its first frame: what came before in the same moment is none of its.
    first_frame: i64,
    /// The close; none while it is open.
    closed: Option<UpTime>,
    /// Until when what its port says is still about it.
    echo: UpTime,
}

impl<'a> Span<'a> {
    fn of(records: &'a Records) -> Self {
        let order = &records.order;
        let week = Duration::from_millis(REPORT_MATCHES_FOR_MS);
        let echo = order.course.closed.map_or(UpTime(u64::MAX), |closed| closed.after(week));
        let before_next = records.next_began.map_or(UpTime(u64::MAX), |next| UpTime(next.0.saturating_sub(1)));
        let own = |entry: &&JournalEntry| entry.order_no.as_ref().is_some_and(|no| records.numbers.contains(no));
        let first_frame = records.frames.iter().find(own).map_or(0, |entry| entry.id);
        Self { records, began: order.created_up, first_frame, closed: order.course.closed, echo: echo.min(before_next) }
    }

    fn is_own(&self, order_no: Option<&OrderNo>) -> bool {
        order_no.is_some_and(|no| self.records.numbers.contains(no))
    }

    fn is_alive(&self, up: UpTime) -> bool {
        up >= self.began && self.closed.is_none_or(|closed| up <= closed)
    }

    fn has_frame(&self, entry: &JournalEntry) -> bool {
        if self.is_own(entry.order_no.as_ref()) {
            return true;
        }
        let port = self.records.order.port;
        if entry.device != Some(port.device) || entry.socket.is_some_and(|socket| socket != port.socket) {
            return false;
        }
        if entry.up == self.began && entry.id < self.first_frame {
            return false;
        }
        let about = concerns(entry, port);
        if self.is_alive(entry.up) {
            return about.unwrap_or_else(|| entry.port.is_none_or(|no| no == port.port));
        }
        let said_of_it = about.unwrap_or(entry.port == Some(port.port));
        entry.order_no.is_none() && said_of_it && entry.up >= self.began && entry.up <= self.echo
    }

    fn has_event(&self, event: &Event) -> bool {
        if self.is_own(event.order_no.as_ref()) {
            return true;
        }
        if event.order_no.is_some() || event.up <= self.began || event.up > self.echo {
            return false;
        }
        let data: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
        let port = self.records.order.port;
        let fits = |names: [&str; 2], own: u8| {
            let named = names.iter().find_map(|name| data[*name].as_u64());
            named.is_none_or(|named| named == u64::from(own))
        };
        let here = fits(["socket", "socket_no"], port.socket.get()) && fits(["port", "port_no"], port.port.get());
        match event.stream {
            Stream::Order | Stream::Alert | Stream::Abnormal => here,
            Stream::Device => here && event.kind != "device.registered",
        }
    }

    fn has_command(&self, command: &CommandRow) -> bool {
        if command.kind == "redecode" {
            return self.is_booked_by(command);
        }
        if self.is_own(command.order_no.as_ref()) {
            return true;
        }
        let payload: Value = serde_json::from_str(&command.payload).unwrap_or(Value::Null);
        let names = ["order_no", "new_order_no", "expect_order_no"];
        let named: Vec<_> = names.iter().filter_map(|name| payload[*name].as_str()).collect();
        if !named.is_empty() {
            return named.iter().any(|no| self.records.numbers.iter().any(|own| own.as_str() == *no));
        }
        let port = payload["port"].as_u64();
        port.is_none_or(|port| port == u64::from(self.records.order.port.port.get()))
    }

    fn is_booked_by(&self, command: &CommandRow) -> bool {
        let reply: Value =
            command.reply.as_deref().and_then(|reply| serde_json::from_str(reply).ok()).unwrap_or_default();
        let booked = reply["data"]["booked"].as_array().into_iter().flatten();
        booked
            .filter_map(|booked| booked["order_no"].as_str())
            .any(|no| self.records.numbers.iter().any(|own| own.as_str() == no))
    }

    /// The last thing that it went through itself; that time made it final aside.
    fn end(&self, frames: &[&JournalEntry], events: &[&Event]) -> UpTime {
        let Some(closed) = self.closed else { return UpTime(u64::MAX) };
        let frames = frames.iter().filter(|entry| self.is_own(entry.order_no.as_ref())).map(|entry| entry.up);
        let of_it = |event: &&&Event| self.is_own(event.order_no.as_ref()) && event.kind != "order.finalized";
        let events = events.iter().filter(of_it).map(|event| event.up);
        frames.chain(events).fold(closed, UpTime::max)
    }
}

/// Whether a status, or the question for one, is about this port; none for what says nothing of the kind.
fn concerns(entry: &JournalEntry, port: PortKey) -> Option<bool> {
    let frame = Frame::parse(&entry.frame).ok()?;
    match entry.direction {
        Direction::Up => {
            let message = Uplink::decode(&frame).ok()?;
            if !matches!(message, Uplink::Status(_) | Uplink::QueryAnswer(_)) {
                return None;
            }
            let of_socket = message.socket_statuses().find(|status| status.socket == port.socket);
            Some(of_socket.is_some_and(|status| status.port(port.port).is_some()))
        }
        Direction::Down => match Downlink::decode(&frame).ok()? {
            Downlink::QueryStatus(query) => Some(query.socket == port.socket),
            _ => None,
        },
    }
}
