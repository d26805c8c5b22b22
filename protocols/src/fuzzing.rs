//! One function per parser of peer bytes, for fuzzers and for the seeded test below.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::amf;
use crate::codec::{aac, ac3, av1, h264, h265, latm, mp3, opus};
use crate::container::flv::{
    Demuxer, Dialect, TagReader, TagType, configuration, frame_head, write_tag,
};
use crate::container::{Item, ts};
use crate::hls::{Directives, LiveEdge, decide, without_directives};
use crate::hops::{HOPS_MAX, Hops};
use crate::media::Timestamp;

/// The body of a target: takes any bytes and must return.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("amf", amf),
    ("flv_tag_video", flv_tag_video),
    ("flv_tag_audio", flv_tag_audio),
    ("flv_script", flv_script),
    ("flv_reader", flv_reader),
    ("h264_config", h264_config),
    ("h265_config", h265_config),
    ("av1_config", av1_config),
    ("aac_config", aac_config),
    ("audio_frames", audio_frames),
    ("hls_query", hls_query),
    ("hops", hops),
];

/// Where virtual time begins. An `Instant` can only be made by asking for one; tests and fuzz bodies
/// do so once and count on from there.
#[expect(
    clippy::disallowed_methods,
    reason = "a base for virtual time, never compared with another"
)]
pub(crate) fn virtual_epoch() -> std::time::Instant {
    std::time::Instant::now()
}

/// Every target of the crate: [`TARGETS`] and those of the protocols.
pub fn all() -> impl Iterator<Item = (&'static str, Target)> {
    let containers = ts::fuzzing::TARGETS.iter().chain(crate::container::fmp4::fuzzing::TARGETS);
    let (rtp, rtmp) = (crate::rtp::fuzzing::TARGETS, crate::rtmp::fuzzing::TARGETS);
    let protocols = rtp.iter().chain(rtmp).chain(crate::rtsp::fuzzing::TARGETS);
    let protocols = protocols.chain(crate::http_flv::fuzzing::TARGETS);
    TARGETS.iter().chain(containers).chain(protocols).copied()
}

/// Hops: what is read must survive writing.
pub fn hops(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(hops) = text.parse::<Hops>() {
        assert!(hops.nodes().len() <= HOPS_MAX);
        assert_eq!(hops.to_string().parse(), Ok(hops));
    }
}

/// AMF: decode, and what decodes must survive encoding.
pub fn amf(data: &[u8]) {
    let _ = amf::decode_prefix(data, 1);
    let _ = amf::decode_all(&[&[0x11], data].concat());
    if let Ok(values) = amf::decode_all(data) {
        let mut encoded = Vec::new();
        amf::encode(&values, &mut encoded);
        let again = amf::decode_all(&encoded).map(|values| values.len());
        // Replacing bad UTF-8 can push a name or text beyond a short length; nothing else may.
        debug_assert!(again == Ok(values.len()) || encoded.len() > usize::from(u16::MAX));
    }
}

/// Video bodies: the data is cut into bodies by its own bytes.
pub fn flv_tag_video(data: &[u8]) {
    tag_bodies(TagType::Video, data);
}

/// Audio bodies, as [`flv_tag_video`].
pub fn flv_tag_audio(data: &[u8]) {
    tag_bodies(TagType::Audio, data);
}

/// Script bodies, as [`flv_tag_video`].
pub fn flv_script(data: &[u8]) {
    tag_bodies(TagType::Script, data);
}

/// The whole data as one body, then cut in two by its first byte.
fn tag_bodies(tag: TagType, data: &[u8]) {
    let mut demuxer = Demuxer::new(12);
    let mut items = VecDeque::new();
    let cut = data.first().map_or(0, |first| usize::from(*first).min(data.len()));
    for body in [data, &data[..cut], &data[cut..]] {
        let _ = demuxer.push(tag, Timestamp::ZERO, Bytes::copy_from_slice(body), &mut items);
    }
    mux(items);
}

