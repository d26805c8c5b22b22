//! Real clients: the publishers and players people use, each behind one function. The exact
//! command lines are the documentation of what is promised to work.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::flv::{self, Tag};
use crate::media::Clip;
use crate::pace::{self, Pace};
use crate::process::{Finished, Process, find_program};
use crate::{root, skip, sys};

/// A program on the PATH; says so and gives `None` when it is missing.
pub fn tool(name: &str) -> Option<PathBuf> {
    let found = find_program(name);
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// The distribution's Python, whichever else is on the PATH: GStreamer's bindings are made for it.
pub fn system_python() -> Option<PathBuf> {
    tool("/usr/bin/python3")
}

/// The static ffmpeg 9 of the PyPI package `imageio-ffmpeg`, put there by `scripts/test`.
pub fn ffmpeg9() -> Option<PathBuf> {
    let folder = root().join("target/clients/py/imageio_ffmpeg/binaries");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files = files.map(|entry| entry.path());
    let found = files.find(|path| path.to_string_lossy().contains("/ffmpeg-linux-"));
    if found.is_none() {
        skip("target/clients/py has no imageio-ffmpeg (scripts/test installs it)");
    }
    found
}

/// Who publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publisher {
    /// The distribution's ffmpeg.
    Ffmpeg,
    /// ffmpeg 9, enhanced RTMP.
    Ffmpeg9,
    /// GStreamer's own RTMP implementation.
    GstRtmp2sink,
    /// librtmp, through GStreamer's `rtmpsink`.
    Librtmp,
    /// GStreamer's RTSP publisher; `?tcp` or `?udp` behind the URL, as ffmpeg has it.
    GstRtspClientSink,
}

impl Publisher {
    /// Starts publishing `clip` in a loop (GStreamer: once) at its own pace.
    pub fn start(self, clip: Clip, url: &str) -> Option<Process> {
        let name = format!("{self:?} publisher");
        let command = match self {
            Publisher::Ffmpeg => ffmpeg_publish(tool("ffmpeg")?, clip.file()?, url),
            Publisher::Ffmpeg9 => ffmpeg_publish(ffmpeg9()?, clip.file()?, url),
            Publisher::GstRtmp2sink => {
                gst_publish(clip, &["rtmp2sink", &format!("location={url}")])?
            }
            // In librtmp's grammar options follow the URL after a space.
            Publisher::Librtmp => {
                gst_publish(clip, &["rtmpsink", &format!("location={url} live=1")])?
            }
            Publisher::GstRtspClientSink => gst_publish_rtsp(clip, url)?,
        };
        Some(Process::spawn(&name, command))
    }
}

impl Publisher {
    /// Takes out of a player's complaints what the publisher itself is the cause of: GStreamer's
    /// flvmux clips negative decode times and makes times increase across tracks, so that the
    /// second and third picture of a stream with B-frames may share a presentation time.
    pub fn excuse(self, decoded: &mut Decoded) {
        if matches!(self, Self::GstRtmp2sink | Self::Librtmp) {
            let own = "Application provided invalid, non monotonically increasing dts to muxer";
            let at = decoded.complaints.iter().position(|line| line.contains(own));
            at.map(|index| decoded.complaints.remove(index));
        }
    }
}

fn ffmpeg_publish(ffmpeg: PathBuf, clip: PathBuf, url: &str) -> Command {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-v", "warning", "-re", "-stream_loop", "-1", "-i"]).arg(clip);
    command.args(["-c", "copy"]);
    if url.starts_with("rtsp") {
        command.args(["-f", "rtsp", url]);
    } else {
        command.args(["-flvflags", "no_duration_filesize", "-f", "flv", url]);
    }
    command
}

