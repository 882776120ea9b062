//! The order of things within one moment: a turn of the agent is one, and a quick device answers within the same
//! millisecond.
//!
//! The journal takes in what a frame made the agent say before the frame itself, so its order alone is not that of
//! things: what answers a message came after it, and what else was said right before a frame was said because of it.

use std::collections::BTreeMap;

use crate::bkv::Frame;
use crate::clock::{UpTime, WallTime};
use crate::ids::MessageId;
use crate::store::{Direction, JournalEntry};

/// Where things stand within their moment.
#[derive(Debug, Default)]
pub(super) struct Stages {
    of_frames: BTreeMap<i64, u32>,
    last_heard: BTreeMap<(UpTime, WallTime), u32>,
}

/// Between two frames there is room for what was decided.
const STEP: u32 = 2;

impl Stages {
    /// What was asked comes first.
    pub(super) const ASKED: u32 = 0;
    /// What was decided without having heard anything.
    pub(super) const UNHEARD: u32 = 1;

    /// Frames as the journal has them.
    pub(super) fn of(frames: &[&JournalEntry]) -> Self {
        let mut stages = Self::default();
        for moment in frames.chunk_by(|one, next| (one.up, one.at) == (next.up, next.at)) {
            for (place, entry) in (1..).zip(in_order(moment)) {
                let stage = place * STEP;
                stages.of_frames.insert(entry.id, stage);
                if entry.direction == Direction::Up {
                    stages.last_heard.insert((entry.up, entry.at), stage);
                }
            }
        }
        stages
    }

    /// Of a frame.
    pub(super) fn of_frame(&self, entry: &JournalEntry) -> u32 {
        self.of_frames.get(&entry.id).copied().unwrap_or(STEP)
    }

    /// Of what was decided in a moment: after what was heard in it.
    pub(super) fn of_decision(&self, up: UpTime, at: WallTime) -> u32 {
        self.last_heard.get(&(up, at)).map_or(Self::UNHEARD, |heard| heard + 1)
    }
}

fn in_order<'a>(moment: &[&'a JournalEntry]) -> Vec<&'a JournalEntry> {
    let mut ordered = Vec::with_capacity(moment.len());
    let mut said: Vec<&JournalEntry> = Vec::new();
    for entry in moment {
        if entry.direction == Direction::Down {
            said.push(entry);
            continue;
        }
        let answers = message_id(entry).filter(|id| *id != MessageId::DEVICE);
        let asked = answers.and_then(|id| said.iter().rposition(|said| message_id(said) == Some(id)));
        let because = said.split_off(asked.map_or(0, |asked| asked + 1));
        ordered.append(&mut said);
        ordered.push(entry);
        ordered.extend(because);
    }
    ordered.append(&mut said);
    ordered
}

fn message_id(entry: &JournalEntry) -> Option<MessageId> {
    Frame::parse(&entry.frame).ok().map(|frame| frame.message_id())
}
