//! What the demo shows: a live table on a terminal, plain lines elsewhere, a summary at the end.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use chargegate::sim::Member;
use serde_json::Value;

use super::watch::Row;

const BAR: usize = 20;
/// Lines of the table that are not ports: header, titles, news, edges.
const OTHER_LINES: usize = 12;
/// The newest events below the table.
const NEWS: usize = 6;

/// What is to be shown.
#[derive(Debug)]
pub(super) struct Seen {
    /// By the demo's clock.
    pub(super) now: Duration,
    /// Devices with a connection.
    pub(super) connected: u32,
    /// All orders.
    pub(super) rows: Vec<Row>,
}

/// Remembers what was shown.
#[derive(Debug)]
pub(super) struct Screen {
    on_terminal: bool,
    colours: bool,
    faults: BTreeMap<String, &'static str>,
    known: BTreeMap<String, u8>,
    news: Vec<String>,
    begun: bool,
}

impl Screen {
    pub(super) fn new(on_terminal: bool, members: &[Member]) -> Self {
        let faults = members.iter().filter_map(|member| Some((member.id.to_string(), member.fault?.word()))).collect();
        let colours = on_terminal && std::env::var_os("NO_COLOR").is_none();
        Self { on_terminal, colours, faults, known: BTreeMap::new(), news: Vec::new(), begun: false }
    }

