//! Records that cannot be read: stored items, stream records, messages. Each costs itself, one count, and one log line
//! per period, however often it is met.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Pause between two log lines about one record.
const LOG_EVERY: Duration = Duration::from_mins(10);

/// Records that are remembered. Beyond it, records are counted but not logged until a period ends.
const REMEMBERED_MAX: usize = 1_000;

/// When each unreadable record was logged last.
#[derive(Debug, Default)]
pub(crate) struct UnreadableLog(Mutex<HashMap<String, Instant>>);

impl UnreadableLog {
    /// Whether a line about the record of this key is due.
    pub(crate) fn is_due(&self, key: &str) -> bool {
        let now = Instant::now();
        let mut logged = self.0.lock();
        if logged.get(key).is_some_and(|at| now.duration_since(*at) < LOG_EVERY) {
            return false;
        }
        if logged.len() >= REMEMBERED_MAX {
            logged.retain(|_, at| now.duration_since(*at) < LOG_EVERY);
        }
        if logged.len() >= REMEMBERED_MAX {
            return false;
        }
        logged.insert(key.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_record_is_logged_once_per_period() {
        let log = UnreadableLog::default();
        assert!(log.is_due("driver#1"));
        assert!(!log.is_due("driver#1"));
        assert!(log.is_due("driver#2"));
        tokio::time::advance(LOG_EVERY).await;
        assert!(log.is_due("driver#1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_remembers_a_bounded_number_of_records() {
        let log = UnreadableLog::default();
        let due = |prefix: &str| (0..REMEMBERED_MAX * 2).filter(|n| log.is_due(&format!("{prefix}#{n}"))).count();
        assert_eq!(due("driver"), REMEMBERED_MAX);
        tokio::time::advance(LOG_EVERY).await;
        assert_eq!(due("user"), REMEMBERED_MAX);
    }
}
