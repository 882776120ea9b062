//! Contract §5 *Later truth*.

use super::*;

fn closed_offline() -> Scene {
    let mut scene = Scene::charging(26, 60);
    scene.reach = Reach::Away(UpTime(scene.up));
    scene.at(|desk| desk.left());
    scene.run(5 * MINUTE);
    scene.reach = Reach::Online;
    scene.at(|desk| desk.returned());
    scene.effects.clear();
    scene
}

#[test]
fn a_guessed_close_opens_again_when_its_session_charges_within_its_paid_time() {
    let mut scene = closed_offline();
    scene.shows(0xb0, 26, 5, 5, To::Question);
    assert_eq!(scene.ended(), (OrderStatus::Charging, None, None));
    assert_eq!((scene.order().end_time, scene.order().energy_max_wh, scene.order().revision), (None, None, 2));
    assert_eq!(scene.told(), [OrderEvent::Resumed]);
}

#[test]
fn after_its_paid_time_or_where_resuming_is_off_it_is_stopped_instead() {
    let mut scene = closed_offline();
    scene.pass(HOUR);
    scene.shows(0xb0, 26, 5, 5, To::Question);
    assert_eq!((scene.order().status, scene.sent_stops().len()), (OrderStatus::Completed, 1));
    let mut scene = closed_offline();
    scene.resumes = false;
    scene.shows(0xb0, 26, 5, 5, To::Question);
    assert_eq!((scene.order().status, scene.sent_stops().len()), (OrderStatus::Completed, 1));
}

#[test]
fn what_spoke_for_an_end_keeps_it_closed() {
    let mut scene = closed_offline();
    scene.shows(0x80, 0, 0, 0, To::Question);
    scene.shows(0xb0, 26, 5, 5, To::Question);
    assert_eq!(scene.order().status, OrderStatus::Completed);
}

#[test]
fn a_provisional_close_shown_idle_becomes_an_estimate_after_the_grace() {
    let mut scene = closed_offline();
    scene.shows(0x80, 0, 0, 0, To::Question);
    scene.run(59_000);
    assert_eq!(scene.order().settlement, Some(Settlement::Provisional));
    scene.run(1000);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Offline), Some(Settlement::Estimated)));
    // 1000 W for the five minutes to the return: 83.3 Wh, rounded up.
    assert_eq!((scene.bounds(), scene.order().revision), ((84, 5), 2));
}

#[test]
fn a_report_after_the_close_corrects_it_and_keeps_its_end_time() {
    let mut scene = closed_offline();
    let ended = scene.order().end_time;
    assert!(matches!(scene.report(0xb0, 26, 40, 59), ReportFate::Booked(_)));
    assert_eq!(scene.order().settlement, Some(Settlement::Corrected));
    assert_eq!(scene.order().end_reason, Some(EndReason::TimeReached), "the report's reason");
    assert_eq!((scene.order().end_time, scene.bounds(), scene.order().is_final), (ended, (40, 59), true));
}

/// Closed by idle without a report; nothing came since.
fn closed_idle() -> Scene {
    let mut scene = Scene::charging(26, 60);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(2 * MINUTE);
    scene.effects.clear();
    scene
}

#[test]
fn which_closes_open_again_when_their_session_is_shown_charging() {
    type Close = fn(&mut Scene);
    let rows: [(Close, Option<EndReason>, bool); 6] = [
        (|scene| scene.run(31 * MINUTE), Some(EndReason::Timeout), true),
        (
            |scene| {
                scene.leaves();
                scene.run(5 * MINUTE);
                scene.returns();
            },
            Some(EndReason::Offline),
            true,
        ),
        (
            |scene| {
                scene.shows(0x80, 0, 0, 0, To::Nothing);
                scene.run(2 * MINUTE);
            },
            Some(EndReason::EndReportMissing),
            true,
        ),
        (
            |scene| {
                scene.stop(Some("order-1"));
                scene.stop_answered(true);
                scene.run(2 * MINUTE);
            },
            Some(EndReason::RemoteStop),
            false,
        ),
        (
            |scene| {
                scene.stop(Some("order-1"));
                scene.stop_answered(false);
                scene.shows(0x80, 0, 0, 0, To::Nothing);
                scene.run(2 * MINUTE);
            },
            Some(EndReason::EndReportMissing),
            false,
        ),
        (
            |scene| {
                scene.shows(0xb0, 26, 9, 9, To::Nothing);
                scene.report(0x98, 26, 9, 9);
            },
            Some(EndReason::NoLoad),
            false,
        ),
    ];
    for (close, reason, resumes) in rows {
        let mut scene = Scene::charging(26, 900);
        close(&mut scene);
        assert_eq!(scene.order().end_reason, reason);
        scene.pass(1000);
        scene.shows(0xb0, 26, 0, 0, To::Question);
        assert_eq!(scene.order().status == OrderStatus::Charging, resumes, "{reason:?}");
    }
}

#[test]
fn all_that_the_close_wrote_is_null_again() {
    let mut scene = closed_idle();
    scene.shows(0xb0, 26, 0, 0, To::Nothing);
    let order = scene.order();
    assert_eq!((order.end_time, order.end_reason, order.settlement, order.verdict), (None, None, None, None));
    assert_eq!((order.energy_max_wh, order.minutes_max, order.is_final, order.revision), (None, None, false, 2));
    assert_eq!(scene.case.port.status, PortStatus::Charging);
    scene.run(10 * MINUTE);
    assert_eq!(scene.order().status, OrderStatus::Charging, "its old grace is over");
}

