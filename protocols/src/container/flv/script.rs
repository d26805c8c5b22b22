//! Script data: the `onMetaData` of a publisher in, flat and bounded; ours out (annex E.5).

use bytes::Bytes;

use crate::amf::{self, AmfError, Value};
use crate::media::{AudioInfo, MetaValue, Metadata, VideoInfo};

/// Largest script body looked at.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
const ENTRIES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 512;
const NAME_BYTES_MAX: usize = 128;

/// What a script body holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Script {
    /// New metadata of the publisher, in place of all earlier.
    Metadata(Metadata),
    /// A timed item, as the body of a script tag.
    Data(Bytes),
    /// Nothing this server carries.
    Ignored,
}

/// Reads a script body.
pub(super) fn parse(body: &Bytes) -> Result<Script, AmfError> {
    if body.len() > BODY_BYTES_MAX {
        return Ok(Script::Ignored);
    }
    let (name, used) = first_text(body)?;
    let (name, inner) = match name.as_deref() {
        // What RTMP wraps around the metadata to make the server keep it.
        Some("@setDataFrame") => {
            let inner = body.slice(used..);
            (first_text(&inner)?.0, inner)
        }
        _ => (name, body.clone()),
    };
    match name.as_deref() {
        Some("onMetaData") => metadata(&inner),
        Some("@clearDataFrame") => Ok(Script::Metadata(Metadata::new())),
        Some("@setDataFrame" | "|RtmpSampleAccess" | "") | None => Ok(Script::Ignored),
        Some(_) => Ok(Script::Data(inner)),
    }
}

fn first_text(body: &[u8]) -> Result<(Option<String>, usize), AmfError> {
    let (mut values, used) = amf::decode_prefix(body, 1)?;
    match values.pop() {
        Some(Value::Text(text)) => Ok((Some(text), used)),
        _ => Ok((None, used)),
    }
}

fn metadata(body: &[u8]) -> Result<Script, AmfError> {
    let values = match amf::decode_prefix(body, 2) {
        Ok((values, _)) => values,
        // An index of keyframes, most likely: of a file, and of no use for a live stream.
        Err(AmfError::TooManyValues) => return Ok(Script::Ignored),
        Err(error) => return Err(error),
    };
    let Some(properties) = values.get(1).and_then(Value::properties) else {
        return Ok(Script::Ignored);
    };
    let mut metadata = Metadata::new();
    for (name, value) in properties {
        if metadata.len() >= ENTRIES_MAX {
            break;
        }
        let value = match value {
            Value::Number(number) if number.is_finite() => MetaValue::Number(*number),
            Value::Bool(value) => MetaValue::Bool(*value),
            Value::Text(text) if text.len() <= TEXT_BYTES_MAX => {
                MetaValue::Text(text.as_str().into())
            }
            _ => continue,
        };
        let known = metadata.iter().any(|(earlier, _)| **earlier == **name);
        if !known && !name.is_empty() && name.len() <= NAME_BYTES_MAX {
            metadata.push((name.as_str().into(), value));
        }
    }
    Ok(Script::Metadata(metadata))
}

/// The number of this name; `None` unless finite and positive.
pub(super) fn positive(metadata: &Metadata, name: &str) -> Option<f64> {
    metadata.iter().find_map(|(key, value)| match value {
        MetaValue::Number(number) if **key == *name && *number > 0.0 => Some(*number),
        _ => None,
    })
}

/// What the metadata says of the pictures; 0 where it says nothing believable.
pub(super) fn video_info(metadata: &Metadata) -> VideoInfo {
    let edge = |name| whole(metadata, name, crate::codec::EDGE_PIXELS_MAX);
    let rate = positive(metadata, "framerate").or_else(|| positive(metadata, "fps"));
    VideoInfo {
        width: edge("width"),
        height: edge("height"),
        frame_rate: rate.filter(|rate| *rate <= 1000.0).unwrap_or(0.0),
    }
}

/// What the metadata says of the sound; 0 where it says nothing believable.
pub(super) fn audio_info(metadata: &Metadata) -> AudioInfo {
    let small = |name| u8::try_from(whole(metadata, name, 255)).unwrap_or(0);
    let stereo = metadata.iter().find_map(|(key, value)| match value {
        MetaValue::Bool(stereo) if **key == *"stereo" => Some(1 + u8::from(*stereo)),
        _ => None,
    });
    let channels = match small("audiochannels") {
        0 => stereo.unwrap_or(0),
        channels => channels,
    };
    AudioInfo {
        sample_rate: whole(metadata, "audiosamplerate", 384_000),
        channels,
        sample_bits: small("audiosamplesize"),
    }
}

fn whole(metadata: &Metadata, name: &str, max: u32) -> u32 {
    match positive(metadata, name) {
        // In range, so the cast drops only the fraction.
        Some(number) if number <= f64::from(max) => number as u32,
        _ => 0,
    }
}
