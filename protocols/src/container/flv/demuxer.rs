//! From the bodies of FLV tags and RTMP messages to neutral tracks and frames.

use std::sync::Arc;

use bytes::Bytes;

use super::extended::Selection;
use super::script::{self, Script};
use super::video::{FRAME_DISPOSABLE, FRAME_GENERATED_KEY, FRAME_KEY, Packet, Parsed};
use super::{FlvError, TagType, audio, video};
use crate::codec::{ConfigError, aac, ac3_config, av1, flac, h264, h265, mp3, opus};
use crate::container::Item;
use crate::media::{
    AudioInfo, Codec, Frame, FrameKind, Metadata, Timestamp, Track, Tracks, VideoInfo,
};

/// Bodies, or parts of them, that were passed over without an error; all counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Bodies of 0 or 1 bytes, sequence headers and access units of 0 bytes.
    pub empty: u64,
    /// Access units before their sequence header.
    pub before_config: u64,
    /// Access units whose NAL unit lengths do not add up.
    pub malformed: u64,
    /// Tracks of multitrack packets that are not carried.
    pub other_tracks: u64,
    /// Things this server does not carry: oversized script data, HDR metadata, channel layouts.
    pub unsupported: u64,
}

/// How the NAL units of the current video track are framed.
#[derive(Debug, Clone, Copy, Default)]
struct NalForm {
    length_size: u8,
    temporal_layers: u8,
}

/// Bodies of FLV tags, or of RTMP audio, video and data messages, to neutral items.
#[derive(Debug)]
pub struct Demuxer {
    legacy_h265_id: u8,
    video_selection: Selection,
    audio_selection: Selection,
    /// Tracks with what their bitstreams say; metadata fills the gaps when they are announced.
    video: Option<Track<VideoInfo>>,
    audio: Option<Track<AudioInfo>>,
    metadata: Metadata,
    nal_form: NalForm,
    /// The video codec is written as a legacy codec id rather than a FourCC.
    legacy_video: bool,
    /// Something was set since the tracks were announced last.
    dirty: bool,
    announced: Option<Arc<Tracks>>,
    ignored: Ignored,
}

impl Demuxer {
    /// A demuxer without tracks. `legacy_h265_id` is the unofficial legacy codec id of H.265,
    /// usually 12.
    pub fn new(legacy_h265_id: u8) -> Self {
        Self {
            legacy_h265_id,
            video_selection: Selection::default(),
            audio_selection: Selection::default(),
            video: None,
            audio: None,
            metadata: Metadata::new(),
            nal_form: NalForm::default(),
            legacy_video: false,
            dirty: false,
            announced: None,
            ignored: Ignored::default(),
        }
    }

    /// What was passed over so far.
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    /// Takes the body of one tag or message and appends what it yields to `out`: [`Item::Tracks`]
    /// whenever something changed, then the frame. Payloads are slices of `body`.
    ///
    /// # Errors
    /// See [`FlvError`]; nothing is appended and the demuxer stays usable.
    pub fn push(
        &mut self,
        tag: TagType,
        dts: Timestamp,
        body: Bytes,
        out: &mut impl Extend<Item>,
    ) -> Result<(), FlvError> {
        let &[first, _, ..] = body.as_ref() else {
            self.ignored.empty += 1;
            return Ok(());
        };
        match tag {
            TagType::Video => {
                let before = self.video_selection;
                let parsed = video::parse(body, self.legacy_h265_id, &mut self.video_selection);
                if self.video_selection.moved_since(before) {
                    self.video = None;
                    self.dirty = true;
                }
                if let Packet::Config(..) = parsed.as_ref().map_or(&Packet::Nothing, |p| &p.packet)
                {
                    self.legacy_video = first & video::EXTENDED == 0;
                }
                match self.note(parsed?) {
                    Packet::Config(codec, config) => self.on_video_config(codec, config, out),
                    packet @ Packet::Coded { .. } => {
                        self.on_picture(packet, dts, out);
                        Ok(())
                    }
                    Packet::Nothing | Packet::Ignored => Ok(()),
                }
            }
            TagType::Audio => {
                let before = self.audio_selection;
                let parsed = audio::parse(body, &mut self.audio_selection);
                if self.audio_selection.moved_since(before) {
                    self.audio = None;
                    self.dirty = true;
                }
                match self.note(parsed?) {
                    Packet::Config(codec, config) => self.on_audio_config(codec, config, out),
                    packet @ Packet::Coded { .. } => {
                        self.on_sound(packet, first, dts, out);
                        Ok(())
                    }
                    Packet::Nothing | Packet::Ignored => Ok(()),
                }
            }
            TagType::Script => self.on_script(dts, &body, out),
        }
    }

