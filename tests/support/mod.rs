//! The real program in a folder of its own, a device that says what it is told to, and a client of the control socket.
//!
//! Nothing here sleeps: each wait is for a frame, a reply, or a condition, with a deadline that only a failure meets.

#![allow(dead_code, reason = "each test file uses its part of it")]

pub mod asyncapi;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use chargegate::bkv::{
    AsciiText, Carrier, ChargeEnd, Deframer, Direction, Downlink, EndFigures, EnergyUnits, Extras, Frame, Heartbeat,
    PortReading, QueryAnswer, ResultByte, SocketStatus, StatusByte, StatusReport, SwitchAnswer, SwitchOrder, UpTo,
    Uplink,
};
use chargegate::clock::Stopwatch;
use chargegate::ids::{BusinessNo, DeciVolts, DeciWatts, DeviceId, MessageId, MilliAmperes, Minutes, PortNo, SocketNo};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use asyncapi::{EVENTS, asyncapi, enveloped};

/// What only a failure waits for.
const DEADLINE: Duration = Duration::from_secs(20);

/// Fails when a program is missing, and says how to get it.
pub fn needs(program: &str, package: &str) {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    assert!(found, "{program} is missing: apt-get install {package}");
}

/// Waits until the condition gives something.
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_within(DEADLINE, what, condition)
}

/// The same, for what takes its time.
pub fn wait_within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    let (_sender, tick) = channel::<()>();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(watch.elapsed() < patience, "{what} does not come");
        // Nobody sends: the time-out is the pause.
        let _ = tick.recv_timeout(Duration::from_millis(5));
    }
}

/// The program on its own folder and port.
pub struct Agent {
    pub folder: tempfile::TempDir,
    pub address: SocketAddr,
    child: Option<Child>,
    /// Put before the program.
    wrapper: Vec<String>,
    /// Inside the folder.
    store: String,
}

/// Timings that let a test see each rule within seconds.
pub const FAST: &str = "[orders]\nanswer_timeout = \"1s\"\nend_report_grace = \"2s\"\n";

impl Agent {
    /// Starts it with this configuration beside its addresses.
    pub fn start(config: &str) -> Self {
        Self::under(&[], config)
    }

    /// Starts it under another program, such as `strace`.
    pub fn under(wrapper: &[&str], config: &str) -> Self {
        let mut agent = Self::prepare(config);
        agent.wrapper = wrapper.iter().map(|part| (*part).to_owned()).collect();
        agent.run();
        agent
    }

