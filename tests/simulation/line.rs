//! One device and its way to the agent: bytes take their time, are repeated, or vanish while both ends believe in the
//! connection.

use std::collections::VecDeque;

use chargegate::bkv::{Deframer, Direction};
use chargegate::sim::{Device, Fault, Random};
use chargegate::turn::ConnId;

use crate::world::{HOUR, MINUTE};

const SECOND: u64 = 1000;
/// The loop closes a connection that was silent for `devices.offline_after`.
const SILENCE: u64 = 150 * SECOND;

/// One TCP connection as the agent sees it.
pub struct Wire {
    pub conn: ConnId,
    pub deframer: Deframer,
    up: VecDeque<(u64, Vec<u8>)>,
    down: VecDeque<(u64, Vec<u8>)>,
    /// Nothing arrives any more, at either end.
    dead: bool,
    last_byte: u64,
}

impl Wire {
    fn new(conn: ConnId, now: u64) -> Self {
        let deframer = Deframer::new(Direction::Up);
        Self { conn, deframer, up: VecDeque::new(), down: VecDeque::new(), dead: false, last_byte: now }
    }

    pub fn is_silent(&self, now: u64) -> bool {
        now >= self.last_byte + SILENCE
    }
}

/// How bad the network of a device is.
#[derive(Clone, Copy)]
struct Weather {
    cuts: bool,
    half_opens: bool,
    delays: bool,
    repeats: bool,
}

pub struct Line {
    pub device: Device,
    /// The one that the device believes in.
    pub wire: Option<Wire>,
    /// Those that only the agent believes in.
    pub ghosts: Vec<Wire>,
    weather: Weather,
    /// Hears no acknowledgement now and then; a device that reconnects for ever would take most of the day's time.
    loses_acks: Option<u64>,
    slow_until: u64,
    next_trouble: u64,
    /// Nobody reaches it since: no connection, a dead one, or a device that is silent.
    pub away_since: Option<u64>,
    /// When the way to it was last in trouble.
    pub troubled: u64,
}

impl Line {
    pub fn new(device: Device, network: bool, random: &mut Random) -> Self {
        // Half a frame twice is another fault than the one that is meant.
        let whole = device.fault() != Some(Fault::HalfFrame);
        let weather = Weather {
            cuts: network && random.once_in(3),
            half_opens: network && random.once_in(3),
            delays: network && random.once_in(3),
            repeats: network && whole && random.once_in(3),
        };
        let next_trouble = random.within(HOUR / 2, 4 * HOUR);
        let loses_acks = (device.fault() == Some(Fault::LostAck)).then(|| random.within(HOUR / 4, HOUR));
        Self {
            device,
            loses_acks,
            wire: None,
            ghosts: Vec::new(),
            weather,
            slow_until: 0,
            next_trouble,
            away_since: Some(0),
            troubled: 0,
        }
    }

    /// Honest, and nothing in its way but time.
    pub fn is_good(&self) -> bool {
        let Weather { cuts, half_opens, delays, repeats } = self.weather;
        let honest = self.device.fault().is_none() && self.loses_acks.is_none() && !self.device.habits.goes_mute;
        honest && !(cuts || half_opens || delays || repeats)
    }

    pub const fn loses_acknowledgements(&self) -> bool {
        self.loses_acks.is_some()
    }

    pub const fn is_slow_at_times(&self) -> bool {
        self.weather.delays || self.weather.repeats
    }

    pub fn connect(&mut self, conn: ConnId, now: u64) {
        self.wire = Some(Wire::new(conn, now));
        self.device.connected(now);
    }

    /// The connection is gone for both ends.
    pub fn hang_up(&mut self, now: u64) -> Option<ConnId> {
        let wire = self.wire.take()?;
        self.device.disconnected(now);
        if wire.dead {
            // The agent is not told.
            self.ghosts.push(wire);
            return None;
        }
        Some(wire.conn)
    }

    /// The agent's end is closed. A dead wire tells the device nothing.
    pub fn closed_by_agent(&mut self, conn: ConnId, now: u64) {
        self.ghosts.retain(|wire| wire.conn != conn);
        if self.wire.as_ref().is_some_and(|wire| wire.conn == conn) {
            self.wire = None;
            self.device.disconnected(now);
        }
    }

