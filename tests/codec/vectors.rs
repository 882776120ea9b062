//! The guide's frames (`vectors/guide.tsv`) and the reading that is expected of them (`vectors/readings.tsv`).

use chargegate::bkv::*;
use chargegate::ids::*;

use crate::samples::Message;

const GUIDE: &str = include_str!("../vectors/guide.tsv");
const READINGS: &str = include_str!("../vectors/readings.tsv");

struct Vector {
    name: &'static str,
    ok: bool,
    hex: &'static str,
}

fn vectors() -> Vec<Vector> {
    let rows = GUIDE.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    rows.map(|row| {
        let columns: Vec<_> = row.split('\t').collect();
        Vector { name: columns[0], ok: columns[1] == "ok", hex: columns[2] }
    })
    .collect()
}

pub fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

pub fn guide(name: &str) -> Vec<u8> {
    bytes(vectors().into_iter().find(|v| v.name == name).unwrap().hex)
}

pub fn good_frames() -> Vec<Vec<u8>> {
    vectors().into_iter().filter(|v| v.ok).map(|v| bytes(v.hex)).collect()
}

fn uplink(name: &str) -> Uplink {
    Uplink::decode(&Frame::parse(&guide(name)).unwrap()).unwrap()
}

fn downlink(name: &str) -> Downlink {
    Downlink::decode(&Frame::parse(&guide(name)).unwrap()).unwrap()
}

#[test]
fn every_good_frame_of_the_guide_is_read_and_written_back_to_the_same_bytes() {
    let good = good_frames();
    assert_eq!(good.len(), 35);
    for bytes in good {
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!(frame.bytes(), bytes);
        let device = frame.device().unwrap();
        let message = Message::decode(&frame).unwrap();
        let written = match &message {
            Message::Up(m) => m.encode(device, frame.message_id()),
            Message::Down(m) => m.encode(device, frame.message_id()),
        };
        assert_eq!(written, bytes, "{message:?}");
        assert!(!matches!(message, Message::Up(Uplink::Unknown(_)) | Message::Down(Downlink::Unknown(_))));
    }
}

#[test]
fn the_bad_frames_of_the_guide_are_refused_with_their_reason() {
    let error = Frame::parse(&guide("start_by_time")).unwrap_err();
    assert_eq!(error, FrameError::BadChecksum { offset: 29, expected: 0xd8, found: 0xc8 });
    let error = Frame::parse(&guide("start_by_fee_1007")).unwrap_err();
    assert_eq!(error, FrameError::LengthDisagrees { declared: 99, found: 89 });
    assert_eq!(vectors().iter().filter(|v| !v.ok).count(), 2);
}

/// Every field of every good frame, as people are told it.
#[test]
fn every_field_of_the_guide_reads_as_expected() {
    let mut found = String::from("# frame\toffset\tfield\treading\n");
    for vector in vectors().iter().filter(|v| v.ok) {
        let explanation = explain_hex(vector.hex).unwrap();
        found += &format!("{}\t\t\t{}\n", vector.name, explanation.title);
        // The header stands in the title, the trailer was checked.
        for line in explanation.lines.iter().filter(|line| line.offset >= 18 && line.field != "tail") {
            found += &format!("{}\t{}\t{}\t{}\n", vector.name, line.offset, line.field, line.meaning);
        }
    }
    for (found, expected) in found.lines().zip(READINGS.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), READINGS.lines().count());
}

#[test]
fn the_explanation_covers_every_byte_of_a_frame_once() {
    for bytes in good_frames() {
        let mut next = 0;
        for line in explain(&bytes).unwrap().lines {
            // In front of an item stand its length, key length and key.
            assert!(line.offset == next || line.offset == next + 3, "{line} should stand at {next}");
            if !line.raw.is_empty() {
                assert_eq!(bytes[line.offset..line.offset + line.raw.len()], line.raw);
            }
            next = if line.raw.is_empty() { line.offset + 3 } else { line.offset + line.raw.len() };
        }
        assert_eq!(next, bytes.len());
    }
}

