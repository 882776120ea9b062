//! The control socket: lines of clients in, lines of replies out, in the order in which they are ready.
//!
//! Knows no command. A client's lines are taken one a turn, and only while it reads its replies, so that nobody
//! makes the agent hold more than a bounded amount for it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _};
use std::net::Shutdown;
use std::path::Path;

use mio::event::Event;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry};

use crate::clock::{Now, UpTime};
use crate::limits::{
    ACCEPTS_A_TURN, CONTROL_CLIENTS, CONTROL_LINE, CONTROL_LINGER, CONTROL_PAUSE_BYTES, CONTROL_WAITING_BYTES,
    FIRST_CLIENT_SLOT,
};
use crate::send_queue::SendQueue;
use crate::server::listener::{Acceptance, Accepted, SocketFile, SpareFile, bind_unix};
use crate::server::seldom::Seldom;
use crate::server::slots::{Slots, token_of};
use crate::server::{BindError, CONTROL};
use crate::turn::{ClientId, Core, Fatal};

/// The listener and its clients.
#[derive(Debug)]
pub struct Control {
    listener: Option<UnixListener>,
    file: Option<SocketFile>,
    acceptance: Acceptance,
    clients: Slots<Client>,
    /// Those that may have something to do, each at most once.
    ready: VecDeque<u64>,
    /// Gone, but not yet told to the core.
    gone: VecDeque<ClientId>,
    /// Clients that linger.
    lingering: Vec<(UpTime, u64)>,
    refusals: Seldom,
}

impl Control {
    /// Listens.
    pub fn bind(path: &Path, registry: &Registry) -> Result<Self, BindError> {
        let (mut listener, file) = bind_unix(path)?;
        registry
            .register(&mut listener, CONTROL, Interest::READABLE)
            .map_err(|source| BindError::Control { path: path.to_owned(), source })?;
        Ok(Self {
            listener: Some(listener),
            file: Some(file),
            acceptance: Acceptance::default(),
            clients: Slots::new(FIRST_CLIENT_SLOT, CONTROL_CLIENTS),
            ready: VecDeque::new(),
            gone: VecDeque::new(),
            lingering: Vec::new(),
            refusals: Seldom::default(),
        })
    }

    /// No client is accepted any more, and the socket's file goes.
    pub fn stop_accepting(&mut self) {
        self.listener = None;
        self.file = None;
        self.acceptance = Acceptance::default();
    }

    /// The listener is readable.
    pub fn listener_ready(&mut self) {
        self.acceptance.ready();
    }

    /// A file was closed.
    pub fn file_closed(&mut self) {
        self.acceptance.file_closed();
    }

    /// A client is ready for something.
    pub fn ready(&mut self, event: &Event) {
        let Some(key) = self.clients.key(event.token()) else { return };
        let Some(client) = self.clients.get_mut(key) else { return };
        client.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        client.hung_up |= event.is_write_closed() || event.is_error();
        if event.is_writable() && client.queue.waiting() > 0 && client.queue.flush(&mut client.stream).is_err() {
            return self.close(key);
        }
        self.queue(key);
    }

    /// Whether something is left to do at once.
    pub fn has_work(&self, now: UpTime) -> bool {
        !self.ready.is_empty() || self.acceptance.is_due(now)
    }

    /// When a client, or the listener, next wants attention.
    pub fn next_deadline(&self) -> Option<UpTime> {
        let lingering = self.lingering.iter().map(|(until, _)| *until);
        lingering.chain(self.acceptance.deadline()).min()
    }

