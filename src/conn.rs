//! One device connection: its socket, the frames in what it sends, what waits for it, and when it is given up.
//!
//! Knows no device and no order. While a connection is idle it holds no buffer.

use std::io::{self, ErrorKind, Read as _};
use std::net::IpAddr;
use std::time::Duration;

use mio::net::TcpStream;

use crate::bkv::{Deframer, Direction};
use crate::clock::{Now, UpTime};
use crate::limits::{DEVICE_WAITING_BYTES, ERRORS, ERRORS_WITHIN, PARTIAL_FRAME};
use crate::send_queue::SendQueue;
use crate::turn::{ConnId, Core, Fatal};

/// Why the loop closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The peer hung up.
    ByPeer,
    /// The socket failed.
    Broken(ErrorKind),
    /// The core asked for it.
    ByUs,
    /// Nothing came for `devices.offline_after`.
    Silent,
    /// Too many protocol errors with no good frame among them.
    Noise,
    /// It does not read what it is sent.
    NotReading,
}

/// What a connection wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing until the poll tells.
    Wait,
    /// There may be more to read.
    More,
    /// To be closed.
    Close(Closed),
}

/// One socket.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    peer: IpAddr,
    deframer: Deframer,
    errors: ErrorBudget,
    queue: SendQueue,
    last_byte: UpTime,
    /// When the part of a frame that is held began to come.
    partial_since: Option<UpTime>,
    /// Where the connection stands among the deadlines: never later than its true deadline.
    pub(crate) stands: UpTime,
    /// Whether it stands in the ready queue.
    pub(crate) queued: bool,
    /// The end of the stream was announced: a short read is not the last one.
    end_announced: bool,
}

// A thousand idle connections are to cost well under half a mebibyte.
const _: () = assert!(size_of::<Conn>() <= 208);

impl Conn {
    /// One that was just accepted.
    pub fn new(stream: TcpStream, peer: IpAddr, now: UpTime) -> Self {
        Self {
            stream,
            peer,
            deframer: Deframer::new(Direction::Up),
            errors: ErrorBudget::default(),
            queue: SendQueue::default(),
            last_byte: now,
            partial_since: None,
            stands: now,
            queued: false,
            end_announced: false,
        }
    }

    /// Its address, as the limits count it.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// What the poll watches.
    pub fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The poll told that the peer sends no more.
    pub fn announce_end(&mut self) {
        self.end_announced = true;
    }

