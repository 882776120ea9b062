//! The deframer against every way in which TCP and noise bend a stream.

use chargegate::bkv::*;
use chargegate::ids::*;
use proptest::prelude::*;

use crate::samples;

/// What comes out: a frame's bytes, or why and how many bytes were passed over.
type Outcome = Result<Vec<u8>, (FrameError, usize)>;

fn drain(deframer: &mut Deframer, mut input: &[u8], out: &mut Vec<Outcome>) {
    while let Some(outcome) = deframer.next(&mut input) {
        out.push(match outcome {
            Ok(frame) => Ok(frame.bytes().to_vec()),
            Err(skipped) => Err((skipped.error, skipped.bytes.len())),
        });
    }
    assert!(input.is_empty());
    assert!(deframer.held() < MAX_FRAME);
}

/// Feeds the stream in pieces of these sizes, around and around.
fn feed(stream: &[u8], pieces: &[usize]) -> (Vec<Outcome>, Deframer) {
    let (mut deframer, mut out, mut rest) = (Deframer::new(Direction::Up), Vec::new(), stream);
    for size in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at((*size).clamp(1, rest.len()));
        drain(&mut deframer, piece, &mut out);
        rest = later;
    }
    (out, deframer)
}

fn frames(outcomes: &[Outcome]) -> Vec<Vec<u8>> {
    outcomes.iter().filter_map(|o| o.clone().ok()).collect()
}

fn errors(outcomes: &[Outcome]) -> Vec<FrameError> {
    outcomes.iter().filter_map(|o| o.clone().err()).map(|(error, _)| error).collect()
}

fn heartbeat() -> Vec<u8> {
    samples::uplinks()[0].encode(samples::device(), MessageId::DEVICE)
}

fn good() -> Vec<Vec<u8>> {
    samples::uplinks().iter().map(|m| m.encode(samples::device(), MessageId(7))).collect()
}

#[test]
fn frames_come_out_whole_however_they_are_split_and_joined() {
    let stream = good().concat();
    for size in 1..200 {
        let (out, deframer) = feed(&stream, &[size]);
        assert_eq!(out, good().into_iter().map(Ok).collect::<Vec<_>>());
        assert!(!deframer.is_waiting());
    }
}

#[test]
fn nothing_is_held_between_frames() {
    let (_, deframer) = feed(&good().concat(), &[13]);
    assert_eq!(deframer.held(), 0);
    // One pointer and three bytes.
    assert!(std::mem::size_of::<Deframer>() <= 16);
}

#[test]
fn noise_is_one_error_however_it_is_split() {
    let noise: Vec<u8> = (0..300u32).map(|n| (n * 7 % 251) as u8).collect();
    let stream = [&noise[..], &heartbeat(), &noise, &noise, &heartbeat()].concat();
    for size in [1, 2, 3, 7, 64, 1000] {
        let (out, _) = feed(&stream, &[size]);
        assert_eq!(frames(&out), [heartbeat(), heartbeat()]);
        assert_eq!(errors(&out).len(), 2, "pieces of {size}");
    }
}

#[test]
fn half_a_head_at_the_end_of_noise_is_waited_for() {
    let (out, mut deframer) = feed(&[0, 0, 0xfc], &[3]);
    assert_eq!(out.len(), 1);
    assert!(deframer.is_waiting());
    let mut out = Vec::new();
    drain(&mut deframer, &heartbeat()[1..], &mut out);
    assert_eq!(out, [Ok(heartbeat())]);
}

#[test]
fn a_bad_checksum_is_one_error_and_the_next_frame_comes_out() {
    let mut bad = heartbeat();
    bad[20] ^= 1;
    for size in [1, 5, 46, 50, 51, 1000] {
        let (out, deframer) = feed(&[&bad[..], &heartbeat()].concat(), &[size]);
        assert_eq!(frames(&out), [heartbeat()]);
        assert!(matches!(errors(&out)[..], [FrameError::BadChecksum { .. }]));
        assert!(!deframer.is_waiting());
    }
}

#[test]
fn a_bad_tail_and_a_length_out_of_bounds_are_one_error_each() {
    let mut tail = heartbeat();
    *tail.last_mut().unwrap() = 0;
    let mut short = heartbeat();
    short[2..4].copy_from_slice(&16u16.to_be_bytes());
    let mut long = heartbeat();
    long[2..4].copy_from_slice(&4093u16.to_be_bytes());
    for bad in [tail, short, long] {
        for size in [1, 9, 1000] {
            let (out, _) = feed(&[&bad[..], &heartbeat(), &bad, &heartbeat()].concat(), &[size]);
            assert_eq!(frames(&out), [heartbeat(), heartbeat()]);
            assert_eq!(errors(&out).len(), 2);
        }
    }
}

