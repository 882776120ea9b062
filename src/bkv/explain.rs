//! A frame field by field, for people. The lines come from the reading itself, so they cannot disagree with it.

use std::fmt;

use super::code::{Command, ControlSub, NetworkSub, WrapperSub, hex};
use super::error::{DecodeError, FrameError, HexError};
use super::field::Trace;
use super::frame::{Direction, Frame};
use super::message::{Downlink, Uplink};

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands in the frame, from 0.
    pub offset: usize,
    /// What it is called.
    pub field: String,
    /// Its bytes; none for the head of items that follow.
    pub raw: Vec<u8>,
    /// What they mean.
    pub meaning: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, field, raw, meaning } = self;
        write!(f, "{offset:>4}  {field} {meaning}")?;
        if raw.is_empty() { Ok(()) } else { write!(f, "  [{}]", hex(raw)) }
    }
}

/// A frame that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What it is: direction, command and sub-command with their names.
    pub title: String,
    /// Its fields in their order.
    pub lines: Vec<Line>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        self.lines.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

/// Why a frame could not be read; [`Unexplained::offset`] says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unexplained {
    /// The text is no hex.
    #[error("{0}")]
    Hex(#[from] HexError),
    /// The bytes are no frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The frame makes no sense.
    #[error("{error}")]
    Message {
        /// Why.
        error: DecodeError,
        /// The fields that were read before.
        lines: Vec<Line>,
    },
}

impl Unexplained {
    /// The byte in the frame, from 0.
    pub const fn offset(&self) -> usize {
        match self {
            Self::Hex(error) => error.offset(),
            Self::Frame(error) => error.offset(),
            Self::Message { error, .. } => error.offset,
        }
    }
}

/// Explains the frame that a text of hex digits stands for; white space between bytes is allowed.
pub fn explain_hex(text: &str) -> Result<Explanation, Unexplained> {
    explain(&parse_hex(text)?)
}

/// Explains the frame that the bytes are.
pub fn explain(bytes: &[u8]) -> Result<Explanation, Unexplained> {
    let frame = Frame::parse(bytes)?;
    let trace = Trace::default();
    note_header(&frame, &trace);
    let read = match frame.direction() {
        Direction::Up => Uplink::decode_traced(&frame, Some(&trace)).map(drop),
        Direction::Down => Downlink::decode_traced(&frame, Some(&trace)).map(drop),
    };
    if let Err(error) = read {
        return Err(Unexplained::Message { error, lines: trace.into_lines() });
    }
    let end = bytes.len();
    trace.note(end - 3, "checksum", &bytes[end - 3..end - 2], "right".to_owned());
    trace.note(end - 2, "tail", &bytes[end - 2..], "end of the frame".to_owned());
    Ok(Explanation { title: title(&frame), lines: trace.into_lines() })
}

fn note_header(frame: &Frame<'_>, trace: &Trace) {
    let bytes = frame.bytes();
    let way = |up| if up { "from the device" } else { "from the platform" }.to_owned();
    trace.note(0, "head", &bytes[..2], way(frame.direction() == Direction::Up));
    trace.note(2, "length", &bytes[2..4], format!("{} bytes follow", bytes.len() - 4));
    trace.note(4, "command", &bytes[4..6], Command::from_code(frame.command()).name().to_owned());
    trace.note(6, "message_id", &bytes[6..10], frame.message_id().0.to_string());
    let direction = match frame.direction_byte() {
        1 => way(true),
        0 => way(false),
        other => other.to_string(),
    };
    trace.note(10, "direction", &bytes[10..11], direction);
    trace.note(11, "gateway", &bytes[11..18], hex(&frame.gateway()));
}

fn title(frame: &Frame<'_>) -> String {
    let arrow = if frame.direction() == Direction::Up { "up" } else { "down" };
    let command = Command::from_code(frame.command());
    let code = frame.command();
    let sub = frame.sub().unwrap_or_default();
    let (sub, name) = match command {
        Command::Network => (format!("/{sub:02x}"), NetworkSub::from_code(sub as u8).name()),
        Command::Control => (format!("/{sub:02x}"), ControlSub::from_code(sub as u8).name()),
        Command::Wrapper => (format!("/{sub:04x}"), WrapperSub::from_code(sub).name()),
        Command::Heartbeat | Command::Ota | Command::Unknown(_) => (String::new(), command.name()),
    };
    let gateway = hex(&frame.gateway());
    format!("{arrow} {code:04x}{sub} {name}, message id {}, gateway {gateway}", frame.message_id().0)
}

fn parse_hex(text: &str) -> Result<Vec<u8>, HexError> {
    let (mut bytes, mut high) = (Vec::with_capacity(text.len() / 2), None);
    for found in text.chars().filter(|c| !c.is_whitespace()) {
        let offset = bytes.len();
        let digit = found.to_digit(16).ok_or(HexError::NotHex { offset, found })? as u8;
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err(HexError::HalfByte { offset: bytes.len() }),
    }
}
