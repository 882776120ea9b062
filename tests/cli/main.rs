//! The command line from outside: the real binary, its output and exit codes (contract §2).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod command;
mod configuration;
mod decode;
mod reading;
mod site;
mod status;
mod usage;
