//! `state`, `summary`, `progress`, and the time in an envelope.

use super::*;

#[test]
fn state_comes_first_in_each_session_and_the_will_says_the_opposite() {
    let mut yard = Yard::new();
    yard.make_event();
    let (session, will) = yard.expect_connect();
    assert_eq!((&will["online"], &will["session"], &will["v"]), (&json!(false), &json!(session.0), &json!(1)));
    yard.cloud(CloudInput::Up { session, window: 10, largest: BIG });
    let got = yard.received();
    let state = body(&got[0]);
    assert_eq!((got[0].topic.as_str(), got[0].retain, got[0].confirmed), ("chargegate/yard/state", true, true));
    assert_eq!((&state["online"], &state["session"]), (&json!(true), &json!(session.0)));
    assert_eq!(state["instance"], yard.instance());
    assert_eq!(state["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(state["streams"]["order"], json!({ "oldest": 1, "next": 1 }));
    let next = state["streams"]["device"]["next"].as_u64().unwrap();
    assert!(next > 1, "{state}");
    assert!(state["since"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn the_state_is_told_again_with_the_summary_when_its_streams_moved() {
    let mut yard = Yard::new();
    yard.connect();
    yard.received();
    yard.pass(5 * MINUTE);
    assert_eq!(names(&yard.received()), ["summary"]);
    yard.make_event();
    yard.received();
    yard.pass(5 * MINUTE);
    assert_eq!(names(&yard.received()), ["state", "summary"]);
}

#[test]
fn a_summary_has_counts_and_a_place_for_each_metric() {
    let mut yard = Yard::new();
    yard.device_comes();
    yard.connect();
    let got = yard.received();
    let summary = got.iter().find(|message| message.topic.ends_with("/summary")).unwrap();
    assert!(summary.retain);
    let summary = body(summary);
    let counts = &summary["counts"];
    assert_eq!((&counts["devices"], &counts["devices_online"], &counts["ports"]), (&json!(1), &json!(1), &json!(1)));
    for span in ["hour", "day"] {
        let metrics = summary[span].as_object().unwrap();
        assert_eq!(metrics.len(), 16);
        assert!(metrics.contains_key("compliance_rate") && metrics.contains_key("store_commit_ms_p99"));
    }
}

#[test]
fn progress_comes_at_most_once_per_order_and_interval_and_is_not_kept() {
    let mut yard = Yard::new();
    yard.device_comes();
    let session = yard.connect();
    yard.received();
    yard.cloud_command(session, &start("c-1", json!({ "expires_at": "2099-01-01T00:00:00Z" })));
    let (message_id, _) = yard.switches().pop().unwrap();
    yard.answer(message_id, 17);
    yard.received();
    let mut told = Vec::new();
    for minute in 1..=20 {
        yard.shows(0xb0, 17, 2 * minute, u32::from(minute));
        for _ in 0..12 {
            for message in yard.received().iter().filter(|message| message.topic.ends_with("/progress")) {
                assert!(!message.confirmed && !message.retain);
                told.push((yard.now, body(message)["minutes"].as_u64().unwrap()));
            }
            yard.pass(5 * SECOND);
        }
    }
    assert!((4..=5).contains(&told.len()), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 5 * MINUTE), "{told:?}");
    yard.received();
    yard.down(session);
    yard.shows(0xb0, 17, 50, 30);
    yard.pass(10 * SECOND);
    yard.connect();
    yard.pass(MINUTE);
    assert!(!names(&yard.received()).contains(&"progress".to_owned()));
}

#[test]
fn a_time_from_before_the_clock_was_set_is_told_right() {
    let mut yard = Yard::closed("");
    yard.wall_off = -BUILT.0;
    yard.open();
    let session = yard.connect_to(1, BIG);
    let state = yard.published().remove(0);
    yard.make_event();
    let happened = yard.now;
    yard.pass(20 * SECOND);
    yard.wall_off = 0;
    let expected = WallTime(yard.wall().0 - i64::try_from(yard.now - happened).unwrap());
    yard.settled(session, state.0, Settlement::Confirmed);
    let got = yard.received();
    let event = got.iter().map(body).find(|event| event["type"] == "device.registered").unwrap();
    assert_eq!(event["time"], chargegate::time_text::rfc3339(expected));
    assert_eq!(event["clock"], "restored");
}
