//! What is told beside the outbox: the retained `state` and `summary`, and `progress` of running orders.

use serde_json::{Value, json};

use crate::clock::{Now, UpTime};
use crate::cloud::envelope::{progress, state, summary};
use crate::cloud::{CloudOutput, Message};
use crate::ids::{OrderNo, PortKey};
use crate::port::PortStatus;
use crate::turn::Fatal;

use super::super::{Site, fatal};
use super::CloudDue;
use super::feeding::{Own, Sent};
use super::session::Phase;

/// When figures of a port last went out, and of which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    order_no: OrderNo,
    at: UpTime,
}

impl Site {
    /// `state` goes before everything else that waits.
    pub(super) fn push_state(&mut self) -> Result<(), Fatal> {
        let streams = fatal(self.store.streams())?;
        let instance = self.store.instance();
        let Some(feed) = &mut self.feed else { return Ok(()) };
        let Phase::Up(session) = feed.phase else { return Ok(()) };
        let payload = state(instance, true, session, feed.up_since, &streams);
        feed.told_streams = streams;
        let topic = feed.topics.state();
        feed.own.push_front(Own::State(Message { topic, payload, retain: true, confirmed: true, correlation: None }));
        Ok(())
    }

    /// The summary, and the state when its streams have moved; again after `mqtt.summary_interval`.
    pub(super) fn tell_summary(&mut self, now: Now) -> Result<(), Fatal> {
        let Some(feed) = &self.feed else { return Ok(()) };
        let Phase::Up(_) = feed.phase else { return Ok(()) };
        if feed.told_streams != fatal(self.store.streams())? {
            self.push_state()?;
        }
        let payload = summary(now.wall, &self.counts()?);
        if let Some(feed) = &mut self.feed {
            let is_summary = |own: &Own| matches!(own, Own::Summary(_));
            let waits = feed.own.iter().any(is_summary)
                || feed.window.in_flight.values().any(|sent| matches!(sent, Sent::Own(Own::Summary(_))));
            if !waits {
                let topic = feed.topics.summary();
                let message = Message { topic, payload, retain: true, confirmed: true, correlation: None };
                feed.own.push_back(Own::Summary(message));
            }
        }
        let at = now.up.after(self.config.mqtt.summary_interval);
        self.set_cloud_due(CloudDue::Summary, Some(at), now);
        self.feed_cloud(now)
    }

    fn counts(&self) -> Result<Value, Fatal> {
        let gateways = self.devices.values();
        let nodes = || self.devices.values().flat_map(|gateway| &gateway.nodes);
        let cases = || nodes().flat_map(|node| &node.cases);
        let online_nodes = self
            .devices
            .values()
            .filter(|gateway| gateway.conn.is_some())
            .flat_map(|gateway| &gateway.nodes)
            .filter(|node| node.record.lost.is_none());
        Ok(json!({
            "devices": self.devices.len(),
            "devices_online": gateways.filter(|gateway| gateway.conn.is_some()).count(),
            "sockets": nodes().count(),
            "sockets_online": online_nodes.count(),
            "ports": cases().count(),
            "ports_charging": cases().filter(|case| case.port.status == PortStatus::Charging).count(),
            "orders_open": cases().filter(|case| case.open_order().is_some()).count(),
            "alerts_open": fatal(self.store.open_alerts())?.len(),
            "outbox": fatal(self.store.outbox_waiting())?.rows,
        }))
    }

    /// Figures of a port came: they go out, at most once per order and `devices.status_interval`, the last ones when
    /// that is over.
    pub(in crate::site) fn tell_progress(&mut self, key: PortKey, now: Now) {
        let Some(feed) = self.feed.as_ref().filter(|feed| matches!(feed.phase, Phase::Up(_))) else { return };
        let order = self.case(key).and_then(|case| case.open_order()).filter(|order| order.status.is_running());
        let Some(order_no) = order.map(|order| &order.order_no) else { return };
        let last = feed.progress.get(&key).filter(|told| told.order_no == *order_no);
        let next = last.map(|told| told.at.after(self.config.devices.status_interval));
        match next.filter(|next| now.up < *next) {
            None => self.publish_progress(key, now),
            Some(next) => {
                if let Some(feed) = &mut self.feed {
                    feed.progress_waits.insert(key);
                }
                if !self.dues.is_set(super::Due::Cloud(CloudDue::Progress)) {
                    self.set_cloud_due(CloudDue::Progress, Some(next), now);
                }
            }
        }
    }

    pub(super) fn tell_late_progress(&mut self, now: Now) {
        let Some(feed) = &mut self.feed else { return };
        for key in std::mem::take(&mut feed.progress_waits) {
            self.tell_progress(key, now);
        }
    }

    fn publish_progress(&mut self, key: PortKey, now: Now) {
        let Some(case) = self.case(key) else { return };
        let (Some(order), Some(figures)) = (case.open_order(), case.port.figures) else { return };
        let (payload, order_no) = (progress(order, &figures, now.wall), order.order_no.clone());
        let Some(feed) = &mut self.feed else { return };
        let Phase::Up(session) = feed.phase else { return };
        feed.progress.insert(key, Told { order_no, at: now.up });
        feed.progress_waits.remove(&key);
        let message =
            Message { topic: feed.topics.progress(), payload, retain: false, confirmed: false, correlation: None };
        let ticket = feed.own_ticket();
        feed.outputs.push_back(CloudOutput::Publish { session, ticket, message });
    }
}
