//! What an option is, and the look-ups in the table of all options.
//!
//! [`table()`] is the only place that knows names, types, defaults and bounds. Parser, checks,
//! reference text and reload rules are derived from it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::auth::HookUrl;
use super::error::Problem;
use super::model::{Cores, HostPort, MergeWindow};
use super::units;
use crate::auth::Role;

pub use super::mask::Shown;
pub use super::table::{SECTIONS, table};

/// One option of `config.xml`.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// `section/element` or `section/element@attribute`.
    pub path: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// The default, written as in the file.
    pub default: &'static str,
    /// Unit of the value for the reader, or empty.
    pub unit: &'static str,
    /// Whether a reload may change it; the others need a restart.
    pub reloadable: bool,
    /// May stand several times in its section.
    pub repeatable: bool,
    /// How much of its value anybody is shown.
    pub shown: Shown,
    /// Other paths that mean the same.
    pub aliases: &'static [&'static str],
    /// What this build does with it.
    pub support: Support,
    /// One line of documentation.
    pub doc: &'static str,
}

/// What this build does with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Honours it.
    Yes,
    /// Accepts it without effect: something here replaces it.
    Legacy,
    /// Accepts it, warns if it is set away from its default: the named feature is missing.
    Absent(&'static str),
    /// Refuses to start if it is set away from its default, with this sentence.
    Refuse(&'static str),
}

/// Type and bounds of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// Whole number within bounds.
    Int(u64, u64),
    /// Port, 0–65535.
    Port,
    /// Address literal or empty.
    Ip,
    /// Range of IPv4 multicast groups or empty.
    Groups,
    /// Milliseconds within bounds.
    Millis(u32, u32),
    /// Seconds within bounds.
    Seconds(u32, u32),
    /// Minutes within bounds.
    Minutes(u32, u32),
    /// Any text without control characters.
    Text,
    /// File or folder.
    Path,
    /// Name of an app: one path segment.
    App,
    /// Comma list of short names.
    Names,
    /// Comma list of a few different endings of names.
    Endings,
    /// Comma list of address ranges, or `*`.
    Networks,
    /// Comma list of roles.
    Roles,
    /// Where an authorisation server is, or empty.
    AuthUrl,
    /// Beginning of the path of an URL, or empty.
    UrlPath,
    /// Comma list of `app/name` with `*` for any text.
    Patterns,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Host with optional port, or empty.
    HostPort,
    /// Host name or address, or empty.
    Host,
    /// `http://` or `https://` URL, or empty.
    HttpUrl,
    /// Merge window.
    Window,
    /// Cores.
    Cores,
    /// Log filter.
    Log,
    /// Any content, for sections whose elements are not defined here.
    Opaque,
}

/// A checked value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Int`] and [`Kind::Port`].
    Int(u64),
    /// Of [`Kind::Ip`].
    Ip(Option<IpAddr>),
    /// Of [`Kind::Groups`]: the first and the last.
    Groups(Option<(Ipv4Addr, Ipv4Addr)>),
    /// Of [`Kind::Millis`], [`Kind::Seconds`] and [`Kind::Minutes`].
    Time(Duration),
    /// Of the text kinds.
    Text(String),
    /// Of the list kinds.
    List(Vec<String>),
    /// Of [`Kind::HostPort`].
    HostPort(Option<HostPort>),
    /// Of [`Kind::Window`].
    Window(MergeWindow),
    /// Of [`Kind::Cores`].
    Cores(Cores),
}

impl Opt {
    /// It is an attribute of an element that may stand several times: what it means depends on the
    /// others of its element, so that it cannot be written by itself.
    #[must_use]
    pub fn is_of_group(&self) -> bool {
        self.repeatable && self.path.contains('@')
    }

    /// Checks a text against type and bounds; empty means the default.
    pub fn parse(&self, text: &str) -> Result<Value, Problem> {
        let text = if text.is_empty() { self.default } else { text };
        let value = self.kind.parse(text);
        let shown = if self.shown.hides() { "…" } else { text };
        value.ok_or_else(|| Problem::value(shown, self.kind.wanted(self.unit)))
    }

    /// The section the option stands in; empty for elements right under the root.
    pub fn section(&self) -> &'static str {
        let element = self.path.split('@').next().unwrap_or_default();
        element.rsplit_once('/').map_or("", |(section, _)| section)
    }
}