    /// Reads once, as much as `buffer` takes, and hands the frames in it to the core. How many there were.
    ///
    /// A read that does not fill the buffer has emptied the socket: what comes later is told by the poll.
    ///
    /// # Errors
    /// When the core's store fails for good.
    pub fn read<C: Core>(
        &mut self,
        id: ConnId,
        buffer: &mut [u8],
        core: &mut C,
        now: Now,
    ) -> Result<(usize, Then), Fatal> {
        let count = loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok((0, Then::Close(Closed::ByPeer))),
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok((0, Then::Wait)),
                Err(error) => return Ok((0, Then::Close(Closed::Broken(error.kind())))),
            }
        };
        self.last_byte = now.up;
        let (frames, noisy) = self.take_in(id, &buffer[..count], core, now)?;
        Ok(match (noisy, count == buffer.len() || self.end_announced) {
            (true, _) => (frames, Then::Close(Closed::Noise)),
            (false, true) => (frames, Then::More),
            (false, false) => (frames, Then::Wait),
        })
    }

    /// Hands over what the bytes complete: how many frames, and whether the connection is too noisy to go on.
    fn take_in<C: Core>(
        &mut self,
        id: ConnId,
        mut bytes: &[u8],
        core: &mut C,
        now: Now,
    ) -> Result<(usize, bool), Fatal> {
        let (mut frames, mut pieces) = (0, 0);
        while let Some(piece) = self.deframer.next(&mut bytes) {
            pieces += 1;
            match piece {
                Ok(frame) => {
                    log::trace!("frame conn={} bytes={}", id.0, frame.bytes().len());
                    frames += 1;
                    self.errors.good_frame();
                    core.frame(id, &frame, now)?;
                }
                Err(skipped) => {
                    log::debug!("noise conn={} bytes={} why={:?}", id.0, skipped.bytes.len(), skipped.error);
                    core.noise(id, now);
                    if self.errors.error(now.up) {
                        return Ok((frames, true));
                    }
                }
            }
        }
        self.partial_since = match self.partial_since {
            _ if !self.deframer.is_waiting() => None,
            Some(since) if pieces == 0 => Some(since),
            Some(_) | None => Some(now.up),
        };
        Ok((frames, false))
    }

    /// When something is due: the rest of a frame, or any byte.
    pub fn deadline(&self, offline_after: Duration) -> UpTime {
        let silent = self.last_byte.after(offline_after);
        self.partial_since.map_or(silent, |since| silent.min(since.after(PARTIAL_FRAME)))
    }

    /// The deadline may have come, and the socket was found empty: gives up part of a frame, or the connection.
    ///
    /// # Errors
    /// When the core's store fails for good.
    pub fn expire<C: Core>(
        &mut self,
        id: ConnId,
        offline_after: Duration,
        core: &mut C,
        now: Now,
    ) -> Result<Option<Closed>, Fatal> {
        while self.partial_since.is_some_and(|since| since.after(PARTIAL_FRAME) <= now.up) {
            log::debug!("part of a frame given up conn={}", id.0);
            self.deframer.abandon();
            let (_, noisy) = self.take_in(id, &[], core, now)?;
            if noisy {
                return Ok(Some(Closed::Noise));
            }
            // What stands behind it came with the last byte at the latest.
            self.partial_since = self.partial_since.map(|_| self.last_byte);
        }
        Ok((self.last_byte.after(offline_after) <= now.up).then_some(Closed::Silent))
    }

    /// Sends what the socket takes at once; the rest waits. `Err`: to be closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        self.queue.send(&mut self.stream, bytes).map_err(broken)?;
        if self.queue.waiting() > DEVICE_WAITING_BYTES { Err(Closed::NotReading) } else { Ok(()) }
    }

    /// Sends what the socket takes of what waits. `Err`: to be closed.
    pub fn flush(&mut self) -> Result<(), Closed> {
        self.queue.flush(&mut self.stream).map_err(broken)
    }

    /// Whether bytes wait for it.
    pub fn has_waiting(&self) -> bool {
        self.queue.waiting() > 0
    }
}

fn broken(error: io::Error) -> Closed {
    Closed::Broken(error.kind())
}

/// Counts protocol errors: so many within a minute, no good frame among them, are too many.
#[derive(Debug, Default)]
pub struct ErrorBudget {
    /// Times of the newest, oldest first. Holds memory only while the last thing that came was an error.
    times: Vec<UpTime>,
}

impl ErrorBudget {
    /// A good frame came.
    pub fn good_frame(&mut self) {
        if !self.times.is_empty() {
            self.times = Vec::new();
        }
    }

    /// An error came: whether it is one too many.
    pub fn error(&mut self, now: UpTime) -> bool {
        self.times.retain(|at| now.since(*at) < ERRORS_WITHIN);
        self.times.push(now);
        self.times.len() >= ERRORS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(budget: &mut ErrorBudget, count: usize, at: u64) -> bool {
        (0..count).any(|_| budget.error(UpTime(at)))
    }

    #[test]
    fn twenty_errors_in_a_minute_are_too_many() {
        let mut budget = ErrorBudget::default();
        assert!(!errors(&mut budget, 19, 0));
        assert!(budget.error(UpTime(59_999)));
    }

    #[test]
    fn a_good_frame_among_them_begins_anew() {
        let mut budget = ErrorBudget::default();
        assert!(!errors(&mut budget, 19, 0));
        budget.good_frame();
        assert!(!errors(&mut budget, 19, 0));
        assert!(errors(&mut budget, 1, 0));
    }

    #[test]
    fn errors_of_more_than_a_minute_ago_no_longer_count() {
        let mut budget = ErrorBudget::default();
        assert!(!errors(&mut budget, 19, 0));
        assert!(!errors(&mut budget, 19, 60_000));
        assert!(errors(&mut budget, 1, 61_000));
    }

    #[test]
    fn no_memory_is_held_after_a_good_frame() {
        let mut budget = ErrorBudget::default();
        errors(&mut budget, 5, 0);
        budget.good_frame();
        assert_eq!(budget.times.capacity(), 0);
    }
}
