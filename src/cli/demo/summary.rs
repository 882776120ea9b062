//! The end of the demo: how all orders ended, and what became of those at faulty devices.

use std::collections::BTreeMap;
use std::io::{self, Write};

use chargegate::sim::{Fault, Member};

use super::row_text::state;
use super::watch::Row;

/// Writes it.
pub(super) fn write(out: &mut impl Write, rows: &[Row], members: &[Member]) -> io::Result<()> {
    let faulty: BTreeMap<String, Fault> =
        members.iter().filter_map(|member| Some((member.id.to_string(), member.fault?))).collect();
    let honest: Vec<&Row> = rows.iter().filter(|row| !faulty.contains_key(&row.device)).collect();
    let reported = honest.iter().filter(|row| row.settlement.as_deref() == Some("reported")).count();
    let (all, honest) = (rows.len(), honest.len());
    writeln!(out, "{all} orders; of {honest} at honest devices {reported} are completed and reported")?;
    write_ends(out, rows)?;
    write_faulty(out, rows, &faulty)?;
    out.flush()
}

fn write_ends(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let mut ends: BTreeMap<(String, &str), (u32, u32)> = BTreeMap::new();
    for row in rows {
        let end =
            row.end_reason.as_deref().map_or_else(|| row.word().to_owned(), |why| format!("{} {why}", row.word()));
        let (orders, energy) = ends.entry((end, row.settlement.as_deref().unwrap_or("open"))).or_default();
        *orders += 1;
        *energy += row.energy_wh;
    }
    if ends.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:<34} {:<12} {:>6} {:>10}", "ORDERS", "SETTLEMENT", "COUNT", "ENERGY")?;
    for ((end, settlement), (orders, energy)) in &ends {
        writeln!(out, "{end:<34} {settlement:<12} {orders:>6} {energy:>7} Wh")?;
    }
    Ok(())
}

fn write_faulty(out: &mut impl Write, rows: &[Row], faulty: &BTreeMap<String, Fault>) -> io::Result<()> {
    if faulty.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:<14} {:<12} {:<46} WHAT IS WRONG WITH IT",
        "FAULTY DEVICE", "FAULT", "WHAT BECAME OF ITS ORDER"
    )?;
    for (device, fault) in faulty {
        let (word, meaning) = (fault.word(), fault.meaning());
        let mut orders = rows.iter().filter(|row| row.device == *device).map(outcome).peekable();
        if orders.peek().is_none() {
            writeln!(out, "{device:<14} {word:<12} {:<46} {meaning}", "no order")?;
        }
        for outcome in orders {
            writeln!(out, "{device:<14} {word:<12} {outcome:<46} {meaning}")?;
        }
    }
    Ok(())
}

fn outcome(row: &Row) -> String {
    let open = if row.is_open() { ", open" } else { "" };
    format!("{}{open}, {} Wh", state(row), row.energy_wh)
}

#[cfg(test)]
mod tests {
    use super::super::row_text::tests::row;
    use super::*;

    fn summary(rows: &[Row], members: &[Member]) -> String {
        let mut out = Vec::new();
        write(&mut out, rows, members).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn faulty(fault: Fault) -> [Member; 1] {
        [Member { id: row(7).device.parse().unwrap(), fault: Some(fault) }]
    }

    #[test]
    fn it_counts_how_orders_ended() {
        let text = summary(&[row(7), row(7), row(2)], &[]);
        assert!(text.starts_with("3 orders; of 3 at honest devices 2 are completed and reported\n"), "{text}");
        let counted = |end: &str, settlement: &str, orders: u32, energy: u32| {
            text.contains(&format!("{end:<34} {settlement:<12} {orders:>6} {energy:>7} Wh\n"))
        };
        assert!(counted("completed time_reached", "reported", 2, 40) && counted("charging", "open", 1, 20), "{text}");
        assert!(!text.contains("FAULTY"), "{text}");
    }

    #[test]
    fn each_faulty_device_is_listed_for_what_it_is_and_counts_as_no_honest_one() {
        let text = summary(&[row(7)], &faulty(Fault::LostAck));
        assert!(text.starts_with("1 orders; of 0 at honest devices 0"), "{text}");
        let line = text.lines().last().unwrap();
        assert!(line.starts_with("82241218000000 lost-ack     completed time_reached, reported, 20 Wh "), "{line}");
        assert!(line.ends_with("hears no acknowledgement of its end reports"), "{line}");
    }

    #[test]
    fn a_faulty_device_without_an_order_is_listed_too() {
        let text = summary(&[], &faulty(Fault::Refuse));
        assert!(text.lines().last().unwrap().starts_with("82241218000000 refuse       no order "), "{text}");
    }
}
