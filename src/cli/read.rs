//! `devices` `ports` `orders` `alerts` `events` `outbox`: what the store holds, running agent or not.

use std::io::{self, BufWriter, Write};

use chargegate::clock::{Clock, UpTime};
use chargegate::config::{Config, parse_duration};
use chargegate::ids::DeviceId;
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, Row};
use serde_json::Value as Json;

use super::agent;
use super::arguments::{Argument, Arguments};
use super::failure::{Failure, Outcome};
use super::listing::{Column, Kind, Listing};
use super::{store_file, table, time};

/// What the arguments say.
pub struct ReadOptions {
    listing: &'static Listing,
    device: Option<DeviceId>,
    since: Option<std::time::Duration>,
    open: bool,
    json: bool,
    /// The order whose story is wanted.
    explain: Option<String>,
    /// The alert that somebody took note of.
    acknowledge: Option<u32>,
}

pub fn parse(listing: &'static Listing, arguments: &mut Arguments) -> Result<ReadOptions, Failure> {
    let mut options =
        ReadOptions { listing, device: None, since: None, open: false, json: false, explain: None, acknowledge: None };
    while let Some(argument) = arguments.next()? {
        match &argument {
            Argument::Option(name) if name == "device" => options.device = Some(arguments.value(name)?),
            Argument::Option(name) if name == "since" => {
                options.since = Some(arguments.value_by(name, "a duration such as 90s, 24h or 7d", parse_duration)?);
            }
            Argument::Option(name) if name == "open" && listing.open.is_some() => options.open = true,
            Argument::Option(name) if name == "json" => options.json = true,
            Argument::Option(name) if name == "explain" && listing.command == "orders" => {
                options.explain = Some(arguments.text()?);
            }
            Argument::Option(name) if name == "acknowledge" && listing.command == "alerts" => {
                options.acknowledge = Some(arguments.number(name, 1, u32::MAX)?);
            }
            unknown => return Err(arguments.unexpected(unknown)),
        }
    }
    let filters = options.device.is_some() || options.since.is_some() || options.open;
    if options.explain.is_some() && filters {
        return Err(arguments.wrong("--explain tells of one order: no filter goes with it"));
    }
    if options.acknowledge.is_some() && filters {
        return Err(arguments.wrong("--acknowledge is about one alert: no filter goes with it"));
    }
    Ok(options)
}

pub fn run(config: &Config, options: &ReadOptions) -> Outcome {
    if let Some(alert_id) = options.acknowledge {
        let command = serde_json::json!({ "type": "acknowledge", "alert_id": alert_id });
        return super::command::send("alerts", config, &command.to_string());
    }
    match &options.explain {
        Some(order_no) => super::explain::run(config, order_no, options.json),
        None => show(config, options).map(|_rows| ()),
    }
}

/// Shows the rows, and tells how many there were.
fn show(config: &Config, options: &ReadOptions) -> Result<usize, Failure> {
    let (command, path) = (options.listing.command, &config.store.path);
    // Without a store there is nothing that could be flushed into it.
    let agent = if path.exists() { agent::ask_to_flush(&config.control.socket) } else { None };
    let connection = store_file::open(command, path)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let shown = if options.json {
        as_json(&connection, options, &mut out)
    } else {
        let above = match command {
            "outbox" => super::outbox::summary(&connection, config, agent.as_ref()).map_err(Trouble::from),
            _ => Ok(String::new()),
        };
        above.and_then(|above| Ok(write!(out, "{above}")?)).and_then(|()| as_table(&connection, options, &mut out))
    };
    let rows = shown.map_err(|error| match error {
        Trouble::Store(error) => store_file::unreadable(command, path, &error),
        Trouble::Output(error) => Failure::from(error),
    })?;
    out.flush()?;
    Ok(rows)
}

/// The whole of a listing, for `check`: how many rows there were.
pub fn show_all(config: &Config, listing: &'static Listing, json: bool) -> Result<usize, Failure> {
    show(
        config,
        &ReadOptions { listing, device: None, since: None, open: false, json, explain: None, acknowledge: None },
    )
}

