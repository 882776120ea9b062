//! Connections that do not read, are too many, or come from elsewhere.

use std::io::Write;

use crate::support::{Agent, Device, IDLE, id, wait_for};
use crate::{healthy, numbered, status_bytes};

#[test]
fn a_reader_that_does_not_read_is_closed_and_nobody_waits_for_it() {
    let agent = Agent::start("");
    let mut beside = healthy(&agent);
    let mut device = Device::connect(&agent);
    let frames = status_bytes(IDLE).repeat(100);
    device.stream.set_nonblocking(true).unwrap();
    wait_for("the close", || {
        let sent = device.stream.write(&frames);
        beside.heartbeat();
        sent.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock).then_some(())
    });
}

#[test]
fn connections_past_the_limits_are_closed_and_told_and_the_others_stay() {
    let agent = Agent::start("[devices]\nmax_connections = 4\n");
    let mut beside = healthy(&agent);
    let mut devices: Vec<Device> = (0..3).map(|place| Device::connect_as(&agent, numbered(place))).collect();
    for place in 3..10 {
        assert!(Device::silent(&agent, numbered(place)).hear().is_none(), "one too many");
    }
    devices.iter_mut().for_each(Device::heartbeat);
    beside.heartbeat();
    let refused = agent.rows("SELECT data FROM events WHERE type = 'device.refused'");
    assert_eq!(refused.len(), 1, "once a minute");
    assert!(refused[0]["data"].as_str().unwrap().contains("\"limit\""));
}

#[test]
fn addresses_that_are_not_allowed_are_refused() {
    let agent = Agent::start("[devices]\nallow_from = [\"10.0.0.0/8\"]\n");
    assert!(Device::silent(&agent, id()).hear().is_none());
    let refused = agent.rows("SELECT data FROM events WHERE type = 'device.refused'");
    assert!(refused[0]["data"].as_str().unwrap().contains("not_allowed"));
}
