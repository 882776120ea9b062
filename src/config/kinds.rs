//! How the value of a key is read from TOML and written back: one [`Kind`] for each sort of value.

use std::fmt::Display;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use super::units;

/// Why a value is refused. An element of a list says which one it is and where it begins in the file.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) element: Option<(usize, usize)>,
    pub(super) why: String,
}

impl Wrong {
    pub(super) fn because(why: String) -> Self {
        Self { element: None, why }
    }
}

/// One sort of value.
pub(super) trait Kind {
    type Value;
    /// From TOML, with every bound checked.
    fn read(&self, value: &DeValue<'_>) -> Result<Self::Value, Wrong>;
    /// As TOML; `None` when there is no value.
    fn write(&self, value: &Self::Value) -> Option<String>;
}

/// What a value is, with its article.
pub(super) fn sort_of(value: &DeValue<'_>) -> String {
    match value.type_str() {
        sort @ ("integer" | "array") => format!("an {sort}"),
        sort => format!("a {sort}"),
    }
}

fn expected(what: &str, value: &DeValue<'_>) -> Wrong {
    Wrong::because(format!("expected {what}, found {}", sort_of(value)))
}

fn text<'a>(what: &str, value: &'a DeValue<'_>) -> Result<&'a str, Wrong> {
    value.as_str().ok_or_else(|| expected(what, value))
}

fn integer(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A TOML string; what it holds is escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut toml = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => toml.extend(['\\', c]),
            c if c.is_control() => toml.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => toml.push(c),
        }
    }
    toml.push('"');
    toml
}

/// A duration between two bounds, in whole seconds.
pub(super) struct Span {
    pub(super) longest: Duration,
}

/// From 1 s to a year.
pub(super) const SPAN: Span = Span { longest: Duration::from_secs(365 * 86_400) };
/// From 1 s to a hundred years: of what is kept.
pub(super) const AGE: Span = Span { longest: Duration::from_secs(36_500 * 86_400) };

impl Kind for Span {
    type Value = Duration;

    fn read(&self, value: &DeValue<'_>) -> Result<Duration, Wrong> {
        let what = "a duration such as \"90s\", \"5m\", \"1h30m\" or \"7d\"";
        let text = text(what, value)?;
        let duration = units::parse_duration(text).ok_or_else(|| Wrong::because(format!("{text:?} is not {what}")))?;
        if duration < Duration::from_secs(1) {
            return Err(Wrong::because(format!("{text:?} is below \"1s\"")));
        }
        if duration > self.longest {
            let longest = units::format_duration(self.longest);
            return Err(Wrong::because(format!("{text:?} is above \"{longest}\"")));
        }
        Ok(duration)
    }

    fn write(&self, value: &Duration) -> Option<String> {
        Some(quoted(&units::format_duration(*value)))
    }
}

/// A size in bytes between two bounds.
pub(super) struct Size {
    pub(super) least: u64,
    pub(super) most: u64,
}

impl Kind for Size {
    type Value = u64;

    fn read(&self, value: &DeValue<'_>) -> Result<u64, Wrong> {
        let what = "a size such as \"512KiB\", \"16MiB\" or \"1GiB\"";
        let text = text(what, value)?;
        let size = units::parse_size(text).ok_or_else(|| Wrong::because(format!("{text:?} is not {what}")))?;
        if size < self.least {
            return Err(Wrong::because(format!("{text:?} is below \"{}\"", units::format_size(self.least))));
        }
        if size > self.most {
            return Err(Wrong::because(format!("{text:?} is above \"{}\"", units::format_size(self.most))));
        }
        Ok(size)
    }

    fn write(&self, value: &u64) -> Option<String> {
        Some(quoted(&units::format_size(*value)))
    }
}

/// A whole number between two bounds.
pub(super) struct Count {
    pub(super) least: u32,
    pub(super) most: u32,
}

impl Kind for Count {
    type Value = u32;

    fn read(&self, value: &DeValue<'_>) -> Result<u32, Wrong> {
        if !value.is_integer() {
            return Err(expected("a whole number", value));
        }
        let number = integer(value).and_then(|number| u32::try_from(number).ok());
        number.filter(|number| (self.least..=self.most).contains(number)).ok_or_else(|| {
            let (least, most) = (self.least, self.most);
            Wrong::because(format!("{} is not from {least} to {most}", shown(value)))
        })
    }

    fn write(&self, value: &u32) -> Option<String> {
        Some(value.to_string())
    }
}

/// A per cent value, from 0 to 100, whole or not.
pub(super) struct PerCent;

impl Kind for PerCent {
    type Value = f64;

    fn read(&self, value: &DeValue<'_>) -> Result<f64, Wrong> {
        let number: Option<f64> = match value {
            DeValue::Integer(_) => integer(value).map(|number| number as f64),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => return Err(expected("a number of per cent", value)),
        };
        number
            .filter(|number| (0.0..=100.0).contains(number))
            .ok_or_else(|| Wrong::because(format!("{} is not from 0 to 100 per cent", shown(value))))
    }

