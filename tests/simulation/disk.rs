//! A small disk for one store: it fills up, and it tears what was being written when the power went.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use chargegate::sim::Random;

const SIZE: &str = "size=48m";

pub struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(folder.path()).status();
        assert!(mounted.unwrap().success(), "a tmpfs could not be mounted");
        Self { folder }
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    /// Nothing is left on it but a few pages.
    pub fn fill(&self, random: &mut Random) {
        let chunk = vec![0u8; 1 << 20];
        let mut file = fs::File::create(self.ballast()).unwrap();
        while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
        let page = [0u8; 4096];
        while std::io::Write::write_all(&mut file, &page).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(random.within(0, 4) * 4096)).unwrap();
    }

    pub fn free(&self) {
        let _ = fs::remove_file(self.ballast());
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("store.db-wal")
    }

    /// Commits, and tells what the log would be had the power gone meanwhile: of the bytes that the commit wrote, some
    /// are there, some are as they were, a sector may be something else. `None` when the commit wrote
    /// nothing, or moved the log into the file: then it was whole before.
    pub fn commit_torn(&self, commit: impl FnOnce(), random: &mut Random) -> Option<Vec<u8>> {
        let (file, log) = (fs::read(self.store()).unwrap(), fs::read(self.log()).unwrap_or_default());
        commit();
        let written = fs::read(self.log()).unwrap_or_default();
        let same = |at: usize| log.get(at) == written.get(at);
        let from = (0..written.len()).find(|&at| !same(at))?;
        let to = (0..written.len()).rev().find(|&at| !same(at))?;
        if fs::read(self.store()).unwrap() != file {
            return None;
        }
        let cut = usize::try_from(random.within(from as u64, to as u64)).unwrap();
        // A disk may write its sectors in any order.
        let mut torn = if random.once_in(3) { written.clone() } else { written[..cut].to_vec() };
        torn.extend_from_slice(log.get(torn.len()..).unwrap_or_default());
        if torn[cut..] == written[cut..] || random.once_in(2) {
            let end = (cut + 512).min(torn.len());
            torn[cut..end].fill(0xa5);
        }
        Some(torn)
    }

    /// Files that were set aside as damaged.
    pub fn set_aside(&self) -> usize {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(".corrupt-")).count()
    }

    pub fn write_torn(&self, log: Vec<u8>) {
        fs::write(self.log(), log).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}
