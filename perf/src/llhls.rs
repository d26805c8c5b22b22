//! Low-latency HLS players by the thousand, each doing what hls.js does: one connection for
//! playlists, with a reload that the server holds until there is something new, and one for media,
//! over which each part is fetched once, in order.
//!
//! A part can be had from the moment the first picture of the next part was sent: the mark in that
//! picture tells when. A few players read their parts for these marks; the others throw them away.

use std::collections::{HashMap, VecDeque};
use std::io::Read as _;
use std::rc::Rc;
use std::sync::Arc;

use flate2::read::GzDecoder;
use protocols::container::flv::TagType;
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::args::Args;
use crate::clip;
use crate::cost::Edge;
use crate::fetch::{Answer, Fetch};
use crate::link::tls_config;
use crate::ll_playlist::{PartId, Playlist};
use crate::machine::Pids;
use crate::media_reader::fragments_of;
use crate::sys::{self, Epoll, monotonic_ns};
use crate::target::Target;
use crate::{Outcome, report};

const SECOND: f64 = 1e9;
/// Players that read their parts.
const READERS: usize = 2;
/// A player without any answer for so long has stalled.
const STALL_NS: u64 = 2_000_000_000;
const SCRATCH_BYTES: usize = 256 * 1024;

/// One player.
struct Player {
    playlists: Fetch,
    media: Fetch,
    /// The newest part it has seen listed.
    newest: Option<PartId>,
    wanted: VecDeque<(PartId, Rc<str>)>,
    /// The part that is on its way; `None` for the initialization segment.
    fetching: Option<PartId>,
    has_map: bool,
    answered_ns: u64,
    stalled: bool,
}

/// When something came to the players, by part.
#[derive(Default)]
struct Arrivals(HashMap<PartId, Vec<u64>>);

impl Arrivals {
    fn note(&mut self, part: PartId) {
        self.0.entry(part).or_default().push(monotonic_ns());
    }

    /// How long after it could be had each came, of those within a window.
    fn since(&self, sent: &HashMap<PartId, u64>, window: (u64, u64)) -> Value {
        let mut times = report::microseconds();
        for (&(segment, part), arrivals) in &self.0 {
            let next = sent.get(&(segment, part + 1)).or_else(|| sent.get(&(segment + 1, 0)));
            let Some(&had_ns) = next else { continue };
            let inside = arrivals.iter().filter(|at| (window.0..window.1).contains(*at));
            inside.for_each(|at| times.saturating_record(at.saturating_sub(had_ns) / 1000));
        }
        report::histogram_ms(&times)
    }
}

/// All players and how they do.
struct Crowd {
    target: Target,
    /// Folder of the playlist, with its slash.
    folder: String,
    tls: Arc<ClientConfig>,
    epoll: Epoll,
    scratch: Vec<u8>,
    players: Vec<Option<Player>>,
    /// The playlist read last, and its bytes as they came: all players get the same.
    playlist: (Vec<u8>, Rc<Playlist>),
    /// When the first picture of a part was sent.
    sent: HashMap<PartId, u64>,
    listed: Arrivals,
    fetched: Arrivals,
    reloads: u64,
    parts: u64,
    received: u64,
    failed: u64,
    lost: usize,
    stalls: u64,
    fault: Option<String>,
}

/// Counters at one end of the measuring window.
struct Counts {
    cost: Edge,
    at_ns: u64,
    reloads: u64,
    parts: u64,
    received: u64,
    failed: u64,
    stalls: u64,
}

/// Runs the players and prints their row.
///
/// # Errors
/// An option is wrong, or nobody got a part.
pub fn run(args: &mut Args) -> Outcome<()> {
    let url: String = args.need("url")?;
    let players: usize = args.take("players", 1)?;
    let join_rate: f64 = args.take("join-rate", 200.0)?;
    let warmup: f64 = args.take("warmup", 5.0)?;
    let seconds: f64 = args.take("seconds", 20.0)?;
    let pids = Pids::parse(&args.take("server-pid", String::new())?)?;
    if let Some(cpu) = args.take_maybe("cpu")? {
        sys::pin(cpu)?;
    }
    let sink = args.sink()?;
    sys::raise_descriptor_limit();
    let resident_before = pids.resident_kib();
    let mut crowd = Crowd::new(Target::parse(&url)?)?;
    let began = monotonic_ns();
    while crowd.players.len() < players {
        let due = ((monotonic_ns() - began) as f64 / SECOND * join_rate) as usize + 1;
        while crowd.players.len() < due.min(players) {
            crowd.join();
        }
        crowd.turn()?;
    }
    crowd.run_for(warmup)?;
    let resident_after = pids.resident_kib();
    let before = crowd.counts(&pids);
    crowd.run_for(seconds)?;
    let after = crowd.counts(&pids);
    // What came at the end could be had when a picture was sent that comes only now.
    crowd.run_for(1.0)?;
    let mut row = crowd.figures(&before, &after, players);
    let grown = resident_after as f64 - resident_before as f64;
    let more = json!({
        "url": url,
        "rss_kib_per_viewer": report::round(grown / players.max(1) as f64),
        "rss_end_kib": pids.resident_kib(),
        "server_alive": pids.alive(),
    });
    report::merge(&mut row, more);
    sink.put(row)?;
    match after.parts {
        0 => Err(format!("nobody got a part: {:?}", crowd.fault).into()),
        _ => Ok(()),
    }
}

