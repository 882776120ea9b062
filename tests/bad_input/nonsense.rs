//! Well-formed frames that make no sense, and commands that nobody knows.

use chargegate::bkv::Uplink;
use chargegate::ids::MessageId;

use crate::support::{Agent, Device, IDLE, end_of, id};
use crate::{healthy, made_right, status_bytes};

#[test]
fn well_formed_nonsense_is_kept_with_its_reason_and_answered_where_there_is_an_answer() {
    let agent = Agent::start("");
    let mut beside = healthy(&agent);
    let mut device = Device::connect(&agent);
    device.status(IDLE);
    // Port 7 in a status: the value of key 08 is changed, the checksum with it.
    let mut frame = status_bytes(IDLE);
    let place = frame.windows(4).position(|four| four == [3, 1, 8, 0]).unwrap() + 3;
    frame[place] = 7;
    device.raw(&made_right(frame));
    device.expect_status_ack(false);
    // An end report that is cut short is acknowledged as well: a device that is not repeats for ever.
    let whole = end_of(0x98, 5, 1, 1).encode(id(), MessageId::DEVICE);
    let mut cut = whole.clone();
    cut.drain(whole.len() - 7..whole.len() - 3);
    device.raw(&made_right(cut));
    device.expect_end_ack();
    // Another gateway in key 03.
    let mut foreign = status_bytes(IDLE);
    let place = foreign.windows(3).position(|three| three == [9, 1, 3]).unwrap() + 3;
    foreign[place + 6] ^= 1;
    device.raw(&made_right(foreign));
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
