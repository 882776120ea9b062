//! Durations and sizes as the file writes them: `"90s"`, `"1h30m"`, `"16MiB"` (contract §3).

use std::fmt::Write as _;
use std::time::Duration;

const SECONDS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
const BYTES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `"7d"`, `"5m"`, `"1h30m"`: whole numbers with the units d h m s, each at most once, the largest first.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = SECONDS.iter();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|&length| length > 0)?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let (_, seconds) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(*seconds)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then(|| Duration::from_secs(total))
}

/// Writes a duration of whole seconds so that people read it easily; [`parse_duration`] reads it back.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    // "150s" and "24h" are what people say, not "2m30s" and "1d".
    let largest = if rest < 300 {
        1
    } else if rest < 2 * 86_400 {
        3_600
    } else {
        86_400
    };
    let mut text = String::new();
    for (name, seconds) in SECONDS.iter().filter(|(_, seconds)| *seconds <= largest) {
        let number = rest / seconds;
        rest %= seconds;
        if number > 0 {
            let _ = write!(text, "{number}{name}");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads `"16MiB"`: a whole number with one of the units B KiB MiB GiB.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).filter(|&length| length > 0)?;
    let number: u64 = text[..digits].parse().ok()?;
    let (_, bytes) = BYTES.iter().find(|(name, _)| *name == &text[digits..])?;
    number.checked_mul(*bytes)
}

/// Writes a size in the largest unit that loses nothing.
pub fn format_size(size: u64) -> String {
    let whole = BYTES.iter().find(|(_, bytes)| size != 0 && size.is_multiple_of(*bytes));
    let (name, bytes) = whole.unwrap_or(&("B", 1));
    format!("{}{name}", size / bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit_and_combination() {
        for (text, seconds) in
            [("1s", 1), ("90s", 90), ("5m", 300), ("1h30m", 5_400), ("7d", 604_800), ("1d2h3m4s", 93_784), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let wrong = ["", "5", "s", "m5", "5 m", "1.5h", "-5s", "+5s", "5ms", "5M", "1m1h", "1m2m", "5m ", "5é"];
        for text in wrong.into_iter().chain(["99999999999999999999s", "999999999999999999d"]) {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_people_say_them() {
        for text in ["0s", "60s", "150s", "5m", "10m", "1h30m", "15h", "24h", "7d", "90d", "2d1h", "5m1s"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(format_duration(duration), text);
        }
    }

    #[test]
    fn sizes_are_read_and_written_back() {
        for (text, bytes) in
            [("512B", 512), ("1KiB", 1024), ("16MiB", 16 << 20), ("256MiB", 256 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(format_size(1025), "1025B");
        assert_eq!(format_size(0), "0B");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "16", "MiB", "16MB", "16mib", "16 MiB", "1.5GiB", "-1KiB", "99999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
