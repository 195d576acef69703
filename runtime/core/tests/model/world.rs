//! The environment of `step`: the table, the workers, and people who may act at any time.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

use dispatch_core::dispatch::{DispatchStatus, Guard};
use stateright::{Model, Property};

use super::promise::Promise;
use super::properties::{broken_by, properties};
use super::row::{DISPATCHES, DRIVERS, Driver, Row, Setting, View};
use super::seen::{Branch, Seen};
use super::state::{State, WORKERS_MAX};
use super::task::{Cause, Core, Luck, Report, RiderRefused, Task, Who};

/// Largest number of writes that end a dispatch: an offer and its end for each attempt, two steps of a ride, and the
/// last one.
const DRAIN_WRITES_MAX: usize = 10;

/// A transition of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A worker reads a dispatch and decides.
    Begin(Task),
    /// A worker writes its decision, and continues as the engine does.
    Write(u8),
    /// The same, but the answer is lost.
    LoseAnswer(u8),
    /// A worker crashes.
    Crash(u8),
    /// A driver is refused although the ride belongs to the driver.
    RefuseRider,
}

/// A write condition of the store that a test can disable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StoreGuard {
    /// The stored `ver` is the one that was read.
    Version,
    /// The dispatch is the one that was read: `ver`, `status`, `offerSeq` and driver.
    Dispatch,
    /// The driver is free.
    DriverIsFree,
}

/// How a write ends.
enum Written {
    Stored,
    /// It was stored before, and the answer was lost.
    Before,
    DispatchChanged,
    DriverTaken,
}

/// The model.
pub(crate) struct World {
    core: Core,
    away: Option<StoreGuard>,
    seen: Arc<Seen>,
    beginnings: RwLock<HashMap<(usize, Row), Beginnings>>,
}

type Beginnings = Result<Arc<[Task]>, RiderRefused>;

impl World {
    pub(crate) fn new(setting: Setting, seen: Arc<Seen>) -> Self {
        Self { core: Core::new(setting, None), away: None, seen, beginnings: RwLock::default() }
    }

    /// The same world with a guard of core disabled.
    pub(crate) fn without(self, guard: Guard) -> Self {
        Self { core: Core::new(self.core.setting, Some(guard)), ..self }
    }

    /// The same world with a condition of the store disabled.
    pub(crate) fn without_store(self, guard: StoreGuard) -> Self {
        Self { away: Some(guard), ..self }
    }

    /// Cached, because many states have the same dispatch.
    fn beginnings(&self, dispatch: usize, row: Row) -> Beginnings {
        let key = (dispatch, row);
        if let Some(known) = self.beginnings.read().get(&key) {
            return known.clone();
        }
        let found: Beginnings = self.core.beginnings(dispatch, row, &self.seen).map(Arc::from);
        self.beginnings.write().insert(key, found.clone());
        found
    }

    /// The conditions of the runtime's transaction, and the recognition of an earlier write whose answer was lost.
    fn try_write(&self, state: &State, task: &Task) -> Written {
        let (now, before) = (&state.rows[usize::from(task.dispatch)], &task.before);
        let was_ours = task.in_doubt && *now == task.after;
        let is_free = |driver: Driver| state.drivers[usize::from(driver)].is_none();
        let free = task.occupies.is_none_or(is_free) || self.away == Some(StoreGuard::DriverIsFree);
        let rest_same =
            now.status() == before.status() && now.offer_seq == before.offer_seq && now.driver == before.driver;
        let same = match self.away {
            Some(StoreGuard::Dispatch) => true,
            Some(StoreGuard::Version) => rest_same,
            _ => rest_same && now.ver == before.ver,
        };
        match (same, free) {
            (true, true) => Written::Stored,
            (true, false) => Written::DriverTaken,
            (false, _) if was_ours => Written::Before,
            (false, _) => Written::DispatchChanged,
        }
    }

    /// Applies the transaction.
    fn store(&self, state: &mut State, task: &Task) {
        state.broken = broken_by(state, task, &self.core.setting);
        let dispatch = usize::from(task.dispatch);
        state.rows[dispatch] = task.after;
        if let Some(driver) = task.occupies {
            state.drivers[usize::from(driver)] = Some(task.dispatch);
            state.given[dispatch] = Some(driver);
        }
        if let Some(driver) = task.frees.map(usize::from).filter(|driver| state.drivers[*driver] == Some(task.dispatch))
        {
            state.drivers[driver] = None;
        }
        if task.frees_user {
            state.users[dispatch] = false;
        }
    }

