//! Contract §5 *Whose end report?*, §4 `end_reason`.

use super::*;

#[test]
fn the_first_reason_that_fits_is_the_end_reason() {
    let with = |raw: u8, minutes: u32, code: u8| Report { raw_reason: Some(code), ..report(raw, 26, 0, minutes) };
    let rows = [
        (with(0xf7, 60, 8), EndReason::MeteringFault),
        (with(0xb7, 60, 8), EndReason::OverTemperature),
        (with(0xb3, 60, 8), EndReason::OverCurrent),
        (with(0xb1, 60, 8), EndReason::OverPower),
        (with(0x98, 60, 8), EndReason::NoLoad),
        (with(0xb0, 60, 8), EndReason::TimeReached),
        (with(0xb0, 59, 8), EndReason::TimeReached),
        (with(0xb0, 58, 8), EndReason::Full),
        (with(0xb0, 58, 2), EndReason::Unknown),
    ];
    for (report, reason) in rows {
        let mut scene = Scene::charging(26, 60);
        scene.pass(HOUR);
        scene.report_of(&report);
        assert_eq!(scene.order().end_reason, Some(reason), "{report:?}");
    }
    let mut scene = Scene::charging(26, 60);
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    scene.report(0x98, 26, 0, 0);
    assert_eq!(scene.order().end_reason, Some(EndReason::RemoteStop), "a stop goes before no load");
}

#[test]
fn ordered_energy_and_amount_are_reached_by_the_devices_figures() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Energy { energy_wh: 50 });
    scene.answer(message_id, true, 26);
    scene.pass(HOUR);
    scene.report(0xb0, 26, 50, 60);
    assert_eq!(scene.order().end_reason, Some(EndReason::EnergyReached));
    let mut scene = Scene::idle();
    let tiers = vec![PowerTier { power_w: 200.0, price_cents: 25, minutes: 60 }];
    let message_id = scene.start(Plan::Tiers { amount_cents: 100, tiers });
    scene.answer(message_id, true, 26);
    scene.pass(HOUR);
    scene.report_of(&Report { amount: Some(Cents(100)), ..report(0xb0, 26, 50, 60) });
    assert_eq!(
        (scene.order().end_reason, scene.order().spent_cents),
        (Some(EndReason::AmountReached), Some(Cents(100)))
    );
}

#[test]
fn figures_that_cannot_be_are_booked_and_flagged() {
    let rows: [(u64, u32, u32, &[Flag]); 4] = [
        (HOUR, 1000, 60, &[]),
        (HOUR, 2051, 60, &[Flag::ImplausibleEnergy]),
        (HOUR, 1000, 63, &[Flag::ImplausibleMinutes]),
        (MINUTE, 300, 9, &[Flag::ImplausibleEnergy, Flag::ImplausibleMinutes]),
    ];
    for (after, energy, minutes, flags) in rows {
        let mut scene = Scene::charging(26, 900);
        scene.pass(after);
        scene.report(0xb0, 26, energy, minutes);
        assert_eq!(scene.order().flags.iter().copied().collect::<Vec<_>>(), flags);
        assert_eq!(scene.order().energy_wh, Some(WattHours(energy)), "booked all the same");
    }
}

#[test]
fn energy_far_from_the_mean_power_of_the_statuses_is_flagged() {
    // 120 W for an hour: 120 Wh are expected, three times either way are believed.
    for (energy, flagged) in [(39, true), (40, false), (360, false), (361, true)] {
        let mut scene = Scene::charging(26, 900);
        for minute in 1..=60 {
            scene.pass(MINUTE);
            scene.shows(0xb0, 26, 0, minute, To::Nothing);
        }
        scene.report(0xb0, 26, energy, 60);
        assert_eq!(scene.order().flags.contains(&Flag::ImplausibleEnergy), flagged, "{energy} Wh");
    }
}

#[test]
fn figures_of_a_status_that_cannot_be_are_left_out_each_by_itself() {
    let mut scene = Scene::charging(26, 900);
    scene.pass(10 * MINUTE);
    scene.shows(0xb0, 26, 100, 10, To::Nothing);
    scene.pass(MINUTE);
    scene.shows(0xb0, 26, 5000, 11, To::Nothing);
    assert_eq!((scene.order().energy_wh, scene.order().minutes), (Some(WattHours(100)), Some(Minutes(11))));
    scene.pass(MINUTE);
    scene.shows(0xb0, 26, 110, 3, To::Nothing);
    assert_eq!((scene.order().energy_wh, scene.order().minutes), (Some(WattHours(110)), Some(Minutes(11))));
}

