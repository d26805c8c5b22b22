//! Bodies made of pieces of segments, shared with every other answer: what there is at once, and
//! for a segment in the making what comes as it comes.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::BoxedLocal;
use protocols::media::StreamKey;

use crate::http::api::Backend;
use crate::http::body::{Body, Source};
use crate::segment::{Packaging, Snapshot, Track};
use crate::shard::{Absent, Wanted};

/// A body of these pieces, in order; one piece is a whole body.
pub(super) fn of_pieces<'a>(pieces: impl Iterator<Item = &'a Bytes>) -> (Body, u64) {
    let mut pieces: VecDeque<Bytes> = pieces.cloned().collect();
    let length = pieces.iter().map(|piece| piece.len() as u64).sum();
    match pieces.len() {
        0 | 1 => (Body::Whole(pieces.pop_front().unwrap_or_default()), length),
        _ => (Body::Pieces(pieces), length),
    }
}

/// A segment in the making.
pub(super) struct Growing {
    /// Where news come from.
    pub(super) backend: Rc<dyn Backend>,
    /// The stream.
    pub(super) key: StreamKey,
    /// The segmenter it began with.
    pub(super) epoch: u64,
    /// The segment.
    pub(super) sequence: u64,
    /// The track, or both.
    pub(super) track: Option<Track>,
    /// How long a part may take to come.
    pub(super) patience: Duration,
}

/// Its body.
struct GrowingBody {
    segment: Growing,
    ready: VecDeque<Bytes>,
    /// The next part.
    part: usize,
    wait: Option<BoxedLocal<Result<Arc<Snapshot>, Absent>>>,
    over: bool,
}

impl Growing {
    /// Sends what there is, then each part as it comes, in chunks.
    pub(super) fn into_body(self) -> Body {
        let (ready, part, wait, over) = (VecDeque::new(), 0, None, false);
        Body::Pulled(Box::new(GrowingBody { segment: self, ready, part, wait, over }))
    }

    fn next(&self, part: usize) -> BoxedLocal<Result<Arc<Snapshot>, Absent>> {
        let wanted = Wanted::Part(self.sequence, part as u64);
        self.backend.segments(self.key.clone(), Packaging::Cmaf, wanted, self.patience)
    }
}

impl Source for GrowingBody {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let (segment, part) = (&self.segment, self.part);
            let wait = self.wait.get_or_insert_with(|| segment.next(part));
            let Poll::Ready(found) = Pin::new(wait).poll(cx) else { return Poll::Pending };
            self.wait = None;
            let found = found.ok().filter(|snapshot| snapshot.epoch == self.segment.epoch);
            let Some(snapshot) = found else {
                return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
            };
            // A segment that was never begun, or has been forgotten, has no parts.
            let parts = snapshot.parts(self.segment.sequence).unwrap_or_default();
            let fresh = parts.iter().skip(self.part);
            self.ready.extend(fresh.flat_map(|part| part.pieces(self.segment.track)).cloned());
            self.part = self.part.max(parts.len());
            self.over = snapshot.next_sequence > self.segment.sequence || snapshot.ended;
        }
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}
