//! Questions to one socket (`1d`): at most one in flight, for both its ports and for `query_status` (contract §5).
//!
//! Decides when the next may go out, and which question a status answers. What the ports want to know is derived by
//! them; nothing here is stored.

use std::time::Duration;

use crate::clock::UpTime;
use crate::ids::MessageId;
use crate::port::Answered;

/// A socket that never answers is asked ever more seldom, but at least so often while something hangs on it.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A `query_status` that waits for the socket's next answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The command.
    pub command_id: String,
    /// Questions that got no reply.
    pub tries: u32,
}

/// A question without an answer so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Ours.
    pub message_id: MessageId,
    /// When it went out.
    pub sent: UpTime,
}

/// The questions to one socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// In flight.
    pub question: Option<Question>,
    /// When one last went out, answered or not.
    pub last_sent: Option<UpTime>,
    /// Queries for the next question, or the one in flight.
    pub queries: Vec<Query>,
    not_before: Option<UpTime>,
    failed_in_row: u32,
}

impl Ask {
    /// When a question that is wanted since `wanted` can go out; none while one is in flight. What is urgent does not
    /// wait for the pause between questions.
    pub fn can_go(&self, wanted: UpTime, urgent: bool) -> Option<UpTime> {
        if self.question.is_some() {
            return None;
        }
        let pause = self.not_before.filter(|_| !urgent && self.queries.is_empty());
        Some(pause.map_or(wanted, |pause| wanted.max(pause)))
    }

    /// A question goes out.
    pub fn sent(&mut self, message_id: MessageId, now: UpTime) {
        self.question = Some(Question { message_id, sent: now });
        self.last_sent = Some(now);
    }

    /// When the question in flight has gone unanswered.
    pub fn fails_at(&self, answer_timeout: Duration) -> Option<UpTime> {
        self.question.map(|question| question.sent.after(answer_timeout))
    }

    /// The question in flight got no reply: when it had been sent.
    pub fn fail(&mut self, now: UpTime, answer_timeout: Duration) -> Option<UpTime> {
        let question = self.question.take()?;
        let pause = answer_timeout * 2u32.saturating_pow(self.failed_in_row.min(16));
        self.not_before = Some(now.after(pause.min(LONGEST_PAUSE)));
        self.failed_in_row = self.failed_in_row.saturating_add(1);
        Some(question.sent)
    }

    /// A query answer under `message_id`: the question that it answers, if it is the one in flight.
    pub fn answered_by_id(&mut self, message_id: MessageId, now: UpTime, answer_timeout: Duration) -> Option<Answered> {
        let question = self.question.filter(|question| question.message_id == message_id)?;
        self.settle(question, now, answer_timeout, true)
    }

    /// A status report answers the oldest question that waits.
    pub fn answered_by_report(&mut self, now: UpTime, answer_timeout: Duration) -> Option<Answered> {
        let question = self.question?;
        self.settle(question, now, answer_timeout, false)
    }

    fn settle(&mut self, question: Question, now: UpTime, answer_timeout: Duration, by_id: bool) -> Option<Answered> {
        self.question = None;
        self.failed_in_row = 0;
        self.not_before = Some(now.after(answer_timeout));
        Some(Answered { sent: question.sent, by_id })
    }

    /// The link is gone, and with it what was in flight.
    pub fn link_lost(&mut self) {
        self.question = None;
        self.not_before = None;
        self.failed_in_row = 0;
    }

    /// Whether there is anything to keep.
    pub fn is_idle(&self) -> bool {
        self.question.is_none() && self.queries.is_empty()
    }
}
