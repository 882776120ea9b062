//! How late an order is closed that nobody ends. The numbers: an idle port with its end report missing within
//! `orders.end_report_grace` and 20 s, an offline device's orders within `orders.offline_timeout` and 5 s of its last
//! frame. At the defaults on a clock of its own, and with short limits at the real program. What was measured is printed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; this one tells what it measured"
)]

mod defaults;
mod real;
#[path = "../support/mod.rs"]
mod support;

/// After the grace.
const MOST_AFTER_GRACE_MS: i64 = 20_000;
/// After the offline timeout.
const MOST_AFTER_OFFLINE_MS: i64 = 5_000;

/// Prints what was measured and holds it to its limit. Nobody is closed early, `clocks_ms` aside: by how much the clock
/// that is looked at may differ from the one that counts.
fn judge(what: &str, mut late_ms: Vec<i64>, most_ms: i64, clocks_ms: i64) {
    late_ms.sort_unstable();
    let (least, middle, latest) = (late_ms[0], late_ms[late_ms.len() / 2], late_ms[late_ms.len() - 1]);
    println!(
        "{what}: {} orders, {least} ms late at the least, {middle} ms mostly, {latest} ms at the most",
        late_ms.len()
    );
    assert!(least >= -clocks_ms, "{what}: closed early");
    assert!(latest < most_ms, "{what}: closed late");
}
