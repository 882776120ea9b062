//! What devices say, byte by byte as the vendor's guide has it, and the bytes that answer it.

use chargegate::bkv::{Downlink, Unknown, Uplink};
use chargegate::ids::{DeviceId, MessageId, PortNo};
use serde_json::{Value, json};

use crate::bytes::{framed, hex, unhex, uplink};
use crate::support::{Agent, Device, FAST, IDLE, Shows, charging, id, wait_for};

/// Says a frame of the guide on a connection of its own and gives the bytes that come back.
fn answer_to(agent: &Agent, id: &str, frame: &str) -> String {
    let mut device = Device::silent(agent, id.parse().unwrap());
    device.raw(&unhex(frame));
    // Sockets that are heard of for the first time are asked what they do.
    while let (_, Downlink::QueryStatus(_)) = device.hear().unwrap() {}
    hex(&device.last)
}

const CHARGE_END: &str = "fcfe00250015000000000186004459453005001102025036302000980068000000010050002d41fcee";
const TIERS_END: &str = "fcfe003c00150000000001860044594530050028180151362d2000980017000000020001002407e406080e150702000f0000050024000000000000000037fcee";
const CARD_END: &str =
    "fcfe00320015000000000186004459453005001e0c0151362d200098001a000000020002001f00000000000200010000000000bcfcee";
const FEE_END: &str = "fcfe007d100000000000018221022500052004010110040a01020000000000000000090103822102250005200301072a03014a01030108000301099804010a003304010b000004010c000004010d000004010e000109012e2024082310172903012f08030112040401850000040186000003018901080184000100000000dbfcee";
const ABNORMAL: &str = "fcfe006b100000000000018223081100144704010110100a010200000000000000000901038223081100144703014a020301540803014b000301550003014c000301560003014d0004014e08bc04014f08bc04015000000401510000030152000301530003015780030158b0affcee";
const STATUS: &str = "fcfe0091100000000000018223121400270004010110170a010200000000000000000901038223121400270065019403014a0104013effff030107250301961e28015b030108000301098004010a000004019508e304010b000004010c000104010d000004010e000028015b030108010301098004010a000004019508e304010b000004010c000104010d000004010e000030fcee";
const SWIPE: &str =
    "fcfe00330015000000000186004459453005001f0b0100001a900000000000020000000000000000000000000000000000000000bdfcee";

#[test]
fn the_guides_own_reports_get_the_guides_own_acknowledgements() {
    let agent = Agent::start("");
    let ended = "86004459453005";
    // `02`, `18` and `0c` are all silenced by the `0c` form under message id 0, which names the socket.
    let usual = |socket: u8| hex(&framed(0x0015, ended, 0, &[0, 2, 0x0c, socket, 1]));
    assert_eq!(answer_to(&agent, ended, CHARGE_END), usual(2));
    assert_eq!(answer_to(&agent, ended, TIERS_END), usual(1));
    assert_eq!(answer_to(&agent, ended, CARD_END), "fcff0016001500000000008600445945300500020c0101d8fcee");
    assert_eq!(
        answer_to(&agent, "82210225000520", FEE_END),
        "fcff0037100000000000008221022500052004010110040a010200000000000000000901038221022500052003010f0103014a0103010800c8fcee"
    );
    assert_eq!(
        answer_to(&agent, "82230811001447", ABNORMAL),
        "fcff0033100000000000008223081100144704010110100a010200000000000000000901038223081100144703014a0203010f0119fcee"
    );
    assert_eq!(
        answer_to(&agent, "82231214002700", STATUS),
        "fcff002f100000000000008223121400270004010110170a010200000000000000000901038223121400270003010f017efcee"
    );
    // None of these ends is anybody's: acknowledged, kept, told once each.
    assert_eq!(agent.events("order"), ["order.unknown_end"; 4]);
    let unknown = agent.rows("SELECT data FROM events WHERE type = 'order.unknown_end' ORDER BY seq");
    let first: Value = serde_json::from_str(unknown[0]["data"].as_str().unwrap()).unwrap();
    assert_eq!(
        first,
        json!({ "device": ended, "socket": 2, "port": 0, "business_no": 0x68, "energy_wh": 80, "minutes": 45 })
    );
    let kept = agent.rows("SELECT count(*) AS n FROM journal WHERE verdict = 'unmatched' AND direction = 'up'");
    assert_eq!(kept[0]["n"], 4);
    assert_eq!(agent.rows("SELECT count(*) AS n FROM orders")[0]["n"], 0);
}

