//! Contract §5 *Whose session?*, *Sessions without an order*.

use super::*;

#[test]
fn what_charged_when_the_port_was_first_seen_is_adopted_less_the_minutes_that_it_reports() {
    let mut scene = Scene::unseen();
    scene.shows(0xb0, 500, 100, 30, To::Nothing);
    let order = scene.order();
    assert_eq!((order.source, order.status, order.business_no), (Source::Adopted, OrderStatus::Charging, number(500)));
    assert_eq!(order.start_time, Some(WallTime(scene.wall() - 30 * 60_000)));
    assert_eq!(scene.told(), [OrderEvent::Adopted]);
}

#[test]
fn a_number_without_the_charging_bit_counts_when_a_question_repeats_it() {
    for (power, adopted) in [(49, false), (50, true)] {
        let mut scene = Scene::unseen();
        scene.shows_power(0x80, 500, (0, 0, power), To::Nothing);
        assert!(scene.case.orders.is_empty());
        scene.shows_power(0x80, 500, (0, 0, power), To::Question);
        assert_eq!(!scene.case.orders.is_empty(), adopted, "at {power} tenths of a watt");
    }
}

#[test]
fn any_other_session_is_asked_about_and_stopped_after_the_grace_or_only_told() {
    for (stops, count) in [(true, 1), (false, 0)] {
        let mut scene = Scene::idle();
        scene.stops_strays = stops;
        scene.shows(0xb0, 888, 1, 1, To::Nothing);
        scene.pass(59_000);
        scene.shows(0xb0, 888, 1, 1, To::Question);
        assert!(scene.sent_stops().is_empty());
        scene.pass(2000);
        scene.shows(0xb0, 888, 1, 1, To::Question);
        scene.shows(0xb0, 888, 1, 1, To::Question);
        assert_eq!(scene.sent_stops().len(), count);
        let told = scene.effects.iter().filter(|effect| matches!(effect, Effect::Repaired(_))).count();
        assert_eq!(told, 1, "once");
    }
}

#[test]
fn an_unseen_number_becomes_the_orders_own_when_asked_and_an_earlier_orders_never_does() {
    let mut scene = Scene::charging(26, 60);
    scene.report(0x98, 26, 0, 0);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 27);
    scene.pass(MINUTE);
    scene.shows(0xb0, 28, 1, 1, To::Nothing);
    assert_eq!(scene.order().business_no, number(27));
    scene.pass(1000);
    scene.shows(0xb0, 28, 1, 1, To::Question);
    assert_eq!(scene.order().business_no, number(28));
    scene.pass(MINUTE);
    scene.shows(0xb0, 26, 9, 2, To::Nothing);
    scene.pass(1000);
    scene.shows(0xb0, 26, 9, 2, To::Question);
    assert_eq!(scene.order().business_no, number(28));
    assert!(scene.order().flags.contains(&Flag::ReusedNumber));
    assert_eq!(scene.order().energy_wh, Some(WattHours(1)), "its figures are left out");
}

#[test]
fn a_number_that_disagrees_is_no_evidence_until_a_question_repeats_it() {
    let mut scene = Scene::charging(26, 60);
    scene.pass(MINUTE);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.pass(30_000);
    scene.shows(0xb0, 99, 5, 1, To::Nothing);
    assert_eq!(scene.order().energy_wh, None);
    assert!(scene.wants_question().is_some_and(|since| since.0 <= scene.up), "it is asked about");
    scene.shows(0xb0, 99, 5, 1, To::Older(1000));
    assert_eq!(scene.order().business_no, number(26), "an older question proves nothing");
    scene.run(MINUTE);
    assert_eq!(scene.ended().1, Some(EndReason::EndReportMissing), "the grace went on");
}

#[test]
fn an_order_without_a_number_gets_the_one_that_a_question_repeats() {
    let mut scene = Scene::charging(0, 60);
    scene.pass(MINUTE);
    scene.shows(0xb0, 31, 5, 1, To::Nothing);
    assert_eq!(scene.order().business_no, None);
    scene.shows(0xb0, 31, 5, 1, To::Question);
    assert_eq!((scene.order().business_no, scene.order().energy_wh), (number(31), Some(WattHours(5))));
    assert_eq!(scene.wants_question().map(|at| at.0 > scene.up), Some(true), "nothing more to ask now");
}

#[test]
fn the_number_of_an_earlier_order_is_asked_about_once_and_is_evidence_without_figures() {
    let mut scene = Scene::charging(26, 60);
    scene.report(0x98, 26, 0, 0);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 27);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.shows(0xb0, 26, 9, 9, To::Nothing);
    scene.shows(0xb0, 26, 9, 9, To::Question);
    for _ in 0..10 {
        scene.pass(MINUTE);
        scene.shows(0xb0, 26, 9, 9, To::Nothing);
        assert!(scene.wants_question().is_none_or(|at| at.0 > scene.up));
    }
    scene.run(20 * MINUTE);
    assert_eq!((scene.order().status, scene.order().business_no), (OrderStatus::Charging, number(27)));
    assert_eq!(scene.order().energy_wh, None);
}

#[test]
fn idle_is_what_shows_neither_bit_4_nor_a_number() {
    for (raw, no, idle) in [(0x80, 0, true), (0xa0, 0, true), (0x88, 0, true), (0x90, 0, false), (0x80, 26, false)] {
        let mut scene = Scene::charging(26, 60);
        scene.shows(raw, no, 0, 0, To::Nothing);
        assert_eq!(scene.order().course.idle_since.is_some(), idle, "{raw:#x} {no}");
    }
}

