//! The viewer's end: wait at a mirror, attach at a join point, leave.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use protocols::media::{StreamKey, Timestamp};
use protocols::rtmp::client::SET_DATA_FRAME;
use protocols::rtp::{Channels, interleaved};
use protocols::session::{AccessRequest, Command, Refusal, RtpStart, RtpTransport};

use super::owner_of;
use crate::conn::{CloseReason, Protocol, Role, Wants, escape};
use crate::plane::{Pace, finish_message};
use crate::ring::{ControlMessage, MediaItem, ShardId, Token};
use crate::shard::Shard;
use crate::stream::{
    AWAIT_KEYFRAME, Appended, Container, Format, Mirror, PAUSED, Viewer, Wire, WireLimits,
    merge_of_query, wire_millis,
};
use crate::timeshift::delay_of_query;

/// Channels of the packets that leave as datagrams: nobody sees them.
const DATAGRAM_CHANNELS: Channels = Channels { video: 0, audio: 2 };

impl Shard {
    /// A session wants to know what a stream consists of.
    pub(crate) fn request_description(
        &mut self,
        slot: usize,
        request: &AccessRequest,
        now: Instant,
    ) {
        // A player may ask again; it stays one, since its role is what takes it off its wire.
        if let Role::Viewer { mirror, .. } = self.plane.conns[slot].role {
            let token = self.plane.token(slot);
            let mirror = &self.mirrors[mirror];
            let command = match self.resolve(request) {
                Ok(key) if key == mirror.key => Command::Describe(Arc::clone(mirror.log.tracks())),
                Ok(_) => Command::Reject(Refusal::Unsupported),
                Err(refusal) => Command::Reject(refusal),
            };
            return self.command(token, command);
        }
        self.request_stream(slot, request, Wants::Description, now);
    }

    /// A session wants to receive a track of a stream by multicast: if there is the stream.
    pub(crate) fn request_group(
        &mut self,
        slot: usize,
        (track, video): (u8, bool),
        request: &AccessRequest,
        now: Instant,
    ) {
        self.request_stream(slot, request, Wants::Group { track, video }, now);
    }

    /// A session wants to play.
    pub(crate) fn request_play(&mut self, slot: usize, request: &AccessRequest, now: Instant) {
        let container = match (self.plane.conns[slot].protocol, request.transport) {
            (Protocol::Live(kind), _) => kind.container,
            (_, Some(RtpTransport::Interleaved(channels))) => {
                Container::Rtp { channels, datagrams: false }
            }
            (_, Some(RtpTransport::Datagram)) => {
                Container::Rtp { channels: DATAGRAM_CHANNELS, datagrams: true }
            }
            // What is sent to a group is the same for all, whatever a player has set up.
            (_, Some(RtpTransport::Multicast)) => {
                let container = Container::Rtp { channels: DATAGRAM_CHANNELS, datagrams: true };
                let (enhanced, merge_ms) = (request.enhanced, None);
                let (video, audio, legacy) = (true, true, false);
                let format = Format { container, enhanced, legacy, video, audio, merge_ms };
                return self.request_stream(slot, request, Wants::Play(format), now);
            }
            (Protocol::Rtmp | Protocol::Forward, None) => {
                let chunk_size = self.plane.conns[slot].chunk_size;
                Container::Rtmp { message_stream_id: request.message_stream_id, chunk_size }
            }
            (Protocol::Http | Protocol::Rtsp | Protocol::Pull, None) => Container::Flv,
        };
        let format = Format {
            container,
            enhanced: request.enhanced,
            legacy: false,
            video: request.kinds.video,
            audio: request.kinds.audio,
            merge_ms: merge_of_query(&request.query),
        };
        self.request_stream(slot, request, Wants::Play(format), now);
    }