#[test]
fn a_model_that_wants_its_sub_command_back_gets_it_echoed() {
    let agent = Agent::start("[[models]]\ndevice_model = \"E\"\nend_ack = \"echo\"\n");
    let ended = "86004459453005";
    agent.command(json!({ "type": "set_device", "device": ended, "device_model": "E" }));
    for (frame, sub, socket) in [(CHARGE_END, 0x02, 2), (TIERS_END, 0x18, 1), (CARD_END, 0x0c, 1)] {
        let expected = hex(&framed(0x0015, ended, 0, &[0, 2, sub, socket, 1]));
        assert_eq!(answer_to(&agent, ended, frame), expected, "{sub:02x}");
    }
}

#[test]
fn a_swiped_card_is_turned_down_under_our_message_id_with_the_swipes_number() {
    let agent = Agent::start("");
    let swiped = "86004459453005";
    let mut device = Device::silent(&agent, swiped.parse().unwrap());
    let mut ids = Vec::new();
    for _ in 0..2 {
        device.raw(&unhex(SWIPE));
        let (message_id, _) = device.hear().unwrap();
        let off = [0, 10, 0x0b, 1, 0, 0, 0x1a, 0, 0, 0, 0, 0, 0];
        assert_eq!(hex(&device.last), hex(&framed(0x0015, swiped, message_id.0, &off)));
        ids.push(message_id);
    }
    assert!(ids[0] != ids[1] && !ids.contains(&MessageId::DEVICE), "{ids:?}");
    let told = agent.rows("SELECT data FROM events WHERE type = 'card.refused'");
    let data: Value = serde_json::from_str(told[0]["data"].as_str().unwrap()).unwrap();
    assert_eq!((told.len(), &data["card_no"], &data["business_no"]), (1, &json!("000000000002"), &json!(26)));
}

#[test]
fn what_has_no_answer_is_kept_and_not_answered() {
    let agent = Agent::start("");
    let mut device = Device::connect(&agent);
    // `1013`, sent once after each reconnect: kept, no error.
    let mut items = vec![4, 1, 1, 0x10, 0x13, 10, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1, 3];
    items.extend(id().bcd());
    items.extend([3, 1, 0x4a, 1, 3, 1, 8, 0x7f, 9, 1, 6, 0x20, 0x24, 8, 0x23, 0x10, 0x17, 0x29, 4, 1, 0x5a, 0, 1]);
    device.raw(&uplink(0x1000, id(), &items));
    // A command, and sub-commands of three families, that nobody knows.
    device.raw(&uplink(0x4242, id(), &[1, 2, 3]));
    device.raw(&uplink(0x0015, id(), &[0, 1, 0x77, 0]));
    device.raw(&uplink(0x0005, id(), &[0, 1, 0x77, 0]));
    let mut unknown = items[..26].to_vec();
    unknown[4] = 0x77;
    device.raw(&uplink(0x1000, id(), &unknown));
    device.heartbeat();
    let kept = agent.rows("SELECT verdict FROM journal WHERE direction = 'up' ORDER BY id");
    let verdicts: Vec<&str> = kept.iter().map(|row| row["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["accepted", "unsupported", "unsupported", "unsupported", "unsupported"]);
}

#[test]
fn a_key_that_nobody_knows_is_no_error_and_its_frame_is_kept() {
    let agent = Agent::start("");
    let mut device = Device::connect(&agent);
    device.status(IDLE);
    let before = agent.rows("SELECT id FROM journal").len();
    // The same status once more, with a key 77 at its end.
    let status = chargegate::bkv::StatusReport::of(crate::support::socket_status(&[(PortNo::A, IDLE)]));
    let bytes = Uplink::Status(status).encode(id(), MessageId::DEVICE);
    let mut data = bytes[18..bytes.len() - 3].to_vec();
    data.extend([3, 1, 0x77, 1]);
    device.raw(&uplink(0x1000, id(), &data));
    device.expect_status_ack(true);
    let kept = agent.rows("SELECT verdict, reason FROM journal ORDER BY id");
    assert_eq!(kept.len(), before + 1, "{kept:?}");
    assert_eq!(kept[before]["verdict"], "unsupported");
}

#[test]
fn what_a_device_and_a_socket_tell_of_themselves_stands_in_the_store() {
    let agent = Agent::start("");
    // A heartbeat of the guide.
    let frame = "fcfe002e0000000000000182200520004869383938363034363331313230373033313934313763562e31723436001fcafcee";
    let answer = answer_to(&agent, "82200520004869", frame);
    assert!(answer.starts_with("fcff0018000000000000008220052000486920"), "{answer}");
    let (code, text, _) = agent.cli(&["devices", "--json"]);
    assert_eq!(code, Some(0));
    let devices: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&devices[0]["iccid"], &devices[0]["firmware_version"], &devices[0]["rssi"], &devices[0]["status"]),
        (&json!("89860463112070319417"), &json!("cV.1r46"), &json!(31), &json!("enabled"))
    );
    answer_to(&agent, "82231214002700", STATUS);
    let row = agent.rows("SELECT firmware, temperature_c, rssi, online, enabled FROM sockets").pop().unwrap();
    assert_eq!(row, json!({ "firmware": "ffff", "temperature_c": 37, "rssi": 30, "online": 0, "enabled": 1 }));
    let ports = agent
        .rows("SELECT port_no, raw_status, business_no, voltage_v, power_w, current_a, energy_wh, minutes FROM ports");
    let expected = |port: u8| {
        json!({ "port_no": port, "raw_status": 0x80, "business_no": null, "voltage_v": 227.5, "power_w": 0.0,
                "current_a": 0.001, "energy_wh": 0, "minutes": 0 })
    };
    assert_eq!(ports, [expected(0), expected(1)]);
}

