//! A simulated device: a gateway with its sockets. Pure: time and bytes come in, bytes and wishes go out.
//!
//! Times are milliseconds of the device's own clock, from any origin. What is true about its ports can be read at any
//! moment ([`Device::truth`]), whatever it reports.

use crate::bkv::{
    Abnormal, AsciiText, CalendarTime, Carrier, Deframer, DeviceTime, Direction, Downlink, EndAck, EndReport, Extras,
    FeeEndAck, FeeStartAnswer, Frame, Heartbeat, Key, NetworkAnswer, NetworkSub, PortReading, QueryAnswer, Reconnected,
    ResultByte, Sequence, Setting, SettingValue, SocketStatus, StatusReport, SwitchAnswer, SwitchOrder, UpTo, Uplink,
};
use crate::ids::{BusinessNo, DeviceId, MessageId, Minutes, PortNo, SocketNo, WattHours};
use crate::sim::battery::Battery;
use crate::sim::fault::Fault;
use crate::sim::habits::{Habits, RepeatedStart};
use crate::sim::outlet::{JUST_ON, Port, Shows, Socket, Truth, is_just_on, reading};
use crate::sim::random::Random;
use crate::sim::session::{Ended, Ordered, Session};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// Heartbeat period, and the time without a reply after which it drops the link (protocol §4).
const HEARTBEAT: u64 = 60 * SECOND;
/// Status period (protocol §7 `1017`).
const STATUS: u64 = 5 * MINUTE;
/// An end that is not acknowledged is repeated so often, so many times (protocol §10).
const REPEAT: u64 = 11 * SECOND;
const REPEATS: u32 = 3;
/// After that the link is closed and opened again so much later.
const RECONNECT: u64 = 4 * SECOND;
/// `late-answer`.
const LATE: u64 = 40 * SECOND;

/// Something that really happened at a port, whatever was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witnessed {
    /// Where.
    pub socket: SocketNo,
    /// Where.
    pub port: PortNo,
    /// The session's number.
    pub number: BusinessNo,
    /// What.
    pub what: Witness,
}

/// What really happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witness {
    /// Power flows, by the start under this message id.
    Began(MessageId),
    /// The session began anew, by a repeated start.
    BeganAnew,
    /// Power stopped; what flowed in all.
    Ended(WattHours, Minutes),
}

#[derive(Debug)]
struct Pending {
    socket: SocketNo,
    port: PortNo,
    message: Uplink,
    sent: u32,
    due: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down { back: u64 },
    Up,
}

/// One device.
#[derive(Debug)]
pub struct Device {
    id: DeviceId,
    fault: Option<Fault>,
    random: Random,
    link: Link,
    connections: u32,
    wants_down: bool,
    deframer: Deframer,
    out: Vec<u8>,
    /// Messages for later, by time.
    later: Vec<(u64, MessageId, Uplink)>,
    /// The rest of a frame that comes late.
    rest: Option<(u64, Vec<u8>)>,
    heartbeat_due: u64,
    reply_due: Option<u64>,
    sockets: Vec<Socket>,
    ends: Vec<Pending>,
    acknowledged: Vec<EndReport>,
    next_number: u16,
    trouble: Option<u64>,
    silent_until: u64,
    /// Wh until a battery is full, least and most.
    pub batteries: (u64, u64),
    /// Each socket reports its status so often, ms.
    pub status_period: u64,
    /// In what it differs from others.
    pub habits: Habits,
    answers_queries_with_reports: bool,
    answers_fee_starts_shaped: bool,
    radio_due: u64,
    mute_due: u64,
    mute_until: u64,
    witnessed: Option<Vec<Witnessed>>,
}

