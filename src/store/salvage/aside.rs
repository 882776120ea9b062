//! Setting a damaged file aside: names, renames that can be cut short anywhere, and how many are kept.
//!
//! The new file is made first, complete, as `NAME.salvaged-TIME`. From then on the old one is renamed, then the new
//! one into its place. Whatever is cut short is gone on with at the next start, as that name tells what it is about.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::clock::WallTime;
use crate::store::open::beside;
use crate::time_text::{Calendar, calendar};

/// Sets of a damaged file with its companions that are kept.
const KEPT: usize = 3;
const CORRUPT: &str = ".corrupt-";
const SALVAGED: &str = ".salvaged-";
/// What belongs to a file of SQLite.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];
/// `20261124T081500Z`
const STAMP: usize = 16;

/// The file that is made before anything is touched.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    beside(path, ".salvaging")
}

/// The name that the damaged file gets.
pub(super) fn corrupt(path: &Path, time: &str) -> PathBuf {
    beside(path, &format!("{CORRUPT}{time}"))
}

/// When the file is set aside, sortable: later than all sets that are there, whatever the clock says.
pub(super) fn stamp(path: &Path, wall: WallTime) -> io::Result<String> {
    let newest = stamps(path, CORRUPT)?.pop();
    let mut wall = wall;
    loop {
        let Calendar { year, month, day, hour, minute, second, .. } = calendar(wall);
        let stamp = format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z");
        let Some(newest) = newest.as_ref().filter(|newest| stamp <= **newest) else { return Ok(stamp) };
        wall = WallTime(wall_of(newest).map_or(wall.0, |newest| newest.0.max(wall.0)) + 1000);
    }
}

fn wall_of(stamp: &str) -> Option<WallTime> {
    let part = |from: usize, to: usize| stamp.get(from..to);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        part(13, 15)?
    );
    crate::time_text::parse_rfc3339(&text)
}

/// Deletes the oldest sets, so that with the next one [`KEPT`] are left.
pub(super) fn make_place(path: &Path) -> io::Result<()> {
    let stamps = stamps(path, CORRUPT)?;
    for old in stamps.iter().take((stamps.len() + 1).saturating_sub(KEPT)) {
        let main = corrupt(path, old);
        for name in COMPANIONS.iter().map(|suffix| beside(&main, suffix)).chain([main.clone()]) {
            gone(fs::remove_file(name))?;
        }
    }
    Ok(())
}

/// Removes a file that was not finished.
pub(super) fn clean(path: &Path) {
    let unfinished = unfinished(path);
    for companion in COMPANIONS.iter().map(|suffix| beside(&unfinished, suffix)).chain([unfinished.clone()]) {
        // What stays shows when a file is to be made there.
        let _ = fs::remove_file(companion);
    }
}

/// The file that was made is complete.
pub(super) fn finished(path: &Path, time: &str) -> io::Result<()> {
    let made = unfinished(path);
    File::open(&made)?.sync_all()?;
    fs::rename(&made, beside(path, &format!("{SALVAGED}{time}")))?;
    sync_folder(path)
}

/// Takes up what was cut short: puts the damaged file aside and the new one into its place. Nothing to do when no
/// salvaged file waits.
pub(in crate::store) fn finish(path: &Path) -> io::Result<()> {
    let Some(time) = stamps(path, SALVAGED)?.pop() else { return Ok(()) };
    let aside = corrupt(path, &time);
    for suffix in COMPANIONS {
        gone(fs::rename(beside(path, suffix), beside(&aside, suffix)))?;
    }
    gone(fs::rename(path, &aside))?;
    sync_folder(path)?;
    fs::rename(beside(path, &format!("{SALVAGED}{time}")), path)?;
    sync_folder(path)
}

/// The times in the names beside `path`, sorted.
fn stamps(path: &Path, kind: &str) -> io::Result<Vec<String>> {
    let mut prefix = path.file_name().unwrap_or_default().as_bytes().to_vec();
    prefix.extend_from_slice(kind.as_bytes());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder(path))? {
        let name: OsString = entry?.file_name();
        let rest = name.into_vec();
        let Some(rest) = rest.strip_prefix(prefix.as_slice()) else { continue };
        let stamp = rest.get(..STAMP).and_then(|stamp| std::str::from_utf8(stamp).ok());
        found.extend(stamp.filter(|stamp| stamp.is_ascii() && wall_of(stamp).is_some()).map(str::to_owned));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// What is not there need not go.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
