//! A worker's task between reading and writing a dispatch, and everything that can start one.

use dispatch_core::dispatch::{
    Companion, Dispatch, DispatchStatus, Event, FollowUp, Guard, Refusal, Rules, Step, TripEvent, TripTotals, step,
    without,
};
use dispatch_core::policy::DispatchPolicy;

use super::row::{DRIVERS, Driver, NOW, Row, Setting, View, driver_id, number, user_id};
use super::seen::{Branch, Seen};

/// Steps of one run of the algorithm: a search, and each driver once.
const RUN_MAX: usize = 8;

/// What triggered the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The sweeper, a wake-up timer, or a current stream record; and whether the open offer has timed out.
    Sweep(bool),
    /// A late or repeated stream record, from the time when that many offers had ended.
    OldRecord(u8),
    /// A driver's answer.
    Accept(Driver, u8),
    /// The table refuses to occupy the driver who accepted.
    Impossible(Driver, u8),
    /// A driver's answer.
    Reject(Driver, u8),
    /// An offer's timer: its number, and whether it is due.
    Timer(u8, bool),
    /// A cancellation by a user.
    CancelByUser(Who),
    /// A cancellation by a driver.
    CancelByDriver(Driver),
    /// A trip event reported by a driver.
    Trip(Driver, Report),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Who {
    Owner,
    Stranger,
}

/// A trip event. The events left out behave like the first of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Report {
    Arrived,
    PickedUp,
    Completed,
    Paid,
}

impl Cause {
    /// The event passed to core; `None` if the algorithm has to determine it.
    fn event(self, dispatch: usize) -> Option<Event> {
        let offer = |driver: Driver, offer_seq: u8| (driver_id(driver), u32::from(offer_seq));
        Some(match self {
            Self::Sweep(_) | Self::OldRecord(_) => return None,
            Self::Accept(driver, offer_seq) => {
                let (driver, offer_seq) = offer(driver, offer_seq);
                Event::Accept { driver, offer_seq }
            }
            Self::Impossible(driver, offer_seq) => {
                let (driver, offer_seq) = offer(driver, offer_seq);
                Event::AcceptImpossible { driver, offer_seq }
            }
            Self::Reject(driver, offer_seq) => {
                let (driver, offer_seq) = offer(driver, offer_seq);
                Event::Reject { driver, offer_seq }
            }
            Self::Timer(offer_seq, _) => Event::OfferTimedOut { offer_seq: offer_seq.into() },
            Self::CancelByUser(Who::Owner) => Event::CancelByUser { user: user_id(dispatch) },
            Self::CancelByUser(Who::Stranger) => Event::CancelByUser { user: user_id(1 - dispatch) },
            Self::CancelByDriver(driver) => Event::CancelByDriver { driver: driver_id(driver) },
            Self::Trip(driver, report) => {
                let driver = driver_id(driver);
                let event = match report {
                    Report::Arrived => TripEvent::DriverArrived,
                    Report::PickedUp => TripEvent::PassengerPickedUp,
                    Report::Paid => TripEvent::PaymentCompleted,
                    Report::Completed => {
                        let totals = TripTotals { fare: 12_000, distance_m: 2500, duration_s: 900 };
                        return Some(Event::TripCompleted { driver, bill: totals.into() });
                    }
                };
                Event::Trip { driver, event }
            }
        })
    }

    /// The same with the two drivers exchanged.
    pub(crate) fn mirrored(self) -> Self {
        match self {
            Self::Accept(driver, offer_seq) => Self::Accept(1 - driver, offer_seq),
            Self::Impossible(driver, offer_seq) => Self::Impossible(1 - driver, offer_seq),
            Self::Reject(driver, offer_seq) => Self::Reject(1 - driver, offer_seq),
            Self::CancelByDriver(driver) => Self::CancelByDriver(1 - driver),
            Self::Trip(driver, report) => Self::Trip(1 - driver, report),
            other => other,
        }
    }
}

