//! `get_snapshot`: everything that is known now, as of one moment (contract §6).
//!
//! A whole site is megabytes as text, and many times that as values: each row is made, written and let go, one at a
//! time, into the text of the reply.

use std::fmt::Write as _;

use serde_json::Value;

use crate::command::{Code, Problem, Reply};
use crate::event::{alert_data, device_data, order_data, port_data, socket_data, streams_data};
use crate::ids::DeviceId;
use crate::limits::{SNAPSHOT_BYTES, SNAPSHOTS_KEPT_BYTES};
use crate::order::Order;
use crate::turn::Fatal;

use super::commands::{Step, unknown_device};
use super::held::WhenFull;
use super::{Gateway, Site, fatal};

/// Its name among the commands.
pub(super) const GET_SNAPSHOT: &str = "get_snapshot";

impl Site {
    /// Everything that changed before was committed, or taken back because the disk is full: so memory and store tell
    /// of the same moment, and nothing that is told here is taken back later.
    pub(super) fn get_snapshot(&mut self, id: &str, device: Option<DeviceId>) -> Result<Result<Step, Problem>, Fatal> {
        if let Some(device) = device.filter(|device| self.gateway(*device).is_none()) {
            return Ok(Err(unknown_device(device)));
        }
        let Some(text) = self.snapshot(device)? else {
            let why = format!("the whole site is more than {} MiB: ask for one device at a time", SNAPSHOT_BYTES >> 20);
            return Ok(Err(Problem::of(Code::MissingField, "device", why)));
        };
        let forgotten = self.store.forget_long_replies(GET_SNAPSHOT, SNAPSHOTS_KEPT_BYTES.saturating_sub(text.len()));
        self.kept(forgotten)?;
        Ok(Ok(Step::Reply(Reply::done(id).with_text(text), WhenFull::Give)))
    }

    /// As JSON text; `None` when it is too long.
    fn snapshot(&self, of: Option<DeviceId>) -> Result<Option<String>, Fatal> {
        let mut lists = Lists::new();
        lists.list("devices", self.gateways(of).map(|gateway| device_data(&gateway.record)));
        let nodes = || self.gateways(of).flat_map(|gateway| &gateway.nodes);
        let socket = |node: &super::Node| socket_data(&node.record, node.record.online, node.is_enabled());
        lists.list("sockets", nodes().map(socket));
        lists.list("ports", nodes().flat_map(|node| &node.cases).map(|case| port_data(&case.port)));
        lists.begin("orders");
        let written = self.store.each_unsettled_order(|order| {
            if of.is_none_or(|device| order.port.device == device) {
                lists.push(&order_data(self.newest(&order)));
            }
        });
        fatal(written)?;
        lists.end();
        let alerts = fatal(self.store.open_alerts())?;
        let of_it = alerts.iter().filter(|alert| of.is_none() || alert.subject.device == of);
        lists.list("alerts", of_it.map(alert_data));
        Ok(lists.finish("streams", &streams_data(&fatal(self.store.streams())?)))
    }

    fn gateways(&self, of: Option<DeviceId>) -> impl Iterator<Item = &Gateway> {
        let wanted = move |gateway: &&Gateway| of.is_none_or(|device| gateway.record.id == device);
        self.devices.values().map(|gateway| &**gateway).filter(wanted)
    }

    /// The order as it is in memory, where figures are that were not yet flushed.
    fn newest<'a>(&'a self, kept: &'a Order) -> &'a Order {
        self.case(kept.port).and_then(|case| case.order(&kept.order_no)).unwrap_or(kept)
    }
}

/// The text of an object whose members are lists.
struct Lists {
    text: String,
    is_first: bool,
}

impl Lists {
    fn new() -> Self {
        Self { text: "{".to_owned(), is_first: true }
    }

    fn list(&mut self, name: &str, items: impl Iterator<Item = Value>) {
        self.begin(name);
        items.for_each(|item| self.push(&item));
        self.end();
    }

    fn begin(&mut self, name: &str) {
        self.is_first = true;
        self.add(format_args!("\"{name}\":["));
    }

    /// What would make it too long is left out: [`Lists::finish`] tells.
    fn push(&mut self, item: &Value) {
        if self.is_too_long() {
            return;
        }
        let comma = if std::mem::replace(&mut self.is_first, false) { "" } else { "," };
        self.add(format_args!("{comma}{item}"));
    }

    fn end(&mut self) {
        self.add(format_args!("],"));
    }

    /// The whole with its last member; `None` when it became too long.
    fn finish(mut self, name: &str, last: &Value) -> Option<String> {
        self.add(format_args!("\"{name}\":{last}}}"));
        (!self.is_too_long()).then_some(self.text)
    }

    fn is_too_long(&self) -> bool {
        self.text.len() > SNAPSHOT_BYTES
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a text cannot fail.
        let _ = self.text.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_make_one_object_however_many_items_they_have() {
        let mut lists = Lists::new();
        lists.list("a", [].into_iter());
        lists.list("b", [json!(1), json!({ "c": null })].into_iter());
        let text = lists.finish("d", &json!({})).unwrap();
        assert_eq!(text, r#"{"a":[],"b":[1,{"c":null}],"d":{}}"#);
    }

    #[test]
    fn what_is_too_long_is_nothing_and_stops_growing() {
        let mut lists = Lists::new();
        let item = Value::from("x".repeat(1024 * 1024));
        lists.list("a", std::iter::repeat_n(item, 100));
        assert!(lists.text.len() < SNAPSHOT_BYTES + 2 * 1024 * 1024);
        assert_eq!(lists.finish("b", &json!({})), None);
    }
}
