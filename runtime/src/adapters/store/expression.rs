//! Update and condition expressions.
//!
//! Every attribute name is a placeholder, because DynamoDB reserves about 570 words, among them `status`, `date` and
//! `from` of the specification.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure, Update};

use crate::adapters::store::convert::Item;
use crate::adapters::store::entity::ERASED_AT;
use crate::adapters::store::keys;

/// Maps that are updated member by member, so that members of other writers survive. The specification requires these
/// attributes; DynamoDB would refuse a path into a missing map.
const UPDATED_BY_MEMBER: [&str; 3] = ["currentStatus", "preferences", "vehicleInfo"];

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

    /// The update that replaces an item that cannot be read: `SET` of all attributes of `after`, `REMOVE` of those of
    /// `optional` that it does not have. Attributes of other writers survive.
    pub(super) fn repairing(before: &Item, after: &Item, optional: &[&str]) -> Self {
        let mut expression = Self::default();
        for (name, value) in after.iter().collect::<BTreeMap<_, _>>() {
            expression.set(name, value.clone());
        }
        for name in optional.iter().filter(|name| before.contains_key(**name) && !after.contains_key(**name)) {
            let name = expression.name(name);
            expression.removes.push(name);
        }
        expression
    }

    /// `REMOVE path`.
    pub(super) fn remove(&mut self, path: &str) {
        let name = self.name(path);
        self.removes.push(name);
    }

    /// `SET path = value` if the item has no such attribute.
    pub(super) fn set_if_missing(&mut self, name: &str, value: AttributeValue) {
        let (name, value) = (self.name(name), self.value(value));
        self.sets.push(format!("{name} = if_not_exists({name}, {value})"));
    }

    /// Appends entries to a list, which may be missing.
    pub(super) fn append(&mut self, name: &str, entries: Vec<AttributeValue>) {
        let list = self.name(name);
        let (none, added) = (self.value(AttributeValue::L(Vec::new())), self.value(AttributeValue::L(entries)));
        self.sets.push(format!("{list} = list_append(if_not_exists({list}, {none}), {added})"));
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

    /// Requires that the item does not exist, or that its person was erased.
    pub(super) fn absent_or_erased(&mut self) {
        let (key, erased) = (self.name("PK"), self.name(ERASED_AT));
        self.conditions.push(format!("(attribute_not_exists({key}) OR attribute_exists({erased}))"));
    }

    /// Requires that the item has no such attribute.
    pub(super) fn missing(&mut self, path: &str) {
        let name = self.name(path);
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

    /// Requires that the attribute, a number, is not greater than this one, or is missing.
    pub(super) fn at_most(&mut self, path: &str, most: i64) {
        let (name, value) = (self.name(path), self.value(number(most)));
        self.conditions.push(format!("(attribute_not_exists({name}) OR {name} <= {value})"));
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

    pub(super) fn update_text(&self) -> String {
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

    /// The condition of a separate request that puts an item.
    pub(super) fn fill_put(self, request: PutItemFluentBuilder) -> PutItemFluentBuilder {
        request
            .set_condition_expression(self.condition_text())
            .set_expression_attribute_names(Some(self.names))
            .set_expression_attribute_values((!self.values.is_empty()).then_some(self.values))
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

/// Applies [`Expression::between`] to an item as the table does.
#[cfg(any(test, feature = "testing"))]
pub(super) fn apply_difference(item: &mut Item, before: &Item, after: &Item) {
    for (name, new) in after.iter().filter(|(name, new)| before.get(*name) != Some(*new)) {
        match (before.get(name), new, item.get_mut(name)) {
            (Some(AttributeValue::M(old)), AttributeValue::M(new), Some(AttributeValue::M(stored)))
                if UPDATED_BY_MEMBER.contains(&name.as_str()) =>
            {
                apply_difference(stored, old, new);
            }
            _ => {
                item.insert(name.clone(), new.clone());
            }
        }
    }
    item.retain(|name, _| after.contains_key(name) || !before.contains_key(name));
}

/// The key of an item as one text, for logs: the id of its person or dispatch, and the sort key if it is not the only
/// item.
pub(super) fn key_text(item: &Item) -> String {
    let part = |name: &str| string(item, name).unwrap_or("?");
    match part("SK") {
        keys::PROFILE_SK | keys::DISPATCH_SK => part("PK").to_owned(),
        sk => format!("{} {sk}", part("PK")),
    }
}

/// The value of a string attribute; `None` if it is missing or of another type.
pub(super) fn string<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
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

    fn names(expression: &Expression) -> BTreeMap<&str, &str> {
        expression.names.iter().map(|(placeholder, name)| (placeholder.as_str(), name.as_str())).collect()
    }

    #[test]
    fn every_part_of_an_update_is_written_with_placeholders() {
        let mut expression = Expression::default();
        assert!(expression.changes_nothing());
        assert_eq!((expression.update_text(), expression.condition_text()), (String::new(), None));
        expression.set("currentStatus.status", text("ACTIVE"));
        assert!(!expression.changes_nothing());
        expression.set_if_missing("GSI2PK", text("USER#user#1"));
        expression.append("events", vec![number(7)]);
        expression.remove("deviceEndpointArn");
        assert_eq!(
            expression.update_text(),
            "SET #currentStatus.#status = :v0, #GSI2PK = if_not_exists(#GSI2PK, :v1), \
             #events = list_append(if_not_exists(#events, :v2), :v3) REMOVE #deviceEndpointArn"
        );
        let values = [text("ACTIVE"), text("USER#user#1"), list(&[]), AttributeValue::L(vec![number(7)])];
        for (place, value) in values.iter().enumerate() {
            assert_eq!(expression.values.get(&format!(":v{place}")), Some(value));
        }
        let expected = [
            ("#GSI2PK", "GSI2PK"),
            ("#currentStatus", "currentStatus"),
            ("#deviceEndpointArn", "deviceEndpointArn"),
            ("#events", "events"),
            ("#status", "status"),
        ];
        assert_eq!(names(&expression), BTreeMap::from(expected));
        let mut removing = Expression::default();
        removing.remove("x");
        assert!(!removing.changes_nothing());
    }

    #[test]
    fn conditions_hold_together() {
        let mut expression = Expression::default();
        expression.exists();
        expression.equals("currentStatus.status", text("ACTIVE"));
        let text = expression.condition_text();
        assert_eq!(text.as_deref(), Some("attribute_exists(#PK) AND #currentStatus.#status = :v0"));
        let mut absent = Expression::default();
        absent.absent();
        assert_eq!(absent.condition_text().as_deref(), Some("attribute_not_exists(#PK)"));
    }

    #[test]
    fn requests_carry_the_expression_and_omit_what_is_empty() {
        let whole = || {
            let mut expression = Expression::default();
            expression.set("status", text("ACTIVE"));
            expression.exists();
            expression
        };
        let update = whole().into_update("table", key("user#1", "PROFILE")).unwrap();
        assert_eq!((update.table_name(), update.update_expression()), ("table", "SET #status = :v0"));
        assert_eq!(update.condition_expression(), Some("attribute_exists(#PK)"));
        assert_eq!(update.key().get("SK"), Some(&text("PROFILE")));
        assert_eq!(update.expression_attribute_values().and_then(|all| all.get(":v0")), Some(&text("ACTIVE")));
        let old = update.return_values_on_condition_check_failure();
        assert_eq!(old, Some(&ReturnValuesOnConditionCheckFailure::AllOld));
        let mut removal = Expression::default();
        removal.remove("status");
        let removal = removal.into_update("table", key("user#1", "PROFILE")).unwrap();
        assert!(removal.expression_attribute_values().is_none() && removal.condition_expression().is_none());

        let put = whole().into_put("table", key("user#1", "PROFILE")).unwrap();
        assert_eq!((put.table_name(), put.condition_expression()), ("table", Some("attribute_exists(#PK)")));
        assert_eq!(put.item().get("PK"), Some(&text("user#1")));
        assert!(put.expression_attribute_names().is_some() && put.expression_attribute_values().is_some());
        let put = Expression::default().into_put("table", key("user#1", "PROFILE")).unwrap();
        assert!(put.expression_attribute_names().is_none() && put.expression_attribute_values().is_none());

        let config = aws_sdk_dynamodb::Config::builder().behavior_version_latest().build();
        let request = aws_sdk_dynamodb::Client::from_conf(config).update_item();
        let filled = whole().fill(request.clone());
        assert_eq!(filled.get_update_expression().as_deref(), Some("SET #status = :v0"));
        assert_eq!(filled.get_condition_expression().as_deref(), Some("attribute_exists(#PK)"));
        assert!(
            filled.get_expression_attribute_names().is_some() && filled.get_expression_attribute_values().is_some()
        );
        let mut removal = Expression::default();
        removal.remove("status");
        assert!(removal.fill(request).get_expression_attribute_values().is_none());
    }

    #[test]
    fn a_list_that_was_empty_shortened_or_changed_is_written_whole() {
        let change = |before: &[&str], after: &[&str]| {
            Expression::between(&item(&[("events", list(before))]), &item(&[("events", list(after))])).update_text()
        };
        assert_eq!(change(&["a"], &["a", "b"]), "SET #events = list_append(#events, :v0)");
        for (before, after) in [(&[][..], &["a"][..]), (&["a", "b"], &["a"]), (&["a"], &["b", "a"]), (&["a"], &[])] {
            assert_eq!(change(before, after), "SET #events = :v0", "{before:?} {after:?}");
        }
        assert_eq!(change(&[], &[]), "");
    }

    #[test]
    fn only_the_maps_of_profiles_are_updated_by_member() {
        let with = |name: &str, member: &str| item(&[(name, AttributeValue::M(item(&[("at", text(member))])))]);
        let change = |name| Expression::between(&with(name, "1"), &with(name, "2")).update_text();
        for name in UPDATED_BY_MEMBER {
            assert_eq!(change(name), format!("SET #{name}.#at = :v0"));
        }
        assert_eq!(change("matching"), "SET #matching = :v0");
        let gone =
            Expression::between(&with("preferences", "1"), &item(&[("preferences", AttributeValue::M(item(&[])))]));
        assert_eq!(gone.update_text(), "REMOVE #preferences.#at");
    }

    #[test]
    fn a_repair_sets_all_and_removes_what_is_optional_and_not_there_any_more() {
        let before = item(&[("phone", number(1)), ("device", text("x")), ("kept", text("y")), ("foreign", text("z"))]);
        let after = item(&[("phone", text("010")), ("kept", text("y"))]);
        let repair = Expression::repairing(&before, &after, &["device", "kept", "never"]);
        assert_eq!(repair.update_text(), "SET #kept = :v0, #phone = :v1 REMOVE #device");
    }

    #[test]
    fn a_difference_applies_as_its_update_would() {
        let status =
            |status: &str, seen: &str| AttributeValue::M(item(&[("status", text(status)), ("seen", text(seen))]));
        let before = item(&[("currentStatus", status("ACTIVE", "1")), ("gone", text("x")), ("same", text("s"))]);
        let after = item(&[("currentStatus", status("DISPATCHED", "1")), ("same", text("s")), ("new", text("n"))]);
        // Another service has changed one member, one attribute that does not differ, and added one.
        let mut stored = item(&[
            ("currentStatus", status("ACTIVE", "2")),
            ("gone", text("x")),
            ("same", text("theirs")),
            ("foreign", text("f")),
        ]);
        apply_difference(&mut stored, &before, &after);
        let expected = item(&[
            ("currentStatus", status("DISPATCHED", "2")),
            ("same", text("theirs")),
            ("new", text("n")),
            ("foreign", text("f")),
        ]);
        assert_eq!(stored, expected);
        // Another map is replaced.
        let matching = |attempt: i64| AttributeValue::M(item(&[("attempt", number(attempt))]));
        let (before, after) = (item(&[("matching", matching(1))]), item(&[("matching", matching(2))]));
        let mut stored = item(&[("matching", AttributeValue::M(item(&[("foreign", text("f"))])))]);
        apply_difference(&mut stored, &before, &after);
        assert_eq!(stored, after);
    }

    #[test]
    fn an_item_is_named_by_its_id_and_by_its_sort_key_if_it_has_siblings() {
        assert_eq!(key_text(&key("driver#1", "PROFILE")), "driver#1");
        assert_eq!(key_text(&key("dispatch#1", "METADATA")), "dispatch#1");
        assert_eq!(key_text(&key("dispatch#1", "ROUTE#000001")), "dispatch#1 ROUTE#000001");
        assert_eq!(key_text(&item(&[("PK", number(7))])), "? ?");
        let item = item(&[("phone", text("010")), ("ver", number(7))]);
        assert_eq!((string(&item, "phone"), string(&item, "ver"), string(&item, "none")), (Some("010"), None, None));
        assert_eq!(number(-12), AttributeValue::N("-12".to_owned()));
    }
}
