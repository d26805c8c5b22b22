//! A wire that can be cut: passes TCP connections on to a server on this machine, and when cut ends
//! them all and takes no more until it is mended. It may say other words than it has heard.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wait;

/// How often the listener looks whether it has been cut.
const TICK: Duration = Duration::from_millis(5);

/// Gives other bytes for some of a client.
pub type Reword = fn(&[u8]) -> Vec<u8>;

/// See the module text.
#[derive(Debug)]
pub struct TcpRelay {
    /// Where it listens.
    pub port: u16,
    target: u16,
    reword: Reword,
    accepted: Arc<AtomicUsize>,
    wire: Option<Wire>,
}

#[derive(Debug)]
struct Wire {
    over: Arc<AtomicBool>,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    thread: JoinHandle<()>,
}

impl TcpRelay {
    /// A wire to a port of this machine.
    pub fn start(target: u16) -> TcpRelay {
        TcpRelay::rewording(target, <[u8]>::to_vec)
    }

    /// A wire that says other words to the port than a client does.
    pub fn rewording(target: u16, reword: Reword) -> TcpRelay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let mut relay = TcpRelay { port, target, reword, accepted: Arc::default(), wire: None };
        relay.wire = Some(relay.lay(listener));
        relay
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Ends every connection and stops listening.
    pub fn cut(&mut self) {
        let Some(Wire { over, sockets, thread }) = self.wire.take() else { return };
        over.store(true, Ordering::Relaxed);
        thread.join().expect("the relay does not panic");
        for socket in sockets.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Listens again, on the same port.
    pub fn mend(&mut self) {
        let address = ("127.0.0.1", self.port);
        let bind = || TcpListener::bind(address).ok();
        let listener = wait::until("the port is free again", Duration::from_secs(5), bind);
        self.wire = Some(self.lay(listener));
    }

    fn lay(&self, listener: TcpListener) -> Wire {
        listener.set_nonblocking(true).expect("a socket option");
        let (over, sockets) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (ended, open, accepted) =
            (Arc::clone(&over), Arc::clone(&sockets), Arc::clone(&self.accepted));
        let (target, reword) = (self.target, self.reword);
        let thread = std::thread::spawn(move || {
            wait::paced(TICK, Duration::MAX, || {
                if let Ok((near, _)) = listener.accept() {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    pass_on(near, target, reword, &open);
                }
                !ended.load(Ordering::Relaxed)
            });
        });
        Wire { over, sockets, thread }
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.cut();
    }
}

fn pass_on(near: TcpStream, target: u16, reword: Reword, open: &Mutex<Vec<TcpStream>>) {
    near.set_nonblocking(false).expect("a socket option");
    let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { return };
    let ends = |socket: &TcpStream| socket.try_clone().expect("a descriptor is free");
    open.lock().unwrap_or_else(PoisonError::into_inner).extend([ends(&near), ends(&far)]);
    let as_heard: Reword = <[u8]>::to_vec;
    for (from, to, words) in [(ends(&near), ends(&far), reword), (far, near, as_heard)] {
        std::thread::spawn(move || copy(from, to, words));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, words: Reword) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&words(&buffer[..count])).is_err() {
            break;
        }
    }
    // Both ends hear of the end of either.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
