//! The server under test: one process per test, started from a generated `config.xml` on free
//! ports, read through its stdout lines, log, `/metrics` and `/api/live`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Finished, Process};
use crate::{http, root, sys, wait};

/// A server must be ready by then.
const READY: Duration = Duration::from_secs(10);

/// What a test wants of `config.xml` and of the process.
#[derive(Debug, Clone)]
pub struct Config {
    values: BTreeMap<String, String>,
    raw: Option<String>,
    elements: String,
    policy: Option<String>,
    limits: Vec<sys::Limit>,
    deny_io_uring: bool,
}

impl Default for Config {
    fn default() -> Config {
        let config = Config {
            values: BTreeMap::new(),
            raw: None,
            elements: String::new(),
            policy: None,
            limits: Vec::new(),
            deny_io_uring: false,
        };
        config
            .set("engine/cores", "2")
            .set("rtmp/port", "0")
            .set("rtmp/play_wait", "2")
            .set("rtmp/publisher_grace", "5")
            .set("rtsp/port", "0")
            .set("http/port", "0")
            .set("http/sport", "0")
    }
}

impl Config {
    /// Sets one element by its path under `<config>`, such as `rtmp/play_wait`.
    pub fn set(mut self, path: &str, value: impl ToString) -> Config {
        self.values.insert(path.to_owned(), value.to_string());
        self
    }

    /// Number of shards; may exceed the CPUs.
    pub fn cores(self, count: usize) -> Config {
        self.set("engine/cores", count)
    }

    /// Whole elements right under `<config>`, beside those that are set one by one.
    pub fn with(mut self, elements: &str) -> Config {
        self.elements += &format!("  {elements}\n");
        self
    }

    /// The whole text of `config.xml` instead of single values.
    pub fn raw(mut self, xml: &str) -> Config {
        self.raw = Some(xml.to_owned());
        self
    }

    /// The whole text of `policy.xml`; without it none is passed.
    pub fn policy(mut self, xml: &str) -> Config {
        self.policy = Some(xml.to_owned());
        self
    }

    /// Starts the process under a resource limit it cannot raise.
    pub fn limit(mut self, limit: sys::Limit) -> Config {
        self.limits.push(limit);
        self
    }

    /// Starts the process where io_uring is refused, as in a container.
    pub fn without_io_uring(mut self) -> Config {
        self.deny_io_uring = true;
        self
    }

    /// The text of `config.xml`.
    pub fn xml(&self) -> String {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut sections: BTreeMap<&str, String> = BTreeMap::new();
        for (path, value) in &self.values {
            match path.split_once('/') {
                Some((section, key)) => {
                    let text = sections.entry(section).or_default();
                    writeln!(text, "    <{key}>{value}</{key}>").expect("into a string");
                }
                None => *sections.entry(path).or_default() = value.clone(),
            }
        }
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<config>\n");
        for (section, text) in sections {
            let line_break = if text.starts_with(' ') { "\n" } else { "" };
            writeln!(xml, "  <{section}>{line_break}{text}</{section}>").expect("into a string");
        }
        xml + &self.elements + "</config>\n"
    }

    fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(folder).env_remove("RUST_LOG").env("RUST_BACKTRACE", "1");
        let file = folder.join("config.xml");
        std::fs::write(&file, self.xml()).expect("the test folder is writable");
        command.arg("--config").arg(file);
        if let Some(policy) = &self.policy {
            let file = folder.join("policy.xml");
            std::fs::write(&file, policy).expect("the test folder is writable");
            command.arg("--policy").arg(file);
        }
        command.args(arguments);
        if !self.limits.is_empty() {
            sys::drop_resource_capabilities(&mut command);
        }
        for limit in &self.limits {
            sys::limit(&mut command, *limit);
        }
        if self.deny_io_uring {
            sys::deny_io_uring(&mut command);
        }
        command
    }

    /// Runs the server where it must end by itself: a bad start, `--check`.
    pub fn run(&self, arguments: &[&str], bound: Duration) -> Finished {
        let folder = Folder::new();
        Process::run("smart-rtmpd", self.command(&folder.0, arguments), bound)
    }
}

