//! XML text to a small raw tree with line numbers, under fixed limits.
//!
//! The subset is what configuration needs: elements, attributes, text, comments. Document types
//! and entities of their own are refused, so no input can expand.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, escape};

use super::error::{ConfigError, Problem, shorten};

/// Largest file, in bytes.
pub const BYTES_MAX: usize = 1 << 20;
/// Deepest nesting.
pub const DEPTH_MAX: usize = 16;
/// Most attributes on one element.
pub const ATTRIBUTES_MAX: usize = 32;
/// Most elements in one file.
pub const ELEMENTS_MAX: usize = 10_000;

/// One element of the raw tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Tag name.
    pub name: String,
    /// Line of the opening tag, from 1.
    pub line: usize,
    /// Attributes in file order.
    pub attributes: Vec<(String, String)>,
    /// Child elements in file order.
    pub children: Vec<Element>,
    /// All text directly inside, trimmed.
    pub text: String,
}

impl Element {
    /// Value of an attribute, trimmed; empty if it is not there.
    pub fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.trim())
    }
}

/// Reads a file under the size limit.
pub fn read_file(path: &Path, name: &str) -> Result<String, ConfigError> {
    let unreadable =
        |error: std::io::Error| ConfigError::new(name, 0, "", Problem::Read(error.to_string()));
    // To open a pipe may take for ever, and what was in it is gone at the next reload.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(std::io::Error::other("it is no regular file")));
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let limit = BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    decode(name, &bytes).map(str::to_owned)
}

/// Bytes to text: UTF-8, with or without byte order mark, under the size limit.
pub fn decode<'b>(name: &str, bytes: &'b [u8]) -> Result<&'b str, ConfigError> {
    if bytes.len() > BYTES_MAX {
        return Err(ConfigError::new(name, 0, "", Problem::TooLarge { limit: BYTES_MAX }));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(ConfigError::new(name, 1, "", Problem::Encoding("UTF-16".to_owned())));
    }
    let problem = match std::str::from_utf8(bytes) {
        Ok(text) => match text.find(is_forbidden) {
            None => return Ok(text),
            Some(at) => {
                let line = 1 + text[..at].matches('\n').count();
                ConfigError::new(name, line, "", Problem::ControlCharacter)
            }
        },
        // A declared encoding explains foreign bytes better than their position does.
        Err(error) => match declared_encoding(bytes) {
            Some(encoding) => ConfigError::new(name, 1, "", Problem::Encoding(encoding)),
            None => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
                ConfigError::new(name, line, "", Problem::NotUtf8)
            }
        },
    };
    Err(problem)
}

/// Characters no document may hold (XML 1.0, 2.2).
fn is_forbidden(c: char) -> bool {
    c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r' | '\x7f')
}

/// The encoding that a document which is not UTF-8 declares in its first line.
fn declared_encoding(bytes: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(bytes.get(..bytes.len().min(128))?).into_owned();
    let (declaration, _) = head.split_once("?>")?;
    let (_, rest) = declaration.split_once("encoding=")?;
    let encoding = rest.split(['"', '\'']).nth(1)?;
    let utf8 = encoding.eq_ignore_ascii_case("utf-8") || encoding.eq_ignore_ascii_case("utf8");
    (!utf8 && !encoding.is_empty()).then(|| shorten(encoding))
}

/// Parses a whole document with the given root element.
pub fn parse(name: &str, text: &str, root: &'static str) -> Result<Element, ConfigError> {
    if text.len() > BYTES_MAX {
        return Err(ConfigError::new(name, 0, "", Problem::TooLarge { limit: BYTES_MAX }));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::from_str(text);
    let mut tree = Tree { name, root, line: 1, elements: 0, open: Vec::new(), done: None };
    let mut counted = 0;
    loop {
        let event = reader.read_event();
        let end = usize::try_from(reader.buffer_position()).unwrap_or(text.len()).min(text.len());
        match event {
            Ok(Event::Eof) => return tree.finish(),
            Ok(event) => tree.handle(event)?,
            Err(error) => return Err(tree.syntax(&error)),
        }
        let passed = text.as_bytes().get(counted..end).unwrap_or_default();
        tree.line += passed.iter().filter(|byte| **byte == b'\n').count();
        counted = end.max(counted);
    }
}

struct Tree<'n> {
    name: &'n str,
    root: &'static str,
    line: usize,
    elements: usize,
    open: Vec<Element>,
    done: Option<Element>,
}

