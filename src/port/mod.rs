//! The decisions. One port, its orders, one event, the time: what follows (design: the unit of decision is the port).
//!
//! Nothing here opens a socket, reads a clock or writes a row: the caller hands in what it knows and carries out the
//! [`Effect`]s. Nearly every rule of contract §5 needs what the port shows, its open order, its newest closed
//! ones, the hold, the owed stop and a kept report together, so one module owns them all.

pub mod state;
