//! The session of a viewer of an endless body or a WebSocket: it asks to play, answers the request
//! head when it may, and reads only what ends it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use protocols::session::{
    AccessRequest, Command, ErrorClass, Event, Input, Output, Refusal, Session, SessionError,
};

use super::server::{MediaKind, MediaRequest};
use super::websocket::{self, ClientEvent, ClientFrames};

/// A WebSocket viewer is asked for a sign of life after so long.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// A ping without payload (RFC 6455, 5.5.2).
const PING_FRAME: [u8; 2] = [0x89, 0];

/// See the module text.
#[derive(Debug)]
pub struct LiveSession {
    kind: MediaKind,
    accept: Option<String>,
    playing: bool,
    frames: ClientFrames,
    output: VecDeque<Output>,
    asked: Option<Box<AccessRequest>>,
    ping_at: Option<Instant>,
}

impl LiveSession {
    /// For a request whose answer has not begun.
    #[must_use]
    pub fn new(request: MediaRequest) -> Self {
        let enhanced = request.query.split('&').any(|pair| pair == "codec=fourcc");
        let access = AccessRequest {
            host: request.host,
            port: request.port,
            app: request.app,
            name: request.name,
            query: request.query,
            agent: request.agent,
            enhanced,
            hops: request.hops,
            ..AccessRequest::default()
        };
        Self {
            kind: request.kind,
            accept: request.websocket_accept,
            playing: false,
            frames: ClientFrames::default(),
            output: VecDeque::new(),
            asked: Some(Box::new(access)),
            ping_at: None,
        }
    }

    fn transmit(&mut self, bytes: impl Into<Bytes>) {
        self.output.push_back(Output::Transmit(bytes.into()));
    }

    fn is_websocket(&self) -> bool {
        self.kind.websocket
    }

    fn end(reason: &'static str, class: ErrorClass, detail: &str) -> SessionError {
        SessionError::new(class, reason, detail)
    }

    fn refuse(&mut self, refusal: Refusal) -> SessionError {
        if self.playing {
            if self.is_websocket() {
                // 1001: going away; 1013: try again later.
                let code = if refusal == Refusal::TooSlow { 1013 } else { 1001 };
                self.transmit(websocket::close_frame(code));
            }
        } else {
            let (status, reason) = match refusal {
                Refusal::UnknownApp
                | Refusal::StreamNotFound
                | Refusal::BadName
                | Refusal::Loop => (404, "Not Found"),
                Refusal::Unauthorised => (401, "Unauthorized"),
                Refusal::Forbidden => (403, "Forbidden"),
                Refusal::Unsupported => (501, "Not Implemented"),
                Refusal::StreamBusy
                | Refusal::Overloaded
                | Refusal::Unverified
                | Refusal::ShuttingDown
                | Refusal::Superseded
                | Refusal::Kicked
                | Refusal::PublisherGone
                | Refusal::TooSlow
                | Refusal::TracksChanged => (503, "Service Unavailable"),
            };
            let text = refusal.text();
            let head = format!(
                "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Length: {}\r\nAccess-Control-Allow-Origin: *\r\n\
                 Cache-Control: no-store\r\nConnection: close\r\n\r\n{text}\n",
                text.len() + 1
            );
            self.transmit(head);
        }
        refusal.error()
    }

    fn answer_head(&mut self) {
        let head = match &self.accept {
            Some(accept) => format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            ),
            // No length and no chunks: the body ends with the connection (RFC 9112, 6.3).
            None => format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {}\r\n\
                 Access-Control-Allow-Origin: *\r\nCache-Control: no-store\r\n\
                 X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n\
                 Connection: close\r\n\r\n",
                self.kind.content_type()
            ),
        };
        self.transmit(head);
    }
}

