//! The device protocol: bytes to meaning and back. No I/O, no clock, no panic on any input.
//!
//! ```text
//! bytes --Deframer--> Frame --Uplink::decode--> Uplink      Downlink --encode--> bytes
//! ```
//!
//! Everything is drawn in `docs/bkv.md`, whose sections the comments here name. Both directions can be read and
//! written for every message, as the simulated devices stand at the other end.

mod code;
mod error;
mod explain;
mod field;
mod frame;
mod message;
mod summary;
mod value;

pub use code::{Command, ControlSub, Key, NetworkSub, Shape, WrapperSub};
pub use error::{Cause, DecodeError, FrameError, HexError};
pub use explain::{Explanation, Line, Unexplained, explain, explain_hex};
pub use frame::{Deframer, Direction, Frame, MAX_FRAME, MIN_FRAME, Skipped};
pub use message::*;
pub use summary::summary;
pub use value::*;
