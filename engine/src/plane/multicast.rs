//! Play by RTP multicast: the groups of a shard, and for whom the packets of a group are sent.
//!
//! All who play a stream by multicast on a shard share a group and a wire. They are viewers as all
//! others are, but only one of them, the leader, has the packets sent; the rest move along with the
//! wire. A group that is left by its leader goes to the next, one that is left by all ends.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use protocols::media::StreamKey;
use protocols::session::{AccessRequest, Command, Refusal};

use crate::config::model::Multicast;
use crate::conn::Role;
use crate::net::sys_datagram::Destination;
use crate::ring::Token;
use crate::shard::{Shard, Wish};

/// Ports of a group: RTP and RTCP of video, then of sound.
const PORTS: u32 = 4;

/// The groups of a shard, by stream.
#[derive(Debug, Default)]
pub(super) struct Groups {
    streams: HashMap<StreamKey, Group>,
    /// Places of the range that are in use.
    taken: HashSet<u32>,
}

#[derive(Debug)]
struct Group {
    /// Its place in the configured range.
    number: u32,
    /// Sessions that have set a track up.
    holders: Vec<Token>,
    /// Those that play; the first one leads.
    players: Vec<Token>,
}

impl Groups {
    /// The place of a stream's group, for one more session. Of the range a shard has every
    /// `shards`th. `None`: all are taken.
    fn hold(
        &mut self,
        key: &StreamKey,
        conn: Token,
        range: u32,
        shard: u32,
        shards: u32,
    ) -> Option<u32> {
        if !self.streams.contains_key(key) {
            let mut own = (shard..range).step_by(shards.max(1) as usize);
            let number = own.find(|number| !self.taken.contains(number))?;
            self.taken.insert(number);
            let group = Group { number, holders: Vec::new(), players: Vec::new() };
            self.streams.insert(key.clone(), group);
        }
        let group = self.streams.get_mut(key)?;
        if !group.holders.contains(&conn) {
            group.holders.push(conn);
        }
        Some(group.number)
    }

    /// A session plays; true if it leads.
    fn play(&mut self, key: &StreamKey, conn: Token) -> bool {
        let Some(group) = self.streams.get_mut(key) else { return false };
        group.players.push(conn);
        group.players.len() == 1
    }

    /// A session does not play any more; who leads instead of it.
    fn pause(&mut self, key: &StreamKey, conn: Token) -> Option<Token> {
        let group = self.streams.get_mut(key)?;
        let led = group.players.first() == Some(&conn);
        group.players.retain(|player| *player != conn);
        group.players.first().copied().filter(|_| led)
    }

    /// A session has no use for the group any more.
    fn release(&mut self, key: &StreamKey, conn: Token) {
        let Some(group) = self.streams.get_mut(key) else { return };
        group.holders.retain(|holder| *holder != conn);
        if group.holders.is_empty() {
            self.taken.remove(&group.number);
            self.streams.remove(key);
        }
    }

    fn is_played(&self, key: &StreamKey) -> bool {
        self.streams.get(key).is_some_and(|group| !group.players.is_empty())
    }
}

/// Group and lowest port of a place in the range.
fn place(config: &Multicast, number: u32) -> (Ipv4Addr, u16) {
    let address = Ipv4Addr::from_bits(config.groups.0.to_bits().saturating_add(number));
    // Distinct as far as there are ports: not every player tells groups apart that share one.
    let rows = (u32::from(u16::MAX) + 1 - u32::from(config.port)) / PORTS;
    let port = u32::from(config.port) + PORTS * (number % rows.max(1));
    (address, u16::try_from(port).unwrap_or(config.port))
}

/// Groups that a range has.
pub(super) fn size(config: &Multicast) -> u32 {
    let (first, last) = config.groups;
    (last.to_bits() - first.to_bits()).saturating_add(1)
}

