//! The packets of one stream, made once and shared by all its viewers.
//!
//! What is written is in interleaved framing (RFC 2326 10.12); who sends datagrams skips the four
//! framing bytes of each packet. A sender report goes in front of the first frame of a track, of
//! keyframes and of the sound that follows one, so that whoever starts there can line the tracks up
//! at once.

use bytes::Bytes;
use rtcp::sender_report::SenderReport;

use super::format::PayloadFormat;
use super::interleaved;
use super::packets::{PacketWriter, Source};
use super::payload::{aac, av1, g711, mp3, nal_pictures, opus, vp8, vp9};
use super::rtcp::write_sender_report;
use super::{NtpTime, Random};
use crate::codec;
use crate::media::{AudioInfo, Codec, Frame, FrameKind, Timestamp, Track, Tracks, VideoInfo};

/// Sizes of RTP packets that work: below there is no room for payload headers, above the framing
/// ends.
const PACKET_BYTES: std::ops::RangeInclusive<usize> = 128..=65_535;
/// Nanoseconds of stream time between two reports of a track: usually at most, and with keyframes at
/// least.
const REPORT_NANOS: i64 = 5_000_000_000;
const KEYFRAME_REPORT_NANOS: i64 = 1_000_000_000;

/// Channels of the interleaved framing: of the RTP packets of each track, RTCP has the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channels {
    /// Of video.
    pub video: u8,
    /// Of audio.
    pub audio: u8,
}

/// How the track there is now travels.
#[derive(Debug)]
struct Carried {
    format: PayloadFormat,
    /// Parameter sets that go in front of keyframes.
    sets: Vec<Bytes>,
    /// Bytes of the length in front of a NAL unit.
    length_size: u8,
}

impl Carried {
    fn video(track: &Track<VideoInfo>) -> Option<Self> {
        let format = PayloadFormat::of_video(track)?;
        let length_size = match track.codec {
            Codec::H264 => codec::h264::parse_config(&track.config).ok()?.length_size,
            Codec::H265 => codec::h265::parse_config(&track.config).ok()?.length_size,
            _ => 4,
        };
        let sets = match track.codec {
            Codec::H264 => {
                let sets = codec::h264::parameter_sets(&track.config).ok()?;
                [sets.sps, sets.pps].concat()
            }
            Codec::H265 => codec::h265::parameter_sets(&track.config).ok()?,
            _ => Vec::new(),
        };
        let sets = sets.into_iter().map(Bytes::copy_from_slice).collect();
        Some(Self { format, sets, length_size })
    }

    fn audio(track: &Track<AudioInfo>) -> Option<Self> {
        let format = PayloadFormat::of_audio(track)?;
        Some(Self { format, sets: Vec::new(), length_size: 4 })
    }
}

/// One track of a sender.
#[derive(Debug)]
struct Outgoing {
    source: Source,
    carried: Option<Carried>,
    /// The timestamp of stream time zero.
    timestamp_at_zero: u32,
    /// Of the frame written last.
    timestamp: u32,
    reported: Option<Timestamp>,
    report_due: bool,
}

impl Outgoing {
    fn new(random: &mut Random, channel: u8) -> Self {
        let timestamp_at_zero = random.next() as u32;
        let source = Source {
            ssrc: random.next() as u32,
            sequence_number: random.next() as u16,
            payload_type: 0,
            channel,
            packets: 0,
            payload_bytes: 0,
        };
        Self {
            source,
            carried: None,
            timestamp_at_zero,
            timestamp: timestamp_at_zero,
            reported: None,
            report_due: true,
        }
    }

    fn carry(&mut self, carried: Option<Carried>) {
        if let Some(carried) = &carried {
            self.source.payload_type = carried.format.payload_type;
        }
        self.carried = carried;
    }

    fn report_is_due(&self, frame: &Frame) -> bool {
        let since =
            self.reported.map_or(i64::MAX, |before| (frame.pts() - before).saturating_abs());
        let keyframe = frame.kind == FrameKind::Keyframe && since >= KEYFRAME_REPORT_NANOS;
        self.report_due || keyframe || since >= REPORT_NANOS
    }
}

