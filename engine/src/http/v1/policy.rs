//! `policy.xml`: its rules as JSON, and the same text with other rules. A rule that stays is not
//! touched, nor is what stands around it.

use std::ops::Range;

use super::model::{
    ForwardTarget, Origin, OriginsRule, PolicyDocument, PullRule, UrlRule, VhostRule,
};
use super::policy_rule::Rule;
use super::problem::Problem;
use super::{Answer, Call, body, configuration, json};
use crate::config::Markup;
use crate::config::xml::{self, Element};
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
    fn all<R: Rule>(rules: Vec<(Range<usize>, R)>) -> Option<Vec<R>> {
        Some(rules.iter().map(|(_, rule)| rule.shown()).collect())
    }
    let Groups { vhosts, urls, pulls, origins } = Groups::read(text);
    PolicyDocument {
        vhosts: all(vhosts),
        urls: all(urls),
        pulls: all(pulls),
        origins: all(origins),
    }
}

/// The text with other rules. What comes back as it was shown is what it was.
///
/// # Errors
/// It cannot be told what that was.
pub(crate) fn edited(text: &str, change: &PolicyDocument) -> Result<String, ReloadError> {
    let text = if text.is_empty() { EMPTY } else { text };
    let mut text = text.to_owned();
    if let Some(new) = &change.vhosts {
        let old = Groups::read(&text).vhosts;
        text = replaced(&text, "vhosts", old, new)?;
    }
    if let Some(new) = &change.urls {
        let old = Groups::read(&text).urls;
        text = replaced(&text, "urls", old, new)?;
    }
    if let Some(new) = &change.pulls {
        let old = Groups::read(&text).pulls;
        text = replaced(&text, "pulls", old, new)?;
    }
    if let Some(new) = &change.origins {
        let old = Groups::read(&text).origins;
        // Each is a group of its own.
        text = replaced(&text, "", old, new)?;
    }
    Ok(text)
}

/// A text with other rules in one group.
fn replaced<R: Rule>(
    text: &str,
    group: &str,
    old: Vec<(Range<usize>, R)>,
    new: &[R],
) -> Result<String, ReloadError> {
    let mut left: Vec<(Range<usize>, R)> = old;
    let mut edits = Vec::new();
    let mut added = Vec::new();
    for rule in new {
        let at = left.iter().position(|(_, old)| old.name() == rule.name());
        let known = at.map(|at| left.remove(at));
        let nothing = R::default();
        let rule = rule.back(known.as_ref().map_or(&nothing, |(_, old)| old)).map_err(|why| {
            ReloadError::Refused(format!("{}: {why}", crate::conn::escape(rule.name())))
        })?;
        match known {
            Some((_, old)) if old == rule => {}
            Some((span, _)) => edits.push((span, rule.render())),
            None => added.push(rule.render()),
        }
    }
    let markup = Markup::scan(text);
    edits.extend(left.into_iter().map(|(span, _)| (markup.line_of(span), String::new())));
    let text = markup.replace(edits);
    Ok(added.iter().fold(text, |text, element| Markup::scan(&text).insert(group, element)))
}

/// The rules of a text with their places.
#[derive(Default)]
struct Groups {
    vhosts: Vec<(Range<usize>, VhostRule)>,
    urls: Vec<(Range<usize>, UrlRule)>,
    pulls: Vec<(Range<usize>, PullRule)>,
    origins: Vec<(Range<usize>, OriginsRule)>,
}

impl Groups {
    /// Placeholders are left out.
    fn read(text: &str) -> Self {
        let mut groups = Self::default();
        // It has been accepted, or is empty.
        let Ok(root) = xml::parse("policy.xml", text, "policy") else { return groups };
        let markup = Markup::scan(text);
        let spans =
            |path: &str| -> Vec<_> { markup.elements(path).map(|node| node.span()).collect() };
        let of_apps = root.children.iter().filter(|group| group.name == "origins");
        for (group, span) in of_apps.zip(spans("origins")) {
            groups.add_origins(group, span);
        }
        for group in &root.children {
            for path in ["vhost", "url", "pull"] {
                let elements = group.children.iter().filter(|element| element.name == path);
                let place = format!("{}/{path}", group.name);
                for (element, span) in elements.zip(spans(&place)) {
                    groups.add(element, span);
                }
            }
        }
        groups
    }

