//! A device that does as the protocol says: answers starts and stops, shows what its ports do, and repeats an end report
//! until it is acknowledged, over any number of connections; if wanted, once more after that.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use chargegate::bkv::{
    AsciiText, Carrier, ChargeEnd, Deframer, Direction, Downlink, EndFigures, EnergyUnits, Heartbeat, PortReading,
    QueryAnswer, ResultByte, SocketStatus, StatusByte, StatusReport, SwitchAnswer, SwitchOrder, UpTo, Uplink,
};
use chargegate::ids::{BusinessNo, DeciVolts, DeciWatts, DeviceId, MessageId, MilliAmperes, Minutes, PortNo, SocketNo};

/// An end report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    pub device: DeviceId,
    pub port: u8,
    pub number: u16,
    pub energy: u16,
}

/// A port: charging under a number, or idle.
#[derive(Debug, Clone, Copy, Default)]
struct Outlet {
    number: Option<BusinessNo>,
    energy: u16,
    ends: Option<Instant>,
}

/// One device with socket 1.
pub struct Device {
    pub id: DeviceId,
    address: SocketAddr,
    stream: Option<(TcpStream, Deframer)>,
    outlets: [Outlet; 2],
    next_number: u16,
    reports: VecDeque<Ended>,
    reported: Option<Instant>,
    /// One that was acknowledged, and goes out once more.
    again: Option<Ended>,
    heartbeat: Option<Instant>,
    shown: Option<Instant>,
    /// Every report that it began to send.
    pub sent: Vec<Ended>,
    /// Those of them that it was told are received.
    pub acknowledged: Vec<Ended>,
    /// How long its orders run.
    pub runs_for: fn(u16) -> Duration,
    /// Beside each change it shows its ports so often.
    pub shows_every: Duration,
    /// It repeats one in so many of the reports that were acknowledged; none when 0.
    pub repeats_one_in: usize,
    /// Repetitions that were acknowledged as well.
    pub repeated: u64,
    /// Statuses that it sent.
    pub statuses: u64,
}

/// How long it waits for an acknowledgement before it connects anew and repeats. On the same connection it would not
/// know which report a second acknowledgement is for: they name the socket alone.
const PATIENT_FOR: Duration = Duration::from_secs(3);

impl Device {
    pub fn new(id: DeviceId, address: SocketAddr) -> Self {
        Self {
            id,
            address,
            stream: None,
            outlets: [Outlet::default(); 2],
            next_number: 1,
            reports: VecDeque::new(),
            reported: None,
            again: None,
            heartbeat: None,
            shown: None,
            sent: Vec::new(),
            acknowledged: Vec::new(),
            runs_for: |_| Duration::from_secs(3600),
            shows_every: Duration::from_secs(3600),
            repeats_one_in: 0,
            repeated: 0,
            statuses: 0,
        }
    }

    /// Something charges that this site did not start.
    pub fn charges(&mut self, port: u8, number: u16) {
        self.outlets[usize::from(port)] = Outlet { number: BusinessNo::new(number), energy: 7, ends: None };
        self.next_number = self.next_number.max(number + 1);
    }

    /// Ends whatever charges on a port.
    pub fn ends(&mut self, port: u8) {
        self.outlets[usize::from(port)].ends = Some(now());
    }

    pub fn is_charging(&self, port: u8) -> bool {
        self.outlets[usize::from(port)].number.is_some()
    }

    pub fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Nothing charges and nothing waits to be acknowledged.
    pub fn is_done(&self) -> bool {
        self.reports.is_empty() && self.again.is_none() && self.outlets.iter().all(|outlet| outlet.number.is_none())
    }

    /// Lives for a few milliseconds: connects, reads, answers, ends what is over, repeats what is not acknowledged.
    pub fn live(&mut self) {
        if self.stream.is_none() && !self.connect() {
            std::thread::yield_now();
        }
        let mut bytes = [0; 4096];
        if let Some((stream, mut deframer)) = self.stream.take() {
            let mut stream = stream;
            match stream.read(&mut bytes) {
                Ok(0) => {}
                Ok(count) => {
                    let mut input = &bytes[..count];
                    let mut said = Vec::new();
                    while let Some(frame) = deframer.next(&mut input) {
                        let frame = frame.unwrap();
                        said.push((Downlink::decode(&frame).unwrap(), frame.message_id()));
                    }
                    self.stream = Some((stream, deframer));
                    said.into_iter().for_each(|(message, id)| self.hear(&message, id));
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.stream = Some((stream, deframer));
                }
                Err(_) => {}
            }
        }
        self.end_what_is_over();
        self.repeat();
        if self.heartbeat.is_none_or(|last| last.elapsed() > Duration::from_secs(1)) {
            self.heartbeat();
        }
        if self.shown.is_none_or(|last| last.elapsed() > self.shows_every) {
            self.show();
        }
    }

    fn connect(&mut self) -> bool {
        let Ok(stream) = TcpStream::connect(self.address) else { return false };
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        self.stream = Some((stream, Deframer::new(Direction::Down)));
        self.reported = None;
        self.heartbeat();
        self.show();
        true
    }

