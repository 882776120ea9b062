//! What `--help` says.

use std::io::Write;

use super::failure::{Failure, Outcome};

/// A command as the overview and its own help show it.
struct Help {
    name: &'static str,
    usage: &'static str,
    summary: &'static str,
    details: &'static str,
}

const OUTBOX: &str = "  --device ID    only rows of this device
  --since 24h    only rows not older than this
  --json         an array of objects instead of a table
Above the table: how much waits, since when, how fast it leaves, and how the connection stands.
";
const FILTERS: &str = "  \
--device ID    only of this device
  --since 24h    only what happened since then
  --json         an array of objects instead of a table
";

const COMMANDS: &[Help] = &[
    Help {
        name: "run",
        usage: "run",
        summary: "the agent, in the foreground, logs to stderr",
        details: "SIGTERM and SIGINT end it cleanly, SIGHUP re-reads the configuration.\n",
    },
    Help {
        name: "demo",
        usage: "demo [--devices 50] [--seconds N] [--speed 60] [--keep DIR] [--mqtt URL]",
        summary: "agent and simulated site in one process, with a live table",
        details: "  \
--devices N    simulated devices, 50 when not given
  --seconds N    end after so long, else when interrupted
  --speed N      both clocks run so many times as fast, 60 when not given
  --keep DIR     keep the store in this folder, else nothing is left behind
  --mqtt URL     tell this broker, as site demo
",
    },
    Help {
        name: "simulate",
        usage: "simulate --connect ADDR [--devices N] [--fault NAME=N]... [--speed X]",
        summary: "only the simulated devices, against any agent, until interrupted",
        details: "  \
--connect ADDR  the agent, HOST:PORT
  --devices N     how many, 50 when not given
  --fault NAME=N  so many of them are faulty: no-end no-status refuse no-answer late-answer lost-ack
                  garbage half-frame silent drop deaf old-number
  --speed N       their clocks run so many times as fast
",
    },
    Help {
        name: "command",
        usage: "command JSON|-",
        summary: "send one command to the running agent, print its reply",
        details: "JSON is the command, - reads it from stdin. Exit code 1 when it was not done.\n",
    },
    Help {
        name: "devices",
        usage: "devices [--device ID] [--since 24h] [--json]",
        summary: "the devices",
        details: FILTERS,
    },
    Help { name: "ports", usage: "ports [--device ID] [--since 24h] [--json]", summary: "the ports", details: FILTERS },
    Help {
        name: "orders",
        usage: "orders [--open] [--device ID] [--since 24h] [--json] | orders --explain ORDER_NO [--json]",
        summary: "the orders, or the story of one",
        details: "  \
--open         only pending, charging and stopping ones
  --device ID    only of this device
  --since 24h    only those that ran or ended since then
  --json         an array of objects instead of a table
  --explain NO   the story of one order: commands, frames, decisions and the rules that made them
",
    },
    Help {
        name: "alerts",
        usage: "alerts [--open] [--device ID] [--since 24h] [--json] | alerts --acknowledge ALERT_ID",
        summary: "the alerts, or take note of one",
        details: "  \
--open         only those that last
  --device ID    only of this device
  --since 24h    only those raised since then
  --json         an array of objects instead of a table
  --acknowledge ID  have the running agent note that somebody has seen this alert, print its reply
",
    },
    Help {
        name: "events",
        usage: "events [--device ID] [--since 24h] [--json]",
        summary: "what was told, or is to be",
        details: FILTERS,
    },
    Help {
        name: "outbox",
        usage: "outbox [--device ID] [--since 24h] [--json]",
        summary: "what the cloud has not confirmed",
        details: OUTBOX,
    },
    Help {
        name: "check",
        usage: "check [--json]",
        summary: "where orders and ports disagree; exit code 1 when they do",
        details: "  --json         an array of objects instead of a table\n",
    },
    Help {
        name: "redecode",
        usage: "redecode [--apply] [--json]",
        summary: "read old end reports again, tell what they would book otherwise",
        details: "  \
--apply        have the running agent book it, as corrections
  --json         an array of objects instead of one line each

Reads with the present decoder and configuration. Exit code 1 when there is something to book; with --apply, when not
all of it was booked.

",
    },
    Help {
        name: "status",
        usage: "status [--json]",
        summary: "the site on one screen: devices, orders, cloud, store, clock, alerts",
        details: "  \
--json         one object; null is not known

A day begins at midnight by site.utc_offset. Provisional: closed by a time limit only, and not final yet. With flags:
open or closed today, with something that a person should look at before money moves.

",
    },
    Help {
        name: "decode",
        usage: "decode [HEX...]",
        summary: "explain frames field by field",
        details: "Without HEX: from stdin, one frame a line. Exit code 1 when one is bad.\n",
    },
    Help {
        name: "config",
        usage: "config",
        summary: "print the effective configuration, every key with its comment",
        details: "",
    },
];

const COMMON: &str = "  \
--config FILE  the configuration, else that of CHARGEGATE_CONFIG, else the built-in defaults
  -h, --help     help, also of a command
";

/// Every command on one screen.
pub fn overview(out: &mut impl Write) -> Outcome {
    writeln!(out, "chargegate: the agent on the gateway of a charging site\n")?;
    writeln!(out, "usage: chargegate [--config FILE] COMMAND\n")?;
    for help in COMMANDS {
        writeln!(out, "  {:<10} {}", help.name, help.summary)?;
    }
    writeln!(out, "\n{COMMON}  --version      the version\n")?;
    writeln!(out, "Exit codes: 0 fine, 1 the answer is no or it failed, 2 wrong usage or configuration.")?;
    Ok(())
}

/// One command in full.
pub fn command(out: &mut impl Write, name: &str) -> Outcome {
    let Some(help) = COMMANDS.iter().find(|help| help.name == name) else {
        return Err(no_such_command(name));
    };
    writeln!(out, "usage: chargegate [--config FILE] {}\n\n{}\n", help.usage, help.summary)?;
    writeln!(out, "{}{COMMON}", help.details)?;
    Ok(())
}

/// The error for a command that is not in the table.
pub fn no_such_command(name: &str) -> Failure {
    Failure::usage(name, "no such command, see chargegate --help")
}
