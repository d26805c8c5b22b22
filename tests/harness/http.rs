//! Raw HTTP over a socket: requests as bytes, answers parsed just enough to judge them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// No read waits longer than that.
const READ: Duration = Duration::from_secs(5);

/// Header fields, names in lower case.
pub type Headers = Vec<(String, String)>;

/// A parsed answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: Headers,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Answer {
    /// First value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// GET on the loopback, connection closed after it.
pub fn get(port: u16, path: &str) -> Answer {
    request(port, "GET", path, &[])
}

/// One request with extra header lines.
pub fn request(port: u16, method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
    for header in headers {
        text += &format!("{header}\r\n");
    }
    text += "Connection: close\r\n\r\n";
    let answer = exchange(port, text.as_bytes(), method == "HEAD");
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// One request with a body of JSON.
pub fn send_json(port: u16, method: &str, path: &str, body: &str) -> Answer {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(port, text.as_bytes(), false);
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// Sends raw bytes and reads one answer.
pub fn exchange(port: u16, bytes: &[u8], is_head: bool) -> io::Result<Answer> {
    let mut stream = connect(port)?;
    stream.write_all(bytes)?;
    read_answer(&mut stream, is_head)
}

/// A connection with a read timeout.
pub fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(READ))?;
    stream.set_write_timeout(Some(READ))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An open answer whose body is still coming: a live stream.
pub fn open(port: u16, path: &str) -> io::Result<(u16, Headers, Body<TcpStream>)> {
    let mut stream = connect(port)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
    let (status, headers) = read_answer_head(&mut stream)?;
    let body = Body::new(stream, &headers);
    Ok((status, headers, body))
}

/// What is left of a body, chunked or not.
#[derive(Debug)]
pub struct Body<S> {
    stream: S,
    chunked: bool,
    /// Bytes left in this chunk or in the whole body; `None` = until the peer closes.
    left: Option<u64>,
    started: bool,
}

impl<S: Read> Body<S> {
    fn new(stream: S, headers: &[(String, String)]) -> Body<S> {
        let chunked = find(headers, "transfer-encoding").is_some_and(|v| v.contains("chunked"));
        let length = find(headers, "content-length").and_then(|value| value.parse().ok());
        let left = if chunked { Some(0) } else { length };
        Body { stream, chunked, left, started: false }
    }

    /// The socket behind the body.
    pub fn socket(&self) -> &S {
        &self.stream
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") {
            if self.stream.read(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim().to_owned())
    }

    fn next_chunk(&mut self) -> io::Result<u64> {
        if self.started {
            self.read_line()?;
        }
        self.started = true;
        let line = self.read_line()?;
        let size = line.split(';').next().unwrap_or_default();
        u64::from_str_radix(size, 16).map_err(|_| io::Error::other(format!("chunk size {line:?}")))
    }
}

impl<S: Read> Read for Body<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunked && self.left == Some(0) {
            let size = self.next_chunk()?;
            if size == 0 {
                self.chunked = false;
                return Ok(0);
            }
            self.left = Some(size);
        }
        let Some(left) = self.left else { return self.stream.read(buffer) };
        let bound = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if bound == 0 {
            // A socket may wait for something to come before it gives nothing.
            return Ok(0);
        }
        let count = self.stream.read(&mut buffer[..bound])?;
        self.left = Some(left - count as u64);
        Ok(count)
    }
}

/// Reads until the peer closes; the bytes, or a panic when it is still open at `deadline`.
pub fn read_until_closed(stream: &mut TcpStream, what: &str, deadline: Duration) -> Vec<u8> {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        let left = deadline.saturating_sub(start.elapsed());
        assert!(!left.is_zero(), "{what}: still open after {deadline:?} ({} B came)", bytes.len());
        stream.set_read_timeout(Some(left)).expect("a timeout above zero");
        match stream.read(&mut buffer) {
            Ok(0) => return bytes,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if is_timeout(&error) => {}
            Err(_) => return bytes,
        }
    }
}

/// Whether a read or write gave up waiting.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Reads a head up to its empty line, and not one byte of what follows; as lossy text.
pub fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Err(io::Error::other(format!(
                "closed inside the head: {}",
                bytes.escape_ascii()
            )));
        }
        bytes.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The header fields of a head, names in lower case.
pub fn fields(head: &str) -> Headers {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

/// Reads one answer, on a connection that may go on.
pub fn read_answer(stream: &mut TcpStream, is_head: bool) -> io::Result<Answer> {
    let (status, headers) = read_answer_head(stream)?;
    let mut body = Vec::new();
    if !is_head && status != 204 && status != 304 {
        let read = Body::new(stream, &headers).read_to_end(&mut body);
        // A refusal may be followed by a reset; what came before it counts.
        if let Err(error) = read
            && error.kind() != io::ErrorKind::ConnectionReset
        {
            return Err(error);
        }
    }
    Ok(Answer { status, headers, body })
}

fn read_answer_head(stream: &mut impl Read) -> io::Result<(u16, Headers)> {
    let head = read_head(stream)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status line: {head:?}")))?;
    Ok((status, fields(&head)))
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
