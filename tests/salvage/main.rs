//! A damaged store: what is set aside, what comes over, and what is told.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "../running/agent.rs"]
#[expect(dead_code, reason = "shared with the kill loop")]
mod agent;
#[path = "../running/device.rs"]
#[expect(dead_code, reason = "shared with the kill loop")]
mod device;
mod file;
mod log;
mod process;

use std::collections::BTreeSet;
use std::path::Path;

use chargegate::clock::WallTime;
use chargegate::event::Stream;
use chargegate::ids::OrderNo;
use chargegate::store::{OpenError, Settings, Store};
use file::{Kind, ORDERS, PAGE, Place, Rows, Seeded, WALL, pages, port_key};
use rusqlite::Connection;
use serde_json::Value;

fn instance_of(path: &Path) -> String {
    let db = Connection::open(path).unwrap();
    db.query_row("SELECT value FROM meta WHERE key = 'instance'", [], |row| row.get(0)).unwrap()
}

/// What the new file holds, by the old one: rows kept and rows lost. Panics when one was invented.
fn kept_and_lost(old: &Rows, new: &Rows) -> (usize, usize) {
    let (mut kept, mut lost) = (0, 0);
    for (table, was) in old {
        let is = &new[table];
        for row in is {
            // A device or port that an order needs is made anew when its own row is lost.
            let stand_in = (*table == "ports" && row.contains("status=Integer(1)") && !row.contains("raw_status"))
                || (*table == "devices" && !row.contains("note="));
            assert!(was.contains(row) || stand_in, "{table}: invented {row}");
        }
        kept += was.intersection(is).count();
        lost += was.difference(is).count();
    }
    (kept, lost)
}

/// Opens a file that was damaged and compares. `None` when nobody noticed, and then nothing is lost.
fn salvaged(place: &Place, old: &Rows, was_instance: &str) -> Option<(usize, usize, Value)> {
    let store = place.open();
    let damage = store.damage().unwrap();
    drop(store);
    let (kept, lost) = kept_and_lost(old, &place.rows());
    match damage {
        None => {
            assert_eq!((lost, instance_of(&place.path).as_str()), (0, was_instance));
            None
        }
        Some(details) => {
            assert_ne!(instance_of(&place.path), was_instance, "{details}");
            assert_eq!(place.one::<String>("PRAGMA integrity_check"), "ok");
            Some((kept, lost, details))
        }
    }
}

/// Overwrites pages as flash does: random bytes, zeros, ones, or a sector alone.
fn overwrite(bytes: &mut [u8], page: usize, how: usize, seeded: &mut Seeded) {
    let page = &mut bytes[page * PAGE..(page + 1) * PAGE];
    match how % 4 {
        0 => seeded.fill(page),
        1 => page.fill(0),
        2 => page.fill(0xff),
        _ => seeded.fill(&mut page[512 * (how / 4 % 8)..][..512]),
    }
}

#[test]
fn one_bad_page_of_any_kind_costs_no_more_than_the_rows_that_stand_on_it() {
    let clean = Place::full();
    let (bytes, old, instance) = (clean.bytes(), clean.rows(), instance_of(&clean.path));
    let all: usize = old.values().map(BTreeSet::len).sum();
    assert!(all > 12_000);
    let mut seeded = Seeded(0x5eed);
    for (kind, found) in pages(&bytes) {
        let (mut tried, mut noticed, mut worst) = (0, 0, 0);
        for how in 0..8 {
            let page = found[seeded.below(found.len())];
            let place = Place::empty();
            let mut damaged = bytes.clone();
            overwrite(&mut damaged, page, how, &mut seeded);
            place.write(&damaged);
            tried += 1;
            let Some((kept, lost, details)) = salvaged(&place, &old, &instance) else { continue };
            noticed += 1;
            worst = worst.max(lost);
            let bound = match kind {
                // As many of the shortest rows as a page holds.
                Kind::TableLeaf => 200,
                // All of table `meta` stands on one page of this kind; the rows of the others do not.
                _ => 0,
            };
            assert!(lost <= bound && kept + lost == all, "{kind:?} {page} way {how}: {lost} lost: {details}");
        }
        println!("{kind:?}: {tried} pages overwritten, {noticed} noticed, at most {worst} of {all} rows lost");
        // A free page holds nothing; a sector of an interior page may be empty.
        assert!(matches!(kind, Kind::Free) || noticed * 2 >= tried, "{kind:?}: {noticed} of {tried}");
    }
}

