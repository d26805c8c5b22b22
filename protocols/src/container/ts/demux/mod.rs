//! From transport packets to neutral tracks and frames.

mod audio;
mod elementary;
mod video;

pub(super) use self::audio::end_of_pes;

use std::collections::VecDeque;

use self::audio::AudioReader;
use self::elementary::{Continuity, Elementary, Verdict};
use self::video::VideoReader;
use super::TsError;
use super::clock::Unwrapper;
use super::packet::{self, PACKET_BYTES, Packet};
use super::psi::{self, SectionReader};
use super::stream_type::{Format, format};
use super::sync::PacketSync;
use crate::container::Item;
use crate::container::announce::Announcer;
use crate::media::{Codec, Timestamp};

/// A fitting bound on PES packets: more than a keyframe of 8K video takes.
pub const PES_BYTES_MAX: usize = 16 << 20;

/// What arrived damaged, was lost, or had to be dropped for it; all counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes that belong to no packet, passed over while looking for one.
    pub skipped_bytes: u64,
    /// Times that packets stopped following each other.
    pub sync_losses: u64,
    /// Packets whose adaptation field does not fit.
    pub malformed_packets: u64,
    /// Packets that say of themselves that they are damaged.
    pub transport_errors: u64,
    /// Times that packets of the tables or of a track that is read were missing.
    pub continuity_errors: u64,
    /// Scrambled packets, of which nothing can be read.
    pub scrambled_packets: u64,
    /// Sections of tables that were cut short or whose check sum is wrong.
    pub damaged_sections: u64,
    /// PES packets, and with them access units, dropped: a part was missing or scrambled, or the
    /// header makes no sense.
    pub damaged_pes: u64,
    /// PES packets dropped because they exceed the limit.
    pub oversized_pes: u64,
    /// Bytes of sound that belong to no frame.
    pub skipped_audio_bytes: u64,
}

/// What arrived whole and was passed over; all counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Programs after the first, counted for each new PAT.
    pub other_programs: u64,
    /// Streams of unknown types, or after the first of their kind, counted for each new PMT.
    pub other_streams: u64,
    /// Packets sent twice.
    pub duplicate_packets: u64,
    /// Jumps that the stream announced itself.
    pub discontinuities: u64,
    /// Pictures before the first keyframe, or before the next one after damage.
    pub before_keyframe: u64,
    /// Access units without a time stamp and without one before that would tell.
    pub untimed: u64,
    /// Access units of 0 bytes.
    pub empty: u64,
    /// Things this server does not carry: ADTS frames of several blocks, LATM outside the subset,
    /// parameter sets beyond their bounds.
    pub unsupported: u64,
}

/// The time stamps of a PES packet, unwrapped.
#[derive(Debug, Clone, Copy)]
struct Stamps {
    pts: Timestamp,
    dts: Timestamp,
}

/// Where the readers of elementary streams put what they find.
struct Output<'a> {
    announcer: &'a mut Announcer,
    damage: &'a mut Damage,
    ignored: &'a mut Ignored,
    items: &'a mut VecDeque<Item>,
    pes_bytes_max: usize,
}

/// A byte stream of transport packets, in pieces of any size, to neutral items.
///
/// The first program is read, and of it the first video and the first audio stream of a known type.
/// Times are those of the stream, unwrapped: where its clock is set anew they jump.
#[derive(Debug)]
pub struct Demuxer {
    sync: PacketSync,
    program: Program,
}

impl Demuxer {
    /// A demuxer that drops PES packets of more than so many bytes; see [`PES_BYTES_MAX`].
    pub fn new(pes_bytes_max: usize) -> Self {
        Self { sync: PacketSync::default(), program: Program::new(pes_bytes_max) }
    }

    /// What was damaged so far.
    pub fn damage(&self) -> Damage {
        Damage {
            skipped_bytes: self.sync.skipped_bytes,
            sync_losses: self.sync.losses,
            ..self.program.damage
        }
    }

    /// What was passed over so far.
    pub fn ignored(&self) -> Ignored {
        self.program.ignored
    }

    /// Takes the next bytes and appends what they yield to `out`: [`Item::Tracks`] before the first
    /// frame and whenever something changed, then frames. The first frames are held back up to a
    /// second until all tracks are known.
    ///
    /// # Errors
    /// The packets have another size, or there are none in 64 KiB. Everything else is counted and
    /// passed over. The demuxer stays usable and goes on searching.
    pub fn push(&mut self, bytes: &[u8], out: &mut VecDeque<Item>) -> Result<(), TsError> {
        let program = &mut self.program;
        self.sync.push(bytes, |_, packet| program.on_packet(packet, out))
    }

    /// The stream ends here: appends what was waiting for its end.
    pub fn finish(&mut self, out: &mut VecDeque<Item>) {
        self.sync.finish();
        self.program.finish(out);
    }
}

/// The sections of one table.
#[derive(Debug, Default)]
struct Table {
    reader: SectionReader,
    continuity: Continuity,
    /// The section read last: the same one again tells nothing new.
    last: Vec<u8>,
}

