//! Update and condition expressions.
//!
//! Every attribute name is a placeholder, because DynamoDB reserves about 570 words, among them `status`, `date` and
//! `from` of the specification.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure, Update};

use super::convert::Item;

/// Maps that are updated member by member, so that members of other writers survive. The specification requires these
/// attributes; DynamoDB would refuse a path into a missing map.
const UPDATED_BY_MEMBER: [&str; 1] = ["currentStatus"];

/// The update or the condition of one item, or both.
#[derive(Default)]
pub(super) struct Expression {
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
    sets: Vec<String>,
    removes: Vec<String>,
    conditions: Vec<String>,
}

impl Expression {
    /// The update from `before` to `after`: `SET` of changed attributes, `list_append` where a list only grew, `REMOVE`
    /// of missing ones. Attributes in neither of them are not touched.
    pub(super) fn between(before: &Item, after: &Item) -> Self {
        let mut expression = Self::default();
        expression.difference("", before, after);
        expression
    }

    fn difference(&mut self, parent: &str, before: &Item, after: &Item) {
        let path = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        // Sorted, so that equal changes are equal requests.
        let mut names: Vec<&String> = after.keys().collect();
        names.sort();
        for name in names {
            let Some(new) = after.get(name) else { continue };
            match (before.get(name), new) {
                (Some(old), new) if old == new => {}
                (Some(AttributeValue::M(old)), AttributeValue::M(new))
                    if UPDATED_BY_MEMBER.contains(&name.as_str()) =>
                {
                    self.difference(&path(name), old, new);
                }
                (Some(AttributeValue::L(old)), AttributeValue::L(new)) if !old.is_empty() && new.starts_with(old) => {
                    let (list, added) = (self.name(&path(name)), AttributeValue::L(new[old.len()..].to_vec()));
                    let added = self.value(added);
                    self.sets.push(format!("{list} = list_append({list}, {added})"));
                }
                _ => self.set(&path(name), new.clone()),
            }
        }
        let mut gone: Vec<&String> = before.keys().filter(|name| !after.contains_key(*name)).collect();
        gone.sort();
        for name in gone {
            let name = self.name(&path(name));
            self.removes.push(name);
        }
    }

    /// `SET path = value`; `path` may lead into maps, `currentStatus.status`.
    pub(super) fn set(&mut self, path: &str, value: AttributeValue) {
        let (name, value) = (self.name(path), self.value(value));
        self.sets.push(format!("{name} = {value}"));
    }

    /// Requires that the item exists.
    pub(super) fn exists(&mut self) {
        let name = self.name("PK");
        self.conditions.push(format!("attribute_exists({name})"));
    }

    /// Requires that the item does not exist.
    pub(super) fn absent(&mut self) {
        let name = self.name("PK");
        self.conditions.push(format!("attribute_not_exists({name})"));
    }

    /// Requires that the attribute has this value.
    pub(super) fn equals(&mut self, path: &str, value: AttributeValue) {
        let (name, value) = (self.name(path), self.value(value));
        self.conditions.push(format!("{name} = {value}"));
    }

    /// Requires that the counter has this value. A missing one counts as 0, as on read.
    pub(super) fn counts(&mut self, path: &str, count: u32) {
        let name = self.name(path);
        let value = self.value(AttributeValue::N(count.to_string()));
        self.conditions.push(match count {
            0 => format!("(attribute_not_exists({name}) OR {name} = {value})"),
            _ => format!("{name} = {value}"),
        });
    }

    /// Requires that the attribute is null or missing.
    pub(super) fn null(&mut self, path: &str) {
        let name = self.name(path);
        let value = self.value(AttributeValue::S("NULL".to_owned()));
        self.conditions.push(format!("(attribute_not_exists({name}) OR attribute_type({name}, {value}))"));
    }

    /// Whether the update is empty.
    pub(super) fn changes_nothing(&self) -> bool {
        self.sets.is_empty() && self.removes.is_empty()
    }

