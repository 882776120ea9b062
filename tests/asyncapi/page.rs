//! The examples of `docs/cloud.md` are what they seem.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::commands;
use crate::support::asyncapi::asyncapi;
use crate::support::rows_of;

const PAGE: &str = include_str!("../../docs/cloud.md");

/// The blocks of a page: what stands behind the fence, and the text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let parts: Vec<&str> = PAGE.split("```").collect();
    assert_eq!(parts.len() % 2, 1, "a fence is open");
    parts.iter().skip(1).step_by(2).map(|block| block.split_once('\n').unwrap()).collect()
}

fn messages() -> Vec<(String, Value)> {
    let messages = blocks().into_iter().filter_map(|(info, text)| Some((info.strip_prefix("json ")?, text)));
    messages.map(|(tail, text)| (format!("chargegate/site-1/{tail}"), serde_json::from_str(text).unwrap())).collect()
}

#[test]
fn every_block_of_the_page_is_a_message_with_its_topic_or_sql() {
    for (info, _) in blocks() {
        assert!(info == "sql" || info.starts_with("json "), "{info:?}");
    }
    assert!(messages().len() >= 10);
    for (topic, message) in messages() {
        asyncapi().check(&topic, &message).unwrap_or_else(|why| panic!("{topic}: {why}\n{message}"));
    }
}

#[test]
fn the_commands_of_the_page_are_commands_to_the_program() {
    let commands = messages().into_iter().filter(|(topic, _)| topic.ends_with("/command"));
    for (_, command) in commands {
        commands::accepted(&command);
    }
}

/// In the order of the page: the tables and the inserts once, twice is harmless; then the gaps.
#[test]
fn the_statements_of_the_page_do_what_it_says() {
    let db = Connection::open_in_memory().unwrap();
    let sql = |start: &str| {
        let found = blocks().into_iter().find(|(info, text)| *info == "sql" && text.starts_with(start));
        found.unwrap_or_else(|| panic!("no block starts with {start}")).1
    };
    let (table, insert) = sql("CREATE TABLE events").split_once(";\n").unwrap();
    db.execute_batch(table).unwrap();
    db.execute_batch(&insert.replace("41", "19")).unwrap();
    for _ in 0..2 {
        db.execute_batch(insert).unwrap();
    }
    assert_eq!(rows_of(&db, "SELECT count(*) AS n FROM events"), [json!({ "n": 2 })]);
    let gaps = [json!({ "from_seq": 17, "to_seq": 18 }), json!({ "from_seq": 20, "to_seq": 40 })];
    assert_eq!(rows_of(&db, sql("SELECT seq + 1")), gaps);

    let (table, upsert) = sql("CREATE TABLE orders").split_once(";\n").unwrap();
    db.execute_batch(table).unwrap();
    let newest = |revision: u32, seq: u32| {
        let values = format!("('A-1001', {revision}, {seq}, 0, '{{}}')");
        let changed = upsert.replace("('A-1001', 1, 41, 0, '{}')", &values);
        assert!(changed.contains(&values));
        db.execute_batch(&changed).unwrap();
        rows_of(&db, "SELECT revision, seq FROM orders").remove(0)
    };
    db.execute_batch(upsert).unwrap();
    assert_eq!(newest(1, 40), json!({ "revision": 1, "seq": 41 }));
    assert_eq!(newest(1, 42), json!({ "revision": 1, "seq": 42 }));
    assert_eq!(newest(2, 7), json!({ "revision": 2, "seq": 7 }));
    assert_eq!(newest(1, 99), json!({ "revision": 2, "seq": 7 }));
    assert_eq!(rows_of(&db, "SELECT count(*) AS n FROM orders"), [json!({ "n": 1 })]);
}