    /// Takes clients that wait.
    pub fn accept(&mut self, registry: &Registry, spare: &mut SpareFile, now: Now) {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(listener) = self.listener.as_ref().filter(|_| self.acceptance.is_due(now.up)) else { break };
            match self.acceptance.accept(spare, now.up, || listener.accept()) {
                Accepted::Stream(stream, _) => self.admit(stream, registry, now),
                Accepted::NoRoom(_) => self.refuse(now),
                Accepted::Failed => {}
                Accepted::Later => break,
            }
        }
    }

    fn admit(&mut self, stream: UnixStream, registry: &Registry, now: Now) {
        let user = rustix::net::sockopt::socket_peercred(&stream).ok().map(|peer| peer.uid.as_raw());
        let Some(key) = self.clients.insert(Client::new(stream, user)) else { return self.refuse(now) };
        let Some(client) = self.clients.get_mut(key) else { return };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut client.stream, token_of(key), interest) {
            log::warn!("control client not watched error={error:?}");
            self.clients.remove(key);
        }
        self.queue(key);
    }

    fn refuse(&mut self, now: Now) {
        if let Some(count) = self.refusals.admit(now.up) {
            log::warn!("control client refused count={count} open={}", self.clients.len());
        }
    }

    /// Serves the clients that are ready, one line or one read each.
    pub fn serve<C: Core>(&mut self, buffer: &mut [u8], core: &mut C, now: Now) -> Result<(), Fatal> {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { break };
            let Some(client) = self.clients.get_mut(key) else { continue };
            client.queued = false;
            match client.serve(ClientId(key), buffer, core, now)? {
                Next::Wait => {}
                Next::Again => self.queue(key),
                Next::Linger => self.linger(key, now),
                Next::Close => self.close(key),
            }
        }
        Ok(())
    }

    fn linger(&mut self, key: u64, now: Now) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.stream.shutdown(Shutdown::Write).is_err() {
            return self.close(key);
        }
        client.state = State::Lingering;
        self.lingering.push((now.up.after(CONTROL_LINGER), key));
        self.queue(key);
    }

    /// Closes those that lingered long enough.
    pub fn expire(&mut self, now: Now) {
        while let Some(index) = self.lingering.iter().position(|(until, _)| *until <= now.up) {
            let (_, key) = self.lingering.swap_remove(index);
            self.close(key);
        }
    }

    /// Sends a reply; to a client that is gone, nothing.
    pub fn reply(&mut self, to: ClientId, line: &[u8]) {
        let Some(client) = self.clients.get_mut(to.0).filter(|client| !client.hung_up) else { return };
        client.unanswered = client.unanswered.saturating_sub(1);
        if client.queue.waiting() > CONTROL_WAITING_BYTES {
            log::debug!("control client does not read client={}", to.0);
            return self.close(to.0);
        }
        client.queue.push(line);
        client.queue.push(b"\n");
        if client.queue.flush(&mut client.stream).is_err() {
            return self.close(to.0);
        }
        self.queue(to.0);
    }

    fn queue(&mut self, key: u64) {
        if let Some(client) = self.clients.get_mut(key)
            && !client.queued
        {
            client.queued = true;
            self.ready.push_back(key);
        }
    }

    fn close(&mut self, key: u64) {
        if self.clients.remove(key).is_some() {
            self.lingering.retain(|(_, lingers)| *lingers != key);
            self.gone.push_back(ClientId(key));
        }
    }

    /// The clients that went, one a call, in order.
    pub fn take_gone(&mut self) -> Option<ClientId> {
        self.gone.pop_front()
    }

    /// Whether bytes wait for anyone.
    pub fn has_waiting(&mut self) -> bool {
        self.clients.iter_mut().any(|(_, client)| client.queue.waiting() > 0)
    }
}

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its lines are taken.
    Open,
    /// It sends no more; what it asked is answered.
    Ended,
    /// Its line was too long: what it sends is thrown away until it is answered.
    TooLong,
    /// Told that nothing more comes; waiting for it to hang up, so that it can read its reply before.
    Lingering,
}

/// What is to become of a client after it was served.
enum Next {
    Wait,
    Again,
    Linger,
    Close,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    user: Option<u32>,
    state: State,
    inbox: Inbox,
    queue: SendQueue,
    /// Lines handed to the core whose reply has not come.
    unanswered: u32,
    readable: bool,
    /// The peer closed both ways: no reply can reach it.
    hung_up: bool,
    queued: bool,
}

impl Client {
    fn new(stream: UnixStream, user: Option<u32>) -> Self {
        Self {
            stream,
            user,
            state: State::Open,
            inbox: Inbox::default(),
            queue: SendQueue::default(),
            unanswered: 0,
            // What it sent before it was accepted.
            readable: true,
            hung_up: false,
            queued: false,
        }
    }

