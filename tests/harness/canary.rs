//! The canary: one publisher and two viewers that must not notice what happens beside them.
//!
//! Contract after every attack: not one frame lost, no gap in time above one frame and 50 ms, no
//! panic in the server, descriptors and memory, held and resident, back to where they were.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clients::Publisher;
use crate::flv::{self, Tag};
use crate::media::Clip;
use crate::process::Process;
use crate::rtmp::Peer;
use crate::server::Server;
use crate::{http, sys, wait};

/// One frame of the clip plus the slack of the contract, in milliseconds.
const GAP_MS: u32 = 40 + 50;
/// Memory the server may hold more than before, in KiB.
const GROWTH_KIB: u64 = 2048;
/// Memory that may be resident more than before, in KiB: also what the allocator keeps of what it
/// has had to give out at once. It is what the kernel says, which the server's own account of free
/// memory cannot make smaller. No attack of few connections leaves half of it.
const RESIDENT_KIB: u64 = 4096;
/// Pictures a viewer must still get before it counts as alive.
const ALIVE_PICTURES: u64 = 25;

/// Connections of [`Canary::verify_stalled_readers`], and the memory each may cost, in KiB.
const STALLED: usize = 50;
const STALLED_KIB: u64 = 64;

/// The stream name of the canary.
pub const NAME: &str = "canary";

#[derive(Debug, Default)]
struct Ledger {
    pictures: u64,
    last_index: Option<usize>,
    last_timestamp: Option<u32>,
    faults: Vec<String>,
}

impl Ledger {
    fn record(&mut self, tag: &Tag, index_of: &HashMap<u64, usize>) {
        let Some(&index) = index_of.get(&tag.digest()) else {
            self.faults.push(format!("picture {}: bytes nobody sent", self.pictures));
            return;
        };
        if let Some(last) = self.last_index {
            let expected = (last + 1) % index_of.len();
            if index != expected {
                self.faults.push(format!("picture {index} after {last}"));
            }
        } else if !tag.is_keyframe() {
            self.faults.push("the first picture is no keyframe".to_owned());
        }
        if let Some(last) = self.last_timestamp
            && tag.timestamp.wrapping_sub(last) > GAP_MS
        {
            self.faults.push(format!("from {last} ms to {} ms", tag.timestamp));
        }
        self.last_index = Some(index);
        self.last_timestamp = Some(tag.timestamp);
        self.pictures += 1;
    }
}

type Shared = Arc<Mutex<Ledger>>;

