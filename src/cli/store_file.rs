//! The store as a reader opens it: never created, never written.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::failure::Failure;

/// How long a reader waits for a lock: the agent's commits are short.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Opens the store for reading.
pub fn open(command: &str, path: &Path) -> Result<Connection, Failure> {
    let failed = |why: String| Failure::failed(command, why);
    match path.metadata() {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(failed(format!("{} is not a file", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(failed(format!("there is no store at {}", path.display())));
        }
        Err(error) => return Err(failed(format!("{}: {error}", path.display()))),
    }
    let store = connect(path).map_err(|error| unreadable(command, path, &error))?;
    let number = |pragma| store.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let (application, version) = number("PRAGMA application_id")
        .and_then(|application| Ok((application, number("PRAGMA user_version")?)))
        .map_err(|error| unreadable(command, path, &error))?;
    let tables = number("SELECT count(*) FROM sqlite_schema").map_err(|error| unreadable(command, path, &error))?;
    if tables == 0 {
        return Err(failed(format!("{} is empty: no agent has run on it", path.display())));
    }
    if application != i64::from(chargegate::store::APPLICATION_ID) {
        return Err(Failure::usage(command, format!("{} is a file of another program", path.display())));
    }
    if version > i64::from(chargegate::store::version()) {
        let why = format!("{} has version {version}, which a newer chargegate wrote", path.display());
        return Err(Failure::usage(command, why));
    }
    Ok(store)
}

/// What to say when the store cannot be read.
pub fn unreadable(command: &str, path: &Path, error: &rusqlite::Error) -> Failure {
    Failure::failed(command, format!("cannot read {}: {error}", path.display()))
}

/// With a `-wal` an agent is running, or was killed: read with it, change nothing. Without one the agent has
/// stopped cleanly; then a connection that may write is opened, since only such a one takes the `-wal` and `-shm`
/// that SQLite makes away again: left behind with another owner, they would keep the agent from starting.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let wal_exists = suffixed(path, "-wal").exists();
    let mode = if wal_exists { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(ready);
    match opened {
        // A folder in which we may make no files: nobody writes to the file, so it can be read as it is.
        Err(_) if !wal_exists => {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(immutable_uri(path), flags).and_then(ready)
        }
        opened => opened,
    }
}

/// Proves that the file can be read, and that nothing can be written by it.
fn ready(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(LOCK_PATIENCE)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

fn suffixed(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn immutable_uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let encode = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    let encoded: String = path.as_os_str().as_bytes().iter().map(encode).collect();
    format!("file:{encoded}?immutable=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_any_bytes_makes_a_uri() {
        assert_eq!(immutable_uri(Path::new("/a b/c?d%#.db")), "file:/a%20b/c%3Fd%25%23.db?immutable=1");
    }
}
