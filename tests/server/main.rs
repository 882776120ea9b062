//! The loop with real sockets and a core that does as it is told.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests")]

mod agent;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent::{Agent, Client, Device, Seen, broken_frame, frame};
use chargegate::bkv::MIN_FRAME;
use chargegate::clock::UpTime;
use chargegate::limits::{FRAMES_A_TURN, READ_BYTES};
use chargegate::server::{BindError, Exit, Server};
use chargegate::turn::{ConnId, Fatal, Refused};

fn connected(seen: &[Seen]) -> Vec<ConnId> {
    let id = |seen: &Seen| match seen {
        Seen::Connected(id, ..) => Some(*id),
        _ => None,
    };
    seen.iter().filter_map(id).collect()
}

/// The moments at which something was seen.
fn moments(seen: &[Seen], of: impl Fn(&Seen) -> Option<UpTime>) -> Vec<UpTime> {
    seen.iter().filter_map(of).collect()
}

fn noises(seen: &[Seen]) -> Vec<UpTime> {
    moments(seen, |seen| if let Seen::Noise(_, at) = seen { Some(*at) } else { None })
}

fn frames(seen: &[Seen]) -> Vec<UpTime> {
    moments(seen, |seen| if let Seen::Frame(_, _, at) = seen { Some(*at) } else { None })
}

fn disconnects(seen: &[Seen]) -> Vec<UpTime> {
    moments(seen, |seen| if let Seen::Disconnected(_, at) = seen { Some(*at) } else { None })
}

#[test]
fn frames_arrive_however_they_are_split_and_joined() {
    let agent = Agent::start();
    let mut device = agent.device();
    let frame = frame(b'e', b"split");
    for byte in &frame {
        device.send(&[*byte]);
    }
    device.expect(&frame);
    device.send(&frame.repeat(100));
    device.expect(&frame.repeat(100));
    let (first, second) = frame.split_at(7);
    device.send(&[&frame, first].concat());
    device.expect(&frame);
    device.send(&[second, &frame].concat());
    device.expect(&frame.repeat(2));
}

#[test]
fn a_good_frame_behind_noise_is_not_lost() {
    let agent = Agent::start();
    let mut device = agent.device();
    let good = frame(b'e', b"good");
    device.send(&[b"noise", &good[..], &broken_frame(), &good].concat());
    device.expect(&good.repeat(2));
    assert_eq!(noises(&agent.log.all()).len(), 2);
}

#[test]
fn those_that_flood_do_not_starve_the_others() {
    let agent = Agent::start();
    let stop = Arc::new(AtomicBool::new(false));
    let flooders: Vec<_> = (0..3)
        .map(|_| {
            let (mut device, stop) = (agent.device(), Arc::clone(&stop));
            let burst = frame(b'n', b"").repeat(2000);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    device.send(&burst);
                }
            })
        })
        .collect();
    agent.log.wait(|seen| (connected(seen).len() == 3).then_some(()));
    let (mut polite, mut client) = (agent.device(), agent.client());
    for _ in 0..50 {
        polite.echo(b"polite");
        assert_eq!(client.ask("echo polite"), "polite");
    }
    stop.store(true, Ordering::Relaxed);
    flooders.into_iter().for_each(|flooder| flooder.join().unwrap());
    let core = agent.stop();
    let of_one = READ_BYTES / MIN_FRAME + 1;
    assert!(core.most_of_one <= of_one, "{} frames of one connection in a turn", core.most_of_one);
    assert!(core.most_of_one > 100, "nobody flooded: {}", core.most_of_one);
    assert!(core.most_of_all <= FRAMES_A_TURN + of_one, "{} frames in a turn", core.most_of_all);
}

#[test]
fn part_of_a_frame_is_given_up_after_5_s_and_the_connection_lives_on() {
    let setup = Agent::setup();
    let agent = agent::Setup { speed: 60, ..setup }.start();
    let mut device = agent.device();
    device.echo(b"");
    let half = frame(b'e', b"the rest never comes");
    device.send(&half[..20]);
    agent.log.wait_for(|seen| matches!(seen, Seen::Noise(..)));
    let seen = agent.log.all();
    assert!(noises(&seen)[0].since(frames(&seen)[0]) >= Duration::from_secs(5));
    device.echo(b"after it");
    assert_eq!(noises(&agent.log.all()).len(), 1);
}

#[test]
fn silence_closes_and_every_byte_puts_that_off() {
    let mut setup = Agent::setup();
    setup.config.devices.offline_after = Duration::from_secs(30);
    let agent = agent::Setup { speed: 100, ..setup }.start();
    let mut device = agent.device();
    for _ in 0..20 {
        device.echo(b"");
    }
    assert_eq!(device.rest(), b"");
    agent.log.wait_for(|seen| matches!(seen, Seen::Disconnected(..)));
    let seen = agent.log.all();
    let last_frame = *frames(&seen).last().unwrap();
    assert!(disconnects(&seen)[0].since(last_frame) >= Duration::from_secs(30));
}

