//! The indexes of a table that was imported without them. They are added one after the other, because DynamoDB creates
//! one index per update. Pure.
//!
//! The progress is stored in the input record of the stack, so a reconcile continues where an interrupted one stopped,
//! without any state of its own.

use std::fmt;

use crate::cloud::ports::ObservedTable;
use crate::engine::plan::template::{INDEXES, TableIndex};

/// Prefix of the record of a stack whose table lacks indexes.
const MARK: &str = "indexes:";

/// Progress of the index creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSteps {
    present: Vec<TableIndex>,
    /// Total number of steps, at least one more than are done.
    of: usize,
}

impl IndexSteps {
    /// The steps for a table that is about to be imported; `None` if it has all indexes.
    pub fn for_table(table: &ObservedTable) -> Option<Self> {
        let present: Vec<TableIndex> = INDEXES.into_iter().filter(|index| table.keys.contains_key(*index)).collect();
        let of = INDEXES.len() - present.len();
        (of > 0).then_some(Self { present, of })
    }

    /// Parses the record of a stack.
    pub fn read(record: &str) -> Option<Self> {
        let (present, of) = record.strip_prefix(MARK)?.split_once('/')?;
        let present = INDEXES.into_iter().filter(|index| present.split(',').any(|name| name == *index)).collect();
        Some(Self { present, of: of.parse().ok()? })
    }

    /// The record of a stack.
    pub fn record(&self) -> String {
        format!("{MARK}{}/{}", self.present.join(","), self.of)
    }

    /// Missing indexes, in the order of their creation.
    pub fn missing(&self) -> Vec<TableIndex> {
        INDEXES.into_iter().filter(|index| !self.present.contains(index)).collect()
    }

    /// The progress after one more step; `None` if that is the last one.
    pub fn after(&self) -> Option<Self> {
        let missing = self.missing();
        let (next, [_, ..]) = missing.split_first()? else { return None };
        let present = self.present.iter().copied().chain([*next]).collect();
        Some(Self { present, of: self.of })
    }
}

impl fmt::Display for IndexSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.missing();
        let step = (self.of + 1).saturating_sub(missing.len());
        write!(f, "adding index {} (step {step} of {})", missing.first().unwrap_or(&"-"), self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table_look;

    fn without(indexes: &[&str]) -> Option<IndexSteps> {
        let mut table = table_look("t");
        table.keys.retain(|name, _| !indexes.contains(&name.as_str()));
        IndexSteps::for_table(&table)
    }

    #[test]
    fn a_missing_index_is_one_step_and_each_step_follows_from_the_record_of_the_one_before() {
        assert_eq!(without(&[]), None);
        let mut at = without(&["GSI1", "GSI2"]);
        let mut steps_shown = Vec::new();
        while let Some(steps) = at {
            assert_eq!(IndexSteps::read(&steps.record()).as_ref(), Some(&steps));
            steps_shown.push(steps.to_string());
            at = steps.after();
        }
        assert_eq!(steps_shown, ["adding index GSI1 (step 1 of 2)", "adding index GSI2 (step 2 of 2)"]);
        assert_eq!(
            without(&["GSI1"]).map(|steps| steps.to_string()).as_deref(),
            Some("adding index GSI1 (step 1 of 1)")
        );
    }

    #[test]
    fn a_digest_is_not_a_record_of_indexes() {
        for record in ["imported", "", "3f9c2ab41d07", "indexes:", "indexes:GSI1/x"] {
            assert_eq!(IndexSteps::read(record), None, "{record}");
        }
    }
}
