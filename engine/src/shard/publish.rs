//! The publisher's end: a claim to the owner shard, then frames on a checked timeline.

use std::sync::Arc;
use std::time::Instant;

use protocols::media::{Frame, FrameKind, StreamKey, Tracks};
use protocols::session::{AccessRequest, Command, Refusal};

use super::owner_of;
use crate::conn::{Protocol, Publishing, Role, escape};
use crate::observe::DropReason;
use crate::plane::Unhurried;
use crate::ring::{ControlMessage, Grant, Ingested, MediaItem, MediaMessage, MediaTarget, Token};
use crate::shard::Shard;
use crate::stream::{PublisherInfo, Timeline, merge_of_query};

impl Shard {
    /// The key a request names, or why it cannot be one.
    pub(crate) fn resolve(&self, request: &AccessRequest) -> Result<StreamKey, Refusal> {
        let AccessRequest { host, app, name, .. } = request;
        self.config.stream_key(host, app, name).inspect_err(|refusal| {
            tracing::debug!(name = %escape(name), ?refusal, "name refused");
        })
    }

    /// Queues a command for a session; it runs when no session is being driven.
    pub(crate) fn command(&mut self, token: Token, command: Command) {
        self.plane.commands.push_back((token, command));
    }

    /// A session wants to publish.
    pub(crate) fn request_publish(&mut self, slot: usize, request: &AccessRequest) {
        let token = self.plane.token(slot);
        let key = match self.resolve(request) {
            Ok(key) => key,
            Err(refusal) => return self.command(token, Command::Reject(refusal)),
        };
        if self.stopping.is_some() {
            return self.command(token, Command::Reject(Refusal::ShuttingDown));
        }
        // Whoever does something for a stream must end that first: another claim would take the
        // place of the one that gives the stream back.
        if !matches!(self.plane.conns[slot].role, Role::Idle) {
            return self.command(token, Command::Reject(Refusal::Unsupported));
        }
        // What a pull fetches has been asked for; only what is brought can go round.
        let pulled = self.plane.conns[slot].protocol == Protocol::Pull;
        if let (false, Err(error)) = (pulled, request.hops.admit(self.shared.node)) {
            tracing::info!(%key, hops = %request.hops, %error, "a forward is refused");
            return self.command(token, Command::Reject(Refusal::Loop));
        }
        let source = pulled.then(|| self.source_of(slot)).flatten();
        let conn = &mut self.plane.conns[slot];
        conn.role = Role::Claiming { key: key.clone() };
        conn.agent = escape(&request.agent).into();
        let info = Arc::new(PublisherInfo {
            protocol: conn.protocol.name(),
            host: request.host.clone(),
            port: request.port,
            agent: escape(&request.agent),
            merge_ms: merge_of_query(&request.query),
            since_unix_ms: crate::clock::unix_millis(),
            source,
            hops: request.hops.clone(),
            session: Some(conn.id),
            peer: Some(conn.peer),
        });
        let owner = owner_of(&key, self.mesh.shards());
        let claim = ControlMessage::Publish { key, from: self.id, conn: token, info };
        if !self.mesh.send(owner, claim) {
            self.plane.conns[slot].role = Role::Idle;
            self.command(token, Command::Reject(Refusal::Overloaded));
        }
    }

    /// The owner has answered.
    pub(super) fn on_publish_answer(
        &mut self,
        token: Token,
        answer: Result<Grant, Refusal>,
        now: Instant,
    ) {
        let claimed = self.plane.slot(token).and_then(|slot| match &self.plane.conns[slot].role {
            Role::Claiming { key } => Some((slot, key.clone())),
            Role::Idle
            | Role::Applying(_)
            | Role::Publisher(_)
            | Role::Waiting { .. }
            | Role::Viewer { .. } => None,
        });
        let Some((slot, key)) = claimed else {
            // The connection has ended meanwhile; it has withdrawn its claim by key.
            return;
        };
        let conn = &mut self.plane.conns[slot];
        match answer {
            Err(refusal) => {
                conn.role = Role::Idle;
                self.command(token, Command::Reject(refusal));
            }
            Ok(grant) => {
                let owner = owner_of(&key, self.mesh.shards());
                tracing::info!(conn = %conn.id, peer = %conn.peer, "publishing {key}");
                conn.role_since = now;
                conn.role = Role::Publisher(Box::new(Publishing {
                    key,
                    owner,
                    stream: grant.stream,
                    timeline: Timeline::new(grant.resume_at),
                    skipping: true,
                    has_video: false,
                    last_media_at: now,
                    unhurried: Unhurried::default(),
                }));
                self.command(token, Command::Accept);
            }
        }
    }

