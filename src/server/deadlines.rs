//! The deadlines of connections, in order, at next to no cost per byte that arrives.
//!
//! A connection stands in the order once, at a moment that is never later than its true deadline. Bytes that put the
//! deadline off move nothing; only when a connection comes to the front is it asked for the truth and put where it
//! belongs. So the front is always true, and nobody is woken for a deadline that has moved.

use std::collections::BTreeSet;

use crate::clock::UpTime;

/// Moments and the keys of those that they belong to.
#[derive(Debug, Default)]
pub struct Deadlines {
    order: BTreeSet<(UpTime, u64)>,
}

impl Deadlines {
    /// Puts a connection into the order.
    pub fn insert(&mut self, key: u64, at: UpTime) {
        self.order.insert((at, key));
    }

    /// Takes it out; `at` is where it stands.
    pub fn remove(&mut self, key: u64, at: UpTime) {
        let stood = self.order.remove(&(at, key));
        debug_assert!(stood, "a connection lost its place");
    }

    /// Moves it to `due` when that is earlier than where it stands.
    pub fn bring_forward(&mut self, key: u64, stands: &mut UpTime, due: UpTime) {
        if due < *stands {
            self.remove(key, *stands);
            self.insert(key, due);
            *stands = due;
        }
    }

    /// The first one and its true deadline. `truth` tells it, and is where the caller notes where the connection
    /// stands from now on.
    pub fn first(&mut self, mut truth: impl FnMut(u64) -> Option<UpTime>) -> Option<(UpTime, u64)> {
        loop {
            let (at, key) = self.order.first().copied()?;
            match truth(key) {
                Some(due) if due <= at => return Some((at, key)),
                Some(due) => {
                    self.order.pop_first();
                    self.order.insert((due, key));
                }
                None => {
                    self.order.pop_first();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_always_true() {
        let mut deadlines = Deadlines::default();
        let mut truth = [150, 160, 400];
        for (key, at) in [150, 160, 170].into_iter().enumerate() {
            deadlines.insert(key as u64, UpTime(at));
        }
        assert_eq!(deadlines.first(|key| Some(UpTime(truth[key as usize]))), Some((UpTime(150), 0)));
        truth[0] = 210;
        assert_eq!(deadlines.first(|key| Some(UpTime(truth[key as usize]))), Some((UpTime(160), 1)));
        truth[1] = 220;
        assert_eq!(deadlines.first(|key| Some(UpTime(truth[key as usize]))), Some((UpTime(210), 0)));
    }

    #[test]
    fn one_whose_deadline_is_earlier_moves_at_once_and_only_then() {
        let mut deadlines = Deadlines::default();
        let mut stands = UpTime(150);
        deadlines.insert(7, stands);
        deadlines.bring_forward(7, &mut stands, UpTime(200));
        assert_eq!(stands, UpTime(150));
        deadlines.bring_forward(7, &mut stands, UpTime(5));
        assert_eq!(deadlines.first(|_| Some(UpTime(5))), Some((UpTime(5), 7)));
        deadlines.remove(7, stands);
        assert_eq!(deadlines.first(|_| None), None);
    }
}
