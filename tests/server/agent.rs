//! A server on a thread of its own with a core that does what its input says, for tests that speak to real sockets.
//!
//! The first data byte of a frame, the first word of a command, is the order. Tests wait for conditions, never for time.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use chargegate::bkv::Frame;
use chargegate::clock::{Clock, Now, UpTime};
use chargegate::config::{self, Config};
use chargegate::ids::DeviceId;
use chargegate::server::{Exit, Handle, Hooks, Server};
use chargegate::turn::{ClientId, ConnId, Core, Fatal, Outputs, Refused};

/// How long a condition may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the core was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Connected(ConnId, IpAddr, UpTime),
    Refused(Refused),
    Frame(ConnId, u8, UpTime),
    Noise(ConnId, UpTime),
    Disconnected(ConnId, UpTime),
    Command(String),
    TooLong,
    Gone,
    Commit,
    Timeout(UpTime),
    Ready,
    Reload,
    Woken,
}

/// What was seen, for both threads.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<(Mutex<Vec<Seen>>, Condvar)>);

impl Log {
    fn push(&self, seen: Seen) {
        self.0.0.lock().unwrap().push(seen);
        self.0.1.notify_all();
    }

    pub fn all(&self) -> Vec<Seen> {
        self.0.0.lock().unwrap().clone()
    }

    pub fn count(&self, what: impl Fn(&Seen) -> bool) -> usize {
        self.all().iter().filter(|seen| what(seen)).count()
    }

    /// Waits until `find` finds something.
    pub fn wait<T>(&self, find: impl Fn(&[Seen]) -> Option<T>) -> T {
        let seen = self.0.0.lock().unwrap();
        let (seen, waited) = self.0.1.wait_timeout_while(seen, PATIENCE, |seen| find(seen).is_none()).unwrap();
        find(&seen).unwrap_or_else(|| panic!("never seen (timed out: {}): {seen:?}", waited.timed_out()))
    }

    /// Waits until there are at least so many of them.
    pub fn wait_count(&self, count: usize, what: impl Fn(&Seen) -> bool) {
        self.wait(|seen| (seen.iter().filter(|seen| what(seen)).count() >= count).then_some(()));
    }

    pub fn wait_for(&self, what: impl Fn(&Seen) -> bool) {
        self.wait(|seen| seen.iter().any(&what).then_some(()));
    }
}

/// The core.
#[derive(Debug, Default)]
pub struct Script {
    pub log: Log,
    /// When timeouts are due, in order.
    pub deadlines: Vec<UpTime>,
    pub handle: Option<Handle>,
    /// The next commit fails for good.
    pub breaks_at_commit: bool,
    pub turns: usize,
    /// The most frames that one turn brought, of one connection and of all.
    pub most_of_one: usize,
    pub most_of_all: usize,
    this_turn: BTreeMap<ConnId, usize>,
    outputs: Outputs,
    held: Outputs,
    later: Vec<ClientId>,
}

impl Core for Script {
    fn connected(&mut self, conn: ConnId, peer: IpAddr, now: Now) {
        self.log.push(Seen::Connected(conn, peer, now.up));
    }

    fn refused(&mut self, _: IpAddr, why: Refused, _: Now) -> Result<(), Fatal> {
        self.log.push(Seen::Refused(why));
        Ok(())
    }

    fn frame(&mut self, conn: ConnId, frame: &Frame<'_>, now: Now) -> Result<(), Fatal> {
        *self.this_turn.entry(conn).or_default() += 1;
        let order = frame.data()[0];
        if order != b'n' {
            self.log.push(Seen::Frame(conn, order, now.up));
        }
        match order {
            b'e' => self.outputs.send(conn, |out| out.extend_from_slice(frame.bytes())),
            b'h' => self.held.send(conn, |out| out.extend_from_slice(frame.bytes())),
            b'b' => self.outputs.send(conn, |out| out.resize(out.len() + 4000, 0)),
            b'x' => {
                self.outputs.send(conn, |out| out.extend_from_slice(frame.bytes()));
                self.outputs.close(conn);
            }
            _ => {}
        }
        Ok(())
    }

    fn noise(&mut self, conn: ConnId, now: Now) {
        self.log.push(Seen::Noise(conn, now.up));
    }

    fn disconnected(&mut self, conn: ConnId, now: Now) -> Result<(), Fatal> {
        self.log.push(Seen::Disconnected(conn, now.up));
        Ok(())
    }

    fn command(&mut self, client: ClientId, line: &[u8], user: Option<u32>, _: Now) -> Result<(), Fatal> {
        let line = String::from_utf8_lossy(line).into_owned();
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("echo", text) => self.outputs.reply(client, text.as_bytes()),
            ("hold", text) => self.held.reply(client, text.as_bytes()),
            ("user", _) => self.outputs.reply(client, format!("{user:?}").as_bytes()),
            ("big", size) => self.outputs.reply(client, &vec![b'x'; size.parse().unwrap()]),
            ("later", _) => self.later.push(client),
            ("release", _) => {
                self.later.drain(..).for_each(|client| self.outputs.reply(client, b"later"));
                self.outputs.reply(client, b"released");
            }
            ("stuck", _) => {
                println!("stuck");
                loop {
                    std::thread::park();
                }
            }
            ("stop", _) => {
                self.held.reply(client, b"stopping");
                self.handle.iter().for_each(Handle::stop);
            }
            _ => self.outputs.reply(client, b"what?"),
        }
        self.log.push(Seen::Command(line));
        Ok(())
    }

    fn command_too_long(&mut self, client: ClientId, _: Now) {
        self.outputs.reply(client, b"too long");
        self.log.push(Seen::TooLong);
    }

    fn client_gone(&mut self, client: ClientId) {
        self.later.retain(|waits| *waits != client);
        self.log.push(Seen::Gone);
    }

    fn timeout(&mut self, now: Now) -> Result<(), Fatal> {
        self.deadlines.retain(|due| *due > now.up);
        self.log.push(Seen::Timeout(now.up));
        Ok(())
    }

    fn next_deadline(&self) -> Option<UpTime> {
        self.deadlines.iter().min().copied()
    }

    fn wants_commit(&self) -> bool {
        !self.held.is_empty()
    }

    fn commit(&mut self, _: Now) -> Result<(), Fatal> {
        if self.breaks_at_commit {
            return Err(Fatal("the store broke".to_owned()));
        }
        self.log.push(Seen::Commit);
        self.outputs.append(&mut self.held);
        Ok(())
    }

    fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

    fn device_of(&self, _: ConnId) -> Option<DeviceId> {
        None
    }
}

