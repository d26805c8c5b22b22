//! The rules between the media playlists of one multivariant playlist: what each reports of the
//! others (4.4.5.4) against what the client saw of these.

use super::syntax::{Playlist, Segment, parse};
use super::{Faults, Snapshot};

/// A report may be so much newer than what the client was sent of the other playlist meanwhile.
const TRANSFER_MS: u64 = 500;

/// What one client received of one media playlist, by the clock it has for all of them.
#[derive(Debug, Clone, Copy)]
pub struct Rendition<'a> {
    /// Last component of its URI.
    pub name: &'a str,
    /// In order.
    pub snapshots: &'a [Snapshot<'a>],
}

/// How far a playlist is: media sequence number, and index of the last part.
type Edge = (u64, Option<u64>);

/// One playlist as far as it matters here.
struct Seen {
    at_ms: u64,
    playlist: Playlist,
    edge: Option<Edge>,
}

/// Everything that low-latency playlists say wrong, or fail to say, of each other.
pub fn violations(renditions: &[Rendition<'_>]) -> Vec<String> {
    let seen: Vec<(&str, Vec<Seen>)> =
        renditions.iter().map(|one| (one.name, one.snapshots.iter().map(see).collect())).collect();
    let mut broken = Vec::new();
    for (name, own) in &seen {
        for (index, Seen { at_ms, playlist, .. }) in own.iter().enumerate() {
            if playlist.part_target.is_none() || playlist.ended {
                continue;
            }
            for (other, theirs) in seen.iter().filter(|(other, _)| other != name) {
                let of_other = playlist.reports.iter().filter(|r| last_component(&r.uri) == *other);
                let reports: Vec<Option<Edge>> =
                    of_other.map(|report| Some((report.last_msn?, report.last_part))).collect();
                let fault = match reports.as_slice() {
                    [Some(report)] => judge(*report, *at_ms, theirs),
                    [None] => Some("has no LAST-MSN".to_owned()),
                    [] => Some("is missing".to_owned()),
                    _ => Some("is there twice".to_owned()),
                };
                let line =
                    |fault| format!("{name} {index}: the report of {other} {fault} (4.4.5.4)");
                broken.extend(fault.map(line));
            }
        }
    }
    broken
}

fn see(snapshot: &Snapshot<'_>) -> Seen {
    // What is no grammar is for the check of the playlist by itself.
    let playlist = parse(snapshot.text, &mut Faults::default());
    let edge = edge(&playlist);
    Seen { at_ms: snapshot.at_ms, playlist, edge }
}

fn edge(playlist: &Playlist) -> Option<Edge> {
    let skipped = playlist.skipped.unwrap_or(0);
    let end = playlist.media_sequence + skipped + playlist.segments.len() as u64;
    let last_part = |segment: &Segment| (segment.parts.len() as u64).checked_sub(1);
    match playlist.open.as_ref().and_then(last_part) {
        Some(part) => Some((end, Some(part))),
        None => Some((end.checked_sub(1)?, playlist.segments.last().and_then(last_part))),
    }
}

/// What is wrong with a report that arrived at `at_ms`: it names what there is only later, or what
/// was old for longer than a target duration.
fn judge(report: Edge, at_ms: u64, seen: &[Seen]) -> Option<String> {
    let is_before = |(a, a_part): Edge, (b, b_part): Edge| match (a_part, b_part) {
        (Some(a_part), Some(b_part)) => (a, a_part) < (b, b_part),
        _ => a < b,
    };
    for Seen { at_ms: seen_at_ms, playlist, edge } in seen {
        let Some(edge) = *edge else { continue };
        let target_ms = playlist.target_duration_s.unwrap_or(0) * 1000;
        if *seen_at_ms >= at_ms + TRANSFER_MS && is_before(edge, report) {
            return Some(format!("is {report:?}, its playlist came only to {edge:?} later"));
        }
        if seen_at_ms + target_ms <= at_ms && is_before(report, edge) {
            return Some(format!("is {report:?}, its playlist was at {edge:?} long before"));
        }
    }
    None
}

fn last_component(uri: &str) -> &str {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A playlist with 10 whole segments and so many parts of the next.
    fn playlist(parts: u64, report: &str) -> String {
        let mut text = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:1\n\
            #EXT-X-PART-INF:PART-TARGET=0.2\n#EXT-X-MEDIA-SEQUENCE:7\n"
            .to_owned();
        (0..3).for_each(|at| text += &format!("#EXTINF:1.0,\n{at}.m4s\n"));
        (0..parts).for_each(|at| text += &format!("#EXT-X-PART:DURATION=0.2,URI=\"{at}\"\n"));
        text + report
    }

    fn broken(report: &str, theirs: &[(u64, u64)]) -> Vec<String> {
        let own = playlist(1, report);
        let texts: Vec<(u64, String)> = theirs
            .iter()
            .map(|(at_ms, parts)| {
                let report = "#EXT-X-RENDITION-REPORT:URI=\"a.m3u8\",LAST-MSN=10,LAST-PART=0\n";
                (*at_ms, playlist(*parts, report))
            })
            .collect();
        let theirs: Vec<Snapshot<'_>> =
            texts.iter().map(|(at_ms, text)| Snapshot { at_ms: *at_ms, text }).collect();
        violations(&[
            Rendition { name: "a.m3u8", snapshots: &[Snapshot { at_ms: 5000, text: &own }] },
            Rendition { name: "b.m3u8", snapshots: &theirs },
        ])
    }

    #[test]
    fn reports_are_held_against_the_other_playlist() {
        let report = |part: u64| {
            format!("#EXT-X-RENDITION-REPORT:URI=\"b.m3u8?x=1\",LAST-MSN=10,LAST-PART={part}\n")
        };
        let theirs = [(3900, 2), (4900, 4), (5400, 3), (5600, 4)];
        let none: [String; 0] = [];
        assert_eq!(broken(&report(1), &theirs), none);
        assert_eq!(broken(&report(3), &theirs), none);
        assert!(broken(&report(0), &theirs)[0].contains("long before"));
        assert!(broken(&report(4), &theirs)[0].contains("only to"));
        assert!(broken("", &theirs)[0].contains("missing"));
        assert!(broken(&(report(1) + &report(1)), &theirs)[0].contains("twice"));
        let bare = "#EXT-X-RENDITION-REPORT:URI=\"b.m3u8\"\n";
        assert!(broken(bare, &theirs)[0].contains("LAST-MSN"));
    }
}
