//! Examples, and several workers on one in-memory table that crash, pause, act on outdated views and lose answers.

use proptest::prelude::*;

use super::*;

const FAILOVER: Duration = Duration::from_secs(10);

fn shard(key: &str, parent: Option<&str>) -> Shard {
    let stream = key.split('/').next().unwrap_or_default().to_owned();
    Shard { key: key.to_owned(), stream, id: key.to_owned(), parent: parent.map(str::to_owned) }
}

fn row(key: &str, owner: Option<&str>, checkpoint: Checkpoint) -> Row {
    Row { key: key.to_owned(), owner: owner.map(str::to_owned), counter: 1, checkpoint, requested_by: None }
}

fn rows(rows: impl IntoIterator<Item = Row>) -> HashMap<String, Row> {
    rows.into_iter().map(|row| (row.key.clone(), row)).collect()
}

/// The actions of `me` at `at_s` seconds, after observing the same rows since second 0.
fn actions(me: &str, at_s: u64, shards: &[Shard], rows: &HashMap<String, Row>) -> Vec<Action> {
    let mut seen = Observations::default();
    seen.note(rows, shards, Duration::ZERO);
    let now = Duration::from_secs(at_s);
    seen.note(rows, shards, now);
    let held = rows.values().filter(|row| row.owner.as_deref() == Some(me) && !row.is_finished());
    let held = held.map(|row| (row.key.clone(), now)).collect();
    decide(&View { me, now, failover: FAILOVER, shards, rows, held: &held }, &seen)
}

fn create(key: &str) -> Action {
    Action::Create(key.to_owned())
}

fn take_of(key: &str) -> Action {
    Action::Take(key.to_owned())
}

#[test]
fn children_wait_for_their_parent_and_for_nothing_else() {
    let shards = [shard("1/b", Some("1/a")), shard("1/a", Some("1/trimmed")), shard("1/c", Some("1/a"))];
    assert_eq!(actions("me", 0, &shards, &HashMap::new()), [create("1/a")]);
    let reading = rows([row("1/a", Some("other"), Checkpoint::After("7".to_owned()))]);
    assert_eq!(actions("me", 0, &shards, &reading), []);
    let ended = rows([row("1/a", Some("other"), Checkpoint::ShardEnd)]);
    let mut children = actions("me", 0, &shards, &ended);
    children.sort_by_key(|action| format!("{action:?}"));
    assert_eq!(children, [create("1/b"), create("1/c")]);
}

#[test]
fn a_lease_is_free_when_its_counter_is_unchanged_on_the_observers_clock() {
    let shards = [shard("1/a", None)];
    let theirs = rows([row("1/a", Some("other"), Checkpoint::TrimHorizon)]);
    assert_eq!(actions("me", 9, &shards, &theirs), []);
    assert_eq!(actions("me", 10, &shards, &theirs), [take_of("1/a")]);
    let unowned = rows([row("1/a", None, Checkpoint::TrimHorizon)]);
    assert_eq!(actions("me", 0, &shards, &unowned), [take_of("1/a")]);
}

#[test]
fn a_lost_row_is_created_again() {
    let shards = [shard("1/a", None), shard("1/b", Some("1/a"))];
    assert_eq!(actions("me", 0, &shards, &HashMap::new()), [create("1/a")]);
    // The child continues under its lease; the parent is read again because its row was lost.
    let child = rows([row("1/b", Some("me"), Checkpoint::After("9".to_owned()))]);
    assert_eq!(actions("me", 0, &shards, &child), [create("1/a")]);
}

#[test]
fn a_worker_with_two_fewer_leases_asks_for_one_and_the_owner_hands_it_over() {
    let shards = [shard("1/a", None), shard("1/b", None)];
    let mut both = rows(["1/a", "1/b"].map(|key| row(key, Some("other"), Checkpoint::TrimHorizon)));
    let [Action::Ask { key, of }] = &actions("me", 0, &shards, &both)[..] else { panic!("no request") };
    assert_eq!(of, "other");
    both.get_mut(key).unwrap().requested_by = Some("me".to_owned());
    assert_eq!(actions("me", 0, &shards, &both), [], "one request at a time");
    let handed = Action::HandOver { key: key.clone(), to: "me".to_owned() };
    assert_eq!(actions("other", 0, &shards, &both), [handed]);
    // A third worker may also ask and is declined: a hand-over would only reverse the imbalance.
    let second = both.keys().find(|other| *other != key).unwrap().clone();
    both.get_mut(&second).unwrap().requested_by = Some("third".to_owned());
    let answers = actions("other", 0, &shards, &both);
    assert!(answers.iter().any(|answer| matches!(answer, Action::Decline(_))), "{answers:?}");
}

