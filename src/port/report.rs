//! Whose end report? (contract §5)

use std::time::Duration;

use crate::clock::UpTime;
use crate::ids::BusinessNo;
use crate::mutants::{self, Mutant};
use crate::order::{EndReason, Flag, Order, OrderStatus, ReportedFigures, Settlement};
use crate::port::effect::unknown_end;
use crate::port::figures;
use crate::port::state::{KeptReport, Report, StopCause, StopPhase};
use crate::port::{Desk, KEPT_REPORTS, OrderEvent, PortStatus, ReportFate};

impl Desk<'_> {
    /// An end report of this port. The caller has brought every order into the case that had its number.
    pub fn report(&mut self, report: &Report) -> ReportFate {
        let fate = self.whose(report);
        if fate == ReportFate::Nobody {
            self.effects.push(unknown_end(report));
        }
        self.finish();
        fate
    }

    pub(super) fn whose(&mut self, report: &Report) -> ReportFate {
        let Some(number) = report.number else { return self.of_no_number(report) };
        let fitting: Vec<usize> = (0..self.case.orders.len())
            .filter(|&index| self.peek(index).has_number(number) && self.may_be_reported(index))
            .collect();
        if let Some(&booked) = fitting.iter().find(|&&index| is_booked(self.peek(index), report)) {
            return self.repeated(booked, number, report);
        }
        if let Some(kept) = self.kept_under(number) {
            // What waits for its fate is acknowledged again and changes nothing.
            return if kept == *report { ReportFate::Kept } else { self.keep(report) };
        }
        match fitting.as_slice() {
            [] => self.of_a_numberless(report),
            [only] => self.book(*only, report),
            several => self.of_several(several.to_vec(), report),
        }
    }

    /// Open, or closed less than 7 days ago.
    fn may_be_reported(&self, index: usize) -> bool {
        let week = Duration::from_millis(crate::limits::REPORT_MATCHES_FOR_MS);
        self.peek(index).course.closed.is_none_or(|closed| self.now.up < closed.after(week))
    }

    /// Without a number only the newest order, or what is kept already, can be meant by a repetition.
    fn of_no_number(&mut self, report: &Report) -> ReportFate {
        if let Some(newest) = self.newest_index().filter(|&newest| is_booked(self.peek(newest), report)) {
            return ReportFate::Duplicate(self.peek(newest).order_no.clone());
        }
        if self.case.memory().is_some_and(|memory| memory.kept.iter().any(|kept| kept.report == *report)) {
            return ReportFate::Kept;
        }
        self.of_a_numberless(report)
    }

    /// The same as one that is booked: a duplicate, unless its number is open again; then the open order's grace decides.
    fn repeated(&mut self, booked: usize, number: BusinessNo, report: &Report) -> ReportFate {
        if mutants::off(Mutant::Duplicates) {
            self.correct(booked, report);
        }
        let reused = self.running_index().filter(|&open| open != booked && self.peek(open).has_number(number));
        if reused.is_some() && self.kept_under(number).is_none() {
            self.keep(report);
        }
        ReportFate::Duplicate(self.peek(booked).order_no.clone())
    }

    fn kept_under(&self, number: BusinessNo) -> Option<Report> {
        let kept = self.case.memory()?.kept.iter().find(|kept| kept.report.number == Some(number));
        kept.map(|kept| kept.report.clone())
    }

    fn keep(&mut self, report: &Report) -> ReportFate {
        let (wall, at) = self.at();
        let memory = self.memory();
        if memory.kept.len() >= KEPT_REPORTS {
            return ReportFate::Nobody;
        }
        memory.kept.push(KeptReport { report: report.clone(), at, wall, asked: false });
        ReportFate::Kept
    }

    fn of_a_numberless(&mut self, report: &Report) -> ReportFate {
        if self.pending_index().is_some() {
            return if mutants::off(Mutant::KeptReports) { ReportFate::Kept } else { self.keep(report) };
        }
        let (wall, at) = self.at();
        let kept = KeptReport { report: report.clone(), at, wall, asked: false };
        match self.running_index() {
            Some(index) if self.peek(index).business_no.is_none() && self.fits_numberless(index, &kept) => {
                self.give_number(index, report.number);
                self.book(index, report)
            }
            _ => ReportFate::Nobody,
        }
    }

    /// The number was reused and more than one fits: ask about the open one; then the one whose figures fit.
    fn of_several(&mut self, fitting: Vec<usize>, report: &Report) -> ReportFate {
        if fitting.iter().any(|&index| self.peek(index).status.is_running()) {
            return self.keep(report);
        }
        self.book_best(&fitting, report)
    }

    fn book_best(&mut self, fitting: &[usize], report: &Report) -> ReportFate {
        let chosen = match self.with_fitting_figures(fitting, report).as_slice() {
            [only] => Some(*only),
            _ => fitting.last().copied(),
        };
        let Some(index) = chosen else { return ReportFate::Nobody };
        let fate = self.book(index, report);
        if fate != ReportFate::Nobody {
            self.order(index).flags.insert(Flag::ReusedNumber);
        }
        fate
    }

    fn with_fitting_figures(&self, fitting: &[usize], report: &Report) -> Vec<usize> {
        let now = self.now.up;
        let fits = |&&index: &&usize| {
            let order = self.peek(index);
            !has_report(order)
                && figures::flags_of_report(order, report, order.course.closed.unwrap_or(now), self.terms).is_empty()
        };
        fitting.iter().filter(fits).copied().collect()
    }

    /// Kept reports under the open order's number, once a question has shown whether it still charges: `charging` is
    /// when that question was sent. Power can linger, so what charges is believed only when the grace is over, unless
    /// an earlier order's figures fit.
    pub(super) fn settle_reused(&mut self, open: usize, charging: Option<UpTime>) {
        self.settle_each_reused(open, charging);
        if !self.peek(open).status.is_open() {
            self.settle_kept_of_closed(open);
        }
    }

    fn settle_each_reused(&mut self, open: usize, charging: Option<UpTime>) {
        for mut kept in self.likeliest_first(open) {
            let repeated = self.is_repeated(&kept.report);
            let proven = charging.is_none_or(|asked| asked >= kept.at.after(self.terms.end_report_grace));
            let fitting = self.unbooked_under(kept.report.number, charging.is_some());
            let decided = proven || !self.with_fitting_figures(&fitting, &kept.report).is_empty();
            if repeated && charging.is_some() && proven {
                // An earlier order's report once more: the open one has not ended.
            } else if repeated || !decided {
                // The same as a booked one is the open order's only when its grace ends without another.
                kept.asked |= charging.is_some_and(|asked| asked >= kept.at);
                self.memory().kept.push(kept);
            } else if self.book_best(&fitting, &kept.report) == ReportFate::Nobody {
                self.effects.push(unknown_end(&kept.report));
            }
        }
    }

    /// What is kept under the open order's number: first what no question has spoken against, and whose figures fit it.
    fn likeliest_first(&mut self, open: usize) -> Vec<KeptReport> {
        let mut kept = self.take_kept_of(open);
        kept.sort_by_cached_key(|kept| {
            let fits = !self.with_fitting_figures(&[open], &kept.report).is_empty();
            (kept.asked, !fits)
        });
        kept
    }

    /// The open order's grace ends: what is kept under its number is decided now, and a repetition of an earlier
    /// order's report counts for it. Tells whether one did.
    pub(super) fn take_kept_at_grace_end(&mut self, open: usize) -> bool {
        self.settle_reused(open, None);
        if !self.peek(open).status.is_running() {
            return true;
        }
        let Some(first) = self.take_kept_of(open).into_iter().next() else { return false };
        self.close_by_report(open, &first.report);
        self.order(open).flags.insert(Flag::ReusedNumber);
        true
    }

    /// An order was closed while reports were kept under its number: nobody waits for a question any more.
    pub(super) fn settle_kept_of_closed(&mut self, closed: usize) {
        for KeptReport { report, .. } in self.take_kept_of(closed) {
            let fitting = self.unbooked_under(report.number, false);
            if !self.is_repeated(&report) && self.book_best(&fitting, &report) == ReportFate::Nobody {
                self.effects.push(unknown_end(&report));
            }
        }
    }

    fn is_repeated(&self, report: &Report) -> bool {
        self.case.orders.iter().any(|entry| is_booked(&entry.order, report))
    }

    pub(super) fn has_report(&self, index: usize) -> bool {
        has_report(self.peek(index))
    }

    fn take_kept_of(&mut self, open: usize) -> Vec<KeptReport> {
        let Some(kept) = self.case.memory().map(|memory| &memory.kept).filter(|kept| !kept.is_empty()) else {
            return Vec::new();
        };
        let order = self.peek(open);
        let own = |kept: &KeptReport| kept.report.number.is_some_and(|number| order.has_number(number));
        let (own, rest): (Vec<_>, Vec<_>) = kept.iter().cloned().partition(own);
        if !own.is_empty() {
            self.memory().kept = rest;
        }
        own
    }

    fn unbooked_under(&self, number: Option<BusinessNo>, charges: bool) -> Vec<usize> {
        let Some(number) = number else { return Vec::new() };
        (0..self.case.orders.len())
            .filter(|&index| self.peek(index).has_number(number) && !has_report(self.peek(index)))
            .filter(|&index| !(charges && self.peek(index).status.is_open()))
            .collect()
    }

    pub(super) fn book(&mut self, index: usize, report: &Report) -> ReportFate {
        let open = self.peek(index).status.is_open();
        if has_report(self.peek(index)) || (mutants::off(Mutant::LaterReport) && !open) {
            return ReportFate::Nobody;
        }
        if open {
            self.close_by_report(index, report);
        } else {
            self.correct(index, report);
        }
        ReportFate::Booked(self.peek(index).order_no.clone())
    }

    /// The device's own end of an open order.
    pub(super) fn close_by_report(&mut self, index: usize, report: &Report) {
        let (wall, up) = self.at();
        let stopped = self.stopped_by(index);
        self.take_figures_of(index, report);
        let terms = self.terms;
        let order = self.order(index);
        order.status = OrderStatus::Completed;
        order.end_time = Some(order.course.idle_wall.unwrap_or(wall));
        order.end_reason = Some(reason_of(order, report, stopped, terms));
        order.settlement = Some(Settlement::Reported);
        order.is_final = true;
        order.revise();
        order.course.closed = Some(up);
        self.after_report(index, report);
        self.tell(OrderEvent::Completed, index);
        self.settle_kept_of_closed(index);
    }

    /// A report after the close: its figures count, and its reason, unless the start had failed or was cancelled.
    fn correct(&mut self, index: usize, report: &Report) {
        let stopped = self.stopped_by(index);
        self.take_figures_of(index, report);
        let terms = self.terms;
        let order = self.order(index);
        order.settlement = Some(Settlement::Corrected);
        order.is_final = true;
        order.revise();
        if order.status == OrderStatus::Completed {
            order.end_reason = Some(reason_of(order, report, stopped, terms));
        }
        self.after_report(index, report);
        self.tell(OrderEvent::Corrected, index);
    }

    pub(super) fn stopped_by(&self, index: usize) -> Option<EndReason> {
        let order = self.peek(index);
        let stop = self.case.memory().and_then(|memory| memory.stop.as_ref());
        let own = stop.filter(|stop| stop.order_no.as_ref() == Some(&order.order_no));
        // A stop that still waits for its answer was not answered.
        let waiting = own.filter(|stop| stop.phase == StopPhase::Waiting).map(|stop| stop.cause);
        if order.course.stop_by_command || waiting == Some(StopCause::Command) {
            Some(EndReason::RemoteStop)
        } else if order.course.stop_by_agent || waiting.is_some() {
            Some(EndReason::Overrun)
        } else {
            None
        }
    }

    pub(super) fn take_figures_of(&mut self, index: usize, report: &Report) {
        let (now, terms) = (self.now.up, self.terms);
        let flags = figures::flags_of_report(self.peek(index), report, now, terms);
        let order = self.order(index);
        order.flags.extend(flags);
        order.energy_wh = Some(report.energy);
        order.minutes = Some(report.minutes);
        order.spent_cents = report.amount.or(order.spent_cents);
        order.electricity_cents = report.electricity.or(order.electricity_cents);
        order.service_cents = report.service.or(order.service_cents);
        order.settlement_power = report.settlement_power.or(order.settlement_power);
        order.tiers = report.tiers.clone().or_else(|| order.tiers.take());
        order.raw_status = Some(report.raw_status);
        order.raw_reason = report.raw_reason;
        order.device_end_time = report.device_end_time.clone();
        order.card_no = report.card_no.clone().or_else(|| order.card_no.take());
        order.course.reported = Some(ReportedFigures {
            number: report.number,
            energy_wh: report.energy,
            minutes: report.minutes,
            amount: report.amount,
        });
        figures::bound_by_figures(order);
    }

    /// What a booked report means for the port and the stop.
    fn after_report(&mut self, index: usize, report: &Report) {
        let order_no = self.peek(index).order_no.clone();
        let own_stop = self
            .case
            .memory()
            .and_then(|memory| memory.stop.as_ref())
            .is_some_and(|stop| stop.order_no.as_ref() == Some(&order_no));
        if own_stop {
            self.drop_stop();
        }
        // A port that shows no number shows no other's: what charged there was this order.
        let shows_it = self.case.port.business_no.is_none_or(|shown| report.number == Some(shown));
        if shows_it && self.case.port.status == PortStatus::Charging && self.open_index().is_none() {
            self.show(PortStatus::Idle);
        }
    }
}

