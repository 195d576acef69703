//! Shows the view: a block that is redrawn in place on a terminal, lines elsewhere.

use std::env;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use crate::terminal::view::{Colour, View};

/// Interval of the traffic lines without a live view.
const TRAFFIC_INTERVAL: Duration = Duration::from_secs(10);

/// Columns if the terminal does not report them.
const DEFAULT_COLUMNS: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A block that is redrawn in place.
    Live(Colour),
    /// A line for each change.
    Lines,
}

/// The output of a run. Errors of writing are ignored: the run matters more than its display.
pub(crate) struct Display<W> {
    out: W,
    mode: Mode,
    drawn: usize,
    last_state: Option<String>,
    last_traffic: Option<(Duration, String)>,
}

impl Display<io::Stdout> {
    /// Standard output, live on a terminal that is not dumb. Respects `NO_COLOR` (<https://no-color.org>).
    pub(crate) fn stdout() -> Self {
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let mode = if io::stdout().is_terminal() && !dumb {
            let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            Mode::Live(if plain { Colour::Off } else { Colour::On })
        } else {
            Mode::Lines
        };
        Self::new(io::stdout(), mode)
    }
}

impl<W: Write> Display<W> {
    fn new(out: W, mode: Mode) -> Self {
        Self { out, mode, drawn: 0, last_state: None, last_traffic: None }
    }

    /// Prints lines that stay, in live mode above the block.
    pub(crate) fn print(&mut self, text: &str) {
        let _ = self.erase().and_then(|()| writeln!(self.out, "{text}")).and_then(|()| self.out.flush());
    }

    /// Shows the view. Called each second and after each change.
    pub(crate) fn show(&mut self, view: &View, elapsed: Duration) {
        let _ = match self.mode {
            Mode::Live(colour) => self.redraw(&view.block(terminal_columns(), elapsed, colour)),
            Mode::Lines => self.lines(view, elapsed),
        };
    }

    /// Prints the addresses, unless the live view shows them, and example commands.
    pub(crate) fn print_help(&mut self, view: &View) {
        if self.mode == Mode::Lines {
            self.print(&view.addresses().join("\n"));
        }
        self.print(&view.examples().join("\n"));
    }

    /// Removes the block.
    pub(crate) fn finish(&mut self) {
        let _ = self.erase().and_then(|()| self.out.flush());
    }

    fn redraw(&mut self, block: &[String]) -> io::Result<()> {
        self.erase()?;
        for line in block {
            writeln!(self.out, "{line}")?;
        }
        self.drawn = block.len();
        self.out.flush()
    }

    /// Moves to the first line of the block and clears the screen from there.
    fn erase(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            write!(self.out, "\u{1b}[{}F\u{1b}[J", self.drawn)?;
            self.drawn = 0;
        }
        Ok(())
    }

    fn lines(&mut self, view: &View, elapsed: Duration) -> io::Result<()> {
        let state = view.state.line();
        if self.last_state.as_ref() != Some(&state) {
            writeln!(self.out, "{}  {state}", view.system)?;
            self.last_state = Some(state);
        }
        let traffic = view.traffic.line();
        let due = match &self.last_traffic {
            None => view.traffic.totals().requests > 0,
            Some((at, last)) => elapsed >= *at + TRAFFIC_INTERVAL && *last != traffic,
        };
        if due {
            writeln!(self.out, "traffic   {traffic}")?;
            self.last_traffic = Some((elapsed, traffic));
        }
        self.out.flush()
    }
}

fn terminal_columns() -> usize {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => DEFAULT_COLUMNS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::Endpoints;
    use crate::metrics_scrape::{TrafficCounts, TrafficTotals};
    use crate::terminal::view::{RuntimeState, SystemState};

    fn view() -> View {
        let address = || "http://127.0.0.1:1".to_owned();
        View {
            system: "default/seoul".to_owned(),
            state: SystemState::Reconciling("creating the stack".to_owned()),
            stack: None,
            endpoints: Endpoints {
                apps: "http://127.0.0.1:8000".to_owned(),
                http: address(),
                admin: address(),
                aws: address(),
                region: "ap-northeast-2".to_owned(),
                redis: address(),
            },
            emulated: true,
            env_file: ".local/seoul/env".to_owned(),
            runtime: RuntimeState::default(),
            traffic: TrafficTotals::default(),
            manifest: "seoul.yaml".to_owned(),
            manifest_error: None,
            simulation: None,
        }
    }

    #[test]
    fn without_a_terminal_changes_are_printed_and_traffic_each_ten_seconds() {
        let mut display = Display::new(Vec::new(), Mode::Lines);
        let mut view = view();
        for second in 0..25 {
            if second == 3 {
                view.state = SystemState::Ready;
            }
            if second >= 5 {
                view.traffic.observe(
                    TrafficCounts { requests: second, ..TrafficCounts::default() },
                    Duration::from_secs(second),
                );
            }
            display.show(&view, Duration::from_secs(second));
        }
        insta::assert_snapshot!(String::from_utf8(display.out).unwrap(), @r"
        default/seoul  Reconciling: creating the stack
        default/seoul  Ready
        traffic   5 requests, 0 offers, 0 accepted, 0 completed, 0 cancelled
        traffic   15 requests (1.0/s), 0 offers, 0 accepted, 0 completed, 0 cancelled
        ");
    }

    #[test]
    fn a_live_block_is_removed_before_anything_else_is_printed() {
        let mut display = Display::new(Vec::new(), Mode::Live(Colour::Off));
        display.show(&view(), Duration::ZERO);
        let height = display.drawn;
        display.out.clear();
        display.print("the runtime died");
        assert_eq!(
            String::from_utf8(display.out.clone()).unwrap(),
            format!("\u{1b}[{height}F\u{1b}[Jthe runtime died\n")
        );
        assert_eq!(display.drawn, 0);
    }
}
