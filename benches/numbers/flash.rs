//! What reaches the disk: `write_bytes` of an agent on a fast clock.

use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chargegate::agent::Agent;
use chargegate::clock::{Clock, UpTime};
use chargegate::config::Config;
use chargegate::sim::Random;
use chargegate::sim::fleet::{Fleet, Member, device_id};

use crate::load::{exchange, heartbeat_frame, status_frame};
use crate::place::{Place, pause, wait_for};
use crate::{Figure, Limit};

/// An agent on a clock `speed` times as fast: `role-agent SPEED CONFIG`.
pub fn serve(arguments: &[String]) -> ExitCode {
    let [speed, config] = arguments else { return ExitCode::FAILURE };
    let config = Config::load(config.as_ref()).unwrap();
    let mut agent = Agent::open(config, speed.parse().unwrap()).unwrap();
    agent.watch_signals().unwrap();
    if agent.run(None).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub fn figures() -> Vec<Figure> {
    let in_order = |flush, flushes| moving_figures(flush, flushes, false);
    // In 10 s half of the devices report: when they stand side by side in the tables, half of the pages are written.
    let scattered = moving_figures("10s", 18, true);
    vec![
        Figure::new("flash: 50 devices idle for a day", idle_day(), "MB", Limit::Most(20.0)),
        Figure::new("flash: a status that moves, flushed every 5 min", in_order("5m", 3), "bytes", Limit::Most(64.0)),
        Figure::new("flash: a status that moves, flushed every 10 s", in_order("10s", 18), "bytes", Limit::Most(600.0)),
        Figure::new("flash: the same, devices in random order", scattered, "bytes", Limit::None),
    ]
}

/// An hour of 50 honest devices at their own intervals, times 24.
fn idle_day() -> f64 {
    const SPEED: u32 = 120;
    let place = Place::new("");
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

/// 1,000 devices that charge, 50 statuses a second, each device every 20 s, energy and minutes rising: bytes a status,
/// over so many flushes. One after the other, or in an order of their own each round.
fn moving_figures(flush: &str, flushes: u32, scattered: bool) -> f64 {
    const SPEED: u32 = 30;
    const DEVICES: u32 = 1000;
    let place = Place::new(&format!("flush_interval = \"{flush}\""));
    chargegate::server::raise_open_files(8192);
    let agent = place.role("role-agent", &[&SPEED.to_string(), place.config().to_str().unwrap()]);
    let mut devices: Vec<TcpStream> = (0..DEVICES)
        .map(|number| {
            let mut device = TcpStream::connect(place.address).unwrap();
            exchange(&mut device, &heartbeat_frame(number));
            exchange(&mut device, &status_frame(number, 0xb0, 500, 1, 0));
            device
        })
        .collect();
    let clock = Clock::scaled(UpTime(0), SPEED);
    let span = chargegate::config::parse_duration(flush).unwrap();
    let mut random = Random::new(5);
    let mut order: Vec<u32> = (0..DEVICES).collect();
    let mut sent = 0_u32;
    let mut run = |until: Duration| {
        while clock.now().up.since(UpTime(0)) < until {
            let at = Duration::from_millis(u64::from(sent) * 20);
            let ahead = at.saturating_sub(clock.now().up.since(UpTime(0)));
            pause(ahead / SPEED);
            if scattered && sent.is_multiple_of(DEVICES) {
                (1..order.len()).rev().for_each(|last| order.swap(last, random.within(0, last as u64) as usize));
            }
            let number = order[(sent % DEVICES) as usize];
            let minutes = u16::try_from(at.as_secs() / 60).unwrap();
            let energy = u16::try_from(1 + at.as_secs() / 30).unwrap();
            exchange(&mut devices[number as usize], &status_frame(number, 0xb0, 500, energy, minutes));
            sent += 1;
        }
        sent
    };
    let first = run(span + Duration::from_secs(5));
    let before = agent.written();
    let last = run(span * (flushes + 1) + Duration::from_secs(5));
    let written = agent.written() - before;
    written as f64 / f64::from(last - first)
}
