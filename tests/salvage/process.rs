//! The real program on a damaged store.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use chargegate::ids::DeviceId;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::agent::{Agent, Folder, PATIENCE};
use crate::device::Device;
use crate::file::{Kind, PAGE, Place, Seeded, device_id, pages};
use crate::overwrite;

const QUICK: &str = "orders.end_report_grace = \"1s\"\norders.answer_timeout = \"1s\"\n\
                     devices.heartbeat_interval = \"1s\"\ndevices.offline_after = \"5s\"";

fn folder(place: &Place) -> Folder {
    Folder::new(place.path.parent().unwrap(), &place.path, QUICK)
}

fn read<T: rusqlite::types::FromSql>(place: &Place, sql: &str) -> Option<T> {
    Connection::open(&place.path).unwrap().query_row(sql, [], |row| row.get(0)).ok()
}

/// Lets a device live until something holds.
fn until(device: &mut Device, what: &str, holds: impl Fn(&Device) -> bool) {
    let stopwatch = chargegate::clock::Stopwatch::start();
    while !holds(device) {
        assert!(stopwatch.elapsed() < PATIENCE, "never: {what}");
        device.live();
    }
}

fn ended_cleanly(agent: Agent) -> Vec<String> {
    agent.terminate();
    let (status, lines) = agent.ended();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    lines
}

/// `alert.raised` of this rule, as the events have it.
const RAISED: &str = "SELECT count(*) FROM events WHERE type = 'alert.raised' AND data ->> 'rule' = 'store_damaged'";

#[test]
fn the_agent_starts_on_a_damaged_store_serves_devices_and_tells_once() {
    let place = Place::full();
    let mut bytes = place.bytes();
    let kinds = pages(&bytes);
    for page in [kinds[&Kind::Header][0], kinds[&Kind::TableLeaf][100], kinds[&Kind::TableLeaf][200]] {
        overwrite(&mut bytes, page, 0, &mut Seeded(9));
    }
    place.write(&bytes);
    let folder = folder(&place);
    let agent = folder.start();
    let told = agent.wait_for("store damaged");
    assert!(told.contains("WARN") && told.contains("site.db.corrupt-20"), "{told}");
    // The running agent takes an order from start to end.
    let mut device = Device::new("99900000000001".parse::<DeviceId>().unwrap(), folder.address);
    until(&mut device, "port known", |device| {
        device.is_connected()
            && read::<i64>(&place, "SELECT count(*) FROM ports WHERE device_id = '99900000000001' AND status = 9")
                == Some(2)
    });
    let start = json!({"id": "c-1", "type": "start_charge", "device": device.id, "socket": 1, "port": 0,
                       "order_no": "after", "mode": "time", "minutes": 10});
    let asked = {
        let folder = folder.clone();
        std::thread::spawn(move || folder.command(&start))
    };
    until(&mut device, "charging", |device| device.is_charging(0));
    while !asked.is_finished() {
        device.live();
    }
    assert_eq!(asked.join().unwrap().unwrap()["result"], "done");
    device.ends(0);
    until(&mut device, "acknowledged", |device| device.acknowledged.len() == 1);
    assert_eq!(read::<i64>(&place, RAISED), Some(1));
    let (code, alerts) = folder.run(&["alerts", "--open", "--json"]);
    let alerts: Vec<Value> = serde_json::from_str(&alerts).unwrap();
    let alert: Vec<&Value> = alerts.iter().filter(|alert| alert["rule"] == "store_damaged").collect();
    assert_eq!((code, alert.len()), (0, 1), "{alerts:?}");
    assert_eq!(alert[0]["severity"], "critical");
    ended_cleanly(agent);

    let again = ended_cleanly(folder.start());
    assert!(!again.iter().any(|line| line.contains("damaged")), "{again:#?}");
    assert_eq!(read::<i64>(&place, RAISED), Some(1));
    assert_eq!(read::<String>(&place, "SELECT settlement FROM orders WHERE order_no = 'after'").unwrap(), "reported");
}

#[test]
fn an_agent_that_is_killed_before_it_could_tell_of_the_damage_tells_after_the_restart() {
    let place = Place::full();
    let mut bytes = place.bytes();
    overwrite(&mut bytes, 0, 0, &mut Seeded(9));
    place.write(&bytes);
    drop(place.open());
    assert_eq!(read::<i64>(&place, RAISED), Some(0));
    let folder = folder(&place);
    ended_cleanly(folder.start());
    ended_cleanly(folder.start());
    assert_eq!(read::<i64>(&place, RAISED), Some(1));
}

#[test]
fn a_second_damage_is_told_although_the_first_alert_still_lasts() {
    let place = Place::full();
    let folder = folder(&place);
    for times in 1..=2 {
        let mut bytes = place.bytes();
        bytes[..16].fill(0);
        place.write(&bytes);
        ended_cleanly(folder.start());
        assert_eq!(read::<i64>(&place, RAISED), Some(times));
        let open = "SELECT count(*) FROM alerts WHERE rule = 'store_damaged' AND cleared_at IS NULL";
        assert_eq!(read::<i64>(&place, open), Some(1));
    }
}

