//! What reaches the disk: `write_bytes` of an agent on a fast clock.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chargegate::agent::Agent;
use chargegate::clock::{Clock, UpTime};
use chargegate::config::Config;
use chargegate::ids::PortNo;
use chargegate::sim::Random;
use chargegate::sim::fleet::{Fleet, Member, device_id};

use crate::load::{accepted, exchange, heartbeat_frame, start_command, status_frame, status_of};
use crate::place::{Place, Running, pause, wait_for};
use crate::{Figure, Limit};

/// Business number of the sessions that run.
const NUMBER: u16 = 500;

/// An agent on a clock `speed` times as fast: `role-agent SPEED CONFIG`.
pub fn serve(arguments: &[String]) -> ExitCode {
    let [speed, config] = arguments else { return ExitCode::FAILURE };
    let config = Config::load(config.as_ref()).unwrap();
    let mut agent = Agent::open(config, speed.parse().unwrap()).unwrap();
    agent.watch_signals().unwrap();
    if agent.run(None).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A quiet site.
pub fn idle() -> Vec<Figure> {
    vec![
        Figure::new("flash: 50 devices idle for a day", idle_day(), "MB", Limit::Most(20.0)),
        // What it should cost is nothing; a flush more or less in the hour shows as a few bytes.
        Figure::new("flash: one more status that changed nothing", unchanged(), "bytes", Limit::None),
    ]
}

/// A busy one at the default `flush_interval`.
pub fn every_5_min() -> Vec<Figure> {
    let bytes = moving_figures("5m", 3, false);
    vec![Figure::new("flash: a status that moves, flushed every 5 min", bytes, "bytes", Limit::Most(64.0))]
}

/// A busy one that flushes often: half of the devices report between two flushes. When they stand side by side in the
/// tables, half of the pages are written.
pub fn every_10_s() -> Vec<Figure> {
    let (in_order, scattered) = (moving_figures("10s", 18, false), moving_figures("10s", 18, true));
    vec![
        Figure::new(
            "flash: a status that moves, flushed every 10 s, in key order",
            in_order,
            "bytes",
            Limit::Most(600.0),
        ),
        Figure::new("flash: the same, devices in random order", scattered, "bytes", Limit::Most(600.0)),
    ]
}

/// An hour of 50 honest devices at their own intervals, times 24.
fn idle_day() -> f64 {
    const SPEED: u32 = 120;
    let place = Place::new();
    let agent = place.role("role-agent", &[&SPEED.to_string(), place.config().to_str().unwrap()]);
    let members: Vec<Member> = (0..50).map(|place| Member { id: device_id(place).unwrap(), fault: None }).collect();
    let mut fleet = Fleet::new(place.address, &members, 1, Clock::scaled(UpTime(0), SPEED)).unwrap();
    let (stop, counts) = (fleet.stop_flag(), fleet.counts());
    let devices = std::thread::spawn(move || fleet.run());
    wait_for(|| counts.connected.load(Ordering::Relaxed) == 50);
    // The registrations are no part of an idle day.
    pause(Duration::from_secs(600) / SPEED);
    let before = agent.written();
    pause(Duration::from_secs(3600) / SPEED);
    let written = agent.written() - before;
    stop.store(true, Ordering::Relaxed);
    devices.join().unwrap().unwrap();
    written as f64 * 24.0 / 1e6
}

/// An agent on a fast clock with devices, and their frames on time.
struct Site {
    place: Place,
    agent: Running,
    devices: Vec<TcpStream>,
    clock: Clock,
    speed: u32,
}

impl Site {
    /// A device that is silent for long stays: on a fast clock a busy machine would lose it.
    fn new(speed: u32, flush: &str) -> Self {
        chargegate::server::raise_open_files(8192);
        let place = Place::with(&format!("flush_interval = {flush:?}"), "offline_after = \"1h\"");
        let agent = place.role("role-agent", &[&speed.to_string(), place.config().to_str().unwrap()]);
        Self { place, agent, devices: Vec::new(), clock: Clock::scaled(UpTime(0), speed), speed }
    }

    fn elapsed(&self) -> Duration {
        self.clock.now().up.since(UpTime(0))
    }

    /// Sends the frame that `next` gives, and its device's number, `every` so often until `until`. Counts on from
    /// `sent`.
    fn send(&mut self, every: Duration, until: Duration, sent: &mut u32, mut next: impl FnMut(u32) -> (u32, Vec<u8>)) {
        while self.elapsed() < until {
            pause((every * *sent).saturating_sub(self.elapsed()) / self.speed);
            let (number, frame) = next(*sent);
            exchange(&mut self.devices[number as usize], &frame);
            *sent += 1;
        }
    }
}

/// Bytes that one more status costs when the same was sent before: an hour with one every 15 s of each device against an
/// hour with one every 5 min and heartbeats instead of the others, so that there are as many flushes.
fn unchanged() -> f64 {
    const DEVICES: u32 = 50;
    const ROUNDS: u32 = 20;
    let hour = |every_rounds: u32| {
        let mut site = Site::new(120, "5m");
        for number in 0..DEVICES {
            let mut device = TcpStream::connect(site.place.address).unwrap();
            exchange(&mut device, &heartbeat_frame(number));
            exchange(&mut device, &status_frame(number, 0x80, 0, 0, 0));
            site.devices.push(device);
        }
        let (mut sent, mut statuses) = (0, 0_u32);
        let mut run = |site: &mut Site, minutes: u64| {
            site.send(Duration::from_millis(300), Duration::from_secs(minutes * 60), &mut sent, |sent| {
                let number = sent % DEVICES;
                if !(sent / DEVICES).is_multiple_of(every_rounds) {
                    return (number, heartbeat_frame(number));
                }
                statuses += 1;
                (number, status_frame(number, 0x80, 0, 0, 0))
            });
            (f64::from(statuses), site.agent.written() as f64)
        };
        let (first, before) = run(&mut site, 6);
        let (last, after) = run(&mut site, 66);
        (last - first, after - before)
    };
    let ((few, written), (many, more)) = (hour(ROUNDS), hour(1));
    (more - written) / (many - few)
}

/// 1,000 devices that charge, 50 statuses a second, each device every 20 s: power always another, energy and minutes
/// rising. Bytes a status, over so many flushes. One after the other, or in an order of their own each round.
fn moving_figures(flush: &str, flushes: u32, scattered: bool) -> f64 {
    const DEVICES: u32 = 1000;
    let mut site = Site::new(30, flush);
    site.devices = charging(&site, DEVICES);
    let span = chargegate::config::parse_duration(flush).unwrap();
    let every = Duration::from_millis(20);
    let began = site.elapsed();
    let mut random = Random::new(5);
    let mut order: Vec<u32> = (0..DEVICES).collect();
    let mut sent = u32::try_from(began.as_millis() / every.as_millis()).unwrap();
    let next = &mut |sent: u32| {
        if scattered && sent.is_multiple_of(DEVICES) {
            (1..order.len()).rev().for_each(|last| order.swap(last, random.within(0, last as u64) as usize));
        }
        let number = order[(sent % DEVICES) as usize];
        (number, charging_frame(number, (every * sent).saturating_sub(began)))
    };
    site.send(every, began + span + Duration::from_secs(5), &mut sent, &mut *next);
    let (first, before) = (sent, site.agent.written());
    site.send(every, began + span * (flushes + 1) + Duration::from_secs(5), &mut sent, &mut *next);
    (site.agent.written() - before) as f64 / f64::from(sent - first)
}

/// So many devices that charge: every other one an order that was started through the control socket, the others
/// sessions that ran when they were first seen.
fn charging(site: &Site, devices: u32) -> Vec<TcpStream> {
    let mut control = UnixStream::connect(site.place.path("sock")).unwrap();
    let connect = |number| {
        let mut device = TcpStream::connect(site.place.address).unwrap();
        exchange(&mut device, &heartbeat_frame(number));
        if number % 2 == 0 {
            exchange(&mut device, &status_frame(number, 0x80, 0, 0, 0));
            control.write_all(start_command(number, PortNo::A).as_bytes()).unwrap();
            let mut buffer = [0; 4096];
            let length = device.read(&mut buffer).unwrap();
            device.write_all(&accepted(number, PortNo::A, NUMBER, &buffer[..length])).unwrap();
            assert!(control.read(&mut buffer).unwrap() > 0);
        }
        exchange(&mut device, &charging_frame(number, Duration::ZERO));
        device
    };
    (0..devices).map(connect).collect()
}

/// What a device says `since` it began to charge: 150 W, give or take.
fn charging_frame(number: u32, since: Duration) -> Vec<u8> {
    let seconds = since.as_secs();
    let power = 1500 + u32::try_from((seconds / 20 + u64::from(number)) % 40).unwrap();
    let (energy, minutes) = (u16::try_from(1 + seconds / 24).unwrap(), u16::try_from(seconds / 60).unwrap());
    status_of(number, 0xb0, NUMBER, power, energy, minutes)
}
