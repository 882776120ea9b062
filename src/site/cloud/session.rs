//! Sessions: connecting under a new number, backing off, dropping a client that confirms nothing, leaving; and the
//! alert that tells that the cloud is out of reach.

use std::time::Duration;

use serde_json::json;

use crate::clock::Now;
use crate::cloud::envelope::state;
use crate::cloud::{CloudOutput, Message, Session, Ticket, Trouble};
use crate::limits::{CLOUD_CONFIRMS_WITHIN, CLOUD_CONNECTS_WITHIN, CLOUD_WINDOW};
use crate::store::{Severity, Subject};
use crate::turn::Fatal;

use super::super::{Site, fatal};
use super::feeding::{Own, Window};
use super::{CloudDue, Feed, is_raised};

/// The rule whose alert tells that no session has been up for long (contract §7).
pub(super) const CLOUD_UNREACHABLE: &str = "cloud_unreachable";

/// The first pause between attempts, and the longest; a quarter of jitter comes on top.
const SHORTEST_PAUSE_MS: u64 = 1_000;
const LONGEST_PAUSE_MS: u64 = 24_000;
/// A session that held so long ends a row of failures.
const LASTING: Duration = Duration::from_secs(30);

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none; the next attempt is due at its time.
    Resting,
    /// The next commit sets aside numbers, then it connects.
    Numbering,
    /// The link was asked to connect.
    Connecting(Session),
    /// Messages flow.
    Up(Session),
    /// The link was asked to end it: `Down` follows.
    Ending(Session),
    /// There is none, and none follows.
    Left,
}

impl Phase {
    /// Whether this session can still say something.
    pub(super) fn is_of(self, session: Session) -> bool {
        matches!(self, Self::Connecting(own) | Self::Up(own) if own == session)
    }

    /// Whether a confirmation of this session counts: one that comes while it ends does, too.
    pub(super) fn can_settle(self, session: Session) -> bool {
        matches!(self, Self::Up(own) | Self::Ending(own) if own == session)
    }
}

impl Site {
    /// What a new run begins with: connecting at once, and the alerts of the last run.
    pub(in crate::site) fn take_up_cloud(&mut self, now: Now) -> Result<(), Fatal> {
        let has_cloud = self.feed.is_some();
        let clear_at = Some(now.up.after(self.config.alerts.clear_after));
        let unheard = is_raised(self, super::settling::CLOUD_NOT_LISTENING)?;
        // What has no cloud any more has nobody who could not listen.
        let clears = |raised: bool, lasts: bool| clear_at.filter(|_| raised && !lasts);
        self.set_cloud_due(CloudDue::Listens, clears(unheard, has_cloud), now);
        let refused = is_raised(self, super::settling::MESSAGE_REFUSED)?;
        self.set_cloud_due(CloudDue::Accepted, clears(refused, false), now);
        let unreachable = is_raised(self, CLOUD_UNREACHABLE)?;
        self.set_cloud_due(CloudDue::Reachable, clears(unreachable, has_cloud), now);
        if !has_cloud {
            self.give_up_outbox()?;
        }
        if let Some(feed) = &mut self.feed {
            feed.unheard = unheard;
            self.set_cloud_due(CloudDue::Connect, Some(now.up), now);
            self.plan_unreachable(now);
        }
        Ok(())
    }

    /// Without `mqtt.url` the outbox is empty (contract §4): what nobody will ever confirm would keep every later event
    /// from being dropped.
    fn give_up_outbox(&mut self) -> Result<(), Fatal> {
        let emptied = self.store.empty_outbox();
        if let Some(rows @ 1..) = self.kept(emptied)? {
            log::warn!("mqtt.url is not set: outbox emptied rows={rows}; `replay` brings events back once it is");
        }
        Ok(())
    }

    /// A commit was taken back: what was raised or cleared with it is again as the store has it, and told anew.
    pub(super) fn take_up_cloud_alerts(&mut self, now: Now) -> Result<(), Fatal> {
        let clear_at = now.up.after(self.config.alerts.clear_after);
        let unheard = is_raised(self, super::settling::CLOUD_NOT_LISTENING)?;
        let refused = is_raised(self, super::settling::MESSAGE_REFUSED)?;
        let unreachable = is_raised(self, CLOUD_UNREACHABLE)?;
        let Some(feed) = &mut self.feed else { return Ok(()) };
        // The next confirmation clears it.
        feed.unheard = unheard;
        let is_up = matches!(feed.phase, Phase::Up(_));
        for (due, wanted) in [(CloudDue::Accepted, refused), (CloudDue::Reachable, unreachable && is_up)] {
            if wanted && !self.dues.is_set(super::Due::Cloud(due)) {
                self.set_cloud_due(due, Some(clear_at), now);
            }
        }
        if !unreachable {
            self.plan_unreachable(now);
        }
        Ok(())
    }

