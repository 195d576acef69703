//! The progress of a shard whose records are handled concurrently.

use std::collections::VecDeque;

use dispatch_core::time::EpochMs;

/// Tracks the records of one shard from reading to completion. The checkpoint is the last record before the first one
/// in progress, so that a reader that starts there misses nothing.
#[derive(Debug, Default)]
pub(super) struct Watermark {
    first: u64,
    open: VecDeque<Entry>,
    safe: Option<String>,
    worth_storing: bool,
}

#[derive(Debug)]
struct Entry {
    sequence: String,
    created: EpochMs,
    done: bool,
    relevant: bool,
}

impl Watermark {
    /// Adds a record to handle; returns the number to report its completion with.
    pub(super) fn begin(&mut self, sequence: &str, created: EpochMs) -> u64 {
        self.open.push_back(Entry { sequence: sequence.to_owned(), created, done: false, relevant: true });
        self.first + self.open.len() as u64 - 1
    }

    /// Adds an irrelevant record.
    pub(super) fn skip(&mut self, sequence: &str) {
        let created = EpochMs::default();
        self.open.push_back(Entry { sequence: sequence.to_owned(), created, done: true, relevant: false });
        self.settle();
    }

    /// Time of the oldest record in progress; `None` if there is none.
    pub(super) fn oldest_in_progress(&self) -> Option<EpochMs> {
        self.open.iter().find(|entry| !entry.done).map(|entry| entry.created)
    }

    /// Whether every record read so far is done.
    pub(super) fn all_done(&self) -> bool {
        self.open.is_empty()
    }

    /// Marks a record as done or dropped.
    pub(super) fn done(&mut self, number: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.open.get_mut(index)) {
            entry.done = true;
        }
        self.settle();
    }

    /// The checkpoint if a relevant record was completed since the last one. Irrelevant records are quickly read again
    /// and not worth a write.
    pub(super) fn take_checkpoint(&mut self) -> Option<String> {
        std::mem::take(&mut self.worth_storing).then(|| self.safe.take()).flatten()
    }

    /// The checkpoint, if there is a new one.
    pub(super) fn take_any_checkpoint(&mut self) -> Option<String> {
        self.worth_storing = false;
        self.safe.take()
    }

    fn settle(&mut self) {
        while let Some(entry) = self.open.pop_front_if(|entry| entry.done) {
            self.first += 1;
            self.worth_storing |= entry.relevant;
            self.safe = Some(entry.sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkpoint_stops_before_the_first_record_in_progress() {
        let mut watermark = Watermark::default();
        let a = watermark.begin("a", EpochMs(1));
        watermark.skip("b");
        let c = watermark.begin("c", EpochMs(3));
        watermark.done(c);
        assert_eq!((watermark.take_checkpoint(), watermark.oldest_in_progress()), (None, Some(EpochMs(1))));
        watermark.done(a);
        assert_eq!(watermark.take_checkpoint().as_deref(), Some("c"));
        assert_eq!(watermark.take_checkpoint(), None);
    }

    #[test]
    fn irrelevant_records_are_not_worth_a_checkpoint() {
        let mut watermark = Watermark::default();
        watermark.skip("a");
        assert_eq!(watermark.take_checkpoint(), None);
        let b = watermark.begin("b", EpochMs(2));
        watermark.done(b);
        watermark.skip("c");
        assert_eq!(watermark.take_checkpoint().as_deref(), Some("c"));
        watermark.done(99);
        watermark.skip("d");
        assert_eq!(watermark.take_checkpoint(), None);
        assert_eq!(watermark.take_any_checkpoint().as_deref(), Some("d"));
        assert_eq!(watermark.take_any_checkpoint(), None);
    }
}