fn has_report(order: &Order) -> bool {
    matches!(order.settlement, Some(Settlement::Reported | Settlement::Corrected))
}

fn is_booked(order: &Order, report: &Report) -> bool {
    let figures = ReportedFigures {
        number: report.number,
        energy_wh: report.energy,
        minutes: report.minutes,
        amount: report.amount,
    };
    order.course.reported == Some(figures)
}

/// The first that fits (contract §4 `end_reason`).
pub(super) fn reason_of(
    order: &Order,
    report: &Report,
    stopped: Option<EndReason>,
    terms: &super::Terms<'_>,
) -> EndReason {
    let status = crate::bkv::StatusByte(report.raw_status);
    let from_status = [
        (status.metering_fault(), EndReason::MeteringFault),
        (status.over_temperature(), EndReason::OverTemperature),
        (status.over_current(), EndReason::OverCurrent),
        (status.over_power(), EndReason::OverPower),
    ];
    let fault = from_status.into_iter().find(|(set, _)| *set).map(|(_, reason)| reason);
    fault
        .or(stopped)
        .or(status.no_load().then_some(EndReason::NoLoad))
        .or_else(|| plan_reached(order, report))
        .or_else(|| report.raw_reason.and_then(terms.reason))
        .unwrap_or(EndReason::Unknown)
}

fn plan_reached(order: &Order, report: &Report) -> Option<EndReason> {
    let plan = order.plan.as_ref()?;
    let minutes = plan.ordered_minutes().is_some_and(|ordered| report.minutes.0 + 1 >= ordered.0);
    let energy = plan.ordered_energy().is_some_and(|ordered| report.energy >= ordered);
    let amount = plan.amount().zip(report.amount).is_some_and(|(ordered, spent)| spent >= ordered);
    [(minutes, EndReason::TimeReached), (energy, EndReason::EnergyReached), (amount, EndReason::AmountReached)]
        .into_iter()
        .find(|(reached, _)| *reached)
        .map(|(_, reason)| reason)
}
