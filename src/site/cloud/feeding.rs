//! Feeding: the outbox leaves in two lanes, alerts and replies before the rest, a window at a time; what had piled up
//! before the session began leaves no faster than `mqtt.drain_rate`.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{Now, UpTime};
use crate::cloud::envelope::{Sender, SendingTime, envelope, unsendable};
use crate::cloud::{CloudOutput, Message, Session, Ticket};
use crate::event::{ClockQuality, Stream};
use crate::limits::{CLOUD_CONFIRMS_WITHIN, CLOUD_SETTLED, CLOUD_SETTLED_TOGETHER, CLOUD_SETTLES_WITHIN};
use crate::store::{Event, Lane, OutboxRow, SentMarks};
use crate::turn::Fatal;

use super::super::{Site, fatal};
use super::session::Phase;
use super::{CloudDue, Feed};

/// Tickets of messages that stand in no outbox: far above any row.
pub(super) const FIRST_OWN_TICKET: u64 = 1 << 62;
/// Rows that an ack takes in one commit at most, so that a turn stays short.
pub(super) const ACKED_A_COMMIT: usize = 1000;
/// More rows than this in one commit leave as a backlog does.
const AT_ONCE: u64 = 100;
/// What a packet has beside topic and payload, at most: headers, packet id, properties.
const PACKET_OVERHEAD: usize = 32;

/// A message that stands in no outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Own {
    State(Message),
    Summary(Message),
    /// To a response topic, or one that could not be kept.
    Reply(Message),
}

/// What was sent and is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    Row { lane: Lane, stream: Option<Stream> },
    Own(Own),
}

impl Sent {
    /// A reply goes again in the next session; state and summary are made anew.
    pub(super) fn as_reply(&self) -> Option<Own> {
        match self {
            Self::Own(own @ Own::Reply(_)) => Some(own.clone()),
            _ => None,
        }
    }
}

/// What may be under way in a session.
#[derive(Debug, Default)]
pub(super) struct Window {
    size: usize,
    largest: usize,
    pub(super) in_flight: BTreeMap<Ticket, Sent>,
    /// When the broker last settled something, else when something last began to wait.
    pub(super) progressed: UpTime,
    /// Rows up to this id waited before the session began, and of those that are not urgent, rows up to that one, or
    /// came all at once.
    backlog: (u64, u64),
    /// The newest row at the last commit.
    newest: u64,
    /// When the next of them may go, in microseconds of up-time.
    next_us: u64,
}

impl Window {
    pub(super) fn open(size: usize, largest: usize, backlog: u64, now: Now) -> Self {
        let next_us = now.up.0.saturating_mul(1000);
        let (in_flight, progressed) = (BTreeMap::new(), now.up);
        Self { size, largest, in_flight, progressed, backlog: (backlog, backlog), newest: backlog, next_us }
    }

    /// Rows up to this id are durable now. So many at once are as good as a backlog (`replay`, a whole site that goes
    /// offline).
    pub(super) const fn committed(&mut self, newest: u64) {
        if newest.saturating_sub(self.newest) > AT_ONCE {
            self.backlog.1 = newest;
        }
        self.newest = newest;
    }

    fn room(&self) -> usize {
        self.size.saturating_sub(self.in_flight.len())
    }

    fn takes(&self, topic: &str, payload: usize, correlation: usize) -> bool {
        topic.len() + payload + correlation + PACKET_OVERHEAD <= self.largest
    }

    /// Whether a row may go now; else when. One that is late by less than its turn is made up for, so that the rate
    /// is kept on the average, and exceeded by no more than one message.
    fn may_leave(&mut self, lane: Lane, id: u64, rate: u32, now: UpTime) -> Result<(), UpTime> {
        let (urgent, rest) = self.backlog;
        if id > if matches!(lane, Lane::Urgent) { urgent } else { rest } {
            return Ok(());
        }
        let now_us = now.0.saturating_mul(1000);
        if self.next_us > now_us {
            return Err(UpTime(self.next_us.div_ceil(1000)));
        }
        let turn_us = 1_000_000 / u64::from(rate.max(1));
        // The clock of the loop ticks in milliseconds.
        let late = now_us.saturating_sub(turn_us.max(2000));
        self.next_us = self.next_us.max(late) + turn_us;
        Ok(())
    }
}

/// How far a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LaneState {
    /// Rows up to this id were sent in this session, or settled before.
    after: u64,
    /// The newest row that was ever sent.
    pub(super) sent: u64,
    /// The first row that was refused in its second form, too, and waits to be tried again.
    parked: Option<u64>,
}

