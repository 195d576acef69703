//! The assignment of shards to workers. It is pure: the inputs are the lease rows as read, the times at which this
//! worker saw each of them change (by its own monotonic clock, so that no two clocks have to agree), and the order of
//! the shards. The output is what this worker does next.
//!
//! * A lease is free if it has no owner, or if its counter has not changed for the fail-over time while this worker
//!   observed it.
//! * A worker takes free leases up to its share. A worker with at least two fewer leases than another asks that one for
//!   a lease, one at a time: the owner finishes the records in progress, stores its checkpoint and hands the lease
//!   over. A lease is never taken from a live worker.
//! * A shard is read only after its parent was read to the end, and a table's newer stream only after its older ones.
//!
//! Every action has a write condition on the lease row, so that a decision on an outdated view costs a failed write.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use super::lease::{Checkpoint, Row};

/// How long a table's older stream may delay the newer one. The order of an item's changes across the two streams is
/// worth a minute, and no more, because the fence of the offers makes any order harmless.
const OLDER_STREAM_FIRST: Duration = Duration::from_mins(1);

/// Renewals within one fail-over time: three may fail before the owner counts as gone.
const RENEWALS_PER_FAILOVER: u32 = 4;

/// A shard as `DescribeStream` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    /// Key of its lease: unique over all streams of the table.
    pub(super) key: String,
    /// Label of its stream; labels are times, so later streams have greater ones.
    pub(super) stream: String,
    /// Shard id in the stream.
    pub(super) id: String,
    /// Key of its parent shard; absent for the first shard, or if the parent was trimmed.
    pub(super) parent: Option<String>,
}

/// When each lease was last seen to change, and when each stream was first seen superseded.
#[derive(Debug, Default)]
pub(super) struct Observations {
    leases: HashMap<String, (Option<String>, u64, Duration)>,
    superseded: HashMap<String, Duration>,
}

impl Observations {
    /// Records the rows and shards read at `now`, a monotonic time.
    pub(super) fn note(&mut self, rows: &HashMap<String, Row>, shards: &[Shard], now: Duration) {
        self.leases.retain(|key, _| rows.contains_key(key));
        for row in rows.values() {
            let seen = self.leases.get(&row.key);
            if seen.is_none_or(|(owner, counter, _)| *owner != row.owner || *counter != row.counter) {
                self.leases.insert(row.key.clone(), (row.owner.clone(), row.counter, now));
            }
        }
        let newest = shards.iter().map(|shard| shard.stream.as_str()).max().unwrap_or_default();
        self.superseded.retain(|stream, _| shards.iter().any(|shard| shard.stream == *stream));
        for shard in shards.iter().filter(|shard| shard.stream != newest) {
            self.superseded.entry(shard.stream.clone()).or_insert(now);
        }
    }

    fn unchanged_for(&self, row: &Row, now: Duration) -> Duration {
        self.leases.get(&row.key).map_or(Duration::ZERO, |(_, _, since)| now.saturating_sub(*since))
    }
}

/// The inputs of a decision.
pub(super) struct View<'a> {
    /// Name of this worker.
    pub(super) me: &'a str,
    /// Monotonic time.
    pub(super) now: Duration,
    /// Time without a write after which a lease is free.
    pub(super) failover: Duration,
    /// All listed shards.
    pub(super) shards: &'a [Shard],
    /// Rows of these shards and of shards that were listed before.
    pub(super) rows: &'a HashMap<String, Row>,
    /// Leases this worker holds, and when it last wrote each of them (monotonic).
    pub(super) held: &'a HashMap<String, Duration>,
}

/// An action of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Create a missing or replace an unreadable row, and acquire it. Reading starts at the oldest record.
    Create(String),
    /// Acquire a free lease whose row is unchanged.
    Take(String),
    /// Renew a lease.
    Renew(String),
    /// Stop at once, without a checkpoint: the lease has, or may have, another owner.
    GiveUp(String),
    /// Finish the records in progress, store the checkpoint, and transfer the lease to the worker that asked for it.
    HandOver { key: String, to: String },
    /// Decline a request that would no longer improve the balance.
    Decline(String),
    /// Ask the owner for a lease.
    Ask { key: String, of: String },
    /// Delete the row of a finished shard that is no longer listed.
    Forget(String),
}