/// A decision that is not stored yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Task {
    pub dispatch: u8,
    pub cause: Cause,
    /// The row as read.
    pub before: Row,
    /// The row to be written.
    pub after: Row,
    /// The driver who becomes occupied in the same transaction.
    pub occupies: Option<Driver>,
    /// The driver who becomes free in the same transaction.
    pub frees: Option<Driver>,
    pub frees_user: bool,
    /// The follow-up: the driver accepts automatically.
    pub accepts_next: bool,
    /// A write was sent and its answer was lost.
    pub in_doubt: bool,
}

impl Task {
    /// The same with the two drivers exchanged.
    pub(crate) fn mirrored(&self) -> Self {
        let other = |driver: Option<Driver>| driver.map(|driver| 1 - driver);
        Self {
            cause: self.cause.mirrored(),
            before: self.before.mirrored(),
            after: self.after.mirrored(),
            occupies: other(self.occupies),
            frees: other(self.frees),
            ..*self
        }
    }
}

/// The write that a changed step leads to.
fn task_of((dispatch, before): (usize, Row), cause: Cause, step: &Step) -> Task {
    let mut task = Task {
        dispatch: u8::from(dispatch == 1),
        cause,
        before,
        after: Row::from_dispatch(&step.state),
        occupies: None,
        frees: None,
        frees_user: false,
        accepts_next: step.follow_ups.iter().any(|next| matches!(next, FollowUp::AcceptAtOnce { .. })),
        in_doubt: false,
    };
    for companion in &step.companions {
        match companion {
            Companion::OccupyDriver(driver) => task.occupies = Some(number(driver)),
            Companion::FreeDriver(driver) => task.frees = Some(number(driver)),
            Companion::FreeUser(_) => task.frees_user = true,
            Companion::UserHistory(_)
            | Companion::CompletedRide(..)
            | Companion::OpenReview(_)
            | Companion::CloseReview => {}
        }
    }
    task
}

/// Core, possibly with a disabled guard.
pub(crate) struct Core {
    pub setting: Setting,
    away: Option<Guard>,
    policy: DispatchPolicy,
}

/// A driver was refused although the ride belongs to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RiderRefused;

impl Core {
    pub(crate) fn new(setting: Setting, away: Option<Guard>) -> Self {
        Self { setting, away, policy: DispatchPolicy::default() }
    }

    fn decide(&self, dispatch: &Dispatch, event: Event) -> Result<Step, Refusal> {
        without(self.away, || step(dispatch, event, Rules { policy: &self.policy, now: NOW }))
    }

    /// Models `Engine::apply` for an answer or a report: a task to write, or nothing.
    pub(crate) fn apply(&self, dispatch: usize, row: Row, cause: Cause) -> Result<Option<Task>, Refusal> {
        let view = View { due: matches!(cause, Cause::Timer(_, true)), ..View::default() };
        let Some(event) = cause.event(dispatch) else { return Ok(None) };
        let decided = self.decide(&row.to_dispatch(dispatch, &self.setting, view), event)?;
        Ok(decided.changed.then(|| task_of((dispatch, row), cause, &decided)))
    }

    /// Models `Engine::advance` for a dispatch as it was read, until there is something to write.
    pub(crate) fn advance(&self, (dispatch, row): (usize, Row), cause: Cause, luck: Luck) -> Option<Task> {
        let mut working = row.to_dispatch(dispatch, &self.setting, luck.view);
        let mut event = Event::Wake;
        for _ in 0..RUN_MAX {
            let decided = self.decide(&working, event).ok()?;
            if decided.changed {
                return Some(task_of((dispatch, row), cause, &decided));
            }
            event = decided.follow_ups.iter().find_map(|next| match next {
                FollowUp::Search => {
                    let found = luck.found.iter().map(|driver| self.setting.candidate(*driver));
                    Some(Event::CandidatesFound(found.collect()))
                }
                FollowUp::Hold(driver) if luck.busy.contains(&number(driver)) => {
                    Some(Event::DriverBusy(driver.clone()))
                }
                FollowUp::Hold(driver) => Some(Event::DriverHeld(driver.clone())),
                _ => None,
            })?;
            working = decided.state;
        }
        None
    }

