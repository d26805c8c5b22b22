//! `policy.xml`: its rules as JSON, and the same text with other rules. A rule that stays is not
//! touched, nor is what stands around it.

use std::ops::Range;

use quick_xml::escape::escape;

use super::model::{ForwardTarget, PolicyDocument, PullRule, UrlRule, VhostRule};
use super::problem::Problem;
use super::{Answer, Call, body, configuration, json};
use crate::config::xml::{self, Element};
use crate::config::{Markup, mask_url, masked_back};
use crate::reload::ReloadError;

/// The text of a policy without rules.
const EMPTY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<policy>\n</policy>\n";

pub(super) fn get(call: &Call<'_>) -> Result<Answer, Problem> {
    let accepted = configuration::reloader(&*call.ctx.backend)?.accepted();
    json(&shown(&accepted.policy_text))
}

pub(super) async fn put(call: &Call<'_>, text: &[u8]) -> Result<Answer, Problem> {
    let change: PolicyDocument = body::parse(text)?;
    let reloader = configuration::reloader(&*call.ctx.backend)?;
    let write = move || reloader.write_policy(|old| edited(old, &change));
    configuration::report(&*glommio::executor().spawn_blocking(write).await)
}

/// The rules of a text that has been accepted, without keys and credentials.
pub(crate) fn shown(text: &str) -> PolicyDocument {
    let groups = Groups::read(text);
    let masked = |forward: Vec<ForwardTarget>, last_is_key| {
        let mask = |target: ForwardTarget| ForwardTarget {
            rewrite: mask_url(&target.rewrite, last_is_key),
            ..target
        };
        forward.into_iter().map(mask).collect()
    };
    let vhost = |rule: VhostRule| VhostRule { forward: masked(rule.forward, false), ..rule };
    let url = |rule: UrlRule| UrlRule { forward: masked(rule.forward, true), ..rule };
    let pull = |rule: PullRule| PullRule { url: mask_url(&rule.url, false), ..rule };
    PolicyDocument {
        vhosts: Some(groups.vhosts.into_iter().map(|(_, rule)| vhost(rule)).collect()),
        urls: Some(groups.urls.into_iter().map(|(_, rule)| url(rule)).collect()),
        pulls: Some(groups.pulls.into_iter().map(|(_, rule)| pull(rule)).collect()),
    }
}

/// The text with other rules. What comes back as it was shown is what it was.
pub(crate) fn edited(text: &str, change: &PolicyDocument) -> Result<String, ReloadError> {
    let text = if text.is_empty() { EMPTY } else { text };
    let mut text = text.to_owned();
    if let Some(new) = &change.vhosts {
        let old = Groups::read(&text).vhosts;
        let back = |rule: &VhostRule, old: Option<&VhostRule>| VhostRule {
            forward: targets_back(&rule.forward, old.map(|old| old.forward.as_slice()), false),
            ..rule.clone()
        };
        text = replaced(&text, "vhosts", old, new, |rule| &rule.vhost, back);
    }
    if let Some(new) = &change.urls {
        let old = Groups::read(&text).urls;
        let back = |rule: &UrlRule, old: Option<&UrlRule>| UrlRule {
            forward: targets_back(&rule.forward, old.map(|old| old.forward.as_slice()), true),
            ..rule.clone()
        };
        text = replaced(&text, "urls", old, new, |rule| &rule.url, back);
    }
    if let Some(new) = &change.pulls {
        let old = Groups::read(&text).pulls;
        let back = |rule: &PullRule, old: Option<&PullRule>| {
            let known: Vec<&str> = old.iter().map(|old| old.url.as_str()).collect();
            let mask = |url: &str| mask_url(url, false);
            let url = masked_back(std::slice::from_ref(&rule.url), &known, mask).concat();
            PullRule { url, ..rule.clone() }
        };
        text = replaced(&text, "pulls", old, new, |rule| &rule.stream, back);
    }
    Ok(text)
}

