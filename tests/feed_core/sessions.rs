//! Connecting, backing off, dropping, leaving.

use super::*;

#[test]
fn sessions_rise_over_cuts_kills_and_clean_ends() {
    let mut yard = Yard::new();
    let mut newest = Session(0);
    for round in 0..200 {
        let (session, will) = yard.expect_connect();
        assert!(session > newest, "{session:?} after {newest:?}");
        assert_eq!(will["session"], session.0);
        newest = session;
        match round % 3 {
            0 => {
                yard.down(session);
                yard.pass(31 * SECOND);
            }
            1 => {
                yard.crash();
                yard.open();
            }
            _ => {
                let now = yard.at();
                yard.site.take().unwrap().close(now).unwrap();
                yard.open();
                let expected = Session(newest.0 + 1);
                assert!(
                    matches!(yard.outputs.front(), Some(CloudOutput::Connect { session, .. }) if *session == expected)
                );
            }
        }
    }
}

#[test]
fn attempts_come_after_one_second_doubling_to_thirty_and_after_a_lasting_session_from_the_start_again() {
    let mut yard = Yard::new();
    let mut pauses = Vec::new();
    let mut session = yard.expect_connect().0;
    for _ in 0..9 {
        pauses.push(pause_after_down(&mut yard, session));
        session = yard.expect_connect().0;
    }
    let bounds = [(1000, 1250), (2000, 2500), (4000, 5000), (8000, 10_000), (16_000, 20_000)];
    for (pause, (least, most)) in pauses.iter().zip(bounds) {
        // Deadlines further off than 2 s are rounded up to 50 ms.
        assert!((least..=most + 50).contains(pause), "{pauses:?}");
    }
    assert!(pauses[5..].iter().all(|pause| (24_000..=30_000).contains(pause)), "{pauses:?}");
    // One that ends at once is as good as none.
    yard.cloud(CloudInput::Up { session, window: 10, largest: BIG });
    yard.received();
    assert!((24_000..=30_000).contains(&pause_after_down(&mut yard, session)));
    let (session, _) = yard.expect_connect();
    yard.cloud(CloudInput::Up { session, window: 10, largest: BIG });
    yard.received();
    yard.pass(31 * SECOND);
    yard.received();
    assert!((1000..=1250).contains(&pause_after_down(&mut yard, session)));
}

fn pause_after_down(yard: &mut Yard, session: Session) -> u64 {
    let began = yard.now;
    yard.down(session);
    while yard.outputs.is_empty() {
        yard.pass(1);
    }
    yard.now - began
}

#[test]
fn what_was_not_confirmed_goes_again_in_the_next_session_and_late_confirmations_count_for_nothing() {
    let mut yard = Yard::new();
    let first = yard.connect();
    yard.received();
    yard.make_event();
    let (ticket, before) = yard.published().pop().unwrap();
    yard.down(first);
    yard.pass(2 * SECOND);
    let second = yard.connect();
    yard.settled(first, ticket, Settlement::Confirmed);
    assert!(yard.waiting() > 0);
    yard.pass(SECOND);
    let again = yard.received();
    assert!(again.contains(&before), "{again:?}");
    assert!(second > first);
    assert_eq!(yard.waiting(), 0);
}

#[test]
fn a_broker_that_confirms_nothing_is_dropped_after_thirty_seconds() {
    let mut yard = Yard::new();
    let session = yard.connect();
    yard.received();
    yard.pass(5 * MINUTE);
    assert!(yard.received().iter().all(|message| message.topic.ends_with("/summary")), "an idle session stays");
    yard.make_event();
    let sent = yard.published();
    yard.pass(29 * SECOND);
    yard.settled(session, sent[0].0, Settlement::Confirmed);
    yard.make_event();
    yard.pass(29 * SECOND);
    assert!(!yard.outputs.iter().any(|output| matches!(output, CloudOutput::Drop { .. })), "it confirms something");
    yard.pass(SECOND);
    assert!(yard.outputs.iter().any(|output| *output == CloudOutput::Drop { session }));
    yard.outputs.clear();
    yard.down(session);
    yard.pass(2 * SECOND);
    assert!(yard.connect() > session);
}

#[test]
fn a_link_that_neither_connects_nor_fails_is_dropped() {
    let mut yard = Yard::new();
    let session = yard.expect_connect().0;
    yard.pass(3 * MINUTE);
    assert_eq!(yard.outputs, [CloudOutput::Drop { session }]);
}

#[test]
fn at_the_end_the_site_says_that_it_is_offline_and_says_goodbye() {
    let mut yard = Yard::new();
    let session = yard.connect();
    yard.received();
    let now = yard.at();
    yard.site().leave_cloud(now);
    yard.turn();
    let outputs = std::mem::take(&mut yard.outputs);
    let [CloudOutput::Publish { message, .. }, CloudOutput::Leave { session: left }] = outputs.make_contiguous_vec()
    else {
        panic!("a state and a goodbye")
    };
    assert_eq!((left, message.retain, &body(&message)["online"]), (session, true, &json!(false)));
    assert!(!yard.site().has_left_cloud());
    yard.down(session);
    assert!(yard.site().has_left_cloud());
    yard.pass(MINUTE);
    assert!(yard.outputs.is_empty(), "no session follows");
}

/// A queue as an array to be matched.
trait Contiguous {
    fn make_contiguous_vec<const N: usize>(self) -> [CloudOutput; N];
}

impl Contiguous for VecDeque<CloudOutput> {
    fn make_contiguous_vec<const N: usize>(self) -> [CloudOutput; N] {
        Vec::from(self).try_into().unwrap()
    }
}

#[test]
fn an_end_while_it_connects_or_rests_waits_for_nothing() {
    let mut yard = Yard::new();
    let session = yard.expect_connect().0;
    yard.down(session);
    let now = yard.at();
    yard.site().leave_cloud(now);
    assert!(yard.site().has_left_cloud());
    let mut yard = Yard::new();
    let session = yard.expect_connect().0;
    let now = yard.at();
    yard.site().leave_cloud(now);
    yard.turn();
    assert_eq!(yard.outputs, [CloudOutput::Drop { session }]);
    yard.down(session);
    assert!(yard.site().has_left_cloud());
}

#[test]
fn a_cloud_out_of_reach_is_told_after_five_minutes_and_clears_when_it_is_back() {
    let mut yard = Yard::new();
    let mut session = yard.expect_connect().0;
    for _ in 0..9 {
        yard.down(session);
        yard.pass(31 * SECOND);
        session = yard.expect_connect().0;
    }
    assert_eq!(yard.alert("cloud_unreachable"), None, "{} s", yard.now / SECOND);
    yard.down(session);
    yard.pass(25 * SECOND);
    assert_eq!(yard.alert("cloud_unreachable"), Some(true));
    yard.crash();
    yard.open();
    let session = yard.connect();
    let got = yard.received();
    assert_eq!(numbers(&got, "alert"), [1]);
    yard.pass(50 * SECOND);
    yard.received();
    assert_eq!(yard.alert("cloud_unreachable"), Some(true), "not before alerts.clear_after");
    yard.pass(11 * SECOND);
    assert_eq!(yard.alert("cloud_unreachable"), Some(false));
    yard.received();
    yard.down(session);
    yard.pass(4 * MINUTE);
    assert_eq!(yard.alert("cloud_unreachable"), Some(false));
}
