//! Bad input never ends the agent, blocks another device, or loses the good frame next to it (contract §5): the real
//! program, with a healthy device beside it that is served throughout.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use chargegate::bkv::Uplink;
use chargegate::ids::{DeviceId, MessageId, PortNo};
use chargegate::sim::Random;
use serde_json::{Value, json};
use support::{Agent, Client, Device, FAST, IDLE, charging, end_of, id, needs, start, wait_for};

fn healthy_id() -> DeviceId {
    "82241218000777".parse().unwrap()
}

/// A device beside the bad one.
fn healthy(agent: &Agent) -> Device {
    let mut device = Device::connect_as(agent, healthy_id());
    device.status(IDLE);
    device
}

fn heartbeat_bytes(id: DeviceId) -> Vec<u8> {
    let heartbeat = chargegate::bkv::Heartbeat {
        iccid: chargegate::bkv::AsciiText::new("89860446112070301941").unwrap(),
        firmware: chargegate::bkv::AsciiText::new("v1.146").unwrap(),
        rssi: 28,
    };
    Uplink::Heartbeat(heartbeat).encode(id, MessageId::DEVICE)
}

fn broken(mut frame: Vec<u8>) -> Vec<u8> {
    let checksum = frame.len() - 3;
    frame[checksum] ^= 0x55;
    frame
}

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

