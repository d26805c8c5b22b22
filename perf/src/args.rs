//! Options by name, and the one way this program prints and stores its rows.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::Outcome;

/// Options that take no value.
const FLAGS: [&str; 3] = ["client-integrity", "no-audio", "audio"];

/// Options not taken yet.
#[derive(Debug, Default)]
pub struct Args {
    values: BTreeMap<String, String>,
}

impl Args {
    /// The command and its options.
    ///
    /// # Errors
    /// The command line cannot be read.
    pub fn from_environment() -> Outcome<(String, Self)> {
        use lexopt::prelude::{Long, Short, Value, ValueExt};
        let mut parser = lexopt::Parser::from_env();
        let mut command = None;
        let mut args = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("help") | Short('h') => command = Some("help".to_owned()),
                Long(name) => {
                    let name = name.to_owned();
                    let value = match FLAGS.contains(&name.as_str()) {
                        true => String::new(),
                        false => parser.value()?.string()?,
                    };
                    args.values.insert(name, value);
                }
                Value(value) if command.is_none() => command = Some(value.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        Ok((command.unwrap_or_else(|| "help".to_owned()), args))
    }

    /// Takes an option or its default.
    ///
    /// # Errors
    /// The value is not of the right form.
    pub fn take<T: FromStr>(&mut self, name: &str, default: T) -> Outcome<T> {
        Ok(self.take_maybe(name)?.unwrap_or(default))
    }

    /// Takes an option that has no default. A trailing `s` of a number of seconds is dropped.
    ///
    /// # Errors
    /// The value is not of the right form.
    pub fn take_maybe<T: FromStr>(&mut self, name: &str) -> Outcome<Option<T>> {
        let Some(text) = self.values.remove(name) else { return Ok(None) };
        let parsed = text.parse().or_else(|_| text.trim_end_matches('s').parse());
        parsed.map(Some).map_err(|_| format!("--{name} {text} cannot be read").into())
    }

    /// Takes an option that must be there.
    ///
    /// # Errors
    /// It is not, or is not of the right form.
    pub fn need<T: FromStr>(&mut self, name: &str) -> Outcome<T> {
        self.take_maybe(name)?.ok_or_else(|| format!("--{name} is missing").into())
    }

    /// Takes an option that is there or not.
    pub fn flag(&mut self, name: &str) -> bool {
        self.values.remove(name).is_some()
    }

    /// Where the row goes; to be taken last.
    ///
    /// # Errors
    /// An option nobody took, or a label without value.
    pub fn sink(&mut self) -> Outcome<Sink> {
        let file = self.take_maybe("json")?;
        let labels: String = self.take("label", String::new())?;
        let mut row = Map::new();
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once('=').ok_or("--label wants K=V")?;
            let number = value.parse::<f64>().ok().map(Value::from);
            row.insert(key.to_owned(), number.unwrap_or_else(|| value.into()));
        }
        self.done()?;
        Ok(Sink { file, row })
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// The first such option.
    pub fn done(&self) -> Outcome<()> {
        match self.values.keys().next() {
            Some(name) => Err(format!("--{name} does not belong to this command").into()),
            None => Ok(()),
        }
    }
}

/// Where one row of figures goes.
#[derive(Debug)]
pub struct Sink {
    file: Option<String>,
    row: Map<String, Value>,
}

impl Sink {
    /// Prints the row, and appends it to the file if there is one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(mut self, figures: Value) -> Outcome<()> {
        if let Value::Object(figures) = figures {
            self.row.extend(figures);
        }
        let line = Value::Object(self.row).to_string();
        say(&format!("{line}\n"));
        if let Some(path) = self.file {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{line}")?;
        }
        Ok(())
    }
}

/// Writes to standard output; a reader that has gone is nobody's fault.
pub fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
