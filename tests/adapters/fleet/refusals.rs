//! A cache that answers reads and refuses writes, or refuses everything, for the moment.

use std::time::{Duration, Instant};

use dispatch_runtime::ports::PortError;
use dispatch_tests::redis::RedisServer;
use futures::future::join_all;
use redis::Value;

use super::failover::Worker;
use super::{driver, free, north, now};
use crate::support::until;

/// How long after the beginning of a refusal searches may use the cache at most.
const USED_WITHIN: Duration = Duration::from_secs(12);

/// A state of the server: how it begins, the code of its refusals, and how it ends.
struct Case {
    begin: &'static [&'static str],
    code: &'static str,
    end: &'static [&'static str],
}

const CASES: [Case; 7] = [
    Case {
        begin: &["CONFIG SET maxmemory-policy noeviction", "CONFIG SET maxmemory 1"],
        code: "OOM",
        end: &["CONFIG SET maxmemory 0"],
    },
    Case {
        begin: &["CONFIG SET min-replicas-to-write 1"],
        code: "NOREPLICAS",
        end: &["CONFIG SET min-replicas-to-write 0"],
    },
    Case { begin: &["REPLICAOF 127.0.0.1 1"], code: "READONLY", end: &["REPLICAOF NO ONE"] },
    Case {
        begin: &["CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"],
        code: "MASTERDOWN",
        end: &["REPLICAOF NO ONE"],
    },
    Case { begin: &["ACL SETUSER default -@write"], code: "NOPERM", end: &["ACL SETUSER default +@all"] },
    Case { begin: &["ACL SETUSER default -evalsha"], code: "NOPERM", end: &["ACL SETUSER default +@all"] },
    Case { begin: &["CONFIG SET save 3600_1", "!"], code: "MISCONF", end: &["CONFIG SET save "] },
];

impl Case {
    async fn run(&self, server: &RedisServer, commands: &[&str]) {
        for command in commands {
            if *command == "!" {
                fail_to_save(server).await;
            } else {
                // A space within an argument.
                let words: Vec<String> = command.split(' ').map(|word| word.replace('_', " ")).collect();
                let mut connection =
                    redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
                let sent = redis::cmd(&words[0]).arg(&words[1..]).query_async::<Value>(&mut connection).await;
                sent.unwrap_or_else(|error| panic!("{command}: {error}"));
            }
        }
    }

    /// Plays the case with a server and a worker of its own.
    async fn play(&self) {
        let server = RedisServer::start().await.unwrap();
        let worker = Worker::start(&server.url(), None);
        worker.fleet.positions.fill(&[free(1, 100.0)]).await.unwrap();
        assert!(worker.records(1, 110.0).await);
        let search = async || worker.fleet.search.nearby(north(0.0), &[1000], 5, now()).await;
        assert_eq!(search().await.unwrap().unwrap()[0].id, driver(1));

        self.run(&server, self.begin).await;
        let begun = Instant::now();
        until("a search that uses the table", async || {
            assert!(!worker.records(1, 120.0).await, "{}", self.code);
            match search().await {
                Err(PortError::Unavailable { .. }) => Some(()),
                Err(error) => panic!("{}: {error:?}", self.code),
                Ok(_) => None,
            }
        })
        .await;
        assert!(begun.elapsed() < USED_WITHIN, "{}: {:?}", self.code, begun.elapsed());
        let refusals = format!("dispatch_cache_refusals_total{{code=\"{}\"}}", self.code);
        assert!(worker.metric(&refusals) > 0, "{}", worker.metrics.encode().unwrap());
        until("a failed probe", async || (worker.metric("dispatch_cache_writable ") == 0).then_some(())).await;

        self.run(&server, self.end).await;
        until("a search that uses the cache", async || {
            // A replica whose primary never answered keeps its drivers; one that lost them would be refilled.
            let _ = worker.records(1, 130.0).await;
            let near = search().await.ok().flatten().unwrap_or_default();
            near.iter().any(|found| found.id == driver(1)).then_some(())
        })
        .await;
        until("accepted writes", async || (worker.metric("dispatch_cache_writable ") == 1).then_some(())).await;
    }
}

/// Lets a background save fail: the server's folder is gone.
async fn fail_to_save(server: &RedisServer) {
    let Ok(Value::Array(answer)) = server.command("CONFIG GET dir").await else { panic!("no folder") };
    let Some(Value::BulkString(folder)) = answer.last() else { panic!("{answer:?}") };
    std::fs::remove_dir_all(String::from_utf8_lossy(folder).as_ref()).unwrap();
    server.command("BGSAVE").await.unwrap();
    until("a failed save", async || {
        let Ok(Value::BulkString(info)) = server.command("INFO persistence").await else { return None };
        String::from_utf8_lossy(&info).contains("rdb_last_bgsave_status:err").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_cache_refuses_writes_pings_can_be_repeated_and_searches_use_the_table() {
    join_all(CASES.iter().map(Case::play)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_runs_a_long_script_is_busy_for_the_moment() {
    let server = RedisServer::start().await.unwrap();
    let worker = Worker::start(&server.url(), None);
    worker.fleet.positions.fill(&[free(1, 100.0)]).await.unwrap();
    server.command("CONFIG SET lua-time-limit 20").await.unwrap();
    let url = server.url();
    tokio::spawn(async move {
        let mut connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
        let _ = redis::cmd("EVAL").arg("while true do end").arg(0).query_async::<Value>(&mut connection).await;
    });
    until("a busy server", async || {
        let is_recorded = worker.records(1, 110.0).await;
        (!is_recorded && worker.metric("dispatch_cache_refusals_total{code=\"BUSY\"}") > 0).then_some(())
    })
    .await;
    until("the end of the script", async || server.command("SCRIPT KILL").await.ok()).await;
    until("recorded pings", async || worker.records(1, 120.0).await.then_some(())).await;
}
