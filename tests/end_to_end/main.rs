//! Orders, frames and commands from outside: the real program, real sockets, a device that says what it is told to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod consistency;
mod frames;
mod orders;
mod presence;
mod process;
mod restarts;
mod scaled;
mod scenes;
mod starts;
mod stops;
mod stuck;

use serde_json::Value;

/// What a reply says: its result, its code, the field.
fn code(reply: &Value) -> (&str, &str, Option<&str>) {
    (
        reply["result"].as_str().unwrap(),
        reply["error"]["code"].as_str().unwrap_or("-"),
        reply["error"]["field"].as_str(),
    )
}
