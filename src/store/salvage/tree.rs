//! Rows from the trees of a damaged file: what one bad page held is lost, what stands beside and behind it is not.
//!
//! SQLite gives up a tree at the first bad page on its way, so the trees are walked here, by SQLite's file format. A page
//! whose cells do not fill it exactly was partly overwritten: no way leads on through it.

use rusqlite::types::Value;

use super::number;
use super::pages::Pages;

const INDEX_INTERIOR: u8 = 2;
const TABLE_INTERIOR: u8 = 5;
const INDEX_LEAF: u8 = 10;
const TABLE_LEAF: u8 = 13;
/// No tree is deeper in a file of four billion pages.
const DEEPEST: usize = 20;
/// No row of ours comes near it.
const LONGEST_ROW: usize = 4 << 20;

/// A row as it stands in the file.
pub(super) struct RawRow {
    /// 0 in an index.
    pub(super) rowid: i64,
    /// As many as were stored.
    pub(super) values: Vec<Value>,
    /// Its page is as SQLite made it, as far as that can be seen.
    pub(super) sound: bool,
}

/// Takes rows as they are found; an error ends the walk.
pub(super) type Take<'a> = &'a mut dyn FnMut(RawRow) -> rusqlite::Result<()>;

/// Walks the trees of one file; no page is taken twice.
pub(super) struct Forest<'a> {
    pages: &'a Pages,
    seen: Vec<bool>,
}

impl<'a> Forest<'a> {
    pub(super) fn new(pages: &'a Pages) -> Self {
        Self { pages, seen: vec![false; pages.count() as usize + 1] }
    }

    /// All rows under `root`, in their order; returns how many pages could not be read, or not whole.
    pub(super) fn walk(&mut self, root: u32, take: Take<'_>) -> rusqlite::Result<u32> {
        let mut lost = 0;
        self.page(root, 0, &mut lost, take)?;
        Ok(lost)
    }

    fn page(&mut self, no: u32, depth: usize, lost: &mut u32, take: Take<'_>) -> rusqlite::Result<()> {
        let fresh = self.seen.get_mut(no as usize).is_some_and(|seen| !std::mem::replace(seen, true));
        let page = if fresh && depth < DEEPEST { self.pages.read(no) } else { None };
        let Some(page) = page.as_deref().and_then(|bytes| Page::of(bytes, no, self.pages.usable())) else {
            *lost += 1;
            return Ok(());
        };
        let sound = page.is_sound();
        if !sound {
            *lost += 1;
        }
        let is_leaf = matches!(page.kind, TABLE_LEAF | INDEX_LEAF);
        if !is_leaf && !sound {
            // Its children are found as lost leaves.
            return Ok(());
        }
        for at in page.cells() {
            if !is_leaf {
                self.page(number(page.bytes, at), depth + 1, lost, take)?;
            }
            if page.kind != TABLE_INTERIOR
                && let Some((rowid, values)) = page.cell(at).and_then(|cell| self.record(&page, &cell))
            {
                take(RawRow { rowid, values, sound })?;
            }
        }
        if !is_leaf {
            self.page(number(page.bytes, page.start + 8), depth + 1, lost, take)?;
        }
        Ok(())
    }

    /// Rows of table leaves to which no way led: the page that did is lost. What is free does not count; when that is
    /// not known there are none, since a freed page still holds what was deleted.
    pub(super) fn lost_leaves(&self, take: Take<'_>) -> rusqlite::Result<()> {
        let Some(free) = self.pages.free() else { return Ok(()) };
        for no in 2..=self.pages.count() {
            if self.seen[no as usize] || free[no as usize] {
                continue;
            }
            let Some(bytes) = self.pages.read(no) else { continue };
            let page = Page::of(&bytes, no, self.pages.usable());
            let Some(page) = page.filter(|page| page.kind == TABLE_LEAF && page.is_sound()) else { continue };
            for at in page.cells() {
                if let Some((rowid, values)) = page.cell(at).and_then(|cell| self.record(&page, &cell)) {
                    take(RawRow { rowid, values, sound: true })?;
                }
            }
        }
        Ok(())
    }

    fn record(&self, page: &Page<'_>, cell: &Cell) -> Option<(i64, Vec<Value>)> {
        let mut payload = page.bytes.get(cell.payload..cell.payload + cell.local)?.to_vec();
        if cell.local < cell.length {
            let mut next = number(page.bytes, cell.payload + cell.local);
            while payload.len() < cell.length {
                let bytes = self.pages.read(next)?;
                let more = (cell.length - payload.len()).min(page.usable - 4);
                payload.extend_from_slice(bytes.get(4..4 + more)?);
                next = number(&bytes, 0);
            }
        }
        Some((cell.rowid, decode(&payload)?))
    }
}

/// A page of a tree.
struct Page<'a> {
    bytes: &'a [u8],
    usable: usize,
    /// The first page begins with the header of the file.
    start: usize,
    kind: u8,
    count: usize,
}

struct Cell {
    rowid: i64,
    /// Where its payload begins, how long that is, and how much of it stands here.
    payload: usize,
    length: usize,
    local: usize,
    end: usize,
}

impl<'a> Page<'a> {
    fn of(bytes: &'a [u8], no: u32, usable: usize) -> Option<Self> {
        let start = if no == 1 { 100 } else { 0 };
        let kind = bytes[start];
        let count = usize::from(short(bytes, start + 3));
        let page = Self { bytes, usable, start, kind, count };
        let known = matches!(kind, INDEX_INTERIOR | TABLE_INTERIOR | INDEX_LEAF | TABLE_LEAF);
        (known && page.array_end() <= usable).then_some(page)
    }

