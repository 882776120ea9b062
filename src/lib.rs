//! The agent on the gateway of a charging site.
//!
//! ```text
//! socket --bytes--> conn --> bkv::Deframer --Frame--> bkv::Uplink --> session (whose, alive) --+
//!                                                                                               v
//! control socket, broker --JSON--> command --------------------------------------------------> site (routes, decides nothing)
//!                                                                                               | to the device, the port
//!          due deadlines --------------------------------------------------------------------> |
//!                                                                                               v
//!                                    (port, its orders, event, now) -> effects           port (pure decisions)
//!                                                                                               |
//!          one commit: orders, ports, journal, events, outbox, commands, together  <-----------+
//!                                                                                               | what happens once: only then
//! socket <--bytes-- conn <-- bkv::Downlink <-- replies             outbox rows --> cloud link --QoS 1--> broker
//!                                                                  confirmed --> rows go in the next turn
//! ```

pub mod agent;
pub mod ask;
pub mod bkv;
pub mod clock;
pub mod cloud;
pub mod command;
pub mod config;
mod conn;
mod control;
pub mod device;
pub mod event;
pub mod ids;
pub mod limits;
pub mod logging;
#[cfg(not(feature = "mutants"))]
mod mutants;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod order;
pub mod port;
mod send_queue;
pub mod server;
pub mod sim;
pub mod site;
pub mod store;
pub mod story;
pub mod time_text;
pub mod trust;
pub mod turn;
