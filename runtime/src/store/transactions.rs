//! The two writes that decide: a new dispatch, and a step.

use aws_sdk_dynamodb::types::{CancellationReason, Put, TransactWriteItem};
use dispatch_core::dispatch::Step;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use serde::Serialize;

use super::convert::{DISPATCH, Item, ItemError, read_item, write_item};
use super::entity::{DispatchItem, DriverItem, UserItem};
use super::error::{DynamoFailure, LOOKED_FOR, Meaning, TransactionFailure, condition_failed};
use super::expression::{Expression, key, text};
use super::plan::{self, DRIVER, Guard, Involved, Plan, PlanError, USER};
use super::{DynamoStore, broken, keys};
use crate::ports::{Commit, Created, NewDispatch, PortError, StoredDispatch, TravelledRoute};

const CREATE: &str = "storing a dispatch";
const COMMIT: &str = "storing a step of a dispatch";

/// The dispatch is the first part of every transaction here.
const DISPATCH_PART: usize = 0;
/// The user is the second part of the transaction that stores a request.
const USER_PART: usize = 1;

/// How one try of a commit ended.
enum Written {
    /// It is stored.
    Yes,
    /// The dispatch is not the one the step was decided on.
    DispatchChanged,
    /// A profile is not as it was read.
    PeopleChanged,
    /// See the failure.
    No(DynamoFailure),
}

impl DynamoStore {
    /// `TransactWriteItems{Put dispatch IF absent, Update user IF ACTIVE and free}`.
    ///
    /// A `ClientRequestToken` made of the dispatch's id would turn a repeated request, whose time differs, into an
    /// `IdempotentParameterMismatchException` for ten minutes; the condition on the dispatch's key recognises repetitions for ever. Where an
    /// answer was lost, the dispatch that is in the way of the next try may be this call's own.
    pub(super) async fn create_dispatch(&self, new: &NewDispatch) -> Result<Created, PortError> {
        let item = self.codec.new_dispatch(new);
        let parts = [self.put_if_absent(DISPATCH, &item)?, self.occupy_user(new)?];
        let (mut tries, mut in_doubt) = (self.tries(), false);
        loop {
            let request = self.once.transact_write_items().set_transact_items(Some(parts.to_vec()));
            let sent = request.send().await;
            let failure = match sent.map_err(|error| TransactionFailure::of(&error)) {
                Ok(_) => return Ok(Created::Stored(Box::new(self.codec.stored(item).map_err(|e| broken(CREATE, e))?))),
                Err(TransactionFailure::Conditions(reasons)) => {
                    return Ok(match self.not_created(new, &reasons).await? {
                        Created::Existed(stored) if in_doubt && is_the_same_request(&stored.item, &item) => {
                            self.metrics.lost_answer_found();
                            Created::Stored(stored)
                        }
                        other => other,
                    });
                }
                Err(TransactionFailure::Other(failure)) => failure,
            };
            in_doubt |= failure.meaning == Meaning::InDoubt;
            let again = matches!(failure.meaning, Meaning::Contended | Meaning::InDoubt);
            if !again || !tries.pause(&failure).await {
                let found = if in_doubt { self.look_back(CREATE, &new.id).await? } else { None };
                let ours = found.filter(|stored| is_the_same_request(&stored.item, &item));
                if ours.is_some() {
                    self.metrics.lost_answer_found();
                }
                return ours.map(|stored| Created::Stored(Box::new(stored))).ok_or_else(|| failure.into_port(CREATE));
            }
        }
    }

