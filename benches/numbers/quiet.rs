//! What an idle agent costs: memory, and how often it wakes.

use std::net::TcpStream;
use std::time::Duration;

use crate::load::{exchange, heartbeat_frame, status_frame};
use crate::place::{Place, pause};
use crate::{Figure, Limit};

const DEVICES: u32 = 1000;
/// More of them, to see what one more costs.
const MORE: u32 = 1000;

pub fn figures() -> Vec<Figure> {
    // Flushed at once, so that what the store keeps in memory of it is there, too.
    let place = Place::with("flush_interval = \"1s\"", "");
    chargegate::server::raise_open_files(8192);
    let agent = place.agent(None);
    let mut devices = Vec::new();
    let mut resident_with = |count| {
        connect(&place, &mut devices, count);
        pause(Duration::from_secs(3));
        agent.resident()
    };
    let first = resident_with(DEVICES);
    let all = resident_with(MORE);
    let one_more = (all - first) as f64 / f64::from(MORE);
    agent.end();
    let (switches, due) = wakes();
    vec![
        Figure::new("quiet: resident with 1,000 idle devices", first as f64 / 1024.0, "MiB", Limit::Most(10.0)),
        Figure::new("quiet: resident for one more", one_more, "KiB", Limit::Most(1.0)),
        Figure::new("quiet: wakes of ten idle minutes", switches, "", Limit::Most(due + 10.0)),
    ]
}

fn connect(place: &Place, devices: &mut Vec<TcpStream>, count: u32) {
    for _ in 0..count {
        let number = u32::try_from(devices.len()).unwrap();
        let mut device = TcpStream::connect(place.address).unwrap();
        exchange(&mut device, &heartbeat_frame(number));
        exchange(&mut device, &status_frame(number, 0x80, 0, 0, 0));
        devices.push(device);
    }
}

/// Ten minutes of ten devices that send a heartbeat every minute and a status every five, on a clock ten times as fast:
/// how often the agent woke, and how many frames and flushes there were.
fn wakes() -> (f64, f64) {
    const SPEED: u32 = 10;
    const IDLE: u32 = 10;
    let place = Place::new();
    let agent = place.role("role-agent", &[&SPEED.to_string(), place.config().to_str().unwrap()]);
    let mut devices = Vec::new();
    connect(&place, &mut devices, IDLE);
    pause(Duration::from_secs(1));
    let before = agent.switches();
    let mut due = 2.0;
    for minute in 0..10 {
        for (device, number) in devices.iter_mut().zip(0..) {
            exchange(device, &heartbeat_frame(number));
            due += 1.0;
            if minute % 5 == 2 {
                exchange(device, &status_frame(number, 0x80, 0, 0, 0));
                due += 1.0;
            }
        }
        pause(Duration::from_secs(60) / SPEED);
    }
    ((agent.switches() - before) as f64, due)
}
