//! A loop that is stuck still ends. Alone in its process: it starts another one, which for a moment shares its files.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests")]

#[path = "server/agent.rs"]
#[expect(dead_code, reason = "shared with the other tests of the loop")]
mod agent;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use agent::{Agent, Client};
use chargegate::clock::{Clock, UpTime};
use chargegate::server::Server;
use rustix::process::{Pid, Signal, kill_process};

/// Names the socket to a second process of this test.
const CHILD: &str = "CHARGEGATE_TEST_CHILD_SOCKET";

#[test]
fn a_second_sigterm_ends_a_loop_that_is_stuck() {
    if let Some(socket) = std::env::var_os(CHILD) {
        let mut config = Agent::setup().config;
        config.control.socket = PathBuf::from(socket);
        let mut server = Server::bind(&config).unwrap();
        server.watch_signals().unwrap();
        println!("ready");
        let clock = Clock::start(UpTime(0));
        server.run(&mut agent::Script::default(), &clock, &mut ()).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_second_sigterm_ends_a_loop_that_is_stuck", "--nocapture"])
        .env(CHILD, &socket)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with("ready")));
    let mut client = Client::connect(&socket);
    client.send("stuck\n");
    assert!(lines.any(|line| line.ends_with("stuck")));
    let pid = Pid::from_child(&child);
    // One signal may swallow another of its kind that is still pending, so both kinds.
    kill_process(pid, Signal::TERM).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