    fn write(&self, value: &f64) -> Option<String> {
        Some(value.to_string())
    }
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        _ => value.type_str().to_owned(),
    }
}

/// A text with a rule of its own.
pub(super) struct Text {
    pub(super) what: &'static str,
    pub(super) fits: fn(&str) -> bool,
}

/// 1–64 characters, none of which is a control character.
pub(super) const NAME: Text = Text { what: "1 to 64 printable characters", fits: |text| is_name(text, 64) };
/// As [`NAME`], for what other systems make up.
pub(super) const LONG_NAME: Text = Text { what: "1 to 256 printable characters", fits: |text| is_name(text, 256) };

pub(super) fn is_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

impl Kind for Text {
    type Value = String;

    fn read(&self, value: &DeValue<'_>) -> Result<String, Wrong> {
        let text = text("a text", value)?;
        if !(self.fits)(text) {
            return Err(Wrong::because(format!("{text:?} is not {}", self.what)));
        }
        Ok(text.to_owned())
    }

    fn write(&self, value: &String) -> Option<String> {
        Some(quoted(value))
    }
}

/// A path, of at most so many bytes.
pub(super) struct FilePath {
    pub(super) longest: usize,
}

/// Any file.
pub(super) const FILE: FilePath = FilePath { longest: 4095 };
/// A Unix socket: the kernel takes no longer name.
pub(super) const SOCKET_FILE: FilePath = FilePath { longest: 107 };

impl Kind for FilePath {
    type Value = PathBuf;

    fn read(&self, value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
        let text = text("a path", value)?;
        if text.is_empty() || text.len() > self.longest || text.contains('\0') {
            return Err(Wrong::because(format!("{text:?} is not a path of 1 to {} bytes", self.longest)));
        }
        Ok(PathBuf::from(text))
    }

    fn write(&self, value: &PathBuf) -> Option<String> {
        Some(quoted(&value.to_string_lossy()))
    }
}

/// A text that a type of its own reads and writes.
pub(super) struct Form<T> {
    what: &'static str,
    of: PhantomData<T>,
}

impl<T> Form<T> {
    pub(super) const fn of(what: &'static str) -> Self {
        Self { what, of: PhantomData }
    }
}

impl<T: FromStr + Display> Kind for Form<T> {
    type Value = T;

    fn read(&self, value: &DeValue<'_>) -> Result<T, Wrong> {
        let text = text(self.what, value)?;
        text.parse().map_err(|_| Wrong::because(format!("{text:?} is not {}", self.what)))
    }

    fn write(&self, value: &T) -> Option<String> {
        Some(quoted(&value.to_string()))
    }
}

/// A type with a closed set of words.
pub(super) trait Words: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

/// One of a closed set of words.
pub(super) struct Word<T>(PhantomData<T>);

impl<T> Word<T> {
    pub(super) const ANY: Self = Self(PhantomData);
}

impl<T: Words> Kind for Word<T> {
    type Value = T;

    fn read(&self, value: &DeValue<'_>) -> Result<T, Wrong> {
        let words: Vec<String> = T::WORDS.iter().map(|(word, _)| format!("{word:?}")).collect();
        let what = words.join(" or ");
        let text = text(&what, value)?;
        let found = T::WORDS.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| Wrong::because(format!("{text:?} is not {what}")))
    }

    fn write(&self, value: &T) -> Option<String> {
        let found = T::WORDS.iter().find(|(_, known)| known == value);
        found.map(|(word, _)| quoted(word))
    }
}

/// A value that may be missing.
pub(super) struct Optional<K>(pub(super) K);

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;

    fn read(&self, value: &DeValue<'_>) -> Result<Self::Value, Wrong> {
        self.0.read(value).map(Some)
    }

    fn write(&self, value: &Self::Value) -> Option<String> {
        value.as_ref().and_then(|value| self.0.write(value))
    }
}

/// A list of values, at most so many.
pub(super) struct List<K> {
    pub(super) of: K,
    pub(super) most: usize,
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(&self, value: &DeValue<'_>) -> Result<Self::Value, Wrong> {
        let array = value.as_array().ok_or_else(|| expected("a list", value))?;
        if array.len() > self.most {
            return Err(Wrong::because(format!("{} are more than {}", array.len(), self.most)));
        }
        let element = |(index, item): (usize, &toml::Spanned<DeValue<'_>>)| {
            let at = Some((index, item.span().start));
            self.of.read(item.get_ref()).map_err(|wrong| Wrong { element: at, ..wrong })
        };
        array.iter().enumerate().map(element).collect()
    }

    fn write(&self, value: &Self::Value) -> Option<String> {
        let items: Vec<String> = value.iter().filter_map(|item| self.of.write(item)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}