    fn request_stream(&mut self, slot: usize, request: &AccessRequest, wants: Wants, now: Instant) {
        let token = self.plane.token(slot);
        self.plane.conns[slot].agent = escape(&request.agent).into();
        // Whoever does something for a stream must end that first: what it leaves behind on a wire
        // would be served for ever.
        if !matches!(self.plane.conns[slot].role, Role::Idle) {
            return self.command(token, Command::Reject(Refusal::Unsupported));
        }
        let key = self.resolve(request).and_then(|key| self.delayed(slot, key, &request.query));
        let key = key.and_then(|key| self.admit_player(slot, key));
        let key = match key.and_then(|key| self.admit_relay(key, &request.hops, now)) {
            Ok(key) => key,
            Err(refusal) => return self.command(token, Command::Reject(refusal)),
        };
        let mirror = self.mirror_of(&key, now);
        self.feed_mirror(mirror);
        self.mirrors[mirror].waiting.push(token.index);
        self.mirrors[mirror].used_at = now;
        let relay = !request.hops.is_empty();
        self.plane.conns[slot].role = Role::Waiting { mirror, since: now, wants, relay };
        self.plane.conns[slot].role_since = now;
        self.attach_waiting(mirror, now);
        self.ask_owner(mirror, &request.hops, now);
    }

    /// The stream as late as a viewer by HTTP asks for it; the door of HTTP has seen to it that it
    /// is played so late.
    fn delayed(&self, slot: usize, key: StreamKey, query: &str) -> Result<StreamKey, Refusal> {
        match self.plane.conns[slot].protocol {
            Protocol::Live(_) => match delay_of_query(query) {
                Ok(0) => Ok(key),
                Ok(delay_s) => Ok(key.delayed(delay_s)),
                Err(_) => Err(Refusal::BadName),
            },
            Protocol::Rtmp
            | Protocol::Rtsp
            | Protocol::Http
            | Protocol::Pull
            | Protocol::Forward => Ok(key),
        }
    }

    /// Whether one more may wait for a stream.
    fn admit_player(&self, slot: usize, key: StreamKey) -> Result<StreamKey, Refusal> {
        if self.plane.conns[slot].protocol == Protocol::Rtsp && !self.config.rtsp.play {
            return Err(Refusal::Unsupported);
        }
        let full = self.mirror_index.get(&key).is_some_and(|&mirror| {
            self.mirrors[mirror].audience() >= self.config.limits.viewers_per_stream
        });
        let new = !self.mirror_index.contains_key(&key);
        let crowded =
            new && (self.mirrors.len() >= self.config.limits.streams * 2 || self.is_over_budget());
        if full || crowded {
            return Err(Refusal::Overloaded);
        }
        if self.stopping.is_some() {
            return Err(Refusal::ShuttingDown);
        }
        Ok(key)
    }

    /// Has the owner feed a mirror that it does not feed yet.
    fn feed_mirror(&mut self, index: usize) {
        let mirror = &mut self.mirrors[index];
        if mirror.fed {
            return;
        }
        let owner = owner_of(&mirror.key, self.mesh.shards());
        let key = mirror.key.clone();
        let token = Token {
            index: u32::try_from(index).expect("mirrors are limited"),
            generation: mirror.generation,
        };
        // On the owner itself there may be no stream yet: the mirror is then found by its key.
        if owner == self.id {
            mirror.fed = true;
            return;
        }
        let subscribe = ControlMessage::Subscribe { key, from: self.id, mirror: token };
        self.mirrors[index].fed = self.mesh.send(owner, subscribe);
    }

    /// The next item of a stream that has a mirror here, from another shard.
    pub(super) fn on_mirror_message(&mut self, mirror: Token, item: MediaItem, now: Instant) {
        let index = mirror.index as usize;
        if self.mirrors.get(index).is_some_and(|entry| entry.generation == mirror.generation) {
            self.on_mirror_item(index, item, now);
        }
    }

