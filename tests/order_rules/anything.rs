//! Anything may come in any order: the port never panics and never breaks what always holds.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What was asked for and answered so far.
#[derive(Default, Clone)]
struct Asked {
    commands: BTreeSet<String>,
    answered: BTreeMap<String, u32>,
    finals: BTreeSet<OrderNo>,
}

#[test]
fn no_sequence_of_inputs_breaks_what_always_holds() {
    for seed in 0..5000 {
        let mut random = Random::new(seed);
        let mut scene = if random.once_in(4) { Scene::unseen() } else { Scene::idle() };
        scene.resumes = !random.once_in(4);
        scene.stops_strays = !random.once_in(4);
        let mut asked = Asked::default();
        for place in 0..60 {
            step(&mut scene, &mut random, &mut asked, place);
            check(&mut scene, seed, &mut asked);
            scene.effects.clear();
        }
        // Everything comes to rest: the device is idle, and says so.
        if scene.reach != Reach::Online {
            scene.returns();
        }
        for _ in 0..30 {
            scene.run_unasked(2 * MINUTE);
            scene.shows(0x80, 0, 0, 0, To::Question);
            check(&mut scene, seed, &mut asked);
            scene.effects.clear();
        }
        at_rest(&scene, seed, &asked);
    }
}

/// A disk is full now and then: what came since the last commit is taken back, and tried again.
#[test]
fn no_commit_that_is_taken_back_breaks_what_always_holds() {
    for seed in 0..5000 {
        let mut random = Random::new(seed);
        let mut scene = Scene::idle();
        scene.resumes = !random.once_in(4);
        let mut asked = Asked::default();
        let mut kept = (scene.commit(), asked.clone());
        let mut unsent = false;
        for place in 0..60 {
            step(&mut scene, &mut random, &mut asked, place);
            unsent |= scene.sent_starts() > 0;
            check(&mut scene, seed, &mut asked);
            scene.effects.clear();
            if random.once_in(3) {
                take_back(&mut scene, &mut asked, &kept, std::mem::take(&mut unsent));
                check(&mut scene, seed, &mut asked);
                scene.effects.clear();
            } else if random.once_in(2) {
                kept = (scene.commit(), asked.clone());
                unsent = false;
            }
        }
        if scene.reach != Reach::Online {
            scene.returns();
        }
        for _ in 0..30 {
            scene.run_unasked(2 * MINUTE);
            scene.shows(0x80, 0, 0, 0, To::Question);
            check(&mut scene, seed, &mut asked);
            scene.effects.clear();
        }
        at_rest(&scene, seed, &asked);
    }
}

/// Starts wait on for their reply, those that were not kept are refused, and so are stops of these; a stop that was
/// answered is answered.
fn take_back(scene: &mut Scene, asked: &mut Asked, (kept, before): &(Case, Asked), unsent: bool) {
    let waits = |scene: &Scene| {
        let stop = scene.case.port.memory.as_ref().and_then(|memory| memory.stop.clone());
        stop.map_or_else(Vec::new, |stop| stop.commands)
    };
    let stops = waits(scene);
    scene.take_back_with(kept, unsent);
    let still = waits(scene);
    asked.commands.retain(|command| {
        let new_start = command.starts_with("start-") && !before.commands.contains(command);
        !new_start && (still.contains(command) || !stops.contains(command))
    });
    asked.answered.retain(|command, _| !command.starts_with("start-"));
    let starts = before.answered.iter().filter(|(command, _)| command.starts_with("start-"));
    asked.answered.extend(starts.map(|(command, count)| (command.clone(), *count)));
    asked.finals.clone_from(&before.finals);
}

/// Nobody waits, nothing is open, owed or kept, and each command was answered once.
fn at_rest(scene: &Scene, seed: u64, asked: &Asked) {
    assert!(scene.case.open_order().is_none(), "seed {seed}: stuck");
    assert_eq!(scene.case.port.memory, None, "seed {seed}");
    assert_eq!(scene.case.port.status, PortStatus::Idle, "seed {seed}");
    for command in &asked.commands {
        assert_eq!(asked.answered.get(command), Some(&1), "seed {seed}: replies to {command}");
    }
    let provisional = |order: &Order| order.settlement == Some(Settlement::Provisional) && !order.is_final;
    assert!(!scene.case.orders.iter().any(|entry| provisional(&entry.order)), "seed {seed}");
}

