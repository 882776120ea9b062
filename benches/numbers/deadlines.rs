//! What it costs to wait: the processor time of an agent at which nothing falls due. 1,000 devices with 10 sockets
//! each, so 20,000 ports, first idle, then with an order on one port of each device.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use chargegate::clock::Stopwatch;
use chargegate::ids::PortNo;
use rusqlite::Connection;

use crate::load::{accepted, exchange, heartbeat_frame, sockets_frame, start_command, status_frame};
use crate::place::{Place, Running, pause};
use crate::{Figure, Limit};

const DEVICES: u32 = 1000;
const SOCKETS: u8 = 10;
/// Real time of each measurement.
const SPAN: Duration = Duration::from_secs(30);
/// One device owes a heartbeat so often.
const HEARTBEAT: Duration = Duration::from_secs(60);

pub fn figures() -> Vec<Figure> {
    let place = Place::new();
    chargegate::server::raise_open_files(8192);
    let agent = place.agent(None);
    let mut site = Site::connect(&place);
    site.check(&place, 0);
    let idle = site.share(&agent, Site::wait);
    let owed = site.share(&agent, Site::send_owed);
    site.start_orders();
    site.check(&place, DEVICES);
    let idle_with_orders = site.share(&agent, Site::wait);
    let owed_with_orders = site.share(&agent, Site::send_owed);
    agent.end();
    let figure = |what: &str, share| {
        Figure::new(format!("deadlines: 20,000 ports, {what}"), share, "% of core", Limit::Most(1.0))
    };
    vec![
        figure("nothing due", idle),
        figure("heartbeats as owed", owed),
        figure("1,000 orders, nothing due", idle_with_orders),
        figure("1,000 orders, heartbeats as owed", owed_with_orders),
    ]
}

/// The devices and the control socket.
struct Site {
    devices: Vec<TcpStream>,
    control: BufReader<UnixStream>,
}

impl Site {
    /// All connected, each socket shown idle.
    fn connect(place: &Place) -> Self {
        let devices = (0..DEVICES)
            .map(|no| {
                let mut device = TcpStream::connect(place.address).unwrap();
                exchange(&mut device, &heartbeat_frame(no));
                exchange(&mut device, &sockets_frame(no, SOCKETS));
                device
            })
            .collect();
        let control = BufReader::new(UnixStream::connect(place.path("sock")).unwrap());
        Self { devices, control }
    }

    /// Has it all written, and looks whether it is what is to be measured.
    fn check(&mut self, place: &Place, orders: u32) {
        self.flush();
        let db = Connection::open(place.path("store.db")).unwrap();
        let count =
            |what: &str| db.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get::<_, u32>(0)).unwrap();
        assert_eq!(count("devices WHERE online = 1"), DEVICES);
        assert_eq!(count("ports WHERE status <> 0"), DEVICES * u32::from(SOCKETS) * 2);
        assert_eq!(count("orders WHERE status = 2"), orders);
    }

    fn flush(&mut self) {
        self.ask("{\"id\":\"flush\",\"type\":\"flush\"}\n");
        self.reply();
    }

    fn ask(&mut self, line: &str) {
        self.control.get_mut().write_all(line.as_bytes()).unwrap();
    }

    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap();
        line
    }

    /// Per cent of a core that the agent takes meanwhile.
    fn share(&mut self, agent: &Running, meanwhile: fn(&mut Self)) -> f64 {
        // Nobody is to be taken for silent in the next half minute.
        for (device, no) in self.devices.iter_mut().zip(0..) {
            exchange(device, &heartbeat_frame(no));
        }
        self.flush();
        pause(Duration::from_secs(1));
        let (watch, before) = (Stopwatch::start(), agent.processor_ms());
        meanwhile(self);
        (agent.processor_ms() - before) as f64 / watch.elapsed().as_millis() as f64 * 100.0
    }

    fn wait(&mut self) {
        pause(SPAN);
    }

    /// Heartbeats at the pace at which so many devices owe them. What they leave to be written is written, too: once in
    /// the half minute, where it would be once in five.
    fn send_owed(&mut self) {
        let watch = Stopwatch::start();
        let pace = HEARTBEAT / DEVICES;
        for (device, no) in self.devices.iter_mut().zip(0..) {
            if watch.elapsed() >= SPAN {
                break;
            }
            exchange(device, &heartbeat_frame(no));
            pause((pace * (no + 1)).saturating_sub(watch.elapsed()));
        }
        self.flush();
    }

    /// An hour at port A of socket 1 of each device, accepted and shown charging.
    fn start_orders(&mut self) {
        for no in 0..DEVICES {
            self.ask(&start_command(no, PortNo::A));
            let device = &mut self.devices[no as usize];
            let mut start = [0; 256];
            let length = device.read(&mut start).unwrap();
            let number = 1 + u16::try_from(no).unwrap();
            device.write_all(&accepted(no, PortNo::A, number, &start[..length])).unwrap();
            let reply = self.reply();
            assert!(reply.contains("\"done\""), "{reply}");
            exchange(&mut self.devices[no as usize], &status_frame(no, 0xb0, number, 0, 0));
        }
    }
}
