//! XML as an MPD needs it: elements and attributes, every value escaped, one element per line.

use std::fmt::{self, Display, Write};

/// A document in the making.
pub(super) struct Xml {
    out: String,
    open: Vec<&'static str>,
    /// The start tag last written still takes attributes.
    in_tag: bool,
}

impl Xml {
    pub(super) fn new() -> Self {
        let out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        Self { out, open: Vec::new(), in_tag: false }
    }

    /// Opens an element; attributes follow, then children, then [`Xml::end`].
    pub(super) fn start(&mut self, name: &'static str) -> &mut Self {
        self.close_tag();
        self.out.push('<');
        self.out.push_str(name);
        self.open.push(name);
        self.in_tag = true;
        self
    }

    /// An attribute of the element opened last, which has no children yet.
    pub(super) fn attribute(&mut self, name: &str, value: impl Display) -> &mut Self {
        debug_assert!(self.in_tag, "{name} after a child");
        write!(self.out, " {name}=\"").expect("writing to a String cannot fail");
        write!(Escaped(&mut self.out), "{value}").expect("writing to a String cannot fail");
        self.out.push('"');
        self
    }

    /// The same, left out if there is no value.
    pub(super) fn optional(&mut self, name: &str, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.attribute(name, value),
            None => self,
        }
    }

    /// A child that has text only.
    pub(super) fn text_element(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.close_tag();
        write!(self.out, "<{name}>").expect("writing to a String cannot fail");
        Escaped(&mut self.out).write_str(text).expect("writing to a String cannot fail");
        writeln!(self.out, "</{name}>").expect("writing to a String cannot fail");
        self
    }

    /// Closes the element opened last.
    pub(super) fn end(&mut self) -> &mut Self {
        let name = self.open.pop();
        if self.in_tag {
            self.in_tag = false;
            self.out.push_str("/>\n");
        } else if let Some(name) = name {
            writeln!(self.out, "</{name}>").expect("writing to a String cannot fail");
        }
        self
    }

    /// The document; whatever is open is closed.
    pub(super) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.end();
        }
        self.out
    }

    fn close_tag(&mut self) {
        if std::mem::take(&mut self.in_tag) {
            self.out.push_str(">\n");
        }
    }
}

/// Escapes for attributes and text alike; characters XML 1.0 forbids are replaced.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                    self.0.push('\u{fffd}');
                }
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}
