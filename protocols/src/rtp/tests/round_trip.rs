//! What the sender writes is what the receiver, and a depacketizer of others, reads.

use bytes::Bytes;
use rtp::codecs::{h264, vp8, vp9};
use rtp::packetizer::Depacketizer;

use super::{CAPTURES, CHANNELS, Received, deliver, packets_of, pair};
use crate::codec::nal;
use crate::fuzzing::virtual_epoch;
use crate::media::{AudioInfo, Codec, Frame, FrameKind, Timestamp, Track, Tracks};
use crate::rtp::header::{HEADER_BYTES, Header};
use crate::rtp::{NtpTime, Sender};

/// Tracks and frames of each capture.
fn streams() -> Vec<(Tracks, Vec<Frame>)> {
    let stream = |capture: &super::Capture| {
        let received = capture.received();
        (received.tracks[0].clone(), received.frames)
    };
    CAPTURES.iter().map(stream).collect()
}

fn sound(codec: Codec, sample_rate: u32, channels: u8) -> Tracks {
    let info = AudioInfo { sample_rate, channels, sample_bits: 16 };
    let audio = Some(Track { codec, config: Bytes::new(), info });
    Tracks { audio, ..Tracks::default() }
}

fn audio(ms: i64, payload: Vec<u8>) -> Frame {
    let dts = Timestamp::from_millis(ms);
    Frame { kind: FrameKind::Audio, dts, composition_offset: 0, payload: payload.into() }
}

fn sent_and_received(tracks: &Tracks, frames: &[Frame], mtu: usize) -> Received {
    let (mut sender, mut receiver) = pair(tracks, 77, mtu);
    let (mut now, mut received) = (virtual_epoch(), Received::default());
    let channels = u8::from(tracks.video.is_none()) * 2;
    for frame in frames {
        for (channel, packet) in packets_of(&mut sender, frame) {
            assert!(packet.len() <= mtu);
            deliver(&mut receiver, now, channel - channels, &packet);
        }
        now += std::time::Duration::from_millis(15);
        received.take(&mut receiver);
    }
    receiver.finish(now);
    received.take(&mut receiver);
    received.receiver = Some(receiver);
    received
}

#[test]
fn every_format_survives_at_every_size() {
    for (tracks, frames) in streams() {
        for mtu in [128, 300, 1400, 9000] {
            // A packet of Opus is never spread over several, and samples are not gathered again.
            let whole =
                |audio: &Track<AudioInfo>| matches!(audio.codec, Codec::Opus | Codec::G711A);
            if mtu == 128 && tracks.audio.as_ref().is_some_and(whole) {
                continue;
            }
            let received = sent_and_received(&tracks, &frames, mtu);
            for video in [true, false] {
                let of = |frames: &[Frame]| -> Vec<Frame> {
                    frames.iter().filter(|frame| frame.kind.is_video() == video).cloned().collect()
                };
                let (sent, got) = (of(&frames), of(&received.frames));
                assert_eq!(sent.len(), got.len(), "{mtu}");
                let start = (sent[0].pts(), got[0].pts());
                for (sent, got) in sent.iter().zip(&got) {
                    assert_eq!((sent.kind, &sent.payload), (got.kind, &got.payload));
                    let (sent, got) = (sent.pts() - start.0, got.pts() - start.1);
                    assert!((sent - got).abs() < 130_000, "{sent} {got}");
                }
            }
            let first = &received.tracks[0];
            assert_eq!(
                first.video.as_ref().map(|video| video.codec),
                tracks.video.as_ref().map(|video| video.codec)
            );
            assert_eq!(
                first.video.as_ref().map(|video| &video.config),
                tracks.video.as_ref().map(|video| &video.config)
            );
            assert_eq!(first.audio, tracks.audio);
        }
    }
}

