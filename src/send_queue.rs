//! Bytes that wait for a socket to take them. Holds memory only while some do.

use std::io::{self, ErrorKind, Write};

/// What could not be sent yet.
#[derive(Debug, Default)]
pub struct SendQueue {
    bytes: Vec<u8>,
    sent: usize,
}

impl SendQueue {
    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Sends what the socket takes at once and keeps the rest. Behind bytes that wait it only waits too: the socket
    /// tells when it takes more.
    pub fn send(&mut self, to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        let taken = if self.waiting() == 0 { write(to, bytes)? } else { 0 };
        if taken < bytes.len() {
            self.push(&bytes[taken..]);
        }
        Ok(())
    }

    /// Lets bytes wait.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.sent);
        self.sent = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Sends what the socket takes of what waits.
    pub fn flush(&mut self, to: &mut impl Write) -> io::Result<()> {
        if self.waiting() > 0 {
            self.sent += write(to, &self.bytes[self.sent..])?;
        }
        if self.waiting() == 0 {
            *self = Self::default();
        }
        Ok(())
    }
}

/// Writes until all is written or the socket takes no more; how much it took.
fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match to.write(&bytes[taken..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => taken += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then no more.
    struct Narrow {
        room: usize,
        got: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.room.min(bytes.len()).min(3);
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.got.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_leave_in_order_however_little_the_socket_takes() {
        let (mut outbox, mut socket) = (SendQueue::default(), Narrow { room: 5, got: Vec::new() });
        outbox.send(&mut socket, b"hello ").unwrap();
        outbox.send(&mut socket, b"world").unwrap();
        assert_eq!((socket.got.as_slice(), outbox.waiting()), (&b"hello"[..], 6));
        socket.room = 2;
        outbox.flush(&mut socket).unwrap();
        outbox.send(&mut socket, b"!").unwrap();
        socket.room = 100;
        outbox.flush(&mut socket).unwrap();
        assert_eq!(socket.got, b"hello world!");
    }

    #[test]
    fn no_memory_is_held_when_nothing_waits() {
        let (mut outbox, mut socket) = (SendQueue::default(), Narrow { room: 1, got: Vec::new() });
        outbox.send(&mut socket, b"ab").unwrap();
        socket.room = 1;
        outbox.flush(&mut socket).unwrap();
        assert_eq!(outbox.bytes.capacity(), 0);
    }
}
