//! Connections that have to be let in: they wait for it, and are judged again while they run.

use std::time::Instant;

use protocols::media::StreamKey;
use protocols::session::{AccessRequest, Command, Refusal};

use super::auth::Waiter;
use crate::auth::{Admittance, By, Decision, Query, Question, Reason, Role as Wanted, Shown, Via};
use crate::conn::{Protocol, Role};
use crate::ring::Token;
use crate::shard::Shard;

/// What a session wants, to be gone on with when it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To publish.
    Publish,
    /// To play.
    Play,
    /// To know what a stream consists of.
    Describe,
    /// To receive a track of it by multicast.
    Group {
        /// The track, as its session numbers it.
        track: u8,
        /// It is the pictures.
        video: bool,
    },
}

/// A connection that waits to be let in.
#[derive(Debug)]
pub struct Applicant {
    /// Its question number, once there is one.
    id: u64,
    wish: Wish,
    request: AccessRequest,
    question: Question,
    key: StreamKey,
}

impl Shard {
    /// A session wants something that needs permission.
    pub(crate) fn authorise(
        &mut self,
        slot: usize,
        wish: Wish,
        request: AccessRequest,
        now: Instant,
    ) {
        let conn = &self.plane.conns[slot];
        let via = match conn.protocol {
            Protocol::Rtmp => Via::Rtmp,
            Protocol::Rtsp => Via::Rtsp,
            // They were judged when their request came, or were not asked for by anybody.
            Protocol::Live(_) | Protocol::Http | Protocol::Pull | Protocol::Forward => {
                return self.go_on(slot, wish, &request, now);
            }
        };
        let role = if wish == Wish::Publish { Wanted::Publisher } else { Wanted::Player };
        let key = self.resolve(&request);
        // What cannot be is refused where it is looked at.
        let Ok(key) = key else { return self.go_on(slot, wish, &request, now) };
        let conn = &self.plane.conns[slot];
        let covered = conn
            .admittance
            .as_ref()
            .is_some_and(|held| held.covers(role, &key, self.auth.rules.number));
        if covered || !matches!(conn.role, Role::Idle) {
            return self.go_on(slot, wish, &request, now);
        }
        let resource = format!("{}/{}", key.app(), key.name());
        let question = Question {
            role,
            via,
            peer: conn.peer.ip(),
            at_home: false,
            path: format!("/{resource}"),
            resource,
            query: Query(request.query.clone()),
            shown: Shown::of_identity(&request.identity),
            unasked: false,
            operates: false,
        };
        self.apply(slot, Applicant { id: 0, wish, request, question, key }, now);
    }

    /// Judges an applicant.
    fn apply(&mut self, slot: usize, mut applicant: Applicant, now: Instant) {
        let token = self.plane.token(slot);
        match self.judge(&applicant.question, false, now) {
            Decision::Allow(by) => self.admit_conn(slot, by, applicant, now),
            Decision::Deny(reason) => self.refuse_conn(token, &applicant.question, reason, now),
            Decision::Refer(referral) => {
                match self.inquire(referral, Waiter::Conn(token), false, now) {
                    Ok(id) => {
                        applicant.id = id;
                        self.plane.conns[slot].role = Role::Applying(Box::new(applicant));
                    }
                    Err(reason) => self.refuse_conn(token, &applicant.question, reason, now),
                }
            }
        }
    }

    /// What was held back until it was known that it may be.
    fn go_on(&mut self, slot: usize, wish: Wish, request: &AccessRequest, now: Instant) {
        match wish {
            Wish::Publish => self.request_publish(slot, request),
            Wish::Play => self.request_play(slot, request, now),
            Wish::Describe => self.request_description(slot, request, now),
            Wish::Group { track, video } => self.request_group(slot, (track, video), request, now),
        }
    }

    fn admit_conn(&mut self, slot: usize, by: By, applicant: Applicant, now: Instant) {
        let Applicant { wish, request, question, key, .. } = applicant;
        self.counters.auth.allowed(question.role, by);
        let is_rtsp = question.via == Via::Rtsp;
        // Kept whether or not it is asked about again: that may be switched on.
        let mut admittance = Admittance::new(question, key);
        // DESCRIBE and PLAY of one connection are one play.
        admittance.good_for_more = is_rtsp.then_some(self.auth.rules.number);
        admittance.recheck_at = self.recheck_at(now);
        self.plane.conns[slot].admittance = Some(Box::new(admittance));
        self.go_on(slot, wish, &request, now);
    }

    fn refuse_conn(&mut self, token: Token, question: &Question, reason: Reason, now: Instant) {
        self.note_denied(question, reason, now);
        self.command(token, Command::Reject(reason.refusal()));
    }

    /// A connection that waited to be let in is about to end.
    pub(crate) fn withdraw_application(&mut self, slot: usize) {
        let Some(conn) = self.plane.conns.get_mut(slot) else { return };
        match std::mem::replace(&mut conn.role, Role::Idle) {
            Role::Applying(applicant) => self.leave_question(applicant.id),
            other => conn.role = other,
        }
    }

    /// The applicant whose question has that number.
    fn take_applicant(&mut self, slot: usize, id: u64) -> Option<Applicant> {
        let conn = &mut self.plane.conns[slot];
        match std::mem::replace(&mut conn.role, Role::Idle) {
            Role::Applying(applicant) if applicant.id == id => Some(*applicant),
            other => {
                conn.role = other;
                None
            }
        }
    }

    /// Its question will not be answered: other rules are in force.
    pub(super) fn apply_anew(&mut self, slot: usize, id: u64, now: Instant) {
        if let Some(applicant) = self.take_applicant(slot, id) {
            self.apply(slot, applicant, now);
        }
    }

    pub(super) fn end_application(
        &mut self,
        slot: usize,
        id: u64,
        verdict: Result<By, Reason>,
        now: Instant,
    ) {
        let Some(applicant) = self.take_applicant(slot, id) else { return };
        match verdict {
            Ok(by) => self.admit_conn(slot, by, applicant, now),
            Err(reason) => {
                let token = self.plane.token(slot);
                self.refuse_conn(token, &applicant.question, reason, now);
            }
        }
    }

    /// Judges a running session again.
    pub(super) fn recheck(&mut self, slot: usize, now: Instant) {
        let next = self.recheck_at(now);
        let token = self.plane.token(slot);
        let Some(held) = &mut self.plane.conns[slot].admittance else { return };
        held.recheck_at = next;
        let question = held.question();
        self.counters.auth.rechecks += 1;
        match self.judge(&question, true, now) {
            Decision::Allow(_) => {}
            Decision::Deny(reason) => self.end_recheck(token, Err(reason), now),
            Decision::Refer(referral) => {
                // A question that cannot be put now is put at the next time.
                let _ = self.inquire(referral, Waiter::Running(token), false, now);
            }
        }
    }

    /// A session that runs ends when it is refused, not when nobody can say.
    pub(super) fn end_recheck(&mut self, token: Token, verdict: Result<By, Reason>, now: Instant) {
        let Err(reason) = verdict else { return };
        if matches!(reason, Reason::Unavailable | Reason::Failures) {
            return;
        }
        let Some(slot) = self.plane.slot(token) else { return };
        let question = self.plane.conns[slot].admittance.as_ref().map(|held| held.question());
        if let Some(question) = question {
            self.note_denied(&question, reason, now);
        }
        self.dismiss(token, Refusal::Forbidden, now);
    }
}
