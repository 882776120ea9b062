//! The commands that read the store.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::site::{DEVICE, Ran, Site, agent};

const READERS: [&str; 7] = ["devices", "ports", "orders", "alerts", "events", "outbox", "check"];

#[test]
fn without_a_store_a_reader_fails_and_creates_none() {
    let site = Site::new();
    for command in READERS {
        for arguments in [&[command][..], &[command, "--json"]] {
            let line = format!("chargegate: {command}: there is no store at chargegate.db\n");
            assert_eq!(site.run(arguments), Ran { code: 1, out: String::new(), err: line });
        }
    }
    assert_eq!(site.files(), [""; 0]);
}

#[test]
fn what_is_no_store_is_one_line_and_left_alone() {
    let site = Site::new();
    std::fs::write(site.path("chargegate.db"), "a text file that is long enough to be taken for something else")
        .unwrap();
    let ran = site.run(&["orders"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.lines().count()), (1, "", 1));
    assert!(ran.err.starts_with("chargegate: orders: cannot read chargegate.db: "), "{ran:?}");
    std::fs::write(site.path("chargegate.db"), "").unwrap();
    assert_eq!(site.run(&["orders"]).err, "chargegate: orders: chargegate.db is empty: no agent has run on it\n");
    assert_eq!(std::fs::read(site.path("chargegate.db")).unwrap(), b"");
    std::fs::remove_file(site.path("chargegate.db")).unwrap();
    let theirs = Connection::open(site.path("chargegate.db")).unwrap();
    theirs.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(theirs);
    assert_eq!(site.run(&["orders"]).code, 2, "another program's");
    std::fs::remove_file(site.path("chargegate.db")).unwrap();
    std::fs::create_dir(site.path("chargegate.db")).unwrap();
    assert_eq!(site.run(&["orders"]).err, "chargegate: orders: chargegate.db is not a file\n");
}

fn fill(store: &Connection) {
    store
        .execute_batch(
            "INSERT INTO devices VALUES ('82241218000382', 'DC', 'v1.9', 'x' || char(27) || '[2J', -71, 'enabled', 1,
               1709251199250, NULL, 'no');
             INSERT INTO devices VALUES ('00000000000001', NULL, NULL, NULL, NULL, 'disabled', 0, NULL, 'spare', 'no');
             INSERT INTO ports VALUES ('82241218000382', 1, 0, 129, 144, 17, 230.1, 300.5, 1.31, 80, 12,
               1709251199000, 'no');
             INSERT INTO ports VALUES ('82241218000382', 1, 1, 9, 128, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'no');
             INSERT INTO orders (order_no, device_id, socket_no, port_no, status, final, plan, flags)
               VALUES ('new', '82241218000382', 1, 0, 0, 0, '{\"mode\":\"time\",\"minutes\":60}', '[]');
             INSERT INTO orders (order_no, device_id, socket_no, port_no, status, final, start_time, end_time, plan, tiers,
               flags, device_end_time)
               VALUES ('old', '00000000000001', 1, 0, 7, 1, 1000, 2000, 'not json', '[{\"minutes\":5,\"energy_wh\":null}]',
               '[\"clock_unset\"]', '2024-02-29T23:59:59');
             INSERT INTO alerts VALUES (1, 'port_fault', 'warning', '82241218000382', 1, 0, 1000, NULL, 2000, NULL, 'no');
             INSERT INTO alerts VALUES (2, 'device_offline', 'warning', '00000000000001', NULL, NULL, 3000, NULL, NULL,
               '{\"since\":1}', 'no');
             INSERT INTO events VALUES ('order', 1, 1000, 'order.started', '82241218000382', 'new', '{\"b\":1,\"a\":2}', 'no');
             INSERT INTO events VALUES ('device', 1, 2000, 'device.online', '00000000000001', NULL, x'00ff', 'no');
             INSERT INTO outbox VALUES (7, 'a/event/order', 'order', 1, NULL, 1000, 'no');
             INSERT INTO outbox VALUES (8, 'a/reply', NULL, NULL, '{\"v\":1}', 2000, 'no');",
        )
        .unwrap();
}

fn keys(object: &Value) -> Vec<&String> {
    object.as_object().unwrap().keys().collect()
}

