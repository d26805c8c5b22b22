//! Changes of an XML text at the place of a value: what stands around it stays as it is.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;

use super::options::Opt;

/// An XML text that has been checked, with the places of its elements.
#[derive(Debug)]
pub(crate) struct Markup<'t> {
    text: &'t str,
    nodes: Vec<Node>,
}

/// One element.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Path below the root, empty for the root itself.
    pub(crate) path: String,
    /// The opening tag, brackets included.
    open: Range<usize>,
    /// The closing tag; none of `<x/>`.
    close: Option<Range<usize>>,
    /// Texts directly inside that are not blank.
    texts: Vec<Range<usize>>,
}

impl Node {
    /// All of it.
    pub(crate) fn span(&self) -> Range<usize> {
        self.open.start..self.close.as_ref().map_or(self.open.end, |close| close.end)
    }
}

/// Where a value stands.
enum Place {
    /// Inside this element.
    Content(usize),
    /// Between the quotes of an attribute.
    Attribute(Range<usize>),
}

impl<'t> Markup<'t> {
    /// Finds the elements of a text that the parser of [`super::xml`] takes.
    pub(crate) fn scan(text: &'t str) -> Self {
        let skipped = text.len() - text.trim_start_matches('\u{feff}').len();
        let mut reader = Reader::from_str(text.get(skipped..).unwrap_or_default());
        let mut markup = Self { text, nodes: Vec::new() };
        let mut open: Vec<usize> = Vec::new();
        let mut start = skipped;
        loop {
            let event = reader.read_event();
            let end = usize::try_from(reader.buffer_position()).unwrap_or(text.len()) + skipped;
            let place = start..end.min(text.len());
            start = place.end;
            match event {
                Ok(Event::Start(tag)) => {
                    let path = markup.path(&open, tag.name().as_ref());
                    open.push(markup.nodes.len());
                    markup.nodes.push(Node { path, open: place, close: None, texts: Vec::new() });
                }
                Ok(Event::Empty(tag)) => {
                    let path = markup.path(&open, tag.name().as_ref());
                    markup.nodes.push(Node { path, open: place, close: None, texts: Vec::new() });
                }
                Ok(Event::End(_)) => {
                    if let Some(index) = open.pop() {
                        markup.nodes[index].close = Some(place);
                    }
                }
                Ok(Event::Text(_) | Event::CData(_) | Event::GeneralRef(_)) => {
                    let blank = text.get(place.clone()).is_none_or(|text| text.trim().is_empty());
                    if let Some(index) = open.last().filter(|_| !blank) {
                        markup.nodes[*index].texts.push(place);
                    }
                }
                Ok(Event::Eof) | Err(_) => return markup,
                Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_)) => {}
            }
        }
    }

    fn path(&self, open: &[usize], name: &str) -> String {
        match open.last().map(|index| self.nodes[*index].path.as_str()) {
            None => String::new(),
            Some("") => name.to_owned(),
            Some(path) => format!("{path}/{name}"),
        }
    }

    /// The elements with a path, in order.
    pub(crate) fn elements(&self, path: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.path == path)
    }

    /// The text with these values of an option, and no others.
    pub(super) fn set(&self, opt: &Opt, values: &[String]) -> String {
        let places = self.places(opt);
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        for (index, place) in places.iter().enumerate() {
            match (place, values.get(index)) {
                (Place::Content(node), None) if index > 0 => {
                    edits.push((self.line_of(self.nodes[*node].span()), String::new()));
                }
                (Place::Content(node), value) => {
                    let value = value.map(String::as_str).unwrap_or_default();
                    self.put_content(&self.nodes[*node], &escape(value), &mut edits);
                }
                (Place::Attribute(range), value) => {
                    let value = value.map(String::as_str).unwrap_or_default();
                    edits.push((range.clone(), escape(value).into_owned()));
                }
            }
        }
        let text = replaced(self.text, edits);
        // One after the other: each changes where the next one goes.
        values
            .iter()
            .skip(places.len())
            .fold(text, |text, value| Markup::scan(&text).add(opt.path, value))
    }

    /// Where an option stands; only its first place may be empty.
    fn places(&self, opt: &Opt) -> Vec<Place> {
        let names: Vec<(&str, Option<&str>)> = opt
            .aliases
            .iter()
            .chain([&opt.path])
            .map(|path| path.split_once('@').map_or((*path, None), |(at, name)| (at, Some(name))))
            .collect();
        let mut places = Vec::new();
        let mut spare = None;
        for (index, node) in self.nodes.iter().enumerate().skip(1) {
            for (path, attribute) in &names {
                if node.path != *path {
                    continue;
                }
                let filled = match attribute {
                    Some(name) => self.attribute(node, name).map(|range| {
                        (!self.text[range.clone()].trim().is_empty(), Place::Attribute(range))
                    }),
                    None => Some((!node.texts.is_empty(), Place::Content(index))),
                };
                match filled {
                    Some((true, place)) => places.push(place),
                    Some((false, place)) if spare.is_none() => spare = Some(place),
                    _ => {}
                }
            }
        }
        if places.is_empty() {
            places.extend(spare);
        }
        places
    }

    /// Where the value of an attribute stands, without its quotes.
    pub(crate) fn attribute(&self, node: &Node, name: &str) -> Option<Range<usize>> {
        let tag = self.text.get(node.open.clone())?;
        let mut at = tag.find(|c: char| c.is_whitespace())?;
        loop {
            let rest = tag.get(at..)?;
            at += rest.len() - rest.trim_start().len();
            let equals = at + tag.get(at..)?.find('=')?;
            let key = tag.get(at..equals)?.trim();
            let quote = equals + 1 + tag.get(equals + 1..)?.find(['"', '\''])?;
            let closing = tag.as_bytes().get(quote).copied()?;
            let end = quote + 1 + tag.get(quote + 1..)?.find(char::from(closing))?;
            if key == name {
                return Some(node.open.start + quote + 1..node.open.start + end);
            }
            at = end + 1;
        }
    }

    fn put_content(&self, node: &Node, value: &str, edits: &mut Vec<(Range<usize>, String)>) {
        if node.close.is_none() {
            if !value.is_empty() {
                edits.push((node.span(), self.opened(node, value)));
            }
            return;
        }
        match node.texts.split_first() {
            None => edits.push((node.open.end..node.open.end, value.to_owned())),
            Some((first, others)) => {
                let text = &self.text[first.clone()];
                let start = first.start + text.len() - text.trim_start().len();
                let end = first.end - (text.len() - text.trim_end().len());
                edits.push((start..end, value.to_owned()));
                edits.extend(others.iter().map(|other| (other.clone(), String::new())));
            }
        }
    }

    /// `<x a="b"/>` with something inside.
    fn opened(&self, node: &Node, inside: &str) -> String {
        let tag = self.text[node.open.clone()].trim_end_matches('>').trim_end_matches('/');
        let tag = tag.trim_end();
        let name = tag.trim_start_matches('<').split_whitespace().next().unwrap_or_default();
        format!("{tag}>{inside}</{name}>")
    }

    /// The place of an element, with the line if nothing else stands on it.
    pub(crate) fn line_of(&self, span: Range<usize>) -> Range<usize> {
        let before = &self.text[..span.start];
        let kept = before.trim_end_matches([' ', '\t']);
        let alone = kept.ends_with('\n') && self.text[span.end..].starts_with(['\n', '\r']);
        match alone {
            true => kept.trim_end_matches('\n').trim_end_matches('\r').len()..span.end,
            false => span,
        }
    }

    /// Adds a value of an option that has no place yet.
    fn add(&self, path: &str, value: &str) -> String {
        let (element, attribute) =
            path.split_once('@').map_or((path, None), |(element, name)| (element, Some(name)));
        let (section, name) = element.rsplit_once('/').unwrap_or(("", element));
        let value = escape(value);
        match attribute {
            Some(attribute) => match self.elements(element).next() {
                Some(node) => {
                    let tag = &self.text[node.open.clone()];
                    let end = tag.trim_end_matches('>').trim_end_matches('/').trim_end().len();
                    let at = node.open.start + end;
                    replaced(self.text, vec![(at..at, format!(" {attribute}=\"{value}\""))])
                }
                None => self.insert(section, &format!("<{name} {attribute}=\"{value}\"/>")),
            },
            None => self.insert(section, &format!("<{name}>{value}</{name}>")),
        }
    }

    /// Puts an element at the end of a section, which is made if it is not there.
    pub(crate) fn insert(&self, section: &str, element: &str) -> String {
        let Some(node) = self.elements(section).last() else {
            let (parent, name) = section.rsplit_once('/').unwrap_or(("", section));
            let with_section = self.insert(parent, &format!("<{name}></{name}>"));
            return Markup::scan(&with_section).insert(section, element);
        };
        let line_break = if self.text.contains("\r\n") { "\r\n" } else { "\n" };
        let line_start = self.text[..node.open.start].rfind('\n').map_or(0, |at| at + 1);
        let line = &self.text[line_start..node.open.start];
        let indent = &line[..line.len() - line.trim_start().len()];
        let inner = element.replace('\n', &format!("{line_break}{indent}  "));
        let Some(close) = &node.close else {
            let inside = format!("{line_break}{indent}  {inner}{line_break}{indent}");
            return replaced(self.text, vec![(node.span(), self.opened(node, &inside))]);
        };
        let content = &self.text[node.open.end..close.start];
        let at = node.open.end + content.trim_end().len();
        let tail = &self.text[at..close.start];
        let end = if tail.contains('\n') { String::new() } else { format!("{line_break}{indent}") };
        replaced(self.text, vec![(at..at, format!("{line_break}{indent}  {inner}{end}"))])
    }

    /// The text with parts of it replaced.
    pub(crate) fn replace(&self, edits: Vec<(Range<usize>, String)>) -> String {
        replaced(self.text, edits)
    }
}

fn replaced(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(text.len() + 256);
    let mut at = 0;
    for (range, new) in edits {
        out.push_str(text.get(at..range.start).unwrap_or_default());
        out.push_str(&new);
        at = range.end.max(at);
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}
