//! Frames in a stream of bytes (§2).
//!
//! ```text
//! 0      2        4         6            10          11           18
//! | head | length | command | message id | direction | gateway id | data ... | checksum | tail |
//! |  2   |   2    |    2    |     4      |     1     |     7      |    n     |    1     |  2   |
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::code::Command;
use super::error::FrameError;
use crate::ids::{DeviceId, MessageId};

/// Bytes of the smallest frame.
pub const MIN_FRAME: usize = 21;
/// Bytes of the largest frame that is believed.
pub const MAX_FRAME: usize = 4096;
/// Where the data begin.
pub(crate) const DATA: usize = 18;
/// Checksum and tail.
const TRAILER: usize = 3;
const TAIL: [u8; 2] = [0xfc, 0xee];
const _: () = assert!(MIN_FRAME == DATA + TRAILER);

/// Which way a frame goes; told by its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `fcfe`: device to platform.
    Up,
    /// `fcff`: platform to device.
    Down,
}

impl Direction {
    /// The head of its frames.
    pub const fn head(self) -> [u8; 2] {
        match self {
            Self::Up => [0xfc, 0xfe],
            Self::Down => [0xfc, 0xff],
        }
    }

    /// The direction byte of its frames.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Up => 1,
            Self::Down => 0,
        }
    }
}

/// A frame whose length, tail and checksum are right. What it says may still make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// At least [`MIN_FRAME`] bytes, head and trailer included.
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The one frame that `bytes` are, whichever way it goes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let direction = match bytes {
            [0xfc, 0xff, ..] => Direction::Down,
            _ => Direction::Up,
        };
        match judge(bytes, direction) {
            Judged::Good { len } if len == bytes.len() => Ok(Self { bytes }),
            Judged::Good { len } => Err(FrameError::Trailing { offset: len, count: bytes.len() - len }),
            Judged::Bad(FrameError::BadTail { .. }) if declared(bytes) != bytes.len() => Err(length_disagrees(bytes)),
            Judged::Bad(error) => Err(error),
            Judged::Part { .. } if bytes.len() < MIN_FRAME => Err(FrameError::TooShort { found: bytes.len() }),
            Judged::Part { .. } => Err(length_disagrees(bytes)),
        }
    }

    /// The whole frame, head to tail.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Which way it goes, by its head.
    pub fn direction(&self) -> Direction {
        if self.bytes[1] == Direction::Up.head()[1] { Direction::Up } else { Direction::Down }
    }

    /// Its command.
    pub fn command(&self) -> u16 {
        u16::from_be_bytes([self.bytes[4], self.bytes[5]])
    }

    /// Its message id.
    pub fn message_id(&self) -> MessageId {
        MessageId(u32::from_be_bytes([self.bytes[6], self.bytes[7], self.bytes[8], self.bytes[9]]))
    }

    /// Its direction byte, which may disagree with the head.
    pub fn direction_byte(&self) -> u8 {
        self.bytes[10]
    }

    /// Its gateway id; `None` when that is not BCD.
    pub fn device(&self) -> Option<DeviceId> {
        DeviceId::from_bcd(self.gateway())
    }

    pub(crate) fn gateway(&self) -> [u8; 7] {
        let b = self.bytes;
        [b[11], b[12], b[13], b[14], b[15], b[16], b[17]]
    }

    /// Its data.
    pub fn data(&self) -> &'a [u8] {
        &self.bytes[DATA..self.bytes.len() - TRAILER]
    }

    /// Its sub-command, when it has one that can be read.
    pub fn sub(&self) -> Option<u16> {
        match (Command::from_code(self.command()), self.data()) {
            (Command::Network | Command::Control, [_, _, sub, ..]) => Some((*sub).into()),
            (Command::Wrapper, [4, 1, 1, high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }
}

/// Appends a frame whose data `write` appends. Data that do not fit a length field are cut; no message has such.
pub(crate) fn write_frame(
    out: &mut Vec<u8>,
    direction: Direction,
    command: u16,
    message_id: MessageId,
    gateway: [u8; 7],
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&direction.head());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&command.to_be_bytes());
    out.extend_from_slice(&message_id.0.to_be_bytes());
    out.push(direction.byte());
    out.extend_from_slice(&gateway);
    write(out);
    out.truncate(start + usize::from(u16::MAX));
    let length = u16::try_from(out.len() + TRAILER - start - 4).unwrap_or(u16::MAX);
    out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
    let checksum = sum(&out[start + 2..]);
    out.push(checksum);
    out.extend_from_slice(&TAIL);
}

