//! `remand canon`: canonical bytes of documents from standard input.

use std::io::{self, BufRead, Read, Write};

use remand_model::canonical::{self, CanonError};

use crate::failure::{Failure, say};
use crate::output;

/// `EX_DATAERR` of sysexits(3).
const REFUSED: u8 = 65;
/// The longest document, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

pub(crate) fn canon(hash: bool, lines: bool) -> Result<u8, Failure> {
    if lines { each_line(hash) } else { whole(hash) }
}

/// Exactly the canonical bytes, without a newline; the digest with one.
fn whole(hash: bool) -> Result<u8, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin().take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(Failure::system("read the standard input"))?;
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        say(&format!("the document has more than {DOCUMENT_BYTES_MAX} bytes; send a smaller one"));
        return Ok(REFUSED);
    }
    match spelled(&bytes, hash) {
        Ok(mut bytes) => {
            if hash {
                bytes.push(b'\n');
            }
            output::put_bytes(&bytes).map(|()| 0)
        }
        Err(refusal) => {
            say(&refusal.to_string());
            Ok(REFUSED)
        }
    }
}

/// A line out for every line in, so that the two can be laid side by side.
fn each_line(hash: bool) -> Result<u8, Failure> {
    let (mut input, mut out) = (io::stdin().lock(), io::BufWriter::new(io::stdout().lock()));
    let (mut code, mut line) = (0, Vec::new());
    for number in 1_u64.. {
        line.clear();
        let count = input.by_ref().take(DOCUMENT_BYTES_MAX).read_until(b'\n', &mut line);
        if count.map_err(Failure::system("read the standard input"))? == 0 {
            break;
        }
        let document = line.strip_suffix(b"\n").unwrap_or(&line);
        let mut spelled = spelled(document, hash).unwrap_or_else(|refusal| {
            say(&format!("document {number}: {refusal}"));
            code = REFUSED;
            Vec::new()
        });
        spelled.push(b'\n');
        out.write_all(&spelled).map_err(Failure::system("print the canonical bytes"))?;
    }
    out.flush().map_err(Failure::system("print the canonical bytes"))?;
    Ok(code)
}

fn spelled(document: &[u8], hash: bool) -> Result<Vec<u8>, CanonError> {
    let value = canonical::parse(document)?;
    Ok(if hash { canonical::hash(&value).to_hex().into_bytes() } else { canonical::to_bytes(&value) })
}
