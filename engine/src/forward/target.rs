//! From the rules of the policy and the URL of a stream to the servers it is published to.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use protocols::rtmp::client::Credentials;
use protocols::text::{credentials, split_authority, split_query, split_url, split_user};

use crate::policy::{Forward, Policy, Rule};
use crate::pull::masked;

/// Port of RTMP.
const RTMP_PORT: u16 = 1935;
/// What stands for a stream name that may be a key.
const HIDDEN: &str = "***";

/// A live stream as its publisher addressed it.
#[derive(Debug, Clone, Copy)]
pub struct StreamUrl<'a> {
    /// Host, without port; empty if it named none.
    pub host: &'a str,
    /// Port of RTMP that it addressed, if any.
    pub port: Option<u16>,
    /// Vhost of its key; empty for the default one.
    pub vhost: &'a str,
    /// App.
    pub app: &'a str,
    /// Name.
    pub name: &'a str,
}

/// Where one stream is published to.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Server that is dialled.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Within TLS.
    pub tls: bool,
    /// The host of the URL: what a certificate must name.
    pub server_name: String,
    /// App.
    pub app: String,
    /// URL of the app.
    pub tc_url: String,
    /// Stream name and query.
    pub stream: String,
    /// Who publishes, for servers that ask.
    pub credentials: Option<Credentials>,
    /// PEM file of the authorities to trust, instead of those of the configuration.
    pub ca: Option<PathBuf>,
    /// Link-local addresses may be dialled.
    pub local: bool,
    /// For logs and the API: without credentials, and without a name the stream does not have here.
    pub shown: Arc<str>,
}

impl Target {
    /// The same place, whatever else is said about it: it must not be fed twice.
    fn is_same_place(&self, other: &Self) -> bool {
        let name = |target: &Self| split_query(&target.stream).0.to_owned();
        self.host.eq_ignore_ascii_case(&other.host)
            && self.port == other.port
            && self.server_name.eq_ignore_ascii_case(&other.server_name)
            && self.app == other.app
            && name(self) == name(other)
    }

    /// Where the target sends us: another server, perhaps another app, the same stream. `None`: it
    /// is no such URL. Credentials go along only to the same host.
    #[must_use]
    pub fn redirected(&self, url: &str) -> Option<Self> {
        if url.len() > 1024 || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return None;
        }
        let there = Url::parse(url)?;
        // Some name the app, some the stream in it.
        let name = split_query(&self.stream).0;
        let app = there.path.strip_suffix(name).and_then(|app| app.strip_suffix('/'));
        let app = app.unwrap_or(there.path).to_owned();
        if app.is_empty() {
            return None;
        }
        let same = there.host.eq_ignore_ascii_case(&self.server_name) && there.tls >= self.tls;
        Some(Self {
            host: there.host.to_owned(),
            port: there.port.unwrap_or(RTMP_PORT),
            tls: there.tls,
            server_name: there.host.to_owned(),
            tc_url: there.tc_url(&app),
            app,
            credentials: self.credentials.clone().filter(|_| same),
            shown: masked(url).into(),
            ..self.clone()
        })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({} at {}:{})", self.shown, self.host, self.port)
    }
}

/// All targets of a stream, each place once. `is_vhost` says whether a host is a vhost of its own.
#[must_use]
pub fn targets(
    policy: &Policy,
    stream: &StreamUrl,
    is_vhost: &dyn Fn(&str) -> bool,
) -> Vec<Target> {
    let mut found: Vec<Target> = Vec::new();
    let mut add = |target: Option<Target>| {
        if let Some(target) = target
            && !found.iter().any(|known| known.is_same_place(&target))
        {
            found.push(target);
        }
    };
    for rule in &policy.vhosts {
        if let Some((url, name)) = of_app(rule, stream, is_vhost) {
            rule.forward.iter().for_each(|forward| add(app_target(forward, &url, name)));
        }
    }
    for rule in &policy.urls {
        let url = Url::parse(&rule.name).filter(|url| url.has_host_of(stream, is_vhost));
        let same = |url: &Url| url.path == format!("{}/{}", stream.app, stream.name);
        if let Some(url) = url.filter(same) {
            rule.forward.iter().for_each(|forward| add(stream_target(forward, &url, stream)));
        }
    }
    found
}