fn gst_publish(clip: Clip, sink: &[&str]) -> Option<Command> {
    let mut command = Command::new(tool("gst-launch-1.0")?);
    let location = format!("location={}", clip.file()?.display());
    let mut line = vec!["-q", "filesrc", &location, "!", "qtdemux", "name=d"];
    line.extend(["flvmux", "name=m", "streamable=true", "!"]);
    line.extend(sink);
    if clip != Clip::AudioOnly {
        line.extend("d. ! video/x-h264 ! queue ! h264parse ! identity sync=true ! m.".split(' '));
    }
    if clip != Clip::VideoOnly {
        line.extend("d. ! audio/mpeg ! queue ! aacparse ! identity sync=true ! m.".split(' '));
    }
    command.args(line);
    Some(command)
}

fn gst_publish_rtsp(clip: Clip, url: &str) -> Option<Command> {
    let mut command = Command::new(tool("gst-launch-1.0")?);
    let (url, transport) = url.split_once('?').unwrap_or((url, "tcp"));
    let file = format!("location={}", clip.file()?.display());
    let (location, protocols) = (format!("location={url}"), format!("protocols={transport}"));
    command.args(["-q", "filesrc", &file, "!", "qtdemux", "name=d"]);
    command.args(["rtspclientsink", "name=s", &location, &protocols]);
    let video = "d. ! video/x-h264 ! queue ! h264parse ! identity sync=true ! s.sink_0";
    let audio = "d. ! audio/mpeg ! queue ! aacparse ! identity sync=true ! s.sink_1";
    command.args(video.split(' ').chain(audio.split(' ')));
    Some(command)
}

/// One packet as ffprobe lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    /// `v` or `a`.
    pub stream: char,
    /// Presentation time in seconds.
    pub pts: f64,
    /// Decoding time in seconds.
    pub dts: f64,
    /// Whether it is a keyframe.
    pub keyframe: bool,
    /// Bytes.
    pub size: usize,
}

/// The packets of the first `seconds` of a URL, by ffprobe.
pub fn ffprobe_packets(url: &str, seconds: u32) -> Option<Vec<Packet>> {
    let mut command = Command::new(tool("ffprobe")?);
    command.args(["-v", "error", "-analyzeduration", "1000000"]);
    command.args(["-read_intervals", &format!("%+{seconds}")]);
    command.args(["-show_entries", "packet=codec_type,pts_time,dts_time,size,flags"]);
    command.args(["-of", "csv=p=0", url]);
    let bound = Duration::from_secs(u64::from(seconds) + 10);
    let listed = Process::run("ffprobe", command, bound);
    let packets = listed.stdout_text().lines().filter_map(parse_packet).collect();
    Some(packets)
}

fn parse_packet(line: &str) -> Option<Packet> {
    let mut fields = line.split(',');
    let stream = fields.next()?.chars().next()?;
    let pts = fields.next()?.parse().ok()?;
    let dts = fields.next()?.parse().ok()?;
    let size = fields.next()?.parse().ok()?;
    let keyframe = fields.next()?.starts_with('K');
    Some(Packet { stream, pts, dts, keyframe, size })
}

/// What a decoding player saw.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// Pictures decoded.
    pub pictures: u64,
    /// Lines of complaint.
    pub complaints: Vec<String>,
}

/// Decodes the first `seconds` with the distribution's ffmpeg; every line on stderr is a complaint.
pub fn ffmpeg_decode(url: &str, seconds: u32) -> Option<Decoded> {
    decode(tool("ffmpeg")?, &[], url, seconds)
}

/// As [`ffmpeg_decode`], RTSP by a transport: `http` or `https`, `udp_multicast`.
pub fn ffmpeg_decode_by(url: &str, transport: &str, seconds: u32) -> Option<Decoded> {
    decode(tool("ffmpeg")?, &["-rtsp_transport", transport], url, seconds)
}

/// As [`ffmpeg_decode_by`], with ffmpeg 9.
pub fn ffmpeg9_decode_by(url: &str, transport: &str, seconds: u32) -> Option<Decoded> {
    decode(ffmpeg9()?, &["-rtsp_transport", transport], url, seconds)
}

/// Decodes the first `seconds` with ffmpeg 9.
pub fn ffmpeg9_decode(url: &str, seconds: u32) -> Option<Decoded> {
    decode(ffmpeg9()?, &[], url, seconds)
}

