//! The effective configuration as TOML: every key with its comment, what has no value commented out.

use super::Config;
use super::table::{Key, Table};

const HEAD: &str = "\
# Configuration of chargegate. Every key is shown; one that begins with # has no value.
# Durations are whole numbers with the units d h m s (\"90s\", \"1h30m\"), sizes with B KiB MiB GiB (\"16MiB\").
# Relative paths start at the working directory.
";

pub(super) fn render(config: &Config) -> String {
    let mut text = HEAD.to_owned();
    for (name, section) in config.sections() {
        heading(&mut text, section.about());
        text.push_str(&format!("[{name}]\n"));
        keys(&mut text, section, "", true);
    }
    list(&mut text, "models", &config.models);
    list(&mut text, "reasons", &config.reasons);
    list(&mut text, "policies", &config.policies);
    text
}

fn heading(text: &mut String, about: &[&str]) {
    text.push('\n');
    comment(text, about);
}

fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(&format!("#{line}\n"));
    }
}

fn list<T: Table + Default>(text: &mut String, name: &str, entries: &[T]) {
    heading(text, T::default().about());
    if entries.is_empty() {
        text.push_str(&format!("#[[{name}]]\n"));
        keys(text, &T::default(), "#", true);
    }
    for (index, entry) in entries.iter().enumerate() {
        let gap = if index == 0 { "" } else { "\n" };
        text.push_str(&format!("{gap}[[{name}]]\n"));
        keys(text, entry, "", index == 0);
    }
}

fn keys(text: &mut String, table: &dyn Table, prefix: &'static str, with_comments: bool) {
    for key in table.keys() {
        if with_comments {
            comment(text, key.doc);
        }
        let (mark, value) = shown(table, key, prefix);
        text.push_str(&format!("{mark}{} = {value}\n", key.name));
    }
}

/// The value of a key, or its example commented out; an entry that is only an example shows what must be given.
fn shown(table: &dyn Table, key: &Key, prefix: &'static str) -> (&'static str, String) {
    let value = table.text(key).filter(|_| !(prefix == "#" && key.required));
    match value {
        Some(value) => (prefix, value),
        None => ("#", key.example.to_owned()),
    }
}