#[test]
fn json_has_the_contracts_columns_in_their_order_and_no_others() {
    let site = Site::new();
    fill(&site.store());
    for (command, columns) in [
        ("devices", "device_id,device_model,firmware_version,iccid,rssi,status,online,last_seen,note"),
        (
            "ports",
            "device_id,socket_no,port_no,status,raw_status,business_no,voltage_v,power_w,current_a,energy_wh,minutes,updated_at",
        ),
        (
            "orders",
            "order_no,device_id,socket_no,port_no,business_no,source,mode,plan,status,start_time,end_time,end_reason,\
             settlement,final,revision,verdict,energy_wh,energy_max_wh,minutes,minutes_max,spent_cents,electricity_cents,\
             service_cents,settlement_power_w,tiers,peak_power_w,raw_reason,raw_status,device_end_time,started_by,\
             stopped_by,card_no,flags",
        ),
        ("alerts", "alert_id,rule,severity,device_id,socket_no,port_no,raised_at,acknowledged_at,cleared_at,details"),
        ("events", "stream,seq,at,type,device_id,order_no,data"),
        ("outbox", "id,topic,stream,seq,payload,created_at"),
    ] {
        let ran = site.run(&[command, "--json"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
        let rows = ran.json();
        assert_eq!(rows.as_array().unwrap().len(), 2, "{command}");
        let mut columns: Vec<&str> = columns.split(',').collect();
        // In the text they stand in the contract's order.
        let places: Vec<usize> = columns.iter().map(|name| ran.out.find(&format!("\"{name}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{command}");
        columns.sort_unstable();
        assert!(rows.as_array().unwrap().iter().all(|row| keys(row) == columns), "{command}: {rows}");
    }
}

#[test]
fn json_has_times_as_text_null_for_null_and_json_columns_as_values() {
    let site = Site::new();
    fill(&site.store());
    let devices = site.run(&["devices", "--json"]).json();
    assert_eq!(devices[0]["last_seen"], Value::Null);
    assert_eq!(devices[1]["last_seen"], "2024-02-29T23:59:59.250Z");
    assert_eq!((&devices[1]["iccid"], &devices[1]["online"]), (&json!("x\u{1b}[2J"), &json!(1)));
    let ports = site.run(&["ports", "--json"]).json();
    assert_eq!((&ports[0]["status"], &ports[0]["voltage_v"]), (&json!(129), &json!(230.1)));
    assert_eq!(ports[0]["updated_at"], "2024-02-29T23:59:59Z");
    let orders = site.run(&["orders", "--json"]).json();
    assert_eq!((&orders[0]["order_no"], &orders[0]["plan"]), (&json!("old"), &json!("not json")));
    assert_eq!((&orders[0]["final"], &orders[0]["start_time"]), (&json!(1), &json!("1970-01-01T00:00:01Z")));
    assert_eq!(orders[0]["tiers"], json!([{"minutes": 5, "energy_wh": null}]));
    assert_eq!(orders[0]["flags"], json!(["clock_unset"]));
    assert_eq!(orders[0]["device_end_time"], "2024-02-29T23:59:59");
    assert_eq!(orders[1]["plan"], json!({"mode": "time", "minutes": 60}));
    assert_eq!((&orders[1]["mode"], &orders[1]["tiers"]), (&Value::Null, &Value::Null));
    let events = site.run(&["events", "--json"]).json();
    assert_eq!((&events[0]["data"], &events[1]["data"]), (&json!({"a": 2, "b": 1}), &json!("00ff")));
    let outbox = site.run(&["outbox", "--json"]).json();
    assert_eq!((&outbox[0]["payload"], &outbox[1]["payload"]), (&Value::Null, &json!("{\"v\":1}")));
    let alerts = site.run(&["alerts", "--json"]).json();
    assert_eq!((&alerts[0]["details"], &alerts[1]["details"]), (&Value::Null, &json!({"since": 1})));
}

#[test]
fn a_table_is_for_people() {
    let site = Site::new();
    fill(&site.store());
    let lines = |command: &str| -> Vec<String> { site.run(&[command]).out.lines().map(str::to_owned).collect() };
    let devices = lines("devices");
    assert_eq!(devices.len(), 3);
    assert!(devices[0].starts_with("device_id       device_model  firmware_version  iccid"), "{devices:#?}");
    assert!(devices[1].ends_with("disabled  no      -                     spare"), "{devices:#?}");
    assert!(devices[2].contains("x\\u{1b}[2J") && devices[2].contains("2024-02-29 23:59:59Z"), "{devices:#?}");
    let ports = lines("ports");
    assert!(ports[1].contains("charging") && ports[2].contains("idle"), "{ports:#?}");
    let orders = lines("orders");
    assert!(orders[1].contains("completed") && orders[2].contains("pending"), "{orders:#?}");
}

#[test]
fn above_the_outbox_stands_how_much_waits_and_how_the_connection_is() {
    let site = Site::new();
    fill(&site.store());
    let ran = site.run(&["outbox"]);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "waiting     2");
    assert!(lines[1].starts_with("oldest      1970-01-01 00:00:01Z, "), "{lines:#?}");
    assert_eq!(lines[2..5], ["rate        -", "connection  none: mqtt.url is not set", ""]);
    assert!(lines[5].starts_with("id  topic") && lines.len() == 8, "{lines:#?}");
}

#[test]
fn filters_choose_by_device_age_and_openness() {
    let site = Site::new();
    let store = site.store();
    fill(&store);
    // One port, order, alert, event and message of right now, whatever the clock says.
    for (table, column, condition) in [
        ("devices", "last_seen", "device_id = '82241218000382'"),
        ("ports", "updated_at", "port_no = 1"),
        ("orders", "end_time", "order_no = 'old'"),
        ("alerts", "raised_at", "alert_id = 1"),
        ("events", "at", "stream = 'order'"),
        ("outbox", "created_at", "id = 8"),
    ] {
        let now = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
        store.execute(&format!("UPDATE {table} SET {column} = {now} WHERE {condition}"), []).unwrap();
    }
    for (arguments, key, expected) in [
        (&["devices", "--device", DEVICE][..], "device_id", json!([DEVICE])),
        (&["devices", "--since", "1h"], "device_id", json!([DEVICE])),
        (&["ports", "--device", "00000000000001"], "port_no", json!([])),
        (&["ports", "--since", "90s"], "port_no", json!([1])),
        (&["orders", "--device", DEVICE], "order_no", json!(["new"])),
        // The pending one is as new as can be.
        (&["orders", "--since", "24h"], "order_no", json!(["old", "new"])),
        (&["orders", "--since", "24h", "--device", "00000000000001"], "order_no", json!(["old"])),
        (&["orders", "--open"], "order_no", json!(["new"])),
        (&["orders", "--open", "--device", "00000000000001"], "order_no", json!([])),
        (&["alerts", "--open"], "alert_id", json!([2])),
        (&["alerts", "--since", "7d"], "alert_id", json!([1])),
        (&["alerts", "--open", "--since", "7d"], "alert_id", json!([])),
        (&["events", "--since", "1m", "--device", DEVICE], "type", json!(["order.started"])),
        (&["events", "--device", "00000000000001"], "type", json!(["device.online"])),
        (&["outbox", "--device", DEVICE], "id", json!([7])),
        (&["outbox", "--since", "1h"], "id", json!([8])),
    ] {
        let ran = site.run(&[arguments, &["--json"]].concat());
        let found: Value = ran.json().as_array().unwrap().iter().map(|row| row[key].clone()).collect();
        assert_eq!(found, expected, "{arguments:?}");
    }
}

#[test]
fn a_reader_leaves_nothing_behind_a_stopped_agent() {
    let site = Site::new();
    fill(&site.store());
    let before = std::fs::read(site.path("chargegate.db")).unwrap();
    assert_eq!(site.files(), ["chargegate.db"]);
    for command in READERS {
        assert_eq!(site.run(&[command]).code, 0, "{command}");
    }
    assert_eq!(site.files(), ["chargegate.db"]);
    assert!(before == std::fs::read(site.path("chargegate.db")).unwrap());
}

#[test]
fn what_a_running_agent_has_committed_is_seen() {
    let site = Site::new();
    let store = site.store();
    store.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    fill(&store);
    assert_eq!(site.run(&["orders", "--json"]).json().as_array().unwrap().len(), 2);
    assert_eq!(site.files(), ["chargegate.db", "chargegate.db-shm", "chargegate.db-wal"]);
}

#[test]
fn check_says_no_when_there_are_issues() {
    let site = Site::new();
    let store = site.store();
    let fine = site.run(&["check", "--json"]);
    assert_eq!((fine.code, fine.json()), (0, json!([])));
    assert_eq!(site.run(&["check"]).code, 0);
    let issue = "INSERT INTO issues VALUES ('order_port_mismatch', '82241218000382', 1, 0, 'A1', 'idle')";
    store.execute(issue, []).unwrap();
    let issues = site.run(&["check", "--json"]);
    let expected = json!([{"issue_type": "order_port_mismatch", "device_id": DEVICE, "socket_no": 1, "port_no": 0,
        "order_no": "A1", "details": "idle"}]);
    assert_eq!((issues.code, issues.err.as_str(), issues.json()), (1, "", expected));
    let table = site.run(&["check"]);
    assert_eq!((table.code, table.err.as_str(), table.out.lines().count()), (1, "", 2));
}

#[test]
fn a_reader_asks_the_running_agent_to_flush_first() {
    let site = Site::new();
    let store = site.store();
    let flushed = move |request: &Value| {
        fill(&store);
        format!("{}\n", json!({"v": 1, "id": request["id"], "result": "done"}))
    };
    let agent = agent(&site.path("chargegate.sock"), 1, flushed);
    assert_eq!(site.run(&["ports", "--json"]).json().as_array().unwrap().len(), 2);
    let request: Value = serde_json::from_str(&agent.join().unwrap()[0]).unwrap();
    assert_eq!((&request["type"], keys(&request).len()), (&json!("flush"), 2));
}

#[test]
fn a_reader_reads_what_is_there_when_the_agent_cannot_flush() {
    let site = Site::new();
    fill(&site.store());
    let agent = agent(&site.path("chargegate.sock"), 1, |_| String::new());
    assert_eq!(site.run(&["ports"]).code, 0);
    agent.join().unwrap();
    // Nobody listens any more.
    assert_eq!(site.run(&["ports"]).code, 0);
}
