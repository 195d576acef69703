//! Who reads which shard. Pure: from the lease rows as they were read, from when each of them was seen to change (by this worker's own
//! monotonic clock, so that no two clocks have to agree), and from the order of the shards to what this worker does next.
//!
//! * A lease is free when nobody has it, or when its counter has not changed for the fail-over time while this worker looked.
//! * A worker takes free leases up to its share. Who has two fewer than another asks that one for a lease, one at a time: the owner
//!   finishes what is in work, stores its checkpoint and hands the lease over. Nothing is snatched from a worker that is alive.
//! * A shard is read only when its parent was read to the end, and a table's newer stream only after its older ones.
//!
//! Every action is carried out under a condition on the lease row, so that a decision on an old view costs a failed write.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use super::lease::{Checkpoint, Row};

/// How long a table's older stream may hold up the newer one. The order of an item's changes across the two is worth a minute; it is not
/// worth more, because the fence of the offers makes any order harmless.
const OLDER_STREAM_FIRST: Duration = Duration::from_mins(1);

/// Renewals within one fail-over time: three may fail before anybody thinks the owner gone.
const RENEWALS_PER_FAILOVER: u32 = 4;

/// A shard as `DescribeStream` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    /// Key of its lease: unique over all streams of the table.
    pub(super) key: String,
    /// Label of its stream; labels are times, so later streams have greater ones.
    pub(super) stream: String,
    /// Its id in the stream.
    pub(super) id: String,
    /// Key of the shard it carries on; absent for the first, or when the parent was trimmed.
    pub(super) parent: Option<String>,
}

/// When each lease was last seen to change, and since when each stream has a successor.
#[derive(Debug, Default)]
pub(super) struct Observations {
    leases: HashMap<String, (Option<String>, u64, Duration)>,
    superseded: HashMap<String, Duration>,
}

impl Observations {
    /// Takes in what was read at `now`, a monotonic time.
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

/// What a worker knows when it decides.
pub(super) struct View<'a> {
    /// Name of this worker.
    pub(super) me: &'a str,
    /// Monotonic time.
    pub(super) now: Duration,
    /// How long a lease may go without a sign of life.
    pub(super) failover: Duration,
    /// All shards that are listed.
    pub(super) shards: &'a [Shard],
    /// Rows of these shards and of shards that were listed before.
    pub(super) rows: &'a HashMap<String, Row>,
    /// Leases this worker acts on, and when each was last written by it (monotonic).
    pub(super) held: &'a HashMap<String, Duration>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Make a row that was lost or broken, or never was, and own it. It begins at the oldest record.
    Create(String),
    /// Own a free lease; its row must still be the one that was seen.
    Take(String),
    /// Say that this worker is alive.
    Renew(String),
    /// Stop at once, without a checkpoint: the lease is somebody else's, or may be.
    GiveUp(String),
    /// Finish what is in work, store the checkpoint, make the asking worker the owner.
    HandOver {
        /// Which lease.
        key: String,
        /// Who asked for it.
        to: String,
    },
    /// Refuse a request that would not balance anything any more.
    Decline(String),
    /// Ask the owner for a lease.
    Ask {
        /// Which lease.
        key: String,
        /// Who has it.
        of: String,
    },
    /// Remove the row of a shard that was read to its end and is listed no more.
    Forget(String),
}

/// What `view` asks this worker to do, in the order in which it is to be done.
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

/// The leases held: lost ones are given up, the others renewed or handed over.
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

/// Free leases up to this worker's share; true where there was one to take.
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
        // What the table says is this worker's is counted already: a write whose answer was lost, or a lease handed over.
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

/// One lease of the worker that has the most, if it has at least two more than this one.
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

/// Rows of shards that were read to the end, are listed no more and whose children have begun: until then the row is what keeps
/// anybody from reading the shard again.
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

/// Unfinished leases of each worker that is alive. What is asked for still counts as the owner's: promises that are broken would
/// otherwise lead to more of them.
fn loads(view: &View<'_>, seen: &Observations) -> BTreeMap<String, usize> {
    let mut loads = BTreeMap::new();
    for row in view.rows.values().filter(|row| !row.is_finished() && !is_free(view, seen, row)) {
        if let Some(worker) = &row.owner {
            *loads.entry(worker.clone()).or_insert(0) += 1;
        }
    }
    loads
}

/// Keys of all shards that are to be read now: unfinished, and with everything before them finished. One that somebody reads already,
/// because a row before it was lost since, counts as one, too.
fn open<'a>(view: &View<'a>, seen: &Observations) -> Vec<&'a str> {
    let listed: HashSet<&str> = view.shards.iter().map(|shard| shard.key.as_str()).collect();
    let ended = |key: &str| view.rows.get(key).is_some_and(Row::is_finished);
    let parent_done = |shard: &Shard| match &shard.parent {
        None => true,
        Some(parent) if listed.contains(parent.as_str()) => ended(parent),
        // Gone with all its records; where its row says that it was not finished, somebody has to find that out first.
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

/// Each worker looks at the leases in an order of its own, so that they do not all want the same one.
fn by_preference<'a>(me: &str, mut keys: Vec<&'a str>) -> Vec<&'a str> {
    let hash = |key: &str| BuildHasherDefault::<DefaultHasher>::default().hash_one((me, key));
    keys.sort_by_key(|key| hash(key));
    keys
}

#[cfg(test)]
mod tests;
