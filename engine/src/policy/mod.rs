//! `policy.xml`: which streams are forwarded where, and which are fetched from where.
//!
//! Rules for a whole app stand under `<vhosts>`, rules for one stream under `<urls>`; a `<url>`
//! under `<vhosts>` is tolerated. A rule without a name, and a forward without a host, is a
//! placeholder and ignored. This build reads and checks these rules but cannot carry them
//! out: [`Policy::unsupported`]. Under `<pulls>` stand the sources of [`crate::pull`].

mod pull;

use std::path::Path;

use crate::config::model::HostPort;
use crate::config::xml::{self, Element};
use crate::config::{ConfigError, Problem, mask_url, units};
use crate::pull::Entry;

/// All active rules of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Every stream whose URL begins with the name.
    pub vhosts: Vec<Rule>,
    /// The stream with exactly this URL.
    pub urls: Vec<Rule>,
    /// Sources to be pulled.
    pub pulls: Vec<Entry>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `rtmp://host/app`, or `rtmp://host/app/stream` for a single stream.
    pub name: String,
    /// Targets, all at once.
    pub forward: Vec<Forward>,
    /// Line of the rule, for messages.
    pub line: usize,
}

/// One target of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// New URL (of the app, or of the stream); empty keeps the URL.
    pub rewrite: String,
    /// The server dialled, whatever the URL says.
    pub host: HostPort,
}

impl Policy {
    /// The same rules in the same order, wherever they stand in their files.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let same_rules = |a: &[Rule], b: &[Rule]| {
            let of = |rule: &Rule| (rule.name.clone(), rule.forward.clone());
            a.iter().map(of).eq(b.iter().map(of))
        };
        let same_pulls = self.pulls.len() == other.pulls.len()
            && self.pulls.iter().zip(&other.pulls).all(|(a, b)| a.same(b));
        same_rules(&self.vhosts, &other.vhosts) && same_rules(&self.urls, &other.urls) && same_pulls
    }

    /// Why the server must not start with these rules, or `None` if no rule is active.
    pub fn unsupported(&self) -> Option<String> {
        let rule = self.vhosts.iter().chain(&self.urls).find(|rule| !rule.forward.is_empty())?;
        Some(format!(
            "policy line {}: the rule for {} forwards streams, which this build cannot do; \
             remove the rule or its forwards",
            rule.line, rule.name
        ))
    }
}

/// The text of a policy file; a file that does not exist is empty.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    if path.try_exists().is_ok_and(|exists| !exists) {
        return Ok(String::new());
    }
    xml::read_file(path, &path.display().to_string())
}

/// Reads and checks a policy file; a file that does not exist is a policy without rules.
pub fn load(path: &Path) -> Result<Policy, ConfigError> {
    match read_text(path)?.as_str() {
        "" => Ok(Policy::default()),
        text => load_str(&path.display().to_string(), text),
    }
}

/// Checks a policy text; `name` stands for the file in errors.
pub fn load_str(name: &str, text: &str) -> Result<Policy, ConfigError> {
    let root = xml::parse(name, text, "policy")?;
    let reader = Reader { file: name };
    let mut policy = Policy::default();
    reader.only(&root, "policy", &["vhosts", "urls", "pulls"], &[])?;
    for (index, group) in root.children.iter().enumerate() {
        if let Some(first) = root.children.iter().take(index).find(|e| e.name == group.name) {
            let problem = Problem::Duplicate { first_line: first.line };
            return Err(reader.error(group.line, &group.name, problem));
        }
        if group.name == "pulls" {
            policy.pulls = reader.pulls(group)?;
            continue;
        }
        let allowed: &[&str] = if group.name == "urls" { &["url"] } else { &["vhost", "url"] };
        reader.only(group, &group.name, allowed, &[])?;
        for rule in &group.children {
            let path = format!("{}/{}", group.name, rule.name);
            let active = reader.rule(rule, &path)?;
            let list = if rule.name == "url" { &mut policy.urls } else { &mut policy.vhosts };
            list.extend(active);
        }
    }
    Ok(policy)
}

struct Reader<'f> {
    file: &'f str,
}

impl Reader<'_> {
    fn rule(&self, element: &Element, path: &str) -> Result<Option<Rule>, ConfigError> {
        self.only(element, path, &["forward"], &["name"])?;
        let name = element.attribute("name");
        if !name.is_empty() && !is_url(name) {
            let wanted = "rtmp://host/app or rtmps://host/app, for a url with /stream";
            let at = format!("{path}@name");
            return Err(self.error(element.line, &at, Problem::value(name, wanted)));
        }
        let mut forward = Vec::new();
        for target in &element.children {
            let path = format!("{path}/forward");
            self.attributes(target, &path, &["rewrite"])?;
            if let Some(child) = target.children.first() {
                return Err(self.unknown(child.line, &format!("{path}/{}", child.name), None));
            }
            let rewrite = target.attribute("rewrite");
            if !rewrite.is_empty() && !is_url(rewrite) {
                let wanted = "an rtmp:// or rtmps:// URL or empty";
                let at = format!("{path}@rewrite");
                let shown = mask_url(rewrite, true);
                return Err(self.error(target.line, &at, Problem::value(&shown, wanted)));
            }
            if target.text.is_empty() {
                continue;
            }
            let Some(host) = units::host_port(&target.text) else {
                let problem = Problem::value(&target.text, "a host with an optional :port");
                return Err(self.error(target.line, &path, problem));
            };
            forward.push(Forward { rewrite: rewrite.to_owned(), host });
        }
        let rule = Rule { name: name.to_owned(), forward, line: element.line };
        Ok((!name.is_empty()).then_some(rule))
    }

    /// Refuses children, attributes and text that do not belong here.
    fn only(
        &self,
        element: &Element,
        path: &str,
        children: &[&str],
        attributes: &[&str],
    ) -> Result<(), ConfigError> {
        self.attributes(element, path, attributes)?;
        if !element.text.is_empty() {
            let problem = Problem::StrayText(crate::config::shorten(&element.text));
            return Err(self.error(element.line, path, problem));
        }
        for child in &element.children {
            if !children.contains(&child.name.as_str()) {
                let below = format!("{path}/{}", child.name);
                return Err(self.unknown(child.line, &below, children.first()));
            }
        }
        Ok(())
    }

    fn attributes(
        &self,
        element: &Element,
        path: &str,
        allowed: &[&str],
    ) -> Result<(), ConfigError> {
        for (name, _) in &element.attributes {
            if !allowed.contains(&name.as_str()) {
                let at = format!("{path}@{name}");
                return Err(self.unknown(element.line, &at, allowed.first()));
            }
        }
        Ok(())
    }

    fn unknown(&self, line: usize, path: &str, instead: Option<&&str>) -> ConfigError {
        let nearest = instead.map(|name| (*name).to_owned());
        self.error(line, path, Problem::Unknown { nearest })
    }

    fn error(&self, line: usize, path: &str, problem: Problem) -> ConfigError {
        ConfigError::new(self.file, line, path, problem)
    }
}

/// `rtmp://host[:port]/app…`, also with TLS.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("rtmp://").or_else(|| text.strip_prefix("rtmps://"));
    let plain = text.len() <= 1024 && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    rest.filter(|_| plain).and_then(|rest| rest.split_once('/')).is_some_and(|(host, app)| {
        units::host_port(host).is_some() && !app.trim_matches('/').is_empty()
    })
}

#[cfg(test)]
mod tests;