impl Session for LiveSession {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) -> Result<(), SessionError> {
        if let Some(asked) = self.asked.take() {
            self.output.push_back(Output::Event(Event::PlayRequested(*asked)));
        }
        match input {
            // All of HTTP is within its connection.
            Input::Datagram { .. } => {}
            Input::Timeout => {
                if self.is_websocket() && self.playing {
                    self.transmit(&PING_FRAME[..]);
                    self.ping_at = Some(now + PING_INTERVAL);
                }
            }
            Input::Stream(bytes) if !self.is_websocket() => {
                // Nothing of use can follow a request whose answer never ends.
                bytes.advance(bytes.len());
            }
            Input::Stream(bytes) => {
                // Before the answer to the upgrade a client must not send frames; they wait.
                if !self.playing {
                    return Ok(());
                }
                match self.frames.push(bytes) {
                    Ok(events) => {
                        for event in events {
                            match event {
                                ClientEvent::Ping(payload) => {
                                    self.transmit(websocket::pong_frame(&payload));
                                }
                                ClientEvent::Close(_) => {
                                    self.transmit(websocket::close_frame(1000));
                                    let class = ErrorClass::Refused;
                                    return Err(Self::end("peer_closed", class, "close frame"));
                                }
                            }
                        }
                    }
                    Err(error) => {
                        self.transmit(websocket::close_frame(error.close_code()));
                        let (class, text) = (ErrorClass::PeerMisbehaved, error.to_string());
                        return Err(SessionError::new(class, "bad_websocket_frame", text));
                    }
                }
            }
        }
        Ok(())
    }

    fn handle_command(&mut self, now: Instant, command: Command) -> Result<(), SessionError> {
        match command {
            Command::Accept => {
                self.answer_head();
                self.playing = true;
                if self.is_websocket() {
                    self.ping_at = Some(now + PING_INTERVAL);
                }
                Ok(())
            }
            Command::Reject(refusal) | Command::Close(refusal) => Err(self.refuse(refusal)),
            Command::PublisherGone | Command::PublisherBack | Command::Reconnect => Ok(()),
            // Answers to what this session never asks.
            Command::AcceptPlay { .. }
            | Command::Describe(_)
            | Command::DatagramPorts { .. }
            | Command::MulticastGroup { .. } => Ok(()),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.ping_at
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.accept.as_ref().map_or(0, String::capacity)
            + self.output.capacity() * size_of::<Output>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Container;
    use bytes::BytesMut;
    use protocols::hops::Hops;

    const HTTP_FLV: MediaKind = MediaKind { container: Container::Flv, websocket: false };
    const WS_FLV: MediaKind = MediaKind { container: Container::Flv, websocket: true };

    fn request(kind: MediaKind, accept: Option<&str>) -> MediaRequest {
        MediaRequest {
            host: "h".into(),
            port: None,
            app: "live".into(),
            name: "x".into(),
            query: String::new(),
            agent: String::new(),
            hops: Hops::default(),
            kind,
            websocket_accept: accept.map(str::to_owned),
            admittance: None,
            keep_http11: true,
            peer: ([127, 0, 0, 1], 1).into(),
        }
    }

    fn sent(session: &mut LiveSession) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(output) = session.poll_output() {
            if let Output::Transmit(bytes) = output {
                all.extend_from_slice(&bytes);
            }
        }
        all
    }

    fn text(session: &mut LiveSession) -> String {
        String::from_utf8(sent(session)).unwrap()
    }

    #[test]
    fn asks_once_then_answers_by_the_verdict() {
        let now = crate::clock::now();
        let mut session = LiveSession::new(request(HTTP_FLV, None));
        session.handle_input(now, Input::Stream(&mut BytesMut::new())).unwrap();
        assert!(matches!(
            session.poll_output(),
            Some(Output::Event(Event::PlayRequested(request))) if request.name == "x"
        ));
        session.handle_command(now, Command::Accept).unwrap();
        assert!(text(&mut session).starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[test]
    fn a_missing_stream_is_a_404_and_a_lost_one_a_websocket_close() {
        let now = crate::clock::now();
        let mut session = LiveSession::new(request(HTTP_FLV, None));
        let refusal = Command::Reject(Refusal::StreamNotFound);
        assert_eq!(session.handle_command(now, refusal).unwrap_err().reason, "stream_not_found");
        assert!(text(&mut session).starts_with("HTTP/1.1 404 "));
        let mut session = LiveSession::new(request(WS_FLV, Some("abc=")));
        session.handle_command(now, Command::Accept).unwrap();
        assert!(text(&mut session).contains("Sec-WebSocket-Accept: abc=\r\n"));
        session.handle_command(now, Command::Close(Refusal::PublisherGone)).unwrap_err();
        assert_eq!(sent(&mut session).first(), Some(&0x88));
    }
}
