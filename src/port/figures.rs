//! Energy, minutes and money: what is plausible, and the most that may be charged for (contract §4 *What was spent*).

use std::time::Duration;

use crate::clock::UpTime;
use crate::ids::{Minutes, WattHours};
use crate::mutants::{self, Mutant};
use crate::order::{Flag, Order};
use crate::port::Terms;
use crate::port::state::{Figures, Report};

/// Energy that is plausible at any time beside the power ceiling: residues and rounding, Wh.
const ENERGY_SLACK_WH: u64 = 50;
/// Minutes that are plausible at any time beside the clock's.
const MINUTES_SLACK: u64 = 2;
/// How far a report's energy may be from the mean power of the statuses, either way (protocol §6).
const MEAN_POWER_FACTOR: f64 = 3.0;
/// Below it there is no judgement, Wh.
const MEAN_POWER_FLOOR_WH: f64 = 50.0;
/// Statuses with load that a judgement needs.
const MEAN_POWER_SAMPLES: u32 = 2;

/// Which of two figures can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plausible {
    pub(super) energy: bool,
    pub(super) minutes: bool,
}

/// Figures against the last good ones, `elapsed` earlier. When nobody knows how much earlier, only what fell is wrong.
fn judge(from: (WattHours, Minutes), to: (WattHours, Minutes), elapsed: Option<Duration>, ceiling_w: u32) -> Plausible {
    let Some(elapsed) = elapsed else {
        return Plausible { energy: to.0 >= from.0, minutes: to.1 >= from.1 };
    };
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let energy_rise = u64::from(ceiling_w).saturating_mul(2).saturating_mul(millis) / 3_600_000 + ENERGY_SLACK_WH;
    let minutes_rise = millis / 60_000 + MINUTES_SLACK;
    Plausible {
        energy: to.0 >= from.0 && u64::from(to.0.0 - from.0.0) <= energy_rise,
        minutes: to.1 >= from.1 && u64::from(to.1.0 - from.1.0) <= minutes_rise,
    }
}

/// When the session can have begun at the earliest: the first sending, or when an adopted one was first seen.
pub(super) fn session_start(order: &Order) -> UpTime {
    order.course.start.map_or(order.created_up, |start| start.first_sent)
}

/// Takes the plausible ones of a status' figures over; tells which were left out.
pub(super) fn take_status(order: &mut Order, figures: &Figures, now: UpTime, terms: &Terms<'_>) -> Plausible {
    let adopted_first = order.course.start.is_none() && order.figures_up.is_none();
    let good = (order.energy_wh.unwrap_or_default(), order.minutes.unwrap_or_default());
    let elapsed = terms.elapsed_for_sure(order.figures_up.unwrap_or_else(|| session_start(order)), now);
    let plausible = if adopted_first {
        // Nothing to hold the first figures of a session against that ran before we came.
        Plausible { energy: true, minutes: true }
    } else {
        judge(good, (figures.energy, figures.minutes), elapsed, terms.power_ceiling_w)
    };
    if plausible.energy {
        order.energy_wh = Some(figures.energy);
    }
    if plausible.minutes {
        order.minutes = Some(figures.minutes);
    }
    if plausible.energy && plausible.minutes {
        order.figures_up = Some(now);
    }
    if figures.power.0 > 0 {
        order.loads = order.loads.saturating_add(1);
        order.load_power = order.load_power + figures.power;
        order.peak_power = order.peak_power.max(Some(figures.power));
    }
    plausible
}

/// What in a report's figures a person should look at. They are booked all the same.
pub(super) fn flags_of_report(order: &Order, report: &Report, now: UpTime, terms: &Terms<'_>) -> Vec<Flag> {
    let adopted = order.course.start.is_none();
    // An adopted session began before we saw it, less the minutes that it reported then.
    let before = if adopted { u64::from(order.minutes.unwrap_or_default().0) * 60 } else { 0 };
    let elapsed =
        terms.elapsed_for_sure(session_start(order), now).map(|elapsed| elapsed + Duration::from_secs(before));
    let plausible = judge((WattHours(0), Minutes(0)), (report.energy, report.minutes), elapsed, terms.power_ceiling_w);
    let mut flags = Vec::new();
    if !plausible.energy || far_from_mean_power(order, report) {
        flags.push(Flag::ImplausibleEnergy);
    }
    if !plausible.minutes {
        flags.push(Flag::ImplausibleMinutes);
    }
    flags
}