/// The group of a session that plays, or will play, by multicast.
#[derive(Debug)]
pub(super) struct Membership {
    key: StreamKey,
    /// Where the packets of each channel of the canonical framing go.
    channels: [Destination; PORTS as usize],
    /// They are sent for this one.
    leads: bool,
}

impl Membership {
    fn new(key: StreamKey, (address, port): (Ipv4Addr, u16), ipv6: bool) -> Self {
        let channels = std::array::from_fn(|channel| {
            let port = port.saturating_add(channel as u16);
            Destination::new(SocketAddr::new(address.into(), port), ipv6)
        });
        Self { key, channels, leads: false }
    }

    /// Packets are sent for this one.
    pub(super) fn leads(&self) -> bool {
        self.leads
    }

    /// Where a packet goes, and whether it is RTCP.
    pub(super) fn destination(&self, channel: u8) -> Option<(Destination, bool)> {
        let to = self.channels.get(usize::from(channel))?;
        Some((*to, channel % 2 == 1))
    }
}

impl Shard {
    /// A session wants to receive a track of a stream by multicast. It is given the group when it
    /// may play the stream, and there is one: groups are few.
    pub(super) fn request_multicast(
        &mut self,
        slot: usize,
        track: u8,
        video: bool,
        request: AccessRequest,
        now: Instant,
    ) {
        match self.prepare_groups() {
            Ok(_) => self.authorise(slot, Wish::Group { track, video }, request, now),
            Err(refusal) => self.command(self.plane.token(slot), Command::Reject(refusal)),
        }
    }

    /// How groups are sent to, if they can be.
    fn prepare_groups(&mut self) -> Result<Multicast, Refusal> {
        let config = self.config.rtsp.multicast.ok_or(Refusal::Unsupported)?;
        self.open_datagrams().ok_or(Refusal::Overloaded)?;
        match self.plane.datagrams.send_to_groups(&config) {
            Ok(()) => Ok(config),
            Err(error) => {
                tracing::warn!(%error, ?config, "cannot send to multicast groups");
                Err(Refusal::Unsupported)
            }
        }
    }

    /// A session that may play a stream that is live is told its group.
    pub(crate) fn answer_with_group(
        &mut self,
        slot: usize,
        track: u8,
        video: bool,
        key: StreamKey,
    ) {
        let command = match self.join_group(slot, key) {
            Ok((address, port, ttl)) => {
                let port = if video { port } else { port.saturating_add(2) };
                let (address, ports) = (address.into(), (port, port.saturating_add(1)));
                Command::MulticastGroup { track, address, ports, ttl }
            }
            Err(refusal) => Command::Reject(refusal),
        };
        self.command(self.plane.token(slot), command);
    }

    fn join_group(&mut self, slot: usize, key: StreamKey) -> Result<(Ipv4Addr, u16, u8), Refusal> {
        let config = self.prepare_groups()?;
        let conn = self.plane.token(slot);
        let (shard, shards) = (self.id.index() as u32, self.mesh.shards() as u32);
        let number = self.plane.datagrams.groups.hold(&key, conn, size(&config), shard, shards);
        let Some(number) = number else {
            tracing::warn!(key = %key, "all multicast groups of this shard are taken");
            return Err(Refusal::Overloaded);
        };
        let (address, port) = place(&config, number);
        let ipv6 = self.plane.datagrams.is_ipv6();
        let flows = self.plane.conns[slot].flows.get_or_insert_default();
        let group = || Box::new(Membership::new(key, (address, port), ipv6));
        flows.group.get_or_insert_with(group);
        Ok((address, port, config.ttl))
    }

    /// A session is about to play by multicast what is sent to its group already: where its packets
    /// begin is not for the engine to say.
    pub(crate) fn follows(&self, slot: usize) -> bool {
        let group = self.plane.conns[slot].flows.as_ref().and_then(|flows| flows.group.as_ref());
        group.is_some_and(|group| self.plane.datagrams.groups.is_played(&group.key))
    }

