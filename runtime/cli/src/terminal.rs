//! The caller's terminal in raw mode, for as long as the box has one of its own; given back whatever happens.

use std::io;
use std::panic;

use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Raw mode; dropping it restores what was.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Nothing where standard input is no terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &raw)?;
        restore_on_panic(before.clone());
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        tcsetattr(stdin(), OptionalActions::Drain, &self.before).unwrap_or(());
    }
}

/// A panic aborts in a release, and then nothing is dropped.
fn restore_on_panic(before: Termios) {
    let next = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        tcsetattr(stdin(), OptionalActions::Now, &before).unwrap_or(());
        next(panic);
    }));
}

/// Rows and columns of the first standard stream that is a terminal and knows them.
pub(crate) fn size() -> Option<(u16, u16)> {
    let sizes = [stdout(), stdin(), stderr()].into_iter().filter_map(|fd| tcgetwinsize(fd).ok());
    sizes.map(|size| (size.ws_row, size.ws_col)).find(|(rows, columns)| *rows > 0 && *columns > 0)
}

pub(crate) fn is_input() -> bool {
    isatty(stdin())
}
