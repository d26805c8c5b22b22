//! Servers that send whoever comes elsewhere, and remember what they were told.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::http;
use crate::rtmp::{Peer, number, object, string};

/// What a signpost answers.
#[derive(Debug, Clone)]
pub enum Says {
    /// RTSP and HTTP: 302 with this `Location`.
    Found(String),
    /// RTSP: 401 with a challenge for a password, Basic, to whatever is asked.
    Password,
    /// RTMP: that `connect` is rejected, with this `ex.redirect`.
    Rejected(String),
}

/// Answers until it is dropped.
#[derive(Debug)]
pub struct Signpost {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    /// Each request, or each `connect`, as lossy text.
    heard: Mutex<Vec<String>>,
}

impl Signpost {
    /// Listens; `says` gets the port.
    pub fn start(says: impl Fn(u16) -> Says) -> Signpost {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (says, shared) = (says(port), Arc::new(Shared::default()));
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for socket in listener.incoming().flatten() {
                    if shared.over.load(Ordering::Relaxed) {
                        return;
                    }
                    // A client that hangs up in the middle has heard enough.
                    let _ = answer(socket, &says, &shared);
                }
            }
        });
        Signpost { port, shared, accepting: Some(accepting) }
    }

    /// What it was told so far.
    pub fn heard(&self) -> Vec<String> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Signpost {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the thread up.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn answer(mut socket: TcpStream, says: &Says, shared: &Shared) -> io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let hear = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        shared.heard.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    };
    if let Says::Rejected(url) = says {
        let mut peer = Peer::accepted(socket)?;
        let connect = loop {
            let message = peer.read_message()?;
            if message.command().as_deref() == Some("connect") {
                break message;
            }
        };
        hear(&connect.body);
        let elsewhere = object(&[("code", number(302.0)), ("redirect", string(url))]);
        peer.reject(&[("ex", elsewhere)])?;
        // It is the client that goes.
        let _ = peer.socket.read(&mut [0; 1]);
        return Ok(());
    }
    loop {
        let head = http::read_head(&mut socket)?;
        hear(head.as_bytes());
        let cseq = head.lines().find_map(|line| line.strip_prefix("CSeq:")).unwrap_or("0").trim();
        let protocol = if head.contains("RTSP/1.0") { "RTSP/1.0" } else { "HTTP/1.1" };
        let (status, line) = match says {
            Says::Found(location) => ("302 Found", format!("Location: {location}")),
            _ => ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"".to_owned()),
        };
        let text =
            format!("{protocol} {status}\r\nCSeq: {cseq}\r\n{line}\r\nContent-Length: 0\r\n\r\n");
        socket.write_all(text.as_bytes())?;
        if protocol == "HTTP/1.1" {
            return socket.shutdown(Shutdown::Write);
        }
    }
}
