//! The pages of a damaged file, as its last commit left them: the log lies over the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::number;
use super::wal::Log;
use crate::store::open::beside;

/// Read where they stand; the file is not changed.
pub(super) struct Pages {
    file: Option<File>,
    wal: Option<File>,
    log: Log,
    size: usize,
    usable: usize,
    count: u32,
}

impl Pages {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = existing(path)?;
        let wal_path = beside(path, "-wal");
        let log = Log::read(&wal_path)?;
        let mut header = [0; 100];
        let has_header = file.as_ref().is_some_and(|file| file.read_exact_at(&mut header, 0).is_ok())
            && header.starts_with(super::MAGIC);
        let stated = usize::from(header[16]) << 8 | usize::from(header[17]);
        let stated = if stated == 1 { 65536 } else { stated };
        let sensible = has_header && stated.is_power_of_two() && (512..=65536).contains(&stated);
        let size = if sensible { stated } else { log.page_size.unwrap_or(super::PAGE) };
        let reserved = if sensible { usize::from(header[20]) } else { 0 };
        let length = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|data| data.len()))?;
        let in_file = u32::try_from(length.div_ceil(size as u64)).unwrap_or(u32::MAX);
        let count = in_file.max(log.pages.keys().next_back().copied().unwrap_or(0));
        let log = if log.page_size.is_some_and(|other| other != size) { Log::default() } else { log };
        Ok(Self { file, wal: existing(&wal_path)?, log, size, usable: size - reserved.min(32), count })
    }

    /// A page, counted from 1; `None` when there is none or the disk does not give it.
    pub(super) fn read(&self, no: u32) -> Option<Vec<u8>> {
        if no == 0 || no > self.count {
            return None;
        }
        let mut page = vec![0; self.size];
        let (file, at) = match self.log.pages.get(&no) {
            Some(at) => (self.wal.as_ref()?, *at),
            None => (self.file.as_ref()?, u64::from(no - 1) * self.size as u64),
        };
        file.read_exact_at(&mut page, at).ok()?;
        Some(page)
    }

    /// Bytes of a page that hold something.
    pub(super) const fn usable(&self) -> usize {
        self.usable
    }

    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Commits are missing.
    pub(super) const fn log_is_damaged(&self) -> bool {
        self.log.damaged
    }

    /// The pages that hold nothing any more; `None` when that cannot be known.
    pub(super) fn free(&self) -> Option<Vec<bool>> {
        let mut free = vec![false; self.count as usize + 1];
        let first = self.read(1).filter(|page| page.starts_with(super::MAGIC))?;
        let (mut trunk, expected) = (number(&first, 32), number(&first, 36));
        let mut found = 0;
        let mut take = |no: u32| {
            found += 1;
            let place = free.get_mut(no as usize).filter(|taken| !**taken)?;
            *place = true;
            Some(())
        };
        while trunk != 0 {
            take(trunk)?;
            let page = self.read(trunk)?;
            let leaves = number(&page, 4) as usize;
            if leaves > self.usable / 4 - 2 {
                return None;
            }
            (0..leaves).try_for_each(|leaf| take(number(&page, 8 + 4 * leaf)))?;
            trunk = number(&page, 0);
        }
        (found == expected).then_some(free)
    }
}

fn existing(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
