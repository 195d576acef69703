//! The machine and the time of a run.

use std::process::Command;

use dispatch_runtime::ports::Clock as _;
use dispatch_runtime::ports::clock::SystemClock;

/// The machine, the commit and the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Names and values.
    pub facts: Vec<(&'static str, String)>,
}

impl Machine {
    /// Describes this machine. A value that cannot be determined is `unknown`.
    pub(crate) fn here() -> Self {
        let cores = std::thread::available_parallelism().map_or_else(|_| unknown(), |cores| cores.to_string());
        let memory = field("/proc/meminfo", "MemTotal").map_or_else(unknown, |kib| memory_text(&kib));
        Self {
            facts: vec![
                ("CPU", field("/proc/cpuinfo", "model name").unwrap_or_else(unknown)),
                ("Cores", cores),
                ("Memory", memory),
                ("Kernel", first_line("uname", &["-sr"])),
                ("redis-server", first_line("redis-server", &["--version"])),
                ("Compiler", first_line("rustc", &["--version"])),
                ("Commit", first_line("git", &["describe", "--always", "--dirty", "--abbrev=12"])),
                ("Date", today()),
            ],
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The value of `name` in a file of `name: value` lines.
fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn memory_text(kib: &str) -> String {
    let kib: u64 = kib.trim_end_matches("kB").trim().parse().unwrap_or(0);
    format!("{:.1} GiB", kib as f64 / 1024.0 / 1024.0)
}

/// The first line of a program's output.
fn first_line(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("").to_owned());
    text.filter(|text| !text.is_empty()).unwrap_or_else(unknown)
}

fn today() -> String {
    let now = jiff::Timestamp::from_millisecond(SystemClock.now().0);
    now.map_or_else(|_| unknown(), |now| now.strftime("%Y-%m-%d %H:%M UTC").to_string())
}
