//! How sessions begin and end, and what lasts from one to the next.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chargegate::clock::Stopwatch;
use chargegate::cloud::link::{Link, Timings};
use chargegate::cloud::{CloudInput, Message, Settlement, Trouble};
use chargegate::config::Config;

use crate::broker::Broker;
use crate::fake::{CONNECT, PUBLISH, be_polite, packet, serve};
use crate::{Hand, message, text, wait_for};

const V4: &str = "mqtt.protocol = 4\n";

#[test]
fn without_a_broker_in_the_configuration_there_is_no_link() {
    let config = Config::parse("site.id = \"s\"").unwrap();
    assert!(Link::open(&config, || {}).unwrap().is_none());
}

#[test]
fn the_waker_is_called_for_whatever_there_is_to_hear() {
    let broker = Broker::open();
    let config = Config::parse(&format!("site.id = \"s\"\n{}", broker.url())).unwrap();
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    let link = Link::with_timings(&config, Timings::default(), move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let mut hand = Hand { link: link.unwrap().unwrap(), session: 0 };
    let mut seen = 0;
    // Only what a wake announces is looked at.
    let mut next = |hand: &mut Hand| {
        wait_for("something to hear", || {
            let called = wakes.load(Ordering::SeqCst);
            if called == seen {
                return None;
            }
            seen = called;
            hand.link.next()
        })
    };
    hand.connect();
    assert!(matches!(next(&mut hand), CloudInput::Up { .. }));
    hand.publish(1, message("chargegate/s/event/order", "x"));
    assert!(matches!(next(&mut hand), CloudInput::Settled { .. }));
    hand.drop_session();
    assert!(matches!(next(&mut hand), CloudInput::Down { why: Trouble::Ended, .. }));
}

#[test]
fn commands_sent_while_away_come_in_the_next_session() {
    for protocol in ["", V4] {
        let broker = Broker::open();
        let mut hand = Hand::with(&(broker.url() + protocol));
        hand.come_up();
        hand.leave();
        assert_eq!(hand.go_down(), Trouble::Ended);
        for n in 1..=3 {
            broker.publish(&["-t", "chargegate/s/command", "-m", &n.to_string()]);
        }
        hand.come_up();
        for n in 1..=3 {
            let received = hand.receive();
            assert_eq!(text(&received), n.to_string());
            hand.acknowledge(&received);
        }
    }
}

#[test]
fn a_command_comes_again_until_it_is_acknowledged() {
    for protocol in ["", V4] {
        let broker = Broker::open();
        let mut hand = Hand::with(&(broker.url() + protocol));
        hand.come_up();
        broker.publish(&["-t", "chargegate/s/command", "-m", "first"]);
        hand.receive();
        hand.drop_session();
        hand.go_down();
        hand.come_up();
        let again = hand.receive();
        assert_eq!(text(&again), "first");
        hand.acknowledge(&again);
        // Confirmed after the acknowledgement: so the broker has that as well.
        hand.publish(1, message("chargegate/s/x", ""));
        hand.settled();
        hand.drop_session();
        hand.go_down();
        hand.come_up();
        broker.publish(&["-t", "chargegate/s/command", "-m", "second"]);
        assert_eq!(text(&hand.receive()), "second");
    }
}

#[test]
fn the_will_is_published_retained_when_the_connection_is_cut_and_not_after_a_goodbye() {
    for protocol in ["", V4] {
        let broker = Broker::open();
        let listener = broker.listen("chargegate/s/state");
        let mut hand = Hand::with(&(broker.url() + protocol));
        hand.come_up();
        hand.drop_session();
        assert_eq!(hand.go_down(), Trouble::Ended);
        assert_eq!(listener.hear().payload, "gone 1");
        let kept = broker.listen("chargegate/s/state").hear();
        assert_eq!((kept.payload.as_str(), kept.retained), ("gone 1", true));

        hand.come_up();
        let watch = Stopwatch::start();
        hand.publish(1, Message { retain: true, ..message("chargegate/s/state", "left") });
        hand.leave();
        assert_eq!(hand.settled(), (1, Settlement::Confirmed));
        assert_eq!(hand.go_down(), Trouble::Ended);
        assert!(watch.elapsed() < Duration::from_secs(1), "{:?}", watch.elapsed());
        assert_eq!(listener.hear().payload, "left");
        assert!(listener.is_silent_for(Duration::from_millis(300)));
    }
}

#[test]
fn the_will_is_published_when_the_agent_vanishes() {
    let broker = Broker::open();
    let listener = broker.listen("chargegate/s/state");
    let mut hand = Hand::with(&broker.url());
    hand.come_up();
    drop(hand);
    assert_eq!(listener.hear().payload, "gone 1");
}

#[test]
fn a_dropped_session_tells_nothing_after_its_end() {
    let broker = Broker::open();
    let _listener = broker.listen("chargegate/#");
    let mut hand = Hand::with(&broker.url());
    for _ in 0..20 {
        hand.come_up();
        for ticket in 1..=16 {
            hand.publish(ticket, message("chargegate/s/event/order", "x"));
        }
        hand.drop_session();
        assert_eq!(hand.go_down(), Trouble::Ended);
        // Whatever it still told would come before the next one is up, or be settled twice in it.
        hand.come_up();
        hand.publish(99, message("chargegate/s/event/order", "y"));
        assert_eq!(hand.settled(), (99, Settlement::Confirmed));
        hand.drop_session();
        hand.go_down();
    }
}

#[test]
fn a_broker_that_confirms_nothing_is_dropped_at_once_and_the_next_session_begins() {
    let port = serve(|stream| {
        std::thread::spawn(|| be_polite(stream, &[], |_, _, _| Ok(())));
    });
    let mut hand = Hand::with(&format!("mqtt.url = \"mqtt://127.0.0.1:{port}\"\n"));
    let (window, _) = hand.come_up();
    for ticket in 0..window as u64 {
        hand.publish(ticket, message("chargegate/s/event/order", "x"));
    }
    assert_eq!(hand.link.next_within(Duration::from_millis(200)), None);
    let watch = Stopwatch::start();
    hand.drop_session();
    assert_eq!(hand.go_down(), Trouble::Ended);
    assert!(watch.elapsed() < Duration::from_millis(50), "{:?}", watch.elapsed());
    hand.come_up();
}

#[test]
fn a_broker_that_stops_reading_blocks_neither_a_drop_nor_the_next_session() {
    for protocol in ["", V4] {
        let version_5 = protocol.is_empty();
        let port = serve(move |mut stream| {
            std::thread::spawn(move || {
                packet(&mut stream).unwrap();
                let welcome: &[u8] = if version_5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
                stream.write_all(welcome).unwrap();
                let (_, subscribe) = packet(&mut stream).unwrap();
                let head = [0x90, if version_5 { 5 } else { 4 }, subscribe[0], subscribe[1]];
                let codes: &[u8] = if version_5 { &[0, 1, 1] } else { &[1, 1] };
                stream.write_all(&[&head, codes].concat()).unwrap();
                // It reads no more, and stays.
                std::thread::park();
            });
        });
        let mut hand = Hand::with(&format!("mqtt.url = \"mqtt://127.0.0.1:{port}\"\n{protocol}"));
        let (window, _) = hand.come_up();
        let large = "x".repeat(1_000_000);
        for ticket in 0..window as u64 {
            hand.publish(ticket, message("chargegate/s/event/order", &large));
        }
        assert_eq!(hand.link.next_within(Duration::from_millis(300)), None);
        let watch = Stopwatch::start();
        hand.drop_session();
        hand.go_down();
        hand.come_up();
        assert!(watch.elapsed() < Duration::from_millis(500), "{:?}", watch.elapsed());
    }
}

#[test]
fn a_goodbye_that_the_broker_does_not_take_ends_in_time() {
    let port = serve(|stream| {
        std::thread::spawn(|| be_polite(stream, &[], |_, _, _| Ok(())));
    });
    let mut hand = Hand::with(&format!("mqtt.url = \"mqtt://127.0.0.1:{port}\"\n"));
    hand.come_up();
    hand.publish(1, message("chargegate/s/event/order", "x"));
    let watch = Stopwatch::start();
    hand.leave();
    assert_eq!(hand.go_down(), Trouble::Ended);
    assert!(watch.elapsed() < Duration::from_secs(3), "{:?}", watch.elapsed());
}

#[test]
fn a_session_that_is_not_up_yet_is_left_at_once() {
    let port = serve(std::mem::forget);
    let mut hand = Hand::with(&format!("mqtt.url = \"mqtt://127.0.0.1:{port}\"\n"));
    for leave in [true, false] {
        hand.connect();
        let watch = Stopwatch::start();
        if leave {
            hand.leave()
        } else {
            hand.drop_session()
        }
        assert_eq!(hand.go_down(), Trouble::Ended);
        assert!(watch.elapsed() < Duration::from_millis(500), "{:?}", watch.elapsed());
    }
}

#[test]
fn the_broker_may_want_no_pings() {
    // Server keep alive 0.
    let port = serve(|stream| {
        std::thread::spawn(|| be_polite(stream, &[0x13, 0, 0], acknowledge));
    });
    let mut hand = Hand::with(&format!("mqtt.url = \"mqtt://127.0.0.1:{port}\"\n"));
    hand.come_up();
    for ticket in 1..=3 {
        hand.publish(ticket, message("chargegate/s/event/order", "x"));
        assert_eq!(hand.settled(), (ticket, Settlement::Confirmed));
        assert_eq!(hand.link.next_within(Duration::from_millis(100)), None);
    }
}

#[test]
fn confirmations_in_any_order_find_their_tickets() {
    let port = serve(|stream| {
        std::thread::spawn(|| {
            let mut held = Vec::new();
            be_polite(stream, &[], move |stream, kind, body| {
                if kind == PUBLISH {
                    held.push(packet_id(body));
                }
                if held.len() == 16 {
                    // The last first, and a few for ids that were never given.
                    let late: Vec<u16> = held.drain(..).rev().collect();
                    return late.iter().try_for_each(|id| stream.write_all(&confirmation(*id)));
                }
                Ok(())
            })
        });
    });
    let mut hand = Hand::with(&format!("mqtt.url = \"mqtt://127.0.0.1:{port}\"\n"));
    hand.come_up();
    for round in 0..20 {
        for ticket in 0..16 {
            hand.publish(round * 16 + ticket, message("chargegate/s/event/order", "x"));
        }
        let settled: Vec<u64> = (0..16).map(|_| hand.settled().0).collect();
        assert_eq!(settled, (round * 16..round * 16 + 16).rev().collect::<Vec<_>>());
    }
}

#[test]
fn what_was_confirmed_before_the_connection_broke_is_told() {
    let port = serve(|stream| {
        std::thread::spawn(|| {
            let mut held = Vec::new();
            be_polite(stream, &[], move |stream, kind, body| {
                if kind == PUBLISH {
                    held.push(packet_id(body));
                }
                if held.len() == 8 {
                    let all: Vec<u8> = held.iter().flat_map(|id| confirmation(*id)).collect();
                    stream.write_all(&all)?;
                    stream.shutdown(std::net::Shutdown::Both)?;
                }
                Ok(())
            })
        });
    });
    let mut hand = Hand::with(&format!("mqtt.url = \"mqtt://127.0.0.1:{port}\"\n"));
    hand.come_up();
    for ticket in 1..=8 {
        hand.publish(ticket, message("chargegate/s/event/order", "x"));
    }
    for ticket in 1..=8 {
        assert_eq!(hand.settled(), (ticket, Settlement::Confirmed));
    }
    assert!(matches!(hand.go_down(), Trouble::Lost(_)));
}

#[test]
fn a_full_quota_ends_the_session_instead_of_refusing_the_message() {
    let port = serve(|stream| {
        std::thread::spawn(|| {
            be_polite(stream, &[], |stream, kind, body| match kind {
                PUBLISH => stream.write_all(&[0x40, 4, 0, packet_id(body).to_be_bytes()[1], 0x97, 0]),
                _ => Ok(()),
            })
        });
    });
    let mut hand = Hand::with(&format!("mqtt.url = \"mqtt://127.0.0.1:{port}\"\n"));
    hand.come_up();
    hand.publish(1, message("chargegate/s/event/order", "x"));
    let CloudInput::Down { why: Trouble::Refused(why), .. } = hand.hear() else { panic!() };
    assert!(why.contains("quota"), "{why}");
}

#[test]
fn a_message_that_is_never_taken_does_not_come_again_for_ever() {
    // MQTT 3.1.1 has no way to tell the broker what is too large.
    let broker = Broker::open();
    let mut hand = Hand::with(&(broker.url() + V4));
    hand.come_up();
    hand.leave();
    hand.go_down();
    let file = broker.folder.path().join("huge");
    std::fs::write(&file, vec![b'x'; 400_000]).unwrap();
    broker.publish(&["-t", "chargegate/s/command", "-f", file.to_str().unwrap()]);
    hand.connect();
    let CloudInput::Down { why: Trouble::Lost(why), .. } = skip_up(&mut hand) else { panic!() };
    assert!(why.contains("forget"), "{why}");
    hand.come_up();
    broker.publish(&["-t", "chargegate/s/command", "-m", "next"]);
    let next = hand.receive();
    assert_eq!(text(&next), "next");
    hand.acknowledge(&next);
    // The session is kept again from now on.
    hand.leave();
    hand.go_down();
    broker.publish(&["-t", "chargegate/s/command", "-m", "while away"]);
    hand.come_up();
    assert_eq!(text(&hand.receive()), "while away");
}

#[test]
fn a_message_on_a_topic_of_an_older_configuration_is_taken_and_forgotten() {
    let broker = Broker::open();
    let mut before = Hand::with(&(broker.url() + "mqtt.client_id = \"c\"\nmqtt.topic_prefix = \"older\"\n"));
    before.come_up();
    before.leave();
    before.go_down();
    broker.publish(&["-t", "older/s/command", "-m", "to the old topic"]);
    let mut hand = Hand::with(&(broker.url() + "mqtt.client_id = \"c\"\n"));
    hand.come_up();
    broker.publish(&["-t", "chargegate/s/command", "-m", "to the new topic"]);
    assert_eq!(text(&hand.receive()), "to the new topic");
    wait_for("the acknowledgement", || broker.log().contains("Received PUBACK from c").then_some(()));
}

#[test]
fn the_password_is_read_at_each_connection_without_its_last_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("passwords");
    let make = std::process::Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&passwords)
        .args(["u", "right word"])
        .status();
    assert!(make.unwrap().success());
    let broker = Broker::start_in(folder, "allow_anonymous false\npassword_file DIR/passwords\n");
    let file = broker.folder.path().join("password");
    std::fs::write(&file, "wrong\n").unwrap();
    let login = format!("mqtt.username = \"u\"\nmqtt.password_file = {:?}\n", file.to_str().unwrap());
    let mut hand = Hand::with(&(broker.url() + &login));
    let Trouble::Refused(why) = hand.fail() else { panic!() };
    assert!(why.contains("mqtt.username and mqtt.password_file"), "{why}");
    std::fs::write(&file, "right word\r\n").unwrap();
    hand.come_up();
}