impl Crowd {
    fn new(target: Target) -> Outcome<Self> {
        let path = target.path.split('?').next().unwrap_or_default();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        Ok(Self {
            folder: format!("{folder}/"),
            tls: tls_config()?,
            epoll: Epoll::new()?,
            scratch: vec![0; SCRATCH_BYTES],
            players: Vec::new(),
            playlist: (Vec::new(), Rc::default()),
            sent: HashMap::new(),
            listed: Arrivals::default(),
            fetched: Arrivals::default(),
            reloads: 0,
            parts: 0,
            received: 0,
            failed: 0,
            lost: 0,
            stalls: 0,
            fault: None,
            target,
        })
    }

    fn join(&mut self) {
        let index = self.players.len();
        let player = self.connect(index);
        if let Err(error) = &player {
            self.note_fault(&error.to_string());
        }
        self.players.push(player.ok());
    }

    fn connect(&self, index: usize) -> Outcome<Player> {
        let mut playlists = Fetch::connect(&self.target, &self.tls)?;
        let media = Fetch::connect(&self.target, &self.tls)?;
        playlists.get(&self.target.path_of(0), true)?;
        self.epoll.add(playlists.fd(), index as u64 * 2, playlists.wants_write())?;
        self.epoll.add(media.fd(), index as u64 * 2 + 1, false)?;
        Ok(Player {
            playlists,
            media,
            newest: None,
            wanted: VecDeque::new(),
            fetching: None,
            has_map: false,
            answered_ns: monotonic_ns(),
            stalled: false,
        })
    }

    fn note_fault(&mut self, fault: &str) {
        self.failed += 1;
        self.fault.get_or_insert(fault.to_owned());
    }

    fn run_for(&mut self, seconds: f64) -> Outcome<()> {
        let end = monotonic_ns() + (seconds * SECOND) as u64;
        let mut look = monotonic_ns();
        while monotonic_ns() < end {
            self.turn()?;
            if monotonic_ns() > look {
                look += STALL_NS / 4;
                self.find_stalls();
            }
        }
        Ok(())
    }

    fn find_stalls(&mut self) {
        let now = monotonic_ns();
        for player in self.players.iter_mut().flatten() {
            if !player.stalled && now.saturating_sub(player.answered_ns) > STALL_NS {
                player.stalled = true;
                self.stalls += 1;
            }
        }
    }

    fn turn(&mut self) -> Outcome<()> {
        let mut ready = Vec::new();
        self.epoll.wait(1, |event| ready.push(event.token as usize))?;
        for token in ready {
            let index = token / 2;
            let Some(mut player) = self.players[index].take() else { continue };
            match self.on_ready(&mut player, index, token % 2 == 1) {
                Ok(()) => self.players[index] = Some(player),
                Err(error) => {
                    self.lost += 1;
                    self.note_fault(&error.to_string());
                }
            }
        }
        Ok(())
    }

    fn on_ready(&mut self, player: &mut Player, index: usize, is_media: bool) -> Outcome<()> {
        let connection = if is_media { &mut player.media } else { &mut player.playlists };
        connection.flush()?;
        let before = connection.received;
        let answer = connection.receive(&mut self.scratch);
        self.received += connection.received - before;
        if let Some(answer) = answer? {
            player.answered_ns = monotonic_ns();
            player.stalled = false;
            if answer.status != 200 {
                return Err(format!("answer {}", answer.status).into());
            }
            match is_media {
                true => self.on_media(player, index, &answer)?,
                false => self.on_playlist(player, &answer)?,
            }
        }
        if player.media.is_idle() {
            self.fetch_next(player, index)?;
        }
        let connection = if is_media { &player.media } else { &player.playlists };
        self.epoll.modify(
            connection.fd(),
            (index * 2 + usize::from(is_media)) as u64,
            connection.wants_write(),
        )?;
        Ok(())
    }

