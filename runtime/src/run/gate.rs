//! The gate of a process: it listens, takes leases and receives from queues only after each thing that its roles need
//! has answered once. A roll-out of workers that cannot work therefore stops at its first Pod, and the old ones serve.
//!
//! A *refusal* (no credentials, access denied, not found, a wrong password) keeps the gate shut: it stays until
//! something changes. *Silence* (a time-out, a refused connection, a server error) may: a worker that restarts during
//! an outage of the cache or of the issuer must work. So silence is tolerated after half a minute, but only by a
//! revision that has been proven: a process with the same image and the same configuration has reached everything
//! before. A new revision may be the reason for the silence, for example with a wrong address.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::http::Readiness;
use crate::ports::PortError;
use crate::telemetry::metrics::Metrics;

/// How long a proven revision waits for a silent dependency.
const SILENCE_TOLERATED: Duration = Duration::from_secs(30);
/// Pauses between two rounds: the first is short, because everything usually answers at once.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// What a dependency has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Reached,
    Refused(String),
    Silent(String),
}

impl From<Result<(), PortError>> for Answer {
    fn from(result: Result<(), PortError>) -> Self {
        let Err(error) = result else { return Self::Reached };
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        match error {
            PortError::Unavailable { .. } => Self::Silent(cause),
            PortError::Failed { .. } | PortError::Unreadable { .. } => Self::Refused(cause),
        }
    }
}

/// A dependency, and how to ask it. The call changes nothing.
pub(super) struct Check {
    pub name: &'static str,
    pub ask: Box<dyn Fn() -> BoxFuture<'static, Answer> + Send + Sync>,
}

/// Where proofs of revisions are kept. It may be unreachable, like everything else.
pub(super) trait Proofs: Send + Sync {
    /// Whether a process of this revision has reached everything before.
    fn is_proven(&self) -> BoxFuture<'_, Result<bool, PortError>>;
    /// Records that this process has reached everything.
    fn prove(&self) -> BoxFuture<'_, Result<(), PortError>>;
}

/// Why the gate is shut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    name: &'static str,
    kind: &'static str,
    cause: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}: {})", self.name, self.kind, self.cause)
    }
}