/// What can go wrong on the way from the store to the output.
enum Trouble {
    Store(rusqlite::Error),
    Output(io::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The statement with its parameters. The columns are named one by one: others are none of our business.
fn query(options: &ReadOptions) -> (String, Vec<Sql>) {
    let listing = options.listing;
    let columns: Vec<&str> = listing.columns.iter().map(|column| column.name).collect();
    let mut conditions = vec!["TRUE"];
    let mut parameters = Vec::new();
    // First, since `since` may use its parameter by number.
    if let Some(since) = options.since {
        let now = Clock::start(UpTime::default()).now().wall.0;
        let ago = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        conditions.push(listing.since);
        parameters.push(Sql::Integer(now.saturating_sub(ago)));
    }
    if let Some(device) = options.device {
        conditions.push(listing.of_device);
        parameters.push(Sql::Text(device.to_string()));
    }
    conditions.extend(listing.open.filter(|_| options.open));
    let (columns, conditions) = (columns.join(", "), conditions.join(" AND "));
    let sql = format!("SELECT {columns} FROM {} WHERE {conditions} ORDER BY {}", listing.table, listing.order_by);
    (sql, parameters)
}

fn each_row(
    connection: &Connection,
    options: &ReadOptions,
    mut show: impl FnMut(&Row<'_>) -> Result<(), Trouble>,
) -> Result<usize, Trouble> {
    let (sql, parameters) = query(options);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        show(row)?;
        count += 1;
    }
    Ok(count)
}

fn as_json(connection: &Connection, options: &ReadOptions, out: &mut impl Write) -> Result<usize, Trouble> {
    let mut separator = "[";
    let count = each_row(connection, options, |row| {
        write!(out, "{separator}")?;
        separator = ",\n";
        Ok(write_object(out, options.listing.columns, row)?)
    })?;
    writeln!(out, "{}", if count == 0 { "[]" } else { "]" })?;
    Ok(count)
}

/// One object with its members in the order of the columns.
fn write_object(out: &mut impl Write, columns: &[Column], row: &Row<'_>) -> io::Result<()> {
    for (index, column) in columns.iter().enumerate() {
        let before = if index == 0 { "{" } else { "," };
        let value = row.get_ref(index).map_or(Json::Null, |value| json_value(&column.kind, value));
        write!(out, "{before}\"{}\":{value}", column.name)?;
    }
    write!(out, "}}")
}

fn json_value(kind: &Kind, value: ValueRef<'_>) -> Json {
    match (kind, value) {
        (_, ValueRef::Null) => Json::Null,
        (Kind::Time, ValueRef::Integer(ms)) => time::rfc3339(ms).map_or(ms.into(), Json::String),
        (_, ValueRef::Integer(number)) => number.into(),
        (_, ValueRef::Real(number)) => number.into(),
        (Kind::Json, ValueRef::Text(text)) => serde_json::from_slice(text).unwrap_or_else(|_| lossy(text).into()),
        (_, ValueRef::Text(text)) => lossy(text).into(),
        (_, ValueRef::Blob(bytes)) => hex(bytes).into(),
    }
}

fn as_table(connection: &Connection, options: &ReadOptions, out: &mut impl Write) -> Result<usize, Trouble> {
    let columns = options.listing.columns;
    let narrow: Vec<usize> = (0..columns.len()).filter(|index| columns[*index].narrow).collect();
    let headings: Vec<&str> = narrow.iter().map(|index| columns[*index].name).collect();
    let mut rows = Vec::new();
    let count = each_row(connection, options, |row| {
        let cell = |index: &usize| Ok(cell(&columns[*index].kind, row.get_ref(*index)?));
        rows.push(narrow.iter().map(cell).collect::<rusqlite::Result<Vec<String>>>()?);
        Ok(())
    })?;
    table::write(out, &headings, &rows)?;
    Ok(count)
}

fn cell(kind: &Kind, value: ValueRef<'_>) -> String {
    match (kind, value) {
        (_, ValueRef::Null) => "-".to_owned(),
        (Kind::Time, ValueRef::Integer(ms)) => time::readable(ms).unwrap_or_else(|| ms.to_string()),
        (Kind::YesNo, ValueRef::Integer(0)) => "no".to_owned(),
        (Kind::YesNo, ValueRef::Integer(1)) => "yes".to_owned(),
        (Kind::Words(words), ValueRef::Integer(number)) => {
            let word = words.iter().find(|(known, _)| *known == number);
            word.map_or_else(|| number.to_string(), |(_, word)| (*word).to_owned())
        }
        (_, ValueRef::Integer(number)) => number.to_string(),
        (_, ValueRef::Real(number)) => number.to_string(),
        (_, ValueRef::Text(text)) => lossy(text),
        (_, ValueRef::Blob(bytes)) => hex(bytes),
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
