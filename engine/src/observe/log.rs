//! The log: lines go through a bounded queue to a writer thread, so that a slow or full stderr
//! never blocks a shard. Lines that find the queue full are dropped and counted. The writer keeps
//! the last lines for those who ask.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Lines that may wait for the writer.
const QUEUE_LINES: usize = 8192;
/// Longest time the end of the process waits for the last lines.
const DRAIN_MAX: Duration = Duration::from_millis(500);

/// Lines that are kept, and bytes of each.
pub const KEPT_LINES: usize = 1000;
const KEPT_LINE_BYTES: usize = 2048;

static DROPPED: AtomicU64 = AtomicU64::new(0);
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();
static KEPT: Mutex<Kept> = Mutex::new(Kept { next: 0, lines: VecDeque::new() });

/// The last lines, numbered from the start of the process.
struct Kept {
    next: u64,
    lines: VecDeque<Box<str>>,
}

fn keep(line: &[u8]) {
    let line = line.get(..KEPT_LINE_BYTES).unwrap_or(line);
    let line = String::from_utf8_lossy(line).trim_end().into();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.lines.len() >= KEPT_LINES {
        kept.lines.pop_front();
    }
    kept.lines.push_back(line);
    kept.next += 1;
}

/// Memory the kept lines take.
#[must_use]
pub fn kept_bytes() -> usize {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let table = kept.lines.capacity() * size_of::<Box<str>>();
    table + kept.lines.iter().map(|line| line.len()).sum::<usize>()
}

/// At most `limit` of the kept lines with their numbers, in order: the first ones from a number
/// on, or the last ones. And the number of the line that comes next, which whoever counts from an
/// earlier process must be told.
#[must_use]
pub fn tail(from: Option<u64>, limit: usize) -> (Vec<(u64, Box<str>)>, u64) {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let first = kept.next - kept.lines.len() as u64;
    let start = match from {
        Some(from) => from.clamp(first, kept.next),
        None => kept.next.saturating_sub(limit as u64).max(first),
    };
    let skipped = usize::try_from(start - first).unwrap_or(usize::MAX);
    let lines: Vec<_> =
        (start..).zip(kept.lines.iter().skip(skipped).take(limit).cloned()).collect();
    let next = start + lines.len() as u64;
    (lines, next)
}

/// Logs by other `tracing` directives from now on.
///
/// # Errors
/// They are none, or nothing is logged in this process.
pub fn set_filter(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let Some(handle) = FILTER.get() else { return Err("there is no log".to_owned()) };
    handle.reload(filter).map_err(|error| error.to_string())
}

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
            keep(&line);
        }
        let _ = finished.send(());
    });
    if let Err(error) = spawned {
        let _ = writeln!(io::stderr(), "no log: cannot start the writer thread: {error}");
    }
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false)
        .with_writer(Queue(sender.clone()));
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    // Fails only when a subscriber is set already (tests); that one then stays.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = FILTER.set(handle);
    }
    LogGuard { done, stop: sender }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_numbered() {
        for n in 0..KEPT_LINES + 10 {
            keep(format!("line {n}\n").as_bytes());
        }
        let (last, next) = tail(None, 3);
        let (number, text) = last.last().unwrap();
        assert_eq!(next, number + 1);
        assert!(text.ends_with(&format!("line {}", KEPT_LINES + 9)), "{text}");
        assert_eq!(last.len(), 3);
        assert_eq!(tail(Some(number - 1), 10).0.len(), 2);
        let (first, behind) = tail(Some(0), 1);
        assert_eq!(first.len(), 1, "what is gone is passed over");
        assert_eq!(behind, first[0].0 + 1, "the next page begins behind this one");
        for beyond in [next, next + 1, u64::MAX] {
            assert_eq!(tail(Some(beyond), 10), (Vec::new(), next), "what comes is not missed");
        }
        keep(&[b'x'; 10_000]);
        assert_eq!(tail(Some(next), 1).0[0].1.len(), KEPT_LINE_BYTES);
    }
}
