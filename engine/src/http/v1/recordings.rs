//! What is recorded: names, days, pieces.

use hyper::StatusCode;

use super::model::{DayPage, Piece, PiecePage, RecordingPage};
use super::problem::Problem;
use super::streams::meant_vhost;
use super::{Answer, Call, json, page};
use crate::http::urls;
use crate::record::{Library, LoadError, PieceName, Place, day_text, parse_day};

/// Runs what waits for the disk beside the shard.
async fn load<T: Send + 'static>(
    call: &Call<'_>,
    run: impl FnOnce(Library) -> Result<T, LoadError> + Send + 'static,
) -> Result<T, Problem> {
    let library = Library::new(&call.config.record.dir);
    let loaded = glommio::executor().spawn_blocking(move || run(library)).await;
    loaded.map_err(|error| match error {
        LoadError::NotFound => Problem::not_found("nothing of that name and day is recorded"),
        LoadError::TooMuch => Problem::new(StatusCode::NOT_FOUND, "that is too much to list"),
        LoadError::Io(error) => {
            tracing::warn!(%error, "recordings cannot be read");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the recordings cannot be read")
        }
    })
}

fn place(call: &Call<'_>) -> Result<Place, Problem> {
    let place = Place::find(&meant_vhost(call.parameter(0)), call.parameter(1));
    place.ok_or_else(|| Problem::not_found("no stream can have this name"))
}

pub(super) async fn streams(call: &Call<'_>) -> Result<Answer, Problem> {
    let vhost = meant_vhost(call.parameter(0));
    let known = vhost.is_empty() || call.config.vhosts.contains(&vhost);
    if !known {
        return Err(Problem::not_found("no such virtual host"));
    }
    let names = load(call, move |library| library.streams(&vhost)).await?;
    let (recordings, next) = page::page(call, names, |name| name.clone().into_bytes())?;
    json(&RecordingPage { recordings, next })
}

pub(super) async fn days(call: &Call<'_>) -> Result<Answer, Problem> {
    let place = place(call)?;
    let days = load(call, move |library| library.days(&place)).await?;
    let days = days.into_iter().map(day_text).collect();
    let (days, next) = page::page(call, days, |day: &String| day.clone().into_bytes())?;
    json(&DayPage { days, next })
}

pub(super) async fn pieces(call: &Call<'_>) -> Result<Answer, Problem> {
    let place = place(call)?;
    let Some(day) = parse_day(call.parameter(2)) else {
        return Err(Problem::not_found("no such day"));
    };
    let pieces = load(call, move |library| library.pieces(&place, day)).await?;
    let key = |piece: &PieceName| piece.time_text().into_bytes();
    let (pieces, next) = page::page(call, pieces, key)?;
    let (app, name) = (&call.config.rtmp.rec_app, urls::percent_encode(call.parameter(1)));
    let endings = call.config.record.listed.endings();
    let shown = |piece: &PieceName| {
        let (day, time) = (piece.day_text(), piece.time_text());
        let path = |ending: &&str| format!("/{app}/{name}/{day}/{time}.{ending}");
        let paths = endings.iter().map(path).collect();
        Piece { start_unix_ms: piece.unix_ms(), paths, time }
    };
    json(&PiecePage { pieces: pieces.iter().map(shown).collect(), next })
}
