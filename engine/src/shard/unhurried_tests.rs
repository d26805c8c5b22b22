//! When the sockets of publishers are read, with and without anybody who waits for the stream.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::tests::{HTTP_FLV, World};
use crate::conn::CloseReason;
use crate::ring::Token;

const MANY_REPORTS: usize = 10_000;

/// A publisher of the stream `x` on shard 0 or 1 of two: one of them is not the owner.
struct Publisher {
    world: World,
    shard: usize,
    token: Token,
    socket: UnixStream,
}

impl Publisher {
    fn new(shard: usize) -> Self {
        let mut world = World::new(2, 256, |config| config.rtmp.publisher_idle = Duration::ZERO);
        let (token, _script, socket) = world.publish(shard, "x");
        Self { world, shard, token, socket }
    }

    /// Lets the owner look after its streams, and what it says arrive.
    fn let_it_be_known(&mut self) {
        self.world.pass(Duration::from_millis(100));
        self.world.settle();
    }

    /// The publisher's shard has more to do than it is told of one by one.
    fn be_busy(&mut self) {
        let pulse = &mut self.world.shards[self.shard].pulse;
        pulse.beat(MANY_REPORTS, self.world.now);
        self.world.now += Duration::from_millis(50);
        pulse.beat(MANY_REPORTS, self.world.now);
        assert!(pulse.is_busy());
    }

    /// Sends; true if all of it is read at once.
    fn send(&mut self, bytes: usize) -> bool {
        let before = self.read();
        self.socket.write_all(&vec![7; bytes]).expect("the socket takes it");
        self.world.settle();
        self.read() == before + bytes as u64
    }

    fn read(&self) -> u64 {
        let plane = &self.world.shards[self.shard].plane;
        plane.conns[plane.slot(self.token).expect("the publisher is there")].bytes_in
    }
}

#[test]
fn what_nobody_waits_for_is_read_in_larger_bites() {
    for shard in 0..2 {
        let mut publisher = Publisher::new(shard);
        publisher.let_it_be_known();
        assert!(publisher.send(1), "the shard has time");
        publisher.be_busy();
        assert!(!publisher.send(1) && !publisher.send(2));
        publisher.world.pass(Duration::from_millis(29));
        assert_eq!(publisher.read(), 1);
        publisher.world.pass(Duration::from_millis(1));
        assert_eq!(publisher.read(), 4);
        assert!(publisher.world.shards[shard].next_put_off().is_none());
    }
}

#[test]
fn a_viewer_anywhere_has_the_publisher_read_at_once() {
    for (shard, viewer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut publisher = Publisher::new(shard);
        publisher.let_it_be_known();
        publisher.be_busy();
        assert!(!publisher.send(1));
        let (token, _socket) = publisher.world.watch(viewer, "x", HTTP_FLV);
        publisher.let_it_be_known();
        assert_eq!(publisher.read(), 1);
        publisher.be_busy();
        assert!(publisher.send(1));
        let now = publisher.world.now;
        publisher.world.shards[viewer].close_token(token, CloseReason::PeerClosed, now);
        // A mirror outlives its last viewer by a while.
        publisher.world.pass(Duration::from_secs(60));
        publisher.let_it_be_known();
        publisher.be_busy();
        assert!(!publisher.send(1));
    }
}

#[test]
fn large_bites_and_ends_do_not_wait() {
    let mut publisher = Publisher::new(0);
    publisher.let_it_be_known();
    publisher.be_busy();
    assert!(!publisher.send(40_000));
    publisher.world.pass(Duration::from_millis(30));
    assert_eq!(publisher.read(), 40_000);
    assert!(publisher.send(1), "the one after a large bite");
    assert!(!publisher.send(1));
    publisher.socket.shutdown(std::net::Shutdown::Both).expect("it is open");
    publisher.world.settle();
    assert!(publisher.world.shards[0].plane.slot(publisher.token).is_none());
    publisher.world.pass(Duration::from_millis(30));
    assert!(publisher.world.shards[0].next_put_off().is_none());
}

#[test]
fn late_news_of_another_stream_means_nothing() {
    let mut publisher = Publisher::new(0);
    let (_token, _socket) = publisher.world.watch(1, "x", HTTP_FLV);
    publisher.let_it_be_known();
    let other = Token { index: 77, generation: 77 };
    publisher.world.shards[0].on_watched(publisher.token, other, false);
    publisher.be_busy();
    assert!(publisher.send(1));
}
