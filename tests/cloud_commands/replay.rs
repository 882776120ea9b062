//! `replay`: events are sent again, as far as they are kept.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::Agent;
use crate::{CLOUD, Turns, add_events, code, fill};

/// An agent with so many events of the device stream that were told when there was no cloud.
fn agent_with(count: u64) -> Agent {
    let mut agent = Agent::prepare(CLOUD);
    fill(&agent, |store| add_events(store, count));
    agent.run();
    agent
}

fn replay(agent: &Agent, from: u64, to: u64) -> Value {
    agent.command(json!({ "type": "replay", "stream": "device", "from_seq": from, "to_seq": to }))
}

/// The numbers of the device stream's events in the outbox, in the order in which they are sent.
fn waiting(agent: &Agent) -> Vec<u64> {
    let rows = agent.rows("SELECT seq FROM outbox WHERE stream = 'device' AND topic = 'event/device' ORDER BY id");
    rows.iter().map(|row| row["seq"].as_u64().unwrap()).collect()
}

#[test]
fn without_a_cloud_a_replay_is_not_supported_and_says_why() {
    let agent = Agent::start("");
    let reply = replay(&agent, 1, 1);
    assert_eq!(code(&reply), ("rejected", "not_supported", None));
    assert!(reply["error"]["message"].as_str().unwrap().contains("mqtt.url"), "{reply}");
    assert_eq!(agent.rows("SELECT * FROM outbox"), Vec::<Value>::new());
}

#[test]
fn events_are_put_into_the_outbox_again_once_each_and_in_their_order() {
    let agent = agent_with(9);
    let reply = replay(&agent, 3, 5);
    assert_eq!((code(&reply).0, &reply["data"]), ("done", &json!({ "from_seq": 3, "to_seq": 5 })));
    assert_eq!(waiting(&agent), [3, 4, 5]);
    let reply = replay(&agent, 2, 7);
    assert_eq!(reply["data"], json!({ "from_seq": 2, "to_seq": 7 }), "what waits already is sent, too");
    assert_eq!(waiting(&agent), [3, 4, 5, 2, 6, 7]);
    assert_eq!(replay(&agent, 4, 6)["data"], json!({ "from_seq": 4, "to_seq": 6 }));
    assert_eq!(waiting(&agent), [3, 4, 5, 2, 6, 7]);
    let row = agent.rows("SELECT payload, typeof(created_at) AS created, crc <> 0 AS sum FROM outbox").pop().unwrap();
    assert_eq!(row, json!({ "payload": null, "created": "integer", "sum": 1 }), "`events` alone holds the event");
}

#[test]
fn a_long_replay_goes_page_by_page_and_is_answered_when_all_is_kept() {
    let mut agent = agent_with(2600);
    let ask = json!({ "id": "long", "type": "replay", "stream": "device", "from_seq": 1, "to_seq": 2600 });
    let first = agent.begin(ask.clone());
    // While it goes on, others are served, and a second one waits for its turn.
    let (repeated, second) = (agent.begin(ask), replay(&agent, 100, 2550));
    assert_eq!(second["data"], json!({ "from_seq": 100, "to_seq": 2550 }));
    let reply = first.reply();
    assert_eq!(reply["data"], json!({ "from_seq": 1, "to_seq": 2600 }));
    assert_eq!(repeated.reply(), reply);
    // What was answered is durable.
    agent.kill();
    agent.run();
    assert_eq!(waiting(&agent), (1..=2600).collect::<Vec<u64>>());
}

#[test]
fn what_is_no_longer_kept_is_not_sent_and_the_reply_says_what_is() {
    let mut agent = agent_with(9);
    agent.end();
    Connection::open(agent.path("store.db"))
        .unwrap()
        .execute("DELETE FROM events WHERE stream = 'device' AND seq < 5", [])
        .unwrap();
    agent.run();
    assert_eq!(replay(&agent, 1, 6)["data"], json!({ "from_seq": 5, "to_seq": 6 }));
    assert_eq!(waiting(&agent), [5, 6]);
    let nothing = json!({ "from_seq": null, "to_seq": null });
    for (from, to) in [(1, 4), (100_000, 200_000), (u64::try_from(i64::MAX).unwrap(), i64::MAX.unsigned_abs())] {
        let reply = replay(&agent, from, to);
        assert_eq!((code(&reply).0, &reply["data"]), ("done", &nothing), "{from} to {to}");
    }
    let empty = agent.command(json!({ "type": "replay", "stream": "abnormal", "from_seq": 1, "to_seq": 9 }));
    assert_eq!((code(&empty).0, &empty["data"]), ("done", &nothing));
    assert_eq!(waiting(&agent), [5, 6]);
}

#[test]
fn a_replay_that_cannot_be_is_refused_by_its_field() {
    let agent = agent_with(9);
    let ask = |stream: &str, from: Value, to: Value| {
        let command = json!({ "type": "replay", "stream": stream, "from_seq": from, "to_seq": to });
        let reply = agent.command(command);
        let (result, code, field) = code(&reply);
        format!("{result} {code} {}", field.unwrap_or("-"))
    };
    assert_eq!(ask("devices", json!(1), json!(2)), "rejected out_of_range stream");
    assert_eq!(ask("device", json!(0), json!(2)), "rejected out_of_range from_seq");
    assert_eq!(ask("device", json!(2), json!(1)), "rejected out_of_range to_seq");
    assert_eq!(ask("device", json!(1), json!("2")), "rejected out_of_range to_seq");
    assert_eq!(waiting(&agent), [0; 0]);
}

#[test]
fn a_replay_for_which_the_store_has_no_room_is_refused_and_not_remembered() {
    let mut agent = Agent::prepare(&format!("max_size = \"256KiB\"\n[devices]\n{CLOUD}"));
    fill(&agent, |store| add_events(store, 1500));
    agent.run();
    let ask = json!({ "id": "wide", "type": "replay", "stream": "device", "from_seq": 1, "to_seq": 1500 });
    for _ in 0..2 {
        assert_eq!(code(&agent.command(ask.clone())), ("rejected", "store_full", None));
    }
    assert_eq!(agent.rows("SELECT id FROM commands WHERE id = 'wide'"), Vec::<Value>::new());
    assert_eq!(waiting(&agent), [0; 0]);
}

#[test]
fn a_replay_that_fills_the_disk_is_told_so_and_can_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut turns = Turns::open(&path, |store| add_events(store, 3000));
    let ask = json!({ "id": "long", "type": "replay", "stream": "device", "from_seq": 1, "to_seq": 3000 });
    assert_eq!(turns.command(&ask), None, "it goes on for some turns");
    let outside = Connection::open(&path).unwrap();
    // The alert about the disk waits there as well.
    let count = "SELECT count(*) FROM outbox WHERE stream = 'device'";
    let rows = || outside.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(rows(), 500, "a page a turn");
    // Something else takes all the room.
    outside.execute("INSERT INTO meta VALUES ('other', zeroblob(1000000))", []).unwrap();
    let failed = turns.reply();
    assert_eq!(code(&failed), ("failed", "store_full", None));
    assert!(rows() < 3000);
    outside.execute("DELETE FROM meta WHERE key = 'other'", []).unwrap();
    let _ = turns.turn();
    let done = turns.command(&ask).unwrap_or_else(|| turns.reply());
    assert_eq!(done["data"], json!({ "from_seq": 1, "to_seq": 3000 }), "{done}");
    let distinct = "SELECT count(DISTINCT seq) FROM outbox WHERE stream = 'device'";
    assert_eq!((rows(), outside.query_row(distinct, [], |row| row.get(0))), (3000, Ok(3000)));
}
