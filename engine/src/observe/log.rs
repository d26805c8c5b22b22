//! The log: lines go through a bounded queue to a writer thread, so that a slow or full stderr
//! never blocks a shard. Lines that find the queue full are dropped and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the writer.
const QUEUE_LINES: usize = 8192;
/// Longest time the end of the process waits for the last lines.
const DRAIN_MAX: Duration = Duration::from_millis(500);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines dropped since start.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

#[derive(Clone)]
struct Queue(Sender<Vec<u8>>);

struct Line<'a> {
    queue: &'a Sender<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() && self.queue.try_send(std::mem::take(&mut self.bytes)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { queue: &self.0, bytes: Vec::new() }
    }
}

/// Keeps the writer thread; dropping it writes what is left.
#[derive(Debug)]
pub struct LogGuard {
    done: Receiver<()>,
    stop: Sender<Vec<u8>>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // An empty line ends the writer; if the queue is full there is no hurry to tell it.
        if self.stop.send_timeout(Vec::new(), DRAIN_MAX).is_ok() {
            let _ = self.done.recv_timeout(DRAIN_MAX);
        }
    }
}

/// Starts logging to stderr. `filter` holds `tracing` directives; a wrong one counts as `info`.
#[must_use]
pub fn init(filter: &str) -> LogGuard {
    let (sender, lines) = crossbeam_channel::bounded::<Vec<u8>>(QUEUE_LINES);
    let (finished, done) = crossbeam_channel::bounded(1);
    let spawned = std::thread::Builder::new().name("log".into()).spawn(move || {
        let mut stderr = io::stderr();
        for line in lines {
            // A broken stderr must not end the server; there is nowhere to report it either.
            let _ = stderr.write_all(&line);
            if line.is_empty() {
                break;
            }
        }
        let _ = finished.send(());
    });
    if let Err(error) = spawned {
        let _ = writeln!(io::stderr(), "no log: cannot start the writer thread: {error}");
    }
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(Queue(sender.clone()))
        .finish();
    // Fails only when a subscriber is set already (tests); that one then stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    LogGuard { done, stop: sender }
}
