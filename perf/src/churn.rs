//! Connections that come and go: connect, first picture, close, over and over.

use std::time::Duration;

use serde_json::json;

use crate::args::Args;
use crate::link::tls_config;
use crate::machine::{self, Pids};
use crate::sys::{self, Epoll, monotonic_ns};
use crate::target::Target;
use crate::viewer::{Bench, Care, Viewer};
use crate::{Outcome, report};

const SECOND: f64 = 1e9;

/// Runs the connections and prints the row.
///
/// # Errors
/// An option is wrong, or nobody got a picture.
pub fn run(args: &mut Args) -> Outcome<()> {
    let url: String = args.need("url")?;
    let target = Target::parse(&url)?;
    let count: usize = args.take("count", 20_000)?;
    let concurrency: usize = args.take("concurrency", 50)?;
    let timeout: f64 = args.take("timeout", 5.0)?;
    let settle: f64 = args.take("settle", 3.0)?;
    let pids = Pids::parse(&args.take("server-pid", String::new())?)?;
    if let Some(cpu) = args.take_maybe("cpu")? {
        sys::pin(cpu)?;
    }
    let sink = args.sink()?;
    sys::raise_descriptor_limit();
    let tls = tls_config()?;
    let mut epoll = Epoll::new()?;
    let mut bench = Bench::default();
    bench.checksums = false;
    let mut first_picture = report::microseconds();
    let mut places: Vec<Option<Viewer>> = Vec::new();
    places.resize_with(concurrency.max(1), || None);
    let (mut begun, mut done, mut failed, mut received) = (0, 0, 0, 0);
    let mut fault = None;
    let (descriptors, resident) = (pids.descriptors(), pids.resident_kib());
    let (began, cpu) = (monotonic_ns(), (pids.cpu_seconds(), machine::own_cpu_seconds()));
    let timeout_ns = (timeout * SECOND) as u64;
    let mut swept = began;
    while done + failed < count {
        for (index, place) in places.iter_mut().enumerate() {
            if place.is_some() || begun == count {
                continue;
            }
            begun += 1;
            match Viewer::connect(&target, &tls, 0, Care::Checks, monotonic_ns()) {
                Ok(viewer) => {
                    viewer.watch(&epoll, index as u64)?;
                    *place = Some(viewer);
                }
                Err(error) => {
                    failed += 1;
                    fault.get_or_insert(error.to_string());
                }
            }
        }
        let mut ready = Vec::new();
        epoll.wait(10, |event| ready.push(event))?;
        for event in ready {
            let place = &mut places[event.token as usize];
            let Some(viewer) = place else { continue };
            let result = viewer.flush().and_then(|()| viewer.receive(&mut bench, monotonic_ns));
            if let Some(at) = viewer.first_video_ns {
                first_picture.saturating_record((at - viewer.began_ns) / 1000);
                done += 1;
            } else if let Err(error) = result {
                failed += 1;
                fault.get_or_insert(error.to_string());
            } else {
                epoll.modify(viewer.fd(), event.token, viewer.wants_write())?;
                continue;
            }
            received += viewer.received;
            *place = None;
        }
        let now = monotonic_ns();
        if now - swept > timeout_ns / 10 {
            swept = now;
            let late = |viewer: &mut Viewer| now.saturating_sub(viewer.began_ns) > timeout_ns;
            let swept = places.iter_mut().filter_map(|place| place.take_if(late)).count();
            failed += swept;
            if swept > 0 {
                fault.get_or_insert("no picture in time".to_owned());
            }
        }
    }
    let seconds = (monotonic_ns() - began) as f64 / SECOND;
    let server_cpu = pids.cpu_seconds() - cpu.0;
    let own_cpu = machine::own_cpu_seconds() - cpu.1;
    std::thread::sleep(Duration::from_secs_f64(settle));
    sink.put(json!({
        "kind": "churn",
        "url": url,
        "viewers": count,
        "concurrency": concurrency,
        "joined": done,
        "failed": failed,
        "first_fault": fault,
        "seconds": report::round(seconds),
        "per_second": report::round(done as f64 / seconds),
        "per_server_cpu_second": report::round(done as f64 / server_cpu),
        "server_cpu_s": report::round(server_cpu),
        "server_share": report::round(server_cpu / seconds),
        "load_cpu_s": report::round(own_cpu),
        "load_share": report::round(own_cpu / seconds),
        "delivered_bytes": received,
        "first_video_ms": report::histogram_ms(&first_picture),
        "descriptors_before": descriptors,
        "descriptors_after": pids.descriptors(),
        "rss_before_kib": resident,
        "rss_after_kib": pids.resident_kib(),
        "server_alive": pids.alive(),
    }))?;
    if done == 0 { Err("nobody got a picture".into()) } else { Ok(()) }
}