/// What the bytes from a head on are.
enum Judged {
    /// A frame of so many bytes.
    Good { len: usize },
    /// No frame.
    Bad(FrameError),
    /// Cannot be told before there are so many bytes.
    Part { needed: usize },
}

fn judge(bytes: &[u8], direction: Direction) -> Judged {
    judge_with(bytes, direction, |len| sum(&bytes[2..len - TRAILER]))
}

/// As [`judge`], with a shorter way to the sum from the length field to the data of a frame of `len` bytes.
fn judge_with(bytes: &[u8], direction: Direction, sum: impl FnOnce(usize) -> u8) -> Judged {
    let head = direction.head();
    if let Some(offset) = bytes.iter().zip(head).position(|(found, expected)| *found != expected) {
        return Judged::Bad(FrameError::NoHead { offset });
    }
    if bytes.len() < 4 {
        return Judged::Part { needed: 4 };
    }
    let len = declared(bytes);
    if !(MIN_FRAME..=MAX_FRAME).contains(&len) {
        return Judged::Bad(FrameError::LengthOutOfBounds { declared: len - 4 });
    }
    if bytes.len() < len {
        return Judged::Part { needed: len };
    }
    let tail = [bytes[len - 2], bytes[len - 1]];
    if tail != TAIL {
        return Judged::Bad(FrameError::BadTail { offset: len - 2, found: u16::from_be_bytes(tail) });
    }
    let (expected, found) = (sum(len), bytes[len - TRAILER]);
    if expected != found {
        return Judged::Bad(FrameError::BadChecksum { offset: len - TRAILER, expected, found });
    }
    Judged::Good { len }
}

/// Bytes of the whole frame, by its length field; at least four bytes are there.
fn declared(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) + 4
}

#[cold]
fn length_disagrees(bytes: &[u8]) -> FrameError {
    FrameError::LengthDisagrees { declared: declared(bytes) - 4, found: bytes.len() - 4 }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Bytes that are no frame, and why: all that is passed over up to the next head is one error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped<'a> {
    /// Why; its offset counts from the first of the bytes.
    pub error: FrameError,
    /// What is passed over, as far as it is here. More of it may follow silently.
    pub bytes: &'a [u8],
}

/// Finds frames in a stream that TCP splits and joins and that noise disturbs (§2).
///
/// Three outcomes: not yet (`None`), a frame, an error. While nothing is pending no memory is held: frames that come
/// whole are borrowed from the input. Only the bytes from a head on whose frame is incomplete, or failed its
/// checksum, are kept: fewer than [`MAX_FRAME`] live ones, in a buffer of at most twice that.
///
/// A head whose length lies is found out as soon as the bytes that it claims are there, or a whole frame (head,
/// length, direction byte, tail, checksum) stands among those that are. Then the search goes on one byte after it.
///
/// The work per byte is bounded. In kept bytes, sums from the beginning make every checksum two reads; every head
/// among them is entered once in a heap by the byte on which its frame would end, and judged when that comes.
/// Outside, a checksum is summed once per head that stands in front, and a failed one moves its bytes into the kept.
#[derive(Debug)]
pub struct Deframer {
    direction: Direction,
    /// The bytes up to the next head belong to an error that was told.
    skipping: bool,
    /// The pending head was given up.
    abandoned: bool,
    kept: Option<Box<Kept>>,
}

