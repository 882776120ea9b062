//! What a decision asks of the world. The port names it, `site` carries it out.

use crate::ids::{BusinessNo, MessageId, Minutes, OrderNo, WattHours};
use crate::order::words;
use crate::port::Issue;
use crate::port::state::Report;

words! {
    /// What is told about an order on `event/order` (contract §6).
    OrderEvent {
        /// The device accepted the start.
        Started = "order.started",
        /// A session that already ran became an order.
        Adopted = "order.adopted",
        /// Closed by a report.
        Completed = "order.completed",
        /// Closed without one.
        Closed = "order.closed",
        /// Failed to start.
        Failed = "order.failed",
        /// Stopped before it charged.
        Cancelled = "order.cancelled",
        /// An adopted one got the cloud's number.
        Claimed = "order.claimed",
        /// A later truth amended it.
        Corrected = "order.corrected",
        /// Opened again.
        Resumed = "order.resumed",
        /// Time alone made it final.
        Finalized = "order.finalized",
    }
}

words! {
    /// Why a command was not done (contract §6 codes), as far as a port decides it.
    Refusal {
        /// Busy, held, or its status is not known.
        PortBusy = "port_busy",
        /// A fault bit is set.
        PortFault = "port_fault",
        /// Device or socket is away.
        DeviceOffline = "device_offline",
        /// The device said no.
        RefusedByDevice = "refused_by_device",
        /// The device said nothing.
        NoAnswer = "no_answer",
        /// Stopped before it charged.
        Cancelled = "cancelled",
        /// Not open, nor closed provisionally.
        OrderNotOpen = "order_not_open",
    }
}

/// What came of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Failed, nothing more will be tried.
    Failed(Refusal),
    /// Failed for now; the stop is owed and will be tried on.
    StopOwed(Refusal),
}

/// One thing to carry out, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send the start of this order, once what led to it is committed.
    SendStart {
        /// The order, whose plan is sent.
        order_no: OrderNo,
        /// Under this id.
        message_id: MessageId,
    },
    /// Switch the port off, at once: stops wait for nothing.
    SendStop {
        /// The order that it is for.
        order_no: Option<OrderNo>,
        /// Under this id.
        message_id: MessageId,
    },
    /// Tell the cloud about an order, as it now is.
    Tell {
        /// What.
        what: OrderEvent,
        /// About which.
        order_no: OrderNo,
    },
    /// Tell the cloud that an order has its number now; what was told before has the old one.
    Claimed {
        /// The number that it has.
        order_no: OrderNo,
        /// The number that it had.
        was: OrderNo,
    },
    /// An end report of nobody: told once.
    UnknownEnd {
        /// Its number.
        number: Option<BusinessNo>,
        /// Its energy.
        energy: WattHours,
        /// Its minutes.
        minutes: Minutes,
    },
    /// An issue was dealt with.
    Repaired(Issue),
    /// Answer the command with this id.
    Reply {
        /// The command's.
        command_id: String,
        /// The order that it was about.
        order_no: Option<OrderNo>,
        /// What came of it.
        outcome: Outcome,
    },
    /// A port charges on after so many stops.
    StopIgnored {
        /// Stops in vain.
        stops: u32,
    },
    /// The port is idle at last: `stop_ignored` is over.
    StopObeyed,
    /// The frame that led here makes little sense: counted, kept in the journal with this reason.
    Note(&'static str),
}

/// What became of an end report; each is acknowledged once durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportFate {
    /// Booked for this order.
    Booked(OrderNo),
    /// The same as one that is booked: nothing changes.
    Duplicate(OrderNo),
    /// Kept until a start's fate, or a question, decides.
    Kept,
    /// Nobody's; told once.
    Nobody,
}

/// A report that may yet be somebody's.
pub(super) fn unknown_end(report: &Report) -> Effect {
    Effect::UnknownEnd { number: report.number, energy: report.energy, minutes: report.minutes }
}
