//! The load: many devices in one thread, each with so many frames in flight. 90 % statuses, 8 % heartbeats, 2 % end
//! reports, each of a number of its own, so that each is kept before it is answered.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use chargegate::bkv::{
    AsciiText, ChargeEnd, EndFigures, EnergyUnits, Heartbeat, PortReading, SocketStatus, StatusByte, StatusReport,
    UpTo, Uplink,
};
use chargegate::clock::Stopwatch;
use chargegate::ids::{BusinessNo, DeciVolts, DeciWatts, DeviceId, MessageId, MilliAmperes, Minutes, PortNo, SocketNo};
use chargegate::sim::fleet::device_id;
use mio::net::TcpStream;
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

/// A status of one socket with two ports, as long as the guide's own.
pub fn status_frame(place: u32, raw: u8, number: u16, energy: u16, minutes: u16) -> Vec<u8> {
    let idle =
        PortReading { port: PortNo::B, status: StatusByte(0x80), voltage: DeciVolts(2290), ..PortReading::default() };
    let power = if number == 0 { 0 } else { 1000 + u32::from(energy % 50) };
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
        port: PortNo::A,
        status: StatusByte(0xb0),
        business_no: BusinessNo::new(number.max(1)),
        power: DeciWatts(0),
        current: MilliAmperes(0),
        energy_units: EnergyUnits(number % 500),
        minutes: Minutes(60),
    };
    encoded(place, &Uplink::ChargeEnd(ChargeEnd { figures }))
}

struct Conn {
    stream: TcpStream,
    place: u32,
    frames: u32,
    ends: u16,
    status: Vec<u8>,
    heartbeat: Vec<u8>,
    /// Bytes of the answer that is being read that are still to come; its first four tell how many.
    missing: usize,
    head: Vec<u8>,
    unsent: Vec<u8>,
}

impl Conn {
    fn push_frame(&mut self) {
        let step = (self.frames + self.place * 7) % 50;
        self.frames += 1;
        match step {
            0 => {
                self.ends = self.ends.wrapping_add(1);
                let end = end_frame(self.place, self.ends);
                self.unsent.extend_from_slice(&end);
            }
            1..=4 => self.unsent.extend_from_slice(&self.heartbeat),
            _ => self.unsent.extend_from_slice(&self.status),
        }
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

    /// Answers in these bytes.
    fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let mut answers = 0;
        while !bytes.is_empty() {
            if self.missing == 0 {
                let wanted = (4 - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..wanted]);
                bytes = &bytes[wanted..];
                if let [_, _, high, low] = self.head[..] {
                    self.missing = usize::from(u16::from_be_bytes([high, low]));
                    self.head.clear();
                }
                continue;
            }
            let taken = self.missing.min(bytes.len());
            self.missing -= taken;
            bytes = &bytes[taken..];
            answers += u32::from(self.missing == 0);
        }
        answers
    }
}

#[expect(clippy::panic, reason = "the bench cannot go on")]
fn panic_with(error: &std::io::Error) -> ! {
    panic!("the load cannot go on: {error}")
}

/// Answers a second in closed loop.
pub fn closed_loop(address: SocketAddr, connections: u32, in_flight: u32, span: Duration) -> f64 {
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
            Conn {
                stream,
                place,
                frames: 0,
                ends: 0,
                status: status_frame(place, 0x80, 0, 0, 0),
                heartbeat: heartbeat_frame(place),
                missing: 0,
                head: Vec::with_capacity(4),
                unsent: Vec::new(),
            }
        })
        .collect();
    // A first heartbeat each, and the answers to it, are no part of what is measured.
    for conn in &mut conns {
        let heartbeat = conn.heartbeat.clone();
        conn.unsent.extend_from_slice(&heartbeat);
        (1..in_flight).for_each(|_| conn.push_frame());
        conn.send();
    }
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    let mut run = |span: Duration| -> f64 {
        let watch = Stopwatch::start();
        let mut answers = 0_u64;
        while watch.elapsed() < span {
            poll.poll(&mut events, Some(Duration::from_millis(10))).unwrap();
            for event in &events {
                answers += u64::from(serve(&mut conns[event.token().0], &mut buffer));
            }
        }
        answers as f64 / watch.elapsed().as_secs_f64()
    };
    run(Duration::from_millis(700));
    run(span)
}

/// Takes the answers of a device, and sends as many frames.
fn serve(conn: &mut Conn, buffer: &mut [u8]) -> u32 {
    let mut answers = 0;
    loop {
        match conn.stream.read(buffer) {
            Ok(0) => panic_with(&ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                answers += conn.count(&buffer[..length]);
                if length < buffer.len() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
            Err(error) => panic_with(&error),
        }
    }
    (0..answers).for_each(|_| conn.push_frame());
    conn.send();
    answers
}
