//! Notes when the program was built: a clock that says less cannot be believed (contract §5 *Time*).

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

#[expect(clippy::disallowed_methods, reason = "the build date is what this script is for")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.lock");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok());
    let today = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Whole days: a rebuild on the same day gives the same program.
    let built = given.unwrap_or_else(today) / 86_400 * 86_400;
    println!("cargo::rustc-env=CHARGEGATE_BUILT={built}");
}