    /// From now on `alerts.cloud_unreachable` counts as configured.
    pub(in crate::site) fn plan_unreachable(&mut self, now: Now) {
        let Some(feed) = &self.feed else { return };
        let at = feed.seen.after(self.config.alerts.cloud_unreachable);
        let is_up = matches!(feed.phase, Phase::Up(_));
        self.set_cloud_due(CloudDue::Unreachable, (!is_up).then_some(at), now);
    }

    pub(super) fn connect(&mut self, now: Now) -> Result<(), Fatal> {
        let Some(feed) = self.feed.as_mut().filter(|feed| !feed.leaves) else { return Ok(()) };
        match self.store.next_session() {
            Some(session) => self.connect_as(Session(session), now),
            None => {
                feed.phase = Phase::Numbering;
                Ok(())
            }
        }
    }

    pub(super) fn connect_as(&mut self, session: Session, now: Now) -> Result<(), Fatal> {
        let will = self.state_payload(false, session, now)?;
        if let Some(feed) = &mut self.feed {
            feed.phase = Phase::Connecting(session);
            feed.outputs.push_back(CloudOutput::Connect { session, will });
            self.set_cloud_due(CloudDue::Stall, Some(now.up.after(CLOUD_CONNECTS_WITHIN)), now);
        }
        Ok(())
    }

    fn state_payload(&self, online: bool, session: Session, now: Now) -> Result<Vec<u8>, Fatal> {
        let streams = fatal(self.store.streams())?;
        Ok(state(self.store.instance(), online, session, now.wall, &streams))
    }

    pub(super) fn session_up(
        &mut self,
        session: Session,
        window: usize,
        largest: usize,
        now: Now,
    ) -> Result<(), Fatal> {
        let backlog = self.store.outbox_newest();
        let Some(feed) = self.feed.as_mut().filter(|feed| feed.phase == Phase::Connecting(session)) else {
            return Ok(());
        };
        log::info!("cloud connected session={} window={window} largest={largest}", session.0);
        feed.phase = Phase::Up(session);
        feed.was_up = true;
        feed.up_at = now.up;
        feed.trouble = None;
        feed.up_since = now.wall;
        feed.window = Window::open(window.clamp(1, CLOUD_WINDOW), largest, backlog, now);
        self.set_cloud_due(CloudDue::Stall, None, now);
        self.set_cloud_due(CloudDue::Unreachable, None, now);
        if is_raised(self, CLOUD_UNREACHABLE)? {
            let at = now.up.after(self.config.alerts.clear_after);
            self.set_cloud_due(CloudDue::Reachable, Some(at), now);
        }
        self.push_state()?;
        self.tell_summary(now)?;
        self.feed_cloud(now)
    }

    pub(super) fn session_down(&mut self, session: Session, why: Trouble, now: Now) {
        let (pause, was_up) = {
            let Some(feed) = &mut self.feed else { return };
            match feed.phase {
                Phase::Connecting(own) | Phase::Up(own) | Phase::Ending(own) if own == session => {}
                _ => return,
            }
            let was_up = std::mem::take(&mut feed.was_up);
            feed.note_trouble(session, why);
            feed.forget_session();
            feed.phase = if feed.leaves { Phase::Left } else { Phase::Resting };
            // A broker that throws us out each time we send is not met every second.
            if was_up && now.up >= feed.up_at.after(LASTING) {
                feed.attempts = 0;
            }
            let pause = pause(self.store.instance(), session, feed.attempts);
            feed.attempts = feed.attempts.saturating_add(1);
            (pause, was_up)
        };
        for due in [CloudDue::Stall, CloudDue::Drain, CloudDue::Summary, CloudDue::Progress, CloudDue::Reachable] {
            self.set_cloud_due(due, None, now);
        }
        let Some(feed) = self.feed.as_mut().filter(|feed| !feed.leaves) else { return };
        if was_up {
            feed.seen = now.up;
            self.plan_unreachable(now);
        }
        self.set_cloud_due(CloudDue::Connect, Some(now.up.after(pause)), now);
    }

    /// A client that confirms nothing while messages wait is built anew; so is one that does not even connect.
    pub(super) fn look_for_stall(&mut self, now: Now) {
        let Some(feed) = &mut self.feed else { return };
        let session = match feed.phase {
            Phase::Connecting(session) => session,
            Phase::Up(session) => {
                let stalls_at = feed.window.progressed.after(CLOUD_CONFIRMS_WITHIN);
                if feed.window.in_flight.is_empty() {
                    return;
                }
                if now.up < stalls_at {
                    self.set_cloud_due(CloudDue::Stall, Some(stalls_at), now);
                    return;
                }
                session
            }
            _ => return,
        };
        log::warn!("cloud dropped session={}: it confirms nothing", session.0);
        feed.trouble = Some(Trouble::Lost(format!("it confirmed nothing for {} s", CLOUD_CONFIRMS_WITHIN.as_secs())));
        feed.phase = Phase::Ending(session);
        feed.outputs.push_back(CloudOutput::Drop { session });
    }