#[test]
fn twenty_errors_close_and_nineteen_with_a_good_frame_behind_do_not() {
    let agent = Agent::start();
    let mut device = agent.device();
    for _ in 0..3 {
        device.send(&broken_frame().repeat(19));
        device.echo(b"still there");
    }
    device.send(&broken_frame().repeat(20));
    assert_eq!(device.rest(), b"");
    agent.log.wait_for(|seen| matches!(seen, Seen::Disconnected(..)));
    assert_eq!(noises(&agent.log.all()).len(), 3 * 19 + 20);
}

#[test]
fn a_reader_that_does_not_read_is_closed_and_others_are_served() {
    let agent = Agent::start();
    let (mut deaf, mut polite) = (agent.device(), agent.device());
    let request = frame(b'b', b"").repeat(50);
    while disconnects(&agent.log.all()).is_empty() {
        // Refused once the connection is closed.
        let _ = deaf.0.write(&request);
        polite.echo(b"");
    }
    polite.echo(b"");
}

#[test]
fn past_the_most_connections_a_new_one_is_closed_at_once_and_counted() {
    let mut setup = Agent::setup();
    setup.config.devices.max_connections = 2;
    let agent = setup.start();
    let (mut first, mut second) = (agent.device(), agent.device());
    first.echo(b"");
    second.echo(b"");
    assert_eq!(agent.device().rest(), b"");
    agent.log.wait_count(1, |seen| *seen == Seen::Refused(Refused::Limit));
    drop(first);
    agent.log.wait_for(|seen| matches!(seen, Seen::Disconnected(..)));
    agent.device().echo(b"");
    second.echo(b"");
}

fn connect_from(source: &str, agent: &Agent) -> Device {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&format!("{source}:0").parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&agent.address.into()).unwrap();
    Device::over(TcpStream::from(socket))
}

#[test]
fn one_address_cannot_take_all_connections() {
    let mut setup = Agent::setup();
    setup.config.devices.max_connections_per_address = 1;
    let agent = setup.start();
    let mut first = agent.device();
    first.echo(b"");
    assert_eq!(agent.device().rest(), b"");
    agent.log.wait_count(1, |seen| *seen == Seen::Refused(Refused::Limit));
    connect_from("127.0.0.2", &agent).echo(b"");
    first.echo(b"");
}

#[test]
fn only_allowed_networks_may_connect() {
    let mut setup = Agent::setup();
    setup.config.devices.allow_from = vec!["127.0.0.2".parse().unwrap()];
    let agent = setup.start();
    assert_eq!(agent.device().rest(), b"");
    agent.log.wait_count(1, |seen| *seen == Seen::Refused(Refused::NotAllowed));
    connect_from("127.0.0.2", &agent).echo(b"");
}

#[test]
fn an_ipv4_peer_of_an_ipv6_listener_counts_as_ipv4() {
    let mut setup = Agent::setup();
    setup.config.devices.listen = "[::]:0".parse().unwrap();
    setup.config.devices.allow_from = vec!["127.0.0.0/8".parse().unwrap()];
    let agent = setup.start();
    let address = ("127.0.0.1", agent.address.port());
    Device::over(TcpStream::connect(address).unwrap()).echo(b"");
    agent.log.wait_for(|seen| matches!(seen, Seen::Connected(_, peer, _) if peer.is_ipv4()));
}

#[test]
fn what_waits_is_sent_before_the_core_closes_a_connection() {
    let agent = Agent::start();
    let mut device = agent.device();
    device.send(&frame(b'x', b"last words"));
    assert_eq!(device.rest(), frame(b'x', b"last words"));
    agent.log.wait_for(|seen| matches!(seen, Seen::Disconnected(..)));
}

#[test]
fn what_came_before_the_peer_hung_up_is_still_handled() {
    let agent = Agent::start();
    let mut device = agent.device();
    device.send(&[frame(b'n', b"").repeat(3000), frame(b'e', b"last")].concat());
    device.0.shutdown(Shutdown::Write).unwrap();
    agent.log.wait_for(|seen| matches!(seen, Seen::Disconnected(..)));
    assert_eq!(frames(&agent.log.all()).len(), 1);
}

#[test]
fn ids_of_connections_are_never_used_twice() {
    let agent = Agent::start();
    for _ in 0..20 {
        agent.device().echo(b"");
    }
    agent.log.wait(|seen| (disconnects(seen).len() == 20).then_some(()));
    let ids = connected(&agent.log.all());
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 20);
}

