//! The one stop of a port (contract §5 *Stop*). A stop names a port, not an order: so none goes out for an order
//! while a later one is open there, and afterwards only while the port shows that order's own number.

use crate::ids::{BusinessNo, MessageId, OrderNo};
use crate::mutants::{self, Mutant};
use crate::order::{EndReason, OrderStatus, Settlement};
use crate::port::state::{Stop, StopCause, StopPhase};
use crate::port::{Desk, Effect, Outcome, PortStatus, Reach, Reading, Refusal, STOP_SPACING};

impl Desk<'_> {
    /// A stop by command: of the order of this number, or of whatever runs on the port.
    pub fn stop(&mut self, order_no: Option<&OrderNo>, command_id: String, actor: String) {
        let index = match order_no {
            Some(order_no) => self.index_of(order_no),
            // What was closed by a time limit may still charge: the stop is meant for it.
            None => self.open_index().or_else(|| self.newest_index().filter(|&newest| self.may_still_charge(newest))),
        };
        match index {
            Some(index) => self.stop_order(index, command_id, actor),
            None if order_no.is_some() => self.reply(command_id, None, Outcome::Failed(Refusal::OrderNotOpen)),
            None => {
                let number = self.case.port.business_no;
                self.send_stop(None, number, StopCause::Command, Some(command_id));
            }
        }
        self.finish();
    }

    fn stop_order(&mut self, index: usize, command_id: String, actor: String) {
        let may_charge = self.may_still_charge(index) && self.newest_index() == Some(index);
        if !(self.peek(index).status.is_open() || may_charge) {
            self.reply(command_id, Some(index), Outcome::Failed(Refusal::OrderNotOpen));
            return;
        }
        self.order(index).stopped_by = Some(actor);
        if self.peek(index).status == OrderStatus::Pending {
            self.cancel(index);
        }
        let number = self.peek(index).business_no;
        self.send_stop(Some(index), number, StopCause::Command, Some(command_id));
    }

    fn may_still_charge(&self, index: usize) -> bool {
        self.peek(index).settlement == Some(Settlement::Provisional)
    }

    /// Sends a stop, or owes it while the port cannot be reached. One that waits for its answer is joined.
    pub(super) fn send_stop(
        &mut self,
        index: Option<usize>,
        number: Option<BusinessNo>,
        cause: StopCause,
        command_id: Option<String>,
    ) {
        let order_no = index.map(|index| self.peek(index).order_no.clone());
        if let Some(stop) = self.case.memory().and_then(|memory| memory.stop.as_ref())
            && stop.order_no == order_no
            && stop.phase == StopPhase::Waiting
        {
            if let Some(stop) = self.memory().stop.as_mut() {
                // A stop that a command wants is a stop by command, whoever was first.
                stop.cause = if command_id.is_some() { cause } else { stop.cause };
                stop.commands.extend(command_id);
            }
            return;
        }
        let message_id = self.names.message_id();
        let known = self.memory().stop.take();
        let in_vain = known.as_ref().filter(|stop| stop.order_no == order_no).map_or(0, |stop| stop.in_vain);
        // A stop names a port: whoever waits for the one before is served by this one.
        let commands = known.into_iter().flat_map(|stop| stop.commands).chain(command_id).collect();
        self.memory().stop = Some(Stop {
            order_no,
            number,
            cause,
            phase: StopPhase::Owed,
            message_id,
            sent: None,
            tries: 0,
            counted: false,
            in_vain,
            commands,
        });
        if self.reach == Reach::Online {
            self.transmit_stop();
        } else {
            self.stop_outcome(Outcome::StopOwed(Refusal::DeviceOffline));
        }
    }

    fn transmit_stop(&mut self) {
        let now = self.now.up;
        let Some(stop) = self.memory().stop.as_mut() else { return };
        stop.phase = StopPhase::Waiting;
        stop.sent = Some(now);
        let (order_no, message_id) = (stop.order_no.clone(), stop.message_id);
        self.hold_for_sending();
        self.effects.push(Effect::SendStop { order_no, message_id });
    }

    /// A new try of the owed stop, if it may go out now.
    fn try_again(&mut self) {
        if mutants::off(Mutant::OwedStops) || self.reach != Reach::Online || !self.may_stop() {
            return;
        }
        let message_id = self.names.message_id();
        if let Some(stop) = self.memory().stop.as_mut() {
            stop.message_id = message_id;
            stop.tries = 0;
            stop.counted = false;
        }
        self.transmit_stop();
    }

    fn may_stop(&self) -> bool {
        let Some(stop) = self.stop_slot() else { return false };
        let Some(order_no) = &stop.order_no else { return self.open_index().is_none() };
        self.index_of(order_no).is_some_and(|index| self.may_stop_order(index))
    }

    /// Never for an order while a later one is open there or owns the session; afterwards only while the port shows
    /// the order's own number.
    pub(super) fn may_stop_order(&self, index: usize) -> bool {
        let later = &self.case.orders[index + 1..];
        let open = later.iter().any(|entry| entry.order.status.is_open());
        if open || self.closed_owner(None).is_some_and(|owner| owner > index) {
            return mutants::off(Mutant::NoStopOverLaterOrder);
        }
        let shown = self.case.port.business_no;
        let shows_own = shown.is_some_and(|number| self.peek(index).has_number(number));
        later.is_empty() || shows_own || mutants::off(Mutant::StopOwnNumber)
    }

    pub(super) fn stop_slot(&self) -> Option<&Stop> {
        self.case.memory().and_then(|memory| memory.stop.as_ref())
    }

    /// The device answers a stop.
    pub fn stop_answered(&mut self, message_id: MessageId, ok: bool) {
        self.hold_answered();
        let current = self.stop_slot().is_some_and(|stop| stop.message_id == message_id);
        if current {
            if ok { self.stop_accepted() } else { self.stop_refused() }
        }
        self.finish();
    }

    fn stop_accepted(&mut self) {
        let now = self.now.up;
        if let Some(stop) = self.memory().stop.as_mut() {
            stop.phase = StopPhase::Accepted;
        }
        self.stop_outcome(Outcome::Done);
        self.mark_stopped();
        let Some(index) = self.stopped_running() else {
            self.drop_stop_of_idle_port();
            return;
        };
        let order = self.order(index);
        order.status = OrderStatus::Stopping;
        // The grace of an overrun's stop runs on, however often it has to be repeated.
        if !(order.course.stop_by_overrun && order.course.stop_accepted.is_some()) {
            order.course.stop_accepted = Some(now);
            order.course.grace_asked = false;
        }
    }

    fn stop_refused(&mut self) {
        if let Some(stop) = self.memory().stop.as_mut() {
            stop.phase = StopPhase::Owed;
        }
        self.stop_outcome(Outcome::StopOwed(Refusal::RefusedByDevice));
        self.overrun_stop_failed();
        self.drop_stop_of_idle_port();
    }

    /// The answer came, and the port is idle already: nothing is owed.
    fn drop_stop_of_idle_port(&mut self) {
        let idle = self.case.port.status == PortStatus::Idle && self.open_index().is_none() && !self.case.is_held();
        if idle {
            self.drop_stop();
        }
    }

    /// No answer for `answer_timeout`: repeated, then it stays owed. Tries of one stop count once.
    pub(super) fn stop_unanswered(&mut self) {
        let (now, retries) = (self.now.up, self.terms.answer_retries);
        let repeat = self.reach == Reach::Online;
        let Some(stop) = self.memory().stop.as_mut() else { return };
        if u32::from(stop.tries) < retries {
            stop.tries += 1;
            if repeat {
                self.transmit_stop();
            } else {
                stop.sent = Some(now);
            }
            return;
        }
        stop.phase = StopPhase::Owed;
        self.hold_lingers();
        self.stop_outcome(Outcome::StopOwed(Refusal::NoAnswer));
        self.mark_stopped();
        self.overrun_stop_failed();
    }

    fn stopped_index(&self) -> Option<usize> {
        self.index_of(self.stop_slot()?.order_no.as_ref()?)
    }

    /// The running order that the stop is for.
    pub(super) fn stopped_running(&self) -> Option<usize> {
        self.stopped_index().filter(|&index| self.peek(index).status.is_running())
    }

    /// The stop was accepted or not answered: it may be what ended the session, closed already or not.
    fn mark_stopped(&mut self) {
        let Some((index, stop)) = self.stopped_index().zip(self.stop_slot()) else { return };
        let by_command = stop.cause == StopCause::Command;
        let course = &mut self.order(index).course;
        course.stop_by_command |= by_command;
        course.stop_by_agent |= !by_command;
    }

    /// Past what was paid, and the stop did not work. Idle that was shown beats that: its grace goes on.
    fn overrun_stop_failed(&mut self) {
        if let Some(index) = self.stopped_running()
            && self.peek(index).course.stop_by_overrun
            && self.peek(index).course.idle_since.is_none()
        {
            self.close(index, EndReason::Overrun, Settlement::Provisional);
        }
    }

    /// Answers the commands that wait for the stop.
    pub(super) fn stop_outcome(&mut self, outcome: Outcome) {
        let Some(stop) = self.memory().stop.as_mut() else { return };
        let commands = std::mem::take(&mut stop.commands);
        let index = stop.order_no.clone().and_then(|order_no| self.index_of(&order_no));
        for command_id in commands {
            self.reply(command_id, index, outcome);
        }
    }

    /// A status shows the session that a stop is for: what was accepted was in vain, what is owed goes out again.
    pub(super) fn chase_stop(&mut self, shown: Option<BusinessNo>) {
        let Some(stop) = self.stop_slot() else { return };
        if stop.phase == StopPhase::Waiting || !self.is_stopped_session(stop, shown) {
            return;
        }
        let (counted, threshold) = (stop.counted, self.terms.stops_ignored);
        let rested = stop.sent.is_none_or(|sent| self.now.up >= sent.after(STOP_SPACING));
        let tried = stop.sent.is_some();
        if tried
            && !counted
            && let Some(stop) = self.memory().stop.as_mut()
        {
            stop.counted = true;
            stop.phase = StopPhase::Owed;
            stop.in_vain += 1;
            let stops = stop.in_vain;
            if stops >= threshold {
                self.effects.push(Effect::StopIgnored { stops });
            }
        }
        if rested {
            self.try_again();
        }
    }

    /// An order that never charged, by what was known, may be what charges now: its own stop goes on.
    pub(super) fn is_chased(&self, shown: Option<BusinessNo>) -> bool {
        let by_order = self.stopped_index().is_some_and(|index| self.may_stop_order(index));
        by_order && self.stop_slot().is_some_and(|stop| self.is_stopped_session(stop, shown))
    }

    fn is_stopped_session(&self, stop: &Stop, shown: Option<BusinessNo>) -> bool {
        let Some(shown) = shown else { return true };
        let of_order = stop.order_no.as_ref().and_then(|order_no| self.index_of(order_no));
        match of_order {
            Some(index) => {
                let order = self.peek(index);
                // An order that owns the port owns what it shows, whatever the number.
                order.status.is_open() || order.has_number(shown) || order.business_no.is_none()
            }
            None => stop.number.is_none_or(|number| number == shown),
        }
    }

    /// An order that is stopping is shown charging: the grace begins anew, except after an overrun's stop.
    pub(super) fn charges_after_accepted_stop(&mut self, index: usize) {
        let now = self.now.up;
        if !self.peek(index).course.stop_by_overrun {
            let course = &mut self.order(index).course;
            course.stop_accepted = Some(now);
            course.grace_asked = false;
        }
    }

    /// A late ok of an order that is closed or to be stopped: the session is stopped.
    pub(super) fn stop_late(&mut self, index: usize) {
        if self.may_stop_order(index) {
            let number = self.peek(index).business_no;
            self.send_stop(Some(index), number, StopCause::Start, None);
        }
    }

    /// Past what was paid: the agent stops it, also when an accepted stop did not help so far. While the device is
    /// away the stop is owed, and its return or `offline_timeout` decides.
    pub(super) fn overrun(&mut self, index: usize) {
        if self.peek(index).course.stop_by_overrun {
            return;
        }
        let order = self.order(index);
        order.course.stop_by_overrun = true;
        order.course.stop_accepted = None;
        order.stopped_by.get_or_insert_with(|| "agent".to_owned());
        let number = order.business_no;
        self.send_stop(Some(index), number, StopCause::Overrun, None);
    }

    /// Idle ends what was owed. A running order's stop stays until the order closes: idle may be a moment only. While
    /// the port is held something may still be on its way, so it takes idle that is younger.
    pub(super) fn discharge_stop(&mut self, reading: &Reading) {
        let Some(stop) = self.stop_slot() else { return };
        let sent = self.hold().map(|hold| hold.sent).max(stop.sent);
        let younger = |sent| reading.answers.is_some_and(|question| question.sent >= sent);
        let over = match stop.phase {
            StopPhase::Waiting => false,
            StopPhase::Accepted => true,
            StopPhase::Owed => !self.case.is_held() || sent.is_none_or(younger),
        };
        if !over {
            return;
        }
        if self.stopped_running().is_none() {
            self.drop_stop();
        } else if stop.in_vain >= self.terms.stops_ignored {
            self.effects.push(Effect::StopObeyed);
            if let Some(stop) = self.memory().stop.as_mut() {
                stop.in_vain = 0;
            }
        }
    }

    /// An order is closed on idle that was shown: the stop that it had has done its work.
    pub(super) fn drop_stop_of(&mut self, index: usize) {
        let waits = self.stop_slot().is_some_and(|stop| stop.phase == StopPhase::Waiting);
        if self.stopped_index() == Some(index) && !waits {
            self.drop_stop();
        }
    }

    pub(super) fn drop_stop(&mut self) {
        if let Some(stop) = self.stop_slot() {
            let ignored = stop.in_vain >= self.terms.stops_ignored;
            self.stop_outcome(Outcome::Done);
            self.memory().stop = None;
            if ignored {
                self.effects.push(Effect::StopObeyed);
            }
        }
    }

    /// Device and socket are back: what is owed goes out again.
    pub(super) fn stop_on_return(&mut self) {
        let Some(stop) = self.stop_slot() else { return };
        match stop.phase {
            StopPhase::Owed => self.try_again(),
            StopPhase::Waiting => self.transmit_stop(),
            StopPhase::Accepted => {}
        }
    }

    /// After a restart a stop that waited for its answer is owed.
    pub(super) fn stop_restarted(&mut self) {
        if self.stop_slot().is_some_and(|stop| stop.phase == StopPhase::Waiting) {
            self.hold_lingers();
            if let Some(stop) = self.memory().stop.as_mut() {
                stop.phase = StopPhase::Owed;
            }
            self.mark_stopped();
            self.stop_outcome(Outcome::StopOwed(Refusal::NoAnswer));
        }
    }
}
