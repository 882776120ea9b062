//! Each rule that can be switched off: its scene shows the rule broken when it is off, and only then. So whoever
//! watches over a whole site with one rule off has something to notice.
//!
//! `cargo test --features mutants --test mutants`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "order_rules/scene.rs"]
mod scene;

use std::net::{IpAddr, Ipv4Addr};

use chargegate::bkv::{
    AsciiText, ChargeEnd, Deframer, Direction, Downlink, EndFigures, EnergyUnits, Frame, Heartbeat, StatusByte, Uplink,
};
use chargegate::config::Config;
use chargegate::mutants::{Mutant, switch_off};
use chargegate::site::Site;
use chargegate::store::{Settings, Store};
use chargegate::trust::BUILT;
use chargegate::turn::{ConnId, Core, Output};

use scene::*;

#[test]
fn each_rule_is_broken_when_it_is_off_and_no_other_is() {
    for off in std::iter::once(None).chain(Mutant::ALL.iter().copied().map(Some)) {
        for rule in Mutant::ALL {
            switch_off(off);
            let broken = is_broken(*rule);
            switch_off(None);
            assert_eq!(broken, off == Some(*rule), "{} with {off:?} off", rule.word());
        }
    }
}

#[test]
fn each_rule_has_a_word_of_its_own() {
    let words: std::collections::BTreeSet<_> = Mutant::ALL.iter().map(|rule| rule.word()).collect();
    assert_eq!(words.len(), Mutant::ALL.len());
}

#[test]
fn a_rule_is_off_in_the_thread_that_switched_it_off_alone() {
    switch_off(Some(Mutant::Hold));
    let elsewhere = std::thread::spawn(|| chargegate::mutants::off(Mutant::Hold)).join().unwrap();
    assert_eq!((chargegate::mutants::off(Mutant::Hold), elsewhere), (true, false));
}

/// Plays the scene of a rule.
fn is_broken(rule: Mutant) -> bool {
    match rule {
        Mutant::Hold => a_start_may_go_to_a_held_port(),
        Mutant::AskBeforeRepeating => a_start_is_repeated_unasked(),
        Mutant::AnswerAfterCommit => an_end_report_is_acknowledged_before_its_commit(),
        Mutant::Duplicates => a_duplicate_changes_the_order(),
        Mutant::NoStopOverLaterOrder => a_stop_reaches_a_later_order(),
        Mutant::StopOwnNumber => a_stop_reaches_another_number(),
        Mutant::AskBeforeSilentClose => silence_closes_unasked(),
        Mutant::OwedStops => a_refused_stop_is_forgotten(),
        Mutant::Bounds => the_bounds_are_the_last_figures(),
        Mutant::WhoseSession => another_number_is_another_session(),
        Mutant::EndReportGrace => idle_closes_at_once(),
        Mutant::Resume => an_order_closed_by_time_stays_closed(),
        Mutant::UnknownSession => a_session_without_an_order_is_let_be(),
        Mutant::KeptReports => an_early_report_is_lost(),
        Mutant::RestartAsks => a_restart_sends_the_start_again(),
        Mutant::LaterReport => a_late_report_is_nobodys(),
    }
}

/// A start that was stopped before it was answered.
fn cancelled() -> (Scene, MessageId) {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    (scene, message_id)
}

/// An order that was closed because its device was away, which is back.
fn closed_offline() -> Scene {
    let mut scene = Scene::charging(26, 60);
    scene.leaves();
    scene.run(5 * MINUTE);
    scene.returns();
    assert_eq!(scene.ended().2, Some(Settlement::Provisional));
    scene
}

fn a_start_may_go_to_a_held_port() -> bool {
    let (mut scene, _) = cancelled();
    assert_eq!((scene.case.port.status, scene.case.is_held()), (PortStatus::Idle, true));
    scene.may_start().is_ok()
}

fn a_start_is_repeated_unasked() -> bool {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.run_unasked(15_000);
    assert_eq!(scene.order().status, OrderStatus::Pending);
    scene.sent_starts() > 1
}

fn a_duplicate_changes_the_order() -> bool {
    let mut scene = Scene::charging(26, 60);
    assert!(matches!(scene.report(0xb0, 26, 10, 1), ReportFate::Booked(_)));
    let (booked, told) = (scene.order().clone(), scene.told().len());
    assert!(matches!(scene.report(0xb0, 26, 10, 1), ReportFate::Duplicate(_)));
    *scene.order() != booked && scene.told().len() > told
}

fn a_stop_reaches_a_later_order() -> bool {
    let (mut scene, late) = cancelled();
    scene.pass(61_000);
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.may_start(), Ok(()));
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 27);
    scene.effects.clear();
    scene.answer(late, true, 44);
    assert_eq!(scene.order().status, OrderStatus::Charging);
    !scene.sent_stops().is_empty()
}

fn a_stop_reaches_another_number() -> bool {
    let mut scene = Scene::idle();
    let late = scene.start(Plan::Time { minutes: 60 });
    scene.answer(late, false, 0);
    let message_id = scene.start(Plan::Time { minutes: 60 });
    scene.answer(message_id, true, 27);
    scene.report(0x98, 27, 0, 0);
    scene.shows(0xb0, 45, 0, 0, To::Nothing);
    scene.effects.clear();
    scene.answer(late, true, 44);
    !scene.sent_stops().is_empty()
}

fn silence_closes_unasked() -> bool {
    let mut scene = Scene::charging(26, 900);
    scene.shows(0xb0, 26, 1, 0, To::Nothing);
    scene.pass(30 * MINUTE);
    assert_eq!(scene.wants_question(), Some(UpTime(scene.up)));
    scene.at(|desk| desk.timeout());
    scene.ended().1 == Some(EndReason::Timeout)
}