fn decode(ffmpeg: PathBuf, options: &[&str], url: &str, seconds: u32) -> Option<Decoded> {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostats", "-v", "warning", "-progress", "pipe:1"]);
    command.args(options).args(["-i", url, "-t", &seconds.to_string(), "-f", "null", "-"]);
    let ran = Process::run("ffmpeg player", command, Duration::from_secs(15 + u64::from(seconds)));
    let stdout = ran.stdout_text();
    let mut counts =
        stdout.lines().filter_map(|line| line.strip_prefix("frame=")?.trim().parse().ok());
    let complaints = ran.stderr.lines().filter(|line| !line.trim().is_empty());
    Some(Decoded {
        pictures: counts.next_back().unwrap_or(0),
        complaints: complaints.map(str::to_owned).collect(),
    })
}

/// Records the first `seconds` with ffmpeg 9, without touching the packets, into an FLV file.
pub fn ffmpeg_record(url: &str, seconds: u32, to: &Path) -> Option<Finished> {
    let mut command = Command::new(ffmpeg9()?);
    command.args(["-hide_banner", "-v", "warning", "-y", "-i", url]);
    command.args(["-t", &seconds.to_string(), "-c", "copy", "-f", "flv"]).arg(to);
    Some(Process::run("ffmpeg recorder", command, Duration::from_secs(15 + u64::from(seconds))))
}

/// Decodes the first `seconds` with ffmpeg 9 into a Matroska file: for protocols by which pictures
/// come without the decode times that a recording of the packets would need.
pub fn ffmpeg_decode_to(url: &str, seconds: u32, to: &Path) -> Option<Finished> {
    let mut command = Command::new(ffmpeg9()?);
    command.args(["-hide_banner", "-v", "warning", "-y", "-i", url, "-t", &seconds.to_string()]);
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-c:a", "pcm_s16le"]);
    command.args(["-f", "matroska"]).arg(to);
    Some(Process::run("ffmpeg recorder", command, Duration::from_secs(15 + u64::from(seconds))))
}

/// What ffplay reported.
#[derive(Debug, Clone, Default)]
pub struct Ffplay {
    /// Seconds of media it played, by its own clock and at their pace.
    pub played: f64,
    /// Status lines that show A-V.
    pub reports: usize,
    /// Median |A-V| of the second half of its reports, in seconds: by then it has settled.
    pub offset: f64,
    /// Everything it printed that is no status line.
    pub complaints: Vec<String>,
}

/// Plays `seconds` of media with mpv, at their pace, RTSP by `tcp` or `udp`: pictures shown of them.
pub fn mpv(url: &str, transport: &str, seconds: u32) -> Option<u64> {
    let mut command = Command::new(tool("mpv")?);
    command.args(["--no-config", "--vo=null", "--ao=null", &format!("--length={seconds}")]);
    command.arg(format!("--rtsp-transport={transport}"));
    command.args(["--term-status-msg=pictures ${estimated-frame-number}", url]);
    let shown = |stderr: &[u8]| -> u64 {
        let said = String::from_utf8_lossy(stderr);
        let shown = said.split(['\r', '\n', '\u{1b}']);
        let shown = shown.filter_map(|line| line.split_once("pictures ")?.1.trim().parse().ok());
        shown.max().unwrap_or(0)
    };
    let mut pace = Pace::of("mpv");
    let bound = Pace::bound(u64::from(seconds) * 25);
    let ran = Process::run_until("mpv", command, bound, |_, stderr| !pace.pictures(shown(stderr)));
    pace.verify();
    Some(shown(ran.stderr.as_bytes()))
}

/// Plays `seconds` of media with ffplay, without screen and loudspeaker.
pub fn ffplay(url: &str, seconds: u32) -> Option<Ffplay> {
    ffplay_with(&[], url, seconds)
}

