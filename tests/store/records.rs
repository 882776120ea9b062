//! What is kept of devices, sockets, ports and orders.

use super::*;

#[test]
fn every_record_survives_a_reopening_as_it_was() {
    let place = Place::new();
    let devices = [Device::new("00000000000001".parse().unwrap()), full_device()];
    let sockets = [Socket::new(device_id(), socket_no(0)), full_socket()];
    let ports = [Port::unseen(port_key(0, 0)), full_port()];
    let mut store = place.open();
    devices.iter().for_each(|device| store.put_device(device).unwrap());
    sockets.iter().for_each(|socket| store.put_socket(socket).unwrap());
    ports.iter().for_each(|port| store.put_port(port).unwrap());
    let mut orders = [order("empty", port_key(0, 0), OrderStatus::Pending), full_order()];
    orders.iter_mut().for_each(|order| store.put_order(order).unwrap());
    assert_eq!(orders.each_ref().map(|order| order.serial), [1, 2]);
    store.commit().unwrap();
    store.close().unwrap();

    let store = place.open();
    assert_eq!(store.devices().unwrap(), devices);
    assert_eq!(store.sockets().unwrap(), sockets);
    assert_eq!(store.ports().unwrap(), ports);
    assert_eq!(store.open_orders().unwrap(), [orders[0].clone()]);
    assert_eq!(store.order(&no("A-1")).unwrap(), Some(orders[1].clone()));
    assert!(store.order_exists(&no("A-1")).unwrap() && !store.order_exists(&no("A-2")).unwrap());
    assert_eq!(store.order(&no("A-2")).unwrap(), None);
}

#[test]
fn a_record_that_is_written_again_replaces_every_column() {
    let place = Place::new();
    let mut store = place.open();
    store.put_device(&full_device()).unwrap();
    store.put_device(&Device::new(device_id())).unwrap();
    assert_eq!(store.devices().unwrap(), [Device::new(device_id())]);
    let socket = Socket::new(full_socket().device, full_socket().no);
    store.put_socket(&full_socket()).unwrap();
    store.put_socket(&socket).unwrap();
    assert_eq!(store.sockets().unwrap(), [socket]);
    let port = Port::unseen(full_port().key);
    store.put_port(&full_port()).unwrap();
    store.put_port(&port).unwrap();
    assert_eq!(store.ports().unwrap(), [port]);
    let mut order = full_order();
    store.put_order(&mut order).unwrap();
    let mut bare = Order::new(no("A-2"), order.port, order.source, (order.created_at, order.created_up));
    bare.serial = order.serial;
    store.put_order(&mut bare).unwrap();
    assert_eq!(store.open_orders().unwrap(), [bare]);
    assert_eq!(store.order(&no("A-1")).unwrap(), None, "a claimed order has its new number alone");
}