    /// What goes wrong when its time has come. Tells whether the connection is cut.
    pub fn suffer(&mut self, now: u64, random: &mut Random) -> bool {
        if let Some(change) = self.loses_acks.filter(|change| *change <= now) {
            let ill = self.device.fault().is_some();
            self.device.set_fault((!ill).then_some(Fault::LostAck));
            self.loses_acks =
                Some(change + if ill { random.within(HOUR, 3 * HOUR) } else { random.within(HOUR / 4, HOUR) });
        }
        if now < self.next_trouble {
            return false;
        }
        self.next_trouble = now + random.within(HOUR / 2, 4 * HOUR);
        let kinds: Vec<u8> = [(self.weather.cuts, 0), (self.weather.half_opens, 1), (self.weather.delays, 2)]
            .into_iter()
            .filter_map(|(has, kind)| has.then_some(kind))
            .collect();
        if kinds.is_empty() {
            return false;
        }
        self.troubled = now;
        match random.one_of(&kinds) {
            0 => return true,
            1 => {
                if let Some(wire) = &mut self.wire {
                    wire.dead = true;
                }
            }
            _ => self.slow_until = now + random.within(MINUTE, 30 * MINUTE),
        }
        false
    }

    fn arrival(&self, last: Option<u64>, now: u64, random: &mut Random) -> u64 {
        let takes = if now < self.slow_until { random.within(0, 8 * SECOND) } else { 0 };
        (now + takes).max(last.unwrap_or(0))
    }

    /// Bytes of the device leave.
    pub fn send_up(&mut self, now: u64, random: &mut Random) {
        let bytes = self.device.take_output();
        if bytes.is_empty() {
            return;
        }
        let at = self.arrival(self.wire.as_ref().and_then(|wire| wire.up.back().map(|(at, _)| *at)), now, random);
        // An acknowledgement does not tell which sending it is for: a repeated report is the device's own affair.
        let again = self.weather.repeats && !self.device.waits_for_acknowledgement() && random.once_in(20);
        let Some(wire) = self.wire.as_mut().filter(|wire| !wire.dead) else { return };
        if again {
            wire.up.push_back((at, bytes.clone()));
        }
        wire.up.push_back((at + u64::from(again) * random.within(0, 2 * SECOND), bytes));
    }

    /// Bytes of the agent leave.
    pub fn send_down(&mut self, conn: ConnId, bytes: &[u8], now: u64, random: &mut Random) {
        let at = self.arrival(self.wire.as_ref().and_then(|wire| wire.down.back().map(|(at, _)| *at)), now, random);
        if let Some(wire) = self.wire.as_mut().filter(|wire| wire.conn == conn && !wire.dead) {
            wire.down.push_back((at, bytes.to_vec()));
        }
    }

    /// What arrives at the agent now.
    pub fn arrived_up(&mut self, now: u64) -> Option<(ConnId, Vec<u8>)> {
        let wire = self.wire.as_mut()?;
        let (_, bytes) = wire.up.pop_front_if(|(at, _)| *at <= now)?;
        wire.last_byte = now;
        Some((wire.conn, bytes))
    }

    /// What arrives at the device now.
    pub fn arrived_down(&mut self, now: u64) -> Option<Vec<u8>> {
        self.wire.as_mut()?.down.pop_front_if(|(at, _)| *at <= now).map(|(_, bytes)| bytes)
    }

    /// Connections that the loop closes because nothing comes.
    pub fn silent(&self, now: u64) -> Vec<ConnId> {
        self.ghosts.iter().chain(&self.wire).filter(|wire| wire.is_silent(now)).map(|wire| wire.conn).collect()
    }

    pub fn next_time(&self, now: u64) -> u64 {
        let mut next = self.device.next_deadline(now);
        if let Some(wire) = &self.wire {
            let first = wire.up.front().into_iter().chain(wire.down.front()).map(|(at, _)| *at).min();
            next = next.min(first.unwrap_or(u64::MAX)).min(wire.last_byte + SILENCE);
        }
        let ghosts = self.ghosts.iter().map(|wire| wire.last_byte + SILENCE);
        ghosts.fold(next, u64::min).min(self.next_trouble).min(self.loses_acks.unwrap_or(u64::MAX))
    }

    /// The agent was killed: every connection is gone.
    pub fn agent_is_gone(&mut self, now: u64) {
        self.ghosts.clear();
        if self.wire.take().is_some() {
            self.device.disconnected(now);
        }
    }

    /// The network is good from now on.
    pub fn calm_down(&mut self) {
        self.next_trouble = u64::MAX;
        self.slow_until = 0;
        self.device.habits.loses_radio = false;
        self.device.habits.goes_mute = false;
    }

    /// Whether what the agent sends arrives.
    pub fn is_reached(&self, now: u64) -> bool {
        self.wire.as_ref().is_some_and(|wire| !wire.dead) && !self.device.is_silent(now)
    }

    pub fn note_away(&mut self, now: u64) {
        if self.is_reached(now) {
            self.away_since = None;
            if self.device.has_lost_radio(now) || self.device.is_mute(now) {
                self.troubled = now;
            }
        } else {
            self.troubled = now;
            self.away_since.get_or_insert(now);
        }
    }
}
