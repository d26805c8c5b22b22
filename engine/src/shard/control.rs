//! The inbox: messages of other shards, drained in bounded batches.

use std::time::{Duration, Instant};

use protocols::session::{Command, Refusal};

use crate::auth::Waiting;
use crate::conn::Role;
use crate::net::resolve::Asker;
use crate::ring::{ControlMessage, Fault, MediaTarget, ShardId};
use crate::shard::Shard;
use crate::stream::Claim;

/// Control messages handled per turn.
const CONTROL_PER_TURN: usize = 256;
/// Media messages taken from one ring per turn.
const MEDIA_PER_TURN: usize = 512;
/// How long peers may take to leave when the process stops.
const STOP_MAX: Duration = Duration::from_secs(3);

impl Shard {
    /// Handles what waits, media first: control that follows media must not overtake it. True
    /// when there is more.
    pub(super) fn drain_inbox(&mut self, now: Instant) -> bool {
        let mut more = false;
        for from in 0..self.mesh.shards() {
            more |= self.drain_media(from, now);
        }
        for _ in 0..CONTROL_PER_TURN {
            let Some(message) = self.mesh.next_control() else { return more };
            // What the sender had pushed before this message is on its ring: take that first.
            if let ControlMessage::Unpublish { from, .. } = &message {
                let from = from.index();
                while self.drain_media(from, now) {}
            }
            self.on_control(message, now);
        }
        true
    }

    fn drain_media(&mut self, from: usize, now: Instant) -> bool {
        let from = ShardId(u16::try_from(from).expect("shards are counted in u16"));
        if from == self.id {
            return false;
        }
        for _ in 0..MEDIA_PER_TURN {
            let Some(message) = self.mesh.next_media(from) else { return false };
            match message.target {
                MediaTarget::Stream(stream) => self.on_stream_item(stream, message.item, now),
                MediaTarget::Mirror(mirror) => self.on_mirror_message(mirror, message.item, now),
            }
        }
        true
    }

    fn on_control(&mut self, message: ControlMessage, now: Instant) {
        match message {
            ControlMessage::Subscribe { key, from, mirror } => {
                self.on_subscribe(&key, from, mirror, now);
            }
            ControlMessage::Unsubscribe { key, from, mirror } => {
                self.on_unsubscribe(&key, from, mirror);
            }
            ControlMessage::Publish { key, from, conn, info } => {
                self.on_claim(&key, Claim { from, conn, info, at: now }, now);
            }
            ControlMessage::PublishAnswer { conn, answer } => {
                self.on_publish_answer(conn, answer, now);
            }
            ControlMessage::Unpublish { stream, from, conn } => {
                self.on_unpublish(stream, from, conn, now);
            }
            ControlMessage::Withdraw { key, from, conn } => {
                self.on_withdraw(&key, from, conn, now);
            }
            ControlMessage::Watched { conn, stream, watched } => {
                self.on_watched(conn, stream, watched);
            }
            ControlMessage::Kick { conn, refusal } => self.on_kick(conn, refusal, now),
            ControlMessage::Ask { from, question, topic } => {
                let report = Box::new(self.report(topic));
                self.mesh.send(from, ControlMessage::Answer { question, report });
            }
            ControlMessage::Answer { question, report } => self.asks.answer(question, *report),
            ControlMessage::AskSessions { from, question, query } => {
                let slice = Box::new(self.session_slice(&query, now));
                self.mesh.send(from, ControlMessage::SessionsAnswer { question, slice });
            }
            ControlMessage::SessionsAnswer { question, slice } => {
                self.session_asks.answer(question, *slice);
            }
            ControlMessage::WantSegments { key, packaging, from } => {
                self.on_want_segments(key, packaging, from, now);
            }
            ControlMessage::DropSegments { key, packaging, from } => {
                self.on_drop_segments(&key, packaging, from);
            }
            ControlMessage::Segments { key, packaging, snapshot } => {
                self.on_segments(key, packaging, snapshot, now);
            }
            ControlMessage::WantShift { key, from, question } => {
                self.on_want_shift(key, from, question);
            }
            ControlMessage::ShiftAnswer { question, answer } => {
                self.shifts.answer(question, answer);
            }
            ControlMessage::TunnelHalf(half) => self.take_half(*half, now),
            ControlMessage::AskHook { target, rules, keep, from, id } => {
                self.on_ask_hook(target, &rules, keep, Waiting { from, id }, now);
            }
            ControlMessage::LeaveHook { target, from, id } => {
                self.auth.desk.leave(&target, Waiting { from, id });
            }
            ControlMessage::Judged { id, answer, fresh_until } => {
                self.on_judged(id, answer, fresh_until, now);
            }
            ControlMessage::KickSessions { kick, from, question } => {
                let kicked = self.kick(&kick, now);
                self.mesh.send(from, ControlMessage::Kicked { question, kicked });
            }
            ControlMessage::Kicked { question, kicked } => self.kicks.answer(question, kicked),
            ControlMessage::WantStream { key, from, hops } => {
                self.on_want_stream(&key, from, &hops, now);
            }
            ControlMessage::NotFound { key } => self.on_not_found(&key, now),
            ControlMessage::Resolved { asker: Asker::Hook, attempt, addresses } => {
                self.auth.places.found(attempt, addresses, now);
            }
            ControlMessage::Resolved { asker, attempt, addresses } => {
                self.on_resolved(asker, attempt, addresses, now);
            }
            ControlMessage::Reconfigure(new) => self.on_reconfigured(&new, now),
            ControlMessage::Stop => self.stop(now),
            ControlMessage::Fault(fault) => act_out(fault),
        }
    }

    /// Stops accepting, tells every peer, and leaves them a moment to hear it.
    fn stop(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(now + STOP_MAX);
        for listener in std::mem::take(&mut self.plane.listeners) {
            self.plane.epoll.remove(std::os::fd::AsFd::as_fd(&listener.fd));
        }
        let tokens: Vec<_> =
            self.plane.conns.iter().map(|(slot, _)| self.plane.token(slot)).collect();
        for token in tokens {
            self.guarded(token, now, |shard, slot| {
                if !matches!(shard.plane.conns[slot].role, Role::Idle) && shard.end_media(slot, now)
                {
                    shard.drive(slot, now, |session| {
                        session.handle_command(now, Command::Reconnect)
                    });
                }
            });
            self.dismiss(token, Refusal::ShuttingDown, now);
        }
    }
}

/// Does on purpose what the supervisor must notice.
fn act_out(fault: Fault) {
    match fault {
        Fault::ShardPanic => panic!("injected fault"),
        Fault::ShardHang => std::thread::sleep(Duration::from_secs(3600)),
    }
}
