//! A checked `config.xml` with its text: what it says of each option, what of that may be shown,
//! and the same text with other values.

use std::path::Path;

use super::edit::Markup;
use super::error::{ConfigError, Problem};
use super::mask::masked_back;
use super::model::Config;
use super::options::{Kind, Opt, table};
use super::read::{self, Values};
use super::{build, xml};
use crate::auth::{BadRules, Rules};

/// See the module text.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file as it is written.
    pub text: String,
    /// What it means.
    pub config: Config,
    values: Values,
}

/// New values of one option: none means its default.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The option.
    pub opt: &'static Opt,
    /// As they are to be written; only an option that may stand several times has more than one.
    pub values: Vec<String>,
}

impl Document {
    /// Reads and checks a file; relative paths in it start at its directory.
    ///
    /// # Errors
    /// The file is unreadable or wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = xml::read_file(path, &name)?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        Self::parse(&name, &text, absolute.parent().unwrap_or(Path::new(".")))
    }

    /// Who may do what by a configuration made from this file, from the files of keys it names.
    ///
    /// # Errors
    /// One cannot be used, or nobody could ever be let in; with the line in this file.
    pub fn rules(&self, name: &str, config: &Config) -> Result<Rules, ConfigError> {
        Rules::load(config).map_err(|BadRules { option, sentence }| {
            let line = self.values.line(option);
            ConfigError::new(name, line, option, Problem::Conflict(sentence))
        })
    }

    /// Checks a text; `name` stands for the file in errors.
    ///
    /// # Errors
    /// The text is wrong.
    pub fn parse(name: &str, text: &str, base_dir: &Path) -> Result<Self, ConfigError> {
        let root = xml::parse(name, text, "config")?;
        let values = read::read(name, &root)?;
        let config = build::build(name, &values, base_dir)?;
        Ok(Self { text: text.to_owned(), config, values })
    }

    /// The values of an option as they are written; none if the file does not set it.
    pub fn given(&self, opt: &Opt) -> impl Iterator<Item = &str> {
        self.values.texts_of(opt.path)
    }

    /// The same without secrets.
    #[must_use]
    pub fn shown(&self, opt: &Opt) -> Vec<String> {
        self.given(opt).map(|text| opt.shown.of(text)).collect()
    }

    /// Options that do not mean the same in both.
    #[must_use]
    pub fn changed(&self, other: &Self) -> Vec<&'static str> {
        let differs =
            |opt: &&Opt| opt.kind != Kind::Opaque && !self.values.same(&other.values, opt);
        table().filter(differs).map(|opt| opt.path).collect()
    }

    /// The text with other values, everything else as it is: comments, order, space. A secret
    /// that comes back as it was shown is the one that is there. The result is not checked yet.
    ///
    /// # Errors
    /// A sentence, if it cannot be told which secret is meant.
    pub fn edited(&self, edits: &[Edit]) -> Result<String, String> {
        let mut text = self.text.clone();
        for Edit { opt, values } in edits {
            let old: Vec<&str> = self.given(opt).collect();
            let new = masked_back(opt.shown, values, &old)
                .map_err(|why| format!("{}: {why}", opt.path))?;
            if new != old {
                text = Markup::scan(&text).set(opt, &new);
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::find;
    use super::*;

    const FILE: &str = "<?xml version=\"1.0\"?>\n<config>\n  <!-- ports -->\n  <rtmp>\n    \
        <port> 1935 <!-- the usual one --></port>\n  </rtmp>\n  <rtsp>\n    \
        <user>ann:secret-1</user> <!-- Ann -->\n    <user>bob:secret-2</user>\n  </rtsp>\n\
        </config>\n";

    fn document(text: &str) -> Document {
        Document::parse("c.xml", text, Path::new(".")).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    fn edited(document: &Document, edits: &[Edit]) -> String {
        document.edited(edits).unwrap()
    }

    fn edit(path: &str, values: &[&str]) -> Edit {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Edit { opt: find(path).unwrap(), values }
    }

    #[test]
    fn an_edit_touches_its_value_and_nothing_else() {
        let old = document(FILE);
        let text = edited(&old, &[edit("rtmp/port", &["1936"])]);
        assert_eq!(text, FILE.replace("1935", "1936"));
        let new = document(&text);
        assert_eq!(new.changed(&old), ["rtmp/port"]);
        assert_eq!(edited(&new, &[edit("rtmp/port", &["1935"])]), FILE);
    }

    #[test]
    fn secrets_are_shown_to_nobody_and_come_back_unchanged() {
        let old = document(FILE);
        let user = find("rtsp/user").unwrap();
        let shown = old.shown(user);
        assert_eq!(shown, ["ann:***", "bob:***"]);
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        assert_eq!(edited(&old, &[edit("rtsp/user", &shown)]), FILE);
        // The other way round, with a new one between them.
        let text = edited(&old, &[edit("rtsp/user", &["bob:***", "eve:new", "ann:***"])]);
        let new = document(&text);
        assert_eq!(
            new.given(user).collect::<Vec<_>>(),
            ["bob:secret-2", "eve:new", "ann:secret-1"],
            "{text}"
        );
        assert!(text.contains("<!-- Ann -->"), "{text}");
        let refused = new.edited(&[edit("rtsp/user", &["tom:***"])]).unwrap_err();
        assert!(refused.starts_with("rtsp/user: *** stands for"), "{refused}");
        let text = edited(&new, &[edit("rtsp/user", &[])]);
        assert!(document(&text).config.auth.users.is_empty(), "{text}");
    }

    /// Each option there is can be written into any file, and read back.
    #[test]
    fn every_option_can_be_written_and_read_back() {
        let shipped = super::super::reference_text();
        let spare = "<config/>".to_owned();
        let short = "<config><rtmp/><http><flv>true</flv></http></config>".to_owned();
        for text in [shipped, spare, short] {
            let old = document(&text);
            for opt in table().filter(|opt| opt.kind != Kind::Opaque && !opt.is_of_group()) {
                let value = match opt.default {
                    "" => continue,
                    default => default,
                };
                let new = document(&edited(&old, &[Edit { opt, values: vec![value.to_owned()] }]));
                assert_eq!(new.given(opt).collect::<Vec<_>>(), [value], "{}", opt.path);
                let changed = new.changed(&old);
                let alias = text.contains("<flv>") && opt.path == "rtmp/hasflv";
                assert!(changed.is_empty() || alias, "{}: {changed:?}", opt.path);
            }
        }
    }

    #[test]
    fn what_is_written_is_escaped() {
        let old = document(FILE);
        let value = "a:<b>&\"c\"</user><x>";
        let new = document(&edited(&old, &[edit("rtsp/user", &[value])]));
        assert_eq!(new.given(find("rtsp/user").unwrap()).collect::<Vec<_>>(), [value]);
    }
}
