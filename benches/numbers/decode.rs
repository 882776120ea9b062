//! Decoding a status frame against a hand-written walk over the same bytes that keeps nothing.

use std::hint::black_box;

use chargegate::bkv::{Deframer, Direction, Uplink};
use chargegate::clock::Stopwatch;

use crate::load::status_frame;
use crate::place::median;
use crate::{Figure, Limit};

const FRAMES: u32 = 200_000;
const ROUNDS: usize = 9;

pub fn figures() -> Vec<Figure> {
    let frame = status_frame(1, 0x80, 0, 0, 0);
    let (mut walks, mut decodes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        walks.push(time(|| u64::from(walk(black_box(&frame)).is_some_and(|sum| sum != 1))));
        decodes.push(time(|| decode(black_box(&frame))));
    }
    let ratio: Vec<f64> = walks.iter().zip(&decodes).map(|(walk, decode)| decode / walk).collect();
    let allocated = allocation_counter::measure(|| {
        black_box(decode(black_box(&frame)));
    });
    vec![
        Figure::new("decode: hand-written walk", median(walks), "ns", Limit::None),
        Figure::new("decode: deframe and decode a status", median(decodes), "ns", Limit::None),
        Figure::new("decode: against the walk", median(ratio), "times", Limit::Most(2.5)),
        Figure::new("decode: allocations per status", allocated.count_total as f64, "", Limit::Most(0.0)),
    ]
}

fn time(mut step: impl FnMut() -> u64) -> f64 {
    let watch = Stopwatch::start();
    let mut sum = 0;
    for _ in 0..FRAMES {
        sum += step();
    }
    black_box(sum);
    watch.elapsed().as_secs_f64() * 1e9 / f64::from(FRAMES)
}

fn decode(mut bytes: &[u8]) -> u64 {
    let mut deframer = Deframer::new(Direction::Up);
    match deframer.next(&mut bytes) {
        Some(Ok(frame)) => u64::from(black_box(Uplink::decode(&frame)).is_ok()),
        _ => 0,
    }
}

/// Head, length, tail, checksum, then every item of the report, down to the ports.
fn walk(frame: &[u8]) -> Option<u32> {
    if frame.get(..2)? != [0xfc, 0xfe] {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([frame[2], frame[3]])) + 4;
    if frame.len() != length || frame[length - 2..] != [0xfc, 0xee] {
        return None;
    }
    let sum = frame[2..length - 3].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if sum != frame[length - 3] {
        return None;
    }
    items(&frame[18..length - 3])
}

fn items(mut data: &[u8]) -> Option<u32> {
    let mut found = 0;
    while let [length, 1, key, rest @ ..] = data {
        let value = rest.get(..usize::from(*length).checked_sub(2)?)?;
        found += match key {
            0x94 | 0x5b => items(value)?,
            _ => value.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)),
        } & 0xff;
        data = &rest[value.len()..];
    }
    Some(found)
}
