//! Data that an earlier stack of the same system retained, and whether a new stack may import it. Pure.

use std::collections::BTreeMap;
use std::fmt;

use dispatch_api::validate::ValidatedSystem;

use crate::cloud::ports::ObservedTable;
use crate::cloud::stack::OnExisting;
use crate::engine::plan::ownership::{Adoption, Owner};
use crate::engine::plan::template;

/// Retained resources of a system without a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetainedData {
    /// The table and its tags.
    pub table: Option<(ObservedTable, BTreeMap<String, String>)>,
    /// Name and tags of the bucket.
    pub bucket: Option<(String, BTreeMap<String, String>)>,
}

impl fmt::Display for RetainedData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.as_ref().map(|(table, _)| format!("table {}", table.name));
        let bucket = self.bucket.as_ref().map(|(name, _)| format!("bucket {name}"));
        f.write_str(&table.into_iter().chain(bucket).collect::<Vec<_>>().join(", "))
    }
}

/// Why retained data is not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportRefusal {
    /// It belongs to another owner.
    Another(String),
    /// It does not match the template. CloudFormation would import it unchanged and record it as matching.
    Unfit(String),
}

/// Whether the new stack imports the retained data.
///
/// A table that lacks an index is imported without it, and the index is added afterwards. A table with other keys is
/// refused.
pub fn importable(
    system: &ValidatedSystem,
    kept: &RetainedData,
    adoption: &Adoption,
) -> Result<OnExisting, ImportRefusal> {
    let owner = Owner::new(system);
    let table = kept.table.as_ref().map(|(table, tags)| (format!("table {}", table.name), tags));
    let bucket = kept.bucket.as_ref().map(|(name, tags)| (format!("bucket {name}"), tags));
    for (what, tags) in [table, bucket].into_iter().flatten() {
        if let Some(text) = owner.refusal_of_data(&what, tags, &system.names.stack, adoption) {
            return Err(ImportRefusal::Another(text));
        }
    }
    if let Some((table, _)) = &kept.table {
        let wrong: Vec<String> = template::table_keys()
            .filter(|(name, _)| name.is_empty() || table.keys.contains_key(*name))
            .filter_map(|(name, wanted)| {
                let found = table.keys.get(name).map(Vec::as_slice).unwrap_or_default();
                let of = if name.is_empty() { "the table".to_owned() } else { format!("index {name}") };
                (found != wanted)
                    .then(|| format!("{of} has keys [{}] instead of [{}]", found.join(", "), wanted.join(", ")))
            })
            .collect();
        if !wrong.is_empty() {
            let (name, wrong) = (&table.name, wrong.join("; "));
            let text = format!(
                "table {name} cannot be imported into the stack: {wrong}; action required: set another \
                 spec.table.name, or move the table"
            );
            return Err(ImportRefusal::Unfit(text));
        }
    }
    let nothing = kept.table.is_none() && kept.bucket.is_none();
    Ok(if nothing { OnExisting::Refuse } else { OnExisting::Import })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::ownership::SYSTEM_TAG;
    use crate::testing::{system, table_look};

    fn kept(owner: &str) -> RetainedData {
        let tags = BTreeMap::from([(SYSTEM_TAG.to_owned(), owner.to_owned())]);
        RetainedData { table: Some((table_look("coactus-default-seoul"), tags)), bucket: None }
    }

    #[test]
    fn retained_data_of_another_owner_is_imported_only_when_adopted() {
        let system = system();
        assert_eq!(importable(&system, &RetainedData::default(), &Adoption::Refuse), Ok(OnExisting::Refuse));
        assert_eq!(importable(&system, &kept("default/seoul"), &Adoption::Refuse), Ok(OnExisting::Import));
        let refused = importable(&system, &kept("default/busan"), &Adoption::Refuse).expect_err("another's");
        assert!(matches!(refused, ImportRefusal::Another(text) if text.contains("default/busan")));
        assert_eq!(importable(&system, &kept("default/busan"), &Adoption::Take), Ok(OnExisting::Import));
        let from = |owner: &str| Adoption::TakeFrom([owner.to_owned()].into());
        assert_eq!(importable(&system, &kept("default/busan"), &from("default/busan")), Ok(OnExisting::Import));
        importable(&system, &kept("default/busan"), &from("default/seoul")).expect_err("the consent names another");
    }

    #[test]
    fn a_table_without_an_index_is_imported_and_one_with_other_keys_is_not() {
        let mut kept = kept("default/seoul");
        let change = |kept: &mut RetainedData, keys: Option<&str>| {
            if let Some((table, _)) = &mut kept.table {
                table.keys.remove("GSI2");
                table.keys.extend(keys.map(|key| ("GSI2".to_owned(), vec![key.to_owned()])));
            }
        };
        change(&mut kept, None);
        assert_eq!(importable(&system(), &kept, &Adoption::Refuse), Ok(OnExisting::Import));
        change(&mut kept, Some("userId"));
        let refused = importable(&system(), &kept, &Adoption::Take).expect_err("other keys");
        let text = "table coactus-default-seoul cannot be imported into the stack: index GSI2 has keys [userId] \
                    instead of [GSI2PK, GSI2SK]; action required: set another spec.table.name, or move the table";
        assert_eq!(refused, ImportRefusal::Unfit(text.to_owned()));
    }
}