    fn add_origins(&mut self, group: &Element, span: Range<usize>) {
        let value = |name: &str| group.attribute(name).to_owned();
        let urls = group.children.iter().map(|origin| origin.attribute("url").to_owned());
        let rule = OriginsRule {
            app: value("app"),
            origins: urls.filter(|url| !url.is_empty()).map(|url| Origin { url }).collect(),
            linger: value("linger"),
            transport: value("transport"),
            ca: value("ca"),
            local: value("local"),
        };
        if !rule.app.is_empty() && !rule.origins.is_empty() {
            self.origins.push((span, rule));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "<policy>\n  <!-- cameras -->\n  <pulls>\n    \
        <pull url=\"rtsp://u:secret@cam/1?token=secret\" stream=\"live/a\"/> <!-- hall -->\n    \
        <pull url=\"\" stream=\"\"/>\n  </pulls>\n  <vhosts/>\n  <urls>\n    \
        <url name=\"rtmp://h/live/x\">\n      \
        <forward rewrite=\"rtmps://a/live2/secret\">192.0.2.1</forward>\n    </url>\n  </urls>\n  \
        <origins app=\"live\" linger=\"7\">\n    <origin url=\"rtmp://u:secret@o/live\"/>\n  \
        </origins> <!-- ours -->\n  <origins/>\n</policy>\n";

    #[test]
    fn what_is_shown_holds_no_secret_and_comes_back_as_it_was() {
        let document = shown(FILE);
        let text = serde_json::to_string(&document).unwrap();
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(document.pulls.as_ref().unwrap()[0].url, "rtsp://***@cam/1?***");
        assert_eq!(document.urls.as_ref().unwrap()[0].forward[0].rewrite, "rtmps://a/live2/***");
        let origins = &document.origins.as_ref().unwrap()[0].origins;
        assert_eq!(origins[0].url, "rtmp://***@o/live");
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
    fn origins_are_rules_too() {
        let mut document = shown(FILE);
        let origins = document.origins.as_mut().unwrap();
        origins[0].origins.push(Origin { url: "http://h/live".to_owned() });
        origins.push(OriginsRule {
            app: "rec".to_owned(),
            origins: vec![Origin { url: "rtsp://h/rec".to_owned() }],
            ..OriginsRule::default()
        });
        let text = edited(FILE, &document).unwrap();
        assert!(text.contains("u:secret@o/live") && text.contains("<!-- ours -->"), "{text}");
        assert_eq!(shown(&text).origins, document.origins, "{text}");
        let policy = crate::policy::load_str("p.xml", &text).unwrap();
        assert_eq!((policy.origins.len(), policy.origins[0].urls.len()), (2, 2), "{text}");
        document.origins = Some(Vec::new());
        let text = edited(&text, &document).unwrap();
        assert!(crate::policy::load_str("p.xml", &text).unwrap().origins.is_empty(), "{text}");
    }

    #[test]
    fn a_key_is_for_the_server_it_was_given_to() {
        let file = FILE.replace(
            "</forward>",
            "</forward>\n<forward rewrite=\"rtmps://a/live2/other\">b</forward>",
        );
        let refused = |change: &dyn Fn(&mut PolicyDocument)| {
            let mut document = shown(&file);
            change(&mut document);
            let Err(ReloadError::Refused(why)) = edited(&file, &document) else { panic!("taken") };
            why
        };
        let urls = |document: &mut PolicyDocument| document.urls.take().unwrap();
        let why = refused(&|document| {
            let mut rules = urls(document);
            rules[0].forward[0].host = "192.0.2.66".to_owned();
            document.urls = Some(rules);
        });
        assert!(why.starts_with("rtmp://h/live/x: *** stands for"), "{why}");
        refused(&|document| document.pulls.as_mut().unwrap()[0].stream = "live/new".to_owned());
        // The first goes, and the second keeps its own.
        let mut document = shown(&file);
        document.urls.as_mut().unwrap()[0].forward.remove(0);
        let text = edited(&file, &document).unwrap();
        assert!(!text.contains("live2/secret") && text.contains("live2/other"), "{text}");
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
