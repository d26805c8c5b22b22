//! Tests of sender and receiver together, and of the receiver against packets of another sender.
//!
//! `testdata/*.rtp` are datagrams that ffmpeg 5.1 (H.264, VP8, VP9) and 9.0 (H.265, AV1) sent with
//! `-re -i FILE -map 0:v -c copy -f rtp URL -map 0:a -c copy -f rtp URL`, each behind a byte (twice
//! the track, plus 1 for RTCP), the arrival in milliseconds (32 bits) and the length (16 bits);
//! `*.sdp` is the description it wrote, `*.packets` what ffprobe says of FILE. `gst_*` is GStreamer
//! 1.22 through `rtpbin`: parameter sets in band only (`rtph264pay config-interval=-1
//! aggregate-mode=zero-latency`), `rtpmp4apay` with packets of 100 bytes, a BYE at the end.

mod lossy;
mod round_trip;
mod timing;
mod vectors;

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::interleaved::packets;
use super::{Channels, NtpTime, PayloadFormat, Receiver, ReceiverEvent, ReceiverLimits, Sender};
use crate::bits::ByteReader;
use crate::fuzzing::virtual_epoch;
use crate::media::{Frame, Tracks};

const LIMITS: ReceiverLimits = ReceiverLimits {
    reorder_packets: 64,
    reorder_time: Duration::from_millis(200),
    frame_bytes: 1 << 20,
};
const CHANNELS: Channels = Channels { video: 0, audio: 2 };

/// What another sender sent.
pub(super) struct Capture {
    pub(super) sdp: &'static str,
    datagrams: &'static [u8],
    packets: &'static str,
    /// Frames of sound that the sender still held back when it ended.
    unsent: usize,
    /// Bytes of delimiters and, in keyframes, parameter sets that the container keeps in pictures.
    in_band: (usize, usize),
    /// Frames of sound at the end that a late sender report moves.
    moved: usize,
}

macro_rules! capture {
    ($name:literal, $unsent:literal, $in_band:expr, $moved:literal) => {
        Capture {
            sdp: include_str!(concat!("../testdata/", $name, ".sdp")),
            datagrams: include_bytes!(concat!("../testdata/", $name, ".rtp")),
            packets: include_str!(concat!("../testdata/", $name, ".packets")),
            unsent: $unsent,
            in_band: $in_band,
            moved: $moved,
        }
    };
}

pub(super) const CAPTURES: [Capture; 6] = [
    capture!("h264_aac", 4, (0, 0), 0),
    capture!("h265_opus", 0, (0, 0), 0),
    capture!("vp8_mp3", 4, (0, 0), 0),
    capture!("vp9_pcma", 0, (0, 0), 0),
    capture!("av1_latm", 0, (0, 0), 0),
    capture!("gst_h264_aac", 0, (6, 41), 2),
];

impl Capture {
    /// The formats of the description: `m=`, `rtpmap` and `fmtp` lines as ffmpeg writes them.
    fn formats(&self) -> Vec<PayloadFormat> {
        let read = |media: &str| {
            let payload_type = media.lines().next()?.split_whitespace().nth(3)?.parse().ok()?;
            let value = |name: &str| {
                let line = media.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_once(' ').map(|(_, value)| value)
            };
            let Some(map) = value("a=rtpmap:") else {
                return PayloadFormat::from_static(payload_type);
            };
            let mut parts = map.split('/');
            let (name, rate) = (parts.next()?, parts.next()?.parse().ok()?);
            let channels = parts.next().map_or(0, |channels| channels.parse().unwrap());
            let fmtp = value("a=fmtp:").unwrap_or("");
            Some(PayloadFormat::from_sdp(payload_type, name, rate, channels, fmtp).unwrap())
        };
        self.sdp.split("m=").skip(1).map(|media| read(media).unwrap()).collect()
    }

    /// Channel, arrival and bytes of each datagram.
    pub(super) fn datagrams(&self) -> Vec<(u8, Duration, Bytes)> {
        let mut reader = ByteReader::new(self.datagrams);
        let mut next = || {
            let (channel, ms, length) = (reader.u8()?, reader.u32()?, reader.u16()?);
            let bytes = Bytes::copy_from_slice(reader.bytes(length.into())?);
            Some((channel, Duration::from_millis(ms.into()), bytes))
        };
        std::iter::from_fn(&mut next).collect()
    }

    /// What a receiver makes of it.
    pub(super) fn received(&self) -> Received {
        let epoch = virtual_epoch();
        let mut receiver = Receiver::new(epoch, 1, LIMITS, self.formats());
        let mut end = epoch;
        for (channel, arrival, datagram) in self.datagrams() {
            end = epoch + arrival;
            deliver(&mut receiver, end, channel, &datagram);
        }
        receiver.finish(end);
        let mut received = Received::default();
        received.take(&mut receiver);
        received.receiver = Some(receiver);
        received
    }
}

/// Passes a packet of a channel to its track.
fn deliver(receiver: &mut Receiver, now: Instant, channel: u8, packet: &[u8]) {
    let track = usize::from(channel / 2);
    if channel.is_multiple_of(2) {
        receiver.handle_rtp(now, track, Bytes::copy_from_slice(packet)).unwrap();
    } else {
        receiver.handle_rtcp(now, track, packet).unwrap();
    }
}

/// What came out of a receiver.
#[derive(Default)]
pub(super) struct Received {
    pub(super) tracks: Vec<Tracks>,
    pub(super) frames: Vec<Frame>,
    ended: Vec<usize>,
    receiver: Option<Receiver>,
}

impl Received {
    fn take(&mut self, receiver: &mut Receiver) {
        while let Some(event) = receiver.poll_event() {
            match event {
                ReceiverEvent::Tracks(tracks) => self.tracks.push((*tracks).clone()),
                ReceiverEvent::Frame(frame) => self.frames.push(frame),
                ReceiverEvent::Ended(track) => self.ended.push(track),
            }
        }
    }

    fn of(&self, video: bool) -> Vec<Frame> {
        self.frames.iter().filter(|frame| frame.kind.is_video() == video).cloned().collect()
    }
}

/// A sender and a receiver of what it sends; without video where its tracks have none.
fn pair(tracks: &Tracks, seed: u64, mtu: usize) -> (Sender, Receiver) {
    let sender = Sender::new(seed, NtpTime::from_bits(seed << 32 | 1), tracks, CHANNELS, mtu);
    let described = |format: &PayloadFormat| {
        let (name, rate) = (format.encoding_name(), format.clock_rate);
        let (channels, fmtp) = (format.channels, format.fmtp());
        PayloadFormat::from_sdp(format.payload_type, name, rate, channels, &fmtp).unwrap()
    };
    let formats = sender.formats().map(described).collect();
    let receiver = Receiver::new(virtual_epoch(), seed, LIMITS, formats);
    (sender, receiver)
}

/// The packets of a frame, with their channels.
fn packets_of(sender: &mut Sender, frame: &Frame) -> Vec<(u8, Bytes)> {
    let mut out = Vec::new();
    assert!(sender.write_frame(frame, &mut out));
    packets(&out).map(|(channel, packet)| (channel, Bytes::copy_from_slice(packet))).collect()
}
