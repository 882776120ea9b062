//! Contract §5 *Stop*.

use super::*;

#[test]
fn an_accepted_stop_makes_it_stopping_and_the_report_ends_it_by_remote_stop() {
    let mut scene = Scene::charging(26, 60);
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    assert_eq!(scene.order().status, OrderStatus::Stopping);
    assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::Done)]);
    scene.report(0x80, 26, 1, 0);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::RemoteStop), Some(Settlement::Reported)));
}

#[test]
fn a_report_that_comes_before_the_answer_does_the_stop() {
    let mut scene = Scene::charging(26, 60);
    scene.stop(Some("order-1"));
    scene.report(0x80, 26, 1, 0);
    assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::Done)]);
    assert_eq!(scene.order().end_reason, Some(EndReason::RemoteStop));
}

#[test]
fn a_refused_stop_is_owed_and_repeated_at_most_every_thirty_seconds_until_it_is_ignored() {
    let mut scene = Scene::charging(26, 900);
    scene.stop(Some("order-1"));
    scene.stop_answered(false);
    assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::StopOwed(Refusal::RefusedByDevice))]);
    for round in 1..4 {
        scene.pass(10_000);
        scene.shows(0xb0, 26, 1, 1, To::Nothing);
        assert_eq!(scene.sent_stops().len(), round, "not yet");
        scene.pass(20_000);
        scene.shows(0xb0, 26, 1, 1, To::Nothing);
        assert_eq!(scene.sent_stops().len(), round + 1);
        scene.stop_answered(false);
    }
    assert!(scene.effects.contains(&Effect::StopIgnored { stops: 3 }));
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    assert!(scene.effects.contains(&Effect::StopObeyed));
}

#[test]
fn an_unanswered_stop_is_repeated_under_its_id_and_stays_owed() {
    let mut scene = Scene::charging(26, 900);
    scene.stop(Some("order-1"));
    scene.run(46_000);
    let ids = scene.sent_stops();
    assert_eq!((ids.len(), ids[0] == ids[2]), (3, true));
    assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::StopOwed(Refusal::NoAnswer))]);
    scene.report(0x80, 26, 1, 0);
    assert_eq!(scene.order().end_reason, Some(EndReason::RemoteStop), "accepted or not answered");
}

#[test]
fn a_stop_for_a_device_that_is_away_goes_out_at_its_return() {
    let mut scene = Scene::charging(26, 900);
    scene.reach = Reach::Away(UpTime(scene.up));
    scene.at(|desk| desk.left());
    scene.stop(Some("order-1"));
    assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::StopOwed(Refusal::DeviceOffline))]);
    assert!(scene.sent_stops().is_empty());
    scene.reach = Reach::Online;
    scene.at(|desk| desk.returned());
    assert_eq!(scene.sent_stops().len(), 1);
}

#[test]
fn no_stop_goes_out_for_an_order_while_a_later_one_is_open() {
    let mut scene = Scene::idle();
    let late = scene.start(Plan::Time { minutes: 60 });
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    scene.pass(61_000);
    scene.shows(0x80, 0, 0, 0, To::Question);
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 27);
    scene.effects.clear();
    scene.answer(late, true, 44);
    assert!(scene.sent_stops().is_empty(), "it would switch off who paid");
    assert_eq!(scene.order().status, OrderStatus::Charging);
}

#[test]
fn what_still_charges_after_an_accepted_stop_is_stopped_again_and_its_grace_begins_anew() {
    let mut scene = Scene::charging(26, 900);
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    scene.pass(40_000);
    scene.shows(0xb0, 26, 1, 0, To::Nothing);
    assert_eq!(scene.sent_stops().len(), 2);
    scene.run(50_000);
    assert_eq!(scene.order().status, OrderStatus::Stopping);
}

