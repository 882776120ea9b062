//! `replay`: events are sent again as they were, as far as they are kept (contract §6).
//!
//! They get new rows in the outbox, a few hundred a turn, so that a long replay keeps no device waiting. The reply comes
//! when all of them stand there durably.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Now;
use crate::command::{self, Code, Problem, Reply};
use crate::event::Stream;
use crate::limits::{FULL_RETRY_MS, LEFT_BY_REPLAY, REPLAYED_A_TURN, REPLAYED_BYTES};
use crate::turn::Fatal;

use super::commands::Step;
use super::dues::Due;
use super::held::WhenFull;
use super::{Site, fatal};

/// Between the turns of a replay.
const BREATH: Duration = Duration::from_millis(1);

/// A replay under way.
#[derive(Debug)]
pub(super) struct Replay {
    /// The command's.
    id: String,
    stream: Stream,
    /// What is kept of the events that were asked for.
    seqs: RangeInclusive<u64>,
    /// Those of them that are not in the outbox yet; not known before the first page.
    left: Option<Vec<RangeInclusive<u64>>>,
    /// The disk became full meanwhile.
    failed: bool,
}

impl Replay {
    /// The next events of at most a page.
    fn next_page(&mut self) -> Option<RangeInclusive<u64>> {
        let left = self.left.as_mut()?;
        let (first, last) = left.pop()?.into_inner();
        let end = last.min(first.saturating_add(REPLAYED_A_TURN - 1));
        if end < last {
            left.push(end + 1..=last);
        }
        Some(first..=end)
    }

    fn is_over(&self) -> bool {
        self.left.as_ref().is_some_and(Vec::is_empty)
    }

    fn reply(&self) -> Reply {
        if self.failed {
            let why = "the store became full: some of the events may have been sent again";
            return Reply::failed(&self.id, Problem::new(Code::StoreFull, why));
        }
        Reply::done(&self.id).with(sent(Some(self.seqs.start()), Some(self.seqs.end())))
    }
}

/// What is sent again; nulls when nothing of it is kept.
fn sent(from: Option<&u64>, to: Option<&u64>) -> Value {
    json!({ "from_seq": from, "to_seq": to })
}

impl Site {
    pub(super) fn replay(
        &mut self,
        id: &str,
        wanted: command::Replay,
        now: Now,
    ) -> Result<Result<Step, Problem>, Fatal> {
        if self.config.mqtt.url.is_none() {
            let why = "there is no cloud to send to: mqtt.url is not set";
            return Ok(Err(Problem::new(Code::NotSupported, why)));
        }
        let command::Replay { stream, from, to } = wanted;
        let Some(seqs) = fatal(self.store.kept_events(stream, from..=to))? else {
            return Ok(Ok(Step::Reply(Reply::done(id).with(sent(None, None)), WhenFull::Give)));
        };
        if !self.has_room_for(&seqs)? {
            let why = "the store has not room for so many: replay fewer events, or wait until the cloud confirmed more";
            return Ok(Err(Problem::new(Code::StoreFull, why)));
        }
        self.replays.push_back(Replay { id: id.to_owned(), stream, seqs, left: None, failed: false });
        if self.replays.len() == 1 {
            self.replay_a_page(now)?;
        }
        if let Some(replay) = self.replays.pop_front_if(|replay| replay.is_over()) {
            return Ok(Ok(Step::Reply(replay.reply(), WhenFull::Refuse)));
        }
        self.plan_replay(BREATH, now);
        Ok(Ok(Step::UnderWay))
    }

    /// It never takes the room that orders need.
    fn has_room_for(&self, seqs: &RangeInclusive<u64>) -> Result<bool, Fatal> {
        let size = fatal(self.store.size())?;
        let count = seqs.end() - seqs.start() + 1;
        let most = size.max / 100 * (100 - LEFT_BY_REPLAY);
        Ok(size.used.saturating_add(count.saturating_mul(REPLAYED_BYTES)) <= most)
    }

    /// A page of the first replay; it is answered when its last one is durable.
    pub(super) fn go_on_replaying(&mut self, now: Now) -> Result<(), Fatal> {
        if !self.keeping.is_full() {
            self.replay_a_page(now)?;
            if self.replays.front().is_some_and(Replay::is_over) {
                self.commit_all(now)?;
            }
        }
        // The commit may just have failed.
        let pause = if self.keeping.is_full() { Duration::from_millis(FULL_RETRY_MS) } else { BREATH };
        if !self.keeping.is_full()
            && let Some(replay) = self.replays.pop_front_if(|replay| replay.is_over() || replay.failed)
        {
            self.finish_command(&replay.id, &replay.reply(), WhenFull::Give, now)?;
        }
        self.plan_replay(pause, now);
        Ok(())
    }

    fn replay_a_page(&mut self, now: Now) -> Result<(), Fatal> {
        let Some(replay) = self.replays.front_mut().filter(|replay| !replay.failed) else { return Ok(()) };
        if replay.left.is_none() {
            replay.left = Some(fatal(self.store.not_in_outbox(replay.stream, replay.seqs.clone()))?);
        }
        if let Some(page) = replay.next_page() {
            let enqueued = self.store.enqueue_again(replay.stream, page, now.wall);
            // When it was not, the commit will tell and take everything back.
            self.kept(enqueued)?;
        }
        Ok(())
    }

    /// Whether this command is a replay under way.
    pub(super) fn replays(&self, id: &str) -> bool {
        self.replays.iter().any(|replay| replay.id == id)
    }

    fn plan_replay(&mut self, pause: Duration, now: Now) {
        let at = (!self.replays.is_empty()).then(|| now.up.after(pause));
        self.dues.set(Due::Replay, at, now.up);
    }

    /// The disk is full: what was under way has failed, and a replay whose command was not kept is none.
    pub(super) fn replays_taken_back(&mut self) -> Result<(), Fatal> {
        let mut kept = std::mem::take(&mut self.replays);
        for mut replay in kept.drain(..) {
            if fatal(self.store.command(&replay.id))?.is_some() {
                (replay.left, replay.failed) = (None, true);
                self.replays.push_back(replay);
            }
        }
        Ok(())
    }
}
