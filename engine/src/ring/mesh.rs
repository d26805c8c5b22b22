//! The full set of rings and control queues: one media ring per ordered pair of shards, one
//! control queue per shard.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::{ControlMessage, MediaMessage, Park, ShardId};

/// All ends, made once at start and handed out to the shards.
#[derive(Debug)]
pub struct Mesh {
    ends: Vec<MeshEnd>,
    remote: Remote,
}

/// A handle for threads that are not shards (signals, watchdog): control only.
#[derive(Debug, Clone)]
pub struct Remote {
    control: Arc<[Sender<ControlMessage>]>,
    parks: Arc<[Park]>,
}

impl Remote {
    /// Sends to every shard; false if one queue was full.
    pub fn broadcast(&self, make: impl Fn() -> ControlMessage) -> bool {
        let mut all = true;
        for (sender, park) in self.control.iter().zip(self.parks.iter()) {
            all &= sender.try_send(make()).is_ok();
            park.kick();
        }
        all
    }

    /// Sends to one shard; false if its queue was full.
    pub fn send(&self, to: ShardId, message: ControlMessage) -> bool {
        let sent = self.control[to.index()].try_send(message).is_ok();
        self.parks[to.index()].kick();
        sent
    }
}

/// One shard's ends of all its rings and queues.
#[derive(Debug)]
pub struct MeshEnd {
    id: ShardId,
    media_out: Vec<Option<rtrb::Producer<MediaMessage>>>,
    media_in: Vec<Option<rtrb::Consumer<MediaMessage>>>,
    control_out: Arc<[Sender<ControlMessage>]>,
    control_in: Receiver<ControlMessage>,
    parks: Arc<[Park]>,
    /// Shards that got something since the last [`MeshEnd::kick`].
    touched: Vec<bool>,
    /// Control messages that found their queue full, and those to this shard itself.
    deferred: Vec<VecDeque<ControlMessage>>,
    deferred_max: usize,
    /// Media messages pushed, per receiving shard.
    pub media_sent: Vec<u64>,
    /// Control messages dropped because too many were deferred already.
    pub control_dropped: u64,
}

impl Mesh {
    /// Rings for `shards` shards of `ring_depth` media messages each, and control queues of
    /// `control_depth`.
    #[must_use]
    pub fn new(shards: usize, ring_depth: usize, control_depth: usize) -> Self {
        let parks: Arc<[Park]> = (0..shards).map(|_| Park::default()).collect();
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..shards).map(|_| crossbeam_channel::bounded(control_depth)).unzip();
        let control: Arc<[Sender<ControlMessage>]> = senders.into();
        let mut producers: Vec<Vec<Option<_>>> = Vec::new();
        let mut consumers: Vec<Vec<Option<_>>> =
            (0..shards).map(|_| (0..shards).map(|_| None).collect()).collect();
        for from in 0..shards {
            let mut row = Vec::with_capacity(shards);
            for (to, consumer_row) in consumers.iter_mut().enumerate() {
                if from == to {
                    row.push(None);
                    continue;
                }
                let (producer, consumer) = rtrb::RingBuffer::new(ring_depth);
                row.push(Some(producer));
                consumer_row[from] = Some(consumer);
            }
            producers.push(row);
        }
        let ends = producers
            .into_iter()
            .zip(consumers)
            .zip(receivers)
            .enumerate()
            .map(|(index, ((media_out, media_in), control_in))| MeshEnd {
                id: ShardId(u16::try_from(index).expect("shards are counted in u16")),
                media_out,
                media_in,
                control_out: Arc::clone(&control),
                control_in,
                parks: Arc::clone(&parks),
                touched: vec![false; shards],
                deferred: (0..shards).map(|_| VecDeque::new()).collect(),
                deferred_max: control_depth,
                media_sent: vec![0; shards],
                control_dropped: 0,
            })
            .collect();
        Self { ends, remote: Remote { control, parks } }
    }

    /// Splits into the shards' ends and the handle for other threads.
    #[must_use]
    pub fn into_ends(self) -> (Vec<MeshEnd>, Remote) {
        (self.ends, self.remote)
    }
}

