//! The view of a run: its state, and its rendering as text. Pure.

use std::path::Path;
use std::time::Duration;

use dispatch_api::worker_config::SampleTokens;

use crate::endpoints::{Endpoints, emulator_credentials};
use crate::metrics_scrape::TrafficTotals;

/// State of the system, in the terms of its status conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SystemState {
    /// A change is in progress; with its step.
    Reconciling(String),
    /// Everything runs and matches the manifest.
    Ready,
    /// Action is required; with the reason.
    Stalled(String),
    /// The run is ending; with the program that is being stopped.
    Stopping(String),
}

/// State of the runtime process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuntimeState {
    /// Process id while it runs.
    pub(crate) pid: Option<u32>,
    /// Whether the last probe found it ready.
    pub(crate) ready: bool,
    /// Restarts after a crash.
    pub(crate) restarts: u32,
}

/// Everything that is shown.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// `namespace/name`.
    pub(crate) system: String,
    pub(crate) state: SystemState,
    /// Name and CloudFormation status of the stack.
    pub(crate) stack: Option<(String, String)>,
    pub(crate) endpoints: Endpoints,
    /// Whether AWS is an emulator, with credentials that every emulator accepts.
    pub(crate) emulated: bool,
    /// The file with these addresses.
    pub(crate) env_file: String,
    pub(crate) runtime: RuntimeState,
    pub(crate) traffic: TrafficTotals,
    /// The manifest's file.
    pub(crate) manifest: String,
    /// Errors of its last edit; the version before stays in effect.
    pub(crate) manifest_error: Option<String>,
    /// The running simulation.
    pub(crate) simulation: Option<String>,
}

/// Whether escape sequences for colour may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Off,
    On,
}

const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";
const DIM: &str = "2";

impl Colour {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Off => text.to_owned(),
            Self::On => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

impl SystemState {
    /// Name, colour code and detail.
    fn parts(&self) -> (&'static str, &'static str, &str) {
        match self {
            Self::Reconciling(step) => ("Reconciling", YELLOW, step),
            Self::Ready => ("Ready", GREEN, ""),
            Self::Stalled(reason) => ("Stalled", RED, reason),
            Self::Stopping(what) => ("Stopping", YELLOW, what),
        }
    }

    /// The state and its detail on one line.
    pub(crate) fn line(&self) -> String {
        match self.parts() {
            (word, _, "") => word.to_owned(),
            (word, _, reason) => format!("{word}: {reason}"),
        }
    }
}

impl View {
    /// The block of the live view, one string per line, none wider than `width` columns.
    pub(crate) fn block(&self, width: usize, elapsed: Duration, colour: Colour) -> Vec<String> {
        let (word, code, reason) = self.state.parts();
        let head = format!("{}  up {}  ", self.system, clock(elapsed));
        let room = width.saturating_sub(columns(&head) + word.len() + 2);
        let mut lines = vec![format!("{head}{}  {}", colour.paint(code, word), cut(reason, room))];
        for (label, text) in self.rows() {
            let room = width.saturating_sub(LABEL_COLUMNS);
            let label = format!("  {label:<width$}", width = LABEL_COLUMNS - 2);
            lines.push(format!("{}{}", colour.paint(DIM, &label), cut(&text, room)));
        }
        if let Some(error) = &self.manifest_error {
            let text = format!("  manifest invalid, the previous version stays in effect: {}", first_line(error));
            lines.push(colour.paint(RED, &cut(&text, width)));
        }
        lines
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let stack = self.stack.as_ref().map_or_else(|| "none".to_owned(), |(name, state)| format!("{name}  {state}"));
        let mut rows = vec![
            ("stack", stack),
            ("runtime", self.runtime_line()),
            ("traffic", self.traffic.line()),
            ("apps", self.endpoints.apps.clone()),
            ("HTTP API", self.endpoints.http.clone()),
            ("metrics", format!("{}/metrics", self.endpoints.admin)),
            ("AWS", format!("{}  ({})", self.endpoints.aws, self.aws_access())),
            ("Redis", self.endpoints.redis.clone()),
            ("manifest", format!("{}  (applied when it changes)", self.manifest)),
        ];
        if let Some(simulation) = &self.simulation {
            rows.push(("simulation", simulation.clone()));
        }
        rows
    }

    fn runtime_line(&self) -> String {
        let state = match self.runtime {
            RuntimeState { pid: None, .. } => "not running".to_owned(),
            RuntimeState { pid: Some(pid), ready: false, .. } => format!("process {pid}, not ready"),
            RuntimeState { pid: Some(pid), ready: true, .. } => format!("process {pid}, ready"),
        };
        match self.runtime.restarts {
            0 => state,
            1 => format!("{state}, restarted once"),
            times => format!("{state}, restarted {times} times"),
        }
    }

    fn aws_access(&self) -> String {
        let credentials = if self.emulated { "credentials test, test" } else { "your credentials" };
        format!("region {}, {credentials}", self.endpoints.region)
    }