/// Writes the packets of one stream.
#[derive(Debug)]
pub struct Sender {
    ntp_at_zero: NtpTime,
    name: String,
    packet_bytes: usize,
    video: Outgoing,
    audio: Outgoing,
    /// A report before it is framed.
    report: Vec<u8>,
}

impl Sender {
    /// A sender of these tracks. `ntp_at_zero` is the wall-clock time of stream time zero, by which
    /// reports place both tracks on one clock; `mtu` the largest RTP packet in bytes, header
    /// included, framing not.
    pub fn new(
        seed: u64,
        ntp_at_zero: NtpTime,
        tracks: &Tracks,
        channels: Channels,
        mtu: usize,
    ) -> Self {
        let mut random = Random(seed);
        let name = format!("{:016x}", random.next());
        let video = Outgoing::new(&mut random, channels.video);
        let audio = Outgoing::new(&mut random, channels.audio);
        let packet_bytes = mtu.clamp(*PACKET_BYTES.start(), *PACKET_BYTES.end());
        let mut sender = Self { ntp_at_zero, name, packet_bytes, video, audio, report: Vec::new() };
        sender.set_tracks(tracks);
        sender
    }

    /// The tracks from the next frame on; sources and sequence numbers stay. False when who was
    /// told how they travel must be told anew: parameter sets of pictures come in band, what else
    /// a description says does not.
    pub fn set_tracks(&mut self, tracks: &Tracks) -> bool {
        let told = self.described();
        self.video.carry(tracks.video.as_ref().and_then(Carried::video));
        self.audio.carry(tracks.audio.as_ref().and_then(Carried::audio));
        told == self.described()
    }

    /// How the tracks travel, but for the parameters of pictures.
    fn described(&self) -> [Option<PayloadFormat>; 2] {
        let format =
            |track: &Outgoing| track.carried.as_ref().map(|carried| carried.format.clone());
        let video =
            format(&self.video).map(|video| PayloadFormat { parameters: Vec::new(), ..video });
        [video, format(&self.audio)]
    }

    /// How each track that is carried travels, video first.
    pub fn formats(&self) -> impl Iterator<Item = &PayloadFormat> {
        let tracks = [&self.video, &self.audio].into_iter();
        tracks.filter_map(|track| track.carried.as_ref()).map(|carried| &carried.format)
    }

    /// The synchronization source of a track.
    pub fn ssrc(&self, video: bool) -> u32 {
        if video { self.video.source.ssrc } else { self.audio.source.ssrc }
    }

    /// For `RTP-Info` (RFC 2326 12.33): the sequence number of the next packet, and the timestamp of
    /// the frame written last.
    pub fn next(&self, video: bool) -> (u16, u32) {
        let track = if video { &self.video } else { &self.audio };
        (track.source.sequence_number, track.timestamp)
    }

    /// The timestamp a track gives to a time of the stream; `None` when it is not carried.
    pub fn timestamp_at(&self, video: bool, time: Timestamp) -> Option<u32> {
        let track = if video { &self.video } else { &self.audio };
        let carried = track.carried.as_ref()?;
        // Truncated to 32 bits, as the wire wraps.
        let ticks = time.to_ticks(carried.format.clock_rate) as u32;
        Some(track.timestamp_at_zero.wrapping_add(ticks))
    }

    /// Appends the packets of a frame to `out`, each in its framing, behind a sender report if one
    /// is due. `false` when the frame is of a track that is not carried, or is larger than its
    /// format can say; nothing is written then.
    pub fn write_frame(&mut self, frame: &Frame, out: &mut Vec<u8>) -> bool {
        let track = match frame.kind {
            FrameKind::Keyframe | FrameKind::Inter | FrameKind::Disposable => &mut self.video,
            FrameKind::Audio => &mut self.audio,
            FrameKind::Data => return false,
        };
        let Some(Carried { format, .. }) = &track.carried else { return false };
        let begin = out.len();
        let before = track.source;
        // Truncated to 32 bits, as the wire wraps.
        let ticks = frame.pts().to_ticks(format.clock_rate) as u32;
        let timestamp = track.timestamp_at_zero.wrapping_add(ticks);
        let due = track.report_is_due(frame);
        if due {
            let ntp = self.ntp_at_zero.offset_nanos(frame.pts().nanos());
            write_report(track.source, ntp, timestamp, &self.name, &mut self.report, out);
        }
        if !write_payloads(track, frame, timestamp, self.packet_bytes, out) {
            out.truncate(begin);
            track.source = before;
            return false;
        }
        track.timestamp = timestamp;
        if due {
            track.reported = Some(frame.pts());
            track.report_due = false;
            if frame.kind == FrameKind::Keyframe {
                self.audio.report_due = true;
            }
        }
        true
    }
}

