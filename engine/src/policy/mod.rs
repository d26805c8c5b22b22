//! `policy.xml`: which streams are forwarded where, and which are fetched from where.
//!
//! Rules for a whole app stand under `<vhosts>`, rules for one stream under `<urls>`; a `<url>`
//! under `<vhosts>` is tolerated. A rule without a name, and a forward without a host, is a
//! placeholder and ignored. What becomes of them is said in [`crate::forward`]. Under `<pulls>`
//! stand the sources of [`crate::pull`], under `<origins>` those of [`crate::edge`].

mod active;
mod origins;
mod pull;

use std::path::{Path, PathBuf};

use crate::config::model::HostPort;
use crate::config::xml::{self, Element};
use crate::config::{ConfigError, Line, Problem, mask_url, units};
use crate::edge::Origins;
use crate::pull::Entry;

pub use active::ActivePolicy;

/// All active rules of a file, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Every stream whose URL begins with the name.
    pub vhosts: Vec<Rule>,
    /// The stream with exactly this URL.
    pub urls: Vec<Rule>,
    /// Sources to be pulled.
    pub pulls: Vec<Entry>,
    /// Where streams that are not here are fetched from, by app.
    pub origins: Vec<Origins>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `rtmp://host/app`, or `rtmp://host/app/stream` for a single stream.
    pub name: String,
    /// Targets, all at once.
    pub forward: Vec<Forward>,
    /// Line of the rule.
    pub line: Line,
}

/// One target of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// New URL (of the app, or of the stream); empty keeps the URL.
    pub rewrite: String,
    /// The server dialled, whatever the URL says.
    pub host: HostPort,
    /// PEM file of the authorities to trust, instead of those of the configuration.
    pub ca: Option<PathBuf>,
    /// Link-local addresses may be dialled, and loopback by any name.
    pub local: bool,
}

/// The text of a policy file; a file that does not exist is empty. One that is empty is refused:
/// somebody is about to write it, or there was no room.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    if path.try_exists().is_ok_and(|exists| !exists) {
        return Ok(String::new());
    }
    let name = path.display().to_string();
    let text = xml::read_file(path, &name)?;
    if text.is_empty() {
        xml::parse(&name, &text, "policy")?;
    }
    Ok(text)
}

/// Checks a policy text; `name` stands for the file in errors.
pub fn load_str(name: &str, text: &str) -> Result<Policy, ConfigError> {
    let root = xml::parse(name, text, "policy")?;
    let reader = Reader { file: name };
    let mut policy = Policy::default();
    reader.only(&root, "policy", &["vhosts", "urls", "pulls", "origins"], &[])?;
    for (index, group) in root.children.iter().enumerate() {
        if group.name == "origins" {
            let origins = reader.origins(group, &policy.origins)?;
            policy.origins.extend(origins);
            continue;
        }
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
        if element.name == "url" && !name.is_empty() && !names_stream(name) {
            let at = format!("{path}@name");
            let problem = Problem::value(name, "the complete URL of a stream");
            return Err(self.error(element.line, &at, problem));
        }
        let mut forward = Vec::new();
        for target in &element.children {
            let path = format!("{path}/forward");
            self.attributes(target, &path, &["rewrite", "ca", "local"])?;
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
            if element.name == "url" && !rewrite.is_empty() && !names_stream(rewrite) {
                let at = format!("{path}@rewrite");
                let shown = crate::config::shorten(&crate::pull::masked(rewrite));
                let problem = Problem::value(&shown, "the complete URL of a stream");
                return Err(self.error(target.line, &at, problem));
            }
            let Some(host) = units::host_port(&target.text) else {
                let problem = Problem::value(&target.text, "a host with an optional :port");
                return Err(self.error(target.line, &path, problem));
            };
            forward.push(Forward {
                rewrite: rewrite.to_owned(),
                host,
                ca: Some(target.attribute("ca")).filter(|ca| !ca.is_empty()).map(PathBuf::from),
                local: self.truth(target, &path, "local")?,
            });
        }
        let rule = Rule { name: name.to_owned(), forward, line: Line(element.line) };
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

    /// An attribute that is true, false, or not there: false.
    fn truth(&self, element: &Element, path: &str, name: &str) -> Result<bool, ConfigError> {
        match element.attribute(name) {
            "true" => Ok(true),
            "" | "false" => Ok(false),
            other => {
                let problem = Problem::value(other, "true or false");
                Err(self.error(element.line, &format!("{path}@{name}"), problem))
            }
        }
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

/// `rtmp://[user:password@]host[:port]/app…`, also with TLS.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("rtmp://").or_else(|| text.strip_prefix("rtmps://"));
    let plain = text.len() <= 1024 && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    rest.filter(|_| plain).and_then(|rest| rest.split_once('/')).is_some_and(|(host, app)| {
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        units::host_port(host).is_some() && !app.trim_matches('/').is_empty()
    })
}

/// The path of a URL has a part behind the app.
fn names_stream(url: &str) -> bool {
    protocols::text::split_url(url).1.trim_matches('/').contains('/')
}

#[cfg(test)]
mod tests;
