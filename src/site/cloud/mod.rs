//! The cloud's end of the site (contract §6): when to connect, what to send, what a confirmation means.
//!
//! What has to arrive stands in the outbox, written with what it tells of. Once durable it goes out, at most a window
//! at a time; once confirmed its row goes with the next commit. Whatever the link had and did not settle is forgotten
//! when a session ends and read again from the outbox in the next one, so nothing is lost or overtakes its stream, and
//! a repetition is all that can happen.
//!
//! - `session`: connecting, backing off, dropping, leaving. `feeding`: the window and the lanes.
//! - `settling`: confirmations, refusals, the receiver's `ack`. `telling`: `state`, `summary`, `progress`.
//! - `commands`: what comes in.

mod commands;
mod feeding;
mod session;
mod settling;
mod telling;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use crate::clock::{Now, UpTime, WallTime};
use crate::cloud::topics::Topics;
use crate::cloud::{CloudInput, CloudOutput, Message, Receipt, ReplyTo, Session, Subject, Trouble};
use crate::config::{Config, Confirm};
use crate::event::Stream;
use crate::ids::PortKey;
use crate::limits::CLOUD_REPLIES;
use crate::store::{NewEvent, SentMarks, StoreError, StreamRange};
use crate::time_text::rfc3339;
use crate::turn::Fatal;

use super::dues::Due;
use super::{Site, fatal};

pub(super) use commands::judge;
use feeding::{Lanes, Rate, Window};
use session::Phase;

/// What the cloud's end waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CloudDue {
    /// The next attempt to connect.
    Connect,
    /// The backlog may send its next message.
    Drain,
    /// The broker may have confirmed nothing for too long, or not have answered at all.
    Stall,
    /// What was refused in its second form, too, is tried again.
    Parked,
    /// Rows that are confirmed are worth a commit.
    Settle,
    /// The summary, and the state when it changed.
    Summary,
    /// Figures that came too early after the last ones.
    Progress,
    /// `cloud_unreachable` is raised.
    Unreachable,
    /// It clears.
    Reachable,
    /// `cloud_not_listening` clears.
    Listens,
    /// `message_refused` clears.
    Accepted,
}

/// The cloud's end; there is none without `mqtt.url`.
#[derive(Debug)]
pub(super) struct Feed {
    topics: Topics,
    /// `mqtt.confirm`: events wait for the receiver's `ack`.
    by_application: bool,
    phase: Phase,
    /// The agent ends: no further session.
    leaves: bool,
    /// Attempts since a session last held for a while.
    attempts: u32,
    /// The present session was up.
    was_up: bool,
    /// When a session was last up, else when the run began.
    seen: UpTime,
    /// When the session that is up began.
    up_since: WallTime,
    /// The same in up-time.
    up_at: UpTime,
    /// Why there is none, as last told.
    trouble: Option<Trouble>,
    window: Window,
    lanes: Lanes,
    rate: Rate,
    /// Messages beside the outbox, in their order.
    own: VecDeque<feeding::Own>,
    next_ticket: u64,
    /// Rows that are confirmed and go with the next commit.
    settled: BTreeSet<u64>,
    /// How far the receiver says it is, until the rows are gone.
    acks: BTreeMap<Stream, u64>,
    /// Of these the commit under way takes the last rows.
    acks_done: Vec<Stream>,
    /// All this has waited long enough for another commit to go with.
    settles_now: bool,
    /// The same of acks, which are worth no commit.
    ack_receipts: Vec<(Session, Receipt)>,
    /// When a refusal was last told in the log.
    refusal_logged: Option<UpTime>,
    /// Commands to be acknowledged after the commit.
    receipts: Vec<(Session, Receipt)>,
    /// As last published in `state`.
    told_streams: BTreeMap<Stream, StreamRange>,
    /// `cloud_not_listening` is raised.
    unheard: bool,
    /// When figures of a port last went out.
    progress: BTreeMap<PortKey, telling::Told>,
    /// Ports whose figures came too early.
    progress_waits: BTreeSet<PortKey>,
    outputs: VecDeque<CloudOutput>,
}

