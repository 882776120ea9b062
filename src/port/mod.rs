//! The decisions. One port, its orders, one event, the time: what follows.
//!
//! Nothing here opens a socket, reads a clock or writes a row: the caller hands in what it knows and carries out the
//! [`Effect`]s. Nearly every rule of contract §5 needs what the port shows, its open order, its newest closed
//! ones, the hold, the owed stop and a kept report together, so one module owns them all.
//!
//! - [`state`]: what is known of a port.
//! - `start`: a start and its answers. `status`: what a status proves. `stop`: the one stop of a port.
//!   `report`: whose end report. `close`: closing, and later truth. `due`: what time asks.
//! - `figures`: what is plausible, and the bounds. `claim`: another number, and what was paid. `again`: reports that
//!   are read once more. `issue`: where port and order disagree. `stands`: what a commit that failed cannot take back.
//!
//! What a port wants to know is derived ([`Desk::wants_question`]), never stored: nothing of it has to be
//! restored after a restart.

mod again;
mod claim;
mod close;
mod due;
pub mod effect;
mod figures;
mod issue;
mod report;
mod stands;
mod start;
pub mod state;
mod status;
mod stop;

use std::time::Duration;

use crate::clock::{Now, UpTime, WallTime};
use crate::ids::{BusinessNo, DeciWatts, MessageId, OrderNo};
use crate::order::{EndReason, Order};

pub use effect::{Effect, OrderEvent, Outcome, Refusal, ReportFate};
pub use issue::{Issue, IssueType};
pub use state::{Figures, Port, PortStatus, Report};
use state::{Hold, Memory, Stray};

/// Until when a start may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expiry {
    /// By the command itself (`expires_at`).
    pub at: Option<WallTime>,
    /// By the message that it came in, counted from its arrival: no clock is needed for that.
    pub up: Option<UpTime>,
}

impl From<Option<WallTime>> for Expiry {
    fn from(at: Option<WallTime>) -> Self {
        Self { at, up: None }
    }
}

/// A stop is repeated at most so often (contract §5 *Stop*).
const STOP_SPACING: Duration = Duration::from_secs(30);
/// A number without bit 4 below this power is an order that is over (protocol §5).
const IDLE_POWER: DeciWatts = DeciWatts(50);
/// Weight of idle evidence that releases a hold.
const PROOF: u8 = 2;
/// Reports that can wait for one start's fate.
const KEPT_REPORTS: usize = 4;

/// Times that the agent was down: up-time at each restart, and how long it had been away; `None` when no believed clock
/// tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Downtime(pub Vec<(UpTime, Option<Duration>)>);

impl Downtime {
    /// More restarts than this are counted together, the oldest first.
    const KEPT: usize = 256;

    /// Real time from `from` to `to`, known down times included.
    pub fn elapsed(&self, from: UpTime, to: UpTime) -> Duration {
        to.since(from) + self.between(from, to).flatten().sum::<Duration>()
    }

    /// As [`Self::elapsed`]; `None` when the agent was down meanwhile for nobody knows how long.
    pub fn elapsed_for_sure(&self, from: UpTime, to: UpTime) -> Option<Duration> {
        let down: Option<Duration> = self.between(from, to).sum();
        down.map(|down| to.since(from) + down)
    }

    fn between(&self, from: UpTime, to: UpTime) -> impl Iterator<Item = Option<Duration>> {
        // What happened at the moment of a restart happened after it: up-time goes on behind all that was kept.
        self.0.iter().filter(move |(at, _)| *at > from && *at <= to).map(|(_, down)| *down)
    }

    /// Restarts after `since` that were noted without their length.
    pub fn unknown_after(&self, since: UpTime) -> usize {
        self.0.iter().filter(|(at, down)| *at > since && down.is_none()).count()
    }

    /// How long the restarts after `since` took, as far as it was noted.
    pub fn known_after(&self, since: UpTime) -> Duration {
        self.0.iter().filter(|(at, _)| *at > since).filter_map(|(_, down)| *down).sum()
    }

    /// The length of the restart at `at` is known now.
    pub fn is_known(&mut self, at: UpTime, down: Duration) {
        if let Some(noted) = self.0.iter_mut().find(|(noted, _)| *noted == at) {
            noted.1 = Some(down);
        }
    }

