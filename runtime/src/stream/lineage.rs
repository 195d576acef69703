//! The order of shards. A shard ends after some hours or when it splits, and its children carry on: to keep the order of each
//! item's changes, children wait for their parent.

use std::collections::{HashMap, HashSet};

/// A shard as `DescribeStream` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    /// Its id.
    pub(super) id: String,
    /// The shard it carries on; absent for the first, or when the parent was trimmed.
    pub(super) parent: Option<String>,
}

/// How far a shard was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// Never: it is read from its oldest record. (Beginning at the tip would lose what was written before.)
    Unread,
    /// Up to and including this sequence number.
    After(String),
    /// To its end.
    Ended,
}

/// The shards that may be read now: unfinished, read by nobody here, and with a parent that is finished or gone.
pub(super) fn readable<'a>(
    shards: &'a [Shard],
    progress: &HashMap<String, Progress>,
    reading: &HashSet<String>,
) -> Vec<&'a Shard> {
    let listed: HashSet<&str> = shards.iter().map(|shard| shard.id.as_str()).collect();
    let ended = |id: &str| progress.get(id) == Some(&Progress::Ended);
    let parent_done = |shard: &Shard| match &shard.parent {
        None => true,
        Some(parent) => ended(parent) || !listed.contains(parent.as_str()),
    };
    shards.iter().filter(|shard| !ended(&shard.id) && !reading.contains(&shard.id) && parent_done(shard)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, parent: Option<&str>) -> Shard {
        Shard { id: id.to_owned(), parent: parent.map(str::to_owned) }
    }

    fn ids(shards: &[&Shard]) -> Vec<String> {
        shards.iter().map(|shard| shard.id.clone()).collect()
    }

    #[test]
    fn children_wait_for_their_parent_and_then_both_are_read() {
        let shards = [shard("b", Some("a")), shard("a", Some("trimmed")), shard("c", Some("a"))];
        let mut progress = HashMap::from([("a".to_owned(), Progress::After("1".to_owned()))]);
        assert_eq!(ids(&readable(&shards, &progress, &HashSet::new())), ["a"]);
        progress.insert("a".to_owned(), Progress::Ended);
        assert_eq!(ids(&readable(&shards, &progress, &HashSet::new())), ["b", "c"]);
    }

    #[test]
    fn what_is_being_read_or_is_finished_is_left_alone() {
        let shards = [shard("a", None), shard("b", None), shard("c", Some("b"))];
        let progress = HashMap::from([("b".to_owned(), Progress::Ended), ("c".to_owned(), Progress::Ended)]);
        assert!(readable(&shards, &progress, &HashSet::from(["a".to_owned()])).is_empty());
    }
}
