//! The two writes that decide: a new dispatch, and a step.

use aws_sdk_dynamodb::types::{CancellationReason, Put, TransactWriteItem};
use dispatch_core::dispatch::{Dispatch, Step};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use serde::Serialize;

use crate::adapters::store::change::DispatchChange;
use crate::adapters::store::convert::{DISPATCH, DISPATCH_REVIEW, read_item, write_item};
use crate::adapters::store::entity::{DriverItem, UserItem};
use crate::adapters::store::entity_type::{DRIVER, USER};
use crate::adapters::store::erasure::is_erased;
use crate::adapters::store::error::{DynamoFailure, LOOKUP_TIMEOUT, Meaning, TransactionFailure, condition_failed};
use crate::adapters::store::expression::{Expression, key, text};
use crate::adapters::store::plan::{self, Guard, Plan, PlanError, ReviewChange, StepPeople};
use crate::adapters::store::repair::ProfileItem;
use crate::adapters::store::{DynamoStore, broken, keys};
use crate::ports::{Commit, CreateOutcome, NewDispatch, PortError, StoredDispatch, TravelledRoute};

const CREATE: &str = "storing a dispatch";
const COMMIT: &str = "storing a step of a dispatch";

/// Index of the dispatch in every transaction.
const DISPATCH_PART: usize = 0;
/// Index of the user in the transaction that creates a dispatch.
const USER_PART: usize = 1;

/// Whether a new request requires that its user's pause is over. A pause that the current rules no longer have is
/// ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PauseGate {
    Closed,
    Open,
}

/// The result of one attempt to commit.
enum WriteOutcome {
    /// Stored.
    Yes,
    /// The dispatch has changed since the step was decided.
    DispatchChanged,
    /// A profile has changed since it was read.
    PeopleChanged,
    /// Not stored, or in doubt.
    No(DynamoFailure),
}

impl DynamoStore {
    /// `TransactWriteItems{Put dispatch IF absent, Update user IF ACTIVE and free and not paused}`.
    ///
    /// It uses no `ClientRequestToken`: derived from the dispatch's id, it would turn a repeated request, whose time
    /// differs, into an `IdempotentParameterMismatchException` for ten minutes. The condition on the dispatch's key
    /// detects repetitions without a time limit. After a lost answer, the dispatch that blocks the next attempt may be
    /// from this very call.
    pub(super) async fn create_dispatch(&self, new: &NewDispatch) -> Result<CreateOutcome, PortError> {
        let item = self.codec.new_dispatch(new);
        let mut parts = [self.put_if_absent(DISPATCH, &item)?, self.occupy_user(new, PauseGate::Closed)?];
        let asked = self.codec.stored(item).map_err(|error| broken(CREATE, error))?;
        let (mut tries, mut in_doubt) = (self.tries(), false);
        loop {
            let request = self.once.transact_write_items().set_transact_items(Some(parts.to_vec()));
            let sent = request.send().await;
            let failure = match sent.map_err(|error| TransactionFailure::from_sdk(&error)) {
                Ok(_) => {
                    return Ok(CreateOutcome::Stored(Box::new(asked)));
                }
                Err(TransactionFailure::Conditions(reasons)) => match self.not_created(new, &reasons).await? {
                    Some(CreateOutcome::Existed(stored)) if in_doubt && is_the_same_request(&stored, &asked) => {
                        self.metrics.lost_answer_found();
                        return Ok(CreateOutcome::Stored(stored));
                    }
                    Some(other) => return Ok(other),
                    None => {
                        parts[USER_PART] = self.occupy_user(new, PauseGate::Open)?;
                        DynamoFailure::new(Meaning::Contended, "ConditionalCheckFailed", "a pause that is over")
                    }
                },
                Err(TransactionFailure::Other(failure)) => failure,
            };
            in_doubt |= failure.meaning == Meaning::InDoubt;
            let again = matches!(failure.meaning, Meaning::Contended | Meaning::InDoubt);
            if !again || !tries.pause(&failure).await {
                let found = if in_doubt { self.look_up(CREATE, &new.id).await? } else { None };
                let ours = found.filter(|stored| is_the_same_request(stored, &asked));
                if ours.is_some() {
                    self.metrics.lost_answer_found();
                }
                return ours
                    .map(|stored| CreateOutcome::Stored(Box::new(stored)))
                    .ok_or_else(|| failure.into_port(CREATE));
            }
        }
    }

