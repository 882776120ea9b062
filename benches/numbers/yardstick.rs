//! The yardstick: a bare loop that frames, sums and answers, and keeps nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

const LISTENER: Token = Token(usize::MAX);
/// As long as the agent's answer to a heartbeat.
const ANSWER: [u8; 28] = {
    let mut answer = [0; 28];
    (answer[0], answer[1], answer[3]) = (0xfc, 0xff, 24);
    answer
};

/// Serves the address in the environment until it is killed.
pub fn serve() -> ExitCode {
    let address: SocketAddr = std::env::var("BENCH_ADDRESS").unwrap().parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(4096).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut listener = TcpListener::from_std(socket.into());
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
    chargegate::server::raise_open_files(8192);
    let mut conns: Vec<Option<(TcpStream, Vec<u8>)>> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let (mut out, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        if poll.poll(&mut events, None).is_err() {
            continue;
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.set_nodelay(true);
                    poll.registry().register(&mut stream, Token(conns.len()), Interest::READABLE).unwrap();
                    conns.push(Some((stream, Vec::new())));
                }
            } else if let Some((stream, kept)) = &mut conns[event.token().0]
                && !answer(stream, kept, &mut out, &mut buffer)
            {
                conns[event.token().0] = None;
            }
        }
    }
}

/// Answers every whole frame; `false` when the connection is over.
fn answer(stream: &mut TcpStream, kept: &mut Vec<u8>, out: &mut Vec<u8>, buffer: &mut [u8]) -> bool {
    loop {
        match stream.read(buffer) {
            Ok(0) => return false,
            Ok(length) => {
                out.clear();
                if kept.is_empty() {
                    let rest = answers(&buffer[..length], out);
                    kept.extend_from_slice(rest);
                } else {
                    kept.extend_from_slice(&buffer[..length]);
                    let rest = answers(kept, out).len();
                    kept.drain(..kept.len() - rest);
                }
                if stream.write_all(out).is_err() {
                    return false;
                }
                if length < buffer.len() {
                    return true;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
}

/// Appends an answer for each whole frame whose sum is right; what is left.
fn answers<'a>(mut bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    while let Some(frame) = whole(bytes) {
        let sum = frame[2..frame.len() - 3].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        if sum == frame[frame.len() - 3] {
            out.extend_from_slice(&ANSWER);
        }
        bytes = &bytes[frame.len()..];
    }
    bytes
}

fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])) + 4;
    bytes.get(..length)
}
