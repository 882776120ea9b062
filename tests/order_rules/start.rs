//! Contract §5 *Start*.

use super::*;

#[test]
fn a_fault_goes_before_a_busy_port_and_only_a_free_idle_one_may_start() {
    type Make = fn(&mut Scene);
    let rows: [(Make, Result<(), Refusal>); 6] = [
        (|_| {}, Ok(())),
        (|scene| scene.shows(0xb0, 5, 0, 0, To::Nothing), Err(Refusal::PortBusy)),
        (|scene| scene.shows(0xc0, 0, 0, 0, To::Nothing), Err(Refusal::PortFault)),
        (|scene| scene.shows(0xb1, 5, 0, 0, To::Nothing), Err(Refusal::PortFault)),
        (|scene| scene.at(|desk| desk.left()), Err(Refusal::DeviceOffline)),
        (
            |scene| {
                scene.at(|desk| {
                    desk.left();
                    desk.returned();
                })
            },
            Err(Refusal::PortBusy),
        ),
    ];
    for (place, (make, expected)) in rows.into_iter().enumerate() {
        let mut scene = Scene::idle();
        make(&mut scene);
        assert_eq!(scene.may_start(), expected, "row {place}");
    }
}

#[test]
fn an_ok_gives_the_number_and_a_refusal_is_final_with_bounds_of_zero() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 26);
    assert_eq!((scene.order().status, scene.order().business_no), (OrderStatus::Charging, number(26)));
    assert_eq!(scene.case.port.status, PortStatus::Charging);
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, false, 0);
    assert_eq!(scene.ended(), (OrderStatus::Failed, Some(EndReason::StartRefused), Some(Settlement::Estimated)));
    assert!(scene.order().is_final && scene.bounds() == (0, 0));
    assert_eq!(scene.may_start(), Ok(()), "each sending was answered: not held");
}

#[test]
fn the_socket_is_asked_before_each_repetition_and_after_two_more_tries_the_start_has_failed() {
    let mut scene = Scene::idle();
    let first = scene.start(Plan::Time { minutes: 60 });
    for _ in 0..2 {
        scene.run(15_000);
        assert_eq!(scene.at(|desk| desk.wants_question()), Some(UpTime(scene.up)));
        scene.effects.clear();
        scene.shows(0x80, 0, 0, 0, To::Question);
        assert_eq!(scene.sent_start(), Some(first), "the same message id");
    }
    scene.effects.clear();
    scene.run(15_000);
    assert_eq!(scene.ended(), (OrderStatus::Failed, Some(EndReason::StartTimeout), Some(Settlement::Provisional)));
    assert_eq!(scene.sent_stops().len(), 1);
    assert_eq!(scene.bounds(), (1000, 60), "the whole plan");
    assert_eq!(scene.replies(), [("start-1".to_owned(), Outcome::Failed(Refusal::NoAnswer))]);
}

#[test]
fn a_question_without_a_reply_is_a_try_used_up() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.run(45_000);
    assert_eq!(scene.order().end_reason, Some(EndReason::StartTimeout));
    assert_eq!(scene.effects.iter().filter(|effect| matches!(effect, Effect::SendStart { .. })).count(), 1);
}

#[test]
fn a_charging_status_is_the_ok_only_as_the_answer_to_a_question_after_the_start() {
    for (to, expected) in [
        (To::Nothing, OrderStatus::Pending),
        (To::Older(20_000), OrderStatus::Pending),
        (To::Question, OrderStatus::Charging),
        (To::ByReport, OrderStatus::Charging),
    ] {
        let mut scene = Scene::idle();
        scene.start(Plan::Time { minutes: 60 });
        scene.pass(15_001);
        scene.at(|desk| desk.timeout());
        scene.shows(0xb0, 31, 0, 0, to);
        assert_eq!(scene.order().status, expected);
    }
}

#[test]
fn a_refusal_of_a_repetition_decides_nothing_until_the_socket_is_asked() {
    for (shown, expected) in [(0xb0, None), (0x80, Some(EndReason::StartRefused))] {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.run(15_000);
        scene.shows(0x80, 0, 0, 0, To::Question);
        scene.answer(message_id, false, 0);
        assert_eq!(scene.order().status, OrderStatus::Pending);
        scene.shows(shown, if shown == 0xb0 { 31 } else { 0 }, 0, 0, To::Question);
        assert_eq!(scene.order().end_reason, expected);
    }
}

