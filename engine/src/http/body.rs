//! The body of an answer: whole in memory, of a file, or pulled piece by piece from a source that
//! waits.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::http::file_body::FileBody;

/// Where the pieces of a body come from. Lives on the shard of its connection.
pub(crate) trait Source {
    /// The next piece; `None` at the end. An error breaks the connection, so that the peer does
    /// not take a part for the whole.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>>;

    /// Bytes still to come, when that is known: a body without it is sent in chunks.
    fn remaining(&self) -> Option<u64>;
}

/// See the module text.
pub(crate) enum Body {
    /// Everything there is; empty once it is taken.
    Whole(Bytes),
    /// Pieces that are all there.
    Pieces(VecDeque<Bytes>),
    /// Pulled.
    Pulled(Box<dyn Source>),
    /// Parts of a file. On a plain HTTP/1 connection they are sent without passing through here.
    File(Box<FileBody>),
}

impl Body {
    /// Bytes still to come, when that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Pieces(pieces) => Some(pieces.iter().map(|piece| piece.len() as u64).sum()),
            Self::Pulled(source) => source.remaining(),
            Self::File(file) => Some(file.remaining()),
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::Whole(bytes.into())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Pieces(pieces) => Poll::Ready(pieces.pop_front().map(Frame::data).map(Ok)),
            Self::Pulled(source) => source.poll_piece(cx).map_ok(Frame::data),
            Self::File(file) => file.poll_piece(cx).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
