//! Media of a publisher or of a pulled stream: which packet belongs to which track, and what comes
//! of it.

use std::time::Instant;

use bytes::Bytes;

use crate::rtp::interleaved;
use crate::rtp::{PayloadFormat, Receiver, ReceiverEvent, ReceiverLimits, Statistics};
use crate::session::{Event, Output, OutputQueue};

use super::transport::Delivery;

/// One track that was set up.
#[derive(Debug, Clone)]
pub(super) struct IngestTrack {
    /// Number of the track between session and engine.
    pub(super) track: u8,
    /// What it holds.
    pub(super) format: PayloadFormat,
    /// How it travels.
    pub(super) delivery: Delivery,
}

/// Receives the tracks of one stream.
#[derive(Debug)]
pub(super) struct Ingest {
    receiver: Receiver,
    /// Tracks the receiver knows, in its order.
    tracks: Vec<IngestTrack>,
    /// Source of each, once a datagram of it has come.
    sources: Vec<Option<u32>>,
}

impl Ingest {
    pub(super) fn new(
        now: Instant,
        seed: u64,
        limits: ReceiverLimits,
        tracks: impl IntoIterator<Item = IngestTrack>,
    ) -> Self {
        let tracks: Vec<_> = tracks.into_iter().collect();
        let formats = tracks.iter().map(|track| track.format.clone()).collect();
        let sources = vec![None; tracks.len()];
        Self { receiver: Receiver::new(now, seed, limits, formats), tracks, sources }
    }

    /// One interleaved packet; packets of channels nobody set up are dropped. True: it was one of
    /// RTP.
    pub(super) fn handle_interleaved(
        &mut self,
        now: Instant,
        channel: u8,
        data: Bytes,
        outputs: &mut OutputQueue,
    ) -> bool {
        let found =
            self.tracks.iter().enumerate().find_map(|(index, track)| match track.delivery {
                Delivery::Interleaved(Some((rtp, _))) if rtp == channel => Some((index, false)),
                Delivery::Interleaved(Some((_, rtcp))) if rtcp == channel => Some((index, true)),
                _ => None,
            });
        let Some((index, rtcp)) = found else {
            tracing::trace!(channel, "packet of an unknown channel dropped");
            return false;
        };
        self.handle(now, index, rtcp, data, outputs);
        !rtcp
    }

    /// One datagram, as [`Ingest::handle_interleaved`].
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        track: u8,
        rtcp: bool,
        data: Bytes,
        outputs: &mut OutputQueue,
    ) -> bool {
        let found = self.tracks.iter().position(|known| {
            known.track == track && matches!(known.delivery, Delivery::Datagram { .. })
        });
        let Some(index) = found else {
            tracing::trace!(track, "datagram of an unknown track dropped");
            return false;
        };
        let index = self.track_of(index, rtcp, &data);
        self.handle(now, index, rtcp, data, outputs);
        !rtcp
    }

    /// The track of a datagram from the address of `index`. A server may send all its tracks from
    /// one port to one port: the payload type tells them apart then, and of reports the source.
    fn track_of(&mut self, index: usize, rtcp: bool, data: &[u8]) -> usize {
        let number = |at: usize| data.get(at..)?.first_chunk().map(|it| u32::from_be_bytes(*it));
        if rtcp {
            let by_source = |source| self.sources.iter().position(|known| *known == Some(source));
            return number(4).and_then(by_source).unwrap_or(index);
        }
        let Some(payload_type) = data.get(1).map(|byte| byte & 0x7f) else { return index };
        let is_its_own = |track: &IngestTrack| {
            matches!(track.delivery, Delivery::Datagram { .. })
                && track.format.payload_type == payload_type
        };
        let index = match self.tracks.get(index).is_some_and(is_its_own) {
            true => index,
            false => self.tracks.iter().position(is_its_own).unwrap_or(index),
        };
        if let Some(source) = self.sources.get_mut(index) {
            *source = number(8);
        }
        index
    }

    fn handle(
        &mut self,
        now: Instant,
        index: usize,
        rtcp: bool,
        data: Bytes,
        outputs: &mut OutputQueue,
    ) {
        let result = if rtcp {
            self.receiver.handle_rtcp(now, index, &data)
        } else {
            self.receiver.handle_rtp(now, index, data)
        };
        if let Err(error) = result {
            tracing::trace!(index, rtcp, %error, "packet dropped");
        }
        self.drain(outputs);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, outputs: &mut OutputQueue) {
        self.receiver.handle_timeout(now);
        self.drain(outputs);
    }

    /// The media are over: gives out what waits for more.
    pub(super) fn finish(&mut self, now: Instant, outputs: &mut OutputQueue) {
        self.receiver.finish(now);
        self.drain(outputs);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.receiver.poll_timeout()
    }

    fn drain(&mut self, outputs: &mut OutputQueue) {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Tracks(tracks) => outputs.event(Event::Tracks(tracks)),
                ReceiverEvent::Frame(frame) => outputs.event(Event::Frame(frame)),
                // The session ends with TEARDOWN or the connection.
                ReceiverEvent::Ended(track) => tracing::debug!(track, "track said goodbye"),
            }
        }
        while let Some((index, data)) = self.receiver.poll_rtcp() {
            let Some(track) = self.tracks.get(index) else { continue };
            match track.delivery {
                Delivery::Interleaved(Some((_, channel))) => {
                    if !interleaved::write(channel, &data, outputs.bytes()) {
                        tracing::debug!(bytes = data.len(), "report too long for a frame");
                    }
                }
                Delivery::Datagram { .. } => {
                    outputs.push(Output::Datagram { track: track.track, rtcp: true, data });
                }
                Delivery::Interleaved(None) | Delivery::Multicast { .. } => {}
            }
        }
    }

    /// What has become of the packets so far.
    pub(super) fn statistics(&self) -> Statistics {
        self.receiver.total()
    }

    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.receiver.memory_bytes() + self.tracks.capacity() * size_of::<IngestTrack>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_from_one_port_are_told_apart() {
        let track = |track, payload_type| IngestTrack {
            track,
            format: PayloadFormat::from_static(payload_type).unwrap(),
            delivery: Delivery::Datagram { client: (2, 3), server: Some((4, 5)) },
        };
        let limits = ReceiverLimits::default();
        let now = crate::fuzzing::virtual_epoch();
        let mut ingest = Ingest::new(now, 1, limits, [track(0, 8), track(1, 0)]);
        let rtp =
            |payload_type: u8, source: u8| [128, payload_type, 0, 1, 0, 0, 0, 2, 0, 0, 0, source];
        let report = |source: u8| [128, 200, 0, 6, 0, 0, 0, source];
        assert_eq!(ingest.track_of(1, true, &report(7)), 1, "nothing is known yet");
        assert_eq!(ingest.track_of(1, false, &rtp(8 | 128, 7)), 0);
        assert_eq!(ingest.track_of(1, false, &rtp(0, 9)), 1);
        assert_eq!(ingest.track_of(1, false, &rtp(96, 9)), 1, "of no track at all");
        assert_eq!(
            (ingest.track_of(1, true, &report(7)), ingest.track_of(0, true, &report(9))),
            (0, 1)
        );
        assert_eq!(ingest.track_of(0, false, &[]), 0);
        assert_eq!(ingest.track_of(0, true, &[1, 2]), 0);
    }
}
