//! Contract §5 *No order stays stuck*.

use super::*;

#[test]
fn an_idle_port_without_a_report_is_closed_after_the_grace_once_asked() {
    let mut scene = Scene::charging(26, 60);
    scene.pass(10 * MINUTE);
    scene.shows(0xb0, 26, 100, 10, To::Nothing);
    scene.pass(10 * MINUTE);
    let idle = scene.wall();
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(59_000);
    assert_eq!(scene.order().status, OrderStatus::Charging);
    scene.run(20_000);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::EndReportMissing), Some(Settlement::Estimated)));
    assert_eq!(scene.order().end_time, Some(WallTime(idle)), "the first evidence of the end");
    // 1000 W for the ten minutes that nobody saw: 166.67 Wh, rounded up.
    assert_eq!(scene.bounds(), (267, 20));
    assert_eq!(scene.case.port.status, PortStatus::Idle);
}

#[test]
fn silence_closes_only_after_a_question_and_the_port_is_never_idle_by_it() {
    for (after, status) in [(14_000, OrderStatus::Charging), (16_000, OrderStatus::Completed)] {
        let mut scene = Scene::charging(26, 900);
        scene.shows(0xb0, 26, 1, 0, To::Nothing);
        scene.run(30 * MINUTE + after);
        assert_eq!(scene.order().status, status, "the question waits 15 s");
    }
    let mut scene = Scene::charging(26, 900);
    scene.shows(0xb0, 26, 1, 0, To::Nothing);
    scene.run(31 * MINUTE);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Timeout), Some(Settlement::Provisional)));
    assert_eq!(scene.bounds(), (15_000, 900), "the whole plan");
    assert_eq!(scene.case.port.status, PortStatus::Unclear);
}

#[test]
fn an_order_whose_device_is_away_is_closed_five_minutes_after_it_was_last_heard() {
    let mut scene = Scene::charging(26, 900);
    scene.reach = Reach::Away(UpTime(scene.up));
    scene.at(|desk| desk.left());
    scene.run(299_000);
    assert_eq!(scene.order().status, OrderStatus::Charging);
    scene.run(1000);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Offline), Some(Settlement::Provisional)));
    assert_eq!(scene.case.port.status, PortStatus::Offline);
}

#[test]
fn past_its_paid_time_it_is_stopped_and_a_stop_that_fails_closes_it() {
    let mut scene = Scene::charging(26, 10);
    for minute in 1..15 {
        scene.pass(MINUTE);
        scene.shows(0xb0, 26, minute, minute, To::Nothing);
        scene.at(|desk| desk.timeout());
    }
    assert!(scene.sent_stops().is_empty());
    scene.run(MINUTE);
    assert_eq!(scene.sent_stops().len(), 1);
    scene.stop_answered(false);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Overrun), Some(Settlement::Provisional)));
}

#[test]
fn energy_above_plan_by_more_than_five_per_cent_and_fifty_wh_is_an_overrun() {
    for (ordered, energy, stopped) in [
        (1000, 1050, false),
        (1000, 1051, true),
        (100, 150, false),
        (100, 151, true),
        (2000, 2100, false),
        (2000, 2101, true),
    ] {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Energy { energy_wh: ordered });
        scene.answer(message_id, true, 26);
        scene.pass(3 * HOUR);
        scene.shows(0xb0, 26, energy, 180, To::Nothing);
        assert_eq!(!scene.sent_stops().is_empty(), stopped, "{energy} of {ordered} Wh");
    }
}

#[test]
fn an_accepted_stop_without_a_report_is_provisional_unless_idle_was_shown() {
    for (idle, settlement) in [(false, Settlement::Provisional), (true, Settlement::Estimated)] {
        let mut scene = Scene::charging(26, 900);
        scene.stop(Some("order-1"));
        scene.stop_answered(true);
        scene.pass(1000);
        if idle {
            scene.shows(0x80, 0, 0, 0, To::Nothing);
        }
        scene.run(80_000);
        assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::RemoteStop), Some(settlement)));
    }
}

#[test]
fn the_devices_end_report_ends_an_open_order_with_its_figures() {
    let mut scene = Scene::charging(26, 60);
    scene.pass(30 * MINUTE);
    let mut report = report(0x98, 26, 55, 30);
    report.raw_reason = Some(8);
    report.device_end_time = Some("2024-01-01 00:00:00".to_owned());
    scene.report_of(&report);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::NoLoad), Some(Settlement::Reported)));
    let order = scene.order();
    assert_eq!((order.is_final, order.revision, order.raw_status, order.raw_reason), (true, 1, Some(0x98), Some(8)));
    assert_eq!(order.end_time, Some(WallTime(scene.wall())), "a device's clock never sets it");
    assert_eq!(scene.bounds(), (55, 30));
    assert_eq!(scene.told(), [OrderEvent::Completed]);
}

