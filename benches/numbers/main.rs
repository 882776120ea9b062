//! The numbers that the agent is held to, each against its limit. Within one run: machines are noisy, ratios hold.
//!
//! `cargo bench` runs all in a few minutes; `cargo bench -- throughput` those whose name contains a word. It ends with
//! exit code 1 when a limit is missed. The agent is the real binary in a process of its own; the store stands on the disk
//! under `target/`, as nothing is proved on a file system in memory.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints, and ends when it cannot go on"
)]

mod deadlines;
mod decode;
mod flash;
mod load;
mod place;
mod quiet;
mod start;
mod throughput;
mod yardstick;

use std::process::ExitCode;

use throughput::Load;

/// One figure and what it is held to.
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    limit: Limit,
}

/// What a figure is held to.
pub enum Limit {
    /// At least.
    Least(f64),
    /// At most.
    Most(f64),
    /// For information.
    None,
}

impl Figure {
    /// A figure with its limit.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str, limit: Limit) -> Self {
        Self { name: name.into(), value, unit, limit }
    }

    fn print(&self) -> bool {
        let Self { name, value, unit, limit } = self;
        let (text, kept) = match limit {
            Limit::Least(least) => (format!("at least {least}"), value >= least),
            Limit::Most(most) => (format!("at most {most}"), value <= most),
            Limit::None => (String::new(), true),
        };
        let verdict = match (limit, kept) {
            (Limit::None, _) => "",
            (_, true) => "ok",
            (_, false) => "MISSED",
        };
        println!("{name:<62} {value:>12.3} {unit:<9} {text:<16} {verdict}");
        kept
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(role) = arguments.first().filter(|argument| argument.starts_with("role-")) {
        return match role.as_str() {
            "role-yardstick" => yardstick::serve(),
            _ => flash::serve(&arguments[1..]),
        };
    }
    type Bench = (&'static str, fn() -> Vec<Figure>);
    let benches: [Bench; 12] = [
        ("decode", decode::figures),
        ("start", start::figures),
        ("quiet", quiet::figures),
        ("deadlines", deadlines::figures),
        ("flash-idle", flash::idle),
        ("flash-5m", flash::every_5_min),
        ("flash-10s", flash::every_10_s),
        ("throughput-50x1", || throughput::figures(Load { connections: 50, least: 0.5, ..Load::default() })),
        ("throughput-1000x1", || throughput::figures(Load { connections: 1000, least: 0.5, ..Load::default() })),
        ("throughput-5000x1", || throughput::figures(Load { connections: 5000, least: 0.5, ..Load::default() })),
        ("throughput-50x16", || throughput::figures(Load { in_flight: 16, least: 0.12, ..Load::default() })),
        ("throughput-slow", || throughput::figures(Load { sync_delay_ms: 10, least: 0.15, ..Load::default() })),
    ];
    let mut kept = true;
    for (name, figures) in benches {
        let wanted = arguments.is_empty() || arguments.iter().any(|argument| name.contains(argument.as_str()));
        if wanted {
            for figure in figures() {
                kept &= figure.print();
            }
        }
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