#[test]
fn sound_that_exceeds_a_packet_is_put_together_again() {
    let aac = Tracks {
        audio: Some(Track {
            codec: Codec::Aac,
            config: Bytes::from_static(&[0x12, 0x10]),
            info: AudioInfo { sample_rate: 44_100, channels: 2, sample_bits: 16 },
        }),
        ..Tracks::default()
    };
    let frames: Vec<Frame> =
        [8191, 100, 1500].map(|bytes| audio(bytes, vec![bytes as u8; bytes as usize])).to_vec();
    let mut in_order = frames.clone();
    in_order.sort_by_key(|frame| frame.dts);
    let received = sent_and_received(&aac, &in_order, 600);
    let payloads: Vec<_> = received.frames.iter().map(|frame| frame.payload.len()).collect();
    assert_eq!(payloads, [100, 1500, 8191]);
    let mut sender = Sender::new(1, NtpTime::default(), &aac, CHANNELS, 600);
    let mut out = vec![1];
    assert!(!sender.write_frame(&audio(0, vec![0; 8192]), &mut out));
    assert!(!sender.write_frame(&audio(0, Vec::new()), &mut out));
    assert_eq!(out, [1]);

    let pcm = sound(Codec::G711U, 8000, 2);
    let received = sent_and_received(&pcm, &[audio(0, vec![5; 1000])], 300);
    let lengths: Vec<_> = received.frames.iter().map(|frame| frame.payload.len()).collect();
    assert_eq!(lengths, [288, 288, 288, 136]);
    assert_eq!(received.frames[3].dts - received.frames[0].dts, 54_000_000);

    let mut frame = vec![0; 960];
    frame[..4].copy_from_slice(&[0xff, 0xfb, 0xe4, 0x00]);
    let mp3 = sound(Codec::Mp3, 48_000, 2);
    let received =
        sent_and_received(&mp3, &[audio(0, frame.clone()), audio(24, frame.clone())], 400);
    assert!(received.frames.iter().all(|got| got.payload == frame) && received.frames.len() == 2);
}

#[test]
fn what_others_read_is_what_was_sent() {
    for (tracks, frames) in streams() {
        let video = tracks.video.clone().unwrap();
        let mut sender = Sender::new(3, NtpTime::default(), &tracks, CHANNELS, 500);
        for frame in frames.iter().filter(|frame| frame.kind.is_video()) {
            let payloads: Vec<Bytes> = packets_of(&mut sender, frame)
                .into_iter()
                .filter(|(channel, _)| channel.is_multiple_of(2))
                .map(|(_, packet)| packet.slice(HEADER_BYTES..))
                .collect();
            let mut read = Vec::new();
            match video.codec {
                Codec::H264 => {
                    let mut depacketizer = h264::H264Packet::default();
                    for payload in &payloads {
                        read.extend_from_slice(&depacketizer.depacketize(payload).unwrap());
                    }
                    let units: Vec<&[u8]> = nal::split_annex_b(&read).collect();
                    let own = nal::units(&frame.payload, 4).map(Result::unwrap);
                    let sets = if frame.kind == FrameKind::Keyframe { 2 } else { 0 };
                    assert_eq!(units[sets..], own.collect::<Vec<_>>());
                }
                Codec::Vp8 => {
                    let mut depacketizer = vp8::Vp8Packet::default();
                    for payload in &payloads {
                        read.extend_from_slice(&depacketizer.depacketize(payload).unwrap());
                    }
                    assert_eq!(read, frame.payload);
                }
                Codec::Vp9 => {
                    let mut depacketizer = vp9::Vp9Packet::default();
                    for payload in &payloads {
                        read.extend_from_slice(&depacketizer.depacketize(payload).unwrap());
                    }
                    assert_eq!(read, frame.payload);
                    assert!(depacketizer.e);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn packets_of_a_picture_are_one_run_with_one_marker() {
    let (tracks, frames) = streams().swap_remove(0);
    let (mut sender, _) = pair(&tracks, 5, 200);
    let (mut out, mut room) = (Vec::with_capacity(1 << 20), 0);
    let mut expected = sender.next(true).0;
    for frame in &frames {
        out.clear();
        assert!(sender.write_frame(frame, &mut out));
        room = out.capacity().max(room);
        if !frame.kind.is_video() {
            continue;
        }
        let media: Vec<_> =
            super::packets(&out).filter(|(channel, _)| channel.is_multiple_of(2)).collect();
        let headers: Vec<Header> = media
            .iter()
            .map(|(_, packet)| Header::parse(&Bytes::copy_from_slice(packet)).unwrap().0)
            .collect();
        for header in &headers {
            assert_eq!(header.sequence_number, expected);
            assert_eq!(header.timestamp, sender.next(true).1);
            expected = expected.wrapping_add(1);
        }
        assert_eq!(headers.iter().filter(|header| header.marker).count(), 1);
        assert!(headers.last().unwrap().marker);
        // Of a fragmented unit all packets but the last are of the largest size.
        let full = media.iter().filter(|(_, packet)| packet.len() == 200).count();
        assert!(media.len() < 4 || full >= media.len() - 3, "{full} of {}", media.len());
        assert_eq!(sender.next(true).0, expected);
    }
    // The buffer given is all that grows.
    assert_eq!(room, 1 << 20);
}