/// Where the outcome of a step stands, and how many bytes it has.
enum Step {
    NotYet,
    FrameInInput { len: usize },
    FrameKept { start: usize, len: usize },
    SkippedInInput { len: usize, error: FrameError },
    SkippedKept { start: usize, len: usize, error: FrameError },
}

impl Deframer {
    /// For frames that go this way.
    pub const fn new(direction: Direction) -> Self {
        Self { direction, skipping: false, abandoned: false, kept: None }
    }

    /// The next frame or error in what was kept and `input`, which is moved past what was used. To be called until
    /// it gives `None`: then the input is used up.
    pub fn next<'a, 'b: 'a>(&'a mut self, input: &mut &'b [u8]) -> Option<Result<Frame<'a>, Skipped<'a>>> {
        let whole = *input;
        let step = self.step(input);
        // What the step is about ends where the input now begins; silent noise may stand before it.
        let used = whole.len() - input.len();
        let kept = self.kept.as_ref().map_or(&[][..], |kept| &kept.bytes);
        match step {
            Step::NotYet => None,
            Step::FrameInInput { len } => Some(Ok(Frame { bytes: &whole[used - len..used] })),
            Step::FrameKept { start, len } => Some(Ok(Frame { bytes: &kept[start..start + len] })),
            Step::SkippedInInput { len, error } => Some(Err(Skipped { error, bytes: &whole[used - len..used] })),
            Step::SkippedKept { start, len, error } => Some(Err(Skipped { error, bytes: &kept[start..start + len] })),
        }
    }

    /// Whether part of a frame is held, whose rest has to come.
    pub fn is_waiting(&self) -> bool {
        self.held() > 0
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.bytes.len() - kept.start)
    }

    /// Gives up the head that is pending: it becomes an error, and [`Deframer::next`] (with no more input) yields
    /// that and what stands behind it.
    pub fn abandon(&mut self) {
        self.abandoned = self.is_waiting();
    }

    fn step(&mut self, input: &mut &[u8]) -> Step {
        loop {
            if !self.is_waiting() {
                self.kept = None;
                if input.is_empty() {
                    return Step::NotYet;
                }
                if let Some(step) = self.step_input(input) {
                    return step;
                }
            } else if let Some(step) = self.step_kept(input) {
                return step;
            }
        }
    }

    /// Nothing is kept: judges the head of the input. `None`: go on.
    fn step_input(&mut self, input: &mut &[u8]) -> Option<Step> {
        match judge(input, self.direction) {
            Judged::Good { len } => {
                *input = &input[len..];
                self.skipping = false;
                Some(Step::FrameInInput { len })
            }
            Judged::Bad(FrameError::BadChecksum { .. }) => {
                self.keep(input, declared(input));
                None
            }
            Judged::Bad(error) => {
                let len = to_next_head(input, self.direction);
                *input = &input[len..];
                self.tell(error).then_some(Step::SkippedInInput { len, error })
            }
            Judged::Part { .. } => {
                self.keep(input, input.len());
                None
            }
        }
    }

    /// Something is kept: judges its head, with more of the input as far as that needs it. `None`: go on.
    fn step_kept(&mut self, input: &mut &[u8]) -> Option<Step> {
        let kept = self.kept.as_mut()?;
        let start = kept.start;
        match kept.judge(start, self.direction) {
            Judged::Good { len } => {
                kept.start += len;
                (self.skipping, self.abandoned) = (false, false);
                Some(Step::FrameKept { start, len })
            }
            Judged::Bad(error) => self.skip_kept(error),
            Judged::Part { needed } => {
                let found = kept.bytes.len() - start;
                if self.abandoned {
                    return self.skip_kept(FrameError::Unfinished { found, needed });
                }
                if !input.is_empty() {
                    let count = input.len().min(needed - found);
                    self.keep(input, count);
                    return None;
                }
                let Some(inner) = kept.whole_frame_inside(self.direction) else { return Some(Step::NotYet) };
                let len = inner - start;
                kept.start = inner;
                self.skipping = true;
                Some(Step::SkippedKept { start, len, error: FrameError::Unfinished { found, needed } })
            }
        }
    }

    /// Passes over the head that failed, up to the next one.
    fn skip_kept(&mut self, error: FrameError) -> Option<Step> {
        self.abandoned = false;
        let kept = self.kept.as_mut()?;
        let start = kept.start;
        let len = to_next_head(&kept.bytes[start..], self.direction);
        kept.start += len;
        self.tell(error).then_some(Step::SkippedKept { start, len, error })
    }

    /// Whether an error is to be told: noise behind another error belongs to that one.
    fn tell(&mut self, error: FrameError) -> bool {
        let told_before = self.skipping && matches!(error, FrameError::NoHead { .. });
        self.skipping = true;
        !told_before
    }

    fn keep(&mut self, input: &mut &[u8], count: usize) {
        let (taken, rest) = input.split_at(count);
        self.kept.get_or_insert_default().append(taken);
        *input = rest;
    }
}

