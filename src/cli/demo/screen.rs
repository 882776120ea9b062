//! What the demo shows while it runs: a live table on a terminal, one plain line a change elsewhere.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use chargegate::sim::Member;

use super::row_text::{bar, clip, clock, ordered, outlet, progress, state};
use super::watch::{Orders, Row};

/// The newest changes below the table, on a screen that has room.
const NEWS: usize = 6;
/// Lines around table and news: two of header, titles, two empty ones, and the one where the cursor waits.
const FRAME: usize = 6;
/// A screen whose size is not known.
const SIZE: (usize, usize) = (100, 40);
/// From this width on a bar is long.
const WIDE: usize = 100;

/// To a screen of its own, without a cursor; what stood on the terminal comes back at the end.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What is to be shown.
#[derive(Debug)]
pub(super) struct Seen {
    /// By the demo's clock.
    pub(super) now: Duration,
    /// Devices with a connection.
    pub(super) connected: u32,
    /// The orders.
    pub(super) orders: Orders,
}

/// What is the same all the time.
#[derive(Debug)]
pub(super) struct Setting {
    /// Stdout is a terminal.
    pub(super) on_terminal: bool,
    /// How long the demo lasts by its own clock.
    pub(super) length: Option<Duration>,
    /// How many times as fast that is.
    pub(super) speed: u32,
}

/// Remembers what was shown.
#[derive(Debug)]
pub(super) struct Screen {
    setting: Setting,
    colours: bool,
    devices: usize,
    faults: BTreeMap<String, &'static str>,
    /// Status by serial.
    known: BTreeMap<i64, u8>,
    news: Vec<String>,
    begun: bool,
}

impl Screen {
    pub(super) fn new(setting: Setting, members: &[Member]) -> Self {
        let faults = members.iter().filter_map(|member| Some((member.id.to_string(), member.fault?.word()))).collect();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colours = setting.on_terminal && !no_colour;
        let (known, news) = (BTreeMap::new(), Vec::new());
        Self { setting, colours, devices: members.len(), faults, known, news, begun: false }
    }

