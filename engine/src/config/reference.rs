//! The shipped `config.xml`, rendered from the options table.

use std::fmt::Write as _;

use super::options::{Opt, SECTIONS, Support, table};

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!--
  smart-rtmpd: every option with its default.

  An empty or missing element means the default, which stands in each element here.
  Relative paths start at the folder of this file. Durations may be fractions: 0.5.
  A wrong value or an unknown element stops the start, with line and remedy. A file that changes
  while the server runs is read again and applied as a difference; one with a fault changes nothing.
  [restart] marks what a reload cannot change.
-->
<config>
"#;

const TAIL: &str = "
  Accepted from existing files. The first group has no effect: elapse and limits replace it.
  The second belongs to features that are not part of this build: setting one away from the
  default shown gives a warning at the start; ssl/serverca refuses it, because ignoring it
  would let everybody in; forward rules belong in policy.xml.
";

/// The reference text: what `config.xml` at the root of the source tree holds.
pub fn reference_text() -> String {
    let mut out = HEAD.to_owned();
    for (section, heading) in SECTIONS {
        let live = |opt: &&Opt| opt.section() == *section && opt.support == Support::Yes;
        let rows: Vec<&Opt> = table().filter(live).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n  <!-- {heading} -->");
        let indent = if section.is_empty() { "  " } else { "    " };
        if !section.is_empty() {
            let _ = writeln!(out, "  <{section}>");
        }
        // Attributes stand on one element, all of whose rows follow each other.
        for of_element in rows.chunk_by(|a, b| element(a) == element(b)) {
            element_rows(&mut out, of_element, indent);
        }
        if !section.is_empty() {
            let _ = writeln!(out, "  </{section}>");
        }
    }
    out.push_str("\n  <!--");
    out.push_str(TAIL);
    out.push('\n');
    for opt in table().filter(|opt| opt.support == Support::Legacy) {
        let _ = writeln!(out, "    {}", opt.path);
    }
    out.push('\n');
    for opt in table() {
        if matches!(opt.support, Support::Absent(_) | Support::Refuse(_)) {
            let default = if opt.default.is_empty() { "empty" } else { opt.default };
            let _ = writeln!(out, "    {:28} {} ({default})", opt.path, opt.doc);
        }
    }
    out.push_str("  -->\n</config>\n");
    out
}

/// Path without attribute.
fn element(opt: &Opt) -> &'static str {
    opt.path.split('@').next().unwrap_or_default()
}

/// A comment for each option of an element, and the element.
fn element_rows(out: &mut String, rows: &[&Opt], indent: &str) {
    let (mut attributes, mut text) = (String::new(), "");
    for opt in rows {
        let restart = if opt.reloadable { "" } else { " [restart]" };
        let attribute = opt.path.split_once('@').map(|(_, name)| name);
        let named = attribute.map(|name| format!("{name}: ")).unwrap_or_default();
        let value = opt.kind.wanted(opt.unit);
        comment(out, &format!("{named}{} Value: {value}.{restart}", opt.doc), indent);
        // An element without any value is none: one of several is shown empty.
        let default = if opt.repeatable { "" } else { opt.default };
        match attribute {
            Some(name) => {
                let _ = write!(attributes, " {name}=\"{default}\"");
            }
            None => text = default,
        }
    }
    let path = rows.first().map_or("", |opt| element(opt));
    let name = path.rsplit('/').next().unwrap_or_default();
    let _ = writeln!(out, "{indent}<{name}{attributes}>{text}</{name}>");
}

fn comment(out: &mut String, text: &str, indent: &str) {
    let mut lines = wrap(text, 96 - indent.len() - 9).into_iter();
    let first = lines.next().unwrap_or_default();
    let _ = write!(out, "{indent}<!-- {first}");
    for line in lines {
        let _ = write!(out, "\n{indent}     {line}");
    }
    out.push_str(" -->\n");
}

/// Breaks text at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let full = lines.last().is_none_or(|line| {
            !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width
        });
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
