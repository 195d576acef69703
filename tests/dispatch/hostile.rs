//! Clients that take what a process has least of: connections, memory, file descriptors, event streams.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::process::{Process, Surroundings, free_port};
use crate::support::City;
use crate::trip::{Apps, Call, Caller, Reply, user_document};

/// Longest time for an answer of `/livez`: the time-out of the default probe.
const ALIVE_WITHIN: Duration = Duration::from_secs(1);
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// Longest time until an app is served beside hostile clients.
const SERVED_WITHIN: Duration = Duration::from_secs(15);
/// Default memory limit of a worker's Pod.
const MEMORY_MAX: u64 = 256 * 1024 * 1024;
/// Beginning of a head that never ends.
const HALF_HEAD: &str = "GET /v1/users/00001 HTTP/1.1\r\nhost: dispatch\r\nx-slow: ";

/// A process that runs in a shell's surroundings, and its city's apps.
struct Target {
    // Fields are dropped in this order: the process ends before its output is searched.
    worker: Process,
    _surroundings: Surroundings,
    apps: Apps,
    port: u16,
    _city: City,
}

impl Target {
    /// Starts a worker after these commands of a shell.
    async fn start(commands: &str) -> Self {
        let city = City::create().await;
        let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
        let port = free_port();
        let worker = surroundings.start_after(commands, "hostile", "all", port).await;
        Self { worker, _surroundings: surroundings, apps: Apps::new(&city, port), port, _city: city }
    }

    /// Watches `/livez` while `others` are served. Fails if the process does not answer in time or ends.
    async fn stays_alive_while(&mut self, others: impl Future<Output = ()>) {
        tokio::pin!(others);
        loop {
            let probed = Instant::now();
            let status = timeout(ALIVE_WITHIN, self.worker.admin("livez")).await;
            assert_eq!(status, Ok(Some(200)), "/livez after {:?}", probed.elapsed());
            tokio::select! {
                () = &mut others => break,
                () = sleep(PROBE_INTERVAL) => {}
            }
        }
        assert!(self.worker.child.try_wait().unwrap().is_none(), "the process was killed");
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

/// Signs on three users, each of whom is served in time.
async fn users_are_served(address: SocketAddr, tokens: Vec<(String, String)>) {
    for (name, token) in tokens {
        let started = Instant::now();
        loop {
            let client = reqwest::Client::builder().no_proxy().timeout(SERVED_WITHIN).build().unwrap();
            let request = client.put(format!("http://{address}/v1/users/{name}")).bearer_auth(&token);
            let answer = request.json(&user_document()).send().await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                break;
            }
            assert!(started.elapsed() < SERVED_WITHIN, "{name} was not served");
            sleep(PROBE_INTERVAL).await;
        }
        println!("{name} was served within {:?}", started.elapsed());
    }
}

fn honest_users(apps: &Apps) -> Vec<(String, String)> {
    let names = (1..=3).map(|number| format!("honest-{number}"));
    names.map(|name| (name.clone(), apps.token(Caller::User(&format!("user#{name}"))))).collect()
}

/// A connection that sends nothing, or half a head, and comes again when it is closed.
fn hostile_connection(address: SocketAddr, first: &'static str, end: Arc<AtomicBool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !end.load(Ordering::Relaxed) {
            let Ok(mut stream) = TcpStream::connect(address).await else {
                sleep(PROBE_INTERVAL).await;
                continue;
            };
            let _ = stream.write_all(first.as_bytes()).await;
            let mut byte = [0];
            let _ = timeout(Duration::from_secs(30), stream.read(&mut byte)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_256_descriptors_serves_users_beside_silent_connections() {
    let mut target = Target::start("ulimit -n 256").await;
    let end = Arc::new(AtomicBool::new(false));
    let hostile: Vec<_> = (0..600)
        .map(|number| hostile_connection(target.address(), ["", HALF_HEAD][number % 2], Arc::clone(&end)))
        .collect();
    sleep(Duration::from_secs(2)).await;
    let users = honest_users(&target.apps);
    let address = target.address();
    target.stays_alive_while(users_are_served(address, users)).await;
    assert!(target.worker.metric("dispatch_http_connections_evicted_total{listener=\"http\"}").await > 0);
    end.store(true, Ordering::Relaxed);
    hostile.iter().for_each(JoinHandle::abort);
}

/// Opens a stream of one person's notifications.
async fn open_stream(address: SocketAddr, name: &str, token: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let head = "host: dispatch\r\nconnection: close";
    let request = format!("GET /v1/events?user={name} HTTP/1.1\r\n{head}\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.ok()?;
    (&answer == b"HTTP/1.1 200").then_some(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_of_one_token_leave_room_for_others() {
    const TASKS: usize = 8;
    const EACH: usize = 1_250;
    let mut target = Target::start("").await;
    let (address, token) = (target.address(), target.apps.token(Caller::User("user#greedy")));
    let greedy = async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let token = token.clone();
                tokio::spawn(async move {
                    let mut open = std::collections::VecDeque::new();
                    let mut opened = 0;
                    for _ in 0..EACH {
                        let stream = open_stream(address, "greedy", &token).await;
                        opened += usize::from(stream.is_some());
                        open.extend(stream);
                        open.drain(..open.len().saturating_sub(100));
                    }
                    (opened, open)
                })
            })
            .collect();
        let mut held = Vec::new();
        for task in tasks {
            let (opened, open) = task.await.unwrap();
            assert_eq!(opened, EACH, "each stream opens in the place of an older one");
            held.push(open);
        }
        let honest = target.apps.token(Caller::User("user#honest-1"));
        assert!(open_stream(address, "honest-1", &honest).await.is_some());
    };
    let started = Instant::now();
    greedy.await;
    println!("{} streams within {:?}", TASKS * EACH, started.elapsed());
    let users = honest_users(&target.apps);
    target.stays_alive_while(users_are_served(address, users)).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", target.worker.child.id())).unwrap().count();
    println!("{open} descriptors, {} KiB", target.worker.memory_kib());
    assert!(open < 300 && target.worker.memory_kib() * 1024 < MEMORY_MAX, "{open} descriptors");
}

/// A control group with a memory limit, removed when dropped.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// A group below the one of this process; `None` where none can be made.
    fn create(limit: u64) -> Option<Self> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let parents = groups.lines().filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let path = path.trim_start_matches('/');
            match controllers {
                "" => Some((PathBuf::from("/sys/fs/cgroup").join(path), "memory.max")),
                "memory" => Some((PathBuf::from("/sys/fs/cgroup/memory").join(path), "memory.limit_in_bytes")),
                _ => None,
            }
        });
        parents.into_iter().find_map(|(parent, file)| {
            let folder = parent.join(format!("dispatch-test-{}", std::process::id()));
            std::fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            // In a group without the memory controller the file does not exist.
            let file = group.0.join(file);
            (file.exists() && std::fs::write(file, limit.to_string()).is_ok()).then_some(group)
        })
    }

    /// Largest memory in use so far, bytes.
    fn peak(&self) -> Option<u64> {
        let read = |file| std::fs::read_to_string(self.0.join(file)).ok()?.trim().parse().ok();
        read("memory.max_usage_in_bytes").or_else(|| read("memory.peak"))
    }

    /// Removes the group, which the kernel allows a moment after its last process has ended.
    async fn remove(self) {
        for _ in 0..50 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            sleep(PROBE_INTERVAL).await;
        }
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Fails if it has been removed already.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Hostile sockets of one client process: half heads as long as a server takes, again when they are closed.
const HOSTILE_CLIENT: &str = r#"
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
port, sockets = int(sys.argv[1]), int(sys.argv[2])
head = b"GET /v1/users/00001 HTTP/1.1\r\nhost: dispatch\r\nx-slow: " + b"x" * 15000
async def one():
    while True:
        try:
            # Another address than that of the honest apps.
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            writer.write(head)
            await reader.read()
            writer.close()
        except OSError:
            await asyncio.sleep(1)
