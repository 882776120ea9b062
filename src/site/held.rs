//! What may only be said once it is durable: acknowledgements, starts, replies. They leave together after the commit.

use std::collections::BTreeSet;

use crate::cloud::ReplyTo;
use crate::command::{Code, Problem, Reply};
use crate::ids::PortKey;
use crate::store::CommandSource;
use crate::turn::{ClientId, ConnId, Outputs};

use super::cloud::Feed;

/// What becomes of a reply when the disk is full and the commit is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenFull {
    /// It is given all the same: it tells what is, or what a stop did. The outcome of a start alone waits on.
    Give,
    /// Nothing was done: `store_full`.
    Refuse,
}

/// Who waits for a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// A client of the control socket.
    Client(ClientId),
    /// The cloud. Its reply stands in the outbox, and goes to a response topic as well when it named one.
    Cloud(Option<ReplyTo>),
}

impl Caller {
    pub(super) const fn source(&self) -> CommandSource {
        match self {
            Self::Client(_) => CommandSource::Site,
            Self::Cloud(_) => CommandSource::Cloud,
        }
    }

    pub(super) const fn is_cloud(&self) -> bool {
        matches!(self, Self::Cloud(_))
    }
}

/// A reply to one who waits.
#[derive(Debug)]
pub(super) struct HeldReply {
    pub(super) caller: Caller,
    pub(super) id: String,
    pub(super) line: String,
    pub(super) when_full: WhenFull,
}

/// Waits for the next commit.
#[derive(Debug, Default)]
pub(super) struct Held {
    frames: Outputs,
    /// Ports whose start is among the frames.
    starts: Vec<PortKey>,
    replies: Vec<HeldReply>,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.replies.is_empty()
    }

    /// A frame to a device.
    pub(super) fn send(&mut self, to: ConnId, write: impl FnOnce(&mut Vec<u8>)) {
        self.frames.send(to, write);
    }

    /// The start of a port.
    pub(super) fn send_start(&mut self, to: ConnId, key: PortKey, bytes: &[u8]) {
        self.starts.push(key);
        self.send(to, |out| out.extend_from_slice(bytes));
    }

    /// Whether a start of this port waits: what is to come after it has to wait as well.
    pub(super) fn has_start(&self, key: PortKey) -> bool {
        self.starts.contains(&key)
    }

    /// A reply to one who waits. That of the cloud stands in the outbox already, in the same transaction.
    pub(super) fn reply(&mut self, caller: Caller, id: &str, line: &str, when_full: WhenFull) {
        self.replies.push(HeldReply { caller, id: id.to_owned(), line: line.to_owned(), when_full });
    }

    /// It is durable: everything may be said.
    pub(super) fn release(&mut self, ready: &mut Outputs, mut feed: Option<&mut Feed>) {
        ready.append(&mut self.frames);
        self.starts.clear();
        for HeldReply { caller, line, .. } in self.replies.drain(..) {
            match (caller, &mut feed) {
                (Caller::Client(client), _) => ready.reply(client, line.as_bytes()),
                (Caller::Cloud(Some(to)), Some(feed)) => feed.reply_to(&to, &line),
                // It is sent from the outbox.
                (Caller::Cloud(_), _) => {}
            }
        }
    }

    /// It was taken back: nothing goes out. What is to become of the replies, and the ports whose start was among it.
    pub(super) fn take_back(&mut self) -> (Vec<HeldReply>, BTreeSet<PortKey>) {
        self.frames.clear();
        (std::mem::take(&mut self.replies), self.starts.drain(..).collect())
    }
}

/// The reply to a command that was taken back.
pub(super) fn store_full(id: &str) -> String {
    let problem = Problem::new(Code::StoreFull, "the store is full: free some space on the gateway, then try again");
    Reply::rejected(Some(id), problem).to_line()
}
