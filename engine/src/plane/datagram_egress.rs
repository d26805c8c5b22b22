//! The fan-out by datagrams: the packets of a wire, framing left off, to each viewer's ports.
//!
//! All viewers of a wire get the same packets: they are found and grouped once per batch, and a
//! viewer costs two addresses per group. What a full socket does not take is lost, as on a network.

use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Instant;

use protocols::rtp::interleaved;

use crate::net::sys_datagram::{self, Destination, Run, Sent};
use crate::observe::DropReason;
use crate::shard::Shard;
use crate::stream::{Viewer, Wire};

/// Channels of the framing of wires whose packets travel as datagrams: video, audio, and RTCP of
/// each beside it.
const CHANNELS: usize = 4;

/// The packets between two offsets of a wire, grouped by channel.
#[derive(Default)]
struct Train<'a> {
    between: (u64, u64),
    runs: Vec<Run<'a>>,
    /// Channel of each run.
    channels: Vec<u8>,
}

impl<'a> Train<'a> {
    fn new(wire: &'a Wire, from: u64, to: u64, segments: bool) -> Self {
        let mut train = Self { between: (from, to), ..Self::default() };
        let mut open = [usize::MAX; CHANNELS];
        for (channel, packet) in wire.parts(from, to).flat_map(interleaved::packets) {
            let Some(open) = open.get_mut(usize::from(channel)) else { continue };
            let joined = segments
                && train.runs.get_mut(*open).is_some_and(|run: &mut Run<'a>| run.extend(packet));
            if !joined {
                *open = train.runs.len();
                train.runs.push(Run::new(packet));
                train.channels.push(channel);
            }
        }
        train
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
        let mut train = Train::default();
        let mut batch = Batch::default();
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
            if train.between != (from, limit) {
                total.add(batch.send(&mut train, &self.plane.datagrams));
                train = Train::new(wire, from, limit, segments);
            }
            let Some(flows) = &conn.flows else { continue };
            batch.add(&train, viewer, |channel| flows.destination(channel));
            viewer.offset = limit;
        }
        total.add(batch.send(&mut train, &self.plane.datagrams));
        drop(train);
        wire.viewers = viewers;
        self.counters.sends += total.messages;
        self.counters.dropped_many(DropReason::DatagramRefused, total.refused);
        total.bytes
    }
}

/// Messages to be sent: from the RTP and the RTCP socket.
#[derive(Default)]
struct Batch {
    rtp: Vec<(usize, Destination)>,
    rtcp: Vec<(usize, Destination)>,
}

impl Batch {
    fn add(
        &mut self,
        train: &Train<'_>,
        viewer: &mut Viewer,
        destination: impl Fn(u8) -> Option<(Destination, bool)>,
    ) {
        let places: [_; CHANNELS] = std::array::from_fn(|channel| destination(channel as u8));
        for (index, channel) in train.channels.iter().enumerate() {
            let Some((to, rtcp)) = places[usize::from(*channel)] else { continue };
            if rtcp { &mut self.rtcp } else { &mut self.rtp }.push((index, to));
            viewer.sent += train.runs[index].bytes as u64;
        }
    }

    fn send(&mut self, train: &mut Train<'_>, datagrams: &super::datagram::Datagrams) -> Sent {
        let Some((rtp, rtcp, _)) = datagrams.parts() else { return Sent::default() };
        let mut sent = sys_datagram::send(rtp.as_fd(), &mut train.runs, &self.rtp);
        sent.add(sys_datagram::send(rtcp.as_fd(), &mut train.runs, &self.rtcp));
        self.rtp.clear();
        self.rtcp.clear();
        sent
    }
}
