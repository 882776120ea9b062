//! The load: many devices in one thread, each with so many frames in flight. 90 % statuses whose power moves, of a session
//! that runs on port A, 8 % heartbeats, 2 % end reports of port B, each of a number of its own, so that each is kept before
//! it is answered. One report in fifty ends an order that was started through the control socket; the others are nobody's,
//! which costs as much: a row in the journal and an event.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as Blocking;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chargegate::bkv::{
    AsciiText, Carrier, ChargeEnd, EndFigures, EnergyUnits, Heartbeat, PortReading, ResultByte, SocketStatus,
    StatusByte, StatusReport, SwitchAnswer, UpTo, Uplink,
};
use chargegate::clock::Stopwatch;
use chargegate::ids::{BusinessNo, DeciVolts, DeciWatts, DeviceId, MessageId, MilliAmperes, Minutes, PortNo, SocketNo};
use chargegate::sim::fleet::device_id;
use mio::net::{TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token};

fn socket() -> SocketNo {
    SocketNo::new(1).unwrap()
}

fn encoded(place: u32, message: &Uplink) -> Vec<u8> {
    message.encode(device(place), MessageId::DEVICE)
}

fn device(place: u32) -> DeviceId {
    device_id(place).unwrap()
}

/// A status of one socket with two ports, as long as the guide's own; the power follows the energy.
pub fn status_frame(place: u32, raw: u8, number: u16, energy: u16, minutes: u16) -> Vec<u8> {
    let power = if number == 0 { 0 } else { 1000 + u32::from(energy % 50) };
    status_of(place, raw, number, power, energy, minutes)
}

/// As [`status_frame`], the power given.
pub fn status_of(place: u32, raw: u8, number: u16, power: u32, energy: u16, minutes: u16) -> Vec<u8> {
    let idle =
        PortReading { port: PortNo::B, status: StatusByte(0x80), voltage: DeciVolts(2290), ..PortReading::default() };
    let first = PortReading {
        port: PortNo::A,
        status: StatusByte(raw),
        business_no: BusinessNo::new(number),
        power: DeciWatts(power),
        current: MilliAmperes(power * 4),
        energy_units: EnergyUnits(energy),
        minutes: Minutes(u32::from(minutes)),
        ..idle
    };
    let status = SocketStatus {
        socket: socket(),
        firmware: 0xffff,
        temperature_c: 30,
        rssi: 30,
        ports: UpTo::from_slice(&[first, idle]).unwrap(),
        extras: Default::default(),
    };
    encoded(place, &Uplink::Status(StatusReport::of(status)))
}

/// A status of so many sockets, both ports of each idle.
pub fn sockets_frame(place: u32, sockets: u8) -> Vec<u8> {
    let reading =
        |port| PortReading { port, status: StatusByte(0x80), voltage: DeciVolts(2290), ..PortReading::default() };
    let status = |no| SocketStatus {
        socket: SocketNo::new(no).unwrap(),
        firmware: 0xffff,
        temperature_c: 30,
        rssi: 30,
        ports: UpTo::from_slice(&[reading(PortNo::A), reading(PortNo::B)]).unwrap(),
        extras: Default::default(),
    };
    let mut report = StatusReport::of(status(1));
    report.more = (2..=sockets).map(status).collect();
    encoded(place, &Uplink::Status(report))
}

pub fn heartbeat_frame(place: u32) -> Vec<u8> {
    let heartbeat = Heartbeat {
        iccid: AsciiText::new("89860446112070301941").unwrap(),
        firmware: AsciiText::new("v1.146").unwrap(),
        rssi: 28,
    };
    encoded(place, &Uplink::Heartbeat(heartbeat))
}

fn end_frame(place: u32, number: u16) -> Vec<u8> {
    let figures = EndFigures {
        socket: socket(),
        firmware: 0x5036,
        temperature_c: 30,
        rssi: 30,
        port: PortNo::B,
        status: StatusByte(0x80),
        business_no: BusinessNo::new(number),
        power: DeciWatts(0),
        current: MilliAmperes(0),
        energy_units: EnergyUnits(number % 40),
        minutes: Minutes(1),
    };
    encoded(place, &Uplink::ChargeEnd(ChargeEnd { figures }))
}

