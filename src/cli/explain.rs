//! `orders --explain`: the story of one order as a timeline.

use std::io::{self, BufWriter, Write};

use chargegate::config::Config;
use chargegate::ids::{OrderNo, PortKey};
use chargegate::logging::one_line;
use chargegate::store::Records;
use chargegate::story::{Line, tell, without_repetitions};

use super::failure::{Failure, Outcome};
use super::{agent, store_file, time};

pub fn run(config: &Config, order_no: &str, json: bool) -> Outcome {
    let path = &config.store.path;
    if path.exists() {
        let _ = agent::ask_to_flush(&config.control.socket);
    }
    let connection = store_file::open("orders", path)?;
    let unknown = || Failure::failed("orders", format!("no order has the number {order_no}"));
    let number = OrderNo::new(order_no).ok_or_else(unknown)?;
    // One view of the store, whatever the agent writes meanwhile.
    let unreadable = |error| store_file::unreadable("orders", path, &error);
    let view = connection.unchecked_transaction().map_err(unreadable)?;
    let records = Records::read(&view, &number).map_err(unreadable)?.ok_or_else(unknown)?;
    let lines = tell(config, &records);
    let mut out = BufWriter::new(io::stdout().lock());
    if json {
        let objects: Vec<String> = lines.iter().map(|line| line.to_json().to_string()).collect();
        writeln!(out, "[{}]", objects.join(",\n"))?;
    } else {
        heading(&mut out, &records)?;
        without_repetitions(lines).iter().try_for_each(|line| write_line(&mut out, line))?;
    }
    out.flush()?;
    Ok(())
}

fn heading(out: &mut impl Write, records: &Records) -> io::Result<()> {
    let PortKey { device, socket, port } = records.order.port;
    let letter = if port.get() == 0 { 'A' } else { 'B' };
    let was: Vec<&str> =
        records.numbers.iter().filter(|no| **no != records.order.order_no).map(OrderNo::as_str).collect();
    let was = if was.is_empty() { String::new() } else { format!(", claimed from {}", was.join(", ")) };
    let text = format!("order {}{was}: device {device} socket {socket} port {letter}", records.order.order_no);
    writeln!(out, "{}", one_line(&text))
}

fn write_line(out: &mut impl Write, line: &Line) -> io::Result<()> {
    let at = line.at.and_then(|at| time::readable_to_the_millisecond(at.0)).unwrap_or_default();
    let why = line.why.as_ref().map_or_else(String::new, |why| format!(" — {why}"));
    let times = if line.times > 1 { format!(" (so {} times)", line.times) } else { String::new() };
    writeln!(out, "{at:<24}  {:<7}  {}", line.kind.word(), one_line(&format!("{}{times}{why}", line.text)))
}
