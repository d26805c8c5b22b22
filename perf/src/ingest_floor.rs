//! The floor of ingest: a bare loop that accepts connections, reads what comes and forgets it.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use crate::Outcome;
use crate::args::{Args, say};
use crate::sys::{self, Epoll};

const LISTENER: u64 = u64::MAX;
/// What one read takes at most.
const READ_BYTES: usize = 64 * 1024;

/// Runs until killed.
///
/// # Errors
/// An option is wrong, or the port is not to be had.
pub fn run(args: &mut Args) -> Outcome<()> {
    let port: u16 = args.need("listen")?;
    if let Some(cpu) = args.take_maybe("cpu")? {
        sys::pin(cpu)?;
    }
    args.done()?;
    sys::raise_descriptor_limit();
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    listener.set_nonblocking(true)?;
    let mut epoll = Epoll::new()?;
    epoll.add(listener.as_fd(), LISTENER, false)?;
    say(&format!("ingest floor on port {port}\n"));
    let mut publishers: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut ready = Vec::new();
    loop {
        ready.clear();
        epoll.wait(-1, |event| ready.push(event.token))?;
        for &token in &ready {
            if token == LISTENER {
                while let Ok((socket, _)) = listener.accept() {
                    socket.set_nonblocking(true)?;
                    epoll.add(socket.as_fd(), publishers.len() as u64, false)?;
                    publishers.push(Some(socket));
                }
                continue;
            }
            let Some(place) = publishers.get_mut(token as usize) else { continue };
            let Some(socket) = place else { continue };
            match (&*socket).read(&mut buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => *place = None,
            }
        }
    }
}
