//! Listening sockets: how they are made, and taking connections from them whatever goes wrong.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, os::unix::net::UnixStream};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::BindError;
use crate::clock::UpTime;
use crate::limits::{ACCEPT_RETRY, BACKLOG};

/// Listens for devices. What is set here is inherited by the connections that are accepted.
pub fn bind_tcp(address: SocketAddr) -> Result<mio::net::TcpListener, BindError> {
    let failed = |source| BindError::Devices { address, source };
    let listener = match listen(address) {
        // A kernel without IPv6: "any address" can still be had.
        Err(error) if is_v6_missing(&error) && address.is_ipv6() && address.ip().is_unspecified() => {
            listen((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        other => other,
    };
    Ok(mio::net::TcpListener::from_std(listener.map_err(failed)?))
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    // A device that vanished is found out by its silence; these only find out sooner, and what we sent is not
    // retransmitted for a quarter of an hour.
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(60)))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_v6_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// The file of a Unix socket that we listen on; removed with this value, unless another agent put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |file: fs::Metadata| (file.dev(), file.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("control socket not removed path={:?} error={error:?}", self.path);
        }
    }
}

/// Listens for clients of the control socket. A file that an agent left behind is replaced, a running agent is not.
pub fn bind_unix(path: &Path) -> Result<(mio::net::UnixListener, SocketFile), BindError> {
    let failed = |source| BindError::Control { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(failed(io::Error::new(ErrorKind::AlreadyExists, "a file that is no socket is there")));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(BindError::AnotherAgent { path: path.to_owned() }),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    listen_unix(path).map_err(failed)
}

fn listen_unix(path: &Path) -> io::Result<(mio::net::UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: (file.dev(), file.ino()) };
    // Nobody can connect before it listens, so nobody slips in before the mode is set.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    socket.listen(BACKLOG)?;
    let listener: std::os::unix::net::UnixListener = socket.into();
    Ok((mio::net::UnixListener::from_std(listener), file))
}

/// Raises the soft limit of open files when `wanted` needs it; how many there may be now.
pub fn raise_open_files(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(current) {
        return current.unwrap_or(u64::MAX);
    }
    let raised = if enough(maximum) { Some(wanted) } else { maximum };
    match setrlimit(Resource::Nofile, Rlimit { current: raised, maximum }) {
        Ok(()) => raised.unwrap_or(u64::MAX),
        Err(error) => {
            log::warn!("open files not raised wanted={wanted} error={error:?}");
            current.unwrap_or(u64::MAX)
        }
    }
}

/// A file kept open so that one connection can be taken and closed when no other file can be opened: otherwise it
/// would wait in the kernel, believing that it is connected.
#[derive(Debug)]
pub struct SpareFile(Option<fs::File>);

impl SpareFile {
    /// Opens it.
    pub fn open() -> Self {
        Self(fs::File::open("/dev/null").ok())
    }

    /// Takes a connection with one more file to be had, and closes it; `None` when there is none to give.
    fn lend<S, P>(&mut self, accept: impl FnOnce() -> io::Result<(S, P)>) -> Option<io::Result<P>> {
        if self.0.is_none() {
            *self = Self::open();
        }
        self.0.take()?;
        let outcome = accept().map(|(_closed, peer)| peer);
        *self = Self::open();
        Some(outcome)
    }
}

/// What came of taking a connection.
#[derive(Debug)]
pub enum Accepted<S, P> {
    /// One that can be served, and its peer.
    Stream(S, P),
    /// One for which there was no file: it is closed already.
    NoRoom(P),
    /// Only this one failed.
    Failed,
    /// Nobody waits any more, or there is nothing to be had at present.
    Later,
}

/// Whether connections wait to be taken from a listener, and since when not to try.
#[derive(Debug, Default)]
pub struct Acceptance {
    waiting: bool,
    retry_at: Option<UpTime>,
}

impl Acceptance {
    /// The listener is readable.
    pub fn ready(&mut self) {
        self.waiting = true;
    }

    /// A file was closed: what failed for want of one may work now.
    pub fn file_closed(&mut self) {
        self.retry_at = None;
    }

    /// Whether to take connections now.
    pub fn is_due(&self, now: UpTime) -> bool {
        self.waiting && self.retry_at.is_none_or(|at| at <= now)
    }

    /// When to try again, when that is not at once.
    pub fn deadline(&self) -> Option<UpTime> {
        self.retry_at.filter(|_| self.waiting)
    }

