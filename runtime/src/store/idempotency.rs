//! The port [`IdempotencyStore`] on DynamoDB: one item for each request under an Idempotency-Key, which DynamoDB removes by its time to
//! live.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::time::EpochMs;
use serde::{Deserialize, Serialize};

use super::convert::{read_item, write_item};
use super::error::{DynamoFailure, Meaning};
use super::expression::{Expression, key, number, text};
use super::{DynamoStore, broken, keys};
use crate::ports::{
    ANSWER_KEPT_MS, HELD_MS, IdempotencyState, IdempotencyStore, IdempotentRequest, PortError, StoredAnswer,
};

/// `EntityType` of such an item.
const ANSWER: &str = "ANSWER";

const BEGIN: &str = "beginning a request under a key";
const KEEP: &str = "keeping an answer";
const FORGET: &str = "forgetting a request under a key";

/// What `asked` is when nothing is asked under the key any more. No digest is empty.
const NOTHING: &str = "";

/// Addition: a request under an Idempotency-Key, and its answer once there is one.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AnswerItem {
    #[serde(rename = "PK")]
    pub(super) pk: String,
    #[serde(rename = "SK")]
    pub(super) sk: String,
    #[serde(rename = "EntityType")]
    pub(super) entity_type: String,
    pub(super) asked: String,
    pub(super) holder: String,
    /// Until when the holder has it, ms.
    pub(super) held_until: i64,
    /// When the item may go, s; the table's time to live.
    pub(super) expires_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
}

impl AnswerItem {
    pub(super) fn begun(request: &IdempotentRequest, now: EpochMs) -> Self {
        Self {
            pk: keys::answer_pk(&request.key),
            sk: keys::ANSWER_SK.to_owned(),
            entity_type: ANSWER.to_owned(),
            asked: request.asked.clone(),
            holder: request.holder.clone(),
            held_until: now.plus_ms(HELD_MS).0,
            expires_at: expires_at(now),
            status: None,
            body: None,
        }
    }

    /// What this item, which is in the way, says of a request.
    pub(super) fn says(self, request: &IdempotentRequest, now: EpochMs) -> IdempotencyState {
        if self.asked != request.asked {
            return IdempotencyState::KeyReused;
        }
        match (self.status, self.body) {
            (Some(status), Some(body)) => IdempotencyState::Completed(StoredAnswer { status, body }),
            // Our own item, whose answer was lost on the way.
            _ if self.holder == request.holder => IdempotencyState::New,
            _ => IdempotencyState::InProgress {
                for_ms: u64::try_from(self.held_until.saturating_sub(now.0)).unwrap_or(0),
            },
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl AnswerItem {
    /// Whether nothing is in the way of a request: the item is old, was given up, or its holder is gone. DynamoDB's condition of
    /// [`DynamoStore::begin`] says the same.
    pub(super) fn is_free(&self, request: &IdempotentRequest, now: EpochMs) -> bool {
        self.expires_at <= now.0.div_euclid(1000)
            || self.asked == NOTHING
            || (self.status.is_none() && self.held_until <= now.0 && self.asked == request.asked)
    }

    /// Given up.
    pub(super) fn given_up(&mut self) {
        NOTHING.clone_into(&mut self.asked);
    }
}

/// When an item of now may go, in Unix seconds.
pub(super) fn expires_at(now: EpochMs) -> i64 {
    now.plus_ms(ANSWER_KEPT_MS).0.div_euclid(1000)
}

#[async_trait]
impl IdempotencyStore for DynamoStore {
    /// `PutItem IF nothing is in the way`. A holder that is gone is followed only by the same request: what it had begun may have
    /// taken place.
    async fn begin(&self, request: &IdempotentRequest, now: EpochMs) -> Result<IdempotencyState, PortError> {
        let item = write_item(ANSWER, &AnswerItem::begun(request, now)).map_err(|error| broken(BEGIN, error))?;
        let (pk, mut tries) = (keys::answer_pk(&request.key), self.tries());
        loop {
            let put = self.once.put_item().table_name(&self.table).set_item(Some(item.clone()));
            let put = put
                .condition_expression(
                    "attribute_not_exists(PK) OR expiresAt <= :seconds OR asked = :nothing OR \
                     (attribute_not_exists(#status) AND heldUntil <= :now AND asked = :asked)",
                )
                .expression_attribute_names("#status", "status")
                .expression_attribute_values(":seconds", number(now.0.div_euclid(1000)))
                .expression_attribute_values(":nothing", text(NOTHING))
                .expression_attribute_values(":now", number(now.0))
                .expression_attribute_values(":asked", text(&request.asked));
            let failure = match put.send().await {
                Ok(_) => return Ok(IdempotencyState::New),
                Err(error) => DynamoFailure::of(&error),
            };
            let gone = match failure.meaning {
                Meaning::Refused => return Err(failure.into_port(BEGIN)),
                Meaning::ConditionFailed => match self.get(BEGIN, &pk, keys::ANSWER_SK).await? {
                    Some(found) => {
                        let found: AnswerItem = read_item(ANSWER, found).map_err(|error| broken(BEGIN, error))?;
                        let says = found.says(request, now);
                        if matches!(says, IdempotencyState::New) {
                            self.metrics.lost_answer_found();
                        }
                        return Ok(says);
                    }
                    None => DynamoFailure::new(Meaning::Contended, "ConditionalCheckFailed", "the key keeps changing"),
                },
                Meaning::Contended | Meaning::InDoubt => failure,
            };
            if !tries.pause(&gone).await {
                return Err(gone.into_port(BEGIN));
            }
        }
    }

    async fn keep(&self, request: &IdempotentRequest, answer: &StoredAnswer, now: EpochMs) -> Result<(), PortError> {
        let mut update = Expression::default();
        update.set("status", number(answer.status.into()));
        update.set("body", text(&answer.body));
        update.set("expiresAt", number(expires_at(now)));
        self.of_holder(KEEP, request, update).await
    }

    async fn forget(&self, request: &IdempotentRequest) -> Result<(), PortError> {
        let mut update = Expression::default();
        update.set("asked", text(NOTHING));
        self.of_holder(FORGET, request, update).await
    }
}

impl DynamoStore {
    /// An update by the holder; where somebody else holds the key by now, there is nothing left to say. Repeating it gives the same.
    async fn of_holder(
        &self,
        action: &'static str,
        request: &IdempotentRequest,
        mut update: Expression,
    ) -> Result<(), PortError> {
        update.equals("holder", AttributeValue::S(request.holder.clone()));
        let call = self.client.update_item().table_name(&self.table);
        let call = update.fill(call.set_key(Some(key(&keys::answer_pk(&request.key), keys::ANSWER_SK))));
        match call.send().await.map_err(|error| DynamoFailure::of(&error)) {
            Ok(_) => Ok(()),
            Err(failure) if failure.meaning == Meaning::ConditionFailed => Ok(()),
            Err(failure) => Err(failure.into_port(action)),
        }
    }
}
