//! Child processes: own process group, captured output, ended on drop.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{sys, wait};

/// How often the output of a child is looked at.
const LOOK: Duration = Duration::from_millis(50);

type Captured = Arc<Mutex<Vec<u8>>>;

/// A running child whose output is collected.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Captured,
    stderr: Captured,
    readers: Vec<JoinHandle<()>>,
}

/// A child that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to stdout.
    pub stdout: Vec<u8>,
    /// Everything it wrote to stderr, as text.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Finished {
    /// Stdout as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Process {
    /// Starts `command` with its output captured.
    pub fn spawn(name: &str, mut command: Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (stdout, stderr) = (Captured::default(), Captured::default());
        let readers = vec![
            collect(child.stdout.take().expect("stdout is piped"), &stdout),
            collect(child.stderr.take().expect("stderr is piped"), &stderr),
        ];
        Process { name: name.to_owned(), child, stdout, stderr, readers }
    }

    /// Runs `command` to its end; it gets SIGINT at `bound` and SIGKILL five seconds later, so a
    /// player of an endless stream ends in its orderly way.
    pub fn run(name: &str, command: Command, bound: Duration) -> Finished {
        Process::run_until(name, command, bound, |_, _| false)
    }

    /// As [`Process::run`], with SIGINT once `enough` says so of what stdout and stderr hold.
    pub fn run_until(
        name: &str,
        command: Command,
        bound: Duration,
        mut enough: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Finished {
        let start = Instant::now();
        let mut process = Process::spawn(name, command);
        let mut looked = start;
        wait::paced(Duration::from_millis(5), bound, || {
            let look = looked.elapsed() >= LOOK;
            if look {
                looked = Instant::now();
            }
            process.alive() && !(look && enough(&held(&process.stdout), &held(&process.stderr)))
        });
        if process.alive() {
            process.signal(libc::SIGINT);
            if process.exited_within(Duration::from_secs(5)).is_none() {
                let _ = sys::signal_group(process.pid(), libc::SIGKILL);
            }
        }
        process.finish(start)
    }

    /// Process id, which is its group too.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, signal: i32) {
        let _ = sys::signal_group(self.pid(), signal);
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its exit status if it ends within `bound`.
    pub fn exited_within(&mut self, bound: Duration) -> Option<ExitStatus> {
        let mut status = None;
        let start = Instant::now();
        wait::paced(Duration::from_millis(5), bound, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_none()
        });
        if status.is_none() && start.elapsed() >= bound {
            status = self.child.try_wait().expect("a child can be waited for");
        }
        status
    }

    /// Stdout so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Stderr so far.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Kills what is left of it, and gives all its output.
    pub fn end(self) -> Finished {
        self.signal(libc::SIGKILL);
        self.finish(Instant::now())
    }

    fn finish(mut self, start: Instant) -> Finished {
        let status = self.child.wait().expect("a child can be waited for");
        let took = start.elapsed();
        // Grandchildren that hold the pipes would keep the readers for ever.
        let _ = sys::signal_group(self.pid(), libc::SIGKILL);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let stdout = std::mem::take(&mut *held(&self.stdout));
        Finished { status, stdout, stderr: text(&self.stderr), took }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = sys::signal_group(self.pid(), libc::SIGCONT);
        let _ = sys::signal_group(self.pid(), libc::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            let stderr = self.stderr();
            let lines: Vec<&str> = stderr.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- end of the stderr of {} ---\n{}", self.name, tail.join("\n"));
        }
    }
}

/// Finds a program on the PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn collect(mut pipe: impl Read + Send + 'static, into: &Captured) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut buffer = [0; 16384];
        while let Ok(count) = pipe.read(&mut buffer) {
            if count == 0 {
                return;
            }
            held(&into).extend_from_slice(&buffer[..count]);
        }
    })
}

fn held(captured: &Captured) -> MutexGuard<'_, Vec<u8>> {
    captured.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(captured: &Captured) -> String {
    String::from_utf8_lossy(&held(captured)).into_owned()
}
