//! Every message of the list, whole, cut, bent and enlarged.

use chargegate::bkv::*;
use chargegate::ids::*;
use proptest::prelude::*;

use crate::samples::{self, Message, device};
use crate::vectors::guide;

const ID: MessageId = MessageId(0x1234_5678);

/// The frame with other data, its length and checksum right again.
fn with_data(frame: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = frame[..18].to_vec();
    out.extend_from_slice(data);
    let length = (out.len() + 3 - 4) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
    let sum = out[2..].iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
    out.extend_from_slice(&[sum, 0xfc, 0xee]);
    out
}

fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    Message::decode(&Frame::parse(bytes).unwrap())
}

/// What can be read can be written, and reads the same again. Nothing here may panic.
fn check(bytes: &[u8]) {
    let Ok(frame) = Frame::parse(bytes) else {
        let _ = explain(bytes);
        return;
    };
    let _ = salvage(&frame);
    match Message::decode(&frame) {
        Ok(message) => {
            let written = message.encode(frame.message_id());
            assert_eq!(decode(&written).unwrap(), message);
            assert!(explain(bytes).is_ok());
        }
        Err(error) => {
            assert!(error.offset <= bytes.len() - 3, "{error}");
            assert!(!error.to_string().is_empty());
            let explained = explain(bytes).unwrap_err();
            assert_eq!(explained.offset(), error.offset);
        }
    }
}

#[test]
fn every_message_reads_back_as_it_was_written() {
    for message in samples::all() {
        for id in [ID, MessageId::DEVICE, MessageId(u32::MAX)] {
            let bytes = message.encode(id);
            let frame = Frame::parse(&bytes).unwrap();
            assert_eq!((frame.device(), frame.message_id()), (Some(device()), id));
            assert_eq!(decode(&bytes).unwrap(), message);
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_no_frame() {
    for message in samples::all() {
        let bytes = message.encode(ID);
        for end in 0..bytes.len() {
            assert!(Frame::parse(&bytes[..end]).is_err());
            check(&bytes[..end]);
        }
    }
}

#[test]
fn a_message_whose_data_end_early_is_an_error_or_another_message() {
    for message in samples::all() {
        let bytes = message.encode(ID);
        let data = Frame::parse(&bytes).unwrap().data().to_vec();
        for end in 0..data.len() {
            let cut = with_data(&bytes, &data[..end]);
            check(&cut);
            if let Ok(read) = decode(&cut) {
                assert_ne!(read, message);
            }
        }
    }
}

#[test]
fn fixed_and_counted_messages_refuse_data_that_end_early_or_late() {
    for message in samples::all() {
        let bytes = message.encode(ID);
        let frame = Frame::parse(&bytes).unwrap();
        let counted = matches!(Command::from_code(frame.command()), Command::Network | Command::Control);
        if counted || Command::from_code(frame.command()) == Command::Heartbeat {
            let data = frame.data();
            for end in 0..data.len() {
                assert!(decode(&with_data(&bytes, &data[..end])).is_err());
            }
            assert!(decode(&with_data(&bytes, &[data, &[0]].concat())).is_err());
        }
    }
}

#[test]
fn a_count_that_follows_the_cut_data_does_not_help_a_fixed_layout() {
    for message in samples::all() {
        let bytes = message.encode(ID);
        let frame = Frame::parse(&bytes).unwrap();
        if !matches!(Command::from_code(frame.command()), Command::Network | Command::Control) {
            continue;
        }
        for end in 3..frame.data().len() {
            let mut data = frame.data()[..end].to_vec();
            data[..2].copy_from_slice(&((end - 3) as u16).to_be_bytes());
            check(&with_data(&bytes, &data));
        }
    }
}

#[test]
fn every_single_byte_can_be_anything_without_harm() {
    for message in samples::all() {
        let bytes = message.encode(ID);
        for at in 0..bytes.len() {
            for bend in [0x01, 0x80, 0xff, 0x55] {
                let mut bent = bytes.clone();
                bent[at] ^= bend;
                assert_ne!(Frame::parse(&bent).ok().and_then(|f| Message::decode(&f).ok()), Some(message.clone()));
                check(&bent);
            }
        }
        let data = Frame::parse(&bytes).unwrap().data().to_vec();
        for at in 0..data.len() {
            for value in 0..=u8::MAX {
                let mut bent = data.clone();
                bent[at] = value;
                check(&with_data(&bytes, &bent));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes);
    }

    #[test]
    fn random_data_under_any_command_do_no_harm(
        up in any::<bool>(),
        command in prop_oneof![Just(0u16), Just(5), Just(7), Just(0x15), Just(0x1000), any::<u16>()],
        sub in 0u8..0x20,
        data in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut frame = vec![0xfc, if up { 0xfe } else { 0xff }, 0, 0];
        frame.extend_from_slice(&command.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 0, up.into()]);
        frame.extend_from_slice(&device().bcd());
        check(&with_data(&frame, &data));
        let mut counted = (data.len() as u16).to_be_bytes().to_vec();
        counted.push(sub);
        counted.extend_from_slice(&data);
        check(&with_data(&frame, &counted));
    }

    #[test]
    fn random_items_under_any_sub_command_do_no_harm(
        up in any::<bool>(),
        sub in prop_oneof![Just(0x1004u16), 0x1007u16..0x1020],
        items in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..12)), 0..20),
    ) {
        let sample = if up { guide("status_1017") } else { guide("status_1017_ack") };
        let mut data = sample[18..18 + 26].to_vec();
        data[3..5].copy_from_slice(&sub.to_be_bytes());
        for (key, value) in &items {
            data.extend_from_slice(&[value.len() as u8 + 2, 1, *key]);
            data.extend_from_slice(value);
        }
        // The gateway of the samples is the list's own here, so that `check` can write it back.
        let mut frame = sample[..18].to_vec();
        frame[11..18].copy_from_slice(&device().bcd());
        let at = data.len().min(26) - 7;
        data[at..at + 7].copy_from_slice(&device().bcd());
        check(&with_data(&frame, &data));
    }
}