#[test]
fn a_kept_report_is_whose_the_starts_fate_says() {
    type Fate = fn(&mut Scene, MessageId);
    let rows: [(Fate, bool, &str); 5] = [
        (|scene, id| scene.answer(id, true, 33), true, "an ok under its number"),
        (|scene, id| scene.answer(id, true, 0), true, "an ok without a number"),
        (|scene, id| scene.answer(id, true, 34), false, "an ok under another number"),
        (|scene, id| scene.answer(id, false, 0), false, "a refusal"),
        (|scene, _| scene.stop(Some("order-1")), false, "cancelled"),
    ];
    for (fate, its_own, what) in rows {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        assert_eq!(scene.report(0x98, 33, 0, 0), ReportFate::Kept);
        fate(&mut scene, message_id);
        assert_eq!(scene.order().settlement == Some(Settlement::Reported), its_own, "{what}");
        assert_eq!(scene.unknown_ends(), usize::from(!its_own), "{what}");
    }
}

#[test]
fn a_kept_report_and_idle_when_asked_are_ok_and_end_in_one() {
    let mut scene = Scene::idle();
    let sent = scene.wall();
    scene.start(Plan::Time { minutes: 60 });
    scene.report(0x98, 33, 0, 0);
    scene.run(15_000);
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::NoLoad), Some(Settlement::Reported)));
    assert_eq!((scene.order().start_time, scene.order().business_no), (Some(WallTime(sent)), number(33)));
    assert_eq!(scene.told(), [OrderEvent::Started, OrderEvent::Completed]);
}

#[test]
fn a_numberless_order_takes_no_report_whose_minutes_are_too_many_or_that_may_be_an_earlier_ones() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.report(0xb0, 33, 9, 5);
    scene.answer(message_id, true, 0);
    assert_eq!((scene.order().status, scene.unknown_ends()), (OrderStatus::Charging, 1), "five minutes within one");
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    scene.run(2 * MINUTE);
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.may_start(), Ok(()));
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.report(0x98, 33, 0, 0);
    scene.answer(message_id, true, 0);
    assert_eq!(scene.order().status, OrderStatus::Charging, "it may be the cancelled one's");
}

#[test]
fn a_late_ok_leaves_its_number_and_is_answered_with_a_stop_and_a_report_under_it_adds_its_figures() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.run(45_000);
    scene.at(|desk| desk.timeout());
    let ended = scene.order().end_time;
    scene.stop_answered(true);
    scene.effects.clear();
    scene.answer(message_id, true, 44);
    assert_eq!((scene.sent_stops().len(), scene.order().business_no), (1, number(44)));
    assert!(matches!(scene.report(0x80, 44, 3, 1), ReportFate::Booked(_)));
    assert_eq!(scene.ended(), (OrderStatus::Failed, Some(EndReason::StartTimeout), Some(Settlement::Corrected)));
    assert_eq!((scene.order().energy_wh, scene.order().end_time), (Some(WattHours(3)), ended));
}

#[test]
fn after_a_restart_a_pending_start_is_asked_about_and_not_sent_again() {
    for (shown, no, expected) in [(0xb0, 31, OrderStatus::Charging), (0x80, 0, OrderStatus::Failed)] {
        let mut scene = Scene::idle();
        scene.start(Plan::Time { minutes: 60 });
        scene.effects.clear();
        scene.pass(1000);
        scene.started = UpTime(scene.up);
        scene.at(|desk| desk.restarted());
        scene.reach = Reach::Online;
        scene.pass(1000);
        scene.shows(shown, no, 0, 0, To::Question);
        assert_eq!((scene.order().status, scene.sent_start()), (expected, None));
    }
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.started = UpTime(scene.up);
    scene.reach = Reach::Away(UpTime(scene.up));
    scene.at(|desk| desk.restarted());
    scene.run(149_000);
    assert_eq!(scene.order().status, OrderStatus::Pending, "it gets offline_after to return");
    scene.run(2000);
    assert_eq!(scene.order().end_reason, Some(EndReason::StartTimeout));
    scene.effects.clear();
    scene.reach = Reach::Online;
    scene.at(|desk| desk.returned());
    assert_eq!(scene.sent_stops().len(), 1, "the stop was owed");
}

