//! Session descriptions (RFC 8866): written for players, read from publishers and servers.

use std::net::IpAddr;

use sdp_types::{Attribute, Connection, Media, MediaType, Origin, Session, Time, TransportProto};

use crate::media::Tracks;

use super::PayloadFormat;

/// Longest description read.
pub const SDP_BYTES_MAX: usize = 64 << 10;
/// Lines of one description.
const LINES_MAX: usize = 1024;
/// Media of one description.
const MEDIA_MAX: usize = 16;
/// Formats of one media line that are looked at.
const FORMATS_MAX: usize = 16;
/// Longest control attribute kept.
const CONTROL_BYTES_MAX: usize = 1024;

/// A description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Over one of the limits.
    #[error("description over the limit of {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// No session description.
    #[error("not a session description: {0}")]
    Malformed(String),
    /// It describes nothing.
    #[error("description without media")]
    NoMedia,
    /// Two media have the same control attribute.
    #[error("two media of one control attribute")]
    DuplicateControl,
}

/// What a medium is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediumFormat {
    /// Video or audio in a format of ours.
    Known(PayloadFormat),
    /// Video or audio in a format nobody here reads; says which.
    Unsupported(String),
    /// Neither video nor audio.
    Other,
}

/// One media description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// Its control attribute; empty if there is none.
    pub control: String,
    /// What it is.
    pub format: MediumFormat,
}

/// A description, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Control attribute of the whole; empty if there is none.
    pub control: String,
    /// Its media in order; at least one.
    pub media: Vec<Medium>,
}

/// What a server says of a stream beside its tracks.
#[derive(Debug, Clone, Copy)]
pub struct Presentation<'a> {
    /// Number of the description.
    pub id: u64,
    /// Address of the server as this client knows it.
    pub address: IpAddr,
    /// Name of the stream.
    pub name: &'a str,
    /// What the server calls itself.
    pub tool: &'a str,
}

/// Formats of the tracks RTP can carry, video first.
pub fn formats(tracks: &Tracks) -> (Option<PayloadFormat>, Option<PayloadFormat>) {
    (
        tracks.video.as_ref().and_then(PayloadFormat::of_video),
        tracks.audio.as_ref().and_then(PayloadFormat::of_audio),
    )
}

/// The description of a stream whose video and audio travel so, from [`formats`]. Controls are
/// `control_prefix` and 0 for video, 1 for audio. `None`: no track has an RTP format.
pub fn write(
    (video, audio): (Option<&PayloadFormat>, Option<&PayloadFormat>),
    presentation: Presentation<'_>,
    control_prefix: &str,
) -> Option<Vec<u8>> {
    let media: Vec<_> = [video, audio]
        .into_iter()
        .enumerate()
        .filter_map(|(number, format)| Some((number, format?)))
        .map(|(number, format)| medium(format, &format!("{control_prefix}{number}")))
        .collect();
    if media.is_empty() {
        return None;
    }
    let origin = Origin::with_ip_addr(presentation.id, 1, presentation.address);
    let name = if presentation.name.is_empty() { "-" } else { presentation.name };
    let mut session = Session::new(origin, name);
    // The address of the media is that of the connection, or in the answer to SETUP (RFC 2326 C.1.7).
    let unspecified = match presentation.address {
        IpAddr::V4(_) => IpAddr::from([0_u8; 4]),
        IpAddr::V6(_) => IpAddr::from([0_u16; 8]),
    };
    session.set_connection(Connection::from_ip_addr(unspecified));
    session.add_time(Time::new(0, 0));
    for (attribute, value) in [
        ("tool", presentation.tool),
        ("type", "broadcast"),
        ("control", "*"),
        ("range", "npt=now-"),
    ] {
        session.add_attribute(Attribute::with_value(attribute, value));
    }
    session.add_medias(media);
    let mut out = Vec::new();
    // Writing to memory does not fail.
    session.write(&mut out).ok()?;
    Some(out)
}

fn medium(format: &PayloadFormat, control: &str) -> Media {
    let payload_type = format.payload_type;
    let kind = if format.is_video() { MediaType::Video } else { MediaType::Audio };
    let mut media = Media::new(kind, 0, TransportProto::from("RTP/AVP"), payload_type);
    let mut rtpmap = format!("{payload_type} {}/{}", format.encoding_name(), format.clock_rate);
    if format.channels > 1 {
        rtpmap += &format!("/{}", format.channels);
    }
    media.add_attribute(Attribute::with_value("rtpmap", rtpmap));
    let fmtp = format.fmtp();
    if !fmtp.is_empty() {
        media.add_attribute(Attribute::with_value("fmtp", format!("{payload_type} {fmtp}")));
    }
    media.add_attribute(Attribute::with_value("control", control));
    media
}