#[test]
fn a_duplicate_changes_nothing_and_another_one_is_nobodys() {
    let mut scene = Scene::charging(26, 60);
    scene.report(0xb0, 26, 10, 1);
    let order = scene.order().clone();
    assert!(matches!(scene.report(0xb0, 26, 10, 1), ReportFate::Duplicate(_)));
    assert_eq!(*scene.order(), order);
    assert_eq!(scene.report(0xb0, 26, 11, 1), ReportFate::Nobody);
    assert_eq!((scene.order(), scene.unknown_ends()), (&order, 1));
}

#[test]
fn a_report_makes_idle_only_a_port_that_shows_its_number_charging() {
    let mut scene = Scene::charging(26, 60);
    scene.shows(0xb0, 26, 0, 0, To::Nothing);
    scene.report(0x98, 26, 0, 0);
    assert_eq!(scene.case.port.status, PortStatus::Idle);
    let mut scene = Scene::charging(26, 60);
    scene.at(|desk| desk.left());
    scene.report(0x98, 26, 0, 0);
    assert_eq!(scene.case.port.status, PortStatus::Offline);
}

#[test]
fn paid_time_is_the_longest_that_the_amount_buys_in_any_tier() {
    let tier = |price_cents, minutes| PowerTier { power_w: 100.0, price_cents, minutes };
    let plan = |tiers| Plan::Tiers { amount_cents: 100, tiers };
    assert_eq!(plan(vec![tier(25, 60), tier(50, 60)]).paid_minutes(), Some(Minutes(240)));
    assert_eq!(plan(vec![tier(30, 60)]).paid_minutes(), Some(Minutes(200)));
    assert_eq!(plan(vec![tier(0, 60)]).paid_minutes(), None);
    assert_eq!(Plan::Energy { energy_wh: 9 }.paid_minutes(), None);
}

/// An order of this number that was closed without a report, and a running one that has the number again.
fn reused(earlier_minutes: u64) -> Scene {
    let mut scene = Scene::charging(26, 900);
    scene.pass(earlier_minutes * MINUTE);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(2 * MINUTE);
    let message_id = scene.start(Plan::Time { minutes: 900 });
    scene.answer(message_id, true, 26);
    scene.shows(0xb0, 26, 0, 0, To::Nothing);
    scene.pass(10 * MINUTE);
    scene.effects.clear();
    scene
}

#[test]
fn when_a_number_was_reused_the_socket_is_asked_and_figures_decide() {
    // The earlier one ran for 120 minutes, the open one for 10.
    let rows = [
        (100, true, 0, "only the earlier one can have run for so long"),
        (100, false, 0, "only the earlier one can have run for so long"),
        (10, false, 1, "both can: the newest"),
        (10, true, 0, "not the open one while it charges"),
    ];
    for (minutes, charging, whose, what) in rows {
        let mut scene = reused(120);
        assert_eq!(scene.report(0xb0, 26, 3, minutes), ReportFate::Kept);
        assert_eq!(scene.wants_question(), Some(UpTime(scene.up)), "asked at once");
        scene.pass(1000);
        if charging {
            scene.shows(0xb0, 26, 0, 0, To::Question);
        } else {
            scene.shows(0x80, 0, 0, 0, To::Nothing);
            scene.shows(0x80, 0, 0, 0, To::Question);
        }
        let order = scene.order_at(whose);
        assert!(order.settlement.is_some_and(|how| how != Settlement::Estimated), "{what}");
        assert!(order.flags.contains(&Flag::ReusedNumber), "{what}");
        assert_eq!((order.minutes, scene.unknown_ends()), (Some(Minutes(minutes)), 0), "{what}");
    }
}

#[test]
fn power_that_lingers_does_not_give_the_open_orders_report_away() {
    let mut scene = Scene::charging(26, 900);
    scene.pass(5 * MINUTE);
    scene.report(0x98, 26, 1, 5);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    let message_id = scene.start(Plan::Time { minutes: 900 });
    scene.answer(message_id, true, 26);
    scene.shows(0xb0, 26, 0, 0, To::Nothing);
    scene.pass(10 * MINUTE);
    assert_eq!(scene.report(0x98, 26, 3, 10), ReportFate::Kept);
    let since = scene.up;
    scene.shows(0xb0, 26, 3, 10, To::Question);
    assert_eq!((scene.order().status, scene.unknown_ends()), (OrderStatus::Charging, 0));
    assert_eq!(scene.wants_question(), Some(UpTime(since + MINUTE)), "asked again after the grace");
    let mut lingered = scene.case.clone();
    scene.pass(2000);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!((scene.ended().2, scene.order().minutes), (Some(Settlement::Reported), Some(Minutes(10))));
    std::mem::swap(&mut scene.case, &mut lingered);
    scene.up = since + MINUTE;
    scene.shows(0xb0, 26, 3, 10, To::Question);
    assert_eq!((scene.order().status, scene.unknown_ends()), (OrderStatus::Charging, 1), "nobody's after all");
}

