//! The size of the trusted base: what a reviewer has to read before believing that the box holds.

use crate::repository::File;
use crate::source;

/// The folders of the trusted base.
pub const FOLDERS: [&str; 4] = ["shim/spec/", "shim/sys/", "shim/spawner/", "shim/inside/"];
/// All its lines together, as `wc -l` counts them.
pub const LINES_MAX: usize = 3700;

/// The size of one folder of the trusted base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// The folder, with its last `/`.
    pub folder: &'static str,
    /// As `wc -l` counts.
    pub lines: usize,
    /// Neither blank nor only comment.
    pub code: usize,
}

/// The size of each folder; only what is compiled into a binary or tested in place (`src/`) counts.
#[must_use]
pub fn sizes(files: &[File]) -> Vec<Size> {
    let size = |folder: &'static str| {
        let prefix = format!("{folder}src/");
        let own = files.iter().filter(|file| file.path.starts_with(&prefix) && file.path.ends_with(".rs"));
        own.fold(Size { folder, lines: 0, code: 0 }, |size, file| Size {
            folder,
            lines: size.lines + file.text.matches('\n').count(),
            code: size.code + source::code_lines(&file.text),
        })
    };
    FOLDERS.map(size).to_vec()
}

/// Why the budget is not kept, or nothing.
#[must_use]
pub fn overrun(sizes: &[Size]) -> Option<String> {
    let lines: usize = sizes.iter().map(|size| size.lines).sum();
    let empty = sizes.iter().find(|size| size.lines == 0);
    if let Some(size) = empty {
        return Some(format!("{} has no source at all: did it move?", size.folder));
    }
    (lines > LINES_MAX).then(|| format!("the trusted base has {lines} lines, at most {LINES_MAX}: take something out"))
}