impl Table {
    /// The new, intact sections that end in a packet.
    fn push(&mut self, packet: &Packet<'_>, damage: &mut Damage) -> Vec<Vec<u8>> {
        match self.continuity.check(packet) {
            Verdict::Duplicate => return Vec::new(),
            Verdict::Gap => {
                damage.continuity_errors += 1;
                self.reader.abandon();
            }
            Verdict::Next | Verdict::Announced => {}
        }
        let mut found = Vec::new();
        let Some(payload) = packet.payload else { return found };
        let (last, mut faults) = (&mut self.last, 0);
        faults += self.reader.push(packet.unit_start, payload, |section, _| {
            if *section == last[..] {
                return;
            }
            if !psi::is_intact(section) {
                damage.damaged_sections += 1;
                return;
            }
            last.clear();
            last.extend_from_slice(section);
            found.push(section.to_vec());
        });
        damage.damaged_sections += faults;
        found
    }
}

/// The program that is read.
#[derive(Debug)]
struct Program {
    pes_bytes_max: usize,
    pat: Table,
    /// Program number and packet identifier of its PMT.
    chosen: Option<(u16, u16)>,
    pmt: Table,
    video: Option<Elementary<VideoReader>>,
    audio: Option<Elementary<AudioReader>>,
    clock: Unwrapper,
    announcer: Announcer,
    damage: Damage,
    ignored: Ignored,
}

impl Program {
    fn new(pes_bytes_max: usize) -> Self {
        Self {
            pes_bytes_max,
            pat: Table::default(),
            chosen: None,
            pmt: Table::default(),
            video: None,
            audio: None,
            clock: Unwrapper::default(),
            announcer: Announcer::default(),
            damage: Damage::default(),
            ignored: Ignored::default(),
        }
    }

    fn on_packet(&mut self, bytes: &[u8; PACKET_BYTES], out: &mut VecDeque<Item>) {
        let Some(packet) = packet::parse(bytes) else {
            self.damage.malformed_packets += 1;
            return;
        };
        if packet.transport_error {
            // Its identifier may be wrong too; if it was right its counter is missing next.
            self.damage.transport_errors += 1;
            return;
        }
        if packet.pid == psi::PAT_PID {
            for section in self.pat.push(&packet, &mut self.damage) {
                self.on_pat(&section);
            }
            return;
        }
        if self.chosen.is_some_and(|(_, pmt_pid)| pmt_pid == packet.pid) {
            for section in self.pmt.push(&packet, &mut self.damage) {
                self.on_pmt(&section, out);
            }
            return;
        }
        let mut output = Output {
            announcer: &mut self.announcer,
            damage: &mut self.damage,
            ignored: &mut self.ignored,
            items: out,
            pes_bytes_max: self.pes_bytes_max,
        };
        if let Some(video) = self.video.as_mut().filter(|video| video.pid == packet.pid) {
            video.on_packet(&packet, &mut self.clock, &mut output);
        } else if let Some(audio) = self.audio.as_mut().filter(|audio| audio.pid == packet.pid) {
            audio.on_packet(&packet, &mut self.clock, &mut output);
        }
    }

    fn on_pat(&mut self, section: &[u8]) {
        let Some(mut programs) = psi::parse_pat(section) else { return };
        let Some(first) = programs.next() else { return };
        self.ignored.other_programs += programs.count() as u64;
        if self.chosen != Some(first) {
            self.chosen = Some(first);
            self.pmt = Table::default();
        }
    }

    fn on_pmt(&mut self, section: &[u8], out: &mut VecDeque<Item>) {
        let Some((program, streams)) = psi::parse_pmt(section) else { return };
        // Several programs may have their tables at one identifier.
        if self.chosen.is_none_or(|(chosen, _)| chosen != program) {
            return;
        }
        let (mut video, mut audio) = (None, None);
        for stream in &streams {
            match format(stream) {
                Some(format) if format.is_video() && video.is_none() => {
                    video = Some((stream.pid, format));
                }
                Some(format) if !format.is_video() && audio.is_none() => {
                    audio = Some((stream.pid, format));
                }
                _ => self.ignored.other_streams += 1,
            }
        }
        let changed = self.video.as_ref().map(|stream| (stream.pid, stream.format)) != video
            || self.audio.as_ref().map(|stream| (stream.pid, stream.format)) != audio;
        if !changed {
            return;
        }
        // What waits for its end, or for other tracks, belongs to the streams before.
        self.finish(out);
        let kept = self.video.take().filter(|stream| Some((stream.pid, stream.format)) == video);
        let same_video = kept.is_some();
        self.video = kept.or_else(|| {
            let (pid, format) = video?;
            let codec = if format == Format::H264 { Codec::H264 } else { Codec::H265 };
            Some(Elementary::new(pid, format, VideoReader::new(codec)))
        });
        let kept = self.audio.take().filter(|stream| Some((stream.pid, stream.format)) == audio);
        let same_audio = kept.is_some();
        self.audio = kept.or_else(|| {
            let (pid, format) = audio?;
            Some(Elementary::new(pid, format, AudioReader::new(format)))
        });
        self.announcer.expect((video.is_some(), !same_video), (audio.is_some(), !same_audio));
    }

    fn finish(&mut self, out: &mut VecDeque<Item>) {
        let mut output = Output {
            announcer: &mut self.announcer,
            damage: &mut self.damage,
            ignored: &mut self.ignored,
            items: out,
            pes_bytes_max: self.pes_bytes_max,
        };
        if let Some(video) = &mut self.video {
            video.finish(&mut self.clock, &mut output);
        }
        if let Some(audio) = &mut self.audio {
            audio.finish(&mut self.clock, &mut output);
        }
        self.announcer.release(out);
    }
}
