//! The packets of one track on their way to its depacketizer: source, order, account and clock.

use std::time::Instant;

use bytes::Bytes;
use rtcp::reception_report::ReceptionReport;

use super::NtpTime;
use super::clock::TrackClock;
use super::format::PayloadFormat;
use super::header::Header;
use super::payload::{Depacketizer, Packet};
use super::receiver::{ReceiverLimits, Statistics};
use super::reception::{Reception, Verdict};
use super::reorder::{Place, Reorder};

/// The sender report that came last.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastReport {
    ssrc: u32,
    arrival: Instant,
    pub(super) ntp: NtpTime,
    /// Its timestamp, unwrapped.
    pub(super) ticks: i64,
}

/// One track of a publisher.
#[derive(Debug)]
pub(super) struct Incoming {
    payload_type: u8,
    epoch: Instant,
    /// `None` for a track that is counted and not carried.
    pub(super) depacketizer: Option<Depacketizer>,
    pub(super) clock: TrackClock,
    pub(super) report: Option<LastReport>,
    ssrc: Option<u32>,
    reception: Reception,
    started: bool,
    reorder: Reorder<Packet>,
    /// The first packet of what may be another source, or a new start.
    candidate: Option<(Header, Bytes)>,
    /// Packets are missing before the one that is given out next.
    gap: bool,
    /// Packets in their order, to be depacketized.
    pub(super) ready: Vec<Packet>,
    late: u64,
    wrong_payload_type: u64,
}

impl Incoming {
    pub(super) fn new(
        now: Instant,
        format: &PayloadFormat,
        carried: bool,
        limits: &ReceiverLimits,
    ) -> Self {
        let depacketizer = Depacketizer::new(format, limits.frame_bytes).filter(|_| carried);
        Self {
            payload_type: format.payload_type,
            epoch: now,
            depacketizer,
            clock: TrackClock::new(format.clock_rate),
            report: None,
            ssrc: None,
            reception: Reception::default(),
            started: false,
            reorder: Reorder::new(limits.reorder_packets, limits.reorder_time),
            candidate: None,
            gap: false,
            ready: Vec::new(),
            late: 0,
            wrong_payload_type: 0,
        }
    }

    /// Takes a packet; what is in order now is in `ready`.
    pub(super) fn on_packet(&mut self, now: Instant, header: Header, payload: Bytes) {
        if header.payload_type != self.payload_type {
            self.wrong_payload_type += 1;
            return;
        }
        match self.ssrc {
            None => {
                self.start(header);
                let sequence = self.begin(header.sequence_number);
                self.take(now, sequence, header, payload);
            }
            Some(ssrc) if ssrc != header.ssrc => self.on_stray(now, header, payload),
            Some(_) => match self.reception.on_sequence(header.sequence_number) {
                Verdict::New(sequence) => {
                    self.candidate = None;
                    self.take(now, sequence, header, payload);
                }
                Verdict::Duplicate => {}
                Verdict::Stray => self.on_stray(now, header, payload),
            },
        }
    }

    /// The source is this one from now on.
    fn start(&mut self, header: Header) {
        self.ssrc = Some(header.ssrc);
        let other = self.report.is_some_and(|report| report.ssrc != header.ssrc);
        if other || self.started {
            self.clock.restart();
            self.report = self.report.filter(|_| !other);
        }
    }

    fn begin(&mut self, sequence_number: u16) -> i64 {
        // The packets of a source that ended are out already, so that none is lost before.
        self.gap |= self.started;
        if std::mem::replace(&mut self.started, true) {
            return self.reception.restart(sequence_number);
        }
        match self.reception.on_sequence(sequence_number) {
            Verdict::New(sequence) => sequence,
            Verdict::Duplicate | Verdict::Stray => self.reception.restart(sequence_number),
        }
    }

    /// A packet of another source, or far from all others. Two that follow each other are a new
    /// start (RFC 3550 A.1); one alone may be anybody's.
    fn on_stray(&mut self, now: Instant, header: Header, payload: Bytes) {
        let follows = |(first, _): &mut (Header, Bytes)| {
            first.ssrc == header.ssrc
                && first.sequence_number.wrapping_add(1) == header.sequence_number
        };
        let Some((first, first_payload)) = self.candidate.take_if(follows) else {
            self.candidate = Some((header, payload));
            return;
        };
        self.give_out_waiting();
        if self.ssrc != Some(header.ssrc) {
            self.start(header);
        }
        let sequence = self.begin(first.sequence_number);
        self.take(now, sequence, first, first_payload);
        if let Verdict::New(sequence) = self.reception.on_sequence(header.sequence_number) {
            self.take(now, sequence, header, payload);
        }
    }

