//! When a receiver speaks: reports every few seconds, requests for keyframes at a bounded rate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Random;
use super::incoming::Incoming;
use super::rtcp;

/// Mean time between two reports, and least time between two requests.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);
/// Packets that wait to be sent; beyond it the oldest go.
const QUEUE_MAX: usize = 64;

/// Reports and requests of one receiver.
#[derive(Debug)]
pub(super) struct Feedback {
    ssrc: u32,
    name: String,
    random: Random,
    next_report: Instant,
    /// A keyframe is wanted: after a loss, or because the engine asked.
    picture_lost: bool,
    asked: bool,
    /// Number of the last full intra request.
    requests: u8,
    last_request: Option<Instant>,
    queue: VecDeque<(usize, Bytes)>,
}

impl Feedback {
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        let mut random = Random(seed);
        let (ssrc, name) = (random.next() as u32, format!("{:016x}", random.next()));
        let mut feedback = Self {
            ssrc,
            name,
            random,
            next_report: now,
            picture_lost: false,
            asked: false,
            requests: 0,
            last_request: None,
            queue: VecDeque::new(),
        };
        // The first one comes after half the time (RFC 3550 6.2).
        feedback.next_report = now + feedback.interval() / 2;
        feedback
    }

    /// Between half and one and a half of the mean, so that receivers do not speak in step (6.3.1).
    fn interval(&mut self) -> Duration {
        let thousandths = u32::try_from(self.random.next() % 1000).unwrap_or(0);
        REPORT_INTERVAL / 2 + REPORT_INTERVAL * thousandths / 1000
    }

    /// Pictures are missing.
    pub(super) fn on_picture_loss(&mut self) {
        self.picture_lost = true;
    }

    /// The engine wants a keyframe.
    pub(super) fn on_request(&mut self) {
        self.asked = true;
    }

    /// When there is something to say. A request without a source to send it to waits for one.
    pub(super) fn deadline(&self) -> Instant {
        match self.last_request {
            Some(last) if self.picture_lost || self.asked => {
                self.next_report.min(last + REQUEST_INTERVAL)
            }
            _ => self.next_report,
        }
    }

    /// Says what is due.
    pub(super) fn speak(&mut self, now: Instant, tracks: &mut [Incoming], video: Option<usize>) {
        let all = now >= self.next_report;
        if all {
            self.next_report = now + self.interval();
        }
        let ready = self.last_request.is_none_or(|last| now >= last + REQUEST_INTERVAL);
        let request = (self.picture_lost || self.asked) && ready;
        if !all && !request {
            return;
        }
        for (at, track) in tracks.iter_mut().enumerate() {
            let request = request && video == Some(at);
            if !all && !request {
                continue;
            }
            let Some(block) = track.reception_report(now) else { continue };
            let full_intra = (request && self.asked).then(|| {
                self.requests = self.requests.wrapping_add(1);
                self.requests
            });
            let packet = rtcp::receiver_report(self.ssrc, &self.name, block, request, full_intra);
            if request {
                (self.picture_lost, self.asked) = (false, false);
                self.last_request = Some(now);
            }
            if self.queue.len() >= QUEUE_MAX {
                self.queue.pop_front();
            }
            self.queue.push_back((at, packet));
        }
        if request && (self.picture_lost || self.asked) {
            // There is no source to send it to: the next packet of one sends it, not a deadline.
            self.last_request = None;
        }
    }

    pub(super) fn poll(&mut self) -> Option<(usize, Bytes)> {
        self.queue.pop_front()
    }
}
