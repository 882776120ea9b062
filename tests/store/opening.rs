//! Whose file it is, and where it goes on.

use super::*;

#[test]
fn a_store_goes_on_where_it_ended() {
    let place = Place::new();
    let mut store = place.open();
    assert_eq!((store.up_base(), store.after_unclean_stop()), (UpTime(0), false));
    assert_eq!((store.believed_wall().unwrap(), store.boot().unwrap()), (None, None));
    let instance = store.instance().to_owned();
    assert!(instance.len() == 12 && instance.bytes().all(|byte| byte.is_ascii_hexdigit()), "{instance}");
    store.set_up(UpTime(60_000)).unwrap();
    store.set_believed(WALL, UpTime(5_000)).unwrap();
    store.set_boot("5f1c").unwrap();
    store.close().unwrap();
    let store = place.open();
    assert_eq!((store.up_base(), store.after_unclean_stop()), (UpTime(60_001), false));
    assert_eq!((store.believed_wall().unwrap(), store.boot().unwrap()), (Some(WALL), Some("5f1c".into())));
    assert_eq!(store.believed().unwrap(), Some((WALL, UpTime(5_000))), "not the up-time that was noted later");
    assert_eq!(store.instance(), instance);
    assert_ne!(Place::new().open().instance(), instance);
}

#[test]
fn an_unclean_stop_is_noticed_once() {
    let place = Place::new();
    drop(place.open());
    let store = place.open();
    assert!(store.after_unclean_stop());
    store.close().unwrap();
    assert!(!place.open().after_unclean_stop());
}

#[test]
fn message_ids_are_never_used_again_over_reopenings() {
    let place = Place::new();
    let mut used = BTreeSet::new();
    for run in 0..4 {
        let mut store = place.open();
        for _ in 0..40_000 {
            let id = store.next_message_id();
            assert!(id != MessageId::DEVICE && used.insert(id), "{id} in run {run}");
        }
        store.set_up(UpTime(run)).unwrap();
        store.commit().unwrap();
        for _ in 0..40_000 {
            assert!(used.insert(store.next_message_id()), "in run {run}");
        }
        match run % 2 {
            0 => drop(store),
            _ => store.close().unwrap(),
        }
    }
}

#[test]
fn a_store_is_opened_by_one_at_a_time() {
    let place = Place::new();
    let store = place.open();
    let refused = place.try_open().unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    drop(store);
    assert!(place.path.with_extension("db.lock").exists(), "a lock file that was left behind");
    place.open();
}

#[test]
fn files_that_are_not_ours_are_refused_and_stay_as_they_are() {
    let foreign = Place::new();
    let program = foreign.outside();
    program.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE songs (title TEXT)").unwrap();
    drop(program);
    let marked = Place::new();
    marked.outside().execute_batch("PRAGMA application_id = 7; CREATE TABLE songs (title TEXT)").unwrap();
    let newer = Place::new();
    newer.open().close().unwrap();
    newer.outside().execute_batch("PRAGMA user_version = 99").unwrap();
    for (place, expected) in [
        (&foreign, "is an SQLite file of another program; give store.path another name"),
        (&marked, "is an SQLite file of another program; give store.path another name"),
        (&newer, "has version 99 and this program knows 2; install the newer program again"),
    ] {
        let before = std::fs::read(&place.path).unwrap();
        let refused = place.try_open().unwrap_err().to_string();
        assert_eq!(refused, format!("{} {expected}", place.path.display()));
        assert!(std::fs::read(&place.path).unwrap() == before, "{refused}: it was touched");
        assert!(!place.path.with_extension("db-wal").exists());
    }
}

#[test]
fn an_empty_file_becomes_a_store() {
    let place = Place::new();
    std::fs::write(&place.path, "").unwrap();
    place.open().close().unwrap();
    assert_eq!(place.one::<i32>("PRAGMA user_version"), 2);
    assert_eq!(place.one::<i32>("PRAGMA application_id"), 0x6368_6774);
    assert_eq!(place.one::<String>("PRAGMA journal_mode"), "wal");
}

#[test]
fn a_creation_that_was_cut_short_is_begun_anew() {
    let place = Place::new();
    let half = place.outside();
    // More pages than the cache holds, so that they reach the file before the commit.
    half.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE; CREATE TABLE a (b); CREATE TABLE c (d)").unwrap();
    half.execute("INSERT INTO a VALUES (zeroblob(100000))", []).unwrap();
    let copy = Place::new();
    std::fs::copy(&place.path, &copy.path).unwrap();
    std::fs::copy(place.path.with_extension("db-journal"), copy.path.with_extension("db-journal")).unwrap();
    assert!(copy.path.metadata().unwrap().len() > 0);
    copy.open().close().unwrap();
    assert_eq!(copy.one::<i32>("PRAGMA user_version"), 2);
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let place = Place::new();
    let path = place.path.with_file_name("nowhere").join("site.db");
    let refused = Store::open(&path, &Settings::default(), WALL).unwrap_err().to_string();
    assert!(refused.contains("nowhere/site.db") && refused.contains("No such file"), "{refused}");
}

#[test]
fn ten_thousand_closed_orders_do_not_slow_the_opening() {
    let place = Place::new();
    let mut store = place.open();
    for i in 0..10_000_u64 {
        let mut order = full_order();
        (order.order_no, order.port) = (no(&format!("{i:06}")), port_key((i % 200) as u8, 0));
        store.put_order(&mut order).unwrap();
        if i % 10 == 0 {
            store.add_journal(&frame(&[1; 60], FrameVerdict::Accepted)).unwrap();
        }
    }
    store.commit().unwrap();
    store.close().unwrap();
    // In pages read, which no load of the machine changes: 5,000 would be all of them.
    let before = read_bytes();
    let store = place.open();
    assert!(store.open_orders().unwrap().is_empty());
    let read = read_bytes() - before;
    assert!(read < 200_000, "{read} bytes were read");
    drop(store);
}

/// Bytes that this thread asked the kernel for, so far.
fn read_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}
