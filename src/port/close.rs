//! Closing without a report, and later truth (contract §5 *No order stays stuck*, *Later truth*).

use std::time::Duration;

use crate::clock::UpTime;
use crate::mutants::{self, Mutant};
use crate::order::{EndReason, Order, OrderStatus, Settlement};
use crate::port::figures;
use crate::port::state::StopCause;
use crate::port::{Desk, OrderEvent, PortStatus, Reach, Reading};

impl Desk<'_> {
    /// Closes the open order at `index`. Evidence of the end, where there was any, gives the end time.
    pub(super) fn close(&mut self, index: usize, reason: EndReason, settlement: Settlement) {
        let (wall, up) = self.at();
        let terms = self.terms;
        let order = self.order(index);
        let evidence = order.course.idle_since;
        order.status = OrderStatus::Completed;
        order.end_time = Some(order.course.idle_wall.unwrap_or(wall));
        order.end_reason = Some(reason);
        order.settlement = Some(settlement);
        order.revise();
        order.course.closed = Some(up);
        order.course.end_shown = false;
        if settlement == Settlement::Estimated {
            figures::bound_by_evidence(order, evidence.unwrap_or(up), terms);
        } else {
            figures::bound_by_plan(order, terms);
        }
        // Never idle what may still be charging.
        let status = match (self.reach, self.case.port.status) {
            (Reach::Away(_), _) | (_, PortStatus::Offline) => PortStatus::Offline,
            (_, PortStatus::Idle) => PortStatus::Idle,
            (_, PortStatus::Charging | PortStatus::Unclear) => PortStatus::Unclear,
        };
        self.show(status);
        self.tell(OrderEvent::Closed, index);
        self.settle_kept_of_closed(index);
        if evidence.is_some() {
            self.drop_stop_of(index);
        } else if reason == EndReason::Overrun {
            self.owe_after_close(index);
        }
    }

    fn owe_after_close(&mut self, index: usize) {
        if self.case.memory().is_none_or(|memory| memory.stop.is_none()) {
            let number = self.peek(index).business_no;
            self.send_stop(Some(index), number, StopCause::Closed, None);
        }
    }

    /// The grace after idle, once the socket was asked in it, or after an accepted stop, if one runs: when it ends.
    pub(super) fn grace_ends(&self, index: usize) -> Option<UpTime> {
        let course = &self.peek(index).course;
        let idle = course.idle_since.filter(|_| course.grace_asked);
        let since = [idle, course.stop_accepted].into_iter().flatten().min()?;
        Some(since.after(self.terms.end_report_grace))
    }

    /// Closes the running order when its grace is over.
    pub(super) fn close_when_grace_is_over(&mut self, index: usize) {
        let runs = self.grace_ends(index).is_none_or(|ends| self.now.up < ends);
        let shown_idle = self.peek(index).course.idle_since.is_some();
        let at_once = mutants::off(Mutant::EndReportGrace) && shown_idle;
        if runs && !at_once {
            return;
        }
        if shown_idle && self.take_kept_at_grace_end(index) {
            return;
        }
        let course = &self.peek(index).course;
        let reason = match course.stop_accepted {
            Some(_) if course.stop_by_overrun => EndReason::Overrun,
            Some(_) => EndReason::RemoteStop,
            None => EndReason::EndReportMissing,
        };
        let settlement = if shown_idle { Settlement::Estimated } else { Settlement::Provisional };
        self.close(index, reason, settlement);
    }

    /// A provisional close becomes an estimate: the device has shown that it ended at `end`.
    pub(super) fn estimate(&mut self, index: usize, end: UpTime) {
        let terms = self.terms;
        let order = self.order(index);
        order.settlement = Some(Settlement::Estimated);
        order.revise();
        order.course.waits_since = None;
        figures::bound_by_evidence(order, end, terms);
        self.tell(OrderEvent::Corrected, index);
    }

    /// Whether this closed order opens again when its session is shown charging.
    pub(super) fn resumes(&self, index: usize) -> bool {
        let order = self.peek(index);
        let newest = self.newest_index() == Some(index);
        let by_guess =
            matches!(order.end_reason, Some(EndReason::Timeout | EndReason::Offline | EndReason::EndReportMissing));
        let guessed = matches!(order.settlement, Some(Settlement::Provisional | Settlement::Estimated));
        let stopped = order.stopped_by.is_some() || order.course.stop_accepted.is_some();
        let ended = order.course.end_shown || stopped || order.is_final || mutants::off(Mutant::Resume);
        newest && by_guess && guessed && !ended && self.is_paid(index)
    }

    /// Within its paid time.
    pub(super) fn is_paid(&self, index: usize) -> bool {
        let paid = u64::from(self.peek(index).paid_minutes(self.terms.longest).0) * 60;
        self.ran_for(index) <= Duration::from_secs(paid)
    }

    /// How long the session has run, down times included.
    pub(super) fn ran_for(&self, index: usize) -> Duration {
        let order = self.peek(index);
        match order.course.start {
            Some(start) => self.terms.elapsed(start.accepted.unwrap_or(start.first_sent), self.now.up),
            None => {
                let before = order.start_time.map_or(0, |start| order.created_at.0 - start.0);
                let before = Duration::from_millis(u64::try_from(before).unwrap_or(0));
                self.terms.elapsed(order.created_up, self.now.up) + before
            }
        }
    }

    /// Opens a closed order again: all that the close wrote is null.
    pub(super) fn resume(&mut self, index: usize) {
        if !self.terms.resumes {
            self.order(index).stopped_by.get_or_insert_with(|| "agent".to_owned());
            self.stop_closed(index);
            return;
        }
        let order = self.order(index);
        if order.end_reason == Some(EndReason::Timeout) {
            order.course.resumed_after_timeout = order.course.resumed_after_timeout.saturating_add(1);
        }
        reopen(order);
        self.show(PortStatus::Charging);
        self.tell(OrderEvent::Resumed, index);
    }

    /// What charges belongs to a closed order.
    pub(super) fn charges_after_close(&mut self, index: usize, reading: &Reading) {
        self.end_grace(index);
        if self.resumes(index) {
            self.resume(index);
            if self.peek(index).status.is_running() {
                self.news(index, reading);
            }
        } else if self.has_stop_for(index) {
            self.chase_stop(reading.number);
        } else if !self.has_report(index) || self.lingers_after_grace(reading) {
            self.stop_closed(index);
        }
    }

    fn has_stop_for(&self, index: usize) -> bool {
        let order_no = &self.peek(index).order_no;
        let stop = self.case.memory().and_then(|memory| memory.stop.as_ref());
        stop.is_some_and(|stop| stop.order_no.as_ref() == Some(order_no))
    }

    fn stop_closed(&mut self, index: usize) {
        if !self.may_stop_order(index) {
            return;
        }
        let number = self.peek(index).business_no;
        self.send_stop(Some(index), number, StopCause::Closed, None);
    }

    /// Power can linger after a report: first sight of what charges then starts a grace; its end, asked, proves it.
    fn lingers_after_grace(&mut self, reading: &Reading) -> bool {
        let now = self.now.up;
        let known = self.case.memory().and_then(|memory| memory.stray).filter(|stray| stray.number == reading.number);
        let Some(stray) = known else {
            let stray = super::state::Stray { number: reading.number, since: now, told: false };
            self.memory().stray = Some(stray);
            return false;
        };
        let due = stray.since.after(self.terms.end_report_grace);
        let proven = reading.answers.is_some_and(|question| question.sent >= due);
        if proven {
            // Nothing more to ask: the stop is repeated until the port is idle.
            self.memory().stray = Some(super::state::Stray { told: true, ..stray });
        }
        proven
    }
}

fn reopen(order: &mut Order) {
    order.status = OrderStatus::Charging;
    order.end_time = None;
    order.end_reason = None;
    order.settlement = None;
    order.is_final = false;
    order.revise();
    order.verdict = None;
    order.energy_max_wh = None;
    order.minutes_max = None;
    order.course.closed = None;
    order.course.end_shown = false;
    order.course.waits_since = None;
    order.course.idle_since = None;
    order.course.idle_wall = None;
    order.course.grace_asked = false;
}