#[test]
fn the_order_is_pending_and_its_port_busy_from_the_sending_on() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    assert_eq!((scene.order().status, scene.order().start_time), (OrderStatus::Pending, None));
    assert_eq!(scene.may_start(), Err(Refusal::PortBusy));
    assert!(scene.replies().is_empty(), "the reply follows the order's fate");
}

#[test]
fn an_ok_without_a_number_counts_too() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 0);
    assert_eq!((scene.order().status, scene.order().business_no), (OrderStatus::Charging, None));
    assert_eq!(scene.case.port.status, PortStatus::Charging);
    assert_eq!(scene.replies(), [("start-1".to_owned(), Outcome::Done)]);
    assert_eq!(scene.told(), [OrderEvent::Started]);
}

#[test]
fn a_start_is_never_repeated_past_its_expiry() {
    for (expires_in, repeated) in [(17_000, true), (16_000, false)] {
        let mut scene = Scene::idle();
        let expires_at = WallTime(scene.wall() + expires_in);
        scene.start_until(Plan::Time { minutes: 60 }, Some(expires_at));
        scene.run_unasked(16_000);
        scene.shows(0x80, 0, 0, 0, To::Question);
        assert_eq!(scene.sent_starts(), if repeated { 2 } else { 1 });
        let failed = scene.order().end_reason == Some(EndReason::StartTimeout);
        assert_eq!((failed, scene.sent_stops().len()), (!repeated, usize::from(!repeated)), "a stop goes out");
    }
}

#[test]
fn without_a_reply_the_socket_is_asked_again_instead_of_the_start_repeated() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.run_unasked(15_000);
    scene.pass(15_000);
    scene.question_fails(15_000);
    assert_eq!((scene.sent_starts(), scene.wants_question()), (1, Some(UpTime(scene.up))));
    scene.pass(1000);
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.sent_starts(), 2, "the second of two tries");
    scene.run_unasked(15_000);
    assert_eq!(scene.order().end_reason, Some(EndReason::StartTimeout));
}

#[test]
fn a_question_that_failed_before_the_start_wanted_one_is_no_try() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.run_unasked(15_000);
    for _ in 0..5 {
        scene.question_fails(1000);
    }
    assert_eq!(scene.order().status, OrderStatus::Pending);
}

#[test]
fn answers_without_a_word_about_the_port_do_not_keep_a_start_for_ever() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.run_unasked(5 * MINUTE);
    assert_eq!(scene.order().end_reason, Some(EndReason::StartTimeout));
}

#[test]
fn an_idle_status_that_is_no_answer_or_an_older_one_decides_nothing() {
    for to in [To::Nothing, To::Older(15_001), To::Unanswered(1000)] {
        let mut scene = Scene::idle();
        scene.start(Plan::Time { minutes: 60 });
        scene.run_unasked(15_000);
        scene.shows(0x80, 0, 0, 0, to);
        assert_eq!((scene.sent_starts(), scene.order().status), (1, OrderStatus::Pending));
    }
}

#[test]
fn what_was_asked_in_the_moment_of_the_start_was_asked_before_it() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.pass(1000);
    scene.shows(0xb0, 31, 0, 0, To::Older(1000));
    assert_eq!(scene.order().status, OrderStatus::Pending);
    scene.shows(0xb0, 31, 0, 0, To::Older(999));
    assert_eq!(scene.order().status, OrderStatus::Charging);
}

#[test]
fn a_refused_repetition_whose_question_gets_no_reply_is_a_try_used_up() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.run_unasked(15_000);
    scene.shows(0x80, 0, 0, 0, To::Question);
    scene.pass(1000);
    scene.answer(message_id, false, 0);
    scene.pass(15_000);
    scene.question_fails(15_000);
    assert_eq!(scene.ended().1, Some(EndReason::StartTimeout), "the repetition, then the question");
    assert_eq!(scene.sent_stops().len(), 1);
}

