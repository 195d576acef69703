//! The two writes that decide: a new dispatch, and a step.

use aws_sdk_dynamodb::types::{CancellationReason, Put, TransactWriteItem};
use dispatch_core::dispatch::Step;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use serde::Serialize;

use super::convert::{DISPATCH, Item, ItemError, read_item, write_item};
use super::entity::{DispatchItem, DriverItem, UserItem};
use super::entity_type::{DRIVER, USER};
use super::error::{DynamoFailure, LOOKUP_TIMEOUT, Meaning, TransactionFailure, condition_failed};
use super::expression::{Expression, key, text};
use super::plan::{self, Guard, Plan, PlanError, StepPeople};
use super::{DynamoStore, broken, keys};
use crate::ports::{Commit, CreateOutcome, NewDispatch, PortError, StoredDispatch, TravelledRoute};

const CREATE: &str = "storing a dispatch";
const COMMIT: &str = "storing a step of a dispatch";

/// Index of the dispatch in every transaction.
const DISPATCH_PART: usize = 0;
/// Index of the user in the transaction that creates a dispatch.
const USER_PART: usize = 1;

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
    /// `TransactWriteItems{Put dispatch IF absent, Update user IF ACTIVE and free}`.
    ///
    /// It uses no `ClientRequestToken`: derived from the dispatch's id, it would turn a repeated request, whose time
    /// differs, into an `IdempotentParameterMismatchException` for ten minutes. The condition on the dispatch's key
    /// detects repetitions without a time limit. After a lost answer, the dispatch that blocks the next attempt may be
    /// from this very call.
    pub(super) async fn create_dispatch(&self, new: &NewDispatch) -> Result<CreateOutcome, PortError> {
        let item = self.codec.new_dispatch(new);
        let parts = [self.put_if_absent(DISPATCH, &item)?, self.occupy_user(new)?];
        let (mut tries, mut in_doubt) = (self.tries(), false);
        loop {
            let request = self.once.transact_write_items().set_transact_items(Some(parts.to_vec()));
            let sent = request.send().await;
            let failure = match sent.map_err(|error| TransactionFailure::from_sdk(&error)) {
                Ok(_) => {
                    return Ok(CreateOutcome::Stored(Box::new(
                        self.codec.stored(item).map_err(|e| broken(CREATE, e))?,
                    )));
                }
                Err(TransactionFailure::Conditions(reasons)) => {
                    return Ok(match self.not_created(new, &reasons).await? {
                        CreateOutcome::Existed(stored) if in_doubt && is_the_same_request(&stored.item, &item) => {
                            self.metrics.lost_answer_found();
                            CreateOutcome::Stored(stored)
                        }
                        other => other,
                    });
                }
                Err(TransactionFailure::Other(failure)) => failure,
            };
            in_doubt |= failure.meaning == Meaning::InDoubt;
            let again = matches!(failure.meaning, Meaning::Contended | Meaning::InDoubt);
            if !again || !tries.pause(&failure).await {
                let found = if in_doubt { self.look_up(CREATE, &new.id).await? } else { None };
                let ours = found.filter(|stored| is_the_same_request(&stored.item, &item));
                if ours.is_some() {
                    self.metrics.lost_answer_found();
                }
                return ours
                    .map(|stored| CreateOutcome::Stored(Box::new(stored)))
                    .ok_or_else(|| failure.into_port(CREATE));
            }
        }
    }

    /// Why a request was not stored. The dispatch is checked first, because a repeated request has occupied its own
    /// user.
    async fn not_created(&self, new: &NewDispatch, reasons: &[CancellationReason]) -> Result<CreateOutcome, PortError> {
        if let Some(stored) = self.load_dispatch(CREATE, &new.id).await? {
            return if stored.state.user == new.user {
                Ok(CreateOutcome::Existed(Box::new(stored)))
            } else {
                let refused =
                    DynamoFailure::new(Meaning::Refused, "IdTaken", "the id belongs to another user's dispatch");
                Err(refused.into_port(CREATE))
            };
        }
        let Some(user) = reasons.get(USER_PART).and_then(CancellationReason::item) else {
            return Ok(CreateOutcome::UnknownUser);
        };
        let user: UserItem = read_item(USER, user.clone()).map_err(|error| broken(CREATE, error))?;
        let current = user.current_status.current_dispatch_id.and_then(|id| DispatchId::parse(id).ok());
        Ok(CreateOutcome::UserBusy { current })
    }

    fn occupy_user(&self, new: &NewDispatch) -> Result<TransactWriteItem, PortError> {
        let mut update = Expression::default();
        update.set("currentStatus.status", text(PersonStatus::Dispatched.as_str()));
        update.set("currentStatus.currentDispatchId", text(new.id.as_str()));
        update.set("GSI1PK", text(keys::gsi1_user_pk(PersonStatus::Dispatched, &new.user, self.codec.shards)));
        update.exists();
        update.equals("currentStatus.status", text(PersonStatus::Active.as_str()));
        update.null("currentStatus.currentDispatchId");
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
            let failure = match self.write(before, &plan).await? {
                WriteOutcome::Yes => return self.applied(plan.dispatch),
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

    fn applied(&self, item: DispatchItem) -> Result<Commit, PortError> {
        let stored = self.codec.stored(item).map_err(|error| broken(COMMIT, error))?;
        Ok(Commit::Applied(Box::new(stored)))
    }

    /// Determines the outcome of a step from the dispatch's current state.
    async fn settle(&self, before: &StoredDispatch, step: &Step, in_doubt: bool) -> Result<Commit, PortError> {
        let Some(now) = self.look_up(COMMIT, &before.state.id).await? else { return Ok(Commit::Changed) };
        let ours = now.state.ver == step.state.ver
            && now.state.status == step.state.status
            && now.state.driver == step.state.driver
            && now.item.events.last() == step.records.last().map(|record| self.codec.event(record)).as_ref();
        if in_doubt && ours {
            self.metrics.lost_answer_found();
            return Ok(Commit::Applied(Box::new(now)));
        }
        let same = now.state.ver == before.state.ver && now.state.status == before.state.status;
        Ok(if same { Commit::CompanionRefused } else { Commit::Changed })
    }

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
                people.driver = Some(read_item(DRIVER, item).map_err(|error| broken(COMMIT, error))?);
            } else {
                people.user = Some(read_item(USER, item).map_err(|error| broken(COMMIT, error))?);
            }
        }
        Ok(people)
    }

    async fn write(&self, before: &StoredDispatch, plan: &Plan) -> Result<WriteOutcome, PortError> {
        let dispatch = dispatch_update(before, &plan.dispatch).map_err(|error| broken(COMMIT, error))?;
        let companions = self.companions(plan)?;
        if companions.is_empty() {
            return Ok(self.update_alone(before, dispatch).await);
        }
        let dispatch = dispatch.into_update(&self.table, key(&before.item.pk, keys::DISPATCH_SK));
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
    async fn update_alone(&self, before: &StoredDispatch, update: Expression) -> WriteOutcome {
        let request = self.once.update_item().table_name(&self.table);
        let request = update.fill(request.set_key(Some(key(&before.item.pk, keys::DISPATCH_SK))));
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
            let items = (write_item(DRIVER, &change.before), write_item(DRIVER, &change.after));
            parts.push(self.person_update(&change.guard, &change.before.pk, items)?);
        }
        if let Some(change) = &plan.user {
            let items = (write_item(USER, &change.before), write_item(USER, &change.after));
            parts.push(self.person_update(&change.guard, &change.before.pk, items)?);
        }
        let histories = [
            plan.driver_history.as_ref().map(|item| write_item("DRIVER_STATUS_HISTORY", item)),
            plan.user_history.as_ref().map(|item| write_item("USER_DISPATCH_HISTORY", item)),
            plan.ride.as_ref().map(|item| write_item("DRIVER_COMPLETED_RIDE", item)),
        ];
        for item in histories.into_iter().flatten() {
            let item = item.map_err(|error| broken(COMMIT, error))?;
            let put = Put::builder().table_name(&self.table).set_item(Some(item)).build();
            parts.push(TransactWriteItem::builder().put(put.map_err(|error| broken(COMMIT, error))?).build());
        }
        Ok(parts)
    }

    fn person_update(
        &self,
        guard: &Guard,
        pk: &str,
        (before, after): (Result<Item, ItemError>, Result<Item, ItemError>),
    ) -> Result<TransactWriteItem, PortError> {
        let before = before.map_err(|error| broken(COMMIT, error))?;
        let after = after.map_err(|error| broken(COMMIT, error))?;
        let mut update = Expression::between(&before, &after);
        guard_person(&mut update, guard);
        let update = update.into_update(&self.table, key(pk, keys::PROFILE_SK));
        Ok(TransactWriteItem::builder().update(update.map_err(|error| broken(COMMIT, error))?).build())
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
        item.map(|item| self.codec.read_dispatch(item)).transpose().map_err(|error| broken(action, error))
    }
}

/// Whether a stored dispatch, which may have advanced, comes from this very request: the end of its search has
/// milliseconds and never changes.
fn is_the_same_request(stored: &DispatchItem, item: &DispatchItem) -> bool {
    stored.user_id == item.user_id
        && stored.created_at == item.created_at
        && stored.matching.search_until == item.matching.search_until
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
fn dispatch_update(before: &StoredDispatch, after: &DispatchItem) -> Result<Expression, ItemError> {
    let mut update = Expression::between(&write_item(DISPATCH, &before.item)?, &write_item(DISPATCH, after)?);
    let status = before.state.status;
    update.equals("status", text(status.as_str()));
    update.counts("offerSeq", before.state.offer_seq);
    update.counts("ver", before.state.ver);
    match &before.state.driver {
        Some(driver) => update.equals("driverId", text(driver.as_str())),
        None => update.null("driverId"),
    }
    Ok(update)
}
