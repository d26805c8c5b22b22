//! What a cut or damaged file gives: whole fragments only, all of those before the cut.

use proptest::prelude::*;

use super::super::index::{Index, Pair, Part};
use super::super::recovery::{Media, Recovered, rebuild, recover};
use super::*;
use crate::net::sys_file::Directory;

impl Media for Vec<u8> {
    fn read(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let from = usize::try_from(offset).unwrap().min(self.len());
        let count = buffer.len().min(self.len() - from);
        buffer[..count].copy_from_slice(&self[from..from + count]);
        Ok(count)
    }
}

/// A small piece: its index as it was written, and its media.
fn small_piece() -> (Index, Vec<u8>) {
    let root = Folder::new();
    record(&root.0, H264_AAC, 2, |_| {});
    let (piece, file) = pieces(&root.0).remove(0);
    let media = bytes_of(&file, piece.media_bytes());
    (piece.index, media)
}

fn parts(index: &Index) -> Vec<(u64, Part)> {
    let both = |pair: &Pair| {
        let audio = (pair.offset + u64::from(pair.video.bytes), pair.audio);
        [(pair.offset, pair.video), audio]
    };
    index.pairs.iter().flat_map(both).filter(|(_, part)| part.bytes > 0).collect()
}

#[test]
fn an_index_is_made_again_from_the_media_alone() {
    let (index, media) = small_piece();
    let again = rebuild(&media, media.len() as u64, None, 0).unwrap();
    assert_eq!(again.pairs, index.pairs, "wall clocks included");
    let known = rebuild(&media, media.len() as u64, Some(index.header), 0).unwrap();
    assert_eq!(known.header, index.header);
    let mut ended = known;
    ended.ended = true;
    assert_eq!(ended, index);
}

#[test]
fn every_cut_leaves_the_whole_fragments_before_it() {
    let (index, media) = small_piece();
    let whole = parts(&index);
    for cut in 0..=media.len() {
        let cut_media = media[..cut].to_vec();
        let rebuilt = rebuild(&cut_media, cut as u64, None, 0);
        let Some(rebuilt) = rebuilt else {
            assert!(cut < index.header.init_bytes as usize, "{cut}");
            continue;
        };
        let before =
            whole.iter().filter(|(offset, part)| offset + u64::from(part.bytes) <= cut as u64);
        let before: Vec<_> = before.copied().collect();
        assert_eq!(parts(&rebuilt), before, "{cut}");
        assert!(rebuilt.media_bytes() <= cut as u64);
    }
}

/// Name of a piece, its folder made, and where its files are.
fn one_day(root: &Folder) -> (PieceName, Directory, impl Fn(String) -> PathBuf) {
    let name = PieceName::parse("2024-05-01", "10-00-00").unwrap();
    let top = Directory::create(&root.0).unwrap();
    let day = top.descend_or_create("default/x/2024-05-01").unwrap();
    let folder = root.0.join("default/x/2024-05-01");
    (name, day, move |file| folder.join(file))
}

#[test]
fn cut_files_play_before_and_after_recovery() {
    let (index, media) = small_piece();
    let root = Folder::new();
    let (name, day, path) = one_day(&root);
    let records = index.encode();
    for cut in (0..media.len()).step_by(997).chain([media.len()]) {
        // As the writer leaves it: the index may be behind, or not there, but never ahead.
        let covered = index.pairs.iter().filter(|pair| pair.end() <= cut as u64).count();
        for lost in [0, 1, covered + 1] {
            let length = (1 + covered).saturating_sub(lost) * 64;
            std::fs::write(path(name.media_file()), &media[..cut]).unwrap();
            std::fs::write(path(name.index_file()), &records[..length.min(records.len())]).unwrap();
            let before = Piece::read(&day, &place(), name).ok().map(|(piece, _)| piece);
            let outcome = recover(&day, name).unwrap();
            let again = recover(&day, name);
            match outcome {
                Recovered::Rebuilt => {
                    let (after, file) = Piece::read(&day, &place(), name).unwrap();
                    assert!(after.index.ended);
                    let kept = after.media_bytes();
                    assert!(before.is_some_and(|before| before.media_bytes() <= kept), "{cut}");
                    samples(&bytes_of(&file, kept));
                    assert_eq!(again.unwrap(), Recovered::Untouched);
                }
                Recovered::Removed => assert!(again.is_err() && covered == 0, "{cut} {lost}"),
                // No index that says it is ours, and nothing in it that plays.
                Recovered::Untouched => assert!(length == 0 && covered == 0, "{cut} {lost}"),
            }
        }
    }
}

#[test]
fn a_file_that_is_being_written_and_one_that_is_not_ours_are_left_alone() {
    let (index, media) = small_piece();
    let root = Folder::new();
    let (name, day, path) = one_day(&root);
    std::fs::write(path(name.media_file()), &media).unwrap();
    std::fs::write(path(name.index_file()), &index.encode()[..128]).unwrap();
    let writer = File::options().write(true).open(path(name.media_file())).unwrap();
    writer.try_lock().unwrap();
    assert_eq!(recover(&day, name).unwrap(), Recovered::Untouched);
    assert!(Piece::read(&day, &place(), name).unwrap().0.is_open);
    drop(writer);
    assert_eq!(recover(&day, name).unwrap(), Recovered::Rebuilt);
    std::fs::write(path(name.media_file()), b"somebody's notes").unwrap();
    std::fs::remove_file(path(name.index_file())).unwrap();
    assert_eq!(recover(&day, name).unwrap(), Recovered::Untouched);
    assert!(path(name.media_file()).exists());
}

#[test]
fn damage_never_yields_a_fragment_that_is_not_whole() {
    let (_, media) = small_piece();
    let length = media.len();
    let config = ProptestConfig { cases: 256, ..ProptestConfig::default() };
    let damage = (
        0..=length,
        proptest::collection::vec((0..length, any::<u8>()), 0..8),
        proptest::collection::vec(any::<u8>(), 0..64),
    );
    proptest!(config, |((cut, flips, tail) in damage)| {
        let mut bytes = media.clone();
        for (at, value) in flips {
            bytes[at] = value;
        }
        bytes.truncate(cut);
        bytes.extend(tail);
        if let Some(index) = rebuild(&bytes, bytes.len() as u64, None, 0) {
            // What the index promises is in the file, and the index itself can be believed.
            prop_assert!(index.media_bytes() <= bytes.len() as u64);
            let read = Index::parse(&index.encode(), bytes.len() as u64).unwrap();
            prop_assert_eq!(&read.pairs, &index.pairs);
            for (offset, part) in parts(&index) {
                // Each part is a `moof` with its `mdat`, perhaps after other boxes.
                let part = &bytes[offset as usize..(offset + u64::from(part.bytes)) as usize];
                let mut scanner = Scanner::new(part.len() as u64);
                let mut found = 0;
                loop {
                    match scanner.step(0, part) {
                        Step::Fragment(_) => found += 1,
                        Step::Movie { .. } => {}
                        Step::Done { .. } | Step::Read { .. } => break,
                    }
                }
                prop_assert_eq!(found, 1);
            }
        }
    });
}