#[test]
fn a_start_whose_device_went_away_is_given_up_and_its_stop_owed() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.leaves();
    scene.run_unasked(MINUTE);
    assert_eq!(scene.ended().1, Some(EndReason::StartTimeout));
    assert!(scene.sent_stops().is_empty());
    scene.returns();
    assert_eq!(scene.sent_stops().len(), 1);
}

#[test]
fn any_ok_gives_the_newest_number_but_none_takes_it_away() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    for (no, expected) in [(26, 26), (27, 27), (0, 27)] {
        scene.answer(message_id, true, no);
        assert_eq!(scene.order().business_no, number(expected));
    }
    assert!(matches!(scene.report(0x98, 26, 0, 0), ReportFate::Booked(_)), "under its older number as well");
    assert_eq!(scene.told(), [OrderEvent::Started, OrderEvent::Completed]);
}

#[test]
fn a_repeated_ok_ends_a_grace() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 26);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.pass(30_000);
    scene.answer(message_id, true, 26);
    scene.run(10 * MINUTE);
    assert_eq!(scene.order().status, OrderStatus::Charging);
}

#[test]
fn a_repeated_ok_on_an_order_that_is_to_be_stopped_is_answered_with_a_stop() {
    for accepted in [true, false] {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.answer(message_id, true, 26);
        scene.stop(Some("order-1"));
        scene.stop_answered(accepted);
        scene.answer(message_id, true, 27);
        assert_eq!((scene.sent_stops().len(), scene.order().business_no), (2, number(27)));
    }
}

#[test]
fn a_late_ok_resumes_what_later_truth_lets_resume_and_stops_the_rest() {
    for (idle, expected, stops) in [(false, OrderStatus::Charging, 0), (true, OrderStatus::Completed, 1)] {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.answer(message_id, true, 26);
        scene.leaves();
        scene.run(5 * MINUTE);
        scene.returns();
        if idle {
            scene.shows(0x80, 0, 0, 0, To::Question);
        }
        scene.answer(message_id, true, 27);
        assert_eq!((scene.order().status, scene.sent_stops().len()), (expected, stops));
        assert_eq!(scene.order().business_no, number(27));
    }
}

#[test]
fn a_late_ok_on_a_refused_or_reported_order_is_answered_with_a_stop() {
    for refused in [true, false] {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.answer(message_id, !refused, 26);
        if !refused {
            scene.report(0x98, 26, 0, 0);
        }
        let before = (scene.ended(), scene.order().revision, scene.order().end_time);
        scene.answer(message_id, true, 27);
        assert_eq!((scene.ended(), scene.order().revision, scene.order().end_time), before, "it stays as it was");
        assert_eq!((scene.sent_stops().len(), scene.order().business_no), (1, number(27)));
    }
}

#[test]
fn a_report_under_a_late_number_corrects_the_figures_of_a_cancelled_start_only() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.stop(Some("order-1"));
    scene.answer(message_id, true, 44);
    let ended = scene.order().end_time;
    scene.pass(30_000);
    scene.report(0xf0, 44, 7, 1);
    assert_eq!(scene.ended(), (OrderStatus::Cancelled, Some(EndReason::Cancelled), Some(Settlement::Corrected)));
    assert_eq!((scene.order().revision, scene.order().end_time, scene.bounds()), (2, ended, (7, 1)));
    assert_eq!(scene.told(), [OrderEvent::Cancelled, OrderEvent::Corrected]);
}

#[test]
fn a_stop_on_a_pending_start_cancels_it_at_once_and_is_sent_all_the_same() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.stop(Some("order-1"));
    assert_eq!(scene.ended(), (OrderStatus::Cancelled, Some(EndReason::Cancelled), Some(Settlement::Provisional)));
    assert_eq!(scene.order().stopped_by.as_deref(), Some("guard"));
    assert_eq!(scene.sent_stops().len(), 1);
    assert_eq!(scene.replies(), [("start-1".to_owned(), Outcome::Failed(Refusal::Cancelled))]);
    scene.stop_answered(true);
    assert_eq!(scene.replies()[1], ("stop".to_owned(), Outcome::Done));
}

