//! The control socket: lines that are no commands, and clients that behave badly.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::healthy;
use crate::support::{Agent, Client};

#[test]
fn lines_that_are_no_commands_get_their_code_and_the_next_one_is_served() {
    let agent = Agent::start("");
    let mut beside = healthy(&agent);
    let mut client = Client::connect(&agent);
    let deep = "[".repeat(10_000).into_bytes();
    let lines: [&[u8]; 5] = [b"nonsense", b"\"text\"", b"{\"id\":\"\xff\"}", &deep, b"{\"type\":\"get_order\"}"];
    for line in lines {
        client.send(line);
        let reply = client.reply();
        let code = if line.starts_with(b"{\"type") { "missing_field" } else { "invalid_json" };
        assert_eq!(
            (&reply["id"], &reply["result"], &reply["error"]["code"]),
            (&Value::Null, &json!("rejected"), &json!(code))
        );
    }
    client.send(&[b'x'; 64 * 1024 + 1]);
    assert_eq!(client.reply()["error"]["code"], "invalid_json");
    let mut clients: Vec<Client> = (0..128).map(|_| Client::connect(&agent)).collect();
    for (place, client) in clients.iter_mut().enumerate() {
        client.send(json!({ "id": place.to_string(), "type": "get_order", "order_no": "none" }).to_string().as_bytes());
    }
    for (place, client) in clients.iter().enumerate() {
        assert_eq!(client.reply()["id"], place.to_string());
    }
    beside.heartbeat();
}

#[test]
fn a_client_that_closed_its_side_still_gets_its_reply() {
    let agent = Agent::start("");
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    stream.write_all(b"{\"id\":\"half\",\"type\":\"get_order\",\"order_no\":\"none\"}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("\"half\""), "{reply}");
}