#[test]
fn held_answers_leave_after_a_commit() {
    let agent = Agent::start();
    let (mut device, mut client) = (agent.device(), agent.client());
    device.send(&frame(b'h', b"1"));
    device.expect(&frame(b'h', b"1"));
    assert!(agent.log.count(|seen| *seen == Seen::Commit) >= 1);
    assert_eq!(client.ask("hold 2"), "2");
    assert!(agent.log.count(|seen| *seen == Seen::Commit) >= 2);
    device.echo(b"needs none");
    assert_eq!(agent.log.count(|seen| *seen == Seen::Commit), 2);
}

#[test]
fn when_the_store_breaks_nothing_that_waited_goes_out() {
    let mut setup = Agent::setup();
    setup.core.breaks_at_commit = true;
    let agent = setup.start();
    let mut device = agent.device();
    device.send(&frame(b'h', b"never answered"));
    assert_eq!(device.rest(), b"");
    assert_eq!(agent.join().0, Err(Fatal("the store broke".to_owned())));
}

#[test]
fn the_loop_turns_only_when_something_is_due() {
    let mut setup = Agent::setup();
    setup.core.deadlines = (1..=5).map(|n| UpTime(n * 200_000)).collect();
    setup.config.devices.offline_after = Duration::from_secs(1500);
    let agent = agent::Setup { speed: 1000, ..setup }.start();
    let mut device = agent.device();
    for _ in 0..10 {
        device.echo(b"");
    }
    assert_eq!(device.rest(), b"");
    agent.log.wait(|seen| (disconnects(seen).len() == 1).then_some(()));
    let timeouts = agent.log.count(|seen| matches!(seen, Seen::Timeout(_)));
    assert_eq!(timeouts, 5);
    // 10 frames, 5 timeouts, 1 silence; start, connect and stop.
    let turns = agent.stop().turns;
    assert!(turns <= 10 + 5 + 1 + 8, "{turns} turns");
}

#[test]
fn a_taken_address_and_a_running_agent_are_told_in_one_line() {
    let agent = Agent::start();
    let folder = tempfile::tempdir().unwrap();
    let mut config = Agent::setup().config;
    config.control.socket = folder.path().join("other.sock");
    config.devices.listen = agent.address;
    let error = Server::bind(&config).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}: address in use", agent.address));
    assert!(!config.control.socket.exists(), "a socket file was left behind");
    config.control.socket = agent.socket.clone();
    let error = Server::bind(&config).unwrap_err();
    assert!(matches!(error, BindError::AnotherAgent { .. }), "{error}");
    assert!(error.to_string().ends_with("another agent is running"));
    assert_eq!(agent.client().ask("echo unharmed"), "unharmed");
}

#[test]
fn a_socket_file_that_an_agent_left_behind_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Agent::setup().config;
    config.control.socket = folder.path().join("stale.sock");
    drop(UnixListener::bind(&config.control.socket).unwrap());
    let server = Server::bind(&config).unwrap();
    let mode = std::fs::metadata(&config.control.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    drop(server);
    assert!(!config.control.socket.exists());
}

#[test]
fn a_client_is_answered_before_devices_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Agent::setup().config;
    config.control.socket = folder.path().join("control.sock");
    let mut server = Server::bind(&config).unwrap();
    let mut device = Device::over(TcpStream::connect(server.devices_address().unwrap()).unwrap());
    let mut client = Client::connect(&config.control.socket);
    device.send(&frame(b'e', b""));
    client.send("echo first\n");
    let mut core = agent::Script::default();
    let log = core.log.clone();
    let handle = server.handle();
    let clock = chargegate::clock::Clock::start(UpTime(0));
    let thread = std::thread::spawn(move || server.run(&mut core, &clock, &mut ()));
    device.expect(&frame(b'e', b""));
    assert_eq!(client.line(), "first");
    handle.stop();
    assert_eq!(thread.join().unwrap(), Ok(Exit::Stopped));
    let seen = log.all();
    let position = |what: &dyn Fn(&Seen) -> bool| seen.iter().position(what).unwrap();
    let command = position(&|seen| matches!(seen, Seen::Command(_)));
    assert!(command < position(&|seen| matches!(seen, Seen::Connected(..))), "{seen:?}");
}

#[test]
fn pipelined_lines_are_answered_each_and_empty_ones_not() {
    let agent = Agent::start();
    let mut client = agent.client();
    let lines: String = (0..500).map(|n| format!("echo {n}\n\n \n")).collect();
    client.send(&lines);
    for n in 0..500 {
        assert_eq!(client.line(), n.to_string());
    }
}

#[test]
fn replies_come_in_the_order_in_which_they_are_ready() {
    let agent = Agent::start();
    let mut client = agent.client();
    client.send("later\necho now\nrelease\n");
    assert_eq!([client.line(), client.line(), client.line()], ["now", "later", "released"]);
}

