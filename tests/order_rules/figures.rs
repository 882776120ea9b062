//! Contract §4 *What was spent*.

use super::*;

/// Figures after so many minutes: Wh, minutes.
type Seen = (u64, u32, u32);

/// A running order under number 26 of this plan, begun now.
fn begun(plan: Plan) -> Scene {
    let mut scene = Scene::idle();
    let message_id = scene.start(plan);
    scene.answer(message_id, true, 26);
    scene
}

fn tiers() -> Plan {
    let tier = |power_w, price_cents| PowerTier { power_w, price_cents, minutes: 60 };
    Plan::Tiers { amount_cents: 100, tiers: vec![tier(200.0, 25), tier(400.0, 50)] }
}

#[test]
fn the_bounds_of_an_estimate_are_the_last_figures_and_the_ceiling_times_the_unseen_time_rounded_up() {
    type Row = (Plan, Option<Seen>, u64, (u32, u32));
    // The plan, the last figures, the seconds from there to idle, and the bounds.
    let rows: [Row; 10] = [
        (Plan::Time { minutes: 900 }, None, 600, (167, 10)),
        (Plan::Time { minutes: 900 }, None, 601, (167, 11)),
        (Plan::Time { minutes: 900 }, None, 0, (0, 0)),
        (Plan::Time { minutes: 900 }, Some((10, 100, 10)), 360, (200, 16)),
        (Plan::Time { minutes: 900 }, Some((10, 100, 10)), 1, (101, 11)),
        (Plan::Time { minutes: 12 }, Some((10, 100, 10)), 360, (200, 12)),
        (Plan::Time { minutes: 9 }, Some((10, 100, 10)), 360, (200, 10)),
        (Plan::Energy { energy_wh: 150 }, Some((10, 100, 10)), 360, (150, 16)),
        (Plan::Energy { energy_wh: 60 }, Some((10, 100, 10)), 360, (100, 16)),
        (tiers(), Some((235, 100, 235)), 600, (267, 240)),
    ];
    for (plan, seen, unseen, bounds) in rows {
        let mut scene = begun(plan.clone());
        if let Some((after, energy, minutes)) = seen {
            scene.pass(after * MINUTE);
            scene.shows(0xb0, 26, energy, minutes, To::Nothing);
        }
        scene.pass(unseen * 1000);
        scene.shows(0x80, 0, 0, 0, To::Nothing);
        scene.run(2 * MINUTE);
        assert_eq!((scene.ended().2, scene.bounds()), (Some(Settlement::Estimated), bounds), "{plan:?} {seen:?}");
    }
}

#[test]
fn while_provisional_the_bounds_are_the_whole_plan_or_a_figure_above_it() {
    type Row = (Plan, (u32, u32), (u32, u32));
    let rows: [Row; 6] = [
        (Plan::Time { minutes: 90 }, (10, 1), (1500, 90)),
        (Plan::Time { minutes: 1 }, (60, 3), (60, 3)),
        (Plan::Energy { energy_wh: 500 }, (10, 1), (500, 900)),
        (Plan::Energy { energy_wh: 30 }, (60, 1), (60, 900)),
        (tiers(), (10, 1), (4000, 240)),
        (Plan::Time { minutes: 7 }, (0, 0), (117, 7)),
    ];
    for (plan, (energy, minutes), bounds) in rows {
        let mut scene = begun(plan.clone());
        scene.pass(MINUTE);
        scene.shows(0xb0, 26, energy, minutes, To::Nothing);
        scene.leaves();
        scene.run(5 * MINUTE);
        assert_eq!((scene.ended().2, scene.bounds()), (Some(Settlement::Provisional), bounds), "{plan:?}");
    }
}

#[test]
fn the_unseen_time_counts_down_time_too() {
    let mut scene = begun(Plan::Time { minutes: 900 });
    scene.pass(MINUTE);
    scene.downtime.0.push((UpTime(scene.up), Some(Duration::from_secs(3600))));
    scene.restarts();
    scene.returns();
    scene.pass(MINUTE);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(2 * MINUTE);
    assert_eq!(scene.bounds(), (1034, 62));
}