struct Process {
    reloaded: Option<config::Devices>,
}

impl Hooks<Script> for Process {
    fn ready(&mut self, core: &mut Script) {
        core.log.push(Seen::Ready);
    }

    fn reload(&mut self, core: &mut Script, _: Now) -> Result<Option<config::Devices>, Fatal> {
        core.log.push(Seen::Reload);
        Ok(self.reloaded.take())
    }

    fn woken(&mut self, core: &mut Script, _: Now) -> Result<(), Fatal> {
        core.log.push(Seen::Woken);
        Ok(())
    }

    fn turn_ended(&mut self, core: &mut Script, _: Now) -> Result<(), Fatal> {
        core.turns += 1;
        core.most_of_one = core.most_of_one.max(core.this_turn.values().copied().max().unwrap_or(0));
        core.most_of_all = core.most_of_all.max(core.this_turn.values().sum());
        core.this_turn.clear();
        Ok(())
    }
}

/// What a test chooses.
pub struct Setup {
    pub config: Config,
    pub core: Script,
    pub speed: u32,
    pub signals: bool,
    pub reloaded: Option<config::Devices>,
}

impl Setup {
    pub fn start(mut self) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        self.config.control.socket = folder.path().join("control.sock");
        let mut server = Server::bind(&self.config).unwrap();
        if self.signals {
            server.watch_signals().unwrap();
        }
        self.core.handle = Some(server.handle());
        let (address, handle) = (server.devices_address().unwrap(), server.handle());
        let (socket, log) = (self.config.control.socket, self.core.log.clone());
        let (mut core, mut process) = (self.core, Process { reloaded: self.reloaded });
        let clock = Clock::scaled(UpTime(0), self.speed);
        let thread = std::thread::spawn(move || {
            let exit = server.run(&mut core, &clock, &mut process);
            (exit, core)
        });
        Agent { address, socket, handle, log, thread: Some(thread), _folder: folder }
    }
}

/// A server that runs.
pub struct Agent {
    pub address: SocketAddr,
    pub socket: PathBuf,
    pub handle: Handle,
    pub log: Log,
    thread: Option<JoinHandle<(Result<Exit, Fatal>, Script)>>,
    _folder: tempfile::TempDir,
}

impl Agent {
    pub fn setup() -> Setup {
        let mut config = Config::default();
        config.devices.listen = "127.0.0.1:0".parse().unwrap();
        Setup { config, core: Script::default(), speed: 1, signals: false, reloaded: None }
    }

    pub fn start() -> Self {
        Self::setup().start()
    }

    pub fn device(&self) -> Device {
        Device::over(TcpStream::connect(self.address).unwrap())
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket)
    }

    /// How it ended, and its core.
    pub fn join(mut self) -> (Result<Exit, Fatal>, Script) {
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn stop(self) -> Script {
        self.handle.stop();
        let (exit, core) = self.join();
        assert_eq!(exit, Ok(Exit::Stopped));
        core
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

/// A frame with an order and more data.
pub fn frame(order: u8, more: &[u8]) -> Vec<u8> {
    let mut out = vec![0xfc, 0xfe, 0, 0, 0xbe, 0xef, 0, 0, 0, 0, 1, 0x82, 0x24, 0x12, 0x18, 0, 3, 0x82, order];
    out.extend_from_slice(more);
    let length = u16::try_from(out.len() + 3 - 4).unwrap();
    out[2..4].copy_from_slice(&length.to_be_bytes());
    let sum = out[2..].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    out.extend_from_slice(&[sum, 0xfc, 0xee]);
    out
}

/// A frame whose checksum is wrong: one protocol error.
pub fn broken_frame() -> Vec<u8> {
    let mut out = frame(b'e', b"");
    let sum = out.len() - 3;
    out[sum] ^= 0x5a;
    out
}

/// The device's end of a connection.
pub struct Device(pub TcpStream);

impl Device {
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        self.0.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
    }

    /// One frame there and back.
    pub fn echo(&mut self, more: &[u8]) {
        let frame = frame(b'e', more);
        self.send(&frame);
        self.expect(&frame);
    }

    /// What still comes before the other end closes; a reset is an end too.
    pub fn rest(&mut self) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return all,
                Ok(count) => all.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
                Err(error) => panic!("neither bytes nor an end: {error}"),
            }
        }
    }
}

/// A client of the control socket.
pub struct Client(BufReader<UnixStream>);

impl Client {
    pub fn connect(path: &std::path::Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// One line, without its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert_eq!(line.pop(), Some('\n'), "the connection ended");
        line
    }

    /// Sends no more.
    pub fn shut(&mut self) {
        self.0.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    pub fn ask(&mut self, text: &str) -> String {
        self.send(&format!("{text}\n"));
        self.line()
    }

    /// All that comes until the other end closes.
    pub fn rest(&mut self) -> String {
        let mut all = String::new();
        self.0.read_to_string(&mut all).unwrap();
        all
    }
}