impl Feed {
    /// The cloud's end of a site that has a cloud; `sent` is how far the sending ever came.
    pub(super) fn new(config: &Config, sent: SentMarks, now: Now) -> Option<Box<Self>> {
        config.mqtt.url.as_ref()?;
        Some(Box::new(Self {
            topics: Topics::of(config),
            by_application: config.mqtt.confirm == Confirm::Application,
            phase: Phase::Resting,
            leaves: false,
            attempts: 0,
            was_up: false,
            seen: now.up,
            up_since: now.wall,
            up_at: now.up,
            trouble: None,
            window: Window::default(),
            lanes: Lanes::sent_so_far(sent),
            rate: Rate::default(),
            own: VecDeque::new(),
            next_ticket: feeding::FIRST_OWN_TICKET,
            settled: BTreeSet::new(),
            acks: BTreeMap::new(),
            acks_done: Vec::new(),
            settles_now: false,
            ack_receipts: Vec::new(),
            refusal_logged: None,
            receipts: Vec::new(),
            told_streams: BTreeMap::new(),
            unheard: false,
            progress: BTreeMap::new(),
            progress_waits: BTreeSet::new(),
            outputs: VecDeque::new(),
        }))
    }

    /// A reply to the topic that the sender of the command named. It stands in no outbox: the one on `reply` does.
    pub(super) fn reply_to(&mut self, to: &ReplyTo, line: &str) {
        let message = Message {
            topic: to.topic.clone(),
            payload: line.as_bytes().to_vec(),
            retain: false,
            confirmed: true,
            correlation: to.correlation.clone(),
        };
        self.push_reply(message);
    }

    /// A reply that could not be kept: it is given all the same, as far as the agent lives.
    pub(super) fn reply_unkept(&mut self, line: &str) {
        let topic = self.topics.reply();
        let payload = line.as_bytes().to_vec();
        self.push_reply(Message { topic, payload, retain: false, confirmed: true, correlation: None });
    }

    fn push_reply(&mut self, message: Message) {
        if self.own.len() >= CLOUD_REPLIES {
            log::warn!("reply dropped topic={:?}: too many wait for the broker", message.topic);
            return;
        }
        self.own.push_back(feeding::Own::Reply(message));
    }

    fn wants_commit(&self) -> bool {
        self.settles_now || !self.receipts.is_empty() || matches!(self.phase, Phase::Numbering)
    }
}

impl Site {
    /// What the link tells: connected, gone, confirmed, a command.
    ///
    /// # Errors
    /// When the store fails for good.
    pub fn cloud(&mut self, input: CloudInput, now: Now) -> Result<(), Fatal> {
        self.judge_clock(now);
        match input {
            CloudInput::Up { session, window, largest } => self.session_up(session, window, largest, now),
            CloudInput::Down { session, why } => {
                self.session_down(session, why, now);
                Ok(())
            }
            CloudInput::Settled { session, ticket, settlement } => {
                self.settle(session, ticket, settlement, now)?;
                self.feed_cloud(now)
            }
            CloudInput::Received { session, receipt, subject, payload, retained, expires_in, reply_to } => {
                if !self.feed.as_ref().is_some_and(|feed| feed.phase.is_of(session)) {
                    return Ok(());
                }
                match subject {
                    Subject::Ack => self.take_ack(&payload, now),
                    Subject::Command if retained => {
                        log::warn!("retained command ignored: one that a broker keeps would come again and again");
                    }
                    Subject::Command => self.take_cloud_command(&payload, expires_in, reply_to, now)?,
                }
                // Behind the command: there may have been a commit before it was taken in.
                if let Some(feed) = &mut self.feed {
                    let receipts = if subject == Subject::Ack { &mut feed.ack_receipts } else { &mut feed.receipts };
                    receipts.push((session, receipt));
                }
                Ok(())
            }
        }
    }

    /// What the link is to do, in its order; `None` when there is nothing more.
    pub fn take_cloud_output(&mut self) -> Option<CloudOutput> {
        self.feed.as_mut()?.outputs.pop_front()
    }

    /// Says goodbye to the cloud: the site is offline from now on, which is retained. To be called when the loop has
    /// ended; then outputs are carried out until [`Site::has_left_cloud`].
    pub fn leave_cloud(&mut self, now: Now) {
        self.leave(now);
    }

    /// Whether no session is left to be ended.
    pub fn has_left_cloud(&self) -> bool {
        self.feed.as_ref().is_none_or(|feed| matches!(feed.phase, Phase::Left))
    }

    /// How the connection to the cloud stands, for people; `None` when there is no cloud.
    pub fn cloud_connection(&self, now: Now) -> Option<Value> {
        let feed = self.feed.as_ref()?;
        let (session, since) = match feed.phase {
            Phase::Up(session) => (Some(session), Some(rfc3339(feed.up_since))),
            _ => (None, None),
        };
        Some(json!({
            "connected": session.is_some(),
            "session": session,
            "since": since,
            "trouble": feed.trouble.as_ref().filter(|_| session.is_none()).map(ToString::to_string),
            "messages_a_second": feed.rate.a_second(now.up),
            "in_flight": feed.window.in_flight.len(),
        }))
    }

