//! What can be wrong with bytes, sorted by how far the reading came: no frame, no sense, no hex.

use std::fmt;

use super::code::{Command, ControlSub, NetworkSub, WrapperSub};
use super::frame::{Frame, MAX_FRAME, MIN_FRAME};

/// Why bytes are no frame (§2). Offsets count from the first byte of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes do not begin with the head that is looked for.
    #[error("no head")]
    NoHead {
        /// The first byte that disagrees.
        offset: usize,
    },
    /// Fewer bytes than the smallest frame has.
    #[error("too short: {found} bytes, the smallest frame has {MIN_FRAME}")]
    TooShort {
        /// Bytes that are there.
        found: usize,
    },
    /// A length that no frame can have.
    #[error("length out of bounds: it says {declared}, a frame has {} to {} bytes after it", MIN_FRAME - 4, MAX_FRAME - 4)]
    LengthOutOfBounds {
        /// What the length field says.
        declared: usize,
    },
    /// The length field and the number of bytes disagree.
    #[error("length disagrees: it says {declared} bytes follow it, {found} do")]
    LengthDisagrees {
        /// What the length field says.
        declared: usize,
        /// Bytes that follow it.
        found: usize,
    },
    /// No `fcee` where the frame ends.
    #[error("bad tail: {found:04x} instead of fcee")]
    BadTail {
        /// Where the tail should stand.
        offset: usize,
        /// What stands there.
        found: u16,
    },
    /// The checksum is not the sum of the bytes.
    #[error("wrong checksum: {found:02x}, the bytes make {expected:02x}")]
    BadChecksum {
        /// Where the checksum stands.
        offset: usize,
        /// What the bytes make.
        expected: u8,
        /// What stands there.
        found: u8,
    },
    /// A whole frame, and bytes behind it.
    #[error("{count} trailing bytes after the frame")]
    Trailing {
        /// The first of them.
        offset: usize,
        /// How many.
        count: usize,
    },
    /// Part of a frame whose rest did not come: a whole frame stands inside it, or it was given up.
    #[error("part of a frame: {found} of {needed} bytes")]
    Unfinished {
        /// Bytes that are there.
        found: usize,
        /// Bytes that its length field asks for, as far as it is known.
        needed: usize,
    },
}

impl FrameError {
    /// Where in the frame, from 0.
    pub const fn offset(&self) -> usize {
        match *self {
            Self::NoHead { offset }
            | Self::BadTail { offset, .. }
            | Self::BadChecksum { offset, .. }
            | Self::Trailing { offset, .. } => offset,
            Self::TooShort { found } | Self::Unfinished { found, .. } => found,
            Self::LengthOutOfBounds { .. } | Self::LengthDisagrees { .. } => 2,
        }
    }
}

/// Why a well-formed frame makes no sense: which field of which command, where, and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: {field} at byte {offset}: {cause}", Named { command: *command, sub: *sub })]
pub struct DecodeError {
    /// Command of the frame.
    pub command: u16,
    /// Its sub-command, when it has one that can be read.
    pub sub: Option<u16>,
    /// The field that could not be read.
    pub field: &'static str,
    /// Its offset in the frame, from 0.
    pub offset: usize,
    /// What is wrong with it.
    pub cause: Cause,
}

impl DecodeError {
    #[cold]
    pub(crate) fn new(frame: &Frame<'_>, fault: Fault) -> Self {
        let Fault { field, offset, cause } = fault;
        Self { command: frame.command(), sub: frame.sub(), field, offset, cause }
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The data end before it does.
    #[error("{left} bytes left, {needed} needed")]
    Short {
        /// Bytes that it has.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Data that belong to no field.
    #[error("{count} bytes left over")]
    LeftOver {
        /// How many.
        count: usize,
    },
    /// A value that it cannot have.
    #[error("{value} is out of range")]
    OutOfRange {
        /// The value.
        value: u64,
    },
    /// A count of bytes that disagrees with the bytes that are there.
    #[error("says {declared}, {found} are there")]
    Length {
        /// What it says.
        declared: usize,
        /// What is there.
        found: usize,
    },
    /// The value of an item is not as wide as its key asks for.
    #[error("{found} bytes wide instead of {expected}")]
    Width {
        /// Bytes that the key asks for.
        expected: usize,
        /// Bytes that the value has.
        found: usize,
    },
    /// An item that has to be there is not.
    #[error("missing")]
    Missing,
    /// An item that may stand once stands twice.
    #[error("given twice")]
    Repeated,
    /// A nibble above 9.
    #[error("not decimal")]
    NotDecimal,
    /// A time that the calendar does not have.
    #[error("no such time")]
    NoSuchTime,
    /// The gateway id is not that of the header.
    #[error("not the gateway of the header")]
    Foreign,
    /// Head and direction byte disagree, or the frame goes the other way.
    #[error("wrong direction")]
    WrongDirection,
}

/// A [`DecodeError`] before the command is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) field: &'static str,
    pub(crate) offset: usize,
    pub(crate) cause: Cause,
}

/// Command and sub-command as errors name them.
struct Named {
    command: u16,
    sub: Option<u16>,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = Command::from_code(self.command);
        let Some(sub) = self.sub else {
            return write!(f, "{:04x} {}", self.command, command.name());
        };
        match command {
            Command::Network => write!(f, "0005/{sub:02x} {}", NetworkSub::from_code(sub as u8).name()),
            Command::Control => write!(f, "0015/{sub:02x} {}", ControlSub::from_code(sub as u8).name()),
            Command::Wrapper => write!(f, "1000/{sub:04x} {}", WrapperSub::from_code(sub).name()),
            Command::Heartbeat | Command::Ota | Command::Unknown(_) => {
                write!(f, "{:04x} {}", self.command, command.name())
            }
        }
    }
}

/// Why a text is no hex. Offsets count the bytes that it would make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// A character that is no hex digit.
    #[error("not hex: {found:?}")]
    NotHex {
        /// The byte that it would be part of.
        offset: usize,
        /// The character.
        found: char,
    },
    /// Half a byte at the end.
    #[error("not hex: half a byte at the end")]
    HalfByte {
        /// The byte that is half.
        offset: usize,
    },
}

impl HexError {
    /// The byte in the frame, from 0.
    pub const fn offset(&self) -> usize {
        match *self {
            Self::NotHex { offset, .. } | Self::HalfByte { offset } => offset,
        }
    }
}