#[test]
fn an_explanation_says_what_is_wrong_and_where() {
    let why = |hex: &str| {
        let error = explain_hex(hex).unwrap_err();
        (error.offset(), error.to_string())
    };
    let good = "fcff00150015001c91ee008600445945300500011d0181fcee";
    assert_eq!(why(""), (0, "too short: 0 bytes, the smallest frame has 21".into()));
    assert_eq!(why("fcff00zz"), (3, "not hex: 'z'".into()));
    assert_eq!(why("fcff0"), (2, "not hex: half a byte at the end".into()));
    assert_eq!(why("00ff0015"), (0, "no head".into()));
    assert_eq!(why("fc000015"), (1, "no head".into()));
    assert_eq!(why("fcff0015"), (4, "too short: 4 bytes, the smallest frame has 21".into()));
    assert_eq!(why(&good[..48]), (2, "length disagrees: it says 21 bytes follow it, 20 do".into()));
    assert_eq!(why(&format!("{good}0001")), (25, "2 trailing bytes after the frame".into()));
    assert_eq!(why(&good.replace("81fcee", "82fcee")), (22, "wrong checksum: 82, the bytes make 81".into()));
    assert_eq!(why(&good.replace("81fcee", "81fcef")), (23, "bad tail: fcef instead of fcee".into()));
    assert_eq!(
        why(&good.replace("fcff0015", "fcff0010")),
        (2, "length out of bounds: it says 16, a frame has 17 to 4092 bytes after it".into())
    );
    assert!(explain_hex(&good.to_uppercase()).is_ok());
    assert!(explain_hex(" fc ff 00150015001c91ee008600445945300500011d0181 fcee\n").is_ok());
}

#[test]
fn a_charge_end_by_tiers_gives_all_that_the_guide_says() {
    let end = uplink("charge_end_tiers").end_report().unwrap();
    assert_eq!(end.kind, EndKind::Tiers);
    assert_eq!((end.socket.get(), end.port), (1, PortNo::A));
    assert_eq!(end.status, StatusByte::NO_LOAD);
    assert_eq!(end.business_no, BusinessNo::new(23));
    assert_eq!((end.power, end.current), (DeciWatts(0), Some(MilliAmperes(2))));
    assert_eq!((end.energy_units, end.minutes), (EnergyUnits(1), Minutes(36)));
    assert_eq!(end.temperature_c, Some(45));
    assert_eq!(end.device_end_time.unwrap().to_string(), "2020-06-08 14:21:07");
    assert_eq!(end.raw_reason, Some(2));
    assert_eq!((end.amount, end.settlement_power), (Some(Cents(15)), Some(DeciWatts(0))));
    let minutes: Vec<_> = end.tiers.iter().map(|tier| (tier.minutes.0, tier.energy_units)).collect();
    assert_eq!(minutes, [(36, None), (0, None), (0, None), (0, None), (0, None)]);
    assert_eq!((end.electricity_fee, end.service_fee, end.card_no), (None, None, None));
}

#[test]
fn the_other_charge_ends_give_all_that_the_guide_says() {
    let end = uplink("charge_end").end_report().unwrap();
    assert_eq!((end.kind, end.socket.get(), end.port), (EndKind::Charge, 2, PortNo::A));
    assert_eq!((end.business_no, end.energy_units, end.minutes), (BusinessNo::new(104), EnergyUnits(80), Minutes(45)));
    assert_eq!((end.temperature_c, end.raw_reason, end.amount), (Some(48), None, None));

    let end = uplink("charge_end_card").end_report().unwrap();
    assert_eq!((end.kind, end.business_no, end.minutes), (EndKind::Card, BusinessNo::new(26), Minutes(31)));
    assert_eq!(end.card_no.unwrap().to_string(), "000000000002");
    assert!(end.tiers.is_empty());

    let end = uplink("charge_end_1004").end_report().unwrap();
    assert_eq!((end.kind, end.socket.get(), end.port), (EndKind::Fee, 1, PortNo::A));
    assert_eq!((end.business_no, end.minutes, end.raw_reason), (BusinessNo::new(51), Minutes(1), Some(8)));
    assert_eq!(end.device_end_time.unwrap().to_string(), "2024-08-23 10:17:29");
    assert_eq!((end.electricity_fee, end.service_fee, end.amount), (Some(Cents(0)), Some(Cents(0)), Some(Cents(0))));
    assert_eq!(*end.tiers, [TierUse { minutes: Minutes(1), energy_units: Some(0) }]);
}