impl Kind {
    fn parse(self, text: &str) -> Option<Value> {
        let plain = text.len() <= 1024 && !text.chars().any(char::is_control);
        let optional_text = |found: Option<String>| {
            if text.is_empty() { Some(String::new()) } else { found }.map(Value::Text)
        };
        match self {
            Self::Bool => units::boolean(text).map(Value::Bool),
            Self::Int(min, max) => units::integer(text, min, max).map(Value::Int),
            Self::Port => units::integer(text, 0, 65_535).map(Value::Int),
            Self::Ip => units::ip(text).map(Value::Ip),
            Self::Groups if text.is_empty() => Some(Value::Groups(None)),
            Self::Groups => units::groups(text).map(|range| Value::Groups(Some(range))),
            Self::Millis(min, max) => units::duration(text, 1, min, max).map(Value::Time),
            Self::Seconds(min, max) => units::duration(text, 1000, min, max).map(Value::Time),
            Self::Minutes(min, max) => units::duration(text, 60_000, min, max).map(Value::Time),
            Self::Text | Self::Path | Self::Opaque => plain.then(|| Value::Text(text.to_owned())),
            Self::App => name(text).then(|| Value::Text(text.to_owned())),
            Self::Names => {
                let names = units::list(text);
                names.iter().all(|entry| name(entry)).then_some(Value::List(names))
            }
            Self::Endings => {
                let names = units::list(text);
                let distinct: BTreeSet<&String> = names.iter().collect();
                let few = distinct.len() == names.len() && names.len() <= ENDINGS_MAX;
                (few && names.iter().all(|entry| name(entry))).then_some(Value::List(names))
            }
            Self::Networks => {
                let entries = units::list(text);
                let known = |entry: &String| entry == "*" || units::network(entry).is_some();
                entries.iter().all(known).then_some(Value::List(entries))
            }
            Self::Patterns => {
                let entries = units::list(text);
                let plain = entries.iter().all(|entry| pattern(entry)) && plain;
                plain.then_some(Value::List(entries))
            }
            Self::Roles => {
                let roles = units::list(text);
                let known = roles.iter().all(|role| Role::parse(role).is_some());
                known.then_some(Value::List(roles))
            }
            Self::AuthUrl => {
                optional_text(HookUrl::parse(text).map(|_| text.to_owned()).filter(|_| plain))
            }
            Self::UrlPath => optional_text(url_path(text).then(|| text.to_owned())),
            Self::OneOf(words) => words.contains(&text).then(|| Value::Text(text.to_owned())),
            Self::HostPort if text.is_empty() => Some(Value::HostPort(None)),
            Self::HostPort => units::host_port(text).map(|host| Value::HostPort(Some(host))),
            Self::Host => optional_text(units::host(text)),
            Self::HttpUrl => {
                (text.is_empty() || http_url(text)).then(|| Value::Text(text.to_owned()))
            }
            Self::Window => units::window(text).map(Value::Window),
            Self::Cores => units::cores(text).map(Value::Cores),
            Self::Log => log_filter(text).then(|| Value::Text(text.to_owned())),
        }
    }

    /// What is allowed, for errors (`"x" is not …`) and for the reference text.
    pub fn wanted(self, unit: &str) -> String {
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Int(min, max) => format!("a whole number, allowed {min}–{max}{unit}"),
            Self::Port => "a port, allowed 0–65535".to_owned(),
            Self::Ip => "an IPv4 or IPv6 address or empty".to_owned(),
            Self::Groups => {
                "IPv4 multicast groups as first-last, such as 239.255.0.1-239.255.0.254, or empty"
                    .to_owned()
            }
            Self::Millis(min, max) | Self::Seconds(min, max) | Self::Minutes(min, max) => {
                format!("a number, allowed {min}–{max}{unit}")
            }
            Self::Text | Self::Opaque => "text of at most 1024 bytes on one line".to_owned(),
            Self::Path => "a path of at most 1024 bytes".to_owned(),
            Self::App => "a name of 1–64 letters, digits, dot, dash and underscore".to_owned(),
            Self::Names => "a comma list of names, or none".to_owned(),
            Self::Endings => {
                format!("a comma list of at most {ENDINGS_MAX} different endings of names, or none")
            }
            Self::Networks => "a comma list of addresses or address/bits, *, or none".to_owned(),
            Self::Roles => {
                let names = Role::ALL.map(Role::name).join(", ");
                format!("a comma list of {names}, or empty")
            }
            Self::AuthUrl => "host:port, an http:// or https:// URL without user, query and \
                fragment, or empty"
                .to_owned(),
            Self::UrlPath => "a path such as /api/auth, or empty".to_owned(),
            Self::Patterns => "a comma list of app/name, * for any text, or none".to_owned(),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::HostPort => "a host with an optional :port, or empty".to_owned(),
            Self::Host => "a host name or address".to_owned(),
            Self::HttpUrl => "an http:// or https:// URL, or empty".to_owned(),
            Self::Window => {
                format!("milliseconds as 0–{0} or fixed:0–{0}", units::WINDOW_MS_MAX)
            }
            Self::Cores => format!(
                "auto, a count 1–{}, or a list of CPUs such as 0,2,4-7 or [3]",
                units::CORES_MAX
            ),
            Self::Log => {
                "off, error, warn, info, debug, trace, or a list of module=level".to_owned()
            }
        }
    }
}

