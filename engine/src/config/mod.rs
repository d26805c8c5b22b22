//! `config.xml`: one table of options, and from it the parser, the checks and the reference text.
//!
//! [`Document::load`] goes file → [`xml`] tree → checked values → typed [`Config`]. Nothing turns itself off
//! silently: a wrong value or an unknown element is a [`ConfigError`] naming file, line, element
//! and what is allowed; an option of a feature this build lacks is a warning sentence, or a refusal
//! where ignoring it would open the server wider than the file asks for.

pub mod auth;
mod build;
mod diff;
mod document;
mod edit;
mod error;
mod mask;
pub mod model;
pub mod options;
mod read;
mod reference;
mod table;
mod table_auth;
#[cfg(test)]
pub(crate) mod tests;
pub mod units;
pub mod xml;

use std::path::Path;

pub use diff::{diff_reloadable, keep_restart_options};
pub use document::{Document, Edit};
pub(crate) use edit::Markup;
pub(crate) use error::shorten;
pub use error::{ConfigError, Line, Problem};
pub(crate) use mask::{Unmasked, mask_url, masked_back};
pub use model::{Config, EgressMode, Limits, MergeWindow, SecondPublisher};
pub use reference::reference_text;

/// Checks a configuration text; `name` stands for the file in errors.
pub fn load_str(name: &str, text: &str, base_dir: &Path) -> Result<Config, ConfigError> {
    Document::parse(name, text, base_dir).map(|document| document.config)
}

impl Default for Config {
    /// What an empty `<config/>` means.
    fn default() -> Self {
        build::build("defaults", &read::Values::default(), Path::new("."))
            .expect("the defaults of the options table are valid, a test builds them")
    }
}

/// Fuzz body: any bytes give a configuration or one sentence, in bounded time and memory.
pub fn fuzz_xml(data: &[u8]) {
    let Ok(text) = xml::decode("fuzz.xml", data) else {
        return;
    };
    for outcome in [
        load_str("fuzz.xml", text, Path::new(".")).map(drop),
        crate::policy::load_str("fuzz.xml", text).map(drop),
    ] {
        if let Err(error) = outcome {
            let sentence = error.to_string();
            assert!(!sentence.contains('\n') && sentence.len() < 1024, "{sentence}");
        }
    }
    if let Ok(document) = Document::parse("fuzz.xml", text, Path::new(".")) {
        edit_and_read_back(&document);
    }
}

/// Whatever a file that is accepted looks like, what is written into it can be read from it.
fn edit_and_read_back(document: &Document) {
    for (path, value) in [("rtmp/maxidle", "3"), ("rtsp/user", "a:<&>"), ("http/record", "live/x")]
    {
        let opt = options::find(path).expect("an option of the table");
        let text = document.edited(&[Edit { opt, values: vec![value.to_owned()] }]);
        let text = text.expect("no value is masked");
        let again = Document::parse("fuzz.xml", &text, Path::new("."));
        let again = again.unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert!(again.given(opt).eq([value]), "{path}: {text:?}");
    }
}
