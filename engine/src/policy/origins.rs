//! `<origins>`: where streams that are not here are fetched from.

use std::path::PathBuf;

use super::Reader;
use super::pull::{linger, transport};
use crate::config::xml::Element;
use crate::config::{ConfigError, Line, Problem, shorten};
use crate::edge::{self, Origins};
use crate::pull::masked;

/// Most origins of an app.
const ORIGINS_MAX: usize = 64;
/// Attributes of the group.
const ATTRIBUTES: &[&str] = &["app", "linger", "transport", "ca", "local"];

impl Reader<'_> {
    /// One `<origins>`; without an app, or without any URL, it is a placeholder.
    pub(super) fn origins(
        &self,
        group: &Element,
        known: &[Origins],
    ) -> Result<Option<Origins>, ConfigError> {
        self.only(group, "origins", &["origin"], ATTRIBUTES)?;
        let wrong = |line: usize, at: &str, value: &str, wanted: &str| {
            self.error(line, at, Problem::value(value, wanted))
        };
        let mut urls: Vec<String> = Vec::new();
        for origin in &group.children {
            self.only(origin, "origins/origin", &[], &["url"])?;
            let url = origin.attribute("url");
            if url.is_empty() {
                continue;
            }
            let at = "origins/origin@url";
            edge::check(url).map_err(|_| {
                let wanted = "rtmp, rtmps, rtsp, rtsps, http or https, :// host and app, \
                              without a query";
                wrong(origin.line, at, &shorten(&masked(url)), wanted)
            })?;
            if urls.iter().any(|other| other == url) {
                let problem = Problem::Duplicate { first_line: group.line };
                return Err(self.error(origin.line, at, problem));
            }
            if urls.len() >= ORIGINS_MAX {
                let problem = Problem::StrayText(format!("more than {ORIGINS_MAX} origins"));
                return Err(self.error(origin.line, at, problem));
            }
            urls.push(url.to_owned());
        }
        let app = group.attribute("app");
        if app.is_empty() || urls.is_empty() {
            return Ok(None);
        }
        if let Some(first) = known.iter().find(|other| other.app == app) {
            let problem = Problem::Duplicate { first_line: first.line.0 };
            return Err(self.error(group.line, "origins@app", problem));
        }
        Ok(Some(Origins {
            app: app.to_owned(),
            urls,
            linger: linger(group).map_err(|wanted| {
                wrong(group.line, "origins@linger", group.attribute("linger"), wanted)
            })?,
            transport: transport(group).map_err(|wanted| {
                wrong(group.line, "origins@transport", group.attribute("transport"), wanted)
            })?,
            ca: Some(group.attribute("ca")).filter(|ca| !ca.is_empty()).map(PathBuf::from),
            local: self.truth(group, "origins", "local")?,
            line: Line(group.line),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::load_str;
    use super::*;
    use crate::pull::Transport;
    use std::time::Duration;

    fn origins(inside: &str) -> Result<Vec<Origins>, String> {
        let text = format!("<policy>\n{inside}</policy>");
        load_str("p.xml", &text).map(|policy| policy.origins).map_err(|error| error.to_string())
    }

    #[test]
    fn origins_of_several_apps_are_read() {
        let text = "<origins app='live' linger='30' transport='udp' local='true'>
              <origin url='rtmp://u:p@h/live'/><origin url=''/><origin url='http://h:8080/live'/>
            </origins>
            <origins app='rec'><origin url='rtsp://h/rec'/></origins>
            <origins app='tv'></origins><origins><origin url='rtmp://h/tv'/></origins>";
        let read = origins(text).unwrap();
        let [live, rec] = read.as_slice() else { panic!("{read:?}") };
        assert_eq!((live.urls.len(), live.linger), (2, Duration::from_secs(30)));
        assert_eq!((live.transport, live.local, rec.local), (Transport::Udp, true, false));
    }

    #[test]
    fn bad_origins_give_one_sentence_without_secrets() {
        let inside = |origin: &str| format!("<origins app='live'>{origin}</origins>");
        for (text, sentence) in [
            (inside("<origin url='ftp://u:secret@h/live'/>"), "ftp://***@h/live"),
            (inside("<origin url='rtmp://h/live?token=secret'/>"), "without a query"),
            (inside("<origin url='rtmp://h'/>"), "origins/origin@url"),
            (inside("<origin href='rtmp://h/live'/>"), "origins/origin@href"),
            (
                "<origins app='live' linger='x'><origin url='rtmp://h/live'/></origins>".to_owned(),
                "origins@linger",
            ),
            (
                "<origins app='live' local='yes'><origin url='rtmp://h/a'/></origins>".to_owned(),
                "\"yes\" is not true or false",
            ),
            (
                inside("<origin url='rtmp://h/live'/>")
                    + "\n"
                    + &inside("<origin url='rtmp://i/a'/>"),
                "p.xml:3: origins@app: is given twice, first on line 2",
            ),
        ] {
            let error = origins(&text).unwrap_err();
            assert!(error.contains(sentence), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
