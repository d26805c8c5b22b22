//! What a new policy touches, and what requests for unknown streams lead to: on shards turned by
//! hand, with listeners of the test's own on the far side.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use protocols::hops::{HOPS_MAX, Hops, NodeId};

use super::tests::{HTTP_FLV, World, frame, received};
use crate::config::{Config, SecondPublisher};
use crate::conn::Protocol;
use crate::policy::{ActivePolicy, load_str};

/// Somebody who is dialled and says nothing.
struct Peer(TcpListener);

impl Peer {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Those who have connected since the last time.
    fn dialled(&self) -> Vec<TcpStream> {
        let accepted = std::iter::from_fn(|| self.0.accept().ok()).map(|(socket, _)| socket);
        accepted.inspect(|socket| socket.set_nonblocking(true).unwrap()).collect()
    }
}

/// The far end has closed; what it had said before is passed over.
fn is_over(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

fn apply(world: &mut World, text: &str) {
    let policy = load_str("p", &format!("<policy>{text}</policy>")).unwrap();
    let policy = ActivePolicy::new(policy, &world.shards[0].config).unwrap();
    let now = world.now;
    for shard in &mut world.shards {
        shard.apply_policy(&Arc::clone(&policy), now);
    }
    world.pass(Duration::from_millis(200));
}

fn forwards(ports: [u16; 2]) -> String {
    let forward = |port| format!("<forward>127.0.0.1:{port}</forward>");
    let all: String = ports.into_iter().map(forward).collect();
    format!("<vhosts><vhost name='rtmp://127.0.0.1/live'>{all}</vhost></vhosts>")
}

fn pulls(ports: [u16; 2]) -> String {
    let pull = |port: u16| {
        format!("<pull url='rtmp://127.0.0.1:{port}/live/x' stream='live/{port}' when='always'/>")
    };
    format!("<pulls>\n\n{}</pulls>", ports.map(pull).concat())
}

#[test]
fn a_policy_touches_nothing_but_its_difference() {
    for rules in [forwards, pulls] {
        let mut world = World::new(2, 1024, |_| {});
        let (token, script, _publisher) = world.publish(0, "x");
        world.say(0, token, &script, frame(0, 50, 100));
        let (kept, dropped, added) = (Peer::new(), Peer::new(), Peer::new());
        apply(&mut world, &rules([kept.port(), dropped.port()]));
        let (mut stays, mut goes) = (kept.dialled(), dropped.dialled());
        assert_eq!((stays.len(), goes.len()), (1, 1));
        assert!(!is_over(&mut stays[0]) && !is_over(&mut goes[0]));

        // The same in another order, with another line.
        apply(&mut world, &rules([dropped.port(), kept.port()]));
        assert_eq!((kept.dialled().len(), dropped.dialled().len()), (0, 0));
        assert!(!is_over(&mut stays[0]) && !is_over(&mut goes[0]));

        apply(&mut world, &rules([kept.port(), added.port()]));
        assert_eq!((kept.dialled().len(), added.dialled().len()), (0, 1));
        assert!(!is_over(&mut stays[0]), "what is in both goes on");
        assert!(is_over(&mut goes[0]), "what is gone ends");

        apply(&mut world, "");
        assert!(is_over(&mut stays[0]));
        // Farewells have a second.
        world.pass(Duration::from_secs(2));
        assert_eq!(world.shards[0].plane.conns.len(), 1, "the publisher is not touched");
        world.say(0, token, &script, frame(1, 50, 100));
    }
}

#[test]
fn a_forward_ends_with_its_stream_and_a_new_publisher_finds_it_again() {
    let target = Peer::new();
    let mut world = World::new(1, 1024, |_| {});
    apply(&mut world, &forwards([target.port(), target.port()]));
    let (token, script, _publisher) = world.publish(0, "x");
    world.pass(Duration::from_millis(200));
    assert_eq!(target.dialled().len(), 0, "there is nothing to send yet");
    world.say(0, token, &script, frame(0, 50, 100));
    world.pass(Duration::from_millis(200));
    let mut dialled = target.dialled();
    assert_eq!(dialled.len(), 1, "one place is fed once");
    let now = world.now;
    world.shards[0].close(token.index as usize, crate::conn::CloseReason::PeerClosed, now);
    world.pass(Duration::from_millis(200));
    assert!(is_over(&mut dialled[0]));
    let (token, script, _again) = world.publish(0, "x");
    world.say(0, token, &script, frame(0, 50, 100));
    world.pass(Duration::from_millis(200));
    assert_eq!(target.dialled().len(), 1);
}

#[test]
fn what_has_been_here_does_not_come_back_and_deposes_nobody() {
    let takeover = |config: &mut Config| config.rtmp.second_publisher = SecondPublisher::Takeover;
    let mut world = World::new(1, 1024, takeover);
    let node = world.shards[0].shared.node;
    let others = |count: u64| (100..100 + count).map(NodeId);
    let way = |nodes: &mut dyn Iterator<Item = NodeId>| {
        nodes.fold(Hops::default(), |hops, node| hops.with(node))
    };
    let publishes = |world: &World, conn| {
        let mut publishers =
            world.shards[0].streams.iter().filter_map(|(_, s)| s.publisher.as_ref());
        publishers.any(|claim| claim.conn == conn)
    };
    let circle = way(&mut others(3).chain([node]).chain([NodeId(9)]));
    let far = way(&mut others(HOPS_MAX as u64));
    for (name, hops, admitted) in
        [("a", circle, false), ("b", far, false), ("c", way(&mut others(19)), true)]
    {
        let (token, ..) = world.publish_from(0, name, hops);
        assert_eq!(publishes(&world, token), admitted, "{name}");
    }
    // Two ways lead here: the first is kept, whatever is said of second publishers.
    let (first, script, _socket) = world.publish_from(0, "x", way(&mut others(1)));
    world.say(0, first, &script, frame(0, 50, 100));
    let (second, ..) = world.publish_from(0, "x", way(&mut others(2)));
    world.say(0, first, &script, frame(1, 50, 100));
    assert!(publishes(&world, first) && !publishes(&world, second));
    let (own, ..) = world.publish(0, "x");
    assert!(publishes(&world, own), "who publishes here takes over");
}

#[test]
fn a_target_is_dialled_with_pauses_and_never_twice_at_a_time() {
    let target = Peer::new();
    let mut world =
        World::new(1, 1024, |config| config.rtmp.forward_timeout = Duration::from_secs(2));
    apply(&mut world, &forwards([target.port(), 1]));
    let (token, script, _publisher) = world.publish(0, "x");
    let (mut open, mut dialled): (Vec<TcpStream>, usize) = (Vec::new(), 0);
    for n in 0..1500 {
        world.say(0, token, &script, frame(n, 50, 100));
        world.pass(Duration::from_millis(40));
        open.retain_mut(|socket| !is_over(socket));
        let fresh = target.dialled();
        dialled += fresh.len();
        open.extend(fresh);
        assert!(open.len() <= 1, "{} connections at a time", open.len());
    }
    // A minute: each attempt lasts two seconds; a pause of one at first, later more.
    assert!((11..22).contains(&dialled), "{dialled}");
    let counters = &world.shards[0].counters;
    assert!(counters.forward_failures.get("start_timeout") >= Some(&10), "{counters:?}");
}

fn origins(ports: &[u16]) -> String {
    let origin = |port: &u16| format!("<origin url='rtmp://127.0.0.1:{port}/live'/>");
    let all: String = ports.iter().map(origin).collect();
    format!("<origins app='live' linger='1'>{all}</origins>")
}

#[test]
fn whoever_asks_on_whichever_shard_there_is_one_pull() {
    let origin = Peer::new();
    let mut world = World::new(4, 1024, |_| {});
    apply(&mut world, &origins(&[origin.port()]));
    let viewers: Vec<_> = (0..40).map(|n| world.watch(n % 4, "x", HTTP_FLV)).collect();
    world.pass(Duration::from_millis(200));
    let mut pulls = origin.dialled();
    assert_eq!(pulls.len(), 1);
    world.pass(Duration::from_secs(5));
    assert!(origin.dialled().is_empty() && !is_over(&mut pulls[0]));

    // The same rule on another line, then another origin: viewers go on waiting.
    apply(&mut world, &format!("\n{}", origins(&[origin.port()])));
    assert!(origin.dialled().is_empty() && !is_over(&mut pulls[0]));
    let other = Peer::new();
    apply(&mut world, &origins(&[other.port()]));
    assert!(is_over(&mut pulls[0]));
    world.pass(Duration::from_secs(2));
    let mut pulls = other.dialled();
    assert_eq!(pulls.len(), 1);
    let now = world.now;
    for (number, (token, _socket)) in viewers.iter().enumerate() {
        let shard = &mut world.shards[number % 4];
        shard.close(token.index as usize, crate::conn::CloseReason::PeerClosed, now);
    }
    // The mirrors' grace, then nobody is there any more.
    for _ in 0..30 {
        world.pass(Duration::from_secs(1));
    }
    assert!(is_over(&mut pulls[0]), "nobody waits");
}

#[test]
fn an_address_that_does_not_answer_is_given_up_for_the_next() {
    let (first, second) = (Peer::new(), Peer::new());
    let mut world = World::new(1, 1024, |_| {});
    apply(&mut world, &origins(&[first.port(), second.port()]));
    let (_, mut viewer) = world.watch(0, "x", HTTP_FLV);
    world.pass(Duration::from_millis(200));
    let mut dialled = [first.dialled(), second.dialled()];
    let asked = usize::from(dialled[0].is_empty());
    let mut conns = world.shards[0].plane.conns.iter_mut();
    let (_, conn) = conns.find(|(_, conn)| conn.protocol == Protocol::Pull).unwrap();
    // As if the handshake of TCP had not come to its end.
    conn.bytes_out = 0;
    world.pass(Duration::from_secs(3));
    assert!(!is_over(&mut dialled[asked][0]));
    world.pass(Duration::from_secs(2));
    assert!(is_over(&mut dialled[asked][0]));
    let next = if asked == 0 { &second } else { &first };
    assert_eq!(next.dialled().len(), 1);
    let mut answer = BytesMut::new();
    received(&mut viewer, &mut answer);
    assert!(answer.is_empty(), "the viewer waits");
}

#[test]
fn what_no_origin_has_is_said_to_all_and_remembered() {
    let (first, second) = (Peer::new(), Peer::new());
    let mut world = World::new(3, 1024, |_| {});
    apply(&mut world, &origins(&[first.port(), second.port()]));
    let mut viewers: Vec<_> = (0..6).map(|n| world.watch(n % 3, "x", HTTP_FLV).1).collect();
    world.pass(Duration::from_millis(200));
    let asked = |world: &mut World| {
        let dialled = first.dialled().len() + second.dialled().len();
        world.pass(Duration::from_millis(200));
        dialled
    };
    // Each hangs up on us.
    assert_eq!(asked(&mut world), 1);
    assert_eq!(asked(&mut world), 1, "the other one is asked");
    world.pass(Duration::from_millis(200));
    for viewer in &mut viewers {
        let mut answer = BytesMut::new();
        received(viewer, &mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 404 "), "{answer:?}");
    }
    let (_, mut late) = world.watch(1, "x", HTTP_FLV);
    let mut answer = BytesMut::new();
    received(&mut late, &mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 404 "), "at once");
    assert_eq!(asked(&mut world), 0);
    world.pass(Duration::from_secs(4));
    let _again = world.watch(1, "x", HTTP_FLV);
    world.pass(Duration::from_millis(200));
    assert_eq!(asked(&mut world), 1, "it may be there by now");
}

#[test]
fn who_goes_on_waiting_has_still_come_the_same_way() {
    let origin = Peer::new();
    let mut world = World::new(1, 1024, |_| {});
    apply(&mut world, &origins(&[origin.port()]));
    let node = world.shards[0].shared.node;
    let way = Hops::default().with(NodeId(7));
    let (_, _viewer) = world.watch_with(0, "x", HTTP_FLV, "", way.clone());
    let asked = |world: &World| {
        let pulls = world.shards[0].pulls.list.iter();
        pulls.filter_map(|(_, pull)| pull.edge.as_ref()).map(|edge| edge.hops.clone()).next()
    };
    assert_eq!(asked(&world), Some(way.with(node)));
    // The pull goes without a word; the reminder begins another.
    let index = world.shards[0].pulls.list.iter().map(|(index, _)| index).next().unwrap();
    let now = world.now;
    world.shards[0].remove_pull(index, now);
    assert_eq!(asked(&world), None);
    world.pass(Duration::from_millis(1200));
    assert_eq!(asked(&world), Some(way.with(node)));
}
