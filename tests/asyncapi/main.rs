//! What the program says and takes is what `docs/asyncapi.yaml` says of it, and the description can fail.
//!
//! The other tests on the real program check all that they see in the same way, see `support`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "the end-to-end scenes use more of it")]
#[path = "../end_to_end/scaled.rs"]
mod scaled;

mod commands;
mod faulty;
mod mutations;
mod page;
mod scenes;
