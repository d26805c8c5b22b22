//! Delivery directives (6.2.5): what a client asks of a media playlist, and whether to answer now.

use std::time::Duration;

/// Longest query looked at, in bytes.
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// Digits of the largest 64-bit number.
const NUMBER_DIGITS_MAX: usize = 20;
/// Segments a client may ask for beyond the last whole one (6.2.5.2).
const SEGMENTS_AHEAD_MAX: u64 = 2;

/// A blocked request is answered with 503 after so many target durations (6.2.5.2).
pub const WAIT_TARGET_DURATIONS_MAX: u32 = 3;

/// Why a query is no valid use of delivery directives; the answer to each is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectiveError {
    /// The query is longer than anything this server makes.
    #[error("query of {0} bytes exceeds the limit")]
    QueryTooLong(usize),
    /// A number that is none, or is beyond 64 bits.
    #[error("delivery directive {0} is not a number")]
    BadNumber(&'static str),
    /// A directive that is there twice.
    #[error("delivery directive {0} is repeated")]
    Repeated(&'static str),
    /// `_HLS_part` without `_HLS_msn`.
    #[error("delivery directive _HLS_part needs _HLS_msn")]
    PartAlone,
}

/// The directives of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Directives {
    /// `_HLS_msn`: wait until this segment is in the playlist.
    pub media_sequence: Option<u64>,
    /// `_HLS_part`: a part of it is enough.
    pub part: Option<u64>,
    /// `_HLS_skip`: a delta update is welcome.
    pub skip: bool,
}

impl Directives {
    /// The directives of a query (without its `?`).
    ///
    /// # Errors
    /// See [`DirectiveError`]; answer 400.
    pub fn parse(query: &str) -> Result<Self, DirectiveError> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(DirectiveError::QueryTooLong(query.len()));
        }
        let mut directives = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_HLS_msn" => set(&mut directives.media_sequence, "_HLS_msn", value)?,
                "_HLS_part" => set(&mut directives.part, "_HLS_part", value)?,
                "_HLS_skip" => directives.skip |= matches!(value, "YES" | "v2"),
                _ => {}
            }
        }
        if directives.part.is_some() && directives.media_sequence.is_none() {
            return Err(DirectiveError::PartAlone);
        }
        Ok(directives)
    }
}

fn set(slot: &mut Option<u64>, name: &'static str, value: &str) -> Result<(), DirectiveError> {
    let digits =
        value.len() <= NUMBER_DIGITS_MAX && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| value.parse().ok()).flatten();
    let number = number.ok_or(DirectiveError::BadNumber(name))?;
    match slot.replace(number) {
        None => Ok(()),
        Some(_) => Err(DirectiveError::Repeated(name)),
    }
}

/// A query without the delivery directives: what goes with the URIs of the playlist it asked for.
pub fn without_directives(query: &str) -> String {
    let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("_HLS_"));
    kept.collect::<Vec<_>>().join("&")
}

/// How far a media playlist is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveEdge {
    /// Media sequence number of the segment in the making.
    pub next_media_sequence: u64,
    /// Parts of it in the playlist.
    pub open_parts: u64,
    /// Parts of the last whole segment.
    pub last_parts: u64,
    /// The part target; `None`: a playlist without parts.
    pub part_target: Option<Duration>,
    /// Nothing will be added.
    pub ended: bool,
}

/// What to do with a playlist request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Answer with the playlist as it is.
    Answer,
    /// Ask again when the playlist holds this part, or this whole segment if no part is named.
    Wait {
        /// Media sequence number.
        media_sequence: u64,
        /// Index of the part.
        part: Option<u64>,
    },
    /// Nobody can honestly ask for that yet: 400.
    TooFarAhead,
}

/// Whether a request can be answered (6.2.5.2). A playlist that has ended always can, and so can
/// a request for what has long left it: the client sees from the answer that it is late.
pub fn decide(directives: &Directives, edge: &LiveEdge) -> Decision {
    let Some(asked) = directives.media_sequence else { return Decision::Answer };
    if edge.ended {
        return Decision::Answer;
    }
    let part = directives.part.filter(|_| edge.part_target.is_some());
    // The last whole segment is the one before the next.
    let ahead_max = SEGMENTS_AHEAD_MAX - 1;
    if asked > edge.next_media_sequence.saturating_add(ahead_max) {
        return Decision::TooFarAhead;
    }
    if asked < edge.next_media_sequence {
        let last = asked.saturating_add(1) == edge.next_media_sequence;
        // A part its segment turned out not to have is the first part of the next segment.
        return match part {
            Some(index) if last && index >= edge.last_parts && edge.open_parts == 0 => {
                Decision::Wait { media_sequence: edge.next_media_sequence, part: Some(0) }
            }
            _ => Decision::Answer,
        };
    }
    let open_parts = if asked == edge.next_media_sequence { edge.open_parts } else { 0 };
    match part {
        Some(index) if index < open_parts => Decision::Answer,
        Some(index) if index >= open_parts.saturating_add(advance_part_limit(edge)) => {
            Decision::TooFarAhead
        }
        part => Decision::Wait { media_sequence: asked, part },
    }
}

/// The Advance Part Limit: three seconds of parts, and at least three.
fn advance_part_limit(edge: &LiveEdge) -> u64 {
    let nanos = edge.part_target.unwrap_or_default().as_nanos();
    if nanos == 0 || nanos >= 1_000_000_000 {
        return 3;
    }
    u64::try_from(3_000_000_000_u128.div_ceil(nanos)).unwrap_or(u64::MAX)
}