    const fn array(&self) -> usize {
        self.start + if matches!(self.kind, TABLE_LEAF | INDEX_LEAF) { 8 } else { 12 }
    }

    const fn array_end(&self) -> usize {
        self.array() + 2 * self.count
    }

    /// Where cells begin, as far as that is possible.
    fn cells(&self) -> Vec<usize> {
        let places = (0..self.count).map(|cell| usize::from(short(self.bytes, self.array() + 2 * cell)));
        places.filter(|at| (self.array_end()..=self.usable - 4).contains(at)).collect()
    }

    fn cell(&self, at: usize) -> Option<Cell> {
        let mut next = at + if matches!(self.kind, TABLE_INTERIOR | INDEX_INTERIOR) { 4 } else { 0 };
        if self.kind == TABLE_INTERIOR {
            let rowid = varint(self.bytes, &mut next)?;
            return Some(Cell { rowid, payload: next, length: 0, local: 0, end: next });
        }
        let length = usize::try_from(varint(self.bytes, &mut next)?).ok().filter(|length| *length <= LONGEST_ROW)?;
        let rowid = if self.kind == TABLE_LEAF { varint(self.bytes, &mut next)? } else { 0 };
        let most = if self.kind == TABLE_LEAF { self.usable - 35 } else { (self.usable - 12) * 64 / 255 - 23 };
        let (local, overflow) = if length <= most {
            (length, 0)
        } else {
            let least = (self.usable - 12) * 32 / 255 - 23;
            let spread = least + (length - least) % (self.usable - 4);
            (if spread <= most { spread } else { least }, 4)
        };
        let end = (next + local + overflow).max(at + 4);
        (end <= self.usable).then_some(Cell { rowid, payload: next, length, local, end })
    }

    /// Cells, free blocks and fragments fill the page exactly, as SQLite's own check asks for.
    fn is_sound(&self) -> bool {
        self.spans().is_some_and(|mut spans| {
            spans.sort_unstable();
            let content = match usize::from(short(self.bytes, self.start + 5)) {
                0 => 65536,
                content => content,
            };
            if content < self.array_end() || content > self.usable {
                return false;
            }
            let apart = spans.windows(2).all(|pair| pair[0].1 <= pair[1].0);
            let inside = spans.iter().all(|(from, to)| *from >= content && to <= &self.usable);
            let filled: usize = spans.iter().map(|(from, to)| to - from).sum();
            let fragments = usize::from(self.bytes[self.start + 7]);
            apart && inside && filled + fragments == self.usable - content
        })
    }

    fn spans(&self) -> Option<Vec<(usize, usize)>> {
        let cells = self.cells();
        if cells.len() != self.count {
            return None;
        }
        let mut spans: Vec<(usize, usize)> =
            cells.into_iter().map(|at| self.cell(at).map(|cell| (at, cell.end))).collect::<Option<_>>()?;
        let mut block = usize::from(short(self.bytes, self.start + 1));
        while block != 0 {
            if block + 4 > self.usable {
                return None;
            }
            let (next, size) = (usize::from(short(self.bytes, block)), usize::from(short(self.bytes, block + 2)));
            spans.push((block, block + size));
            // They stand in their order.
            if next != 0 && next < block + 4 {
                return None;
            }
            block = next;
        }
        Some(spans)
    }
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// SQLite's integers of 1 to 9 bytes.
fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value: u64 = 0;
    for place in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if place == 8 {
            value = value << 8 | u64::from(byte);
            break;
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value.cast_signed())
}

/// The values of a record; `None` when it is none, to the byte.
fn decode(record: &[u8]) -> Option<Vec<Value>> {
    let mut next = 0;
    let header = usize::try_from(varint(record, &mut next)?).ok().filter(|header| *header <= record.len())?;
    let mut body = header;
    let mut values = Vec::new();
    while next < header {
        let kind = u64::try_from(varint(record, &mut next)?).ok()?;
        let (value, length) = value(kind, record.get(body..)?)?;
        values.push(value);
        body += length;
    }
    (next == header && body == record.len()).then_some(values)
}

fn value(kind: u64, bytes: &[u8]) -> Option<(Value, usize)> {
    let integer = |length: usize| -> Option<(Value, usize)> {
        let bytes = bytes.get(..length)?;
        let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
        let value = bytes.iter().fold(sign, |value: i64, byte| value << 8 | i64::from(*byte));
        Some((Value::Integer(value), length))
    };
    match kind {
        0 => Some((Value::Null, 0)),
        1..=4 => integer(usize::try_from(kind).ok()?),
        5 => integer(6),
        6 => integer(8),
        7 => Some((Value::Real(f64::from_be_bytes(bytes.get(..8)?.try_into().ok()?)), 8)),
        8 => Some((Value::Integer(0), 0)),
        9 => Some((Value::Integer(1), 0)),
        10 | 11 => None,
        _ => {
            let length = usize::try_from((kind - 12) / 2).ok()?;
            let bytes = bytes.get(..length)?.to_vec();
            let value =
                if kind.is_multiple_of(2) { Value::Blob(bytes) } else { Value::Text(String::from_utf8(bytes).ok()?) };
            Some((value, length))
        }
    }
}
