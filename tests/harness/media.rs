//! The clips that are published: made once with ffmpeg into `target/media` and kept.
//!
//! Every clip with picture and sound flashes a box and beeps at each full second, so lip sync can
//! be measured behind any player: [`lip_sync`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clients;
use crate::flv::{self, Tag};
use crate::process::Process;
use crate::root;

/// What a clip contains. All have 25 pictures and one keyframe per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clip {
    /// H.264 with B-frames and AAC, 90 s: outlasts every player without a loop.
    H264Aac,
    /// HEVC and AAC, 10 s.
    HevcAac,
    /// AV1 and Opus, 10 s.
    Av1Opus,
    /// AAC alone, 10 s.
    AudioOnly,
    /// H.264 alone, 10 s.
    VideoOnly,
    /// Small H.264 and AAC, 120 s, every picture different: the canary.
    Canary,
}

const BEEP: &str = "aevalsrc='if(lt(mod(t,1),0.1),0.7*sin(2*PI*1000*t),0)':s=48000";
const FLASH: &str = "drawbox=x=0:y=0:w=160:h=96:c=black:t=fill,\
    drawbox=x=0:y=0:w=160:h=96:c=white:t=fill:enable='lt(mod(t,1),0.1)'";

impl Clip {
    fn file_name(self) -> &'static str {
        match self {
            Clip::H264Aac => "h264-aac.mp4",
            Clip::HevcAac => "hevc-aac.mp4",
            Clip::Av1Opus => "av1-opus.mkv",
            Clip::AudioOnly => "audio.mp4",
            Clip::VideoOnly => "video.mp4",
            Clip::Canary => "canary.flv",
        }
    }

    fn arguments(self) -> Vec<String> {
        let seconds = match self {
            Clip::Canary => 120,
            Clip::H264Aac => 90,
            _ => 10,
        };
        let size = if self == Clip::Canary { "320x180" } else { "640x360" };
        let mut line = String::new();
        if self != Clip::AudioOnly {
            line += &format!("-f lavfi -i testsrc2=s={size}:r=25,{FLASH} ");
        }
        if self != Clip::VideoOnly {
            line += &format!("-f lavfi -i {BEEP} ");
        }
        line += &format!("-t {seconds} -pix_fmt yuv420p -g 25 -keyint_min 25 ");
        line += match self {
            Clip::H264Aac | Clip::VideoOnly => {
                "-c:v libx264 -preset veryfast -bf 2 -sc_threshold 0 -b:v 600k "
            }
            Clip::Canary => "-c:v libx264 -preset ultrafast -bf 0 -sc_threshold 0 -b:v 150k ",
            Clip::HevcAac => {
                "-c:v libx265 -preset ultrafast -b:v 500k -tag:v hvc1 \
                 -x265-params keyint=25:min-keyint=25:scenecut=0:log-level=none "
            }
            Clip::Av1Opus => "-c:v libsvtav1 -preset 10 -b:v 500k ",
            Clip::AudioOnly => "",
        };
        line += match self {
            Clip::VideoOnly => "",
            Clip::Av1Opus => "-c:a libopus -b:a 96k -ac 2 ",
            _ => "-c:a aac -b:a 96k -ac 2 ",
        };
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// The file; `None` when it cannot be made here, which has been said.
    pub fn file(self) -> Option<PathBuf> {
        static MAKING: Mutex<()> = Mutex::new(());
        let _guard = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = root().join("target/media");
        let file = folder.join(self.file_name());
        if file.is_file() {
            return Some(file);
        }
        let ffmpeg = clients::tool("ffmpeg")?;
        std::fs::create_dir_all(&folder).expect("target/ is writable");
        let part = folder.join(format!("part-{}-{}", std::process::id(), self.file_name()));
        let mut command = Command::new(ffmpeg);
        command.args(["-hide_banner", "-v", "error", "-y"]).args(self.arguments()).arg(&part);
        let made = Process::run("ffmpeg (clip)", command, Duration::from_secs(120));
        if !made.status.success() {
            crate::skip(&format!("ffmpeg cannot make {}: {}", self.file_name(), made.stderr));
            return None;
        }
        std::fs::rename(&part, &file).expect("target/ is writable");
        Some(file)
    }
}

/// The clip as FLV tags, remuxed by ffmpeg 9 (enhanced FourCC for HEVC, AV1 and Opus).
pub fn tags(clip: Clip) -> Option<Vec<Tag>> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let source = clip.file()?;
    // Tests of one process do this at the same time.
    let (process, call) = (std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    let file = root().join(format!("target/media/{clip:?}-{process}-{call}.flv"));
    let mut command = Command::new(clients::ffmpeg9()?);
    command.args(["-hide_banner", "-v", "error", "-y", "-i"]).arg(source);
    command.args(["-c", "copy", "-flvflags", "no_duration_filesize", "-f", "flv"]).arg(&file);
    let made = Process::run("ffmpeg 9 (remux)", command, Duration::from_secs(30));
    assert!(made.status.success(), "{}", made.stderr);
    let bytes = std::fs::read(&file).expect("ffmpeg wrote it");
    let _ = std::fs::remove_file(&file);
    Some(flv::parse(&bytes).expect("ffmpeg writes FLV"))
}

/// How late the beeps come after the flashes in a recording: the median over its seconds, in
/// milliseconds; `None` without both.
pub fn lip_sync(file: &Path) -> Option<f64> {
    let crop = "crop=120:64:16:16,signalstats,\
        metadata=mode=print:key=lavfi.signalstats.YAVG:file=-";
    let level = "asetnsamples=128,astats=metadata=1:reset=1,\
        ametadata=mode=print:key=lavfi.astats.Overall.RMS_level:file=-";
    let flashes = onsets(file, &["-an", "-vf", crop], 128.0)?;
    let beeps = onsets(file, &["-vn", "-af", level], -20.0)?;
    let nearest = |flash: &f64| {
        let offsets = beeps.iter().map(|beep| (beep - flash) * 1000.0);
        offsets.min_by(|a, b| a.abs().total_cmp(&b.abs()))
    };
    let mut offsets: Vec<f64> = flashes.iter().filter_map(nearest).collect();
    offsets.retain(|offset| offset.abs() < 500.0);
    offsets.sort_by(f64::total_cmp);
    offsets.get(offsets.len() / 2).copied()
}

/// Times at which the printed value rises over `threshold`.
fn onsets(file: &Path, filter: &[&str], threshold: f64) -> Option<Vec<f64>> {
    let mut command = Command::new(clients::ffmpeg9()?);
    command.args(["-hide_banner", "-v", "error", "-copyts", "-i"]).arg(file).args(filter);
    command.args(["-f", "null", "-"]);
    let printed = Process::run("ffmpeg (onsets)", command, Duration::from_secs(60)).stdout_text();
    let (mut time, mut above, mut found) = (0.0, true, Vec::new());
    for line in printed.lines() {
        if let Some((_, text)) = line.split_once("pts_time:") {
            time = text.trim().parse().unwrap_or(time);
        } else if let Some((_, text)) = line.split_once('=') {
            let value = text.trim().parse().unwrap_or(f64::NEG_INFINITY);
            if value > threshold && !above {
                found.push(time);
            }
            above = value > threshold;
        }
    }
    Some(found)
}
