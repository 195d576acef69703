//! [`IdempotencyStore`] on DynamoDB: one item per request with an Idempotency-Key. DynamoDB removes it after its time
//! to live.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::time::EpochMs;
use serde::{Deserialize, Serialize};

use crate::adapters::store::convert::{read_item, write_item};
use crate::adapters::store::error::{DynamoFailure, Meaning};
use crate::adapters::store::expression::{Expression, key, number, text};
use crate::adapters::store::{DynamoStore, broken, keys};
use crate::ports::{
    ANSWER_KEPT_MS, HELD_MS, IdempotencyState, IdempotencyStore, IdempotentRequest, PortError, StoredAnswer,
};

/// `EntityType` of such an item.
const ANSWER: &str = "ANSWER";

const BEGIN: &str = "beginning a request under a key";
const KEEP: &str = "keeping an answer";
const FORGET: &str = "forgetting a request under a key";

/// Value of `asked` after the key was freed. No digest is empty.
const NOTHING: &str = "";

/// Addition: a request with an Idempotency-Key, and its answer once there is one.
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
    /// End of the holder's time, ms.
    pub(super) held_until: i64,
    /// The table's time to live, Unix seconds.
    pub(super) expires_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
}

impl AnswerItem {
    pub(super) fn new(request: &IdempotentRequest, now: EpochMs) -> Self {
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

    /// The state of a request whose key this item already uses.
    pub(super) fn state_for(self, request: &IdempotentRequest, now: EpochMs) -> IdempotencyState {
        if self.asked != request.asked {
            return IdempotencyState::KeyReused;
        }
        match (self.status, self.body) {
            (Some(status), Some(body)) => IdempotencyState::Completed(StoredAnswer { status, body }),
            // Written by this attempt; the answer was lost.
            _ if self.holder == request.holder => IdempotencyState::New,
            _ => IdempotencyState::InProgress { for_ms: EpochMs(self.held_until).since_ms(now) },
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl AnswerItem {
    /// Whether a request may take the key over: the item has expired, was freed, or its holder is gone. The condition
    /// in [`DynamoStore::begin`] is the same.
    pub(super) fn is_free(&self, request: &IdempotentRequest, now: EpochMs) -> bool {
        self.expires_at <= now.0.div_euclid(1000)
            || self.asked == NOTHING
            || (self.status.is_none() && self.held_until <= now.0 && self.asked == request.asked)
    }

    /// Frees the key.
    pub(super) fn give_up(&mut self) {
        NOTHING.clone_into(&mut self.asked);
    }
}

/// Expiry of an item written at `now`, Unix seconds.
pub(super) fn expires_at(now: EpochMs) -> i64 {
    now.plus_ms(ANSWER_KEPT_MS).0.div_euclid(1000)
}

#[async_trait]
impl IdempotencyStore for DynamoStore {
    /// `PutItem IF the key is free`. Only the same request may take over from a holder that is gone, because the
    /// holder's work may have taken effect.
    async fn begin(&self, request: &IdempotentRequest, now: EpochMs) -> Result<IdempotencyState, PortError> {
        let item = write_item(ANSWER, &AnswerItem::new(request, now)).map_err(|error| broken(BEGIN, error))?;
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
                Err(error) => DynamoFailure::from_sdk(&error),
            };
            let gone = match failure.meaning {
                Meaning::Refused => return Err(failure.into_port(BEGIN)),
                Meaning::ConditionFailed => match self.get(BEGIN, &pk, keys::ANSWER_SK).await? {
                    Some(found) => {
                        let found: AnswerItem =
                            read_item(ANSWER, found).map_err(|error| self.unreadable(BEGIN, ANSWER, &pk, error))?;
                        let state = found.state_for(request, now);
                        if matches!(state, IdempotencyState::New) {
                            self.metrics.lost_answer_found();
                        }
                        return Ok(state);
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
        self.update_held(KEEP, request, update).await
    }

    async fn forget(&self, request: &IdempotentRequest) -> Result<(), PortError> {
        let mut update = Expression::default();
        update.set("asked", text(NOTHING));
        self.update_held(FORGET, request, update).await
    }
}

impl DynamoStore {
    /// Updates the item if this attempt still holds it, and does nothing otherwise. Idempotent.
    async fn update_held(
        &self,
        action: &'static str,
        request: &IdempotentRequest,
        mut update: Expression,
    ) -> Result<(), PortError> {
        update.equals("holder", AttributeValue::S(request.holder.clone()));
        let call = self.client.update_item().table_name(&self.table);
        let call = update.fill(call.set_key(Some(key(&keys::answer_pk(&request.key), keys::ANSWER_SK))));
        match call.send().await.map_err(|error| DynamoFailure::from_sdk(&error)) {
            Ok(_) => Ok(()),
            Err(failure) if failure.meaning == Meaning::ConditionFailed => Ok(()),
            Err(failure) => Err(failure.into_port(action)),
        }
    }
}
