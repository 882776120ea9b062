//! Where a port and its order disagree (contract §5 *Consistency*), and how long the rules may take to repair that.
//!
//! Derived anew from what the port shows and what is open there, as the view `consistency_issues` does in SQL.

use std::time::Duration;

use crate::ids::OrderNo;
use crate::order::{OrderStatus, words};
use crate::port::{Desk, PortStatus, Terms};

words! {
    /// An issue, as `consistency_issues` names it. Duplicate numbers are a device's own fault: the agent has no rule
    /// that repairs them.
    IssueType {
        /// The order is charging and its port is idle.
        OrderPortMismatch = "order_port_mismatch",
        /// The order is charging and its port does not exist.
        OrphanedChargingOrder = "orphaned_charging_order",
        /// The port is charging and no order is open there.
        LonelyChargingPort = "lonely_charging_port",
    }
}

/// From the moment that a question is over until the turn that acts on it, on a busy gateway.
const SLACK: Duration = Duration::from_secs(5);
/// A device tells a change of its state within this time (contract §7 `timeliness_rate`).
const TOLD_WITHIN: Duration = Duration::from_secs(30);

/// A disagreement that the agent has to repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Which.
    pub kind: IssueType,
    /// The order that disagrees; none for a port without one.
    pub order_no: Option<OrderNo>,
}

impl Desk<'_> {
    /// Where port and order disagree now. A stop that the device ignored is set aside, and so is a session that is
    /// only watched: neither is the agent's to repair.
    pub fn issue(&self) -> Option<Issue> {
        match self.case.port.status {
            PortStatus::Idle => self.mismatch(),
            PortStatus::Charging => self.lonely(),
            PortStatus::Offline | PortStatus::Unclear => None,
        }
    }

    fn mismatch(&self) -> Option<Issue> {
        let order = self.case.open_order().filter(|order| order.status == OrderStatus::Charging)?;
        Some(Issue { kind: IssueType::OrderPortMismatch, order_no: Some(order.order_no.clone()) })
    }

    fn lonely(&self) -> Option<Issue> {
        let stop = self.case.memory().and_then(|memory| memory.stop.as_ref());
        let set_aside = match stop {
            Some(stop) => stop.in_vain >= self.terms.stops_ignored,
            None => !self.terms.stops_strays,
        };
        let lonely = self.case.open_order().is_none() && !set_aside;
        lonely.then_some(Issue { kind: IssueType::LonelyChargingPort, order_no: None })
    }
}

impl Terms<'_> {
    /// How long the rules may take to repair an issue: what lasts longer counts against `state_consistency_rate`.
    ///
    /// - An order on an idle port: `end_report_grace`, in which the socket is asked; a question without a reply takes
    ///   `answer_timeout`. 80 s with the defaults.
    /// - A port without an order: `end_report_grace`, then it is asked, the stop is answered within `answer_timeout`,
    ///   and the device tells within 30 s that it obeyed. 105 s with the defaults.
    pub fn repaired_within(&self, kind: IssueType) -> Duration {
        let asked = self.end_report_grace + self.answer_timeout;
        match kind {
            IssueType::OrderPortMismatch | IssueType::OrphanedChargingOrder => asked + SLACK,
            IssueType::LonelyChargingPort => asked + TOLD_WITHIN,
        }
    }
}
