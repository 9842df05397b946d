//! Reads Rust source well enough to judge its shape: blanks comments and literals, finds functions and words.
//!
//! It is no parser. What it misjudges it must misjudge towards a finding, never towards silence.

/// A copy of `text` of the same length and lines, with comments and the insides of literals replaced by spaces.
#[must_use]
pub fn blank(text: &str) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let (kept, end) = lexeme(bytes, at);
        for (offset, byte) in bytes[at..end].iter().enumerate() {
            out.push(if offset < kept || *byte == b'\n' { *byte } else { b' ' });
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// How many bytes of the lexeme at `at` stay visible, and where it ends.
fn lexeme(bytes: &[u8], at: usize) -> (usize, usize) {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return (0, at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return (0, at + block_comment_length(rest));
    }
    if let Some(length) = raw_string_length(bytes, at) {
        return (1, at + length);
    }
    match rest[0] {
        b'"' => (1, at + quoted_length(rest, b'"')),
        b'\'' if is_character(rest) => (1, at + quoted_length(rest, b'\'')),
        first if is_word_byte(first) => {
            let length = rest.iter().take_while(|b| is_word_byte(**b)).count();
            (length, at + length)
        }
        _ => (1, at + 1),
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of `r"…"`, `r#"…"#`, `br"…"` at `at`; none of these has escapes.
fn raw_string_length(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let prefix = ["br", "cr", "r"].iter().find(|p| rest.starts_with(p.as_bytes()))?.len();
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = prefix + hashes + 1;
    let end = rest[body..].windows(close.len()).position(|w| w == close);
    Some(end.map_or(rest.len(), |end| body + end + close.len()))
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A quote that starts a character, not a lifetime.
fn is_character(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(byte) if *byte >= 0x80 => true,
        Some(_) => rest.get(2) == Some(&b'\''),
        None => false,
    }
}

/// Where a word starts in blanked text, as byte offsets.
#[must_use]
pub fn occurrences(blanked: &str, word: &str) -> Vec<usize> {
    let bytes = blanked.as_bytes();
    let free = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_none_or(|b| !is_word_byte(*b));
    blanked
        .match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| free(at.checked_sub(1)) && free(Some(at + word.len())))
        .collect()
}

/// The line, counted from 1, of a byte offset.
#[must_use]
pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its `fn`.
    pub line: usize,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
}

/// Every function with a body, nested ones included.
#[must_use]
pub fn functions(text: &str) -> Vec<Function> {
    let blanked = blank(text);
    occurrences(&blanked, "fn").into_iter().filter_map(|at| function_at(&blanked, at)).collect()
}

fn function_at(blanked: &str, at: usize) -> Option<Function> {
    let after = blanked[at + 2..].trim_start();
    let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return None; // a pointer type: `fn(u8)`
    }
    let open = at + body_offset(&blanked[at..])?;
    let end = open + matching_brace(&blanked[open..]);
    let line = line_of(blanked, at);
    Some(Function { name, line, lines: line_of(blanked, end) - line + 1 })
}

/// Where the body opens, or nothing for a declaration without one.
fn body_offset(signature: &str) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in signature.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn matching_brace(body: &str) -> usize {
    let mut depth = 0_i32;
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    body.len().saturating_sub(1)
}

/// Lines that are neither blank nor only comment.
#[must_use]
pub fn code_lines(text: &str) -> usize {
    blank(text).lines().filter(|line| !line.trim().is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let text = "a // unsafe\nb \"unsafe \\\" {\" c /* x /* unsafe */ } */ d r#\"un\"safe\"# '{' 'a e";
        let blanked = blank(text);
        assert_eq!(blanked.len(), text.len());
        assert!(occurrences(&blanked, "unsafe").is_empty(), "{blanked}");
        assert!(!blanked.contains('{') && !blanked.contains('}'), "{blanked}");
        for word in ["a", "b", "c", "d", "e"] {
            assert!(!occurrences(&blanked, word).is_empty(), "{word} is gone: {blanked}");
        }
    }

    #[test]
    fn words_are_found_whole() {
        assert_eq!(occurrences("unsafe_code unsafe fn_unsafe (unsafe)", "unsafe"), vec![12, 30]);
    }

    #[test]
    fn functions_are_measured_from_fn_to_closing_brace() {
        let text = "trait T { fn declared(x: [u8; 4]); }\nfn one() {}\nfn two(f: fn(u8)) -> u8 {\n  { '}' };\n  1\n}\n";
        let found: Vec<_> = functions(text).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, vec![("one".into(), 2, 1), ("two".into(), 3, 4)]);
    }

    #[test]
    fn only_code_is_counted_as_code() {
        assert_eq!(code_lines("//! doc\n\nfn a() {\n    // why\n    b(); // and this\n}\n/* x\n y */\n"), 3);
    }
}