/// A running server, ready for clients. Dropping it kills it, and fails the test if it panicked.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// RTMP and RTMPS port.
    pub rtmp: u16,
    /// RTSP and RTSPS port.
    pub rtsp: u16,
    /// HTTP port (HTTPS too: the first byte decides).
    pub http: u16,
    /// HTTPS port.
    pub https: u16,
    folder: Folder,
    _slot: Option<wait::Slot>,
}

impl Server {
    /// Starts a server and waits until it is ready; at most two tests run one at the same time.
    pub fn start(config: &Config) -> Server {
        Server::start_in(Some(wait::slot()), config)
    }

    /// One more server of a test that has a place already: servers that talk to each other.
    pub fn start_further(config: &Config) -> Server {
        Server::start_in(None, config)
    }

    fn start_in(slot: Option<wait::Slot>, config: &Config) -> Server {
        let folder = Folder::new();
        let mut process = Process::spawn("smart-rtmpd", config.command(&folder.0, &[]));
        wait::until_true("the server prints `ready`", READY, || {
            let ready = process.stdout().lines().any(|line| line == "ready");
            assert!(ready || process.alive(), "the server ended:\n{}", process.stderr());
            ready
        });
        let lines = process.stdout();
        let port = |service| listening(&lines, service).unwrap_or(0);
        let (rtmp, rtsp) = (port("rtmp"), port("rtsp"));
        let (http, https) = (port("http"), port("https"));
        assert!(rtmp != 0 && http != 0, "no listeners announced:\n{lines}");
        Server { process, rtmp, rtsp, http, https, folder, _slot: slot }
    }

    /// A server with the default test configuration.
    pub fn start_default() -> Server {
        Server::start(&Config::default())
    }

    /// `rtmp://…/live/NAME`.
    pub fn rtmp_url(&self, name: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{name}", self.rtmp)
    }

    /// `rtmps://…/live/NAME`, on the same port.
    pub fn rtmps_url(&self, name: &str) -> String {
        format!("rtmps://127.0.0.1:{}/live/{name}", self.rtmp)
    }

    /// `rtsp://…/live/NAME`.
    pub fn rtsp_url(&self, name: &str) -> String {
        format!("rtsp://127.0.0.1:{}/live/{name}", self.rtsp)
    }