#[test]
fn a_lease_that_the_table_shows_as_ours_is_taken() {
    let shards = [shard("1/a", None)];
    let mut ours = rows([row("1/a", Some("me"), Checkpoint::TrimHorizon)]);
    ours.get_mut("1/a").unwrap().counter = 4;
    let seen = Observations::default();
    let held = HashMap::new();
    let view = View { me: "me", now: Duration::ZERO, failover: FAILOVER, shards: &shards, rows: &ours, held: &held };
    assert_eq!(decide(&view, &seen), [take_of("1/a")], "a write whose answer was lost, or a lease handed over");
}

#[test]
fn a_finished_shard_is_forgotten_when_it_is_unlisted_and_its_children_have_started() {
    let end = |key: &str| row(key, Some("other"), Checkpoint::ShardEnd);
    let listed = [shard("1/a", None), shard("1/b", Some("1/a"))];
    let begun = row("1/b", Some("other"), Checkpoint::TrimHorizon);
    assert_eq!(actions("me", 0, &listed, &rows([end("1/a"), begun.clone()])), []);
    let later = [shard("1/b", Some("1/a"))];
    let forget = Action::Forget("1/a".to_owned());
    assert_eq!(actions("me", 0, &later, &rows([end("1/a"), begun])), [forget]);
    let unread = rows([end("1/a"), row("1/b", None, Checkpoint::TrimHorizon)]);
    assert_eq!(actions("me", 0, &later, &unread), [take_of("1/b")]);
}

#[test]
fn an_earlier_stream_comes_first_for_a_limited_time() {
    let shards = [shard("2024/a", None), shard("2025/a", None)];
    assert_eq!(actions("me", 59, &shards, &HashMap::new()), [create("2024/a")]);
    assert_eq!(actions("me", 60, &shards, &HashMap::new()).len(), 2);
    let done = rows([row("2024/a", None, Checkpoint::ShardEnd)]);
    assert_eq!(actions("me", 0, &shards, &done), [create("2025/a")]);
}

/// A worker of the model: its clock, its view, and the leases it acts on.
struct Worker {
    name: String,
    clock: Duration,
    seen: Observations,
    view: Option<(HashMap<String, Row>, Vec<Shard>)>,
    /// Fence, time of the last write, position.
    held: HashMap<String, (u64, Duration, u64)>,
}

/// The lease table and the stream.
#[derive(Default)]
struct Table {
    rows: HashMap<String, Row>,
    shards: Vec<Shard>,
    /// Number of the last record of each finished shard.
    ends: HashMap<String, u64>,
    /// How often each row was lost; progress may then go back.
    lost: HashMap<String, u32>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Look(usize),
    Act(usize, u8),
    Work(usize),
    Pass(u64),
    Crash(usize),
    Split(usize),
    Delete(usize),
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let one = prop_oneof![
        6 => (0..4usize).prop_map(Fault::Look),
        6 => (0..4usize, any::<u8>()).prop_map(|(worker, lost)| Fault::Act(worker, lost)),
        6 => (0..4usize).prop_map(Fault::Work),
        4 => (100..6000u64).prop_map(Fault::Pass),
        1 => (0..4usize).prop_map(Fault::Crash),
        1 => (0..4usize).prop_map(Fault::Split),
        1 => (0..4usize).prop_map(Fault::Delete),
    ];
    proptest::collection::vec(one, 0..300)
}

impl Table {
    /// A write of an owner, fenced like [`Held`](super::super::leases::Held); returns false if the lease is lost.
    fn write(&mut self, worker: &str, key: &str, fence: &mut u64, change: impl Fn(&mut Row)) -> bool {
        let Some(row) = self.rows.get_mut(key).filter(|row| row.owner.as_deref() == Some(worker)) else { return false };
        if row.counter != *fence && row.counter != *fence + 1 {
            return false;
        }
        row.counter += 1;
        *fence = row.counter;
        change(row);
        true
    }

