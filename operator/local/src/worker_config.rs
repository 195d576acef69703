//! The worker configuration of a local run, in a file that the runtime watches.

use std::io;
use std::path::Path;

use dispatch_api::worker_config::WorkerConfig;

use crate::state_dir::write_atomically;

/// What a change of the configuration requires of running workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerUpdate {
    None,
    /// The workers reload the file themselves.
    Reload,
    /// The workers must restart.
    Restart,
}

/// Compares the current configuration with the new one.
pub(crate) fn required_update(old: &WorkerConfig, new: &WorkerConfig) -> WorkerUpdate {
    if old == new {
        WorkerUpdate::None
    } else if new.needs_restart(old) {
        WorkerUpdate::Restart
    } else {
        WorkerUpdate::Reload
    }
}

/// Replaces the file. Only the owner may read it.
pub(crate) fn write(path: &Path, config: &WorkerConfig) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(config)?;
    json.push(b'\n');
    write_atomically(path, &json)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config() -> WorkerConfig {
        serde_json::from_value(serde_json::json!({
            "version": 1, "system": "default/seoul", "city": "seoul", "timezone": "Asia/Seoul", "currency": "KRW",
            "aws": { "region": "ap-northeast-2" },
            "table": { "name": "t", "streamArn": "arn", "gsi1Shards": 1 },
            "leaseTable": "t-leases",
            "queues": { "offersUrl": "o", "offersDeadLettersUrl": "d", "responsesUrl": "r", "notificationsUrl": "n" },
            "notifications": { "topicArn": "topic" },
            "cache": { "url": "rediss://master.seoul.cache.amazonaws.com:6379", "authTokenEnv": "REDIS_AUTH_TOKEN" },
            "dispatch": {
                "maxCandidates": 5, "maxAttempts": 5, "offerTimeoutMs": 15000, "searchBudgetMs": 60000,
                "searchRingsM": [700], "distanceBucketM": 200, "staleAfterMs": 30000, "coolDownAfterRejectMs": 10000,
                "coolDownAfterTimeoutMs": 30000, "acceptanceWindowDays": 7, "autoAccept": true,
                "fare": {
                    "base": 4800, "baseDistanceM": 1600, "perDistance": 100, "perDistanceM": 131, "perTime": 100,
                    "perTimeS": 30, "nightSurcharges": [], "roadFactorPercent": 130, "averageSpeedKmh": 25,
                    "roundTo": 100
                }
            }
        }))
        .unwrap()
    }

    #[test]
    fn only_the_algorithm_and_the_stream_are_reloaded() {
        let old = config();
        assert_eq!(required_update(&old, &old), WorkerUpdate::None);
        let mut rules = old.clone();
        rules.dispatch.offer_timeout_ms = 20_000;
        rules.dispatch.fare.base = 5000;
        rules.table.stream_arn = "arn of a later stream".to_owned();
        assert_eq!(required_update(&old, &rules), WorkerUpdate::Reload);
        let mut queue = rules.clone();
        queue.queues.offers_url = "other".to_owned();
        assert_eq!(required_update(&old, &queue), WorkerUpdate::Restart);
    }

    #[test]
    fn the_file_is_private_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.json");
        fs::write(dir.path().join("worker.json.new"), "left by a killed run").unwrap();
        write(&path, &config()).unwrap();
        let read: WorkerConfig = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, config());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