#[test]
fn without_having_been_asked_an_idle_port_is_not_closed() {
    let mut scene = Scene::charging(26, 60);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run_unasked(4 * MINUTE);
    assert_eq!(scene.order().status, OrderStatus::Charging);
    assert!(scene.wants_question().is_some_and(|since| since.0 <= scene.up));
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.ended().1, Some(EndReason::EndReportMissing));
}

#[test]
fn a_status_that_shows_it_charging_ends_the_grace() {
    for no in [26, 0] {
        let mut scene = Scene::charging(26, 60);
        scene.shows(0x80, 0, 0, 0, To::Nothing);
        scene.pass(30_000);
        scene.shows(0xb0, no, 1, 1, To::Nothing);
        scene.run(5 * MINUTE);
        assert_eq!(scene.order().status, OrderStatus::Charging);
    }
}

#[test]
fn after_an_accepted_stop_idle_without_a_report_is_a_remote_stop() {
    let mut scene = Scene::charging(26, 60);
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    scene.pass(5000);
    let idle = scene.wall();
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(MINUTE);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::RemoteStop), Some(Settlement::Estimated)));
    assert_eq!(scene.order().end_time, Some(WallTime(idle)));
}

#[test]
fn after_a_stop_that_was_refused_idle_without_a_report_is_a_missing_report() {
    let mut scene = Scene::charging(26, 60);
    scene.stop(Some("order-1"));
    scene.stop_answered(false);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(2 * MINUTE);
    assert_eq!(scene.ended().1, Some(EndReason::EndReportMissing));
    assert_eq!(scene.may_start(), Ok(()), "its stop is discharged");
}

#[test]
fn the_grace_of_an_accepted_stop_ends_although_the_device_is_away() {
    let mut scene = Scene::charging(26, 60);
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    scene.leaves();
    scene.run(59_000);
    assert_eq!(scene.order().status, OrderStatus::Stopping);
    scene.run(1000);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::RemoteStop), Some(Settlement::Provisional)));
    assert_eq!(scene.case.port.status, PortStatus::Offline);
}

#[test]
fn a_stop_in_vain_past_the_paid_time_is_an_overrun_and_nothing_is_due_again_and_again() {
    let mut scene = Scene::charging(26, 10);
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    for _ in 0..20 {
        scene.run_unasked(MINUTE - 1);
        scene.pass(1);
        if scene.order().status.is_running() {
            scene.shows(0xb0, 26, 1, 1, To::Nothing);
            scene.stop_answered(true);
        }
    }
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Overrun), Some(Settlement::Provisional)));
}

#[test]
fn an_overruns_stop_that_fails_or_does_not_help_closes_and_one_that_helps_waits_for_the_report() {
    type How = fn(&mut Scene);
    let rows: [(How, OrderStatus, &str); 4] = [
        (|scene| scene.stop_answered(false), OrderStatus::Completed, "refused"),
        (|scene| scene.run_unasked(45_000), OrderStatus::Completed, "not answered"),
        (
            |scene| {
                scene.stop_answered(true);
                scene.pass(30_000);
                scene.shows(0xb0, 26, 1, 15, To::Nothing);
                scene.run_unasked(30_000);
            },
            OrderStatus::Completed,
            "still shown charging: its grace does not begin anew",
        ),
        (
            |scene| {
                scene.stop_answered(true);
                scene.run_unasked(59_000);
            },
            OrderStatus::Stopping,
            "within its grace",
        ),
    ];
    for (how, status, what) in rows {
        let mut scene = Scene::charging(26, 10);
        scene.run_unasked(15 * MINUTE);
        assert_eq!(scene.order().stopped_by.as_deref(), Some("agent"));
        how(&mut scene);
        assert_eq!(scene.order().status, status, "{what}");
        if status == OrderStatus::Completed {
            assert_eq!(scene.ended().1, Some(EndReason::Overrun), "{what}");
            assert_eq!(scene.ended().2, Some(Settlement::Provisional), "{what}");
            assert_eq!(scene.case.port.status, PortStatus::Unclear, "{what}");
        }
    }
    let mut scene = Scene::charging(26, 10);
    scene.run_unasked(15 * MINUTE);
    scene.stop_answered(true);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(MINUTE);
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Overrun), Some(Settlement::Estimated)));
}