    /// The next item of a stream, in order.
    pub(super) fn on_mirror_item(&mut self, index: usize, item: MediaItem, now: Instant) {
        let of_tracks = matches!(item, MediaItem::Tracks(_));
        let mirror = &mut self.mirrors[index];
        let appended = mirror.append(item, now);
        for (wire_index, wire) in &mut mirror.wires {
            if wire.sweep.fresh && !std::mem::replace(&mut wire.sweep.queued, true) {
                self.plane.dirty.push_back((index, wire_index));
            }
        }
        if of_tracks {
            self.end_outdated(index, now);
        }
        match appended {
            Appended::JoinPoint => {
                self.wake_awaiting(index);
                self.attach_waiting(index, now);
            }
            Appended::Online | Appended::Offline | Appended::Media => {}
        }
    }

    /// Ends viewers whose tracks have changed in a way that their protocol cannot tell them.
    fn end_outdated(&mut self, mirror: usize, now: Instant) {
        let mut ended = Vec::new();
        for (_, wire) in &mut self.mirrors[mirror].wires {
            if std::mem::take(&mut wire.outdated) {
                ended.extend(wire.viewers.iter().map(|viewer| viewer.conn as usize));
            }
        }
        for slot in ended {
            self.dismiss(self.plane.token(slot), Refusal::TracksChanged, now);
        }
    }

    /// Says goodbye to a peer and closes its connection.
    pub(super) fn dismiss(&mut self, token: Token, refusal: Refusal, now: Instant) {
        self.part_with(token, refusal, CloseReason::Refused(refusal), now);
    }

    /// The same, for a reason of our own.
    pub(super) fn part_with(
        &mut self,
        token: Token,
        refusal: Refusal,
        reason: CloseReason,
        now: Instant,
    ) {
        self.guarded(token, now, |shard, slot| {
            if !shard.end_media(slot, now) {
                // No word of ours can stand within a message.
                return shard.close(slot, CloseReason::SlowViewer, now);
            }
            shard.drive(slot, now, |session| session.handle_command(now, Command::Close(refusal)));
            shard.close_token(token, reason, now);
        });
    }

    /// Ends what a viewer is sent, with the message it is in the middle of; false: that cannot be.
    pub(super) fn end_media(&mut self, slot: usize, now: Instant) -> bool {
        self.pump(slot, now);
        let pending_max = self.config.engine.viewer_pending_bytes;
        let Some(conn) = self.plane.conns.get_mut(slot) else { return true };
        let Role::Viewer { mirror, wire, index } = conn.role else { return true };
        let wire = &mut self.mirrors[mirror].wires[wire];
        if wire.format.is_datagrams() {
            return true;
        }
        let ended = finish_message(conn, wire, index, pending_max).is_some();
        if ended {
            wire.viewers[index].offset = PAUSED;
        }
        ended
    }

    /// Attaches those who wait, if the stream can be joined.
    pub(super) fn attach_waiting(&mut self, index: usize, now: Instant) {
        let mirror = &self.mirrors[index];
        if !mirror.is_ready() || mirror.log.joinable().next().is_none() {
            return;
        }
        for slot in std::mem::take(&mut self.mirrors[index].waiting) {
            let token = self.plane.token(slot as usize);
            self.guarded(token, now, |shard, slot| shard.attach(slot, now));
        }
    }

    /// Has a waiting session accepted; it goes on its wire right after that.
    fn attach(&mut self, slot: usize, now: Instant) {
        let Role::Waiting { mirror, wants, .. } = self.plane.conns[slot].role else { return };
        let token = self.plane.token(slot);
        let tracks = self.mirrors[mirror].log.tracks();
        let format = match wants {
            Wants::Play(format) => format,
            Wants::Description | Wants::Group { .. } => {
                let command = Command::Describe(Arc::clone(tracks));
                self.mirrors[mirror].used_at = now;
                self.plane.conns[slot].role = Role::Idle;
                if let Wants::Group { track, video } = wants {
                    let key = self.mirrors[mirror].key.clone();
                    return self.answer_with_group(slot, track, video, key);
                }
                return self.command(token, command);
            }
        };
        if format.carries(tracks) {
            let accept = match format.container {
                Container::Rtp { .. } if self.follows(slot) => {
                    Command::AcceptPlay { video: None, audio: None }
                }
                Container::Rtp { channels, .. } => self.accept_rtp(mirror, format, channels, now),
                Container::Rtmp { .. } | Container::Flv | Container::Ts | Container::Fmp4 => {
                    Command::Accept
                }
            };
            self.command(token, accept);
            self.plane.accepted.push(token);
        } else {
            self.plane.conns[slot].role = Role::Idle;
            self.command(token, Command::Reject(Refusal::Unsupported));
        }
    }

