//! Running out of files. Alone in its process, whose limit it lowers.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests")]

#[path = "server/agent.rs"]
#[expect(dead_code, reason = "shared with the other tests of the loop")]
mod agent;

use std::fs::File;

use agent::{Agent, Seen};
use chargegate::turn::Refused;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn without_free_files_connections_are_closed_at_once_and_the_listener_goes_on() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), maximum: Some(200).min(maximum) }).unwrap();
    let agent = Agent::start();
    let mut before = agent.device();
    before.echo(b"");
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    for count in 1..=5 {
        // One file for our end, none for the other.
        hoard.pop();
        assert_eq!(agent.device().rest(), b"");
        agent.log.wait_count(count, |seen| *seen == Seen::Refused(Refused::Limit));
        hoard.push(File::open("/dev/null").unwrap());
        before.echo(b"still served");
    }
    drop(hoard);
    agent.device().echo(b"");
    assert_eq!(agent.client().ask("echo new"), "new");
}