#[test]
fn of_a_file_with_many_bad_pages_everything_on_the_good_ones_is_saved() {
    let clean = Place::full();
    let (bytes, old, instance) = (clean.bytes(), clean.rows(), instance_of(&clean.path));
    let all: usize = old.values().map(BTreeSet::len).sum();
    let count = bytes.len() / PAGE;
    for (seed, per_cent) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 10), (6, 10), (7, 30), (8, 30)] {
        let mut seeded = Seeded(seed * 0x9e37_79b9);
        let place = Place::empty();
        let mut damaged = bytes.clone();
        for how in 0..count * per_cent / 100 {
            overwrite(&mut damaged, seeded.below(count), how % 3, &mut seeded);
        }
        place.write(&damaged);
        let (kept, _, details) = salvaged(&place, &old, &instance).unwrap();
        let share = kept * 100 / all;
        println!("{per_cent} % of {count} pages bad: {share} % of {all} rows saved");
        // Without the first page it is not known which pages are free, and leaves whose way in is lost are left
        // where they are: they might hold what was deleted.
        let bad_header = details["what"] == "it does not begin as an SQLite file does";
        assert!(share + 2 * per_cent >= 100 || bad_header, "seed {seed}: {share} % saved: {details}");
        assert!(share >= 80 || per_cent > 10, "seed {seed}: {share} % saved: {details}");
    }
}

#[test]
fn an_open_order_survives_when_its_page_does_with_port_hold_and_plan() {
    let place = Place::full();
    let old = place.rows();
    let mut bytes = place.bytes();
    let pages = pages(&bytes);
    let mut seeded = Seeded(77);
    // Every way in is lost: the first page, the schema, every interior page of every table.
    for page in pages[&Kind::Header].iter().chain(&pages[&Kind::Schema]) {
        overwrite(&mut bytes, *page, 0, &mut seeded);
    }
    place.write(&bytes);
    let store = place.open();
    let open = store.open_orders().unwrap();
    assert_eq!(open.len() as u64, file::DEVICES * 8 / 2);
    let newest = OrderNo::new(&format!("order-{ORDERS:05}")).unwrap();
    let order = store.order(&newest).unwrap().unwrap();
    assert_eq!((order.port, order.serial), (port_key(ORDERS % (file::DEVICES * 8)), i64::try_from(ORDERS).unwrap()));
    assert_eq!(store.ports().unwrap().iter().filter(|port| port.memory.is_some()).count(), 20);
    drop(store);
    assert_eq!(kept_and_lost(&old, &place.rows()).1, 0);
}

#[test]
fn a_file_that_is_cut_zeroed_or_something_else_opens_with_what_is_left() {
    let clean = Place::full();
    let (bytes, old, instance) = (clean.bytes(), clean.rows(), instance_of(&clean.path));
    let all: usize = old.values().map(BTreeSet::len).sum();
    let half = bytes.len() / 2 / PAGE * PAGE;
    let mut zero_tail = bytes.clone();
    zero_tail[half..].fill(0);
    let mut torn = bytes[..half + 700].to_vec();
    torn[0] = b'?';
    let text = "not a store at all, but a text that somebody put there".repeat(20).into_bytes();
    for (what, damaged, least) in [
        ("cut in the middle", bytes[..half].to_vec(), 45),
        ("zeros from the middle on", zero_tail, 45),
        ("cut within a page and in the header", torn, 45),
        ("six bytes", b"SQLite".to_vec(), 0),
        ("one page of zeros", vec![0; PAGE], 0),
        ("a text", text, 0),
    ] {
        let place = Place::empty();
        place.write(&damaged);
        let (kept, _, details) = salvaged(&place, &old, &instance).unwrap();
        println!("{what}: {} % of {all} rows saved", kept * 100 / all);
        assert!(kept * 100 / all >= least, "{what}: {kept} of {all}: {details}");
        let aside = details["file"].as_str().unwrap();
        assert!(std::fs::read(aside).unwrap() == damaged, "{what}: the old file is not as it was");
    }
}

