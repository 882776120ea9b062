//! `status` beside the running agent.

use serde_json::{Value, json};

use crate::support::{Agent, Device, FAST, charging};

#[test]
fn status_tells_of_the_running_site_with_figures_that_were_in_memory() {
    let agent = Agent::start(FAST);
    let mut device = Device::idle(&agent);
    device.run_order(&agent, 7, 60);
    device.status(charging(7, 12, 1));
    let (ended, out, error) = agent.cli(&["status", "--json"]);
    assert_eq!((ended, error.as_str()), (Some(0), ""));
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&status["site"]["running"], &status["devices"]["online"]), (&json!(true), &json!(1)));
    assert_eq!(status["orders"], json!({ "open": 1, "closed_today": 0, "provisional": 0, "flagged": 0 }));
    assert_eq!(agent.rows_as_they_are("SELECT energy_wh FROM ports")[0]["energy_wh"], 12);
    let told = agent.command(json!({ "type": "flush" }))["data"]["clock"].clone();
    assert_eq!((&status["clock"]["quality"], &status["cloud"]["configured"]), (&told, &json!(false)));
    assert_eq!(agent.cli(&["status"]).1.lines().count(), 7);
}
