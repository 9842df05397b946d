//! Reads one document a line on its standard input and writes its canonical bytes, or `!` and the reason, a line each.
//!
//! The other side of `scripts/canon-differential`.

use std::io::{BufRead, BufWriter, Write, stdin, stdout};

use remand_model::canonical;

fn main() -> std::io::Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    for line in stdin().lock().split(b'\n') {
        match canonical::parse(&line?) {
            Ok(value) => out.write_all(&canonical::to_bytes(&value))?,
            Err(error) => write!(out, "!{error}")?,
        }
        out.write_all(b"\n")?;
    }
    out.flush()
}