#[test]
fn a_new_firmware_is_told_and_the_first_is_not() {
    let agent = Agent::start("");
    let mut device = Device::connect(&agent);
    device.heartbeat();
    let mut newer = chargegate::bkv::Heartbeat {
        iccid: chargegate::bkv::AsciiText::new("89860446112070301941").unwrap(),
        firmware: chargegate::bkv::AsciiText::new("v1.147").unwrap(),
        rssi: 28,
    };
    device.say(&Uplink::Heartbeat(newer));
    device.hear().unwrap();
    newer.rssi = 9;
    device.say(&Uplink::Heartbeat(newer));
    device.hear().unwrap();
    assert_eq!(agent.events("device"), ["device.registered", "device.online", "device.firmware_changed"]);
    let row = agent.rows("SELECT firmware_version, rssi FROM devices").pop().unwrap();
    assert_eq!(row, json!({ "firmware_version": "v1.147", "rssi": 9 }));
}

#[test]
fn the_unit_of_a_model_scales_what_it_reports_and_never_what_is_ordered() {
    let agent = Agent::start(&format!("[[models]]\ndevice_model = \"T\"\nenergy_unit_wh = 10\n[devices]\n{FAST}"));
    agent.command(json!({ "type": "set_device", "device": id(), "device_model": "T" }));
    let mut device = Device::idle(&agent);
    let mut command = crate::support::start(60);
    let fields = command.as_object_mut().unwrap();
    fields.remove("minutes");
    fields.insert("mode".to_owned(), "energy".into());
    fields.insert("energy_wh".to_owned(), 500.into());
    let client = agent.begin(command);
    let (message_id, order) = device.expect_switch();
    assert_eq!(order, chargegate::bkv::SwitchOrder::Energy(chargegate::ids::WattHours(500)));
    device.answer(message_id, true, 26);
    client.reply();
    device.status(charging(26, 2, 0));
    assert_eq!(agent.order()["energy_wh"], 20);
    assert_eq!(agent.rows("SELECT energy_wh FROM ports")[0]["energy_wh"], 20);
    device.ends(0xb0, 26, 3, 0);
    assert_eq!(agent.order()["energy_wh"], 30);
}

#[test]
fn a_reason_of_the_configuration_names_what_the_guide_does_not() {
    let agent = Agent::start("[[reasons]]\ncode = 15\nend_reason = \"full\"\n");
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 0x17, 60);
    // The guide's `18` for our device, with reason 0f and no load bit cleared.
    let mut bytes = unhex(TIERS_END);
    bytes[11..18].copy_from_slice(&id().bcd());
    bytes[27] = 0xb0;
    let at = bytes.windows(3).position(|three| three == [7, 2, 0]).unwrap() + 1;
    bytes[at] = 0x0f;
    let data = bytes[18..bytes.len() - 3].to_vec();
    device.raw(&uplink(0x0015, id(), &data));
    device.expect_end_ack();
    let order = agent.order();
    assert_eq!(
        (&order["end_reason"], &order["raw_reason"], &order["settlement_power_w"]),
        (&json!("full"), &json!(15), &json!(0.0))
    );
    assert_eq!(order["device_end_time"], "2020-06-08 14:21:07");
    let tiers: Value = serde_json::from_str(order["tiers"].as_str().unwrap()).unwrap();
    assert_eq!((tiers.as_array().unwrap().len(), &tiers[0]), (5, &json!({ "minutes": 36, "energy_wh": null })));
    assert_eq!(order["flags"], json!("[\"implausible_minutes\"]"), "36 minutes within a second");
}

