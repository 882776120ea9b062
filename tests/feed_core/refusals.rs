//! What the broker does not take, and what nobody hears.

use super::*;

#[test]
fn a_refused_event_is_replaced_under_its_number_and_the_rest_flows() {
    let mut yard = Yard::new();
    let session = yard.connect();
    yard.received();
    yard.make_event();
    yard.make_event();
    let sent = yard.published();
    let (first, rest) = sent.split_first().unwrap();
    let was = body(&first.1);
    yard.settled(session, first.0, Settlement::Refused("not authorized".to_owned()));
    for (ticket, _) in rest {
        yard.settled(session, *ticket, Settlement::Confirmed);
    }
    let got = yard.received();
    let instead = got.iter().map(body).find(|event| event["id"] == was["id"]).unwrap();
    assert_eq!((&instead["type"], &instead["seq"]), (&json!("event.unsendable"), &was["seq"]));
    assert_eq!(instead["data"], json!({ "type": was["type"], "why": "the broker refused it: not authorized" }));
    assert_eq!(got.iter().map(body).filter(|event| event["type"] == "alert.raised").count(), 1);
    assert_eq!((yard.alert("message_refused"), yard.waiting()), (Some(true), 0));
    let kept = yard.count("SELECT count(*) FROM events WHERE type = 'event.unsendable'");
    assert_eq!(kept, 0, "the store keeps what happened");
    yard.pass(MINUTE);
    assert_eq!(yard.alert("message_refused"), Some(false));
}

#[test]
fn an_event_that_is_too_large_is_replaced_before_it_is_sent_and_in_its_order() {
    let mut yard = Yard::closed("");
    let mut store = yard.open_store();
    fill(&mut store, Stream::Order, 1);
    let data = json!({ "text": "x".repeat(5000) });
    let event = NewEvent {
        stream: Stream::Order,
        kind: "order.corrected",
        device: None,
        order_no: None,
        at: BUILT,
        up: UpTime(1),
        clock: ClockQuality::Synced,
        data: &data,
    };
    let seq = store.add_event(&event).unwrap();
    store.enqueue_event(Stream::Order, seq, BUILT).unwrap();
    fill(&mut store, Stream::Order, 1);
    drop(store);
    yard.open();
    yard.connect_to(32, 3000);
    let mut got = Vec::new();
    for _ in 0..10 {
        got.extend(yard.received());
        yard.pass(10);
    }
    assert_eq!(numbers(&got, "order"), [1, 2, 3]);
    let types: Vec<Value> = got
        .iter()
        .filter(|message| message.topic.ends_with("/order"))
        .map(|message| body(message)["type"].clone())
        .collect();
    assert_eq!(types, ["order.completed", "event.unsendable", "order.completed"]);
    assert_eq!((yard.waiting(), yard.alert("message_refused")), (0, Some(true)));
}

#[test]
fn what_is_refused_in_both_forms_waits_and_is_tried_again() {
    let mut yard = Yard::new();
    let session = yard.connect();
    yard.received();
    yard.make_event();
    // A broker that lets nothing through on event/device.
    let mut refused = 0;
    let refuses = |message: &Message| message.topic.ends_with("/event/device");
    for _ in 0..20 {
        for (ticket, message) in yard.published() {
            let refuse = refuses(&message);
            refused += u32::from(refuse);
            let settlement = if refuse { Settlement::Refused("acl".to_owned()) } else { Settlement::Confirmed };
            yard.settled(session, ticket, settlement);
        }
    }
    let waiting = yard.waiting();
    assert!(waiting > 0, "an event was given up");
    assert_eq!(i64::from(refused), 2 * waiting, "each in both forms");
    yard.pass(4 * MINUTE);
    yard.received();
    assert_eq!((yard.waiting(), yard.alert("message_refused")), (waiting, Some(true)));
    yard.pass(MINUTE);
    let got = yard.received();
    assert!(!numbers(&got, "device").is_empty(), "{:?}", names(&got));
    assert_eq!(yard.waiting(), 0);
    yard.pass(2 * MINUTE);
    assert_eq!(yard.alert("message_refused"), Some(false));
}

#[test]
fn events_that_nobody_hears_count_as_confirmed_and_raise_an_alert_until_somebody_does() {
    let mut yard = Yard::new();
    let session = yard.connect();
    yard.received();
    yard.make_event();
    for _ in 0..5 {
        for (ticket, _) in yard.published() {
            yard.settled(session, ticket, Settlement::NobodyListens);
        }
    }
    assert_eq!((yard.waiting(), yard.alert("cloud_not_listening")), (0, Some(true)));
    yard.make_event();
    yard.received();
    yard.pass(30 * SECOND);
    yard.make_event();
    for (ticket, _) in yard.published() {
        yard.settled(session, ticket, Settlement::NobodyListens);
    }
    yard.pass(59 * SECOND);
    assert_eq!(yard.alert("cloud_not_listening"), Some(true), "it still happens");
    yard.make_event();
    yard.received();
    yard.pass(MINUTE);
    assert_eq!(yard.alert("cloud_not_listening"), Some(false));
    assert_eq!(yard.count("SELECT count(*) FROM alerts WHERE rule = 'cloud_not_listening'"), 1);
}

#[test]
fn a_rotten_event_is_told_as_such_under_its_number() {
    let mut yard = Yard::closed("");
    fill(&mut yard.open_store(), Stream::Order, 3);
    yard.db().execute("UPDATE events SET data = '{\"n\":7}' WHERE seq = 2", []).unwrap();
    yard.db().execute("UPDATE outbox SET created_at = 7 WHERE seq = 3", []).unwrap();
    yard.open();
    yard.connect();
    let mut got = Vec::new();
    for _ in 0..10 {
        got.extend(yard.received());
        yard.pass(10);
    }
    assert_eq!(numbers(&got, "order"), [1, 2, 3], "a row whose event is whole is sent");
    let second = got.iter().map(body).find(|event| event["seq"] == 2 && event["id"].is_string()).unwrap();
    assert_eq!((&second["type"], &second["data"]["type"]), (&json!("event.unsendable"), &Value::Null));
}
