//! `NAME.mp4.m3u8`, `NAME.ts.m3u8` and what they list: the HLS face of a file that lies there.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use protocols::hls::MEDIA_TYPE;

use super::cache::Shelf;
use super::file::Representation;
use super::presentation::Unplayable;
use super::source::{Container, View};
use super::{not_found, off_shard};
use crate::config::model::Config;
use crate::http::file_body::{DiskFile, Part};
use crate::http::respond::{self, Reply};

/// Segments of files are at least so long: nobody waits for their end, as with live ones.
const SEGMENT_MIN: Duration = Duration::from_secs(4);

/// What a path asks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Playlist,
    Init,
    Segment(usize),
}

/// The file a path speaks of, and what is wanted of it. Pure.
fn parse(below: &str) -> Option<(&str, Container, Wanted)> {
    if let Some(source) = below.strip_suffix(".m3u8") {
        return Some((source, Container::of(source)?, Wanted::Playlist));
    }
    let (source, name) = below.rsplit_once('/')?;
    let container = Container::of(source)?;
    if name == "init.mp4" {
        return (container == Container::Mp4).then_some((source, container, Wanted::Init));
    }
    let number = name.strip_prefix("seg-")?.strip_suffix(container.segment_ending())?;
    let plain = number == "0" || !number.starts_with(['0', '+']);
    Some((source, container, Wanted::Segment(number.parse().ok().filter(|_| plain)?)))
}

/// The list that a piece of a file is listed by.
pub(super) fn listed_by(below: &str) -> Option<String> {
    match parse(below)? {
        (source, _, Wanted::Init | Wanted::Segment(_)) => Some(format!("{source}.m3u8")),
        (_, _, Wanted::Playlist) => None,
    }
}

/// What a path that names no file stands for.
pub(super) async fn find(
    shelf: &Rc<Shelf>,
    config: &Config,
    below: &str,
    query: Option<&str>,
) -> Result<Representation, Reply> {
    let (source, container, wanted) = parse(below).ok_or_else(not_found)?;
    let opened = shelf.opened().open(&config.http.vod_dir, source).await.ok().flatten();
    let file = opened.ok_or_else(not_found)?;
    let target = config.http.segment.max(SEGMENT_MIN);
    let made = shelf.view(source, container, &file, target).await;
    let made = made.map_err(refuse)?;
    let (part, media_type) = match wanted {
        Wanted::Playlist => {
            let name = source.rsplit('/').next().unwrap_or(source).to_owned();
            let query = query.unwrap_or_default().to_owned();
            // A long file has thousands of lines.
            let text = off_shard(move || made.playlist(&name, &query)).await;
            (Part::Bytes(Bytes::from(text)), MEDIA_TYPE)
        }
        Wanted::Init => (Part::Bytes(made.init().ok_or_else(not_found)?), made.media_type()),
        Wanted::Segment(number) => return segment(file, made, number, target).await,
    };
    let suffix = format!("-{}", target.as_millis());
    Ok(Representation::of_parts(file, vec![part], media_type, &suffix))
}

async fn segment(
    file: Rc<DiskFile>,
    made: Arc<View>,
    number: usize,
    target: Duration,
) -> Result<Representation, Reply> {
    let media_type = made.media_type();
    let failed = |_| refuse(Unplayable::NotRead);
    let (again, length) = (file.file().try_clone().map_err(failed)?, file.stamp().len);
    let parts = off_shard(move || made.segment(number, &again, length)).await;
    let parts = parts.ok_or_else(not_found)?.map_err(failed)?;
    let suffix = format!("-{}-{number}", target.as_millis());
    Ok(Representation::of_parts(file, parts, media_type, &suffix))
}

fn refuse(unplayable: Unplayable) -> Reply {
    let status = match unplayable {
        Unplayable::NotRead => StatusCode::INTERNAL_SERVER_ERROR,
        Unplayable::NotMp4 | Unplayable::NotCut(_) | Unplayable::NoTrack | Unplayable::TooLong => {
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        }
    };
    respond::text(status, &unplayable.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_playlists_and_segments() {
        for (path, expected) in [
            ("a.mp4.m3u8", Some(("a.mp4", Wanted::Playlist))),
            ("d/a.MOV.m3u8", Some(("d/a.MOV", Wanted::Playlist))),
            ("d/a.mp4/init.mp4", Some(("d/a.mp4", Wanted::Init))),
            ("a.mp4/seg-0.m4s", Some(("a.mp4", Wanted::Segment(0)))),
            ("a.mp4/seg-12.m4s", Some(("a.mp4", Wanted::Segment(12)))),
            ("a.mp4/seg-01.m4s", None),
            ("a.mp4/seg-+1.m4s", None),
            ("a.mp4/seg--1.m4s", None),
            ("a.mp4/seg-99999999999999999999.m4s", None),
            ("a.mp4/x/seg-1.m4s", None),
            ("d/a.TS.m3u8", Some(("d/a.TS", Wanted::Playlist))),
            ("a.ts/seg-3.ts", Some(("a.ts", Wanted::Segment(3)))),
            ("a.ts/seg-3.m4s", None),
            ("a.mp4/seg-3.ts", None),
            ("a.ts/init.mp4", None),
            ("a.flv.m3u8", None),
            ("a.m3u8", None),
            ("d/.mp4.m3u8", Some(("d/.mp4", Wanted::Playlist))),
            (".mp4.m3u8", None),
            ("seg-1.m4s", None),
        ] {
            let found = parse(path).map(|(source, _, wanted)| (source, wanted));
            assert_eq!(found, expected, "{path}");
        }
    }
}
