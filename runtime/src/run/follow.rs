//! Follows the configuration file: the dispatch rules and the stream change while the process runs, everything else with its next start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::worker_config::{WorkerConfig, WorkerConfigError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::city::Settings;
use crate::telemetry::heartbeat::Heartbeat;

/// Time between two looks. Watching the content works for a file, a renamed file and a mounted `ConfigMap` alike, and a small
/// file costs nothing to read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where changes go.
pub(super) struct TakenOver {
    pub(super) settings: watch::Sender<Arc<Settings>>,
    pub(super) stream_arn: watch::Sender<String>,
    /// Sign of life of whoever follows.
    pub(super) pulse: Heartbeat,
}

/// Follows the file until `shutdown`. A file that is missing or wrong changes nothing.
pub(super) async fn follow(path: PathBuf, mut current: WorkerConfig, to: TakenOver, shutdown: CancellationToken) {
    let mut seen = String::new();
    loop {
        to.pulse.beat();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // A file that is being replaced may be away for a moment.
        let Ok(text) = tokio::fs::read_to_string(&path).await else { continue };
        if text == seen {
            continue;
        }
        match take_over(&text, &mut current, &to) {
            Ok(()) => {}
            Err(error) => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, reason, "the changed configuration is not used");
            }
        }
        seen = text;
    }
}

fn take_over(text: &str, current: &mut WorkerConfig, to: &TakenOver) -> Result<(), WorkerConfigError> {
    let changed = WorkerConfig::read(text)?;
    if changed.needs_restart(current) {
        tracing::warn!("the configuration has changes that need a restart");
    }
    if changed.table.stream_arn != current.table.stream_arn {
        to.stream_arn.send_replace(changed.table.stream_arn.clone());
        current.table.stream_arn.clone_from(&changed.table.stream_arn);
        tracing::info!("the table has another stream");
    }
    if changed.dispatch != current.dispatch {
        to.settings.send_replace(Arc::new(Settings::of(&changed.dispatch)?));
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
    fn rules_are_taken_over_and_a_wrong_file_changes_nothing() {
        let mut current = config();
        let (settings, receiver) = watch::channel(Arc::new(Settings::of(&current.dispatch).unwrap()));
        let (stream_arn, followed_arn) = watch::channel(current.table.stream_arn.clone());
        let to = TakenOver { settings, stream_arn, pulse: Heartbeats::default().begin("the configuration") };
        let timeout_ms = || receiver.borrow().policy.offer_timeout_ms;
        let mut changed = config();
        changed.dispatch.offer_timeout_ms = 20_000;
        changed.lease_table = "others".to_owned();
        changed.table.stream_arn = "arn:aws:dynamodb:::later".to_owned();
        take_over(&changed.to_json_pretty().unwrap(), &mut current, &to).unwrap();
        assert_eq!(timeout_ms(), 20_000);
        assert_eq!(*followed_arn.borrow(), "arn:aws:dynamodb:::later");
        assert_eq!(current.lease_table, "leases", "what needs a restart is not taken over");

        changed.dispatch.offer_timeout_ms = 1;
        assert!(take_over(&changed.to_json_pretty().unwrap(), &mut current, &to).is_err());
        assert!(take_over("{", &mut current, &to).is_err());
        assert_eq!(timeout_ms(), 20_000);
        assert_eq!(receiver.borrow().policy.max_attempts, DispatchPolicy::default().max_attempts);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_away_is_no_silence() {
        let (pulses, shutdown, current) = (Heartbeats::default(), CancellationToken::new(), config());
        let (settings, _receiver) = watch::channel(Arc::new(Settings::of(&current.dispatch).unwrap()));
        let (stream_arn, _followed) = watch::channel(current.table.stream_arn.clone());
        let to = TakenOver { settings, stream_arn, pulse: pulses.begin("the configuration") };
        let following = tokio::spawn(follow(PathBuf::from("/nowhere/worker.json"), current, to, shutdown.clone()));
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < SILENCE_MAX * 2 {
            tokio::time::sleep(LOOK_EVERY).await;
            assert_eq!(pulses.silent(), None);
        }
        following.abort();
        // A task that was ended beats no more.
        let _ = following.await;
        tokio::time::advance(SILENCE_MAX * 2).await;
        assert_eq!(pulses.silent(), Some("the configuration"));
    }
}
