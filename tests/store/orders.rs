//! Orders: one open a port, found by what frames say, and the view of what disagrees.

use super::*;

#[test]
fn a_port_has_at_most_one_open_order() {
    let place = Place::new();
    let mut store = place.open();
    store.put_order(&mut order("first", port_key(1, 0), OrderStatus::Charging)).unwrap();
    store.put_order(&mut order("other port", port_key(1, 1), OrderStatus::Pending)).unwrap();
    store.commit().unwrap();
    let refused = store.put_order(&mut order("second", port_key(1, 0), OrderStatus::Pending)).unwrap_err();
    assert!(!refused.passes() && refused.to_string().contains("UNIQUE"), "{refused}");
    store.rollback().unwrap();
    let insert = "INSERT INTO orders (order_no, device_id, socket_no, port_no, status, final, revision, source,
                                      created_at, created_up)
                  SELECT 'third', device_id, socket_no, port_no, 9, 0, 0, 'site', 0, 0 FROM orders LIMIT 1";
    assert!(place.outside().execute(insert, []).is_err(), "whoever writes it");
}

#[test]
fn an_order_number_is_taken_once() {
    let place = Place::new();
    let mut store = place.open();
    store.put_order(&mut order("A", port_key(1, 0), OrderStatus::Completed)).unwrap();
    assert!(store.put_order(&mut order("A", port_key(2, 0), OrderStatus::Pending)).is_err());
}

#[test]
fn the_orders_that_a_frame_may_be_about_are_found() {
    let place = Place::new();
    let mut store = place.open();
    let port = port_key(1, 0);
    let put = |store: &mut Store, mut order: Order, numbers: &[u16]| {
        order.business_no = numbers.first().map(|no| number(*no));
        order.course.numbers = numbers.iter().skip(1).map(|no| number(*no)).collect();
        store.put_order(&mut order).unwrap();
    };
    put(&mut store, closed("too long ago, same number", port, 50), &[7]);
    put(&mut store, closed("other number", port, 100), &[8]);
    put(&mut store, closed("same number", port, 110), &[7]);
    put(&mut store, closed("an earlier number", port, 120), &[8, 7]);
    put(&mut store, closed("never numbered", port, 130), &[]);
    let mut refused = closed("refused", port, 140);
    refused.end_reason = Some(EndReason::StartRefused);
    put(&mut store, refused, &[]);
    put(&mut store, closed("other port, same number", port_key(1, 1), 150), &[7]);
    put(&mut store, closed("other number, closed last", port, 160), &[9]);
    put(&mut store, order("open", port, OrderStatus::Charging), &[10]);
    let find = |numbers: &[u16], since| {
        let numbers: Vec<_> = numbers.iter().map(|no| number(*no)).collect();
        let orders = store.orders_of_port(port, &numbers, UpTime(since)).unwrap();
        orders.into_iter().map(|order| order.order_no.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(find(&[7], 100), ["same number", "an earlier number", "never numbered", "open"]);
    assert_eq!(find(&[], 100), ["never numbered", "open"]);
    assert_eq!(find(&[7, 9], 131), ["other number, closed last", "open"]);
    assert_eq!(find(&[7], 0)[0], "too long ago, same number");
    let mut last = store.order(&no("open")).unwrap().unwrap();
    (last.status, last.course.closed) = (OrderStatus::Completed, Some(UpTime(200)));
    store.put_order(&mut last).unwrap();
    let find = |since| store.orders_of_port(port, &[], UpTime(since)).unwrap();
    assert_eq!(find(1000).into_iter().map(|order| order.order_no).collect::<Vec<_>>(), [no("open")], "the newest one");
}

#[test]
fn orders_that_are_not_final_are_found_and_in_the_order_of_their_close() {
    let place = Place::new();
    let mut store = place.open();
    for (socket, (text, at)) in [("b", 200), ("a", 100), ("c", 300)].into_iter().enumerate() {
        let mut order = closed(text, port_key(socket as u8, 0), at);
        order.is_final = false;
        store.put_order(&mut order).unwrap();
    }
    store.put_order(&mut closed("final", port_key(9, 0), 50)).unwrap();
    store.put_order(&mut order("open", port_key(9, 0), OrderStatus::Charging)).unwrap();
    let names = |orders: Vec<Order>| orders.into_iter().map(|order| order.order_no.to_string()).collect::<Vec<_>>();
    assert_eq!(names(store.unsettled_orders().unwrap()), ["b", "a", "c", "open"]);
    assert_eq!(names(store.orders_to_finalize(UpTime(200), 10).unwrap()), ["a", "b"]);
    assert_eq!(store.first_to_finalize().unwrap(), Some(UpTime(100)));
    for mut order in store.orders_to_finalize(UpTime(1000), 10).unwrap() {
        order.is_final = true;
        store.put_order(&mut order).unwrap();
    }
    assert_eq!(store.first_to_finalize().unwrap(), None);
}

#[test]
fn the_view_lists_each_of_the_four_issues_and_nothing_else() {
    let place = Place::new();
    let mut store = place.open();
    let port = |key, status| Port { status, ..Port::unseen(key) };
    let issues = || {
        let outside = place.outside();
        let sql = "SELECT issue_type, device_id, socket_no, port_no, ifnull(order_no, '-') FROM consistency_issues";
        let mut statement = outside.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            assert_eq!(row.get::<_, String>(1)?, device_id().to_string());
            Ok(format!(
                "{} {}/{} {}",
                row.get::<_, String>(0)?,
                row.get::<_, u8>(2)?,
                row.get::<_, u8>(3)?,
                row.get::<_, String>(4)?
            ))
        });
        rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    // All that is in order.
    for (socket, status) in [PortStatus::Offline, PortStatus::Unclear, PortStatus::Charging].into_iter().enumerate() {
        store.put_port(&port(port_key(socket as u8, 0), status)).unwrap();
        store.put_order(&mut order(&format!("ok {socket}"), port_key(socket as u8, 0), OrderStatus::Charging)).unwrap();
    }
    for (socket, status) in [OrderStatus::Pending, OrderStatus::Stopping].into_iter().enumerate() {
        store.put_port(&port(port_key(socket as u8 + 10, 0), PortStatus::Charging)).unwrap();
        store.put_order(&mut order(&format!("ok 1{socket}"), port_key(socket as u8 + 10, 0), status)).unwrap();
    }
    store.put_port(&port(port_key(20, 0), PortStatus::Idle)).unwrap();
    store.put_order(&mut order("stopping on an idle port", port_key(20, 0), OrderStatus::Stopping)).unwrap();
    store.put_order(&mut closed("closed", port_key(21, 0), 5)).unwrap();
    store.commit().unwrap();
    assert_eq!(issues(), [""; 0]);
    // All that is not.
    store.put_port(&port(port_key(1, 0), PortStatus::Idle)).unwrap();
    store.put_order(&mut order("no port", port_key(30, 1), OrderStatus::Charging)).unwrap();
    store.put_port(&port(port_key(31, 1), PortStatus::Charging)).unwrap();
    for text in ["ok 0", "ok 10"] {
        let mut order = store.order(&no(text)).unwrap().unwrap();
        order.business_no = Some(number(12));
        store.put_order(&mut order).unwrap();
    }
    store.commit().unwrap();
    assert_eq!(
        issues(),
        [
            "order_port_mismatch 1/0 ok 1",
            "orphaned_charging_order 30/1 no port",
            "lonely_charging_port 31/1 -",
            "duplicate_business_no 10/0 ok 10"
        ]
    );
}
