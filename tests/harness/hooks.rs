//! A web server that takes event callbacks: answers as it is told, and keeps what it was sent.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::{http, wait};

/// What one request held.
#[derive(Debug, Clone)]
pub struct Call {
    /// Request target.
    pub target: String,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The status it was answered with.
    pub status: u16,
}

impl Call {
    /// First value of a header.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// See the module text.
#[derive(Debug)]
pub struct Hooks {
    port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Hooks {
    /// Listens. `answer` gives the status of the n-th request, or `None` to leave it unanswered.
    pub fn start(answer: impl Fn(usize) -> Option<u16> + Send + 'static) -> Hooks {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let into = Arc::clone(&calls);
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if Arc::strong_count(&into) == 1 {
                    return;
                }
                // A peer that goes away in the middle is no matter.
                if let Ok(Some(stream)) = serve(stream, &into, &answer) {
                    silent.push(stream);
                }
            }
        });
        Hooks { port, calls }
    }

    /// Its URL.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it was sent so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an event that was taken; gives it.
    pub fn wait_event(&self, name: &str, deadline: Duration) -> Call {
        wait::until(&format!("the event {name}"), deadline, || {
            let taken = |call: &Call| call.status == 200 && call.header("x-event") == name;
            self.calls().into_iter().find(taken)
        })
    }
}

/// One request per connection; the connection if it is to stay without an answer.
fn serve(
    mut stream: TcpStream,
    into: &Mutex<Vec<Call>>,
    answer: &impl Fn(usize) -> Option<u16>,
) -> io::Result<Option<TcpStream>> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let head = http::read_head(&mut stream)?;
    let target = head.split(' ').nth(1).unwrap_or_default();
    let headers = http::fields(&head);
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let mut calls = into.lock().unwrap_or_else(PoisonError::into_inner);
    let status = answer(calls.len());
    calls.push(Call { target: target.to_owned(), headers, body, status: status.unwrap_or(0) });
    drop(calls);
    let Some(status) = status else { return Ok(Some(stream)) };
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    Ok(None)
}
