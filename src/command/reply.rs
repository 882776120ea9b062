//! What comes of a command: the code of a refusal, the field that it is about, the reply (contract §6).

use serde_json::{Map, Value, json};

use crate::ids::OrderNo;
use crate::order::words;
use crate::port::Refusal;

words! {
    /// Why a command was not done (contract §6).
    Code {
        /// Not one JSON object.
        InvalidJson = "invalid_json",
        /// No command of this name.
        UnknownType = "unknown_type",
        /// A field that the command needs.
        MissingField = "missing_field",
        /// Wrong value, type or form; unknown field.
        OutOfRange = "out_of_range",
        /// No such device.
        UnknownDevice = "unknown_device",
        /// Device or socket is away.
        DeviceOffline = "device_offline",
        /// By the operator or a policy.
        DeviceDisabled = "device_disabled",
        /// No such socket or port.
        UnknownPort = "unknown_port",
        /// Busy, held, or its status is not known.
        PortBusy = "port_busy",
        /// A fault bit is set.
        PortFault = "port_fault",
        /// An order is open.
        OrderOpen = "order_open",
        /// The number was used before.
        DuplicateOrderNo = "duplicate_order_no",
        /// No such order.
        UnknownOrder = "unknown_order",
        /// It is over.
        OrderNotOpen = "order_not_open",
        /// The device said no.
        RefusedByDevice = "refused_by_device",
        /// The device said nothing.
        NoAnswer = "no_answer",
        /// Stopped before it charged.
        Cancelled = "cancelled",
        /// The disk is full.
        StoreFull = "store_full",
        /// It waited too long.
        Expired = "expired",
        /// Depends on a clock that cannot be believed.
        ClockUnknown = "clock_unknown",
        /// Not in this version.
        NotSupported = "not_supported",
    }
}

impl From<Refusal> for Code {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::PortBusy => Self::PortBusy,
            Refusal::PortFault => Self::PortFault,
            Refusal::DeviceOffline => Self::DeviceOffline,
            Refusal::RefusedByDevice => Self::RefusedByDevice,
            Refusal::NoAnswer => Self::NoAnswer,
            Refusal::Cancelled => Self::Cancelled,
            Refusal::OrderNotOpen => Self::OrderNotOpen,
        }
    }
}

/// An error of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which code.
    pub code: Code,
    /// Which field, if one.
    pub field: Option<String>,
    /// For people.
    pub message: String,
}

impl Problem {
    /// Without a field.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, field: None, message: message.into() }
    }

    /// About one field.
    pub fn of(code: Code, field: &str, message: impl Into<String>) -> Self {
        Self { code, field: Some(field.to_owned()), message: message.into() }
    }

    fn to_json(&self) -> Value {
        let mut error = Map::new();
        error.insert("code".to_owned(), self.code.word().into());
        if let Some(field) = &self.field {
            error.insert("field".to_owned(), field.as_str().into());
        }
        error.insert("message".to_owned(), self.message.as_str().into());
        Value::Object(error)
    }
}

/// How a command came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was done.
    Done,
    /// Nothing was done or sent.
    Rejected,
    /// Refused, unanswered or cancelled.
    Failed,
}

/// The reply to a command (contract §6).
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The command's, null when there was none to read.
    pub id: Option<String>,
    /// How it came out.
    pub verdict: Verdict,
    /// The order that it was about.
    pub order_no: Option<OrderNo>,
    /// What was asked for.
    pub data: Option<Value>,
    /// The same, when it is so large that it was written as JSON text at once.
    pub text: Option<String>,
    /// Why not.
    pub problem: Option<Problem>,
}

impl Reply {
    /// Done.
    pub fn done(id: &str) -> Self {
        let id = Some(id.to_owned());
        Self { id, verdict: Verdict::Done, order_no: None, data: None, text: None, problem: None }
    }

    /// Nothing was done or sent.
    pub fn rejected(id: Option<&str>, problem: Problem) -> Self {
        let id = id.map(str::to_owned);
        Self { id, verdict: Verdict::Rejected, order_no: None, data: None, text: None, problem: Some(problem) }
    }

    /// Refused, unanswered or cancelled.
    pub fn failed(id: &str, problem: Problem) -> Self {
        Self { verdict: Verdict::Failed, ..Self::rejected(Some(id), problem) }
    }

    /// With an order.
    #[must_use]
    pub fn about(mut self, order_no: OrderNo) -> Self {
        self.order_no = Some(order_no);
        self
    }

    /// With data.
    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// With data that is JSON text already.
    #[must_use]
    pub fn with_text(mut self, text: String) -> Self {
        self.text = Some(text);
        self
    }

    /// As one line of JSON, without its end.
    pub fn to_line(&self) -> String {
        let result = match self.verdict {
            Verdict::Done => "done",
            Verdict::Rejected => "rejected",
            Verdict::Failed => "failed",
        };
        let mut reply = json!({ "v": 1, "id": self.id, "result": result });
        if let Some(order_no) = &self.order_no {
            reply["order_no"] = order_no.as_str().into();
        }
        if let Some(data) = &self.data {
            reply["data"] = data.clone();
        }
        if let Some(problem) = &self.problem {
            reply["error"] = problem.to_json();
        }
        let line = reply.to_string();
        match &self.text {
            // Copied once, not read again: it can be megabytes.
            Some(text) => format!("{{\"data\":{text},{}", &line[1..]),
            None => line,
        }
    }
}