#[test]
fn a_closed_order_that_is_not_provisional_cannot_be_stopped() {
    let mut scene = Scene::charging(26, 60);
    scene.report(0x98, 26, 0, 0);
    scene.stop(Some("order-1"));
    assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::Failed(Refusal::OrderNotOpen))]);
    assert!(scene.sent_stops().is_empty());
}

#[test]
fn tries_of_one_stop_that_stays_unanswered_count_once() {
    let mut scene = Scene::charging(26, 900);
    scene.stop(Some("order-1"));
    for round in 1..=3 {
        scene.run_unasked(61_000);
        assert_eq!(scene.sent_stops().len(), 3 * round, "sent three times each");
        assert!(!scene.effects.iter().any(|effect| matches!(effect, Effect::StopIgnored { .. })));
        scene.shows(0xb0, 26, 1, 1, To::Nothing);
    }
    assert!(scene.effects.contains(&Effect::StopIgnored { stops: 3 }));
    assert_eq!(scene.replies().len(), 1);
}

#[test]
fn statuses_after_the_same_stop_count_it_once() {
    let mut scene = Scene::charging(26, 900);
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    for _ in 0..5 {
        scene.pass(5000);
        scene.shows(0xb0, 26, 0, 0, To::Nothing);
    }
    assert_eq!(scene.case.port.memory.as_ref().unwrap().stop.as_ref().unwrap().in_vain, 1);
}

#[test]
fn an_order_that_is_stopping_stays_so_when_the_next_stop_is_refused() {
    let mut scene = Scene::charging(26, 900);
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    scene.pass(30_000);
    scene.shows(0xb0, 26, 1, 0, To::Nothing);
    scene.stop_answered(false);
    assert_eq!(scene.order().status, OrderStatus::Stopping);
}

#[test]
fn a_restart_makes_an_unanswered_stop_owed_and_it_goes_out_at_the_return() {
    let mut scene = Scene::charging(26, 900);
    scene.stop(Some("order-1"));
    scene.restarts();
    assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::StopOwed(Refusal::NoAnswer))]);
    scene.pass(10_000);
    scene.returns();
    assert_eq!(scene.sent_stops().len(), 2);
    scene.report(0xb0, 26, 1, 0);
    assert_eq!(scene.order().end_reason, Some(EndReason::RemoteStop));
    assert_eq!(scene.replies().len(), 1);
}

#[test]
fn a_stop_of_what_was_closed_provisionally_goes_out_and_keeps_it_closed() {
    for order_no in [Some("order-1"), None] {
        let mut scene = Scene::charging(26, 60);
        scene.leaves();
        scene.run(5 * MINUTE);
        scene.effects.clear();
        scene.stop(order_no);
        assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::StopOwed(Refusal::DeviceOffline))]);
        scene.returns();
        assert_eq!(scene.sent_stops().len(), 1);
        scene.shows(0xb0, 26, 1, 1, To::Question);
        assert_eq!(scene.order().status, OrderStatus::Completed, "no order that was to be stopped resumes");
        scene.stop_answered(true);
        scene.report(0xb0, 26, 1, 1);
        assert_eq!(scene.order().end_reason, Some(EndReason::RemoteStop));
    }
}

#[test]
fn a_stop_by_port_without_an_order_is_sent_all_the_same() {
    let mut scene = Scene::idle();
    scene.stop(None);
    assert_eq!(scene.effects.len(), 1);
    scene.stop_answered(true);
    assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::Done)]);
    scene.shows(0xb0, 70, 1, 1, To::Nothing);
    assert_eq!(scene.sent_stops().len(), 1, "the port was idle: nothing is owed any more");
}

#[test]
fn whoever_joins_a_stop_gets_its_outcome_and_a_command_makes_it_a_stop_by_command() {
    let mut scene = Scene::charging(26, 10);
    scene.run_unasked(15 * MINUTE);
    assert_eq!(scene.sent_stops().len(), 1, "an overrun's");
    scene.stop_by("one", Some("order-1"));
    scene.stop_by("two", None);
    assert_eq!(scene.sent_stops().len(), 1);
    scene.stop_answered(true);
    assert_eq!(scene.replies(), [("one".to_owned(), Outcome::Done), ("two".to_owned(), Outcome::Done)]);
    scene.report(0xb0, 26, 1, 5);
    assert_eq!(scene.order().end_reason, Some(EndReason::RemoteStop));
}