    pub(super) fn leave(&mut self, now: Now) {
        let Some(feed) = &mut self.feed else { return };
        feed.leaves = true;
        match feed.phase {
            Phase::Up(session) => self.say_goodbye(session, now),
            Phase::Connecting(session) => {
                feed.phase = Phase::Ending(session);
                feed.outputs.push_back(CloudOutput::Drop { session });
            }
            Phase::Ending(_) => {}
            Phase::Resting | Phase::Numbering | Phase::Left => feed.phase = Phase::Left,
        }
    }

    /// The retained state says offline: the last will is not sent after a goodbye.
    fn say_goodbye(&mut self, session: Session, now: Now) {
        let payload = self.state_payload(false, session, now);
        let Some(feed) = &mut self.feed else { return };
        feed.phase = Phase::Ending(session);
        if let Ok(payload) = payload {
            let ticket = feed.own_ticket();
            let topic = feed.topics.state();
            let message = Message { topic, payload, retain: true, confirmed: true, correlation: None };
            feed.outputs.push_back(CloudOutput::Publish { session, ticket, message });
        }
        feed.outputs.push_back(CloudOutput::Leave { session });
    }

    pub(super) fn raise_unreachable(&mut self, now: Now) -> Result<(), Fatal> {
        let Some(feed) = &self.feed else { return Ok(()) };
        let why = feed.trouble.as_ref().map(ToString::to_string);
        let details = json!({ "url": self.config.mqtt.url.as_ref().map(ToString::to_string), "why": why });
        let raised = self.raise(CLOUD_UNREACHABLE, Severity::Warning, Subject::default(), now.wall, &details, now);
        self.kept(raised).map(drop)
    }

    pub(super) fn clear_cloud_alert(&mut self, rule: &str, now: Now) -> Result<(), Fatal> {
        let cleared = self.clear(rule, Subject::default(), now);
        self.kept(cleared).map(drop)
    }
}

impl Feed {
    /// One line for each new trouble, none for each attempt.
    fn note_trouble(&mut self, session: Session, why: Trouble) {
        if self.leaves {
            log::info!("cloud left session={}", session.0);
        } else if why == Trouble::Ended {
            // Why it was dropped is told already.
            return;
        } else if self.trouble.as_ref() == Some(&why) {
            log::debug!("cloud not connected session={}: {why}", session.0);
        } else {
            log::warn!("cloud not connected session={}: {why}", session.0);
        }
        self.trouble = Some(why);
    }

    /// What was not settled is sent again in the next session.
    fn forget_session(&mut self) {
        let in_flight = std::mem::take(&mut self.window.in_flight);
        let replies: Vec<Own> = in_flight.values().filter_map(super::feeding::Sent::as_reply).collect();
        for reply in replies.into_iter().rev() {
            self.own.push_front(reply);
        }
        self.own.retain(|own| matches!(own, Own::Reply(_)));
        self.lanes.rewind(in_flight.iter().map(|(Ticket(id), sent)| (*id, sent)));
        self.receipts.clear();
        self.ack_receipts.clear();
        self.progress.clear();
        self.progress_waits.clear();
    }
}

/// 1 s, doubling to 30 s, with jitter, so that a thousand sites do not come back together. The jitter follows from
/// the names: the core draws no random number.
fn pause(instance: &str, session: Session, attempts: u32) -> Duration {
    let base = SHORTEST_PAUSE_MS.checked_shl(attempts).unwrap_or(LONGEST_PAUSE_MS).clamp(1, LONGEST_PAUSE_MS);
    let base = if attempts >= 5 { LONGEST_PAUSE_MS } else { base };
    Duration::from_millis(base + hash(instance, session) % (base / 4 + 1))
}

/// FNV-1a, its bits mixed once more.
fn hash(instance: &str, session: Session) -> u64 {
    let bytes = instance.bytes().chain(session.0.to_le_bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_one_second_to_thirty_and_differ_from_site_to_site() {
        for (attempts, least, most) in
            [(0, 1000, 1250), (1, 2000, 2500), (2, 4000, 5000), (3, 8000, 10_000), (4, 16_000, 20_000)]
        {
            let pause = pause("0a1b", Session(7), attempts).as_millis();
            assert!((least..=most).contains(&pause), "{attempts}: {pause}");
        }
        let long: Vec<u128> =
            (5..100).map(|n| pause("0a1b", Session(n), u32::try_from(n).unwrap()).as_millis()).collect();
        assert!(long.iter().all(|pause| (24_000..=30_000).contains(pause)), "{long:?}");
        let (least, most) = (long.iter().min().unwrap(), long.iter().max().unwrap());
        assert!(most - least > 4_000, "hardly any jitter: {least} to {most}");
        assert_ne!(pause("a", Session(1), 5), pause("b", Session(1), 5));
    }
}
