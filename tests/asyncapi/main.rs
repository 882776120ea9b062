//! What the program says and takes is what `docs/asyncapi.yaml` says of it, and the description can fail.
//!
//! The other tests on the real program check all that they see in the same way, see `support`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod mutations;
mod scenes;