#[test]
fn the_session_goes_on_over_pings() {
    let pings = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&pings);
    let port = serve(move |mut stream| {
        let seen = Arc::clone(&seen);
        std::thread::spawn(move || {
            let count = |kind: u8| seen.fetch_add(usize::from(kind == 0xc0), Ordering::SeqCst);
            while let Ok((kind, body)) = packet(&mut stream) {
                count(kind);
                let answer = match kind {
                    CONNECT => vec![0x20, 3, 0, 0, 0],
                    0x80 => vec![0x90, 5, body[0], body[1], 0, 1, 1],
                    0xc0 if seen.load(Ordering::SeqCst) < 2 => vec![0xd0, 0],
                    _ => continue,
                };
                stream.write_all(&answer).unwrap();
            }
        });
    });
    let mut hand = Hand::with(&format!("mqtt.url = \"mqtt://127.0.0.1:{port}\"\n"));
    hand.come_up();
    // The first ping is answered after 5 s, the second is not: told at the third.
    let CloudInput::Down { why: Trouble::Lost(why), .. } = hand.hear() else { panic!() };
    assert!(why.contains("does not answer any more"), "{why}");
    assert_eq!(pings.load(Ordering::SeqCst), 2);
}

fn skip_up(hand: &mut Hand) -> CloudInput {
    match hand.hear() {
        CloudInput::Up { .. } => hand.hear(),
        other => other,
    }
}

fn acknowledge(stream: &mut TcpStream, kind: u8, body: &[u8]) -> std::io::Result<()> {
    if kind == PUBLISH { stream.write_all(&confirmation(packet_id(body))) } else { Ok(()) }
}

fn packet_id(publish: &[u8]) -> u16 {
    let topic = usize::from(u16::from_be_bytes([publish[0], publish[1]]));
    u16::from_be_bytes([publish[2 + topic], publish[3 + topic]])
}

fn confirmation(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}
