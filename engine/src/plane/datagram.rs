//! RTP and RTCP over UDP: one pair of ports per shard, shared by all its sessions.
//!
//! A peer is told by the address it sends from. So however many play or publish, two ports have
//! to be open per shard, and a session ends without a socket to close.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use bytes::Bytes;
use protocols::session::{Command, Input, Refusal};
use smallvec::SmallVec;

use super::datagram_egress::Train;
use super::multicast::{Groups, Membership};
use crate::config::model::Multicast;
use crate::net::sys_datagram::{self, Destination, Inbox, Run};
use crate::observe::DropReason;
use crate::ring::Token;
use crate::shard::Shard;

/// Marks a poller token as one of the two sockets: the RTP socket, or with the lowest bit RTCP.
pub(super) const DATAGRAM_BIT: u64 = 1 << 62;
/// Addresses a shard knows at a time: four per session with sound and pictures.
const PEERS_MAX: usize = 65_536;
/// Tracks one session may have by datagrams.
const TRACKS_MAX: usize = 8;
/// Socket buffers: what a burst of keyframes to many viewers, or from many publishers, needs.
const BUFFER_BYTES: i32 = 8 << 20;
/// Calls that receive, per report of the poller.
const RECEIVES_PER_TURN: usize = 16;

/// Who sends from an address.
#[derive(Debug, Clone, Copy)]
struct Peer {
    conn: Token,
    track: u8,
    rtcp: bool,
}

/// The two sockets of a shard and who is known at them.
#[derive(Default)]
pub struct Datagrams {
    sockets: Option<Sockets>,
    peers: HashMap<SocketAddr, Peer>,
    pub(super) groups: Groups,
    /// Room for what is sent to viewers.
    pub(super) train: Train,
}

struct Sockets {
    rtp: OwnedFd,
    rtcp: OwnedFd,
    ports: (u16, u16),
    /// They are IPv6 sockets, which carry IPv4 too.
    ipv6: bool,
    /// The kernel cuts messages into datagrams.
    segments: bool,
    /// Packets to groups leave with this time to live, by this interface.
    to_groups: Option<(u8, Option<Ipv4Addr>)>,
    inbox: Inbox,
}

/// The tracks of a session that travel by datagrams.
#[derive(Debug, Default)]
pub struct Flows {
    flows: SmallVec<[Flow; 2]>,
    /// Track and whether it is video, of peers that have not named their ports yet.
    awaited: SmallVec<[(u8, bool); 2]>,
    /// Where everything goes of a session that plays by multicast.
    pub(super) group: Option<Box<Membership>>,
}

/// One track: where its packets go.
#[derive(Debug, Clone, Copy)]
struct Flow {
    track: u8,
    video: bool,
    addresses: (SocketAddr, SocketAddr),
    rtp: Destination,
    rtcp: Destination,
}

impl Flows {
    /// Everything goes to a multicast group.
    pub(crate) fn is_group(&self) -> bool {
        self.group.is_some()
    }

    /// Where a packet of a channel of the canonical framing goes, and whether it is RTCP.
    pub(super) fn destination(&self, channel: u8) -> Option<(Destination, bool)> {
        if let Some(group) = &self.group {
            return group.destination(channel);
        }
        let flow = self.flows.iter().find(|flow| flow.video == (channel < 2))?;
        let rtcp = channel % 2 == 1;
        Some((if rtcp { flow.rtcp } else { flow.rtp }, rtcp))
    }
}

impl Datagrams {
    /// The sockets are IPv6 sockets.
    pub(super) fn is_ipv6(&self) -> bool {
        self.sockets.as_ref().is_some_and(|sockets| sockets.ipv6)
    }

    /// The RTP and the RTCP socket, and whether the kernel cuts their messages into datagrams;
    /// once a session has asked for them.
    pub(super) fn parts(&self) -> Option<(&OwnedFd, &OwnedFd, bool)> {
        self.sockets.as_ref().map(|sockets| (&sockets.rtp, &sockets.rtcp, sockets.segments))
    }

    /// Has packets to groups leave as configured, from the first time on.
    pub(super) fn send_to_groups(&mut self, config: &Multicast) -> io::Result<()> {
        let Some(sockets) = &mut self.sockets else { return Ok(()) };
        let wanted = (config.ttl, config.interface);
        if sockets.to_groups == Some(wanted) {
            return Ok(());
        }
        for fd in [&sockets.rtp, &sockets.rtcp] {
            sys_datagram::send_to_groups(fd.as_fd(), config.ttl, config.interface)?;
        }
        sockets.to_groups = Some(wanted);
        Ok(())
    }

