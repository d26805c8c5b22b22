//! The rules of a policy: what is shown of them, the same again when that comes back, and how they
//! are written.

use std::collections::BTreeSet;

use quick_xml::escape::escape;

use super::model::{ForwardTarget, Origin, OriginsRule, PullRule, UrlRule, VhostRule};
use crate::config::options::Shown;
use crate::config::{Unmasked, masked_back};

/// How much is shown of the URL of an app, and of one that is fetched.
const OF_APP: Shown = Shown::Address;
/// How much of that of a stream elsewhere: its name is what lets it in there.
const OF_STREAM: Shown = Shown::AddressWithKey;

/// One rule of a group.
pub(super) trait Rule: Clone + Default + PartialEq {
    /// What tells it from the others.
    fn name(&self) -> &str;
    /// Without keys and credentials.
    fn shown(&self) -> Self;
    /// With what comes back as it was shown of the old one made that again.
    fn back(&self, old: &Self) -> Result<Self, Unmasked>;
    /// As an element.
    fn render(&self) -> String;
}

impl Rule for VhostRule {
    fn name(&self) -> &str {
        &self.vhost
    }

    fn shown(&self) -> Self {
        Self { forward: targets_shown(OF_APP, &self.forward), ..self.clone() }
    }

    fn back(&self, old: &Self) -> Result<Self, Unmasked> {
        let forward = targets_back(OF_APP, &self.forward, &old.forward)?;
        Ok(Self { forward, ..self.clone() })
    }

    fn render(&self) -> String {
        render_forwards("vhost", &self.vhost, &self.forward)
    }
}

impl Rule for UrlRule {
    fn name(&self) -> &str {
        &self.url
    }

    fn shown(&self) -> Self {
        Self { forward: targets_shown(OF_STREAM, &self.forward), ..self.clone() }
    }

    fn back(&self, old: &Self) -> Result<Self, Unmasked> {
        let forward = targets_back(OF_STREAM, &self.forward, &old.forward)?;
        Ok(Self { forward, ..self.clone() })
    }

    fn render(&self) -> String {
        render_forwards("url", &self.url, &self.forward)
    }
}

impl Rule for OriginsRule {
    fn name(&self) -> &str {
        &self.app
    }

    fn shown(&self) -> Self {
        let shown = |origin: &Origin| Origin { url: OF_APP.of(&origin.url) };
        Self { origins: self.origins.iter().map(shown).collect(), ..self.clone() }
    }

    fn back(&self, old: &Self) -> Result<Self, Unmasked> {
        let urls = self.origins.iter().map(|origin| &origin.url);
        let urls = urls_back(OF_APP, urls, old.origins.iter().map(|origin| &origin.url))?;
        Ok(Self { origins: urls.into_iter().map(|url| Origin { url }).collect(), ..self.clone() })
    }

    fn render(&self) -> String {
        let Self { app, origins, linger, transport, ca, local } = self;
        let mut text = format!("<origins app=\"{}\"", escape(app));
        text += &attributes(&[
            ("linger", linger),
            ("transport", transport),
            ("ca", ca),
            ("local", local),
        ]);
        text.push('>');
        for origin in origins {
            text += &format!("\n  <origin url=\"{}\"/>", escape(&origin.url));
        }
        text + "\n</origins>"
    }
}

impl Rule for PullRule {
    fn name(&self) -> &str {
        &self.stream
    }

    fn shown(&self) -> Self {
        Self { url: OF_APP.of(&self.url), ..self.clone() }
    }

    fn back(&self, old: &Self) -> Result<Self, Unmasked> {
        let url = urls_back(OF_APP, [&self.url].into_iter(), [&old.url].into_iter())?.concat();
        Ok(Self { url, ..self.clone() })
    }

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

fn targets_shown(shown: Shown, targets: &[ForwardTarget]) -> Vec<ForwardTarget> {
    let of = |target: &ForwardTarget| ForwardTarget {
        rewrite: shown.of(&target.rewrite),
        ..target.clone()
    };
    targets.iter().map(of).collect()
}

/// URLs again that come back as they were shown.
fn urls_back<'u>(
    shown: Shown,
    new: impl Iterator<Item = &'u String>,
    old: impl Iterator<Item = &'u String>,
) -> Result<Vec<String>, Unmasked> {
    let new: Vec<String> = new.cloned().collect();
    let old: Vec<&str> = old.map(String::as_str).collect();
    masked_back(shown, &new, &old)
}

/// The same of targets: a key is for the server it was given to, and no other.
fn targets_back(
    shown: Shown,
    new: &[ForwardTarget],
    old: &[ForwardTarget],
) -> Result<Vec<ForwardTarget>, Unmasked> {
    let mut targets = new.to_vec();
    let hosts: BTreeSet<&str> = new.iter().map(|target| target.host.as_str()).collect();
    for host in hosts {
        let of_host = |target: &&ForwardTarget| target.host == host;
        let new = new.iter().filter(of_host).map(|target| &target.rewrite);
        let old = old.iter().filter(of_host).map(|target| &target.rewrite);
        let rewrites = urls_back(shown, new, old)?;
        let places = targets.iter_mut().filter(|target| target.host == host);
        places.zip(rewrites).for_each(|(target, rewrite)| target.rewrite = rewrite);
    }
    Ok(targets)
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