#[test]
fn the_damaged_file_is_kept_as_it_was_and_only_the_newest_three() {
    let place = Place::empty();
    let mut stamps = Vec::new();
    // The clock stands still, then it is years behind: later sets still have later names.
    for (round, wall) in [WALL, WALL, WALL, WallTime(0), WallTime(1000)].into_iter().enumerate() {
        let content = format!("damaged for the time number {round}");
        for (suffix, content) in [("", content.as_str()), ("-wal", "log"), ("-shm", "index"), ("-journal", "")] {
            std::fs::write(place.beside(suffix), content).unwrap();
        }
        let store = Store::open(&place.path, &Settings::default(), wall).unwrap();
        let file = store.damage().unwrap().unwrap()["file"].as_str().unwrap().to_owned();
        drop(store);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
        assert_eq!(std::fs::read_to_string(format!("{file}-wal")).unwrap(), "log");
        assert!(std::fs::exists(format!("{file}-shm")).unwrap());
        assert!(stamps.last() < Some(&file), "{file} after {stamps:?}");
        stamps.push(file);
    }
    assert!(stamps[0].ends_with("site.db.corrupt-20261124T081500Z"), "{stamps:?}");
    let kept: Vec<String> = place.names().into_iter().filter(|name| name.contains("corrupt")).collect();
    let mains: Vec<&String> = kept.iter().filter(|name| name.ends_with('Z')).collect();
    assert_eq!(mains.len(), 3, "{kept:?}");
    assert!(kept.iter().all(|name| mains.iter().any(|main| name.starts_with(main.as_str()))), "{kept:?}");
    assert!(mains.iter().zip(&stamps[2..]).all(|(name, path)| path.ends_with(name.as_str())), "{kept:?} {stamps:?}");
}

#[test]
fn a_salvage_that_is_cut_short_anywhere_is_gone_on_with() {
    let damaged = Place::full();
    let mut bytes = damaged.bytes();
    bytes[..100].fill(0);
    damaged.write(&bytes);
    let old = damaged.rows_of_a_whole_copy();
    drop(damaged.open());
    let new = damaged.bytes();
    let names = ["", "-wal", "-shm"];
    let aside = ".corrupt-20261124T081500Z";
    // Before each of its steps: what stands where.
    for (step, (main, moved, made)) in [
        (Some(&bytes), 0, ".salvaging"),
        (Some(&bytes), 0, ".salvaged-20261124T081500Z"),
        (Some(&bytes), 1, ".salvaged-20261124T081500Z"),
        (Some(&bytes), 2, ".salvaged-20261124T081500Z"),
        (None, 2, ".salvaged-20261124T081500Z"),
    ]
    .into_iter()
    .enumerate()
    {
        let place = Place::empty();
        if let Some(main) = main {
            place.write(main);
        } else {
            std::fs::write(place.beside(aside), &bytes).unwrap();
        }
        for (no, name) in names[1..].iter().enumerate() {
            let is_moved = no < moved;
            let at = if is_moved { place.beside(&format!("{aside}{name}")) } else { place.beside(name) };
            std::fs::write(at, "").unwrap();
        }
        // What is not complete yet does not count, however much of it is there.
        std::fs::write(place.beside(made), if step == 0 { &new[..new.len() / 2] } else { &new }).unwrap();
        let store = place.open();
        assert!(store.damage().unwrap().is_some(), "step {step}");
        drop(store);
        assert_eq!(kept_and_lost(&old, &place.rows()).1, 0, "step {step}");
        assert!(std::fs::read(place.beside(aside)).unwrap() == bytes, "step {step}");
        let others: Vec<String> = place.names().into_iter().filter(|name| name.contains("salvag")).collect();
        assert_eq!(others, Vec::<String>::new(), "step {step}");
    }
}

#[test]
fn a_link_leads_to_the_damaged_file_and_stays() {
    let place = Place::full();
    let mut bytes = place.bytes();
    bytes[..100].fill(0);
    place.write(&bytes);
    let link = place.beside(".link");
    std::os::unix::fs::symlink("site.db", &link).unwrap();
    let store = Store::open(&link, &Settings::default(), WALL).unwrap();
    assert_eq!(store.open_orders().unwrap().len() as u64, file::DEVICES * 8 / 2);
    assert!(link.is_symlink() && place.beside(".corrupt-20261124T081500Z").exists());
}