#[test]
fn damage_under_a_running_agent_ends_it_with_one_line_and_the_restart_salvages() {
    let place = Place::full();
    let folder = folder(&place);
    // Closed cleanly, so that nothing is in the log and the agent reads pages as it needs them.
    ended_cleanly(folder.start());
    let agent = folder.start();
    let bytes = place.bytes();
    let file = OpenOptions::new().write(true).open(&place.path).unwrap();
    for page in pages(&bytes)[&Kind::TableLeaf].iter().chain(&pages(&bytes)[&Kind::IndexLeaf]) {
        file.write_all_at(&[0xa5; PAGE], (*page * PAGE) as u64).unwrap();
    }
    // Reads what was not in memory: each order by its number.
    for no in (1..4000).step_by(97) {
        let ask = json!({"id": format!("q-{no}"), "type": "start_charge", "device": device_id(1), "socket": 1,
                         "port": 0, "order_no": format!("order-{no:05}"), "mode": "time", "minutes": 10});
        if folder.command(&ask).is_none() {
            break;
        }
    }
    let (status, lines) = agent.ended();
    assert_eq!(status.code(), Some(1), "{lines:#?}");
    let errors: Vec<&String> = lines.iter().filter(|line| line.contains("malformed")).collect();
    assert!(errors.len() == 1 && errors[0].starts_with("chargegate: run: store: cannot "), "{lines:#?}");

    let agent = folder.start();
    agent.wait_for("store damaged");
    ended_cleanly(agent);
    assert_eq!(read::<i64>(&place, RAISED), Some(1));
}

#[test]
fn rows_that_cannot_be_read_do_not_keep_the_agent_from_starting_for_ever() {
    let place = Place::full();
    Connection::open(&place.path)
        .unwrap()
        .execute_batch(
            "UPDATE ports SET memory = '{\"hold\":' WHERE rowid = 5; UPDATE meta SET value = 1 WHERE key = 'clean'",
        )
        .unwrap();
    let folder = folder(&place);
    // The clean stop was believed, so the first start meets it unprepared.
    let (status, lines) = folder.spawn().ended();
    assert_eq!(status.code(), Some(1), "{lines:#?}");
    let agent = folder.start();
    assert!(agent.wait_for("store damaged").contains("a row of ports cannot be read"));
    ended_cleanly(agent);
}

#[test]
fn a_session_whose_order_was_lost_is_adopted_and_not_switched_off() {
    let place = Place::full();
    let folder = folder(&place);
    let id = device_id(1);
    // What the store calls order-03841, a day later: its number is not known to any order that is left.
    let mut device = Device::new(id, folder.address);
    device.charges(0, 50_000);
    let was = "SELECT device_id || ' ' || socket_no || ' ' || port_no || ' ' || status FROM orders WHERE order_no = 'order-03841'";
    assert_eq!(read::<String>(&place, was).unwrap(), format!("{id} 1 0 2"));
    let mut bytes = place.bytes();
    for page in &pages(&bytes)[&Kind::TableLeaf] {
        if bytes[page * PAGE..(page + 1) * PAGE].windows(11).any(|text| text == b"order-03841") {
            overwrite(&mut bytes, *page, 1, &mut Seeded(1));
        }
    }
    place.write(&bytes);
    let agent = folder.start();
    agent.wait_for("store damaged");
    let adopted = format!("SELECT status FROM orders WHERE source = 'adopted' AND device_id = '{id}' AND port_no = 0");
    until(&mut device, "adopted", |_| read::<i64>(&place, &adopted) == Some(2));
    // Longer than the grace after which a stray session is stopped.
    let stopwatch = chargegate::clock::Stopwatch::start();
    until(&mut device, "the grace is over", |_| stopwatch.elapsed() > std::time::Duration::from_secs(4));
    assert!(device.is_charging(0), "a paying customer was switched off");
    assert_eq!(read::<String>(&place, was), None);
    device.ends(0);
    until(&mut device, "acknowledged", |device| device.acknowledged.len() == 1);
    ended_cleanly(agent);
}

#[test]
fn what_is_not_ours_is_refused_with_exit_2_and_a_full_disk_with_exit_1() {
    let place = Place::full();
    let folder = folder(&place);
    let full = place.bytes();
    let mut newer = full.clone();
    newer[60..64].copy_from_slice(&99u32.to_be_bytes());
    let mut foreign = full.clone();
    foreign[68..72].copy_from_slice(b"song");
    for mut bytes in [newer, foreign] {
        // Damaged, too.
        bytes[PAGE..PAGE * 9].fill(0xee);
        place.write(&bytes);
        let (status, lines) = folder.spawn().ended();
        assert_eq!((status.code(), lines.len()), (Some(2), 1), "{lines:#?}");
        assert!(place.bytes() == bytes, "it was touched");
    }
    // Nothing can be made beside it.
    std::fs::create_dir(place.beside(".salvaging")).unwrap();
    let mut bytes = full;
    bytes[..100].fill(0);
    place.write(&bytes);
    let (status, lines) = folder.spawn().ended();
    assert_eq!((status.code(), lines.len()), (Some(1), 1), "{lines:#?}");
    let expected = "is damaged (it does not begin as an SQLite file does), and it could not be set aside: ";
    assert!(lines[0].starts_with("chargegate: run: ") && lines[0].contains(expected), "{lines:#?}");
    assert!(place.bytes() == bytes, "it was touched");
}
