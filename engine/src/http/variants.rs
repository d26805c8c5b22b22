//! Renditions of one stream, pushed as streams whose names differ in their endings: the multivariant
//! playlist of the name without an ending, and what their playlists say of each other.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::future::BoxedLocal;
use protocols::hls::{MultivariantPlaylist, RenditionReport};
use protocols::media::StreamKey;

use crate::alarm::Alarm;
use crate::config::Config;
use crate::http::HttpContext;
use crate::segment::{Packaging, Snapshot, rendition};
use crate::shard::{Absent, Wanted};

/// How long a rendition is waited for when another can be played.
const OTHERS_WAIT: Duration = Duration::from_secs(4);

/// How long a playlist waits for what the owner of another rendition says.
const REPORT_WAIT: Duration = Duration::from_millis(100);

/// One rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rendition {
    key: StreamKey,
    /// Its media playlist, as seen from any other beside it.
    uri: String,
}

impl Rendition {
    /// The stream of this name beside another, played as late; `None` when no stream can have it.
    fn new(beside: &StreamKey, name: &str) -> Option<Self> {
        let key = StreamKey::new(beside.vhost(), beside.app(), name).ok()?;
        let key = key.delayed(beside.delay_s());
        Some(Self { key, uri: format!("{}.m3u8", name.rsplit('/').next()?) })
    }
}

/// All renditions of a stream, by its name without an ending.
fn all_of(endings: &[String], base: &StreamKey) -> Vec<Rendition> {
    let named = |ending| Rendition::new(base, &format!("{}{ending}", base.name()));
    endings.iter().filter_map(named).collect()
}

/// The renditions beside this one; none if its name has no ending.
fn others_of(endings: &[String], key: &StreamKey) -> Vec<Rendition> {
    let name = key.name();
    let own = endings.iter().filter(|ending| name.ends_with(ending.as_str()));
    let Some(own) = own.max_by_key(|ending| ending.len()) else { return Vec::new() };
    let base = name.strip_suffix(own.as_str()).unwrap_or_default();
    if base.is_empty() || base.ends_with('/') {
        return Vec::new();
    }
    let others = endings.iter().filter(|ending| *ending != own);
    others.filter_map(|ending| Rendition::new(key, &format!("{base}{ending}"))).collect()
}

/// How far the other renditions of a stream are. They go on being made while they are asked for,
/// so that a player finds the one it changes to.
pub(super) async fn reports(
    ctx: &HttpContext,
    config: &Config,
    key: &StreamKey,
) -> Vec<RenditionReport> {
    let others = others_of(&config.http.hls_variants, key);
    let ask = |one: &Rendition| {
        ctx.backend.segments(one.key.clone(), Packaging::Cmaf, Wanted::Anything, REPORT_WAIT)
    };
    let found = all_or_late(others.iter().map(ask).collect()).await;
    let found = others.into_iter().zip(found);
    found.filter_map(|(one, found)| rendition::report(&*found.ok()?, one.uri)).collect()
}

/// The multivariant playlist of a stream that is not live itself.
///
/// # Errors
/// None of its renditions can be played either.
pub(super) async fn find(
    ctx: &HttpContext,
    config: &Config,
    base: &StreamKey,
    packaging: Packaging,
    wanted: Wanted,
    patience: Duration,
) -> Result<MultivariantPlaylist, Absent> {
    let renditions = all_of(&config.http.hls_variants, base);
    let ask = |one: &Rendition| ctx.backend.segments(one.key.clone(), packaging, wanted, patience);
    let found = all_or_late(renditions.iter().map(ask).collect()).await;
    let errors = found.iter().filter_map(|found| found.as_ref().err().copied());
    let why = errors.reduce(|why, next| if why == Absent::NotFound { next } else { why });
    let why = why.unwrap_or(Absent::NotFound);
    let found = renditions.into_iter().zip(found);
    let there: Vec<(Rendition, Arc<Snapshot>)> =
        found.filter_map(|(one, found)| Some((one, found.ok()?))).collect();
    // One that is over is of no use beside one that goes on.
    let is_live = there.iter().any(|(_, snapshot)| !snapshot.ended);
    let useful = there.into_iter().filter(|(_, snapshot)| !(is_live && snapshot.ended));
    let variant =
        |(one, snapshot): (Rendition, Arc<Snapshot>)| rendition::variant(&snapshot, one.uri);
    let variants: Vec<_> = useful.filter_map(variant).collect();
    if variants.is_empty() {
        return Err(why);
    }
    Ok(MultivariantPlaylist { variants, ..MultivariantPlaylist::default() })
}