    /// Starts it with its store on a small disk of its own: a tmpfs that only it sees.
    pub fn on_small_disk(mebibytes: u32, config: &str) -> Self {
        let mut agent = Self::prepare(config);
        fs::create_dir(agent.path("disk")).unwrap();
        agent.store = "disk/store.db".to_owned();
        let file = agent.path("agent.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replace("/store.db\"", "/disk/store.db\"")).unwrap();
        let mount = format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$0\" && exec \"$@\"");
        let disk = agent.path("disk").display().to_string();
        agent.wrapper = ["unshare", "-rm", "sh", "-c", &mount, &disk].map(str::to_owned).to_vec();
        needs("unshare", "util-linux");
        agent.run();
        agent
    }

    /// A path as the agent sees it, in its own mount namespace.
    pub fn inside(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        if self.wrapper.is_empty() {
            path
        } else {
            PathBuf::from(format!("/proc/{}/root{}", self.id(), path.display()))
        }
    }

    /// Its folder and configuration, not started.
    pub fn prepare(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "[log]\nlevel = \"debug\"\n[control]\nsocket = {:?}\n[store]\npath = {:?}\n{}",
            folder.path().join("sock"),
            folder.path().join("store.db"),
            with_listen(config, address),
        );
        fs::write(folder.path().join("agent.toml"), text).unwrap();
        Self { folder, address, child: None, wrapper: Vec::new(), store: "store.db".to_owned() }
    }

    /// Starts it (again) and waits until it answers.
    pub fn run(&mut self) {
        self.spawn();
        wait_for("the agent", || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the agent ended: {}", self.log());
            let answers = UnixStream::connect(self.socket()).is_ok() && self.log().contains("devices can connect");
            answers.then_some(())
        });
    }

    /// Starts it without waiting.
    pub fn spawn(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        log.set_len(0).unwrap();
        let program = env!("CARGO_BIN_EXE_chargegate").to_owned();
        let mut words = self.wrapper.clone();
        words.extend([program, "--config".to_owned(), self.path("agent.toml").display().to_string(), "run".to_owned()]);
        let mut command = Command::new(&words[0]);
        self.child = Some(command.args(&words[1..]).stdin(Stdio::null()).stderr(log).spawn().unwrap());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("sock")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn end(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.ended()
    }

    /// How it ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        wait_for("the end", || child.try_wait().unwrap())
    }

    /// Sends a command and waits for its reply; an `id` is made up when it has none.
    pub fn command(&self, command: Value) -> Value {
        self.begin(command).reply()
    }

    /// Sends a command.
    pub fn begin(&self, mut command: Value) -> Client {
        if command.get("id").is_none() {
            command["id"] = format!("test-{:?}-{}", std::thread::current().id(), next_count()).into();
        }
        let mut client = Client::connect(self);
        client.send(command.to_string().as_bytes());
        client
    }

    /// Rows of the store, each an object.
    pub fn rows(&self, sql: &str) -> Vec<Value> {
        self.command(json!({ "type": "flush" }));
        self.rows_as_they_are(sql)
    }

    /// Without asking the agent to flush first.
    pub fn rows_as_they_are(&self, sql: &str) -> Vec<Value> {
        // SQLite follows links, and the agent's own disk can only be reached through one: a copy serves.
        let copy = tempfile::tempdir().unwrap();
        let path = if self.wrapper.is_empty() {
            self.path(&self.store)
        } else {
            for part in ["", "-wal"] {
                let name = format!("{}{part}", self.store);
                fs::copy(self.inside(&name), copy.path().join(format!("copy{part}"))).unwrap();
            }
            copy.path().join("copy")
        };
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        db.pragma_update(None, "query_only", true).unwrap();
        rows_of(&db, sql)
    }

    /// The newest order.
    pub fn order(&self) -> Value {
        self.rows("SELECT * FROM orders ORDER BY serial DESC LIMIT 1").pop().unwrap()
    }

    /// The types of the events of a stream, in their order.
    pub fn events(&self, stream: &str) -> Vec<String> {
        let rows = self.rows(&format!("SELECT type FROM events WHERE stream = '{stream}' ORDER BY seq"));
        rows.iter().map(|row| row["type"].as_str().unwrap().to_owned()).collect()
    }

    /// All events so far, as the cloud would get them: topic and payload.
    pub fn told(&self) -> Vec<(String, Value)> {
        let rows = self.rows_as_they_are(EVENTS);
        rows.iter().map(enveloped).collect()
    }

    /// Whether its store is one that can be read from here, and not one of another program.
    fn has_events(&self) -> bool {
        let can_be_read = self.wrapper.is_empty() && self.path(&self.store).exists();
        can_be_read && !self.rows_as_they_are("SELECT 1 FROM sqlite_master WHERE name = 'events'").is_empty()
    }

    /// The program with other arguments, on the same configuration.
    pub fn cli(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_chargegate"))
            .arg("--config")
            .arg(self.path("agent.toml"))
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

/// Whatever a scene was about, all that it told is as it is described to the cloud.
impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking() && self.has_events() {
            for (topic, event) in self.told() {
                asyncapi().check(&topic, &event).unwrap_or_else(|why| panic!("{topic}: {why}\n{event}"));
            }
        }
    }
}