/// An FLV byte stream, arriving in pieces of sizes the data picks.
pub fn flv_reader(data: &[u8]) {
    let (mut reader, mut demuxer) = (TagReader::new(1 << 16), Demuxer::new(12));
    let (mut input, mut items) = (BytesMut::new(), VecDeque::new());
    let mut rest = data;
    while let Some(first) = rest.first() {
        let (piece, next) = rest.split_at((usize::from(*first) + 1).min(rest.len()));
        rest = next;
        input.extend_from_slice(piece);
        loop {
            match reader.next_tag(&mut input) {
                Ok(Some((tag, timestamp_ms, body))) => {
                    let dts = Timestamp::from_millis(timestamp_ms.into());
                    let _ = demuxer.push(tag, dts, body, &mut items);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    mux(items);
}

/// Everything a demuxer lets through must be muxable.
fn mux(items: VecDeque<Item>) {
    let mut tracks = None;
    let mut out = Vec::new();
    for dialect in [true, false].map(|enhanced| Dialect { enhanced, legacy_h265_id: 12 }) {
        for item in &items {
            match item {
                Item::Tracks(new) => {
                    let _ = configuration(new, dialect, "fuzzing");
                    tracks = Some(new);
                }
                Item::Frame(frame) => {
                    if let Some(tracks) = tracks
                        && let Some((tag, head)) = frame_head(tracks, frame, dialect)
                    {
                        out.clear();
                        write_tag(&mut out, tag, 0, &[&head, &frame.payload]);
                    }
                }
            }
        }
    }
}

/// H.264 configuration records, parameter sets and access units.
pub fn h264_config(data: &[u8]) {
    let _ = h264::parse_config(data);
    let _ = h264::sps_info(data);
    let _ = h264::sps_info(&[&[0x67], data].concat());
    if let Ok(sets) = h264::parameter_sets(data) {
        let _ = h264::build_config(&sets.sps, &sets.pps);
    }
    let _ = (h264::unit_role(data), h264::is_recovery_point(&[&[6], data].concat()));
    for length_size in 1..=4 {
        let _ = h264::is_keyframe(data, length_size);
        let _ = h264::is_disposable(data, length_size);
    }
}

/// H.265 configuration records, parameter sets and access units.
pub fn h265_config(data: &[u8]) {
    let _ = h265::parse_config(data);
    let sps = [&[0x42, 1], data].concat();
    let _ = (h265::sps_info(&sps), h265::unit_role(data));
    if let Some(record) = h265::build_config(&[], &[&sps], &[]) {
        debug_assert!(h265::parse_config(&record).is_ok());
    }
    for length_size in 1..=4 {
        let _ = h265::is_keyframe(data, length_size);
        let _ = h265::is_disposable(data, length_size, 1);
    }
}

/// AV1 configuration records.
pub fn av1_config(data: &[u8]) {
    let _ = av1::parse_config(data);
    let _ = av1::parse_config(&[&[0x81, 0, 0, 0, 0x08], data].concat());
}

/// AAC configurations and ADTS headers.
pub fn aac_config(data: &[u8]) {
    let _ = aac::parse_config(data);
    let _ = aac::adts(data);
    let _ = aac::strip_adts(data);
    if let Some(header) = aac::adts_form(data).and_then(|form| form.header(data.len())) {
        debug_assert!(aac::adts(&header).is_some());
    }
}

/// Headers of other sound, and LATM elements.
pub fn audio_frames(data: &[u8]) {
    let _ = (ac3::sync_frame(data), mp3::header(data), opus::packet_samples(data));
    let _ = ac3::sync_frame(&[&[0x0b, 0x77], data].concat());
    let _ = (opus::layout_channels(data), latm::sync_frame_bytes(data));
    let (mut reader, mut access_units) = (latm::Reader::default(), Vec::new());
    for element in data.chunks(data.first().map_or(1, |first| usize::from(*first) + 1)) {
        let _ = reader.read(element, &mut access_units);
    }
}

/// Queries of playlist requests, before playlists of any length the data picks.
pub fn hls_query(data: &[u8]) {
    let (head, query) = data.split_at(data.len().min(4));
    let query = String::from_utf8_lossy(query);
    let kept = without_directives(&query);
    let Ok(directives) = Directives::parse(&query) else { return };
    debug_assert!(Directives::parse(&kept).is_ok_and(|kept| kept == Directives::default()));
    let number = |index: usize| u64::from(head.get(index).copied().unwrap_or(0xff));
    let edge = LiveEdge {
        next_media_sequence: number(0),
        open_parts: number(1),
        last_parts: number(2),
        part_target: (number(3) > 0).then(|| Duration::from_millis(number(3))),
        ended: false,
    };
    let _ = decide(&directives, &edge);
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    const ITERATIONS: u64 = 20_000;
    const FILES: [&[u8]; 4] = [
        include_bytes!("container/flv/testdata/h264_aac.flv"),
        include_bytes!("container/flv/testdata/h265_opus.flv"),
        include_bytes!("container/flv/testdata/av1_aac.flv"),
        include_bytes!("container/flv/testdata/multi.flv"),
    ];

    const STREAMS: [&[u8]; 5] = [
        include_bytes!("container/ts/testdata/h264_aac.ts"),
        include_bytes!("container/ts/testdata/h265_aac.ts"),
        include_bytes!("container/ts/testdata/h264_opus.ts"),
        include_bytes!("container/ts/testdata/h264_latm.ts"),
        include_bytes!("container/ts/testdata/eac3.ts"),
    ];

    const MP4_FILES: [&[u8]; 3] = [
        include_bytes!("container/fmp4/read/testdata/progressive.mp4"),
        include_bytes!("container/fmp4/read/testdata/fragmented.mp4"),
        include_bytes!("container/fmp4/read/testdata/av1_opus.mp4"),
    ];

    struct Xorshift(u64);

    impl Xorshift {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, end: usize) -> usize {
            (self.next() % end.max(1) as u64) as usize
        }
    }

    /// Bodies of valid tags, the records inside them, and a short file.
    fn valid() -> Vec<Vec<u8>> {
        let mut seeds = Vec::new();
        for file in FILES {
            seeds.push(file[..2000].to_vec());
            let (mut reader, mut input) = (TagReader::new(1 << 20), BytesMut::from(file));
            for _ in 0..8 {
                let Ok(Some((_, _, body))) = reader.next_tag(&mut input) else { break };
                seeds.push(body[..body.len().min(600)].to_vec());
                seeds.push(body[5.min(body.len())..body.len().min(600)].to_vec());
            }
        }
        for stream in STREAMS {
            // Without the service description, and long enough for a picture and sound.
            seeds.push(stream[188..(188 * 40).min(stream.len())].to_vec());
            seeds.push(stream[188 + 5..188 * 3].to_vec());
        }
        for file in MP4_FILES {
            let moov = file.windows(4).position(|name| name == b"moov").unwrap();
            seeds.push(file[moov + 4..].iter().take(2500).copied().collect());
            seeds.push(file[moov - 4..].to_vec());
        }
        seeds.push(b"\x7f\x02\x04\xc8_HLS_msn=127&_HLS_part=2&_HLS_skip=YES&token=a".to_vec());
        seeds.extend(crate::rtsp::fuzzing::SEEDS.iter().map(|seed| seed.to_vec()));
        seeds.extend(crate::http_flv::fuzzing::SEEDS.iter().map(|seed| seed.to_vec()));
        seeds.extend(crate::rtp::fuzzing::seeds());
        seeds.push(b"\x12\x10".to_vec());
        seeds.push(b"\x11\x0a\x1b\x05Cl\x03a\x04\x01\x03b\x01\x01".to_vec());
        seeds.push(b"\xff\xf1\x50\x80\x01\x3f\xfc\x01\x02".to_vec());
        seeds
    }

    fn mutated(random: &mut Xorshift, seeds: &[Vec<u8>]) -> Vec<u8> {
        if random.below(8) == 0 {
            let length = random.below(64);
            return (0..length).map(|_| random.next() as u8).collect();
        }
        let mut data = seeds[random.below(seeds.len())].clone();
        for _ in 0..random.below(6) {
            let at = random.below(data.len());
            match random.below(6) {
                0 => data.truncate(at),
                1 => data.insert(at, random.next() as u8),
                2 if !data.is_empty() => data[at] = [0, 0xff, 0x7f, 0x80, 1][random.below(5)],
                3 if !data.is_empty() => data[at] ^= 1 << random.below(8),
                4 if !data.is_empty() => drop(data.remove(at)),
                _ => {
                    let other = &seeds[random.below(seeds.len())];
                    let from = random.below(other.len());
                    let to = (from + random.below(40)).min(other.len());
                    data.splice(at..at, other[from..to].iter().copied());
                }
            }
        }
        data
    }

    #[test]
    fn no_target_panics() {
        let iterations = std::env::var("FUZZ_ITERATIONS").ok().and_then(|text| text.parse().ok());
        let iterations: u64 = iterations.unwrap_or(ITERATIONS);
        let seeds = valid();
        for (name, target) in all() {
            for seed in &seeds {
                target(seed);
            }
            for iteration in 1..=iterations {
                let seed = iteration.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let data = mutated(&mut Xorshift(seed), &seeds);
                let outcome = catch_unwind(|| target(&data));
                assert!(outcome.is_ok(), "{name}: seed {seed:#x}, data {data:02x?}");
            }
        }
    }
}