    /// Every task a worker can start on this dispatch: whatever people, timers, the stream and the sweeper may trigger
    /// at any time, any number of times, in any order.
    pub(crate) fn beginnings(&self, dispatch: usize, row: Row, seen: &Seen) -> Result<Vec<Task>, RiderRefused> {
        let mut tasks = Vec::new();
        for cause in answers() {
            tasks.extend(self.answer(dispatch, row, cause, seen)?);
        }
        for luck in every_luck() {
            tasks.extend(self.advance((dispatch, row), Cause::Sweep(luck.view.due), luck));
            let images = (0..=row.offer_seq).map(|ended| (ended, row.image(ended)));
            let old = images.filter(|(_, image)| image.ver < row.ver);
            tasks.extend(
                old.filter_map(|(ended, image)| self.advance((dispatch, image), Cause::OldRecord(ended), luck)),
            );
        }
        tasks.sort_unstable();
        tasks.dedup();
        Ok(tasks)
    }

    fn answer(&self, dispatch: usize, row: Row, cause: Cause, seen: &Seen) -> Result<Option<Task>, RiderRefused> {
        // `Engine::time_out` restarts an early timer.
        if matches!(cause, Cause::Timer(offer_seq, false) if row.has_end && row.offer_seq == offer_seq) {
            seen.mark(Branch::EarlyTimer);
            return Ok(None);
        }
        let task = self.apply(dispatch, row, cause);
        match (cause, &task) {
            (Cause::Accept(driver, offer_seq), Err(_)) => {
                let rides = matches!(
                    row.status(),
                    DispatchStatus::Accepted | DispatchStatus::InProgress | DispatchStatus::Completed
                );
                if rides && row.driver == Some(driver) && row.offer_seq == offer_seq {
                    return Err(RiderRefused);
                }
                if row.is_offered() && offer_seq < row.offer_seq && row.asked[0] == Some(driver) {
                    seen.mark(Branch::LateAccept);
                }
            }
            (Cause::Accept(..), Ok(None)) => seen.mark(Branch::RepeatedAccept),
            (Cause::Timer(offer_seq, _), Err(_)) if row.is_offered() && offer_seq < row.offer_seq => {
                seen.mark(Branch::LateTimer);
            }
            (Cause::CancelByUser(Who::Owner), Err(_)) if row.status() == DispatchStatus::InProgress => {
                seen.mark(Branch::CancelRefused);
            }
            _ => {}
        }
        Ok(task.unwrap_or_default())
    }
}

/// The environment of a run of the algorithm: the time, the drivers Redis finds, and those that are reserved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Luck {
    pub view: View,
    pub found: &'static [Driver],
    pub busy: &'static [Driver],
}

/// Every combination that makes a difference for `step`.
fn every_luck() -> impl Iterator<Item = Luck> {
    let view = |due, late, fresh| View { due, late, fresh };
    let views = [
        view(true, false, false),
        view(false, true, true),
        view(false, true, false),
        view(false, false, true),
        view(false, false, false),
    ];
    let busy: [&[Driver]; 3] = [&[], &[0], &[1]];
    let found: [&[Driver]; 5] = [&[], &[0], &[1], &[0, 1], &[1, 0]];
    views.into_iter().flat_map(move |view| {
        found.into_iter().flat_map(move |found| busy.into_iter().map(move |busy| Luck { view, found, busy }))
    })
}

/// All messages of people and timers.
fn answers() -> Vec<Cause> {
    let mut all = vec![Cause::CancelByUser(Who::Owner), Cause::CancelByUser(Who::Stranger)];
    for offer_seq in 1..=2 {
        all.extend([Cause::Timer(offer_seq, false), Cause::Timer(offer_seq, true)]);
    }
    for driver in (0..DRIVERS).map(|driver| u8::from(driver == 1)) {
        all.push(Cause::CancelByDriver(driver));
        for offer_seq in 1..=2 {
            all.extend([Cause::Accept(driver, offer_seq), Cause::Reject(driver, offer_seq)]);
        }
        let reports = [Report::Arrived, Report::PickedUp, Report::Completed, Report::Paid];
        all.extend(reports.map(|report| Cause::Trip(driver, report)));
    }
    all
}