impl MeshEnd {
    /// The shard this end belongs to.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.parks.len()
    }

    /// Where this shard sleeps.
    #[must_use]
    pub fn park(&self) -> &Park {
        &self.parks[self.id.index()]
    }

    /// Pushes media to another shard without waking it; gives the message back when the ring is
    /// full. Must not name this shard.
    pub fn try_push(&mut self, to: ShardId, message: MediaMessage) -> Result<(), MediaMessage> {
        let Some(ring) = &mut self.media_out[to.index()] else { return Err(message) };
        match ring.push(message) {
            Ok(()) => {
                self.media_sent[to.index()] += 1;
                self.touched[to.index()] = true;
                Ok(())
            }
            Err(rtrb::PushError::Full(message)) => Err(message),
        }
    }

    /// Sends a control message, this shard included. A full queue defers it; false when even the
    /// deferred ones are too many (the message is dropped).
    pub fn send(&mut self, to: ShardId, message: ControlMessage) -> bool {
        let index = to.index();
        if to != self.id && self.deferred[index].is_empty() {
            match self.control_out[index].try_send(message) {
                Ok(()) => {
                    self.touched[index] = true;
                    return true;
                }
                Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                    self.deferred[index].push_back(message);
                    return true;
                }
            }
        }
        if self.deferred[index].len() >= self.deferred_max {
            self.control_dropped += 1;
            return false;
        }
        self.deferred[index].push_back(message);
        true
    }

    /// Wakes every shard that got something, once.
    pub fn kick(&mut self) {
        for index in 0..self.touched.len() {
            while index != self.id.index() {
                let Some(message) = self.deferred[index].pop_front() else { break };
                if let Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) =
                    self.control_out[index].try_send(message)
                {
                    self.deferred[index].push_front(message);
                    break;
                }
                self.touched[index] = true;
            }
            if std::mem::take(&mut self.touched[index]) {
                self.parks[index].kick();
            }
        }
    }

    /// Wakes this shard's own loop, from another task of the same executor.
    pub fn kick_self(&self) {
        self.park().kick();
    }

    /// The next control message for this shard.
    pub fn next_control(&mut self) -> Option<ControlMessage> {
        let own = self.deferred[self.id.index()].pop_front();
        own.or_else(|| self.control_in.try_recv().ok())
    }

    /// The next media message from one shard.
    pub fn next_media(&mut self, from: ShardId) -> Option<MediaMessage> {
        self.media_in[from.index()].as_mut()?.pop().ok()
    }

    /// Something waits for this shard.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.deferred[self.id.index()].is_empty()
            || !self.control_in.is_empty()
            || self.media_in.iter().flatten().any(|ring| !ring.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Topic;
    use crate::ring::{MediaItem, MediaTarget, Token};

    fn message() -> MediaMessage {
        let token = Token { index: 0, generation: 0 };
        MediaMessage { target: MediaTarget::Mirror(token), item: MediaItem::Offline }
    }

    #[test]
    fn media_goes_to_the_named_shard_only_and_a_full_ring_gives_it_back() {
        let (mut ends, _) = Mesh::new(3, 2, 4).into_ends();
        assert!(ends[0].try_push(ShardId(2), message()).is_ok());
        assert!(ends[0].try_push(ShardId(2), message()).is_ok());
        assert!(ends[0].try_push(ShardId(2), message()).is_err());
        assert_eq!(ends[0].media_sent, [0, 0, 2]);
        assert!(!ends[1].has_work());
        assert!(ends[2].has_work());
        assert!(ends[2].next_media(ShardId(0)).is_some());
        assert!(ends[2].next_media(ShardId(1)).is_none());
    }

    #[test]
    fn control_is_deferred_when_a_queue_is_full_and_arrives_in_order() {
        let (mut ends, _) = Mesh::new(2, 2, 1).into_ends();
        for question in 0..2 {
            let ask = ControlMessage::Ask { from: ShardId(0), question, topic: Topic::Streams };
            assert!(ends[0].send(ShardId(1), ask));
        }
        let ask = ControlMessage::Ask { from: ShardId(0), question: 9, topic: Topic::Streams };
        assert!(!ends[0].send(ShardId(1), ask), "deferred messages are bounded too");
        assert_eq!(ends[0].control_dropped, 1);
        for expected in 0..2 {
            ends[0].kick();
            match ends[1].next_control() {
                Some(ControlMessage::Ask { question, .. }) => assert_eq!(question, expected),
                other => panic!("{other:?}"),
            }
        }
        assert!(ends[1].next_control().is_none());
    }
}