    fn name(&mut self, path: &str) -> String {
        let placeholders = path.split('.').map(|part| {
            let placeholder = format!("#{part}");
            self.names.insert(placeholder.clone(), part.to_owned());
            placeholder
        });
        placeholders.collect::<Vec<_>>().join(".")
    }

    fn value(&mut self, value: AttributeValue) -> String {
        let placeholder = format!(":v{}", self.values.len());
        self.values.insert(placeholder.clone(), value);
        placeholder
    }

    fn update_text(&self) -> String {
        let clause = |word: &str, parts: &[String]| match parts {
            [] => None,
            parts => Some(format!("{word} {}", parts.join(", "))),
        };
        [clause("SET", &self.sets), clause("REMOVE", &self.removes)].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    fn condition_text(&self) -> Option<String> {
        (!self.conditions.is_empty()).then(|| self.conditions.join(" AND "))
    }

    /// The update as a part of a transaction. If the condition fails, DynamoDB returns the item.
    pub(super) fn into_update(self, table: &str, key: Item) -> Result<Update, BuildError> {
        Update::builder()
            .table_name(table)
            .set_key(Some(key))
            .update_expression(self.update_text())
            .set_condition_expression(self.condition_text())
            .set_expression_attribute_names(Some(self.names))
            .set_expression_attribute_values((!self.values.is_empty()).then_some(self.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
    }

    /// A new item with the condition, as a part of a transaction.
    pub(super) fn into_put(self, table: &str, item: Item) -> Result<Put, BuildError> {
        Put::builder()
            .table_name(table)
            .set_item(Some(item))
            .set_condition_expression(self.condition_text())
            .set_expression_attribute_names((!self.names.is_empty()).then_some(self.names))
            .set_expression_attribute_values((!self.values.is_empty()).then_some(self.values))
            .build()
    }

    /// The update as a separate request.
    pub(super) fn fill(self, request: UpdateItemFluentBuilder) -> UpdateItemFluentBuilder {
        request
            .update_expression(self.update_text())
            .set_condition_expression(self.condition_text())
            .set_expression_attribute_names(Some(self.names))
            .set_expression_attribute_values((!self.values.is_empty()).then_some(self.values))
    }
}

/// A string attribute.
pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute.
pub(super) fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// The primary key of an item.
pub(super) fn key(pk: &str, sk: &str) -> Item {
    HashMap::from([("PK".to_owned(), text(pk)), ("SK".to_owned(), text(sk))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> AttributeValue {
        AttributeValue::L(entries.iter().map(|entry| text(*entry)).collect())
    }

    fn item(fields: &[(&str, AttributeValue)]) -> Item {
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn only_differences_are_written_and_lists_grow() {
        let before = item(&[
            ("status", text("REQUESTED")),
            ("userId", text("user#1")),
            ("events", list(&["a"])),
            ("gone", text("x")),
            ("currentStatus", AttributeValue::M(item(&[("status", text("ACTIVE")), ("seen", text("1"))]))),
        ]);
        let after = item(&[
            ("status", text("ACCEPTED")),
            ("userId", text("user#1")),
            ("events", list(&["a", "b"])),
            ("currentStatus", AttributeValue::M(item(&[("status", text("DISPATCHED")), ("seen", text("1"))]))),
        ]);
        let expression = Expression::between(&before, &after);
        assert_eq!(
            expression.update_text(),
            "SET #currentStatus.#status = :v0, #events = list_append(#events, :v1), #status = :v2 REMOVE #gone"
        );
        assert_eq!(expression.values.get(":v1"), Some(&list(&["b"])));
        assert!(Expression::between(&before, &before).changes_nothing());
    }

    #[test]
    fn a_counter_that_was_never_written_counts_as_zero() {
        let mut expression = Expression::default();
        expression.counts("ver", 0);
        expression.counts("offerSeq", 2);
        expression.null("driverId");
        assert_eq!(
            expression.condition_text().as_deref(),
            Some(
                "(attribute_not_exists(#ver) OR #ver = :v0) AND #offerSeq = :v1 AND \
                 (attribute_not_exists(#driverId) OR attribute_type(#driverId, :v2))"
            )
        );
    }
}