    /// A worker's next task after a write.
    fn next_task(&self, state: &State, task: &Task, written: &Written) -> Option<Task> {
        let dispatch = usize::from(task.dispatch);
        let decided = match (written, task.cause) {
            (Written::Stored | Written::Before, _) if task.accepts_next => {
                let cause = Cause::Accept(task.after.driver?, task.after.offer_seq);
                self.core.apply(dispatch, task.after, cause)
            }
            (Written::DriverTaken, Cause::Accept(driver, offer_seq)) => {
                self.core.apply(dispatch, task.before, Cause::Impossible(driver, offer_seq))
            }
            // Read and decide again. The algorithm starts over, as it may at any time.
            (Written::DispatchChanged, cause) => self.core.apply(dispatch, state.rows[dispatch], cause),
            _ => return None,
        };
        decided.ok().flatten()
    }

    fn write(&self, state: &State, worker: usize) -> Option<State> {
        let task = state.tasks[worker]?;
        let written = self.try_write(state, &task);
        let mut next = state.clone();
        match written {
            Written::Stored => {
                self.note(state, &task);
                self.store(&mut next, &task);
            }
            Written::Before => self.seen.mark(Branch::OwnWrite),
            Written::DriverTaken => self.seen.mark(Branch::DriverTaken),
            Written::DispatchChanged => self.seen.mark(match task.cause {
                Cause::OldRecord(_) => Branch::OldRecord,
                _ => Branch::LostRace,
            }),
        }
        next.tasks[worker] = self.next_task(&next, &task, &written);
        Some(next)
    }

    fn lose_answer(&self, state: &State, worker: usize) -> Option<State> {
        let task = state.tasks[worker]?;
        if !matches!(self.try_write(state, &task), Written::Stored) {
            return None;
        }
        self.note(state, &task);
        let mut next = state.clone();
        self.store(&mut next, &task);
        next.tasks[worker] = Some(Task { in_doubt: true, ..task });
        Some(next)
    }

    /// Marks the rare branches that a write takes.
    fn note(&self, state: &State, task: &Task) {
        let before = &state.rows[usize::from(task.dispatch)];
        let others = || state.tasks.iter().flatten().filter(|other| other.dispatch == task.dispatch);
        let ends = |other: &Task| matches!(other.cause, Cause::Timer(..)) && other.before == *before;
        let accepts = |other: &Task| matches!(other.cause, Cause::Accept(..)) && other.before == *before;
        let used_up = before.attempt == self.core.setting.attempts[usize::from(task.dispatch)];
        let accepts_itself =
            |driver: Option<Driver>| driver.is_some_and(|driver| self.core.setting.auto_accept[usize::from(driver)]);
        match task.cause {
            Cause::Accept(driver, _) => {
                if others().any(ends) {
                    self.seen.mark(Branch::AnswerFirst);
                }
                if accepts_itself(Some(driver)) {
                    self.seen.mark(Branch::AutoAccept);
                }
            }
            Cause::Timer(..) if others().any(accepts) => self.seen.mark(Branch::TimerFirst),
            Cause::CancelByUser(Who::Owner) if before.is_offered() => self.seen.mark(Branch::CancelDuringOffer),
            Cause::CancelByDriver(_) => self.seen.mark(Branch::DriverCancels),
            Cause::Trip(_, Report::Completed) => self.seen.mark(Branch::Completed),
            Cause::Sweep(_) if task.after.status() == DispatchStatus::Cancelled => {
                self.seen.mark(if used_up { Branch::AttemptsUsedUp } else { Branch::NobodyFree });
            }
            // The worker that made such an offer accepts it, unless it crashed.
            Cause::Sweep(_) if before.is_offered() && accepts_itself(before.driver) => self.seen.mark(Branch::Resumed),
            _ => {}
        }
        let offered = |row: &Row| row.driver.filter(|_| row.is_offered());
        let other = &state.rows[usize::from(1 - task.dispatch)];
        if offered(&task.after).is_some() && offered(&task.after) == offered(other) {
            self.seen.mark(Branch::HoldLost);
        }
    }

    fn crash(&self, state: &State, worker: usize) -> Option<State> {
        let task = state.tasks[worker]?;
        let accepts_itself = |driver: Driver| self.core.setting.auto_accept[usize::from(driver)];
        let after_write = matches!(task.cause, Cause::Accept(driver, _) if accepts_itself(driver));
        self.seen.mark(if after_write { Branch::CrashAfterWrite } else { Branch::Crash });
        let mut next = state.clone();
        next.tasks[worker] = None;
        Some(next)
    }

