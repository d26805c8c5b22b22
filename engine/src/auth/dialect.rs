//! How the authorisation server is asked: path and query of the client's URL, then `type` and
//! `role`, which are ours alone. Pure.
//!
//! | client | question |
//! | ------ | -------- |
//! | `rtmp://…/live/s?user=a&token=b`, publishes | `/live/s?user=a&token=b&type=rtmp&role=publisher` |
//! | `http://…/live/s.flv?token=b` | `/live/s.flv?token=b&type=http&role=player` |
//! | `http://…/api/live` | `/api/live?type=http&role=api` |

use std::fmt;
use std::sync::Arc;

use super::{Question, Via};
use crate::config::auth::Hook;
use protocols::text::{percent_decode, push_byte};

/// Longest question, in bytes.
const BYTES_MAX: usize = 8 * 1024;
/// What a client cannot say of itself.
const RESERVED: [&str; 2] = ["type", "role"];

/// A question of certain rules: what others ask of other servers, or otherwise, is not the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Path and query; they may hold secrets.
    pub text: Arc<str>,
    /// Number of the rules.
    pub rules: u64,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The question as it is sent, by the rules of that number. `None`: it is longer than any that
/// makes sense.
#[must_use]
pub fn target(rules: u64, hook: &Hook, question: &Question) -> Option<Target> {
    let mut out = format!("{}{}", hook.url.path, hook.router);
    question.path.bytes().for_each(|byte| push_byte(&mut out, byte, in_path(byte)));
    out.push('?');
    let kept = question.query.0.split('&').filter(|pair| !pair.is_empty() && !is_reserved(pair));
    for pair in kept {
        push_pair(&mut out, pair);
        out.push('&');
    }
    let by = match question.via {
        Via::Rtmp => "rtmp",
        Via::Rtsp => "rtsp",
        Via::Http if hook.http_as_rtmp => "rtmp",
        Via::Http => "http",
    };
    out += &format!("type={by}&role={}", question.role);
    (out.len() <= BYTES_MAX).then(|| Target { text: out.into(), rules })
}

/// The pair would be read as one of ours: by its name as any server decodes it, in any case, with
/// what some take for an array or cut off (`type[]`, `type%00`).
fn is_reserved(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default().replace('+', " ");
    // Decoded until nothing changes: a proxy in between may have a go at it too.
    let mut name = name;
    while let Some(decoded) = percent_decode(&name).filter(|decoded| *decoded != name) {
        name = decoded;
    }
    let name = name.split(['[', '\0']).next().unwrap_or_default().trim();
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// A pair with escapes as they are; whatever could end it or begin another is escaped.
fn push_pair(out: &mut String, pair: &str) {
    let bytes = pair.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let is_escape = byte == b'%'
            && bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        push_byte(out, byte, is_escape || in_query(byte));
    }
}

fn in_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/!$'()*,:@".contains(&byte)
}

/// `;` is left out: there are servers that take it for `&`.
fn in_query(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/!$'()*,:@=+?".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Query, Role, Roles};
    use crate::config::auth::HookUrl;
    use std::time::Duration;

    fn hook(url: &str, router: &str) -> Hook {
        Hook {
            url: HookUrl::parse(url).expect("a place"),
            router: router.to_owned(),
            timeout: Duration::from_secs(3),
            get: false,
            http_as_rtmp: false,
            roles: Roles::ALL,
            ca: None,
            secret: None,
        }
    }

    fn asked(hook: &Hook, role: Role, via: Via, path: &str, query: &str) -> String {
        let mut question = Question::example(query);
        (question.role, question.via, question.path) = (role, via, path.to_owned());
        target(1, hook, &question).expect("short enough").text.to_string()
    }

    #[test]
    fn every_protocol_and_role_is_asked_as_the_reference_says() {
        let plain = hook("192.168.1.32:8181", "");
        let credentials = "user=admin&token=xqtv312";
        for (role, via, path, query, expected) in [
            (
                Role::Publisher,
                Via::Rtmp,
                "/live/stream",
                credentials,
                "/live/stream?user=admin&token=xqtv312&type=rtmp&role=publisher",
            ),
            (Role::Player, Via::Rtmp, "/live/stream", "", "/live/stream?type=rtmp&role=player"),
            (Role::Publisher, Via::Rtsp, "/rec/a/b", "", "/rec/a/b?type=rtsp&role=publisher"),
            (
                Role::Player,
                Via::Http,
                "/live/stream.m3u8",
                credentials,
                "/live/stream.m3u8?user=admin&token=xqtv312&type=http&role=player",
            ),
            (Role::Api, Via::Http, "/api/config", "", "/api/config?type=http&role=api"),
            (Role::Upload, Via::Http, "/vod/a b.mp4", "", "/vod/a%20b.mp4?type=http&role=upload"),
            (Role::Download, Via::Http, "/vod/路", "", "/vod/%E8%B7%AF?type=http&role=download"),
        ] {
            assert_eq!(asked(&plain, role, via, path, query), expected);
        }
        let routed = hook("http://auth.example/base/", "/api/auth");
        assert_eq!(
            asked(&routed, Role::Player, Via::Rtmp, "/live/s", "a=1"),
            "/base/api/auth/live/s?a=1&type=rtmp&role=player"
        );
        let old = Hook { http_as_rtmp: true, ..plain };
        assert_eq!(
            asked(&old, Role::Player, Via::Http, "/live/s.flv", ""),
            "/live/s.flv?type=rtmp&role=player"
        );
    }

    /// Whatever a client puts there, `type` and `role` are ours and stand once.
    #[test]
    fn a_client_cannot_say_what_it_is() {
        let hook = hook("h", "");
        for (query, kept) in [
            ("user=a&type=rtmp&role=publisher", "user=a"),
            ("role=publisher", ""),
            ("Role=publisher&TYPE=x", ""),
            ("r%6fle=publisher", ""),
            ("r%256fle=publisher", ""),
            ("role[]=a&role[0]=b&role%5B%5D=c&%20role=d&+role=e&role%00x=f", ""),
            ("role", ""),
            ("a=1;role=publisher", "a=1%3Brole=publisher"),
            ("a=b&&c=d&", "a=b&c=d"),
            ("a=%26role%3Dpublisher", "a=%26role%3Dpublisher"),
            ("a=1#&b=2 3\r\nX: y", "a=1%23&b=2%203%0D%0AX:%20y"),
            ("a=100%&b=%zz&c=%41", "a=100%25&b=%25zz&c=%41"),
            ("roles=1&mytype=2", "roles=1&mytype=2"),
            ("a=é", "a=%C3%A9"),
        ] {
            let expected = match kept {
                "" => "/live/stream?type=rtmp&role=player".to_owned(),
                kept => format!("/live/stream?{kept}&type=rtmp&role=player"),
            };
            assert_eq!(asked(&hook, Role::Player, Via::Rtmp, "/live/stream", query), expected);
        }
    }

    #[test]
    fn what_is_too_long_is_not_asked() {
        let mut question = Question::example("");
        question.query = Query("x".repeat(BYTES_MAX));
        assert_eq!(target(1, &hook("h", ""), &question), None);
        question.query = Query("x".repeat(BYTES_MAX / 2));
        let target = target(1, &hook("h", ""), &question).expect("short enough");
        assert_eq!(format!("{target:?}"), "…");
    }
}