/// Both lanes, and rows that go again out of their turn.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    urgent: LaneState,
    rest: LaneState,
    /// Refused, and to be sent in another form.
    again: BTreeSet<u64>,
}

pub(super) const fn lane_of(stream: Option<Stream>) -> Lane {
    match stream {
        None | Some(Stream::Alert) => Lane::Urgent,
        Some(Stream::Order | Stream::Device | Stream::Abnormal) => Lane::Rest,
    }
}

impl Lanes {
    pub(super) fn sent_so_far(SentMarks { urgent, rest }: SentMarks) -> Self {
        let lane = |sent| LaneState { sent, ..LaneState::default() };
        Self { urgent: lane(urgent), rest: lane(rest), again: BTreeSet::new() }
    }

    pub(super) const fn of(&self, lane: Lane) -> &LaneState {
        match lane {
            Lane::Urgent => &self.urgent,
            Lane::Rest => &self.rest,
        }
    }

    pub(super) const fn of_mut(&mut self, lane: Lane) -> &mut LaneState {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Rest => &mut self.rest,
        }
    }

    pub(super) const fn sent(&self) -> SentMarks {
        SentMarks { urgent: self.urgent.sent, rest: self.rest.sent }
    }

    /// The next session begins with the first row that was not settled.
    pub(super) fn rewind<'a>(&mut self, in_flight: impl Iterator<Item = (u64, &'a Sent)>) {
        for (id, sent) in in_flight {
            if let Sent::Row { lane, .. } = sent {
                let lane = self.of_mut(*lane);
                lane.after = lane.after.min(id - 1);
            }
        }
        // Which lane they are of is known to their rows; the other one only looks twice.
        if let Some(first) = self.again.first().copied() {
            self.urgent.after = self.urgent.after.min(first - 1);
            self.rest.after = self.rest.after.min(first - 1);
            self.again.clear();
        }
        self.unpark();
    }

    pub(super) fn send_again(&mut self, id: u64) {
        self.again.insert(id);
    }

    pub(super) fn park(&mut self, lane: Lane, id: u64) {
        let lane = self.of_mut(lane);
        lane.parked = Some(lane.parked.map_or(id, |first| first.min(id)));
    }

    pub(super) const fn has_parked(&self) -> bool {
        self.urgent.parked.is_some() || self.rest.parked.is_some()
    }

    /// What was refused in both forms is tried again.
    pub(super) fn unpark(&mut self) {
        for lane in [&mut self.urgent, &mut self.rest] {
            if let Some(first) = lane.parked.take() {
                lane.after = lane.after.min(first - 1);
            }
        }
    }
}

/// How many messages a second are confirmed, over ten seconds.
#[derive(Debug, Default)]
pub(super) struct Rate {
    began: UpTime,
    count: u32,
    last: f64,
}

impl Rate {
    const SPAN_MS: u64 = 10_000;

    pub(super) fn count(&mut self, now: UpTime) {
        let age = now.0.saturating_sub(self.began.0);
        if age >= Self::SPAN_MS {
            self.last = if age < 2 * Self::SPAN_MS { self.per_second(Self::SPAN_MS) } else { 0.0 };
            (self.began, self.count) = (now, 0);
        }
        self.count += 1;
    }

    /// Of the last whole span; in the first one, of what there is.
    pub(super) fn a_second(&self, now: UpTime) -> f64 {
        match now.0.saturating_sub(self.began.0) {
            age if age >= 2 * Self::SPAN_MS => 0.0,
            age if age >= Self::SPAN_MS => self.per_second(Self::SPAN_MS),
            age if self.last == 0.0 => self.per_second(age.max(1000)),
            _ => self.last,
        }
    }

    fn per_second(&self, ms: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few seconds in milliseconds")]
        let seconds = ms as f64 / 1000.0;
        (f64::from(self.count) / seconds * 10.0).round() / 10.0
    }
}

impl Feed {
    pub(super) const fn own_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn room(&self) -> usize {
        // A full disk keeps the rows of what is confirmed: it has to end somewhere.
        if self.settled.len() < CLOUD_SETTLED { self.window.room() } else { 0 }
    }

    /// It is under way, or confirmed and about to go.
    fn has(&self, id: u64) -> bool {
        self.settled.contains(&id) || self.window.in_flight.contains_key(&Ticket(id))
    }

    fn publish(&mut self, session: Session, ticket: Ticket, message: Message, sent: Sent, now: Now) {
        if self.window.in_flight.is_empty() {
            self.window.progressed = now.up;
        }
        self.window.in_flight.insert(ticket, sent);
        self.outputs.push_back(CloudOutput::Publish { session, ticket, message });
    }

