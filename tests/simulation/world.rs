//! A site on a virtual clock: devices, their network, customers, the disk, and an agent that dies and comes back.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use chargegate::bkv::{Deframer, Direction, Downlink, SwitchOrder};
use chargegate::clock::{Now, UpTime};
use chargegate::config::{Config, OnReturn};
use chargegate::ids::{PortNo, SocketNo};
use chargegate::sim::fleet::device_id;
use chargegate::sim::{Device, Fault, Habits, Random};
use chargegate::site::Site;
use chargegate::store::{OpenError, Settings, Store};
use chargegate::turn::{ClientId, ConnId, Core, Output};
use serde_json::{Value, json};

use crate::checks::Reader;
use crate::disk::Disk;
use crate::line::Line;
use crate::plans::{Plan, plans};
use crate::shadow::Shadow;
use crate::wall::Wall;

pub const MINUTE: u64 = 60_000;
pub const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What is simulated.
#[derive(Clone, Copy)]
pub struct Setting {
    pub devices: u32,
    /// So long customers come and things go wrong.
    pub busy: u64,
    /// So long nothing new happens: every grace runs out.
    pub quiet: u64,
    pub orders: u64,
    /// Every fault of the simulator once; else a third of the devices has one.
    pub every_fault: bool,
    /// The agent is killed, the network fails, the disk fills, the clock jumps.
    pub trouble: bool,
}

impl Setting {
    pub const DAY: Self =
        Self { devices: 20, busy: DAY - 3 * HOUR, quiet: 3 * HOUR, orders: 320, every_fault: true, trouble: true };
    pub const WEEK: Self = Self {
        devices: 50,
        busy: 7 * DAY - 3 * HOUR,
        quiet: 3 * HOUR,
        orders: 50 * 2 * 7 * 12,
        every_fault: false,
        trouble: false,
    };
}

pub struct World {
    pub seed: u64,
    pub setting: Setting,
    pub random: Random,
    pub disk: Disk,
    pub now: u64,
    /// Up-time at which the present run of the agent began, and when that was.
    base: (u64, u64),
    site: Option<Site>,
    pub reader: Option<Reader>,
    pub lines: Vec<Line>,
    pub wall: Wall,
    pub shadow: Shadow,
    /// The disk was last full, or the agent last down, or the clock last wrong.
    pub troubled: u64,
    pub full: bool,
    next_conn: u64,
    plans: Vec<Plan>,
    stops: Vec<(u64, String)>,
    crash_at: u64,
    full_at: u64,
    full_until: u64,
    commit_at: Option<u64>,
    commands: u64,
    next_check: u64,
    pub samples: Samples,
}

/// What the minutes showed.
#[derive(Clone, Copy, Default)]
pub struct Samples {
    pub port_minutes: u64,
    pub inconsistent: u64,
}

impl World {
    pub fn new(seed: u64, setting: Setting) -> Self {
        let mut random = Random::new(seed);
        let lines = (0..setting.devices).map(|place| line(place, &setting, &mut random)).collect();
        let plans = plans(&mut random, &setting);
        let (wall, crash_at, full_at) = if setting.trouble {
            let crash_at = random.within(10 * MINUTE, 2 * HOUR);
            (Wall::new(&mut random), crash_at, random.within(HOUR, 20 * HOUR))
        } else {
            (Wall::still(), u64::MAX, u64::MAX)
        };
        let mut world = Self {
            seed,
            setting,
            disk: Disk::new(),
            now: 0,
            base: (0, 0),
            site: None,
            reader: None,
            lines,
            wall,
            shadow: Shadow::default(),
            troubled: 0,
            full: false,
            next_conn: 0,
            plans,
            stops: Vec::new(),
            crash_at,
            full_at,
            full_until: u64::MAX,
            commit_at: None,
            commands: 0,
            next_check: 0,
            samples: Samples::default(),
            random,
        };
        world.open();
        world
    }

