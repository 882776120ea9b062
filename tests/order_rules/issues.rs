//! Contract §5 *Consistency*: what disagrees, what is set aside, and how long the rules may take.

use super::*;

impl Scene {
    fn issue(&mut self) -> Option<(IssueType, Option<String>)> {
        let issue = self.at(|desk| desk.issue())?;
        Some((issue.kind, issue.order_no.map(|order_no| order_no.to_string())))
    }
}

const LONELY: Option<(IssueType, Option<String>)> = Some((IssueType::LonelyChargingPort, None));

#[test]
fn an_order_on_an_idle_port_disagrees_until_its_grace_ends_it() {
    let mut scene = Scene::charging(26, 60);
    assert_eq!(scene.issue(), None);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    assert_eq!(scene.issue(), Some((IssueType::OrderPortMismatch, Some("order-1".to_owned()))));
    scene.run(79_000);
    assert_eq!(scene.issue(), None);
}

#[test]
fn what_is_not_known_or_stopping_or_pending_makes_no_issue() {
    let mut scene = Scene::charging(26, 60);
    scene.leaves();
    assert_eq!(scene.issue(), None);
    scene.returns();
    assert_eq!((scene.case.port.status, scene.issue()), (PortStatus::Unclear, None));
    scene.shows(0xb0, 26, 1, 0, To::Nothing);
    scene.stop(None);
    scene.stop_answered(true);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    assert_eq!((scene.order().status, scene.issue()), (OrderStatus::Stopping, None));
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    scene.shows(0xb0, 26, 0, 0, To::Nothing);
    assert_eq!((scene.order().status, scene.issue()), (OrderStatus::Pending, None));
}

#[test]
fn a_port_without_an_order_disagrees_until_it_is_idle_or_its_stops_count_as_ignored() {
    let mut scene = Scene::idle();
    scene.shows(0xb0, 888, 1, 1, To::Nothing);
    assert_eq!(scene.issue(), LONELY);
    scene.pass(MINUTE);
    scene.shows(0xb0, 888, 1, 1, To::Question);
    for in_vain in 0..3 {
        assert_eq!((scene.sent_stops().len(), scene.issue()), (in_vain + 1, LONELY));
        scene.stop_answered(true);
        scene.pass(31_000);
        scene.shows(0xb0, 888, 1, 1, To::Nothing);
    }
    assert!(scene.effects.contains(&Effect::StopIgnored { stops: 3 }));
    assert_eq!(scene.issue(), None, "ignored");
    let mut scene = Scene::idle();
    scene.shows(0xb0, 888, 1, 1, To::Nothing);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    assert_eq!(scene.issue(), None);
}

#[test]
fn a_session_that_is_only_watched_is_set_aside_and_a_stop_that_is_owed_is_not() {
    let mut scene = Scene::idle();
    scene.stops_strays = false;
    scene.shows(0xb0, 888, 1, 1, To::Nothing);
    assert_eq!(scene.issue(), None);
    scene.stop(None);
    assert_eq!(scene.issue(), LONELY);
}

#[test]
fn the_rules_may_take_the_grace_a_question_and_what_a_device_takes_to_tell() {
    let mut scene = Scene::idle();
    let within = |scene: &mut Scene, kind| scene.at(|desk| desk.terms.repaired_within(kind).as_secs());
    assert_eq!(within(&mut scene, IssueType::OrderPortMismatch), 80);
    assert_eq!(within(&mut scene, IssueType::LonelyChargingPort), 105);
}

#[test]
fn the_question_of_a_grace_does_not_wait_for_a_pause_between_questions() {
    let mut scene = Scene::charging(26, 60);
    assert!(!scene.at(|desk| desk.is_urgent()));
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    assert!(scene.at(|desk| desk.is_urgent()));
    scene.pass(45_000);
    scene.question_fails(15_000);
    assert!(!scene.at(|desk| desk.is_urgent()), "one is enough");
}