fn targets_back(
    new: &[ForwardTarget],
    old: Option<&[ForwardTarget]>,
    last_is_key: bool,
) -> Vec<ForwardTarget> {
    let known: Vec<&str> =
        old.into_iter().flatten().map(|target| target.rewrite.as_str()).collect();
    let shown: Vec<String> = new.iter().map(|target| target.rewrite.clone()).collect();
    let rewrites = masked_back(&shown, &known, |url| mask_url(url, last_is_key));
    let with =
        |(target, rewrite): (&ForwardTarget, String)| ForwardTarget { rewrite, ..target.clone() };
    new.iter().zip(rewrites).map(with).collect()
}

/// One rule of a group.
trait Rule: Clone + PartialEq {
    /// As an element.
    fn render(&self) -> String;
}

/// A text with other rules in one group.
fn replaced<R: Rule>(
    text: &str,
    group: &str,
    old: Vec<(Range<usize>, R)>,
    new: &[R],
    name: impl Fn(&R) -> &String,
    back: impl Fn(&R, Option<&R>) -> R,
) -> String {
    let mut left: Vec<(Range<usize>, R)> = old;
    let mut edits = Vec::new();
    let mut added = Vec::new();
    for rule in new {
        let at = left.iter().position(|(_, old)| name(old) == name(rule));
        let known = at.map(|at| left.remove(at));
        let rule = back(rule, known.as_ref().map(|(_, old)| old));
        match known {
            Some((_, old)) if old == rule => {}
            Some((span, _)) => edits.push((span, rule.render())),
            None => added.push(rule.render()),
        }
    }
    let markup = Markup::scan(text);
    edits.extend(left.into_iter().map(|(span, _)| (markup.line_of(span), String::new())));
    let text = markup.replace(edits);
    added.iter().fold(text, |text, element| Markup::scan(&text).insert(group, element))
}

/// The rules of a text with their places.
#[derive(Default)]
struct Groups {
    vhosts: Vec<(Range<usize>, VhostRule)>,
    urls: Vec<(Range<usize>, UrlRule)>,
    pulls: Vec<(Range<usize>, PullRule)>,
}

impl Groups {
    /// Placeholders are left out.
    fn read(text: &str) -> Self {
        let mut groups = Self::default();
        // It has been accepted, or is empty.
        let Ok(root) = xml::parse("policy.xml", text, "policy") else { return groups };
        let markup = Markup::scan(text);
        for group in &root.children {
            for path in ["vhost", "url", "pull"] {
                let elements = group.children.iter().filter(|element| element.name == path);
                let place = format!("{}/{path}", group.name);
                let spans: Vec<_> = markup.elements(&place).map(|node| node.span()).collect();
                for (element, span) in elements.zip(spans) {
                    groups.add(element, span);
                }
            }
        }
        groups
    }

    fn add(&mut self, element: &Element, span: Range<usize>) {
        let value = |name: &str| element.attribute(name).to_owned();
        let targets = element.children.iter().filter(|target| !target.text.is_empty());
        let forward: Vec<ForwardTarget> = targets
            .map(|target| ForwardTarget {
                rewrite: target.attribute("rewrite").to_owned(),
                host: target.text.clone(),
                ca: target.attribute("ca").to_owned(),
                local: target.attribute("local").to_owned(),
            })
            .collect();
        match element.name.as_str() {
            "vhost" if !value("name").is_empty() => {
                self.vhosts.push((span, VhostRule { vhost: value("name"), forward }));
            }
            "url" if !value("name").is_empty() => {
                self.urls.push((span, UrlRule { url: value("name"), forward }));
            }
            "pull" if !value("url").is_empty() && !value("stream").is_empty() => {
                let rule = PullRule {
                    url: value("url"),
                    stream: value("stream"),
                    when: value("when"),
                    transport: value("transport"),
                    linger: value("linger"),
                    play: value("play"),
                    ca: value("ca"),
                    local: value("local"),
                };
                self.pulls.push((span, rule));
            }
            _ => {}
        }
    }
}

/// Those that say something.
fn attributes(list: &[(&str, &String)]) -> String {
    let given = list.iter().filter(|(_, value)| !value.is_empty());
    given.map(|(name, value)| format!(" {name}=\"{}\"", escape(value.as_str()))).collect()
}