fn a_refused_stop_is_forgotten() -> bool {
    let mut scene = Scene::charging(26, 900);
    scene.stop(Some("order-1"));
    scene.stop_answered(false);
    scene.pass(30_000);
    scene.shows(0xb0, 26, 1, 0, To::Nothing);
    scene.sent_stops().len() < 2
}

fn the_bounds_are_the_last_figures() -> bool {
    let mut estimated = Scene::charging(26, 60);
    estimated.pass(10 * MINUTE);
    estimated.shows(0xb0, 26, 100, 10, To::Nothing);
    let mut provisional = Scene { case: estimated.case.clone(), up: estimated.up, ..Scene::idle() };
    estimated.pass(10 * MINUTE);
    estimated.shows(0x80, 0, 0, 0, To::Nothing);
    estimated.run(2 * MINUTE);
    provisional.leaves();
    provisional.run(5 * MINUTE);
    let bounds = [estimated.bounds(), provisional.bounds()];
    assert!(bounds == [(100, 10); 2] || bounds == [(267, 20), (1000, 60)], "{bounds:?}");
    bounds == [(100, 10); 2]
}

fn another_number_is_another_session() -> bool {
    let mut scene = Scene::charging(26, 60);
    scene.pass(MINUTE);
    scene.shows(0xb0, 31, 5, 1, To::Nothing);
    scene.pass(1000);
    scene.shows(0xb0, 31, 5, 1, To::Question);
    scene.order().business_no == number(26) && scene.order().energy_wh.is_none()
}

fn idle_closes_at_once() -> bool {
    let mut scene = Scene::charging(26, 60);
    scene.pass(MINUTE);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.ended() == (OrderStatus::Completed, Some(EndReason::EndReportMissing), Some(Settlement::Estimated))
}

fn an_order_closed_by_time_stays_closed() -> bool {
    let mut scene = closed_offline();
    scene.shows(0xb0, 26, 5, 5, To::Question);
    scene.order().status == OrderStatus::Completed
}

fn a_session_without_an_order_is_let_be() -> bool {
    let mut scene = Scene::idle();
    scene.shows(0xb0, 888, 1, 1, To::Nothing);
    let asks = scene.wants_question().is_some();
    scene.pass(61_000);
    scene.shows(0xb0, 888, 1, 1, To::Question);
    let stops = !scene.sent_stops().is_empty();
    assert_eq!(asks, stops);
    !stops
}

fn an_early_report_is_lost() -> bool {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    assert_eq!(scene.report(0x98, 33, 0, 0), ReportFate::Kept);
    scene.answer(message_id, true, 33);
    assert_eq!(scene.unknown_ends(), 0);
    scene.order().status == OrderStatus::Charging
}

fn a_restart_sends_the_start_again() -> bool {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.restarts();
    scene.returns();
    assert_eq!(scene.order().status, OrderStatus::Pending);
    scene.sent_starts() > 1
}

fn a_late_report_is_nobodys() -> bool {
    let mut scene = closed_offline();
    let fate = scene.report(0xb0, 26, 40, 59);
    assert_eq!(fate == ReportFate::Nobody, scene.order().settlement != Some(Settlement::Corrected));
    fate == ReportFate::Nobody
}

fn an_end_report_is_acknowledged_before_its_commit() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let wall = WallTime(BUILT.0 + 86_400_000);
    let store = Store::open(&folder.path().join("store.db"), &Settings::default(), wall).unwrap();
    let now = Now { up: UpTime(store.up_base().0 + 1), wall, synchronized: false };
    let mut site = Site::open(Config::default(), store, now).unwrap();
    let conn = ConnId(1);
    site.connected(conn, IpAddr::V4(Ipv4Addr::LOCALHOST), now);
    for message in [heartbeat(), end_report()] {
        let bytes = message.encode(key().device, MessageId::DEVICE);
        site.frame(conn, &Frame::parse(&bytes).unwrap(), now).unwrap();
    }
    let before = acknowledges(&mut site);
    assert!(site.wants_commit());
    site.commit(now).unwrap();
    assert_eq!(acknowledges(&mut site), !before, "once");
    before
}

/// Whether an end report's acknowledgement is among what goes out now.
fn acknowledges(site: &mut Site) -> bool {
    let mut found = false;
    while let Some((output, bytes)) = site.outputs().next() {
        let mut deframer = Deframer::new(Direction::Down);
        let mut rest = bytes;
        while let Some(Ok(frame)) = deframer.next(&mut rest).filter(|_| matches!(output, Output::Send(..))) {
            let frame: Frame<'_> = frame;
            found |= matches!(Downlink::decode(&frame).unwrap(), Downlink::EndAck(_));
        }
    }
    site.outputs().recycle();
    found
}

fn heartbeat() -> Uplink {
    Uplink::Heartbeat(Heartbeat {
        iccid: AsciiText::new("89860446112070301941").unwrap(),
        firmware: AsciiText::new("v1.146").unwrap(),
        rssi: 28,
    })
}

fn end_report() -> Uplink {
    let figures = EndFigures {
        socket: key().socket,
        firmware: 0x5036,
        temperature_c: 30,
        rssi: 30,
        port: key().port,
        status: StatusByte(0xb0),
        business_no: number(26),
        power: DeciWatts(0),
        current: MilliAmperes(0),
        energy_units: EnergyUnits(10),
        minutes: Minutes(1),
    };
    Uplink::ChargeEnd(ChargeEnd { figures })
}
