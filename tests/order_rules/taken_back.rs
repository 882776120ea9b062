//! A commit that a full disk took back (contract §5 *Bad input*): what was heard and sent has happened all the same.

use super::*;

impl Scene {
    /// Everything so far is kept.
    pub(super) fn commit(&mut self) -> Case {
        self.number_orders();
        self.case.dirty = Dirty::Clean;
        self.case.orders.iter_mut().for_each(|entry| entry.dirty = Dirty::Clean);
        self.case.clone()
    }

    /// The store numbers orders in its own order.
    fn number_orders(&mut self) {
        let mut newest = 0;
        for entry in &mut self.case.orders {
            newest = if entry.order.serial == 0 { newest + 1 } else { entry.order.serial };
            entry.order.serial = newest;
        }
    }

    /// Nothing since `kept` could be kept. What was to go out with the commit does not.
    fn take_back(&mut self, kept: &Case) {
        let unsent = self.sent_starts() > 0;
        self.effects.clear();
        self.take_back_with(kept, unsent);
    }

    pub(super) fn take_back_with(&mut self, kept: &Case, unsent: bool) {
        self.number_orders();
        let was = std::mem::replace(&mut self.case, kept.clone());
        self.at(|desk| desk.stands(&was, unsent));
    }
}

#[test]
fn a_start_that_was_accepted_is_told_anew_as_of_the_first_time() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    let kept = scene.commit();
    scene.effects.clear();
    scene.answer(message_id, true, 26);
    let accepted = scene.order().clone();
    scene.pass(500);
    for _ in 0..2 {
        scene.take_back(&kept);
        assert_eq!(*scene.order(), Order { serial: 1, ..accepted.clone() });
        assert_eq!(scene.told(), [OrderEvent::Started]);
        assert_eq!(scene.replies(), [("start-1".to_owned(), Outcome::Done)]);
        scene.pass(500);
    }
    assert!(!scene.case.is_held(), "it was answered");
}

#[test]
fn a_start_that_was_refused_fails_anew() {
    let mut scene = Scene::idle();
    let message_id = scene.start(Plan::Time { minutes: 60 });
    let kept = scene.commit();
    scene.effects.clear();
    scene.answer(message_id, false, 0);
    scene.take_back(&kept);
    assert_eq!(scene.order().end_reason, Some(EndReason::StartRefused));
    assert_eq!(scene.told(), [OrderEvent::Failed]);
    assert_eq!(scene.may_start(), Ok(()));
}

#[test]
fn a_start_that_could_not_be_kept_never_was() {
    let mut scene = Scene::idle();
    let kept = scene.commit();
    scene.start(Plan::Time { minutes: 60 });
    scene.stop(Some("order-1"));
    scene.take_back(&kept);
    assert_eq!(scene.case, kept, "nor does the stop of it go out");
    assert_eq!(scene.effects, []);
}

#[test]
fn an_order_that_was_cancelled_is_cancelled_anew_and_never_sent_again() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    let kept = scene.commit();
    scene.effects.clear();
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.take_back(&kept);
    assert_eq!(scene.order().status, OrderStatus::Cancelled);
    assert_eq!(scene.order().stopped_by.as_deref(), Some("guard"));
    assert_eq!(scene.told(), [OrderEvent::Cancelled]);
    assert_eq!(scene.replies(), [("start-1".to_owned(), Outcome::Failed(Refusal::Cancelled))], "the stop's was given");
    assert_eq!(scene.may_start(), Err(Refusal::PortBusy), "held until idle is proven");
    scene.run(HOUR);
    assert_eq!(scene.sent_starts(), 0);
}

#[test]
fn a_stop_behind_a_repetition_that_did_not_go_out_goes_at_once() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    let kept = scene.commit();
    scene.effects.clear();
    scene.pass(15_000);
    scene.at(|desk| desk.timeout());
    scene.shows(0x80, 0, 0, 0, To::Question);
    assert_eq!(scene.sent_starts(), 1);
    scene.stop(Some("order-1"));
    scene.take_back(&kept);
    assert_eq!((scene.sent_starts(), scene.sent_stops().len()), (0, 1));
    assert_eq!(scene.order().status, OrderStatus::Cancelled);
}