#[test]
fn a_good_frame_inside_a_lying_length_is_not_lost() {
    for claim in [60u16, 100, 500, 4092] {
        let mut liar = heartbeat();
        liar[2..4].copy_from_slice(&claim.to_be_bytes());
        for cut in [4, 11, 18, liar.len()] {
            let stream = [&liar[..cut], &heartbeat()].concat();
            for size in [1, 10, 1000] {
                let (out, deframer) = feed(&stream, &[size]);
                assert_eq!(frames(&out), [heartbeat()], "claim {claim}, {cut} bytes of it");
                assert_eq!(errors(&out).len(), 1);
                assert!(!deframer.is_waiting());
            }
        }
    }
}

#[test]
fn the_frame_inside_is_delivered_with_its_last_byte() {
    let mut liar = heartbeat()[..4].to_vec();
    liar[2..4].copy_from_slice(&4000u16.to_be_bytes());
    let stream = [&liar[..], &heartbeat()].concat();
    let (mut deframer, mut out) = (Deframer::new(Direction::Up), Vec::new());
    for byte in &stream[..stream.len() - 1] {
        drain(&mut deframer, &[*byte], &mut out);
    }
    assert!(out.is_empty() && deframer.is_waiting());
    drain(&mut deframer, &stream[stream.len() - 1..], &mut out);
    assert_eq!(out.len(), 2);
    assert!(matches!(out[0], Err((FrameError::Unfinished { found: 54, needed: 4004 }, 4))));
    assert_eq!(out[1], Ok(heartbeat()));
}

#[test]
fn a_lying_length_that_ends_inside_the_next_frames_loses_none_of_them() {
    let mut liar = heartbeat();
    liar[2..4].copy_from_slice(&333u16.to_be_bytes());
    let stream = [&liar[..], &good().concat()].concat();
    for size in [1, 3, 100, 336, 337, 338, 5000] {
        let (out, _) = feed(&stream, &[size]);
        assert_eq!(frames(&out), good());
        assert_eq!(errors(&out).len(), 1);
    }
}

#[test]
fn a_frame_that_carries_heads_is_not_torn_apart() {
    let data = [0xfc, 0xfe, 0, 21, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0xfc, 0xfe, 0xfc, 0xee, 0xfc, 0xfe];
    let carrier = Uplink::Unknown(Unknown { command: 0x99, sub: None, data: data.repeat(40).into() });
    let bytes = carrier.encode(samples::device(), MessageId(1));
    for size in 1..60 {
        let (out, _) = feed(&[&bytes[..], &heartbeat()].concat(), &[size]);
        assert_eq!(out, [Ok(bytes.clone()), Ok(heartbeat())]);
    }
}

#[test]
fn a_whole_frame_that_carries_a_whole_frame_comes_out_as_it_is() {
    let carrier = Uplink::Unknown(Unknown { command: 0x99, sub: None, data: heartbeat().into() });
    let bytes = carrier.encode(samples::device(), MessageId(1));
    let (out, _) = feed(&bytes, &[bytes.len()]);
    assert_eq!(out, [Ok(bytes.clone())]);
}

#[test]
fn a_good_frame_inside_a_bad_one_comes_out() {
    let carrier = Uplink::Unknown(Unknown { command: 0x99, sub: None, data: heartbeat().into() });
    let mut bytes = carrier.encode(samples::device(), MessageId(1));
    bytes[5] ^= 1;
    for size in [1, 20, 1000] {
        let (out, _) = feed(&[&bytes[..], &heartbeat()].concat(), &[size]);
        assert_eq!(frames(&out), [heartbeat(), heartbeat()]);
    }
}

#[test]
fn a_part_of_a_frame_can_be_given_up() {
    let whole = heartbeat();
    // A head inside it, whose frame is incomplete too.
    let stream = [&whole[..30], &whole[..12]].concat();
    let (out, mut deframer) = feed(&stream, &[7]);
    assert!(out.is_empty() && deframer.is_waiting());
    let mut out = Vec::new();
    deframer.abandon();
    drain(&mut deframer, &[], &mut out);
    assert!(matches!(out[..], [Err((FrameError::Unfinished { found: 42, needed: 50 }, 30))]));
    assert_eq!(deframer.held(), 12);
    drain(&mut deframer, &whole[12..], &mut out);
    assert_eq!(out[1..], [Ok(whole)]);
    assert!(!deframer.is_waiting());
}

#[test]
fn giving_up_nothing_changes_nothing() {
    let mut deframer = Deframer::new(Direction::Up);
    deframer.abandon();
    let mut out = Vec::new();
    drain(&mut deframer, &heartbeat()[..20], &mut out);
    assert!(out.is_empty() && deframer.is_waiting());
}

#[test]
fn frames_of_the_other_direction_are_noise() {
    let down = Downlink::QueryStatus(QueryStatus { socket: samples::socket(1) });
    let down = down.encode(samples::device(), MessageId(1));
    let (out, _) = feed(&[&down[..], &heartbeat()].concat(), &[11]);
    assert_eq!(frames(&out), [heartbeat()]);
    let mut deframer = Deframer::new(Direction::Down);
    let mut out = Vec::new();
    drain(&mut deframer, &[&heartbeat()[..], &down].concat(), &mut out);
    assert_eq!(frames(&out), [down]);
}