    /// What tells a player by RTSP where its packets begin.
    fn accept_rtp(
        &mut self,
        mirror: usize,
        format: Format,
        channels: Channels,
        now: Instant,
    ) -> Command {
        let limits = self.wire_limits();
        let gop = self.config.rtmp.gop_enable;
        let mirror = &mut self.mirrors[mirror];
        let index = mirror.wire(format, limits, self.options, now);
        let wire = &mirror.wires[index];
        let join = join_of(mirror, wire, gop);
        let (from, at) = join.unwrap_or((wire.head(), wire.newest()));
        let of = |video, channel| rtp_start(wire, from, at, video, channel);
        Command::AcceptPlay {
            video: of(true, channels.video).filter(|_| format.video),
            audio: of(false, channels.audio).filter(|_| format.audio),
        }
    }

    /// Puts viewers whose sessions have just been accepted on their wires.
    pub(crate) fn finish_attachments(&mut self, now: Instant) {
        for token in std::mem::take(&mut self.plane.accepted) {
            self.guarded(token, now, |shard, slot| {
                if let Role::Waiting { mirror, wants: Wants::Play(format), .. } =
                    shard.plane.conns[slot].role
                {
                    shard.attach_accepted(slot, mirror, format, now);
                }
            });
        }
    }

    fn attach_accepted(&mut self, slot: usize, mirror_index: usize, format: Format, now: Instant) {
        let limits = self.wire_limits();
        let gop = self.config.rtmp.gop_enable;
        let follows = self.follows(slot);
        let mirror = &mut self.mirrors[mirror_index];
        let wire_index = mirror.wire(format, limits, self.options, now);
        let tracks = mirror.log.tracks();
        let start = mirror.log.joinable().next().map(|first| first.frame.dts);
        let wire = &mirror.wires[wire_index];
        let millis = wire_millis(start.unwrap_or(wire.newest()));
        let forward = self.plane.conns[slot].protocol == Protocol::Forward;
        let bytes = if forward {
            let mut bytes = Vec::new();
            let options = self.options;
            format.write_announcement(tracks, millis, SET_DATA_FRAME, options, &mut bytes);
            bytes
        } else {
            wire.packager.joining(tracks, millis)
        };
        // A target has viewers of its own, who are not to wait for the next keyframe; whoever comes
        // to a group gets what is sent to it now.
        let join = join_of(mirror, wire, gop || forward).filter(|_| !follows);
        let conn = &mut self.plane.conns[slot];
        conn.stage_out(&bytes);
        if !forward {
            tracing::info!(conn = %conn.id, peer = %conn.peer, "playing {}", mirror.key);
        }
        conn.role_since = now;
        if let Some((_, from)) = join {
            conn.pace = Some(Pace::new(now, from, self.config.rtmp.start_rate));
            let token = self.plane.token(slot);
            self.plane.pacing.push_back(token);
        }
        self.put_on_wire(
            slot,
            mirror_index,
            wire_index,
            join.map_or(AWAIT_KEYFRAME, |(offset, _)| offset),
        );
        self.enter_group(slot);
        if forward {
            self.on_target_fed(self.plane.token(slot), now);
        } else {
            self.announce_play(slot, mirror_index);
        }
        self.pump(slot, now);
    }

