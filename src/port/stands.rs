//! What a commit that failed cannot take back: what was heard and sent since the one before has happened.

use crate::order::{EndReason, Order, OrderStatus, Settlement};
use crate::port::state::{Hold, Stop, StopPhase};
use crate::port::{Case, Desk, Dirty, Effect, Entry, PortStatus, Reach};

impl Desk<'_> {
    /// The port and its orders are as they were committed; `was` is what they had become since. What the cloud is not
    /// told of stays so. The outcome of a start and what a stop did stay as well, and are told anew. The rest is
    /// decided once more, by what the device repeats or shows when it is asked. `unsent`: a start of this port was
    /// among it, which did not go out.
    pub fn stands(&mut self, was: &Case, unsent: bool) {
        self.stop_stands(was);
        for index in 0..self.case.orders.len() {
            let serial = self.peek(index).serial;
            if let Some(entry) = was.orders.iter().find(|entry| entry.order.serial == serial) {
                self.order_stands(index, entry, unsent);
            }
        }
        self.hold_stands(was, unsent);
        if unsent {
            self.send_stop_behind_start();
        }
        match self.reach {
            Reach::Away(_) => self.show(PortStatus::Offline),
            Reach::Online if self.case.port.status == PortStatus::Offline => self.show(PortStatus::Unclear),
            Reach::Online => {}
        }
        self.finish();
    }

    fn order_stands(&mut self, index: usize, was: &Entry, unsent: bool) {
        let kept = self.peek(index);
        let pending = kept.status == OrderStatus::Pending;
        if nothing_was_told(kept, &was.order) {
            // A sending that did not go out is no try.
            if !(pending && unsent) {
                self.case.orders[index] = was.clone();
            }
            return;
        }
        if pending {
            self.outcome_stands(index, &was.order);
        }
        self.evidence_stands(index, &was.order);
        self.figures_stand(index, &was.order);
    }

    /// A start is answered, given up or cancelled once: no device repeats that.
    fn outcome_stands(&mut self, index: usize, was: &Order) {
        match was.end_reason.filter(|_| !was.was_accepted()) {
            Some(reason) => {
                self.fail_start(index, reason);
                if reason != EndReason::StartRefused {
                    self.hold_lingers();
                }
                let order = self.order(index);
                order.end_time = was.end_time;
                order.course.closed = was.course.closed;
                order.business_no = was.business_no;
                order.course.numbers.clone_from(&was.course.numbers);
            }
            None if was.was_accepted() => self.acceptance_stands(index, was),
            None => {}
        }
    }

    fn acceptance_stands(&mut self, index: usize, was: &Order) {
        self.accept(index, was.business_no);
        if !self.peek(index).status.is_running() {
            return;
        }
        let order = self.order(index);
        if was.status.is_running() {
            *order = was.clone();
            return;
        }
        order.start_time = was.start_time;
        if let Some((start, before)) = order.course.start.as_mut().zip(was.course.start) {
            start.accepted = before.accepted;
        }
    }

    /// That it is to be stopped, and what spoke for its end.
    fn evidence_stands(&mut self, index: usize, was: &Order) {
        let mut order = self.peek(index).clone();
        order.stopped_by.clone_from(&was.stopped_by);
        let (course, before) = (&mut order.course, &was.course);
        course.stop_by_command = before.stop_by_command;
        course.stop_by_agent = before.stop_by_agent;
        course.stop_by_overrun = before.stop_by_overrun;
        course.stop_accepted = before.stop_accepted;
        if order.status.is_running() {
            course.idle_since = before.idle_since;
            course.idle_wall = before.idle_wall;
            course.grace_asked = before.grace_asked;
            if was.course.stop_accepted.is_some() {
                order.status = OrderStatus::Stopping;
            }
        }
        if *self.peek(index) != order {
            *self.order(index) = order;
        }
    }

    /// Those of statuses are answered and not told again; those of a report come with its repetition.
    fn figures_stand(&mut self, index: usize, was: &Order) {
        let entry = &mut self.case.orders[index];
        if entry.order.status.is_running() && was.course.reported.is_none() {
            entry.order.take_figures_of(was);
            entry.dirty = entry.dirty.max(Dirty::Figures);
        }
    }

    /// What went out is answered or not. A hold whose release settled an order lingers until that is proven anew.
    fn hold_stands(&mut self, was: &Case, unsent: bool) {
        if unsent {
            return;
        }
        let mut hold = was.memory().and_then(|memory| memory.hold);
        if self.is_settled_by_hold(was) {
            let unproven = hold.or(self.hold()).unwrap_or(Hold::new(self.now.up));
            hold = Some(Hold { lingers: true, ..unproven });
        }
        if self.hold() != hold {
            self.memory().hold = hold;
        }
    }

    fn is_settled_by_hold(&self, was: &Case) -> bool {
        self.case.orders.iter().any(|Entry { order, .. }| {
            let by_hold = matches!(order.end_reason, Some(EndReason::Cancelled | EndReason::StartTimeout));
            let provisional = order.settlement == Some(Settlement::Provisional);
            by_hold && provisional && was.order(&order.order_no).is_some_and(|was| was.settlement != order.settlement)
        })
    }

    /// A stop waits for no commit.
    fn stop_stands(&mut self, was: &Case) {
        let stop = self.stop_that_stands(was);
        if self.stop_slot() != stop.as_ref() {
            self.memory().stop = stop;
        }
    }

    /// A start that did not go out is not waited for.
    fn send_stop_behind_start(&mut self) {
        let Some(mut stop) = self.stop_slot().filter(|stop| stop.phase == StopPhase::Waiting).cloned() else { return };
        stop.sent = Some(self.now.up);
        let (order_no, message_id) = (stop.order_no.clone(), stop.message_id);
        self.memory().stop = Some(stop);
        self.hold_for_sending();
        self.effects.push(Effect::SendStop { order_no, message_id });
    }

    /// None of an order that was never committed: its start did not go out. An order may have had another number.
    fn stop_that_stands(&self, was: &Case) -> Option<Stop> {
        let stop = was.memory().and_then(|memory| memory.stop.clone())?;
        let Some(order_no) = &stop.order_no else { return Some(stop) };
        let serial = was.order(order_no).map(|order| order.serial);
        let same = |order: &&Order| order.order_no == *order_no || Some(order.serial) == serial;
        let order = self.case.orders.iter().map(|entry| &entry.order).find(same)?;
        Some(Stop { order_no: Some(order.order_no.clone()), ..stop })
    }
}

fn nothing_was_told(kept: &Order, was: &Order) -> bool {
    let same_state = kept.status == was.status || kept.status.is_running() && was.status.is_running();
    same_state
        && (&kept.order_no, &kept.plan, kept.revision, kept.settlement, kept.is_final)
            == (&was.order_no, &was.plan, was.revision, was.settlement, was.is_final)
}
