//! Nagle's algorithm off for all who connect to another server, whatever its configuration can say.
//!
//! A server that leaves it on sends much of its data when an acknowledgement comes. On loopback
//! that happens while the receiver reads, at the receiver's expense: the CPU time of the server then
//! lacks a part of its work.

use std::fs;
use std::net::TcpListener;

use crate::args::{Args, say};
use crate::sys_process::Process;
use crate::{Outcome, sys};

/// Sets `TCP_NODELAY` on the listening sockets of a process; accepted ones inherit it.
///
/// # Errors
/// The process is not there, may not be touched, or listens nowhere.
pub fn run(args: &mut Args) -> Outcome<()> {
    let pid: u32 = args.need("server-pid")?;
    args.done()?;
    let count = forbid_delay(pid)?;
    say(&format!("{count} sockets of {pid} send without delay\n"));
    Ok(())
}

fn forbid_delay(pid: u32) -> Outcome<usize> {
    let process = Process::open(pid)?;
    let mut count = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let is_socket = fs::read_link(entry.path())?.to_string_lossy().starts_with("socket:");
        let number = entry.file_name().to_string_lossy().parse();
        if let Ok(number) = number
            && is_socket
        {
            let socket = TcpListener::from(process.descriptor(number)?);
            // Sockets that are not of TCP refuse.
            let set = sys::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
            count += usize::from(set.is_ok());
        }
    }
    if count == 0 {
        return Err(format!("process {pid} has no socket of TCP").into());
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn who_is_accepted_later_sends_without_delay() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(forbid_delay(std::process::id()).unwrap() > 0);
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(listener.accept().unwrap().0.nodelay().unwrap());
    }
}
