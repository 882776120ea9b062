//! Is the simulation any good? Each rule is switched off in turn, and some day has to notice.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use chargegate::mutants::{Mutant, switch_off};

use crate::world::{Setting, World};

/// Days that a rule may be missing unnoticed.
pub const SEEDS: u64 = 200;
/// Those whose absence shows at a site within days; `tests/mutants.rs` shows what each of all does at one port. That a
/// stop goes out only under its order's own number cannot show here: what a later order owns is guarded already, and
/// what nobody owns is nobody's to complain about.
const WATCHED: [Mutant; 11] = [
    Mutant::Hold,
    Mutant::AskBeforeRepeating,
    Mutant::AnswerAfterCommit,
    Mutant::Duplicates,
    Mutant::NoStopOverLaterOrder,
    Mutant::AskBeforeSilentClose,
    Mutant::OwedStops,
    Mutant::Bounds,
    Mutant::WhoseSession,
    Mutant::Resume,
    Mutant::LaterReport,
];

pub fn run_all(seeds: u64) -> ExitCode {
    println!("\nrunning {} tests", WATCHED.len());
    let began = Instant::now();
    // What is expected to fail need not be told.
    std::panic::set_hook(Box::new(|_| ()));
    let (next, unnoticed) = (AtomicUsize::new(0), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |cores| cores.get().min(8)) {
            scope.spawn(|| {
                while let Some(mutant) = WATCHED.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let noticed = (0..seeds).find_map(|seed| notices(*mutant, seed).map(|what| (seed, what)));
                    match noticed {
                        Some((seed, what)) => {
                            println!("test without_{} ... ok (seed {seed}: {what})", mutant.word());
                        }
                        None => {
                            println!("test without_{} ... FAILED: {seeds} days and nothing noticed", mutant.word());
                            *unnoticed.lock().unwrap() += 1;
                        }
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let failed = unnoticed.into_inner().unwrap();
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        WATCHED.len() - failed,
        began.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// What a day says without the rule.
fn notices(mutant: Mutant, seed: u64) -> Option<String> {
    switch_off(Some(mutant));
    let result = std::panic::catch_unwind(|| World::new(seed, Setting::DAY).run());
    switch_off(None);
    let panic = result.err()?;
    let what = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    Some(what.lines().next().unwrap_or_default().chars().take(90).collect())
}