impl Tree<'_> {
    fn handle(&mut self, event: Event<'_>) -> Result<(), ConfigError> {
        match event {
            Event::Start(tag) => {
                let element = self.element(&tag)?;
                self.open.push(element);
            }
            Event::Empty(tag) => {
                let element = self.element(&tag)?;
                self.close(element);
            }
            Event::End(_) => {
                if let Some(mut element) = self.open.pop() {
                    element.text = element.text.trim().to_owned();
                    self.close(element);
                }
            }
            Event::Text(text) => self.text(&text)?,
            Event::CData(text) => self.text(&text)?,
            Event::GeneralRef(reference) => {
                let resolved = match reference.resolve_char_ref() {
                    Ok(Some(character)) => Some(character.to_string()),
                    Ok(None) => escape::resolve_predefined_entity(&reference).map(str::to_owned),
                    Err(_) => None,
                };
                match resolved {
                    Some(text) => self.text(&text)?,
                    None => return Err(self.error(Problem::Entity(shorten(&reference)))),
                }
            }
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().and_then(Result::ok).unwrap_or_default();
                let known = ["", "utf-8", "utf8", "us-ascii", "ascii"];
                if !known.contains(&encoding.to_ascii_lowercase().as_str()) {
                    return Err(self.error(Problem::Encoding(shorten(&encoding))));
                }
            }
            Event::DocType(_) => return Err(self.error(Problem::Dtd)),
            Event::Comment(_) | Event::PI(_) | Event::Eof => {}
        }
        Ok(())
    }

    fn element(&mut self, tag: &BytesStart<'_>) -> Result<Element, ConfigError> {
        let name = tag.name().as_ref().to_owned();
        if self.open.is_empty() {
            if self.done.is_some() {
                let problem = format!("a second root element <{}>", shorten(&name));
                return Err(self.error(Problem::Syntax(problem)));
            }
            if name != self.root {
                let problem = Problem::WrongRoot { found: shorten(&name), expected: self.root };
                return Err(self.error(problem));
            }
        }
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err(self.error(Problem::TooManyElements { limit: ELEMENTS_MAX }));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(self.error(Problem::TooDeep { limit: DEPTH_MAX }));
        }
        let mut element = Element { name, line: self.line, ..Element::default() };
        let mut seen = BTreeSet::new();
        for attribute in tag.attributes().with_checks(false) {
            let path = self.path(&element.name);
            let error = |problem| ConfigError::new(self.name, self.line, &path, problem);
            if element.attributes.len() == ATTRIBUTES_MAX {
                return Err(error(Problem::TooManyAttributes { limit: ATTRIBUTES_MAX }));
            }
            let attribute =
                attribute.map_err(|e| error(Problem::Syntax(shorten(&e.to_string()))))?;
            let key = attribute.key.as_ref().to_owned();
            let value = escape::unescape(&attribute.value)
                .map_err(|_| error(Problem::Entity("… in an attribute".to_owned())))?;
            if !seen.insert(key.clone()) {
                let problem = Problem::Duplicate { first_line: self.line };
                return Err(ConfigError::new(
                    self.name,
                    self.line,
                    &format!("{path}@{key}"),
                    problem,
                ));
            }
            element.attributes.push((key, value.into_owned()));
        }
        Ok(element)
    }

    fn close(&mut self, element: Element) {
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.done = Some(element),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), ConfigError> {
        if let Some(element) = self.open.last_mut() {
            element.text.push_str(text);
        } else if !text.trim().is_empty() {
            let problem = Problem::StrayText(shorten(text.trim()));
            return Err(self.error(problem));
        }
        Ok(())
    }

    fn finish(self) -> Result<Element, ConfigError> {
        if let Some(element) = self.open.last() {
            return Err(self.error(Problem::Truncated(shorten(&element.name))));
        }
        let empty = ConfigError::new(self.name, 0, "", Problem::Empty(self.root));
        self.done.ok_or(empty)
    }

    fn syntax(&self, error: &quick_xml::Error) -> ConfigError {
        let message: String = error.to_string().chars().take(200).collect();
        self.error(Problem::Syntax(message.escape_debug().to_string().replace("\\\"", "\"")))
    }

    fn error(&self, problem: Problem) -> ConfigError {
        ConfigError::new(self.name, self.line, &self.path(""), problem)
    }

    /// Path of a child of the element being read, without the root.
    fn path(&self, child: &str) -> String {
        let open = self.open.iter().skip(1).map(|element| element.name.as_str());
        let parts: Vec<&str> = open.chain((!child.is_empty()).then_some(child)).collect();
        parts.join("/")
    }
}
