//! A broker that misbehaves as it is told to, and a proxy that cuts connections.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Serves each connection with a function, on a thread of its own.
pub fn serve(mut each: impl FnMut(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(&mut each));
    port
}

/// The first byte of a packet without its flags, and what follows its length.
pub fn packet(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let kind = byte[0] & 0xf0;
    let (mut size, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte)?;
        size |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; size];
    stream.read_exact(&mut body)?;
    Ok((kind, body))
}

pub const CONNECT: u8 = 0x10;
pub const PUBLISH: u8 = 0x30;
pub const SUBSCRIBE: u8 = 0x80;
pub const PING: u8 = 0xc0;

/// The answer to a connection, with properties.
pub fn welcome(properties: &[u8]) -> Vec<u8> {
    let size = u8::try_from(properties.len()).unwrap();
    [&[0x20, 3 + size, 0, 0, size], properties].concat()
}

/// The answer to a subscription of two topics.
pub fn subscribed(request: &[u8], codes: [u8; 2]) -> Vec<u8> {
    vec![0x90, 5, request[0], request[1], 0, codes[0], codes[1]]
}

/// Lets the agent in, takes its subscriptions and answers its pings, but leaves everything else to `other`.
pub fn be_polite(
    mut stream: TcpStream,
    properties: &[u8],
    mut other: impl FnMut(&mut TcpStream, u8, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        let (kind, body) = packet(&mut stream)?;
        match kind {
            CONNECT => stream.write_all(&welcome(properties))?,
            SUBSCRIBE => stream.write_all(&subscribed(&body, [1, 1]))?,
            PING => stream.write_all(&[0xd0, 0])?,
            _ => other(&mut stream, kind, &body)?,
        }
    }
}

/// Passes everything on to a broker and cuts each connection after some bytes. Its address, and how often it has cut.
pub fn cutting_proxy(broker: u16, cuts: usize, seed: u64) -> (u16, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let cut = Arc::clone(&count);
    let mut random = seed;
    let port = serve(move |client| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let allowed = if cut.load(Ordering::Relaxed) < cuts { (random >> 33) as usize % 12_000 } else { usize::MAX };
        let Ok(server) = TcpStream::connect(("127.0.0.1", broker)) else { return };
        let left = Arc::new(AtomicUsize::new(allowed));
        let both = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))];
        for (from, to) in both {
            let (from, to, left, cut) = (from.unwrap(), to.unwrap(), Arc::clone(&left), Arc::clone(&cut));
            thread::spawn(move || pass(from, to, &left, &cut));
        }
    });
    (port, count)
}

fn pass(mut from: TcpStream, mut to: TcpStream, left: &AtomicUsize, cut: &AtomicUsize) {
    let mut buffer = [0; 1500];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(size)));
        let may = before.unwrap_or(0).min(size);
        let _ = to.write_all(&buffer[..may]);
        if may < size {
            cut.fetch_add(usize::from(may > 0), Ordering::Relaxed);
            break;
        }
    }
    for stream in [&from, &to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
