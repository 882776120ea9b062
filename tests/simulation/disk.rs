//! A small disk for one store: it fills up, and it tears what was being written when the power went.

use std::fs;
use std::path::{Path, PathBuf};
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

    pub fn log_length(&self) -> u64 {
        fs::metadata(self.log()).map_or(0, |file| file.len())
    }

    /// The power went while the last commit was being written: of what lies behind `from`, part is there, part is
    /// not, part is something else. Tells whether it was so.
    pub fn tear_log(&self, from: u64, random: &mut Random) -> bool {
        let length = self.log_length();
        if length <= from {
            return false;
        }
        let mut bytes = fs::read(self.log()).unwrap();
        let cut = random.within(from, length - 1);
        let cut_at = usize::try_from(cut).unwrap();
        if random.once_in(2) {
            bytes.truncate(cut_at);
        } else {
            let sector = (cut_at / 512 * 512).max(usize::try_from(from).unwrap());
            let end = (sector + 512).min(bytes.len());
            bytes[sector..end].fill(0xa5);
            bytes.truncate(end);
        }
        fs::write(self.log(), bytes).unwrap();
        true
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}
