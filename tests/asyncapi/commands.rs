//! The description of commands and the program that reads them agree.

use std::collections::BTreeSet;

use chargegate::command::{Action, Code, Problem, Request};
use serde_json::{Value, json};

use crate::support::asyncapi::asyncapi;

const TOPIC: &str = "chargegate/site-1/command";

/// Contract §6.
const TYPES: [&str; 11] = [
    "start_charge",
    "stop_charge",
    "query_status",
    "claim_order",
    "get_order",
    "get_snapshot",
    "replay",
    "set_device",
    "set_socket",
    "remove_device",
    "acknowledge",
];

/// What the program makes of a command, as far as it is judged by itself alone.
fn read(command: &Value) -> Result<(), Problem> {
    match Request::read(command.to_string().as_bytes())?.command()?.action {
        Action::Start(start) => start.plan().map(drop),
        Action::Claim(claim) => claim.plan().map(drop),
        _ => Ok(()),
    }
}

/// The program takes it.
pub fn accepted(command: &Value) {
    match read(command) {
        Ok(()) => {}
        // Named, and still to come.
        Err(problem) if problem.code == Code::NotSupported => {}
        Err(problem) => panic!("{command}: {problem:?}"),
    }
}

/// The types that the program reads, from its own source: it has no list of them.
fn types_in_the_program() -> BTreeSet<&'static str> {
    let source = include_str!("../../src/command.rs");
    let (_, arms) = source.split_once("match kind.as_str() {").unwrap();
    let (arms, _) = arms.split_once("other =>").unwrap();
    let patterns = arms.lines().filter_map(|line| line.split_once("=>")).map(|(pattern, _)| pattern);
    patterns.flat_map(|pattern| pattern.split('"').skip(1).step_by(2)).collect()
}

#[test]
fn every_type_of_command_is_described_and_no_other() {
    let described: BTreeSet<String> = asyncapi().messages_of("command").into_iter().collect();
    assert_eq!(described, TYPES.map(str::to_owned).into());
    let of_the_control_socket = ["flush", "redecode"];
    let program: BTreeSet<&str> =
        types_in_the_program().into_iter().filter(|name| !of_the_control_socket.contains(name)).collect();
    assert_eq!(program, TYPES.into());
    for name in TYPES {
        let operation = asyncapi().at(&format!("/operations/{name}"));
        assert_eq!(operation["messages"][0]["$ref"], format!("#/channels/command/messages/{name}"));
    }
}

#[test]
fn every_example_of_a_command_is_one_to_the_program() {
    for name in TYPES {
        let examples = asyncapi().examples(name);
        assert!(!examples.is_empty(), "{name} has no example");
        for example in examples {
            assert_eq!(example["type"], name);
            asyncapi().check(TOPIC, &example).unwrap();
            accepted(&example);
        }
    }
}

/// What can become wrong with one field.
fn wrong_values() -> [Value; 8] {
    [
        json!(null),
        json!(true),
        json!(""),
        json!("x".repeat(300)),
        json!(-1),
        json!(70_000),
        json!([]),
        json!({ "what": 1 }),
    ]
}

/// A command with each field left out, each made wrong, and one too many.
fn changed(command: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for name in command.as_object().unwrap().keys() {
        let mut without = command.clone();
        without.as_object_mut().unwrap().remove(name);
        all.push(without);
        for value in wrong_values() {
            let mut wrong = command.clone();
            wrong[name] = value;
            all.push(wrong);
        }
    }
    for more in ["unknown", "minutes", "energy_wh", "order_no", "device", "alert_id", "mode"] {
        let mut wrong = command.clone();
        wrong[more] = json!(7);
        all.push(wrong);
    }
    all
}

/// A change anywhere inside the tiers, too.
fn changed_in_tiers(command: &Value) -> Vec<Value> {
    let Some(tiers) = command["tiers"].as_array() else { return Vec::new() };
    let mut all = Vec::new();
    for (place, tier) in tiers.iter().enumerate() {
        for changed in changed(tier) {
            let mut wrong = command.clone();
            wrong["tiers"][place] = changed;
            all.push(wrong);
        }
    }
    all
}

/// The control socket takes a stop by port that does not say which order it means; and no schema compares two numbers.
fn beyond_the_description(command: &Value) -> bool {
    let has = |name: &str| command.get(name).is_some();
    let range = command["from_seq"].as_i64().zip(command["to_seq"].as_i64());
    command["type"] == "stop_charge" && has("device") && !has("expect_order_no")
        || range.is_some_and(|(from, to)| from > to)
}

#[test]
fn the_description_refuses_what_the_program_refuses_and_nothing_else() {
    let mut counts = [0, 0];
    for name in TYPES {
        for example in asyncapi().examples(name) {
            for command in [changed(&example), changed_in_tiers(&example)].concat() {
                let described = asyncapi().check(TOPIC, &command);
                let program = read(&command);
                let to_come = program.as_ref().is_err_and(|problem| problem.code == Code::NotSupported);
                if to_come || beyond_the_description(&command) {
                    continue;
                }
                counts[usize::from(program.is_ok())] += 1;
                assert_eq!(described.is_ok(), program.is_ok(), "{command}\n{described:?}\n{program:?}");
            }
        }
    }
    assert!(counts[0] > 500 && counts[1] > 20, "{counts:?}");
}