    fn note(&mut self, parsed: Parsed) -> Packet {
        self.ignored.other_tracks += parsed.other_tracks;
        self.ignored.unsupported += u64::from(parsed.packet == Packet::Ignored);
        parsed.packet
    }

    fn on_video_config(
        &mut self,
        codec: Codec,
        config: Bytes,
        out: &mut impl Extend<Item>,
    ) -> Result<(), FlvError> {
        if config.is_empty() {
            self.ignored.empty += 1;
            return Ok(());
        }
        let same = |track: &Track<VideoInfo>| track.codec == codec && track.config == config;
        if self.video.as_ref().is_some_and(same) {
            return Ok(());
        }
        let (info, nal_form) = read_video_config(codec, &config)?;
        self.nal_form = nal_form;
        // A copy: a slice would keep a whole read buffer alive as long as the stream.
        let config = Bytes::copy_from_slice(&config);
        self.video = Some(Track { codec, config, info });
        self.dirty = true;
        self.announce(out);
        Ok(())
    }

    fn on_picture(&mut self, packet: Packet, dts: Timestamp, out: &mut impl Extend<Item>) {
        let Packet::Coded { codec, frame_type, composition_ms, nanos, payload } = packet else {
            return;
        };
        if payload.is_empty() {
            self.ignored.empty += 1;
            return;
        }
        if self.video.as_ref().is_none_or(|track| track.codec != codec) {
            if matches!(codec, Codec::H264 | Codec::H265) {
                self.ignored.before_config += 1;
                return;
            }
            self.video = Some(Track { codec, config: Bytes::new(), info: VideoInfo::default() });
            self.dirty = true;
        }
        let NalForm { length_size, temporal_layers } = self.nal_form;
        let unreferenced = match codec {
            Codec::H264 => h264::is_disposable(&payload, length_size),
            Codec::H265 => h265::is_disposable(&payload, length_size, temporal_layers),
            _ => Ok(false),
        };
        let Ok(unreferenced) = unreferenced else {
            self.ignored.malformed += 1;
            return;
        };
        let kind = match frame_type {
            FRAME_KEY | FRAME_GENERATED_KEY => FrameKind::Keyframe,
            FRAME_DISPOSABLE => FrameKind::Disposable,
            _ if unreferenced => FrameKind::Disposable,
            _ => FrameKind::Inter,
        };
        self.announce(out);
        let composition_offset = i64::from(composition_ms) * 1_000_000;
        let dts = dts.offset_nanos(i64::from(nanos));
        out.extend([Item::Frame(Frame { kind, dts, composition_offset, payload })]);
    }

    fn on_audio_config(
        &mut self,
        codec: Codec,
        config: Bytes,
        out: &mut impl Extend<Item>,
    ) -> Result<(), FlvError> {
        if config.is_empty() {
            self.ignored.empty += 1;
            return Ok(());
        }
        // Copies: a slice would keep a whole read buffer alive as long as the stream.
        let config = match codec {
            Codec::Flac => flac::header_of_streaminfo(&config).map(Bytes::from),
            _ => None,
        }
        .unwrap_or_else(|| Bytes::copy_from_slice(&config));
        let same = |track: &Track<AudioInfo>| track.codec == codec && track.config == config;
        if self.audio.as_ref().is_some_and(same) {
            return Ok(());
        }
        let info = match codec {
            Codec::Aac => aac::parse_config(&config)?.info,
            Codec::Opus => opus::parse_config(&config)?,
            Codec::Flac => flac::parse_config(&config)?,
            _ => AudioInfo::default(),
        };
        self.audio = Some(Track { codec, config, info });
        self.dirty = true;
        self.announce(out);
        Ok(())
    }

