//! From exec to listening, with 10,000 closed orders in the store after a clean stop.

use std::net::TcpStream;
use std::process::{Command, Stdio};

use chargegate::clock::{Stopwatch, UpTime, WallTime};
use chargegate::ids::{BusinessNo, Minutes, OrderNo, PortKey, PortNo, SocketNo, WattHours};
use chargegate::order::{EndReason, Order, OrderStatus, Plan, Settlement, Source};
use chargegate::sim::fleet::device_id;
use chargegate::store::{Settings, Store};

use crate::load::{exchange, heartbeat_frame};
use crate::place::{Place, median};
use crate::{Figure, Limit};

const ORDERS: u32 = 10_000;
const STARTS: usize = 11;

pub fn figures() -> Vec<Figure> {
    let place = Place::new();
    fill(&place);
    let times = (0..STARTS).map(|_| start(&place)).collect();
    vec![Figure::new("start: exec to listening with 10,000 closed orders", median(times), "ms", Limit::Most(30.0))]
}

fn fill(place: &Place) {
    let mut store = Store::open(&place.path("store.db"), &Settings::default(), WallTime(0)).unwrap();
    for count in 0..ORDERS {
        let port =
            PortKey { device: device_id(count % 50).unwrap(), socket: SocketNo::new(1).unwrap(), port: PortNo::A };
        let at = (WallTime(i64::from(count) * 1000), UpTime(u64::from(count)));
        let order_no = OrderNo::new(&format!("order-{count}")).unwrap();
        let mut order = Order::new(order_no, port, Source::Site, at);
        order.plan = Some(Plan::Time { minutes: 60 });
        order.status = OrderStatus::Completed;
        order.business_no = BusinessNo::new(1 + u16::try_from(count % 60_000).unwrap());
        order.start_time = Some(at.0);
        order.end_time = Some(at.0);
        order.end_reason = Some(EndReason::TimeReached);
        order.settlement = Some(Settlement::Reported);
        order.is_final = true;
        order.revision = 1;
        (order.energy_wh, order.energy_max_wh) = (Some(WattHours(100)), Some(WattHours(100)));
        (order.minutes, order.minutes_max) = (Some(Minutes(60)), Some(Minutes(60)));
        order.course.closed = Some(at.1);
        store.put_order(&mut order).unwrap();
    }
    store.commit().unwrap();
    store.close().unwrap();
}

fn start(place: &Place) -> f64 {
    let watch = Stopwatch::start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_chargegate"))
        .arg("--config")
        .arg(place.config())
        .arg("run")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while TcpStream::connect(place.address).is_err() {}
    let took = watch.elapsed().as_secs_f64() * 1000.0;
    // A device that is answered shows that the loop runs, and with it the handling of signals.
    let mut device = TcpStream::connect(place.address).unwrap();
    exchange(&mut device, &heartbeat_frame(0));
    let id = rustix::process::Pid::from_child(&child);
    let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    assert!(child.wait().unwrap().success(), "the stop is clean");
    took
}
