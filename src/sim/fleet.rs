//! Hundreds of simulated devices over TCP, in one thread, on a clock that can run faster.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock::Clock;
use crate::ids::DeviceId;
use crate::sim::device::Device;
use crate::sim::fault::Fault;

/// Connections begun in one turn: a site does not come back in one millisecond.
const CONNECTS_A_TURN: usize = 64;
const READ_BYTES: usize = 16 * 1024;

/// One device of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: DeviceId,
    /// What it does wrong.
    pub fault: Option<Fault>,
}

/// What a fleet is doing, readable from other threads.
#[derive(Debug, Default)]
pub struct FleetCounts {
    /// Devices with a connection.
    pub connected: AtomicU32,
    /// Ports at which power flows.
    pub charging: AtomicU32,
    /// End reports made.
    pub ends: AtomicU32,
    /// End reports acknowledged.
    pub acknowledged: AtomicU32,
}

struct Link {
    device: Device,
    stream: Option<TcpStream>,
    unsent: Vec<u8>,
}

/// The devices and their connections.
pub struct Fleet {
    target: SocketAddr,
    clock: Clock,
    links: Vec<Link>,
    poll: Poll,
    counts: Arc<FleetCounts>,
    stop: Arc<AtomicBool>,
}

/// The id of the device at `place`: never the same twice among 10,000,000.
pub fn device_id(place: u32) -> Option<DeviceId> {
    format!("{:014}", 82_241_218_000_000_u64 + u64::from(place)).parse().ok()
}

impl Fleet {
    /// A fleet of these devices, one socket each, that will connect to `target`.
    ///
    /// # Errors
    /// When the system has no poll to give.
    pub fn new(target: SocketAddr, members: &[Member], seed: u64, clock: Clock) -> io::Result<Self> {
        let now = clock.now().up.0;
        let links = members
            .iter()
            .zip(0_u64..)
            .map(|(member, place)| Link {
                device: Device::new(member.id, 1, member.fault, seed.wrapping_mul(1_000_003) + place, now),
                stream: None,
                unsent: Vec::new(),
            })
            .collect();
        Ok(Self { target, clock, links, poll: Poll::new()?, counts: Arc::default(), stop: Arc::default() })
    }

    /// What it is doing.
    pub fn counts(&self) -> Arc<FleetCounts> {
        Arc::clone(&self.counts)
    }

    /// Set to end [`Fleet::run`].
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Has each socket report its status so often, by the devices' clock.
    pub fn set_status_period(&mut self, period: Duration) {
        let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        self.links.iter_mut().for_each(|link| link.device.status_period = period);
    }

    /// Runs until the stop flag is set.
    ///
    /// # Errors
    /// When the poll fails.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        while !self.stop.load(Ordering::Relaxed) {
            let now = self.clock.now().up.0;
            let next = self.turn(now);
            let wait = self.clock.real_time_until(crate::clock::UpTime(next));
            // The stop flag is looked at a few times a second.
            let wait = wait.min(Duration::from_millis(100));
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            let now = self.clock.now().up.0;
            for event in &events {
                self.ready(event.token().0, &mut buffer, now);
            }
        }
        Ok(())
    }

    /// Lets all devices act; tells when the next one has to.
    fn turn(&mut self, now: u64) -> u64 {
        let mut next = now + 60_000;
        let mut connects = 0;
        let (mut connected, mut charging, mut ends, mut acknowledged) = (0, 0, 0, 0);
        for place in 0..self.links.len() {
            let link = &mut self.links[place];
            if link.stream.is_none() && link.device.wants_connection(now) {
                if connects < CONNECTS_A_TURN {
                    connects += 1;
                    self.connect(place, now);
                } else {
                    next = now + 10;
                }
            }
            let link = &mut self.links[place];
            if link.device.next_deadline(now) <= now {
                link.device.tick(now);
            }
            self.send(place, now);
            let link = &mut self.links[place];
            // Nobody here holds the platform to them.
            drop(link.device.take_acknowledged());
            next = next.min(link.device.next_deadline(now));
            connected += u32::from(link.stream.is_some());
            for (.., truth) in link.device.truth() {
                charging += u32::from(truth.charges);
                ends += truth.ends;
                acknowledged += truth.acknowledged;
            }
        }
        self.counts.connected.store(connected, Ordering::Relaxed);
        self.counts.charging.store(charging, Ordering::Relaxed);
        self.counts.ends.store(ends, Ordering::Relaxed);
        self.counts.acknowledged.store(acknowledged, Ordering::Relaxed);
        next.max(now + 1)
    }

    fn connect(&mut self, place: usize, now: u64) {
        let link = &mut self.links[place];
        match open(self.target, place) {
            Ok(mut stream) => {
                let token = Token(place);
                let both = Interest::READABLE | Interest::WRITABLE;
                if self.poll.registry().register(&mut stream, token, both).is_ok() {
                    link.stream = Some(stream);
                    link.unsent.clear();
                    link.device.connected(now);
                    return;
                }
                link.device.disconnected(now);
            }
            Err(error) => {
                log::debug!("not connected device={} error={error}", link.device.id());
                link.device.disconnected(now);
            }
        }
    }

    fn send(&mut self, place: usize, now: u64) {
        let link = &mut self.links[place];
        let output = link.device.take_output();
        if link.stream.is_none() {
            return;
        }
        link.unsent.extend_from_slice(&output);
        if link.flush().is_err() || link.device.wants_disconnect() {
            self.close(place, now);
        }
    }

    fn close(&mut self, place: usize, now: u64) {
        let link = &mut self.links[place];
        if let Some(mut stream) = link.stream.take() {
            // The end of the stream removes it anyway.
            let _ = self.poll.registry().deregister(&mut stream);
        }
        link.unsent = Vec::new();
        link.device.disconnected(now);
    }

    fn ready(&mut self, place: usize, buffer: &mut [u8], now: u64) {
        loop {
            let Some(link) = self.links.get_mut(place) else { return };
            let Some(stream) = link.stream.as_mut() else { return };
            match stream.read(buffer) {
                Ok(0) => return self.close(place, now),
                Ok(length) => link.device.received(&buffer[..length], now),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close(place, now),
            }
        }
        self.send(place, now);
    }
}

impl Link {
    fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = self.stream.as_mut() else { return Ok(()) };
        while !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.unsent.drain(..length);
                }
                // A connection that is being made takes nothing yet.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent.shrink_to(256);
        Ok(())
    }
}

/// A connection that is being made. On loopback each 200 devices come from an address of their own, so that no limit
/// per address is met.
fn open(target: SocketAddr, place: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let IpAddr::V4(address) = target.ip()
        && address.is_loopback()
    {
        let group = u16::try_from(place / 200 + 1).unwrap_or(1);
        let [high, low] = group.to_be_bytes();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 1 + high, low, 1), 0)).into())?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}
