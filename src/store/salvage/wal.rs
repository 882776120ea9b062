//! The write-ahead log beside a store: which page images in it count, and whether it is whole.
//!
//! SQLite reads a log up to the first frame whose sum is wrong and drops the rest without a word. After a power cut
//! that is right: what comes behind was never said to be durable. When more than one commit stands behind it, some
//! were, and the log is damaged.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::number;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// With sums over little-endian words; the lowest bit set: big-endian ones.
const MAGIC: u32 = 0x377f_0682;
/// Commits that can stand behind a torn frame although they were never durable.
const TORN_COMMITS: u32 = 1;

/// What a log holds.
#[derive(Debug, Default)]
pub(in crate::store) struct Log {
    /// Where the newest committed image of each page begins.
    pub(super) pages: BTreeMap<u32, u64>,
    /// Commits that were durable cannot be reached any more.
    pub(in crate::store) damaged: bool,
    pub(super) page_size: Option<usize>,
}

/// Of frames: the sum over everything so far, two words.
type Sums = (u32, u32);

impl Log {
    /// Reads the log at `path`; an empty one when there is none.
    pub(in crate::store) fn read(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other?,
        };
        let mut header = [0; HEADER];
        if file.read_exact_at(&mut header, 0).is_err() {
            return Ok(Self::default());
        }
        let magic = number(&header, 0);
        let big_endian = magic == MAGIC + 1;
        let whole = magic & !1 == MAGIC && sums((0, 0), &header[..24], big_endian) == pair(&header, 24);
        let size = if whole { number(&header, 8) as usize } else { super::PAGE };
        if !(512..=65536).contains(&size) {
            return Ok(Self { damaged: true, ..Self::default() });
        }
        let mut log = Self { page_size: Some(size), ..Self::default() };
        // A header that was never written is no damage: nothing was durable yet.
        let unwritten = header == [0; HEADER];
        log.read_frames(&file, size, whole.then(|| (pair(&header, 16), pair(&header, 24))), big_endian);
        log.damaged |= !whole && !unwritten;
        Ok(log)
    }

    /// `begins`: the salts and the sum of the header, when that is whole.
    fn read_frames(&mut self, file: &File, size: usize, begins: Option<(Sums, Sums)>, big_endian: bool) {
        let (mut salts, mut before) = (begins.map(|(salts, _)| salts), begins.map(|(_, sums)| sums));
        let mut broken = begins.is_none();
        let mut commits_behind = 0;
        let mut behind = Vec::new();
        let mut transaction = Vec::new();
        let mut frame = vec![0; FRAME_HEADER + size];
        let mut at = HEADER as u64;
        while file.read_exact_at(&mut frame, at).is_ok() {
            let stored = pair(&frame, 16);
            let salts = *salts.get_or_insert(pair(&frame, 8));
            let computed = before.map(|before| {
                let sum = sums(before, &frame[..8], big_endian);
                sums(sum, &frame[FRAME_HEADER..], big_endian)
            });
            if pair(&frame, 8) == salts && computed == Some(stored) {
                transaction.push((number(&frame, 0), at + FRAME_HEADER as u64));
                if number(&frame, 4) != 0 {
                    if broken {
                        commits_behind += 1;
                        behind.append(&mut transaction);
                    } else {
                        self.pages.extend(transaction.drain(..));
                    }
                }
            } else {
                broken = true;
            }
            before = Some(stored);
            at += frame.len() as u64;
        }
        if commits_behind > TORN_COMMITS || begins.is_none() && commits_behind > 0 {
            self.damaged = true;
            self.pages.extend(behind);
        }
    }
}

fn pair(bytes: &[u8], at: usize) -> Sums {
    (number(bytes, at), number(bytes, at + 4))
}

fn sums(mut sums: Sums, bytes: &[u8], big_endian: bool) -> Sums {
    let word = |bytes: &[u8], at| {
        let word = number(bytes, at);
        if big_endian { word } else { word.swap_bytes() }
    };
    for pair in bytes.chunks_exact(8) {
        sums.0 = sums.0.wrapping_add(word(pair, 0)).wrapping_add(sums.1);
        sums.1 = sums.1.wrapping_add(word(pair, 4)).wrapping_add(sums.0);
    }
    sums
}
