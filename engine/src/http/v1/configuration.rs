//! `config.xml` and reloading.

use std::sync::Arc;

use hyper::StatusCode;

use super::body;
use super::model::{Configuration, ConfigurationChange, Described, ReloadReport};
use super::problem::Problem;
use super::{Answer, Call, json};
use crate::config::options::{self, Kind, Opt};
use crate::config::{Edit, diff_reloadable};
use crate::http::api::Backend;
use crate::reload::{Cause, ReloadError, Reloader, Report};

pub(super) fn reloader(backend: &dyn Backend) -> Result<Arc<Reloader>, Problem> {
    let starting = "the server is starting";
    backend.reloader().ok_or_else(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE, starting))
}

/// Options that have values: all but sections of any content.
fn writable() -> impl Iterator<Item = &'static Opt> {
    options::table().filter(|opt| opt.kind != Kind::Opaque)
}

pub(super) fn get(call: &Call<'_>) -> Result<Answer, Problem> {
    let accepted = reloader(&*call.ctx.backend)?.accepted();
    let document = &accepted.document;
    let options = writable().map(|opt| (opt.path.to_owned(), document.shown(opt))).collect();
    let restart = diff_reloadable(call.config, &document.config);
    let described = writable().map(|opt| (opt.path.to_owned(), describe(opt))).collect();
    let restart = restart.into_iter().map(str::to_owned).collect();
    json(&Configuration { options, restart, described })
}

fn describe(opt: &Opt) -> Described {
    Described {
        default: opt.default.to_owned(),
        wanted: opt.kind.wanted(opt.unit),
        reloadable: opt.reloadable,
        repeatable: opt.repeatable,
        secret: opt.shown.hides(),
        doc: opt.doc.to_owned(),
    }
}

pub(super) async fn put(call: &Call<'_>, text: &[u8]) -> Result<Answer, Problem> {
    let change: ConfigurationChange = body::parse(text)?;
    let wrong = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let reloader = reloader(&*call.ctx.backend)?;
    let accepted = reloader.accepted();
    let mut edits = Vec::new();
    for (path, values) in &change.options.0 {
        let known = options::find(path).filter(|opt| opt.kind != Kind::Opaque);
        let Some(opt) = known else {
            return Err(wrong(format!("{} is not an option", crate::conn::escape(path))));
        };
        let values = values.texts();
        if opt.is_of_group() {
            // An attribute belongs to those beside it: which element a new one is of cannot be told.
            // What comes back as it was shown is no change.
            if values == accepted.document.shown(opt) {
                continue;
            }
            let element = opt.path.split('@').next().unwrap_or_default();
            return Err(wrong(format!("{path}: write the elements <{element}> in the file")));
        }
        if values.len() > 1 && !opt.repeatable {
            return Err(wrong(format!("{path} has one value")));
        }
        if edits.iter().any(|edit: &Edit| edit.opt.path == opt.path) {
            return Err(wrong(format!("{} is given twice", opt.path)));
        }
        edits.push(Edit { opt, values });
    }
    let write =
        move || reloader.write_config(|old| old.edited(&edits).map_err(ReloadError::Refused));
    report(&*glommio::executor().spawn_blocking(write).await)
}

pub(super) fn last_reload(call: &Call<'_>) -> Result<Answer, Problem> {
    json(&shown(&reloader(&*call.ctx.backend)?.last()))
}

pub(super) async fn reload(call: &Call<'_>) -> Result<Answer, Problem> {
    let reloader = reloader(&*call.ctx.backend)?;
    let reload = move || reloader.reload(Cause::Api);
    report(&*glommio::executor().spawn_blocking(reload).await)
}

/// What a reload has come to as the answer to who asked for it.
pub(super) fn report(report: &Report) -> Result<Answer, Problem> {
    match &report.outcome {
        Ok(_) => json(&shown(report)),
        Err(error) => Err(Problem::new(status_of(error), error.to_string())),
    }
}

/// The status of the answer to whoever wanted what has failed.
pub(crate) fn status_of(error: &ReloadError) -> StatusCode {
    match error {
        ReloadError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ReloadError::Changed(_) => StatusCode::CONFLICT,
        ReloadError::Write(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn shown(report: &Report) -> ReloadReport {
    let (applied, error) = match &report.outcome {
        Ok(applied) => (applied.clone(), None),
        Err(error) => (Default::default(), Some(error.to_string())),
    };
    let owned = |paths: Vec<&'static str>| paths.into_iter().map(str::to_owned).collect();
    ReloadReport {
        time_unix_ms: report.unix_ms,
        cause: report.cause.name().to_owned(),
        ok: error.is_none(),
        error,
        changed: owned(applied.changed),
        restart: owned(applied.restart),
        policy_changed: applied.policy,
        certificate_changed: applied.certificates,
        late_shards: applied.late,
    }
}
