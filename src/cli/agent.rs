//! The running agent, as a client of its control socket sees it: one JSON object a line.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use chargegate::clock::{Clock, UpTime};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

/// A reply is at most this long, and a reader must not be made to wait for more: a snapshot of a whole site is the
/// longest.
const LONGEST_REPLY: u64 = chargegate::limits::SNAPSHOT_BYTES as u64 + (1 << 20);
/// How long a reading command waits for figures to become current.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// A connection to the control socket.
pub struct Agent {
    reader: BufReader<io::Take<Socket>>,
}

impl Agent {
    /// Connects, within `patience`: a listener whose queue is full would keep us waiting.
    pub fn connect(socket: &Path, patience: Duration) -> io::Result<Self> {
        let connection = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        connection.connect_timeout(&SockAddr::unix(socket)?, patience)?;
        Ok(Self { reader: BufReader::new(connection.take(LONGEST_REPLY)) })
    }

    /// From now on a read or write that takes longer fails.
    pub fn hurry(&self, patience: Duration) -> io::Result<()> {
        let connection = self.reader.get_ref().get_ref();
        connection.set_read_timeout(Some(patience))?;
        connection.set_write_timeout(Some(patience))
    }

    /// Sends one line.
    pub fn send(&mut self, line: &str) -> io::Result<()> {
        let connection = self.reader.get_mut().get_mut();
        connection.write_all(format!("{line}\n").as_bytes())
    }

    /// The next line, without its end; `None` when the agent has closed the connection.
    pub fn receive(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }
}

/// Asks a running agent to write down what it has in memory, so that what is read next is current. Without an
/// agent, or with one that does not answer in time, the store is read as it stands. What it says of itself comes back.
pub fn ask_to_flush(socket: &Path) -> Option<Value> {
    let reply = flush(socket).ok().flatten()?;
    serde_json::from_str(&reply).ok()
}

fn flush(socket: &Path) -> io::Result<Option<String>> {
    if !socket.exists() {
        return Ok(None);
    }
    let mut agent = Agent::connect(socket, FLUSH_PATIENCE)?;
    agent.hurry(FLUSH_PATIENCE)?;
    let id = made_up_id();
    agent.send(&format!(r#"{{"id":"{id}","type":"flush"}}"#))?;
    agent.receive()
}

/// An id that no other command has: from the time and our process id.
pub fn made_up_id() -> String {
    let now = Clock::start(UpTime::default()).now();
    format!("cli-{}-{}", now.wall.0, std::process::id())
}
