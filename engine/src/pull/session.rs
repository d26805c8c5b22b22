//! The client end of a connection as a publisher: asks for the stream when media come, holds them
//! until it is granted, and gives up on a source that is silent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocols::hops::Hops;
use protocols::media::Tracks;
use protocols::session::{
    AccessRequest, Command, ErrorClass, Event, Input, Output, Session, SessionError,
};

/// From the first packet of the connection to the first media.
const START_MAX: Duration = Duration::from_secs(10);
/// Media may be silent for so long.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Events held back until the stream is granted: what one read and the datagrams of a moment give.
const HELD_MAX: usize = 4096;

/// How far the claim to the stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// There is none: no media, or they have ended.
    None,
    /// Asked for; input rests.
    Asked,
    /// Granted.
    Granted,
}

/// See the module text.
pub struct PullSession {
    client: Box<dyn Session>,
    request: AccessRequest,
    claim: Claim,
    held: VecDeque<Event>,
    tracks: Option<Arc<Tracks>>,
    /// The time of the last input or command.
    now: Instant,
    deadline: Instant,
    /// Media have come at least once.
    started: bool,
}

impl PullSession {
    /// Publishes what `client` receives as the stream of `request`.
    #[must_use]
    pub fn new(now: Instant, client: Box<dyn Session>, request: AccessRequest) -> Self {
        Self {
            client,
            request,
            claim: Claim::None,
            held: VecDeque::new(),
            tracks: None,
            now,
            deadline: now + START_MAX,
            started: false,
        }
    }

    /// What becomes of an event of the client; `None`: it is held or dropped.
    fn on_event(&mut self, event: Event) -> Option<Event> {
        match &event {
            Event::Tracks(tracks) => self.tracks = Some(Arc::clone(tracks)),
            Event::Frame(_) => {}
            Event::PublishEnded => {
                self.held.clear();
                self.claim = Claim::None;
                return Some(event);
            }
            Event::PeerNode(node) => {
                // The stream has passed it at least.
                self.request.hops = Hops::default().with(*node);
                return None;
            }
            // Ports and redirects are between the client and the engine.
            _ => return Some(event),
        }
        self.started = true;
        self.deadline = self.now + SILENCE_MAX;
        if self.claim == Claim::Granted && self.held.is_empty() {
            return Some(event);
        }
        if self.claim == Claim::None {
            // Media that come again after their end are of the tracks named before.
            let tracks = self.tracks.clone()?;
            if matches!(event, Event::Frame(_)) {
                self.held.push_back(Event::Tracks(tracks));
            }
            self.held.push_back(event);
            self.claim = Claim::Asked;
            return Some(Event::PublishRequested(self.request.clone()));
        }
        if self.held.len() < HELD_MAX {
            self.held.push_back(event);
        } else {
            tracing::debug!("media dropped while the stream is not granted");
        }
        None
    }
}

