//! Acknowledged frames a second in closed loop, against the yardstick under the same load.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::load::{Outcome, closed_loop};
use crate::place::{Place, median};
use crate::{Figure, Limit};

const SPAN: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

/// What the agent and the yardstick are put under.
#[derive(Clone, Copy)]
pub struct Load {
    pub connections: u32,
    /// Frames of each that are not answered.
    pub in_flight: u32,
    /// Each sync of the agent takes so much longer.
    pub sync_delay_ms: u32,
    /// The agent's share of the yardstick.
    pub least: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self { connections: 50, in_flight: 1, sync_delay_ms: 0, least: 0.0 }
    }
}

/// Yardstick and agent in turn; the medians, and the median of the shares.
pub fn figures(load: Load) -> Vec<Figure> {
    let Load { connections, in_flight, sync_delay_ms, least } = load;
    let (mut bare, mut kept, mut orders) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(yardstick(connections, in_flight));
        let outcome = agent(connections, in_flight, sync_delay_ms);
        kept.push(outcome.rate);
        orders.push(outcome.orders);
    }
    let shares = bare.iter().zip(&kept).map(|(bare, kept)| kept / bare).collect();
    let name = match sync_delay_ms {
        0 => format!("throughput: {connections} connections x {in_flight} in flight"),
        delay => format!("throughput: {connections} connections, syncs {delay} ms slower"),
    };
    vec![
        Figure::new(format!("{name}, yardstick"), median(bare), "frames/s", Limit::None),
        Figure::new(format!("{name}, agent"), median(kept), "frames/s", Limit::None),
        Figure::new(format!("{name}, orders"), median(orders), "a second", Limit::None),
        Figure::new(name, median(shares), "of it", Limit::Least(least)),
    ]
}

fn yardstick(connections: u32, in_flight: u32) -> f64 {
    let place = Place::new();
    let running = place.role("role-yardstick", &[]);
    let outcome = closed_loop(place.address, None, connections, in_flight, SPAN);
    drop(running);
    outcome.rate
}

fn agent(connections: u32, in_flight: u32, delay: u32) -> Outcome {
    let place = Place::new();
    let library = (delay > 0).then(|| slow_syncs(&place, delay));
    let running = place.agent(library.as_deref());
    let outcome = closed_loop(place.address, Some(&place.path("sock")), connections, in_flight, SPAN);
    drop(running);
    outcome
}

/// A library that makes each sync take longer, as flash does.
fn slow_syncs(place: &Place, delay: u32) -> PathBuf {
    let source = format!(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <time.h>\n\
         static void wait_longer(void) {{ struct timespec t = {{0, {delay}L * 1000000L}}; nanosleep(&t, 0); }}\n\
         int fsync(int fd) {{ wait_longer(); return ((int (*)(int))dlsym(RTLD_NEXT, \"fsync\"))(fd); }}\n\
         int fdatasync(int fd) {{ wait_longer(); return ((int (*)(int))dlsym(RTLD_NEXT, \"fdatasync\"))(fd); }}\n"
    );
    let (text, library) = (place.path("slow.c"), place.path("slow.so"));
    fs::write(&text, source).unwrap();
    let built = Command::new("gcc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&text).status().unwrap();
    assert!(built.success(), "gcc builds the library");
    library
}
