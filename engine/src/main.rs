//! `smart-rtmpd`: arguments → configuration → shards → wait for signals → stop.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use engine::config::Document;
use engine::net::preflight::{self, StartError};
use engine::net::sys_signal::{Signal, Signals};
use engine::policy::ActivePolicy;
use engine::reload::{Accepted, Contents, Files};
use engine::server::{Ended, Server};
use engine::{auth, clock, config, observe, policy};

/// All of a stop, peers' farewells included.
const STOP_MAX: Duration = Duration::from_secs(8);
/// How often the shards are looked at: one that oversleeps is late by this and a little more.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

const USAGE: &str = "\
usage: smart-rtmpd [--config FILE] [--policy FILE] [--check]

  --config FILE   configuration (default: config.xml)
  --policy FILE   distribution rules (default: policy.xml beside the configuration)
  --check         check both files, say what is wrong, start nothing
  --version       print the version
";

#[derive(Debug)]
struct Arguments {
    config: PathBuf,
    policy: Option<PathBuf>,
    check: bool,
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            say_error(&format!("{error}\n{USAGE}"));
            return ExitCode::from(64);
        }
    };
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            say_error(&format!("smart-rtmpd: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn parse() -> Result<Option<Arguments>, lexopt::Error> {
    use lexopt::prelude::{Long, Short};
    let mut parsed = Arguments { config: "config.xml".into(), policy: None, check: false };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") | Short('c') => parsed.config = parser.value()?.into(),
            Long("policy") => parsed.policy = Some(parser.value()?.into()),
            Long("check") => parsed.check = true,
            Long("help") | Short('h') => {
                say(USAGE);
                return Ok(None);
            }
            Long("version") | Short('V') => {
                say(&format!("smart-rtmpd {}\n", env!("CARGO_PKG_VERSION")));
                return Ok(None);
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(parsed))
}

fn run(arguments: &Arguments) -> Result<ExitCode, StartError> {
    let document = Document::load(&arguments.config)?;
    let config = document.config.clone();
    let beside = config.base_dir.join("policy.xml");
    let policy = arguments.policy.clone().unwrap_or(beside);
    let files = Files { config: arguments.config.clone(), policy };
    let policy_text = policy::read_text(&files.policy)?;
    let policy = files.policy_of(&policy_text)?;
    // Before they are read: what changes from here on is seen by the watch.
    let named = Contents::of_named(&config, &policy, config.shows_certificate());
    let name = files.config.display().to_string();
    let mut rules = document.rules(&name, &config)?;
    let active = ActivePolicy::new(policy.clone(), &config)?;
    let cpus = preflight::place(&config.engine.cores)?;
    if arguments.check {
        say(&format!("{}: ok\n", arguments.config.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let signals = Signals::block().map_err(StartError::Signals)?;
    let _log = observe::log::init(&config.log_level);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    preflight::run(cpus.len())?;
    if make_token(&config) {
        rules = document.rules(&name, &config)?;
    }
    let mut server = Server::start(config.clone(), rules, active, &cpus)?;
    server.watch_files(files, Accepted { document, policy_text }, policy, named)?;
    announce(&server, &config);
    Ok(supervise(server, &signals))
}

/// Makes the administrator's token at a first start, and says where it is; whether it did.
fn make_token(config: &config::Config) -> bool {
    let path = &config.auth.token_file;
    let shown = path.display();
    let made = auth::ensure_token(path);
    match &made {
        Ok(true) => {
            say(&format!("token  {shown} opens the API to any address (made now, once)\n"));
            tracing::info!(path = %shown, "the administrator's token was made");
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(
            path = %shown, %error,
            "the administrator's token cannot be made: only this machine may use the API"
        ),
    }
    matches!(made, Ok(true))
}

/// Waits for signals, and for a shard that dies or stalls.
fn supervise(mut server: Server, signals: &Signals) -> ExitCode {
    loop {
        match signals.wait(WATCH_INTERVAL) {
            Some(Signal::Stop) => {
                tracing::info!("stopping");
                return match server.stop(clock::now() + STOP_MAX) {
                    Ended::Stopped => ExitCode::SUCCESS,
                    Ended::ShardDied { shard, cause } => die(shard, &cause),
                };
            }
            Some(Signal::Reload) => server.reload(),
            None => {}
        }
        if let Some(Ended::ShardDied { shard, cause }) = server.watch() {
            return die(shard, &cause);
        }
    }
}

/// A shard is gone and its streams with it: better a restart than half a server.
fn die(shard: usize, cause: &str) -> ExitCode {
    tracing::error!(shard, "shard failed: {cause}; ending the process");
    ExitCode::from(70)
}

/// Prints where the server listens and lines to paste.
fn announce(server: &Server, config: &config::Config) {
    let mut text = String::new();
    for (service, addr) in server.addresses() {
        let scheme = if *service == "rtmp" { "rtmp" } else { service };
        // Dual-stack sockets take IPv4 too; 0.0.0.0 is what people recognise.
        let host = if addr.ip().is_unspecified() { "0.0.0.0".into() } else { bracket(addr.ip()) };
        text += &format!("listening {service} {scheme}://{host}:{}\n", addr.port());
    }
    text += &format!("publishing {}\n", server.publishing());
    if config.auth.open_publish {
        tracing::warn!("publishing {}", server.publishing());
    }
    let ports = server.ports();
    let live = &config.rtmp.live_app;
    if let Some(port) = ports.rtmp {
        text += &format!(
            "push   ffmpeg -re -stream_loop -1 -i FILE.mp4 -c copy -f flv \
             rtmp://127.0.0.1:{port}/{live}/stream\n\
             play   ffplay rtmp://127.0.0.1:{port}/{live}/stream\n"
        );
    }
    if let Some(port) = ports.rtsp {
        text += &format!(
            "push   ffmpeg -re -stream_loop -1 -i FILE.mp4 -c copy -f rtsp -rtsp_transport tcp \
             rtsp://127.0.0.1:{port}/{live}/stream\n\
             play   ffplay rtsp://127.0.0.1:{port}/{live}/stream\n"
        );
    }
    if let Some(port) = ports.http {
        text += &format!("play   ffplay http://127.0.0.1:{port}/{live}/stream.flv\n");
        text += &format!("watch  http://127.0.0.1:{port}/\n");
    }
    say(&(text + "ready\n"));
}

fn bracket(ip: std::net::IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

/// Prints to standard output; a closed one is no reason to end.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn say_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
