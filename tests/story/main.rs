//! What can still be told and amended when an order is over: whose number it has, what its old frames say now, and how
//! it came about. The real program, real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod acknowledge;
mod claim;
mod explain;
mod redecode;

use serde_json::Value;

/// What a reply says: its result, its code, the field.
fn code(reply: &Value) -> (&str, &str, Option<&str>) {
    (
        reply["result"].as_str().unwrap(),
        reply["error"]["code"].as_str().unwrap_or("-"),
        reply["error"]["field"].as_str(),
    )
}