/// The answer of a device to a start frame: it runs under this number.
pub fn accepted(place: u32, port: PortNo, number: u16, start: &[u8]) -> Vec<u8> {
    let ok = SwitchAnswer {
        carrier: Carrier::Control,
        to_tiers: false,
        result: ResultByte::OK,
        socket: socket(),
        port,
        business_no: BusinessNo::new(number),
    };
    let message_id = MessageId(u32::from_be_bytes([start[6], start[7], start[8], start[9]]));
    Uplink::SwitchAnswer(ok).encode(device(place), message_id)
}

/// A line for the control socket: an hour on a port.
pub fn start_command(place: u32, port: PortNo) -> String {
    static IDS: AtomicU32 = AtomicU32::new(0);
    let (id, device, port) = (IDS.fetch_add(1, Ordering::Relaxed), device(place), port.get());
    format!(
        "{{\"id\":\"{id}\",\"type\":\"start_charge\",\"device\":\"{device}\",\"socket\":1,\"port\":{port},\
         \"mode\":\"time\",\"minutes\":60}}\n"
    )
}

/// Sends a frame and waits for its answer.
pub fn exchange(device: &mut std::net::TcpStream, frame: &[u8]) {
    device.write_all(frame).unwrap();
    let mut buffer = [0; 256];
    assert!(device.read(&mut buffer).unwrap() > 0);
}

/// One end report in so many is of an order that was started before.
const ENDS_AN_ORDER: u16 = 50;
/// The token of the control socket.
const CONTROL: Token = Token(usize::MAX);

struct Conn {
    stream: TcpStream,
    place: u32,
    frames: u32,
    ends: u16,
    /// The number of the order that the next end report is about.
    order: Option<u16>,
    statuses: [Vec<u8>; 2],
    heartbeat: Vec<u8>,
    /// The beginning of an answer that did not come whole.
    kept: Vec<u8>,
    unsent: Vec<u8>,
}

impl Conn {
    fn new(place: u32, stream: TcpStream) -> Self {
        // The session began before it was first seen.
        let status = |power| status_of(place, 0xb0, 60_000, power, 7, 5);
        Self {
            stream,
            place,
            frames: 0,
            ends: 0,
            order: None,
            statuses: [status(1007), status(1234)],
            heartbeat: heartbeat_frame(place),
            kept: Vec::new(),
            unsent: Vec::new(),
        }
    }

    /// Appends the next frame; whether it is time to have an order started.
    fn push_frame(&mut self) -> bool {
        let step = self.frames.wrapping_add(self.place * 7) % 50;
        self.frames = self.frames.wrapping_add(1);
        match step {
            0 => {
                let number = self.order.take().unwrap_or_else(|| self.new_number());
                let end = end_frame(self.place, number);
                self.unsent.extend_from_slice(&end);
                return self.ends % ENDS_AN_ORDER == ENDS_AN_ORDER / 2;
            }
            1..=4 => self.unsent.extend_from_slice(&self.heartbeat),
            _ => self.unsent.extend_from_slice(&self.statuses[(step % 2) as usize]),
        }
        false
    }

    fn new_number(&mut self) -> u16 {
        self.ends = self.ends % 50_000 + 1;
        self.ends
    }

    fn send(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(length) => {
                    self.unsent.drain(..length);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return,
                Err(error) => panic_with(&error),
            }
        }
    }

    /// Takes what came: how many answers it was. A start is answered with the next number.
    fn take(&mut self, bytes: &[u8]) -> u32 {
        let mut kept = std::mem::take(&mut self.kept);
        let mut rest = if kept.is_empty() {
            bytes
        } else {
            kept.extend_from_slice(bytes);
            &kept
        };
        let mut answers = 0;
        while let [_, _, high, low, ..] = rest
            && let Some((frame, behind)) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])) + 4)
        {
            rest = behind;
            match (&frame[4..6], frame[20]) {
                ([0x00, 0x15], 0x07) => self.accept(frame),
                ([0x00, 0x15], 0x1d) => {}
                _ => answers += 1,
            }
        }
        self.kept = rest.to_vec();
        answers
    }

    fn accept(&mut self, start: &[u8]) {
        let number = self.new_number();
        self.order = Some(number);
        self.unsent.extend_from_slice(&accepted(self.place, PortNo::B, number, start));
    }
}