/// (what is wrong, frame of the guide, where in its data, other bytes, field that is named)
#[test]
fn what_makes_no_sense_is_refused_by_the_name_of_its_field() {
    let table: &[(&str, &str, usize, &[u8], &str)] = &[
        ("port 7 in a status answer", "query_status_answer", 8, &[7], "port"),
        ("the same port twice", "query_status_answer", 22, &[0], "port"),
        ("socket 251", "charge_end", 3, &[251], "socket"),
        ("port 2", "charge_end", 8, &[2], "port"),
        ("n one too high", "charge_end", 1, &[0x12], "n"),
        ("n one too low", "charge_end", 1, &[0x10], "n"),
        ("six tiers", "charge_end_tiers", 32, &[6], "tiers"),
        ("tiers that are not there", "charge_end_card", 32, &[1], "tier_minutes"),
        ("port 9 in an answer", "start_answer", 5, &[9], "port"),
        ("another sub in key 01's place", "status_1017", 2, &[0x77], "sub"),
        ("key 02 missing", "status_1017", 7, &[0x77], "sequence"),
        ("another gateway in key 03", "status_1017", 19, &[0x81], "gateway"),
        ("an item longer than the message", "status_1017", 26, &[0x66], "item length"),
        ("an item of no length", "status_1017", 26, &[1], "item length"),
        ("a key length of two", "status_1017", 27, &[2], "key length"),
        ("socket 251 in an item", "status_1017", 32, &[251], "socket"),
        ("port 7 in an item", "status_1017", 52, &[7], "port"),
        ("two ports A", "status_1017", 93, &[0], "port_item"),
        ("no status in an item", "status_1017", 55, &[0xee], "status"),
        ("no socket item", "status_1017", 28, &[0xee], "socket_item"),
        ("socket given twice", "status_1017", 40, &[0x4a], "socket"),
    ];
    for (what, name, at, other, field) in table {
        let frame = guide(name);
        let mut data = frame[18..frame.len() - 3].to_vec();
        data[*at..at + other.len()].copy_from_slice(other);
        let error = decode(&with_data(&frame, &data)).expect_err(what);
        assert_eq!(error.field, *field, "{what}: {error}");
    }
}