/// A sender report in its framing.
fn write_report(
    source: Source,
    ntp: NtpTime,
    timestamp: u32,
    name: &str,
    report: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    let said = SenderReport {
        ssrc: source.ssrc,
        ntp_time: ntp.bits(),
        rtp_time: timestamp,
        packet_count: source.packets,
        octet_count: source.payload_bytes,
        ..SenderReport::default()
    };
    report.clear();
    write_sender_report(&said, name, report);
    // A report of one source and a short name is far below 64 KiB.
    interleaved::write(source.channel.wrapping_add(1), report, out);
}

/// The RTP packets of a frame; `false` when there is none, or the frame is too large.
fn write_payloads(
    track: &mut Outgoing,
    frame: &Frame,
    timestamp: u32,
    packet_bytes: usize,
    out: &mut Vec<u8>,
) -> bool {
    let Some(Carried { format, sets, length_size }) = &track.carried else { return false };
    let (payload, kind, codec) = (&frame.payload[..], frame.kind, format.codec);
    if codec == Codec::Aac && payload.len() > aac::ACCESS_UNIT_BYTES_MAX {
        return false;
    }
    let mut writer = PacketWriter::new(&mut track.source, out, timestamp, packet_bytes);
    let sets = if kind == FrameKind::Keyframe { &sets[..] } else { &[] };
    match codec {
        Codec::H264 | Codec::H265 => {
            nal_pictures::write(codec, payload, *length_size, sets, &mut writer);
        }
        Codec::Av1 => av1::write(payload, kind == FrameKind::Keyframe, &mut writer),
        Codec::Vp8 => vp8::write(payload, kind, &mut writer),
        Codec::Vp9 => vp9::write(payload, kind, &mut writer),
        Codec::Aac => aac::write(payload, &mut writer),
        Codec::Opus => opus::write(payload, &mut writer),
        Codec::G711A | Codec::G711U => g711::write(payload, format.channels, &mut writer),
        Codec::Mp3 => mp3::write(payload, &mut writer),
        _ => {}
    }
    // Of the other formats the marker would say that silence was before (RFC 3551 4.1).
    let marker = kind.is_video() || codec == Codec::Aac;
    writer.finish(marker)
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;
    use crate::rtp::interleaved::packets;

    const CHANNELS: Channels = Channels { video: 4, audio: 6 };

    fn tracks() -> Tracks {
        let config = Bytes::from_static(&[0x12, 0x10]);
        let info = AudioInfo { sample_rate: 44_100, channels: 2, sample_bits: 16 };
        let audio = Some(Track { codec: Codec::Aac, config, info });
        let video = Track { codec: Codec::Vp8, config: Bytes::new(), info: VideoInfo::default() };
        Tracks { video: Some(video), audio, ..Tracks::default() }
    }

    fn frame(kind: FrameKind, ms: i64) -> Frame {
        let dts = Timestamp::from_millis(ms);
        Frame { kind, dts, composition_offset: 0, payload: Bytes::from_static(&[7; 300]) }
    }

    /// Channels of the packets of a frame.
    fn channels(sender: &mut Sender, kind: FrameKind, ms: i64) -> Vec<u8> {
        let mut out = Vec::new();
        sender.write_frame(&frame(kind, ms), &mut out);
        packets(&out).map(|(channel, _)| channel).collect()
    }

    #[test]
    fn reports_stand_where_one_may_start() {
        let mut sender = Sender::new(1, NtpTime::default(), &tracks(), CHANNELS, 1400);
        use FrameKind::{Audio, Inter, Keyframe};
        let expected: [(FrameKind, RangeInclusive<i64>, &[u8]); 10] = [
            (Keyframe, 0..=0, &[5, 4]),
            (Audio, 10..=10, &[7, 6]),
            (Audio, 30..=30, &[6]),
            (Inter, 40..=40, &[4]),
            // A second after the first report, not before.
            (Keyframe, 960..=960, &[4]),
            (Keyframe, 1000..=1000, &[5, 4]),
            (Audio, 1010..=1010, &[7, 6]),
            (Inter, 5960..=5960, &[4]),
            (Inter, 6000..=6000, &[5, 4]),
            (Audio, 6010..=6010, &[7, 6]),
        ];
        for (kind, ms, found) in expected {
            assert_eq!(channels(&mut sender, kind, *ms.start()), found, "{ms:?}");
        }
    }

    #[test]
    fn reports_place_both_tracks_on_one_clock() {
        let zero = NtpTime::from_bits(0x1234_0000_0000_0000);
        let mut sender = Sender::new(9, zero, &tracks(), CHANNELS, 1400);
        let mut at_zero = [0u32; 2];
        for (kind, ms, rate) in
            [(FrameKind::Keyframe, 2000, 90_000), (FrameKind::Audio, 3000, 44_100)]
        {
            let mut out = Vec::new();
            assert!(sender.write_frame(&frame(kind, ms), &mut out));
            let (_, report) = packets(&out).next().unwrap();
            let word = |at: usize| u32::from_be_bytes(report[at..at + 4].try_into().unwrap());
            let video = kind.is_video();
            assert_eq!((word(4), word(8)), (sender.ssrc(video), 0x1234_0000 + (ms / 1000) as u32));
            assert_eq!((word(16), word(20), word(24)), (sender.next(video).1, 0, 0));
            at_zero[usize::from(video)] = word(16).wrapping_sub((ms / 1000 * rate) as u32);
        }
        assert_eq!(at_zero, [sender.audio.timestamp_at_zero, sender.video.timestamp_at_zero]);
        // The next reports count what was sent: one packet with a descriptor, one with AU headers.
        for (kind, bytes) in [(FrameKind::Keyframe, 301), (FrameKind::Audio, 304)] {
            let mut out = Vec::new();
            assert!(sender.write_frame(&frame(kind, 9000), &mut out));
            let (_, report) = packets(&out).next().unwrap();
            assert_eq!(report[20..28], [[0, 0, 0, 1], u32::to_be_bytes(bytes)].concat());
        }
    }

    #[test]
    fn tracks_change_and_the_source_goes_on() {
        let mut sender = Sender::new(1, NtpTime::default(), &tracks(), CHANNELS, 1400);
        let begin = sender.next(false);
        assert_eq!(channels(&mut sender, FrameKind::Audio, 0).len(), 2);
        let info = AudioInfo { sample_rate: 8000, channels: 1, sample_bits: 16 };
        let speex = Track { codec: Codec::Speex, config: Bytes::new(), info };
        sender.set_tracks(&Tracks { audio: Some(speex.clone()), ..Tracks::default() });
        assert_eq!(sender.formats().count(), 0);
        assert!(channels(&mut sender, FrameKind::Audio, 20).is_empty());
        assert!(channels(&mut sender, FrameKind::Keyframe, 20).is_empty());
        let pcm = Track { codec: Codec::G711A, ..speex };
        sender.set_tracks(&Tracks { audio: Some(pcm), ..Tracks::default() });
        let mut out = Vec::new();
        assert!(sender.write_frame(&frame(FrameKind::Audio, 40), &mut out));
        let (channel, packet) = packets(&out).next().unwrap();
        assert_eq!((channel, packet[1] & 0x7f), (6, 8));
        assert_eq!(sender.next(false).0, begin.0.wrapping_add(2));
        assert!(!sender.write_frame(&frame(FrameKind::Data, 40), &mut out));
    }
}