    /// Whether every dispatch ends if nothing else fails: all messages and all work in progress are lost, no driver
    /// answers, the sweeper runs, and the driver of a ride completes it. The search finds no driver or all drivers.
    pub(crate) fn drains(&self, state: &State) -> bool {
        let searches: [&[Driver]; 2] = [&[], &[0, 1]];
        searches.iter().all(|found| {
            let mut state = state.clone();
            for dispatch in 0..DISPATCHES {
                self.drain(&mut state, dispatch, found);
            }
            let over = state.rows.iter().all(|row| row.status().is_terminal());
            over && state.drivers == [None; DRIVERS] && state.users == [false; DISPATCHES]
        })
    }

    fn drain(&self, state: &mut State, dispatch: usize, found: &'static [Driver]) {
        let luck = Luck { view: View { due: true, late: true, fresh: false }, found, busy: &[] };
        for _ in 0..DRAIN_WRITES_MAX {
            let row = state.rows[dispatch];
            let report = |report| row.driver.map(|driver| Cause::Trip(driver, report));
            let cause = match row.status() {
                DispatchStatus::Requested => None,
                DispatchStatus::Accepted => report(Report::PickedUp),
                DispatchStatus::InProgress => report(Report::Completed),
                DispatchStatus::Completed | DispatchStatus::Cancelled => return,
            };
            let mut task = match cause {
                Some(cause) => self.core.apply(dispatch, row, cause).unwrap_or_default(),
                None => self.core.advance((dispatch, row), Cause::Sweep(true), luck),
            };
            while let Some(current) = task {
                let written = self.try_write(state, &current);
                if matches!(written, Written::Stored) {
                    self.store(state, &current);
                }
                task = self.next_task(state, &current, &written);
            }
        }
    }

    /// Symmetry reduction: workers are interchangeable, and so are equal dispatches and equal drivers. Of all states
    /// that differ only in these, one is explored.
    fn representative(&self, state: State) -> State {
        let setting = &self.core.setting;
        let mut all = vec![state];
        if setting.auto_accept[0] == setting.auto_accept[1] {
            all.push(all[0].with_drivers_exchanged());
        }
        if setting.attempts[0] == setting.attempts[1] {
            let exchanged: Vec<State> = all.iter().map(State::with_dispatches_exchanged).collect();
            all.extend(exchanged);
        }
        for state in &mut all {
            state.tasks.sort_unstable_by(|a, b| b.cmp(a));
        }
        all.into_iter().min().unwrap()
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            rows: [Row::requested(); DISPATCHES],
            drivers: [None; DRIVERS],
            users: [true; DISPATCHES],
            given: [None; DISPATCHES],
            tasks: [None; WORKERS_MAX],
            broken: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        for (worker, task) in (0..).zip(&state.tasks) {
            let Some(task) = task else { continue };
            actions.extend([Action::Write(worker), Action::Crash(worker)]);
            if !task.in_doubt {
                actions.push(Action::LoseAnswer(worker));
            }
        }
        if state.tasks.iter().flatten().count() == self.core.setting.workers {
            return;
        }
        for dispatch in 0..DISPATCHES {
            match self.beginnings(dispatch, state.rows[dispatch]) {
                Ok(tasks) => actions.extend(tasks.iter().copied().map(Action::Begin)),
                Err(RiderRefused) => actions.push(Action::RefuseRider),
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let next = match action {
            Action::Begin(task) => {
                let mut next = state.clone();
                let free = next.tasks.iter_mut().find(|task| task.is_none())?;
                *free = Some(task);
                next
            }
            Action::Write(worker) => self.write(state, worker.into())?,
            Action::LoseAnswer(worker) => self.lose_answer(state, worker.into())?,
            Action::Crash(worker) => self.crash(state, worker.into())?,
            Action::RefuseRider => State { broken: Some(Promise::RiderNeverRefused), ..state.clone() },
        };
        Some(self.representative(next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = properties();
        all.push(Property::always(
            "the sweeper alone ends every request, and a driver every ride",
            every_request_can_still_end,
        ));
        all
    }
}

/// A state without work in progress has the same table as one with work that may still be lost, so only the former is
/// checked.
fn every_request_can_still_end(world: &World, state: &State) -> bool {
    state.broken.is_some() || state.tasks.iter().any(Option::is_some) || world.drains(state)
}