/// As [`ffplay`], with options of its own.
pub fn ffplay_with(options: &[&str], url: &str, seconds: u32) -> Option<Ffplay> {
    let mut command = Command::new(tool("ffplay")?);
    command.env("SDL_VIDEODRIVER", "dummy").env("SDL_AUDIODRIVER", "dummy");
    command.args(["-hide_banner", "-v", "warning", "-stats", "-autoexit"]);
    command.args(options).arg(url);
    let played = |stderr: &[u8]| {
        let said = String::from_utf8_lossy(stderr);
        let mut clock = said.split(['\r', '\n']).filter_map(ffplay_report).map(|(time, _)| time);
        let first = clock.next()?;
        Some(clock.next_back().unwrap_or(first) - first)
    };
    let mut pace = Pace::of("ffplay");
    let bound = Pace::bound(u64::from(seconds) * 25);
    let ran = Process::run_until("ffplay", command, bound, |_, stderr| {
        let played = played(stderr);
        !pace.media(played) || played >= Some(f64::from(seconds))
    });
    pace.verify();
    let played = played(ran.stderr.as_bytes()).unwrap_or(0.0);
    let mut seen = Ffplay { played, ..Ffplay::default() };
    let mut offsets = Vec::new();
    for line in ran.stderr.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        if let Some((_, offset)) = ffplay_report(line) {
            offsets.push(offset.abs());
        } else if !line.contains("nan") && !line.contains("hardware accelerated renderer") {
            seen.complaints.push(line.to_owned());
        }
    }
    seen.reports = offsets.len();
    let mut settled = offsets.split_off(offsets.len() / 2);
    settled.sort_by(f64::total_cmp);
    seen.offset = settled.get(settled.len() / 2).copied().unwrap_or(f64::INFINITY);
    Some(seen)
}

/// The clock and A-V of a status line of ffplay, in seconds.
fn ffplay_report(line: &str) -> Option<(f64, f64)> {
    let (clock, rest) = line.split_once("A-V:")?;
    let offset = rest.split("fd=").next()?.trim().parse().ok()?;
    // Before the first picture it has no clock.
    Some((clock.trim().parse().ok().filter(|clock: &f64| clock.is_finite())?, offset))
}