    /// Takes one connection. No error ends a listener.
    pub fn accept<S, P>(
        &mut self,
        spare: &mut SpareFile,
        now: UpTime,
        accept: impl Fn() -> io::Result<(S, P)>,
    ) -> Accepted<S, P> {
        self.retry_at = None;
        let error = match accept() {
            Ok((stream, peer)) => return Accepted::Stream(stream, peer),
            Err(error) => error,
        };
        match Failure::of(&error) {
            Failure::Drained => self.waiting = false,
            Failure::OfOne => return Accepted::Failed,
            Failure::Exhausted => match spare.lend(&accept) {
                Some(Ok(peer)) => return Accepted::NoRoom(peer),
                Some(Err(error)) if Failure::of(&error) == Failure::Drained => self.waiting = false,
                Some(Err(_)) | None => self.try_later(&error, now),
            },
            Failure::Other => self.try_later(&error, now),
        }
        Accepted::Later
    }

    fn try_later(&mut self, error: &io::Error, now: UpTime) {
        log::debug!("accept failed error={error:?}");
        self.retry_at = Some(now.after(ACCEPT_RETRY));
    }
}

/// What an error of accept says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Nobody waits.
    Drained,
    /// This connection failed, the next may not.
    OfOne,
    /// No file or memory for it.
    Exhausted,
    /// Whatever else: not to be tried in a tight loop.
    Other,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => Self::Drained,
            Some(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::PROTO
                | Errno::PERM
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::NOPROTOOPT
                | Errno::TIMEDOUT,
            ) => Self::OfOne,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Self::Exhausted,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::TcpStream;

    use super::*;

    fn os(errno: Errno) -> io::Error {
        errno.into()
    }

    /// Accepts by a script, its last entry for ever.
    fn script(results: Vec<io::Result<u8>>) -> impl Fn() -> io::Result<((), u8)> {
        let left = RefCell::new(results);
        move || {
            let mut left = left.borrow_mut();
            if left.is_empty() { Err(os(Errno::AGAIN)) } else { left.remove(0).map(|n| ((), n)) }
        }
    }

    fn drive(accept: impl Fn() -> io::Result<((), u8)>) -> (Vec<String>, Acceptance) {
        let (mut acceptance, mut spare) = (Acceptance::default(), SpareFile::open());
        acceptance.ready();
        let mut seen = Vec::new();
        loop {
            match acceptance.accept(&mut spare, UpTime(0), &accept) {
                Accepted::Stream((), n) => seen.push(format!("{n}")),
                Accepted::NoRoom(n) => seen.push(format!("no room for {n}")),
                Accepted::Later => return (seen, acceptance),
                Accepted::Failed => {}
            }
        }
    }

    #[test]
    fn an_error_of_one_connection_does_not_hold_up_the_next() {
        let (seen, acceptance) = drive(script(vec![Ok(1), Err(os(Errno::CONNABORTED)), Err(os(Errno::PERM)), Ok(2)]));
        assert_eq!(seen, ["1", "2"]);
        assert!(!acceptance.is_due(UpTime(0)) && acceptance.deadline().is_none());
    }

    #[test]
    fn without_a_free_file_a_connection_is_taken_through_the_spare_one() {
        let (seen, acceptance) = drive(script(vec![Err(os(Errno::MFILE)), Ok(1), Err(os(Errno::MFILE))]));
        assert_eq!(seen, ["no room for 1"]);
        assert!(!acceptance.is_due(UpTime(0)));
    }

    #[test]
    fn what_failed_is_tried_again_after_a_while_or_when_a_file_was_closed() {
        let (_, mut acceptance) = drive(script(vec![Err(os(Errno::NFILE)), Err(os(Errno::NFILE))]));
        assert!(!acceptance.is_due(UpTime(99)) && acceptance.is_due(UpTime(100)));
        assert_eq!(acceptance.deadline(), Some(UpTime(100)));
        acceptance.file_closed();
        assert!(acceptance.is_due(UpTime(1)));
        let (_, acceptance) = drive(script(vec![Err(os(Errno::BADF))]));
        assert_eq!(acceptance.deadline(), Some(UpTime(100)));
    }

    #[test]
    fn accepted_connections_inherit_the_options() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let accepted = Socket::from(listener.accept().unwrap().0);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(Duration::from_secs(60)));
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
    }

    #[test]
    fn a_taken_port_is_one_clear_line() {
        let first = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind_tcp(address).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}: address in use"));
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_running_agent_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (listener, file) = bind_unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(bind_unix(&path), Err(BindError::AnotherAgent { .. })));
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(bind_unix(&path).unwrap_err().to_string().ends_with("a file that is no socket is there"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn the_file_of_another_agent_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.sock");
        let (_listener, file) = bind_unix(&path).unwrap();
        let other = folder.path().join("other.sock");
        let _other = std::os::unix::net::UnixListener::bind(&other).unwrap();
        fs::rename(&other, &path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
