//! One keep-alive connection that fetches one thing after the other, as browsers do it.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::ClientConfig;

use crate::Outcome;
use crate::link::{Link, is_wait};
use crate::target::Target;

/// Longest answer head accepted.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// What a browser says it takes.
const GZIP: &str = "Accept-Encoding: gzip, deflate\r\n";

/// An answer that has come whole.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body is compressed.
    pub gzip: bool,
    /// The body; empty unless it was to be kept.
    pub body: BytesMut,
}

#[derive(Debug)]
enum State {
    Idle,
    Head,
    Body { answer: Answer, left: usize },
}

/// One connection.
#[derive(Debug)]
pub struct Fetch {
    link: Link,
    authority: String,
    input: BytesMut,
    state: State,
    keeps: bool,
    /// Bytes received over the wire.
    pub received: u64,
}

impl Fetch {
    /// Begins to connect.
    ///
    /// # Errors
    /// No connection can be begun, or the target speaks TLS.
    pub fn connect(target: &Target, tls: &Arc<ClientConfig>) -> Outcome<Self> {
        if target.tls {
            return Err("fetching is measured without TLS only".into());
        }
        let link = Link::connect(target, tls, None)?;
        let authority = target.authority.clone();
        let (input, state) = (BytesMut::new(), State::Idle);
        Ok(Self { link, authority, input, state, keeps: false, received: 0 })
    }

    /// The socket, for an epoll set.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.link.fd()
    }

    /// Nothing is asked for.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Bytes wait to be sent.
    pub fn wants_write(&self) -> bool {
        self.link.pending() > 0
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// The connection is over.
    pub fn flush(&mut self) -> Outcome<()> {
        Ok(self.link.flush()?)
    }

    /// Asks for a path; nothing else may be asked for. The body is thrown away unless it `keeps`.
    ///
    /// # Errors
    /// The connection is over.
    pub fn get(&mut self, path: &str, keeps: bool) -> Outcome<()> {
        debug_assert!(self.is_idle(), "one thing at a time");
        let authority = &self.authority;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n{GZIP}\r\n");
        (self.keeps, self.state) = (keeps, State::Head);
        Ok(self.link.send(request.as_bytes())?)
    }

    /// Receives what is there; the answer once it is whole.
    ///
    /// # Errors
    /// The connection is over, or the answer cannot be understood.
    pub fn receive(&mut self, scratch: &mut [u8]) -> Outcome<Option<Answer>> {
        loop {
            let discards = !self.keeps && matches!(self.state, State::Body { .. });
            let received = match discards {
                true => self.link.discard(),
                false => self.link.receive(scratch, &mut self.input),
            };
            let count = match received {
                Ok(0) => return Err("closed by the server".into()),
                Ok(count) => count,
                Err(error) if is_wait(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            self.received += count as u64;
            if let Some(answer) = self.take(if discards { count } else { 0 })? {
                return Ok(Some(answer));
            }
        }
    }

    /// Goes on with what was received, and with so many bytes of body that were thrown away.
    fn take(&mut self, discarded: usize) -> Outcome<Option<Answer>> {
        if matches!(self.state, State::Head) {
            let end = self.input.windows(4).position(|window| window == b"\r\n\r\n");
            let Some(end) = end else {
                let long = self.input.len() > HEAD_BYTES_MAX;
                return if long { Err("answer head is too long".into()) } else { Ok(None) };
            };
            let head = String::from_utf8_lossy(&self.input.split_to(end + 4)).to_ascii_lowercase();
            self.state = read_head(&head)?;
        }
        let State::Body { answer, left } = &mut self.state else {
            return Err("an answer to nothing".into());
        };
        let count = discarded + self.input.len();
        *left = left.checked_sub(count).ok_or("more body than announced")?;
        if self.keeps {
            answer.body.unsplit(self.input.split());
        }
        self.input.clear();
        if *left > 0 {
            return Ok(None);
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Body { answer, .. } => Ok(Some(answer)),
            State::Idle | State::Head => Ok(None),
        }
    }
}

/// Status and length of an answer whose head is in lower case.
fn read_head(head: &str) -> Outcome<State> {
    let status = head.split_whitespace().nth(1).and_then(|text| text.parse().ok());
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let left = value("content-length:").ok_or("an answer without length")?.parse()?;
    let gzip = value("content-encoding:").is_some_and(|coding| coding == "gzip");
    let answer = Answer { status: status.ok_or("no status")?, gzip, body: BytesMut::new() };
    Ok(State::Body { answer, left })
}