impl Device {
    /// A device with sockets 1 to `sockets`, two ports each. The same seed gives the same device.
    pub fn new(id: DeviceId, sockets: u8, fault: Option<Fault>, seed: u64, now: u64) -> Self {
        let mut random = Random::new(seed);
        let sockets = (1..=sockets).filter_map(SocketNo::new).map(|no| Socket::new(no, now)).collect();
        Self {
            id,
            fault,
            link: Link::Down { back: now + random.within(0, 3 * SECOND) },
            connections: 0,
            wants_down: false,
            deframer: Deframer::new(Direction::Down),
            out: Vec::new(),
            later: Vec::new(),
            rest: None,
            heartbeat_due: now,
            reply_due: None,
            sockets,
            ends: Vec::new(),
            acknowledged: Vec::new(),
            next_number: u16::try_from(random.within(1, 60_000)).unwrap_or(1),
            trouble: None,
            silent_until: 0,
            batteries: (150, 700),
            status_period: STATUS,
            habits: Habits::default(),
            radio_due: now + random.within(HOUR / 4, 2 * HOUR),
            mute_due: now + random.within(HOUR / 2, 3 * HOUR),
            mute_until: 0,
            witnessed: None,
            answers_queries_with_reports: random.once_in(4),
            answers_fee_starts_shaped: random.once_in(2),
            random,
        }
    }

    /// Its id.
    pub const fn id(&self) -> DeviceId {
        self.id
    }