#[test]
fn when_nobody_knows_how_long_the_agent_was_down_the_bounds_are_the_whole_plan_and_no_rise_is_implausible() {
    let mut scene = begun(Plan::Time { minutes: 900 });
    scene.pass(MINUTE);
    scene.restarts();
    scene.downtime.0.push((UpTime(scene.up), None));
    scene.pass(1);
    scene.returns();
    scene.shows(0xb0, 26, 700, 600, To::Nothing);
    assert_eq!((scene.order().energy_wh, scene.order().minutes), (Some(WattHours(700)), Some(Minutes(600))));
    scene.pass(MINUTE);
    scene.restarts();
    scene.downtime.0.push((UpTime(scene.up), None));
    scene.pass(1);
    scene.returns();
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(2 * MINUTE);
    assert_eq!(scene.bounds(), (15_000, 900));
}

#[test]
fn a_start_that_was_given_up_is_bounded_by_the_time_until_idle_was_proven() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.run(45_000);
    scene.run_unasked(135_000);
    assert_eq!(scene.bounds(), (1000, 60));
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!((scene.ended().2, scene.bounds()), (Some(Settlement::Estimated), (50, 3)));
}

#[test]
fn plausible_is_what_twice_the_ceiling_and_the_clock_allow() {
    let rows = [
        (360, 250, 8, true, true),
        (360, 251, 8, false, true),
        (360, 250, 9, true, false),
        (0, 50, 2, true, true),
        (0, 51, 3, false, false),
        (59, 82, 2, true, true),
        (59, 83, 3, false, false),
    ];
    for (seconds, energy, minutes, energy_good, minutes_good) in rows {
        let mut scene = begun(Plan::Time { minutes: 900 });
        scene.pass(seconds * 1000);
        scene.shows(0xb0, 26, energy, minutes, To::Nothing);
        let order = scene.order();
        assert_eq!(order.energy_wh, energy_good.then_some(WattHours(energy)), "{energy} Wh in {seconds} s");
        assert_eq!(order.minutes, minutes_good.then_some(Minutes(minutes)), "{minutes} min in {seconds} s");
    }
}

#[test]
fn figures_that_fell_are_left_out_and_the_highest_stay() {
    let mut scene = begun(Plan::Time { minutes: 900 });
    scene.pass(10 * MINUTE);
    scene.shows(0xb0, 26, 100, 10, To::Nothing);
    scene.pass(MINUTE);
    scene.shows(0xb0, 26, 99, 9, To::Nothing);
    assert_eq!((scene.order().energy_wh, scene.order().minutes), (Some(WattHours(100)), Some(Minutes(10))));
    assert_eq!(scene.order().flags.len(), 0, "a status flags nothing");
}

#[test]
fn with_a_report_both_bounds_equal_its_figures_and_money_is_the_devices() {
    let mut scene = begun(Plan::Time { minutes: 60 });
    scene.pass(30 * MINUTE);
    scene.shows(0xb0, 26, 200, 30, To::Nothing);
    let report = Report {
        amount: Some(Cents(90)),
        electricity: Some(Cents(60)),
        service: Some(Cents(30)),
        settlement_power: Some(DeciWatts(1500)),
        ..report(0xb0, 26, 150, 30)
    };
    scene.report_of(&report);
    let order = scene.order();
    assert_eq!((order.energy_wh, order.energy_max_wh), (Some(WattHours(150)), Some(WattHours(150))));
    assert_eq!((order.minutes, order.minutes_max), (Some(Minutes(30)), Some(Minutes(30))));
    let money = (order.spent_cents, order.electricity_cents, order.service_cents);
    assert_eq!(money, (Some(Cents(90)), Some(Cents(60)), Some(Cents(30))));
}
