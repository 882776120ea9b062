//! What stands above the rows of `outbox`: how much waits, since when, how fast it leaves, and the connection.

use std::fmt::Write as _;

use chargegate::clock::{Clock, UpTime};
use chargegate::config::Config;
use rusqlite::Connection;
use serde_json::Value;

use super::time;

/// Four lines and an empty one. `agent` is what a running one said when it was asked to flush.
pub fn summary(store: &Connection, config: &Config, agent: Option<&Value>) -> rusqlite::Result<String> {
    let sql = "SELECT count(*), min(created_at) FROM outbox";
    let (rows, oldest): (i64, Option<i64>) = store.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let cloud = agent.map(|reply| &reply["data"]["cloud"]);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "waiting     {rows}");
    let _ = writeln!(text, "oldest      {}", oldest.map_or_else(|| "-".to_owned(), with_age));
    let _ = writeln!(text, "rate        {}", rate(cloud));
    let _ = writeln!(text, "connection  {}\n", connection(config, cloud));
    Ok(text)
}

fn with_age(since: i64) -> String {
    let now = Clock::start(UpTime::default()).now().wall.0;
    let at = time::readable(since).unwrap_or_else(|| since.to_string());
    // A clock may have been wrong, then or now.
    let seconds = now.saturating_sub(since) / 1000;
    let age = match seconds {
        ..0 => return at,
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    };
    format!("{at}, {age} ago")
}

fn rate(cloud: Option<&Value>) -> String {
    let rate = cloud.and_then(|cloud| cloud["messages_a_second"].as_f64());
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1} messages a second"))
}

fn connection(config: &Config, cloud: Option<&Value>) -> String {
    let Some(cloud) = cloud else {
        return match config.mqtt.url {
            Some(_) => "no agent is running".to_owned(),
            None => "none: mqtt.url is not set".to_owned(),
        };
    };
    let text = |name: &str| cloud[name].as_str().unwrap_or("-");
    match (cloud.is_null(), cloud["connected"] == true) {
        (true, _) => "none: the agent runs without mqtt.url".to_owned(),
        (_, true) => format!("up since {}, session {}", text("since"), cloud["session"]),
        (_, false) => format!("down: {}", cloud["trouble"].as_str().unwrap_or("connecting")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_connection_is_told_as_the_agent_has_it() {
        let with_cloud = Config::parse("site.id = \"a\"\nmqtt.url = \"mqtt://b\"\n").unwrap();
        let without = Config::default();
        let up = json!({ "connected": true, "session": 7, "since": "2026-01-31T12:00:00Z", "messages_a_second": 2.0 });
        assert_eq!(connection(&with_cloud, Some(&up)), "up since 2026-01-31T12:00:00Z, session 7");
        assert_eq!(rate(Some(&up)), "2.0 messages a second");
        let down = json!({ "connected": false, "trouble": "connection refused" });
        assert_eq!(connection(&with_cloud, Some(&down)), "down: connection refused");
        assert_eq!(connection(&with_cloud, None), "no agent is running");
        assert_eq!(connection(&without, None), "none: mqtt.url is not set");
        assert_eq!(connection(&with_cloud, Some(&Value::Null)), "none: the agent runs without mqtt.url");
    }
}
