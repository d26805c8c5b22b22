//! Uploads: a form whose files are written beside each other under a temporary name and take their
//! own when they are whole. From this machine only, until an authorisation says otherwise.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::io::BufferedFile;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use super::{name, off_shard};
use crate::alarm::Alarm;
use crate::clock;
use crate::config::model::Config;
use crate::http::multipart::{Event, Form};
use crate::http::origin;
use crate::http::respond::{self, Reply};
use crate::http::router::Caller;
use crate::http::urls;
use crate::net::sys_file::{Directory, buffered, system_error, write_all};

/// Uploads at once in this process.
const UPLOADS_MAX: usize = 4;
/// A sender that sends nothing for so long has left.
const STALL: Duration = Duration::from_secs(30);
/// Bytes written at once.
const BATCH_BYTES: usize = 256 * 1024;

/// Uploads that run in this process.
static RUNNING: AtomicUsize = AtomicUsize::new(0);
/// Tells temporary names apart.
static SERIAL: AtomicUsize = AtomicUsize::new(0);

/// Why an upload ends without success.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Stranger(#[from] origin::Stranger),
    #[error("no uploads are taken: see http/upload_mb in config.xml")]
    Off,
    #[error("the upload is larger than http/upload_mb in config.xml allows")]
    TooLarge,
    #[error("4 uploads are running, try again later")]
    Busy,
    #[error("an upload is a form: multipart/form-data with a boundary")]
    NoForm,
    #[error("{0}")]
    BadForm(#[from] crate::http::multipart::FormError),
    #[error("the form has no file")]
    NoFile,
    #[error("the form ended too early")]
    CutShort,
    #[error("nothing came for 30 s")]
    Stalled,
    #[error("a file cannot have that name")]
    BadName,
    #[error("no such folder")]
    NoFolder,
    #[error("there is such a file or folder already; ?overwrite=1 replaces a file")]
    Exists,
    #[error("the disk is full")]
    Full,
    #[error("the file cannot be written: {0}")]
    NotWritten(io::Error),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Stranger(_) | Self::Off => StatusCode::FORBIDDEN,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoForm => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BadForm(_) | Self::NoFile | Self::CutShort | Self::BadName => {
                StatusCode::BAD_REQUEST
            }
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::NoFolder => StatusCode::NOT_FOUND,
            Self::Exists => StatusCode::CONFLICT,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
            Self::NotWritten(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory => Self::Exists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::NotWritten(error),
        }
    }
}

/// Answers a POST to `/vod/…`: a folder, whose files keep their names, or a new name for the first
/// file beside it.
pub(super) async fn take<B>(
    caller: Caller,
    request: &mut Request<B>,
    config: &Config,
    below: &str,
) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut written = Vec::new();
    let outcome = receive(caller, request, config, below, &mut written).await;
    let files = json!(written.iter().map(Written::describe).collect::<Vec<_>>());
    match outcome {
        Ok(()) => {
            for Written { path, bytes } in &written {
                tracing::info!(peer = %caller.peer, path, bytes, "uploaded");
            }
            respond::json(StatusCode::CREATED, &json!({ "files": files }))
        }
        Err(refusal) => {
            let error = refusal.to_string();
            tracing::warn!(peer = %caller.peer, error, "upload refused");
            // What was whole before stays.
            let value = json!({ "error": error, "files": files });
            let mut reply = respond::closing(respond::json(refusal.status(), &value));
            if matches!(refusal, Refusal::Busy) {
                respond::set(&mut reply, header::RETRY_AFTER, "10");
            }
            reply
        }
    }
}

/// A file that is in its place.
struct Written {
    /// Its path below the folder.
    path: String,
    bytes: u64,
}

impl Written {
    fn describe(&self) -> Value {
        let url = urls::percent_encode(&format!("/vod/{}", self.path));
        json!({ "name": self.path, "bytes": self.bytes, "url": url })
    }
}

async fn receive<B>(
    caller: Caller,
    request: &mut Request<B>,
    config: &Config,
    below: &str,
    written: &mut Vec<Written>,
) -> Result<(), Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let authority = request.uri().authority().map(|authority| authority.as_str());
    origin::check(caller.peer.ip(), authority, request.headers())?;
    let bytes_max = config.http.upload_bytes_max;
    if bytes_max == 0 {
        return Err(Refusal::Off);
    }
    // Over HTTP/2 there need not be one; what comes is counted in either case.
    if request.body().size_hint().exact().is_some_and(|length| length > bytes_max) {
        return Err(Refusal::TooLarge);
    }
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut form = Form::of_content_type(content_type).ok_or(Refusal::NoForm)?;
    let query = request.uri().query().unwrap_or_default();
    let replace = urls::query_value(query, "overwrite").is_some_and(|value| value == "1");
    let _slot = Slot::take().ok_or(Refusal::Busy)?;
    let mut target = Target::find(&config.http.vod_dir, below, replace).await?;

    let mut left = bytes_max;
    let mut open: Option<Incomplete> = None;
    loop {
        match form.next()? {
            Event::Part { file_name: Some(sent) } => open = Some(target.create(&sent).await?),
            Event::Part { file_name: None } => {}
            Event::Data(data) => {
                if let Some(file) = &mut open {
                    file.write(&data).await?;
                }
            }
            Event::PartEnd => {
                if let Some(file) = open.take() {
                    written.push(file.finish(replace).await?);
                }
            }
            Event::End => break,
            Event::NeedMore => {
                let frame = next_frame(request.body_mut()).await?.ok_or(Refusal::CutShort)?;
                left = left.checked_sub(frame.len() as u64).ok_or(Refusal::TooLarge)?;
                form.push(&frame);
            }
        }
    }
    // The rest of the body, so that the connection can go on.
    while let Some(frame) = next_frame(request.body_mut()).await? {
        left = left.checked_sub(frame.len() as u64).ok_or(Refusal::TooLarge)?;
    }
    if written.is_empty() { Err(Refusal::NoFile) } else { Ok(()) }
}

