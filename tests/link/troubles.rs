//! What is wrong is told in one line that says what to do.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;

use chargegate::clock::Stopwatch;

use crate::broker::{Authority, Broker, FAR_AHEAD, FARTHER_AHEAD, LONG_AGO, YESTERDAY_OF_OLD, free_port};
use crate::fake::{packet, serve, subscribed, welcome};
use crate::{Hand, line};

/// Each part of a line that matters stands in it.
fn assert_told(config: &str, kind: &str, parts: &[&str]) {
    assert_told_to(Hand::with(config), kind, parts);
}

fn assert_told_to(mut hand: Hand, kind: &str, parts: &[&str]) {
    let (told, text) = line(&hand.fail());
    assert_eq!(told, kind, "{text}");
    assert!(!text.contains('\n'), "{text:?}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

fn url(scheme: &str, port: u16) -> String {
    format!("mqtt.url = \"{scheme}://127.0.0.1:{port}\"\n")
}

#[test]
fn a_closed_port_and_an_unknown_name() {
    for protocol in ["", "mqtt.protocol = 4\n"] {
        assert_told(&(url("mqtt", free_port()) + protocol), "unreachable", &["refuses connections", "right port"]);
        let name = format!("mqtt.url = \"mqtt://no..name\"\n{protocol}");
        assert_told(&name, "unreachable", &["\"no..name\"", "is not known", "DNS"]);
    }
}

#[test]
fn a_broker_that_accepts_and_never_answers() {
    let port = serve(std::mem::forget);
    for protocol in ["", "mqtt.protocol = 4\n"] {
        let watch = Stopwatch::start();
        let hand = Hand::impatient(&(url("mqtt", port) + protocol));
        assert_told_to(hand, "unreachable", &["no answer of a broker", "within 1 s", "firewall"]);
        assert!(watch.elapsed().as_millis() >= 1000);
    }
    let (_folder, authority) = own_authority();
    assert_told_to(Hand::impatient(&(url("mqtts", port) + &authority)), "unreachable", &["no answer"]);
}

#[test]
fn something_else_than_a_broker() {
    let web = |mut stream: TcpStream| {
        let page = "x".repeat(300);
        let _ = write!(stream, "HTTP/1.1 400 Bad Request\r\nContent-Length: 300\r\n\r\n{page}");
        std::mem::forget(stream);
    };
    let port = serve(web);
    for protocol in ["", "mqtt.protocol = 4\n"] {
        assert_told(&(url("mqtt", port) + protocol), "not a broker", &["not as a broker", "8883"]);
    }
    let (_folder, authority) = own_authority();
    assert_told(&(url("mqtts", port) + &authority), "not a broker", &["not in TLS", "1883"]);
    let hangs_up = serve(drop);
    assert_told(&url("mqtt", hangs_up), "not a broker", &["closed the connection", "mqtt.protocol = 4"]);
}

#[test]
fn refused_credentials() {
    let broker = Broker::start("allow_anonymous false\n");
    assert_told(&broker.url(), "refused", &["check mqtt.username and mqtt.password_file"]);
    assert_told(&(broker.url() + "mqtt.protocol = 4\n"), "refused", &["check mqtt.username and mqtt.password_file"]);
}

#[test]
fn every_refusal_of_a_connection() {
    let cases = [
        (0x80, "refused", "refuses the connection"),
        (0x84, "refused", "mqtt.protocol"),
        (0x85, "refused", "mqtt.client_id"),
        (0x86, "refused", "mqtt.password_file"),
        (0x87, "refused", "does not let us in"),
        (0x88, "unreachable", "not available"),
        (0x89, "unreachable", "busy"),
        (0x8a, "refused", "banned"),
        (0x90, "refused", "mqtt.topic_prefix"),
        (0x97, "unreachable", "quota"),
        (0x9a, "refused", "retained"),
        (0x9b, "refused", "QoS 1"),
        (0x9d, "refused", "moved"),
        (0x9f, "unreachable", "too many connections"),
    ];
    for (code, kind, part) in cases {
        let port = serve(move |mut stream| {
            let _ = packet(&mut stream).and_then(|_| stream.write_all(&[0x20, 3, 0, code, 0]));
            std::mem::forget(stream);
        });
        assert_told(&url("mqtt", port), kind, &[part]);
    }
    for (code, part) in
        [(1, "mqtt.protocol"), (2, "mqtt.client_id"), (3, "not available"), (4, "mqtt.username"), (5, "let us in")]
    {
        let port = serve(move |mut stream| {
            let _ = packet(&mut stream).and_then(|_| stream.write_all(&[0x20, 2, 0, code]));
            std::mem::forget(stream);
        });
        let kind = if code == 3 { "unreachable" } else { "refused" };
        assert_told(&(url("mqtt", port) + "mqtt.protocol = 4\n"), kind, &[part]);
    }
}

#[test]
fn a_broker_that_knows_only_an_older_mqtt() {
    // As it answers a version that it does not know: in its own form.
    let port = serve(|mut stream| {
        let _ = packet(&mut stream).and_then(|_| stream.write_all(&[0x20, 2, 0, 1]));
    });
    assert_told(&url("mqtt", port), "not a broker", &["mqtt.protocol = 4"]);
}

#[test]
fn a_refused_subscription() {
    for codes in [[0x87, 1], [1, 0x80], [0x97, 0x97]] {
        let port = serve(move |mut stream| {
            packet(&mut stream).unwrap();
            stream.write_all(&welcome(&[])).unwrap();
            let (_, request) = packet(&mut stream).unwrap();
            stream.write_all(&subscribed(&request, codes)).unwrap();
            std::mem::forget(stream);
        });
        assert_told(&url("mqtt", port), "refused", &["chargegate/s/command", "chargegate/s/ack", "allow both"]);
    }
}

#[test]
fn a_subscription_that_is_not_answered() {
    // The second allows no messages at all, not even a subscription in the eyes of rumqttc.
    for properties in [&[][..], &[0x21, 0, 0]] {
        let port = serve(move |mut stream| {
            packet(&mut stream).unwrap();
            stream.write_all(&welcome(properties)).unwrap();
            std::mem::forget(stream);
        });
        let parts = ["does not answer the subscription", "chargegate/s/command"];
        assert_told_to(Hand::impatient(&url("mqtt", port)), "lost", &parts);
    }
}

#[test]
fn a_goodbye_of_the_broker() {
    let cases = [
        (0x8e, "another client called \"s\""),
        (0x8b, "shutting down"),
        (0x8d, "heard nothing"),
        (0x96, "mqtt.drain_rate"),
        (0x98, "administrator"),
        (0x81, "MalformedPacket"),
    ];
    for (code, part) in cases {
        let port = serve(move |mut stream| {
            packet(&mut stream).unwrap();
            stream.write_all(&welcome(&[])).unwrap();
            packet(&mut stream).unwrap();
            stream.write_all(&[0xe0, 2, code, 0]).unwrap();
            std::mem::forget(stream);
        });
        assert_told(&url("mqtt", port), "lost", &[part]);
    }
}

#[test]
fn two_agents_with_one_name() {
    let broker = Broker::open();
    let mut first = Hand::with(&broker.url());
    first.come_up();
    let mut second = Hand::with(&broker.url());
    second.come_up();
    let (kind, text) = line(&first.go_down());
    assert_eq!(kind, "lost");
    // This mosquitto gives no reason.
    assert!(text.contains("another client") && text.contains("\"s\""), "{text}");
}

#[test]
fn a_broker_that_goes_away() {
    for protocol in ["", "mqtt.protocol = 4\n"] {
        let broker = Broker::open();
        let mut hand = Hand::with(&(broker.url() + protocol));
        hand.come_up();
        drop(broker);
        let (kind, text) = line(&hand.go_down());
        assert_eq!(kind, "lost", "{text}");
    }
}

/// An authority in a folder, and the settings to trust it.
fn own_authority() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::found(folder.path().join("ca"));
    let setting = format!("mqtt.ca_file = {:?}\n", authority.path("ca.pem"));
    (folder, setting)
}

/// A broker whose certificate is for this name and these times.
fn broker_with(alternative: &str, from: &str, to: &str, more: &str) -> (Broker, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::found(folder.path().join("ca"));
    authority.issue("broker", alternative, from, to);
    let settings = format!(
        "allow_anonymous true\ncafile DIR/ca/ca.pem\ncertfile DIR/ca/broker.pem\nkeyfile DIR/ca/broker.key\n{more}"
    );
    (Broker::start_in(folder, &settings), authority)
}

fn trusting(authority: &Authority, broker: &Broker) -> String {
    url("mqtts", broker.port) + &format!("mqtt.ca_file = {:?}\n", authority.path("ca.pem"))
}

#[test]
fn tls_with_a_good_certificate_works() {
    let (broker, authority) = broker_with("IP:127.0.0.1", LONG_AGO, FAR_AHEAD, "");
    for protocol in ["", "mqtt.protocol = 4\n"] {
        let mut hand = Hand::with(&(trusting(&authority, &broker) + protocol));
        hand.come_up();
        hand.publish(1, crate::message("chargegate/s/event/order", "over TLS"));
        hand.settled();
    }
    // By name as well.
    let (broker, authority) = broker_with("DNS:localhost", LONG_AGO, FAR_AHEAD, "");
    Hand::with(&trusting(&authority, &broker).replace("127.0.0.1", "localhost")).come_up();
}

#[test]
fn the_wrong_port_for_tls_and_without() {
    let plain = Broker::open();
    let (_folder, authority) = own_authority();
    assert_told(&(url("mqtts", plain.port) + &authority), "not a broker", &["TLS", "mqtt:// (1883)"]);
    let (encrypted, _) = broker_with("IP:127.0.0.1", LONG_AGO, FAR_AHEAD, "");
    for protocol in ["", "mqtt.protocol = 4\n"] {
        assert_told(&(url("mqtt", encrypted.port) + protocol), "not a broker", &["mqtts:// (8883)"]);
    }
}

#[test]
fn a_certificate_that_is_not_to_be_trusted() {
    let (broker, authority) = broker_with("IP:127.0.0.1", LONG_AGO, FAR_AHEAD, "");
    let (_folder, another) = own_authority();
    assert_told(&(url("mqtts", broker.port) + &another), "certificate", &["authority", "mqtt.ca_file"]);
    let (expired, authority_of_expired) = broker_with("IP:127.0.0.1", LONG_AGO, YESTERDAY_OF_OLD, "");
    assert_told(
        &trusting(&authority_of_expired, &expired),
        "certificate",
        &["expired on 2021-01-01T00:00:00", "renewed"],
    );
    let (other_name, authority_of_name) = broker_with("DNS:broker.example.org", LONG_AGO, FAR_AHEAD, "");
    assert_told(
        &trusting(&authority_of_name, &other_name),
        "certificate",
        &["broker.example.org", "not for \"127.0.0.1\""],
    );
    let as_name = trusting(&authority, &broker).replace("127.0.0.1", "localhost");
    assert_told(&as_name, "certificate", &["not for \"localhost\""]);
}

#[test]
fn a_certificate_of_a_time_to_come_points_at_the_clock() {
    let (broker, authority) = broker_with("IP:127.0.0.1", FAR_AHEAD, FARTHER_AHEAD, "");
    assert_told(&trusting(&authority, &broker), "not yet valid", &["valid from 2048-01-01T00:00:00", "clock"]);
}

#[test]
fn a_broker_that_asks_for_our_certificate() {
    let (broker, authority) = broker_with("IP:127.0.0.1", LONG_AGO, FAR_AHEAD, "require_certificate true\n");
    let without = trusting(&authority, &broker);
    assert_told(&without, "certificate", &["asks for a certificate of ours", "mqtt.cert_file"]);
    authority.issue("agent", "DNS:agent", LONG_AGO, FAR_AHEAD);
    let own = |name: &str| {
        let [cert, key] = ["pem", "key"].map(|kind| authority.path(&format!("{name}.{kind}")));
        format!("{without}mqtt.cert_file = {cert:?}\nmqtt.key_file = {key:?}\n")
    };
    Hand::with(&own("agent")).come_up();
    authority.issue("old", "DNS:agent", LONG_AGO, YESTERDAY_OF_OLD);
    assert_told(&own("old"), "certificate", &["our certificate has expired"]);
}

#[test]
fn files_that_are_missing_or_wrong() {
    let (broker, authority) = broker_with("IP:127.0.0.1", LONG_AGO, FAR_AHEAD, "");
    let good = trusting(&authority, &broker);
    let missing = url("mqtts", broker.port) + "mqtt.ca_file = \"/nowhere/ca.pem\"\n";
    assert_told(&missing, "file", &["mqtt.ca_file /nowhere/ca.pem: there is no such file"]);
    let empty = authority.path("empty");
    fs::write(&empty, "no certificate\n").unwrap();
    assert_told(
        &(url("mqtts", broker.port) + &format!("mqtt.ca_file = {empty:?}\n")),
        "file",
        &["there is not a certificate in it"],
    );
    assert_told(
        &(good.clone() + "mqtt.password_file = \"/nowhere/word\"\n"),
        "file",
        &["mqtt.password_file /nowhere/word"],
    );
    authority.issue("agent", "DNS:agent", LONG_AGO, FAR_AHEAD);
    let [cert, key, foreign] = ["agent.pem", "agent.key", "broker.key"].map(|name| authority.path(name));
    let pair = |cert: &str, key: &str| format!("{good}mqtt.cert_file = {cert:?}\nmqtt.key_file = {key:?}\n");
    Hand::with(&pair(&cert, &key)).come_up();
    assert_told(&pair(&cert, &foreign), "file", &["does not go with mqtt.cert_file"]);
    assert_told(&pair(&cert, &empty), "file", &["mqtt.key_file", "there is not a private key in it"]);
    assert_told(&pair(&empty, &key), "file", &["mqtt.cert_file", "there is not a certificate in it"]);
}
