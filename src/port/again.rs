//! End reports that are read once more, with a decoder that reads more of them or a configuration that reads them
//! otherwise: whose they were when they came, and what is booked for them now.
//!
//! The time of the desk is that at which the report came, and its case holds no order that began later.

use crate::ids::OrderNo;
use crate::order::{EndReason, Flag, Order, OrderStatus, Settlement};
use crate::port::report::reason_of;
use crate::port::state::{KeptReport, Report};
use crate::port::{Desk, Dirty, OrderEvent, ReportFate, figures};

impl Desk<'_> {
    /// A report that could not be read, or was nobody's, when it came. Booked for an order that is closed meanwhile
    /// it is a correction; what an open order waits for is not decided here.
    pub fn report_misread(&mut self, report: &Report) -> ReportFate {
        let (open, before) = (self.open_index(), self.case.orders.clone());
        let fate = match self.whose(report) {
            ReportFate::Nobody => self.of_one_closed_without_number(report),
            fate => fate,
        };
        self.finish();
        if open.is_some_and(|index| self.case.orders[index] != before[index]) {
            self.case.orders = before;
            return ReportFate::Nobody;
        }
        fate
    }

    /// It was open then, accepted, and never got a number: it takes a report whose number was not seen there before.
    fn of_one_closed_without_number(&mut self, report: &Report) -> ReportFate {
        let (wall, now) = self.at();
        let seen =
            report.number.is_some_and(|number| self.case.orders.iter().any(|entry| entry.order.has_number(number)));
        let Some(index) = self.newest_index().filter(|_| !seen) else { return ReportFate::Nobody };
        let order = self.peek(index);
        let was_open = order.was_accepted() && order.course.closed.is_some_and(|closed| closed >= now);
        let came = KeptReport { report: report.clone(), at: now, wall, asked: false };
        if !was_open || order.business_no.is_some() || !self.fits_numberless(index, &came) {
            return ReportFate::Nobody;
        }
        self.give_number(index, report.number);
        self.book(index, report)
    }

    /// A report that was booked for this order. Tells whether it says something else now; then that is a correction.
    pub fn report_reread(&mut self, order_no: &OrderNo, report: &Report) -> bool {
        let Some(index) = self.index_of(order_no).filter(|&index| self.has_report(index)) else { return false };
        let (before, stopped) = (self.case.orders[index].clone(), self.stopped_then(index));
        self.take_figures_of(index, report);
        let terms = self.terms;
        let order = self.order(index);
        if order.status == OrderStatus::Completed {
            order.end_reason = Some(reason_of(order, report, stopped, terms));
        }
        if says_the_same(&before.order, order) {
            self.case.orders[index] = before;
            return false;
        }
        let flags = figures::flags_of_report(&before.order, report, self.now.up, terms);
        let order = self.order(index);
        for flag in [Flag::ImplausibleEnergy, Flag::ImplausibleMinutes] {
            // An adopted order's start is not known well enough to take a doubt back.
            if order.course.start.is_some() && !flags.contains(&flag) {
                order.flags.remove(&flag);
            }
        }
        order.settlement = Some(Settlement::Corrected);
        order.revision += 1;
        self.tell(OrderEvent::Corrected, index);
        self.finish();
        true
    }

    /// The record of an order as a reading of old frames has corrected it.
    pub fn take_correction(&mut self, corrected: Order) {
        let found = self.case.orders.iter().position(|entry| entry.order.serial == corrected.serial);
        let Some(index) = found else { return };
        let entry = &mut self.case.orders[index];
        (entry.order, entry.dirty) = (corrected, Dirty::Whole);
        self.tell(OrderEvent::Corrected, index);
        self.finish();
    }

    /// What stopped an order that has its report: of what was known then, the reason itself tells the rest.
    pub(super) fn stopped_then(&self, index: usize) -> Option<EndReason> {
        let order = self.peek(index);
        let by_reason = order.end_reason.filter(|_| order.stopped_by.is_some());
        by_reason
            .filter(|reason| matches!(reason, EndReason::RemoteStop | EndReason::Overrun))
            .or_else(|| self.stopped_by(index))
    }
}

/// The report that an order was settled by, as far as its record tells.
pub(super) fn as_booked(order: &Order) -> Option<Report> {
    Some(Report {
        number: order.course.reported?.number,
        raw_status: order.raw_status?,
        energy: order.energy_wh?,
        minutes: order.minutes?,
        amount: order.course.reported?.amount,
        electricity: order.electricity_cents,
        service: order.service_cents,
        settlement_power: order.settlement_power,
        tiers: order.tiers.clone(),
        device_end_time: order.device_end_time.clone(),
        raw_reason: order.raw_reason,
        card_no: order.card_no.clone(),
    })
}

/// All that a report says of an order; doubts about it aside.
fn says_the_same(before: &Order, after: &Order) -> bool {
    let aside = |order: &Order| Order { flags: Default::default(), course: Default::default(), ..order.clone() };
    aside(before) == aside(after)
}
