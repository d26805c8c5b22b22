//! The command line of the measuring programs.

use std::process::ExitCode;

use perf::args::Args;
use perf::{
    Outcome, churn, datagram_floor, floor, ingest_floor, llhls, load, machine, nodelay, publish,
    report,
};

const USAGE: &str = "\
perf COMMAND [OPTIONS]

  load          N viewers of a stream: cost, latency, stalls, memory
      --url URL           rtmp(s)://host/app/name, http(s)://host/app/name.flv, ws(s)://…, tcp://…
                          (.ts and .mp4 as well as .flv), rtsp(s)://…, rtspu://… for media by UDP,
                          udp://… for the floor of datagrams
                          %d in the name counts through --streams
      --viewers N [1]     --streams N [1]    --join-rate PER_S [500]   --join-timeout S [60]
      --seconds S [20]    --warmup S [2]     --probes N [20]           --cpu CPU
      --server-pid PID,…  --client-integrity --slow-percent P [0]      --slow-factor F [0.5]
      --bitrate KBPS [2000] (what a slow viewer takes its part of)
      certificates are not verified
  publish       synthetic publishers
      --url rtmp://host/app/name%d | --raw tcp://host:port
      --streams N [1]     --bitrate KBPS [2000] --fps N [30] --gop S [2] --no-audio
      --chunk-size B [4096] --seconds S (0 = until killed) [0] --warmup S [1] --cpu CPU
      --server-pid PID,…
  floor         the same bytes to TCP viewers from a bare loop
      --listen PORT --mode epoll|uring [epoll] --merge-ms MS [0] --slots N [one per 10 ms]
      --sndbuf BYTES [262144]
      --bitrate KBPS [2000] --fps N [30] --gop S [2] --no-audio --cpu CPU
  datagram-floor  the same stream as RTP over UDP from a bare loop
      --listen PORT --merge-ms MS [50]
      --bitrate KBPS [2000] --fps N [30] --gop S [2] --no-audio --cpu CPU
  ingest-floor  accepts and discards
      --listen PORT --cpu CPU
  churn         connect, first video frame, close
      --url URL --count N [20000] --concurrency N [50] --timeout S [5] --settle S [3]
      --server-pid PID,… --cpu CPU
  llhls         players of low-latency HLS, as hls.js is one
      --url URL           http://host/app/name.m3u8?format=fmp4
      --players N [1]     --join-rate PER_S [200] --warmup S [5] --seconds S [20]
      --server-pid PID,… --cpu CPU
  nodelay       whoever connects to another server from now on is sent to without delay
      --server-pid PID
  report        rows of the above (one JSON object per line) to tables
      --rows FILE --out BASE --scenario NAME --command TEXT --commit ID
  machine       one line about this machine

Every measuring command prints one line; --json FILE appends its row, --label K=V,… adds to it.
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let (command, mut args) = Args::from_environment()?;
    match command.as_str() {
        "load" => load::run(&mut args),
        "publish" => publish::run(&mut args),
        "floor" => floor::run(&mut args),
        "datagram-floor" => datagram_floor::run(&mut args),
        "ingest-floor" => ingest_floor::run(&mut args),
        "churn" => churn::run(&mut args),
        "llhls" => llhls::run(&mut args),
        "nodelay" => nodelay::run(&mut args),
        "report" => report::run(&mut args),
        "machine" => {
            args.done()?;
            perf::args::say(&format!("{}\n", machine::describe()));
            Ok(())
        }
        "help" => {
            perf::args::say(USAGE);
            Ok(())
        }
        other => Err(format!("unknown command {other}; try: perf help").into()),
    }
}