    /// Why a request was not stored; `None` if the user is free and the current rules have no pause. The dispatch is
    /// checked first, because a repeated request has occupied its own user.
    async fn not_created(
        &self,
        new: &NewDispatch,
        reasons: &[CancellationReason],
    ) -> Result<Option<CreateOutcome>, PortError> {
        if let Some(stored) = self.load_dispatch(CREATE, &new.id).await? {
            return if stored.state.user == new.user {
                Ok(Some(CreateOutcome::Existed(Box::new(stored))))
            } else {
                let refused =
                    DynamoFailure::new(Meaning::Refused, "IdTaken", "the id belongs to another user's dispatch");
                Err(refused.into_port(CREATE))
            };
        }
        let user = reasons.get(USER_PART).and_then(CancellationReason::item).filter(|user| !is_erased(user));
        let Some(user) = user else {
            return Ok(Some(CreateOutcome::UnknownUser));
        };
        let user: UserItem =
            read_item(USER, user.clone()).map_err(|error| self.unreadable(CREATE, USER, new.user.as_str(), error))?;
        if plan::is_free(&user.current_status) {
            return Ok(self.codec.pause(&user, new.now).map(CreateOutcome::Paused));
        }
        let current = user.current_status.current_dispatch_id.and_then(|id| DispatchId::parse(id).ok());
        Ok(Some(CreateOutcome::UserBusy { current }))
    }

    fn occupy_user(&self, new: &NewDispatch, gate: PauseGate) -> Result<TransactWriteItem, PortError> {
        let mut update = Expression::default();
        update.set("currentStatus.status", text(PersonStatus::Dispatched.as_str()));
        update.set("currentStatus.currentDispatchId", text(new.id.as_str()));
        update.set("GSI1PK", text(keys::gsi1_user_pk(PersonStatus::Dispatched, &new.user, self.codec.shards)));
        update.exists();
        update.equals("currentStatus.status", text(PersonStatus::Active.as_str()));
        update.null("currentStatus.currentDispatchId");
        if gate == PauseGate::Closed {
            update.at_most("requestsPausedUntil", new.now.0);
        }
        let update = update.into_update(&self.table, key(new.user.as_str(), keys::PROFILE_SK));
        Ok(TransactWriteItem::builder().update(update.map_err(|error| broken(CREATE, error))?).build())
    }