    /// Commands to inspect the system with. Each works as it is printed.
    pub(crate) fn examples(&self) -> Vec<String> {
        let Endpoints { aws, region, redis, .. } = &self.endpoints;
        let credentials = if self.emulated {
            emulator_credentials().map(|(name, value)| format!("{name}={value} ")).concat()
        } else {
            String::new()
        };
        vec![
            format!(". {}   # these addresses, as environment variables", self.env_file),
            format!("{credentials}aws --endpoint-url {aws} --region {region} cloudformation list-stacks"),
            format!("redis-cli -u {redis} --scan"),
        ]
    }

    /// The addresses, which are printed once if there is no live view.
    pub(crate) fn addresses(&self) -> Vec<String> {
        vec![
            format!("apps      {}", self.endpoints.apps),
            format!("HTTP API  {}", self.endpoints.http),
            format!("metrics   {}/metrics", self.endpoints.admin),
            format!("AWS       {}  ({})", self.endpoints.aws, self.aws_access()),
            format!("Redis     {}", self.endpoints.redis),
        ]
    }
}

/// Column at which the values of the block start.
const LABEL_COLUMNS: usize = 14;

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Sample tokens for the HTTP API as lines for a shell, and the command that makes others.
pub(crate) fn token_lines(tokens: &SampleTokens, signing_key: &Path) -> Vec<String> {
    let program =
        std::env::current_exe().map_or_else(|_| "dispatch-local".to_owned(), |path| path.display().to_string());
    vec![
        format!("export USER_TOKEN={}", tokens.user),
        format!("export DRIVER_TOKEN={}", tokens.driver),
        format!("export PAYMENTS_TOKEN={}", tokens.payments),
        format!("export OPERATIONS_TOKEN={}", tokens.operations),
        format!("{program} token --key {} --sub user#00002 --scope user   # another token", signing_key.display()),
    ]
}

/// Columns of a text on a terminal. Hangul and other wide letters take two.
fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

fn char_columns(c: char) -> usize {
    match u32::from(c) {
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 => 2,
        _ => 1,
    }
}

/// The first line of a text, cut to `width` columns: a wrapped line would break the redrawing.
fn cut(text: &str, width: usize) -> String {
    let text = first_line(text);
    if columns(text) <= width {
        return text.replace('\u{1b}', " ");
    }
    let mut taken = 0;
    let mut short: String = text
        .chars()
        .take_while(|c| {
            taken += char_columns(*c);
            taken < width
        })
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if width > 0 {
        short.push('…');
    }
    short
}

fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics_scrape::TrafficCounts;

    fn view() -> View {
        let mut traffic = TrafficTotals::default();
        let counts = TrafficCounts { requests: 120, offers: 160, accepted: 116, completed: 90, cancelled: 2 };
        traffic.observe(TrafficCounts { requests: 100, ..counts }, Duration::from_secs(50));
        traffic.observe(counts, Duration::from_mins(1));
        View {
            system: "default/seoul".to_owned(),
            state: SystemState::Ready,
            stack: Some(("coactus-default-seoul".to_owned(), "CREATE_COMPLETE".to_owned())),
            endpoints: Endpoints {
                apps: "http://127.0.0.1:8000".to_owned(),
                http: "http://127.0.0.1:8080".to_owned(),
                admin: "http://127.0.0.1:9090".to_owned(),
                aws: "http://127.0.0.1:41234".to_owned(),
                region: "ap-northeast-2".to_owned(),
                redis: "redis://127.0.0.1:6379".to_owned(),
            },
            emulated: true,
            env_file: ".local/seoul/env".to_owned(),
            runtime: RuntimeState { pid: Some(4242), ready: true, restarts: 0 },
            traffic,
            manifest: "examples/seoul.yaml".to_owned(),
            manifest_error: None,
            simulation: Some("300 drivers, 2 requests/s, seed 1".to_owned()),
        }
    }

    #[test]
    fn a_ready_system_is_one_quiet_block() {
        let block = view().block(130, Duration::from_secs(3725), Colour::Off);
        insta::assert_snapshot!(block.join("\n"));
    }

    #[test]
    fn problems_are_shown_where_they_are() {
        let mut view = view();
        view.state =
            SystemState::Stalled("stack is ROLLBACK_COMPLETE: Table: the limit of tables is reached".to_owned());
        view.runtime = RuntimeState { pid: None, ready: false, restarts: 3 };
        view.manifest_error = Some("spec.dispatch.maxAttempts: 0 is too small\nsecond line".to_owned());
        view.simulation = None;
        insta::assert_snapshot!(view.block(100, Duration::ZERO, Colour::Off).join("\n"));
    }

    #[test]
    fn colour_is_only_used_when_allowed() {
        let plain = view().block(130, Duration::ZERO, Colour::Off).join("\n");
        let coloured = view().block(130, Duration::ZERO, Colour::On).join("\n");
        assert!(!plain.contains('\u{1b}'));
        assert!(coloured.contains("\u{1b}[32mReady\u{1b}[0m"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut view = view();
        view.state = SystemState::Reconciling("동시에 여러 자원을 만드는 중입니다 ".repeat(9));
        view.manifest_error = Some("x".repeat(300));
        for width in [0, 1, 20, 40, 80, 200] {
            for line in view.block(width, Duration::ZERO, Colour::Off) {
                // The fixed text of the first line is not cut; no terminal is narrower.
                assert!(columns(&line) <= width.max(45), "{width}: {line:?}");
            }
        }
    }
}