/// The first refusal or, unless silence is tolerated, the first silence.
fn obstacle(answers: &[(&'static str, Answer)], waited: Duration, is_proven: bool) -> Option<Obstacle> {
    let tolerated = is_proven && waited >= SILENCE_TOLERATED;
    let refused = answers.iter().find_map(|(name, answer)| match answer {
        Answer::Refused(cause) => Some(Obstacle { name, kind: "refused", cause: cause.clone() }),
        _ => None,
    });
    refused.or_else(|| {
        answers.iter().filter(|_| !tolerated).find_map(|(name, answer)| match answer {
            Answer::Silent(cause) => Some(Obstacle { name, kind: "silent", cause: cause.clone() }),
            _ => None,
        })
    })
}

/// The gate of one process.
pub(super) struct Gate {
    pub checks: Vec<Check>,
    pub proofs: Arc<dyn Proofs>,
    pub metrics: Arc<Metrics>,
}

impl Gate {
    /// Waits until the gate opens. What it waits for is in the readiness, in a metric and, once per change, in the log.
    pub(super) async fn open(&self, readiness: &watch::Sender<Readiness>) {
        let pulse = self.metrics.pulse_while_held("the gate", Duration::from_mins(1));
        let begun = Instant::now();
        let mut answers: Vec<(&'static str, Answer)> =
            self.checks.iter().map(|check| (check.name, Answer::Silent("not asked yet".to_owned()))).collect();
        let (mut shown, mut is_proven) = (None, false);
        for round in 0_usize.. {
            pulse.beat();
            self.ask_again(&mut answers).await;
            let waited = begun.elapsed();
            // Asked only when it matters: a read of the table that may be silent itself.
            if !is_proven && waited >= SILENCE_TOLERATED {
                is_proven = self.proofs.is_proven().await.unwrap_or(false);
            }
            let found = obstacle(&answers, waited, is_proven);
            let changed = found.as_ref().map(|found| (found.name, found.kind));
            if changed != shown.as_ref().map(|shown: &Obstacle| (shown.name, shown.kind)) {
                self.show(found.as_ref(), shown.as_ref(), readiness);
            }
            let Some(found) = found else { break };
            shown = Some(found);
            tokio::time::sleep(PAUSES.get(round).copied().unwrap_or(PAUSES[PAUSES.len() - 1])).await;
        }
        self.opened(&answers).await;
    }

    /// Asks what has not been reached. What has answered once is not asked again.
    async fn ask_again(&self, answers: &mut [(&'static str, Answer)]) {
        let asked = self.checks.iter().zip(answers.iter()).map(async |(check, (name, before))| match before {
            Answer::Reached => (*name, Answer::Reached),
            _ => (*name, (check.ask)().await),
        });
        let now = join_all(asked).await;
        answers.clone_from_slice(&now);
    }

    fn show(&self, found: Option<&Obstacle>, before: Option<&Obstacle>, readiness: &watch::Sender<Readiness>) {
        if let Some(before) = before {
            self.metrics.gate_waits(before.name, before.kind, false);
        }
        let Some(found) = found else { return };
        self.metrics.gate_waits(found.name, found.kind, true);
        tracing::warn!(
            dependency = found.name,
            kind = found.kind,
            cause = found.cause,
            "not ready: waiting for a dependency; no request and no message is taken until it answers"
        );
        readiness.send_replace(Readiness::NotReady { waits_for: found.to_string().into() });
    }

    async fn opened(&self, answers: &[(&'static str, Answer)]) {
        let silent: Vec<&str> =
            answers.iter().filter(|(_, answer)| *answer != Answer::Reached).map(|(name, _)| *name).collect();
        if silent.is_empty() {
            if let Err(error) = self.proofs.prove().await {
                tracing::warn!(%error, "this revision could not be recorded as proven; the next start waits longer in an outage");
            }
        } else {
            tracing::warn!(?silent, "starting although dependencies do not answer: this revision has worked before");
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const MAX: Duration = Duration::from_hours(1);

    #[test]
    fn a_refusal_keeps_the_gate_shut_and_silence_only_that_of_an_unproven_revision() {
        let refused = || Answer::Refused("AccessDenied".to_owned());
        let silent = || Answer::Silent("no answer".to_owned());
        let name = |answers: &[(&'static str, Answer)], waited, is_proven| {
            obstacle(answers, waited, is_proven).map(|found| (found.name, found.kind))
        };
        assert_eq!(name(&[("table", Answer::Reached), ("cache", Answer::Reached)], Duration::ZERO, false), None);
        let both = [("cache", silent()), ("table", refused())];
        for (waited, is_proven) in [(Duration::ZERO, false), (MAX, false), (MAX, true)] {
            assert_eq!(name(&both, waited, is_proven), Some(("table", "refused")), "{waited:?} {is_proven}");
        }
        let one = [("table", Answer::Reached), ("cache", silent())];
        assert_eq!(name(&one, MAX, false), Some(("cache", "silent")));
        let almost = SILENCE_TOLERATED.saturating_sub(Duration::from_millis(1));
        assert_eq!(name(&one, almost, true), Some(("cache", "silent")));
        assert_eq!(name(&one, SILENCE_TOLERATED, true), None);
    }

    /// A cache that a test makes answer, and the proofs of one revision.
    #[derive(Default)]
    struct World {
        cache: Mutex<Option<Answer>>,
        asked: Mutex<u32>,
        proven: AtomicBool,
    }

    impl Proofs for World {
        fn is_proven(&self) -> BoxFuture<'_, Result<bool, PortError>> {
            Box::pin(async { Ok(self.proven.load(Ordering::Relaxed)) })
        }

        fn prove(&self) -> BoxFuture<'_, Result<(), PortError>> {
            Box::pin(async {
                self.proven.store(true, Ordering::Relaxed);
                Ok(())
            })
        }
    }

    fn gate(world: &Arc<World>) -> (Gate, watch::Sender<Readiness>) {
        let cache = Arc::clone(world);
        let ask = move || -> BoxFuture<'static, Answer> {
            *cache.asked.lock() += 1;
            let answer = cache.cache.lock().clone().unwrap_or(Answer::Reached);
            Box::pin(async move { answer })
        };
        let table = || -> BoxFuture<'static, Answer> { Box::pin(async { Answer::Reached }) };
        let checks =
            vec![Check { name: "the table", ask: Box::new(table) }, Check { name: "the cache", ask: Box::new(ask) }];
        let proofs = Arc::clone(world) as Arc<dyn Proofs>;
        let gate = Gate { checks, proofs, metrics: Arc::new(Metrics::new()) };
        (gate, watch::channel(Readiness::NotReady { waits_for: "starting".into() }).0)
    }

    async fn opens_within(gate: &Gate, readiness: &watch::Sender<Readiness>, within: Duration) -> bool {
        tokio::time::timeout(within, gate.open(readiness)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_opens_at_once_and_proves_its_revision() {
        let world = Arc::new(World::default());
        let (gate, readiness) = gate(&world);
        assert!(opens_within(&gate, &readiness, Duration::from_millis(50)).await);
        assert!(world.proven.load(Ordering::Relaxed));
        assert_eq!(*world.asked.lock(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_gate_waits_for_is_shown_and_its_end_opens_it() {
        let world = Arc::new(World::default());
        *world.cache.lock() = Some(Answer::Refused("WRONGPASS".to_owned()));
        let (gate, readiness) = gate(&world);
        world.proven.store(true, Ordering::Relaxed);
        assert!(!opens_within(&gate, &readiness, MAX).await, "a refusal stays");
        let waits_for = "the cache (refused: WRONGPASS)".into();
        assert_eq!(*readiness.borrow(), Readiness::NotReady { waits_for });
        let text = gate.metrics.encode().unwrap();
        assert!(text.contains("dispatch_gate_waits{dependency=\"the cache\",kind=\"refused\"} 1"), "{text}");
        *world.cache.lock() = None;
        assert!(opens_within(&gate, &readiness, Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_tolerated_by_a_proven_revision_only() {
        let world = Arc::new(World::default());
        *world.cache.lock() = Some(Answer::Silent("no answer in time".to_owned()));
        let (gate, readiness) = gate(&world);
        assert!(!opens_within(&gate, &readiness, MAX).await);
        assert!(!world.proven.load(Ordering::Relaxed));
        world.proven.store(true, Ordering::Relaxed);
        assert!(!opens_within(&gate, &readiness, SILENCE_TOLERATED.saturating_sub(Duration::from_secs(1))).await);
        assert!(opens_within(&gate, &readiness, SILENCE_TOLERATED + Duration::from_secs(3)).await);
    }
}