#[test]
fn a_number_without_bit_4_is_idle_below_five_watts_else_charging_once_repeated() {
    for (power, idle) in [(49, true), (50, false)] {
        let mut scene = Scene::charging(26, 60);
        scene.shows_power(0x80, 26, (0, 0, power), To::Nothing);
        assert_eq!(scene.case.port.status, PortStatus::Charging, "no evidence yet");
        scene.pass(1000);
        scene.shows_power(0x80, 26, (0, 0, power), To::Question);
        let expected = if idle { PortStatus::Idle } else { PortStatus::Charging };
        assert_eq!((scene.order().course.idle_since.is_some(), scene.case.port.status), (idle, expected));
        scene.pass(5 * MINUTE);
        scene.shows_power(0x80, 26, (0, 0, power), To::Nothing);
        assert!(scene.wants_question().is_some(), "each time anew");
    }
}

#[test]
fn bit_4_without_a_number_is_charging() {
    let mut scene = Scene::charging(26, 60);
    scene.pass(10 * MINUTE);
    scene.shows(0x90, 0, 5, 10, To::Nothing);
    assert_eq!((scene.case.port.status, scene.order().energy_wh), (PortStatus::Charging, Some(WattHours(5))));
    assert!(scene.effects.iter().any(|effect| matches!(effect, Effect::Note(_))), "counted");
}

#[test]
fn a_close_shows_idle_only_what_the_device_says_is_idle() {
    type Close = fn(&mut Scene);
    let rows: [(Close, PortStatus); 4] = [
        (
            |scene| {
                scene.shows(0x80, 0, 0, 0, To::Nothing);
                scene.run(2 * MINUTE);
            },
            PortStatus::Idle,
        ),
        (
            |scene| {
                scene.shows(0x82, 0, 0, 0, To::Nothing);
                scene.run(2 * MINUTE);
            },
            PortStatus::Unclear,
        ),
        (
            |scene| {
                scene.leaves();
                scene.run(5 * MINUTE);
            },
            PortStatus::Offline,
        ),
        (|scene| scene.run(31 * MINUTE), PortStatus::Unclear),
    ];
    for (close, shown) in rows {
        let mut scene = Scene::charging(26, 900);
        scene.shows(0xb0, 26, 0, 0, To::Nothing);
        close(&mut scene);
        assert_eq!((scene.order().status, scene.case.port.status), (OrderStatus::Completed, shown));
    }
}

#[test]
fn away_its_ports_are_offline_and_back_they_are_not_known() {
    let mut scene = Scene::idle();
    scene.leaves();
    assert_eq!(scene.case.port.status, PortStatus::Offline);
    scene.returns();
    assert_eq!(scene.case.port.status, PortStatus::Unclear);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    assert_eq!(scene.case.port.status, PortStatus::Idle);
}

#[test]
fn only_what_ran_at_first_sight_is_adopted_and_it_is_let_run() {
    let mut scene = Scene::idle();
    scene.shows(0xb0, 500, 0, 0, To::Nothing);
    assert!(scene.case.orders.is_empty());
    let mut scene = Scene::unseen();
    scene.shows(0xb0, 500, 400, 100, To::Nothing);
    for minute in 101..120 {
        scene.run(MINUTE);
        scene.shows(0xb0, 500, 400, minute, To::Nothing);
    }
    assert_eq!((scene.order().status, scene.sent_stops().len()), (OrderStatus::Charging, 0));
    assert_eq!((scene.order().plan.clone(), scene.order().minutes), (None, Some(Minutes(119))));
    scene.report(0x98, 500, 400, 120);
    assert_eq!((scene.ended().2, scene.order().flags.len()), (Some(Settlement::Reported), 0));
}

#[test]
fn a_session_without_an_order_that_ends_by_itself_is_left_alone() {
    let mut scene = Scene::idle();
    scene.shows(0xb0, 888, 1, 1, To::Nothing);
    assert_eq!(scene.wants_question(), Some(UpTime(scene.up + MINUTE)));
    scene.pass(30_000);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.shows(0xb0, 888, 1, 1, To::Nothing);
    scene.pass(45_000);
    scene.shows(0xb0, 888, 1, 1, To::Question);
    assert!(scene.effects.iter().all(|effect| matches!(effect, Effect::Note(_))), "its grace began anew");
}

#[test]
fn what_charges_after_a_cancelled_start_is_stopped_by_the_starts_own_stop() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.stop(Some("order-1"));
    scene.stop_answered(false);
    for round in 2..6 {
        scene.pass(30_000);
        scene.shows(0xb0, 31, 1, 1, To::Question);
        assert_eq!(scene.sent_stops().len(), round);
        scene.stop_answered(false);
    }
    assert!(!scene.effects.iter().any(|effect| matches!(effect, Effect::Repaired(_))));
}

#[test]
fn a_port_that_shows_no_number_is_idle_when_its_numberless_order_has_its_report() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 0);
    assert!(matches!(scene.report(0x98, 33, 0, 0), ReportFate::Booked(_)));
    assert_eq!(scene.case.port.status, PortStatus::Idle);
}

#[test]
fn a_port_left_charging_without_an_order_is_asked_about() {
    let mut scene = Scene::charging(26, 60);
    scene.shows(0xb0, 27, 1, 1, To::Nothing);
    scene.report(0x98, 26, 0, 0);
    assert_eq!(scene.case.port.status, PortStatus::Charging, "it shows another number");
    let wants = scene.at(|desk| desk.wants_question());
    assert!(wants.is_some_and(|at| at.0 <= scene.up + MINUTE), "{wants:?}");
}
