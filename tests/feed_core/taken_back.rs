//! A commit that is taken back, as on a full disk: here somebody else keeps the store locked, which passes as well.

use super::*;

impl Yard {
    /// Nothing can be kept for so long.
    fn pass_locked(&mut self, ms: u64) {
        let lock = self.db();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        self.pass(ms);
        lock.execute_batch("ROLLBACK").unwrap();
    }
}

fn replies(messages: Vec<Message>) -> Vec<Value> {
    messages.iter().filter(|message| message.topic.ends_with("/reply")).map(body).collect()
}

#[test]
fn alerts_of_the_cloud_are_raised_and_cleared_although_that_was_taken_back() {
    let mut yard = Yard::with("alerts.cloud_unreachable = \"1m\"\nalerts.clear_after = \"20s\"");
    let session = yard.connect();
    yard.received();
    yard.down(session);
    yard.pass(2 * SECOND);
    let session = yard.expect_connect().0;
    yard.pass(57_900);
    yard.pass_locked(200);
    assert_eq!(yard.alert("cloud_unreachable"), None);
    yard.pass(2 * SECOND);
    assert_eq!(yard.alert("cloud_unreachable"), Some(true));
    yard.outputs.clear();
    yard.down(session);
    yard.pass(10 * SECOND);
    yard.connect();
    yard.received();
    yard.pass(19_900);
    yard.received();
    yard.pass_locked(200);
    assert_eq!(yard.alert("cloud_unreachable"), Some(true));
    yard.pass(25 * SECOND);
    assert_eq!(yard.alert("cloud_unreachable"), Some(false));
}

#[test]
fn the_outcome_of_a_start_that_was_taken_back_is_told_the_cloud_once_when_it_is_kept() {
    let mut yard = Yard::new();
    yard.device_comes();
    let session = yard.connect();
    yard.received();
    yard.cloud_command(session, &start("c-1", json!({ "expires_at": "2099-01-01T00:00:00Z", "order_no": "o-1" })));
    let (message_id, _) = yard.switches().pop().unwrap();
    assert_eq!(replies(yard.received()), [Value::Null; 0]);
    let lock = yard.db();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    yard.answer(message_id, 17);
    yard.pass(SECOND);
    assert_eq!(replies(yard.received()), [Value::Null; 0], "nothing of it is kept yet");
    lock.execute_batch("ROLLBACK").unwrap();
    yard.pass(2 * SECOND);
    let got = replies(yard.received());
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!((&got[0]["id"], &got[0]["result"]), (&json!("c-1"), &json!("done")));
}

#[test]
fn a_stop_that_could_not_be_kept_acts_and_its_outcome_reaches_the_cloud() {
    let mut yard = Yard::new();
    yard.device_comes();
    let session = yard.connect();
    yard.received();
    yard.cloud_command(session, &start("c-1", json!({ "expires_at": "2099-01-01T00:00:00Z", "order_no": "o-1" })));
    let (message_id, _) = yard.switches().pop().unwrap();
    yard.answer(message_id, 17);
    yard.received();
    let lock = yard.db();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    yard.cloud_command(session, &json!({ "id": "c-2", "type": "stop_charge", "order_no": "o-1" }));
    let (message_id, order) = yard.switches().pop().unwrap();
    assert_eq!(order, SwitchOrder::Off);
    lock.execute_batch("ROLLBACK").unwrap();
    yard.pass(SECOND);
    yard.answer(message_id, 17);
    yard.pass(SECOND);
    let got = replies(yard.received());
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!((&got[0]["id"], &got[0]["result"]), (&json!("c-2"), &json!("done")));
}

#[test]
fn a_snapshot_is_acknowledged_to_the_broker_with_its_own_commit_not_with_the_one_before() {
    let mut yard = Yard::new();
    let session = yard.connect();
    yard.received();
    let (now, receipt) = (yard.at(), yard.next_receipt());
    let payload = Ok(json!({ "id": "c-1", "type": "get_snapshot" }).to_string().into_bytes());
    let (subject, retained, expires_in, reply_to) = (Subject::Command, false, None, None);
    let input = CloudInput::Received { session, receipt, subject, payload, retained, expires_in, reply_to };
    yard.site().cloud(input, now).unwrap();
    yard.take_outputs();
    let acknowledged = CloudOutput::Acknowledge { session, receipt };
    assert!(!yard.outputs.contains(&acknowledged), "{:?}", yard.outputs);
    yard.turn();
    assert!(yard.outputs.contains(&acknowledged), "{:?}", yard.outputs);
    assert_eq!(replies(yard.received())[0]["result"], "done");
}
