//! What customers want: orders and stops, as seeded.

use chargegate::sim::Random;
use serde_json::{Value, json};

use crate::world::{MINUTE, Setting};

#[derive(Clone)]
pub struct Plan {
    pub at: u64,
    pub device: usize,
    pub port: u8,
    pub order: Value,
    /// Paid for so long, ms.
    pub paid: u64,
    pub stop_after: Option<u64>,
}

pub fn plans(random: &mut Random, setting: &Setting) -> Vec<Plan> {
    let mut plans: Vec<Plan> = (0..setting.orders)
        .map(|_| {
            let minutes = random.within(1, 120);
            let (order, paid) = match random.within(0, 9) {
                0..=5 => (json!({ "mode": "time", "minutes": minutes }), minutes * MINUTE),
                6 | 7 => (json!({ "mode": "energy", "energy_wh": random.within(20, 600) }), 900 * MINUTE),
                8 => (tiers(random), 240 * MINUTE),
                _ => (fee(random), 900 * MINUTE),
            };
            Plan {
                at: random.within(2 * MINUTE, setting.busy - 30 * MINUTE),
                device: usize::try_from(random.within(0, u64::from(setting.devices) - 1)).unwrap(),
                port: u8::try_from(random.within(0, 1)).unwrap(),
                order,
                paid,
                stop_after: match random.within(0, 7) {
                    0 if random.once_in(2) => Some(random.within(10, 250)),
                    0 => Some(random.within(50, 2000)),
                    1 => Some(random.within(100, 20 * MINUTE)),
                    _ => None,
                },
            }
        })
        .collect();
    plans.sort_by_key(|plan| std::cmp::Reverse(plan.at));
    plans
}

/// A yuan buys 240 minutes below 200 W, 120 below 500 W, 60 above.
fn tiers(random: &mut Random) -> Value {
    json!({ "mode": "tiers", "amount_cents": random.within(20, 100), "tiers": [
        { "power_w": 200, "price_cents": 100, "minutes": 240 },
        { "power_w": 500, "price_cents": 100, "minutes": 120 },
        { "power_w": 1000, "price_cents": 100, "minutes": 60 }] })
}

fn fee(random: &mut Random) -> Value {
    json!({ "mode": "fee", "amount_cents": random.within(20, 100), "service_fee_by": "energy", "tiers": [
        { "until": "12:00", "electricity_cents": 60, "service_cents": 30 },
        { "until": "23:59", "electricity_cents": 90, "service_cents": 40 }] })
}