    fn on_sound(&mut self, packet: Packet, first: u8, dts: Timestamp, out: &mut impl Extend<Item>) {
        let Packet::Coded { codec, nanos, payload, .. } = packet else { return };
        if payload.is_empty() {
            self.ignored.empty += 1;
            return;
        }
        if self.audio.as_ref().is_none_or(|track| track.codec != codec) {
            let mut config = Bytes::new();
            let info = match codec {
                Codec::Aac | Codec::Flac => {
                    self.ignored.before_config += 1;
                    return;
                }
                Codec::Mp3 => mp3::info(&payload).unwrap_or_else(|| match first >> 4 {
                    audio::FORMAT_EXTENDED => AudioInfo::default(),
                    _ => audio::legacy_info(codec, first),
                }),
                Codec::Opus => AudioInfo { sample_rate: opus::SAMPLE_RATE, ..AudioInfo::default() },
                Codec::Ac3 | Codec::Eac3 => match ac3_config::parse(&payload) {
                    Some(header) if header.codec == codec => {
                        config = header.record().into();
                        header.info
                    }
                    _ => AudioInfo::default(),
                },
                _ => audio::legacy_info(codec, first),
            };
            self.audio = Some(Track { codec, config, info });
            self.dirty = true;
        }
        self.announce(out);
        let dts = dts.offset_nanos(i64::from(nanos));
        let kind = FrameKind::Audio;
        out.extend([Item::Frame(Frame { kind, dts, composition_offset: 0, payload })]);
    }

    fn on_script(
        &mut self,
        dts: Timestamp,
        body: &Bytes,
        out: &mut impl Extend<Item>,
    ) -> Result<(), FlvError> {
        match script::parse(body)? {
            Script::Metadata(metadata) => {
                if metadata != self.metadata {
                    self.metadata = metadata;
                    self.dirty = true;
                    self.announce(out);
                }
            }
            Script::Data(payload) => {
                let kind = FrameKind::Data;
                out.extend([Item::Frame(Frame { kind, dts, composition_offset: 0, payload })]);
            }
            Script::Ignored => self.ignored.unsupported += 1,
        }
        Ok(())
    }

    /// Appends the tracks if they differ from those announced last. Metadata alone is no track.
    fn announce(&mut self, out: &mut impl Extend<Item>) {
        if !self.dirty || self.video.is_none() && self.audio.is_none() {
            return;
        }
        self.dirty = false;
        let (seen, heard) =
            (script::video_info(&self.metadata), script::audio_info(&self.metadata));
        let tracks = Tracks {
            video: self.video.clone().map(|track| complete_video(track, seen)),
            audio: self.audio.clone().map(|track| complete_audio(track, heard)),
            metadata: self.metadata.clone(),
            legacy_flv: self.legacy_video
                && self.video.as_ref().is_some_and(|track| track.codec == Codec::H265),
        }
        .shared();
        if self.announced.as_ref() == Some(&tracks) {
            return;
        }
        self.announced = Some(Arc::clone(&tracks));
        out.extend([Item::Tracks(tracks)]);
    }
}

fn read_video_config(codec: Codec, config: &[u8]) -> Result<(VideoInfo, NalForm), ConfigError> {
    match codec {
        Codec::H264 => {
            let config = h264::parse_config(config)?;
            Ok((config.info, NalForm { length_size: config.length_size, temporal_layers: 1 }))
        }
        Codec::H265 => {
            let h265::Config { length_size, temporal_layers, info, .. } =
                h265::parse_config(config)?;
            Ok((info, NalForm { length_size, temporal_layers }))
        }
        Codec::Av1 => Ok((av1::parse_config(config)?.info, NalForm::default())),
        _ => Ok((VideoInfo::default(), NalForm::default())),
    }
}

fn complete_video(mut track: Track<VideoInfo>, metadata: VideoInfo) -> Track<VideoInfo> {
    let info = &mut track.info;
    if info.width == 0 || info.height == 0 {
        (info.width, info.height) = (metadata.width, metadata.height);
    }
    if info.frame_rate <= 0.0 {
        info.frame_rate = metadata.frame_rate;
    }
    track
}

fn complete_audio(mut track: Track<AudioInfo>, metadata: AudioInfo) -> Track<AudioInfo> {
    let info = &mut track.info;
    if info.sample_rate == 0 {
        info.sample_rate = metadata.sample_rate;
    }
    if info.channels == 0 {
        info.channels = metadata.channels;
    }
    if info.sample_bits == 0 {
        info.sample_bits = metadata.sample_bits;
    }
    track
}
