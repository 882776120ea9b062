//! Damage in the write-ahead log: SQLite itself passes over it without a word.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::file::{PAGE, Place, Seeded};
use crate::{instance_of, kept_and_lost};

const FRAME: usize = 24 + PAGE;

/// A store whose last commits, one note each, stand in the log alone, as a kill leaves it; returns the log. To look at
/// it would move the log into the file.
fn with_log(commits: u32) -> (Place, Vec<u8>) {
    let place = Place::full();
    let db = Connection::open(&place.path).unwrap();
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    db.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    for no in 1..=commits {
        db.execute("UPDATE devices SET note = 'commit ' || ?1 WHERE rowid = ?1", [no]).unwrap();
    }
    drop(db);
    let log = std::fs::read(place.beside("-wal")).unwrap();
    assert_eq!(log.len(), 32 + FRAME * commits as usize, "a page a commit");
    (place, log)
}

fn commits_kept(place: &Place) -> i64 {
    place.one("SELECT count(*) FROM devices WHERE note LIKE 'commit %'")
}

#[test]
fn a_log_of_garbage_is_damage_since_commits_are_gone() {
    let (place, mut log) = with_log(10);
    let clean = Place::full();
    let (instance, before) = (instance_of(&clean.path), clean.rows());
    Seeded(3).fill(&mut log);
    std::fs::write(place.beside("-wal"), &log).unwrap();
    std::fs::write(place.beside("-shm"), &log[..32768]).unwrap();
    let details = place.open().damage().unwrap().unwrap();
    assert_eq!(details["what"], "commits in its log are lost");
    assert_ne!(instance_of(&place.path), instance, "numbers of lost events would be given again");
    assert_eq!(commits_kept(&place), 0);
    assert_eq!(kept_and_lost(&before, &place.rows()).1, 0);
    let aside = details["file"].as_str().unwrap();
    assert!(std::fs::read(format!("{aside}-wal")).unwrap() == log, "the log is not kept as it was");
}

#[test]
fn one_bad_frame_in_the_middle_of_a_log_costs_that_page_and_not_the_commits_behind_it() {
    let (place, mut log) = with_log(10);
    let instance = instance_of(&Place::full().path);
    let at = 32 + 4 * FRAME + 24;
    log[at + 2000..at + 2010].fill(0xee);
    std::fs::write(place.beside("-wal"), &log).unwrap();
    assert!(place.open().damage().unwrap().is_some());
    assert_ne!(instance_of(&place.path), instance);
    // All ten changed the same page: the newest image has them all.
    assert_eq!(commits_kept(&place), 10);
}

#[test]
fn a_bad_header_of_a_log_costs_none_of_the_commits_that_can_still_be_proved() {
    let (place, mut log) = with_log(10);
    log[..32].fill(0xee);
    std::fs::write(place.beside("-wal"), &log).unwrap();
    assert!(place.open().damage().unwrap().is_some());
    assert_eq!(commits_kept(&place), 10);
}

#[test]
fn a_torn_end_of_a_log_is_what_a_power_cut_leaves_and_no_damage() {
    let (place, log) = with_log(10);
    let instance = instance_of(&Place::full().path);
    for (what, log, kept) in [
        ("the last frame is cut", log[..log.len() - 100].to_vec(), 9),
        ("only its header is there", log[..32].to_vec(), 0),
        ("a header that was never written", vec![0; 32 + 3 * FRAME], 0),
        ("no byte", Vec::new(), 0),
        ("the last but one is torn, the last arrived first", torn(&log), 8),
    ] {
        let copy = Place::empty();
        copy.write(&place.bytes());
        std::fs::write(copy.beside("-wal"), log).unwrap();
        assert_eq!(copy.open().damage().unwrap(), None, "{what}");
        assert_eq!((instance_of(&copy.path), commits_kept(&copy)), (instance.clone(), kept), "{what}");
    }
}

/// One transaction of two frames, of which only the second reached the disk.
fn torn(log: &[u8]) -> Vec<u8> {
    let mut log = log.to_vec();
    let last_but_one = log.len() - 2 * FRAME;
    log[last_but_one + 24..last_but_one + 600].fill(0);
    log
}

#[test]
fn a_store_whose_file_is_gone_comes_back_as_far_as_its_log_goes() {
    let (place, _) = with_log(10);
    std::fs::write(&place.path, "").unwrap();
    let details = place.open().damage().unwrap().unwrap();
    assert_eq!(details["what"], "it is empty and its log is not");
    // Their page stands in the log.
    assert_eq!(commits_kept(&place), 10);
}
