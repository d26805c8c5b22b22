//! The thread that reloads at a signal, and when a file has changed and is left alone.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use super::{Cause, Contents, Reloader};

/// How often the files are looked at: a change is acted upon when the next look finds it the same.
const POLL: Duration = Duration::from_millis(250);

/// The way to the thread; it ends with this.
#[derive(Debug)]
pub struct Watch {
    signals: Sender<()>,
    /// Disconnected once the thread has nothing more to do.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Starts the thread.
    ///
    /// # Errors
    /// There are no more threads to be had.
    pub fn start(reloader: Arc<Reloader>) -> io::Result<Self> {
        // One that waits stands for all that come before it is served.
        let (signals, waiting) = crossbeam_channel::bounded(1);
        let (alive, ended) = crossbeam_channel::bounded::<()>(0);
        let run = move || {
            run(&reloader, &waiting);
            drop((reloader, alive));
        };
        let thread = std::thread::Builder::new().name("reload".to_owned()).spawn(run)?;
        Ok(Self { signals, ended, thread })
    }

    /// Has the files read again, soon. Never waits.
    pub fn signal(&self) {
        if let Err(TrySendError::Disconnected(())) = self.signals.try_send(()) {
            tracing::error!("the thread that reloads has ended");
        }
    }

    /// Ends the thread after what it is at, and waits for it, but not beyond the deadline. While
    /// the shards live a reload is soon over.
    pub fn stop(self, deadline: Instant) {
        let Self { signals, ended, thread } = self;
        drop(signals);
        match ended.recv_deadline(deadline) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("a reload takes too long: not waited for");
            }
            // Nothing is ever sent on it: it only ends.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if thread.join().is_err() {
                    tracing::error!("the thread that reloads has panicked");
                }
            }
        }
    }
}

fn run(reloader: &Reloader, signals: &Receiver<()>) {
    let mut seen: Option<Contents> = None;
    loop {
        match signals.recv_timeout(POLL) {
            Ok(()) => {
                reloader.reload(Cause::Signal);
                seen = None;
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let now = reloader.look();
                if reloader.knows(&now) {
                    seen = None;
                } else if seen.as_ref() == Some(&now) {
                    reloader.reload_changed();
                    seen = None;
                } else {
                    seen = Some(now);
                }
            }
        }
    }
}
