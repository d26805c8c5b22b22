//! Raw tree to checked values: every element and attribute is looked up in the options table.

use std::collections::BTreeMap;

use super::error::{ConfigError, Problem, shorten};
use super::options::{self, Kind, Opt, Support, Value};
use super::xml::Element;

/// The checked values of one file; what it does not set is at its default.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    set: BTreeMap<&'static str, Vec<Given>>,
    /// One sentence per missing feature that the file asks for.
    pub(super) warnings: Vec<String>,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
struct Given {
    value: Value,
    /// As it is written.
    text: String,
    line: usize,
    /// Number of the element in the file.
    element: usize,
}

/// What one element of several of its name says.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// Where it stands.
    pub(super) line: usize,
    values: Vec<(&'static str, &'a Value)>,
}

impl Group<'_> {
    /// The value of an option, if the element sets it.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.values.iter().find(|(known, _)| *known == path).map(|(_, value)| *value)
    }
}

impl Values {
    /// The value of an option that stands once.
    pub(super) fn get(&self, path: &'static str) -> Value {
        let set = self.set.get(path).and_then(|given| given.first());
        set.map_or_else(|| default(path), |given| given.value.clone())
    }

    /// All values of a repeatable option.
    pub(super) fn all(&self, path: &'static str) -> impl Iterator<Item = &Value> {
        self.set.get(path).into_iter().flatten().map(|given| &given.value)
    }

    /// All values of an option as they are written; none if the file does not set it.
    pub(super) fn texts_of(&self, path: &'static str) -> impl Iterator<Item = &str> {
        self.set.get(path).into_iter().flatten().map(|given| given.text.as_str())
    }

    /// The option means the same in both files.
    pub(super) fn same(&self, other: &Self, opt: &Opt) -> bool {
        match opt.repeatable {
            true => self.all(opt.path).eq(other.all(opt.path)),
            false => self.get(opt.path) == other.get(opt.path),
        }
    }

    /// Line of an option, 0 if the file does not set it.
    pub(super) fn line(&self, path: &'static str) -> usize {
        self.set.get(path).and_then(|given| given.first()).map_or(0, |given| given.line)
    }

    /// The elements of a name whose attributes belong together, in order.
    pub(super) fn groups(&self, element: &'static str) -> impl Iterator<Item = Group<'_>> {
        let mut groups: BTreeMap<usize, Group<'_>> = BTreeMap::new();
        for (path, given) in &self.set {
            if path.split('@').next() != Some(element) {
                continue;
            }
            for Given { value, line, element, .. } in given {
                let group = Group { line: *line, values: Vec::new() };
                groups.entry(*element).or_insert(group).values.push((path, value));
            }
        }
        groups.into_values()
    }
}

fn default(path: &str) -> Value {
    let opt = options::find(path).expect("the builder asks for paths of the table only");
    opt.parse("").expect("defaults of the table are valid, a test parses each")
}

/// Checks a whole tree.
pub(super) fn read(file: &str, root: &Element) -> Result<Values, ConfigError> {
    let mut reader =
        Reader { file, values: Values::default(), wishes: BTreeMap::new(), elements: 0 };
    reader.attributes(root, "")?;
    reader.children(root, "")?;
    for (feature, paths) in reader.wishes {
        let shown = paths.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
        let more = if paths.len() > 4 { " and more have" } else { " has" };
        reader
            .values
            .warnings
            .push(format!("{file}: {feature} is not part of this build, {shown}{more} no effect"));
    }
    Ok(reader.values)
}

struct Reader<'f> {
    file: &'f str,
    values: Values,
    wishes: BTreeMap<&'static str, Vec<String>>,
    /// Elements met so far.
    elements: usize,
}

impl Reader<'_> {
    fn children(&mut self, parent: &Element, path: &str) -> Result<(), ConfigError> {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for child in &parent.children {
            let path = match path {
                "" => child.name.clone(),
                _ => format!("{path}/{}", child.name),
            };
            let first = seen.insert(&child.name, child.line);
            if let Some(first_line) = first.filter(|_| !options::is_repeatable(&path)) {
                return Err(self.error(child.line, &path, Problem::Duplicate { first_line }));
            }
            self.element(child, &path)?;
        }
        Ok(())
    }

    fn element(&mut self, element: &Element, path: &str) -> Result<(), ConfigError> {
        self.elements += 1;
        let section = options::is_section(path);
        match options::find(path) {
            Some(opt) if opt.kind == Kind::Opaque => {
                self.opaque(opt, element);
                return Ok(());
            }
            Some(opt) => {
                if let Some(child) = element.children.first().filter(|_| !section) {
                    let below = format!("{path}/{}", child.name);
                    return Err(self.unknown(child.line, &below));
                }
                self.set(opt, &element.text, element.line)?;
            }
            None if !section => return Err(self.unknown(element.line, path)),
            None if !element.text.is_empty() => {
                let problem = Problem::StrayText(shorten(&element.text));
                return Err(self.error(element.line, path, problem));
            }
            None => {}
        }
        self.attributes(element, path)?;
        self.children(element, path)
    }

    fn attributes(&mut self, element: &Element, path: &str) -> Result<(), ConfigError> {
        for (name, value) in &element.attributes {
            let path = format!("{path}@{name}");
            match options::find(&path) {
                Some(opt) => self.set(opt, value.trim(), element.line)?,
                None => return Err(self.unknown(element.line, &path)),
            }
        }
        Ok(())
    }

    fn set(&mut self, opt: &'static Opt, text: &str, line: usize) -> Result<(), ConfigError> {
        if text.is_empty() {
            return Ok(());
        }
        let value = opt.parse(text).map_err(|problem| {
            let problem = match problem {
                // A wrong secret is one all the same.
                Problem::Value { wanted, .. } if opt.shown.hides() => {
                    Problem::value(&opt.shown.of(text), wanted)
                }
                other => other,
            };
            self.error(line, opt.path, problem)
        })?;
        let away = opt.parse("").is_ok_and(|default| default != value);
        match opt.support {
            Support::Refuse(why) if away => {
                return Err(self.error(line, opt.path, Problem::Refused(why)));
            }
            Support::Absent(feature) if away => self.wish(feature, opt.path),
            _ => {}
        }
        let given = self.values.set.entry(opt.path).or_default();
        if let Some(first) = given.first().filter(|_| !opt.repeatable) {
            let problem = Problem::Duplicate { first_line: first.line };
            return Err(self.error(line, opt.path, problem));
        }
        let text = text.to_owned();
        given.push(Given { value, text, line, element: self.elements });
        Ok(())
    }

    /// A section whose elements this build does not define: a wish unless it is empty or disabled.
    fn opaque(&mut self, opt: &Opt, element: &Element) {
        let disabled = element.children.iter().any(|c| c.name == "enable" && c.text == "false");
        let filled = !element.children.is_empty() || !element.text.is_empty();
        if let (Support::Absent(feature), true, false) = (opt.support, filled, disabled) {
            self.wish(feature, opt.path);
        }
    }

    fn wish(&mut self, feature: &'static str, path: &str) {
        let paths = self.wishes.entry(feature).or_default();
        if !paths.iter().any(|known| known == path) {
            paths.push(path.to_owned());
        }
    }

    fn unknown(&self, line: usize, path: &str) -> ConfigError {
        let nearest = options::nearest(path).map(str::to_owned);
        self.error(line, path, Problem::Unknown { nearest })
    }

    fn error(&self, line: usize, path: &str, problem: Problem) -> ConfigError {
        ConfigError::new(self.file, line, path, problem)
    }
}