    /// Queues what is new and asks for the next playlist at once.
    fn on_playlist(&mut self, player: &mut Player, answer: &Answer) -> Outcome<()> {
        if answer.body[..] != self.playlist.0[..] {
            self.playlist = (answer.body.to_vec(), Rc::new(read_playlist(answer)?));
        }
        let playlist = Rc::clone(&self.playlist.1);
        self.reloads += 1;
        if playlist.ended {
            return Err("the stream has ended".into());
        }
        // hls.js starts some parts behind live; where a decoder can.
        let start = playlist.parts.iter().rev().find(|part| part.independent);
        let start = start.map(|part| part.id).ok_or("no part to start at")?;
        let (newest, begun) = (player.newest, player.newest.is_some());
        let fresh = playlist.parts.iter().filter(|part| match newest {
            Some(newest) => part.id > newest,
            None => part.id >= start,
        });
        for part in fresh {
            if begun {
                self.listed.note(part.id);
            }
            player.newest = Some(part.id);
            player.wanted.push_back((part.id, part.uri.as_str().into()));
        }
        if !player.has_map {
            let map = playlist.map.as_deref().ok_or("no initialization segment")?;
            player.has_map = true;
            player.media.get(&format!("{}{map}", self.folder), false)?;
        }
        let (segment, part) = playlist.next;
        let path = self.target.path_of(0);
        let joint = if path.contains('?') { '&' } else { '?' };
        let skip = if playlist.can_skip { "&_HLS_skip=YES" } else { "" };
        player
            .playlists
            .get(&format!("{path}{joint}_HLS_msn={segment}&_HLS_part={part}{skip}"), true)
    }

    fn on_media(&mut self, player: &mut Player, index: usize, answer: &Answer) -> Outcome<()> {
        let Some(part) = player.fetching.take() else { return Ok(()) };
        self.fetched.note(part);
        self.parts += 1;
        if index < READERS {
            let tags = fragments_of(&answer.body)?;
            let video = tags.iter().find(|tag| tag.tag == TagType::Video);
            let mark = video.and_then(|tag| clip::read_mark(tag.tag, &tag.body, true));
            let mark = mark.ok_or("a part without a mark")?;
            if !mark.intact {
                return Err("a damaged part".into());
            }
            self.sent.insert(part, mark.sent_ns);
        }
        Ok(())
    }

    fn fetch_next(&self, player: &mut Player, index: usize) -> Outcome<()> {
        let Some((part, uri)) = player.wanted.pop_front() else { return Ok(()) };
        player.fetching = Some(part);
        player.media.get(&format!("{}{uri}", self.folder), index < READERS)
    }

    fn counts(&self, pids: &Pids) -> Counts {
        Counts {
            cost: Edge::now(pids),
            at_ns: monotonic_ns(),
            reloads: self.reloads,
            parts: self.parts,
            received: self.received,
            failed: self.failed,
            stalls: self.stalls,
        }
    }

    fn figures(&self, before: &Counts, after: &Counts, players: usize) -> Value {
        let mut row = after.cost.since(&before.cost, after.received - before.received);
        let seconds = after.cost.seconds_since(&before.cost);
        let server_cpu = after.cost.server_cpu_since(&before.cost);
        let (reloads, parts) = (after.reloads - before.reloads, after.parts - before.parts);
        let requests = (reloads + parts) as f64;
        let window = (before.at_ns, after.at_ns);
        let more = json!({
            "kind": "llhls",
            "viewers": players,
            "joined": self.players.iter().flatten().filter(|player| player.newest.is_some()).count(),
            "lost": self.lost,
            "failed": after.failed - before.failed,
            "failed_total": after.failed,
            "stalls": after.stalls - before.stalls,
            "first_fault": self.fault,
            "reloads": reloads,
            "parts": parts,
            "requests_per_s": report::round(requests / seconds),
            "server_us_per_request": report::round(server_cpu / requests * 1e6),
            "server_us_per_viewer_second":
                report::round(server_cpu / seconds / players.max(1) as f64 * 1e6),
            "latency_ms": self.fetched.since(&self.sent, window),
            "listed_ms": self.listed.since(&self.sent, window),
        });
        report::merge(&mut row, more);
        row
    }
}

fn read_playlist(answer: &Answer) -> Outcome<Playlist> {
    let mut text = String::new();
    match answer.gzip {
        true => GzDecoder::new(&answer.body[..]).read_to_string(&mut text).map(drop)?,
        false => text.push_str(std::str::from_utf8(&answer.body)?),
    }
    Ok(Playlist::parse(&text)?)
}