    pub fn config(&self) -> Config {
        let mut config = Config::default();
        config.orders.final_after = Duration::from_secs(6 * 3600);
        if self.seed % 5 == 4 {
            config.orders.on_return = OnReturn::Stop;
        }
        config
    }

    fn open(&mut self) {
        let wall = self.wall.at(UpTime(0), self.now).wall;
        let store = loop {
            match Store::open(&self.disk.store(), &Settings::default(), wall) {
                Ok(store) => break store,
                Err(OpenError::Full(_)) => return,
                // A child of the other thread holds the lock until it runs its own program.
                Err(OpenError::InUse(_)) => std::thread::yield_now(),
                Err(error) => panic!("{error}\n  {}", self.replay()),
            }
        };
        assert_eq!(self.disk.set_aside(), 0, "{}: a whole store was taken for damaged", self.replay());
        self.base = (store.up_base().0, self.now);
        let now = self.at();
        self.site = Some(Site::open(self.config(), store, now).unwrap());
        self.reader = Some(Reader::open(&self.disk.store()));
        self.settle();
    }

    pub fn at(&self) -> Now {
        self.wall.at(UpTime(self.base.0 + self.now - self.base.1), self.now)
    }

    pub const fn is_up(&self) -> bool {
        self.site.is_some()
    }

    /// Runs it to its end, checks, and tells what was seen.
    pub fn run(mut self) -> String {
        while self.now < self.setting.busy {
            self.step(true);
        }
        self.calm_down();
        while self.now < self.setting.busy + self.setting.quiet {
            self.step(false);
        }
        self.check_the_end()
    }

    /// Whoever has a fault keeps it, but nothing new is asked for and nothing more goes wrong around it.
    fn calm_down(&mut self) {
        (self.crash_at, self.full_at) = (u64::MAX, u64::MAX);
        self.disk.free();
        self.full = false;
        self.full_until = u64::MAX;
        self.wall = Wall::still();
        self.lines.iter_mut().for_each(Line::calm_down);
    }

    fn step(&mut self, busy: bool) {
        let before = self.now;
        self.now = self.next_time();
        if busy && self.setting.trouble {
            self.wall.pass(self.now, &mut self.random);
            self.fill_or_free();
        }
        if !self.is_up() {
            self.open();
        }
        // A kill hurts most while a turn waits for its commit: it comes then, or at the latest a while later.
        let waits = self.commit_at.is_some() || self.now >= self.crash_at.saturating_add(20 * MINUTE);
        if busy && self.now >= self.crash_at && waits {
            self.crash();
        }
        if !self.wall.is_right() || self.full || !self.is_up() {
            self.troubled = self.now;
        }
        self.ask(busy);
        for place in 0..self.lines.len() {
            // Most have nothing to say at most moments.
            if self.lines[place].next_time(before) <= self.now || !self.is_up() {
                self.serve(place);
            }
        }
        let now = self.at();
        if let Some(site) = &mut self.site {
            site.timeout(now).unwrap();
        }
        self.settle();
        if self.now >= self.next_check {
            self.next_check = self.now / MINUTE * MINUTE + MINUTE;
            self.check_the_minute();
        }
    }

    fn next_time(&self) -> u64 {
        let mut next = self.next_check.max(self.now + 1);
        // Who wants a connection has to wait for the agent.
        let Some(site) = &self.site else { return next.min(self.now + 5_000) };
        for line in &self.lines {
            next = next.min(line.next_time(self.now));
        }
        if let Some(deadline) = site.next_deadline() {
            next = next.min(deadline.0.saturating_sub(self.base.0) + self.base.1);
        }
        if let Some(plan) = self.plans.last() {
            next = next.min(plan.at);
        }
        next = self.stops.iter().map(|(at, _)| *at).chain(self.commit_at).fold(next, u64::min);
        next.max(self.now + 1)
    }

