//! The fan-out by datagrams: the packets of a wire, framing left off, to each viewer's ports.
//!
//! All viewers of a wire get the same packets: they are found, grouped and laid end to end once per
//! batch, and a viewer costs two addresses per group. One piece of memory per message is what makes
//! it cheap: the kernel copies many small pieces at a third of the speed. What a full socket does
//! not take is lost, as on a network.

use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Instant;

use protocols::rtp::interleaved;

use super::datagram::Datagrams;
use crate::net::sys_datagram::{self, Destination, RUN_BYTES_MAX, Run, SEGMENTS_MAX, Sent};
use crate::observe::DropReason;
use crate::shard::Shard;
use crate::stream::{Viewer, Wire};

/// Channels of the framing of wires whose packets travel as datagrams: video, audio, and RTCP of
/// each beside it.
const CHANNELS: usize = 4;
/// Bytes of room per channel that are kept for the next batch.
const ROOM_KEPT: usize = 256 * 1024;

/// The packets between two offsets of a wire, and who is to get them. A shard has one, for its room.
#[derive(Debug, Default)]
pub(super) struct Train {
    between: (u64, u64),
    /// Packets of each channel, end to end.
    bytes: [Vec<u8>; CHANNELS],
    groups: Vec<Group>,
    /// Messages from the RTP socket and from the RTCP socket: index of the group, destination.
    rtp: Vec<(usize, Destination)>,
    rtcp: Vec<(usize, Destination)>,
}

/// Packets that leave as one message.
#[derive(Debug, Clone)]
struct Group {
    channel: usize,
    range: Range<usize>,
    /// Bytes of each packet but the last.
    segment: usize,
    packets: usize,
}

impl Group {
    /// Another packet can be cut off behind these: all so far are of full size, and it is not
    /// larger.
    fn takes(&self, packet: &[u8]) -> bool {
        self.packets < SEGMENTS_MAX
            && self.range.len() + packet.len() <= RUN_BYTES_MAX
            && packet.len() <= self.segment
            && self.range.len().is_multiple_of(self.segment.max(1))
    }
}

impl Train {
    /// The packets between two offsets; `segments`: the kernel cuts messages into datagrams.
    fn load(&mut self, wire: &Wire, between: (u64, u64), segments: bool) {
        self.between = between;
        self.groups.clear();
        self.bytes.iter_mut().for_each(Vec::clear);
        let parts = wire.parts(between.0, between.1);
        for (channel, packet) in parts.flat_map(interleaved::packets) {
            self.push(channel.into(), packet, segments);
        }
    }

    fn push(&mut self, channel: usize, packet: &[u8], segments: bool) {
        let Some(bytes) = self.bytes.get_mut(channel) else { return };
        let start = bytes.len();
        bytes.extend_from_slice(packet);
        let last = self.groups.iter_mut().rev().find(|group| group.channel == channel);
        match last {
            Some(group) if segments && group.takes(packet) => {
                group.range.end = bytes.len();
                group.packets += 1;
            }
            _ => {
                let (range, segment) = (start..bytes.len(), packet.len());
                self.groups.push(Group { channel, range, segment, packets: 1 });
            }
        }
    }

    fn add(
        &mut self,
        viewer: &mut Viewer,
        destination: impl Fn(u8) -> Option<(Destination, bool)>,
    ) {
        let places: [_; CHANNELS] = std::array::from_fn(|channel| destination(channel as u8));
        for (index, group) in self.groups.iter().enumerate() {
            let Some((to, rtcp)) = places[group.channel] else { continue };
            if rtcp { &mut self.rtcp } else { &mut self.rtp }.push((index, to));
            viewer.sent += group.range.len() as u64;
        }
    }