fn far_from_mean_power(order: &Order, report: &Report) -> bool {
    if order.loads < MEAN_POWER_SAMPLES {
        return false;
    }
    let mean_w = order.load_power.watts() / f64::from(order.loads);
    let expected = mean_w * f64::from(report.minutes.0) / 60.0;
    let reported = f64::from(report.energy.0);
    expected.max(reported) > MEAN_POWER_FLOOR_WH
        && (reported > expected * MEAN_POWER_FACTOR || reported * MEAN_POWER_FACTOR < expected)
}

/// Upper bounds of an order whose end the device showed at `end`. When nobody knows how long ago its last figures are,
/// they are those of the whole plan.
pub(super) fn bound_by_evidence(order: &mut Order, end: UpTime, terms: &Terms<'_>) {
    let open_since = order.figures_up.unwrap_or_else(|| session_start(order));
    let Some(unseen) = terms.elapsed_for_sure(open_since, end) else {
        bound_by_plan(order, terms);
        return;
    };
    let energy = order.energy_wh.unwrap_or_default();
    let minutes = order.minutes.unwrap_or_default();
    let energy_max = at_most(
        energy + at_ceiling(unseen, terms.power_ceiling_w),
        order.plan.as_ref().and_then(|plan| plan.ordered_energy()),
        energy,
    );
    let minutes_max =
        at_most(minutes + whole_minutes(unseen), order.plan.as_ref().and_then(|plan| plan.paid_minutes()), minutes);
    bound(order, energy_max, minutes_max);
}

/// Upper bounds of an order that may still be charging: the whole plan, or a figure that is above it.
pub(super) fn bound_by_plan(order: &mut Order, terms: &Terms<'_>) {
    let paid = order.paid_minutes(terms.longest);
    let ordered = order.plan.as_ref().and_then(|plan| plan.ordered_energy());
    let whole =
        ordered.unwrap_or_else(|| at_ceiling(Duration::from_secs(u64::from(paid.0) * 60), terms.power_ceiling_w));
    let energy_max = whole.max(order.energy_wh.unwrap_or_default());
    let minutes_max = paid.max(order.minutes.unwrap_or_default());
    bound(order, energy_max, minutes_max);
}

/// The most that may be charged for.
fn bound(order: &mut Order, energy: WattHours, minutes: Minutes) {
    let reached = (order.energy_wh.unwrap_or_default(), order.minutes.unwrap_or_default());
    let (energy, minutes) = if mutants::off(Mutant::Bounds) { reached } else { (energy, minutes) };
    order.energy_max_wh = Some(energy);
    order.minutes_max = Some(minutes);
}

/// Both bounds are the figures themselves: nothing is in doubt.
pub(super) fn bound_by_figures(order: &mut Order) {
    order.energy_max_wh = order.energy_wh;
    order.minutes_max = order.minutes;
}

/// Whether more energy flowed than was ordered, by more than 5 % and more than 50 Wh (contract §5).
pub(super) fn is_past_ordered_energy(order: &Order) -> bool {
    let Some(ordered) = order.plan.as_ref().and_then(|plan| plan.ordered_energy()) else { return false };
    let above = u64::from(order.energy_wh.unwrap_or_default().0).saturating_sub(u64::from(ordered.0));
    above > 50 && above * 20 > u64::from(ordered.0)
}

fn at_most<Q: Ord + Copy>(bound: Q, planned: Option<Q>, reached: Q) -> Q {
    planned.map_or(bound, |planned| bound.min(planned.max(reached)))
}

fn at_ceiling(time: Duration, ceiling_w: u32) -> WattHours {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let energy = u64::from(ceiling_w).saturating_mul(millis).div_ceil(3_600_000);
    WattHours(u32::try_from(energy).unwrap_or(u32::MAX))
}

fn whole_minutes(time: Duration) -> Minutes {
    let minutes = time.as_millis().div_ceil(60_000);
    Minutes(u32::try_from(minutes).unwrap_or(u32::MAX))
}