/// The actions of this worker for `view`, in execution order.
pub(super) fn decide(view: &View<'_>, seen: &Observations) -> Vec<Action> {
    let mut actions = Vec::new();
    keep(view, seen, &mut actions);
    let took = take(view, seen, &mut actions);
    if !took {
        actions.extend(ask(view, seen));
    }
    actions.extend(forget(view));
    actions
}

/// Held leases: gives up lost ones, renews or hands over the others.
fn keep(view: &View<'_>, seen: &Observations, actions: &mut Vec<Action>) {
    let mut counts = loads(view, seen);
    let mut keys: Vec<_> = view.held.iter().collect();
    keys.sort();
    for (key, renewed_at) in keys {
        let since = view.now.saturating_sub(*renewed_at);
        let Some(row) = view.rows.get(key).filter(|row| row.owner.as_deref() == Some(view.me)) else {
            actions.push(Action::GiveUp(key.clone()));
            continue;
        };
        if since >= view.failover {
            actions.push(Action::GiveUp(key.clone()));
            continue;
        }
        if since >= view.failover / RENEWALS_PER_FAILOVER {
            actions.push(Action::Renew(key.clone()));
        }
        let Some(to) = row.requested_by.clone().filter(|_| !row.is_finished()) else { continue };
        let mine = counts.get(view.me).copied().unwrap_or_default();
        let theirs = counts.get(&to).copied().unwrap_or_default();
        if to != view.me && mine > theirs + 1 {
            counts.insert(view.me.to_owned(), mine - 1);
            counts.insert(to.clone(), theirs + 1);
            actions.push(Action::HandOver { key: key.clone(), to });
        } else {
            actions.push(Action::Decline(key.clone()));
        }
    }
}

/// Takes free leases up to this worker's share; returns whether there was one to take.
fn take(view: &View<'_>, seen: &Observations, actions: &mut Vec<Action>) -> bool {
    let open = open(view, seen);
    let loads = loads(view, seen);
    let mut workers: HashSet<&str> = loads.keys().map(String::as_str).collect();
    workers.insert(view.me);
    let share = open.len().div_ceil(workers.len());
    let mut mine = loads.get(view.me).copied().unwrap_or_default();
    let mut took = false;
    for key in by_preference(view.me, open) {
        if view.held.contains_key(key) {
            continue;
        }
        let row = view.rows.get(key);
        let own = row.is_some_and(|row| row.owner.as_deref() == Some(view.me));
        // A lease that the table shows as this worker's is already counted: the answer to a write was lost, or the
        // lease was handed over.
        if !own && (mine >= share || !row.is_none_or(|row| is_free(view, seen, row))) {
            continue;
        }
        mine += usize::from(!own);
        took = true;
        let key = key.to_owned();
        actions.push(if row.is_some() { Action::Take(key) } else { Action::Create(key) });
    }
    took
}

/// Asks for a lease of the worker with the most leases if it has at least two more than this one.
fn ask(view: &View<'_>, seen: &Observations) -> Option<Action> {
    let asked = |row: &&Row| row.requested_by.as_deref() == Some(view.me) && !is_free(view, seen, row);
    if view.rows.values().any(|row| asked(&row)) {
        return None;
    }
    let loads = loads(view, seen);
    let mine = loads.get(view.me).copied().unwrap_or_default();
    let (of, most) = loads.iter().filter(|(worker, _)| *worker != view.me).max_by_key(|(_, count)| **count)?;
    if *most < mine + 2 {
        return None;
    }
    let theirs = open(view, seen).into_iter().filter(|key| {
        let row = view.rows.get(*key);
        row.is_some_and(|row| row.owner.as_ref() == Some(of) && row.requested_by.is_none() && !is_free(view, seen, row))
    });
    let key = by_preference(view.me, theirs.collect()).first().map(|key| (*key).to_owned())?;
    Some(Action::Ask { key, of: of.clone() })
}