#[test]
fn plans_of_all_modes_survive() {
    let place = Place::new();
    let mut store = place.open();
    let fee = FeeTier { until: "23:59".into(), electricity_cents: 60, service_cents: 40 };
    let plans = [
        Plan::Time { minutes: 60 },
        Plan::Energy { energy_wh: 500 },
        Plan::Tiers { amount_cents: 100, tiers: vec![PowerTier { power_w: 300.0, price_cents: 50, minutes: 30 }] },
        Plan::Fee { amount_cents: 100, service_fee_by: ServiceFeeBy::Energy, tiers: vec![fee] },
    ];
    for (socket, plan) in plans.iter().enumerate() {
        let mut order = order(&format!("P-{socket}"), port_key(socket as u8, 0), OrderStatus::Charging);
        order.plan = Some(plan.clone());
        store.put_order(&mut order).unwrap();
    }
    store.commit().unwrap();
    assert_eq!(store.open_orders().unwrap().into_iter().map(|order| order.plan.unwrap()).collect::<Vec<_>>(), plans);
    assert_eq!(place.one::<String>("SELECT group_concat(mode) FROM orders"), "time,energy,tiers,fee");
    assert_eq!(place.one::<String>("SELECT plan FROM orders LIMIT 1"), r#"{"mode":"time","minutes":60}"#);
}

#[test]
fn narrow_writes_move_only_what_moves() {
    let place = Place::new();
    let mut store = place.open();
    let (mut device, mut socket, mut port, mut order) = (full_device(), full_socket(), full_port(), full_order());
    store.put_device(&device).unwrap();
    store.put_socket(&socket).unwrap();
    store.put_port(&port).unwrap();
    store.put_order(&mut order).unwrap();
    (device.last_seen, device.heard, device.rssi) = (Some(WallTime(1)), Some(UpTime(1)), None);
    (socket.last_seen, socket.heard, socket.temperature_c) = (None, None, Some(40));
    let figures = port.figures.as_mut().unwrap();
    (figures.energy, figures.power, port.updated_up) = (WattHours(40), DeciWatts(0), Some(UpTime(1_000_000)));
    (order.energy_wh, order.figures_up, order.loads) = (Some(WattHours(40)), Some(UpTime(1_000_000)), 0);
    store.put_device_seen(&device).unwrap();
    store.put_socket_seen(&socket).unwrap();
    store.put_port_figures(&port).unwrap();
    store.put_order_figures(&order).unwrap();
    assert_eq!(store.devices().unwrap(), [device]);
    assert_eq!(store.sockets().unwrap(), [socket]);
    assert_eq!(store.ports().unwrap(), [port]);
    assert_eq!(store.order(&no("A-1")).unwrap(), Some(order));
}

#[test]
fn others_read_units_words_and_nulls() {
    let place = Place::new();
    let mut store = place.open();
    store.put_device(&full_device()).unwrap();
    store.put_socket(&full_socket()).unwrap();
    store.put_port(&full_port()).unwrap();
    store.put_port(&Port::unseen(port_key(0, 0))).unwrap();
    store.put_order(&mut full_order()).unwrap();
    store.put_order(&mut order("B", port_key(0, 0), OrderStatus::Stopping)).unwrap();
    store.commit().unwrap();
    let read = |sql: &str| place.one::<String>(sql);
    assert_eq!(read("SELECT device_id || ' ' || status || ' ' || online FROM devices"), "82200520004869 disabled 1");
    assert_eq!(read("SELECT firmware || ' ' || enabled || ' ' || temperature_c FROM sockets"), "00a1 0 -7");
    let figures = "SELECT voltage_v || ' ' || power_w || ' ' || current_a || ' ' || energy_wh FROM ports
                    WHERE status = 129";
    assert_eq!(read(figures), "220.3 205.1 0.931 0");
    let unseen = "SELECT status = 1 AND coalesce(raw_status, business_no, voltage_v, power_w, current_a, energy_wh,
                         minutes, updated_at, memory) IS NULL FROM ports WHERE socket_no = 0";
    assert!(place.one::<bool>(unseen), "a port that nobody heard of has no figures");
    let closed = "SELECT settlement_power_w || ' ' || peak_power_w || ' ' || tiers || ' ' || flags || ' ' || settlement
                    FROM orders WHERE order_no = 'A-1'";
    let expected = r#"220.4 231.1 [{"minutes":61,"energy_wh":1234}] ["implausible_energy","reused_number"] corrected"#;
    assert_eq!(read(closed), expected);
    let open = "SELECT flags = '[]' AND status = 9 AND final = 0 AND revision = 1 AND coalesce(energy_wh, minutes,
                       end_reason, plan, mode, tiers) IS NULL FROM orders WHERE order_no = 'B'";
    assert!(place.one::<bool>(open));
}

#[test]
fn a_removed_device_takes_its_sockets_and_ports_along_and_leaves_its_orders() {
    let place = Place::new();
    let mut store = place.open();
    let other = Device::new("00000000000001".parse().unwrap());
    store.put_device(&full_device()).unwrap();
    store.put_device(&other).unwrap();
    store.put_socket(&full_socket()).unwrap();
    store.put_port(&full_port()).unwrap();
    store.put_order(&mut full_order()).unwrap();
    store.remove_device(device_id()).unwrap();
    store.commit().unwrap();
    assert_eq!(store.devices().unwrap(), [other]);
    assert!(store.sockets().unwrap().is_empty() && store.ports().unwrap().is_empty());
    assert!(store.order_exists(&no("A-1")).unwrap());
}
