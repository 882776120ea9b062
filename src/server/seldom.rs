//! Warnings that would repeat themselves.

use crate::clock::UpTime;
use crate::limits::WARN_EVERY;

/// Lets one through in a while and counts the others.
#[derive(Debug, Default)]
pub struct Seldom {
    next: Option<UpTime>,
    held_back: u64,
}

impl Seldom {
    /// How many there were since the last one that was let through, this one included; `None`: not now.
    pub fn admit(&mut self, now: UpTime) -> Option<u64> {
        self.held_back += 1;
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now.after(WARN_EVERY));
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_comes_through_and_the_others_are_counted() {
        let mut seldom = Seldom::default();
        assert_eq!(seldom.admit(UpTime(0)), Some(1));
        assert_eq!(seldom.admit(UpTime(1)), None);
        assert_eq!(seldom.admit(UpTime(59_999)), None);
        assert_eq!(seldom.admit(UpTime(60_000)), Some(3));
        assert_eq!(seldom.admit(UpTime(60_001)), None);
    }
}
