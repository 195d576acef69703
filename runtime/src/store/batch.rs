//! `BatchGetItem`.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::KeysAndAttributes;

use super::convert::Item;
use super::error::{DynamoFailure, Meaning};
use super::expression::key;
use super::{DynamoStore, broken};
use crate::ports::PortError;

/// Keys per `BatchGetItem` (AWS: at most 100).
pub(super) const BATCH_MAX: usize = 100;

impl DynamoStore {
    /// Reads the items of `pks` under one sort key, strongly consistent, in any order. Missing items are skipped.
    /// Unprocessed keys are requested again within the budget of a write.
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
        Ok(items)
    }
}
