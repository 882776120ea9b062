//! Simulated devices, honest and faulty: they behave as docs/bkv.md says that real ones do.
//!
//! [`device`] is pure: time and bytes in, bytes and wishes out, so that `simulate`, `demo` and the tests drive the same
//! devices, on any clock. [`fleet`] drives hundreds of them over TCP in one thread.

pub mod battery;
pub mod device;
pub mod fault;
pub mod fleet;
pub mod habits;
mod outlet;
pub mod random;
mod session;

pub use device::{Device, Witness, Witnessed};
pub use fault::Fault;
pub use fleet::{Fleet, FleetCounts, Member};
pub use habits::{Habits, RepeatedStart};
pub use outlet::Truth;
pub use random::Random;
