//! The whole site, seeded: simulated devices with every fault, a network that loses, delays and repeats, clocks that
//! jump, a real store on a disk that fills, and an agent that is killed at any moment. A shadow knows what really
//! happened at each socket, and checks after every step what must hold.
//!
//! `cargo test --test simulation -- --seeds 500` runs more days, `-- --seed 17` one of them again. With the feature
//! `mutants` each rule is switched off in turn, and the days have to notice. `CHARGEGATE_SIMULATION_KEEP=FOLDER` keeps the
//! store of a day that failed, to be looked into with `chargegate orders --explain`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it runs its tests and tells of them itself")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "how long it takes is told, nothing hangs on it"
)]

mod checks;
mod disk;
mod line;
#[cfg(feature = "mutants")]
mod mutants;
mod plans;
mod shadow;
mod wall;
mod world;

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use world::{Setting, World};

/// Days in the ordinary run.
const SEEDS: u64 = 200;
/// Set inside the mount namespace that gives each world a disk of its own.
const INSIDE: &str = "CHARGEGATE_SIMULATION_INSIDE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("simulated_days: test\na_simulated_week: test");
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(INSIDE).is_none() {
        return in_a_namespace(&arguments);
    }
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).and_then(|value| value.parse::<u64>().ok())
    };
    #[cfg(feature = "mutants")]
    if number("--seed").is_none() {
        return mutants::run_all(number("--seeds").unwrap_or(mutants::SEEDS));
    }
    if let Some(seed) = number("--seed") {
        let setting = if arguments.iter().any(|argument| argument == "--week") { Setting::WEEK } else { Setting::DAY };
        println!("{}", World::new(seed, setting).run());
        return ExitCode::SUCCESS;
    }
    run_all(number("--seeds").unwrap_or(SEEDS))
}

/// Disks of their own need mounts, and mounts a namespace.
fn in_a_namespace(arguments: &[String]) -> ExitCode {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-rm"]).arg(program).args(arguments).env(INSIDE, "1");
    let status = command.status().expect("the simulation needs unshare (package util-linux)");
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(seeds: u64) -> ExitCode {
    println!("\nrunning 2 tests");
    let began = Instant::now();
    let mut failed = 0;
    for (name, run) in [("simulated_days", days as fn(u64) -> Result<String, String>), ("a_simulated_week", week)] {
        let result = run(seeds);
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        match result {
            Ok(told) => println!("{told}"),
            Err(told) => {
                println!("{told}");
                failed += 1;
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        2 - failed,
        began.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// One simulated day of 20 devices for each seed, on both cores.
fn days(seeds: u64) -> Result<String, String> {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.lock().unwrap().len() >= 5 {
                        return;
                    }
                    if std::panic::catch_unwind(|| World::new(seed, Setting::DAY).run()).is_err() {
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    if failed.is_empty() {
        return Ok(format!("{seeds} days of 20 devices"));
    }
    let again: Vec<String> =
        failed.iter().map(|seed| format!("cargo test --test simulation -- --seed {seed}")).collect();
    Err(format!("failed; to see one again:\n{}", again.join("\n")))
}

/// 50 devices, a third of them faulty, for a week, some 40 ports charging at any time: nothing stuck, lost or counted
/// twice.
fn week(_: u64) -> Result<String, String> {
    std::panic::catch_unwind(|| World::new(1, Setting::WEEK).run())
        .map_err(|_| "failed; to see it again:\ncargo test --test simulation -- --seed 1 --week".to_owned())
}
