//! What a worker waits for before it starts.

use dispatch_api::worker_config::WorkerConfig;
use dispatch_tests::forwarder::Forwarder;
use dispatch_tests::support::until;
use redis::IntoConnectionInfo as _;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep};

use crate::process::{Process, Surroundings, free_port};
use crate::support::City;

/// A proven revision tolerates silence after 30 s.
const PROVEN_WITHIN: Duration = Duration::from_mins(1);

/// Breaks a configuration.
type Change<'a> = dyn Fn(&mut WorkerConfig) + 'a;

async fn not_ready(worker: &Process, reason: &str) {
    until(reason, async || {
        let (status, body) = worker.readiness().await?;
        (status == 503 && body.contains(reason)).then_some(())
    })
    .await;
}

fn sqs(city: &City) -> aws_sdk_sqs::Client {
    aws_sdk_sqs::Client::new(city.clients.config())
}

async fn connection(url: &str, password: Option<&str>) -> redis::aio::MultiplexedConnection {
    let mut info = url.into_connection_info().unwrap();
    if let Some(password) = password {
        let settings = info.redis_settings().clone().set_password(password);
        info = info.set_redis_settings(settings);
    }
    redis::Client::open(info).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn messages(city: &City, url: &str) -> String {
    let attribute = aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages;
    let asked = sqs(city).get_queue_attributes().queue_url(url).attribute_names(attribute.clone()).send().await;
    asked.unwrap().attributes.unwrap_or_default().remove(&attribute).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_refused_takes_nothing_says_why_and_starts_when_it_is_accepted() {
    let city = City::create().await;
    let responses = &city.config.queues.responses_url;
    sqs(&city).send_message().queue_url(responses).message_body("{}").send().await.unwrap();
    let url = city.redis.lock().await.url();
    let mut cache = connection(&url, None).await;
    let password = |password: &str| redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(password).to_owned();
    password("hunter2").query_async::<()>(&mut cache).await.unwrap();

    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let port = free_port();
    let worker = surroundings.spawn("", "refused", "all", port);
    not_ready(&worker, "the cache (refused: NOAUTH").await;
    assert_eq!(worker.admin("livez").await, Some(200), "a restart would not help");
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "it listens");
    assert_eq!(worker.metric("dispatch_gate_waits{dependency=\"the cache\",kind=\"refused\"}").await, 1);
    assert_eq!(messages(&city, responses).await, "1", "it took a message");

    let mut accepted = connection(&url, Some("hunter2")).await;
    password("").query_async::<()>(&mut accepted).await.unwrap();
    until("the worker to be ready", async || (worker.admin("readyz").await == Some(200)).then_some(())).await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok(), "it does not listen");
    assert_eq!(worker.metric("dispatch_gate_waits{dependency=\"the cache\",kind=\"refused\"}").await, 0);
}

/// Each dependency refuses in its own way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_names_the_dependency_that_refuses_it() {
    let city = City::create().await;
    let gone = |url: &str| format!("{url}-gone");
    let changes: [(&str, &Change<'_>); 4] = [
        ("the table (refused: ", &|config| config.table.name = gone(&config.table.name)),
        ("the lease table (refused: ", &|config| config.lease_table = gone(&config.lease_table)),
        ("the notifications queue (refused: ", &|config| {
            config.queues.notifications_url = gone(&config.queues.notifications_url);
        }),
        ("the topic (refused: ", &|config| config.notifications.topic_arn = gone(&config.notifications.topic_arn)),
    ];
    for (reason, change) in changes {
        let mut config = city.config.clone();
        change(&mut config);
        let surroundings = Surroundings::new(&config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
        let worker = surroundings.spawn("", "refused", "all", free_port());
        not_ready(&worker, reason).await;
    }
    // Without a source of credentials, the chain of sources ends without any.
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let none = "unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; export AWS_EC2_METADATA_DISABLED=true HOME=/nonexistent";
    let worker = surroundings.spawn(none, "refused", "all", free_port());
    not_ready(&worker, "AWS credentials (refused: the Pod has none").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_restarts_while_the_cache_is_away_if_its_revision_has_worked() {
    let mut city = City::create().await;
    let cache = Forwarder::to(city.redis.lock().await.port()).await.unwrap();
    city.config.cache.url = cache.redis_url();
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let mut before = surroundings.start("before", "all", free_port()).await;
    before.kill();
    // No process listens on this port.
    cache.lead_to(free_port());

    let begun = Instant::now();
    let port = free_port();
    let proven = surroundings.spawn("", "proven", "all", port);
    let unproven = surroundings.spawn("", "unproven", "save-dispatch", free_port());
    not_ready(&proven, "the cache (silent: ").await;
    not_ready(&unproven, "the cache (silent: ").await;
    while proven.admin("readyz").await != Some(200) {
        assert!(begun.elapsed() < PROVEN_WITHIN, "the proven revision does not start");
        sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(30), "it waited for {:?}", begun.elapsed());
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok(), "it does not listen");
    not_ready(&unproven, "the cache (silent: ").await;
    cache.lead_to(city.redis.lock().await.port());
    until("the unproven revision to start", async || (unproven.admin("readyz").await == Some(200)).then_some(())).await;
}
