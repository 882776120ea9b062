//! A folder on a real disk, and the agent in it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chargegate::clock::Stopwatch;

/// Goes when the bench does.
pub struct Place {
    folder: tempfile::TempDir,
    pub address: SocketAddr,
}

impl Place {
    /// A new folder with a configuration.
    pub fn new() -> Self {
        Self::with("", "")
    }

    /// The same, with lines of the sections of store and devices.
    pub fn with(store: &str, devices: &str) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let place = Self { folder, address };
        let text = format!(
            "[log]\nlevel = \"error\"\n[control]\nsocket = {:?}\n[store]\npath = {:?}\n{store}\n",
            place.path("sock"),
            place.path("store.db"),
        );
        let text = format!(
            "{text}[devices]\nlisten = \"{address}\"\nmax_connections = 6000\nmax_connections_per_address = 6000\nmax_known = 6000\n{devices}\n"
        );
        fs::write(place.config(), text).unwrap();
        place
    }

    /// Inside of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.path("agent.toml")
    }

    /// The real binary on it, listening; `preload` is preloaded.
    pub fn agent(&self, preload: Option<&Path>) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chargegate"));
        command.arg("--config").arg(self.config()).arg("run");
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        Running::of(command, self.address)
    }

    /// This bench in another role, serving the same address.
    pub fn role(&self, role: &str, arguments: &[&str]) -> Running {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(role).args(arguments).env("BENCH_ADDRESS", self.address.to_string());
        Running::of(command, self.address)
    }
}

/// A child that ends with its owner.
pub struct Running(Child);

impl Running {
    fn of(mut command: Command, address: SocketAddr) -> Self {
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        wait_for(|| TcpStream::connect(address).is_ok());
        Self(child)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Bytes that it caused to be written to a disk.
    pub fn written(&self) -> u64 {
        self.number("io", "write_bytes:")
    }

    /// Its resident memory, KiB.
    pub fn resident(&self) -> u64 {
        self.number("status", "VmRSS:")
    }

    /// How often it slept and woke.
    pub fn switches(&self) -> u64 {
        self.number("status", "voluntary_ctxt_switches:")
    }

    /// Processor time that it took, in user and system mode, in steps of 10 ms.
    pub fn processor_ms(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // Behind the name, which can hold anything; the kernel counts hundredths of a second towards programs.
        let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let hundredths = |field: usize| fields[field].parse::<u64>().unwrap();
        (hundredths(11) + hundredths(12)) * 10
    }

    fn number(&self, file: &str, field: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// SIGTERM, and the wait for the end.
    pub fn end(mut self) {
        self.interrupt();
        let _ = self.0.wait();
    }

    fn interrupt(&self) {
        let id = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Until the condition holds.
pub fn wait_for(mut condition: impl FnMut() -> bool) {
    let watch = Stopwatch::start();
    while !condition() {
        assert!(watch.elapsed() < Duration::from_secs(60), "what the bench waits for does not come");
        pause(Duration::from_micros(200));
    }
}

/// Lets real time pass: a bench measures it.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
pub fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