    fn checkpoint(&mut self, worker: &str, key: &str, fence: &mut u64, position: u64) -> bool {
        let ended = self.ends.get(key).is_some_and(|end| position >= *end);
        let (before, lost) = (self.rows.get(key).map(|row| place(&row.checkpoint)), self.lost.get(key).copied());
        let to = if ended { Checkpoint::ShardEnd } else { Checkpoint::After(position.to_string()) };
        let written = self.write(worker, key, fence, |row| row.checkpoint = to.clone());
        if written && lost.is_none() {
            assert!(place(&to) >= before.unwrap_or_default(), "{key} went back to {to:?} by {worker}");
        }
        written
    }
}

fn place(checkpoint: &Checkpoint) -> u64 {
    match checkpoint {
        Checkpoint::TrimHorizon => 0,
        Checkpoint::After(number) => number.parse().unwrap(),
        Checkpoint::ShardEnd => u64::MAX,
    }
}

impl Worker {
    fn new(name: String, clock: Duration) -> Self {
        Self { name, clock, seen: Observations::default(), view: None, held: HashMap::new() }
    }

    fn look(&mut self, table: &Table) {
        self.view = Some((table.rows.clone(), table.shards.clone()));
    }

    /// Decides on the last view, which may be outdated, and writes to the current table. `lost` selects the answers
    /// that are lost.
    fn act(&mut self, table: &mut Table, lost: u8) {
        let Some((rows, shards)) = self.view.take() else { return };
        self.seen.note(&rows, &shards, self.clock);
        let held = self.held.iter().map(|(key, (_, written, _))| (key.clone(), *written)).collect();
        let (me, now) = (self.name.clone(), self.clock);
        let view = View { me: &me, now, failover: FAILOVER, shards: &shards, rows: &rows, held: &held };
        for (number, action) in decide(&view, &self.seen).into_iter().enumerate() {
            let answer_lost = number < 8 && lost & (1 << number) != 0 && lost > 200;
            self.carry_out(table, &rows, action, answer_lost);
        }
    }

    fn carry_out(&mut self, table: &mut Table, rows: &HashMap<String, Row>, action: Action, answer_lost: bool) {
        let me = self.name.clone();
        match action {
            Action::Create(key) => {
                if !table.rows.contains_key(&key) && table.shards.iter().any(|shard| shard.key == key) {
                    table.rows.insert(key.clone(), row(&key, Some(&me), Checkpoint::TrimHorizon));
                    self.own(table, &key, answer_lost);
                }
            }
            Action::Take(key) => {
                let seen = &rows[&key];
                let same = |now: &&mut Row| now.owner == seen.owner && now.counter == seen.counter;
                if let Some(row) = table.rows.get_mut(&key).filter(same) {
                    (row.owner, row.requested_by) = (Some(me), None);
                    row.counter += 1;
                    self.own(table, &key, answer_lost);
                }
            }
            Action::Renew(key) => self.write(table, &key, answer_lost, |_| {}),
            Action::Decline(key) => self.write(table, &key, answer_lost, |row| row.requested_by = None),
            Action::GiveUp(key) => {
                self.held.remove(&key);
            }
            Action::HandOver { key, to } => {
                if let Some((mut fence, _, position)) = self.held.remove(&key)
                    && table.checkpoint(&me, &key, &mut fence, position)
                {
                    let to = |row: &mut Row| (row.owner, row.requested_by) = (Some(to.clone()), None);
                    table.write(&me, &key, &mut fence, to);
                }
            }
            Action::Ask { key, of } => {
                let same = |row: &&mut Row| row.owner.as_ref() == Some(&of) && row.requested_by.is_none();
                if let Some(row) = table.rows.get_mut(&key).filter(same) {
                    row.requested_by = Some(me);
                }
            }
            Action::Forget(key) => {
                table.rows.remove(&key);
            }
        }
    }

    fn own(&mut self, table: &Table, key: &str, answer_lost: bool) {
        let row = &table.rows[key];
        let parent = table.shards.iter().find(|shard| shard.key == key).and_then(|shard| shard.parent.as_ref());
        let parent_done = parent.and_then(|parent| table.rows.get(parent)).is_none_or(Row::is_finished);
        assert!(parent_done || !table.lost.is_empty(), "{key} is read before its parent");
        if !answer_lost && !row.is_finished() {
            self.held.insert(key.to_owned(), (row.counter, self.clock, place(&row.checkpoint)));
        }
    }