    /// It gets well, or ill.
    pub const fn set_fault(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// What it does wrong.
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Its ports with what is true about them.
    pub fn truth(&self) -> impl Iterator<Item = (SocketNo, PortNo, Truth)> {
        self.sockets.iter().flat_map(|socket| socket.ports.iter().map(|port| (socket.no, port.no, port.truth)))
    }

    /// Keeps what really happens until it is taken.
    pub fn watch(&mut self) {
        self.witnessed.get_or_insert_default();
    }

    /// What really happened since the last call, if it is watched.
    pub fn take_witnessed(&mut self) -> Vec<Witnessed> {
        self.witnessed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn witness(&mut self, socket: SocketNo, port: PortNo, number: BusinessNo, what: Witness) {
        if let Some(witnessed) = &mut self.witnessed {
            witnessed.push(Witnessed { socket, port, number, what });
        }
    }

    /// Whether an end report of it is not acknowledged yet.
    pub const fn waits_for_acknowledgement(&self) -> bool {
        !self.ends.is_empty()
    }

    /// The end reports that the platform has acknowledged since the last call: it must never lose one of them.
    pub fn take_acknowledged(&mut self) -> Vec<EndReport> {
        std::mem::take(&mut self.acknowledged)
    }

    /// Whether it wants a connection now.
    pub const fn wants_connection(&self, now: u64) -> bool {
        matches!(self.link, Link::Down { back } if back <= now)
    }

    /// Whether it neither speaks nor listens, though it may be connected.
    pub const fn is_silent(&self, now: u64) -> bool {
        now < self.silent_until
    }

    /// Whether it tells nothing of its ports.
    pub const fn is_mute(&self, now: u64) -> bool {
        now < self.mute_until
    }

    /// Whether a socket of it has no radio.
    pub fn has_lost_radio(&self, now: u64) -> bool {
        self.sockets.iter().any(|socket| socket.is_lost(now))
    }

    /// Whether it wants its connection closed: call [`Device::disconnected`] then.
    pub const fn wants_disconnect(&self) -> bool {
        self.wants_down
    }

    /// A connection stands.
    pub fn connected(&mut self, now: u64) {
        self.link = Link::Up;
        self.wants_down = false;
        self.deframer = Deframer::new(Direction::Down);
        self.connections += 1;
        self.heartbeat_due = now;
        self.reply_due = None;
        for (place, socket) in self.sockets.iter_mut().enumerate() {
            socket.status_due = now + 300 + 100 * place as u64;
            socket.spare_acks = 0;
        }
        if self.connections > 1 {
            self.later.push((now + 100, MessageId::DEVICE, reconnected(self.clock_of(now))));
        }
        if self.random.once_in(8) {
            // The first heartbeat can arrive twice within 50 ms (protocol §10).
            let again = self.heartbeat();
            self.later.push((now + 40, MessageId::DEVICE, again));
        }
        // Ends that are not acknowledged start over.
        for end in &mut self.ends {
            (end.sent, end.due) = (0, now + SECOND);
        }
        self.tick(now);
    }

    /// The connection is gone, or could not be made: it comes back a little later.
    pub fn disconnected(&mut self, now: u64) {
        let pause = match self.fault {
            Some(Fault::Drop) if self.trouble.is_some_and(|at| at <= now) => self.random.within(2 * MINUTE, 8 * MINUTE),
            _ => RECONNECT + self.random.within(0, 2 * SECOND),
        };
        self.link = Link::Down { back: now + pause };
        self.trouble = None;
        self.wants_down = false;
        self.out.clear();
        self.later.clear();
        self.rest = None;
    }

    /// Bytes from the platform.
    pub fn received(&mut self, mut bytes: &[u8], now: u64) {
        let mut frames = Vec::new();
        while let Some(found) = self.deframer.next(&mut bytes) {
            if let Ok(frame) = found {
                frames.push(frame.bytes().to_vec());
            }
        }
        for bytes in frames {
            if let Ok(frame) = Frame::parse(&bytes)
                && let Ok(message) = Downlink::decode(&frame)
            {
                self.obey(message, frame.message_id(), now);
            }
        }
        self.tick(now);
    }

    /// Takes what is to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// When [`Device::tick`] is next needed. A few seconds at the latest while power flows.
    pub fn next_deadline(&self, now: u64) -> u64 {
        let next = match self.link {
            Link::Down { back } => return back,
            Link::Up => self.next_words(),
        };
        let sessions = self.sockets.iter().flat_map(|socket| &socket.ports).filter_map(|port| port.session.as_ref());
        let looked_at = sessions.map(|session| session.look_at(now)).min();
        next.min(self.trouble.unwrap_or(u64::MAX)).min(looked_at.unwrap_or(u64::MAX))
    }

    /// When it next has something to say. Half a frame keeps all else waiting for its rest.
    fn next_words(&self) -> u64 {
        if let Some((at, _)) = self.rest {
            return at;
        }
        let later = self.later.iter().map(|(at, ..)| *at);
        let ends =
            self.ends.iter().filter(|end| self.is_next(end)).map(|end| end.due.max(self.radio_is_back(end.socket)));
        let statuses = self.sockets.iter().map(|socket| socket.lost_until.unwrap_or(u64::MAX).min(socket.status_due));
        let first = later.chain(ends).chain(statuses).chain(self.reply_due).fold(self.heartbeat_due, u64::min);
        first.max(self.silent_until)
    }

    fn is_next(&self, end: &Pending) -> bool {
        self.ends.iter().find(|other| other.socket == end.socket).is_some_and(|first| std::ptr::eq(first, end))
    }

    fn radio_is_back(&self, socket: SocketNo) -> u64 {
        self.sockets.iter().find(|known| known.no == socket).and_then(|known| known.lost_until).unwrap_or(0)
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: u64) {
        self.charge(now);
        if self.link != Link::Up || self.wants_down {
            return;
        }
        if self.trouble.is_some_and(|at| at <= now) {
            self.make_trouble(now);
            return;
        }
        if let Some((at, rest)) = self.rest.take() {
            if at > now {
                self.rest = Some((at, rest));
                return;
            }
            self.out.extend_from_slice(&rest);
        }
        self.speak(now);
    }

    fn make_trouble(&mut self, now: u64) {
        match self.fault {
            Some(Fault::Drop) => self.wants_down = true,
            Some(Fault::Silent) => {
                self.silent_until = now + self.random.within(3 * MINUTE, 10 * MINUTE);
                self.trouble = None;
            }
            _ => self.trouble = None,
        }
    }

    fn speak(&mut self, now: u64) {
        if now < self.silent_until {
            return;
        }
        if self.reply_due.is_some_and(|due| due <= now) {
            self.wants_down = true;
            return;
        }
        if self.heartbeat_due <= now {
            self.heartbeat_due = now + HEARTBEAT;
            self.reply_due.get_or_insert(now + HEARTBEAT);
            let heartbeat = self.heartbeat();
            self.send(&heartbeat, MessageId::DEVICE, now);
        }
        while let Some(place) = self.later.iter().position(|(at, ..)| *at <= now) {
            let (_, message_id, message) = self.later.remove(place);
            self.send(&message, message_id, now);
        }
        self.lose_and_find_radio(now);
        if self.habits.goes_mute && self.mute_due <= now {
            self.mute_until = now + self.random.within(35 * MINUTE, 80 * MINUTE);
            self.mute_due = self.mute_until + self.random.within(HOUR, 4 * HOUR);
        }
        for place in 0..self.sockets.len() {
            if self.sockets[place].status_due <= now {
                self.report_status(place, now);
            }
        }
        self.report_ends(now);
    }

    /// A socket whose radio goes or comes back is reported at once (protocol §5).
    fn lose_and_find_radio(&mut self, now: u64) {
        let loses = self.habits.loses_radio && self.radio_due <= now;
        if loses {
            self.radio_due = now + self.random.within(HOUR, 4 * HOUR);
        }
        for place in 0..self.sockets.len() {
            let was_lost = self.sockets[place].lost_until;
            if loses && was_lost.is_none() && self.random.once_in(2) {
                self.sockets[place].lost_until = Some(now + self.random.within(30 * SECOND, 20 * MINUTE));
                self.sockets[place].status_due = now;
            } else if was_lost.is_some_and(|until| until <= now) {
                self.sockets[place].lost_until = None;
                if self.is_mute(now) {
                    continue;
                }
                let status = Uplink::Status(StatusReport::of(self.status_of(place, now)));
                self.send(&status, MessageId::DEVICE, now);
            }
        }
    }

    fn hears(&self, socket: SocketNo, now: u64) -> bool {
        self.sockets.iter().find(|known| known.no == socket).is_some_and(|known| !known.is_lost(now))
    }

    fn report_status(&mut self, place: usize, now: u64) {
        // The load comes on a moment after the switch: a change, which is reported.
        let just_on = |port: &Port| port.session.as_ref().is_some_and(|session| is_just_on(session, now));
        let changes_soon = self.sockets[place].ports.iter().any(just_on);
        self.sockets[place].status_due = now + if changes_soon { JUST_ON } else { self.status_period };
        let charges = self.sockets[place].ports.iter().any(|port| port.session.is_some());
        let says_nothing = charges && self.fault == Some(Fault::NoStatus) && !self.sockets[place].is_lost(now);
        if says_nothing || self.is_mute(now) {
            return;
        }
        let message = Uplink::Status(StatusReport::of(self.status_of(place, now)));
        self.send(&message, MessageId::DEVICE, now);
    }

    fn report_ends(&mut self, now: u64) {
        if self.ends.iter().any(|end| end.due <= now && end.sent > REPEATS) {
            self.wants_down = true;
            return;
        }
        let mut due = Vec::new();
        for socket in &self.sockets {
            // An acknowledgement need not name the port: one report a socket waits at a time.
            let oldest = self.ends.iter_mut().find(|end| end.socket == socket.no);
            if let Some(end) = oldest.filter(|end| end.due <= now && !socket.is_lost(now)) {
                end.sent += 1;
                end.due = now + REPEAT;
                due.push(end.message.clone());
            }
        }
        for message in due {
            self.send(&message, MessageId::DEVICE, now);
        }
    }

    fn send(&mut self, message: &Uplink, message_id: MessageId, now: u64) {
        let mut bytes = message.encode(self.id, message_id);
        match self.fault {
            Some(Fault::Garbage) if self.random.once_in(3) => {
                let length = self.random.within(1, 24);
                let noise: Vec<u8> = (0..length).map(|_| self.random.bits().to_le_bytes()[0]).collect();
                self.out.extend_from_slice(&noise);
                let mut broken = bytes.clone();
                let last = broken.len() - 3;
                broken[last] ^= 0x5a;
                self.out.extend_from_slice(&broken);
            }
            Some(Fault::HalfFrame) if self.rest.is_none() && self.random.once_in(6) => {
                let rest = bytes.split_off(bytes.len() / 2);
                // Late, or never: then the next frame follows the half.
                if self.random.once_in(2) {
                    self.rest = Some((now + self.random.within(SECOND, 4 * SECOND), rest));
                }
            }
            _ => {}
        }
        self.out.extend_from_slice(&bytes);
    }

    /// Power flows whether or not anybody listens.
    fn charge(&mut self, now: u64) {
        for place in 0..self.sockets.len() {
            for at in 0..self.sockets[place].ports.len() {
                let port = &mut self.sockets[place].ports[at];
                let Some(session) = &mut port.session else { continue };
                let ended = session.advance(now);
                port.truth.energy = session.energy();
                port.truth.minutes = session.minutes();
                if let Some(ended) = ended {
                    self.end(place, at, ended, now);
                }
            }
        }
    }

    fn end(&mut self, place: usize, at: usize, ended: Ended, now: u64) {
        let (socket, port) = (self.sockets[place].no, self.sockets[place].ports[at].no);
        let case = &mut self.sockets[place].ports[at];
        let Some(session) = case.session.take() else { return };
        let what = Witness::Ended(session.energy(), session.minutes());
        case.truth.charges = false;
        case.truth.energy = session.energy();
        case.truth.minutes = session.minutes();
        case.older = Some(session.number);
        case.ended = Some(now);
        self.sockets[place].status_due = now + 500;
        self.witness(socket, port, session.number, what);
        if self.fault == Some(Fault::NoEnd) {
            return;
        }
        self.sockets[place].ports[at].truth.ends += 1;
        let message = session.end_report(socket, port, ended, self.clock_of(now));
        self.ends.push(Pending { socket, port, message, sent: 0, due: now + 200 });
    }

    fn clock_of(&self, now: u64) -> CalendarTime {
        clock_of(now, if self.habits.clock_year == 0 { 2026 } else { self.habits.clock_year })
    }

    fn heartbeat(&self) -> Uplink {
        // 20 digits, no two devices the same.
        let digits = self.id.to_string();
        let iccid = format!("898604461{}", &digits[digits.len() - 11..]);
        Uplink::Heartbeat(Heartbeat {
            iccid: AsciiText::new(&iccid).unwrap_or(AsciiText([b'0'; 20])),
            firmware: AsciiText::new("v1.146").unwrap_or(AsciiText([0; 8])),
            rssi: 28,
        })
    }

    fn status_of(&mut self, place: usize, now: u64) -> SocketStatus {
        let volts = 2_280 + u32::try_from(self.random.within(0, 40)).unwrap_or(0);
        let shows = Shows {
            older_number: self.fault == Some(Fault::OldNumber),
            last_number: self.habits.keeps_number,
            lost: self.sockets[place].is_lost(now),
        };
        let readings: Vec<PortReading> =
            self.sockets[place].ports.iter().map(|port| reading(port, volts, shows, now)).collect();
        SocketStatus {
            socket: self.sockets[place].no,
            firmware: 0xffff,
            temperature_c: 31,
            rssi: 30,
            ports: UpTo::from_slice(&readings).unwrap_or_default(),
            extras: Extras::default(),
        }
    }

    fn obey(&mut self, message: Downlink, message_id: MessageId, now: u64) {
        if now < self.silent_until {
            return;
        }
        match message {
            Downlink::HeartbeatReply(_) => self.reply_due = None,
            Downlink::Switch(switch) => match switch.order {
                SwitchOrder::Off => self.switch_off(switch.socket, switch.port, message_id, now),
                SwitchOrder::Time(minutes) => {
                    self.start(switch.socket, switch.port, Ordered::Time(minutes), Answer::Switch, message_id, now);
                }
                SwitchOrder::Energy(energy) => {
                    self.start(switch.socket, switch.port, Ordered::Energy(energy), Answer::Switch, message_id, now);
                }
            },
            Downlink::StartByTiers(start) => {
                let ordered = Ordered::Tiers(start.amount, start.tiers.to_vec());
                self.start(start.socket, start.port, ordered, Answer::Tiers(start.carrier), message_id, now);
            }
            Downlink::StartByFee(start) => {
                let ordered = Ordered::Fee(start.amount, start.tiers.to_vec());
                self.start(start.socket, start.port, ordered, Answer::Fee, message_id, now);
            }
            Downlink::QueryStatus(query) => self.answer_query(query.socket, message_id, now),
            Downlink::EndAck(EndAck { socket, result, .. }) if result.ok() => self.acknowledged(socket, None),
            Downlink::FeeEndAck(FeeEndAck { socket, port, result, .. }) if result.ok() => {
                self.acknowledged(socket, Some(port));
            }
            Downlink::NetworkRefresh(_) => self.answer_network(NetworkSub::Refresh, message_id, now),
            Downlink::NetworkChange(_) => self.answer_network(NetworkSub::Add, message_id, now),
            _ => {}
        }
    }

    fn answer_network(&mut self, sub: NetworkSub, message_id: MessageId, now: u64) {
        let answer = Uplink::NetworkAnswer(NetworkAnswer { sub, result: ResultByte::OK });
        self.later.push((now + 50, message_id, answer));
    }

    fn answer_query(&mut self, socket: SocketNo, message_id: MessageId, now: u64) {
        let Some(place) = self.sockets.iter().position(|known| known.no == socket) else { return };
        if !self.hears(socket, now) || self.is_mute(now) {
            return;
        }
        self.charge(now);
        let status = self.status_of(place, now);
        if self.answers_queries_with_reports {
            self.later.push((now + 80, MessageId::DEVICE, Uplink::Status(StatusReport::of(status))));
        } else {
            self.later.push((now + 80, message_id, Uplink::QueryAnswer(QueryAnswer { status, under_1d: false })));
        }
    }

    fn acknowledged(&mut self, socket: u8, port: Option<u8>) {
        if self.fault == Some(Fault::LostAck) {
            return;
        }
        let of_it = |end: &Pending| {
            end.sent > 0 && end.socket.get() == socket && port.is_none_or(|port| end.port.get() == port)
        };
        if let Some(known) = self.sockets.iter_mut().find(|known| known.no.get() == socket)
            && known.spare_acks > 0
        {
            known.spare_acks -= 1;
            return;
        }
        let Some(at) = self.ends.iter().position(of_it) else { return };
        let end = self.ends.remove(at);
        if let Some(known) = self.sockets.iter_mut().find(|known| known.no == end.socket) {
            known.spare_acks = end.sent - 1;
        }
        self.acknowledged.extend(end.message.end_report());
        if let Some(port) = self.port(end.socket, end.port) {
            port.truth.acknowledged += 1;
        }
    }

    fn port(&mut self, socket: SocketNo, port: PortNo) -> Option<&mut Port> {
        let socket = self.sockets.iter_mut().find(|known| known.no == socket)?;
        socket.ports.iter_mut().find(|known| known.no == port)
    }

    fn start(
        &mut self,
        socket: SocketNo,
        port: PortNo,
        ordered: Ordered,
        answer: Answer,
        message_id: MessageId,
        now: u64,
    ) {
        if self.fault == Some(Fault::NoAnswer) || !self.hears(socket, now) {
            return;
        }
        let free = self.port(socket, port).is_some_and(|port| port.session.is_none());
        if !free && self.habits.repeated_start != RepeatedStart::Refused && self.fault != Some(Fault::Refuse) {
            self.start_again(socket, port, answer, message_id, now);
            return;
        }
        if !free || self.fault == Some(Fault::Refuse) {
            let answer = self.start_answer(answer, false, socket, port, None);
            self.later.push((now + 100, message_id, answer));
            return;
        }
        let number = self.new_number();
        let (least, most) = self.batteries;
        let battery = Battery::some(&mut self.random, least, most);
        let battery = if self.habits.power_rises { battery.rising() } else { battery };
        let one_in = self.habits.unplugged_one_in;
        let battery = if one_in > 0 && self.random.once_in(one_in) { Battery::none() } else { battery };
        if let Some(case) = self.port(socket, port) {
            case.truth =
                Truth { charges: true, number: Some(number), energy: WattHours(0), minutes: Minutes(0), ..case.truth };
            case.session = Some(Session::begin(number, ordered, battery, now));
            case.ended = None;
        }
        self.witness(socket, port, number, Witness::Began(message_id));
        let wait = if self.fault == Some(Fault::LateAnswer) { LATE } else { 300 };
        let answer = self.start_answer(answer, true, socket, port, Some(number));
        if self.habits.repeats_answers {
            self.later.push((now + self.random.within(MINUTE, 150 * MINUTE), message_id, answer.clone()));
        }
        self.later.push((now + wait, message_id, answer));
        self.burst(socket, now);
        if matches!(self.fault, Some(Fault::Drop | Fault::Silent)) {
            self.trouble = Some(now + self.random.within(MINUTE, 3 * MINUTE));
        }
    }

    /// A start at a port that charges already is answered with ok.
    fn start_again(&mut self, socket: SocketNo, port: PortNo, answer: Answer, message_id: MessageId, now: u64) {
        let anew = self.habits.repeated_start == RepeatedStart::BegunAnew;
        let Some(session) = self.port(socket, port).and_then(|port| port.session.as_mut()) else { return };
        let number = session.number;
        if anew {
            session.begin_anew(now);
            self.witness(socket, port, number, Witness::BeganAnew);
        }
        let answer = self.start_answer(answer, true, socket, port, Some(number));
        self.later.push((now + 100, message_id, answer));
    }

    /// Status reports come in bursts around a start: before the answer, and just after it (protocol §10).
    fn burst(&mut self, socket: SocketNo, now: u64) {
        let Some(place) = self.sockets.iter().position(|known| known.no == socket) else { return };
        if self.fault != Some(Fault::NoStatus) && !self.is_mute(now) && self.random.once_in(3) {
            let status = self.status_of(place, now);
            self.later.push((now + 100, MessageId::DEVICE, Uplink::Status(StatusReport::of(status))));
        }
        self.sockets[place].status_due = now + 900;
    }

    fn start_answer(
        &self,
        answer: Answer,
        ok: bool,
        socket: SocketNo,
        port: PortNo,
        number: Option<BusinessNo>,
    ) -> Uplink {
        let switch = |carrier, to_tiers| {
            Uplink::SwitchAnswer(SwitchAnswer {
                carrier,
                to_tiers,
                result: ok.into(),
                socket,
                port,
                business_no: number,
            })
        };
        match answer {
            Answer::Switch => switch(Carrier::Control, false),
            Answer::Tiers(carrier) => switch(carrier, true),
            Answer::Fee if self.answers_fee_starts_shaped => switch(Carrier::Control, false),
            Answer::Fee => Uplink::FeeStartAnswer(FeeStartAnswer {
                sequence: Sequence::MessageId,
                result: ok.into(),
                socket: Some(socket),
                port: Some(port),
                business_no: number,
                extras: Extras::default(),
            }),
        }
    }

    fn switch_off(&mut self, socket: SocketNo, port: PortNo, message_id: MessageId, now: u64) {
        if self.fault == Some(Fault::Deaf) || !self.hears(socket, now) {
            return;
        }
        let place = self.sockets.iter().position(|known| known.no == socket);
        let at = place.and_then(|place| self.sockets[place].ports.iter().position(|known| known.no == port));
        let number = self.port(socket, port).and_then(|port| port.session.as_ref()).map(|session| session.number);
        let answer = Uplink::SwitchAnswer(SwitchAnswer {
            carrier: Carrier::Control,
            to_tiers: false,
            result: ResultByte::OK,
            socket,
            port,
            business_no: number,
        });
        self.later.push((now + 100, message_id, answer));
        if let (Some(place), Some(at), Some(_)) = (place, at, number) {
            self.charge(now);
            self.end(place, at, Ended::SwitchedOff, now);
        }
    }

    fn new_number(&mut self) -> BusinessNo {
        loop {
            let number = match self.habits.numbers {
                0 => self.next_number,
                numbers => 1 + self.next_number % numbers,
            };
            self.next_number = self.next_number.wrapping_add(1);
            if let Some(number) = BusinessNo::new(number) {
                return number;
            }
        }
    }

    /// Has the device report something abnormal at a socket, at once (`1010`).
    pub fn report_abnormal(&mut self, socket: SocketNo, now: u64) {
        let setting = |key, value| Setting { key, value: SettingValue::U8(value) };
        let settings = vec![setting(Key::SocketReason, 8), setting(Key::SocketState, 3)];
        let event = Uplink::Abnormal(Abnormal { sequence: Sequence::MessageId, socket, settings });
        self.later.push((now, MessageId::DEVICE, event));
    }
}

/// The form in which a start is answered.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Switch,
    Tiers(Carrier),
    Fee,
}

fn reconnected(clock: CalendarTime) -> Uplink {
    let time = DeviceTime::bcd(clock);
    let items = vec![
        (Key::Socket, Box::from([1])),
        (Key::Port, Box::from([0x7f])),
        (Key::Clock, Box::from(time.raw())),
        (Key::Reconnect, Box::from([0, 1])),
    ];
    Uplink::Reconnected(Reconnected { sequence: Sequence::MessageId, items })
}

/// A clock that only has to run.
fn clock_of(now: u64, year: u16) -> CalendarTime {
    let seconds = now / SECOND;
    let part = |divisor: u64, modulus: u64| u8::try_from(seconds / divisor % modulus).unwrap_or(0);
    CalendarTime {
        year,
        month: 6,
        day: 1 + part(86_400, 28),
        hour: part(3600, 24),
        minute: part(60, 60),
        second: part(1, 60),
    }
}