fn step(scene: &mut Scene, random: &mut Random, asked: &mut Asked, place: u32) {
    let no = u16::try_from(random.within(0, 4)).unwrap();
    let (energy, minutes) =
        (u32::try_from(random.within(0, 300)).unwrap(), u32::try_from(random.within(0, 90)).unwrap());
    let to = [To::Nothing, To::Question, To::ByReport, To::Older(20_000)][random.within(0, 3) as usize];
    match random.within(0, 13) {
        0 | 1 => {
            if scene.may_start().is_ok() {
                let expires_at = random.once_in(4).then(|| WallTime(scene.wall() + 20_000));
                scene.start_until(Plan::Time { minutes: 60 }, expires_at);
                asked.commands.insert(format!("start-{}", scene.orders));
            }
        }
        2 => {
            let starts: Vec<MessageId> =
                scene.case.orders.iter().filter_map(|entry| Some(entry.order.course.start?.message_id)).collect();
            if let Some(message_id) = starts.get(random.within(0, 7) as usize) {
                scene.answer(*message_id, random.once_in(2), no);
            }
        }
        3 => scene.shows(0xb0, no, energy, minutes, to),
        4 => scene.shows(0x80, 0, 0, 0, to),
        5 => scene.shows(0x80, no, energy, minutes, to),
        6 => drop(scene.report(0xb0, no, energy, minutes)),
        7 => {
            let count = scene.case.orders.len() as u64;
            let order = scene.case.orders.get(random.within(0, count) as usize);
            let order_no = order.map(|entry| entry.order.order_no.to_string());
            let command = format!("stop-{place}");
            scene.stop_by(&command, order_no.as_deref());
            asked.commands.insert(command);
        }
        8 => {
            let stop =
                scene.case.port.memory.as_ref().and_then(|memory| memory.stop.as_ref()).map(|stop| stop.message_id);
            if let Some(message_id) = stop {
                scene.at(|desk| desk.stop_answered(message_id, no % 2 == 0));
            }
        }
        9 => {
            if matches!(scene.reach, Reach::Away(_)) {
                scene.returns();
            } else {
                scene.leaves();
            }
        }
        10 => {
            scene.restarts();
            if random.once_in(2) {
                scene.returns();
            }
        }
        11 => scene.question_fails(random.within(0, 20_000)),
        12 => {
            let closed = scene.case.orders.iter().find(|entry| !entry.order.status.is_open());
            if let Some(order_no) = closed.map(|entry| entry.order.order_no.clone()) {
                scene.at(|desk| desk.finalize(&order_no));
            }
        }
        _ => scene.run(random.within(1000, 20 * MINUTE)),
    }
}

fn check(scene: &mut Scene, seed: u64, asked: &mut Asked) {
    let open: Vec<&Order> =
        scene.case.orders.iter().map(|entry| &entry.order).filter(|order| order.status.is_open()).collect();
    assert!(open.len() <= 1, "seed {seed}");
    for effect in &scene.effects {
        match effect {
            Effect::SendStop { order_no: Some(order_no), .. } => {
                let place = scene.case.orders.iter().position(|entry| entry.order.order_no == *order_no).unwrap();
                let later = scene.case.orders[place + 1..].iter().any(|entry| entry.order.status.is_open());
                assert!(!later, "seed {seed}: a stop for {order_no} reaches a later customer");
            }
            Effect::Reply { command_id, .. } => *asked.answered.entry(command_id.clone()).or_default() += 1,
            _ => {}
        }
    }
    scene.effects.clear();
    for entry in &scene.case.orders {
        let order = &entry.order;
        assert!(order.status.is_open() || order.energy_max_wh >= order.energy_wh, "seed {seed}");
        assert_eq!(order.status.is_open(), order.settlement.is_none(), "seed {seed}");
        assert!(order.start_time <= order.end_time || order.end_time.is_none(), "seed {seed}: {order:?}");
        assert!(order.is_final || !asked.finals.contains(&order.order_no), "seed {seed}: final for ever");
        if order.is_final {
            asked.finals.insert(order.order_no.clone());
        }
    }
    // What is due now is dealt with by one look, else the loop above would never sleep.
    if scene.at(|desk| desk.due()).is_some_and(|due| due.0 <= scene.up) {
        for _ in 0..4 {
            scene.at(|desk| desk.timeout());
        }
        let next = scene.at(|desk| desk.due());
        assert!(next.is_none_or(|due| due.0 > scene.up), "seed {seed}: due again and again");
        for effect in scene.effects.drain(..) {
            if let Effect::Reply { command_id, .. } = effect {
                *asked.answered.entry(command_id).or_default() += 1;
            }
        }
    }
}