    /// `http://…/live/NAME.flv`.
    pub fn flv_url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/live/{name}.flv", self.http)
    }

    /// `https://…/live/NAME.flv` on the HTTPS port.
    pub fn https_flv_url(&self, name: &str) -> String {
        format!("https://127.0.0.1:{}/live/{name}.flv", self.https)
    }

    /// `ws://…/live/NAME.flv`.
    pub fn ws_url(&self, name: &str) -> String {
        format!("ws://127.0.0.1:{}/live/{name}.flv", self.http)
    }

    /// `wss://…/live/NAME.flv` on the HTTPS port.
    pub fn wss_url(&self, name: &str) -> String {
        format!("wss://127.0.0.1:{}/live/{name}.flv", self.https)
    }

    /// The folder its configuration lies in.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// The log up to now: all that was said before has arrived when it is given.
    pub fn whole_log(&self) -> String {
        let of_signal = |line: &&str| line.contains("reloaded: ") && line.contains("signal");
        let told = || self.log().lines().filter(of_signal).count();
        let before = told();
        self.signal(libc::SIGHUP);
        wait::until_true("a line about a reload", Duration::from_secs(10), || told() > before);
        self.log()
    }

    /// Lines of the log that contain `needle`.
    pub fn log_count(&self, needle: &str) -> usize {
        self.log().lines().filter(|line| line.contains(needle)).count()
    }

    /// Waits for a log line that contains `needle`.
    pub fn wait_log(&self, needle: &str, deadline: Duration) {
        let what = format!("a log line with `{needle}`");
        wait::until_true(&what, deadline, || self.log_count(needle) > 0);
    }

    /// Waits until `/api/live` lists the stream.
    pub fn wait_live(&self, name: &str) {
        let what = format!("/api/live lists {name}");
        wait::until_true(&what, Duration::from_secs(15), || self.is_live(name));
    }

    /// Whether `/api/live` lists the stream.
    pub fn is_live(&self, name: &str) -> bool {
        let end = format!("/live/{name}");
        self.api_live().iter().any(|url| url.ends_with(&end))
    }

    /// The URLs of `/api/live`.
    pub fn api_live(&self) -> Vec<String> {
        let answer = self.api("/api/live");
        let list = answer["stream"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The JSON of an API path.
    pub fn api(&self, path: &str) -> Value {
        let answer = http::get(self.http, path);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        serde_json::from_slice(&answer.body)
            .unwrap_or_else(|error| panic!("GET {path}: {error}: {}", answer.text()))
    }

    /// All samples of `/metrics`.
    pub fn metrics(&self) -> Metrics {
        let answer = http::get(self.http, "/metrics");
        assert_eq!(answer.status, 200, "GET /metrics: {}", answer.text());
        Metrics::parse(&answer.text())
    }

    /// Open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Resident memory in KiB without what the allocator has free.
    pub fn held_kib(&self) -> u64 {
        let free = self.metrics().sum("smart_rtmpd_mem_bytes", &["class=\"free\""]);
        let (rss, free) = (self.rss_kib(), free as u64 / 1024);
        assert!(free < rss, "{free} KiB are free of {rss} KiB resident");
        rss - free
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.expect("VmRSS is a number")
    }

    /// CPU time used so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.expect("the server runs");
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: u64 =
            fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 1000 / sys::clock_ticks())
    }

    /// Sends a signal to the server.
    pub fn signal(&self, signal: i32) {
        sys::signal(self.pid(), signal).expect("the server runs");
    }

    /// Whether the process runs.
    pub fn alive(&mut self) -> bool {
        self.process.alive()
    }

    /// SIGTERM; the exit status and how long it took, panics after `bound`.
    pub fn terminate(&mut self, bound: Duration) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(libc::SIGTERM);
        let status = self.process.exited_within(bound);
        let status = status.unwrap_or_else(|| panic!("still running {bound:?} after SIGTERM"));
        (status, start.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let log = self.log();
        let panic = log.lines().find(|line| line.contains("panicked at"));
        assert!(panic.is_none(), "the server panicked: {panic:?}");
    }
}

/// The samples of a Prometheus page, by `name{labels}` as written.
#[derive(Debug, Clone, Default)]
pub struct Metrics(pub BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text format; comment lines are skipped.
    pub fn parse(text: &str) -> Metrics {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Metrics(samples.collect())
    }

    /// Sum over all label sets of `name` that contain every one of `labels` (`proto="rtmp"`).
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let fits = |key: &str| {
            let (base, rest) = key.split_once('{').unwrap_or((key, ""));
            base == name && labels.iter().all(|label| rest.contains(label))
        };
        self.0.iter().filter(|(key, _)| fits(key)).map(|(_, value)| value).sum()
    }

    /// Whether any sample has this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.keys().any(|key| key.split('{').next() == Some(name))
    }
}

/// A folder of its own for each server, removed when the test went well.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = root().join(format!("target/e2e/{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("target/ is writable");
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// The server's binary: `SMART_RTMPD_BIN`, or the release build.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SMART_RTMPD_BIN") {
        return PathBuf::from(path);
    }
    let built = "release/smart-rtmpd";
    let own = std::env::current_exe().expect("a process knows its binary");
    let beside = own.ancestors().nth(3).map(|target| target.join(built));
    let candidates = [beside, Some(root().join("target").join(built))];
    let found = candidates.into_iter().flatten().find(|path| path.is_file());
    found.expect("no server: run `cargo build --release -p engine` or set SMART_RTMPD_BIN")
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("it is bound").port()
}

/// Several that nobody listens on, beneath those that the system gives away itself.
pub fn free_ports(count: usize) -> Vec<u16> {
    let start = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap_or(0);
    let bound = (start..32_000).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let held: Vec<TcpListener> = bound.take(count).collect();
    assert_eq!(held.len(), count, "too few ports are free");
    held.iter().map(|free| free.local_addr().expect("it is bound").port()).collect()
}

fn listening(lines: &str, service: &str) -> Option<u16> {
    let start = format!("listening {service} ");
    let line = lines.lines().find_map(|line| line.strip_prefix(&start))?;
    line.trim_end_matches('/').rsplit_once(':')?.1.parse().ok()
}
