//! A table in the emulator.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_runtime::adapters::store::DynamoStore;
use serde_json::Value;

/// One table in the emulator.
pub(crate) struct DynamoTable {
    pub store: DynamoStore,
    pub client: Client,
    pub name: String,
}

impl DynamoTable {
    pub(crate) async fn partition(&self, pk: &str) -> Vec<Value> {
        let output = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .key_condition_expression("PK = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
            .send()
            .await
            .unwrap();
        output.items.unwrap_or_default().into_iter().map(|item| serde_dynamo::from_item(item).unwrap()).collect()
    }

    /// Writes an item as another service would.
    pub(crate) async fn put(&self, item: Value) {
        let item: HashMap<String, AttributeValue> = serde_dynamo::to_item(item).unwrap();
        self.client.put_item().table_name(&self.name).set_item(Some(item)).send().await.unwrap();
    }

    /// Sets one attribute as another service would.
    pub(crate) async fn set(&self, (pk, sk): (&str, &str), path: &str, value: impl Into<Value>) {
        let names: Vec<String> = path.split('.').map(|part| format!("#{part}")).collect();
        self.client
            .update_item()
            .table_name(&self.name)
            .key("PK", AttributeValue::S(pk.to_owned()))
            .key("SK", AttributeValue::S(sk.to_owned()))
            .update_expression(format!("SET {} = :value", names.join(".")))
            .set_expression_attribute_names(Some(
                names.iter().cloned().zip(path.split('.').map(str::to_owned)).collect(),
            ))
            .expression_attribute_values(":value", serde_dynamo::to_attribute_value(value.into()).unwrap())
            .send()
            .await
            .unwrap();
    }
}
