//! Bytes that are no frames, and parts of frames.

use crate::support::{Agent, Device, id};
use crate::{broken, healthy, heartbeat_bytes};

#[test]
fn good_frames_between_noise_and_broken_ones_are_answered() {
    let agent = Agent::start("");
    let mut beside = healthy(&agent);
    let mut device = Device::connect(&agent);
    let good = heartbeat_bytes(id());
    let mut lying = good.clone();
    (lying[2], lying[3]) = (0x0f, 0x00);
    for bad in [
        b"noise \xfc\xfe\xff\xff".to_vec(),
        broken(good.clone()),
        good[..good.len() - 1].to_vec(),
        lying,
        vec![0xfc; 40],
    ] {
        device.raw(&bad);
        device.heartbeat();
        beside.heartbeat();
    }
}

#[test]
fn a_frame_inside_one_whose_length_lies_is_served_at_once() {
    let agent = Agent::start("");
    let mut device = Device::connect(&agent);
    device.raw(&[0xfc, 0xfe, 0x0f, 0x00, 0x10, 0x00, 1, 2, 3]);
    device.heartbeat();
}

#[test]
fn twenty_errors_without_a_good_frame_close_and_fewer_do_not() {
    let agent = Agent::start("");
    let mut beside = healthy(&agent);
    let mut device = Device::connect(&agent);
    for _ in 0..3 {
        (0..19).for_each(|_| device.raw(&broken(heartbeat_bytes(id()))));
        device.heartbeat();
    }
    (0..20).for_each(|_| device.raw(&broken(heartbeat_bytes(id()))));
    assert!(device.hear().is_none(), "closed");
    beside.heartbeat();
    Device::connect(&agent);
}