    /// A session is on its wire: it leads its group, if it has one, or moves along.
    pub(crate) fn enter_group(&mut self, slot: usize) {
        let conn = self.plane.token(slot);
        let flows = self.plane.conns[slot].flows.as_mut();
        if let Some(group) = flows.and_then(|flows| flows.group.as_mut()) {
            group.leads = self.plane.datagrams.groups.play(&group.key, conn);
        }
    }

    /// A session leaves its wire, at `offset` of it: another leads on from there.
    pub(crate) fn leave_group(&mut self, slot: usize, offset: u64) {
        let conn = self.plane.token(slot);
        let flows = self.plane.conns[slot].flows.as_mut();
        let Some(group) = flows.and_then(|flows| flows.group.as_mut()) else { return };
        group.leads = false;
        let next = self.plane.datagrams.groups.pause(&group.key, conn);
        let Some(next) = next.and_then(|next| self.plane.slot(next)) else { return };
        let conn = &mut self.plane.conns[next];
        if let Some(group) = conn.flows.as_mut().and_then(|flows| flows.group.as_mut()) {
            group.leads = true;
        }
        if let Role::Viewer { mirror, wire, index } = conn.role {
            let wire = &mut self.mirrors[mirror].wires[wire];
            wire.viewers[index].offset = offset;
            wire.sweep.disturb();
        }
    }

    /// A session has no use for its group any more.
    pub(super) fn release_group(&mut self, slot: usize, group: &Membership) {
        let conn = self.plane.token(slot);
        self.plane.datagrams.groups.release(&group.key, conn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(index: u32) -> Token {
        Token { index, generation: 1 }
    }

    fn key(name: &str) -> StreamKey {
        StreamKey::new("", "live", name).unwrap()
    }

    #[test]
    fn streams_have_groups_while_somebody_holds_them() {
        let mut groups = Groups::default();
        let hold = |groups: &mut Groups, name, conn| groups.hold(&key(name), token(conn), 5, 1, 2);
        assert_eq!(hold(&mut groups, "a", 1), Some(1));
        assert_eq!(hold(&mut groups, "a", 1), Some(1), "its second track");
        assert_eq!(hold(&mut groups, "a", 2), Some(1));
        assert_eq!(hold(&mut groups, "b", 3), Some(3));
        assert_eq!(hold(&mut groups, "c", 4), None, "0, 2 and 4 are of the other shard");
        groups.release(&key("a"), token(1));
        assert_eq!(hold(&mut groups, "c", 4), None);
        groups.release(&key("a"), token(2));
        assert_eq!(hold(&mut groups, "c", 4), Some(1));
    }

    #[test]
    fn one_leads_and_the_next_takes_over() {
        let mut groups = Groups::default();
        let key = key("a");
        for conn in 1..4 {
            groups.hold(&key, token(conn), 1, 0, 1);
            assert_eq!(groups.is_played(&key), conn > 1);
            assert_eq!(groups.play(&key, token(conn)), conn == 1);
        }
        assert_eq!(groups.pause(&key, token(2)), None, "it did not lead");
        assert_eq!(groups.pause(&key, token(1)), Some(token(3)));
        assert_eq!(groups.pause(&key, token(3)), None);
        assert!(!groups.is_played(&key));
        assert!(groups.play(&key, token(2)), "the first one again");
    }

    #[test]
    fn groups_have_addresses_and_ports_of_their_own() {
        let config = Multicast {
            groups: ("239.255.0.250".parse().unwrap(), "239.255.1.5".parse().unwrap()),
            port: 65_000,
            ttl: 1,
            interface: None,
        };
        assert_eq!(size(&config), 12);
        assert_eq!(place(&config, 0), (config.groups.0, 65_000));
        assert_eq!(place(&config, 11), (config.groups.1, 65_044));
        // 134 times four ports are left.
        assert_eq!(place(&config, 134).1, 65_000);
    }
}