/// Records `seconds` with VLC into Matroska; pictures found in it by ffprobe.
pub fn vlc(url: &str, seconds: u32) -> Option<Decoded> {
    let vlc = tool("cvlc")?;
    let folder = std::env::temp_dir().join(format!("vlc-{:x}", now_nanos()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&folder, open).expect("the folder is ours");
    let file = folder.join("recorded.mkv");
    // VLC refuses to run as root.
    let mut command = if sys::is_root() {
        let mut command = Command::new(tool("setpriv")?);
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(vlc);
        command
    } else {
        Command::new(vlc)
    };
    command.env("HOME", &folder).args(["-I", "dummy", &format!("--run-time={seconds}")]);
    command.args(["--play-and-exit", url]);
    let file_text = file.display();
    command.arg(format!("--sout=#std{{access=file,mux=avformat{{mux=matroska}},dst={file_text}}}"));
    command.args(["--sout-all", "vlc://quit"]);
    let ran = Process::run("VLC", command, Duration::from_secs(u64::from(seconds) + 15));
    // Without desktop VLC complains about interfaces and sound servers; only media counts.
    let desktop = ["interface", "audio output", "libvlc"];
    let complaints = ran.stderr.lines().filter(|line| line.contains(" error"));
    let complaints = complaints.filter(|line| !desktop.iter().any(|word| line.contains(word)));
    let complaints = complaints.map(str::to_owned).collect();
    let pictures = count_pictures(&file);
    let _ = std::fs::remove_dir_all(&folder);
    Some(Decoded { pictures: pictures?, complaints })
}

/// Pictures in a file; Matroska keeps no decode times, so they are only counted.
fn count_pictures(file: &Path) -> Option<u64> {
    let mut command = Command::new(tool("ffprobe")?);
    command.args(["-v", "error", "-count_packets", "-select_streams", "v"]);
    command.args(["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"]).arg(file);
    let counted = Process::run("ffprobe", command, Duration::from_secs(20));
    Some(counted.stdout_text().trim().trim_end_matches(',').parse().unwrap_or(0))
}

/// Records `pictures` with rtmpdump (librtmp as a player), and the sound between them.
pub fn rtmpdump(url: &str, pictures: u64) -> Option<Vec<Tag>> {
    let mut command = Command::new(tool("rtmpdump")?);
    command.args(["--live", "-q", "-r", url, "-o", "-"]);
    Some(flv_until("rtmpdump", command, pictures))
}

/// Receives `pictures` with GStreamer's `rtmp2src` into FLV.
pub fn gst_rtmp2src(url: &str, pictures: u64) -> Option<Vec<Tag>> {
    let mut command = Command::new(tool("gst-launch-1.0")?);
    let location = format!("location={url}");
    command.args(["-q", "rtmp2src", &location, "!", "fdsink", "fd=1"]);
    Some(flv_until("rtmp2src", command, pictures))
}

/// What a program writes as FLV, at its pace, until there are so many pictures, or until it has had
/// its time.
fn flv_until(name: &str, command: Command, pictures: u64) -> Vec<Tag> {
    let mut pace = Pace::of(name);
    let enough = |stdout: &[u8], _: &[u8]| {
        let tags = flv::parse(stdout).unwrap_or_default();
        let count = tags.iter().filter(|tag| tag.is_picture()).count() as u64;
        !pace.pictures(count) || count >= pictures
    };
    let ran = Process::run_until(name, command, Pace::bound(pictures), enough);
    pace.verify();
    let tags = flv::parse(&ran.stdout);
    let tags = tags.unwrap_or_else(|error| panic!("{name}: {error}: {}", ran.stderr));
    let shown = tags.iter().filter(|tag| tag.is_picture());
    pace::verify_times(name, shown.map(|tag| f64::from(tag.timestamp) / 1000.0), pace::EXACT);
    tags
}

/// Gives this thread, and what it starts from now on, a network of its own, set up by these lines of
/// `ip`; `None`, and the test is skipped, where that cannot be had.
pub fn own_network(lines: &[&str]) -> Option<()> {
    let ip = tool("ip")?;
    if let Err(error) = sys::leave_network() {
        skip(&format!("a network cannot be made here: {error}"));
        return None;
    }
    for line in lines {
        let mut command = Command::new(&ip);
        command.args(line.split(' '));
        let done = Process::run("ip", command, Duration::from_secs(5));
        assert!(done.status.success(), "{line}: {}", done.stderr);
    }
    Some(())
}

/// Pictures that the chain of GStreamer's `playbin3` decodes of a URL, at their pace: `least`, unless
/// it ends, or has had its time, before that.
pub fn gst_pictures(url: &str, least: u64) -> Option<u64> {
    gst_pictures_with(url, &[], least)
}

/// As [`gst_pictures`], with properties of the source, such as `protocols=udp-mcast`.
pub fn gst_pictures_with(url: &str, properties: &[&str], least: u64) -> Option<u64> {
    let mut command = Command::new(system_python()?);
    command.args(["-c", GST_PLAYER, url]).args(properties);
    let name = format!("GStreamer, {url} {properties:?}");
    let mut pace = Pace::of(&name).in_segments(url.contains(".m3u8"));
    let enough = |stdout: &[u8], _: &[u8]| {
        let count = gst_times(stdout).count() as u64;
        !pace.pictures(count) || count >= least
    };
    let ran = Process::run_until("GStreamer", command, Pace::bound(least), enough);
    if ["ModuleNotFoundError", "Namespace Gst not"].iter().any(|text| ran.stderr.contains(text)) {
        skip(&format!("GStreamer has no Python here: {}", ran.stderr));
        return None;
    }
    pace.verify();
    // What comes at once it shows faster, to be where the clock is.
    pace::verify_times(&name, gst_times(&ran.stdout).skip(pace::KEPT as usize), pace::SKEWED);
    let pictures = gst_times(&ran.stdout).count() as u64;
    if pictures < least {
        eprintln!("{name}: {}", ran.stderr);
    }
    Some(pictures)
}

/// The times of the pictures, in seconds, that [`GST_PLAYER`] has said so far.
fn gst_times(stdout: &[u8]) -> impl Iterator<Item = f64> {
    let lines = stdout.split_inclusive(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let text = str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
        Some(text.strip_prefix("picture ")?.parse::<f64>().ok()? / 1e9)
    })
}

