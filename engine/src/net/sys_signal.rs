//! Process signals as values: blocked in every thread, taken one by one by the supervisor.

// Raw signal calls; each block says why it is sound.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::time::Duration;

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// The set of signals this process takes as values.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks the signals in this thread and all it will start.
    ///
    /// # Errors
    /// What `pthread_sigmask` says.
    pub fn block() -> io::Result<Self> {
        // SAFETY: all-zero is a valid sigset_t to be initialised by sigemptyset.
        let mut set: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: the set lives for the calls; the signal numbers are valid.
        let rc = unsafe {
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::sigaddset(&raw mut set, libc::SIGINT);
            libc::sigaddset(&raw mut set, libc::SIGHUP);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
        };
        if rc == 0 { Ok(Self(set)) } else { Err(io::Error::from_raw_os_error(rc)) }
    }

    /// The next signal, or `None` after the time-out.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<Signal> {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        // SAFETY: set and time-out live for the call; no siginfo is asked for.
        let signal = unsafe {
            libc::sigtimedwait(&raw const self.0, std::ptr::null_mut(), &raw const timeout)
        };
        match signal {
            libc::SIGTERM | libc::SIGINT => Some(Signal::Stop),
            libc::SIGHUP => Some(Signal::Reload),
            _ => None,
        }
    }
}
