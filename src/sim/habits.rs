//! In what honest devices differ: what the protocol leaves open, and what is odd but allowed.

use crate::sim::random::Random;

/// How a start is answered under which the port charges already: not known of real devices, so any (protocol §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RepeatedStart {
    /// The port is busy.
    #[default]
    Refused,
    /// Ok, with the number that it has.
    Accepted,
    /// Ok, and its time begins anew.
    BegunAnew,
}

/// In what one device differs from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Habits {
    /// How it answers a repeated start.
    pub repeated_start: RepeatedStart,
    /// It uses so many business numbers in turn; 0: all of them.
    pub numbers: u16,
    /// A port that is idle shows the number of its last session.
    pub keeps_number: bool,
    /// Its batteries draw 900 W once they have taken a third.
    pub power_rises: bool,
    /// One session in so many has no load: it ends after a minute, without energy. 0: none.
    pub unplugged_one_in: u64,
    /// Its sockets lose their radio now and then, for minutes.
    pub loses_radio: bool,
    /// It gives its answer to a start once more, minutes or hours later.
    pub repeats_answers: bool,
    /// For an hour now and then it tells nothing of its ports, asked or not, though it obeys.
    pub goes_mute: bool,
    /// The year of its clock; 0: a right one.
    pub clock_year: u16,
}

impl Habits {
    /// Some, as seeded.
    pub fn some(random: &mut Random) -> Self {
        const REPEATED: [RepeatedStart; 3] =
            [RepeatedStart::Refused, RepeatedStart::Accepted, RepeatedStart::BegunAnew];
        const NUMBERS: [u16; 6] = [0, 0, 0, 1, 3, 8];
        const YEARS: [u16; 4] = [0, 0, 1970, 2099];
        Self {
            repeated_start: *random.one_of(&REPEATED),
            numbers: *random.one_of(&NUMBERS),
            keeps_number: random.once_in(3),
            power_rises: random.once_in(3),
            unplugged_one_in: if random.once_in(3) { 6 } else { 0 },
            loses_radio: random.once_in(5),
            repeats_answers: random.once_in(2),
            goes_mute: random.once_in(4),
            clock_year: *random.one_of(&YEARS),
        }
    }
}