/// The URL of the rule and the name of the stream below it, if the stream's URL begins with it.
fn of_app<'r>(
    rule: &'r Rule,
    stream: &StreamUrl<'r>,
    is_vhost: &dyn Fn(&str) -> bool,
) -> Option<(Url<'r>, &'r str)> {
    let url = Url::parse(&rule.name).filter(|url| url.has_host_of(stream, is_vhost))?;
    let below = match url.path.split_once('/') {
        None => (url.path == stream.app).then_some(stream.name),
        // A rule may name a part of the names: `live/studio` for `live/studio/1`.
        Some((app, part)) if app == stream.app => {
            stream.name.strip_prefix(part).and_then(|rest| rest.strip_prefix('/'))
        }
        Some(_) => None,
    }?;
    Some((url, below))
}

/// A forward of a whole app: the name is kept.
fn app_target(forward: &Forward, url: &Url, name: &str) -> Option<Target> {
    if forward.rewrite.is_empty() {
        return Some(target(forward, url, url.path, name, false));
    }
    let rewrite = Url::parse(&forward.rewrite)?;
    Some(target(forward, &rewrite, rewrite.path, name, false))
}

/// A forward of one stream: the rewrite is complete, its last part the name.
fn stream_target(forward: &Forward, url: &Url, stream: &StreamUrl) -> Option<Target> {
    if forward.rewrite.is_empty() {
        return Some(target(forward, url, stream.app, stream.name, false));
    }
    let rewrite = Url::parse(&forward.rewrite)?;
    let (app, name) = rewrite.path.rsplit_once('/')?;
    Some(target(forward, &rewrite, app, name, name != stream.name))
}

fn target(forward: &Forward, url: &Url, app: &str, name: &str, secret: bool) -> Target {
    let query = if url.query.is_empty() { String::new() } else { format!("?{}", url.query) };
    let tc_url = url.tc_url(app);
    let shown = format!("{tc_url}/{}", if secret { HIDDEN } else { name });
    Target {
        host: forward.host.host.clone(),
        port: forward.host.port.or(url.port).unwrap_or(RTMP_PORT),
        tls: url.tls,
        server_name: url.host.to_owned(),
        app: app.to_owned(),
        tc_url,
        stream: format!("{name}{query}"),
        credentials: url.credentials(),
        ca: forward.ca.clone(),
        local: forward.local,
        shown: shown.into(),
    }
}

/// A URL of RTMP, taken apart.
#[derive(Debug, Clone, Copy)]
struct Url<'a> {
    tls: bool,
    user: Option<&'a str>,
    authority: &'a str,
    host: &'a str,
    port: Option<u16>,
    /// Without outer slashes.
    path: &'a str,
    query: &'a str,
}

impl<'a> Url<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let (scheme, _) = url.split_once("://")?;
        let tls = match scheme {
            "rtmp" => false,
            "rtmps" => true,
            _ => return None,
        };
        let (authority, path, query) = split_url(url);
        let (user, authority) = split_user(authority);
        let (host, port) = split_authority(authority);
        let path = path.trim_matches('/');
        (!host.is_empty()).then_some(Self { tls, user, authority, host, port, path, query })
    }

    fn tc_url(&self, app: &str) -> String {
        format!("{}://{}/{app}", if self.tls { "rtmps" } else { "rtmp" }, self.authority)
    }

    fn credentials(&self) -> Option<Credentials> {
        let (user, password) = credentials(self.user?);
        Some(Credentials { user, password })
    }

    /// The rule's host is that of the stream. Addresses stand for the vhost they lead to: an inner
    /// and an outer one, and what a publisher without a name used, are the same server.
    fn has_host_of(&self, stream: &StreamUrl, is_vhost: &dyn Fn(&str) -> bool) -> bool {
        let own = self.port.is_none_or(|port| port == stream.port.unwrap_or(RTMP_PORT));
        if !is_address(self.host) && !is_address(stream.host) {
            return own && self.host.eq_ignore_ascii_case(stream.host);
        }
        let vhost = if is_vhost(self.host) { self.host } else { "" };
        own && vhost.eq_ignore_ascii_case(stream.vhost)
    }
}

