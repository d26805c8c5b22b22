//! What a shard tells those who asked for event callbacks: once per session and stream, never per
//! frame.

use std::time::Instant;

use protocols::media::StreamKey;

use crate::clock;
use crate::conn::{Protocol, Role};
use crate::events::{Event, EventKind, EventSession};
use crate::shard::Shard;
use crate::stream::PublisherInfo;

impl Shard {
    /// Tells those who asked of an event; never waits.
    pub fn announce(&self, event: Event) {
        self.events.announce(event);
    }

    /// By the clock: pieces of recordings that are complete.
    pub(crate) fn announce_pieces(&self) {
        let Some(hub) = &self.recordings else { return };
        for piece in hub.take_finished() {
            self.announce(Event::Record {
                place: piece.place.to_string(),
                day: piece.name.day_text(),
                time: piece.name.time_text(),
                bytes: piece.bytes,
                start_unix_ms: piece.start_unix_ms,
                end_unix_ms: piece.end_unix_ms,
            });
        }
    }

    /// A stream of ours has a publisher.
    pub(super) fn announce_publish(&self, key: &StreamKey, info: &PublisherInfo) {
        if !self.events.wants(EventKind::Publish) || key.delay_s() > 0 {
            return;
        }
        let source = info.source.as_deref().map(str::to_owned);
        self.announce(Event::Publish { stream: key.into(), session: publisher(info), source });
    }

    /// It has it no longer.
    pub(super) fn announce_unpublish(&self, key: &StreamKey, info: &PublisherInfo, bytes: u64) {
        if !self.events.wants(EventKind::Unpublish) || key.delay_s() > 0 {
            return;
        }
        let duration_ms = clock::unix_millis().saturating_sub(info.since_unix_ms);
        let session = publisher(info);
        self.announce(Event::Unpublish { stream: key.into(), session, bytes, duration_ms });
    }

    /// The shard ends before it has heard of the ends of its publishers.
    pub(super) fn announce_ends(&self) {
        for (_, stream) in &self.streams {
            if let Some(publisher) = &stream.publisher {
                self.announce_unpublish(&stream.key, &publisher.info, stream.bytes_in);
            }
        }
    }

    /// A viewer is on its wire.
    pub(super) fn announce_play(&self, slot: usize, mirror: usize) {
        if self.events.wants(EventKind::Play) {
            let stream = (&self.mirrors[mirror].key.delayed(0)).into();
            self.announce(Event::Play { stream, session: self.viewer(slot) });
        }
    }

    /// A viewer is about to leave its wire for good; nothing if it is on none.
    pub(super) fn announce_stop(&self, slot: usize, now: Instant) {
        let Some(conn) = self.plane.conns.get(slot) else { return };
        let Role::Viewer { mirror, wire, index } = conn.role else { return };
        // A target of a forward is none: it goes up and down.
        if conn.protocol != Protocol::Forward && self.events.wants(EventKind::Stop) {
            let sent = self.mirrors[mirror].wires[wire].viewers[index].sent;
            let played = now.saturating_duration_since(conn.role_since);
            self.announce(Event::Stop {
                stream: (&self.mirrors[mirror].key.delayed(0)).into(),
                session: self.viewer(slot),
                bytes: conn.bytes_out + sent,
                duration_ms: u64::try_from(played.as_millis()).unwrap_or(u64::MAX),
            });
        }
    }

    fn viewer(&self, slot: usize) -> EventSession {
        let conn = &self.plane.conns[slot];
        EventSession {
            id: Some(conn.id.to_string()),
            peer: Some(conn.peer),
            protocol: conn.protocol.name(),
            agent: conn.agent.to_string(),
        }
    }
}

fn publisher(info: &PublisherInfo) -> EventSession {
    EventSession {
        id: info.session.map(|id| id.to_string()),
        peer: info.peer,
        protocol: info.protocol,
        agent: info.agent.clone(),
    }
}