    /// Hands one line to the core, or reads once.
    fn serve<C: Core>(&mut self, id: ClientId, buffer: &mut [u8], core: &mut C, now: Now) -> Result<Next, Fatal> {
        match self.state {
            State::Open | State::Ended => {
                if self.queue.waiting() > CONTROL_PAUSE_BYTES {
                    return Ok(Next::Wait);
                }
                if let Some(line) = self.inbox.line(self.state == State::Ended) {
                    self.unanswered += 1;
                    core.command(id, line, self.user, now)?;
                    return Ok(Next::Again);
                }
            }
            State::TooLong if self.is_answered() => return Ok(Next::Linger),
            State::TooLong | State::Lingering => {}
        }
        if self.readable && self.state != State::Ended {
            return Ok(self.read(id, buffer, core, now));
        }
        let is_over = self.state == State::Ended && self.is_answered() || self.hung_up;
        Ok(if is_over { Next::Close } else { Next::Wait })
    }

    fn is_answered(&self) -> bool {
        self.unanswered == 0 && self.queue.waiting() == 0
    }

    fn read<C: Core>(&mut self, id: ClientId, buffer: &mut [u8], core: &mut C, now: Now) -> Next {
        match self.stream.read(buffer) {
            Ok(0) if self.state == State::Open => self.state = State::Ended,
            Ok(0) => return Next::Close,
            Ok(count) if self.state == State::Open => {
                self.inbox.push(&buffer[..count]);
                if self.inbox.is_too_long() {
                    self.unanswered += 1;
                    core.command_too_long(id, now);
                    (self.state, self.inbox) = (State::TooLong, Inbox::default());
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(_) => return Next::Close,
        }
        Next::Again
    }
}

/// Bytes of a client that are not yet handed over. Holds memory only while there are some.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    /// Handed over.
    taken: usize,
    /// Known to hold no end of a line, from `taken` on.
    searched: usize,
}

impl Inbox {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        (self.taken, self.searched) = (0, self.searched - self.taken);
        self.bytes.extend_from_slice(bytes);
    }

    /// The next line that is not empty, without its end; at the end of all, what no end follows is a line too.
    fn line(&mut self, at_end: bool) -> Option<&[u8]> {
        loop {
            let start = self.taken;
            let end = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n').map(|at| at + self.searched);
            let (end, next) = match end {
                Some(end) => (end, end + 1),
                None if at_end && start < self.bytes.len() => (self.bytes.len(), self.bytes.len()),
                None if start == self.bytes.len() => {
                    *self = Self::default();
                    return None;
                }
                None => {
                    self.searched = self.bytes.len();
                    return None;
                }
            };
            (self.taken, self.searched) = (next, next);
            if !self.bytes[start..end].trim_ascii().is_empty() {
                return Some(&self.bytes[start..end]);
            }
        }
    }

    /// Whether what is here begins with a line that is too long, as far as it came.
    fn is_too_long(&self) -> bool {
        let begun = &self.bytes[self.taken..];
        begun.len() > CONTROL_LINE && !begun[..=CONTROL_LINE].contains(&b'\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(inbox: &mut Inbox, at_end: bool) -> Vec<String> {
        std::iter::from_fn(|| inbox.line(at_end).map(|line| String::from_utf8(line.to_vec()).unwrap())).collect()
    }

    #[test]
    fn lines_come_out_however_they_were_split_and_empty_ones_do_not() {
        let mut inbox = Inbox::default();
        let mut out = Vec::new();
        for part in ["a", "b\n\n \r\nc\nd", "", "\ne\n"] {
            inbox.push(part.as_bytes());
            out.extend(lines(&mut inbox, false));
        }
        assert_eq!(out, ["ab", "c", "d", "e"]);
        assert_eq!(inbox.bytes.capacity(), 0);
    }

    #[test]
    fn the_last_line_needs_no_end() {
        let mut inbox = Inbox::default();
        inbox.push(b"a\nb");
        assert_eq!(lines(&mut inbox, false), ["a"]);
        assert_eq!(lines(&mut inbox, true), ["b"]);
        assert_eq!(lines(&mut inbox, true), [""; 0]);
    }

    #[test]
    fn a_line_of_64_kib_is_fine_and_one_byte_more_is_too_long() {
        let mut inbox = Inbox::default();
        inbox.push(&[b'x'; CONTROL_LINE]);
        assert!(!inbox.is_too_long());
        inbox.push(b"\nshort\n");
        assert!(!inbox.is_too_long());
        assert_eq!(inbox.line(false).unwrap().len(), CONTROL_LINE);
        assert_eq!(lines(&mut inbox, false), ["short"]);
        inbox.push(&[b'x'; CONTROL_LINE + 1]);
        assert!(inbox.is_too_long());
    }
}