    fn heartbeat(&mut self) {
        self.heartbeat = Some(now());
        let iccid = AsciiText::new("89860463112070319417").unwrap();
        let message = Heartbeat { iccid, firmware: AsciiText::new("V1.r46").unwrap(), rssi: 20 };
        self.say(&Uplink::Heartbeat(message), MessageId(0));
    }

    fn show(&mut self) {
        self.shown = Some(now());
        self.statuses += 1;
        let status = self.status();
        self.say(&Uplink::Status(StatusReport::of(status)), MessageId(0));
    }

    fn status(&self) -> SocketStatus {
        let reading = |port: PortNo| {
            let outlet = self.outlets[usize::from(port.get())];
            let charging = outlet.number.is_some();
            PortReading {
                port,
                status: StatusByte(if charging { 0xb0 } else { 0x80 }),
                business_no: outlet.number,
                voltage: DeciVolts(2200),
                power: DeciWatts(if charging { 1500 } else { 0 }),
                current: MilliAmperes(if charging { 700 } else { 0 }),
                energy_units: EnergyUnits(0),
                minutes: Minutes(0),
            }
        };
        SocketStatus {
            socket: SocketNo::new(1).unwrap(),
            firmware: 0x00a1,
            temperature_c: 20,
            rssi: 30,
            ports: UpTo::from_slice(&[reading(PortNo::A), reading(PortNo::B)]).unwrap(),
            extras: Default::default(),
        }
    }

    fn say(&mut self, message: &Uplink, id: MessageId) {
        let bytes = message.encode(self.id, id);
        if self.stream.as_mut().is_some_and(|(stream, _)| stream.write_all(&bytes).is_err()) {
            self.stream = None;
        }
    }

    fn hear(&mut self, message: &Downlink, id: MessageId) {
        match message {
            Downlink::Switch(switch) => {
                let place = usize::from(switch.port.get());
                let result = match (switch.order, self.outlets[place].number) {
                    (SwitchOrder::Off, Some(_)) => {
                        self.outlets[place].ends = Some(now());
                        ResultByte::OK
                    }
                    (SwitchOrder::Off, None) => ResultByte::OK,
                    (_, Some(_)) => ResultByte::REFUSED,
                    (_, None) => {
                        let number = self.next_number;
                        self.next_number += 1;
                        let energy = number % 50 + 1;
                        let ends = Some(now() + (self.runs_for)(number));
                        self.outlets[place] = Outlet { number: BusinessNo::new(number), energy, ends };
                        ResultByte::OK
                    }
                };
                let answer = SwitchAnswer {
                    carrier: Carrier::Control,
                    to_tiers: false,
                    result,
                    socket: switch.socket,
                    port: switch.port,
                    business_no: self.outlets[place].number,
                };
                self.say(&Uplink::SwitchAnswer(answer), id);
            }
            Downlink::QueryStatus(_) => {
                let status = self.status();
                self.say(&Uplink::QueryAnswer(QueryAnswer { status, under_1d: false }), id);
            }
            // It names the socket alone: one report is under way at a time.
            Downlink::EndAck(ack) if ack.result.ok() && self.reported.take().is_some() => self.acknowledged(),
            _ => {}
        }
    }

    fn acknowledged(&mut self) {
        if self.again.take().is_some() {
            self.repeated += 1;
        } else if let Some(ended) = self.reports.pop_front() {
            self.acknowledged.push(ended);
            let repeats = self.repeats_one_in > 0 && self.acknowledged.len().is_multiple_of(self.repeats_one_in);
            self.again = repeats.then_some(ended);
        }
    }

    fn end_what_is_over(&mut self) {
        for port in 0..2 {
            let Outlet { number, energy, ends } = self.outlets[usize::from(port)];
            if let Some(number) = number
                && ends.is_some_and(|ends| ends <= now())
            {
                let ended = Ended { device: self.id, port, number: number.get(), energy };
                self.reports.push_back(ended);
                self.outlets[usize::from(port)] = Outlet::default();
                self.show();
            }
        }
    }

    fn repeat(&mut self) {
        let Some(ended) = self.again.or(self.reports.front().copied()) else { return };
        if self.reported.is_some_and(|last| last.elapsed() > PATIENT_FOR) {
            self.stream = None;
        }
        if self.stream.is_none() || self.reported.is_some() {
            return;
        }
        if self.again.is_none() && self.sent.last() != Some(&ended) {
            self.sent.push(ended);
        }
        self.reported = Some(now());
        let figures = EndFigures {
            socket: SocketNo::new(1).unwrap(),
            firmware: 0x00a1,
            temperature_c: 20,
            rssi: 30,
            port: PortNo::new(ended.port).unwrap(),
            status: StatusByte(0xb0),
            business_no: BusinessNo::new(ended.number),
            power: DeciWatts(0),
            current: MilliAmperes(0),
            energy_units: EnergyUnits(ended.energy),
            minutes: Minutes(0),
        };
        self.say(&Uplink::ChargeEnd(ChargeEnd { figures }), MessageId(0));
    }
}

#[expect(clippy::disallowed_methods, reason = "a device has a clock of its own")]
fn now() -> Instant {
    Instant::now()
}