    /// Sends what was added.
    fn send(&mut self, datagrams: &Datagrams) -> Sent {
        let Some((rtp, rtcp, _)) = datagrams.parts() else { return Sent::default() };
        if self.rtp.is_empty() && self.rtcp.is_empty() {
            return Sent::default();
        }
        let run = |group: &Group| Run {
            bytes: &self.bytes[group.channel][group.range.clone()],
            segment: u16::try_from(group.segment).unwrap_or(u16::MAX),
        };
        let runs: Vec<Run<'_>> = self.groups.iter().map(run).collect();
        let mut sent = sys_datagram::send(rtp.as_fd(), &runs, &self.rtp);
        sent.add(sys_datagram::send(rtcp.as_fd(), &runs, &self.rtcp));
        self.rtp.clear();
        self.rtcp.clear();
        sent
    }

    /// Gives back what is rarely needed. The offsets of one wire mean nothing to another.
    fn rest(&mut self) {
        self.between = (0, 0);
        self.groups.clear();
        self.bytes.iter_mut().for_each(|bytes| {
            bytes.clear();
            bytes.shrink_to(ROOM_KEPT);
        });
    }
}

impl Shard {
    /// Sends viewers of a datagram wire what is due to them; the bytes sent.
    pub(super) fn send_trains(
        &mut self,
        mirror: usize,
        wire_index: usize,
        range: Range<usize>,
        now: Instant,
    ) -> u64 {
        let Some(mirror) = self.mirrors.get_mut(mirror) else { return 0 };
        let Some(wire) = mirror.wires.get_mut(wire_index) else { return 0 };
        let Some((_, _, segments)) = self.plane.datagrams.parts() else { return 0 };
        // The viewers move while the bytes stay: taken out, so that both can be borrowed.
        let mut viewers = std::mem::take(&mut wire.viewers);
        let mut train = std::mem::take(&mut self.plane.datagrams.train);
        let mut total = Sent::default();
        for viewer in viewers.get_mut(range).unwrap_or_default() {
            if !viewer.is_behind(wire.head()) {
                continue;
            }
            let Some(conn) = self.plane.conns.get_mut(viewer.conn as usize) else { continue };
            let limit = conn.reach(wire, now);
            let from = viewer.offset.max(wire.tail());
            if limit <= from {
                continue;
            }
            let Some(flows) = &conn.flows else { continue };
            // Of those in a group only one has its packets sent.
            if flows.group.as_ref().is_some_and(|group| !group.leads()) {
                viewer.offset = limit;
                continue;
            }
            if train.between != (from, limit) {
                total.add(train.send(&self.plane.datagrams));
                train.load(wire, (from, limit), segments);
            }
            train.add(viewer, |channel| flows.destination(channel));
            viewer.offset = limit;
        }
        total.add(train.send(&self.plane.datagrams));
        train.rest();
        self.plane.datagrams.train = train;
        wire.viewers = viewers;
        self.counters.sends += total.messages;
        self.counters.dropped_many(DropReason::DatagramRefused, total.refused);
        total.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_equal_packets_and_one_shorter() {
        let (full, short) = ([1u8; 100], [2u8; 40]);
        let mut train = Train::default();
        let packets: [(usize, &[u8]); 8] = [
            (0, &full),
            (2, &short),
            (0, &full),
            (0, &short),
            // Nothing follows a shorter one, nor a longer one a short one.
            (0, &full),
            (2, &full),
            (2, &full),
            (9, &full),
        ];
        packets.iter().for_each(|(channel, packet)| train.push(*channel, packet, true));
        let groups: Vec<_> =
            train.groups.iter().map(|group| (group.channel, group.range.clone())).collect();
        assert_eq!(groups, [(0, 0..240), (2, 0..40), (0, 240..340), (2, 40..240)]);
        assert_eq!(train.bytes[0][200..240], short);
        let mut single = Train::default();
        packets.iter().for_each(|(channel, packet)| single.push(*channel, packet, false));
        assert_eq!(single.groups.len(), 7);
        for _ in 0..SEGMENTS_MAX {
            single.push(2, &full, true);
        }
        assert_eq!(single.groups.last().map(|group| group.packets), Some(1));
        single.rest();
        assert!(single.groups.is_empty() && single.bytes.iter().all(Vec::is_empty));
    }
}
