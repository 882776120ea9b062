//! The codec against the guide's frames and against everything that is not one of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, outside the functions that clippy knows as such"
)]

#[path = "codec/deframer.rs"]
mod deframer;
#[path = "codec/messages.rs"]
mod messages;
#[path = "codec/samples.rs"]
mod samples;
#[path = "codec/vectors.rs"]
mod vectors;