#[test]
fn a_header_that_makes_no_sense_is_a_frame_but_no_message() {
    let good = guide("heartbeat");
    let error = |at: usize, value: u8| {
        let mut bytes = good[..good.len() - 3].to_vec();
        bytes[at] = value;
        decode(&with_data(&bytes, &bytes[18..])).unwrap_err()
    };
    let direction = error(10, 0);
    assert_eq!((direction.field, direction.offset, direction.cause), ("direction", 10, Cause::WrongDirection));
    let gateway = error(11, 0x8a);
    assert_eq!((gateway.field, gateway.offset, gateway.cause), ("gateway", 11, Cause::NotDecimal));
    assert_eq!(gateway.to_string(), "0000 heartbeat: gateway at byte 11: not decimal");
    let frame = Frame::parse(&good).unwrap();
    assert_eq!(Downlink::decode(&frame).unwrap_err().cause, Cause::WrongDirection);
}

#[test]
fn an_error_names_command_field_offset_and_cause() {
    let frame = guide("charge_end");
    let mut data = frame[18..frame.len() - 3].to_vec();
    data[8] = 7;
    let error = decode(&with_data(&frame, &data)).unwrap_err();
    assert_eq!((error.command, error.sub), (0x0015, Some(0x02)));
    assert_eq!((error.field, error.offset, error.cause), ("port", 26, Cause::OutOfRange { value: 7 }));
    assert_eq!(error.to_string(), "0015/02 charge end: port at byte 26: 7 is out of range");
}

/// Unknown keys in the message, a socket and a port, some in a row.
#[test]
fn unknown_items_are_kept_at_their_place() {
    let frame = guide("status_1017");
    let data = &frame[18..frame.len() - 3];
    let extra = |n: u8| [4, 1, 0xe0 + n, n, n];
    let nest = |key: u8, parts: &[&[u8]]| {
        let value = parts.concat();
        [&[value.len() as u8 + 2, 1, key][..], &value].concat()
    };
    let (head, socket, port_a, port_b) = (&data[..26], &data[29..46], &data[49..87], &data[90..128]);
    let port_a = nest(0x5b, &[&port_a[..4], &extra(1), &extra(2), &port_a[4..]]);
    let port_b = nest(0x5b, &[port_b, &extra(7)]);
    let kept = [extra(4), extra(5), extra(6)].concat();
    let item = nest(0x94, &[&extra(3), socket, &port_a, &kept, &port_b]);
    let data = [head, &extra(8), &extra(9), &item, &extra(10)].concat();
    let bytes = with_data(&frame, &data);

    let message = Uplink::decode(&Frame::parse(&bytes).unwrap()).unwrap();
    let Uplink::Status(report) = &message else { panic!("another message") };
    assert_eq!(report.extras.iter().map(|e| e.key()).collect::<Vec<_>>(), [0xe8, 0xe9, 0xea]);
    assert_eq!(report.first.extras.len(), 7);
    assert_eq!(report.first.extras[0].value(), [3, 3]);
    assert_eq!(message.encode("82231214002700".parse().unwrap(), MessageId::DEVICE), bytes);
    assert!(explain(&bytes).unwrap().to_string().contains("key e1 unknown, kept: 0101"));
}

#[test]
fn a_sequence_that_is_not_the_message_id_is_kept_and_can_be_repeated() {
    let frame = guide("status_1017");
    let mut data = frame[18..frame.len() - 3].to_vec();
    data[15] = 9;
    let Message::Up(Uplink::Status(report)) = decode(&with_data(&frame, &data)).unwrap() else {
        panic!("another message")
    };
    assert_eq!(report.sequence, Sequence::Other(9));
    let ack = Downlink::StatusAck(StatusAck::new(report.sequence, ResultByte::OK));
    let ack = ack.encode(device(), MessageId::DEVICE);
    assert_eq!(Frame::parse(&ack).unwrap().data()[5..16], [10, 1, 2, 0, 0, 0, 0, 0, 0, 0, 9]);
}

