//! Usage errors, help, broken pipes.

use crate::site::{Ran, Site};

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    let site = Site::new();
    for (arguments, line) in [
        (&[][..], "chargegate: usage: a command is missing, see chargegate --help"),
        (&["frobnicate"], "chargegate: frobnicate: no such command, see chargegate --help"),
        (&["fro\nb"], "chargegate: fro\\nb: no such command, see chargegate --help"),
        (&["help", "frobnicate"], "chargegate: frobnicate: no such command, see chargegate --help"),
        (&["--frobnicate"], "chargegate: usage: no such option: --frobnicate"),
        (&["-x", "run"], "chargegate: usage: no such option: -x"),
        (&["--config"], "chargegate: usage: missing argument for option '--config'"),
        (&["run", "now"], "chargegate: run: unexpected argument \"now\""),
        (&["run", "--json"], "chargegate: run: no such option: --json"),
        (&["config", "x"], "chargegate: config: unexpected argument \"x\""),
        (&["check", "--open"], "chargegate: check: no such option: --open"),
        (&["status", "--open"], "chargegate: status: no such option: --open"),
        (&["devices", "--open"], "chargegate: devices: no such option: --open"),
        (&["orders", "--json=x"], "chargegate: orders: unexpected argument for option '--json': \"x\""),
        (&["orders", "--since"], "chargegate: orders: missing argument for option '--since'"),
        (&["orders", "--since", "24"], "chargegate: orders: --since \"24\": is not a duration such as 90s, 24h or 7d"),
        (&["ports", "--device", "7"], "chargegate: ports: --device \"7\": a device id is 14 decimal digits"),
        (&["command"], "chargegate: command: the command is missing: a JSON object, or - to read it from stdin"),
        (&["command", "{}", "{}"], "chargegate: command: unexpected argument \"{}\""),
        (&["command", " "], "chargegate: command: there is nothing to send"),
        (&["decode", "--json"], "chargegate: decode: no such option: --json"),
        (&["demo", "--devices", "0"], "chargegate: demo: --devices \"0\": is not a number from 1 to 10000"),
        (&["demo", "--speed", "fast"], "chargegate: demo: --speed \"fast\": is not a number from 1 to 1000"),
        (
            &["demo", "--mqtt", "http://x"],
            "chargegate: demo: --mqtt \"http://x\": a broker's URL is mqtt://HOST:PORT or mqtts://HOST:PORT",
        ),
        (&["simulate"], "chargegate: simulate: --connect HOST:PORT is missing"),
        (&["simulate", "--connect", "host"], "chargegate: simulate: --connect \"host\": is not HOST:PORT"),
        (
            &["simulate", "--connect", "h:1", "--devices", "1", "--fault", "deaf=2"],
            "chargegate: simulate: 2 faulty devices are more than 1",
        ),
    ] {
        let expected = Ran { code: 2, out: String::new(), err: format!("{line}\n") };
        assert_eq!(site.run(arguments), expected, "{arguments:?}");
    }
    let unknown_fault = site.run(&["simulate", "--connect", "h:1", "--fault", "slow=2"]);
    assert_eq!((unknown_fault.code, unknown_fault.err.lines().count()), (2, 1));
    assert!(unknown_fault.err.contains("slow=2") && unknown_fault.err.contains("no-end"));
    assert_eq!(site.files(), [""; 0]);
}

#[test]
fn help_and_version_are_fine_everywhere() {
    let site = Site::new();
    let commands = "run demo simulate command devices ports orders alerts events outbox check status decode config";
    let overview = site.run(&["--help"]);
    assert_eq!((overview.code, overview.err.as_str()), (0, ""));
    assert_eq!(site.run(&["help"]), overview);
    assert_eq!(site.run(&["-h"]), overview);
    for command in commands.split(' ') {
        assert!(overview.out.contains(&format!("\n  {command} ")), "{command}");
        let help = site.run(&[command, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (0, ""));
        assert!(help.out.starts_with(&format!("usage: chargegate [--config FILE] {command}")), "{help:?}");
        assert_eq!(site.run(&["help", command]), help);
    }
    assert_eq!(site.run(&["--version"]).out, format!("chargegate {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_has_enough_makes_a_success() {
    let site = Site::new();
    for arguments in [&["config"][..], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = site.command(arguments).stdout(writer).status().unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}