#[test]
fn a_status_report_and_a_query_answer_give_the_same_view() {
    let report = uplink("status_1017");
    let statuses: Vec<_> = report.socket_statuses().collect();
    assert_eq!(statuses.len(), 1);
    assert_eq!((statuses[0].socket.get(), statuses[0].firmware, statuses[0].known_firmware()), (1, 0xffff, None));
    assert_eq!((statuses[0].temperature_c, statuses[0].rssi, statuses[0].ports.len()), (37, 30, 2));
    let port = statuses[0].port(PortNo::B).unwrap();
    assert_eq!((port.status, port.business_no), (StatusByte::IDLE, None));
    assert_eq!((port.voltage, port.power, port.current), (DeciVolts(2275), DeciWatts(0), MilliAmperes(1)));

    let answer = uplink("query_status_answer");
    let status = answer.socket_statuses().next().unwrap();
    assert_eq!((status.socket.get(), status.known_firmware()), (1, Some(0x5136)));
    assert_eq!((status.temperature_c, status.rssi), (41, 21));
    assert_eq!(status.port(PortNo::A).unwrap().voltage, DeciVolts(2287));
}

#[test]
fn a_start_answer_gives_the_business_number() {
    let answer = uplink("start_answer").start_answer().unwrap();
    assert!(answer.ok);
    assert_eq!(answer.socket, SocketNo::new(2));
    assert_eq!((answer.port, answer.business_no), (Some(PortNo::A), BusinessNo::new(104)));
}

#[test]
fn what_the_site_says_is_written_as_the_guide_shows_it() {
    let device = |name: &str| Frame::parse(&guide(name)).unwrap().device().unwrap();
    let socket = SocketNo::new(1).unwrap();
    let ack = Downlink::EndAck(EndAck::ok(socket));
    assert_eq!(ack.encode(device("charge_end_card_ack"), MessageId::DEVICE), guide("charge_end_card_ack"));
    let ack = Downlink::FeeEndAck(FeeEndAck::new(Sequence::MessageId, ResultByte::OK, 1, 0));
    assert_eq!(ack.encode(device("charge_end_1004_ack"), MessageId::DEVICE), guide("charge_end_1004_ack"));
    let ack = Downlink::StatusAck(StatusAck::new(Sequence::MessageId, ResultByte::OK));
    assert_eq!(ack.encode(device("status_1017_ack"), MessageId::DEVICE), guide("status_1017_ack"));
    let start = Downlink::Switch(Switch {
        socket: SocketNo::new(2).unwrap(),
        port: PortNo::A,
        order: SwitchOrder::Time(Minutes(240)),
    });
    let good = guide("start_by_time_corrected");
    assert_eq!(start.encode(device("start_by_time_corrected"), MessageId(0x001c_9a51)), good);
}

#[test]
fn a_start_by_fee_carries_its_tiers() {
    let Downlink::StartByFee(start) = downlink("start_by_fee_1007_corrected") else { panic!("another message") };
    assert_eq!((start.amount, start.service_fee_by), (Cents(100), ServiceFeeBy::Energy));
    let tier = FeeTier { until_hour: 23, until_minute: 59, electricity: Cents(50), service: Cents(50) };
    assert_eq!(*start.tiers, [tier]);
}

#[test]
fn an_abnormal_event_can_be_asked_for_its_keys() {
    let Uplink::Abnormal(event) = uplink("abnormal_event_1010") else { panic!("another message") };
    assert_eq!(event.socket.get(), 2);
    assert_eq!(event.number(Key::SocketReason), Some(8));
    assert_eq!(event.number(Key::OverVoltage), Some(2236));
    assert_eq!(event.number(Key::PortBStatus), Some(0xb0));
    assert_eq!(event.number(Key::Amount), None);
}

#[test]
fn a_card_that_is_turned_down_gets_its_own_number_back() {
    let Uplink::CardSwipe(swipe) = uplink("card_swipe") else { panic!("another message") };
    let frame = Downlink::CardOrder(swipe.turned_down()).encode("86004459453005".parse().unwrap(), MessageId(5));
    assert_eq!(Frame::parse(&frame).unwrap().data(), [0, 10, 0x0b, 1, 0, 0, 0x1a, 0, 0, 0, 0, 0, 0]);
}
