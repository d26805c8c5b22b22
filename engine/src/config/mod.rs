//! `config.xml`: one table of options, and from it the parser, the checks and the reference text.
//!
//! [`load`] goes file → [`xml`] tree → checked values → typed [`Config`]. Nothing turns itself off
//! silently: a wrong value or an unknown element is a [`ConfigError`] naming file, line, element
//! and what is allowed; an option of a feature this build lacks is a warning sentence, or a refusal
//! where ignoring it would open the server wider than the file asks for.

pub mod auth;
mod build;
mod diff;
mod error;
pub mod model;
pub mod options;
mod read;
mod reference;
mod table;
mod table_auth;
#[cfg(test)]
mod tests;
pub mod units;
pub mod xml;

use std::path::Path;

pub use diff::diff_reloadable;
pub(crate) use error::shorten;
pub use error::{ConfigError, Problem};
pub use model::{Config, EgressMode, Limits, MergeWindow, SecondPublisher};
pub use reference::reference_text;

/// Reads and checks the configuration file, and the files of keys it names; relative paths in it
/// start at its directory.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    let text = xml::read_file(path, &name)?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let base_dir = absolute.parent().unwrap_or(Path::new("."));
    let (config, values) = load_values(&name, &text, base_dir)?;
    crate::auth::Rules::load(&config).map_err(|crate::auth::BadRules { option, sentence }| {
        ConfigError::new(&name, values.line(option), option, Problem::Conflict(sentence))
    })?;
    Ok(config)
}

/// Checks a configuration text; `name` stands for the file in errors.
pub fn load_str(name: &str, text: &str, base_dir: &Path) -> Result<Config, ConfigError> {
    load_values(name, text, base_dir).map(|(config, _)| config)
}

fn load_values(
    name: &str,
    text: &str,
    base_dir: &Path,
) -> Result<(Config, read::Values), ConfigError> {
    let root = xml::parse(name, text, "config")?;
    let values = read::read(name, &root)?;
    let config = build::build(name, &values, base_dir)?;
    Ok((config, values))
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
}