    fn fill_or_free(&mut self) {
        if self.now >= self.full_at {
            self.disk.fill(&mut self.random);
            self.full = true;
            self.full_until = self.now + self.random.within(MINUTE, 20 * MINUTE);
            self.full_at = self.full_until + self.random.within(2 * HOUR, 20 * HOUR);
        }
        if self.now >= self.full_until {
            self.disk.free();
            self.full = false;
            self.full_until = u64::MAX;
        }
    }

    /// What devices say reaches the agent and the other way round; who wants a connection gets one.
    fn serve(&mut self, place: usize) {
        let now = self.now;
        if self.lines[place].suffer(now, &mut self.random) {
            self.hang_up(place);
        }
        self.connect(place);
        let line = &mut self.lines[place];
        line.device.tick(now);
        line.send_up(now, &mut self.random);
        self.take_in(place);
        self.hand_out(place);
        if self.lines[place].device.wants_disconnect() {
            self.hang_up(place);
        }
        for conn in self.lines[place].silent(now) {
            self.disconnected(conn);
            self.lines[place].closed_by_agent(conn, now);
        }
        self.note(place);
    }

    fn note(&mut self, place: usize) {
        for what in self.lines[place].device.take_witnessed() {
            self.check_witnessed(place, what);
            self.shadow.witnessed(place, what, self.now);
        }
        self.lines[place].note_away(self.now);
    }

    fn connect(&mut self, place: usize) {
        let now = self.at();
        let Some(site) = &mut self.site else { return };
        let line = &mut self.lines[place];
        if line.wire.is_none() && line.device.wants_connection(self.now) {
            self.next_conn += 1;
            let conn = ConnId(self.next_conn);
            line.connect(conn, self.now);
            site.connected(conn, IpAddr::V4(Ipv4Addr::LOCALHOST), now);
        }
    }

    fn take_in(&mut self, place: usize) {
        let now = self.at();
        let Some(site) = &mut self.site else { return };
        let line = &mut self.lines[place];
        while let Some((conn, bytes)) = line.arrived_up(self.now) {
            let mut input = &bytes[..];
            let Some(wire) = &mut line.wire else { return };
            while let Some(found) = wire.deframer.next(&mut input) {
                match found {
                    Ok(frame) => site.frame(conn, &frame, now).unwrap(),
                    Err(_) => site.noise(conn, now),
                }
            }
        }
    }

    fn hand_out(&mut self, place: usize) {
        while let Some(bytes) = self.lines[place].arrived_down(self.now) {
            self.check_stop(place, &bytes);
            let line = &mut self.lines[place];
            line.device.received(&bytes, self.now);
            for report in line.device.take_acknowledged() {
                self.acknowledged(place, report);
            }
            self.note(place);
            self.lines[place].send_up(self.now, &mut self.random);
        }
    }

    fn hang_up(&mut self, place: usize) {
        if let Some(conn) = self.lines[place].hang_up(self.now) {
            self.disconnected(conn);
        }
    }

    fn disconnected(&mut self, conn: ConnId) {
        let now = self.at();
        if let Some(site) = &mut self.site {
            site.disconnected(conn, now).unwrap();
        }
    }

    fn ask(&mut self, busy: bool) {
        if !self.is_up() {
            return;
        }
        while busy && self.plans.last().is_some_and(|plan| plan.at <= self.now) {
            let Some(plan) = self.plans.pop() else { break };
            self.order(plan);
        }
        let now = self.now;
        let due: Vec<String> = self.stops.iter().filter(|(at, _)| *at <= now).map(|(_, no)| no.clone()).collect();
        self.stops.retain(|(at, _)| *at > now);
        for order_no in due {
            if let Some(ordered) = self.shadow.orders.get_mut(&order_no) {
                ordered.stop_asked = true;
            }
            self.command(json!({ "type": "stop_charge", "order_no": order_no }));
        }
    }