/// An address, `localhost`, or nothing at all.
fn is_address(host: &str) -> bool {
    host.is_empty()
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::load_str;

    /// The URLs published, each with the server dialled, for a stream `live/sport` that was pushed
    /// to `host`.
    fn published(rules: &str, host: &str, name: &str) -> Vec<String> {
        let policy = load_str("p", &format!("<policy>{rules}</policy>")).unwrap();
        let vhost = if host == "own.example" { host } else { "" };
        let stream = StreamUrl { host, port: None, vhost, app: "live", name };
        targets(&policy, &stream, &|host| host == "own.example")
            .iter()
            .map(|to| format!("{}/{} at {}:{}", to.tc_url, to.stream, to.host, to.port))
            .collect()
    }

    fn app_rule(name: &str, forwards: &str) -> String {
        format!("<vhosts><vhost name='{name}'>{forwards}</vhost></vhosts>")
    }

    fn url_rule(name: &str, forwards: &str) -> String {
        format!("<urls><url name='{name}'>{forwards}</url></urls>")
    }

    const SAME: &str = "<forward rewrite=''>192.0.2.2</forward>";

    #[test]
    fn apps_keep_the_name_and_urls_do_not() {
        let same = "rtmp://www.example.org/live";
        for (rules, expected) in [
            (app_rule(same, SAME), "rtmp://www.example.org/live/sport at 192.0.2.2:1935"),
            (
                app_rule(same, "<forward rewrite='rtmps://x:1936/sport'>192.0.2.3:1936</forward>"),
                "rtmps://x:1936/sport/sport at 192.0.2.3:1936",
            ),
            (
                app_rule(same, "<forward rewrite='rtmp://x:1940/a/b?k=v'>192.0.2.3</forward>"),
                "rtmp://x:1940/a/b/sport?k=v at 192.0.2.3:1940",
            ),
            (
                url_rule("rtmp://www.example.org/live/sport", SAME),
                "rtmp://www.example.org/live/sport at 192.0.2.2:1935",
            ),
            (
                url_rule(
                    "rtmp://www.example.org:1935/live/sport",
                    "<forward rewrite='rtmp://www.espn.com/tv/final?t=1'>54.230.173.30</forward>",
                ),
                "rtmp://www.espn.com/tv/final?t=1 at 54.230.173.30:1935",
            ),
            (
                url_rule(
                    "rtmp://www.example.org/live/sport",
                    "<forward rewrite='rtmp://x/app/instance/key'>[2001:db8::1]:1940</forward>",
                ),
                "rtmp://x/app/instance/key at 2001:db8::1:1940",
            ),
        ] {
            assert_eq!(published(&rules, "www.example.org", "sport"), [expected], "{rules}");
        }
    }

    #[test]
    fn a_rule_matches_the_url_of_the_stream_and_no_other() {
        for (rule, host, name, matches) in [
            ("rtmp://www.example.org/live", "WWW.example.org", "sport", true),
            ("rtmp://www.example.org:1935/live/", "www.example.org", "sport", true),
            ("rtmps://www.example.org/live", "www.example.org", "sport", true),
            ("rtmp://www.example.org:1940/live", "www.example.org", "sport", false),
            ("rtmp://www.example.org/live2", "www.example.org", "sport", false),
            ("rtmp://www.example.org/liv", "www.example.org", "sport", false),
            ("rtmp://other.example/live", "www.example.org", "sport", false),
            // Addresses stand for the server.
            ("rtmp://192.0.2.1/live", "www.example.org", "sport", true),
            ("rtmp://www.example.org/live", "192.0.2.1", "sport", true),
            ("rtmp://192.0.2.1/live", "10.0.0.1", "sport", true),
            ("rtmp://www.example.org/live", "", "sport", true),
            // But not for a vhost of its own.
            ("rtmp://192.0.2.1/live", "own.example", "sport", false),
            ("rtmp://own.example/live", "192.0.2.1", "sport", false),
            ("rtmp://own.example/live", "own.example", "sport", true),
            // A part of the names.
            ("rtmp://www.example.org/live/studio", "www.example.org", "studio/1", true),
            ("rtmp://www.example.org/live/studio", "www.example.org", "studio2/1", false),
        ] {
            let found = published(&app_rule(rule, SAME), host, name);
            assert_eq!(found.len(), usize::from(matches), "{rule} {host} {name}: {found:?}");
        }
        let one = url_rule("rtmp://www.example.org/live/sport", SAME);
        assert_eq!(published(&one, "www.example.org", "sport2").len(), 0);
        let part = app_rule("rtmp://h/live/studio", "<forward rewrite='rtmp://x/tv'>x</forward>");
        assert_eq!(published(&part, "h", "studio/1"), ["rtmp://x/tv/1 at x:1935"]);
    }

    #[test]
    fn several_targets_are_served_and_none_twice() {
        let forwards = "<forward rewrite='rtmp://x/tv'>a</forward>
            <forward rewrite='rtmps://x/tv'>b</forward>
            <forward rewrite='rtmps://X:1935/tv?again=1'>A:1935</forward>
            <forward></forward>";
        let twice = format!(
            "{}{}",
            app_rule("rtmp://h/live", forwards),
            url_rule("rtmp://h/live/sport", "<forward rewrite='rtmp://x/tv/sport'>a</forward>")
        );
        let expected = ["rtmp://x/tv/sport at a:1935", "rtmps://x/tv/sport at b:1935"];
        assert_eq!(published(&twice, "h", "sport"), expected);
    }

    fn one(rewrite: &str) -> Target {
        let forward = format!("<forward rewrite='{rewrite}'>x</forward>");
        let text = format!("<policy>{}</policy>", url_rule("rtmp://h/live/sport", &forward));
        let policy = load_str("p", &text).unwrap();
        let stream = StreamUrl { host: "h", port: None, vhost: "", app: "live", name: "sport" };
        targets(&policy, &stream, &|_| false).remove(0)
    }

    #[test]
    fn keys_and_passwords_are_not_shown() {
        let target = one("rtmp://us%40er:p%3Aw@x/app/s3cr3t-key?token=s3cr3t");
        assert_eq!(&*target.shown, "rtmp://x/app/***");
        assert!(!format!("{target:?}").contains("s3cr3t"));
        let credentials = target.credentials.as_ref().unwrap();
        assert_eq!((&*credentials.user, &*credentials.password), ("us@er", "p:w"));
        assert_eq!(target.tc_url, "rtmp://x/app");
        assert_eq!(&*one("rtmp://x/app/sport").shown, "rtmp://x/app/sport");
    }

    #[test]
    fn redirects_lead_to_another_server_with_the_same_stream() {
        let target = one("rtmp://u:p@x/app/key?t=1");
        let there = target.redirected("rtmp://y:1940/app2").unwrap();
        assert_eq!((&*there.host, there.port, &*there.app), ("y", 1940, "app2"));
        assert_eq!((&*there.tc_url, &*there.stream), ("rtmp://y:1940/app2", "key?t=1"));
        assert_eq!(there.credentials, None);
        let full = target.redirected("rtmp://x/app3/key").unwrap();
        assert_eq!((&*full.app, full.credentials.is_some()), ("app3", true));
        for bad in ["http://y/app", "rtmp://y", "rtmp://y/", "rtmp:///app", "rtmp://y/a b", ""] {
            assert!(target.redirected(bad).is_none(), "{bad}");
        }
    }
}