#[test]
fn an_unknown_command_or_sub_command_is_no_error() {
    for (command, data) in [(0x0042u16, &[1u8, 2, 3][..]), (0x0015, &[0, 1, 0x99, 5]), (0x0005, &[0, 0, 0x55])] {
        let mut frame = guide("heartbeat")[..18].to_vec();
        frame[4..6].copy_from_slice(&command.to_be_bytes());
        let Message::Up(Uplink::Unknown(unknown)) = decode(&with_data(&frame, data)).unwrap() else { panic!("known") };
        assert_eq!((unknown.command, &*unknown.data), (command, data));
    }
}

#[test]
fn an_end_report_that_cannot_be_read_whole_can_still_be_acknowledged() {
    let saved = |frame: &[u8], data: &[u8]| {
        let bytes = with_data(frame, data);
        let frame = Frame::parse(&bytes).unwrap();
        assert!(Uplink::decode(&frame).is_err());
        salvage(&frame).map(|s| (s.kind, s.socket, s.port))
    };
    let end = |kind| SalvagedKind::End(kind);
    let frame = guide("charge_end");
    let data = &frame[18..frame.len() - 3];
    assert_eq!(saved(&frame, &data[..3]), Some((end(EndKind::Charge), None, None)));
    assert_eq!(saved(&frame, &data[..5]), Some((end(EndKind::Charge), Some(2), None)));
    assert_eq!(saved(&frame, &data[..12]), Some((end(EndKind::Charge), Some(2), Some(0))));
    assert_eq!(saved(&frame, &data[..2]), None);
    let frame = guide("charge_end_tiers");
    assert_eq!(saved(&frame, &frame[18..40]), Some((end(EndKind::Tiers), Some(1), Some(0))));
    let frame = guide("charge_end_card");
    assert_eq!(saved(&frame, &frame[18..40]), Some((end(EndKind::Card), Some(1), Some(0))));
    let frame = guide("charge_end_1004");
    assert_eq!(saved(&frame, &frame[18..60]), Some((end(EndKind::Fee), Some(1), Some(0))));
    let frame = guide("status_1017");
    assert_eq!(saved(&frame, &frame[18..60]), Some((SalvagedKind::Status, None, None)));
    let frame = guide("abnormal_event_1010");
    let (cut, whole) = (&frame[18..50], Frame::parse(&frame).unwrap());
    assert_eq!(saved(&frame, cut), Some((SalvagedKind::Abnormal, Some(2), None)));
    assert_eq!(salvage(&whole).map(|s| s.kind), Some(SalvagedKind::Abnormal));
    assert_eq!(salvage(&Frame::parse(&guide("heartbeat")).unwrap()), None);
}

#[test]
fn a_device_clock_that_names_no_day_does_not_spoil_its_end_report() {
    let frame = guide("charge_end_1004");
    let mut data = frame[18..frame.len() - 3].to_vec();
    let at = data.windows(3).position(|w| w == [9, 1, 0x2e]).unwrap() + 3;
    data[at..at + 7].copy_from_slice(&[0xff; 7]);
    let Message::Up(message) = decode(&with_data(&frame, &data)).unwrap() else { panic!("down") };
    let time = message.end_report().unwrap().device_end_time.unwrap();
    assert_eq!((time.fields(), time.raw()), (None, [0xff; 7]));
}

#[test]
fn fee_tiers_come_in_one_item_or_in_several() {
    let frame = guide("start_by_fee_1007_corrected");
    let mut data = frame[18..frame.len() - 3].to_vec();
    data.extend_from_slice(&[8, 1, 0x83, 12, 0, 0, 50, 0, 50]);
    let error = decode(&with_data(&frame, &data)).unwrap_err();
    assert_eq!((error.field, error.cause), ("tiers", Cause::Length { declared: 1, found: 2 }));
    let at = data.windows(3).position(|w| w == [3, 1, 0x89]).unwrap() + 3;
    data[at] = 2;
    let Message::Down(Downlink::StartByFee(start)) = decode(&with_data(&frame, &data)).unwrap() else {
        panic!("another message")
    };
    assert_eq!(start.tiers.len(), 2);
}