async def main():
    await asyncio.gather(*[one() for _ in range(sockets)])
asyncio.run(main())
"#;

/// A client process, killed when dropped.
struct HostileClient(Child);

impl HostileClient {
    fn start(port: u16, sockets: usize) -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", "10", "python3", "-c", HOSTILE_CLIENT, &port.to_string(), &sockets.to_string()]);
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("python3 exists"))
    }
}

impl Drop for HostileClient {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_hostile_sockets_kill_no_process_in_a_small_memory_group() {
    const CLIENTS: usize = 4;
    const SOCKETS: usize = 5_000;
    let Some(group) = MemoryGroup::create(MEMORY_MAX) else {
        println!("skipped: twenty_thousand_hostile_sockets_kill_no_process_in_a_small_memory_group: no control group");
        return;
    };
    let mut target = Target::start(&format!("echo $$ > {}/cgroup.procs", group.0.display())).await;
    let clients: Vec<_> = (0..CLIENTS).map(|_| HostileClient::start(target.port, SOCKETS)).collect();
    let (address, users) = (target.address(), honest_users(&target.apps));
    let under_attack = async {
        sleep(Duration::from_secs(10)).await;
        users_are_served(address, users).await;
    };
    target.stays_alive_while(under_attack).await;
    let evicted = target.worker.metric("dispatch_http_connections_evicted_total{listener=\"http\"}").await;
    println!("{evicted} evicted, {} KiB resident, peak of the group {:?}", target.worker.memory_kib(), group.peak());
    assert!(evicted > 1_000, "{evicted}");
    drop(clients);
    // Afterwards an app needs no patience.
    let call = Call::new(Method::PUT, "/v1/users/after".to_owned()).body(user_document());
    let reply = target.apps.once(Caller::User("user#after"), &call).await;
    assert!(matches!(reply, Reply::Answer { status: StatusCode::OK, .. }));
    drop(target);
    group.remove().await;
}