#[test]
fn only_its_own_session_opens_a_closed_order_again() {
    let mut scene = closed_idle();
    scene.shows(0xb0, 99, 0, 0, To::Nothing);
    scene.pass(1000);
    scene.shows(0xb0, 99, 0, 0, To::Question);
    assert_eq!((scene.order().status, scene.order().business_no), (OrderStatus::Completed, number(26)));
    assert!(scene.sent_stops().is_empty(), "the rule for sessions without an order");
}

#[test]
fn idle_before_an_offline_close_neither_settles_it_nor_keeps_it_closed() {
    let closed = || {
        let mut scene = Scene::charging(26, 60);
        scene.pass(MINUTE);
        scene.shows(0x80, 0, 0, 0, To::Nothing);
        scene.leaves();
        scene.run(10 * MINUTE);
        assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Offline), Some(Settlement::Provisional)));
        scene.returns();
        scene
    };
    let mut scene = closed();
    scene.shows(0xb0, 26, 1, 1, To::Question);
    assert_eq!(scene.order().status, OrderStatus::Charging);
    let mut scene = closed();
    scene.shows(0x80, 0, 0, 0, To::Question);
    scene.run(MINUTE);
    // From the first sending to the idle of before: one minute at 1000 W.
    assert_eq!((scene.order().settlement, scene.bounds()), (Some(Settlement::Estimated), (17, 1)));
}

#[test]
fn a_charging_status_ends_the_wait_of_a_provisional_close() {
    let mut scene = closed_offline();
    scene.shows(0x80, 0, 0, 0, To::Question);
    scene.pass(30_000);
    scene.shows(0xb0, 26, 5, 5, To::Nothing);
    scene.stop_answered(true);
    scene.run(5 * MINUTE);
    assert_eq!(scene.order().settlement, Some(Settlement::Provisional), "it may still be charging");
}

#[test]
fn a_provisional_close_becomes_an_estimate_although_a_later_order_begins() {
    let mut scene = closed_offline();
    scene.shows(0x80, 0, 0, 0, To::Question);
    scene.pass(1000);
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 27);
    scene.case.orders.iter_mut().for_each(|entry| entry.dirty = Dirty::Clean);
    scene.case.let_go();
    scene.run(MINUTE);
    assert_eq!(scene.order_at(0).settlement, Some(Settlement::Estimated));
    assert_eq!(scene.order_at(1).status, OrderStatus::Charging);
}

#[test]
fn what_charges_after_an_estimate_is_stopped_at_once() {
    let mut scene = closed_idle();
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.shows(0xb0, 26, 1, 1, To::Nothing);
    assert_eq!((scene.order().status, scene.sent_stops().len()), (OrderStatus::Completed, 1));
}

#[test]
fn what_charges_after_a_report_is_stopped_when_the_socket_still_says_so_after_the_grace() {
    let mut scene = Scene::charging(26, 60);
    scene.shows(0xb0, 26, 1, 1, To::Nothing);
    scene.report(0x98, 26, 1, 1);
    scene.shows(0xb0, 26, 1, 1, To::Nothing);
    let since = scene.up;
    assert_eq!(scene.wants_question(), Some(UpTime(since + MINUTE)));
    scene.pass(MINUTE);
    scene.shows(0xb0, 26, 1, 1, To::Older(1000));
    assert!(scene.sent_stops().is_empty());
    scene.shows(0xb0, 26, 1, 1, To::Question);
    scene.stop_answered(true);
    assert_eq!((scene.sent_stops().len(), scene.wants_question()), (1, None), "asked about once");
    scene.pass(30_000);
    scene.shows(0xb0, 26, 1, 1, To::Nothing);
    assert_eq!(scene.sent_stops().len(), 2, "repeated until the port is idle");
    assert_eq!(scene.ended().2, Some(Settlement::Reported));
}

#[test]
fn where_resuming_is_off_its_stops_keep_their_distance() {
    let mut scene = closed_offline();
    scene.resumes = false;
    for (after, stops) in [(0, 1), (10_000, 1), (10_000, 1), (10_000, 2)] {
        scene.pass(after);
        scene.shows(0xb0, 26, 5, 5, To::Nothing);
        if scene.sent_stops().len() == stops && after == 0 {
            scene.stop_answered(false);
        }
        assert_eq!(scene.sent_stops().len(), stops);
    }
}

#[test]
fn a_report_after_an_estimate_corrects_it_once_more() {
    let mut scene = closed_offline();
    scene.shows(0x80, 0, 0, 0, To::Question);
    scene.run(MINUTE);
    scene.report(0x98, 26, 3, 4);
    assert_eq!((scene.order().settlement, scene.order().revision), (Some(Settlement::Corrected), 3));
    assert_eq!(scene.told(), [OrderEvent::Corrected, OrderEvent::Corrected]);
}

#[test]
fn time_alone_makes_a_close_final_and_a_report_still_corrects_it() {
    let mut scene = closed_idle();
    let order_no = scene.order().order_no.clone();
    scene.at(|desk| desk.finalize(&order_no));
    assert_eq!((scene.order().is_final, scene.order().revision), (true, 2));
    scene.at(|desk| desk.finalize(&order_no));
    assert_eq!(scene.told(), [OrderEvent::Finalized]);
    scene.shows(0xb0, 26, 0, 0, To::Nothing);
    assert_eq!(scene.order().status, OrderStatus::Completed, "a final order never resumes");
    scene.report(0x98, 26, 3, 1);
    assert_eq!((scene.ended().2, scene.order().revision), (Some(Settlement::Corrected), 3));
}