#[test]
fn ok_and_end_in_one_leave_the_port_as_it_was_shown() {
    for (raw, shown) in [(0x80, PortStatus::Idle), (0x81, PortStatus::Unclear)] {
        for no in [33, 0] {
            let mut scene = Scene::idle();
            scene.start(Plan::Time { minutes: 60 });
            scene.report(0x98, no, 0, 0);
            scene.run_unasked(15_000);
            scene.shows(raw, 0, 0, 0, To::Question);
            assert_eq!((scene.order().status, scene.case.port.status), (OrderStatus::Completed, shown));
        }
    }
    for (kept, answered) in [(33, 33), (33, 0), (0, 0)] {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.report(0x98, kept, 0, 0);
        scene.answer(message_id, true, answered);
        assert_eq!((scene.order().status, scene.case.port.status), (OrderStatus::Completed, PortStatus::Idle));
        assert!(scene.order().start_time <= scene.order().end_time);
    }
}

#[test]
fn a_kept_report_that_comes_again_waits_on_and_is_a_duplicate_afterwards() {
    for no in [33, 0] {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        assert_eq!(scene.report(0x98, no, 0, 0), ReportFate::Kept);
        assert_eq!(scene.report(0x98, no, 0, 0), ReportFate::Kept);
        scene.answer(message_id, true, 0);
        assert_eq!(scene.ended().2, Some(Settlement::Reported));
        assert!(matches!(scene.report(0x98, no, 0, 0), ReportFate::Duplicate(_)));
        assert_eq!((scene.unknown_ends(), scene.order().revision), (0, 1));
    }
}

#[test]
fn a_kept_report_may_have_one_minute_more_than_passed_since_the_first_sending() {
    for (minutes, its_own) in [(3, true), (4, false)] {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.up += 2 * MINUTE + 59_000;
        scene.report(0xb0, 33, 1, minutes);
        scene.answer(message_id, true, 0);
        assert_eq!(scene.ended().2 == Some(Settlement::Reported), its_own, "{minutes} minutes");
    }
}

#[test]
fn a_kept_report_is_nobodys_when_the_start_is_given_up() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.report(0x98, 33, 0, 0);
    scene.run(45_000);
    assert_eq!((scene.ended().1, scene.unknown_ends()), (Some(EndReason::StartTimeout), 1));
}

#[test]
fn an_earlier_start_that_was_refused_leaves_a_kept_report_to_the_next() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, false, 0);
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.report(0x98, 33, 0, 0);
    scene.answer(message_id, true, 0);
    assert_eq!(scene.ended().2, Some(Settlement::Reported));
}

#[test]
fn after_a_restart_a_kept_report_and_idle_are_ok_and_end_in_one() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.report(0x98, 33, 0, 0);
    scene.restarts();
    scene.pass(1000);
    scene.returns();
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.ended().2, Some(Settlement::Reported));
    assert_eq!(scene.replies(), [("start-1".to_owned(), Outcome::Done)]);
}

#[test]
fn after_a_restart_idle_is_a_start_timeout_without_a_stop_even_after_a_refusal() {
    for refused in [false, true] {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.restarts();
        scene.pass(1000);
        scene.returns();
        if refused {
            scene.answer(message_id, false, 0);
        }
        scene.shows(0x80, 0, 0, 0, To::Question);
        assert_eq!(scene.ended(), (OrderStatus::Failed, Some(EndReason::StartTimeout), Some(Settlement::Provisional)));
        assert_eq!((scene.sent_stops().len(), scene.may_start()), (0, Err(Refusal::PortBusy)));
    }
}

#[test]
fn the_number_of_an_earlier_order_is_an_ok_but_never_becomes_the_new_orders() {
    let mut scene = Scene::charging(26, 60);
    scene.report(0x98, 26, 0, 0);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.start(Plan::Time { minutes: 60 });
    scene.run_unasked(15_000);
    scene.shows(0xb0, 26, 9, 9, To::Question);
    assert_eq!((scene.order().status, scene.order().business_no), (OrderStatus::Charging, None));
    assert_eq!((scene.order().flags.contains(&Flag::ReusedNumber), scene.order().energy_wh), (true, None));
}
