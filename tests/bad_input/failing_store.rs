//! A store that fails in another way than being full: nothing that waited goes out, one line, exit 1 at once.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::{Agent, Device, FAST, charging, needs};

/// `strace` that makes every sync of the agent fail from now on.
fn fail_syncs(agent: &Agent) -> Child {
    needs("strace", "strace");
    let mut strace = Command::new("strace")
        .args(["-f", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", "-p"])
        .arg(agent.id().to_string())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines();
    let attached = lines.next().unwrap().unwrap();
    assert!(attached.contains("attached"), "{attached}");
    // What it goes on to say has to be read, or it stops.
    std::thread::spawn(move || lines.for_each(drop));
    strace
}

#[test]
fn a_store_that_fails_ends_the_agent_at_once_and_what_was_committed_is_there_after_the_restart() {
    let mut agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 26, 7);
    device.status(charging(26, 1, 0));
    let mut strace = fail_syncs(&agent);
    device.end(0xb0, 26, 2, 1);
    assert!(device.hear().is_none(), "no acknowledgement, the connection ends");
    assert_eq!(agent.ended().code(), Some(1));
    strace.wait().unwrap();
    let last = agent.log().lines().last().unwrap().to_owned();
    assert!(last.starts_with("chargegate: run: store: cannot commit"), "{last}");
    agent.run();
    let mut device = Device::connect(&agent);
    device.expect_question();
    device.ends(0xb0, 26, 2, 1);
    assert_eq!(agent.order()["settlement"], "reported");
    assert_eq!(agent.events("order"), ["order.started", "order.completed"], "whether or not the failed commit took");
}
