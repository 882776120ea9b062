//! The seam between the loop and what it serves: inputs in, outputs out, no I/O on this side.
//!
//! The loop (`server`) owns sockets, buffers and the clock; a [`Core`] owns meaning. The loop hands in what came,
//! carries out the [`Output`]s until there are none, asks for the next deadline, and commits when the answers that
//! wait for a commit have waited long enough. The simulation drives the same [`Core`] without a loop.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Range;

use crate::bkv::Frame;
use crate::clock::{Now, UpTime};
use crate::ids::DeviceId;

/// One device connection; never reused while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// One connection to the control socket; never reused while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// What the loop is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes of [`Outputs::bytes`] to a device.
    Send(ConnId, Range<usize>),
    /// Send this line (without its end) of [`Outputs::bytes`] to a client of the control socket.
    Reply(ClientId, Range<usize>),
    /// Send what waits, then close the connection.
    Close(ConnId),
}

/// Outputs and their bytes, in order. The buffers are reused from turn to turn.
#[derive(Debug, Default)]
pub struct Outputs {
    queue: VecDeque<Output>,
    bytes: Vec<u8>,
}

impl Outputs {
    /// Bytes kept for the next turn; what a burst took beyond that is given back.
    const KEEP: usize = 64 * 1024;

    /// The next one, with its bytes.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its bytes")]
    pub fn next(&mut self) -> Option<(Output, &[u8])> {
        let output = self.queue.pop_front()?;
        let bytes = match &output {
            Output::Send(_, range) | Output::Reply(_, range) => &self.bytes[range.clone()],
            Output::Close(_) => &[],
        };
        Some((output, bytes))
    }

    /// As [`Outputs::next`], but what goes to one device in a row comes as one, so that it leaves in one write.
    pub fn next_joined(&mut self) -> Option<(Output, &[u8])> {
        if let Some(Output::Send(to, first)) = self.queue.front() {
            let (to, mut joined) = (*to, first.clone());
            self.queue.pop_front();
            while let Some(Output::Send(next, range)) = self.queue.front()
                && (*next, range.start) == (to, joined.end)
            {
                joined.end = range.end;
                self.queue.pop_front();
            }
            self.queue.push_front(Output::Send(to, joined));
        }
        self.next()
    }

    /// To be called when all were taken: the bytes are free again.
    pub fn recycle(&mut self) {
        debug_assert!(self.queue.is_empty(), "outputs were dropped");
        self.bytes.clear();
        self.bytes.shrink_to(Self::KEEP);
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends what `write` appends.
    pub fn send(&mut self, to: ConnId, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.bytes.len();
        write(&mut self.bytes);
        self.queue.push_back(Output::Send(to, from..self.bytes.len()));
    }

    /// Replies with one line.
    pub fn reply(&mut self, to: ClientId, line: &[u8]) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(line);
        self.queue.push_back(Output::Reply(to, from..self.bytes.len()));
    }

    /// Closes a connection.
    pub fn close(&mut self, conn: ConnId) {
        self.queue.push_back(Output::Close(conn));
    }

    /// Moves everything of `other` behind what is here.
    pub fn append(&mut self, other: &mut Self) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let shift = |range: Range<usize>| range.start + base..range.end + base;
        self.queue.extend(other.queue.drain(..).map(|output| match output {
            Output::Send(to, range) => Output::Send(to, shift(range)),
            Output::Reply(to, range) => Output::Reply(to, shift(range)),
            close @ Output::Close(_) => close,
        }));
        other.recycle();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.bytes.clear();
    }
}

/// Why the loop refused or dropped a connection before the core could judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// Its address is not in `devices.allow_from`.
    NotAllowed,
    /// `devices.max_connections` or `devices.max_connections_per_address`.
    Limit,
}

/// Why the process has to end: said in one line, exit 1; nothing that waited goes out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

/// What the loop serves.
pub trait Core {
    /// A device connected. Nothing is known of it before its first frame.
    fn connected(&mut self, conn: ConnId, peer: IpAddr, now: Now);

    /// The loop closed a connection at once.
    ///
    /// # Errors
    /// When the store fails for good.
    fn refused(&mut self, peer: IpAddr, why: Refused, now: Now) -> Result<(), Fatal>;

    /// A whole frame came, checksum and tail right.
    ///
    /// # Errors
    /// When the store fails for good.
    fn frame(&mut self, conn: ConnId, frame: &Frame<'_>, now: Now) -> Result<(), Fatal>;

    /// A protocol error: noise, a broken frame, or part of one that was given up.
    fn noise(&mut self, conn: ConnId, now: Now);

    /// A device connection is gone, whoever closed it.
    ///
    /// # Errors
    /// When the store fails for good.
    fn disconnected(&mut self, conn: ConnId, now: Now) -> Result<(), Fatal>;

    /// A client of the control socket sent a line (without its end). `user` is its peer's user id.
    ///
    /// # Errors
    /// When the store fails for good.
    fn command(&mut self, client: ClientId, line: &[u8], user: Option<u32>, now: Now) -> Result<(), Fatal>;

    /// A client sent a line that is longer than the limit: it is answered and then closed by the loop.
    fn command_too_long(&mut self, client: ClientId, now: Now);

    /// A client is gone; replies that it waited for have nobody to go to.
    fn client_gone(&mut self, client: ClientId);

    /// Something may be due.
    ///
    /// # Errors
    /// When the store fails for good.
    fn timeout(&mut self, now: Now) -> Result<(), Fatal>;

    /// When [`Core::timeout`] is next wanted. Commits are not among it.
    fn next_deadline(&self) -> Option<UpTime>;

    /// Whether answers or changes wait for a commit.
    fn wants_commit(&self) -> bool;

    /// Commits; answers that waited come out. A full disk is no error: what waited is dropped.
    ///
    /// # Errors
    /// When the store fails for good.
    fn commit(&mut self, now: Now) -> Result<(), Fatal>;

    /// What is to be sent now.
    fn outputs(&mut self) -> &mut Outputs;

    /// Who a connection belongs to, for log lines.
    fn device_of(&self, conn: ConnId) -> Option<DeviceId>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_one_device_in_a_row_leaves_as_one() {
        let mut outputs = Outputs::default();
        for (to, bytes) in [(1, "a"), (1, "b"), (2, "c"), (1, "d"), (1, "e")] {
            outputs.send(ConnId(to), |out| out.extend_from_slice(bytes.as_bytes()));
        }
        outputs.close(ConnId(1));
        outputs.send(ConnId(1), |out| out.push(b'f'));
        let mut taken = Vec::new();
        while let Some((output, bytes)) = outputs.next_joined() {
            let to = match output {
                Output::Send(to, _) | Output::Close(to) => to.0,
                Output::Reply(to, _) => to.0,
            };
            taken.push((to, String::from_utf8(bytes.to_vec()).unwrap()));
        }
        let expected = [(1, "ab"), (2, "c"), (1, "de"), (1, ""), (1, "f")];
        assert_eq!(taken, expected.map(|(to, bytes)| (to, bytes.to_owned())));
    }
}
