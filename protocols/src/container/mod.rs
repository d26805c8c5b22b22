//! Containers: media in the forms files and byte streams carry it.

use std::sync::Arc;

use crate::media::{Frame, Tracks};

pub(crate) mod announce;
pub mod flv;
pub mod fmp4;
pub mod ts;

/// What comes out of a demuxer.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// The tracks, first time or changed.
    Tracks(Arc<Tracks>),
    /// A frame of the tracks announced last.
    Frame(Frame),
}