    /// Notes a restart; those before `reach` are of no use any more.
    pub fn note(&mut self, at: UpTime, down: Option<Duration>, reach: UpTime) {
        self.0.retain(|(at, _)| *at >= reach);
        self.0.push((at, down));
        while self.0.len() > Self::KEPT {
            let (_, oldest) = self.0.remove(0);
            self.0[0].1 = oldest.zip(self.0[0].1).map(|(one, other)| one + other);
        }
    }
}

/// The configuration as it holds for one port, and what else decisions go by.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// `orders.answer_timeout`.
    pub answer_timeout: Duration,
    /// `orders.answer_retries`.
    pub answer_retries: u32,
    /// `orders.end_report_grace`.
    pub end_report_grace: Duration,
    /// `orders.silent_timeout`.
    pub silent_timeout: Duration,
    /// `orders.offline_timeout`.
    pub offline_timeout: Duration,
    /// `orders.overrun_grace`.
    pub overrun_grace: Duration,
    /// `orders.longest`.
    pub longest: Duration,
    /// `orders.on_return` is `"resume"`.
    pub resumes: bool,
    /// `orders.unknown_session` is `"stop"`.
    pub stops_strays: bool,
    /// `devices.offline_after`.
    pub offline_after: Duration,
    /// The model's, else `orders.power_ceiling_w`.
    pub power_ceiling_w: u32,
    /// `alerts.stop_ignored`.
    pub stops_ignored: u32,
    /// `[[reasons]]` that hold for the model.
    pub reason: &'a dyn Fn(u8) -> Option<EndReason>,
    /// When the agent was down.
    pub downtime: &'a Downtime,
    /// When the agent was started, in up-time.
    pub started: UpTime,
}

impl Terms<'_> {
    /// Real time between two moments.
    pub fn elapsed(&self, from: UpTime, to: UpTime) -> Duration {
        self.downtime.elapsed(from, to)
    }

    /// As [`Self::elapsed`]; `None` when nobody knows.
    pub fn elapsed_for_sure(&self, from: UpTime, to: UpTime) -> Option<Duration> {
        self.downtime.elapsed_for_sure(from, to)
    }
}

/// Whether the port can be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Device and socket are online.
    Online,
    /// Device or socket is away: when the device was last heard, or the socket first reported lost.
    Away(UpTime),
}

/// One port in a status report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The status byte; bit 7 is set, else the socket is away and there is no reading.
    pub raw: u8,
    /// The number that it shows.
    pub number: Option<BusinessNo>,
    /// Its figures, scaled.
    pub figures: Figures,
    /// The question that it answers, if any.
    pub answers: Option<Answered>,
    /// When a question was last sent to the socket, answered or not.
    pub last_question: Option<UpTime>,
}

/// A question that a reading answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// When the question was sent.
    pub sent: UpTime,
    /// It came under the question's own message id; a status report answers the oldest that waits.
    pub by_id: bool,
}

/// What has to reach the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Dirty {
    /// Nothing.
    #[default]
    Clean,
    /// Figures that only move: within `store.flush_interval`.
    Figures,
    /// More: with the next commit.
    Whole,
}

/// An order in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The record.
    pub order: Order,
    /// What of it has to be written.
    pub dirty: Dirty,
}

/// A port and the orders of it that are in memory: the open one always, closed ones while a decision needs them.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The port.
    pub port: Port,
    /// What of it has to be written.
    pub dirty: Dirty,
    /// By serial, the newest last.
    pub orders: Vec<Entry>,
}

impl Case {
    /// A port without orders in memory.
    pub const fn new(port: Port) -> Self {
        Self { port, dirty: Dirty::Clean, orders: Vec::new() }
    }

    /// The open order.
    pub fn open_order(&self) -> Option<&Order> {
        self.orders.iter().map(|entry| &entry.order).find(|order| order.status.is_open())
    }

    /// The order of this number.
    pub fn order(&self, order_no: &OrderNo) -> Option<&Order> {
        self.orders.iter().map(|entry| &entry.order).find(|order| order.order_no == *order_no)
    }