/// The next bytes of the body; `None` at its end.
async fn next_frame<B>(body: &mut B) -> Result<Option<Bytes>, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let late = async {
        Alarm::after(STALL).await;
        Err(Refusal::Stalled)
    };
    let frame = async {
        loop {
            match body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(Refusal::CutShort),
                // What is no data are trailers, which nobody wants.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    };
    frame.or(late).await
}

/// A place among the uploads that may run.
struct Slot;

impl Slot {
    fn take() -> Option<Self> {
        let more = |running| (running < UPLOADS_MAX).then_some(running + 1);
        let taken = RUNNING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then_some(Self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where the files go.
struct Target {
    folder: Arc<Directory>,
    /// Path of the folder below the root, with a slash at its end unless it is the root.
    prefix: String,
    /// The name of the first file, where the path names one.
    first_name: Option<String>,
    replace: bool,
}

impl Target {
    async fn find(root: &Path, below: &str, replace: bool) -> Result<Self, Refusal> {
        let below = below.trim_end_matches('/').to_owned();
        if !below.is_empty() && !name::is_path(&below) {
            return Err(Refusal::BadName);
        }
        let root = root.to_path_buf();
        let found = off_shard(move || Self::look(&root, below)).await;
        let (folder, prefix, first_name) = found.map_err(|_| Refusal::NoFolder)?;
        Ok(Self { folder: Arc::new(folder), prefix, first_name, replace })
    }

    fn look(root: &Path, below: String) -> io::Result<(Directory, String, Option<String>)> {
        // The root itself need not have been made by hand.
        Directory::make(root)?;
        if let Ok(folder) = Directory::beneath(root, &below) {
            let prefix = if below.is_empty() { below } else { below + "/" };
            return Ok((folder, prefix, None));
        }
        let (parent, file) = below.rsplit_once('/').unwrap_or(("", &below));
        let folder = Directory::beneath(root, parent)?;
        let prefix = if parent.is_empty() { String::new() } else { format!("{parent}/") };
        Ok((folder, prefix, Some(file.to_owned())))
    }

    /// Begins a file that its sender calls `sent`.
    async fn create(&mut self, sent: &str) -> Result<Incomplete, Refusal> {
        let own = self.first_name.take();
        let name = own.as_deref().or_else(|| name::of_upload(sent)).ok_or(Refusal::BadName)?;
        let (folder, wanted, replace) = (self.folder.clone(), name.to_owned(), self.replace);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".upload-{}-{serial}", clock::unix_millis());
        let hidden = temporary.clone();
        let made = off_shard(move || {
            // Said before gigabytes come; when they have come it is made sure of once more.
            if !replace && folder.exists(&wanted)? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            folder.create_file(&hidden)
        });
        let file = made.await?;
        Ok(Incomplete {
            file: Some(buffered(file)),
            temporary: Temporary { folder: self.folder.clone(), name: Some(temporary) },
            name: name.to_owned(),
            path: format!("{}{name}", self.prefix),
            batch: Vec::new(),
            bytes: 0,
        })
    }
}

/// A file that is not whole yet; what there is of it goes when this does.
struct Incomplete {
    file: Option<BufferedFile>,
    temporary: Temporary,
    name: String,
    path: String,
    /// Bytes that wait for more, at most [`BATCH_BYTES`].
    batch: Vec<u8>,
    /// Bytes written.
    bytes: u64,
}

impl Incomplete {
    async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let mut data = data;
        while !data.is_empty() {
            let room = BATCH_BYTES.saturating_sub(self.batch.len()).min(data.len());
            let (now, later) = data.split_at_checked(room).unwrap_or((data, &[]));
            self.batch.extend_from_slice(now);
            data = later;
            if self.batch.len() >= BATCH_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_BYTES));
        let length = batch.len() as u64;
        write_all(file, self.bytes, batch).await?;
        self.bytes += length;
        Ok(())
    }

    /// Makes it last, and gives it its name.
    async fn finish(mut self, replace: bool) -> Result<Written, Refusal> {
        self.flush().await?;
        if let Some(file) = self.file.take() {
            file.fdatasync().await.map_err(system_error)?;
            file.close().await.map_err(system_error)?;
        }
        let folder = self.temporary.folder.clone();
        let (from, to) = (self.temporary.name.clone().unwrap_or_default(), self.name.clone());
        let moved = off_shard(move || {
            if replace { folder.rename(&from, &to) } else { folder.rename_new(&from, &to) }
        });
        moved.await?;
        self.temporary.name = None;
        Ok(Written { path: std::mem::take(&mut self.path), bytes: self.bytes })
    }
}

/// Removes a file unless it was given another name.
struct Temporary {
    folder: Arc<Directory>,
    name: Option<String>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let folder = self.folder.clone();
        // Not on the shard, which may be on its way out and must not wait for a disk.
        let remove = move || {
            if let Err(error) = folder.remove_file(&name) {
                tracing::warn!(name, %error, "what is left of an upload cannot be removed");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("vod-upload".into()).spawn(remove) {
            tracing::warn!(%error, "what is left of an upload stays");
        }
    }
}