#[test]
fn a_command_whose_stop_gives_way_to_another_ones_is_answered_with_it() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, false, 0);
    scene.stop(None);
    scene.answer(message_id, true, 44);
    assert_eq!(scene.sent_stops().len(), 2);
    scene.stop_answered(true);
    assert!(scene.replies().contains(&("stop".to_owned(), Outcome::Done)));
}

#[test]
fn a_moment_of_idle_does_not_forget_the_stop_of_a_running_order() {
    for accepted in [true, false] {
        let mut scene = Scene::charging(26, 900);
        scene.stop(Some("order-1"));
        scene.stop_answered(accepted);
        scene.pass(5000);
        scene.shows(0x80, 0, 0, 0, To::Nothing);
        scene.pass(30_000);
        scene.shows(0xb0, 26, 1, 0, To::Nothing);
        assert_eq!((scene.sent_stops().len(), scene.order().status.is_running()), (2, true));
    }
}

#[test]
fn behind_a_later_order_a_stop_goes_out_only_while_the_port_shows_its_own_number() {
    let behind = || {
        let mut scene = Scene::idle();
        let late = scene.start(Plan::Time { minutes: 60 });
        scene.answer(late, false, 0);
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.answer(message_id, true, 27);
        (scene, late)
    };
    for (shown, stops) in [(44, 1), (45, 0), (0, 0)] {
        let (mut scene, late) = behind();
        scene.report(0x98, 27, 0, 0);
        scene.shows(if shown == 0 { 0x80 } else { 0xb0 }, shown, 0, 0, To::Nothing);
        scene.answer(late, true, 44);
        assert_eq!(scene.sent_stops().len(), stops, "the port shows {shown}");
    }
    let (mut scene, late) = behind();
    scene.leaves();
    scene.run(5 * MINUTE);
    scene.returns();
    scene.shows(0xb0, 44, 0, 0, To::Nothing);
    scene.answer(late, true, 44);
    assert!(scene.sent_stops().is_empty(), "a later one owns the session, whatever number is shown");
}

#[test]
fn idle_from_before_does_not_discharge_a_stop_that_was_not_answered() {
    let mut scene = Scene::charging(26, 60);
    scene.leaves();
    scene.run(5 * MINUTE);
    scene.returns();
    scene.stop(Some("order-1"));
    scene.run_unasked(45_000);
    for (to, owed) in [(To::Nothing, true), (To::Older(50_000), true), (To::Question, false)] {
        scene.shows(0x80, 0, 0, 0, to);
        let stop = scene.case.port.memory.as_ref().is_some_and(|memory| memory.stop.is_some());
        assert_eq!(stop, owed);
    }
}

#[test]
fn the_devices_end_discharges_the_stop_and_ends_its_alert() {
    let mut scene = Scene::charging(26, 900);
    scene.stop(Some("order-1"));
    for _ in 0..3 {
        scene.stop_answered(false);
        scene.pass(30_000);
        scene.shows(0xb0, 26, 1, 1, To::Nothing);
    }
    assert!(scene.effects.contains(&Effect::StopIgnored { stops: 3 }));
    scene.report(0xb0, 26, 1, 1);
    assert!(scene.effects.contains(&Effect::StopObeyed));
}

#[test]
fn a_stop_whose_order_is_over_or_unknown_is_refused() {
    let mut scene = Scene::charging(26, 60);
    scene.report(0x98, 26, 0, 0);
    scene.stop(Some("no-such-order"));
    assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::Failed(Refusal::OrderNotOpen))]);
}