    /// Takes orders from the store in: those that are in memory stay as they are there.
    pub fn take_in(&mut self, orders: Vec<Order>) {
        for order in orders {
            if self.order(&order.order_no).is_none() {
                self.orders.push(Entry { order, dirty: Dirty::Clean });
            }
        }
        // A new order has no serial before it is written: it is the newest.
        self.orders.sort_by_key(|entry| if entry.order.serial == 0 { i64::MAX } else { entry.order.serial });
    }

    /// What of the port and its orders has to be written.
    pub fn whole_dirty(&self) -> Dirty {
        self.orders.iter().map(|entry| entry.dirty).fold(self.dirty, Dirty::max)
    }

    /// Lets closed orders go that no decision waits for.
    pub fn let_go(&mut self) {
        let remembers = self.port.memory.is_some();
        let newest = self.orders.len().wrapping_sub(1);
        let mut place = 0;
        self.orders.retain(|entry| {
            let order = &entry.order;
            let provisional = order.settlement == Some(crate::order::Settlement::Provisional);
            let waits = provisional && (place == newest || order.course.waits_since.is_some());
            place += 1;
            entry.dirty != Dirty::Clean || order.status.is_open() || waits || remembers
        });
        self.orders.shrink_to_fit();
    }

    /// Whether a start has to be refused because something may still charge or be switched here.
    pub fn is_held(&self) -> bool {
        self.memory().is_some_and(|memory| memory.hold.is_some())
    }

    /// Whether anything here needs up-time to be kept over a restart (contract §5 *Time*).
    pub fn counts_time(&self) -> bool {
        let memory = self.memory().is_some_and(|memory| memory.hold.is_some() || memory.stop.is_some());
        memory || self.open_order().is_some()
    }

    fn memory(&self) -> Option<&Memory> {
        self.port.memory.as_deref()
    }
}

/// Where new names come from.
pub trait Names {
    /// A message id that was not used within a day, restarts included.
    fn message_id(&mut self) -> MessageId;
    /// A number that no order ever had.
    fn order_no(&mut self) -> OrderNo;
}

/// Where one decision is made: the case, the time, the rules; effects come out.
pub struct Desk<'a> {
    /// The port and its orders.
    pub case: &'a mut Case,
    /// The time.
    pub now: Now,
    /// The rules as they hold here.
    pub terms: &'a Terms<'a>,
    /// Whether the port can be spoken to.
    pub reach: Reach,
    /// Gives ids and numbers that are not in use.
    pub names: &'a mut dyn Names,
    /// What to carry out.
    pub effects: &'a mut Vec<Effect>,
}

