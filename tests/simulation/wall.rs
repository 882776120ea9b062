//! The wall clock of the gateway: right for a while, then years away, then right again.

use chargegate::clock::{Now, UpTime, WallTime};
use chargegate::sim::Random;
use chargegate::trust::BUILT;

use crate::world::{HOUR, MINUTE};

const YEAR: i64 = 365 * 86_400_000;

pub struct Wall {
    /// How far it is from the truth, ms.
    off: i64,
    /// The system calls it synchronised; only ever when it is right.
    synchronized: bool,
    next_jump: u64,
}

impl Wall {
    pub fn new(random: &mut Random) -> Self {
        Self { off: 0, synchronized: random.once_in(2), next_jump: random.within(HOUR, 12 * HOUR) }
    }

    pub fn still() -> Self {
        Self { off: 0, synchronized: true, next_jump: u64::MAX }
    }

    /// Jumps when its time has come.
    pub fn pass(&mut self, now: u64, random: &mut Random) {
        if now < self.next_jump {
            return;
        }
        // What cannot be told from the truth must not hide the rest: no jump that would be believed over a restart.
        self.off = match random.within(0, 3) {
            _ if self.off != 0 => 0,
            0 => -30 * YEAR,
            1 => 30 * YEAR,
            2 => -i64::try_from(random.within(1000, 4 * MINUTE)).unwrap(),
            _ => i64::try_from(random.within(1000, 4 * MINUTE)).unwrap(),
        };
        self.synchronized = self.off == 0 && random.once_in(2);
        self.next_jump = now + random.within(MINUTE, 5 * HOUR);
    }

    pub fn is_right(&self) -> bool {
        self.off == 0
    }

    pub fn at(&self, up: UpTime, now: u64) -> Now {
        let wall = WallTime(BUILT.0 + 86_400_000 + i64::try_from(now).unwrap() + self.off);
        Now { up, wall, synchronized: self.synchronized }
    }
}