/// Renditions of one stream: each costs a question to a shard when a playlist is asked for.
const ENDINGS_MAX: usize = 8;

/// One path segment that needs no escaping anywhere and is not a dot entry.
fn name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(known) && !text.bytes().all(|b| b == b'.')
}

/// `/` and path segments of characters that need no escaping.
pub(super) fn url_path(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte);
    text.len() <= 256 && text.starts_with('/') && text.bytes().all(known)
}

/// `app/name` of streams, with at most eight `*`.
fn pattern(text: &str) -> bool {
    let parts = text.split_once('/').is_some_and(|(app, name)| !app.is_empty() && !name.is_empty());
    parts && text.matches('*').count() <= 8
}

/// `http[s]://[user:password@]host[:port][/path][?query]`.
fn http_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let visible = text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic());
    rest.filter(|_| visible && !text.contains('#')).is_some_and(|rest| {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        units::host_port(host).is_some()
    })
}

/// Levels and `module=level` pairs; a misspelt level must not become a module name.
fn log_filter(text: &str) -> bool {
    let level = |text: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.contains(&text.to_ascii_lowercase().as_str())
    };
    text.len() <= 1024
        && text.split(',').map(str::trim).all(|directive| match directive.rsplit_once('=') {
            Some((module, word)) => !module.is_empty() && level(word),
            None => level(directive),
        })
}

/// The option with this path or alias.
pub fn find(path: &str) -> Option<&'static Opt> {
    table().find(|opt| opt.path == path || opt.aliases.contains(&path))
}

/// Whether options stand below this path.
pub fn is_section(path: &str) -> bool {
    let below =
        |known: &str| known.strip_prefix(path).is_some_and(|rest| rest.starts_with(['/', '@']));
    table().any(|opt| below(opt.path) || opt.aliases.iter().any(|alias| below(alias)))
}

/// Whether this element may stand several times.
pub fn is_repeatable(path: &str) -> bool {
    table().any(|opt| opt.repeatable && opt.path.split('@').next() == Some(path))
}

/// The known path most like an unknown one: the same name elsewhere, or a few letters away.
pub fn nearest(path: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit(['/', '@']).next().unwrap_or_default().to_lowercase();
    let wanted: String = last(path).chars().take(40).collect();
    let section = path.rsplit_once(['/', '@']).map_or("", |(section, _)| section);
    let names = table().map(|opt| opt.path).chain(SECTIONS.iter().map(|(name, _)| *name));
    let scored = names.filter(|known| !known.is_empty()).map(|known| {
        let same_section = known.rsplit_once(['/', '@']).map_or("", |(s, _)| s) == section;
        let away = distance(&wanted, &last(known));
        let longer = last(known).chars().count().abs_diff(wanted.chars().count());
        ((away * 2 + usize::from(!same_section), longer), known, away, same_section)
    });
    let (_, known, away, same) = scored.min_by_key(|entry| entry.0)?;
    let close = away * 3 <= wanted.chars().count().max(3);
    (away == 0 || (same && close)).then_some(known)
}

/// Edits between two words: insert, delete, replace, or swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            let mut best =
                (above[j - 1] + usize::from(!same)).min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        let mut seen = BTreeSet::new();
        for opt in table() {
            for path in opt.aliases.iter().chain([&opt.path]) {
                assert!(seen.insert(*path), "{path} stands twice");
            }
            assert!(opt.parse("").is_ok(), "{}: default {:?}", opt.path, opt.default);
            assert!(!opt.doc.is_empty() && !opt.doc.contains("--"), "{}", opt.path);
            let section = opt.section().split('/').next().unwrap_or_default();
            assert!(SECTIONS.iter().any(|(name, _)| *name == section), "{}", opt.path);
        }
    }

    #[test]
    fn nearest_names_help_and_do_not_guess_wildly() {
        for (path, expected) in [
            ("rtmp/chunksise", Some("rtmp/chunksize")),
            ("http/chunksize", Some("rtmp/chunksize")),
            ("rtmp/Port", Some("rtmp/port")),
            ("rtpm", Some("rtmp")),
            ("rtmp/wibble", None),
        ] {
            assert_eq!(nearest(path), expected, "{path}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
