//! Watches how long order and port disagree, and keeps what outlasted its grace (contract §5 *Consistency*, §7
//! `state_consistency_rate`).
//!
//! An ordinary end disagrees for seconds and writes nothing. A row goes with the commit of the moment at which the grace
//! is over, and is closed in the commit of the change that ends the issue.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::clock::{Now, UpTime, WallTime};
use crate::device::Device;
use crate::event::{Stream, port_event};
use crate::ids::{DeviceId, PortKey};
use crate::order::Order;
use crate::port::{Case, Dirty, Issue, IssueType, Port, PortStatus};
use crate::store::{Inconsistency, StoreError};
use crate::turn::Fatal;

use super::dues::Due;
use super::{Gateway, Site, fatal};

/// The issues that last, and the rows that wait for a commit.
#[derive(Debug, Default)]
pub(super) struct Watch {
    lasting: BTreeMap<PortKey, Lasting>,
    rows: Vec<Inconsistency>,
}

/// An issue that lasts.
#[derive(Debug)]
struct Lasting {
    row: Inconsistency,
    outlasted: bool,
    /// It lasted when the last run ended, and this one has not heard of the port yet: when this one began.
    restarted: Option<(WallTime, UpTime)>,
}

/// What a port shows after a turn.
pub(super) struct Found {
    pub(super) issue: Option<Issue>,
    /// What the rules may take to repair it.
    pub(super) grace: Duration,
    pub(super) status: PortStatus,
}

impl Watch {
    pub(super) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    pub(super) fn committed(&mut self) {
        self.rows.clear();
    }

    /// Its device is removed, or was never kept.
    pub(super) fn forget(&mut self, device: DeviceId) {
        self.lasting.retain(|key, _| key.device != device);
        self.rows.retain(|row| row.port.device != device);
    }

    /// It is over: what outlasted its grace is closed in the store.
    fn end(&mut self, key: PortKey, now: Now) {
        let Some(mut lasting) = self.lasting.remove(&key).filter(|lasting| lasting.outlasted) else { return };
        // Nobody knows when in between it ended, and a port that is not known makes no issue.
        lasting.row.ended = Some(lasting.restarted.unwrap_or((now.wall, now.up)));
        self.rows.push(lasting.row);
    }
}

impl Site {
    /// A turn at this port is over: does it agree with its order?
    pub(super) fn watch_consistency(&mut self, key: PortKey, found: Found, now: Now) {
        if found.issue.is_none() && self.watch.lasting.is_empty() {
            return;
        }
        match self.watch.lasting.get_mut(&key) {
            None => {}
            Some(lasting) if found.issue.as_ref() == Some(&lasting.row.issue) => {
                if lasting.restarted.take().is_some() {
                    self.dues.set(Due::Inconsistency(key), None, now.up);
                }
                return;
            }
            Some(lasting) => {
                let unheard = matches!(found.status, PortStatus::Offline | PortStatus::Unclear);
                if lasting.restarted.is_some() && unheard {
                    return;
                }
                self.watch.end(key, now);
                self.dues.set(Due::Inconsistency(key), None, now.up);
            }
        }
        if let Some(issue) = found.issue {
            let late = now.up.after(found.grace);
            let row = Inconsistency { port: key, issue, began: (now.wall, now.up), late, ended: None };
            self.watch.lasting.insert(key, Lasting { row, outlasted: false, restarted: None });
            self.dues.set(Due::Inconsistency(key), Some(late), now.up);
        }
    }

    /// An issue has outlasted its grace, or was not seen again in time after a restart.
    pub(super) fn inconsistency_due(&mut self, key: PortKey, now: Now) {
        let is_there = self.case(key).is_some();
        let Some(lasting) = self.watch.lasting.get_mut(&key) else { return };
        if lasting.restarted.is_some() || !is_there {
            self.watch.end(key, now);
            return;
        }
        let Inconsistency { issue, .. } = &lasting.row;
        log::warn!(
            "inconsistency outlasts its grace issue={} port={key} order={:?}",
            issue.kind.word(),
            issue.order_no
        );
        lasting.outlasted = true;
        self.watch.rows.push(lasting.row.clone());
    }

    /// Takes up what lasted when the last run ended: once a port shows it again, its row goes on.
    pub(super) fn take_up_inconsistencies(&mut self, now: Now) -> Result<(), Fatal> {
        for row in fatal(self.store.open_inconsistencies())? {
            let key = row.port;
            let lasting = Lasting { row, outlasted: true, restarted: Some((now.wall, now.up)) };
            self.watch.lasting.insert(key, lasting);
            // A device gets so long to return, and a question so long to be answered.
            let heard_until = now.up.after(self.config.devices.offline_after + self.config.orders.answer_timeout);
            self.dues.set(Due::Inconsistency(key), Some(heard_until), now.up);
        }
        Ok(())
    }

    pub(super) fn write_inconsistencies(&mut self) -> Result<(), StoreError> {
        let Self { watch, store, .. } = self;
        watch.rows.iter().try_for_each(|row| store.put_inconsistency(row))
    }

    /// An open order whose port does not exist gets one, so that the rules can end it.
    pub(super) fn adopt_orphan(&mut self, order: &Order, now: Now) -> Result<(), Fatal> {
        let key = order.port;
        log::warn!("order without a port order={} port={key}", order.order_no);
        if self.gateway(key.device).is_none() {
            let gateway = Gateway::new(Device::new(key.device), &self.config);
            self.devices.insert(key.device, Box::new(gateway));
            self.device_touched(key.device, true, now);
        }
        let Some(gateway) = self.devices.get_mut(&key.device) else { return Ok(()) };
        let mut case = Case::new(Port::unseen(key));
        case.dirty = Dirty::Whole;
        let node = gateway.node_or_new(key.socket);
        node.cases.push(case);
        node.cases.sort_by_key(|case| case.port.key);
        self.keeping.touched(key, Dirty::Whole);
        self.socket_touched(key.device, key.socket, true, now);
        let issue = Issue { kind: IssueType::OrphanedChargingOrder, order_no: Some(order.order_no.clone()) };
        self.tell_repaired(key, &issue, now)
    }

    /// Tells of an issue that was dealt with.
    pub(super) fn tell_repaired(&mut self, key: PortKey, issue: &Issue, now: Now) -> Result<(), Fatal> {
        let data = port_event(key, json!({ "issue_type": issue.kind.word(), "order_no": issue.order_no }));
        self.tell(Stream::Order, "consistency.repaired", Some(key.device), issue.order_no.as_ref(), &data, now)
    }
}
