//! A snapshot as one of several renditions of a presentation: its line of the multivariant
//! playlist, and how far it is for the playlists of the others.

use std::sync::Arc;

use protocols::codec::rfc6381::{self, Manifest};
use protocols::container::fmp4::{self, Selection};
use protocols::container::ts::Muxer;
use protocols::hls::{RenditionReport, Variant};
use protocols::media::Tracks;

use super::store::{Packaging, Segment, Snapshot};

/// The variant whose media playlist is at `uri`; rates are those of the segments listed now. `None`
/// while there is none.
#[must_use]
pub fn variant(snapshot: &Snapshot, uri: String) -> Option<Variant> {
    let listed = snapshot.listed();
    let last = listed.last()?;
    let tracks = &last.init.tracks;
    let video = tracks.video.as_ref().map(|track| track.info);
    let (bytes, seconds) = listed.iter().fold((0, 0.0), |(bytes, seconds), segment| {
        (bytes + bytes_of(segment), seconds + segment.duration.as_secs_f64())
    });
    let bandwidth = listed
        .iter()
        .map(|segment| bits_per_second(bytes_of(segment), segment.duration.as_secs_f64()));
    let average = bits_per_second(bytes, seconds);
    Some(Variant {
        uri,
        bandwidth: bandwidth.fold(average, u64::max),
        average_bandwidth: Some(average),
        codecs: codecs(snapshot.packaging, tracks),
        resolution: video.map(|info| (info.width, info.height)).filter(|(width, _)| *width > 0),
        frame_rate: video.map(|info| info.frame_rate).filter(|rate| *rate > 0.0),
        audio_group: None,
    })
}

/// How far the rendition at `uri` is (4.4.5.4); `None` while it has nothing to report, and when it
/// is over.
#[must_use]
pub fn report(snapshot: &Snapshot, uri: String) -> Option<RenditionReport> {
    if snapshot.ended {
        return None;
    }
    let parts = |segment: &Segment| u64::try_from(segment.parts.len()).ok()?.checked_sub(1);
    let open = snapshot.open.as_ref().and_then(|open| Some((snapshot.next_sequence, parts(open)?)));
    let last = || snapshot.segments.last().and_then(|last| Some((last.sequence, parts(last)?)));
    let (last_media_sequence, last_part) = open.or_else(last)?;
    Some(RenditionReport { uri, last_media_sequence, last_part: Some(last_part) })
}

fn bytes_of(segment: &Segment) -> usize {
    segment.pieces(None).map(bytes::Bytes::len).sum()
}

fn bits_per_second(bytes: usize, seconds: f64) -> u64 {
    if seconds > 0.0 { (bytes as f64 * 8.0 / seconds).ceil() as u64 } else { 0 }
}

/// The codecs of the tracks that the packaging carries.
fn codecs(packaging: Packaging, tracks: &Arc<Tracks>) -> Vec<String> {
    if packaging == Packaging::Cmaf {
        let list = fmp4::codecs(tracks, Selection::Both, Manifest::Hls);
        return list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    }
    let muxer = Muxer::new(tracks);
    let video = tracks.video.as_ref().filter(|track| muxer.carries(track.codec));
    let audio = tracks.audio.as_ref().filter(|track| muxer.carries(track.codec));
    let video = video.and_then(rfc6381::video);
    let audio = audio.and_then(|track| rfc6381::audio(track, Manifest::Hls));
    video.into_iter().chain(audio).collect()
}