    /// Ends a play or the wait for one.
    pub(crate) fn detach(&mut self, slot: usize, now: Instant) {
        self.announce_stop(slot, now);
        self.leave_wire(slot, now);
    }

    fn leave_wire(&mut self, slot: usize, now: Instant) {
        let Some(conn) = self.plane.conns.get_mut(slot) else { return };
        let role = std::mem::replace(&mut conn.role, Role::Idle);
        match role {
            Role::Waiting { mirror, .. } => {
                let mirror = &mut self.mirrors[mirror];
                mirror.waiting.retain(|waiting| *waiting as usize != slot);
                mirror.used_at = now;
            }
            Role::Viewer { mirror, wire: wire_index, index } => {
                let mirror = &mut self.mirrors[mirror];
                mirror.used_at = now;
                let wire = &mut mirror.wires[wire_index];
                let gone = wire.viewers.swap_remove(index);
                let offset = gone.offset;
                wire.sweep.disturb();
                if gone.enrolled {
                    self.plane.egress.dismiss(gone.conn);
                }
                if gone.blocked {
                    wire.blocked -= 1;
                }
                conn.bytes_out += gone.sent;
                if wire.viewers.is_empty() {
                    wire.empty_since = Some(now);
                }
                if let Some(moved) = wire.viewers.get(index) {
                    let moved = moved.conn as usize;
                    if let Role::Viewer { index: place, .. } = &mut self.plane.conns[moved].role {
                        *place = index;
                    }
                }
                self.leave_group(slot, offset);
            }
            Role::Idle | Role::Applying(_) | Role::Claiming { .. } | Role::Publisher(_) => {
                conn.role = role;
            }
        }
    }

    /// The peer paused or resumed.
    pub(crate) fn pause_viewer(&mut self, slot: usize, paused: bool, now: Instant) {
        let conn = &mut self.plane.conns[slot];
        let Role::Viewer { mirror, wire, index } = conn.role else { return };
        // A group is not only for the one that pauses.
        if conn.flows.as_ref().is_some_and(|flows| flows.is_group()) {
            return;
        }
        let wire = &mut self.mirrors[mirror].wires[wire];
        if !paused {
            if wire.viewers[index].offset == PAUSED {
                wire.viewers[index].offset = AWAIT_KEYFRAME;
            }
            return;
        }
        if wire.format.is_datagrams() {
            wire.viewers[index].offset = PAUSED;
            return;
        }
        let pending_max = self.config.engine.viewer_pending_bytes;
        match finish_message(conn, wire, index, pending_max) {
            Some(_) => wire.viewers[index].offset = PAUSED,
            None => self.close(slot, CloseReason::SlowViewer, now),
        }
    }

    /// The peer wants or refuses a kind of track: it moves to the wire of another format.
    pub(crate) fn select_tracks(&mut self, slot: usize, video: bool, wanted: bool, now: Instant) {
        let conn = &mut self.plane.conns[slot];
        if let Role::Waiting { wants: Wants::Play(format), .. } = &mut conn.role {
            *(if video { &mut format.video } else { &mut format.audio }) = wanted;
        }
        let Role::Viewer { mirror, wire: wire_index, index } = conn.role else { return };
        let wire = &mut self.mirrors[mirror].wires[wire_index];
        let mut format = wire.format;
        let selected = if video { &mut format.video } else { &mut format.audio };
        if std::mem::replace(selected, wanted) == wanted {
            return;
        }
        if finish_message(conn, wire, index, self.config.engine.viewer_pending_bytes).is_none() {
            self.close(slot, CloseReason::SlowViewer, now);
            return;
        }
        self.leave_wire(slot, now);
        let limits = self.wire_limits();
        let wire_index = self.mirrors[mirror].wire(format, limits, self.options, now);
        self.put_on_wire(slot, mirror, wire_index, AWAIT_KEYFRAME);
    }

    pub(super) fn wire_limits(&self) -> WireLimits {
        WireLimits {
            bytes: self.config.engine.stream_log_bytes,
            lag: self.config.limits.viewer_lag * 2,
        }
    }

