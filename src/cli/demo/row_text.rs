//! Orders as people read them: what was ordered, how far it is, what became of it.

use std::time::Duration;

use serde_json::Value;

use super::watch::Row;

/// Time on the demo's clock.
pub(super) fn clock(now: Duration) -> String {
    let seconds = now.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Socket and port: `1A`.
pub(super) fn outlet(row: &Row) -> String {
    format!("{}{}", row.socket, if row.port == 0 { 'A' } else { 'B' })
}

/// What was ordered: mode and measure.
pub(super) fn ordered(row: &Row) -> String {
    let plan = plan(row);
    let number = |field: &str| plan[field].as_u64().unwrap_or(0);
    let mode = &row.mode;
    match mode.as_str() {
        "time" => format!("{mode} {} min", number("minutes")),
        "energy" => format!("{mode} {} Wh", number("energy_wh")),
        "tiers" | "fee" => format!("{mode} ¥{}.{:02}", number("amount_cents") / 100, number("amount_cents") % 100),
        other => other.to_owned(),
    }
}

/// Status, end reason and settlement.
pub(super) fn state(row: &Row) -> String {
    let end = row.end_reason.as_deref().map_or(String::new(), |reason| format!(" {reason}"));
    let settled = row.settlement.as_deref().map_or(String::new(), |settlement| format!(", {settlement}"));
    format!("{}{end}{settled}", row.word())
}

/// How much of what was ordered was delivered; none when that cannot be told.
pub(super) fn progress(row: &Row) -> Option<f64> {
    match row.status {
        5 | 6 => return Some(0.0),
        7 => return Some(1.0),
        _ => {}
    }
    let plan = plan(row);
    let of_plan = |done: f64, field: &str| plan[field].as_f64().filter(|all| *all > 0.0).map(|all| done / all);
    match row.mode.as_str() {
        "time" => of_plan(row.minutes.into(), "minutes"),
        "energy" => of_plan(row.energy_wh.into(), "energy_wh"),
        "tiers" => of_plan(spent_by_tiers(row, &plan)?, "amount_cents"),
        "fee" => of_plan(spent_by_fee(row, &plan)?, "amount_cents"),
        _ => None,
    }
}

fn plan(row: &Row) -> Value {
    serde_json::from_str(&row.plan).unwrap_or_default()
}

/// As if it had drawn what it draws now all the time, which is near enough for the eye.
fn spent_by_tiers(row: &Row, plan: &Value) -> Option<f64> {
    let tiers = plan["tiers"].as_array()?;
    let fits = |tier: &&Value| tier["power_w"].as_f64().is_some_and(|limit| row.power_w <= limit);
    let tier = tiers.iter().find(fits).or(tiers.last())?;
    Some(f64::from(row.minutes) * tier["price_cents"].as_f64()? / tier["minutes"].as_f64()?)
}

/// The demo's orders by fee have one tier, and prices for a kWh.
fn spent_by_fee(row: &Row, plan: &Value) -> Option<f64> {
    let tier = plan["tiers"].as_array()?.first()?;
    let price = tier["electricity_cents"].as_f64()? + tier["service_cents"].as_f64()?;
    Some(f64::from(row.energy_wh) * price / 1000.0)
}

/// A bar of so many characters.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "for the eye")]
pub(super) fn bar(share: Option<f64>, width: usize) -> String {
    let Some(share) = share else { return "·".repeat(width) };
    let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

/// Cut to the terminal's width; escape sequences take none.
pub(super) fn clip(line: &str, width: usize) -> String {
    let (mut clipped, mut shown, mut escaped) = (String::new(), 0, false);
    for letter in line.chars() {
        if letter == '\x1b' {
            escaped = true;
        } else if !escaped {
            if shown == width {
                continue;
            }
            shown += 1;
        }
        clipped.push(letter);
        if escaped && letter == 'm' {
            escaped = false;
        }
    }
    clipped
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn row(status: u8) -> Row {
        Row {
            serial: 1,
            order_no: "demo-1".to_owned(),
            device: "82241218000000".to_owned(),
            socket: 1,
            port: 1,
            mode: "time".to_owned(),
            plan: r#"{"mode":"time","minutes":10}"#.to_owned(),
            status,
            end_reason: (status == 7).then(|| "time_reached".to_owned()),
            settlement: (status == 7).then(|| "reported".to_owned()),
            energy_wh: 20,
            minutes: 5,
            power_w: 120.0,
        }
    }

    #[test]
    fn half_of_what_was_ordered_is_half_a_bar_in_every_mode() {
        for (mode, plan, text) in [
            ("time", r#"{"minutes":10}"#, "time 10 min"),
            ("energy", r#"{"energy_wh":40}"#, "energy 40 Wh"),
            // 5 minutes of 60 for 96 cents; 20 Wh at 10 yuan the kWh.
            (
                "tiers",
                r#"{"amount_cents":16,"tiers":[{"power_w":100,"price_cents":1,"minutes":60},
                    {"power_w":400,"price_cents":96,"minutes":60}]}"#,
                "tiers ¥0.16",
            ),
            ("fee", r#"{"amount_cents":40,"tiers":[{"electricity_cents":700,"service_cents":300}]}"#, "fee ¥0.40"),
        ] {
            let row = Row { mode: mode.to_owned(), plan: plan.to_owned(), ..row(2) };
            assert_eq!((ordered(&row).as_str(), progress(&row)), (text, Some(0.5)));
        }
        assert_eq!(bar(Some(0.5), 6), "███░░░");
    }

    #[test]
    fn what_was_not_ordered_here_has_no_measure() {
        let row = Row { mode: "adopted".to_owned(), plan: "{}".to_owned(), ..row(2) };
        assert_eq!((ordered(&row).as_str(), bar(progress(&row), 3).as_str()), ("adopted", "···"));
    }

    #[test]
    fn a_completed_order_is_a_full_bar_and_a_failed_one_an_empty_one() {
        assert_eq!((progress(&row(7)), progress(&row(6))), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn a_line_is_cut_to_the_width_and_keeps_its_colours_whole() {
        assert_eq!(clip("\x1b[32mabcdef\x1b[0m", 3), "\x1b[32mabc\x1b[0m");
    }
}