#[expect(clippy::panic, reason = "the bench cannot go on")]
fn panic_with(error: &std::io::Error) -> ! {
    panic!("the load cannot go on: {error}")
}

/// The control socket, through which orders are started.
struct Starter {
    stream: UnixStream,
    replies: Vec<u8>,
    done: u32,
}

impl Starter {
    fn connect(path: &Path) -> Self {
        let stream = Blocking::connect(path).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream: UnixStream::from_std(stream), replies: Vec::new(), done: 0 }
    }

    fn start(&mut self, place: u32) {
        let line = start_command(place, PortNo::B);
        // When the agent does not take it, one order fewer is started.
        let _ = self.stream.write(line.as_bytes());
    }

    fn read(&mut self, buffer: &mut [u8]) {
        while let Ok(length @ 1..) = self.stream.read(buffer) {
            self.replies.extend_from_slice(&buffer[..length]);
        }
        let lines = self.replies.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        for line in self.replies.drain(..lines).collect::<Vec<u8>>().split(|byte| *byte == b'\n') {
            self.done += u32::from(line.windows(6).any(|word| word == b"\"done\""));
        }
    }
}

/// What a closed loop gave.
pub struct Outcome {
    /// Answers a second.
    pub rate: f64,
    /// Orders that were started a second.
    pub orders: f64,
}

/// So many devices, each with so many frames in flight. Orders are started when there is a control socket.
pub fn closed_loop(
    address: SocketAddr,
    control: Option<&Path>,
    connections: u32,
    in_flight: u32,
    span: Duration,
) -> Outcome {
    chargegate::server::raise_open_files(8192);
    let mut poll = Poll::new().unwrap();
    let mut conns: Vec<Conn> = (0..connections)
        .map(|place| {
            let stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream.set_nodelay(true).unwrap();
            let mut stream = TcpStream::from_std(stream);
            let token = Token(usize::try_from(place).unwrap());
            poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).unwrap();
            Conn::new(place, stream)
        })
        .collect();
    let mut starter = control.map(Starter::connect);
    if let Some(starter) = &mut starter {
        poll.registry().register(&mut starter.stream, CONTROL, Interest::READABLE).unwrap();
    }
    // A first status each, and the answers to it, are no part of what is measured.
    for conn in &mut conns {
        conn.unsent.extend_from_slice(&conn.statuses[0]);
        (1..in_flight).for_each(|_| {
            conn.push_frame();
        });
        conn.send();
    }
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    let mut run = |span: Duration| {
        let watch = Stopwatch::start();
        let (mut answers, before) = (0_u64, starter.as_ref().map_or(0, |starter| starter.done));
        while watch.elapsed() < span {
            poll.poll(&mut events, Some(Duration::from_millis(10))).unwrap();
            for event in &events {
                match (event.token(), &mut starter) {
                    (CONTROL, Some(starter)) => starter.read(&mut buffer),
                    (token, starter) => answers += u64::from(serve(&mut conns[token.0], starter, &mut buffer)),
                }
            }
        }
        let seconds = watch.elapsed().as_secs_f64();
        let done = starter.as_ref().map_or(0, |starter| starter.done) - before;
        Outcome { rate: answers as f64 / seconds, orders: f64::from(done) / seconds }
    };
    run(Duration::from_millis(700));
    run(span)
}

/// Takes the answers of a device, and sends as many frames.
fn serve(conn: &mut Conn, starter: &mut Option<Starter>, buffer: &mut [u8]) -> u32 {
    let mut answers = 0;
    loop {
        match conn.stream.read(buffer) {
            Ok(0) => panic_with(&ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                answers += conn.take(&buffer[..length]);
                if length < buffer.len() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
            Err(error) => panic_with(&error),
        }
    }
    for _ in 0..answers {
        if conn.push_frame()
            && let Some(starter) = starter
        {
            starter.start(conn.place);
        }
    }
    conn.send();
    answers
}