    fn order(&mut self, plan: Plan) {
        let order_no = format!("o-{}", self.commands + 1);
        let mut command = plan.order;
        command["type"] = "start_charge".into();
        command["device"] = self.lines[plan.device].device.id().to_string().into();
        command["socket"] = 1.into();
        command["port"] = plan.port.into();
        command["order_no"] = order_no.clone().into();
        let at = (plan.device, plan.port);
        if let Some(after) = plan.stop_after.filter(|_| self.random.once_in(2)) {
            // Who stopped wants it after all, or the next one comes.
            let most = if self.random.once_in(2) { 250 } else { 90_000 };
            let again = self.now + after + self.random.within(1, most);
            let next = Plan { at: again, stop_after: None, order: command.clone(), ..plan };
            let place = self.plans.partition_point(|other| other.at > again);
            self.plans.insert(place, next);
        }
        self.shadow.asked((self.commands + 1).to_string(), order_no.clone(), at, self.now, plan.paid);
        self.command(command);
        if let Some(after) = plan.stop_after {
            self.stops.push((self.now + after, order_no));
        }
    }

    fn command(&mut self, mut command: Value) {
        self.commands += 1;
        command["id"] = self.commands.to_string().into();
        let (line, now) = (command.to_string(), self.at());
        if let Some(site) = &mut self.site {
            site.command(ClientId(1), line.as_bytes(), None, now).unwrap();
        }
        self.settle();
    }

    /// Outputs go out; a commit comes at once or a little later.
    fn settle(&mut self) {
        loop {
            self.deliver();
            if !self.site.as_ref().is_some_and(Core::wants_commit) {
                self.commit_at = None;
                return;
            }
            let wait = self.random.within(0, 50);
            let due = *self.commit_at.get_or_insert(self.now + if wait < 20 { 0 } else { wait });
            if due > self.now {
                return;
            }
            self.commit_at = None;
            self.commit();
        }
    }

    fn commit(&mut self) {
        let now = self.at();
        if let Some(site) = &mut self.site {
            site.commit(now).unwrap();
        }
        self.check_doubtful_stops();
    }

    fn deliver(&mut self) {
        while let Some(site) = &mut self.site {
            let Some((output, bytes)) = site.outputs().next().map(|(output, bytes)| (output, bytes.to_vec())) else {
                site.outputs().recycle();
                return;
            };
            self.carry_out(&output, &bytes);
        }
    }

    fn carry_out(&mut self, output: &Output, bytes: &[u8]) {
        let of = |conn: ConnId, lines: &[Line]| {
            lines.iter().position(|line| line.wire.as_ref().is_some_and(|wire| wire.conn == conn))
        };
        match output {
            Output::Send(conn, _) => {
                let Some(place) = of(*conn, &self.lines) else { return };
                self.note_starts(place, bytes);
                self.lines[place].send_down(*conn, bytes, self.now, &mut self.random);
                self.hand_out(place);
            }
            Output::Close(conn) => {
                if let Some(place) = of(*conn, &self.lines) {
                    self.check_close(place);
                    self.disconnected(*conn);
                }
                self.lines.iter_mut().for_each(|line| line.closed_by_agent(*conn, self.now));
            }
            Output::Reply(..) => {
                if let Ok(reply) = serde_json::from_slice::<Value>(bytes) {
                    self.check_reply(&reply);
                    self.shadow.replied(&reply);
                }
            }
        }
    }

    fn note_starts(&mut self, place: usize, bytes: &[u8]) {
        let mut starts = Vec::new();
        for_each_downlink(bytes, |message, message_id| {
            let port = match message {
                Downlink::Switch(switch) if switch.order != SwitchOrder::Off => switch.port,
                Downlink::StartByTiers(start) => start.port,
                Downlink::StartByFee(start) => start.port,
                _ => return,
            };
            self.shadow.start_sent((place, port.get()), message_id);
            starts.push((port.get(), message_id));
        });
        for (port, message_id) in starts {
            self.check_start((place, port), message_id);
        }
    }