    fn take(&mut self, now: Instant, sequence: i64, header: Header, payload: Bytes) {
        let timestamp = self.clock.unwrap(header.timestamp);
        let elapsed = now.saturating_duration_since(self.epoch).as_nanos();
        let arrival = elapsed * u128::from(self.clock.rate()) / 1_000_000_000;
        self.reception.on_transit(i64::try_from(arrival).unwrap_or(i64::MAX), timestamp);
        let packet = Packet { timestamp, marker: header.marker, gap: false, payload };
        match self.reorder.push(now, sequence, packet) {
            Place::Due(packet) => self.give_out(false, packet),
            Place::Kept => {}
            Place::Late => self.late += 1,
        }
        self.give_up(now);
    }

    fn give_out(&mut self, gap: bool, mut packet: Packet) {
        self.gap |= gap;
        // Packets without a payload keep a path open and do no more.
        if !packet.payload.is_empty() {
            packet.gap = std::mem::take(&mut self.gap);
            self.ready.push(packet);
        }
    }

    /// Gives out what is in order, or waited long enough.
    pub(super) fn give_up(&mut self, now: Instant) {
        while let Some((gap, packet)) = self.reorder.pop(now) {
            self.give_out(gap, packet);
        }
    }

    fn give_out_waiting(&mut self) {
        let waiting: Vec<Packet> = self.reorder.restart().collect();
        for packet in waiting {
            self.give_out(true, packet);
        }
    }

    /// The source said that it ends, if it is this one or any; what waits is given out.
    pub(super) fn on_goodbye(&mut self, sources: &[u32]) -> bool {
        let ends = self.ssrc.is_some_and(|ssrc| sources.contains(&ssrc));
        if ends {
            self.give_out_waiting();
            self.ssrc = None;
            self.report = None;
        }
        ends
    }

    /// Takes a sender report; `false` when it is of another source or says no time.
    pub(super) fn on_report(
        &mut self,
        now: Instant,
        ssrc: u32,
        ntp: NtpTime,
        timestamp: u32,
    ) -> bool {
        if self.ssrc.is_some_and(|known| known != ssrc) || ntp == NtpTime::default() {
            return false;
        }
        if self.ssrc.is_none() && self.report.is_some_and(|report| report.ssrc != ssrc) {
            self.clock.restart();
        }
        let ticks = self.clock.nearest(timestamp);
        self.report = Some(LastReport { ssrc, arrival: now, ntp, ticks });
        true
    }

    /// When packets that wait are given out.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reorder.deadline()
    }

    /// What a receiver report says of this source; `None` before its first packet.
    pub(super) fn reception_report(&mut self, now: Instant) -> Option<ReceptionReport> {
        let ssrc = self.ssrc?;
        let (fraction_lost, total_lost) = self.reception.report_loss();
        let (last_sender_report, delay) = self.report.map_or((0, 0), |report| {
            let since = now.saturating_duration_since(report.arrival);
            // In units of 1/65,536 s.
            let delay = (since.as_nanos() << 16) / 1_000_000_000;
            (report.ntp.middle(), u32::try_from(delay).unwrap_or(u32::MAX))
        });
        Some(ReceptionReport {
            ssrc,
            fraction_lost,
            total_lost,
            last_sequence_number: self.reception.extended_highest(),
            jitter: self.reception.jitter(),
            last_sender_report,
            delay,
        })
    }

    pub(super) fn statistics(&self) -> Statistics {
        let depacketizer = self.depacketizer.as_ref();
        Statistics {
            received: self.reception.received,
            lost: self.reception.lost(),
            given_up: self.reorder.given_up,
            reordered: self.reception.reordered,
            duplicates: self.reception.duplicates,
            late: self.late,
            jitter_ticks: self.reception.jitter(),
            discarded_frames: depacketizer.map_or(0, Depacketizer::discarded),
            malformed_payloads: depacketizer.map_or(0, Depacketizer::malformed),
            wrong_payload_type: self.wrong_payload_type,
            moved_frames: 0,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let waiting = self.reorder.waiting().chain(&self.ready).map(|packet| packet.payload.len());
        let candidate = self.candidate.as_ref().map_or(0, |(_, payload)| payload.len());
        let depacketizer = self.depacketizer.as_ref().map_or(0, Depacketizer::memory_bytes);
        waiting.sum::<usize>() + candidate + depacketizer
    }
}