/// A running canary.
#[derive(Debug)]
pub struct Canary {
    publisher: Process,
    ledgers: [(&'static str, Shared); 2],
    stop: Arc<AtomicBool>,
    descriptors: usize,
    held_kib: u64,
    rss_kib: u64,
}

impl Canary {
    /// Publishes, attaches the viewers, and remembers what the server used once they play; `None`
    /// when ffmpeg is missing.
    pub fn start(server: &Server) -> Option<Canary> {
        let file = Clip::Canary.file()?;
        let source = flv::parse(&std::fs::read(file).expect("the clip was made")).expect("an FLV");
        let pictures = source.iter().filter(|tag| tag.is_picture());
        let index_of: HashMap<u64, usize> =
            pictures.enumerate().map(|(index, tag)| (tag.digest(), index)).collect();
        let count = source.iter().filter(|tag| tag.is_picture()).count();
        assert_eq!(index_of.len(), count, "every picture of the clip is unique");
        let index_of = Arc::new(index_of);
        let publisher = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url(NAME))?;
        server.wait_live(NAME);
        let stop = Arc::new(AtomicBool::new(false));
        let (http, rtmp) = (server.http, server.rtmp);
        let flv_viewer = watch(&index_of, &stop, move |handle| view_flv(http, handle));
        let rtmp_viewer = watch(&index_of, &stop, move |handle| view_rtmp(rtmp, handle));
        let ledgers = [("FLV viewer", flv_viewer), ("RTMP viewer", rtmp_viewer)];
        let mut canary =
            Canary { publisher, ledgers, stop, descriptors: 0, held_kib: 0, rss_kib: 0 };
        canary.see_pictures(ALIVE_PICTURES);
        canary.descriptors = server.descriptors();
        canary.held_kib = server.held_kib();
        canary.rss_kib = server.rss_kib();
        Some(canary)
    }

    /// Asserts the contract, `what` in mind.
    pub fn verify(&mut self, server: &Server, what: &str) {
        self.verify_resident(server, what, RESIDENT_KIB);
    }

    /// As [`Canary::verify`], where so many KiB may stay resident: after a crowd, each of which had
    /// memory of its own.
    pub fn verify_resident(&mut self, server: &Server, what: &str, resident_kib: u64) {
        assert!(self.publisher.alive(), "{what}: the canary's publisher has ended");
        self.see_pictures(ALIVE_PICTURES);
        self.verify_frames(what);
        let panics = server.metrics().sum("smart_rtmpd_panics_total", &[]);
        assert!(panics < 1.0, "{what}: {panics} panics");
        let bound = Duration::from_secs(5);
        let most = self.descriptors;
        let name = format!("{what}: descriptors back to {most}");
        wait::until_true(&name, bound, || server.descriptors() <= most);
        let most = self.held_kib + GROWTH_KIB;
        let name = format!("{what}: memory back to {most} KiB held");
        wait::until_true(&name, bound, || server.held_kib() <= most);
        let most = self.rss_kib + resident_kib;
        let name = format!("{what}: memory back to {most} KiB resident");
        wait::until_true(&name, bound, || server.rss_kib() <= most);
    }

    /// Asserts only that no viewer has missed anything so far.
    pub fn verify_frames(&self, what: &str) {
        for (viewer, ledger) in &self.ledgers {
            let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(ledger.faults.is_empty(), "{what}: {viewer}: {:?}", ledger.faults);
        }
    }

    /// Asserts the contract, and that the server keeps little for each, while and after many ask
    /// for `path` over HTTP and never read the answer.
    pub fn verify_stalled_readers(&mut self, server: &Server, path: &str) {
        let before = server.held_kib();
        let ask = || {
            let mut socket = http::connect(server.http).expect("connects");
            sys::set_receive_buffer(&socket, 4096);
            write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("is taken");
            socket
        };
        let stalled: Vec<_> = (0..STALLED).map(|_| ask()).collect();
        // As long as it takes for answers to begin and to stop.
        self.see_pictures(ALIVE_PICTURES);
        self.verify_frames(&format!("{STALLED} readers of {path} that do not read"));
        let grown = server.held_kib().saturating_sub(before);
        let most = STALLED as u64 * STALLED_KIB + GROWTH_KIB;
        assert!(grown < most, "{grown} KiB for {STALLED} stalled readers of {path}");
        drop(stalled);
        self.verify(server, &format!("{STALLED} readers of {path} that did not read"));
    }

    fn see_pictures(&self, more: u64) {
        for (viewer, ledger) in &self.ledgers {
            let pictures = || {
                let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                assert!(ledger.faults.is_empty(), "{viewer}: {:?}", ledger.faults);
                ledger.pictures
            };
            let goal = pictures() + more;
            let what = format!("{more} more pictures of the canary's {viewer}");
            wait::until_true(&what, Duration::from_secs(10), || pictures() >= goal);
        }
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a viewer thread needs to record tags.
struct Handle {
    ledger: Shared,
    index_of: Arc<HashMap<u64, usize>>,
    stop: Arc<AtomicBool>,
}

impl Handle {
    /// Records a tag; false when the viewer is to end.
    fn record(&self, tag: &Tag) -> bool {
        if tag.is_picture() {
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.record(tag, &self.index_of);
        }
        !self.stop.load(Ordering::Relaxed)
    }
}

fn watch(
    index_of: &Arc<HashMap<u64, usize>>,
    stop: &Arc<AtomicBool>,
    view: impl FnOnce(&Handle) -> io::Result<()> + Send + 'static,
) -> Shared {
    let ledger = Shared::default();
    let handle = Handle {
        ledger: Arc::clone(&ledger),
        index_of: Arc::clone(index_of),
        stop: Arc::clone(stop),
    };
    std::thread::spawn(move || {
        let result = view(&handle);
        if !handle.stop.load(Ordering::Relaxed) {
            let mut ledger = handle.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.faults.push(format!("the viewer ended: {result:?}"));
        }
    });
    ledger
}

fn view_flv(port: u16, handle: &Handle) -> io::Result<()> {
    let (status, _, body) = http::open(port, &format!("/live/{NAME}.flv"))?;
    if status != 200 {
        return Err(io::Error::other(format!("status {status}")));
    }
    let mut reader = flv::Reader::new(io::BufReader::new(body))?;
    while let Some(tag) = reader.next_tag()? {
        if !handle.record(&tag) {
            return Ok(());
        }
    }
    Ok(())
}

fn view_rtmp(port: u16, handle: &Handle) -> io::Result<()> {
    let mut peer = Peer::playing(port, NAME)?;
    while handle.record(&peer.next_tag()?) {}
    Ok(())
}