/// Heads one behind the other, each with a length and direction byte that could be, none with a frame.
fn hostile(kind: usize) -> Vec<u8> {
    (0..20_000usize)
        .flat_map(|n| match kind {
            0 => vec![0xfc, 0xfe],
            1 => vec![0xfc, 0xfe, 0x0f, 0xfc],
            2 => vec![0xfc, 0xfe, 0x0f, 0xff - (n % 200) as u8, 1, 1],
            3 => vec![0xfc, 0xfe, 0x00, 0x15, 1, 1, 0xfc, 0xee],
            _ => {
                // All heads of a block point at the one tail at its end.
                let left = 4096 - n % 682 * 6;
                let [high, low] = (left as u16 - 4).to_be_bytes();
                if left > 30 {
                    vec![0xfc, 0xfe, high, low, 1, 1]
                } else {
                    vec![1; 28].into_iter().chain([0xfc, 0xee]).collect()
                }
            }
        })
        .collect()
}

#[test]
fn heads_without_end_cost_bounded_memory_and_time_and_lose_nothing() {
    for kind in 0..5 {
        let stream = [&hostile(kind)[..], &heartbeat(), &heartbeat()].concat();
        for size in [1, 6, 1000, 65_536] {
            let (mut out, mut deframer) = feed(&stream, &[size]);
            while deframer.is_waiting() {
                deframer.abandon();
                drain(&mut deframer, &[], &mut out);
            }
            assert_eq!(frames(&out), [heartbeat(), heartbeat()], "kind {kind}, pieces of {size}");
        }
    }
}

/// A part of a stream, and whether it is a frame that has to come out.
#[derive(Debug, Clone)]
enum Part {
    Good(usize),
    Noise(Vec<u8>),
    Cut(usize, usize),
    Bent(usize, usize, u8),
    Liar(usize, u16),
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        4 => (0usize..31).prop_map(Part::Good),
        1 => proptest::collection::vec(any::<u8>(), 1..50).prop_map(Part::Noise),
        1 => proptest::collection::vec(prop_oneof![Just(0xfcu8), Just(0xfe), Just(0xee), Just(0)], 1..50).prop_map(Part::Noise),
        1 => (0usize..31, 1usize..40).prop_map(|(n, cut)| Part::Cut(n, cut)),
        1 => (0usize..31, any::<usize>(), 1u8..).prop_map(|(n, at, bend)| Part::Bent(n, at, bend)),
        1 => (0usize..31, 17u16..4093).prop_map(|(n, claim)| Part::Liar(n, claim)),
    ]
}

fn stream_of(parts: &[Part]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let good = good();
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::Good(n) => {
                stream.extend_from_slice(&good[*n]);
                expected.push(good[*n].clone());
            }
            Part::Noise(noise) => stream.extend_from_slice(noise),
            Part::Cut(n, cut) => stream.extend_from_slice(&good[*n][..(*cut).min(good[*n].len() - 1)]),
            Part::Bent(n, at, bend) => {
                let mut bent = good[*n].clone();
                let at = at % bent.len();
                bent[at] ^= bend;
                stream.extend_from_slice(&bent);
            }
            Part::Liar(n, claim) => {
                let mut liar = good[*n].clone();
                // Its checksum would be right for this claim too when the two digits make the same sum.
                liar[2..4].copy_from_slice(&claim.to_be_bytes());
                stream.extend_from_slice(&liar[..liar.len() - 1]);
            }
        }
    }
    (stream, expected)
}

fn is_subsequence(of: &[Vec<u8>], all: &[Vec<u8>]) -> bool {
    let mut rest = all.iter();
    of.iter().all(|one| rest.any(|other| other == one))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(11), ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn every_good_frame_comes_out_of_any_stream_in_any_pieces(
        parts in proptest::collection::vec(part(), 1..25),
        pieces in proptest::collection::vec(1usize..400, 1..8),
    ) {
        let (stream, expected) = stream_of(&parts);
        let (mut out, mut deframer) = feed(&stream, &pieces);
        while deframer.is_waiting() {
            deframer.abandon();
            drain(&mut deframer, &[], &mut out);
        }
        prop_assert!(is_subsequence(&expected, &frames(&out)));
    }

    #[test]
    fn what_comes_out_does_not_depend_on_the_pieces(
        parts in proptest::collection::vec(part(), 1..12),
        pieces in proptest::collection::vec(1usize..100, 1..8),
    ) {
        let (stream, _) = stream_of(&parts);
        let outcome = |pieces: &[usize]| {
            let (mut out, mut deframer) = feed(&stream, pieces);
            while deframer.is_waiting() {
                deframer.abandon();
                drain(&mut deframer, &[], &mut out);
            }
            frames(&out)
        };
        prop_assert_eq!(outcome(&pieces), outcome(&[stream.len()]));
    }
}