#[test]
fn of_several_kept_reports_the_open_order_gets_the_one_that_fits_it() {
    let mut scene = Scene::charging(26, 900);
    scene.pass(MINUTE);
    scene.report(0xb0, 26, 1, 1);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    let message_id = scene.start(Plan::Time { minutes: 900 });
    scene.answer(message_id, true, 26);
    scene.shows(0xb0, 26, 0, 0, To::Nothing);
    scene.pass(300);
    assert_eq!(scene.report(0xb0, 26, 11, 6), ReportFate::Kept, "it began a moment ago");
    scene.shows(0xb0, 26, 0, 0, To::Question);
    scene.pass(1000);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    assert_eq!(scene.report(0xb0, 26, 2, 0), ReportFate::Kept);
    scene.shows(0x80, 0, 0, 0, To::Question);
    let order = scene.order();
    assert_eq!((order.energy_wh, order.minutes), (Some(WattHours(2)), Some(Minutes(0))));
    assert_eq!(scene.unknown_ends(), 1, "the other is nobody's");
}

#[test]
fn a_kept_report_is_decided_when_its_order_is_closed() {
    let mut scene = reused(120);
    scene.report(0xb0, 26, 3, 10);
    scene.leaves();
    scene.run(5 * MINUTE);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Unknown), Some(Settlement::Corrected)));
    assert_eq!(scene.told(), [OrderEvent::Closed, OrderEvent::Corrected]);
    assert!(scene.case.port.memory.is_none(), "nothing is kept any longer");
}

#[test]
fn of_a_reused_number_whose_newest_order_has_its_report_another_is_nobodys() {
    let mut scene = reused(5);
    scene.report(0xb0, 26, 3, 10);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.ended().2, Some(Settlement::Reported));
    assert_eq!(scene.report(0xb0, 26, 4, 11), ReportFate::Nobody, "eleven minutes are too many for the earlier");
    assert!(matches!(scene.report(0xb0, 26, 4, 5), ReportFate::Booked(_)), "five are not");
    assert_eq!(scene.order_at(0).settlement, Some(Settlement::Corrected));
}

#[test]
fn a_duplicate_under_a_number_that_is_open_again_counts_when_the_grace_ends_without_another() {
    for other in [false, true] {
        let mut scene = Scene::charging(26, 60);
        scene.report(0x98, 26, 0, 1);
        scene.shows(0x80, 0, 0, 0, To::Nothing);
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.answer(message_id, true, 26);
        scene.shows(0xb0, 26, 0, 0, To::Nothing);
        scene.pass(2 * MINUTE);
        let booked = scene.order_at(0).clone();
        assert!(matches!(scene.report(0x98, 26, 0, 1), ReportFate::Duplicate(_)));
        scene.shows(0x80, 0, 0, 0, To::Nothing);
        if other {
            scene.report(0x98, 26, 0, 2);
        }
        scene.run(2 * MINUTE);
        assert_eq!((scene.ended().2, scene.order_at(0)), (Some(Settlement::Reported), &booked));
        assert_eq!(scene.order().minutes, Some(Minutes(if other { 2 } else { 1 })));
        assert!(scene.order().flags.contains(&Flag::ReusedNumber));
        assert!(scene.case.port.memory.is_none());
    }
}

#[test]
fn a_duplicate_while_its_number_charges_again_ends_nobody() {
    let mut scene = Scene::charging(26, 900);
    scene.report(0x98, 26, 0, 1);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    let message_id = scene.start(Plan::Time { minutes: 900 });
    scene.answer(message_id, true, 26);
    scene.report(0x98, 26, 0, 1);
    for _ in 0..5 {
        scene.pass(MINUTE);
        scene.shows(0xb0, 26, 0, 1, To::Question);
    }
    assert_eq!((scene.order().status, scene.unknown_ends()), (OrderStatus::Charging, 0));
    assert!(scene.case.port.memory.is_none());
}

#[test]
fn another_energy_minutes_or_amount_is_another_report() {
    let booked = Report { amount: Some(Cents(50)), ..report(0x98, 26, 10, 5) };
    let rows = [
        (booked.clone(), true),
        (Report { raw_status: 0x80, raw_reason: Some(2), ..booked.clone() }, true),
        (Report { energy: WattHours(11), ..booked.clone() }, false),
        (Report { minutes: Minutes(6), ..booked.clone() }, false),
        (Report { amount: Some(Cents(51)), ..booked.clone() }, false),
        (Report { amount: None, ..booked.clone() }, false),
    ];
    for (second, duplicate) in rows {
        let mut scene = Scene::charging(26, 60);
        scene.pass(5 * MINUTE);
        scene.report_of(&booked);
        let fate = scene.report_of(&second);
        assert_eq!(matches!(fate, ReportFate::Duplicate(_)), duplicate, "{second:?}");
        assert_eq!(fate == ReportFate::Nobody, !duplicate);
        assert_eq!(scene.order().revision, 1);
    }
}