#[test]
fn an_overrun_while_the_device_is_away_is_stopped_at_its_return_or_closed_as_offline() {
    for comes_back in [true, false] {
        let mut scene = Scene::charging(26, 10);
        scene.run_unasked(14 * MINUTE);
        scene.leaves();
        scene.run_unasked(2 * MINUTE);
        assert_eq!(scene.order().status, OrderStatus::Charging, "a stop that could not be sent has not failed");
        if comes_back {
            scene.returns();
            assert_eq!(scene.sent_stops().len(), 1);
            scene.stop_answered(false);
        } else {
            scene.run_unasked(3 * MINUTE);
        }
        let reason = if comes_back { EndReason::Overrun } else { EndReason::Offline };
        assert_eq!(scene.ended(), (OrderStatus::Completed, Some(reason), Some(Settlement::Provisional)));
    }
}

#[test]
fn a_port_that_is_shown_idle_past_its_paid_time_is_not_stopped() {
    let mut scene = Scene::charging(26, 10);
    scene.run_unasked(15 * MINUTE - 1000);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(2 * MINUTE);
    assert_eq!((scene.ended().1, scene.sent_stops().len()), (Some(EndReason::EndReportMissing), 0));
}

#[test]
fn each_return_after_a_timeout_doubles_the_silence_that_closes() {
    let mut scene = Scene::charging(26, 900);
    for silence in [30, 60, 120] {
        scene.shows(0xb0, 26, 0, 0, To::Nothing);
        assert_eq!(scene.wants_question(), Some(UpTime(scene.up + silence * MINUTE)));
        scene.run(silence * MINUTE + 15_000);
        assert_eq!(scene.ended().1, Some(EndReason::Timeout), "{silence} minutes");
    }
}

#[test]
fn any_status_of_the_port_is_news_and_silence_needs_a_device_that_is_online() {
    let mut scene = Scene::charging(26, 900);
    for _ in 0..6 {
        scene.run_unasked(29 * MINUTE);
        scene.shows(0xb0, 26, 0, 0, To::Nothing);
    }
    assert_eq!(scene.order().status, OrderStatus::Charging);
    scene.run_unasked(29 * MINUTE);
    scene.leaves();
    scene.run(4 * MINUTE);
    assert_eq!(scene.order().status, OrderStatus::Charging);
    scene.run(MINUTE);
    assert_eq!(scene.ended().1, Some(EndReason::Offline));
}

#[test]
fn after_a_restart_a_device_gets_its_time_to_return() {
    let mut scene = Scene::charging(26, 900);
    scene.leaves();
    scene.pass(4 * MINUTE);
    let left = UpTime(scene.up - 4 * MINUTE);
    scene.restarts();
    scene.reach = Reach::Away(left);
    scene.run(149_000);
    assert_eq!(scene.order().status, OrderStatus::Charging);
    scene.run(1000);
    assert_eq!(scene.ended().1, Some(EndReason::Offline));
}

#[test]
fn paid_time_counts_down_time_and_silence_does_not() {
    let mut scene = Scene::charging(26, 60);
    scene.pass(10 * MINUTE);
    scene.downtime.0.push((UpTime(scene.up), Some(Duration::from_secs(50 * 60))));
    scene.restarts();
    scene.returns();
    scene.shows(0xb0, 26, 1, 60, To::Question);
    scene.run_unasked(4 * MINUTE);
    assert!(scene.sent_stops().is_empty());
    scene.run_unasked(MINUTE);
    assert_eq!(scene.sent_stops().len(), 1, "65 minutes after the start, 15 of them seen");
}

#[test]
fn a_wall_clock_that_jumps_neither_ends_an_order_nor_keeps_one_open() {
    // The scene's deadlines are in up-time throughout: what the wall says is only written down.
    let mut scene = Scene::charging(26, 900);
    scene.shows(0xb0, 26, 0, 0, To::Nothing);
    scene.jump = 20 * 365 * 24 * 3_600_000;
    scene.run(29 * MINUTE);
    assert_eq!(scene.order().status, OrderStatus::Charging);
    scene.jump = -scene.jump;
    scene.run(2 * MINUTE);
    assert_eq!(scene.ended().1, Some(EndReason::Timeout));
}

#[test]
fn an_overruns_stop_that_is_accepted_again_and_again_closes_when_the_first_grace_ends() {
    let mut scene = Scene::charging(26, 10);
    scene.run_unasked(15 * MINUTE);
    scene.stop_answered(true);
    for _ in 0..3 {
        scene.run_unasked(31_000);
        if scene.order().status.is_running() {
            scene.shows(0xb0, 26, 1, 15, To::Nothing);
            scene.stop_answered(true);
        }
    }
    assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Overrun), Some(Settlement::Provisional)));
}
