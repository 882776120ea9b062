//! Arguments, configuration, logger, exit codes.

fn main() {}
