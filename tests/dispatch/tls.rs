//! A cache that accepts only TLS: commands, the change feed and event streams work, the token changes without a
//! restart, and a server with another certificate is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use dispatch_tests::redis::{RedisServer, TlsFiles, has_tls};
use dispatch_tests::support::until;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep, timeout};

use crate::process::{Process, Surroundings, free_port};
use crate::support::City;
use crate::trip::{Apps, Caller};

/// The variable that names the token, which the worker reads from the file that `…_FILE` names.
const TOKEN: &str = "CACHE_TOKEN";

/// A certificate authority in a folder, and certificates for servers.
struct Authority(TempDir);

impl Authority {
    fn create(name: &str) -> Self {
        let authority = Self(TempDir::new().unwrap());
        let subject = format!("/CN={name}");
        let arguments =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        authority.openssl(&[&arguments[..], &["-subj", &subject, "-keyout", "ca.key", "-out", "ca.pem"]].concat());
        authority
    }

    /// A certificate for a host, and for the address that the test itself connects to.
    fn certificate(&self, host: &str) -> TlsFiles {
        let (key, request, certificate) = (format!("{host}.key"), format!("{host}.csr"), format!("{host}.pem"));
        let subject = format!("/CN={host}");
        let arguments = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        self.openssl(&[&arguments[..], &["-subj", &subject, "-keyout", &key, "-out", &request]].concat());
        std::fs::write(self.path("names"), format!("subjectAltName=DNS:{host},IP:127.0.0.1")).unwrap();
        let signed = ["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile"];
        self.openssl(&[&signed[..], &["names", "-in", &request, "-out", &certificate]].concat());
        TlsFiles { certificate: self.path(&certificate), key: self.path(&key), authority: self.path("ca.pem") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &[&str]) {
        let done = Command::new("openssl").args(arguments).current_dir(self.0.path()).output().unwrap();
        assert!(done.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Why the tests of this file cannot run here.
fn missing() -> Option<&'static str> {
    let has_openssl = Command::new("openssl").arg("version").output().is_ok_and(|done| done.status.success());
    match (has_tls(), has_openssl) {
        (true, true) => None,
        (false, _) => Some("redis-server was built without TLS"),
        (_, false) => Some("there is no openssl"),
    }
}

/// Whether a worker listens for events: Redis keeps none for a subscription that comes later.
async fn has_subscriber(cache: &RedisServer, token: &str) -> bool {
    let Ok(mut redis) = cache.connection(Some(token)).await else { return false };
    let channels = redis::cmd("PUBSUB").arg("CHANNELS").query_async::<Vec<String>>(&mut redis).await;
    channels.is_ok_and(|channels| !channels.is_empty())
}

/// A worker on a cache with TLS.
struct Encrypted {
    // Fields are dropped in this order: the process ends before its output is searched.
    worker: Process,
    surroundings: Surroundings,
    apps: Apps,
    port: u16,
    _city: City,
}

impl Encrypted {
    /// Starts a worker that trusts `authority` and finds the cache on a host, and waits until it is ready.
    async fn start(cache: &RedisServer, host: &str, authority: &Path, token: &Path) -> Self {
        let city = Self::spawn(cache, host, authority, token).await;
        until("the worker to be ready", async || (city.worker.admin("readyz").await == Some(200)).then_some(())).await;
        city
    }

    async fn spawn(cache: &RedisServer, host: &str, authority: &Path, token: &Path) -> Self {
        let mut city = City::create().await;
        city.config.cache.url = format!("rediss://{host}:{}", cache.port());
        city.config.cache.auth_token_env = Some(TOKEN.to_owned());
        let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
        let port = free_port();
        let variables = format!("export SSL_CERT_FILE={} {TOKEN}_FILE={}", authority.display(), token.display());
        let worker = surroundings.spawn(&variables, "encrypted", "all", port);
        Self { worker, surroundings, apps: Apps::new(&city, port), port, _city: city }
    }

    /// Whether the worker can write to the cache.
    async fn writes(&self) -> bool {
        self.worker.metric("dispatch_cache_writable").await == 1
    }

    async fn searches_of_the_cache(&self) -> u64 {
        let metrics = self.worker.metrics().await;
        let of_cache =
            |line: &&str| line.starts_with("dispatch_fleet_searches_total{") && !line.contains("source=\"table\"");
        metrics.lines().filter(of_cache).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Plays a ride whose user follows it on an event stream.
    async fn ride(&self, name: &str) {
        let (user, _) = self.apps.people(name).await;
        let token = self.apps.token(Caller::User(&user));
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let head = format!(
            "GET /v1/events?user={name} HTTP/1.1\r\nhost: dispatch\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut events = BufReader::new(stream).lines();
        let mut ride = self.apps.ask(name).await;
        self.apps.accept(&mut ride).await;
        let received = async {
            while let Ok(Some(line)) = events.next_line().await {
                if line.contains("DRIVER_ACCEPTED") {
                    return;
                }
            }
            panic!("the event stream ended");
        };
        timeout(Duration::from_secs(30), received).await.expect("an event over the cache");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.surroundings.folder.path().join("encrypted.log")).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_with_tls_serves_commands_and_events_and_its_token_rotates() {
    if let Some(reason) = missing() {
        println!("skipped: a_cache_with_tls_serves_commands_and_events_and_its_token_rotates: {reason}");
        return;
    }
    let authority = Authority::create("Cache CA");
    let cache = RedisServer::start_with_tls(&authority.certificate("localhost")).await.unwrap();
    cache.command("CONFIG SET requirepass the-first-token").await.unwrap();
    let token = authority.path("token");
    std::fs::write(&token, "the-first-token\n").unwrap();
    let city = Encrypted::start(&cache, "localhost", &authority.path("ca.pem"), &token).await;
    until("a cache in use", async || city.writes().await.then_some(())).await;
    until("a subscription", async || has_subscriber(&cache, "the-first-token").await.then_some(())).await;
    city.ride("first").await;
    assert!(city.searches_of_the_cache().await > 0, "the driver was found in the cache");

    // Existing sessions stay authenticated, so they are ended.
    let mut operator = cache.connection(Some("the-first-token")).await.unwrap();
    for command in [&["CONFIG", "SET", "requirepass", "the-second-token"][..], &["CLIENT", "KILL", "SKIPME", "yes"]] {
        redis::cmd(command[0]).arg(&command[1..]).query_async::<redis::Value>(&mut operator).await.unwrap();
    }
    until("a refused session", async || {
        let refused = "dispatch_cache_refusals_total{code=\"WRONGPASS\"}";
        (city.worker.metric(refused).await > 0).then_some(())
    })
    .await;
    std::fs::write(&token, "the-second-token\n").unwrap();
    until("a cache in use again", async || city.writes().await.then_some(())).await;
    until("another subscription", async || has_subscriber(&cache, "the-second-token").await.then_some(())).await;
    city.ride("second").await;
    assert!(!city.log().contains("-token"), "the token was logged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_with_a_certificate_of_another_authority_or_host_is_refused() {
    const TEST: &str = "a_cache_with_a_certificate_of_another_authority_or_host_is_refused";
    if let Some(reason) = missing() {
        println!("skipped: {TEST}: {reason}");
        return;
    }
    let (authority, other) = (Authority::create("Cache CA"), Authority::create("Another CA"));
    let token = authority.path("token");
    std::fs::write(&token, "the-token\n").unwrap();
    for (host, trusted, expected) in
        [("localhost", &other, "UnknownIssuer"), ("elsewhere", &authority, "not valid for name")]
    {
        let cache = RedisServer::start_with_tls(&authority.certificate(host)).await.unwrap();
        cache.command("CONFIG SET requirepass the-token").await.unwrap();
        let city = Encrypted::spawn(&cache, "localhost", &trusted.path("ca.pem"), &token).await;
        let reason = until("a log line about the cache", async || {
            city.log().lines().find(|line| line.contains(expected)).map(str::to_owned)
        });
        let Ok(reason) = timeout(Duration::from_secs(10), reason).await else { panic!("{}", city.log()) };
        println!("{reason}");
        // A revision that never reached its cache does not start, and nothing is sent over a connection without proof.
        sleep(Duration::from_secs(1)).await;
        let (status, waits_for) = city.worker.readiness().await.unwrap();
        assert!(status == 503 && waits_for.contains("the cache ("), "{host}: {waits_for}");
        let mut redis = cache.connection(Some("the-token")).await.unwrap();
        let received: String = redis::cmd("INFO").arg("commandstats").query_async(&mut redis).await.unwrap();
        for command in ["cmdstat_geosearch", "cmdstat_evalsha", "cmdstat_hget", "cmdstat_xread", "cmdstat_subscribe"] {
            assert!(!received.contains(command), "{host}: {received}");
        }
    }
}
