//! What is sent, what comes in, and what is confirmed.

use std::time::Duration;

use chargegate::cloud::{CloudInput, CloudOutput, Message, ReplyTo, Session, Settlement, Subject, Ticket};

use crate::broker::Broker;
use crate::{Hand, message, text};

const V4: &str = "mqtt.protocol = 4\n";

#[test]
fn every_message_is_settled_under_its_ticket_and_reaches_the_broker_in_order() {
    for protocol in ["", V4] {
        let broker = Broker::open();
        let listener = broker.listen("chargegate/s/event/#");
        let mut hand = Hand::with(&(broker.url() + protocol));
        let (window, _) = hand.come_up();
        let mut settled = Vec::new();
        for ticket in 1..=200 {
            hand.publish(ticket, message("chargegate/s/event/order", &ticket.to_string()));
            if ticket >= window as u64 {
                settled.push(hand.settled());
            }
        }
        while settled.len() < 200 {
            settled.push(hand.settled());
        }
        assert_eq!(settled, (1..=200).map(|ticket| (ticket, Settlement::Confirmed)).collect::<Vec<_>>());
        for ticket in 1..=200 {
            assert_eq!(listener.hear().payload, ticket.to_string());
        }
    }
}

#[test]
fn the_window_stays_below_what_the_broker_takes_at_once() {
    let broker = Broker::start("allow_anonymous true\nmax_inflight_messages 20\nmax_packet_size 4000\n");
    assert_eq!(Hand::with(&broker.url()).come_up(), (19, 4000));
    assert_eq!(Hand::with(&(broker.url() + V4)).come_up(), (32, 268_435_455));
}

#[test]
fn a_message_that_nobody_listens_to_is_told_so() {
    let broker = Broker::open();
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    hand.publish(7, message("chargegate/s/event/order", "x"));
    assert_eq!(hand.settled(), (7, Settlement::NobodyListens));
}

#[test]
fn a_message_that_the_broker_forbids_is_refused_and_the_next_one_flows() {
    let rules = "allow_anonymous true\nacl_file DIR/acl\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("acl"), "topic readwrite chargegate/s/#\ntopic deny chargegate/s/event/device\n")
        .unwrap();
    let broker = Broker::start_in(folder, rules);
    let listener = broker.listen("chargegate/s/event/order");
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    hand.publish(1, message("chargegate/s/event/device", "x"));
    hand.publish(2, message("chargegate/s/event/order", "y"));
    let refused = Settlement::Refused("not authorized to publish on its topic".to_owned());
    let mut both = [hand.settled(), hand.settled()];
    both.sort_by_key(|(ticket, _)| *ticket);
    assert_eq!(both, [(1, refused), (2, Settlement::Confirmed)]);
    assert_eq!(listener.hear().payload, "y");
}

