//! How far long work is, for a person at a terminal.

use std::io::{IsTerminal, Write};

/// Work of many steps.
pub(crate) struct Progress {
    what: &'static str,
    total: usize,
    terminal: bool,
}

impl Progress {
    /// Silent but on a terminal.
    pub(crate) fn of(what: &'static str, total: usize) -> Self {
        Self { what, total, terminal: total > 1 && std::io::stderr().is_terminal() }
    }

    /// So many steps are done.
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