/// Bytes from the first to the next head behind it, or to the end; what may be the first byte of a head is left.
fn to_next_head(bytes: &[u8], direction: Direction) -> usize {
    let head = direction.head();
    let behind = &bytes[1.min(bytes.len())..];
    let whole = behind.windows(2).position(|pair| pair == head);
    let half = || behind.ends_with(&head[..1]).then(|| behind.len() - 1);
    1 + whole.or_else(half).unwrap_or(behind.len())
}

/// Bytes from a pending head on.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Beside each byte, the sum of all before it.
    sums: Vec<u8>,
    /// Sum of all bytes.
    sum: u8,
    /// The first byte that is not yet told about.
    start: usize,
    /// Bytes that were let go in front of `bytes`: positions below count them, so that they last.
    gone: u64,
    /// Position up to which heads were entered.
    scanned: u64,
    /// (position of the end, position of the head) of frames that could be.
    ends: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Kept {
    fn append(&mut self, more: &[u8]) {
        // Only when the dead bytes outweigh the live ones, so that a byte is moved about once.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.sums.drain(..self.start);
            self.gone += self.start as u64;
            self.start = 0;
        }
        self.bytes.extend_from_slice(more);
        for byte in more {
            self.sums.push(self.sum);
            self.sum = self.sum.wrapping_add(*byte);
        }
    }

    fn judge(&self, at: usize, direction: Direction) -> Judged {
        judge_with(&self.bytes[at..], direction, |len| self.sums[at + len - TRAILER].wrapping_sub(self.sums[at + 2]))
    }

    /// Where the whole frame behind the pending head begins that ends first.
    fn whole_frame_inside(&mut self, direction: Direction) -> Option<usize> {
        self.enter_heads(direction);
        let received = self.gone + self.bytes.len() as u64;
        while let Some(Reverse((end, position))) = self.ends.peek().copied() {
            if end > received {
                return None;
            }
            self.ends.pop();
            let pending = self.gone + self.start as u64;
            if position > pending {
                let at = (position - self.gone) as usize;
                if matches!(self.judge(at, direction), Judged::Good { .. }) {
                    return Some(at);
                }
            }
        }
        None
    }

    /// Enters the heads of frames that could be: length and direction byte are right.
    fn enter_heads(&mut self, direction: Direction) {
        let pending = self.gone + self.start as u64 + 1;
        let first = (self.scanned.max(pending) - self.gone) as usize;
        let header = 11;
        let Some(unseen) = self.bytes.get(first..) else { return };
        for (index, bytes) in unseen.windows(header).enumerate() {
            let len = declared(bytes);
            if bytes[..2] == direction.head() && (MIN_FRAME..=MAX_FRAME).contains(&len) && bytes[10] == direction.byte()
            {
                let position = self.gone + (first + index) as u64;
                self.ends.push(Reverse((position + len as u64, position)));
            }
        }
        let seen = (unseen.len() + 1).saturating_sub(header);
        self.scanned = self.gone + (first + seen) as u64;
    }
}
