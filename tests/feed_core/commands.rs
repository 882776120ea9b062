//! Commands that come by MQTT.

use super::*;

fn replies(yard: &mut Yard) -> Vec<Value> {
    yard.received().iter().filter(|message| message.topic.ends_with("/reply")).map(body).collect()
}

#[test]
fn a_start_is_answered_on_reply_once_the_device_has_accepted_it_and_says_who_wanted_it() {
    let mut yard = Yard::new();
    let session = yard.connect();
    yard.device_comes();
    yard.received();
    let receipt = yard.cloud_command(session, &start("c-1", json!({ "expires_at": "2099-01-01T00:00:00Z" })));
    assert!(yard.outputs.contains(&CloudOutput::Acknowledge { session, receipt }));
    assert_eq!(replies(&mut yard), Vec::<Value>::new());
    let (message_id, _) = yard.switches().pop().unwrap();
    yard.answer(message_id, 17);
    let reply = replies(&mut yard).pop().unwrap();
    assert_eq!((&reply["id"], &reply["result"]), (&json!("c-1"), &json!("done")));
    let by: (String, String) =
        yard.db().query_row("SELECT source, started_by FROM orders", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(by, ("cloud".to_owned(), "cloud".to_owned()));
    let sql = "SELECT count(*) FROM commands WHERE source = 'cloud' AND actor = 'cloud'";
    assert_eq!((yard.count(sql), yard.waiting()), (1, 0));
}

#[test]
fn a_start_without_an_end_of_its_validity_and_a_stop_that_expects_nothing_are_refused() {
    let mut yard = Yard::new();
    yard.device_comes();
    let session = yard.connect();
    yard.received();
    yard.cloud_command(session, &start("c-1", json!({})));
    let stop = json!({ "id": "c-2", "type": "stop_charge", "device": device(), "socket": 1, "port": 0 });
    yard.cloud_command(session, &stop);
    yard.cloud_command(session, &json!({ "id": "c-3", "type": "flush" }));
    let errors: Vec<(Value, Value)> = replies(&mut yard)
        .iter()
        .map(|reply| (reply["error"]["code"].clone(), reply["error"]["field"].clone()))
        .collect();
    let expected = [("missing_field", "expires_at"), ("missing_field", "expect_order_no"), ("unknown_type", "type")];
    assert_eq!(errors, expected.map(|(code, field)| (json!(code), json!(field))));
    assert!(yard.switches().is_empty());
}

#[test]
fn a_message_expiry_holds_from_the_arrival_whatever_the_wall_clock_says() {
    let mut yard = Yard::new();
    yard.wall_off = -BUILT.0;
    yard.device_comes();
    let session = yard.connect();
    yard.received();
    let message = |id: &str| start(id, json!({})).to_string().into_bytes();
    yard.cloud_message(session, message("c-0"), Some(Duration::ZERO), None);
    assert_eq!(replies(&mut yard)[0]["error"]["code"], "expired");
    yard.cloud_message(session, message("c-1"), Some(Duration::from_secs(20)), None);
    assert_eq!(yard.switches().len(), 1);
    yard.wall_off = 0;
    // 15 s later the socket is asked; nothing comes, so it is asked again; past 20 s no start follows.
    for _ in 0..8 {
        yard.pass(5 * SECOND);
        yard.shows(0x80, 0, 0, 0);
    }
    let starts = yard.switches().iter().filter(|(_, order)| *order != SwitchOrder::Off).count();
    assert!(starts <= 1, "a start was sent {starts} times more after it had expired");
    yard.pass(2 * MINUTE);
    assert_eq!(replies(&mut yard)[0]["result"], "failed");
}

#[test]
fn what_cannot_be_read_is_answered_as_at_the_control_socket() {
    let mut yard = Yard::new();
    let session = yard.connect();
    yard.received();
    for payload in [&b"nonsense"[..], b"\xff\xfe", b"[1]", &[b'x'; 70_000]] {
        yard.cloud_message(session, payload.to_vec(), None, None);
    }
    let receipt = yard.next_receipt();
    let (subject, payload) = (Subject::Command, Err(1_000_000));
    let (retained, expires_in, reply_to) = (false, None, None);
    yard.cloud(CloudInput::Received { session, receipt, subject, payload, retained, expires_in, reply_to });
    let replies = replies(&mut yard);
    assert_eq!(replies.len(), 5);
    assert!(replies.iter().all(|reply| reply["id"].is_null() && reply["error"]["code"] == "invalid_json"));
}

#[test]
fn a_retained_command_is_ignored_and_acknowledged() {
    let mut yard = Yard::new();
    let session = yard.connect();
    yard.received();
    let receipt = yard.next_receipt();
    let payload = Ok(json!({ "id": "c-1", "type": "get_order", "order_no": "x" }).to_string().into_bytes());
    let (subject, retained, expires_in, reply_to) = (Subject::Command, true, None, None);
    yard.cloud(CloudInput::Received { session, receipt, subject, payload, retained, expires_in, reply_to });
    assert_eq!(yard.outputs, [CloudOutput::Acknowledge { session, receipt }]);
    assert_eq!(yard.count("SELECT count(*) FROM commands"), 0);
}

#[test]
fn a_repetition_gets_the_same_reply_and_has_no_second_effect() {
    let mut yard = Yard::new();
    yard.device_comes();
    let session = yard.connect();
    yard.received();
    let command = start("c-1", json!({ "expires_at": "2099-01-01T00:00:00Z" }));
    yard.cloud_command(session, &command);
    // Delivered again by the broker while it is under way: one reply.
    yard.cloud_command(session, &command);
    let starts = yard.switches();
    assert_eq!(starts.len(), 1);
    yard.answer(starts[0].0, 17);
    let first = replies(&mut yard);
    assert_eq!(first.len(), 1);
    yard.cloud_command(session, &command);
    assert_eq!(replies(&mut yard), first);
    yard.cloud_command(session, &start("c-1", json!({ "minutes": 7, "expires_at": "2099-01-01T00:00:00Z" })));
    assert_eq!(replies(&mut yard)[0]["error"]["field"], "id");
}

#[test]
fn a_response_topic_gets_the_reply_as_well_with_its_correlation() {
    let mut yard = Yard::new();
    let session = yard.connect();
    yard.received();
    let to = |topic: &str| Some(ReplyTo { topic: topic.to_owned(), correlation: Some(vec![1, 0, 255]) });
    let command = |id: &str| json!({ "id": id, "type": "get_order", "order_no": "x" }).to_string().into_bytes();
    yard.cloud_message(session, command("c-1"), None, to("answers/7"));
    yard.cloud_message(session, command("c-2"), None, to("answers/#"));
    let got = yard.received();
    let mut topics: Vec<(&str, bool)> =
        got.iter().map(|message| (message.topic.as_str(), message.correlation.is_some())).collect();
    topics.sort_unstable();
    let reply = "chargegate/yard/reply";
    assert_eq!(topics, [("answers/7", true), (reply, false), (reply, false)]);
}

#[test]
fn the_reply_is_kept_until_it_arrives_and_follows_the_orders_fate_over_a_kill() {
    let mut yard = Yard::new();
    yard.device_comes();
    let session = yard.connect();
    yard.received();
    yard.cloud_command(session, &start("c-1", json!({ "expires_at": "2099-01-01T00:00:00Z", "order_no": "o-1" })));
    yard.crash();
    yard.open();
    yard.pass(10 * MINUTE);
    assert_eq!(yard.count("SELECT count(*) FROM outbox WHERE topic = 'reply'"), 1);
    yard.crash();
    yard.outputs.clear();
    yard.open();
    yard.connect();
    let mut got = Vec::new();
    for _ in 0..20 {
        got.extend(replies(&mut yard));
        yard.pass(10);
    }
    assert_eq!(got.len(), 1);
    assert_eq!(
        (&got[0]["id"], &got[0]["result"], &got[0]["order_no"]),
        (&json!("c-1"), &json!("failed"), &json!("o-1"))
    );
}

#[test]
fn on_a_full_disk_a_start_is_refused_and_a_stop_acts_and_both_are_answered() {
    let mut yard = Yard::closed("");
    yard.settings.max_size = 400 << 10;
    yard.open();
    yard.device_comes();
    let session = yard.connect();
    yard.received();
    yard.cloud_command(session, &start("c-1", json!({ "expires_at": "2099-01-01T00:00:00Z", "order_no": "o-1" })));
    let (message_id, _) = yard.switches().pop().unwrap();
    yard.answer(message_id, 17);
    yard.received();
    // Somebody else takes what is left.
    let db = yard.db();
    db.pragma_update(None, "max_page_count", 100).unwrap();
    db.execute_batch("CREATE TABLE hog (x)").unwrap();
    while db.execute("INSERT INTO hog VALUES (zeroblob(3000))", []).is_ok() {}
    while db.execute("INSERT INTO hog VALUES (zeroblob(30))", []).is_ok() {}
    let said = |yard: &mut Yard, command: Value| {
        let (now, receipt) = (yard.at(), yard.next_receipt());
        let (subject, payload) = (Subject::Command, Ok(command.to_string().into_bytes()));
        let (retained, expires_in, reply_to) = (false, None, None);
        let input = CloudInput::Received { session, receipt, subject, payload, retained, expires_in, reply_to };
        yard.site().cloud(input, now).unwrap();
        if yard.site().wants_commit() {
            yard.site().commit(now).unwrap();
        }
        yard.take_outputs();
        assert!(yard.outputs.contains(&CloudOutput::Acknowledge { session, receipt }), "{:?}", yard.outputs);
        let outputs = std::mem::take(&mut yard.outputs);
        outputs.into_iter().find_map(|output| match output {
            CloudOutput::Publish { message, .. } if message.topic.ends_with("/reply") => Some(body(&message)),
            _ => None,
        })
    };
    let padding = "x".repeat(250);
    let another = start("c-2", json!({ "expires_at": "2099-01-01T00:00:00Z", "actor": padding, "port": 0 }));
    let refused = said(&mut yard, another).unwrap();
    assert_eq!(refused["error"]["code"], "port_busy", "{refused}");
    // The last holes in the pages are filled, too.
    let refused = (0..5000).find_map(|n| {
        let set = json!({ "id": format!("c-3-{n}"), "type": "set_device", "device": device(), "note": padding });
        said(&mut yard, set).filter(|reply| reply["result"] == "rejected")
    });
    let refused = refused.expect("the disk is full");
    assert_eq!(refused["error"]["code"], "store_full");
    let stop = json!({ "id": "c-4", "type": "stop_charge", "order_no": "o-1", "actor": padding });
    assert_eq!(said(&mut yard, stop), None, "it is under way");
    let orders: Vec<SwitchOrder> = yard.switches().into_iter().map(|(_, order)| order).collect();
    assert_eq!(orders, [SwitchOrder::Off], "the stop goes out");
}
