//! Where the demo keeps its store: a folder of its own that goes again, or one that stays.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The longest path that a Unix socket can have.
const SOCKET_PATH: usize = 100;

/// The folder of one demo.
#[derive(Debug)]
pub(super) struct Place {
    /// Goes at the end.
    scratch: PathBuf,
    /// Stays.
    kept: Option<PathBuf>,
}

impl Place {
    pub(super) fn new(keep: Option<&Path>) -> io::Result<Self> {
        let scratch = std::env::temp_dir().join(format!("chargegate-demo-{}", std::process::id()));
        fs::create_dir_all(&scratch)?;
        let kept = keep.map(|folder| fs::create_dir_all(folder).and_then(|()| fs::canonicalize(folder))).transpose()?;
        Ok(Self { scratch, kept })
    }

    fn folder(&self) -> &Path {
        self.kept.as_deref().unwrap_or(&self.scratch)
    }

    pub(super) fn store(&self) -> PathBuf {
        self.folder().join("chargegate.db")
    }

    pub(super) fn socket(&self) -> PathBuf {
        let beside = self.folder().join("chargegate.sock");
        if beside.as_os_str().len() <= SOCKET_PATH { beside } else { self.scratch.join("chargegate.sock") }
    }

    /// The configuration of the demo's agent.
    pub(super) fn config(&self, flush: &str) -> String {
        format!(
            "[site]\nid = \"demo\"\n\n[devices]\nlisten = \"127.0.0.1:0\"\nmax_connections = 10000\nmax_known = 10000\n\n\
             [store]\npath = {}\nflush_interval = \"{flush}\"\n\n[control]\nsocket = {}\n",
            quoted(&self.store()),
            quoted(&self.socket()),
        )
    }

    /// Removes what does not stay; gives the configuration with which the rest is read.
    pub(super) fn leave(self) -> Option<PathBuf> {
        let config = self.kept.as_ref().and_then(|kept| {
            let file = kept.join("chargegate.toml");
            fs::write(&file, self.config("5m")).ok().map(|()| file)
        });
        if let Err(error) = fs::remove_dir_all(&self.scratch) {
            log::warn!("{} is left behind: {error}", self.scratch.display());
        }
        config
    }
}

/// As a TOML string, which is written as one of JSON is.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}
