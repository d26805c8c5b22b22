//! As many servers as a stream may pass, in a ring, and one more.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tests::clients::Publisher;
use tests::flv::{self, Tag};
use tests::media::Clip;
use tests::server::{Server, free_ports};
use tests::wait;

use crate::forward::{app_rule, one_core, same, states};
use crate::lifecycle::Recording;
use crate::pull;

/// Servers that a stream may pass.
const HOPS_MAX: usize = 20;
const NAME: &str = "round";
const BOUND: Duration = Duration::from_secs(15);
/// How long the ring is watched.
const WATCHED: Duration = Duration::from_secs(4);
/// Processor time of a server that passes a small stream on, as a part of the time watched. A
/// debug build takes half of it; a stream that goes round would take all there is.
const SHARE_MAX: f64 = 0.04;

#[test]
fn twenty_servers_in_a_ring_have_a_stream_once_each() {
    // All the places for servers: these are enough.
    let _alone = pull::alone();
    let ports: Vec<u16> = free_ports(HOPS_MAX + 1);
    let config = |at: usize| {
        let next = match at {
            HOPS_MAX => String::new(),
            // Back to the first, and to one more than a stream may pass.
            _ if at + 1 == HOPS_MAX => same(ports[0]) + &same(ports[HOPS_MAX]),
            _ => same(ports[at + 1]),
        };
        one_core().set("rtmp/port", ports[at]).policy(&app_rule(&next))
    };
    let first = Server::start(&config(0));
    let _other_place = wait::slot();
    let others = std::thread::scope(|scope| {
        let start = |at| scope.spawn(move || Server::start_further(&config(at)));
        let starting: Vec<_> = (1..=HOPS_MAX).map(start).collect();
        starting.into_iter().map(|server| server.join().expect("it starts")).collect::<Vec<_>>()
    });
    let mut ring = vec![first];
    ring.extend(others);
    let beyond = ring.pop().expect("one more");

    let Some(publisher) = Publisher::Ffmpeg.start(Clip::Canary, &ring[0].rtmp_url(NAME)) else {
        return;
    };
    let start = Instant::now();
    ring.iter().for_each(|server| server.wait_live(NAME));
    eprintln!("live on {HOPS_MAX} servers after {:?}", start.elapsed());
    let (last, passing) = ring.split_last().expect("twenty");
    wait::until_true("the last one is refused twice", BOUND, || {
        states(last, NAME) == ["waiting", "waiting"]
    });
    last.wait_log("the server is one the stream has passed already", BOUND);
    last.wait_log("the stream has passed too many servers", BOUND);
    let refused = || {
        let told = |server: &Server| {
            server.log_count("not forwarded") + server.log_count("a forward is refused")
        };
        (told(last), passing.iter().chain([&beyond]).map(told).sum::<usize>())
    };
    assert_eq!(refused(), (2, 0), "a line for each");

    let cpu = || ring.iter().chain([&beyond]).map(Server::cpu).sum::<Duration>();
    let (before, start) = (cpu(), Instant::now());
    wait::stays_true("nobody argues", WATCHED, || refused() == (2, 0));
    let share = (cpu() - before).as_secs_f64() / start.elapsed().as_secs_f64();
    eprintln!("{:.1} % of a core for all", share * 100.0);
    assert!(share < SHARE_MAX * HOPS_MAX as f64, "{:.1} % of a core", share * 100.0);

    for server in passing {
        assert_eq!(states(server, NAME), ["live"]);
    }
    assert!(!beyond.is_live(NAME));
    let viewers: Vec<_> = ring.iter().map(|server| Recording::flv(server, NAME)).collect();
    for (server, viewer) in ring.iter().zip(viewers) {
        let listed = server.api_live();
        let named = listed.iter().filter(|url| url.ends_with(&format!("/live/{NAME}")));
        assert_eq!(named.count(), 1, "{listed:?}");
        viewer.wait_pictures(30);
        let tags = viewer.tags();
        flv::check_integrity("a viewer of the ring", &tags);
        // No two pictures of the clip are the same.
        let pictures: Vec<u64> =
            tags.iter().filter(|tag| tag.is_picture()).map(Tag::digest).collect();
        let different: HashSet<_> = pictures.iter().collect();
        assert_eq!(different.len(), pictures.len(), "pictures came twice");
    }
    drop(publisher);
    wait::until_true("it ends everywhere", BOUND, || {
        ring.iter().all(|server| !server.is_live(NAME))
    });
}
