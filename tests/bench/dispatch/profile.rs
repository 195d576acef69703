//! CPU time of a process by part of the program, measured with `perf` if it is installed.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

/// Samples per second: enough for shares of one percent within half a minute, too few to slow the process down.
const HERTZ: &str = "499";

/// Parts of the program by the beginning of its symbols. All other symbols are in "Other".
const PARTS: [(&str, &[&str]); 8] = [
    ("AWS clients", &["aws_", "http_body", "hyper", "http::", "h2::", "bytes", "httparse"]),
    ("TLS and hashing", &["aws_lc", "rustls", "sha2", "ring", "hmac", "crc"]),
    ("Redis client", &["redis", "combine"]),
    ("HTTP server", &["axum", "tower", "matchit", "mime"]),
    ("JSON and items", &["serde", "itoa", "ryu"]),
    ("Time and text", &["jiff", "alloc::fmt", "core::fmt", "ulid"]),
    ("Core and engine", &["dispatch_", "h3o", "indexmap", "ahash"]),
    ("Tasks and timers", &["tokio", "mio", "futures"]),
];

/// A running profiler.
pub(super) struct Profiler {
    child: Child,
    folder: tempfile::TempDir,
}

impl Profiler {
    /// Starts to sample a process. Returns `None` without `perf`.
    pub(super) fn start(pid: u32) -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let child = Command::new("perf")
            .args(["record", "-q", "-e", "cpu-clock", "-F", HERTZ, "-p", &pid.to_string(), "-o"])
            .arg(folder.path().join("perf.data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Some(Self { child: child.ok()?, folder })
    }

    /// Stops the profiler; returns the shares of the parts, greatest first, or none if it was not permitted to sample.
    pub(super) fn shares(mut self) -> Vec<(String, f64)> {
        let pid = rustix::process::Pid::from_child(&self.child);
        // Without the permission to sample, `perf` has already ended and there is no profile.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.child.wait();
        let report = Command::new("perf")
            .args([
                "report",
                "--stdio",
                "-q",
                "--no-children",
                "--percent-limit",
                "0",
                "-F",
                "overhead,dso,sym",
                "-t",
                "|",
                "-i",
            ])
            .arg(self.folder.path().join("perf.data"))
            .stderr(Stdio::null())
            .output();
        report.map_or_else(|_| Vec::new(), |report| parts(&String::from_utf8_lossy(&report.stdout)))
    }
}

/// Sums lines of `overhead|object|symbol`.
fn parts(report: &str) -> Vec<(String, f64)> {
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for line in report.lines() {
        let mut cells = line.split('|').map(str::trim);
        let (Some(share), Some(object), Some(symbol)) = (cells.next(), cells.next(), cells.next()) else { continue };
        let Ok(share) = share.trim_end_matches('%').parse::<f64>() else { continue };
        *sums.entry(part_of(object, symbol)).or_default() += share / 100.0;
    }
    let mut shares: Vec<(String, f64)> = sums.into_iter().map(|(part, share)| (part.to_owned(), share)).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

fn part_of(object: &str, symbol: &str) -> &'static str {
    if object.starts_with("[kernel") || symbol.starts_with("[k]") {
        return "Kernel (sockets, scheduling)";
    }
    let symbol = symbol.trim_start_matches("[.]").trim_start().trim_start_matches(['<', '&', '_']);
    if object.starts_with("libc") || symbol.starts_with("mem") || symbol.starts_with("malloc") {
        return "C library: memory";
    }
    // The longest beginning wins: `aws_lc` is not an AWS client.
    let named = PARTS.iter().flat_map(|(part, beginnings)| beginnings.iter().map(move |beginning| (*beginning, *part)));
    named
        .filter(|(beginning, _)| symbol.starts_with(beginning))
        .max_by_key(|(beginning, _)| beginning.len())
        .map_or("Other", |(_, part)| part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_belong_to_parts() {
        let report = "
            30.00%|[kernel.kallsyms]|[k] tcp_sendmsg
            20.00%|dispatch-runtime|[.] aws_smithy_runtime::client::orchestrator::invoke
            10.00%|dispatch-runtime|[.] <hyper::proto::h1::Conn as Future>::poll
             5.00%|dispatch-runtime|[.] aws_lc_0_1_sha256
             1.00%|libc.so.6|[.] malloc
             0.50%|dispatch-runtime|[.] main
            nonsense";
        let shares = parts(report);
        let names: Vec<(&str, String)> =
            shares.iter().map(|(part, share)| (part.as_str(), format!("{share:.3}"))).collect();
        let expected = [
            ("Kernel (sockets, scheduling)", "0.300"),
            ("AWS clients", "0.300"),
            ("TLS and hashing", "0.050"),
            ("C library: memory", "0.010"),
            ("Other", "0.005"),
        ];
        assert_eq!(names.len(), expected.len(), "{names:?}");
        for (part, share) in expected {
            assert!(names.contains(&(part, share.to_owned())), "{part} in {names:?}");
        }
    }
}