    /// What stands in no outbox, as far as the window goes.
    fn send_own(&mut self, session: Session, now: Now) {
        while self.room() > 0 {
            let Some(own) = self.own.pop_front() else { return };
            let (Own::State(message) | Own::Summary(message) | Own::Reply(message)) = &own;
            let correlation = message.correlation.as_ref().map_or(0, Vec::len);
            if !self.window.takes(&message.topic, message.payload.len(), correlation) {
                log::warn!("message not sent topic={:?}: larger than the broker takes", message.topic);
                continue;
            }
            let (ticket, message) = (self.own_ticket(), message.clone());
            self.publish(session, ticket, message, Sent::Own(own), now);
        }
    }
}

impl Site {
    /// Sends what can be sent now.
    pub(super) fn feed_cloud(&mut self, now: Now) -> Result<(), Fatal> {
        let Some(feed) = &mut self.feed else { return Ok(()) };
        let Phase::Up(session) = feed.phase else { return Ok(()) };
        feed.send_own(session, now);
        self.send_refused_again(session, now)?;
        for lane in [Lane::Urgent, Lane::Rest] {
            if !self.send_lane(session, lane, now)? {
                break;
            }
        }
        self.watch_for_stall(now);
        Ok(())
    }

    fn watch_for_stall(&mut self, now: Now) {
        let Some(feed) = &self.feed else { return };
        if !feed.window.in_flight.is_empty() && !self.dues.is_set(super::Due::Cloud(CloudDue::Stall)) {
            let at = feed.window.progressed.after(CLOUD_CONFIRMS_WITHIN);
            self.set_cloud_due(CloudDue::Stall, Some(at), now);
        }
    }

    fn send_refused_again(&mut self, session: Session, now: Now) -> Result<(), Fatal> {
        while let Some(feed) = self.feed.as_mut().filter(|feed| feed.room() > 0) {
            let Some(id) = feed.lanes.again.pop_first() else { return Ok(()) };
            if let Some(row) = fatal(self.store.outbox_row(id))? {
                self.send_row(session, row, now)?;
            }
        }
        Ok(())
    }

    /// Whether all that is durable in this lane was sent.
    fn send_lane(&mut self, session: Session, lane: Lane, now: Now) -> Result<bool, Fatal> {
        let newest = self.store.outbox_newest();
        loop {
            let Some(feed) = &mut self.feed else { return Ok(true) };
            let (after, room) = (feed.lanes.of(lane).after, feed.room());
            if after >= newest {
                return Ok(true);
            }
            if room == 0 {
                return Ok(false);
            }
            let rows = fatal(self.store.outbox_page(lane, after, room))?;
            let is_last = rows.len() < room;
            for row in rows {
                if !self.may_leave(&row, now) {
                    return Ok(false);
                }
                if let Some(feed) = &mut self.feed {
                    feed.lanes.of_mut(lane).after = row.id;
                }
                self.send_row(session, row, now)?;
            }
            if let Some(feed) = self.feed.as_mut().filter(|_| is_last) {
                // What is new stands behind it.
                feed.lanes.of_mut(lane).after = newest;
                return Ok(true);
            }
        }
    }

    /// Judged by `mqtt.drain_rate`; the next look is planned.
    fn may_leave(&mut self, row: &OutboxRow, now: Now) -> bool {
        let rate = self.config.mqtt.drain_rate;
        let Some(feed) = &mut self.feed else { return false };
        if feed.has(row.id) {
            return true;
        }
        match feed.window.may_leave(lane_of(row.stream), row.id, rate, now.up) {
            Ok(()) => true,
            Err(at) => {
                self.set_cloud_due(CloudDue::Drain, Some(at), now);
                false
            }
        }
    }

    fn send_row(&mut self, session: Session, row: OutboxRow, now: Now) -> Result<(), Fatal> {
        let Some(payload) = self.payload_of(&row, now)? else {
            log::error!("outbox row dropped id={} topic={:?}: it is damaged", row.id, row.topic);
            self.row_goes(row.id, now);
            return Ok(());
        };
        let Some(feed) = self.feed.as_mut().filter(|feed| !feed.has(row.id)) else { return Ok(()) };
        let topic = feed.topics.under(&row.topic);
        if !feed.window.takes(&topic, payload.len(), 0) {
            let why = format!("{} bytes are more than the broker takes", payload.len());
            return match self.replace(&row, &why, now)? {
                Some(row) => self.send_row(session, row, now),
                None => Ok(()),
            };
        }
        let (id, stream, lane) = (row.id, row.stream, lane_of(row.stream));
        let state = feed.lanes.of_mut(lane);
        state.sent = state.sent.max(id);
        let message = Message { topic, payload, retain: false, confirmed: true, correlation: None };
        feed.publish(session, Ticket(id), message, Sent::Row { lane, stream }, now);
        Ok(())
    }