#[test]
fn a_repetition_that_did_not_go_out_is_no_try() {
    let mut scene = Scene::idle();
    scene.start(Plan::Time { minutes: 60 });
    let kept = scene.commit();
    scene.effects.clear();
    for _ in 0..10 {
        scene.pass(15_000);
        scene.at(|desk| desk.timeout());
        scene.shows(0x80, 0, 0, 0, To::Question);
        assert_eq!(scene.sent_starts(), 1);
        scene.take_back(&kept);
        assert_eq!(scene.order().status, OrderStatus::Pending);
    }
}

#[test]
fn an_accepted_stop_gives_the_reason_of_the_close_that_is_tried_again() {
    let mut scene = Scene::charging(26, 60);
    let kept = scene.commit();
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    scene.shows(0x80, 0, 0, 0, To::Nothing);
    scene.run(5 * MINUTE);
    assert!(!scene.order().status.is_open());
    scene.take_back(&kept);
    assert_eq!(scene.order().status, OrderStatus::Stopping);
    scene.at(|desk| desk.timeout());
    let ended = (OrderStatus::Completed, Some(EndReason::RemoteStop), Some(Settlement::Estimated));
    assert_eq!(scene.ended(), ended);
    assert_eq!(scene.sent_stops(), []);
}

#[test]
fn an_overrun_is_stopped_once_however_often_that_is_taken_back() {
    let mut scene = Scene::charging(26, 60);
    let kept = scene.commit();
    scene.run_unasked(65 * MINUTE + 1000);
    assert_eq!(scene.sent_stops().len(), 1);
    for _ in 0..10 {
        scene.take_back(&kept);
        scene.pass(500);
        scene.at(|desk| desk.timeout());
        assert_eq!(scene.sent_stops(), []);
    }
    scene.run_unasked(MINUTE);
    assert_eq!(scene.sent_stops().len(), 2, "repeated as any stop that is not answered");
}

#[test]
fn a_report_that_was_not_kept_is_booked_when_it_comes_again() {
    let mut scene = Scene::charging(26, 60);
    let kept = scene.commit();
    scene.shows(0xb0, 26, 1, 0, To::Nothing);
    scene.report(0x80, 26, 9, 0);
    scene.take_back(&kept);
    assert!(scene.order().status.is_running());
    assert_eq!(scene.told(), []);
    assert_eq!(scene.report(0x80, 26, 9, 0), ReportFate::Booked(OrderNo::new("order-1").unwrap()));
    assert_eq!(scene.told(), [OrderEvent::Completed]);
}

#[test]
fn figures_and_a_number_that_nobody_was_told_of_stay() {
    let mut scene = Scene::charging(0, 60);
    let kept = scene.commit();
    scene.pass(10 * MINUTE);
    scene.shows(0xb0, 27, 20, 10, To::Nothing);
    scene.shows(0xb0, 27, 20, 10, To::Question);
    let order = scene.order().clone();
    assert_eq!((order.business_no, order.energy_wh), (number(27), Some(WattHours(20))));
    scene.take_back(&kept);
    assert_eq!(*scene.order(), Order { serial: 1, ..order });
}

#[test]
fn no_order_that_was_to_be_stopped_resumes() {
    let mut scene = Scene::charging(26, 60);
    scene.run(40 * MINUTE);
    assert_eq!(scene.ended().1, Some(EndReason::Timeout));
    let kept = scene.commit();
    scene.effects.clear();
    scene.stop(Some("order-1"));
    scene.stop_answered(true);
    scene.take_back(&kept);
    scene.shows(0xb0, 26, 1, 1, To::Question);
    assert!(!scene.order().status.is_open());
    assert_eq!(scene.told(), []);
}

#[test]
fn whether_the_device_is_there_is_known_without_the_store() {
    let mut scene = Scene::charging(26, 60);
    let kept = scene.commit();
    scene.leaves();
    scene.take_back(&kept);
    assert_eq!(scene.case.port.status, PortStatus::Offline);
    let kept = scene.commit();
    scene.returns();
    scene.shows(0xb0, 26, 1, 1, To::Nothing);
    scene.take_back(&kept);
    assert_eq!(scene.case.port.status, PortStatus::Unclear, "asked about when there is room");
}
