//! Fuzz bodies of RTP and RTCP.

use std::time::Duration;

use bytes::Bytes;

use super::header::Header;
use super::interleaved::packets;
use super::rtcp;
use super::{Channels, NtpTime, PayloadFormat, Receiver, ReceiverEvent, ReceiverLimits, Sender};
use crate::fuzzing::{Target, virtual_epoch};

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("rtp_h264", rtp_h264),
    ("rtp_h265", rtp_h265),
    ("rtp_av1", rtp_av1),
    ("rtp_vp8", rtp_vp8),
    ("rtp_vp9", rtp_vp9),
    ("rtp_aac", rtp_aac),
    ("rtp_latm", rtp_latm),
    ("rtp_sound", rtp_sound),
    ("rtp_packets", rtp_packets),
    ("rtp_rtcp", rtp_rtcp),
    ("rtp_format", rtp_format),
];

const LIMITS: ReceiverLimits = ReceiverLimits {
    reorder_packets: 8,
    reorder_time: Duration::from_millis(50),
    frame_bytes: 1 << 14,
};

fn format(encoding: &str, clock_rate: u32, fmtp: &str) -> Option<PayloadFormat> {
    PayloadFormat::from_sdp(96, encoding, clock_rate, 2, fmtp).ok()
}

/// Access units of H.264.
pub fn rtp_h264(data: &[u8]) {
    payloads(format("H264", 90_000, ""), data);
}

/// Access units of H.265.
pub fn rtp_h265(data: &[u8]) {
    payloads(format("H265", 90_000, ""), data);
}

/// Temporal units of AV1.
pub fn rtp_av1(data: &[u8]) {
    payloads(format("AV1", 90_000, ""), data);
}

/// Frames of VP8.
pub fn rtp_vp8(data: &[u8]) {
    payloads(format("VP8", 90_000, ""), data);
}

/// Frames of VP9.
pub fn rtp_vp9(data: &[u8]) {
    payloads(format("VP9", 90_000, ""), data);
}

/// AAC in both modes.
pub fn rtp_aac(data: &[u8]) {
    for fields in ["13;indexlength=3;indexdeltalength=3", "6;indexlength=2;indexdeltalength=2"] {
        let fmtp = format!("config=1190;sizelength={fields}");
        payloads(format("mpeg4-generic", 48_000, &fmtp), data);
    }
}

/// LATM with its configuration in either place.
pub fn rtp_latm(data: &[u8]) {
    payloads(format("MP4A-LATM", 48_000, "cpresent=0;config=400023103fc0"), data);
    payloads(format("MP4A-LATM", 48_000, ""), data);
}

/// The other sound.
pub fn rtp_sound(data: &[u8]) {
    payloads(format("opus", 48_000, ""), data);
    payloads(format("MPA", 90_000, ""), data);
    payloads(format("PCMA", 8000, ""), data);
}

/// The data is cut into payloads by its own bytes: a byte of length, one of marker, step of the time
/// and of the sequence number.
fn payloads(format: Option<PayloadFormat>, data: &[u8]) {
    let Some(format) = format else { return };
    let mut receiver = Receiver::new(virtual_epoch(), 1, LIMITS, vec![format]);
    let mut now = virtual_epoch();
    let (mut sequence_number, mut timestamp) = (65_530u16, 0u32);
    let mut rest = data;
    while let Some(([length, steps], behind)) = rest.split_first_chunk() {
        let (payload, behind) = behind.split_at((usize::from(*length)).min(behind.len()));
        rest = behind;
        let lost = u16::from(steps & 0x70 == 0x70);
        sequence_number = sequence_number.wrapping_add(1 + lost);
        timestamp = timestamp.wrapping_add(u32::from(steps >> 1 & 3) * 3000);
        let marker = steps & 1 != 0;
        let header = Header { marker, payload_type: 96, sequence_number, timestamp, ssrc: 1 };
        let packet = Bytes::from([&header.to_bytes()[..], payload].concat());
        let _ = receiver.handle_rtp(now, 0, packet);
        now += Duration::from_millis(u64::from(*length));
        receiver.handle_timeout(now);
    }
    receiver.finish(now);
    send(&mut receiver);
}