    /// Tracks from a publisher's session.
    pub(crate) fn publish_tracks(&mut self, slot: usize, tracks: Arc<Tracks>, now: Instant) {
        let Some(conn) = self.plane.conns.get_mut(slot) else { return };
        let Role::Publisher(publishing) = &mut conn.role else { return };
        publishing.last_media_at = now;
        let newly = tracks.video.is_some() && !publishing.has_video;
        publishing.has_video = tracks.video.is_some();
        if newly {
            // Sound that came first has opened the gate; pictures begin with a keyframe.
            publishing.skipping = true;
        }
        self.send_item(slot, MediaItem::Tracks(tracks), now);
    }

    /// A frame from a publisher's session.
    pub(crate) fn publish_frame(&mut self, slot: usize, mut frame: Frame, now: Instant) {
        let Some(conn) = self.plane.conns.get_mut(slot) else { return };
        let Role::Publisher(publishing) = &mut conn.role else { return };
        publishing.last_media_at = now;
        self.counters.frames_in += 1;
        if publishing.skipping {
            let opens = match frame.kind {
                FrameKind::Keyframe => true,
                FrameKind::Audio => !publishing.has_video,
                FrameKind::Inter | FrameKind::Disposable | FrameKind::Data => false,
            };
            if !opens {
                self.counters.dropped(DropReason::BeforeKeyframe);
                return;
            }
            publishing.skipping = false;
        }
        let adjusted = publishing.timeline.adjust(&mut frame);
        if !self.counters.note_adjusted(adjusted) {
            return;
        }
        let ingested = Arc::new(Ingested { frame, at: now });
        self.send_item(slot, MediaItem::Frame(ingested), now);
    }

    /// To the owner: a call when that is this shard, a ring otherwise.
    fn send_item(&mut self, slot: usize, item: MediaItem, now: Instant) {
        let Role::Publisher(publishing) = &mut self.plane.conns[slot].role else { return };
        let (owner, stream) = (publishing.owner, publishing.stream);
        if owner == self.id {
            self.on_stream_item(stream, item, now);
            return;
        }
        let message = MediaMessage { target: MediaTarget::Stream(stream), item };
        if self.mesh.try_push(owner, message).is_err() {
            self.counters.dropped(DropReason::RingFull);
            if let Role::Publisher(publishing) = &mut self.plane.conns[slot].role {
                publishing.skipping = true;
            }
        }
    }

    /// The session or the connection stops publishing, or gives its claim up.
    pub(crate) fn unpublish(&mut self, slot: usize, _now: Instant) {
        let token = self.plane.token(slot);
        let Some(conn) = self.plane.conns.get_mut(slot) else { return };
        match std::mem::replace(&mut conn.role, Role::Idle) {
            Role::Publisher(publishing) => {
                let owner = publishing.owner;
                let stream = publishing.stream;
                let message = ControlMessage::Unpublish { stream, from: self.id, conn: token };
                self.mesh.send(owner, message);
            }
            Role::Claiming { key } => {
                let owner = owner_of(&key, self.mesh.shards());
                let message = ControlMessage::Withdraw { key, from: self.id, conn: token };
                self.mesh.send(owner, message);
            }
            other @ (Role::Idle
            | Role::Applying(_)
            | Role::Waiting { .. }
            | Role::Viewer { .. }) => {
                conn.role = other;
            }
        }
    }

    /// Another shard wants a connection of ours gone.
    pub(super) fn on_kick(&mut self, token: Token, refusal: Refusal, now: Instant) {
        self.dismiss(token, refusal, now);
    }
}
