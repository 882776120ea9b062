//! The seam between the site and the broker (contract §6).
//!
//! The site decides everything: when to connect, what to send, what a confirmation means. The link (`cloud::link`)
//! carries it out with one client per connection (a *session*, by its number), on a thread of its own, and tells what
//! came of it. No message lives only in the link: what has to arrive stands in the outbox until it is confirmed.

pub mod envelope;
pub mod link;
pub mod topics;

use std::time::Duration;

/// The number of one connection to the broker. Rises for ever, over restarts too; also the `session` in `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Session(pub u64);

/// What the site calls a message until it is settled: the outbox id, or one of its own above them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A command that came in, to be acknowledged to the broker once it is kept. Valid in its session only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt(pub u64);

/// Where the sender of a command wants its reply as well (MQTT 5 response topic and correlation data).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTo {
    /// The response topic.
    pub topic: String,
    /// Handed back as it came.
    pub correlation: Option<Vec<u8>>,
}

/// What the site wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloudOutput {
    /// Connect. There is no other session: the one before was [`CloudInput::Down`] or was dropped.
    Connect {
        /// Its number.
        session: Session,
        /// The payload of the last will, which goes to `state`, retained.
        will: Vec<u8>,
    },
    /// Send. Never more than the window that [`CloudInput::Up`] gave without being settled (QoS 0 aside).
    Publish {
        /// The session that is up; of another one it is ignored.
        session: Session,
        /// Under which it is settled.
        ticket: Ticket,
        /// What to send.
        message: Message,
    },
    /// A command is kept, or refused for good: the broker may forget it.
    Acknowledge {
        /// The session in which it came; of another one it is ignored.
        session: Session,
        /// Which.
        receipt: Receipt,
    },
    /// Say goodbye (a normal disconnect, so that the will is not sent) and end: `Down` follows within 3 s.
    Leave {
        /// Which.
        session: Session,
    },
    /// Drop at once, without a goodbye: it confirms nothing. `Down` follows at once.
    Drop {
        /// Which.
        session: Session,
    },
}

/// A message to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The whole topic, prefix and all.
    pub topic: String,
    /// JSON.
    pub payload: Vec<u8>,
    /// The broker keeps it for later subscribers.
    pub retain: bool,
    /// QoS 1, settled by a [`CloudInput::Settled`]; else QoS 0 and forgotten.
    pub confirmed: bool,
    /// Correlation data of a reply to a response topic (MQTT 5).
    pub correlation: Option<Vec<u8>>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloudInput {
    /// Connected, and the subscriptions to `command` and `ack` hold.
    Up {
        /// Which.
        session: Session,
        /// So many messages may wait for their confirmation.
        window: usize,
        /// The largest packet that the broker takes, bytes.
        largest: usize,
    },
    /// Not connected, or not any more. Nothing of this session follows.
    Down {
        /// Which.
        session: Session,
        /// Why.
        why: Trouble,
    },
    /// What came of a message.
    Settled {
        /// In which session.
        session: Session,
        /// Which.
        ticket: Ticket,
        /// What.
        settlement: Settlement,
    },
    /// A message on `command` or `ack`.
    Received {
        /// In which session.
        session: Session,
        /// To be handed back in [`CloudOutput::Acknowledge`].
        receipt: Receipt,
        /// What it is.
        subject: Subject,
        /// As it came, at most [`crate::limits::CLOUD_COMMAND_BYTES`]; `Err` with its size when it was larger.
        payload: Result<Vec<u8>, usize>,
        /// The broker had kept it from before.
        retained: bool,
        /// What is left of its message expiry (MQTT 5).
        expires_in: Option<Duration>,
        /// Where the reply is wanted as well.
        reply_to: Option<ReplyTo>,
    },
}

/// The topics that the agent listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `command`.
    Command,
    /// `ack`.
    Ack,
}

/// What the broker said of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It has it.
    Confirmed,
    /// It has it, and nobody listens (MQTT 5, reason 0x10).
    NobodyListens,
    /// It refuses it, for good as far as this message goes: the reason in words.
    Refused(String),
}

/// Why there is no connection: one clear line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The host's name is not known, the port is closed, nothing answers.
    #[error("{0}")]
    Unreachable(String),
    /// It answers, but not as a broker does, such as TLS on a plain port.
    #[error("{0}")]
    NotABroker(String),
    /// It refuses the credentials, the client id or the subscription.
    #[error("{0}")]
    Refused(String),
    /// The server's certificate is not to be trusted, or ours is not.
    #[error("{0}")]
    Certificate(String),
    /// A certificate is not valid yet by the local clock, which is probably not set.
    #[error("{0}")]
    NotYetValid(String),
    /// A file of `mqtt.*` cannot be read or used.
    #[error("{0}")]
    File(String),
    /// The connection broke.
    #[error("{0}")]
    Lost(String),
    /// The agent ended it.
    #[error("ended by the agent")]
    Ended,
}