/// Deletes rows of finished shards that are no longer listed and whose children have started; until then the row
/// prevents the shard from being read again.
fn forget(view: &View<'_>) -> Vec<Action> {
    let listed: HashSet<&str> = view.shards.iter().map(|shard| shard.key.as_str()).collect();
    let begun = |child: &Shard| {
        view.rows.get(&child.key).is_some_and(|row| row.owner.is_some() || row.checkpoint != Checkpoint::TrimHorizon)
    };
    let mut gone: Vec<&Row> = view
        .rows
        .values()
        .filter(|row| row.is_finished() && !listed.contains(row.key.as_str()))
        .filter(|row| view.shards.iter().filter(|shard| shard.parent.as_ref() == Some(&row.key)).all(begun))
        .collect();
    gone.sort_by(|a, b| a.key.cmp(&b.key));
    gone.into_iter().map(|row| Action::Forget(row.key.clone())).collect()
}

fn is_free(view: &View<'_>, seen: &Observations, row: &Row) -> bool {
    row.owner.is_none() || seen.unchanged_for(row, view.now) >= view.failover
}

/// Number of unfinished leases of each live worker. A requested lease still counts for its owner: unfulfilled requests
/// would otherwise cause more requests.
fn loads(view: &View<'_>, seen: &Observations) -> BTreeMap<String, usize> {
    let mut loads = BTreeMap::new();
    for row in view.rows.values().filter(|row| !row.is_finished() && !is_free(view, seen, row)) {
        if let Some(worker) = &row.owner {
            *loads.entry(worker.clone()).or_insert(0) += 1;
        }
    }
    loads
}

/// Keys of all shards to read: unfinished, with all predecessors finished. A shard that a worker already reads also
/// counts, even if the row of a predecessor was lost since.
fn open<'a>(view: &View<'a>, seen: &Observations) -> Vec<&'a str> {
    let listed: HashSet<&str> = view.shards.iter().map(|shard| shard.key.as_str()).collect();
    let ended = |key: &str| view.rows.get(key).is_some_and(Row::is_finished);
    let parent_done = |shard: &Shard| match &shard.parent {
        None => true,
        Some(parent) if listed.contains(parent.as_str()) => ended(parent),
        // The parent and its records are gone. If its row is unfinished, a worker has to detect that first.
        Some(parent) => view.rows.get(parent).is_none_or(Row::is_finished),
    };
    let older_first: Option<&str> = view
        .shards
        .iter()
        .filter(|shard| !ended(&shard.key))
        .filter(|shard| {
            let since = seen.superseded.get(&shard.stream);
            since.is_some_and(|since| view.now.saturating_sub(*since) < OLDER_STREAM_FIRST)
        })
        .map(|shard| shard.stream.as_str())
        .min();
    let its_turn = |shard: &Shard| older_first.is_none_or(|older| shard.stream.as_str() <= older);
    let being_read = |shard: &Shard| view.rows.get(&shard.key).is_some_and(|row| !is_free(view, seen, row));
    let to_read = view
        .shards
        .iter()
        .filter(|shard| !ended(&shard.key) && (being_read(shard) || parent_done(shard) && its_turn(shard)));
    let unlisted = view.rows.values().filter(|row| !listed.contains(row.key.as_str()) && !ended(&row.key));
    to_read.map(|shard| shard.key.as_str()).chain(unlisted.map(|row| row.key.as_str())).collect()
}

/// Each worker tries the leases in its own order, so that workers do not all compete for the same one.
fn by_preference<'a>(me: &str, mut keys: Vec<&'a str>) -> Vec<&'a str> {
    let hash = |key: &str| BuildHasherDefault::<DefaultHasher>::default().hash_one((me, key));
    keys.sort_by_key(|key| hash(key));
    keys
}

#[cfg(test)]
mod tests;
