//! The real program in a folder of its own: started, asked, stopped, killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where agents run, one after the other, at the same address.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    pub address: SocketAddr,
}

/// What an agent wrote to stderr so far; closed when it ended.
#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    over: bool,
}

/// An agent that runs.
pub struct Agent {
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
}

impl Folder {
    /// With this store file, and these lines of configuration more.
    pub fn new(path: &Path, store: &Path, more: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "devices.listen = \"{address}\"\ncontrol.socket = \"control.sock\"\nstore.path = {:?}\n{more}\n",
            store.display().to_string()
        );
        std::fs::write(path.join("site.toml"), config).unwrap();
        Self { path: path.to_owned(), address }
    }

    /// Starts an agent, whatever comes of it.
    pub fn spawn(&self) -> Agent {
        let mut child = Command::new(env!("CARGO_BIN_EXE_chargegate"))
            .args(["--config", "site.toml", "run"])
            .current_dir(&self.path)
            .env_remove("CHARGEGATE_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::default();
        let (stderr, listener) = (child.stderr.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || listen(stderr, &listener));
        Agent { child, said }
    }

    /// Starts an agent and waits until it serves.
    pub fn start(&self) -> Agent {
        let agent = self.spawn();
        agent.wait_for("listening devices=");
        agent
    }

    /// One command through the control socket; `None` when the agent is gone before it replies.
    pub fn command(&self, command: &Value) -> Option<Value> {
        let mut stream = UnixStream::connect(self.path.join("control.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{command}\n").as_bytes()).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    /// Another command of the program; its exit code and what it printed.
    pub fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chargegate"));
        command.args(["--config", "site.toml"]).args(arguments).current_dir(&self.path);
        let output = command.env_remove("CHARGEGATE_CONFIG").output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }
}

fn listen(stderr: ChildStderr, said: &(Mutex<Said>, Condvar)) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        said.0.lock().unwrap().lines.push(line);
        said.1.notify_all();
    }
    said.0.lock().unwrap().over = true;
    said.1.notify_all();
}

impl Agent {
    /// The first line with this text in it, as soon as there is one.
    pub fn wait_for(&self, text: &str) -> String {
        let find = |said: &Said| said.lines.iter().find(|line| line.contains(text)).cloned();
        let said = self.said.0.lock().unwrap();
        let waits = |said: &mut Said| find(said).is_none() && !said.over;
        let (said, _) = self.said.1.wait_timeout_while(said, PATIENCE, waits).unwrap();
        find(&said).unwrap_or_else(|| panic!("never said {text:?}: {:#?}", said.lines))
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, and all that it said.
    pub fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let said = self.said.0.lock().unwrap();
        let (said, waited) = self.said.1.wait_timeout_while(said, PATIENCE, |said| !said.over).unwrap();
        assert!(!waited.timed_out(), "it does not end: {:#?}", said.lines);
        let lines = said.lines.clone();
        drop(said);
        (self.child.wait().unwrap(), lines)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
