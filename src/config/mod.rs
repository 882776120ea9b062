//! The TOML file as checked types: defaults, units, contradictions (contract §3).
//!
//! `keys.rs` and `lists.rs` hold one table of keys. The structs with their defaults, the parser, `chargegate config`
//! and the sample file all come from it. Reads files, asks nothing else of the system.

mod address;
mod keys;
mod kinds;
mod lists;
mod network;
mod parse;
mod render;
mod table;
mod units;
mod version;

use std::fmt;
use std::path::{Path, PathBuf};

pub use address::{BadBrokerUrl, BadUtcOffset, BrokerUrl, UtcOffset};
pub use keys::{
    Admission, Alerts, Confirm, Control, Devices, Log, Metrics, Mqtt, MqttProtocol, OnReturn, Orders, Site, Store,
    UnknownSession,
};
pub use lists::{EndAck, Model, Policy, PolicyAction, REPORTED_END_REASONS, Reason, TiersCommand};
pub use network::{BadNetwork, Network};
pub use units::{format_duration, format_size, parse_duration, parse_size};
pub use version::Version;

use table::Table;

/// The largest file that is read.
const MOST_BYTES: u64 = 1 << 20;

macro_rules! config {
    ($( $section:ident: $type:ident, )+) => {
        /// The configuration of one agent; [`Default`] holds where no file says otherwise.
        #[derive(Debug, Clone, PartialEq, Default)]
        #[expect(missing_docs, reason = "each section's type is documented")]
        pub struct Config {
            $( pub $section: $type, )+
            /// Quirks of device models, each model at most once.
            pub models: Vec<Model>,
            /// Meanings of raw end reasons.
            pub reasons: Vec<Reason>,
            /// Which devices and sockets are disabled by their firmware.
            pub policies: Vec<Policy>,
        }

        impl Config {
            fn sections(&self) -> Vec<(&'static str, &dyn Table)> {
                vec![$( (stringify!($section), &self.$section) ),+]
            }

            fn sections_mut(&mut self) -> Vec<(&'static str, &mut dyn Table)> {
                vec![$( (stringify!($section), &mut self.$section) ),+]
            }

            /// Takes over from `new` what SIGHUP may change (contract §2): `orders.*`, `alerts.*`, `models`,
            /// `policies`, `reasons`, `log.level` and the intervals.
            pub fn take_over(&mut self, new: &Self) {
                $( self.$section.take_over(&new.$section); )+
                self.models.clone_from(&new.models);
                self.reasons.clone_from(&new.reasons);
                self.policies.clone_from(&new.policies);
            }
        }
    };
}

config! {
    site: Site,
    log: Log,
    devices: Devices,
    orders: Orders,
    store: Store,
    control: Control,
    mqtt: Mqtt,
    metrics: Metrics,
    alerts: Alerts,
}

impl Config {
    /// Reads the text of a file. The first mistake, by line, is the error.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        parse::parse(text)
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let in_file = |error: ConfigError| ConfigError { path: Some(path.to_owned()), ..error };
        read_text(path).and_then(|text| Self::parse(&text)).map_err(in_file)
    }

    /// The configuration as TOML, every key with its comment; [`Config::parse`] reads the same back.
    pub fn render(&self) -> String {
        render::render(self)
    }

    /// The keys that differ in `new` and that [`Config::take_over`] leaves as they are.
    pub fn changed_keys_that_need_a_restart(&self, new: &Self) -> Vec<&'static str> {
        let mut changed = Vec::new();
        for ((_, ours), (_, theirs)) in self.sections().into_iter().zip(new.sections()) {
            let fixed = ours.keys().iter().filter(|key| !key.live);
            changed.extend(fixed.filter(|key| ours.text(key) != theirs.text(key)).map(|key| key.full));
        }
        changed
    }

    /// The quirks of a model; those of one that the file does not name are the defaults.
    pub fn model(&self, device_model: Option<&str>) -> Model {
        let known = self.models.iter().find(|model| Some(model.device_model.as_str()) == device_model);
        known
            .cloned()
            .unwrap_or_else(|| Model { device_model: device_model.unwrap_or_default().to_owned(), ..Model::default() })
    }

    /// The most that a port of a device of this model can draw, W.
    pub fn power_ceiling_w(&self, device_model: Option<&str>) -> u32 {
        let of_model = self.models.iter().find(|model| Some(model.device_model.as_str()) == device_model);
        of_model.and_then(|model| model.power_ceiling_w).unwrap_or(self.orders.power_ceiling_w)
    }

    /// What `[[reasons]]` says of a raw end reason: what it says of the model goes before what it says of all.
    pub fn end_reason(&self, code: u8, device_model: Option<&str>) -> Option<&str> {
        let of = |model: Option<&str>| {
            let fits = |reason: &&Reason| reason.code == u32::from(code) && reason.device_model.as_deref() == model;
            self.reasons.iter().find(fits)
        };
        let of_model = device_model.and_then(|model| of(Some(model)));
        of_model.or_else(|| of(None)).map(|reason| reason.end_reason.as_str())
    }
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| ConfigError::of_file(error.to_string());
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path).map_err(failed)?.take(MOST_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(ConfigError::of_file("is larger than 1 MiB".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError { line: Some(line), ..ConfigError::of_file("is not UTF-8".to_owned()) }
    })
}

/// Why a configuration is refused, on one line: `FILE: line N: KEY: WHY`, as far as each is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, unless the text came from elsewhere.
    pub path: Option<PathBuf>,
    /// Where in it, from 1; none when it cannot be read at all.
    pub line: Option<usize>,
    /// The full name of the key, such as `models[1].end_ack`; none when the text is no TOML.
    pub key: Option<String>,
    /// What is wrong.
    pub why: String,
}

impl ConfigError {
    fn of_file(why: String) -> Self {
        Self { path: None, line: None, key: None, why }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
