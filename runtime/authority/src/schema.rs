//! JSON Schemas (draft 2020-12) of contracts, compiled under bounds, so that checking always ends soon.
//!
//! A schema comes from a tenant. So: no reference out of itself, no reference in a circle, a bounded number of subschemas
//! after all references are followed, patterns for an engine that runs in linear time and small memory, and a bound on the
//! product of subschemas and input values. Input and output are documents of the canonical domain, at most 64 levels deep.

use jsonschema::{PatternOptions, Validator};
use remand_model::canonical::{self, Value};
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, PROTOCOL_VERSION};

/// Bytes of one schema in canonical form.
pub const SCHEMA_BYTES_MAX: usize = 128 << 10;
/// Levels of a schema.
pub const SCHEMA_DEPTH_MAX: usize = 32;
/// Levels of a schema after every reference was followed: what a validator needs of its stack.
pub const NESTING_MAX: usize = 96;
/// Subschemas of one schema after every reference was followed.
pub const SUBSCHEMAS_MAX: u64 = 4096;
/// Bytes of one pattern.
pub const PATTERN_BYTES_MAX: usize = 512;
/// Patterns of one schema.
pub const PATTERNS_MAX: usize = 64;
/// Memory of one compiled pattern in bytes. The engine panics on an empty text where a pattern needs more than about
/// 2 MiB (rust-lang/regex issue 1344); this keeps well below.
const PATTERN_MEMORY_MAX: usize = 256 << 10;
/// Bytes of one input or output document; larger data goes into blobs.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Subschemas times values of a document.
pub const WORK_MAX: u64 = 64 << 20;

/// Keywords under which one subschema stands.
const ONE: [&str; 12] = [
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "additionalItems",
];
/// Keywords under which a list of subschemas stands.
const LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords under which subschemas stand by name.
const NAMED: [&str; 4] = ["properties", "patternProperties", "dependentSchemas", "dependencies"];
/// Keywords whose meaning depends on what other schemas say, or where.
const REFUSED: [&str; 7] =
    ["$id", "id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef"];

/// A schema that ends.
pub struct Schema {
    validator: Validator,
    subschemas: u64,
}

/// A document that its schema accepted; only [`Schema`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    bytes: Vec<u8>,
    digest: Digest,
}

impl Checked {
    /// The canonical bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 over the canonical bytes.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// `schema_too_costly` above a bound of this module, `schema_invalid` where it is none or reaches out of itself.
    pub fn compile(schema: &Value) -> Result<Self, Refusal> {
        check_size(schema)?;
        let subschemas = Survey { root: schema, path: Vec::new(), nesting: 0, patterns: 0 }.visit(schema, 0)?;
        let json = serde_json::to_value(schema).map_err(|error| invalid(error.to_string()))?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_MEMORY_MAX).dfa_size_limit(PATTERN_MEMORY_MAX);
        let options = jsonschema::draft202012::options().with_pattern_options(patterns).offline();
        let validator = options.build(&json).map_err(|error| invalid(format!("at {}", error.instance_path())))?;
        Ok(Self { validator, subschemas })
    }

    /// Checks an input: canonical JSON that the schema accepts.
    ///
    /// # Errors
    /// `too_large`, `input_invalid` with the place, never with the value.
    pub fn check_input(&self, bytes: &[u8]) -> Result<Checked, Refusal> {
        self.check(bytes, Code::InputInvalid)
    }

    /// Checks an output in the same way.
    ///
    /// # Errors
    /// `too_large`, `output_invalid` with the place, never with the value.
    pub fn check_output(&self, bytes: &[u8]) -> Result<Checked, Refusal> {
        self.check(bytes, Code::OutputInvalid)
    }

    fn check(&self, bytes: &[u8], code: Code) -> Result<Checked, Refusal> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            let detail = format!("a document of {} bytes; {DOCUMENT_BYTES_MAX} at most", bytes.len());
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        let value = canonical::parse(bytes).map_err(|error| Refusal::new(code, error.to_string()))?;
        let work = count(&value).saturating_mul(self.subschemas);
        if work > WORK_MAX {
            let detail = format!("{} subschemas on {} values", self.subschemas, count(&value));
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        let json = serde_json::to_value(&value).map_err(|error| Refusal::new(code, error.to_string()))?;
        if let Err(error) = self.validator.validate(&json) {
            let detail = format!("at {:?} by {:?}", error.instance_path().as_str(), error.schema_path().as_str());
            return Err(Refusal::new(code, detail));
        }
        let bytes = canonical::to_bytes(&value);
        Ok(Checked { digest: Digest::of(&bytes), bytes })
    }
}

/// A walk through a schema that follows references and counts what a validator would have to visit.
struct Survey<'a> {
    root: &'a Value,
    /// References being followed.
    path: Vec<&'a str>,
    nesting: usize,
    patterns: usize,
}

