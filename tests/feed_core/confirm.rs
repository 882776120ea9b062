//! `mqtt.confirm = "application"`: rows wait for the receiver's own word.

use super::*;

const APPLICATION: &str = "mqtt.confirm = \"application\"\n";

fn deliver(yard: &mut Yard) -> Vec<Message> {
    let mut got = Vec::new();
    for _ in 0..50 {
        got.extend(yard.received());
        yard.pass(10);
    }
    got
}

#[test]
fn rows_wait_for_the_receivers_ack_and_go_up_to_its_number() {
    let mut yard = Yard::closed(APPLICATION);
    fill(&mut yard.open_store(), Stream::Order, 5);
    yard.open();
    let session = yard.connect();
    assert_eq!(numbers(&deliver(&mut yard), "order"), [1, 2, 3, 4, 5]);
    assert_eq!(yard.waiting(), 5, "the broker's word is not enough");
    let instance = yard.instance();
    yard.ack(session, "order", "another", 5);
    yard.ack(session, "device", &instance, 5);
    assert_eq!(yard.waiting(), 5);
    yard.ack(session, "order", &instance, 3);
    assert_eq!((yard.waiting(), yard.count("SELECT min(seq) FROM outbox")), (2, 4));
    yard.ack(session, "order", &instance, 2);
    yard.ack(session, "order", &instance, 1_000_000);
    assert_eq!(yard.waiting(), 0);
    yard.make_event();
    assert!(yard.waiting() > 0);
    assert!(!numbers(&deliver(&mut yard), "device").is_empty());
}

#[test]
fn an_ack_confirms_nothing_that_was_not_sent() {
    let mut yard = Yard::closed("mqtt.confirm = \"application\"\nmqtt.drain_rate = 100000\n");
    fill(&mut yard.open_store(), Stream::Order, 100);
    yard.open();
    let session = yard.connect_to(10, BIG);
    yard.pass(100);
    // State and summary stand in the window as well.
    let sent = yard.published().iter().filter(|(_, message)| message.topic.ends_with("/order")).count();
    assert_eq!(sent, 8);
    let instance = yard.instance();
    yard.ack(session, "order", &instance, 1000);
    assert_eq!((yard.waiting(), yard.count("SELECT min(seq) FROM outbox")), (92, 9));
}

#[test]
fn what_was_sent_again_is_confirmed_only_when_it_was_sent_again() {
    let mut yard = Yard::closed(APPLICATION);
    fill(&mut yard.open_store(), Stream::Order, 3);
    yard.open();
    let session = yard.connect();
    deliver(&mut yard);
    let instance = yard.instance();
    yard.ack(session, "order", &instance, 3);
    yard.down(session);
    // As `replay` does it.
    let now = yard.at();
    yard.site.take().unwrap().close(now).unwrap();
    let mut store = yard.open_store();
    store.enqueue_event(Stream::Order, 2, BUILT).unwrap();
    store.commit().unwrap();
    drop(store);
    yard.outputs.clear();
    yard.open();
    let session = yard.expect_connect().0;
    yard.ack(session, "order", &instance, 3);
    assert_eq!(yard.waiting(), 1, "that ack was about the first time");
    yard.cloud(CloudInput::Up { session, window: 10, largest: BIG });
    assert_eq!(numbers(&deliver(&mut yard), "order"), [2]);
    yard.ack(session, "order", &instance, 3);
    assert_eq!(yard.waiting(), 0);
}

#[test]
fn unacknowledged_rows_are_sent_again_after_a_restart_but_not_with_every_session() {
    let mut yard = Yard::closed(APPLICATION);
    fill(&mut yard.open_store(), Stream::Order, 3);
    yard.open();
    let session = yard.connect();
    deliver(&mut yard);
    yard.down(session);
    yard.pass(2 * SECOND);
    let _ = yard.connect();
    assert!(numbers(&deliver(&mut yard), "order").is_empty());
    let instance = yard.instance();
    // A clean end notes how far the sending had come.
    let now = yard.at();
    yard.site.take().unwrap().close(now).unwrap();
    yard.outputs.clear();
    yard.open();
    let session = yard.expect_connect().0;
    yard.ack(session, "order", &instance, 1);
    assert_eq!(yard.waiting(), 2, "an ack of what the last run sent counts");
    yard.cloud(CloudInput::Up { session, window: 10, largest: BIG });
    assert_eq!(numbers(&deliver(&mut yard), "order"), [2, 3]);
}

#[test]
fn replies_are_confirmed_by_the_broker() {
    let mut yard = Yard::with(APPLICATION);
    let session = yard.connect();
    yard.received();
    yard.cloud_command(session, &json!({ "id": "c-1", "type": "get_order", "order_no": "none" }));
    assert_eq!(yard.waiting(), 1);
    deliver(&mut yard);
    assert_eq!(yard.waiting(), 0);
}