    /// Shows it.
    pub(super) fn draw(&mut self, out: &mut impl Write, seen: &Seen) -> io::Result<()> {
        let fresh = self.changes(seen);
        if !self.setting.on_terminal {
            fresh.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            return out.flush();
        }
        self.news.extend(fresh);
        self.news.drain(..self.news.len().saturating_sub(NEWS));
        let mut text = if self.begun { String::new() } else { ENTER.to_owned() };
        self.begun = true;
        text.push_str("\x1b[H");
        let (width, height) = size();
        for line in self.page(seen, width, height) {
            text.push_str(&clip(&line, width));
            text.push_str("\x1b[K\r\n");
        }
        text.push_str("\x1b[J");
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Gives the terminal back.
    pub(super) fn end(&self, out: &mut impl Write) -> io::Result<()> {
        if self.begun {
            out.write_all(LEAVE.as_bytes())?;
        }
        out.flush()
    }

    /// A line for each order whose status is another one than before.
    fn changes(&mut self, seen: &Seen) -> Vec<String> {
        let rows = &seen.orders.rows;
        let is_new = |row: &&Row| self.known.get(&row.serial) != Some(&row.status);
        let lines = rows.iter().filter(is_new).map(|row| self.line(row, seen.now)).collect();
        self.known = rows.iter().map(|row| (row.serial, row.status)).collect();
        lines
    }

    fn line(&self, row: &Row, now: Duration) -> String {
        let (time, outlet, ordered, state) = (clock(now), outlet(row), ordered(row), self.state(row));
        // On the screen there is no room for it.
        let number = if self.setting.on_terminal { String::new() } else { format!("{:<24} ", row.order_no) };
        let used = match row.status {
            7 => format!(", {} Wh in {} min", row.energy_wh, row.minutes),
            _ => String::new(),
        };
        format!("{time} {number}{}/{outlet} {ordered:<13} {state}{used}", row.device)
    }

    fn page(&self, seen: &Seen, width: usize, height: usize) -> Vec<String> {
        let news = self.news.len().min(height / 5);
        let room = height.saturating_sub(FRAME + news);
        let bar = if width < WIDE { 10 } else { 20 };
        let titles = format!(
            "{:<14} {:<4} {:<12} {:<bar$} {:>8} {:>7} {:>7}  STATE",
            "DEVICE", "PORT", "ORDERED", "PROGRESS", "POWER", "ENERGY", "TIME"
        );
        let mut lines = self.header(seen).to_vec();
        lines.push(self.paint("2", &titles));
        lines.extend(self.table(&seen.orders.rows, room, bar));
        lines.push(String::new());
        let newest = self.news.len() - news;
        lines.extend(self.news[newest..].iter().map(|line| self.paint("2", line)));
        lines.truncate(height.saturating_sub(1));
        lines
    }

    fn header(&self, seen: &Seen) -> [String; 3] {
        let Orders { rows, older } = &seen.orders;
        let open = rows.iter().filter(|row| row.is_open()).count();
        let power: f64 = rows.iter().map(|row| row.power_w).sum();
        let of = self.setting.length.map_or(String::new(), |length| format!(" of {}", clock(length)));
        let title = self.paint("1", &format!("chargegate demo   {}{of}", clock(seen.now)));
        let (speed, connected, devices, over) =
            (self.setting.speed, seen.connected, self.devices, rows.len() - open + older);
        [
            format!("{title}   site time, {speed} times as fast; Ctrl-C ends it"),
            format!("{connected} of {devices} devices online   {open} charging   {over} over   {power:.0} W"),
            String::new(),
        ]
    }

    /// What charges comes first, oldest on top, then what was ordered last of what is over.
    fn table(&self, rows: &[Row], room: usize, bar: usize) -> Vec<String> {
        let open = rows.iter().filter(|row| row.is_open());
        let over = rows.iter().rev().filter(|row| !row.is_open());
        let more = rows.iter().filter(|row| row.is_open()).count().saturating_sub(room);
        let shown = if more > 0 { room.saturating_sub(1) } else { room };
        let mut lines: Vec<String> = open.chain(over).take(shown).map(|row| self.port_line(row, bar)).collect();
        match (rows.is_empty(), more) {
            (true, _) => lines.push("the first orders are about to come".to_owned()),
            (false, 0) => {}
            (false, more) => lines.push(self.paint("2", &format!("… and {} more that charge", more + 1))),
        }
        lines
    }

    fn port_line(&self, row: &Row, width: usize) -> String {
        let colour = match row.status {
            2 => "32",
            0 | 9 => "33",
            5 | 6 => "31",
            _ => "0",
        };
        format!(
            "{:<14} {:<4} {:<12} {} {:>6.0} W {:>4} Wh {:>3} min  {}",
            row.device,
            outlet(row),
            ordered(row),
            self.paint(colour, &bar(progress(row), width)),
            row.power_w,
            row.energy_wh,
            row.minutes,
            self.paint(colour, &self.state(row)),
        )
    }

    fn state(&self, row: &Row) -> String {
        let fault = self.faults.get(&row.device).map_or(String::new(), |fault| format!(" [device: {fault}]"));
        format!("{}{fault}", state(row))
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Width and height of the terminal.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::super::row_text::tests::row;
    use super::*;

    fn screen(on_terminal: bool) -> Screen {
        let setting = Setting { on_terminal, length: Some(Duration::from_secs(1800)), speed: 60 };
        Screen { colours: false, ..Screen::new(setting, &[]) }
    }

    fn seen(rows: Vec<Row>) -> Seen {
        Seen { now: Duration::from_secs(61), connected: 1, orders: Orders { rows, older: 0 } }
    }

    fn drawn(screen: &mut Screen, rows: Vec<Row>) -> String {
        let mut out = Vec::new();
        screen.draw(&mut out, &seen(rows)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn without_a_terminal_each_change_is_one_plain_line() {
        let mut screen = screen(false);
        let begun = drawn(&mut screen, vec![Row { minutes: 0, energy_wh: 0, ..row(2) }]);
        assert_eq!(begun, "00:01:01 demo-1                   82241218000000/1B time 10 min   charging\n");
        assert_eq!(drawn(&mut screen, vec![row(2)]), "");
        let over = drawn(&mut screen, vec![row(7)]);
        assert!(over.ends_with("time 10 min   completed time_reached, reported, 20 Wh in 5 min\n"), "{over}");
    }

    #[test]
    fn the_terminal_is_given_back_as_it_was() {
        let mut screen = screen(true);
        let mut out = Vec::new();
        screen.end(&mut out).unwrap();
        assert_eq!(out, b"", "nothing was taken yet");
        assert!(drawn(&mut screen, vec![]).starts_with(ENTER));
        assert!(!drawn(&mut screen, vec![]).contains(ENTER));
        screen.end(&mut out).unwrap();
        assert_eq!(out, LEAVE.as_bytes());
    }

    #[test]
    fn a_page_fits_screens_of_any_height_and_tells_what_it_leaves_out() {
        let mut screen = screen(true);
        let rows: Vec<Row> = (0..50).map(|serial| Row { serial, ..row(2) }).collect();
        drawn(&mut screen, rows.clone());
        for height in 1..80 {
            let page = screen.page(&seen(rows.clone()), 100, height);
            assert!(page.len() < height, "{height}: {}", page.len());
            let ports = page.iter().filter(|line| line.starts_with("8224")).count();
            if height >= 12 {
                let left_out = page.iter().any(|line| *line == format!("… and {} more that charge", 50 - ports));
                assert_eq!(left_out, ports < 50, "{height}");
            }
        }
    }

    #[test]
    fn a_port_shows_its_order_its_figures_and_what_is_wrong_with_its_device() {
        let mut screen = screen(true);
        screen.faults.insert(row(2).device, "no-end");
        let page = screen.page(&seen(vec![row(2)]), 80, 24);
        assert_eq!(page[0], "chargegate demo   00:01:01 of 00:30:00   site time, 60 times as fast; Ctrl-C ends it");
        assert_eq!(page[1], "1 of 0 devices online   1 charging   0 over   120 W");
        let line = "82241218000000 1B   time 10 min  █████░░░░░    120 W   20 Wh   5 min  charging [device: no-end]";
        assert_eq!(page[4], line);
    }
}
