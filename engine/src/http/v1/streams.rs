//! Streams: all, one, its tracks, its viewers, its end.

use hyper::StatusCode;
use protocols::media::StreamKey;

use super::model::{self, Ended, LeftOut, Publisher, Stream, StreamPage, StreamUrl};
use super::problem::Problem;
use super::{Answer, Call, json, page, sessions};
use crate::http::api::{StatusInfo, StreamInfo};
use crate::http::urls;
use crate::record::DEFAULT_VHOST;
use crate::shard::Kick;
use crate::shard::sessions::{SessionQuery, SessionRole};

/// The vhost as the API names it.
pub(super) fn shown_vhost(vhost: &str) -> String {
    if vhost.is_empty() { DEFAULT_VHOST } else { vhost }.to_owned()
}

/// The vhost that a name means.
pub(super) fn meant_vhost(shown: &str) -> String {
    if shown == DEFAULT_VHOST { String::new() } else { shown.to_ascii_lowercase() }
}

/// What a cursor of sorted streams is made of.
pub(super) fn sort_key(vhost: &str, app: &str, name: &str) -> Vec<u8> {
    [vhost, "\0", app, "\0", name].concat().into_bytes()
}

pub(super) async fn list(call: &Call<'_>) -> Result<Answer, Problem> {
    let mut streams = call.ctx.backend.streams().await;
    if let Some(vhost) = call.query("vhost") {
        let vhost = meant_vhost(&vhost);
        streams.retain(|stream| stream.vhost == vhost);
    }
    if let Some(app) = call.query("app") {
        streams.retain(|stream| stream.app == app);
    }
    let key = |stream: &StreamInfo| sort_key(&stream.vhost, &stream.app, &stream.name);
    let (streams, next) = page::page(call, streams, key)?;
    let status = call.ctx.backend.status();
    let streams = streams.iter().map(|stream| shown(call, stream, &status)).collect();
    json(&StreamPage { streams, next })
}

pub(super) async fn one(call: &Call<'_>) -> Result<Answer, Problem> {
    let stream = find(call).await?;
    json(&shown(call, &stream, &call.ctx.backend.status()))
}

pub(super) async fn tracks(call: &Call<'_>) -> Result<Answer, Problem> {
    json(&shown_tracks(&find(call).await?))
}

pub(super) async fn viewers(call: &Call<'_>) -> Result<Answer, Problem> {
    let stream = Some(key_of(call)?);
    let role = Some(SessionRole::Play);
    sessions::answer(call, SessionQuery { stream, role, ..SessionQuery::default() }).await
}

/// Tells the publisher and all viewers to go.
pub(super) async fn end(call: &Call<'_>) -> Result<Answer, Problem> {
    let key = key_of(call)?;
    // Viewers of segments have no session; they are judged again at their next request.
    let kick = Kick::Stream { key, role: None };
    let kicked = call.ctx.backend.kick(kick).await.ok_or_else(Problem::late)?;
    if kicked.total() == 0 {
        find(call).await?;
        let sentence =
            "nobody publishes or plays it: what is pulled from a file ends with its rule";
        return Err(Problem::new(StatusCode::CONFLICT, sentence));
    }
    json(&Ended { publisher: kicked.publishers > 0, viewers: kicked.viewers })
}

fn not_live() -> Problem {
    Problem::not_found("no such live stream")
}

fn key_of(call: &Call<'_>) -> Result<StreamKey, Problem> {
    let (vhost, app, name) = (call.parameter(0), call.parameter(1), call.parameter(2));
    let key = StreamKey::new(&meant_vhost(vhost), app, name);
    key.map_err(|_| Problem::new(StatusCode::NOT_FOUND, "no stream can have this name"))
}

async fn find(call: &Call<'_>) -> Result<StreamInfo, Problem> {
    let (app, name) = (call.parameter(1), call.parameter(2));
    let vhost = meant_vhost(call.parameter(0));
    let streams = call.ctx.backend.streams().await;
    let wanted =
        |stream: &StreamInfo| stream.vhost == vhost && stream.app == app && stream.name == name;
    streams.into_iter().find(wanted).ok_or_else(not_live)
}

fn shown(call: &Call<'_>, stream: &StreamInfo, status: &StatusInfo) -> Stream {
    let urls = urls::stream_urls(stream, call.at, call.config, status).into_iter();
    let by_protocol =
        stream.viewers.iter().map(|(label, count)| (label.to_owned(), count)).collect();
    Stream {
        vhost: shown_vhost(&stream.vhost),
        app: stream.app.clone(),
        name: stream.name.clone(),
        publisher: Publisher {
            session: stream.session.clone(),
            peer: stream.peer.map(|peer| peer.to_string()),
            protocol: stream.from.to_owned(),
            agent: stream.agent.clone(),
            source: stream.source.as_deref().map(str::to_owned),
        },
        uptime_ms: u64::try_from(stream.uptime.as_millis()).unwrap_or(u64::MAX),
        bytes_in: stream.bytes_in,
        bits_per_second: stream.bits_per_second.round(),
        recorded: call.config.records(&stream.app, &stream.name),
        tracks: shown_tracks(stream),
        viewers: model::Viewers {
            total: stream.viewers.iter().map(|(_, count)| count).sum(),
            by_protocol,
        },
        urls: urls.map(|(kind, url)| StreamUrl { r#type: kind.to_owned(), url }).collect(),
        left_out: crate::stream::left_out(&stream.tracks)
            .into_iter()
            .map(|(output, codec)| LeftOut {
                output: output.name().to_owned(),
                codec: codec.name().to_owned(),
            })
            .collect(),
    }
}

fn shown_tracks(stream: &StreamInfo) -> model::Tracks {
    let video = stream.tracks.video.as_ref().map(|track| model::Video {
        codec: track.codec.name().to_owned(),
        width: track.info.width,
        height: track.info.height,
        frame_rate: (track.info.frame_rate * 100.0).round() / 100.0,
        gop: stream.gop_frames,
    });
    let audio = stream.tracks.audio.as_ref().map(|track| model::Audio {
        codec: track.codec.name().to_owned(),
        channels: track.info.channels.into(),
        sample_bits: track.info.sample_bits.into(),
        sample_rate: track.info.sample_rate,
    });
    model::Tracks { video, audio }
}