#[test]
fn what_cannot_be_sent_is_refused_without_breaking_the_connection() {
    let broker = Broker::start("allow_anonymous true\nmax_packet_size 4000\n");
    let listener = broker.listen("chargegate/#");
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    hand.publish(1, message("chargegate/s/reply", &"x".repeat(4000)));
    hand.publish(2, message("chargegate/+/reply", "x"));
    let why = |settled: (u64, Settlement)| match settled.1 {
        Settlement::Refused(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(hand.settled()).contains("the broker takes 4000"));
    assert!(why(hand.settled()).contains("topic"));
    hand.publish(3, message("chargegate/s/reply", "fits"));
    assert_eq!(hand.settled(), (3, Settlement::Confirmed));
    assert_eq!(listener.hear().payload, "fits");
}

#[test]
fn the_largest_message_that_the_broker_takes_goes_through() {
    let broker = Broker::start("allow_anonymous true\nmax_packet_size 4000\n");
    let listener = broker.listen("chargegate/#");
    let mut hand = Hand::with(&broker.url());
    let (_, largest) = hand.come_up();
    let topic = "chargegate/s/reply";
    // Two bytes below: the link counts the longest form of every length.
    let payload = "x".repeat(largest - 15 - topic.len());
    hand.publish(1, message(topic, &payload));
    assert_eq!(hand.settled(), (1, Settlement::Confirmed));
    assert_eq!(listener.hear().payload.len(), payload.len());
}

#[test]
fn a_message_without_confirmation_arrives_and_disturbs_no_ticket() {
    let broker = Broker::open();
    let listener = broker.listen("chargegate/#");
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    for ticket in 1..=20 {
        hand.publish(0, Message { confirmed: false, ..message("chargegate/s/progress", "p") });
        hand.publish(ticket, message("chargegate/s/event/order", "e"));
        if ticket > 8 {
            assert_eq!(hand.settled(), (ticket - 8, Settlement::Confirmed));
        }
    }
    let heard: Vec<_> = (0..40).map(|_| listener.hear().payload).collect();
    assert_eq!(heard.iter().filter(|payload| *payload == "p").count(), 20);
}

#[test]
fn a_flood_without_confirmation_leaves_room_for_what_is_confirmed() {
    let broker = Broker::open();
    let _listener = broker.listen("chargegate/s/event/order");
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    for ticket in 1..=10 {
        for _ in 0..2000 {
            hand.publish(0, Message { confirmed: false, ..message("chargegate/s/progress", "p") });
        }
        hand.publish(ticket, message("chargegate/s/event/order", "e"));
    }
    for ticket in 1..=10 {
        assert_eq!(hand.settled(), (ticket, Settlement::Confirmed));
    }
}

#[test]
fn a_retained_message_is_kept_by_the_broker() {
    let broker = Broker::open();
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    hand.publish(1, Message { retain: true, ..message("chargegate/s/state", "online") });
    hand.settled();
    let heard = broker.listen("chargegate/s/state").hear();
    assert_eq!((heard.payload.as_str(), heard.retained), ("online", true));
}

#[test]
fn a_command_comes_with_its_expiry_and_where_the_reply_is_wanted() {
    let broker = Broker::open();
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    let properties = "-V 5 -D publish response-topic answers/7 -D publish correlation-data c7 \
                      -D publish message-expiry-interval 90";
    let mut arguments: Vec<_> = properties.split_whitespace().collect();
    arguments.extend(["-t", "chargegate/s/command", "-m", "{}"]);
    broker.publish(&arguments);
    let received = hand.receive();
    let CloudInput::Received { subject, payload, retained, expires_in, reply_to, .. } = received else { panic!() };
    assert_eq!((subject, payload, retained), (Subject::Command, Ok(b"{}".to_vec()), false));
    let left = expires_in.unwrap();
    assert!(left <= Duration::from_secs(90) && left > Duration::from_secs(80), "{left:?}");
    assert_eq!(reply_to, Some(ReplyTo { topic: "answers/7".to_owned(), correlation: Some(b"c7".to_vec()) }));
}

#[test]
fn a_reply_carries_the_correlation_data() {
    let broker = Broker::open();
    let listener = broker.listen("answers/7");
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    hand.publish(1, Message { correlation: Some(b"c7".to_vec()), ..message("answers/7", "done") });
    let heard = listener.hear();
    assert_eq!((heard.correlation.as_str(), heard.payload.as_str()), ("c7", "done"));
}

#[test]
fn commands_and_acks_are_told_apart_and_kept_ones_are_marked() {
    for protocol in ["", V4] {
        let broker = Broker::open();
        broker.publish(&["-t", "chargegate/s/command", "-m", "old", "-r"]);
        let mut hand = Hand::with(&(broker.url() + protocol));
        hand.come_up();
        let kept = hand.receive();
        assert!(matches!(kept, CloudInput::Received { retained: true, .. }), "{kept:?}");
        hand.acknowledge(&kept);
        broker.publish(&["-t", "chargegate/s/ack", "-m", "ack"]);
        let ack = hand.receive();
        assert!(matches!(ack, CloudInput::Received { subject: Subject::Ack, retained: false, .. }), "{ack:?}");
        assert_eq!(text(&ack), "ack");
    }
}

#[test]
fn a_retained_command_that_comes_live_is_told_as_one() {
    let broker = Broker::open();
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    broker.publish(&["-V", "5", "-t", "chargegate/s/command", "-m", "live", "-r"]);
    let kept = hand.receive();
    assert!(matches!(kept, CloudInput::Received { retained: true, .. }), "{kept:?}");
}

#[test]
fn a_command_that_is_too_long_is_told_by_its_size() {
    for protocol in ["", V4] {
        let broker = Broker::open();
        let mut hand = Hand::with(&(broker.url() + protocol));
        hand.come_up();
        let file = broker.folder.path().join("long");
        for (size, told) in [(65_536, Ok(65_536)), (65_537, Err(65_537)), (200_000, Err(200_000))] {
            std::fs::write(&file, vec![b'x'; size]).unwrap();
            broker.publish(&["-t", "chargegate/s/command", "-f", file.to_str().unwrap()]);
            let received = hand.receive();
            let CloudInput::Received { payload, .. } = &received else { panic!() };
            assert_eq!(payload.as_ref().map(Vec::len).map_err(|size| *size), told);
            hand.acknowledge(&received);
        }
    }
}

#[test]
fn more_commands_than_the_broker_has_in_flight_are_all_received_once_each() {
    let broker = Broker::open();
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    let file = broker.folder.path().join("lines");
    std::fs::write(&file, (0..300).map(|n| format!("{n}\n")).collect::<String>()).unwrap();
    let lines = std::fs::File::open(&file).unwrap();
    let port = broker.port.to_string();
    let arguments = ["-p", &port, "-q", "1", "-t", "chargegate/s/command", "-l"];
    let sender = std::process::Command::new("mosquitto_pub").args(arguments).stdin(lines).spawn().unwrap();
    let mut sender = Killed(sender);
    for n in 0..300 {
        let received = hand.receive();
        assert_eq!(text(&received), n.to_string());
        hand.acknowledge(&received);
    }
    assert!(sender.0.wait().unwrap().success());
}

#[test]
fn what_is_wanted_of_another_session_is_ignored() {
    let broker = Broker::open();
    let listener = broker.listen("chargegate/#");
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    let old = |ticket| CloudOutput::Publish {
        session: Session(99),
        ticket: Ticket(ticket),
        message: message("chargegate/s/event/order", "old"),
    };
    hand.link.carry(old(1));
    hand.link.carry(CloudOutput::Drop { session: Session(99) });
    hand.link.carry(CloudOutput::Leave { session: Session(99) });
    hand.publish(2, message("chargegate/s/event/order", "new"));
    assert_eq!(hand.settled(), (2, Settlement::Confirmed));
    assert_eq!(listener.hear().payload, "new");
}

/// A program that does not outlive its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
