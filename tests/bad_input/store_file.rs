//! Store files and places that are not to be used: said in one line, touched by nobody.

use crate::support::Agent;

#[test]
fn a_store_of_a_newer_version_is_refused_untouched() {
    let mut agent = Agent::start("");
    assert!(agent.end().success());
    let db = rusqlite::Connection::open(agent.path("store.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    db.close().unwrap();
    let before = std::fs::read(agent.path("store.db")).unwrap();
    agent.spawn();
    assert_eq!(agent.ended().code(), Some(2));
    assert_eq!(std::fs::read(agent.path("store.db")).unwrap(), before);
    assert_eq!(agent.log().lines().count(), 1, "{}", agent.log());
}
