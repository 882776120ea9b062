//! `status`: the site on one screen.

use chargegate::clock::{Clock, UpTime};
use serde_json::{Value, json};

use crate::site::{Ran, Site, agent};

/// A site with something of everything.
fn fill(site: &Site) {
    let store = site.store();
    let now = Clock::start(UpTime(0)).now().wall.0;
    let rows = format!(
        "INSERT INTO devices (device_id, status, online) VALUES ('a', 'enabled', 1), ('b', 'disabled', 1),
                                                                ('c', 'enabled', 0);
         INSERT INTO orders (order_no, status, final, settlement, end_time, flags) VALUES
           ('open', 2, 0, NULL, NULL, '[]'),
           ('flagged', 9, 0, NULL, NULL, '[\"clock_unset\"]'),
           ('now', 7, 1, 'reported', {now}, '[\"implausible_energy\"]'),
           ('by time', 7, 0, 'provisional', {now}, '[]'),
           ('long ago', 7, 1, 'provisional', 1000, '[\"reused_number\"]'),
           ('of old', 7, 0, 'provisional', 1000, '[]');
         INSERT INTO alerts (severity, raised_at, cleared_at) VALUES
           ('critical', 1, NULL), ('warning', 1, NULL), ('warning', 1, NULL), ('warning', 1, 2);
         INSERT INTO events (stream, seq) VALUES ('order', 1), ('order', 2);
         INSERT INTO journal (frame) VALUES (x'0102'), (x'03');
         INSERT INTO outbox (topic, created_at) VALUES ('reply', 1709251199250), ('reply', {now});
         INSERT INTO meta VALUES ('instance', 'abc'), ('believed_wall_ms', 1709251199250);"
    );
    store.execute_batch(&rows).unwrap();
}

const CLOUD: &str = "site.id = \"yard\"\nmqtt.url = \"mqtt://broker\"\nsite.clock_synchronized_file = \"synced\"\n";

fn json_of(ran: &Ran) -> Value {
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    ran.json()
}

#[test]
fn status_counts_what_there_is() {
    let site = Site::new();
    fill(&site);
    let status = json_of(&site.run(&["status", "--json"]));
    assert_eq!(status["site"], json!({ "id": "site-1", "instance": "abc", "running": false }));
    assert_eq!(status["devices"], json!({ "known": 3, "online": 2, "disabled": 1 }));
    assert_eq!(status["orders"], json!({ "open": 2, "closed_today": 2, "provisional": 2, "flagged": 2 }));
    assert_eq!(status["alerts"], json!({ "critical": 1, "warning": 2 }));
    let store = &status["store"];
    assert_eq!((&store["path"], &store["events"]), (&json!("chargegate.db"), &json!(2)));
    assert_eq!((&store["journal_frames"], &store["journal_bytes"]), (&json!(2), &json!(3)));
    assert!(store["file_bytes"].as_u64() > Some(4096) && store["free_bytes"].as_u64() > Some(0), "{store}");
    assert_eq!(store["max_bytes"], 256 << 20);
}

#[test]
fn the_cloud_is_what_the_running_agent_says_of_it() {
    let site = Site::new();
    fill(&site);
    let waits = json!({ "backlog": 2, "oldest": "2024-02-29T23:59:59.250Z" });
    for (cloud, connected, trouble) in [
        (json!(null), json!(null), json!(null)),
        (json!({ "connected": true, "trouble": null }), json!(true), json!(null)),
        (json!({ "connected": false, "trouble": "no route" }), json!(false), json!("no route")),
    ] {
        let reply = move |request: &Value| {
            let data = json!({ "clock": "unset", "cloud": cloud });
            format!("{}\n", json!({ "v": 1, "id": request["id"], "result": "done", "data": data }))
        };
        let agent = agent(&site.path("chargegate.sock"), 1, reply);
        let status = json_of(&site.run_with_config(CLOUD, &["status", "--json"]));
        agent.join().unwrap();
        std::fs::remove_file(site.path("chargegate.sock")).unwrap();
        assert_eq!((&status["site"]["running"], &status["clock"]["quality"]), (&json!(true), &json!("unset")));
        let expected = json!({ "configured": true, "url": "mqtt://broker:1883", "connected": connected,
            "trouble": trouble, "backlog": waits["backlog"], "oldest": waits["oldest"] });
        assert_eq!(status["cloud"], expected);
    }
    let alone = json_of(&site.run_with_config(CLOUD, &["status", "--json"]));
    assert_eq!(alone["cloud"]["connected"], json!(false), "without an agent there is no connection");
    let none = json_of(&site.run(&["status", "--json"]));
    assert_eq!((&none["cloud"]["configured"], &none["cloud"]["connected"]), (&json!(false), &json!(null)));
}

#[test]
fn without_an_agent_the_clock_is_judged_as_one_would_that_started_now() {
    let site = Site::new();
    fill(&site);
    let quality = || json_of(&site.run_with_config(CLOUD, &["status", "--json"]))["clock"]["quality"].clone();
    assert_eq!(quality(), "restored");
    std::fs::write(site.path("synced"), "").unwrap();
    assert_eq!(quality(), "synced");
}

#[test]
fn the_screen_has_a_line_for_each_part() {
    let site = Site::new();
    fill(&site);
    let ran = site.run_with_config(CLOUD, &["status"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let lines: Vec<&str> = ran.out.lines().collect();
    let starts = [
        "site     yard (store abc), no agent answers",
        "devices  2 online of 3 known, 1 disabled",
        "orders   2 open, 2 closed today, 2 provisional, 2 with flags",
        "cloud    mqtt://broker:1883, not connected; 2 wait, the oldest since 2024-02-29T23:59:59.250Z",
        "store    chargegate.db: ",
        "clock    20",
        "alerts   1 critical and 2 warning open",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:?}");
    lines.iter().zip(starts).for_each(|(line, start)| assert!(line.starts_with(start), "{line}"));
    assert!(site.run(&["status"]).out.contains("\ncloud    not configured; 2 wait"));
}

#[test]
fn without_a_store_there_is_no_status_and_none_is_made() {
    let site = Site::new();
    let ran = site.run(&["status"]);
    let err = "chargegate: status: there is no store at chargegate.db\n".to_owned();
    assert_eq!(ran, Ran { code: 1, out: String::new(), err });
    assert_eq!(site.files(), [""; 0]);
}
