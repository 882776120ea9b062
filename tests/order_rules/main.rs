//! The rules of orders (contract §4, §5) at one port: what was there, what came, what followed. No byte, no row, no
//! clock: the port decides on what it is handed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod anything;
mod figures;
mod held;
mod issues;
mod later_truth;
mod reports;
mod scene;
mod sessions;
mod start;
mod stop;
mod stuck;
mod taken_back;

use scene::*;