/// A player that says of each picture that it has it, and at which nanosecond it is shown.
///
/// Its chain is not that of `playbin`: there `rtspsrc` may say that it has all its pads when one is
/// not there yet, because each comes up in a thread of its own. Once in a hundred plays the pictures
/// of a stream whose sound is first are then left out for good. `gst-launch` links the pads of a
/// bare `rtspsrc` no better.
const GST_PLAYER: &str = r#"
import sys, gi
gi.require_version('Gst', '1.0')
from gi.repository import GLib, Gst
Gst.init(None)
pipeline = Gst.parse_launch(
    'uridecodebin3 name=d '
    'd. ! queue ! videoconvert ! fakesink name=pictures sync=false signal-handoffs=true '
    'd. ! queue ! audioconvert ! fakesink sync=false')
source = pipeline.get_by_name('d')
def set_up(_, element):
    for text in sys.argv[2:]:
        Gst.util_set_object_arg(element, *text.split('=', 1))
source.connect('source-setup', set_up)
source.set_property('uri', sys.argv[1])
pictures = pipeline.get_by_name('pictures')
pictures.connect('handoff', lambda _, shown, pad: print('picture', shown.pts, flush=True))
loop, bus = GLib.MainLoop(), pipeline.get_bus()
def on_end(_, message):
    if message.type == Gst.MessageType.ERROR:
        print(*message.parse_error(), file=sys.stderr)
    loop.quit()
bus.add_signal_watch()
bus.connect('message::error', on_end)
bus.connect('message::eos', on_end)
pipeline.set_state(Gst.State.PLAYING)
loop.run()
"#;

/// What Chromium reports about the `<video id="video">` of a page.
#[derive(Debug, Clone)]
pub struct Browser {
    /// Seconds of media played since the first picture.
    pub played: f64,
    /// Pictures shown.
    pub frames: u64,
    /// Page load to first picture, in milliseconds.
    pub startup_ms: Option<u64>,
    /// Console and page errors.
    pub errors: Vec<String>,
}

/// Opens `page` in Chromium and lets its video play for `seconds`; a screenshot is left in
/// `target/screens/NAME.png`.
pub fn chromium(page: &str, seconds: u32, name: &str) -> Option<Browser> {
    let bound = Duration::from_secs(45 + 3 * u64::from(seconds));
    let value = in_chromium("play.mjs", page, seconds, name, bound)?;
    Some(Browser {
        played: value["played"].as_f64().unwrap_or(0.0),
        frames: value["frames"].as_u64().unwrap_or(0),
        startup_ms: value["startup_ms"].as_u64(),
        errors: texts(&value["errors"]),
    })
}

/// How a live stream played in Chromium, once the player had found its place.
#[derive(Debug, Clone)]
pub struct Steady {
    /// Page load to first picture, in milliseconds.
    pub startup_ms: Option<u64>,
    /// Seconds watched.
    pub wall: f64,
    /// Seconds of media played meanwhile.
    pub played: f64,
    /// Times it stood still.
    pub stalls: u64,
    /// Pictures the browser left out.
    pub dropped: u64,
    /// Seconds behind live by the player's own account: the median of the second half.
    pub latency: f64,
    /// Console and page errors, failed requests, and what the page says is wrong.
    pub errors: Vec<String>,
}

