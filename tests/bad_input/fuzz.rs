//! Random bytes and frames that are nearly right, from many sides at once.

use std::io::Write;
use std::os::unix::net::UnixStream;

use chargegate::bkv::Uplink;
use chargegate::ids::MessageId;
use chargegate::sim::Random;

use crate::support::Agent;
use crate::{healthy, numbered};

#[test]
fn seconds_of_random_bytes_from_all_sides_harm_nobody() {
    let agent = Agent::start("");
    let mut beside = healthy(&agent);
    let mut random = Random::new(42);
    for round in 0..200 {
        let mut stranger = std::net::TcpStream::connect(agent.address).unwrap();
        let mut bytes: Vec<u8> = (0..random.within(1, 3000)).map(|_| random.bits().to_le_bytes()[0]).collect();
        if round % 2 == 0 {
            // Frames whose data are random: they reach further in.
            let data: Box<[u8]> = bytes.iter().take(60).copied().collect();
            let command = [0x0000, 0x0005, 0x0007, 0x0015, 0x1000][round % 5];
            bytes = Uplink::Unknown(chargegate::bkv::Unknown { command, sub: None, data })
                .encode(numbered(1), MessageId::DEVICE);
        }
        let _ = stranger.write_all(&bytes);
        let mut client = UnixStream::connect(agent.socket()).unwrap();
        let _ = client.write_all(&bytes);
        beside.heartbeat();
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = resident.split_whitespace().next().unwrap().parse().unwrap();
    assert!(resident < 40 * 1024, "{resident} KiB");
}