    /// Binds the pair of a shard: the first free one of those that are its own.
    fn bind(
        &mut self,
        ip: Option<IpAddr>,
        range: (u16, u16),
        shard: usize,
        shards: usize,
    ) -> io::Result<&Sockets> {
        if self.sockets.is_none() {
            let ip = ip.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
            let even = u32::from(range.0).next_multiple_of(2) + 2 * shard as u32;
            let mut last = io::ErrorKind::AddrInUse.into();
            for port in (even..u32::from(range.1)).step_by(2 * shards.max(1)) {
                let Ok(port) = u16::try_from(port) else { break };
                match bind_pair(ip, port) {
                    Ok(sockets) => {
                        self.sockets = Some(sockets);
                        break;
                    }
                    Err(error) => last = error,
                }
            }
            if self.sockets.is_none() {
                return Err(last);
            }
        }
        self.sockets.as_ref().ok_or_else(|| io::ErrorKind::AddrInUse.into())
    }
}

fn bind_pair(ip: IpAddr, port: u16) -> io::Result<Sockets> {
    let bind = |ip, port| sys_datagram::bind(SocketAddr::new(ip, port), BUFFER_BYTES);
    let (rtp, ip) = match bind(ip, port) {
        // A host without IPv6 has no dual-stack socket.
        Err(error) if ip == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse => {
            let v4 = IpAddr::from([0, 0, 0, 0]);
            (bind(v4, port)?, v4)
        }
        other => (other?, ip),
    };
    let rtcp = bind(ip, port + 1)?;
    let segments = sys_datagram::segments(rtp.as_fd());
    let (ports, inbox) = ((port, port + 1), Inbox::default());
    Ok(Sockets { rtp, rtcp, ports, ipv6: ip.is_ipv6(), segments, to_groups: None, inbox })
}

impl Shard {
    /// A session wants a track by datagrams.
    pub(super) fn request_datagrams(
        &mut self,
        slot: usize,
        track: u8,
        video: bool,
        ports: (u16, u16),
    ) {
        let token = self.plane.token(slot);
        let Some(server_ports) = self.open_datagrams() else {
            return self.command(token, Command::Reject(Refusal::Overloaded));
        };
        let flows = &self.plane.conns[slot].flows;
        let tracks = flows.as_ref().map_or(0, |flows| flows.flows.len() + flows.awaited.len());
        let full = self.plane.datagrams.peers.len() + 2 > PEERS_MAX || tracks >= TRACKS_MAX;
        if !full && ports == (0, 0) {
            let flows = self.plane.conns[slot].flows.get_or_insert_default();
            flows.awaited.push((track, video));
        } else if full || !self.connect_flow(slot, track, video, ports, None) {
            return self.command(token, Command::Reject(Refusal::Overloaded));
        }
        let (rtp, rtcp) = server_ports;
        self.command(token, Command::DatagramPorts { track, rtp, rtcp });
    }

    /// The ports of this shard, bound and watched from the first time on; `None` if they cannot be.
    pub(super) fn open_datagrams(&mut self) -> Option<(u16, u16)> {
        let rtsp = &self.config.rtsp;
        let (ip, range) = (rtsp.ip, (rtsp.port_min, rtsp.port_max));
        let (shard, shards) = (self.id.index(), self.mesh.shards());
        let known = self.plane.datagrams.sockets.is_some();
        let ports = match self.plane.datagrams.bind(ip, range, shard, shards) {
            Ok(sockets) => sockets.ports,
            Err(error) => {
                tracing::warn!(%error, ?range, "no UDP ports for RTP");
                return None;
            }
        };
        if !known && let Err(error) = self.watch_datagrams() {
            tracing::warn!(%error, "cannot watch the UDP ports");
            self.plane.datagrams.sockets = None;
            return None;
        }
        Some(ports)
    }

    fn watch_datagrams(&self) -> io::Result<()> {
        let Some(sockets) = &self.plane.datagrams.sockets else { return Ok(()) };
        self.plane.epoll.add_listener(sockets.rtp.as_fd(), DATAGRAM_BIT)?;
        self.plane.epoll.add_listener(sockets.rtcp.as_fd(), DATAGRAM_BIT | 1)
    }

    /// The peer has named the ports of a track it was asked for.
    pub(super) fn connect_awaited(
        &mut self,
        slot: usize,
        track: u8,
        ports: (u16, u16),
        source: Option<IpAddr>,
    ) {
        let Some(flows) = &mut self.plane.conns[slot].flows else { return };
        let Some(index) = flows.awaited.iter().position(|(awaited, _)| *awaited == track) else {
            return;
        };
        let (_, video) = flows.awaited.swap_remove(index);
        if !self.connect_flow(slot, track, video, ports, source) {
            tracing::debug!(track, ?ports, "another session has these ports of the peer");
        }
    }