#[test]
fn a_status_of_several_sockets_is_answered_once_and_each_is_known() {
    let agent = Agent::start("");
    let mut device = Device::connect(&agent);
    let mut report = chargegate::bkv::StatusReport::of(crate::support::socket_status(&[(PortNo::A, IDLE)]));
    let mut other = report.first.clone();
    other.socket = chargegate::ids::SocketNo::new(2).unwrap();
    report.more.push(other);
    device.say(&Uplink::Status(report));
    device.expect_status_ack(true);
    device.heartbeat();
    let ports = agent.rows("SELECT socket_no, status FROM ports ORDER BY socket_no");
    assert_eq!(ports, [json!({ "socket_no": 1, "status": 9 }), json!({ "socket_no": 2, "status": 9 })]);
}

#[test]
fn nonsense_of_one_device_leaves_the_good_frame_next_to_it_and_the_device_beside_it_alone() {
    let agent = Agent::start("");
    let mut beside = Device::connect_as(&agent, "82241218000777".parse().unwrap());
    let mut device = Device::connect(&agent);
    let heartbeat = uplink(0, id(), &[b'1'; 29]);
    for nonsense in [
        uplink(0x0000, id(), &[1, 2]),
        uplink(0x0015, id(), &[0, 1]),
        uplink(0x0015, id(), &[0, 99, 7, 1]),
        uplink(0x1000, id(), &[1, 2, 3]),
        uplink(0x0015, id(), &[0, 5, 7, 1, 251, 0, 0, 1]),
        uplink(0x0000, id(), &[]),
    ] {
        let mut both = nonsense;
        both.extend(&heartbeat);
        device.raw(&both);
        let (_, message) = device.hear().unwrap();
        assert!(matches!(message, Downlink::HeartbeatReply(_)), "{message:?}");
        beside.heartbeat();
    }
    let kept = agent.rows("SELECT verdict, reason FROM journal WHERE direction = 'up'");
    assert!(kept.len() == 6 && kept.iter().all(|row| row["verdict"] == "malformed" && row["reason"].is_string()));
}

#[test]
fn contradicting_status_bits_are_answered_ok_and_kept_with_their_reason() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.status(Shows { number: 44, ..IDLE });
    let kept = agent.rows("SELECT reason FROM journal WHERE reason IS NOT NULL");
    assert_eq!(kept[0]["reason"], "a business number without the charging bit");
    assert_eq!(agent.rows("SELECT status, business_no FROM ports")[0], json!({ "status": 9, "business_no": 44 }));
    // A question repeats it, at no power: idle.
    let question = device.expect_question();
    device.answer_question(question, Shows { number: 44, ..IDLE });
    device.heartbeat();
    assert_eq!(agent.rows("SELECT status FROM ports")[0]["status"], 9);
    assert!(agent.events("order").is_empty());
}

#[test]
fn unchanged_statuses_and_heartbeats_are_not_kept_and_what_moves_is_flushed_when_asked() {
    let agent = Agent::start("");
    let mut device = Device::idle(&agent);
    let journal = |agent: &Agent| agent.rows_as_they_are("SELECT id FROM journal").len();
    let before = wait_for("the first status", || Some(journal(&agent)).filter(|rows| *rows > 0));
    for power in 0..5 {
        device.status(Shows { power, ..IDLE });
        device.heartbeat();
    }
    assert_eq!(agent.rows_as_they_are("SELECT power_w FROM ports")[0]["power_w"], 0.0, "in memory so far");
    assert_eq!(agent.rows("SELECT power_w FROM ports")[0]["power_w"], 0.4);
    assert_eq!(journal(&agent), before);
}

#[test]
fn the_first_heartbeat_may_come_twice() {
    let agent = Agent::start("");
    let mut device = Device::silent(&agent, "82200520004869".parse::<DeviceId>().unwrap());
    let frame =
        unhex("fcfe002e0000000000000182200520004869383938363034363331313230373033313934313763562e31723436001fcafcee");
    device.raw(&frame.repeat(2));
    for _ in 0..2 {
        assert!(matches!(device.hear(), Some((MessageId::DEVICE, Downlink::HeartbeatReply(_)))));
    }
    assert_eq!(agent.events("device"), ["device.registered", "device.online"]);
    device.say(&Uplink::Unknown(Unknown { command: 0x4242, sub: None, data: Box::from([]) }));
    device.heartbeat();
}
