//! Whether a watch works. While it fails, changes of objects are noticed late or not at all, so failures are counted,
//! and logged once for each streak.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::runtime::watcher::{Error, Event};

use crate::kubernetes::infra::metrics::Metrics;

/// Health of one watch.
#[derive(Debug)]
pub struct WatchHealth {
    kind: &'static str,
    fails: AtomicBool,
    metrics: Arc<Metrics>,
}

impl WatchHealth {
    pub fn new(kind: &'static str, metrics: Arc<Metrics>) -> Self {
        Self { kind, fails: AtomicBool::new(false), metrics }
    }

    /// Takes note of what the watch yields.
    pub fn observe<K>(&self, event: &Result<Event<K>, Error>) {
        let kind = self.kind;
        match event {
            Err(error) => {
                self.metrics.watch_failed(kind);
                if !self.fails.swap(true, Ordering::Relaxed) {
                    tracing::warn!(kind, %error, "the watch fails and is retried; changes are noticed late meanwhile");
                }
            }
            // Precedes every attempt to list.
            Ok(Event::Init) => {}
            Ok(_) => {
                if self.fails.swap(false, Ordering::Relaxed) {
                    tracing::info!(kind, "the watch works again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_counted_and_a_streak_ends_with_the_first_answer() {
        let metrics = Arc::new(Metrics::new());
        let health = WatchHealth::new("DispatchSystem", Arc::clone(&metrics));
        let fails = || health.fails.load(Ordering::Relaxed);
        for _ in 0..3 {
            health.observe::<()>(&Ok(Event::Init));
            health.observe::<()>(&Err(Error::NoResourceVersion));
            assert!(fails());
        }
        health.observe::<()>(&Ok(Event::Init));
        assert!(fails(), "an attempt is no answer");
        health.observe::<()>(&Ok(Event::InitDone));
        assert!(!fails());
        health.observe::<()>(&Err(Error::NoResourceVersion));
        assert!(fails(), "another streak");
        let text = metrics.encode().unwrap();
        let line = "dispatch_operator_watch_errors_total{kind=\"DispatchSystem\"} 4";
        assert!(text.contains(line), "{text}");
    }
}