    /// Says why a request was not stored. The dispatch comes first: a repeated request finds its user occupied by itself.
    async fn not_created(&self, new: &NewDispatch, reasons: &[CancellationReason]) -> Result<Created, PortError> {
        if let Some(stored) = self.load_dispatch(CREATE, &new.id).await? {
            return if stored.state.user == new.user {
                Ok(Created::Existed(Box::new(stored)))
            } else {
                let refused =
                    DynamoFailure::new(Meaning::Refused, "IdTaken", "the id belongs to another user's dispatch");
                Err(refused.into_port(CREATE))
            };
        }
        let Some(user) = reasons.get(USER_PART).and_then(CancellationReason::item) else {
            return Ok(Created::UnknownUser);
        };
        let user: UserItem = read_item(USER, user.clone()).map_err(|error| broken(CREATE, error))?;
        let current = user.current_status.current_dispatch_id.and_then(|id| DispatchId::parse(id).ok());
        Ok(Created::UserBusy { current })
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

    /// Stores a step: one conditional update where only the dispatch changes, else one transaction.
    ///
    /// A profile that changed between reading and writing is read again. Where an answer was lost, the next try may meet this call's own
    /// write; it is recognised by its version, its status and its last event. (Should another process have decided exactly the same
    /// at the same moment, both count as the writer: what follows a step may be done twice.)
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
                Written::Yes => return self.applied(plan.dispatch),
                Written::DispatchChanged if in_doubt => return self.settle(before, step, in_doubt).await,
                Written::DispatchChanged => return Ok(Commit::Changed),
                Written::PeopleChanged => {
                    DynamoFailure::new(Meaning::Contended, "ConditionalCheckFailed", "a profile keeps changing")
                }
                Written::No(failure) => failure,
            };
            in_doubt |= failure.meaning == Meaning::InDoubt;
            if failure.meaning == Meaning::Refused {
                return Err(failure.into_port(COMMIT));
            }
            if !tries.pause(&failure).await {
                // A lost request may still be on its way, so only our own write is an answer; the rest stays open.
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

    /// What became of a step, judged by the dispatch as it is now.
    async fn settle(&self, before: &StoredDispatch, step: &Step, in_doubt: bool) -> Result<Commit, PortError> {
        let Some(now) = self.look_back(COMMIT, &before.state.id).await? else { return Ok(Commit::Changed) };
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

    async fn read_people(&self, step: &Step) -> Result<Involved<DriverItem, UserItem>, PortError> {
        let ids = plan::involved(step);
        let mut people = Involved { driver: None, user: None };
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

    async fn write(&self, before: &StoredDispatch, plan: &Plan) -> Result<Written, PortError> {
        let dispatch = dispatch_update(before, &plan.dispatch).map_err(|error| broken(COMMIT, error))?;
        let companions = self.companions(plan)?;
        if companions.is_empty() {
            return Ok(self.update_alone(before, dispatch).await);
        }
        let dispatch = dispatch.into_update(&self.table, key(&before.item.pk, keys::DISPATCH_SK));
        let dispatch = TransactWriteItem::builder().update(dispatch.map_err(|error| broken(COMMIT, error))?).build();
        let parts = std::iter::once(dispatch).chain(companions).collect();
        let request = self.once.transact_write_items().set_transact_items(Some(parts));
        Ok(match request.send().await.map_err(|error| TransactionFailure::of(&error)) {
            Ok(_) => Written::Yes,
            Err(TransactionFailure::Conditions(reasons)) if condition_failed(&reasons, DISPATCH_PART) => {
                Written::DispatchChanged
            }
            Err(TransactionFailure::Conditions(_)) => Written::PeopleChanged,
            Err(TransactionFailure::Other(failure)) => Written::No(failure),
        })
    }

    /// The dispatch alone.
    async fn update_alone(&self, before: &StoredDispatch, update: Expression) -> Written {
        let request = self.once.update_item().table_name(&self.table);
        let request = update.fill(request.set_key(Some(key(&before.item.pk, keys::DISPATCH_SK))));
        match request.send().await {
            Ok(_) => Written::Yes,
            Err(error) => match DynamoFailure::of(&error) {
                failure if failure.meaning == Meaning::ConditionFailed => Written::DispatchChanged,
                failure => Written::No(failure),
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

    /// Reads the dispatch of a write whose outcome is not known, within the time that is left for it.
    async fn look_back(&self, action: &'static str, id: &DispatchId) -> Result<Option<StoredDispatch>, PortError> {
        let look = tokio::time::timeout(LOOKED_FOR, self.load_dispatch(action, id)).await;
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

/// Whether a stored dispatch, which may have gone on, is this very request: the end of its search has milliseconds and never changes.
fn is_the_same_request(stored: &DispatchItem, item: &DispatchItem) -> bool {
    stored.user_id == item.user_id
        && stored.created_at == item.created_at
        && stored.matching.search_until == item.matching.search_until
}

/// The condition that a profile is still as a plan assumes.
fn guard_person(update: &mut Expression, guard: &Guard) {
    match guard {
        Guard::Free => {
            update.equals("currentStatus.status", text(PersonStatus::Active.as_str()));
            update.null("currentStatus.currentDispatchId");
        }
        Guard::On(dispatch) => update.equals("currentStatus.currentDispatchId", text(dispatch)),
    }
}

/// The dispatch's update on condition that it is still the one the step was decided on: version, status, offer and driver.
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
