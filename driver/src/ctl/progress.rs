//! The progress of long work, shown at a terminal.

use std::io::{IsTerminal, Write};

/// Work of many steps.
pub(crate) struct Progress {
    what: &'static str,
    total: usize,
    terminal: bool,
}

impl Progress {
    /// Shows nothing unless stderr is a terminal.
    pub(crate) fn of(what: &'static str, total: usize) -> Self {
        Self { what, total, terminal: total > 1 && std::io::stderr().is_terminal() }
    }

    /// Shows the number of finished steps.
    pub(crate) fn show(&self, done: usize) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r{done} of {} {}\x1b[K", self.total, self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
