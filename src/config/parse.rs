//! From text to [`Config`]: walks the TOML tree along the table of keys and names the first mistake by its key
//! and line.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kinds::{Wrong, sort_of};
use super::table::{Key, Table};
use super::{Config, ConfigError, Model, Policy, Reason, units};

/// Entries that a list of tables may have.
const MOST_ENTRIES: usize = 256;

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    let tree = DeTable::parse(text).map_err(|error| syntax_error(text, &error))?;
    let mut config = Config::default();
    let mut reader = Reader::default();
    reader.root(&mut config, tree.get_ref());
    if reader.mistakes.is_empty() {
        reader.contradictions(&config);
    }
    match reader.mistakes.into_iter().min_by_key(|mistake| mistake.at) {
        Some(mistake) => Err(ConfigError {
            path: None,
            line: Some(line_of(text, mistake.at)),
            key: Some(mistake.key),
            why: mistake.why,
        }),
        None => Ok(config),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn syntax_error(text: &str, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or(text.len()..text.len());
    // A key that stands twice is TOML's own error; the key is what the span shows.
    let key = (error.message() == "duplicate key")
        .then(|| text.get(span.clone()))
        .flatten()
        .map(|key| full_name(text.get(..span.start).unwrap_or(""), key));
    let why = error.message().lines().collect::<Vec<_>>().join(", ");
    ConfigError { path: None, line: Some(line_of(text, span.start)), key, why }
}

/// The key with what stands before it: on its own line (`orders.KEY`), else the table of the last header.
fn full_name(before: &str, key: &str) -> String {
    let line = before.rsplit('\n').next().unwrap_or("").trim();
    let dotted = line.trim_start_matches('[').trim();
    let header = before.lines().rev().map(str::trim).find(|line| line.starts_with('['));
    let table = header.and_then(|line| line.trim_start_matches('[').split(']').next());
    match table {
        Some(table) if !line.starts_with('[') => format!("{}.{dotted}{key}", table.trim()),
        Some(_) | None => format!("{dotted}{key}"),
    }
}

/// Something wrong in the file, and the byte where it stands.
struct Mistake {
    at: usize,
    key: String,
    why: String,
}

/// Walks the tree; collects every mistake and where each key stands.
#[derive(Default)]
struct Reader {
    mistakes: Vec<Mistake>,
    seen: BTreeMap<String, usize>,
}

type Name<'i> = Spanned<std::borrow::Cow<'i, str>>;
type Item<'i> = Spanned<DeValue<'i>>;

impl Reader {
    fn mistake(&mut self, at: usize, key: &str, why: impl Into<String>) {
        self.mistakes.push(Mistake { at, key: key.to_owned(), why: why.into() });
    }

    fn root(&mut self, config: &mut Config, tree: &DeTable<'_>) {
        for (name, value) in tree {
            match name.get_ref().as_ref() {
                "models" => config.models = self.entries::<Model>(name, value),
                "reasons" => config.reasons = self.entries::<Reason>(name, value),
                "policies" => config.policies = self.entries::<Policy>(name, value),
                section => self.section(config, section, name, value),
            }
        }
    }

    fn section(&mut self, config: &mut Config, section: &str, name: &Name<'_>, value: &Item<'_>) {
        let at = name.span().start;
        let known = config.sections_mut().into_iter().find(|(known, _)| *known == section);
        match (known, value.get_ref()) {
            (None, _) => self.mistake(at, &printable(section), "no such key"),
            (Some((_, table)), DeValue::Table(tree)) => self.table(table, section, tree),
            (Some(_), other) => {
                self.mistake(at, section, format!("expected a table [{section}], found {}", sort_of(other)));
            }
        }
    }

    fn table(&mut self, table: &mut dyn Table, prefix: &str, tree: &DeTable<'_>) {
        for (name, value) in tree {
            let full = format!("{prefix}.{}", printable(name.get_ref()));
            let at = name.span().start;
            let known = table.keys().iter().find(|key| key.name == name.get_ref());
            self.seen.insert(full.clone(), at);
            match known.map(|key| table.set(key, value.get_ref())) {
                None => self.mistake(at, &full, "no such key"),
                Some(Ok(())) => {}
                Some(Err(Wrong { element: None, why })) => self.mistake(at, &full, why),
                Some(Err(Wrong { element: Some((index, at)), why })) => {
                    self.mistake(at, &format!("{full}[{index}]"), why);
                }
            }
        }
    }

    fn entries<T: Table + Entry>(&mut self, name: &Name<'_>, value: &Item<'_>) -> Vec<T> {
        let (at, list) = (name.span().start, name.get_ref());
        let Some(array) = value.get_ref().as_array() else {
            self.mistake(at, list, format!("expected tables [[{list}]], found {}", sort_of(value.get_ref())));
            return Vec::new();
        };
        if array.len() > MOST_ENTRIES {
            self.mistake(at, list, format!("{} entries are more than {MOST_ENTRIES}", array.len()));
        }
        let mut entries: Vec<T> = Vec::new();
        for (index, item) in array.iter().enumerate().take(MOST_ENTRIES) {
            let prefix = format!("{list}[{index}]");
            let entry = self.entry(&prefix, item, &entries);
            entries.push(entry);
        }
        entries
    }

    fn entry<T: Table + Entry>(&mut self, prefix: &str, item: &Item<'_>, earlier: &[T]) -> T {
        let mut entry = T::default();
        let at = item.span().start;
        let DeValue::Table(tree) = item.get_ref() else {
            self.mistake(at, prefix, format!("expected a table, found {}", sort_of(item.get_ref())));
            return entry;
        };
        let before = self.mistakes.len();
        self.table(&mut entry, prefix, tree);
        let missing = |key: &&Key| key.required && !tree.keys().any(|name| name.get_ref() == key.name);
        if let Some(key) = entry.keys().iter().find(missing) {
            self.mistake(at, &format!("{prefix}.{}", key.name), "is missing");
        }
        // Only what is right by itself is compared.
        if self.mistakes.len() == before
            && let Some((key, why)) = entry.conflict(earlier)
        {
            let key = if key.is_empty() { prefix.to_owned() } else { format!("{prefix}.{key}") };
            let at = self.seen.get(&key).copied().unwrap_or(at);
            self.mistake(at, &key, why);
        }
        entry
    }

    /// What is right by itself and wrong together. The line is that of the later one that the file sets.
    fn contradictions(&mut self, config: &Config) {
        let devices = &config.devices;
        self.not_below(
            ("devices.offline_after", devices.offline_after),
            ("devices.heartbeat_interval", devices.heartbeat_interval),
        );
        self.not_below(
            ("orders.silent_timeout", config.orders.silent_timeout),
            ("devices.status_interval", devices.status_interval),
        );
        if let Some(&at) = self.seen.get("mqtt.url")
            && !self.seen.contains_key("site.id")
        {
            self.mistake(at, "site.id", "must be set when mqtt.url is");
        }
        let pair = ["mqtt.cert_file", "mqtt.key_file"].map(|key| self.seen.get(key).copied());
        match pair {
            [Some(at), None] => self.mistake(at, "mqtt.cert_file", "needs mqtt.key_file"),
            [None, Some(at)] => self.mistake(at, "mqtt.key_file", "needs mqtt.cert_file"),
            [Some(_), Some(_)] | [None, None] => {}
        }
    }

    fn not_below(&mut self, (key, value): (&str, Duration), (floor_key, floor): (&str, Duration)) {
        if value < floor {
            let at = self.seen.get(key).max(self.seen.get(floor_key)).copied().unwrap_or(0);
            let [value, floor] = [value, floor].map(units::format_duration);
            self.mistake(at, key, format!("\"{value}\" is below {floor_key}, which is \"{floor}\""));
        }
    }
}

/// A key as an error line may show it.
fn printable(key: &str) -> String {
    if key.chars().any(|c| c.is_control() || c.is_whitespace()) { format!("{key:?}") } else { key.to_owned() }
}

/// An entry of a list of tables, checked against the earlier ones: the key at fault (none: the entry) and why.
trait Entry: Default {
    fn conflict(&self, earlier: &[Self]) -> Option<(&'static str, &'static str)>;
}

impl Entry for Model {
    fn conflict(&self, earlier: &[Self]) -> Option<(&'static str, &'static str)> {
        let twice = earlier.iter().any(|model| model.device_model == self.device_model);
        twice.then_some(("device_model", "stands twice"))
    }
}

impl Entry for Reason {
    fn conflict(&self, earlier: &[Self]) -> Option<(&'static str, &'static str)> {
        let same = |reason: &Self| (reason.code, &reason.device_model) == (self.code, &self.device_model);
        earlier.iter().any(same).then_some(("code", "stands twice for the same device_model"))
    }
}

impl Entry for Policy {
    fn conflict(&self, _earlier: &[Self]) -> Option<(&'static str, &'static str)> {
        let given = [&self.device_model, &self.firmware_below, &self.socket_firmware_below];
        let all = given.iter().all(|condition| condition.is_none());
        all.then_some(("", "needs a device_model, firmware_below or socket_firmware_below"))
    }
}