#[test]
fn a_quota_that_is_too_small_leaves_the_journal_behind_and_then_everything_as_it_was() {
    let place = Place::full();
    let mut bytes = place.bytes();
    bytes[..100].fill(0);
    place.write(&bytes);
    let full = Settings { max_size: 1 << 20, ..Settings::default() };
    let refused = Store::open(&place.path, &full, WALL).unwrap_err();
    let expected = "and the disk has no room for a new one; free some space";
    assert!(matches!(refused, OpenError::Unsalvaged { .. }) && refused.to_string().ends_with(expected), "{refused}");
    assert!(place.bytes() == bytes);
    assert_eq!(place.names(), ["site.db", "site.db.lock"]);
    let tight = Settings { max_size: bytes.len() as u64 * 8 / 10, ..Settings::default() };
    let store = Store::open(&place.path, &tight, WALL).unwrap();
    assert_eq!(store.open_orders().unwrap().len() as u64, file::DEVICES * 8 / 2);
    assert_eq!(store.journal_bytes(), 0);
    // What is not there proves nothing.
    assert!(store.journal_whole_since().unwrap().is_some());
}

#[test]
fn after_a_clean_stop_nothing_is_scanned_and_after_any_other_everything() {
    let place = Place::full();
    place.open().close().unwrap();
    let mut bytes = place.bytes();
    let leaf = pages(&bytes)[&Kind::TableLeaf][150];
    overwrite(&mut bytes, leaf, 0, &mut Seeded(4));
    place.write(&bytes);
    let store = place.open();
    assert_eq!(store.damage().unwrap(), None);
    drop(store);
    assert!(place.open().damage().unwrap().is_some());
}

#[test]
fn a_run_that_met_damage_has_the_next_one_look_at_indexes_too() {
    let place = Place::full();
    let mut bytes = place.bytes();
    let old = place.rows();
    let leaf = pages(&bytes)[&Kind::IndexLeaf]
        .iter()
        .find_map(|page| {
            let content = &bytes[page * PAGE..(page + 1) * PAGE];
            content.windows(11).position(|text| text == b"order-00500").map(|at| page * PAGE + at)
        })
        .unwrap();
    bytes[leaf + 10] = b'!';
    place.write(&bytes);
    // The usual check does not compare indexes with rows.
    assert_eq!(place.open().damage().unwrap(), None);
    std::fs::write(place.beside(".suspect"), "").unwrap();
    assert!(place.open().damage().unwrap().is_some());
    assert_eq!(kept_and_lost(&old, &place.rows()).1, 0);
    // Nothing is found the next time, and then nothing is suspected any more.
    assert!(!place.beside(".suspect").exists());
    let instance = instance_of(&place.path);
    std::fs::write(place.beside(".suspect"), "").unwrap();
    drop(place.open());
    assert!(!place.beside(".suspect").exists() && instance_of(&place.path) == instance);
}

// ---- numbers ------------------------------------------------------------------------------------------------------

