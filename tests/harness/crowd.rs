//! Many viewers by HTTP-FLV in one thread: who stays, and who still gets something.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{http, wait};

/// How long one round over all viewers waits when none has got anything.
const IDLE: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    open: AtomicUsize,
    bytes: Vec<AtomicU64>,
}

/// See the module text.
#[derive(Debug)]
pub struct Crowd {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Connects `count` viewers to `/live/NAME.flv` and reads for them until this is dropped.
    pub fn start(port: u16, name: &str, count: usize) -> Crowd {
        let connect = |_| {
            let mut stream = http::connect(port).expect("the server takes connections");
            write!(stream, "GET /live/{name}.flv HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")
                .expect("a request is taken");
            stream.set_nonblocking(true).expect("a socket can be that");
            Some(stream)
        };
        let mut viewers: Vec<Option<TcpStream>> = (0..count).map(connect).collect();
        let bytes = (0..count).map(|_| AtomicU64::new(0)).collect();
        let seen =
            Arc::new(Seen { stop: AtomicBool::new(false), open: AtomicUsize::new(count), bytes });
        let shared = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            let goes_on = || !shared.stop.load(Ordering::Relaxed);
            wait::paced(IDLE, Duration::MAX, || {
                let mut busy = true;
                while busy && goes_on() {
                    busy = round(&mut viewers, &mut buffer, &shared);
                }
                goes_on()
            });
        });
        Crowd { seen, thread: Some(thread) }
    }

    /// Viewers whose connection is open.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::Relaxed)
    }

    /// Waits until every viewer has got some 10 kB more.
    pub fn wait_all_served(&self, deadline: Duration) {
        let now = |index: usize| self.seen.bytes[index].load(Ordering::Relaxed);
        let before: Vec<u64> = (0..self.seen.bytes.len()).map(now).collect();
        wait::until_true("every viewer of the crowd gets more", deadline, || {
            before.iter().enumerate().all(|(index, before)| now(index) > before + 10_000)
        });
    }
}

fn round(viewers: &mut [Option<TcpStream>], buffer: &mut [u8], seen: &Seen) -> bool {
    let mut any = false;
    for (index, viewer) in viewers.iter_mut().enumerate() {
        let Some(stream) = viewer else { continue };
        match stream.read(buffer) {
            Ok(count) if count > 0 => {
                any = true;
                seen.bytes[index].fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => {
                *viewer = None;
                seen.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
    any
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed.
            let _ = thread.join();
        }
    }
}
