//! The codec against the guide's frames and against everything that is not one of them.

#[path = "codec/deframer.rs"]
mod deframer;
#[path = "codec/messages.rs"]
mod messages;
#[path = "codec/samples.rs"]
mod samples;
#[path = "codec/vectors.rs"]
mod vectors;
