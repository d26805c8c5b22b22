//! The files of a piece in the making, behind a trait, so that tests can make a disk fail.

use std::fs::File;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

use glommio::io::BufferedFile;

use super::name::{PieceName, Place};
use crate::net::sys_file::{Directory, buffered, system_error, write_all};

/// Bytes of one write: long enough to be cheap, short enough that copying them into the page cache
/// holds nobody up.
const WRITE_BYTES_MAX: usize = 256 << 10;
/// Names that are tried when a second has had its piece already.
const NAMES_MAX: usize = 120;

/// Which of the two files of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The MP4 file.
    Media,
    /// The index.
    Index,
}

/// Where a writer makes pieces.
pub(super) trait Disk {
    /// A piece in the making.
    type Piece: PieceFiles;

    /// Makes the files of a piece that begins then.
    fn create(&self, unix_ms: u64) -> impl Future<Output = io::Result<Self::Piece>>;
}

/// The files of one piece.
pub(super) trait PieceFiles {
    /// What it is called.
    fn name(&self) -> PieceName;

    /// Writes bytes at a place in one of the files, all of them.
    fn write(&self, which: Which, at: u64, bytes: Vec<u8>) -> impl Future<Output = io::Result<()>>;

    /// Cuts a file to a length.
    fn truncate(&self, which: Which, bytes: u64) -> impl Future<Output = io::Result<()>>;

    /// Has both files on the device; an error also when they are not in their folder any more.
    fn sync(&self) -> impl Future<Output = io::Result<()>>;

    /// Gives the files back.
    fn close(self) -> impl Future<Output = ()>;

    /// Removes the files: there is nothing in them.
    fn discard(self) -> impl Future<Output = ()>;
}

/// The folder of a stream on a real disk.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    place: Place,
}

impl Folder {
    /// That of a stream below the folder of all recordings.
    pub(super) fn new(root: &Path, place: &Place) -> Self {
        Self { root: root.to_owned(), place: place.clone() }
    }
}

/// A piece on a real disk.
pub(super) struct OpenPiece {
    root: PathBuf,
    place: Place,
    name: PieceName,
    media: BufferedFile,
    index: BufferedFile,
}

impl Disk for Folder {
    type Piece = OpenPiece;

    async fn create(&self, unix_ms: u64) -> io::Result<OpenPiece> {
        let (root, place) = (self.root.clone(), self.place.clone());
        let made = move || create_files(&root, &place, PieceName::at(unix_ms));
        let (name, media, index) = glommio::executor().spawn_blocking(made).await?;
        let (media, index) = (buffered(media), buffered(index));
        Ok(OpenPiece { root: self.root.clone(), place: self.place.clone(), name, media, index })
    }
}

/// Makes the two files of a piece under the first free name from `name` on.
fn create_files(
    root: &Path,
    place: &Place,
    name: PieceName,
) -> io::Result<(PieceName, File, File)> {
    let mut name = name;
    let mut tries = 0;
    loop {
        let folder = Directory::create(root)?.descend_or_create(place.folder())?;
        let day = folder.descend_or_create(&name.day_text())?;
        match day.create_file(&name.media_file()) {
            Ok(media) => {
                // Held while the piece is written: retention and recovery of this process and of
                // any other leave it alone. Where locks are not to be had, they go by its age.
                let _ = media.try_lock();
                let _ = day.remove_file(&name.index_file());
                let index = day.create_file(&name.index_file())?;
                return Ok((name, media, index));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < NAMES_MAX => {
                tries += 1;
                name = name.next();
            }
            Err(error) => return Err(error),
        }
    }
}

impl OpenPiece {
    fn file(&self, which: Which) -> &BufferedFile {
        match which {
            Which::Media => &self.media,
            Which::Index => &self.index,
        }
    }
}

impl PieceFiles for OpenPiece {
    fn name(&self) -> PieceName {
        self.name
    }

    async fn write(&self, which: Which, at: u64, bytes: Vec<u8>) -> io::Result<()> {
        let file = self.file(which);
        if bytes.len() <= WRITE_BYTES_MAX {
            return write_all(file, at, bytes).await;
        }
        let mut at = at;
        for piece in bytes.chunks(WRITE_BYTES_MAX) {
            write_all(file, at, piece.to_vec()).await?;
            at += piece.len() as u64;
            glommio::executor().yield_task_queue_now().await;
        }
        Ok(())
    }

    async fn truncate(&self, which: Which, bytes: u64) -> io::Result<()> {
        self.file(which).truncate(bytes).await.map_err(system_error)
    }

    async fn sync(&self) -> io::Result<()> {
        self.media.fdatasync().await.map_err(system_error)?;
        self.index.fdatasync().await.map_err(system_error)?;
        // What is written to a file without a name is lost, and no write says so.
        let (root, place, name) = (self.root.clone(), self.place.clone(), self.name);
        let look = move || {
            let day = format!("{}/{}", place.folder(), name.day_text());
            Directory::open(&root)?.descend(&day)?.open_file(&name.media_file()).map(drop)
        };
        glommio::executor().spawn_blocking(look).await
    }

    async fn close(self) {
        let _ = self.media.close().await;
        let _ = self.index.close().await;
    }

    async fn discard(self) {
        let _ = self.media.close().await;
        let _ = self.index.close().await;
        let (root, place, name) = (self.root, self.place, self.name);
        let remove = move || {
            let day = format!("{}/{}", place.folder(), name.day_text());
            let day = Directory::open(&root)?.descend(&day)?;
            day.remove_file(&name.index_file())?;
            day.remove_file(&name.media_file())
        };
        let _: io::Result<()> = glommio::executor().spawn_blocking(remove).await;
    }
}
