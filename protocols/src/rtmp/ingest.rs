//! Audio, video and data messages of a peer taken apart into tracks and frames.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::container::flv::{Demuxer, TagType, Timeline};
use crate::session::{ErrorClass, OutputQueue, SessionError};

use super::command::without_format_byte;
use super::link::{Link, Rate};
use super::message::{Message, split_aggregate, type_id};

/// Metadata messages looked at in one [`METADATA_WINDOW`]; the rest is dropped.
const METADATA_MAX: u32 = 100;
/// See [`METADATA_MAX`].
const METADATA_WINDOW: Duration = Duration::from_secs(10);
/// Largest data message looked at.
const DATA_BYTES_MAX: usize = 64 << 10;
/// How metadata messages begin: an AMF0 string marker, a length, a name.
const METADATA_PREFIXES: [&[u8]; 2] = [b"\x02\x00\x0D@setDataFrame", b"\x02\x00\x0AonMetaData"];

/// How data messages begin that speak of the connection and not of the stream.
const TRANSPORT_PREFIXES: [&[u8]; 2] = [b"\x02\x00\x08onStatus", b"\x02\x00\x11|RtmpSampleAccess"];

/// The receiving side of one publication.
#[derive(Debug)]
pub(super) struct Ingest {
    timeline: Timeline,
    demuxer: Demuxer,
    metadata: Rate,
}

impl Ingest {
    pub(super) fn new(now: Instant, legacy_h265_id: u8) -> Self {
        Self {
            timeline: Timeline::default(),
            demuxer: Demuxer::new(legacy_h265_id),
            metadata: Rate::new(now, METADATA_WINDOW),
        }
    }

    /// Takes a media message apart and queues what it holds; other messages are dropped.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        message: Message,
        link: &mut Link,
    ) -> Result<(), SessionError> {
        let out = link.outputs();
        if message.type_id != type_id::AGGREGATE {
            return self.push(now, message, out);
        }
        match split_aggregate(&message) {
            Ok(parts) => parts.into_iter().try_for_each(|part| self.push(now, part, out)),
            Err(error) => {
                let class = if error.is_limit() {
                    ErrorClass::LimitExceeded
                } else {
                    ErrorClass::PeerMisbehaved
                };
                Err(SessionError::new(class, error.reason(), error.to_string()))
            }
        }
    }

    fn push(
        &mut self,
        now: Instant,
        message: Message,
        out: &mut OutputQueue,
    ) -> Result<(), SessionError> {
        let timestamp = message.timestamp;
        let (tag, payload) = match message.type_id {
            type_id::AUDIO => (TagType::Audio, message.payload),
            type_id::VIDEO => (TagType::Video, message.payload),
            type_id::DATA_AMF0 => (TagType::Script, message.payload),
            type_id::DATA_AMF3 => (TagType::Script, without_format_byte(&message.payload)),
            _ => return Ok(()),
        };
        let time = self.timeline.of_tag(tag, timestamp);
        if tag == TagType::Script && !self.takes_data(now, &payload) {
            tracing::trace!(bytes = payload.len(), "data message dropped");
            return Ok(());
        }
        match self.demuxer.push(tag, time, payload, out) {
            Err(error) if error.is_passable() => {
                tracing::trace!(%error, "message dropped");
                Ok(())
            }
            result => result.map_err(SessionError::from),
        }
    }

    fn takes_data(&mut self, now: Instant, payload: &Bytes) -> bool {
        let starts_with = |prefixes: [&[u8]; 2]| prefixes.iter().any(|it| payload.starts_with(it));
        let is_metadata = starts_with(METADATA_PREFIXES);
        payload.len() <= DATA_BYTES_MAX
            && !starts_with(TRANSPORT_PREFIXES)
            && (!is_metadata || self.metadata.count(now) <= METADATA_MAX)
    }
}
