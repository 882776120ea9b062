//! Where the demo keeps its store: a folder of its own that goes again, or one that stays.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The longest path that a Unix socket can have.
const SOCKET_PATH: usize = 100;
/// Figures reach the store so often, by the demo's own clock: the table is to move.
const FLUSH: &str = "15s";
/// How the configuration of a kept demo begins: another one is left alone, as is the store beside it.
const MARK: &str = "# Written by chargegate demo.\n";

/// The folder of one demo.
#[derive(Debug)]
pub(super) struct Place {
    /// Goes at the end, and is ours alone.
    scratch: PathBuf,
    /// Stays.
    kept: Option<PathBuf>,
    /// The broker that the agent tells.
    mqtt: Option<String>,
}

impl Place {
    pub(super) fn new(keep: Option<&Path>, mqtt: Option<&str>) -> io::Result<Self> {
        let kept = keep.map(prepare).transpose()?;
        let place = Self { scratch: new_scratch()?, kept, mqtt: mqtt.map(str::to_owned) };
        if let Some(file) = place.config_file()
            && let Err(error) = fs::write(file, place.config())
        {
            place.leave();
            return Err(error);
        }
        Ok(place)
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

    /// The configuration with which a kept store is read.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.kept.as_deref().map(config_in)
    }

    /// The configuration of the demo's agent.
    pub(super) fn config(&self) -> String {
        let mqtt = self.mqtt.as_deref().map_or(String::new(), |url| format!("\n[mqtt]\nurl = {}\n", in_quotes(url)));
        format!(
            "{MARK}[site]\nid = \"demo\"\n\n[devices]\nlisten = \"127.0.0.1:0\"\nmax_connections = 10000\n\
             max_known = 10000\n\n[store]\npath = {}\nflush_interval = \"{FLUSH}\"\n\n[control]\nsocket = {}\n{mqtt}",
            quoted(&self.store()),
            quoted(&self.socket()),
        )
    }

    /// Removes what does not stay.
    pub(super) fn leave(self) {
        if let Err(error) = fs::remove_dir_all(&self.scratch) {
            log::warn!("{} is left behind: {error}", self.scratch.display());
        }
    }
}

/// Makes the folder that stays. One in which something else than a demo keeps its store is refused.
fn prepare(folder: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let folder = fs::canonicalize(folder)?;
    let config = config_in(&folder);
    let a_demos = || fs::read(&config).map(|text| text.starts_with(MARK.as_bytes()));
    for file in [folder.join("chargegate.db"), config.clone()] {
        if file.try_exists()? && !a_demos().unwrap_or(false) {
            return Err(io::Error::other(format!("{} is there already, and not by a demo", file.display())));
        }
    }
    Ok(folder)
}

fn config_in(folder: &Path) -> PathBuf {
    folder.join("chargegate.toml")
}

/// A folder that nobody else has or can enter.
fn new_scratch() -> io::Result<PathBuf> {
    let base = std::env::temp_dir();
    for attempt in 0..100 {
        let scratch = base.join(format!("chargegate-demo-{}-{attempt}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&scratch) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(scratch),
        }
    }
    Err(io::Error::other(format!("no free name for a folder in {}", base.display())))
}

/// As a TOML string, which is written as one of JSON is.
fn quoted(path: &Path) -> String {
    in_quotes(&path.to_string_lossy())
}

fn in_quotes(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chargegate::config::Config;

    #[test]
    fn a_demo_without_a_folder_to_keep_leaves_nothing_behind() {
        let place = Place::new(None, None).unwrap();
        fs::write(place.store(), "x").unwrap();
        let scratch = place.scratch.clone();
        place.leave();
        assert!(!scratch.exists());
    }

    #[test]
    fn a_kept_folder_is_used_again_and_its_configuration_names_the_store() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let place = Place::new(Some(folder.path()), None).unwrap();
            fs::write(place.store(), "x").unwrap();
            let config = Config::load(&place.config_file().unwrap()).unwrap();
            assert_eq!((config.store.path, config.control.socket), (place.store(), place.socket()));
            place.leave();
        }
        assert!(folder.path().join("chargegate.db").exists());
    }

    #[test]
    fn the_broker_stands_in_the_configuration_of_the_demos_agent() {
        for (url, expected) in [(Some("mqtt://127.0.0.1:1883"), Some("mqtt://127.0.0.1:1883")), (None, None)] {
            let place = Place::new(None, url).unwrap();
            let config = Config::parse(&place.config()).unwrap();
            assert_eq!(config.mqtt.url.map(|url| url.to_string()).as_deref(), expected);
            assert_eq!(config.site.id, "demo");
            place.leave();
        }
    }

    #[test]
    fn a_store_or_configuration_that_no_demo_made_is_left_alone() {
        for name in ["chargegate.db", "chargegate.toml"] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join(name);
            fs::write(&file, "a real one").unwrap();
            let error = Place::new(Some(folder.path()), None).unwrap_err().to_string();
            assert!(error.ends_with("is there already, and not by a demo"), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), "a real one");
        }
    }
}
