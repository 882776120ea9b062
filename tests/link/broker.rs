//! A real mosquitto on a port of its own, and its clients.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::{DEADLINE, wait_for};

pub struct Broker {
    pub port: u16,
    pub folder: tempfile::TempDir,
    child: Child,
}

impl Broker {
    /// Anyone may do anything.
    pub fn open() -> Self {
        Self::start("allow_anonymous true\n")
    }

    pub fn start(settings: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings)
    }

    /// In a folder that already holds what the settings name; `DIR` in them stands for the folder.
    pub fn start_in(folder: tempfile::TempDir, settings: &str) -> Self {
        for program in ["mosquitto", "mosquitto_pub", "mosquitto_sub"] {
            let found = Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(found.is_ok(), "{program} is missing: apt-get install mosquitto mosquitto-clients");
        }
        let port = free_port();
        let mut text = format!("listener {port} 127.0.0.1\nlog_dest file DIR/log\nlog_type all\n");
        // It would give up the right to read the folder otherwise.
        text.write_str("user root\n").unwrap();
        text.write_str(settings).unwrap();
        let file = folder.path().join("mosquitto.conf");
        fs::write(&file, text.replace("DIR", folder.path().to_str().unwrap())).unwrap();
        let child = Command::new("mosquitto").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let broker = Self { port, folder, child: child.unwrap() };
        wait_for("the broker", || TcpStream::connect(("127.0.0.1", port)).ok());
        broker
    }

    pub fn url(&self) -> String {
        format!("mqtt.url = \"mqtt://127.0.0.1:{}\"\n", self.port)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `mosquitto_pub` with these arguments.
    pub fn publish(&self, arguments: &[&str]) {
        let port = self.port.to_string();
        let status = Command::new("mosquitto_pub").args(["-p", &port, "-q", "1"]).args(arguments).status().unwrap();
        assert!(status.success(), "mosquitto_pub {arguments:?}");
    }

    /// What is published from now on.
    pub fn listen(&self, topic: &str) -> Listener {
        Listener::start(self.port, topic)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `mosquitto_sub`: each message a line.
pub struct Listener {
    child: Child,
    lines: Receiver<String>,
}

/// A message as a listener got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub topic: String,
    pub retained: bool,
    pub correlation: String,
    pub payload: String,
}

impl Listener {
    fn start(port: u16, topic: &str) -> Self {
        let mut child = Command::new("stdbuf")
            .args(["-oL", "mosquitto_sub", "-V", "5", "-d", "-q", "1", "-p", &port.to_string()])
            .args(["-t", topic, "-F", "M|%t|%r|%D|%p"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        let listener = Self { child, lines };
        while !listener.line().expect("mosquitto_sub subscribes").starts_with("Subscribed") {}
        listener
    }

    fn line(&self) -> Option<String> {
        self.lines.recv_timeout(DEADLINE).ok()
    }

    pub fn hear(&self) -> Heard {
        loop {
            let line = self.line().expect("a message comes");
            if let Some(heard) = parse(&line) {
                return heard;
            }
        }
    }

    /// Whether nothing comes for a while.
    pub fn is_silent_for(&self, time: Duration) -> bool {
        while let Ok(line) = self.lines.recv_timeout(time) {
            if parse(&line).is_some() {
                return false;
            }
        }
        true
    }
}

fn parse(line: &str) -> Option<Heard> {
    let mut parts = line.strip_prefix("M|")?.splitn(4, '|').map(str::to_owned);
    let mut part = || parts.next();
    Some(Heard { topic: part()?, retained: part()? == "1", correlation: part()?, payload: part()? })
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Certificates made with `openssl`.
pub struct Authority {
    pub folder: PathBuf,
}

impl Authority {
    pub fn found(folder: PathBuf) -> Self {
        fs::create_dir_all(folder.join("issued")).unwrap();
        fs::write(folder.join("index"), "").unwrap();
        fs::write(
            folder.join("ca.conf"),
            "[ca]\ndefault_ca=a\n[a]\nnew_certs_dir=DIR/issued\ndatabase=DIR/index\nrand_serial=yes\ndefault_md=sha256\n\
             policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"
                .replace("DIR", folder.to_str().unwrap()),
        )
        .unwrap();
        let authority = Self { folder };
        authority.key("ca");
        authority.openssl(
            "req -x509 -new -key ca.key -out ca.pem -subj /CN=authority -days 2 \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
        );
        authority
    }

    /// `NAME.pem` and `NAME.key`, valid within these times as `openssl ca` writes them.
    pub fn issue(&self, name: &str, alternative: &str, from: &str, to: &str) {
        self.key(name);
        self.openssl(&format!("req -new -key {name}.key -out {name}.csr -subj /CN={name}"));
        fs::write(self.folder.join("extensions"), format!("subjectAltName={alternative}\n")).unwrap();
        self.openssl(&format!(
            "ca -batch -config ca.conf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.pem -notext \
             -extfile extensions -startdate {from} -enddate {to}"
        ));
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn key(&self, name: &str) {
        self.openssl(&format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(&self.folder).output();
        let output = output.expect("openssl is missing: apt-get install openssl");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

pub const LONG_AGO: &str = "20200101000000Z";
pub const YESTERDAY_OF_OLD: &str = "20210101000000Z";
pub const FAR_AHEAD: &str = "20480101000000Z";
pub const FARTHER_AHEAD: &str = "20490101000000Z";
