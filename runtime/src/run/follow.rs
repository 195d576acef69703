//! Watches the configuration file: changes of the dispatch rules and of the stream apply while the process runs, all
//! others at the next start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::worker_config::{WorkerConfig, WorkerConfigError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::city::Settings;
use crate::telemetry::heartbeat::Heartbeat;

/// Polling interval. Comparing the content works for a file, a renamed file and a mounted `ConfigMap` alike, and a
/// small file costs nothing to read.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// The receivers of changes.
pub(super) struct ConfigSinks {
    pub(super) settings: watch::Sender<Arc<Settings>>,
    pub(super) stream_arn: watch::Sender<String>,
    /// Heartbeat of the watcher.
    pub(super) pulse: Heartbeat,
}

/// Watches the file until `shutdown`. A missing or invalid file changes nothing.
pub(super) async fn follow(path: PathBuf, mut current: WorkerConfig, to: ConfigSinks, shutdown: CancellationToken) {
    let mut seen = String::new();
    loop {
        to.pulse.beat();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(POLL_EVERY) => {}
        }
        // A file may be missing for a moment while it is replaced.
        let Ok(text) = tokio::fs::read_to_string(&path).await else { continue };
        if text == seen {
            continue;
        }
        match apply(&text, &mut current, &to) {
            Ok(()) => {}
            Err(error) => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, reason, "the changed configuration is invalid and is not applied");
            }
        }
        seen = text;
    }
}

fn apply(text: &str, current: &mut WorkerConfig, to: &ConfigSinks) -> Result<(), WorkerConfigError> {
    let changed = WorkerConfig::read(text)?;
    if changed.needs_restart(current) {
        tracing::warn!("the configuration has changes that apply only after a restart");
    }
    if changed.table.stream_arn != current.table.stream_arn {
        to.stream_arn.send_replace(changed.table.stream_arn.clone());
        current.table.stream_arn.clone_from(&changed.table.stream_arn);
        tracing::info!("the stream of the table changed");
    }
    if changed.dispatch != current.dispatch {
        to.settings.send_replace(Arc::new(Settings::from_config(&changed.dispatch)?));
        current.dispatch = changed.dispatch;
        tracing::info!("dispatch rules changed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dispatch_core::policy::DispatchPolicy;
    use serde_json::json;

    use super::*;
    use crate::telemetry::heartbeat::{Heartbeats, SILENCE_MAX};

    fn config() -> WorkerConfig {
        let dispatch = json!({
            "maxCandidates": 5, "maxAttempts": 5, "offerTimeoutMs": 15_000, "searchBudgetMs": 60_000,
            "searchRingsM": [700, 1500], "distanceBucketM": 200, "staleAfterMs": 30_000,
            "coolDownAfterRejectMs": 10_000, "coolDownAfterTimeoutMs": 30_000, "acceptanceWindowDays": 7,
            "autoAccept": true,
            "fare": {
                "base": 4800, "baseDistanceM": 1600, "perDistance": 100, "perDistanceM": 131, "perTime": 100,
                "perTimeS": 30, "nightSurcharges": [], "roadFactorPercent": 130, "averageSpeedKmh": 25, "roundTo": 100,
            },
        });
        let config = json!({
            "version": 1, "system": "default/seoul", "city": "seoul", "timezone": "Asia/Seoul", "currency": "KRW",
            "aws": { "region": "ap-northeast-2" },
            "table": { "name": "dispatch", "streamArn": "arn:aws:dynamodb:::stream", "gsi1Shards": 1 },
            "leaseTable": "leases",
            "queues": {
                "offersUrl": "https://o", "offersDeadLettersUrl": "https://d", "responsesUrl": "https://r",
                "notificationsUrl": "https://n",
            },
            "notifications": { "topicArn": "arn:aws:sns:::topic" },
            "cache": { "url": "redis://localhost" },
            "dispatch": dispatch,
        });
        WorkerConfig::read(&config.to_string()).unwrap()
    }

    #[test]
    fn changed_rules_are_applied_and_an_invalid_file_changes_nothing() {
        let mut current = config();
        let (settings, receiver) = watch::channel(Arc::new(Settings::from_config(&current.dispatch).unwrap()));
        let (stream_arn, followed_arn) = watch::channel(current.table.stream_arn.clone());
        let to = ConfigSinks { settings, stream_arn, pulse: Heartbeats::default().begin("the configuration") };
        let timeout_ms = || receiver.borrow().policy.offer_timeout_ms;
        let mut changed = config();
        changed.dispatch.offer_timeout_ms = 20_000;
        changed.lease_table = "others".to_owned();
        changed.table.stream_arn = "arn:aws:dynamodb:::later".to_owned();
        apply(&changed.to_json_pretty().unwrap(), &mut current, &to).unwrap();
        assert_eq!(timeout_ms(), 20_000);
        assert_eq!(*followed_arn.borrow(), "arn:aws:dynamodb:::later");
        assert_eq!(current.lease_table, "leases", "changes that need a restart are not applied");

        changed.dispatch.offer_timeout_ms = 1;
        assert!(apply(&changed.to_json_pretty().unwrap(), &mut current, &to).is_err());
        assert!(apply("{", &mut current, &to).is_err());
        assert_eq!(timeout_ms(), 20_000);
        assert_eq!(receiver.borrow().policy.max_attempts, DispatchPolicy::default().max_attempts);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_file_is_not_silence() {
        let (pulses, shutdown, current) = (Heartbeats::default(), CancellationToken::new(), config());
        let (settings, _receiver) = watch::channel(Arc::new(Settings::from_config(&current.dispatch).unwrap()));
        let (stream_arn, _followed) = watch::channel(current.table.stream_arn.clone());
        let to = ConfigSinks { settings, stream_arn, pulse: pulses.begin("the configuration") };
        let following = tokio::spawn(follow(PathBuf::from("/nowhere/worker.json"), current, to, shutdown.clone()));
        let started = tokio::time::Instant::now();
        while started.elapsed() < SILENCE_MAX * 2 {
            tokio::time::sleep(POLL_EVERY).await;
            assert_eq!(pulses.silent(), None);
        }
        following.abort();
        // An aborted task sends no heartbeat.
        let _ = following.await;
        tokio::time::advance(SILENCE_MAX * 2).await;
        assert_eq!(pulses.silent(), Some("the configuration"));
    }
}
