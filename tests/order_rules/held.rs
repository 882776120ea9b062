//! Contract §5 *Held ports*.

use super::*;

/// A start that was cancelled, its stop answered: the port is held for the grace, and until idle is proven.
fn cancelled() -> Scene {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    scene
}

#[test]
fn idle_is_proven_by_one_answer_under_our_id_or_by_two_others_and_by_nothing_older() {
    let rows: [(&[To], bool); 5] = [
        (&[To::Question], true),
        (&[To::ByReport], false),
        (&[To::ByReport, To::ByReport], true),
        (&[To::Nothing, To::Nothing], false),
        (&[To::Older(70_000), To::Older(70_000)], false),
    ];
    for (place, (readings, free)) in rows.into_iter().enumerate() {
        let mut scene = cancelled();
        scene.pass(61_000);
        for to in readings {
            scene.shows(0x80, 0, 0, 0, *to);
        }
        assert_eq!(scene.may_start().is_ok(), free, "row {place}");
    }
}

#[test]
fn within_the_grace_nothing_frees_the_port() {
    let mut scene = cancelled();
    scene.pass(59_000);
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.may_start(), Err(Refusal::PortBusy));
}

#[test]
fn the_end_of_the_hold_makes_a_cancelled_order_an_estimate() {
    let mut scene = cancelled();
    assert_eq!(scene.order().settlement, Some(Settlement::Provisional));
    scene.pass(61_000);
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.ended(), (OrderStatus::Cancelled, Some(EndReason::Cancelled), Some(Settlement::Estimated)));
    // 1000 W from the first sending to the proof: 61 s, rounded up.
    assert_eq!((scene.bounds(), scene.order().revision), ((17, 2), 2));
}

#[test]
fn a_port_is_held_until_each_sending_is_answered() {
    let mut scene = Scene::idle();
    scene.stop(None);
    assert_eq!(scene.may_start(), Err(Refusal::PortBusy));
    scene.stop_answered(true);
    assert_eq!(scene.may_start(), Ok(()));
}

#[test]
fn one_unanswered_sending_of_two_holds_the_port_when_the_order_is_over() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.run_unasked(15_000);
    scene.shows(0x80, 0, 0, 0, To::Question);
    scene.answer(message_id, true, 26);
    scene.pass(2 * MINUTE);
    scene.report(0x98, 26, 0, 0);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    assert_eq!(scene.may_start(), Err(Refusal::PortBusy));
    assert!(scene.wants_question().is_some_and(|since| since.0 <= scene.up), "it is asked about");
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.may_start(), Ok(()));
}

#[test]
fn it_is_asked_about_from_the_end_of_the_grace_after_the_last_sending() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.pass(10_000);
    scene.stop(Some("order-1"));
    let sent = scene.up;
    scene.pass(5000);
    scene.stop_answered(true);
    assert_eq!(scene.wants_question(), Some(UpTime(sent + MINUTE)));
    scene.up = sent + MINUTE;
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.may_start(), Ok(()));
}

#[test]
fn what_a_socket_reports_by_itself_counts_once_a_question_stayed_without_a_reply() {
    for (ago, free) in [(20_000, true), (90_000, false)] {
        let mut scene = cancelled();
        scene.pass(100_000);
        for _ in 0..2 {
            assert_eq!(scene.may_start(), Err(Refusal::PortBusy));
            scene.shows(0x80, 0, 0, 0, To::Unanswered(ago));
        }
        assert_eq!(scene.may_start().is_ok(), free, "a question of {ago} ms ago");
    }
}

#[test]
fn a_charging_status_takes_the_evidence_back() {
    let mut scene = cancelled();
    scene.pass(61_000);
    scene.shows(0x80, 0, 0, 0, To::ByReport);
    scene.shows(0xb0, 31, 0, 0, To::Nothing);
    scene.shows(0x80, 0, 0, 0, To::ByReport);
    assert_eq!(scene.may_start(), Err(Refusal::PortBusy));
}

#[test]
fn a_hold_and_its_grace_go_on_over_a_restart() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.stop(Some("order-1"));
    scene.pass(30_000);
    scene.restarts();
    scene.returns();
    scene.stop_answered(true);
    scene.pass(MINUTE);
    scene.shows(0x80, 0, 0, 0, To::Older(1000));
    assert_eq!(scene.may_start(), Err(Refusal::PortBusy), "the stop was sent again at the return");
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.may_start(), Ok(()));
}

#[test]
fn a_stop_on_its_way_holds_the_port_whatever_else_is_answered() {
    let mut scene = Scene::idle();
    scene.stop_by("one", None);
    let older = scene.sent_stops()[0];
    scene.stop_answered(true);
    scene.stop_by("two", None);
    scene.at(|desk| desk.stop_answered(older, true));
    assert_eq!(scene.may_start(), Err(Refusal::PortBusy));
}

#[test]
fn idle_that_fails_a_start_proves_the_port_free_when_the_grace_is_over() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.restarts();
    scene.pass(2 * MINUTE);
    scene.returns();
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!((scene.ended().1, scene.may_start()), (Some(EndReason::StartTimeout), Ok(())));
    assert_eq!(scene.told(), [OrderEvent::Failed, OrderEvent::Corrected]);
}