    pub(super) fn draw(&mut self, out: &mut impl Write, seen: &Seen) -> io::Result<()> {
        let first_news = self.news.len();
        for row in &seen.rows {
            let before = self.known.insert(row.order_no.clone(), row.status);
            if before != Some(row.status) {
                self.news.push(self.line(row, seen.now));
            }
        }
        if !self.on_terminal {
            self.news[first_news..].iter().try_for_each(|line| writeln!(out, "{line}"))?;
            return out.flush();
        }
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let (width, height) = size.map_or((100, 40), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        let mut page = if self.begun { String::new() } else { "\x1b[?25l\x1b[2J".to_owned() };
        self.begun = true;
        page.push_str("\x1b[H");
        for line in self.page(seen, height.saturating_sub(OTHER_LINES).max(4)) {
            page.push_str(&clip(&line, width));
            page.push_str("\x1b[K\r\n");
        }
        page.push_str("\x1b[J");
        out.write_all(page.as_bytes())?;
        out.flush()
    }

    /// The cursor is shown again.
    pub(super) fn end(&self, out: &mut impl Write) -> io::Result<()> {
        if self.begun {
            out.write_all(b"\x1b[?25h\x1b[2J\x1b[H")?;
        }
        out.flush()
    }

    fn page(&self, seen: &Seen, most: usize) -> Vec<String> {
        let open = seen.rows.iter().filter(|row| row.is_open()).count();
        let power: f64 = seen.rows.iter().map(|row| row.power_w).sum();
        let mut lines = vec![
            self.paint("1", &format!("chargegate demo   {}", clock(seen.now))),
            format!(
                "{} devices online   {open} charging   {} over   {power:.0} W",
                seen.connected,
                seen.rows.len() - open
            ),
            String::new(),
            self.paint(
                "2",
                &format!(
                    "{:<14} {:<4} {:<7} {:<BAR$} {:>8} {:>7} {:>7}  {}",
                    "DEVICE", "PORT", "ORDERED", "PROGRESS", "POWER", "ENERGY", "TIME", "STATE"
                ),
            ),
        ];
        // What charges comes first, then what ended last; each kind by place, so that rows stay where they are.
        let charging = seen.rows.iter().filter(|row| row.is_open());
        let over = seen.rows.iter().rev().filter(|row| !row.is_open());
        let rows: Vec<&Row> = charging.chain(over).take(most).collect();
        lines.extend(rows.iter().map(|row| self.port_line(row)));
        lines.push(String::new());
        let from = self.news.len().saturating_sub(NEWS);
        lines.extend(self.news[from..].iter().map(|line| self.paint("2", line)));
        lines
    }

    fn port_line(&self, row: &Row) -> String {
        let share = if row.is_open() { progress(row) } else { Some(1.0) };
        let state = self.state(row);
        let colour = match row.status {
            2 => "32",
            0 | 9 => "33",
            5 | 6 => "31",
            _ => "0",
        };
        format!(
            "{:<14} {:<4} {:<7} {} {:>6.0} W {:>4} Wh {:>3} min  {}",
            row.device,
            format!("{}{}", row.socket, letter(row.port)),
            ordered(row),
            self.paint(colour, &bar(share)),
            row.power_w,
            row.energy_wh,
            row.minutes,
            self.paint(colour, &state),
        )
    }

    fn state(&self, row: &Row) -> String {
        let end = row.end_reason.as_deref().map_or(String::new(), |reason| format!(" {reason}"));
        let settled = row.settlement.as_deref().map_or(String::new(), |settlement| format!(", {settlement}"));
        let fault = self.faults.get(&row.device).map_or(String::new(), |fault| format!("  [device: {fault}]"));
        format!("{}{end}{settled}{fault}", row.word())
    }

    fn line(&self, row: &Row, now: Duration) -> String {
        format!(
            "{}  {}/{}{}  {:<8}  {:>4} Wh {:>3} min  {}",
            clock(now),
            row.device,
            row.socket,
            letter(row.port),
            ordered(row),
            row.energy_wh,
            row.minutes,
            self.state(row)
        )
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const fn letter(port: u8) -> char {
    if port == 0 { 'A' } else { 'B' }
}

fn clock(now: Duration) -> String {
    let seconds = now.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// What was ordered, in a word.
fn ordered(row: &Row) -> String {
    let plan: Value = serde_json::from_str(&row.plan).unwrap_or_default();
    let number = |field: &str| plan[field].as_u64().unwrap_or(0);
    match row.mode.as_str() {
        "time" => format!("{} min", number("minutes")),
        "energy" => format!("{} Wh", number("energy_wh")),
        "tiers" | "fee" => format!("{}.{:02}", number("amount_cents") / 100, number("amount_cents") % 100),
        other => other.to_owned(),
    }
}

/// How much of what was ordered is there, where that can be told.
#[expect(clippy::cast_precision_loss, reason = "a share for the eye")]
fn progress(row: &Row) -> Option<f64> {
    let plan: Value = serde_json::from_str(&row.plan).ok()?;
    let share = |done: u32, field: &str| Some(f64::from(done) / plan[field].as_u64()?.max(1) as f64);
    match row.mode.as_str() {
        "time" => share(row.minutes, "minutes"),
        "energy" => share(row.energy_wh, "energy_wh"),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share between 0 and 1")]
fn bar(share: Option<f64>) -> String {
    let Some(share) = share else { return "·".repeat(BAR) };
    let full = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(BAR - full))
}

/// Cut to the terminal's width; escape sequences take none.
fn clip(line: &str, width: usize) -> String {
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

/// How all orders ended, and what became of the faulty devices.
pub(super) fn summary(out: &mut impl Write, rows: &[Row], members: &[Member]) -> io::Result<()> {
    let fault_of =
        |device: &str| members.iter().find(|member| member.id.to_string() == device).and_then(|member| member.fault);
    let mut ends: BTreeMap<(String, &str), (u32, u32)> = BTreeMap::new();
    for row in rows {
        let reason = row.end_reason.clone().unwrap_or_else(|| "-".to_owned());
        let how = row.settlement.as_deref().unwrap_or("open");
        let (orders, energy) = ends.entry((format!("{} {reason}", row.word()), how)).or_default();
        *orders += 1;
        *energy += row.energy_wh;
    }
    let honest = rows.iter().filter(|row| fault_of(&row.device).is_none());
    let (all, reported) = honest.fold((0, 0), |(all, reported), row| {
        (all + 1, reported + u32::from(row.settlement.as_deref() == Some("reported")))
    });
    writeln!(out, "{} orders; of {all} at honest devices {reported} are completed and reported", rows.len())?;
    writeln!(out, "\n{:<34} {:<12} {:>6} {:>10}", "ORDERS", "SETTLEMENT", "COUNT", "ENERGY")?;
    for ((end, how), (orders, energy)) in &ends {
        writeln!(out, "{end:<34} {how:<12} {orders:>6} {energy:>7} Wh")?;
    }
    let faulty: Vec<&Row> = rows.iter().filter(|row| fault_of(&row.device).is_some()).collect();
    if !faulty.is_empty() {
        writeln!(out, "\n{:<14} {:<12} WHAT BECAME OF ITS ORDER", "FAULTY DEVICE", "FAULT")?;
    }
    for row in faulty {
        let fault = fault_of(&row.device).map_or("-", |fault| fault.word());
        let reason = row.end_reason.as_deref().unwrap_or("-");
        let how = row.settlement.as_deref().unwrap_or("open");
        writeln!(out, "{:<14} {fault:<12} {} {reason}, {how}, {} Wh", row.device, row.word(), row.energy_wh)?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: u8) -> Row {
        Row {
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

    fn drawn(screen: &mut Screen, status: u8) -> String {
        let mut out = Vec::new();
        screen.draw(&mut out, &Seen { now: Duration::from_secs(61), connected: 1, rows: vec![row(status)] }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn without_a_terminal_each_change_is_one_plain_line() {
        let mut screen = Screen::new(false, &[]);
        let line = drawn(&mut screen, 2);
        assert_eq!(line, "00:01:01  82241218000000/1B  10 min      20 Wh   5 min  charging\n");
        assert_eq!(drawn(&mut screen, 2), "");
        assert!(drawn(&mut screen, 7).ends_with("completed time_reached, reported\n"));
    }

    #[test]
    fn half_of_what_was_ordered_is_half_a_bar() {
        assert_eq!(bar(progress(&row(2))), format!("{}{}", "█".repeat(10), "░".repeat(10)));
    }

    #[test]
    fn a_line_is_cut_to_the_width_and_keeps_its_colours_whole() {
        assert_eq!(clip("\x1b[32mabcdef\x1b[0m", 3), "\x1b[32mabc\x1b[0m");
    }

    #[test]
    fn the_summary_counts_how_orders_ended() {
        let mut out = Vec::new();
        summary(&mut out, &[row(7), row(7)], &[]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("of 2 at honest devices 2 are completed and reported"), "{text}");
        assert!(text.contains("completed time_reached"), "{text}");
    }
}
