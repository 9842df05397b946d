//! Answers as people and programs want them. Nothing that a job or a tenant wrote reaches a terminal unescaped.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::people;
use crate::text::printable;
use crate::verbs::Format;

/// Prints an answer.
pub(crate) fn print(answer: &Value, format: Format) -> Result<(), Failure> {
    put(&text(answer, format))
}

/// Prints bytes that are what was asked for: a proof, a schema, a page.
pub(crate) fn put(text: &str) -> Result<(), Failure> {
    put_bytes(text.as_bytes())
}

pub(crate) fn put_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::system("print the answer"))
}

/// Prints one document on one line.
pub(crate) fn put_json(value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value).map_err(io::Error::other).map_err(Failure::system("write JSON"))?;
    put(&format!("{line}\n"))
}

fn text(answer: &Value, format: Format) -> String {
    match (format, list(answer)) {
        (Format::Json, _) | (Format::Jsonl, None) => format!("{answer}\n"),
        (Format::Jsonl, Some(items)) => items.iter().map(|item| format!("{item}\n")).collect(),
        (Format::Table, Some(items)) => rows(items),
        (Format::Table, None) => facts(answer),
    }
}

/// The one list that the answer is, with nothing beside it but the protocol's version.
fn list(answer: &Value) -> Option<&[Value]> {
    match answer {
        Value::Array(items) => Some(items),
        Value::Object(members) => {
            let mut rest = members.iter().filter(|(key, _)| *key != "protocol_version");
            let (_, only) = rest.next()?;
            rest.next().is_none().then_some(only)?.as_array().map(Vec::as_slice)
        }
        _ => None,
    }
}

fn rows(items: &[Value]) -> String {
    let empty = Map::new();
    let objects: Vec<&Map<String, Value>> = items.iter().map(|item| item.as_object().unwrap_or(&empty)).collect();
    if objects.iter().all(|object| object.is_empty()) {
        return items.iter().map(|item| format!("{}\n", people::cell("", item))).collect();
    }
    let columns = people::ordered(objects.iter().flat_map(|object| object.keys()).filter(|key| !is_version(key)));
    let mut table = table();
    table.set_header(columns.iter().map(|column| people::heading(column)));
    for object in objects {
        let cell = |column: &&String| object.get(*column).map(|value| people::cell(column, value)).unwrap_or_default();
        table.add_row(columns.iter().map(cell));
    }
    format!("{}\n", table.trim_fmt())
}

fn facts(answer: &Value) -> String {
    let Value::Object(members) = answer else { return format!("{}\n", people::cell("", answer)) };
    if let Some(text) = only_text(members) {
        return text.lines().map(|line| format!("{}\n", printable(line))).collect();
    }
    let mut table = table();
    for (path, value) in people::facts(members).into_iter().filter(|(path, _)| !is_version(path)) {
        table.add_row([path, value]);
    }
    if table.is_empty() { String::new() } else { format!("{}\n", table.trim_fmt()) }
}

/// The protocol's version is for programs.
fn is_version(path: &str) -> bool {
    path.rsplit('.').next() == Some("protocol_version")
}

/// A document that travels as text: a checkpoint, an inclusion proof.
fn only_text(members: &Map<String, Value>) -> Option<&str> {
    members.get("text").and_then(Value::as_str)
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_a_table_a_document_or_a_document_a_line() {
        let answer = json!({"protocol_version": "1.0", "executions": [{"id": "a", "n": 1}, {"id": "b"}]});
        assert_eq!(text(&answer, Format::Jsonl), "{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\"}\n");
        assert_eq!(text(&answer, Format::Json), format!("{answer}\n"));
        let table = text(&answer, Format::Table);
        assert!(table.starts_with(" ID  N") && table.lines().count() == 3, "{table}");
    }

    #[test]
    fn no_cell_can_drive_a_terminal() {
        let answer = json!({"a\u{1b}[2J": "\u{1b}]0;x\u{7}\n", "list": ["\u{202e}"]});
        for format in [Format::Table, Format::Json, Format::Jsonl] {
            let text = text(&answer, format);
            assert!(!text.contains(['\u{1b}', '\u{7}']), "{text}");
        }
    }

    #[test]
    fn a_document_that_travels_as_text_is_printed_line_by_line() {
        assert_eq!(text(&json!({"text": "a\nb\u{1b}\n"}), Format::Table), "a\nb\\u{1b}\n");
    }
}
