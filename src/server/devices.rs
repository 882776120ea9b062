//! All device connections: who is let in, whose turn it is to be read, whose time is up.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};

use super::deadlines::Deadlines;
use super::listener::{Acceptance, Accepted, SpareFile, bind_tcp};
use super::seldom::Seldom;
use super::slots::{Slots, token_of};
use super::{BindError, DEVICES};
use crate::clock::{Now, UpTime};
use crate::config;
use crate::conn::{Closed, Conn, Then};
use crate::limits::{ACCEPTS_A_TURN, DEVICE_SLOTS, FRAMES_A_TURN};
use crate::turn::{ConnId, Core, Fatal, Refused};

/// The listener and what it accepted.
#[derive(Debug)]
pub struct Devices {
    listener: Option<TcpListener>,
    acceptance: Acceptance,
    settings: config::Devices,
    conns: Slots<Conn>,
    of_address: BTreeMap<IpAddr, u32>,
    /// Those that may have something to read, each at most once.
    ready: VecDeque<u64>,
    deadlines: Deadlines,
    /// Closed, but not yet told to the core.
    closed: VecDeque<ConnId>,
    refusals: Seldom,
}

impl Devices {
    /// Listens. Nobody is accepted before [`Devices::open`].
    pub fn bind(settings: &config::Devices, open_files: u64) -> Result<Self, BindError> {
        let listener = bind_tcp(settings.listen)?;
        let most = u64::from(settings.max_connections).min(open_files).min(u64::from(DEVICE_SLOTS)) as u32;
        if most < settings.max_connections {
            let wanted = settings.max_connections;
            log::warn!("fewer connections than configured devices.max_connections={wanted} possible={most}");
        }
        Ok(Self {
            listener: Some(listener),
            acceptance: Acceptance::default(),
            settings: config::Devices { max_connections: most, ..settings.clone() },
            conns: Slots::new(0, DEVICE_SLOTS),
            of_address: BTreeMap::new(),
            ready: VecDeque::new(),
            deadlines: Deadlines::default(),
            closed: VecDeque::new(),
            refusals: Seldom::default(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.as_ref().map_or_else(|| Ok(self.settings.listen), TcpListener::local_addr)
    }

    /// From now on connections are accepted; those that wait already, too.
    pub fn open(&mut self, registry: &Registry) -> std::io::Result<()> {
        self.listener.as_mut().map_or(Ok(()), |listener| registry.register(listener, DEVICES, Interest::READABLE))
    }

    /// No connection is accepted any more.
    pub fn stop_accepting(&mut self) {
        self.listener = None;
        self.acceptance = Acceptance::default();
    }

    /// Takes over what may change while the agent runs.
    pub fn reconfigure(&mut self, new: &config::Devices) {
        self.settings.offline_after = new.offline_after;
        for (key, conn) in self.conns.iter_mut() {
            let due = conn.deadline(new.offline_after);
            self.deadlines.bring_forward(key, &mut conn.stands, due);
        }
    }

    /// The listener is readable.
    pub fn listener_ready(&mut self) {
        self.acceptance.ready();
    }

    /// A file was closed.
    pub fn file_closed(&mut self) {
        self.acceptance.file_closed();
    }

    /// A connection is ready for something; what cannot be read in this turn is read in the next ones.
    pub fn ready(&mut self, event: &Event) {
        let Some(key) = self.conns.key(event.token()) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        if event.is_read_closed() || event.is_error() {
            conn.announce_end();
        }
        if event.is_writable()
            && conn.has_waiting()
            && let Err(why) = conn.flush()
        {
            return self.close(key, why);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.queue(key);
        }
    }

    /// Whether something is left to do at once.
    pub fn has_work(&self, now: UpTime) -> bool {
        !self.ready.is_empty() || self.acceptance.is_due(now)
    }

    /// Takes connections that wait.
    pub fn accept<C: Core>(
        &mut self,
        registry: &Registry,
        spare: &mut SpareFile,
        core: &mut C,
        now: Now,
    ) -> Result<(), Fatal> {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(listener) = self.listener.as_ref().filter(|_| self.acceptance.is_due(now.up)) else { break };
            match self.acceptance.accept(spare, now.up, || listener.accept()) {
                Accepted::Stream(stream, peer) => self.admit(stream, peer, registry, core, now)?,
                Accepted::NoRoom(peer) => self.refuse(peer, Refused::Limit, core, now)?,
                Accepted::Failed => {}
                Accepted::Later => break,
            }
        }
        Ok(())
    }

    fn admit<C: Core>(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        registry: &Registry,
        core: &mut C,
        now: Now,
    ) -> Result<(), Fatal> {
        let address = peer.ip().to_canonical();
        if let Some(why) = self.objection(address) {
            drop(stream);
            return self.refuse(peer, why, core, now);
        }
        let Some(key) = self.conns.insert(Conn::new(stream, address, now.up)) else {
            return self.refuse(peer, Refused::Limit, core, now);
        };
        let Some(conn) = self.conns.get_mut(key) else { return Ok(()) };
        if let Err(error) = registry.register(conn.source(), token_of(key), Interest::READABLE | Interest::WRITABLE) {
            log::warn!("connection not watched peer={peer} error={error:?}");
            self.conns.remove(key);
            return self.refuse(peer, Refused::Limit, core, now);
        }
        conn.stands = conn.deadline(self.settings.offline_after);
        self.deadlines.insert(key, conn.stands);
        *self.of_address.entry(address).or_default() += 1;
        log::debug!("connected conn={key} peer={peer}");
        core.connected(ConnId(key), address, now);
        Ok(())
    }

    fn objection(&self, address: IpAddr) -> Option<Refused> {
        let Self { settings, .. } = self;
        if !settings.allow_from.is_empty() && !settings.allow_from.iter().any(|network| network.contains(address)) {
            return Some(Refused::NotAllowed);
        }
        let of_address = self.of_address.get(&address).copied().unwrap_or(0);
        let full = self.conns.len() >= settings.max_connections as usize;
        (full || of_address >= settings.max_connections_per_address).then_some(Refused::Limit)
    }

    fn refuse<C: Core>(&mut self, peer: SocketAddr, why: Refused, core: &mut C, now: Now) -> Result<(), Fatal> {
        if let Some(count) = self.refusals.admit(now.up) {
            log::warn!("connection refused peer={peer} why={why:?} count={count} open={}", self.conns.len());
        }
        core.refused(peer.ip().to_canonical(), why, now)
    }

    /// Reads from those that are ready, each at most once.
    pub fn read<C: Core>(&mut self, buffer: &mut [u8], core: &mut C, now: Now) -> Result<(), Fatal> {
        let mut frames = 0;
        for _ in 0..self.ready.len() {
            if frames >= FRAMES_A_TURN {
                break;
            }
            let Some(key) = self.ready.pop_front() else { break };
            if let Some(conn) = self.conns.get_mut(key) {
                conn.queued = false;
                frames += self.read_one(key, buffer, core, now)?;
            }
        }
        Ok(())
    }

    fn read_one<C: Core>(&mut self, key: u64, buffer: &mut [u8], core: &mut C, now: Now) -> Result<usize, Fatal> {
        let Some(conn) = self.conns.get_mut(key) else { return Ok(0) };
        let (frames, then) = conn.read(ConnId(key), buffer, core, now)?;
        let due = conn.deadline(self.settings.offline_after);
        self.deadlines.bring_forward(key, &mut conn.stands, due);
        match then {
            Then::Wait => {}
            Then::More => self.queue(key),
            Then::Close(why) => self.close(key, why),
        }
        Ok(frames)
    }

    fn queue(&mut self, key: u64) {
        if let Some(conn) = self.conns.get_mut(key)
            && !conn.queued
        {
            conn.queued = true;
            self.ready.push_back(key);
        }
    }

    /// When a connection, or the listener, next wants attention.
    pub fn next_deadline(&mut self) -> Option<UpTime> {
        let first = self.first_deadline().map(|(at, _)| at);
        [first, self.acceptance.deadline()].into_iter().flatten().min()
    }

    fn first_deadline(&mut self) -> Option<(UpTime, u64)> {
        let (conns, offline_after) = (&mut self.conns, self.settings.offline_after);
        self.deadlines.first(|key| {
            let conn = conns.get_mut(key)?;
            conn.stands = conn.deadline(offline_after);
            Some(conn.stands)
        })
    }

    /// Gives up parts of frames, and connections, whose time is up. Each is read once more before: what waited in
    /// the kernel while the loop was busy came in time.
    pub fn expire<C: Core>(&mut self, buffer: &mut [u8], core: &mut C, now: Now) -> Result<(), Fatal> {
        while let Some((_, key)) = self.first_deadline().filter(|(at, _)| *at <= now.up) {
            self.read_one(key, buffer, core, now)?;
            let Some(conn) = self.conns.get_mut(key) else { continue };
            if let Some(why) = conn.expire(ConnId(key), self.settings.offline_after, core, now)? {
                self.close(key, why);
            }
        }
        Ok(())
    }

    /// Sends to a connection; to one that is gone, nothing.
    pub fn send(&mut self, to: ConnId, bytes: &[u8]) {
        if let Some(conn) = self.conns.get_mut(to.0)
            && let Err(why) = conn.send(bytes)
        {
            self.close(to.0, why);
        }
    }

    /// The core wants a connection closed: what waits for it is tried once.
    pub fn hang_up(&mut self, conn: ConnId) {
        if let Some(open) = self.conns.get_mut(conn.0) {
            let why = open.flush().err().unwrap_or(Closed::ByUs);
            self.close(conn.0, why);
        }
    }

    fn close(&mut self, key: u64, why: Closed) {
        let Some(conn) = self.conns.remove(key) else { return };
        log::debug!("closed conn={key} peer={} why={why:?}", conn.peer());
        self.deadlines.remove(key, conn.stands);
        if let Some(count) = self.of_address.get_mut(&conn.peer()) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&conn.peer());
            }
        }
        self.closed.push_back(ConnId(key));
    }

    /// The connections that were closed, one a call, in order.
    pub fn take_closed(&mut self) -> Option<ConnId> {
        self.closed.pop_front()
    }

    /// Whether bytes wait for anyone.
    pub fn has_waiting(&mut self) -> bool {
        self.conns.iter_mut().any(|(_, conn)| conn.has_waiting())
    }
}
