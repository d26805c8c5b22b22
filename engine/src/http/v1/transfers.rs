//! What this server fetches from others, and sends to them.

use protocols::media::StreamKey;

use super::model::{Forward, ForwardPage, Pull, PullPage, StreamName};
use super::problem::Problem;
use super::streams::{shown_vhost, sort_key};
use super::{Answer, Call, json, page};
use crate::observe::{ForwardReport, PullReport};

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
    let (mut pulls, _) = call.ctx.backend.transfers().await;
    let key = |pull: &PullReport| key_bytes(&pull.key);
    pulls.sort_by_key(key);
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
    let (_, mut forwards) = call.ctx.backend.transfers().await;
    // A stream may have several.
    let key = |forward: &ForwardReport| {
        [&key_bytes(&forward.key), b"\0".as_slice(), forward.target.as_bytes()].concat()
    };
    forwards.sort_by_key(key);
    let (forwards, next) = page::page(call, forwards, key)?;
    let shown = |forward: ForwardReport| Forward {
        stream: name(&forward.key),
        target: forward.target.to_string(),
        state: forward.state.to_owned(),
        attempts: forward.attempts,
        bytes_out: forward.bytes_out,
        bits_per_second: forward.bits_per_second,
        last_error: forward.last_error,
    };
    json(&ForwardPage { forwards: forwards.into_iter().map(shown).collect(), next })
}
