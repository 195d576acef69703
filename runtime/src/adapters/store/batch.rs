//! `BatchGetItem`.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::KeysAndAttributes;

use crate::adapters::store::convert::Item;
use crate::adapters::store::erasure::is_erased;
use crate::adapters::store::error::{DynamoFailure, Meaning};
use crate::adapters::store::expression::key;
use crate::adapters::store::{DynamoStore, broken, keys};
use crate::ports::PortError;

/// Keys per `BatchGetItem` (AWS: at most 100).
pub(super) const BATCH_MAX: usize = 100;

impl DynamoStore {
    /// Reads the items of `pks` under one sort key, strongly consistent, in any order. Missing items and erased
    /// profiles are skipped. Unprocessed keys are requested again within the budget of a write.
    pub(super) async fn get_many(&self, action: &'static str, pks: &[&str], sk: &str) -> Result<Vec<Item>, PortError> {
        // DynamoDB refuses a batch with duplicate keys.
        let distinct: HashSet<&str> = pks.iter().copied().collect();
        let distinct: Vec<&str> = distinct.into_iter().collect();
        let mut items = Vec::with_capacity(distinct.len());
        for chunk in distinct.chunks(BATCH_MAX) {
            let keys = chunk.iter().map(|pk| key(pk, sk)).collect();
            let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
            let mut wanted = Some(wanted.map_err(|error| broken(action, error))?);
            let mut tries = self.tries();
            while let Some(keys) = wanted.take() {
                let output = self.client.batch_get_item().request_items(&self.table, keys).send().await;
                let output = output.map_err(|error| DynamoFailure::from_sdk(&error).into_port(action))?;
                // The answer names the table by name or ARN; the request has only one.
                items.extend(output.responses.into_iter().flatten().flat_map(|(_, found)| found));
                wanted = output.unprocessed_keys.into_iter().flatten().map(|(_, keys)| keys).next();
                if wanted.is_some() {
                    let left = DynamoFailure::new(Meaning::Contended, "UnprocessedKeys", "keys stayed unprocessed");
                    if !tries.pause(&left).await {
                        return Err(left.into_port(action));
                    }
                }
            }
        }
        items.retain(|item| sk != keys::PROFILE_SK || !is_erased(item));
        Ok(items)
    }
}
