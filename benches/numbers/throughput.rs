//! Acknowledged frames a second in closed loop, against the yardstick under the same load.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::load::closed_loop;
use crate::place::{Place, median};
use crate::{Figure, Limit};

const SPAN: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

/// Connections, frames in flight each, milliseconds that each sync takes longer, share of the yardstick at least.
const LOADS: [(u32, u32, u32, f64); 5] =
    [(50, 1, 0, 0.5), (1000, 1, 0, 0.5), (5000, 1, 0, 0.5), (50, 16, 0, 0.12), (50, 1, 10, 0.15)];

pub fn figures() -> Vec<Figure> {
    let mut figures = Vec::new();
    for (connections, in_flight, delay, share) in LOADS {
        let (mut bare, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(yardstick(connections, in_flight));
            kept.push(agent(connections, in_flight, delay));
        }
        let ratios = bare.iter().zip(&kept).map(|(bare, kept)| kept / bare).collect();
        let name = match delay {
            0 => format!("throughput: {connections} connections x {in_flight} in flight"),
            _ => format!("throughput: {connections} connections, syncs {delay} ms slower"),
        };
        figures.push(Figure::new(format!("{name}, yardstick"), median(bare), "frames/s", Limit::None));
        figures.push(Figure::new(format!("{name}, agent"), median(kept), "frames/s", Limit::None));
        figures.push(Figure::new(name, median(ratios), "of it", Limit::Least(share)));
    }
    figures
}

fn yardstick(connections: u32, in_flight: u32) -> f64 {
    let place = Place::new("");
    let running = place.role("role-yardstick", &[]);
    let answers = closed_loop(place.address, connections, in_flight, SPAN);
    drop(running);
    answers
}

fn agent(connections: u32, in_flight: u32, delay: u32) -> f64 {
    let place = Place::new("");
    let library = (delay > 0).then(|| slow_syncs(&place, delay));
    let running = place.agent(library.as_deref());
    let answers = closed_loop(place.address, connections, in_flight, SPAN);
    drop(running);
    answers
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
