//! Why a configuration or policy file was refused: one sentence with file, line and element.

use std::fmt;

/// A refused file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as the user named it.
    pub file: String,
    /// Line, from 1; 0 if the problem has none.
    pub line: usize,
    /// Path of the element or `element@attribute`; empty if the problem has none.
    pub element: String,
    /// What is wrong.
    pub problem: Problem,
}

impl ConfigError {
    /// Puts a problem at a place.
    pub fn new(file: &str, line: usize, element: &str, problem: Problem) -> Self {
        Self { file: file.to_owned(), line, element: shorten(element), problem }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(": ")?;
        if !self.element.is_empty() {
            write!(f, "{}: ", self.element)?;
        }
        write!(f, "{}", self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file could not be read.
    #[error("cannot be read ({0}); name another file with --config or make it readable")]
    Read(String),
    /// Larger than any sensible configuration.
    #[error("is larger than {limit} bytes, which no configuration needs")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// Bytes that are not UTF-8.
    #[error("is not UTF-8 text; save it as UTF-8")]
    NotUtf8,
    /// A control character.
    #[error("holds a control character, which XML does not allow")]
    ControlCharacter,
    /// Another encoding is declared.
    #[error("is declared as {0}; save it as UTF-8 and declare encoding=\"UTF-8\"")]
    Encoding(String),
    /// Not well-formed XML.
    #[error("is not well-formed XML: {0}")]
    Syntax(String),
    /// The text ends inside an element.
    #[error("the file ends before </{0}>; it is truncated or a closing tag is missing")]
    Truncated(String),
    /// No root element.
    #[error("holds no element, expected <{0}>")]
    Empty(&'static str),
    /// Another root element.
    #[error("the root element is <{found}>, expected <{expected}>")]
    WrongRoot {
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A document type declaration.
    #[error("document type declarations are not allowed; remove <!DOCTYPE …>")]
    Dtd,
    /// An entity beyond the five of XML.
    #[error("entity &{0}; is not allowed, only &amp; &lt; &gt; &quot; &apos; and numbers")]
    Entity(String),
    /// Nested beyond the bound.
    #[error("elements are nested deeper than {limit}")]
    TooDeep {
        /// The bound.
        limit: usize,
    },
    /// Too many attributes on an element.
    #[error("has more than {limit} attributes")]
    TooManyAttributes {
        /// The bound.
        limit: usize,
    },
    /// Too many elements in the file.
    #[error("more than {limit} elements")]
    TooManyElements {
        /// The bound.
        limit: usize,
    },
    /// An element or attribute nobody knows.
    #[error("is not a known option{}", suggestion(.nearest))]
    Unknown {
        /// Path of the known option with the nearest name.
        nearest: Option<String>,
    },
    /// A second occurrence.
    #[error("is given twice, first on line {first_line}; keep one")]
    Duplicate {
        /// Where the first one stands.
        first_line: usize,
    },
    /// A value of the wrong type or out of range.
    #[error("\"{value}\" is not {wanted}")]
    Value {
        /// What stands there, shortened.
        value: String,
        /// What is allowed.
        wanted: String,
    },
    /// Text between elements.
    #[error("text \"{0}\" between elements; a value belongs inside its own element")]
    StrayText(String),
    /// Honouring the option is impossible and ignoring it would be unsafe.
    #[error("{0}")]
    Refused(&'static str),
    /// Two values that exclude each other.
    #[error("{0}")]
    Conflict(String),
}

impl Problem {
    /// A wrong value.
    pub fn value(value: &str, wanted: impl Into<String>) -> Self {
        Self::Value { value: shorten(value), wanted: wanted.into() }
    }
}

fn suggestion(nearest: &Option<String>) -> String {
    match nearest {
        Some(path) => format!(", did you mean {path}?"),
        None => ", see the shipped config.xml for all of them".to_owned(),
    }
}

/// At most 48 characters, control characters escaped: fit for one line of a log.
pub(crate) fn shorten(text: &str) -> String {
    let mut out: String = text.chars().take(48).flat_map(char::escape_debug).collect();
    if text.chars().nth(48).is_some() {
        out.push('…');
    }
    out
}
/// Where a rule stands in its file, for messages. It makes no difference: the same rule elsewhere
/// is the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line(pub usize);

impl PartialEq for Line {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Line {}