    pub(super) fn handle_cloud_due(&mut self, due: CloudDue, now: Now) -> Result<(), Fatal> {
        match due {
            CloudDue::Connect => self.connect(now),
            CloudDue::Drain => self.feed_cloud(now),
            CloudDue::Stall => {
                self.look_for_stall(now);
                Ok(())
            }
            CloudDue::Parked => self.try_parked_again(now),
            CloudDue::Settle => {
                self.feed.iter_mut().for_each(|feed| feed.settles_now = true);
                Ok(())
            }
            CloudDue::Summary => self.tell_summary(now),
            CloudDue::Progress => {
                self.tell_late_progress(now);
                Ok(())
            }
            CloudDue::Unreachable => self.raise_unreachable(now),
            CloudDue::Reachable => self.clear_cloud_alert(session::CLOUD_UNREACHABLE, now),
            CloudDue::Listens => self.clear_not_listening(now),
            CloudDue::Accepted => self.clear_message_refused(now),
        }
    }

    fn set_cloud_due(&mut self, due: CloudDue, at: Option<UpTime>, now: Now) {
        self.dues.set(Due::Cloud(due), at, now.up);
    }

    /// Adds an event, and a row for the cloud where there is one, in the transaction of what it tells.
    pub(super) fn keep_event(&mut self, event: &NewEvent<'_>) -> Result<(), StoreError> {
        let seq = self.store.add_event(event)?;
        if self.feed.is_some() {
            self.store.enqueue_event(event.stream, seq, event.at)?;
        }
        Ok(())
    }

    pub(super) fn feed_wants_commit(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.wants_commit())
    }

    /// What goes with a commit: rows that are confirmed, numbers for sessions.
    pub(super) fn write_feed(&mut self) -> Result<(), StoreError> {
        let Some(feed) = &mut self.feed else { return Ok(()) };
        let settled: Vec<u64> = feed.settled.iter().copied().collect();
        self.store.remove_from_outbox(&settled)?;
        feed.acks_done.clear();
        for (stream, upto) in &feed.acks {
            let sent = feed.lanes.of(feeding::lane_of(Some(*stream))).sent;
            let gone = self.store.confirm_outbox(*stream, *upto, sent, feeding::ACKED_A_COMMIT)?;
            if gone < feeding::ACKED_A_COMMIT {
                feed.acks_done.push(*stream);
            }
        }
        if matches!(feed.phase, Phase::Numbering) {
            self.store.reserve_sessions()?;
        }
        if feed.by_application && self.store.in_transaction() {
            // Only an ack after a restart needs it: it is worth no commit of its own.
            self.store.set_outbox_sent(feed.lanes.sent())?;
        }
        Ok(())
    }

    /// It is durable: what waited for that goes out.
    pub(super) fn feed_committed(&mut self, now: Now) -> Result<(), Fatal> {
        let Some(feed) = &mut self.feed else { return Ok(()) };
        feed.settled.clear();
        for stream in feed.acks_done.drain(..) {
            feed.acks.remove(&stream);
        }
        // More than one commit takes.
        feed.settles_now = !feed.acks.is_empty();
        feed.acknowledge();
        feed.window.committed(self.store.outbox_newest());
        if matches!(feed.phase, Phase::Numbering) {
            self.connect(now)?;
        }
        self.set_cloud_due(CloudDue::Settle, None, now);
        self.feed_cloud(now)
    }

    /// The disk is full: what was confirmed is remembered; commands were answered, so the broker may forget them.
    pub(super) fn feed_taken_back(&mut self, now: Now) -> Result<(), Fatal> {
        let Some(feed) = &mut self.feed else { return Ok(()) };
        feed.acks_done.clear();
        feed.acknowledge();
        if matches!(feed.phase, Phase::Numbering) {
            let session = Session(self.store.next_session_at_any_rate());
            self.connect_as(session, now)?;
        }
        self.take_up_cloud_alerts(now)?;
        self.feed_cloud(now)
    }
}

impl Feed {
    fn acknowledge(&mut self) {
        let receipts = self.receipts.drain(..).chain(self.ack_receipts.drain(..));
        let outputs = receipts.map(|(session, receipt)| CloudOutput::Acknowledge { session, receipt });
        self.outputs.extend(outputs);
    }
}

/// Whether the store has an open alert of this rule about the site.
fn is_raised(site: &Site, rule: &str) -> Result<bool, Fatal> {
    Ok(fatal(site.store.open_alert(rule, crate::store::Subject::default()))?.is_some())
}
