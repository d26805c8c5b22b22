//! The `codecs` parameter of a track (RFC 6381), as playlists, manifests and MIME types name it.

use std::fmt::Write;

use super::{aac, av1, h264, vp};
use crate::media::{AudioInfo, Codec, Track, VideoInfo};

/// Whose readers a name is for. Only some audio codecs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Manifest {
    /// HLS: what native players compare with their own list: sample entry codes in their own case
    /// (`fLaC`, `Opus`), MP3 as the MPEG-4 object type.
    Hls,
    /// DASH and `MediaSource`: what browsers accept: lower case, MP3 as its object type indication.
    Dash,
}

/// The name of a video track. `None` when its codec has none or its configuration cannot be read.
pub fn video(track: &Track<VideoInfo>) -> Option<String> {
    match track.codec {
        Codec::H264 => {
            let [profile, constraints, level] = h264::parse_config(&track.config).ok()?.profile;
            Some(format!("avc1.{profile:02x}{constraints:02x}{level:02x}"))
        }
        Codec::H265 => h265(&track.config),
        Codec::Av1 => {
            let config = av1::parse_config(&track.config).ok()?;
            let tier = if config.high_tier { 'H' } else { 'M' };
            let av1::Config { profile, level, bit_depth, .. } = config;
            Some(format!("av01.{profile}.{level:02}{tier}.{bit_depth:02}"))
        }
        Codec::Vp8 if track.config.is_empty() => Some("vp08.00.10.08".to_owned()),
        Codec::Vp8 | Codec::Vp9 => {
            let vp::Config { profile, level, bit_depth } = vp::parse_config(&track.config).ok()?;
            let name = if track.codec == Codec::Vp8 { "vp08" } else { "vp09" };
            Some(format!("{name}.{profile:02}.{level:02}.{bit_depth:02}"))
        }
        _ => None,
    }
}

/// ISO/IEC 14496-15 annex E.3: profile, compatibility flags in reverse order of bits, tier and
/// level, constraint bytes without trailing zeros.
fn h265(record: &[u8]) -> Option<String> {
    let fixed = record.first_chunk::<23>()?;
    let [profile, compatibility @ ..] = *fixed[1..].first_chunk::<5>()?;
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    let compatibility = u32::from_be_bytes(compatibility).reverse_bits();
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let (constraints, level) = (&fixed[6..12], fixed[12]);
    let entry = if fixed[22] == 0 { "hev1" } else { "hvc1" };
    let mut name = format!("{entry}.{space}{}.{compatibility:X}.{tier}{level}", profile & 0x1f);
    let kept = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..kept] {
        let _ = write!(name, ".{byte:X}");
    }
    Some(name)
}

/// The name of an audio track. `None` when its codec has none or its configuration cannot be read.
pub fn audio(track: &Track<AudioInfo>, manifest: Manifest) -> Option<String> {
    let hls = manifest == Manifest::Hls;
    let name = match track.codec {
        Codec::Aac => {
            let config = aac::parse_config(&track.config).ok()?;
            return Some(format!("mp4a.40.{}", signalled_object_type(&track.config, config)));
        }
        Codec::Mp3 if hls => "mp4a.40.34",
        Codec::Mp3 if track.info.sample_rate >= 32_000 => "mp4a.6B",
        Codec::Mp3 => "mp4a.69",
        Codec::Opus if hls => "Opus",
        Codec::Opus => "opus",
        Codec::Flac if hls => "fLaC",
        Codec::Flac => "flac",
        Codec::Ac3 => "ac-3",
        Codec::Eac3 => "ec-3",
        Codec::G711A => "alaw",
        Codec::G711U => "ulaw",
        Codec::Speex | Codec::LegacyAudio(_) => return None,
        _ => return None,
    };
    Some(name.to_owned())
}

/// The object type written first: 5 and 29 where replication and stereo are signalled in front,
/// else that of the core, whatever extension follows.
fn signalled_object_type(record: &[u8], config: aac::Config) -> u8 {
    match record.first().map_or(0, |byte| byte >> 3) {
        extended @ (5 | 29) => extended,
        _ => config.object_type,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn video_name(codec: Codec, config: &[u8]) -> Option<String> {
        let config = Bytes::copy_from_slice(config);
        video(&Track { codec, config, info: VideoInfo::default() })
    }

    fn audio_name(codec: Codec, config: &[u8], manifest: Manifest) -> Option<String> {
        let info = AudioInfo { sample_rate: 44_100, channels: 2, sample_bits: 16 };
        audio(&Track { codec, config: Bytes::copy_from_slice(config), info }, manifest)
    }

    #[test]
    fn names_of_pictures() {
        let h265 = |profile, constraints: [u8; 6], sets| {
            let mut record = [0u8; 23];
            (record[1], record[2], record[12]) = (profile, 0x60, 93);
            record[6..12].copy_from_slice(&constraints);
            (record[21], record[22]) = (0xf, sets);
            video_name(Codec::H265, &record)
        };
        // The example of the annex, then every field at another value.
        assert_eq!(h265(1, [0xb0, 0, 0, 0, 0, 0], 3).unwrap(), "hvc1.1.6.L93.B0");
        assert_eq!(h265(0xa2, [0x90, 0, 8, 0, 0, 0], 0).unwrap(), "hev1.B2.6.H93.90.0.8");
        assert_eq!(h265(1, [0; 6], 1).unwrap(), "hvc1.1.6.L93");
        assert_eq!(video_name(Codec::H265, &[1; 22]), None);
        let avc = [1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x64, 0, 0x1f, 0];
        assert_eq!(video_name(Codec::H264, &avc).unwrap(), "avc1.64001f");
        let av1 = |second, third| video_name(Codec::Av1, &[0x81, second, third, 0]).unwrap();
        assert_eq!(av1(0x04, 0x0c), "av01.0.04M.08");
        assert_eq!(av1(0x2d, 0xc0), "av01.1.13H.10");
        assert_eq!(video_name(Codec::Vp9, &vp::build_config(0, 10)).unwrap(), "vp09.00.10.08");
        assert_eq!(video_name(Codec::Vp8, &[]).unwrap(), "vp08.00.10.08");
        assert_eq!(video_name(Codec::Vp9, &[]), None);
        assert_eq!(video_name(Codec::LegacyVideo(2), &[]), None);
    }

    #[test]
    fn names_of_sound() {
        let aac = |config: &[u8]| audio_name(Codec::Aac, config, Manifest::Hls).unwrap();
        assert_eq!(aac(&[0x12, 0x10]), "mp4a.40.2");
        // Replication behind and in front, parametric stereo.
        assert_eq!(aac(&[0x13, 0x10, 0x56, 0xe5, 0x98]), "mp4a.40.2");
        assert_eq!(aac(&[0x2b, 0x11, 0x88, 0x00]), "mp4a.40.5");
        assert_eq!(aac(&[0xeb, 0x09, 0x88, 0x00]), "mp4a.40.29");
        let both = |codec| {
            [Manifest::Hls, Manifest::Dash]
                .map(|manifest| audio_name(codec, &[], manifest).unwrap())
        };
        assert_eq!(both(Codec::Mp3), ["mp4a.40.34", "mp4a.6B"]);
        assert_eq!(both(Codec::Opus), ["Opus", "opus"]);
        assert_eq!(both(Codec::Flac), ["fLaC", "flac"]);
        assert_eq!(both(Codec::Eac3), ["ec-3", "ec-3"]);
        assert_eq!(audio_name(Codec::Speex, &[], Manifest::Dash), None);
        assert_eq!(audio_name(Codec::Aac, &[], Manifest::Dash), None);
    }
}