fn next_count() -> u64 {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// `devices.listen` goes into the section where the test has others of it.
fn with_listen(config: &str, address: SocketAddr) -> String {
    let listen = format!("[devices]\nlisten = \"{address}\"\n");
    if config.contains("[devices]\n") { config.replace("[devices]\n", &listen) } else { format!("{listen}{config}") }
}

/// Rows as objects.
pub fn rows_of(db: &Connection, sql: &str) -> Vec<Value> {
    let mut statement = db.prepare(sql).unwrap();
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let rows = statement.query_map([], |row| {
        let mut object = serde_json::Map::new();
        for (place, name) in names.iter().enumerate() {
            let value = match row.get_ref(place)? {
                rusqlite::types::ValueRef::Null => Value::Null,
                rusqlite::types::ValueRef::Integer(number) => number.into(),
                rusqlite::types::ValueRef::Real(number) => number.into(),
                rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
                rusqlite::types::ValueRef::Blob(bytes) => bytes.len().into(),
            };
            object.insert(name.clone(), value);
        }
        Ok(Value::Object(object))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

impl Drop for Client {
    fn drop(&mut self) {
        // Its reader holds the socket, too.
        let _ = self.out.shutdown(std::net::Shutdown::Both);
    }
}

/// A client of the control socket.
pub struct Client {
    out: UnixStream,
    lines: Receiver<Value>,
    /// The types of the commands that it sent, by their ids.
    asked: BTreeMap<String, String>,
}

impl Client {
    pub fn connect(agent: &Agent) -> Self {
        let out = UnixStream::connect(agent.socket()).unwrap();
        let input = BufReader::new(out.try_clone().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in input.lines().map_while(Result::ok) {
                let reply = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(reply).is_err() {
                    break;
                }
            }
        });
        Self { out, lines, asked: BTreeMap::new() }
    }

    pub fn send(&mut self, line: &[u8]) {
        let command: Value = serde_json::from_slice(line).unwrap_or_default();
        if let (Some(id), Some(kind)) = (command["id"].as_str(), command["type"].as_str()) {
            self.asked.insert(id.to_owned(), kind.to_owned());
        }
        self.out.write_all(line).unwrap();
        self.out.write_all(b"\n").unwrap();
    }

    /// The next reply, which is as it is described to the cloud.
    pub fn reply(&self) -> Value {
        let reply = self.lines.recv_timeout(DEADLINE).unwrap();
        self.check(&reply).unwrap_or_else(|why| panic!("{why}\n{reply}"));
        reply
    }

    fn check(&self, reply: &Value) -> Result<(), String> {
        let asked = reply["id"].as_str().and_then(|id| self.asked.get(id)).map(String::as_str);
        match asked {
            // The control socket's own.
            Some("flush" | "redecode") => Ok(()),
            Some(kind) if asyncapi().messages_of("command").iter().any(|known| known == kind) => {
                asyncapi().check_reply(kind, reply)
            }
            _ => asyncapi().check("chargegate/site-1/reply", reply),
        }
    }

    /// Whether none has come so far.
    pub fn waits(&self) -> bool {
        self.try_reply().is_none()
    }

    /// The next reply, if it has come.
    pub fn try_reply(&self) -> Option<Value> {
        self.lines.try_recv().ok()
    }
}

pub fn id() -> DeviceId {
    "82241218000382".parse().unwrap()
}

pub fn socket() -> SocketNo {
    SocketNo::new(1).unwrap()
}

/// A start by time at the device's port A.
pub fn start(minutes: u32) -> Value {
    json!({ "type": "start_charge", "device": id(), "socket": 1, "port": 0, "mode": "time", "minutes": minutes })
}

/// What a port shows.
#[derive(Debug, Clone, Copy)]
pub struct Shows {
    pub raw: u8,
    pub number: u16,
    pub power: u32,
    pub energy: u16,
    pub minutes: u32,
}

pub const IDLE: Shows = Shows { raw: 0x80, number: 0, power: 0, energy: 0, minutes: 0 };

pub const fn charging(number: u16, energy: u16, minutes: u32) -> Shows {
    Shows { raw: 0xb0, number, power: 1200, energy, minutes }
}

/// The platform's side sees a device; it says what the test lets it say.
pub struct Device {
    pub id: DeviceId,
    pub stream: TcpStream,
    deframer: Deframer,
    heard: VecDeque<(Vec<u8>, Downlink)>,
    /// The bytes of the frame that was heard last.
    pub last: Vec<u8>,
}

impl Device {
    /// Connected, its first heartbeat answered.
    pub fn connect(agent: &Agent) -> Self {
        Self::connect_as(agent, id())
    }

    pub fn connect_as(agent: &Agent, id: DeviceId) -> Self {
        let mut device = Self::silent(agent, id);
        device.heartbeat();
        device
    }

    /// Connected, and nothing said.
    pub fn silent(agent: &Agent, id: DeviceId) -> Self {
        let stream = TcpStream::connect(agent.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { id, stream, deframer: Deframer::new(Direction::Down), heard: VecDeque::new(), last: Vec::new() }
    }

    /// Connected, with an idle port A of socket 1.
    pub fn idle(agent: &Agent) -> Self {
        let mut device = Self::connect(agent);
        device.status(IDLE);
        device
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn say(&mut self, message: &Uplink) {
        self.say_under(MessageId::DEVICE, message);
    }

    pub fn say_under(&mut self, message_id: MessageId, message: &Uplink) {
        let bytes = message.encode(self.id, message_id);
        self.raw(&bytes);
    }

    /// The next frame; `None` when the connection was closed.
    pub fn hear(&mut self) -> Option<(MessageId, Downlink)> {
        let mut buffer = [0; 4096];
        while self.heard.is_empty() {
            let length = match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                // A machine that was suspended meanwhile interrupts a read that has a deadline.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => panic!("nothing is heard: {error}"),
            };
            let mut bytes = &buffer[..length];
            while let Some(found) = self.deframer.next(&mut bytes) {
                let frame: Frame<'_> = found.unwrap();
                self.heard.push_back((frame.bytes().to_vec(), Downlink::decode(&frame).unwrap()));
            }
        }
        let (bytes, message) = self.heard.pop_front()?;
        let message_id = Frame::parse(&bytes).unwrap().message_id();
        self.last = bytes;
        Some((message_id, message))
    }

    fn expect<T>(&mut self, what: &str, is: impl Fn(&Downlink) -> Option<T>) -> (MessageId, T) {
        let (message_id, message) = self.hear().unwrap_or_else(|| panic!("closed before {what}"));
        match is(&message) {
            Some(found) => (message_id, found),
            None => panic!("{what} was expected, not {message:?}"),
        }
    }

    /// A heartbeat, answered before anything else: whatever was to come at once has come.
    pub fn heartbeat(&mut self) {
        let heartbeat = Heartbeat {
            iccid: AsciiText::new("89860446112070301941").unwrap(),
            firmware: AsciiText::new("v1.146").unwrap(),
            rssi: 28,
        };
        self.say(&Uplink::Heartbeat(heartbeat));
        self.expect("a heartbeat's reply", |message| matches!(message, Downlink::HeartbeatReply(_)).then_some(()));
    }

    /// A status of port A alone, acknowledged.
    pub fn status(&mut self, shows: Shows) {
        self.status_of(&[(PortNo::A, shows)]);
    }

    pub fn status_of(&mut self, ports: &[(PortNo, Shows)]) {
        let report = StatusReport::of(socket_status(ports));
        self.say(&Uplink::Status(report));
        self.expect_status_ack(true);
    }

    pub fn expect_status_ack(&mut self, ok: bool) {
        let (_, result) = self.expect("a status' acknowledgement", |message| match message {
            Downlink::StatusAck(ack) => Some(ack.result),
            _ => None,
        });
        assert_eq!(result, ResultByte::from(ok));
    }

    /// A start or a stop: its message id, and what it orders.
    pub fn expect_switch(&mut self) -> (MessageId, SwitchOrder) {
        self.expect("a start or stop", |message| match message {
            Downlink::Switch(switch) => Some(switch.order),
            _ => None,
        })
    }

    pub fn expect_start(&mut self) -> MessageId {
        let (message_id, order) = self.expect_switch();
        assert_ne!(order, SwitchOrder::Off, "a start was expected");
        message_id
    }

    pub fn expect_stop(&mut self) -> MessageId {
        let (message_id, order) = self.expect_switch();
        assert_eq!(order, SwitchOrder::Off, "a stop was expected");
        message_id
    }

    pub fn expect_question(&mut self) -> MessageId {
        self.expect("a question", |message| matches!(message, Downlink::QueryStatus(_)).then_some(())).0
    }

    pub fn expect_end_ack(&mut self) {
        let (message_id, ack) = self.expect("an end's acknowledgement", |message| match message {
            Downlink::EndAck(ack) => Some(*ack),
            _ => None,
        });
        assert_eq!((message_id, ack.socket, ack.result), (MessageId::DEVICE, 1, ResultByte::OK));
    }

    /// Answers a start or stop of port A.
    pub fn answer(&mut self, message_id: MessageId, ok: bool, number: u16) {
        self.answer_at(PortNo::A, message_id, ok, number);
    }

    /// Answers a start or stop of this port.
    pub fn answer_at(&mut self, port: PortNo, message_id: MessageId, ok: bool, number: u16) {
        let answer = SwitchAnswer {
            carrier: Carrier::Control,
            to_tiers: false,
            result: ok.into(),
            socket: socket(),
            port,
            business_no: BusinessNo::new(number),
        };
        self.say_under(message_id, &Uplink::SwitchAnswer(answer));
    }

    /// Answers a question with what port A shows.
    pub fn answer_question(&mut self, message_id: MessageId, shows: Shows) {
        self.answer_question_of(message_id, &[(PortNo::A, shows)]);
    }

    /// Answers a question with what these ports show.
    pub fn answer_question_of(&mut self, message_id: MessageId, ports: &[(PortNo, Shows)]) {
        let status = socket_status(ports);
        self.say_under(message_id, &Uplink::QueryAnswer(QueryAnswer { status, under_1d: false }));
    }

    /// An end report of port A; its acknowledgement is still to come.
    pub fn end(&mut self, raw: u8, number: u16, energy: u16, minutes: u32) {
        self.say(&end_of(raw, number, energy, minutes));
    }

    /// An end report, acknowledged.
    pub fn ends(&mut self, raw: u8, number: u16, energy: u16, minutes: u32) {
        self.end(raw, number, energy, minutes);
        self.expect_end_ack();
    }

    /// Has an order run under this number.
    pub fn run_order(&mut self, agent: &Agent, number: u16, minutes: u32) -> String {
        let client = agent.begin(start(minutes));
        let message_id = self.expect_start();
        self.answer(message_id, true, number);
        let reply = client.reply();
        assert_eq!(reply["result"], "done", "{reply}");
        reply["order_no"].as_str().unwrap().to_owned()
    }
}

pub fn end_of(raw: u8, number: u16, energy: u16, minutes: u32) -> Uplink {
    let figures = EndFigures {
        socket: socket(),
        firmware: 0x5036,
        temperature_c: 30,
        rssi: 30,
        port: PortNo::A,
        status: StatusByte(raw),
        business_no: BusinessNo::new(number),
        power: DeciWatts(0),
        current: MilliAmperes(0),
        energy_units: EnergyUnits(energy),
        minutes: Minutes(minutes),
    };
    Uplink::ChargeEnd(ChargeEnd { figures })
}

pub fn socket_status(ports: &[(PortNo, Shows)]) -> SocketStatus {
    let readings: Vec<PortReading> = ports
        .iter()
        .map(|(port, shows)| PortReading {
            port: *port,
            status: StatusByte(shows.raw),
            business_no: BusinessNo::new(shows.number),
            voltage: DeciVolts(2285),
            power: DeciWatts(shows.power),
            current: MilliAmperes(shows.power * 4),
            energy_units: EnergyUnits(shows.energy),
            minutes: Minutes(shows.minutes),
        })
        .collect();
    SocketStatus {
        socket: socket(),
        firmware: 0xffff,
        temperature_c: 30,
        rssi: 30,
        ports: UpTo::from_slice(&readings).unwrap(),
        extras: Extras::default(),
    }
}