#[test]
fn well_formed_nonsense_is_kept_with_its_reason_and_answered_where_there_is_an_answer() {
    let agent = Agent::start("");
    let mut beside = healthy(&agent);
    let mut device = Device::connect(&agent);
    device.status(IDLE);
    // Port 7 in a status: the value of key 08 is changed, the checksum with it.
    let status = Uplink::Status(chargegate::bkv::StatusReport::of(support::socket_status(&[(PortNo::A, IDLE)])));
    let mut frame = status.encode(id(), MessageId::DEVICE);
    let place = frame.windows(4).position(|four| four == [3, 1, 8, 0]).unwrap() + 3;
    frame[place] = 7;
    device.raw(&summed(frame));
    device.expect_status_ack(false);
    // An end report that is cut short is acknowledged as well: a device that is not repeats for ever.
    let whole = end_of(0x98, 5, 1, 1).encode(id(), MessageId::DEVICE);
    let mut cut = whole.clone();
    cut.drain(whole.len() - 7..whole.len() - 3);
    let length = u16::try_from(cut.len() - 4).unwrap();
    cut[2..4].copy_from_slice(&length.to_be_bytes());
    device.raw(&summed(cut));
    device.expect_end_ack();
    // Another gateway in key 03.
    let mut foreign = status.encode(id(), MessageId::DEVICE);
    let place = foreign.windows(3).position(|three| three == [9, 1, 3]).unwrap() + 3;
    foreign[place + 6] ^= 1;
    device.raw(&summed(foreign));
    device.expect_status_ack(false);
    let unknown = Uplink::Unknown(chargegate::bkv::Unknown { command: 0x4242, sub: None, data: Box::from([1, 2, 3]) });
    device.say(&unknown);
    device.heartbeat();
    beside.heartbeat();
    let kept =
        agent.rows("SELECT verdict, reason FROM journal WHERE verdict IN ('malformed', 'unsupported') ORDER BY id");
    let verdicts: Vec<&str> = kept.iter().map(|row| row["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["malformed", "malformed", "malformed", "unsupported"]);
    assert!(kept[..3].iter().all(|row| row["reason"].is_string()), "{kept:?}");
}

/// With its checksum set right.
fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    let end = frame.len() - 3;
    frame[end] = frame[2..end].iter().fold(0, |sum, byte| sum.wrapping_add(*byte));
    frame
}

#[test]
fn a_reader_that_does_not_read_is_closed_and_nobody_waits_for_it() {
    let agent = Agent::start("");
    let mut beside = healthy(&agent);
    let mut device = Device::connect(&agent);
    let status = Uplink::Status(chargegate::bkv::StatusReport::of(support::socket_status(&[(PortNo::A, IDLE)])));
    let frames = status.encode(id(), MessageId::DEVICE).repeat(100);
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

fn numbered(place: u32) -> DeviceId {
    chargegate::sim::fleet::device_id(place).unwrap()
}

#[test]
fn addresses_that_are_not_allowed_are_refused() {
    let agent = Agent::start("[devices]\nallow_from = [\"10.0.0.0/8\"]\n");
    assert!(Device::silent(&agent, id()).hear().is_none());
    let refused = agent.rows("SELECT data FROM events WHERE type = 'device.refused'");
    assert!(refused[0]["data"].as_str().unwrap().contains("not_allowed"));
}

#[test]
fn lines_that_are_no_commands_get_their_code_and_the_next_one_is_served() {
    let agent = Agent::start("");
    let mut beside = healthy(&agent);
    let mut client = Client::connect(&agent);
    let deep = "[".repeat(10_000).into_bytes();
    let lines: [&[u8]; 5] = [b"nonsense", b"\"text\"", b"{\"id\":\"\xff\"}", &deep, b"{\"type\":\"get_order\"}"];
    for line in lines {
        client.send(line);
        let reply = client.reply();
        let code = if line.starts_with(b"{\"type") { "missing_field" } else { "invalid_json" };
        assert_eq!(
            (&reply["id"], &reply["result"], &reply["error"]["code"]),
            (&Value::Null, &json!("rejected"), &json!(code))
        );
    }
    client.send(&[b'x'; 64 * 1024 + 1]);
    assert_eq!(client.reply()["error"]["code"], "invalid_json");
    let mut clients: Vec<Client> = (0..128).map(|_| Client::connect(&agent)).collect();
    for (place, client) in clients.iter_mut().enumerate() {
        client.send(json!({ "id": place.to_string(), "type": "get_order", "order_no": "none" }).to_string().as_bytes());
    }
    for (place, client) in clients.iter().enumerate() {
        assert_eq!(client.reply()["id"], place.to_string());
    }
    beside.heartbeat();
}

#[test]
fn a_client_that_closed_its_side_still_gets_its_reply() {
    let agent = Agent::start("");
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    stream.write_all(b"{\"id\":\"half\",\"type\":\"get_order\",\"order_no\":\"none\"}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("\"half\""), "{reply}");
}

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

/// Files that take the whole disk: what is left is less than a page.
fn fill(agent: &Agent) {
    let mut file = File::create(agent.inside("disk/fill")).unwrap();
    for size in [64 * 1024, 4096, 512, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

fn free(agent: &Agent) {
    std::fs::remove_file(agent.inside("disk/fill")).unwrap();
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_that_is_not_kept_and_it_comes_back_by_itself() {
    let mut agent = Agent::on_small_disk(4, &format!("{FAST}[alerts]\nclear_after = \"1s\"\n"));
    let mut beside = healthy(&agent);
    let mut device = Device::connect(&agent);
    device.status_of(&[(PortNo::A, IDLE), (PortNo::B, IDLE)]);
    let order_no = device.run_order(&agent, 26, 60);
    device.status_of(&[(PortNo::A, charging(26, 1, 0)), (PortNo::B, IDLE)]);
    fill(&agent);
    // Statuses and heartbeats go on, on both devices.
    device.status_of(&[(PortNo::A, charging(26, 2, 0)), (PortNo::B, IDLE)]);
    device.heartbeat();
    beside.heartbeat();
    // A start is refused, and nothing is sent for it.
    let mut second = start(60);
    second["port"] = 1.into();
    let reply = agent.command(second.clone());
    assert_eq!((&reply["result"], &reply["error"]["code"]), (&json!("rejected"), &json!("store_full")), "{reply}");
    device.heartbeat();
    // A stop goes out, and its reply is given; an end that could not be kept does not stand in its way.
    device.end(0x80, 26, 3, 1);
    device.heartbeat();
    let client = agent.begin(json!({ "type": "stop_charge", "order_no": order_no }));
    let stop = device.expect_stop();
    device.answer(stop, true, 26);
    assert_eq!(client.reply()["result"], "done");
    // The end is not acknowledged: the device will repeat it.
    let taken_back = |agent: &Agent| agent.log().matches("commit taken back").count();
    let before = taken_back(&agent);
    device.end(0x80, 26, 3, 1);
    wait_for("the commits to fail", || {
        device.heartbeat();
        beside.heartbeat();
        (taken_back(&agent) >= before + 2).then_some(())
    });
    free(&agent);
    device.end(0x80, 26, 3, 1);
    device.expect_end_ack();
    let order = agent.order();
    assert_eq!(
        (&order["status"], &order["settlement"], &order["energy_wh"]),
        (&json!(7), &json!("reported"), &json!(3))
    );
    assert_eq!(agent.events("order"), ["order.started", "order.completed"], "counted once");
    wait_for("the alert", || (agent.events("alert") == ["alert.raised", "alert.cleared"]).then_some(()));
    let alert = agent.rows("SELECT rule, severity, cleared_at FROM alerts").pop().unwrap();
    assert_eq!((&alert["rule"], &alert["severity"]), (&json!("store_failing"), &json!("critical")));
    assert!(alert["cleared_at"].is_i64());
    // The refused start is not remembered.
    second["id"] = "again".into();
    let client = agent.begin(second);
    device.expect_start();
    drop(client);
    assert_eq!(agent.rows("PRAGMA integrity_check")[0]["integrity_check"], "ok");
    assert!(agent.end().success());
}

/// `strace` that makes every sync of the agent fail from now on.
fn fail_syncs(agent: &Agent) -> Child {
    needs("strace", "strace");
    let mut strace = Command::new("strace")
        .args(["-f", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", "-p"])
        .arg(agent.id().to_string())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines();
    let attached = lines.next().unwrap().unwrap();
    assert!(attached.contains("attached"), "{attached}");
    // What it goes on to say has to be read, or it stops.
    std::thread::spawn(move || lines.for_each(drop));
    strace
}

#[test]
fn a_store_that_fails_ends_the_agent_at_once_and_what_was_committed_is_there_after_the_restart() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 7);
    device.status(charging(26, 1, 0));
    let mut strace = fail_syncs(&agent);
    device.end(0xb0, 26, 2, 1);
    assert!(device.hear().is_none(), "no acknowledgement, the connection ends");
    assert_eq!(agent.ended().code(), Some(1));
    strace.wait().unwrap();
    let last = agent.log().lines().last().unwrap().to_owned();
    assert!(last.starts_with("chargegate: run: store: cannot commit"), "{last}");
    agent.run();
    let mut device = Device::connect(&agent);
    device.expect_question();
    device.ends(0xb0, 26, 2, 1);
    assert_eq!(agent.order()["settlement"], "reported");
    assert_eq!(agent.events("order"), ["order.started", "order.completed"], "whether or not the failed commit took");
}

#[test]
fn a_store_of_a_newer_version_is_refused_untouched() {
    let mut agent = Agent::start("");
    assert!(agent.end().success());
    let db = rusqlite::Connection::open(agent.path("store.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    db.close().unwrap();
    let before = std::fs::read(agent.path("store.db")).unwrap();
    agent.spawn();
    assert_eq!(agent.ended().code(), Some(2));
    assert_eq!(std::fs::read(agent.path("store.db")).unwrap(), before);
    assert_eq!(agent.log().lines().count(), 1, "{}", agent.log());
}
