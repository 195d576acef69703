//! Prints progress to stderr, one line per event.

use std::io::{IsTerminal as _, Write as _};

use crate::engine::progress::{Event, Progress};
use crate::render;

/// Prints the engine's progress. Uses colours only on a terminal, and not if `NO_COLOR` is set (no-color.org).
pub struct Printer {
    colour: bool,
}

impl Printer {
    pub fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colour: wanted && std::io::stderr().is_terminal() }
    }
}

impl Default for Printer {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Printer {
    fn report(&mut self, event: Event) {
        let text = render::event(&event, self.colour);
        // An error of stderr cannot be reported anywhere.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}
