//! The real program with its link: the loop wakes for the broker, and says goodbye to it.

use std::time::Duration;

use chargegate::clock::Stopwatch;
use serde_json::{Value, json};

use crate::broker::{Broker, Heard, Listener, free_port};
use crate::fake::{be_polite, serve};
use crate::support::Agent;
use crate::wait_for;

fn configured(url: &str) -> String {
    format!("[site]\nid = \"yard\"\n[mqtt]\nurl = \"{url}\"\n")
}

fn address(broker: &Broker) -> String {
    format!("mqtt://127.0.0.1:{}", broker.port)
}

/// The next message on this topic, as JSON.
fn hear(listener: &Listener, last: &str) -> (Heard, Value) {
    loop {
        let heard = listener.hear();
        if heard.topic == format!("chargegate/yard/{last}") {
            let value = serde_json::from_str(&heard.payload).unwrap();
            return (heard, value);
        }
    }
}

#[test]
fn a_site_tells_that_it_is_online_and_says_goodbye() {
    let broker = Broker::open();
    let listener = broker.listen("chargegate/#");
    let mut agent = Agent::start(&configured(&address(&broker)));
    let (_, state) = hear(&listener, "state");
    assert_eq!((&state["online"], &state["session"]), (&json!(true), &json!(1)));
    let watch = Stopwatch::start();
    assert!(agent.end().success());
    assert!(watch.elapsed() < Duration::from_secs(2), "{:?}", watch.elapsed());
    let (_, state) = hear(&listener, "state");
    assert_eq!((&state["online"], &state["session"]), (&json!(false), &json!(1)));
    assert!(listener.is_silent_for(Duration::from_millis(300)), "the will came after a goodbye");
    assert!(agent.log().contains("ended cleanly"), "{}", agent.log());
}

#[test]
fn a_killed_site_is_told_offline_by_its_will_and_the_next_session_has_a_higher_number() {
    let broker = Broker::open();
    let listener = broker.listen("chargegate/yard/state");
    let mut agent = Agent::start(&configured(&address(&broker)));
    assert_eq!(hear(&listener, "state").1["online"], json!(true));
    agent.kill();
    let (_, will) = hear(&listener, "state");
    assert_eq!((&will["online"], &will["session"]), (&json!(false), &json!(1)));
    agent.run();
    let (_, state) = hear(&listener, "state");
    assert_eq!(state["online"], json!(true));
    assert!(state["session"].as_u64() > will["session"].as_u64(), "{state}");
}

#[test]
fn commands_by_mqtt_get_their_reply_also_those_sent_while_the_agent_was_away() {
    let broker = Broker::open();
    let listener = broker.listen("chargegate/#");
    let mut agent = Agent::start(&configured(&address(&broker)));
    hear(&listener, "state");
    let ask = |id: &str| {
        let command = format!("{{\"id\":\"{id}\",\"type\":\"get_order\",\"order_no\":\"none\"}}");
        broker.publish(&["-t", "chargegate/yard/command", "-m", &command]);
    };
    ask("while-there");
    let (_, reply) = hear(&listener, "reply");
    assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!("while-there"), &json!("unknown_order")));
    agent.end();
    ask("while-away");
    agent.run();
    let (_, reply) = hear(&listener, "reply");
    assert_eq!(reply["id"], json!("while-away"));
    wait_for("an empty outbox", || agent.rows("SELECT * FROM outbox").is_empty().then_some(()));
}

#[test]
fn without_a_broker_the_agent_works_waits_and_ends_in_time() {
    let silent = serve(std::mem::forget);
    let closed = free_port();
    for port in [silent, closed] {
        let mut agent = Agent::start(&configured(&format!("mqtt://127.0.0.1:{port}")));
        let reply = agent.command(json!({ "type": "get_order", "order_no": "none" }));
        assert_eq!(reply["error"]["code"], json!("unknown_order"));
        let watch = Stopwatch::start();
        assert!(agent.end().success());
        assert!(watch.elapsed() < Duration::from_secs(2), "{:?}", watch.elapsed());
    }
}

#[test]
fn a_broker_that_confirms_no_goodbye_does_not_hold_up_the_end() {
    let port = serve(|stream| {
        std::thread::spawn(|| be_polite(stream, &[], |_, _, _| Ok(())));
    });
    let mut agent = Agent::start(&configured(&format!("mqtt://127.0.0.1:{port}")));
    wait_for("the connection", || agent.log().contains("cloud connected").then_some(()));
    let watch = Stopwatch::start();
    assert!(agent.end().success());
    assert!(watch.elapsed() < Duration::from_secs(5), "{:?}", watch.elapsed());
}