    fn put_if_absent<T: Serialize>(&self, entity: &'static str, item: &T) -> Result<TransactWriteItem, PortError> {
        let mut condition = Expression::default();
        condition.absent();
        let item = write_item(entity, item).map_err(|error| broken(CREATE, error))?;
        let put = condition.into_put(&self.table, item).map_err(|error| broken(CREATE, error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Stores a step: one conditional update if only the dispatch changes, otherwise one transaction.
    ///
    /// A profile that changed between reading and writing is read again. After a lost answer, the next attempt may find
    /// this call's own write, which it recognises by version, status and last event. If another process decided exactly
    /// the same step at the same moment, both count as the writer, and the step's follow-ups may run twice.
    pub(super) async fn commit_step(
        &self,
        before: &StoredDispatch,
        step: &Step,
        route: Option<&TravelledRoute>,
    ) -> Result<Commit, PortError> {
        if !step.changed {
            return Ok(Commit::Applied(Box::new(before.clone())));
        }
        let mut tries = self.tries();
        let mut in_doubt = false;
        loop {
            let people = self.read_people(step).await?;
            let plan = match self.codec.plan(before, step, route, &people) {
                Ok(plan) => plan,
                Err(PlanError::DriverNotFree) => return self.settle(before, step, in_doubt).await,
                Err(PlanError::Item(error)) => return Err(broken(COMMIT, error)),
            };
            let (after, written) = self.write(before, plan).await?;
            let failure = match written {
                WriteOutcome::Yes => return Ok(Commit::Applied(Box::new(after))),
                WriteOutcome::DispatchChanged if in_doubt => return self.settle(before, step, in_doubt).await,
                WriteOutcome::DispatchChanged => return Ok(Commit::Changed),
                WriteOutcome::PeopleChanged => {
                    DynamoFailure::new(Meaning::Contended, "ConditionalCheckFailed", "a profile keeps changing")
                }
                WriteOutcome::No(failure) => failure,
            };
            in_doubt |= failure.meaning == Meaning::InDoubt;
            if failure.meaning == Meaning::Refused {
                return Err(failure.into_port(COMMIT));
            }
            if !tries.pause(&failure).await {
                // A lost request may still be applied later, so only our own write is a definite result.
                let found = if in_doubt { Some(self.settle(before, step, in_doubt).await?) } else { None };
                return match found {
                    Some(Commit::Applied(stored)) => Ok(Commit::Applied(stored)),
                    _ => Err(failure.into_port(COMMIT)),
                };
            }
        }
    }

    /// Determines the outcome of a step from the dispatch's current state.
    async fn settle(&self, before: &StoredDispatch, step: &Step, in_doubt: bool) -> Result<Commit, PortError> {
        let Some(now) = self.look_up(COMMIT, &before.state.id).await? else { return Ok(Commit::Changed) };
        let ours = now.state.ver == step.state.ver
            && now.state.status == step.state.status
            && now.state.driver == step.state.driver
            && now.details.events.last() == step.records.last().map(|record| self.codec.event(record)).as_ref();
        if in_doubt && ours {
            self.metrics.lost_answer_found();
            return Ok(Commit::Applied(Box::new(now)));
        }
        let same = now.state.ver == before.state.ver && now.state.status == before.state.status;
        Ok(if same { Commit::CompanionRefused } else { Commit::Changed })
    }

    /// Reads the profiles that a step changes. One that cannot be read counts as missing: its person is not occupied,
    /// and the others are freed without it.
    async fn read_people(&self, step: &Step) -> Result<StepPeople<DriverItem, UserItem>, PortError> {
        let ids = plan::step_people(step);
        let mut people = StepPeople { driver: None, user: None };
        let pks: Vec<&str> =
            ids.driver.iter().map(DriverId::as_str).chain(ids.user.iter().map(UserId::as_str)).collect();
        if pks.is_empty() {
            return Ok(people);
        }
        for item in self.get_many(COMMIT, &pks, keys::PROFILE_SK).await? {
            let is_driver = ids.driver.as_ref().is_some_and(|id| item.get("PK") == Some(&text(id.as_str())));
            if is_driver {
                people.driver = self.readable(DRIVER, item, |item| read_item(DRIVER, item));
            } else {
                people.user = self.readable(USER, item, |item| read_item(USER, item));
            }
        }
        Ok(people)
    }

    /// Writes a plan; the dispatch as it is if that succeeds.
    async fn write(&self, before: &StoredDispatch, plan: Plan) -> Result<(StoredDispatch, WriteOutcome), PortError> {
        let companions = self.companions(&plan)?;
        let dispatch = dispatch_update(&before.state, plan.dispatch);
        let written = if companions.is_empty() {
            self.update_alone(&before.state.id, dispatch).await
        } else {
            self.update_with(&before.state.id, dispatch, companions).await?
        };
        Ok((plan.after, written))
    }

    /// Updates the dispatch and its companions in one transaction.
    async fn update_with(
        &self,
        id: &DispatchId,
        dispatch: Expression,
        companions: Vec<TransactWriteItem>,
    ) -> Result<WriteOutcome, PortError> {
        let dispatch = dispatch.into_update(&self.table, key(id.as_str(), keys::DISPATCH_SK));
        let dispatch = TransactWriteItem::builder().update(dispatch.map_err(|error| broken(COMMIT, error))?).build();
        let parts = std::iter::once(dispatch).chain(companions).collect();
        let request = self.once.transact_write_items().set_transact_items(Some(parts));
        Ok(match request.send().await.map_err(|error| TransactionFailure::from_sdk(&error)) {
            Ok(_) => WriteOutcome::Yes,
            Err(TransactionFailure::Conditions(reasons)) if condition_failed(&reasons, DISPATCH_PART) => {
                WriteOutcome::DispatchChanged
            }
            Err(TransactionFailure::Conditions(_)) => WriteOutcome::PeopleChanged,
            Err(TransactionFailure::Other(failure)) => WriteOutcome::No(failure),
        })
    }

    /// Updates the dispatch alone.
    async fn update_alone(&self, id: &DispatchId, update: Expression) -> WriteOutcome {
        let request = self.once.update_item().table_name(&self.table);
        let request = update.fill(request.set_key(Some(key(id.as_str(), keys::DISPATCH_SK))));
        match request.send().await {
            Ok(_) => WriteOutcome::Yes,
            Err(error) => match DynamoFailure::from_sdk(&error) {
                failure if failure.meaning == Meaning::ConditionFailed => WriteOutcome::DispatchChanged,
                failure => WriteOutcome::No(failure),
            },
        }
    }

    fn companions(&self, plan: &Plan) -> Result<Vec<TransactWriteItem>, PortError> {
        let mut parts = Vec::new();
        if let Some(change) = &plan.driver {
            let items = (&change.before, &change.after);
            parts.push(self.person_update(COMMIT, &change.guard, &change.before.pk, items)?);
        }
        if let Some(change) = &plan.user {
            let items = (&change.before, &change.after);
            parts.push(self.person_update(COMMIT, &change.guard, &change.before.pk, items)?);
        }
        let histories = [
            plan.driver_history.as_ref().map(|item| self.put(COMMIT, "DRIVER_STATUS_HISTORY", item)),
            plan.user_history.as_ref().map(|item| self.put(COMMIT, "USER_DISPATCH_HISTORY", item)),
            plan.ride.as_ref().map(|item| self.put(COMMIT, "DRIVER_COMPLETED_RIDE", item)),
            plan.review.as_ref().map(|change| match change {
                ReviewChange::Open(item) => self.put(COMMIT, DISPATCH_REVIEW, item),
                ReviewChange::Close => self.unlist_review(&plan.after.state.id),
            }),
        ];
        for part in histories.into_iter().flatten() {
            parts.push(part?);
        }
        Ok(parts)
    }

    /// Writes a new item.
    pub(super) fn put<T: Serialize>(
        &self,
        action: &'static str,
        entity: &'static str,
        item: &T,
    ) -> Result<TransactWriteItem, PortError> {
        let item = write_item(entity, item).map_err(|error| broken(action, error))?;
        let put = Put::builder().table_name(&self.table).set_item(Some(item)).build();
        Ok(TransactWriteItem::builder().put(put.map_err(|error| broken(action, error))?).build())
    }

    /// Removes a dispatch from the list of reviews. The item stays, because workers may not delete.
    fn unlist_review(&self, id: &DispatchId) -> Result<TransactWriteItem, PortError> {
        let mut update = Expression::default();
        update.remove("GSI1PK");
        update.remove("GSI1SK");
        let update = update.into_update(&self.table, key(id.as_str(), keys::REVIEW_SK));
        Ok(TransactWriteItem::builder().update(update.map_err(|error| broken(COMMIT, error))?).build())
    }

    /// Changes a profile on condition that it still matches the plan.
    pub(super) fn person_update<T: ProfileItem>(
        &self,
        action: &'static str,
        guard: &Guard,
        pk: &str,
        (before, after): (&T, &T),
    ) -> Result<TransactWriteItem, PortError> {
        let write = |profile| write_item(T::ENTITY, profile).map_err(|error| broken(action, error));
        let mut update = Expression::between(&write(before)?, &write(after)?);
        guard_person(&mut update, guard);
        let update = update.into_update(&self.table, key(pk, keys::PROFILE_SK));
        Ok(TransactWriteItem::builder().update(update.map_err(|error| broken(action, error))?).build())
    }

    /// Reads the dispatch of a write in doubt, within [`LOOKUP_TIMEOUT`].
    async fn look_up(&self, action: &'static str, id: &DispatchId) -> Result<Option<StoredDispatch>, PortError> {
        let look = tokio::time::timeout(LOOKUP_TIMEOUT, self.load_dispatch(action, id)).await;
        look.unwrap_or_else(|_| {
            let silent = DynamoFailure::new(Meaning::InDoubt, "no code", "no answer in time");
            Err(silent.into_port(action))
        })
    }

    /// Reads a dispatch, strongly consistent.
    pub(super) async fn load_dispatch(
        &self,
        action: &'static str,
        id: &DispatchId,
    ) -> Result<Option<StoredDispatch>, PortError> {
        let item = self.get(action, id.as_str(), keys::DISPATCH_SK).await?;
        let read = item.map(|item| self.codec.read_dispatch(item)).transpose();
        read.map_err(|error| self.unreadable(action, DISPATCH, id.as_str(), error))
    }
}

/// Whether a stored dispatch, which may have advanced, comes from this very request: the end of its search has
/// milliseconds and never changes.
fn is_the_same_request(stored: &StoredDispatch, asked: &StoredDispatch) -> bool {
    let request = |it: &StoredDispatch| (it.state.user.clone(), it.state.created_at, it.state.matching.search_until);
    request(stored) == request(asked)
}

/// Requires that a profile still matches the plan.
fn guard_person(update: &mut Expression, guard: &Guard) {
    match guard {
        Guard::Free => {
            update.equals("currentStatus.status", text(PersonStatus::Active.as_str()));
            update.null("currentStatus.currentDispatchId");
        }
        Guard::On(dispatch) => update.equals("currentStatus.currentDispatchId", text(dispatch)),
    }
}

/// The update of a dispatch, on condition that version, status, offer and driver are still those of the decision.
fn dispatch_update(before: &Dispatch, change: DispatchChange) -> Expression {
    let mut update = change.into_update();
    update.equals("status", text(before.status.as_str()));
    update.counts("offerSeq", before.offer_seq);
    update.counts("ver", before.ver);
    match &before.driver {
        Some(driver) => update.equals("driverId", text(driver.as_str())),
        None => update.null("driverId"),
    }
    update
}
