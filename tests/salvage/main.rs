//! A damaged store: what is set aside, what comes over, and what is told.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests")]

mod file;

use std::collections::BTreeSet;
use std::path::Path;

use chargegate::clock::UpTime;
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
        for how in 0..12 {
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
        // The free pages are known as long as their list is.
        let freelist_lost = details["pages_lost"].as_object().unwrap().len() > 4;
        assert!(share + 2 * per_cent >= 100 || freelist_lost, "seed {seed}: {share} % saved: {details}");
        assert!(share >= 40, "seed {seed}: {share} % saved: {details}");
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
