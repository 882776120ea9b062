//! The machinery of the one table of keys: `table!` makes, from one list, the struct with its defaults, the
//! parser's dispatch, and what `config` and the sample print. They cannot disagree, since they are the same lines.

use toml::de::DeValue;

use super::kinds::Wrong;

/// What is known of a key beside its value.
#[derive(Debug)]
pub(super) struct Key {
    /// With its table: `orders.answer_timeout`.
    pub(super) full: &'static str,
    /// In its table: `answer_timeout`.
    pub(super) name: &'static str,
    /// The comment, line by line.
    pub(super) doc: &'static [&'static str],
    /// Shown, commented out, where there is no value.
    pub(super) example: &'static str,
    /// Taken over by SIGHUP.
    pub(super) live: bool,
    /// An entry without it is refused.
    pub(super) required: bool,
}

impl Key {
    pub(super) const fn new(full: &'static str, name: &'static str, doc: &'static [&'static str]) -> Self {
        Self { full, name, doc, example: "", live: false, required: false }
    }

    pub(super) const fn live(self) -> Self {
        Self { live: true, ..self }
    }

    pub(super) const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    pub(super) const fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

/// A table of the file, whichever.
pub(super) trait Table {
    /// Its keys, in the order in which they are shown.
    fn keys(&self) -> &'static [Key];
    /// The comment above it, line by line.
    fn about(&self) -> &'static [&'static str];
    /// Takes a value for one of its keys.
    fn set(&mut self, key: &Key, value: &DeValue<'_>) -> Result<(), Wrong>;
    /// The value of a key as TOML, `None` when it has none.
    fn text(&self, key: &Key) -> Option<String>;
}

/// Declares a table of the file: `"name" Struct { field: Type = default, kind, flag, flag(argument); … }`.
/// The doc comments are also the comments of the file.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $table:literal $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:expr, $kind:expr $(, $flag:ident $(($argument:literal))?)*;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $name {
            const KEYS: &[$crate::config::table::Key] = &[$(
                $crate::config::table::Key::new(
                    concat!($table, ".", stringify!($field)),
                    stringify!($field),
                    &[$($doc),+],
                ) $(.$flag($($argument)?))*,
            )+];
        }

        impl $crate::config::table::Table for $name {
            fn keys(&self) -> &'static [$crate::config::table::Key] {
                Self::KEYS
            }

            fn about(&self) -> &'static [&'static str] {
                &[$($about),+]
            }

            fn set(
                &mut self,
                key: &$crate::config::table::Key,
                value: &toml::de::DeValue<'_>,
            ) -> Result<(), $crate::config::kinds::Wrong> {
                $( if key.name == stringify!($field) {
                    self.$field = $kind.read(value)?;
                } )+
                Ok(())
            }

            fn text(&self, key: &$crate::config::table::Key) -> Option<String> {
                match key.name {
                    $( stringify!($field) => $kind.write(&self.$field), )+
                    _ => None,
                }
            }
        }
    };
}

/// As `table!`, for the sections that there is exactly one of: SIGHUP takes their live keys over.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $table:literal $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:expr, $kind:expr $(, $flag:ident $(($argument:literal))?)*;
            )+
        }
    ) => {
        $crate::config::table::table! {
            $(#[doc = $about])+
            $table $name {
                $(
                    $(#[doc = $doc])+
                    $field: $type = $default, $kind $(, $flag $(($argument))?)*;
                )+
            }
        }

        impl $name {
            /// Takes over from `new` what may change while the agent runs.
            pub(super) fn take_over(&mut self, new: &Self) {
                let live = |name: &str| Self::KEYS.iter().any(|key| key.live && key.name == name);
                $( if live(stringify!($field)) {
                    self.$field.clone_from(&new.$field);
                } )+
            }
        }
    };
}

/// Declares a closed set of words, each with the value that it stands for.
macro_rules! words {
    ($(#[$about:meta])+ $name:ident { $( $(#[$doc:meta])+ $variant:ident = $word:literal, )+ }) => {
        $(#[$about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $( $(#[$doc])+ $variant, )+
        }

        impl $crate::config::kinds::Words for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
        }
    };
}

pub(super) use {section, table, words};
