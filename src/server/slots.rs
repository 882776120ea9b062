//! Connections by slot and generation.
//!
//! A key is `serial << 16 | slot`: unique while the process lives, so it is the connection's public id as well, and
//! its low 32 bits are the poll token, on 32-bit machines too. An event for a slot that was given away again in the
//! same batch carries another serial and finds nothing.

use mio::Token;

const SLOT_BITS: u32 = 16;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// The slot that a token names.
pub fn slot_of(token: Token) -> u32 {
    (token.0 as u64 & SLOT_MASK) as u32
}

/// The poll token of a key.
pub fn token_of(key: u64) -> Token {
    Token((key & u64::from(u32::MAX)) as usize)
}

/// What has a slot each.
#[derive(Debug)]
pub struct Slots<T> {
    first: u32,
    most: u32,
    serial: u64,
    entries: Vec<(u64, Option<T>)>,
    free: Vec<u16>,
}

impl<T> Slots<T> {
    /// At most `most` slots, numbered from `first`.
    pub const fn new(first: u32, most: u32) -> Self {
        assert!(first as u64 + most as u64 <= SLOT_MASK);
        Self { first, most, serial: 0, entries: Vec::new(), free: Vec::new() }
    }

    /// How many are taken.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Takes a slot; `None` when there is none.
    pub fn insert(&mut self, value: T) -> Option<u64> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.entries.len() < self.most as usize => {
                self.entries.push((0, None));
                (self.entries.len() - 1) as u16
            }
            None => return None,
        };
        self.serial += 1;
        let key = self.serial << SLOT_BITS | u64::from(self.first + u32::from(index));
        self.entries[usize::from(index)] = (key, Some(value));
        Some(key)
    }

    /// Whose key it is; `None` when it is gone.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let index = self.index(key)?;
        self.entries.get_mut(index).filter(|(found, _)| *found == key).and_then(|(_, value)| value.as_mut())
    }

    /// Gives the slot back.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        let index = self.index(key)?;
        let (_, value) = self.entries.get_mut(index).filter(|(found, _)| *found == key)?;
        let value = value.take()?;
        self.free.push(index as u16);
        Some(value)
    }

    /// The key that a token stands for; `None` when it is stale.
    pub fn key(&self, token: Token) -> Option<u64> {
        let (key, value) = self.entries.get(self.index(token.0 as u64)?)?;
        (token_of(*key) == token && value.is_some()).then_some(*key)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.entries.iter_mut().filter_map(|(key, value)| value.as_mut().map(|value| (*key, value)))
    }

    fn index(&self, key: u64) -> Option<usize> {
        ((key & SLOT_MASK) as u32).checked_sub(self.first).map(|index| index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_given_twice_and_a_stale_one_finds_nothing() {
        let mut slots = Slots::new(10, 2);
        let a = slots.insert('a').unwrap();
        let b = slots.insert('b').unwrap();
        assert_eq!(slots.insert('c'), None);
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!(slots.remove(a), None);
        let c = slots.insert('c').unwrap();
        assert_ne!(a, c);
        assert_eq!(slot_of(token_of(a)), slot_of(token_of(c)));
        assert_eq!(slots.get_mut(a), None);
        assert_eq!(slots.key(token_of(a)), None);
        assert_eq!(slots.key(token_of(c)), Some(c));
        assert_eq!(slots.get_mut(b), Some(&mut 'b'));
        assert_eq!(slots.len(), 2);
    }

    #[test]
    fn a_key_of_other_slots_finds_nothing() {
        let mut slots = Slots::new(10, 2);
        slots.insert('a').unwrap();
        for key in [0, 1 << 16, 1 << 16 | 9, 1 << 16 | 11, 2 << 16 | 10, u64::MAX] {
            assert_eq!(slots.get_mut(key), None);
            assert_eq!(slots.remove(key), None);
            assert_eq!(slots.key(token_of(key)), None);
        }
    }
}