fn render_forwards(element: &str, name: &str, forward: &[ForwardTarget]) -> String {
    let mut text = format!("<{element} name=\"{}\">", escape(name));
    for target in forward {
        let (rewrite, host) = (escape(&target.rewrite), escape(&target.host));
        let more = attributes(&[("ca", &target.ca), ("local", &target.local)]);
        text += &format!("\n  <forward rewrite=\"{rewrite}\"{more}>{host}</forward>");
    }
    text + &format!("\n</{element}>")
}

impl Rule for VhostRule {
    fn render(&self) -> String {
        render_forwards("vhost", &self.vhost, &self.forward)
    }
}

impl Rule for UrlRule {
    fn render(&self) -> String {
        render_forwards("url", &self.url, &self.forward)
    }
}

impl Rule for PullRule {
    fn render(&self) -> String {
        let Self { url, stream, when, transport, linger, play, ca, local } = self;
        let mut text = format!("<pull url=\"{}\" stream=\"{}\"", escape(url), escape(stream));
        text += &attributes(&[
            ("when", when),
            ("transport", transport),
            ("linger", linger),
            ("play", play),
            ("ca", ca),
            ("local", local),
        ]);
        text + "/>"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "<policy>\n  <!-- cameras -->\n  <pulls>\n    \
        <pull url=\"rtsp://u:secret@cam/1?token=secret\" stream=\"live/a\"/> <!-- hall -->\n    \
        <pull url=\"\" stream=\"\"/>\n  </pulls>\n  <vhosts/>\n  <urls>\n    \
        <url name=\"rtmp://h/live/x\">\n      \
        <forward rewrite=\"rtmps://a/live2/secret\">192.0.2.1</forward>\n    </url>\n  </urls>\n\
        </policy>\n";

    #[test]
    fn what_is_shown_holds_no_secret_and_comes_back_as_it_was() {
        let document = shown(FILE);
        let text = serde_json::to_string(&document).unwrap();
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(document.pulls.as_ref().unwrap()[0].url, "rtsp://***@cam/1?***");
        assert_eq!(document.urls.as_ref().unwrap()[0].forward[0].rewrite, "rtmps://a/live2/***");
        assert_eq!(edited(FILE, &document).unwrap(), FILE);
        assert_eq!(edited(FILE, &PolicyDocument::default()).unwrap(), FILE);
    }

    #[test]
    fn a_change_touches_its_rule_only() {
        let mut document = shown(FILE);
        document.pulls.as_mut().unwrap()[0].linger = "7".to_owned();
        let text = edited(FILE, &document).unwrap();
        let added = FILE.replace("stream=\"live/a\"/>", "stream=\"live/a\" linger=\"7\"/>");
        assert_eq!(text, added);
        document.pulls = Some(Vec::new());
        document.vhosts = Some(vec![VhostRule {
            vhost: "rtmp://h/live".to_owned(),
            forward: vec![ForwardTarget { host: "a&b".to_owned(), ..Default::default() }],
        }]);
        let text = edited(FILE, &document).unwrap();
        assert!(!text.contains("cam/1") && text.contains("<!-- cameras -->"), "{text}");
        let again = shown(&text);
        assert_eq!(again.pulls, Some(Vec::new()));
        assert_eq!(again.vhosts, document.vhosts, "{text}");
        assert!(text.contains("live2/secret"), "{text}");
    }

    #[test]
    fn a_policy_can_be_begun_from_nothing() {
        let rule = PullRule {
            url: "rtmp://h/live/x".to_owned(),
            stream: "live/x".to_owned(),
            ..PullRule::default()
        };
        let change = PolicyDocument { pulls: Some(vec![rule.clone()]), ..Default::default() };
        let text = edited("", &change).unwrap();
        assert_eq!(shown(&text).pulls, Some(vec![rule]), "{text}");
        assert!(crate::policy::load_str("p.xml", &text).is_ok(), "{text}");
    }
}