impl Session for PullSession {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) -> Result<(), SessionError> {
        self.now = now;
        match input {
            Input::Stream(_) if self.claim == Claim::Asked => Ok(()),
            Input::Timeout if now >= self.deadline => {
                let (reason, what, limit) = match self.started {
                    true => ("media_timeout", "no media", SILENCE_MAX),
                    false => ("start_timeout", "no media from the source", START_MAX),
                };
                let detail = format!("{what} for {} s", limit.as_secs());
                Err(SessionError::new(ErrorClass::TimedOut, reason, detail))
            }
            Input::Timeout => match self.client.poll_timeout() {
                Some(at) if now >= at => self.client.handle_input(now, input),
                _ => Ok(()),
            },
            Input::Stream(_) | Input::Datagram { .. } => self.client.handle_input(now, input),
        }
    }

    fn handle_command(&mut self, now: Instant, command: Command) -> Result<(), SessionError> {
        self.now = now;
        match (command, self.claim) {
            (Command::Accept, Claim::Asked) => {
                self.claim = Claim::Granted;
                Ok(())
            }
            (Command::Reject(refusal), Claim::Asked) => {
                self.claim = Claim::None;
                self.held.clear();
                Err(refusal.error())
            }
            (command, _) => self.client.handle_command(now, command),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        loop {
            if self.claim == Claim::Granted
                && let Some(event) = self.held.pop_front()
            {
                return Some(Output::Event(event));
            }
            match self.client.poll_output()? {
                Output::Event(event) => {
                    if let Some(event) = self.on_event(event) {
                        return Some(Output::Event(event));
                    }
                }
                other @ (Output::Transmit(_) | Output::Datagram { .. }) => return Some(other),
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.client.poll_timeout().map_or(self.deadline, |at| at.min(self.deadline)))
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.client.memory_bytes() + self.held.capacity() * size_of::<Event>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use protocols::media::{Frame, FrameKind, Timestamp};
    use protocols::session::Refusal;

    /// Gives out what it was made with, one batch per input.
    struct Script(VecDeque<Vec<Event>>, VecDeque<Event>);

    impl Session for Script {
        fn handle_input(&mut self, _: Instant, input: Input<'_>) -> Result<(), SessionError> {
            if let Input::Stream(buffer) = input {
                buffer.clear();
                self.1.extend(self.0.pop_front().unwrap_or_default());
            }
            Ok(())
        }

        fn handle_command(&mut self, _: Instant, _: Command) -> Result<(), SessionError> {
            Ok(())
        }

        fn poll_output(&mut self) -> Option<Output> {
            self.1.pop_front().map(Output::Event)
        }

        fn poll_timeout(&self) -> Option<Instant> {
            None
        }

        fn memory_bytes(&self) -> usize {
            0
        }
    }

    fn frame() -> Event {
        let dts = Timestamp::ZERO;
        let payload = Bytes::from_static(b"x");
        Event::Frame(Frame { kind: FrameKind::Audio, dts, composition_offset: 0, payload })
    }

    fn tracks() -> Event {
        Event::Tracks(Arc::new(Tracks::default()))
    }

    fn session(now: Instant, batches: Vec<Vec<Event>>) -> PullSession {
        let script = Box::new(Script(batches.into(), VecDeque::new()));
        PullSession::new(now, script, AccessRequest::default())
    }

    /// One word per output.
    fn drain(session: &mut PullSession) -> Vec<&'static str> {
        let word = |output| match output {
            Output::Event(Event::PublishRequested(_)) => "ask",
            Output::Event(Event::Tracks(_)) => "tracks",
            Output::Event(Event::Frame(_)) => "frame",
            Output::Event(Event::PublishEnded) => "ended",
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| session.poll_output()).map(word).collect()
    }

    fn feed(session: &mut PullSession, now: Instant) -> BytesMut {
        let mut buffer = BytesMut::from(&b"bytes"[..]);
        session.handle_input(now, Input::Stream(&mut buffer)).unwrap();
        buffer
    }

    #[test]
    fn media_wait_for_the_grant_and_ask_again_after_their_end() {
        let now = crate::clock::now();
        let batches =
            vec![vec![tracks(), frame()], vec![Event::PublishEnded], vec![frame(), frame()]];
        let mut session = session(now, batches);
        feed(&mut session, now);
        assert_eq!(drain(&mut session), ["ask"]);
        assert_eq!(feed(&mut session, now).len(), 5, "input rests");
        session.handle_command(now, Command::Accept).unwrap();
        assert_eq!(drain(&mut session), ["tracks", "frame"]);
        feed(&mut session, now);
        assert_eq!(drain(&mut session), ["ended"]);
        feed(&mut session, now);
        assert_eq!(drain(&mut session), ["ask"]);
        session.handle_command(now, Command::Accept).unwrap();
        assert_eq!(drain(&mut session), ["tracks", "frame", "frame"]);
    }

    #[test]
    fn a_refusal_and_silence_end_it() {
        let now = crate::clock::now();
        let mut refused = session(now, vec![vec![tracks()]]);
        feed(&mut refused, now);
        assert_eq!(drain(&mut refused), ["ask"]);
        let error = refused.handle_command(now, Command::Reject(Refusal::StreamBusy)).unwrap_err();
        assert_eq!(error.reason, "stream_busy");

        let mut silent = session(now, Vec::new());
        let at = silent.poll_timeout().unwrap();
        silent.handle_input(at - Duration::from_millis(1), Input::Timeout).unwrap();
        assert_eq!(silent.handle_input(at, Input::Timeout).unwrap_err().reason, "start_timeout");
    }
}