impl Desk<'_> {
    fn at(&self) -> (WallTime, UpTime) {
        (self.now.wall, self.now.up)
    }

    /// What is remembered, to change it: the port is written with the next commit.
    fn memory(&mut self) -> &mut Memory {
        self.case.dirty = Dirty::Whole;
        self.case.port.memory.get_or_insert_default()
    }

    fn hold(&self) -> Option<Hold> {
        self.case.memory().and_then(|memory| memory.hold)
    }

    /// The order at `index`, to change more than its figures.
    fn order(&mut self, index: usize) -> &mut Order {
        let entry = &mut self.case.orders[index];
        entry.dirty = Dirty::Whole;
        &mut entry.order
    }

    fn peek(&self, index: usize) -> &Order {
        &self.case.orders[index].order
    }

    fn open_index(&self) -> Option<usize> {
        self.case.orders.iter().position(|entry| entry.order.status.is_open())
    }

    fn running_index(&self) -> Option<usize> {
        self.case.orders.iter().position(|entry| entry.order.status.is_running())
    }

    fn pending_index(&self) -> Option<usize> {
        self.open_index().filter(|&index| !self.peek(index).status.is_running())
    }

    fn newest_index(&self) -> Option<usize> {
        self.case.orders.len().checked_sub(1)
    }

    fn index_of(&self, order_no: &OrderNo) -> Option<usize> {
        self.case.orders.iter().position(|entry| entry.order.order_no == *order_no)
    }

    fn tell(&mut self, what: OrderEvent, index: usize) {
        let order_no = self.peek(index).order_no.clone();
        self.effects.push(Effect::Tell { what, order_no });
    }

    fn reply(&mut self, command_id: String, index: Option<usize>, outcome: Outcome) {
        let order_no = index.map(|index| self.peek(index).order_no.clone());
        self.effects.push(Effect::Reply { command_id, order_no, outcome });
    }

    fn show(&mut self, status: PortStatus) {
        if self.case.port.status != status {
            self.case.port.status = status;
            self.case.dirty = Dirty::Whole;
        }
    }

    /// A start or stop goes out: the port is held from here.
    fn hold_for_sending(&mut self) {
        let sent = self.now.up;
        let hold = self.memory().hold.get_or_insert(Hold::new(sent));
        hold.sent = sent;
        hold.unanswered = hold.unanswered.saturating_add(1);
        hold.evidence = 0;
    }

    /// One sending was answered: the port is free again unless another one was not.
    fn hold_answered(&mut self) {
        let Some(mut hold) = self.hold() else { return };
        hold.unanswered = hold.unanswered.saturating_sub(1);
        self.memory().hold = (hold.unanswered > 0 || hold.lingers).then_some(hold);
    }

    /// Idle has to be proven after the grace before the port is free.
    fn hold_lingers(&mut self) {
        let now = self.now.up;
        self.memory().hold.get_or_insert(Hold::new(now)).lingers = true;
    }

    /// To be called last by each entry: forgets empty memory and checks what must always hold.
    fn finish(&mut self) {
        self.watch_what_is_nobodys();
        if self.case.memory().is_some_and(|memory| *memory == Memory::default()) {
            self.case.port.memory = None;
        }
        self.check_invariants();
    }

    /// A port that is left charging without an order is asked about, whether or not its device says more.
    fn watch_what_is_nobodys(&mut self) {
        let looked_after = self.case.memory().is_some_and(|memory| memory.stop.is_some() || memory.stray.is_some());
        if self.case.port.status == PortStatus::Charging && self.open_index().is_none() && !looked_after {
            let (number, since) = (self.case.port.business_no, self.now.up);
            self.memory().stray = Some(Stray::of_nobody(number, since));
        }
    }

    fn check_invariants(&self) {
        let open = self.case.orders.iter().filter(|entry| entry.order.status.is_open()).count();
        assert!(open <= 1, "{}: {open} open orders on one port", self.case.port.key);
        for Entry { order, .. } in &self.case.orders {
            let contradiction = order.contradiction();
            assert!(contradiction.is_none(), "{}: {}", order.order_no, contradiction.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_restart_lies_before_what_happens_at_its_moment_and_behind_all_before() {
        let mut downtime = Downtime::default();
        downtime.note(UpTime(5000), Some(HOUR), UpTime(0));
        let elapsed = |from, to| downtime.elapsed(UpTime(from), UpTime(to));
        assert_eq!(elapsed(4000, 5000), Duration::from_secs(1) + HOUR);
        assert_eq!(elapsed(5000, 6000), Duration::from_secs(1));
        assert_eq!(elapsed(4000, 4999), Duration::from_millis(999));
    }

    #[test]
    fn one_down_time_of_unknown_length_makes_the_whole_unknown_until_it_is_known() {
        let mut downtime = Downtime::default();
        downtime.note(UpTime(1000), Some(HOUR), UpTime(0));
        downtime.note(UpTime(2000), None, UpTime(0));
        assert_eq!(downtime.elapsed_for_sure(UpTime(0), UpTime(1500)), Some(Duration::from_millis(1500) + HOUR));
        assert_eq!(downtime.elapsed_for_sure(UpTime(0), UpTime(3000)), None);
        assert_eq!(downtime.elapsed(UpTime(0), UpTime(3000)), Duration::from_secs(3) + HOUR, "what is known counts");
        assert_eq!((downtime.unknown_after(UpTime(1000)), downtime.known_after(UpTime(0))), (1, HOUR));
        downtime.is_known(UpTime(2000), HOUR);
        assert_eq!(downtime.elapsed_for_sure(UpTime(0), UpTime(3000)), Some(Duration::from_secs(3) + 2 * HOUR));
    }

    #[test]
    fn a_gateway_that_restarts_for_ever_keeps_so_many_restarts_and_loses_no_time() {
        let mut downtime = Downtime::default();
        for restart in 1..=1000 {
            downtime.note(UpTime(restart), Some(Duration::from_secs(3)), UpTime(0));
        }
        assert_eq!(downtime.0.len(), Downtime::KEPT);
        assert_eq!(downtime.known_after(UpTime(0)), Duration::from_secs(3000));
    }
}