    /// Binds a track of a session to the peer's ports; false when another session has them.
    fn connect_flow(
        &mut self,
        slot: usize,
        track: u8,
        video: bool,
        ports: (u16, u16),
        source: Option<IpAddr>,
    ) -> bool {
        self.drop_flow(slot, track);
        let conn = self.plane.token(slot);
        let Some(sockets) = &self.plane.datagrams.sockets else { return false };
        let ip = source.unwrap_or(self.plane.conns[slot].peer.ip());
        let (rtp, rtcp) = (SocketAddr::new(ip, ports.0), SocketAddr::new(ip, ports.1));
        let flow = Flow {
            track,
            video,
            addresses: (rtp, rtcp),
            rtp: Destination::new(rtp, sockets.ipv6),
            rtcp: Destination::new(rtcp, sockets.ipv6),
        };
        let peers = &mut self.plane.datagrams.peers;
        // A session that has gone leaves nothing behind, so whoever stands there is alive.
        if [rtp, rtcp].iter().any(|addr| peers.get(addr).is_some_and(|peer| peer.conn != conn)) {
            return false;
        }
        peers.insert(rtp, Peer { conn, track, rtcp: false });
        peers.insert(rtcp, Peer { conn, track, rtcp: true });
        self.plane.conns[slot].flows.get_or_insert_default().flows.push(flow);
        true
    }

    fn drop_flow(&mut self, slot: usize, track: u8) {
        let Some(flows) = &mut self.plane.conns[slot].flows else { return };
        let peers = &mut self.plane.datagrams.peers;
        flows.flows.retain(|flow| {
            if flow.track == track {
                peers.remove(&flow.addresses.0);
                peers.remove(&flow.addresses.1);
            }
            flow.track != track
        });
    }

    /// The session has no more use for datagrams.
    pub(super) fn drop_flows(&mut self, slot: usize) {
        let Some(flows) = self.plane.conns[slot].flows.take() else { return };
        if let Some(group) = &flows.group {
            self.release_group(slot, group);
        }
        for flow in flows.flows {
            self.plane.datagrams.peers.remove(&flow.addresses.0);
            self.plane.datagrams.peers.remove(&flow.addresses.1);
        }
    }

    /// Datagrams wait at one of the two sockets.
    pub(super) fn receive_datagrams(&mut self, rtcp: bool, now: Instant) {
        let mut taken: Vec<(Peer, Bytes)> = Vec::new();
        for _ in 0..RECEIVES_PER_TURN {
            let Datagrams { sockets: Some(sockets), peers, .. } = &mut self.plane.datagrams else {
                break;
            };
            let Sockets { rtp, rtcp: reports, inbox, .. } = sockets;
            let fd = if rtcp { reports.as_fd() } else { rtp.as_fd() };
            let counters = &mut self.counters;
            let more = inbox.receive(fd, |from, bytes| match peers.get(&from) {
                Some(peer) if peer.rtcp == rtcp => {
                    taken.push((*peer, Bytes::copy_from_slice(bytes)));
                }
                Some(_) | None => counters.dropped(DropReason::WrongSource),
            });
            for (peer, data) in taken.drain(..) {
                self.take_datagram(peer, data, now);
            }
            match more {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!(%error, rtcp, "datagrams not received");
                    break;
                }
            }
        }
    }

    fn take_datagram(&mut self, peer: Peer, data: Bytes, now: Instant) {
        let Peer { conn, track, rtcp } = peer;
        self.counters.bytes_in += data.len() as u64;
        self.guarded(conn, now, |shard, slot| {
            shard.plane.conns[slot].bytes_in += data.len() as u64;
            shard.drive(slot, now, |session| {
                session.handle_input(now, Input::Datagram { track, rtcp, data })
            });
        });
    }

    /// A session's own datagram: reports and requests for keyframes.
    pub(super) fn send_datagram(&mut self, slot: usize, track: u8, rtcp: bool, data: &Bytes) {
        let Some(sockets) = &self.plane.datagrams.sockets else { return };
        let conn = &mut self.plane.conns[slot];
        let flows = conn.flows.as_ref().into_iter().flat_map(|flows| &flows.flows);
        let Some(flow) = flows.into_iter().find(|flow| flow.track == track) else { return };
        let (fd, to) = match rtcp {
            true => (sockets.rtcp.as_fd(), flow.rtcp),
            false => (sockets.rtp.as_fd(), flow.rtp),
        };
        let segment = u16::try_from(data.len()).unwrap_or(u16::MAX);
        let run = Run { bytes: data, segment };
        let sent = sys_datagram::send(fd, &[run], &[(0, to)]);
        conn.bytes_out += sent.bytes;
        self.counters.bytes_out += sent.bytes;
        self.counters.dropped_many(DropReason::DatagramRefused, sent.refused);
    }
}