/// What a receiver lets through must be sendable, and no packet may exceed the size asked for.
fn send(receiver: &mut Receiver) {
    debug_assert!(receiver.memory_bytes() < 1 << 24);
    let (mut sender, mut out) = (None, Vec::new());
    let mut last = None;
    while let Some(event) = receiver.poll_event() {
        let frame = match (event, &mut sender) {
            (ReceiverEvent::Tracks(tracks), None) => {
                let channels = Channels { video: 0, audio: 2 };
                sender = Some(Sender::new(2, NtpTime::default(), &tracks, channels, 200));
                continue;
            }
            (ReceiverEvent::Tracks(tracks), Some(sender)) => {
                sender.set_tracks(&tracks);
                continue;
            }
            (ReceiverEvent::Frame(frame), _) => frame,
            (ReceiverEvent::Ended(_), _) => continue,
        };
        debug_assert!(last.is_none_or(|last| last < frame.dts), "decode times grow");
        debug_assert!(frame.composition_offset >= 0);
        last = Some(frame.dts);
        let Some(sender) = &mut sender else {
            debug_assert!(false, "a frame before its tracks");
            continue;
        };
        out.clear();
        sender.write_frame(&frame, &mut out);
        let framed: usize = packets(&out).map(|(_, packet)| packet.len() + 4).sum();
        debug_assert!(framed == out.len() && packets(&out).all(|(_, packet)| packet.len() <= 200));
    }
}

/// Whole packets with their headers, for two tracks, and RTCP among them.
pub fn rtp_packets(data: &[u8]) {
    let h264 = format("H264", 90_000, "");
    let sound = format("PCMU", 8000, "");
    let mut now = virtual_epoch();
    let mut receiver = Receiver::new(now, 1, LIMITS, h264.into_iter().chain(sound).collect());
    for (at, packet) in
        data.chunks(data.first().map_or(1, |first| usize::from(*first) + 1)).enumerate()
    {
        now += Duration::from_millis(7);
        let _ = receiver.handle_rtp(now, at % 3, Bytes::copy_from_slice(packet));
        let _ = receiver.handle_rtcp(now, at % 3, packet);
        receiver.handle_timeout(now);
    }
    receiver.finish(now);
    while receiver.poll_rtcp().is_some() {}
}

/// Compound packets, and the same with a fitting head.
pub fn rtp_rtcp(data: &[u8]) {
    let mut said = Vec::new();
    let _ = rtcp::read(data, &mut said);
    for (first, kind) in [(0x80, 200), (0x81, 200), (0x9f, 203), (0x81, 203), (0xa1, 203)] {
        let words = u16::try_from(data.len() / 4).unwrap_or(0).to_be_bytes();
        let body = data.get(..data.len() / 4 * 4).unwrap_or_default();
        let _ = rtcp::read(&[&[first, kind], &words[..], body].concat(), &mut said);
    }
}

/// Format parameters; what is read must be written so that it reads the same.
pub fn rtp_format(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for encoding in ["H264", "H265", "mpeg4-generic", "MP4A-LATM", "opus", "VP9", &text] {
        let Ok(format) = PayloadFormat::from_sdp(96, encoding, 48_000, 2, &text) else { continue };
        let (name, fmtp) = (format.encoding_name(), format.fmtp());
        let again = PayloadFormat::from_sdp(96, name, 48_000, format.channels, &fmtp);
        debug_assert_eq!(again.as_ref(), Ok(&format));
        let _ = Receiver::new(virtual_epoch(), 1, LIMITS, vec![format]);
    }
}

/// Payloads of real streams as [`TARGETS`] take them, and datagrams.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    use crate::rtp::header::HEADER_BYTES;
    let mut seeds = Vec::new();
    for capture in &super::tests::CAPTURES {
        let received = capture.received();
        let channels = Channels { video: 0, audio: 2 };
        let tracks = &received.tracks[0];
        let mut sender = Sender::new(1, NtpTime::from_bits(1 << 32), tracks, channels, 220);
        let (mut streams, mut out) = ([Vec::new(), Vec::new()], Vec::new());
        for frame in received.frames.iter().take(24) {
            out.clear();
            sender.write_frame(frame, &mut out);
            for (channel, packet) in packets(&out) {
                if channel % 2 == 1 {
                    seeds.push(packet.to_vec());
                    continue;
                }
                let payload = &packet[HEADER_BYTES..];
                let stream = &mut streams[usize::from(channel / 2)];
                let marker = packet[1] >> 7;
                stream.extend_from_slice(&[payload.len() as u8, marker | marker << 1]);
                stream.extend_from_slice(payload);
            }
        }
        seeds.extend(streams.map(|stream| stream[..stream.len().min(3000)].to_vec()));
        seeds.push(capture.datagrams().swap_remove(1).2.to_vec());
        let fmtp = capture.sdp.lines().filter_map(|line| line.strip_prefix("a=fmtp:97 "));
        seeds.extend(fmtp.map(|fmtp| fmtp.as_bytes().to_vec()));
    }
    seeds
}
