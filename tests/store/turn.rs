//! One transaction a turn: committed whole, or taken back whole.

use super::*;

#[test]
fn a_rollback_forgets_the_whole_turn_and_nothing_before_it() {
    let place = Place::new();
    let mut store = place.open();
    assert!(!store.in_transaction() && !store.commit().unwrap());
    store.put_device(&full_device()).unwrap();
    assert!(store.in_transaction() && store.commit().unwrap());
    store.remove_device(device_id()).unwrap();
    store.put_order(&mut full_order()).unwrap();
    store.set_up(UpTime(77)).unwrap();
    assert!(store.devices().unwrap().is_empty(), "a turn sees what it wrote");
    store.rollback().unwrap();
    assert!(!store.in_transaction());
    assert_eq!(store.devices().unwrap(), [full_device()]);
    assert!(!store.order_exists(&no("A-1")).unwrap());
}

#[test]
fn after_an_error_nothing_of_the_turn_can_be_committed() {
    let place = Place::new();
    let mut store = place.open();
    store.put_device(&full_device()).unwrap();
    store.put_order(&mut order("A", port_key(1, 0), OrderStatus::Charging)).unwrap();
    store.put_order(&mut order("B", port_key(1, 0), OrderStatus::Charging)).unwrap_err();
    store.put_socket(&full_socket()).unwrap_err();
    store.commit().unwrap_err();
    store.rollback().unwrap();
    assert!(store.devices().unwrap().is_empty());
    store.put_socket(&full_socket()).unwrap();
    store.commit().unwrap();
}

#[test]
fn a_full_store_refuses_rolls_back_and_is_normal_again_when_the_journal_gives_way() {
    let settings = Settings { max_size: 512 << 10, journal_max: 128 << 10, ..Settings::default() };
    let place = Place { settings, ..Place::new() };
    let mut store = place.open();
    let data = json!({"filler": "x".repeat(2000)});
    let bytes = [0xaa; 500];
    for _ in 0..100 {
        store.add_journal(&frame(&bytes, FrameVerdict::Accepted)).unwrap();
    }
    store.commit().unwrap();
    let mut told = 0;
    let refused = loop {
        match store.add_event(&event(Stream::Order, &data)).and_then(|seq| store.commit().map(|_| seq)) {
            Ok(seq) => told = seq,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::Full);
    assert!(refused.passes());
    assert_eq!(store.put_device(&full_device()), Err(StoreError::Full), "until it is rolled back");
    store.rollback().unwrap();
    assert_eq!(store.streams().unwrap()[&Stream::Order].next, told + 1);
    let size = store.size().unwrap();
    assert!(size.file <= 512 << 10 && size.max == 512 << 10, "{size:?}");
    // Full stays full, and reading goes on.
    assert_eq!(store.add_event(&event(Stream::Order, &data)).and_then(|_| store.commit()), Err(StoreError::Full));
    store.rollback().unwrap();
    assert_eq!(store.events_from(Stream::Order, 1, 1000).unwrap().len() as u64, told);
    assert!(store.make_room().unwrap());
    store.commit().unwrap();
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), told + 1);
    store.commit().unwrap();
    while store.make_room().unwrap() && store.journal_after(0, 9).unwrap().len() > 1 {
        store.commit().unwrap();
    }
    store.close().unwrap();
    let ok = place.one::<String>("PRAGMA integrity_check");
    assert_eq!(ok, "ok");
}

#[test]
fn while_another_program_writes_the_turn_is_lost_and_not_the_agent() {
    let place = Place::new();
    let mut store = place.open();
    let outside = place.outside();
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.put_device(&full_device()).unwrap_err();
    assert_eq!(refused, StoreError::Busy);
    store.rollback().unwrap();
    outside.execute_batch("ROLLBACK").unwrap();
    store.put_device(&full_device()).unwrap();
    store.commit().unwrap();
}

#[test]
fn a_reader_that_stays_does_not_keep_the_store_from_closing() {
    let place = Place::new();
    let mut store = place.open();
    store.put_device(&full_device()).unwrap();
    store.commit().unwrap();
    let outside = place.outside();
    outside.execute_batch("BEGIN; SELECT count(*) FROM devices").unwrap();
    store.put_socket(&full_socket()).unwrap();
    store.close().unwrap();
    drop(outside);
    let store = place.open();
    assert!(!store.after_unclean_stop());
    assert_eq!(store.sockets().unwrap(), [full_socket()]);
}