    fn write(&mut self, table: &mut Table, key: &str, answer_lost: bool, change: impl Fn(&mut Row)) {
        let Some((fence, written, _)) = self.held.get_mut(key) else { return };
        let before = *fence;
        if !table.write(&self.name, key, fence, change) {
            self.held.remove(key);
        } else if answer_lost {
            *fence = before;
        } else {
            *written = self.clock;
        }
    }

    /// Reads on in every shard it believes to hold, and stores its progress.
    fn work(&mut self, table: &mut Table) {
        let name = self.name.clone();
        let clock = self.clock;
        self.held.retain(|key, (fence, written, position)| {
            *position = (*position + 1).min(table.ends.get(key).copied().unwrap_or(u64::MAX - 1));
            *written = clock;
            let written = table.checkpoint(&name, key, fence, *position);
            written && !table.rows[key].is_finished()
        });
    }
}

struct World {
    table: Table,
    workers: Vec<Worker>,
    created: usize,
}

impl World {
    fn new() -> Self {
        let shards = ["1/a", "1/b", "1/c"].map(|key| shard(key, None)).to_vec();
        let workers = (0..4).map(|n| Worker::new(format!("w{n}"), Duration::from_secs(1000 * n))).collect();
        Self { table: Table { shards, ..Table::default() }, workers, created: 4 }
    }

    fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::Look(n) => self.workers[n].look(&self.table),
            Fault::Act(n, lost) => self.workers[n].act(&mut self.table, lost),
            Fault::Work(n) => self.workers[n].work(&mut self.table),
            Fault::Pass(ms) => self.pass(ms),
            Fault::Crash(n) => {
                self.workers[n] = Worker::new(format!("w{}", self.created), Duration::ZERO);
                self.created += 1;
            }
            Fault::Split(n) => {
                let open: Vec<String> = self.open();
                let key = open[n % open.len()].clone();
                self.table.ends.insert(key.clone(), 3);
                for child in ["x", "y"] {
                    self.table.shards.push(shard(&format!("{key}{child}"), Some(&key)));
                }
            }
            Fault::Delete(n) => {
                let mut keys: Vec<String> = self.table.rows.keys().cloned().collect();
                keys.sort();
                if let Some(key) = keys.get(n) {
                    self.table.rows.remove(key);
                    *self.table.lost.entry(key.clone()).or_default() += 1;
                }
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        for worker in &mut self.workers {
            worker.clock += Duration::from_millis(ms);
        }
    }

    fn open(&self) -> Vec<String> {
        let keys = self.table.shards.iter().map(|shard| shard.key.clone());
        keys.filter(|key| !self.table.ends.contains_key(key)).collect()
    }

    /// Every worker completes a round, once a second.
    fn settle(&mut self, seconds: usize) {
        for _ in 0..seconds {
            self.pass(1000);
            for worker in &mut self.workers {
                worker.look(&self.table);
                worker.act(&mut self.table, 0);
                worker.work(&mut self.table);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// During the faults, a stale owner never moves progress back. Afterwards each open shard has one owner, finished
    /// ones are done, and no worker has two leases more than another.
    #[test]
    fn after_any_faults_each_open_shard_has_exactly_one_owner(faults in faults()) {
        let mut world = World::new();
        for fault in faults {
            world.inject(fault);
        }
        world.settle(200);
        let open = world.open();
        for key in world.table.ends.keys() {
            prop_assert!(world.table.rows.get(key).is_some_and(Row::is_finished), "{key} is not finished");
        }
        for key in &open {
            let owners = world.workers.iter().filter(|worker| worker.held.contains_key(key)).count();
            prop_assert_eq!(owners, 1, "{} has {} owners", key, owners);
        }
        let counts = world.workers.iter().map(|worker| worker.held.len());
        let (most, fewest) = (counts.clone().max().unwrap(), counts.min().unwrap());
        let owners: Vec<_> = world.workers.iter().map(|worker| (&worker.name, worker.held.keys())).collect();
        prop_assert!(most <= fewest + 1, "{owners:?} of {:?}", world.table.rows.values());
        let before: Vec<_> = world.workers.iter().map(|worker| worker.held.keys().cloned().collect::<HashSet<_>>()).collect();
        world.settle(30);
        let after: Vec<_> = world.workers.iter().map(|worker| worker.held.keys().cloned().collect::<HashSet<_>>()).collect();
        prop_assert_eq!(before, after, "a balanced assignment is stable");
    }
}