#[test]
fn a_line_of_64_kib_is_taken_and_a_longer_one_is_answered_and_closed() {
    let agent = Agent::start();
    let mut client = agent.client();
    let text = "x".repeat(64 * 1024 - "echo ".len());
    assert_eq!(client.ask(&format!("echo {text}")), text);
    for tail in ["", "\n", "\necho never\n"] {
        let mut client = agent.client();
        client.send(&"y".repeat(64 * 1024 + 1));
        client.send(tail);
        assert_eq!(client.rest(), "too long\n");
    }
    let mut client = agent.client();
    client.send(&"z".repeat(4 * 1024 * 1024));
    assert_eq!(client.rest(), "too long\n");
    assert_eq!(agent.log.count(|seen| matches!(seen, Seen::Command(_))), 1);
}

#[test]
fn a_client_that_lingers_after_its_long_line_is_closed() {
    let setup = Agent::setup();
    let agent = agent::Setup { speed: 60, ..setup }.start();
    let mut client = agent.client();
    client.send(&"y".repeat(64 * 1024 + 1));
    assert_eq!(client.rest(), "too long\n");
    agent.log.wait_for(|seen| *seen == Seen::Gone);
}

#[test]
fn a_hundred_and_twenty_eight_clients_are_served_at_once_and_the_listener_outlives_more() {
    let agent = Agent::start();
    let mut clients: Vec<_> = (0..128).map(|_| agent.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&format!("echo {n}\n"));
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.line(), n.to_string());
    }
    let beyond: Vec<_> = (0..200).map(|_| agent.client()).collect();
    assert_eq!(clients[0].ask("echo still"), "still");
    drop(beyond);
    drop(clients);
    agent.log.wait_count(160, |seen| *seen == Seen::Gone);
    assert_eq!(agent.client().ask("echo new"), "new");
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_replies() {
    let agent = Agent::start();
    let mut client = agent.client();
    client.send("later\necho 1\necho 2");
    client.shut();
    assert_eq!([client.line(), client.line()], ["1", "2"]);
    assert_eq!(agent.client().ask("release"), "released");
    assert_eq!(client.rest(), "later\n");
}

#[test]
fn the_commands_of_a_client_that_went_are_done() {
    let agent = Agent::start();
    let mut client = agent.client();
    client.send("echo 1\nlater\necho 3\n");
    drop(client);
    agent.log.wait_for(|seen| *seen == Seen::Gone);
    assert_eq!(agent.log.count(|seen| matches!(seen, Seen::Command(_))), 3);
}

#[test]
fn the_core_learns_who_asks() {
    let agent = Agent::start();
    let me = rustix::process::getuid().as_raw();
    assert_eq!(agent.client().ask("user"), format!("Some({me})"));
}

#[test]
fn a_large_reply_arrives_whole_and_a_client_that_reads_none_is_closed() {
    let agent = Agent::start();
    let mut client = agent.client();
    for _ in 0..3 {
        assert_eq!(client.ask("big 3000000").len(), 3_000_000);
    }
    let mut deaf = agent.client();
    deaf.send("later\nlater\nbig 3000000\n");
    agent.log.wait_count(6, |seen| matches!(seen, Seen::Command(_)));
    assert_eq!(client.ask("release"), "released");
    agent.log.wait_for(|seen| *seen == Seen::Gone);
}

#[test]
fn another_thread_can_wake_and_stop_the_loop() {
    let agent = Agent::start();
    agent.log.wait_for(|seen| *seen == Seen::Ready);
    agent.handle.wake();
    agent.log.wait_for(|seen| *seen == Seen::Woken);
    let socket = agent.socket.clone();
    agent.stop();
    assert!(!socket.exists());
}

#[test]
fn at_the_end_what_waits_is_committed_and_sent() {
    let agent = Agent::start();
    let mut client = agent.client();
    client.send("stop\n");
    assert_eq!(client.rest(), "stopping\n");
    assert_eq!(agent.join().0, Ok(Exit::Stopped));
}

#[test]
fn sighup_reloads_and_sigterm_ends() {
    let mut setup = Agent::setup();
    let mut reloaded = setup.config.devices.clone();
    reloaded.offline_after = Duration::from_secs(100);
    setup.config.devices.offline_after = Duration::from_secs(365 * 86_400);
    let agent = agent::Setup { signals: true, speed: 1000, reloaded: Some(reloaded), ..setup }.start();
    let mut device = agent.device();
    device.echo(b"");
    signal_hook::low_level::raise(signal_hook::consts::SIGHUP).unwrap();
    agent.log.wait_for(|seen| *seen == Seen::Reload);
    assert_eq!(device.rest(), b"");
    signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
    assert_eq!(agent.join().0, Ok(Exit::Signal));
}