    /// It is confirmed, or nothing can be made of it: it goes with the next commit.
    pub(super) fn row_goes(&mut self, id: u64, now: Now) {
        if let Some(feed) = &mut self.feed {
            feed.settled.insert(id);
            feed.settles_now |= feed.settled.len() >= CLOUD_SETTLED_TOGETHER;
            self.settle_soon(now);
        }
    }

    pub(super) fn settle_soon(&mut self, now: Now) {
        if !self.dues.is_set(super::Due::Cloud(CloudDue::Settle)) {
            self.set_cloud_due(CloudDue::Settle, Some(now.up.after(CLOUD_SETTLES_WITHIN)), now);
        }
    }

    /// What a row says; `None` when nobody can tell any more.
    fn payload_of(&self, row: &OutboxRow, now: Now) -> Result<Option<Vec<u8>>, Fatal> {
        let (Some(stream), Some(seq)) = (row.stream, row.seq) else {
            return Ok(row.payload.clone().filter(|_| row.intact).map(String::into_bytes));
        };
        let event = self.event(stream, seq)?;
        let sender = Sender { site: &self.config.site.id, instance: self.store.instance() };
        let time = SendingTime { now, clock: self.trust.quality(), started: self.started };
        match (event, row.payload.as_deref().filter(|_| row.intact)) {
            (Some(event), None) => Ok(Some(envelope(sender, &event, &time))),
            (Some(event), Some(data)) => {
                let device = event.device.map(|device| device.to_string());
                Ok(Some(unsendable(sender, stream, seq, time.of(&event), device.as_deref(), data)))
            }
            // A row that rotted may name any number.
            (None, _) if !row.intact => Ok(None),
            (None, data) => {
                let gone = crate::cloud::envelope::unsendable_data(None, "the event is not kept any more").to_string();
                let at = (row.created_at, ClockQuality::Unset);
                Ok(Some(unsendable(sender, stream, seq, at, None, data.unwrap_or(&gone))))
            }
        }
    }

    pub(super) fn event(&self, stream: Stream, seq: u64) -> Result<Option<Event>, Fatal> {
        let found = fatal(self.store.events_from(stream, seq, 1))?;
        Ok(found.into_iter().next().filter(|event| event.seq == seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(up: u64) -> Now {
        Now { up: UpTime(up), wall: crate::clock::WallTime(0), synchronized: false }
    }

    #[test]
    fn a_backlog_leaves_at_its_rate_and_what_is_new_passes() {
        for rate in [1, 7, 100, 1000, 20_000] {
            let mut window = Window::open(32, 1000, 1_000_000, at(5000));
            let mut left = 0;
            // The loop is late by up to 3 ms.
            for step in 0..4000_u64 {
                let now = UpTime(5000 + step * 3);
                while window.may_leave(Lane::Rest, 1, rate, now).is_ok() {
                    left += 1;
                }
                assert!(window.may_leave(Lane::Rest, 1_000_001, rate, now).is_ok());
            }
            let allowed = u64::from(rate) * 12;
            assert!(left <= allowed + 2 + u64::from(rate) / 500, "{rate}: {left}");
            assert!(rate > 500 || left + 2 >= allowed, "{rate}: {left} of {allowed}");
        }
    }

    #[test]
    fn a_new_session_begins_with_the_first_row_that_was_not_settled() {
        let mut lanes = Lanes::default();
        (lanes.urgent.after, lanes.rest.after) = (40, 90);
        let row = |stream| Sent::Row { lane: lane_of(stream), stream };
        let in_flight =
            [(31, row(Some(Stream::Alert))), (80, row(Some(Stream::Order))), (85, row(Some(Stream::Order)))];
        lanes.rewind(in_flight.iter().map(|(id, sent)| (*id, sent)));
        assert_eq!((lanes.urgent.after, lanes.rest.after), (30, 79));
        lanes.park(Lane::Rest, 20);
        lanes.rewind(std::iter::empty());
        assert_eq!((lanes.urgent.after, lanes.rest.after, lanes.has_parked()), (30, 19, false));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        for second in 0..25 {
            for _ in 0..30 {
                rate.count(UpTime(100_000 + second * 1000));
            }
        }
        assert!((29.0..=31.0).contains(&rate.a_second(UpTime(124_500))), "{rate:?}");
        assert!(rate.a_second(UpTime(150_000)).abs() < f64::EPSILON);
    }
}