type Found = Result<Arc<Snapshot>, Absent>;

/// What all questions come to, asked at once. When one is answered well the rest have
/// [`OTHERS_WAIT`].
async fn all_or_late(mut questions: Vec<BoxedLocal<Found>>) -> Vec<Found> {
    let mut answers: Vec<Option<Found>> = questions.iter().map(|_| None).collect();
    let mut deadline: Option<BoxedLocal<()>> = None;
    poll_fn(|cx| {
        for (question, answer) in questions.iter_mut().zip(&mut answers) {
            poll_once(question, answer, cx);
        }
        if answers.iter().all(Option::is_some) {
            return Poll::Ready(());
        }
        if !answers.iter().flatten().any(Result::is_ok) {
            return Poll::Pending;
        }
        let wait = || {
            Box::pin(async {
                Alarm::after(OTHERS_WAIT).await;
            }) as BoxedLocal<()>
        };
        deadline.get_or_insert_with(wait).as_mut().poll(cx)
    })
    .await;
    answers.into_iter().map(|answer| answer.unwrap_or(Err(Absent::Late))).collect()
}

fn poll_once(question: &mut BoxedLocal<Found>, answer: &mut Option<Found>, cx: &mut Context<'_>) {
    if answer.is_none()
        && let Poll::Ready(found) = Pin::new(question).poll(cx)
    {
        *answer = Some(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Targets;

    fn key(name: &str) -> StreamKey {
        StreamKey::new("", "live", name).unwrap()
    }

    fn uris(renditions: &[Rendition]) -> Vec<&str> {
        renditions.iter().map(|rendition| rendition.uri.as_str()).collect()
    }

    #[test]
    fn renditions_are_named_by_their_endings() {
        let endings: Vec<String> = ["_low", "_hi", "_very_hi"].map(str::to_owned).into();
        let all = all_of(&endings, &key("a/show"));
        assert_eq!(uris(&all), ["show_low.m3u8", "show_hi.m3u8", "show_very_hi.m3u8"]);
        assert_eq!(all[1].key, key("a/show_hi"));
        // Each knows the others, by the longest ending that its name has.
        let others = |name| others_of(&endings, &key(name));
        assert_eq!(uris(&others("a/show_low")), ["show_hi.m3u8", "show_very_hi.m3u8"]);
        assert_eq!(uris(&others("a/show_very_hi")), ["show_low.m3u8", "show_hi.m3u8"]);
        assert_eq!(others("a/show_low")[0].key, key("a/show_hi"));
        for none in ["show", "_low", "a/_low", "show_lo"] {
            assert_eq!(others(none), [], "{none}");
        }
        assert_eq!(others_of(&[], &key("show_low")), []);
        let later = others_of(&endings, &key("show_low").delayed(30));
        assert!(!later.is_empty() && later.iter().all(|other| other.key.delay_s() == 30));
    }

    #[test]
    fn what_is_late_is_left_out_once_something_is_there() {
        let executor = glommio::LocalExecutorBuilder::default().io_memory(64 << 10).ring_depth(64);
        let run = executor.spawn(|| async {
            let never = || Box::pin(std::future::pending()) as BoxedLocal<Found>;
            let missing = || Box::pin(async { Err(Absent::NotFound) }) as BoxedLocal<Found>;
            let found = all_or_late(vec![missing(), missing()]).await;
            assert!(found.iter().all(|found| matches!(found, Err(Absent::NotFound))));
            let there = Box::pin(async { Ok(snapshot()) }) as BoxedLocal<Found>;
            let found = all_or_late(vec![never(), there, missing()]).await;
            assert!(matches!(found[..], [Err(Absent::Late), Ok(_), Err(Absent::NotFound)]));
        });
        run.unwrap().join().unwrap();
    }

    fn snapshot() -> Arc<Snapshot> {
        Arc::new(Snapshot {
            packaging: Packaging::Cmaf,
            epoch: 0,
            origin_ms: 0,
            targets: Targets { segment_s: 1, part: Duration::from_millis(200) },
            segments: Vec::new(),
            listed: 0,
            discontinuity_sequence: 0,
            open: None,
            next_sequence: 0,
            inits: Vec::new(),
            ended: false,
            delay: Duration::ZERO,
        })
    }
}