/// Reads a description.
///
/// # Errors
/// It is none, describes nothing, or is over a limit.
pub fn parse(text: &[u8]) -> Result<Description, SdpError> {
    if text.len() > SDP_BYTES_MAX {
        return Err(SdpError::Limit { what: "bytes", limit: SDP_BYTES_MAX });
    }
    if text.iter().filter(|byte| **byte == b'\n').count() > LINES_MAX {
        return Err(SdpError::Limit { what: "lines", limit: LINES_MAX });
    }
    // Some publishers end their description with a zero byte or with blank lines.
    let text = text.trim_ascii_end();
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let session = Session::parse(text).map_err(|error| SdpError::Malformed(error.to_string()))?;
    if session.medias.len() > MEDIA_MAX {
        return Err(SdpError::Limit { what: "media", limit: MEDIA_MAX });
    }
    let control = bounded(session.get_first_attribute_value("control"))?;
    let media: Vec<_> = session.medias.iter().map(read_medium).collect::<Result<_, _>>()?;
    if media.is_empty() {
        return Err(SdpError::NoMedia);
    }
    for (index, one) in media.iter().enumerate() {
        let same = |other: &Medium| !one.control.is_empty() && other.control == one.control;
        if media[..index].iter().any(same) {
            return Err(SdpError::DuplicateControl);
        }
    }
    Ok(Description { control, media })
}

fn bounded(value: Option<Option<&str>>) -> Result<String, SdpError> {
    let value = value.flatten().unwrap_or_default().trim();
    if value.len() > CONTROL_BYTES_MAX {
        return Err(SdpError::Limit { what: "bytes of a control", limit: CONTROL_BYTES_MAX });
    }
    Ok(value.to_owned())
}

fn read_medium(media: &Media) -> Result<Medium, SdpError> {
    let control = bounded(media.get_first_attribute_value("control"))?;
    let format = match media.media.as_str() {
        kind @ ("video" | "audio") if media.proto.to_ascii_uppercase().starts_with("RTP/") => {
            read_format(media, kind == "video")
        }
        "video" | "audio" => MediumFormat::Unsupported(shown(&media.proto)),
        _ => MediumFormat::Other,
    };
    Ok(Medium { control, format })
}

/// The first format of the media line that is known here; else what the first was.
fn read_format(media: &Media, video: bool) -> MediumFormat {
    let mut refused = None;
    for text in media.fmt.split_ascii_whitespace().take(FORMATS_MAX) {
        match one_format(media, text) {
            Ok(format) if format.is_video() == video => return MediumFormat::Known(format),
            Ok(format) => {
                refused.get_or_insert(format!("{} of the wrong kind", format.encoding_name()));
            }
            Err(what) => {
                refused.get_or_insert(what);
            }
        }
    }
    MediumFormat::Unsupported(refused.unwrap_or_else(|| "no format".to_owned()))
}

/// The format of one payload type; the error names what it is.
fn one_format(media: &Media, text: &str) -> Result<PayloadFormat, String> {
    let payload_type: u8 = text
        .parse()
        .ok()
        .filter(|payload_type| *payload_type < 128)
        .ok_or_else(|| format!("payload type {}", shown(text)))?;
    let Some(rtpmap) = attribute_of(media, "rtpmap", text) else {
        return PayloadFormat::from_static(payload_type)
            .ok_or_else(|| format!("payload type {payload_type} without rtpmap"));
    };
    let mut parts = rtpmap.split('/').map(str::trim);
    let encoding = parts.next().unwrap_or_default();
    let clock_rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
    if clock_rate == 0 {
        return Err(format!("rtpmap {}", shown(rtpmap)));
    }
    // Only sound has channels; one if none are written (RFC 8866 6.6).
    let channels = parts.next().map_or(Some(1), |channels| channels.parse().ok());
    let channels = channels.ok_or_else(|| format!("rtpmap {}", shown(rtpmap)))?;
    let fmtp = attribute_of(media, "fmtp", text).unwrap_or_default();
    PayloadFormat::from_sdp(payload_type, encoding, clock_rate, channels, fmtp)
        .map_err(|error| shown(&error.to_string()))
}

/// What the attribute of that name says of one payload type.
fn attribute_of<'a>(media: &'a Media, name: &'a str, payload_type: &str) -> Option<&'a str> {
    media
        .get_attribute_values(name)
        .flatten()
        .filter_map(|value| value.trim().split_once(' '))
        .find(|(first, _)| *first == payload_type)
        .map(|(_, rest)| rest.trim())
}

/// A text of a peer for a message.
fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(64).collect()
}

#[cfg(test)]
#[path = "sdp_tests.rs"]
mod tests;