impl<'a> Survey<'a> {
    /// The number of subschemas here and below. It is bounded while it is counted, so that counting ends too.
    fn visit(&mut self, schema: &'a Value, before: u64) -> Result<u64, Refusal> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return Err(costly(format!("more than {NESTING_MAX} levels once references are followed")));
        }
        let total = self.visit_members(schema, before);
        self.nesting -= 1;
        total
    }

    fn visit_members(&mut self, schema: &'a Value, before: u64) -> Result<u64, Refusal> {
        let mut total = before.saturating_add(1);
        if total > SUBSCHEMAS_MAX {
            return Err(costly(format!("more than {SUBSCHEMAS_MAX} subschemas once references are followed")));
        }
        let members = match schema {
            Value::Bool(_) => return Ok(total),
            Value::Object(members) => members,
            _ => return Err(invalid("a subschema is an object, true or false")),
        };
        if let Some(keyword) = REFUSED.iter().find(|keyword| members.contains_key(**keyword)) {
            return Err(invalid(format!("{keyword} is not supported; use $defs and $ref with #/…")));
        }
        if let Some(draft) = members.get("$schema").and_then(Value::as_text) {
            check_draft(draft)?;
        }
        self.check_patterns(members)?;
        if let Some(target) = members.get("$ref") {
            total = self.follow(target, total)?;
        }
        for (keyword, value) in members {
            total = self.visit_keyword(keyword, value, total)?;
        }
        Ok(total)
    }

    fn visit_keyword(&mut self, keyword: &str, value: &'a Value, before: u64) -> Result<u64, Refusal> {
        match value {
            Value::Object(named) if NAMED.contains(&keyword) => {
                let is_schema = |value: &&Value| value.as_list().is_none();
                named.values().filter(is_schema).try_fold(before, |total, schema| self.visit(schema, total))
            }
            // What is defined and not referred to costs nothing, but must be well formed.
            Value::Object(named) if matches!(keyword, "$defs" | "definitions") => {
                named.values().try_for_each(|schema| self.visit(schema, 0).map(drop))?;
                Ok(before)
            }
            Value::List(list) if LIST.contains(&keyword) => {
                list.iter().try_fold(before, |total, schema| self.visit(schema, total))
            }
            schema if ONE.contains(&keyword) => self.visit(schema, before),
            _ => Ok(before),
        }
    }

    fn follow(&mut self, target: &'a Value, before: u64) -> Result<u64, Refusal> {
        let text = target.as_text().ok_or_else(|| invalid("$ref is a text"))?;
        if self.path.contains(&text) {
            return Err(invalid(format!("{text:?} refers to itself; a schema must end")));
        }
        // A reference to the root is always one to an ancestor.
        let pointer = text.strip_prefix("#/").ok_or_else(|| {
            invalid(format!("$ref {text:?}: only #/… within the same schema, and not the whole schema"))
        })?;
        let schema = lookup(self.root, pointer).ok_or_else(|| invalid(format!("$ref {text:?} leads nowhere")))?;
        self.path.push(text);
        let total = self.visit(schema, before);
        self.path.pop();
        total
    }

    fn check_patterns(&mut self, members: &canonical::Object) -> Result<(), Refusal> {
        let named = members.get("patternProperties").and_then(Value::as_object);
        let own = members.get("pattern").and_then(Value::as_text);
        for pattern in named.iter().flat_map(|named| named.keys().map(String::as_str)).chain(own) {
            self.patterns += 1;
            if pattern.len() > PATTERN_BYTES_MAX {
                return Err(costly(format!("a pattern of {} bytes; {PATTERN_BYTES_MAX} at most", pattern.len())));
            }
        }
        if self.patterns > PATTERNS_MAX {
            return Err(costly(format!("more than {PATTERNS_MAX} patterns")));
        }
        Ok(())
    }
}

/// The value that a JSON pointer without its leading slash names (RFC 6901); percent escapes are not supported.
fn lookup<'a>(root: &'a Value, pointer: &str) -> Option<&'a Value> {
    if pointer.contains('%') {
        return None;
    }
    pointer.split('/').try_fold(root, |value, part| {
        let key = part.replace("~1", "/").replace("~0", "~");
        match value {
            Value::Object(members) => members.get(&key),
            Value::List(items) => items.get(key.parse::<usize>().ok()?),
            _ => None,
        }
    })
}

fn check_draft(draft: &str) -> Result<(), Refusal> {
    if draft.trim_end_matches('#') == "https://json-schema.org/draft/2020-12/schema" {
        return Ok(());
    }
    Err(invalid(format!("$schema {draft:?}; contracts of version {PROTOCOL_VERSION} use draft 2020-12")))
}

fn check_size(schema: &Value) -> Result<(), Refusal> {
    if depth(schema) > SCHEMA_DEPTH_MAX {
        return Err(costly(format!("more than {SCHEMA_DEPTH_MAX} levels")));
    }
    let bytes = canonical::to_bytes(schema).len();
    if bytes > SCHEMA_BYTES_MAX { Err(costly(format!("{bytes} bytes; {SCHEMA_BYTES_MAX} at most"))) } else { Ok(()) }
}

/// Levels of arrays and objects; the canonical domain keeps them below 65.
fn depth(value: &Value) -> usize {
    let below = match value {
        Value::List(items) => items.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        _ => return 0,
    };
    below.unwrap_or(0) + 1
}

/// Values of a document, itself and its keys included.
fn count(value: &Value) -> u64 {
    match value {
        Value::List(items) => items.iter().map(count).sum::<u64>() + 1,
        Value::Object(members) => members.values().map(|value| count(value) + 1).sum::<u64>() + 1,
        _ => 1,
    }
}

fn invalid(detail: impl AsRef<str>) -> Refusal {
    Refusal::new(Code::SchemaInvalid, detail)
}

fn costly(detail: impl AsRef<str>) -> Refusal {
    Refusal::new(Code::SchemaTooCostly, detail)
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