/// Opens `page` in Chromium and watches its video for `seconds`; a screenshot is left in
/// `target/screens/NAME.png`.
pub fn chromium_steady(page: &str, seconds: u32, name: &str) -> Option<Steady> {
    let bound = Duration::from_secs(60 + u64::from(seconds));
    let value = in_chromium("steady.mjs", page, seconds, name, bound)?;
    let latency = value["latency"].as_array().into_iter().flatten().filter_map(Value::as_f64);
    let mut latency: Vec<f64> = latency.collect();
    let mut latency = latency.split_off(latency.len() / 2);
    latency.sort_by(f64::total_cmp);
    let steady = Steady {
        startup_ms: value["startup_ms"].as_u64(),
        wall: value["wall"].as_f64().unwrap_or(0.0),
        played: value["played"].as_f64().unwrap_or(0.0),
        stalls: value["stalls"].as_u64().unwrap_or(0),
        dropped: value["dropped"].as_u64().unwrap_or(0),
        latency: latency.get(latency.len() / 2).copied().unwrap_or(f64::INFINITY),
        errors: texts(&value["errors"]),
    };
    eprintln!("{name}: {steady:?}");
    Some(steady)
}

/// What Chromium showed of the levels of a multivariant playlist.
#[derive(Debug, Clone)]
pub struct Levels {
    /// Width of each.
    pub levels: Vec<u64>,
    /// Widths shown: the highest level chosen, the lowest, the highest again.
    pub shown: Vec<u64>,
    /// Console and page errors, failed requests, and what the page says is wrong.
    pub errors: Vec<String>,
}

/// Opens `page` in Chromium and plays its levels for `seconds` each; a screenshot is left in
/// `target/screens/NAME.png`.
pub fn chromium_levels(page: &str, seconds: u32, name: &str) -> Option<Levels> {
    let bound = Duration::from_secs(120 + u64::from(seconds) * 9);
    let value = in_chromium("levels.mjs", page, seconds, name, bound)?;
    let numbers = |key: &str| {
        let list = value[key].as_array().into_iter().flatten();
        list.filter_map(Value::as_u64).collect()
    };
    Some(Levels {
        levels: numbers("levels"),
        shown: numbers("shown"),
        errors: texts(&value["errors"]),
    })
}

/// Whether `scripts/test` has installed an npm package; says so when not.
pub fn has_npm(package: &str) -> bool {
    let found = npm().join("node_modules").join(package).is_dir();
    if !found {
        skip(&format!("target/clients/npm has no {package} (scripts/test installs it)"));
    }
    found
}

/// Fuzzes the API of a server by its own document with schemathesis, a client from PyPI that
/// `scripts/test` puts there; what it says, and whether it found nothing.
pub fn schemathesis(document: &str, arguments: &[&str], bound: Duration) -> Option<(bool, String)> {
    let folder = root().join("target/clients/schemathesis");
    if !folder.join("schemathesis").is_dir() {
        skip("target/clients/schemathesis has no schemathesis (scripts/test installs it)");
        return None;
    }
    let mut command = Command::new(tool("python3")?);
    command.env("PYTHONPATH", &folder).env("NO_COLOR", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    command.args(["-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]);
    command.arg(document).args(arguments).current_dir(root().join("target"));
    let ran = Process::run("schemathesis", command, bound);
    Some((ran.status.success(), ran.stdout_text() + &ran.stderr))
}

fn npm() -> PathBuf {
    root().join("target/clients/npm")
}

/// Runs a script of `harness/browser` and reads the line of JSON it prints.
fn in_chromium(
    script: &str,
    page: &str,
    seconds: u32,
    name: &str,
    bound: Duration,
) -> Option<Value> {
    let (node, chromium) = (tool("node")?, tool("chromium")?);
    if !has_npm("playwright-core") {
        return None;
    }
    let screens = root().join("target/screens");
    std::fs::create_dir_all(&screens).expect("target/ is writable");
    let mut command = Command::new(node);
    command.env("CHROMIUM", chromium).arg(root().join("tests/harness/browser").join(script));
    command.arg(npm()).args([page, &seconds.to_string()]);
    command.arg(screens.join(format!("{name}.png")));
    let ran = Process::run("Chromium", command, bound);
    let line = ran.stdout_text();
    let value = serde_json::from_str(line.trim())
        .unwrap_or_else(|error| panic!("Chromium: {error}: {line} {}", ran.stderr));
    Some(value)
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
}

fn now_nanos() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos())
}
