//! What waits for the cloud.

use super::*;

fn page(store: &Store, lane: Lane, after: u64) -> Vec<u64> {
    let rows = store.outbox_page(lane, after, 100).unwrap();
    assert!(rows.iter().all(|row| row.intact), "{rows:?}");
    rows.iter().map(|row| row.id).collect()
}

#[test]
fn the_outbox_is_read_in_two_lanes_and_only_as_far_as_it_is_durable() {
    let place = Place::new();
    let mut store = place.open();
    for stream in [Stream::Order, Stream::Alert, Stream::Device, Stream::Abnormal] {
        store.enqueue_event(stream, 1, WALL).unwrap();
    }
    store.enqueue("reply", r#"{"v":1}"#, WALL).unwrap();
    assert_eq!((page(&store, Lane::Urgent, 0), store.outbox_newest()), (vec![], 0), "a power cut would take them back");
    store.commit().unwrap();
    assert_eq!(page(&store, Lane::Urgent, 0), [2, 5]);
    assert_eq!(page(&store, Lane::Rest, 0), [1, 3, 4]);
    assert_eq!(page(&store, Lane::Rest, 3), [4]);
    assert_eq!(store.outbox_page(Lane::Rest, 0, 2).unwrap().len(), 2);
    store.enqueue("reply", "{}", WALL).unwrap();
    store.rollback().unwrap();
    assert_eq!((store.outbox_newest(), store.outbox_waiting().unwrap().rows), (5, 5));
    let row = store.outbox_row(1).unwrap().unwrap();
    assert_eq!((row.topic.as_str(), row.stream, row.seq), ("event/order", Some(Stream::Order), Some(1)));
}

#[test]
fn ids_of_the_outbox_go_on_when_it_is_empty_and_over_a_restart() {
    let place = Place::new();
    let mut store = place.open();
    store.enqueue("reply", "{}", WALL).unwrap();
    store.commit().unwrap();
    store.remove_from_outbox(&[1, 77]).unwrap();
    store.commit().unwrap();
    drop(store);
    let mut store = place.open();
    assert_eq!(store.outbox_newest(), 1);
    assert_eq!(store.enqueue("reply", "{}", WALL).unwrap(), 2);
}

#[test]
fn a_replaced_row_is_whole_and_a_changed_one_is_not() {
    let place = Place::new();
    let mut store = place.open();
    store.enqueue_event(Stream::Order, 7, WALL).unwrap();
    store.enqueue_event(Stream::Order, 8, WALL).unwrap();
    store.replace_in_outbox(1, r#"{"why":"large"}"#).unwrap();
    store.replace_in_outbox(99, "{}").unwrap();
    store.commit().unwrap();
    place.outside().execute("UPDATE outbox SET seq = 9 WHERE id = 2", []).unwrap();
    let rows = store.outbox_page(Lane::Rest, 0, 10).unwrap();
    assert_eq!((rows[0].payload.as_deref(), rows[0].intact), (Some(r#"{"why":"large"}"#), true));
    assert!(!rows[1].intact);
}

#[test]
fn an_ack_takes_rows_of_its_stream_up_to_its_number_and_to_what_was_sent() {
    let place = Place::new();
    let mut store = place.open();
    for (stream, seq) in
        [(Stream::Order, 1), (Stream::Device, 1), (Stream::Order, 2), (Stream::Order, 3), (Stream::Order, 1)]
    {
        store.enqueue_event(stream, seq, WALL).unwrap();
    }
    store.commit().unwrap();
    assert_eq!(store.confirm_outbox(Stream::Order, 2, 4, 1).unwrap(), 1);
    assert_eq!(store.confirm_outbox(Stream::Order, 2, 4, 10).unwrap(), 1);
    store.commit().unwrap();
    assert_eq!(page(&store, Lane::Rest, 0), [2, 4, 5], "what is sent again later waits for another ack");
}

#[test]
fn session_numbers_rise_over_kills_and_without_a_gap_over_clean_ends() {
    let place = Place::new();
    let mut store = place.open();
    assert_eq!(store.next_session(), None, "none is set aside yet");
    store.reserve_sessions().unwrap();
    assert_eq!(store.next_session(), None, "not durably");
    store.commit().unwrap();
    assert_eq!([store.next_session(), store.next_session()], [Some(1), Some(2)]);
    store.close().unwrap();
    let mut store = place.open();
    store.set_up(UpTime(1)).unwrap();
    store.commit().unwrap();
    assert_eq!(store.next_session(), Some(3), "set aside with a commit that was made anyway");
    drop(store);
    let mut store = place.open();
    store.reserve_sessions().unwrap();
    store.commit().unwrap();
    assert!(store.next_session().is_some_and(|session| session > 3));
}
