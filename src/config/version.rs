//! Firmware versions as policies compare them (contract §3): by their numbers from left to right, other
//! characters aside, so `v1.9 < v1.10 < v2.0`.

use std::cmp::Ordering;

/// A firmware version by its numbers. A part that is not there counts as 0: `v1.9` equals `v1.9.0`.
#[derive(Debug, Clone)]
pub struct Version(Vec<String>);

impl Version {
    /// `None` when the text holds no number: such a version is unknown and below nothing.
    pub fn of(text: &str) -> Option<Self> {
        let numbers: Vec<String> = text
            .split(|c: char| !c.is_ascii_digit())
            .filter(|digits| !digits.is_empty())
            .map(|digits| digits.trim_start_matches('0').to_owned())
            .collect();
        (!numbers.is_empty()).then_some(Self(numbers))
    }

    /// The firmware of a socket, two bytes written as four hex digits: `None` for `ffff`, which means unknown.
    pub fn of_socket(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("ffff") {
            return None;
        }
        match hex_word(text) {
            // Read as one number: digits beyond 9 must not be taken for separators.
            Some(word) => Self::of(&word.to_string()),
            None => Self::of(text),
        }
    }
}

fn hex_word(text: &str) -> Option<u16> {
    let four_digits = text.len() == 4 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if four_digits { u16::from_str_radix(text, 16).ok() } else { None }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let length = self.0.len().max(other.0.len());
        let part = |version: &Self, at: usize| version.0.get(at).cloned().unwrap_or_default();
        (0..length)
            .map(|at| (part(self, at), part(other, at)))
            // Leading zeros are gone, so the longer number is the larger one, however long.
            .map(|(left, right)| left.len().cmp(&right.len()).then(left.cmp(&right)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        for (lower, higher) in [
            ("v1.9", "v1.10"),
            ("v1.10", "v2.0"),
            ("v1.9", "V1.9.1"),
            ("1-2-3", "v1.2.4"),
            ("HW3_fw09", "hw3 fw10"),
            ("v1.99999999999999999999998", "v1.99999999999999999999999"),
            ("0", "1"),
        ] {
            assert!(Version::of(lower).unwrap() < Version::of(higher).unwrap(), "{lower} {higher}");
        }
    }

    #[test]
    fn characters_beside_the_numbers_and_missing_zeros_make_no_difference() {
        for (left, right) in [("v1.9", "1.09"), ("v1.9", "v1.9.0"), ("a1b2", "1.2")] {
            assert_eq!(Version::of(left), Version::of(right));
        }
    }

    #[test]
    fn a_text_without_a_number_is_no_version() {
        assert_eq!(Version::of(""), None);
        assert_eq!(Version::of("beta"), None);
    }

    #[test]
    fn socket_firmware_is_one_hex_number_and_ffff_is_unknown() {
        assert_eq!(Version::of_socket("ffff"), None);
        assert_eq!(Version::of_socket("FFFF"), None);
        assert!(Version::of_socket("0109") < Version::of_socket("010a"));
        assert!(Version::of_socket("010a") < Version::of_socket("0200"));
        assert!(Version::of_socket("v1.9") < Version::of_socket("v1.10"));
    }
}
