//! What this server fetches from others, and sends to them.

use protocols::media::StreamKey;

use super::model::{Forward, ForwardPage, Pull, PullPage, StreamName};
use super::problem::Problem;
use super::streams::{shown_vhost, sort_key};
use super::{Answer, Call, json, page};
use crate::forward::ForwardStatus;
use crate::http::api::StreamInfo;
use crate::observe::PullReport;

fn name(key: &StreamKey) -> StreamName {
    StreamName {
        vhost: shown_vhost(key.vhost()),
        app: key.app().to_owned(),
        name: key.name().to_owned(),
    }
}

fn key_bytes(key: &StreamKey) -> Vec<u8> {
    sort_key(key.vhost(), key.app(), key.name())
}

pub(super) async fn pulls(call: &Call<'_>) -> Result<Answer, Problem> {
    let mut pulls = call.ctx.backend.pulls().await;
    let key = |pull: &PullReport| key_bytes(&pull.key);
    pulls.sort_by_cached_key(key);
    let (pulls, next) = page::page(call, pulls, key)?;
    let shown = |pull: PullReport| Pull {
        stream: name(&pull.key),
        source: pull.source.to_string(),
        always: pull.always,
        state: pull.state.to_owned(),
        attempts: pull.attempts,
        last_error: pull.last_error.map(str::to_owned),
    };
    json(&PullPage { pulls: pulls.into_iter().map(shown).collect(), next })
}

pub(super) async fn forwards(call: &Call<'_>) -> Result<Answer, Problem> {
    let streams = call.ctx.backend.streams().await;
    let of_stream = |stream: StreamInfo| {
        let key = sort_key(&stream.vhost, &stream.app, &stream.name);
        let name =
            StreamName { vhost: shown_vhost(&stream.vhost), app: stream.app, name: stream.name };
        // A stream may have several.
        let named = move |forward: ForwardStatus| {
            let key = [&key, b"\0".as_slice(), forward.target.as_bytes()].concat();
            (key, name.clone(), forward)
        };
        stream.forwards.into_iter().map(named)
    };
    let mut forwards: Vec<_> = streams.into_iter().flat_map(of_stream).collect();
    forwards.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    let (forwards, next) = page::page(call, forwards, |(key, ..)| key.clone())?;
    let shown = |(_, stream, forward): (Vec<u8>, StreamName, ForwardStatus)| Forward {
        stream,
        target: forward.target.to_string(),
        state: forward.state.to_owned(),
        attempts: forward.attempts,
        bytes_out: forward.bytes_out,
        bits_per_second: forward.bits_per_second,
        last_error: forward.last_error.as_deref().map(str::to_owned),
    };
    json(&ForwardPage { forwards: forwards.into_iter().map(shown).collect(), next })
}