/// Numbers of a stream in the order of their rows, and what is wrong with them.
fn numbers(place: &Place, stream: &str) -> Vec<i64> {
    let db = Connection::open(&place.path).unwrap();
    let mut statement = db.prepare("SELECT seq FROM events WHERE stream = ?1 ORDER BY rowid").unwrap();
    statement.query_map([stream], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn without_a_receiver_all_events_come_over_numbered_from_1_without_gaps_in_their_order() {
    let place = Place::full();
    let mut bytes = place.bytes();
    let kinds = pages(&bytes);
    for page in kinds[&Kind::TableLeaf].iter().step_by(9) {
        overwrite(&mut bytes, *page, 0, &mut Seeded(31));
    }
    place.write(&bytes);
    let store = place.open();
    let details = store.damage().unwrap().unwrap();
    for stream in ["order", "device"] {
        let found = numbers(&place, stream);
        assert!(found.len() > 200, "{stream}: {}", found.len());
        assert_eq!(found, (1..=i64::try_from(found.len()).unwrap()).collect::<Vec<_>>());
        assert_eq!(details["was_streams"][stream]["oldest"], 1);
        assert!(details["was_streams"][stream]["missing"].as_i64().unwrap() > 501);
    }
    let events = store.events_from(Stream::Order, 1, 10_000).unwrap();
    assert!(events.iter().all(|event| event.intact) && events.is_sorted_by_key(|event| event.at));
    assert_eq!(place.one::<i64>("SELECT count(*) FROM outbox"), 0);
}

/// As the cloud link puts events out: what waits for it, oldest first.
fn put_out(place: &Place, from: i64) {
    let db = Connection::open(&place.path).unwrap();
    db.execute(
        "INSERT INTO outbox (created_at, crc, topic, stream, seq)
              SELECT at, 0, 'event/order', stream, seq FROM events WHERE stream = 'order' AND seq > ?1 ORDER BY seq",
        [from],
    )
    .unwrap();
    let rows: Vec<(i64, i64, String, String, i64)> = db
        .prepare("SELECT id, created_at, topic, stream, seq FROM outbox")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let castagnoli = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    for (id, at, topic, stream, seq) in rows {
        let mut digest = castagnoli.digest();
        let mut add = |bytes: Option<&[u8]>| {
            digest.update(&bytes.map_or(0, |bytes| bytes.len() as u64 + 1).to_le_bytes());
            digest.update(bytes.unwrap_or_default());
        };
        add(Some(&id.to_le_bytes()));
        add(Some(&at.to_le_bytes()));
        add(Some(topic.as_bytes()));
        add(Some(stream.as_bytes()));
        add(Some(&seq.to_le_bytes()));
        add(None);
        db.execute("UPDATE outbox SET crc = ?2 WHERE id = ?1", (id, digest.finalize())).unwrap();
    }
    db.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(())).unwrap();
}

#[test]
fn with_a_receiver_what_it_confirmed_stays_behind_and_what_waits_is_told_under_the_new_instance() {
    let place = Place::full();
    put_out(&place, 3000);
    let waiting = place.one::<i64>("SELECT count(*) FROM outbox");
    let highest = place.one::<i64>("SELECT max(id) FROM outbox");
    let mut bytes = place.bytes();
    bytes[..100].fill(0);
    place.write(&bytes);
    drop(place.open());
    assert_eq!(numbers(&place, "order"), (1..=waiting).collect::<Vec<_>>());
    assert_eq!(numbers(&place, "device"), [0i64; 0]);
    let joined = "SELECT count(*) FROM outbox JOIN events USING (stream, seq)";
    assert_eq!(place.one::<i64>(joined), waiting);
    assert!(place.one::<i64>("SELECT min(id) FROM outbox") > highest, "ids are used again");
    // The sums are right: a second salvage keeps the rows.
    let mut bytes = place.bytes();
    bytes[..100].fill(0);
    place.write(&bytes);
    drop(place.open());
    assert_eq!(place.one::<i64>(joined), waiting);
}

#[test]
fn when_it_is_not_known_what_waits_everything_is_told_again() {
    let place = Place::full();
    put_out(&place, 3000);
    let mut bytes = place.bytes();
    let root = place.one::<i64>("SELECT rootpage FROM sqlite_schema WHERE name = 'outbox'");
    overwrite(&mut bytes, usize::try_from(root - 1).unwrap(), 0, &mut Seeded(3));
    // The freed pages are not known either, so that nothing of it is found.
    bytes[36..40].fill(0xff);
    place.write(&bytes);
    drop(place.open());
    let events = place.one::<i64>("SELECT count(*) FROM events");
    assert!(events > 2900);
    assert_eq!(place.one::<i64>("SELECT count(*) FROM outbox JOIN events USING (stream, seq)"), events);
}

#[test]
fn no_id_is_given_twice_and_up_time_goes_on() {
    let clean = Place::full();
    let bytes = clean.bytes();
    let meta = clean.one::<i64>("SELECT rootpage FROM sqlite_schema WHERE name = 'meta'");
    let sequences = clean.one::<i64>("SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_sequence'");
    let mark = clean.one::<i64>("SELECT value FROM meta WHERE key = 'message_ids'");
    for lost in [vec![], vec![meta, sequences]] {
        let place = Place::empty();
        let mut damaged = bytes.clone();
        damaged[..16].fill(0);
        lost.iter().for_each(|page| overwrite(&mut damaged, usize::try_from(page - 1).unwrap(), 0, &mut Seeded(8)));
        place.write(&damaged);
        let mut store = place.open();
        let id = i64::from(store.next_message_id().0);
        assert!(id > 4000 && (id > mark || !lost.is_empty()), "{id} after {mark}");
        let expected = if lost.is_empty() { 1_000_000 } else { 5000 };
        assert_eq!(store.up_base().0, expected + 1, "behind all that was kept");
        assert_eq!(store.believed_wall().unwrap(), lost.is_empty().then_some(WALL));
        let subject = chargegate::store::Subject::default();
        let alert = store.raise_alert("x", chargegate::store::Severity::Warning, subject, WALL, &Value::Null).unwrap();
        assert!(alert.unwrap() > 400);
    }
}