    fn put_on_wire(&mut self, slot: usize, mirror: usize, wire_index: usize, offset: u64) {
        let conn = &mut self.plane.conns[slot];
        let wire = &mut self.mirrors[mirror].wires[wire_index];
        wire.empty_since = None;
        let place = u32::try_from(slot).expect("slots are bounded by the connection limit");
        let fd = conn.fd.as_raw_fd();
        wire.viewers.push(Viewer {
            fd,
            conn: place,
            enrolled: !wire.format.is_datagrams() && self.plane.egress.enroll(place, fd),
            offset,
            sent: 0,
            configuration: wire.configuration(),
            blocked: false,
            special: true,
        });
        let index = wire.viewers.len() - 1;
        conn.role = Role::Viewer { mirror, wire: wire_index, index };
    }

    /// By the clock: viewers whose publisher stays away, wires and mirrors nobody uses.
    pub(crate) fn tend_mirrors(&mut self, now: Instant) {
        let grace = self.config.rtmp.publisher_grace;
        let mut abandoned = Vec::new();
        let mut idle = Vec::new();
        for (index, mirror) in &mut self.mirrors {
            mirror.wires.retain(|_, wire| {
                wire.empty_since.is_none_or(|since| now.saturating_duration_since(since) < grace)
            });
            let offline_for =
                mirror.offline_since.map(|since| now.saturating_duration_since(since));
            // What is pulled comes back for as long as it is wanted.
            let pulled = self.pulls.cover(&mirror.key);
            if offline_for.is_some_and(|offline| offline > grace && !pulled) {
                for (_, wire) in &mirror.wires {
                    abandoned.extend(wire.viewers.iter().map(|viewer| viewer.conn as usize));
                }
            }
            let unused = now.saturating_duration_since(mirror.used_at) > grace;
            if mirror.audience() == 0 && unused && !self.stream_index.contains_key(&mirror.key) {
                idle.push(index);
            }
        }
        for slot in abandoned {
            self.dismiss(self.plane.token(slot), Refusal::PublisherGone, now);
        }
        for index in idle {
            self.drop_mirror(index);
        }
    }

    fn drop_mirror(&mut self, index: usize) {
        let mirror = self.mirrors.remove(index);
        self.mirror_index.remove(&mirror.key);
        let owner: ShardId = owner_of(&mirror.key, self.mesh.shards());
        if owner != self.id && mirror.fed {
            let token = Token {
                index: u32::try_from(index).expect("mirrors are limited"),
                generation: mirror.generation,
            };
            let message =
                ControlMessage::Unsubscribe { key: mirror.key, from: self.id, mirror: token };
            self.mesh.send(owner, message);
        }
    }
}

/// Where a viewer joins a wire now, and the decode time there. Without instant start only at a
/// point that has just been reached.
fn join_of(mirror: &Mirror, wire: &Wire, gop: bool) -> Option<(u64, Timestamp)> {
    let mut joinable = mirror.log.joinable();
    let start = joinable.next()?.frame.dts;
    let offset = wire.join_point().filter(|_| gop || joinable.next().is_none())?;
    Some((offset, start))
}

/// Where a track's packets begin in a wire: the first one's sequence number, and the timestamp of
/// the time at which the play begins, the same for both tracks.
fn rtp_start(wire: &Wire, from: u64, at: Timestamp, video: bool, channel: u8) -> Option<RtpStart> {
    let sender = wire.packager.rtp()?;
    let rtptime = sender.timestamp_at(video, at)?;
    let mut packets = wire.parts(from, wire.head()).flat_map(interleaved::packets);
    let first = packets.find(|(of, _)| *of == channel);
    let sequence = match first {
        Some((_, [_, _, high, low, ..])) => u16::from_be_bytes([*high, *low]),
        _ => sender.next(video).0,
    };
    Some(RtpStart { sequence, rtptime })
}