#[test]
fn an_order_takes_a_report_until_seven_days_after_its_close() {
    for (days, seconds, booked) in [(6, 86_399, true), (7, 0, false)] {
        let mut scene = Scene::charging(26, 60);
        scene.run(31 * MINUTE);
        let closed = scene.order().course.closed.unwrap();
        scene.up = closed.0 + days * 24 * HOUR + seconds * 1000;
        let fate = scene.report(0x98, 26, 1, 1);
        assert_eq!(matches!(fate, ReportFate::Booked(_)), booked);
        assert_eq!(fate == ReportFate::Nobody, !booked);
    }
}

#[test]
fn an_open_order_without_a_number_takes_a_report_of_an_unseen_one_and_no_other_order_does() {
    for (own, booked) in [(0, true), (26, false)] {
        for no in [33, 0] {
            let mut scene = Scene::charging(own, 60);
            scene.pass(5 * MINUTE);
            let fate = scene.report(0x98, no, 1, 5);
            assert_eq!(matches!(fate, ReportFate::Booked(_)), booked);
            assert_eq!((scene.unknown_ends(), scene.order().status.is_running()), (usize::from(!booked), !booked));
        }
    }
    let mut scene = Scene::charging(0, 60);
    scene.pass(5 * MINUTE);
    assert_eq!(scene.report(0x98, 33, 1, 7), ReportFate::Nobody, "seven minutes in five");
}

#[test]
fn a_report_under_an_earlier_orders_number_is_not_a_numberless_ones() {
    let mut scene = Scene::charging(26, 60);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(2 * MINUTE);
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 0);
    scene.report(0x98, 26, 1, 1);
    assert_eq!(scene.order_at(0).settlement, Some(Settlement::Corrected));
    assert_eq!(scene.order_at(1).status, OrderStatus::Charging);
}

#[test]
fn a_report_changes_no_port_that_has_another_order_open_or_another_number() {
    let mut scene = Scene::charging(26, 60);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(2 * MINUTE);
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 27);
    scene.report(0x98, 26, 1, 1);
    assert_eq!((scene.case.port.status, scene.order().status), (PortStatus::Charging, OrderStatus::Charging));
    let mut scene = Scene::charging(26, 60);
    scene.shows(0xb0, 99, 0, 0, To::Nothing);
    scene.report(0x98, 26, 1, 1);
    assert_eq!(scene.case.port.status, PortStatus::Charging);
    let mut scene = Scene::charging(26, 60);
    scene.leaves();
    scene.returns();
    scene.report(0xc7, 26, 1, 1);
    assert_eq!(scene.case.port.status, PortStatus::Unclear, "1 stays, and its own status byte gives the reason only");
    assert_eq!(scene.order().end_reason, Some(EndReason::MeteringFault));
}

#[test]
fn whose_stop_it_was_is_the_reason_when_it_was_accepted_or_not_answered() {
    type Stop = fn(&mut Scene);
    let rows: [(Stop, EndReason, &str); 6] = [
        (
            |scene| {
                scene.stop(Some("order-1"));
                scene.stop_answered(true);
            },
            EndReason::RemoteStop,
            "a command's, accepted",
        ),
        (|scene| scene.stop(Some("order-1")), EndReason::RemoteStop, "a command's, no answer so far"),
        (
            |scene| {
                scene.stop(Some("order-1"));
                scene.stop_answered(false);
            },
            EndReason::NoLoad,
            "a command's, refused",
        ),
        (
            |scene| {
                scene.run_unasked(65 * MINUTE);
                scene.stop_answered(true);
            },
            EndReason::Overrun,
            "the agent's, accepted",
        ),
        (
            |scene| {
                scene.run_unasked(65 * MINUTE);
                scene.stop_answered(false);
            },
            EndReason::NoLoad,
            "the agent's, refused",
        ),
        (
            |scene| {
                scene.run_unasked(65 * MINUTE);
                scene.stop_answered(true);
                scene.stop(Some("order-1"));
                scene.stop_answered(true);
            },
            EndReason::RemoteStop,
            "both",
        ),
    ];
    for (stop, reason, what) in rows {
        let mut scene = Scene::charging(26, 60);
        stop(&mut scene);
        scene.report(0x98, 26, 1, 1);
        assert_eq!(scene.order().end_reason, Some(reason), "{what}");
    }
}
