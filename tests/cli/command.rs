//! `command`: what goes to the agent, and what comes back.

use serde_json::{Value, json};

use crate::site::{Ran, Site, agent};

#[test]
fn a_command_prints_the_reply_and_tells_whether_it_was_done() {
    let site = Site::new();
    let by_type = |request: &Value| {
        let done = json!({"v": 1, "id": request["id"], "result": request["type"]});
        // Another's reply, should it ever come, is not ours.
        format!("{}\n{done}\n", json!({"v": 1, "id": "another", "result": "done"}))
    };
    let agent = agent(&site.path("chargegate.sock"), 4, by_type);
    let done = site.run(&["command", r#"{"id":"a", "type":"done"}"#]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(done.json(), json!({"v": 1, "id": "a", "result": "done"}));
    let failed = site.run_with_input(&["command", "-"], "{\n  \"id\": \"b\",\n  \"type\": \"failed\"\n}\n");
    assert_eq!((failed.code, failed.err.as_str(), &failed.json()["id"]), (1, "", &json!("b")));
    assert_eq!(site.run(&["command", r#"{"id":"c","type":"rejected"}"#]).code, 1);
    let made_up = site.run(&["command", r#"{"type":"done"}"#]);
    assert_eq!(made_up.code, 0);
    let lines = agent.join().unwrap();
    assert_eq!(lines[0], "{\"id\":\"a\",\"type\":\"done\"}\n");
    assert_eq!(lines[1], "{\"id\":\"b\",\"type\":\"failed\"}\n");
    let sent: Value = serde_json::from_str(&lines[3]).unwrap();
    assert_eq!(sent["id"], made_up.json()["id"]);
}

#[test]
fn what_is_no_json_is_for_the_agent_to_refuse() {
    let site = Site::new();
    let refusal = r#"{"v":1,"id":null,"result":"rejected","error":{"code":"invalid_json"}}"#;
    let agent = agent(&site.path("chargegate.sock"), 1, move |_| format!("{refusal}\n"));
    let refused = site.run(&["command", "{stop\nit}"]);
    assert_eq!(refused, Ran { code: 1, out: format!("{refusal}\n"), err: String::new() });
    assert_eq!(agent.join().unwrap(), ["{stop it}\n"]);
}

#[test]
fn a_command_without_an_agent_fails_in_one_line() {
    let site = Site::new();
    let start = "chargegate: command: no agent answers at chargegate.sock: ";
    let missing = site.run(&["command", "{}"]);
    assert_eq!((missing.code, missing.out.as_str(), missing.err.lines().count()), (1, "", 1));
    assert!(missing.err.starts_with(start), "{missing:?}");
    let agent = agent(&site.path("chargegate.sock"), 1, |_| String::new());
    let closed = site.run(&["command", "{}"]);
    assert_eq!((closed.code, closed.out.as_str()), (1, ""));
    assert!(closed.err.starts_with(start), "{closed:?}");
    agent.join().unwrap();
    assert!(site.run(&["command", "{}"]).err.starts_with(start));
}
