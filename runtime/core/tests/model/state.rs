//! A state of the model.

use super::promise::Promise;
use super::row::{DISPATCHES, DRIVERS, Driver, Row};
use super::task::Task;

/// Largest number of workers.
pub(crate) const WORKERS_MAX: usize = 3;

/// The table, and the workers' tasks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct State {
    pub rows: [Row; DISPATCHES],
    /// The dispatch each driver is on.
    pub drivers: [Option<u8>; DRIVERS],
    /// Whether the user of each dispatch is on it.
    pub users: [bool; DISPATCHES],
    /// The driver who ever accepted each dispatch.
    pub given: [Option<Driver>; DISPATCHES],
    pub tasks: [Option<Task>; WORKERS_MAX],
    /// The property that the last write violated.
    pub broken: Option<Promise>,
}

impl State {
    pub(crate) fn with_drivers_exchanged(&self) -> Self {
        let other = |driver: Option<Driver>| driver.map(|driver| 1 - driver);
        Self {
            rows: self.rows.map(|row| row.mirrored()),
            drivers: [self.drivers[1], self.drivers[0]],
            users: self.users,
            given: self.given.map(other),
            tasks: self.tasks.map(|task| task.map(|task| task.mirrored())),
            broken: self.broken,
        }
    }

    pub(crate) fn with_dispatches_exchanged(&self) -> Self {
        let other = |dispatch: Option<u8>| dispatch.map(|dispatch| 1 - dispatch);
        Self {
            rows: [self.rows[1], self.rows[0]],
            drivers: self.drivers.map(other),
            users: [self.users[1], self.users[0]],
            given: [self.given[1], self.given[0]],
            tasks: self.tasks.map(|task| task.map(|task| Task { dispatch: 1 - task.dispatch, ..task })),
            broken: self.broken,
        }
    }
}
