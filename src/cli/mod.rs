//! The command line (contract §2): one file per sub-command. Arguments are read in full before anything is done.

mod agent;
mod arguments;
mod check;
mod command;
mod decode;
mod demo;
mod explain;
mod failure;
mod help;
mod listing;
mod outbox;
mod print_config;
mod read;
mod redecode;
mod run;
mod simulate;
mod status;
mod store_file;
mod table;
mod time;

use std::io::{self, Write};
use std::path::PathBuf;

use chargegate::config::Config;

use arguments::{Argument, Arguments};
use failure::{Failure, Outcome};

/// What is to be done, with everything that the arguments say about it.
enum Task {
    Run,
    Demo(demo::DemoOptions),
    Simulate(simulate::SimulateOptions),
    Command(command::CommandOptions),
    Read(read::ReadOptions),
    Check(check::CheckOptions),
    Redecode(redecode::RedecodeOptions),
    Status(status::StatusOptions),
    Decode(decode::DecodeOptions),
    PrintConfig,
}

/// Reads the arguments and does what they ask for.
pub fn main(parser: lexopt::Parser) -> Outcome {
    let mut arguments = Arguments::new(parser);
    let Some(name) = first(&mut arguments)? else { return Ok(()) };
    arguments.command(&name);
    if name == "help" {
        return help_on(&mut arguments);
    }
    let task = parse(&name, &mut arguments);
    if arguments.help {
        return help::command(&mut io::stdout().lock(), &name);
    }
    perform(task?, arguments.config)
}

/// The name of the command; `None` when help or the version was all that was asked for.
fn first(arguments: &mut Arguments) -> Result<Option<String>, Failure> {
    match arguments.next()? {
        Some(Argument::Value(name)) => Ok(Some(name.to_string_lossy().into_owned())),
        Some(Argument::Option(option)) if option == "version" => {
            writeln!(io::stdout(), "chargegate {}", env!("CARGO_PKG_VERSION"))?;
            Ok(None)
        }
        Some(option) => Err(arguments.unexpected(&option)),
        None if arguments.help => help::overview(&mut io::stdout().lock()).map(|()| None),
        None => Err(arguments.wrong("a command is missing, see chargegate --help")),
    }
}

fn help_on(arguments: &mut Arguments) -> Outcome {
    match arguments.next()? {
        Some(Argument::Value(name)) => {
            arguments.end()?;
            help::command(&mut io::stdout().lock(), &name.to_string_lossy())
        }
        Some(option) => Err(arguments.unexpected(&option)),
        None => help::overview(&mut io::stdout().lock()),
    }
}

fn parse(name: &str, arguments: &mut Arguments) -> Result<Task, Failure> {
    if let Some(listing) = listing::LISTINGS.iter().find(|listing| listing.command == name) {
        return read::parse(listing, arguments).map(Task::Read);
    }
    match name {
        "run" => arguments.end().map(|()| Task::Run),
        "demo" => demo::parse(arguments).map(Task::Demo),
        "simulate" => simulate::parse(arguments).map(Task::Simulate),
        "command" => command::parse(arguments).map(Task::Command),
        "check" => check::parse(arguments).map(Task::Check),
        "redecode" => redecode::parse(arguments).map(Task::Redecode),
        "status" => status::parse(arguments).map(Task::Status),
        "decode" => decode::parse(arguments).map(Task::Decode),
        "config" => arguments.end().map(|()| Task::PrintConfig),
        unknown => Err(help::no_such_command(unknown)),
    }
}

fn perform(task: Task, config: Option<PathBuf>) -> Outcome {
    let config = config.or_else(from_environment);
    match task {
        Task::Run => run::run(load(config.clone())?, config),
        Task::Demo(options) => demo::run(&options),
        Task::Simulate(options) => simulate::run(&options),
        Task::Command(options) => command::run(&load(config)?, &options),
        Task::Read(options) => read::run(&load(config)?, &options),
        Task::Check(options) => check::run(&load(config)?, &options),
        Task::Redecode(options) => redecode::run(&load(config)?, &options),
        Task::Status(options) => status::run(&load(config)?, &options),
        Task::Decode(options) => decode::run(options),
        Task::PrintConfig => print_config::run(&load(config)?),
    }
}

/// The file that `CHARGEGATE_CONFIG` names.
fn from_environment() -> Option<PathBuf> {
    std::env::var_os("CHARGEGATE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// From a file, or the built-in defaults.
fn load(file: Option<PathBuf>) -> Result<Config, Failure> {
    match file {
        Some(file) => Ok(Config::load(&file)?),
        None => Ok(Config::default()),
    }
}
