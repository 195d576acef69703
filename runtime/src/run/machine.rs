//! The bounds of a process, derived from the memory and the file descriptors that it may use.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::http::listener::Bounds;
use crate::http::{IN_FLIGHT_MAX, STREAMS_MAX};

/// Descriptors that a process may use at most: those of all its bounds, with room to spare.
const DESCRIPTORS_MAX: u64 = 65_536;
/// Connections of the admin listener: probes and a few scrapers.
pub(super) const ADMIN_CONNECTIONS: usize = 32;
/// Descriptors kept back: those of the admin listener, of Redis, of the readers of queues and stream, of files.
const DESCRIPTORS_KEPT: u64 = 64 + ADMIN_CONNECTIONS as u64;
/// A request in flight may hold a connection to AWS: of the other descriptors, one in so many is for those.
const DESCRIPTORS_PER_REQUEST: u64 = 4;

/// Memory of a connection, bytes: half a head takes 23 KB and an event stream 18 KB, plus the buffers of the kernel.
const CONNECTION_BYTES: u64 = 32 * 1024;
/// One in so many bytes of the memory limit is for connections. The process itself takes some 50 MB.
const CONNECTIONS_SHARE: u64 = 2;
/// Memory of a request in flight, bytes: the largest body of a batch, read.
const REQUEST_BYTES: u64 = 288 * 1024;
/// One in so many bytes of the memory limit is for requests in flight.
const REQUESTS_SHARE: u64 = 4;

/// Fewest connections and requests in flight: with less, a process would serve no one.
const CONNECTIONS_MIN: usize = 32;
const REQUESTS_MIN: usize = 16;

/// What the machine and its administrator allow this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    /// Memory, bytes.
    pub memory: u64,
    /// Open file descriptors.
    pub descriptors: u64,
}

/// The bounds of the public listener and its routes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessBounds {
    pub listener: Bounds,
    pub streams: usize,
    pub in_flight: usize,
}

impl Machine {
    /// Reads the limits. Raises the soft limit of descriptors to the hard one first: container engines set the soft one
    /// to 1,024 for programs that cannot use more.
    pub(super) fn read() -> Self {
        Self { memory: memory_limit(Path::new("/")).unwrap_or(u64::MAX), descriptors: raise_descriptors() }
    }

    /// The bounds that fit.
    pub(super) fn bounds(&self) -> ProcessBounds {
        let free = self.descriptors.saturating_sub(DESCRIPTORS_KEPT);
        let requests = (free / DESCRIPTORS_PER_REQUEST).min(self.memory / REQUESTS_SHARE / REQUEST_BYTES);
        let in_flight = within(requests, REQUESTS_MIN, IN_FLIGHT_MAX);
        let connections =
            (free.saturating_sub(in_flight as u64)).min(self.memory / CONNECTIONS_SHARE / CONNECTION_BYTES);
        let listener = Bounds::default();
        let connections = within(connections, CONNECTIONS_MIN, listener.connections);
        // The other quarter is for calls without a stream.
        let streams = (connections / 4 * 3).min(STREAMS_MAX);
        ProcessBounds { listener: Bounds { connections, ..listener }, streams, in_flight }
    }
}

fn within(value: u64, min: usize, max: usize) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX).clamp(min, max)
}

/// Raises the soft limit of descriptors, and returns the limit in force.
fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX).min(DESCRIPTORS_MAX);
    let soft = limit.current.unwrap_or(u64::MAX);
    if soft >= hard {
        return soft;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: limit.maximum }) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(%error, soft, hard, "cannot raise the limit of file descriptors; the soft limit stays");
            soft
        }
    }
}

/// The smallest memory limit of the process's control groups and of the machine, bytes. `root` is the root folder.
fn memory_limit(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let files = groups.lines().filter_map(|line| {
        let (_, group) = line.split_once(':')?;
        let (controllers, path) = group.split_once(':')?;
        if controllers.is_empty() {
            Some((root.join("sys/fs/cgroup"), "memory.max", path))
        } else {
            let of_memory = controllers.split(',').any(|controller| controller == "memory");
            of_memory.then(|| (root.join("sys/fs/cgroup/memory"), "memory.limit_in_bytes", path))
        }
    });
    let limits = files.flat_map(|(mount, file, path)| limits_above(&mount, file, path));
    limits.chain(machine_memory(root)).min()
}

/// The limits of a group and of all groups above it. A container may see its group at the root of the mount.
fn limits_above(mount: &Path, file: &str, path: &str) -> Vec<u64> {
    let group: PathBuf = mount.join(path.trim_start_matches('/'));
    let folders = group.ancestors().take_while(|folder| folder.starts_with(mount));
    // A group without a limit says `max`.
    folders.filter_map(|folder| std::fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()).collect()
}

fn machine_memory(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn bounds_fit_the_memory_and_the_descriptors() {
        let bounds = |mib: u64, descriptors: u64| {
            let ProcessBounds { listener, streams, in_flight } =
                Machine { memory: mib.saturating_mul(MIB), descriptors }.bounds();
            (listener.connections, streams, in_flight)
        };
        assert_eq!(bounds(u64::MAX, 65_536), (16_000, 10_000, 512), "the largest bounds");
        assert_eq!(bounds(256, 65_536), (4096, 3072, 227));
        assert_eq!(bounds(u64::MAX, 1024), (696, 522, 232));
        assert_eq!(bounds(u64::MAX, 256), (120, 90, 40));
        assert_eq!(bounds(0, 0), (32, 24, 16), "the smallest bounds");
        for descriptors in [256, 400, 1024, 4096, 20_000] {
            let (connections, streams, in_flight) = bounds(u64::MAX, descriptors);
            assert!((connections + in_flight) as u64 + DESCRIPTORS_KEPT <= descriptors && streams < connections);
        }
        for mib in [128, 256, 512, 1024] {
            let (connections, _, in_flight) = bounds(mib, 65_536);
            let taken = connections as u64 * CONNECTION_BYTES + in_flight as u64 * REQUEST_BYTES;
            assert!(taken <= mib * MIB * 3 / 4, "{mib}");
        }
    }

    /// A root folder with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_smallest_memory_limit_counts() {
        let limit = |files: &[(&str, &str)]| memory_limit(root(files).path());
        let memory = ("proc/meminfo", "MemTotal:       1048576 kB\nMemFree: 1 kB\n");
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[memory]), Some(1024 * MIB));
        let second = [memory, ("proc/self/cgroup", "0::/a/b\n"), ("sys/fs/cgroup/a/b/memory.max", "max\n")];
        assert_eq!(limit(&second), Some(1024 * MIB));
        let above = [second.as_slice(), &[("sys/fs/cgroup/a/memory.max", "268435456\n")]].concat();
        assert_eq!(limit(&above), Some(256 * MIB), "a group above has the limit");
        let inside = [memory, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "268435456\n")];
        assert_eq!(limit(&inside), Some(256 * MIB), "a container sees its group at the root");
        let first = [
            ("proc/self/cgroup", "7:cpu,cpuacct:/x\n4:memory:/pod/one\n1:name=systemd:/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes", "134217728\n"),
        ];
        assert_eq!(limit(&first), Some(128 * MIB));
        assert_eq!(limit(&[memory, ("proc/self/cgroup", "nonsense\n0::/../../x\n")]), Some(1024 * MIB));
    }

    #[test]
    fn the_soft_limit_of_descriptors_is_raised() {
        let limit = raise_descriptors();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current.unwrap_or(u64::MAX), limit);
        assert!(limit >= now.maximum.unwrap_or(u64::MAX).min(DESCRIPTORS_MAX));
    }
}
