//! A city whose stream delivers records with missing and mistyped parts: each costs its own item at most.

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodbstreams::types::{OperationType, Record, StreamRecord};
use proptest::prelude::*;
use serde_json::Value;

use super::broken_items::{City, Mutation, Outcomes, for_all, kind_of, mutation, paths, victim, when};
use super::*;
use crate::adapters::store::codec_for_tests;
use crate::roles::Algorithm;
use crate::stream::{DispatchHandler as _, relevant_change};

type Item = std::collections::HashMap<String, AttributeValue>;

/// Which parts of a record are broken.
#[derive(Debug, Clone)]
struct Broken {
    kind: Option<OperationType>,
    /// Whether the record has a change, keys, an old and a new image.
    has: [bool; 4],
    /// Mutations of the old and the new image.
    images: [Option<(prop::sample::Index, Mutation)>; 2],
}

fn broken() -> impl Strategy<Value = Broken> {
    let kinds = vec![
        None,
        Some(OperationType::Insert),
        Some(OperationType::Modify),
        Some(OperationType::Remove),
        Some(OperationType::from("TRIMMED")),
    ];
    let image = || prop::option::weighted(0.7, (any::<prop::sample::Index>(), mutation()));
    let has = || prop::bool::weighted(0.9);
    (prop::sample::select(kinds), [has(), has(), has(), has()], [image(), image()])
        .prop_map(|(kind, has, images)| Broken { kind, has, images })
}

impl Broken {
    /// The broken record of a change of this item.
    fn record(&self, item: &Item) -> Record {
        let image = |place: usize| {
            let mut image = item.clone();
            if let Some((index, mutation)) = &self.images[place] {
                let all = paths(&image, &[]);
                mutation.apply(&mut image, &all[index.index(all.len())]);
            }
            let plain: Value = serde_dynamo::from_item(image).ok()?;
            serde_dynamo::to_item(plain).ok()
        };
        let keys: Item = item
            .iter()
            .filter(|(name, _)| ["PK", "SK"].contains(&name.as_str()))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        let keys: Value = serde_dynamo::from_item(keys).unwrap();
        let change = StreamRecord::builder()
            .set_keys(self.has[1].then(|| serde_dynamo::to_item(keys).unwrap()))
            .set_old_image(image(0).filter(|_| self.has[2]))
            .set_new_image(image(1).filter(|_| self.has[3]))
            .sequence_number("000000000000000000042")
            .build();
        Record::builder().set_event_name(self.kind.clone()).set_dynamodb(self.has[0].then_some(change)).build()
    }
}

#[test]
fn one_broken_stream_record_costs_its_own_item_alone() {
    let outcomes = Outcomes::default();
    let codec = codec_for_tests();
    for_all(&(when(), victim(), broken()), async |(when, victim, broken)| {
        let city = City::new(&victim).await;
        let algorithm = Algorithm(Arc::clone(&city.world.engine));
        let strike = async |now| {
            let mut item = Item::new();
            if now != when || !city.world.store.alter(&victim, |stored| item.clone_from(stored)) {
                return;
            }
            let record = broken.record(&item);
            let outcome = match relevant_change(&codec, &record) {
                Ok(None) => "skipped",
                Ok(Some(change)) => match algorithm.handle(change).await {
                    Ok(()) | Err(EngineError::NotFound) => "handled",
                    Err(_) => "failed",
                },
                Err(_) => "set aside",
            };
            outcomes.count(&format!("stream {}", kind_of(&victim)), outcome);
        };
        city.play(when, strike).await;
    });
    outcomes.finish(&["skipped", "handled", "set aside"]);
}
