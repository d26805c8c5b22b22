//! The thread that reloads at a signal, and when a file has changed and is left alone.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use super::files::Stamps;
use super::{Cause, Reloader};

/// How often the files are looked at: a change is acted upon when the next look finds it the same.
const POLL: Duration = Duration::from_millis(250);

/// The way to the thread; it ends with this.
#[derive(Debug)]
pub struct Watch {
    signals: Sender<()>,
}

impl Watch {
    /// Starts the thread.
    ///
    /// # Errors
    /// There are no more threads to be had.
    pub fn start(reloader: Arc<Reloader>) -> std::io::Result<Self> {
        // One that waits stands for all that come before it is served.
        let (signals, waiting) = crossbeam_channel::bounded(1);
        let run = move || run(&reloader, &waiting);
        std::thread::Builder::new().name("reload".to_owned()).spawn(run)?;
        Ok(Self { signals })
    }

    /// Has the files read again, soon. Never waits.
    pub fn signal(&self) {
        if let Err(TrySendError::Disconnected(())) = self.signals.try_send(()) {
            tracing::error!("the thread that reloads has ended");
        }
    }
}

fn run(reloader: &Reloader, signals: &Receiver<()>) {
    let mut seen: Option<Stamps> = None;
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