    /// SIGKILL or a power cut: before a commit, in the middle of it, or between it and its answers.
    fn crash(&mut self) {
        let now = self.at();
        let mut torn = None;
        match (self.random.within(0, 3), &mut self.site) {
            (0, _) | (_, None) => {}
            (1 | 2, Some(site)) => site.commit(now).unwrap(),
            (_, Some(site)) => torn = self.disk.commit_torn(|| site.commit(now).unwrap(), &mut self.random),
        }
        // Some of the answers may have left.
        let leave = self.random.within(0, 3);
        for _ in 0..leave {
            let Some((output, bytes)) = self
                .site
                .as_mut()
                .filter(|_| torn.is_none())
                .and_then(|site| site.outputs().next().map(|(output, bytes)| (output, bytes.to_vec())))
            else {
                break;
            };
            self.carry_out(&output, &bytes);
        }
        self.reader = None;
        self.site = None;
        if let Some(torn) = torn {
            self.disk.write_torn(torn);
        }
        self.commit_at = None;
        self.shadow.agent_is_gone();
        self.stay_down();
        self.open();
    }

    /// Down for a moment, or for hours.
    fn stay_down(&mut self) {
        let gone = self.now;
        self.lines.iter_mut().for_each(|line| line.agent_is_gone(gone));
        let down = if self.random.once_in(4) {
            self.random.within(MINUTE, 90 * MINUTE)
        } else {
            self.random.within(1, 20_000)
        };
        let back = self.now + down;
        while self.now < back {
            self.now = (self.now + 10_000).min(back);
            for place in 0..self.lines.len() {
                self.lines[place].device.tick(self.now);
                self.lines[place].device.take_output();
                self.note(place);
            }
        }
        self.troubled = self.now;
        self.crash_at = self.now + self.random.within(10 * MINUTE, 3 * HOUR);
    }

    pub fn replay(&self) -> String {
        let week = if self.setting.trouble { "" } else { " --week" };
        format!(
            "cargo test --test simulation -- --seed {}{week}, at {} min {}.{:03} s",
            self.seed,
            self.now / MINUTE,
            self.now % MINUTE / 1000,
            self.now % 1000
        )
    }

    /// A device in words.
    pub fn describe(&self, place: usize) -> String {
        let line = &self.lines[place];
        let mut text = format!("device {place} {}", line.device.id());
        if let Some(fault) = line.device.fault() {
            let _ = write!(text, " fault={}", fault.word());
        }
        let _ = write!(text, " {:?}", line.device.habits);
        text
    }
}

/// Every message of the agent in `bytes`.
pub fn for_each_downlink(mut bytes: &[u8], mut each: impl FnMut(Downlink, chargegate::ids::MessageId)) {
    let mut deframer = Deframer::new(Direction::Down);
    while let Some(Ok(frame)) = deframer.next(&mut bytes) {
        if let Ok(message) = Downlink::decode(&frame) {
            each(message, frame.message_id());
        }
    }
}

/// Where a switch-off is meant for.
pub fn switched_off(message: &Downlink) -> Option<(SocketNo, PortNo)> {
    match message {
        Downlink::Switch(switch) if switch.order == SwitchOrder::Off => Some((switch.socket, switch.port)),
        _ => None,
    }
}

fn line(place: u32, setting: &Setting, random: &mut Random) -> Line {
    let all = Fault::ALL.len() as u64;
    let fault = if setting.every_fault {
        Fault::ALL.get(place as usize).copied()
    } else {
        (place % 3 == 2).then(|| Fault::ALL[usize::try_from(u64::from(place / 3) % all).unwrap()])
    };
    let mut device = Device::new(device_id(place).unwrap(), 1, fault, random.bits(), 0);
    device.batteries = (30, 700);
    if setting.trouble && random.once_in(2) {
        device.habits = Habits::some(random);
    }
    device.watch();
    Line::new(device, setting.trouble, random)
}
