//! House rules that no compiler checks: file heads and sizes, where `unsafe` and clocks may be,
//! names, the top folder.

use std::path::Path;
use std::process::Command;

use tests::root;

/// Most lines of a file before its test module.
const PRODUCTION_LINES_MAX: usize = 1000;

/// File stems that say nothing.
const BANNED_STEMS: [&str; 8] =
    ["utils", "util", "common", "helper", "helpers", "manager", "misc", "define"];

/// What may lie in the top folder besides dot files.
const TOP: [&str; 11] = [
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "config.xml",
    "engine",
    "perf",
    "policy.xml",
    "protocols",
    "scripts",
    "target",
    "tests",
];

/// Files and the first lines of their test modules cut off, with their text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The text before an inline test module.
    fn production(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
    }

    /// Production lines without comments, numbered.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.production().lines().enumerate();
        lines.filter_map(|(number, line)| {
            let code = line.split("//").next().unwrap_or_default();
            (!code.trim().is_empty()).then_some((number + 1, code))
        })
    }
}

#[test]
fn each_file_opens_with_its_purpose() {
    let faults = rust_files().into_iter().filter(|file| !file.text.starts_with("//!"));
    report("the first line is no `//!`", faults.map(|file| file.path));
}

#[test]
fn no_file_is_too_long() {
    let faults = rust_files().into_iter().filter_map(|file| {
        let lines = file.production().lines().count();
        (lines > PRODUCTION_LINES_MAX).then(|| format!("{}: {lines}", file.path))
    });
    report("too many production lines", faults);
}

#[test]
fn raw_code_stays_where_it_is_reviewed() {
    let may = |path: &str| {
        let egress = path.starts_with("engine/src/plane/") && path.contains("egress");
        let calls = path.starts_with("engine/src/net/sys") || path.starts_with("perf/src/sys");
        let listed = ["engine/src/net/preflight.rs", "tests/harness/sys.rs"];
        egress || calls || listed.contains(&path)
    };
    let word = |code: &str| {
        let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| word == concat!("un", "safe"))
    };
    let files = rust_files().into_iter().filter(|file| !may(&file.path));
    report("raw code outside its files", files.flat_map(|file| find(&file, word)));
}

#[test]
fn protocols_know_no_clock_and_no_io() {
    let banned = [
        "Instant::now",
        "SystemTime::now",
        "std::net::",
        "std::fs",
        "std::io::",
        "glommio",
        "tokio",
    ];
    let allowed = ["std::net::IpAddr", "std::net::SocketAddr"];
    let hits = |code: &str| {
        let code = allowed.iter().fold(code.to_owned(), |code, name| code.replace(name, ""));
        banned.iter().any(|word| code.contains(word))
    };
    // The one base of virtual time is made there.
    let base = "protocols/src/fuzzing.rs";
    let files = rust_files().into_iter();
    let files = files.filter(|file| file.path.starts_with("protocols/src/") && file.path != base);
    report("a protocol with clock or IO", files.flat_map(|file| find(&file, hits)));
}

#[test]
fn no_file_name_says_nothing() {
    let banned = |path: &String| {
        let stem = Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        BANNED_STEMS.contains(&stem.as_str())
    };
    report("a name that says nothing", tracked().into_iter().filter(banned));
}

#[test]
fn the_top_folder_is_as_documented() {
    // Tracked names only: a server that ran here leaves folders of its own.
    let top = |path: String| path.split('/').next().unwrap_or_default().to_owned();
    let names: std::collections::BTreeSet<_> = tracked().into_iter().map(top).collect();
    let known = |name: &String| {
        name.starts_with('.') || name.starts_with("LICENSE") || TOP.contains(&name.as_str())
    };
    report("not part of the layout", names.into_iter().filter(|name| !known(name)));
    let missing = |name: &&str| *name != "target" && !root().join(name).exists();
    report("missing in the top folder", TOP.into_iter().filter(missing).map(str::to_owned));
}

#[test]
fn no_path_of_one_machine_is_kept() {
    let banned = ["/work", "/root"].map(|folder| format!("{folder}/"));
    let faults = tracked().into_iter().filter(|path| {
        let bytes = std::fs::read(root().join(path)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        banned.iter().any(|folder| text.contains(folder.as_str()))
    });
    report("a path of one machine", faults);
}

fn find(file: &Source, hit: impl Fn(&str) -> bool) -> Vec<String> {
    let hits = file.code().filter(|(_, code)| hit(code));
    hits.map(|(number, code)| format!("{}:{number}: {}", file.path, code.trim())).collect()
}

fn report(what: &str, faults: impl Iterator<Item = String>) {
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

fn rust_files() -> Vec<Source> {
    let paths = tracked().into_iter();
    let paths = paths.filter(|path| Path::new(path).extension().is_some_and(|end| end == "rs"));
    let read = |path: String| {
        let text = std::fs::read_to_string(root().join(&path)).ok()?;
        Some(Source { path, text })
    };
    paths.filter_map(read).collect()
}

/// Files of the repository: tracked, or new and not ignored.
fn tracked() -> Vec<String> {
    let mut command = Command::new("git");
    command
        .args(["-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root());
    let listed = command.output().expect("git lists the files");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
}
