//! The clip as RTP packets: what a server sends when it is asked for the same stream by RTP.

use std::collections::VecDeque;

use protocols::container::Item;
use protocols::container::flv::{self, TagType};
use protocols::media::{Timestamp, Tracks};
use protocols::rtp::{Channels, NtpTime, PayloadFormat, Sender, interleaved};

use crate::Outcome;
use crate::clip::{Clip, Due, stamp};

/// Largest packet, as servers send it.
const PACKET_BYTES: usize = 1400;
/// Channels of the framing between packetizer and us.
const VIDEO: u8 = 0;
const AUDIO: u8 = 2;

/// Packets of one frame that the kernel can cut apart, end to end.
#[derive(Debug)]
pub struct Packets {
    /// Of video or of audio.
    pub video: bool,
    /// Bytes of each packet but the last.
    pub segment: u16,
    /// All bytes.
    pub bytes: Vec<u8>,
}

/// Makes packets of a clip's frames.
#[derive(Debug)]
pub struct ClipPackets {
    demuxer: flv::Demuxer,
    items: VecDeque<Item>,
    sender: Sender,
    framed: Vec<u8>,
}

impl ClipPackets {
    /// Before the first frame.
    ///
    /// # Errors
    /// The clip's headers make no sense.
    pub fn new(clip: &Clip) -> Outcome<Self> {
        let channels = Channels { video: VIDEO, audio: AUDIO };
        let nothing = Tracks::default();
        let sender = Sender::new(1, NtpTime::default(), &nothing, channels, PACKET_BYTES);
        let (items, framed) = (VecDeque::new(), Vec::new());
        let mut packets = Self { demuxer: flv::Demuxer::new(12), items, sender, framed };
        for (tag, body) in clip.configuration() {
            packets.push(tag, 0, body)?;
        }
        Ok(packets)
    }

    fn push(&mut self, tag: TagType, millis: i64, body: Vec<u8>) -> Outcome<()> {
        let time = Timestamp::from_millis(millis);
        Ok(self.demuxer.push(tag, time, body.into(), &mut self.items)?)
    }

    /// The packets of the frame that is due, sent at `now_ns`; none while the tracks are not known.
    /// Reports are left out.
    ///
    /// # Errors
    /// The frame makes no sense.
    pub fn frame(&mut self, clip: &Clip, due: Due, now_ns: u64) -> Outcome<Vec<Packets>> {
        let Some(piece) = clip.piece(due) else { return Ok(Vec::new()) };
        let mut body = piece.body.clone();
        stamp(&mut body[piece.mark_at..], now_ns, due.number);
        self.push(due.tag, (due.at_ns / 1_000_000) as i64, body)?;
        let mut all: Vec<Packets> = Vec::new();
        while let Some(item) = self.items.pop_front() {
            match item {
                // Nobody was told of other ones.
                Item::Tracks(tracks) => drop(self.sender.set_tracks(&tracks)),
                Item::Frame(frame) => {
                    self.framed.clear();
                    self.sender.write_frame(&frame, &mut self.framed);
                    let media = interleaved::packets(&self.framed)
                        .filter(|(channel, _)| matches!(*channel, VIDEO | AUDIO));
                    let from = all.len();
                    for (_, packet) in media {
                        let segment = u16::try_from(packet.len())?;
                        match all[from..].last_mut() {
                            Some(Packets { segment: before, bytes, .. })
                                if segment <= *before
                                    && bytes.len().is_multiple_of((*before).into()) =>
                            {
                                bytes.extend_from_slice(packet);
                            }
                            _ => all.push(Packets {
                                video: frame.kind.is_video(),
                                segment,
                                bytes: packet.to_vec(),
                            }),
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    /// How the tracks of a clip travel, video first.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub fn formats(clip: &Clip) -> Outcome<Vec<PayloadFormat>> {
        let mut packets = Self::new(clip)?;
        let (mut video, mut audio) = (0, 0);
        // The tracks are announced once there was a frame of each.
        while video < 2 {
            let due = clip.next(video, audio);
            packets.frame(clip, due, 0)?;
            if due.tag == TagType::Video { video += 1 } else { audio += 1 }
        }
        Ok(packets.sender.formats().cloned().collect())
    }
}
