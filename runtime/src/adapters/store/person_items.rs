//! The items of one person: kinds, continuations of pages, and the record of an erasure. Pure.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::ids::{DispatchId, UserId};
use serde::{Deserialize, Serialize};

use crate::adapters::store::convert::{DISPATCH, DISPATCH_ROUTE, Item, ItemError, read_item, write_item};
use crate::adapters::store::dispatches::PageToken;
use crate::adapters::store::entity_type::{DRIVER, USER};
use crate::adapters::store::expression::string;
use crate::adapters::store::keys;
use crate::ports::{DataKind, Erasure, Person};

pub(super) const USER_DISPATCH_HISTORY: &str = "USER_DISPATCH_HISTORY";
pub(super) const DRIVER_STATUS_HISTORY: &str = "DRIVER_STATUS_HISTORY";
pub(super) const DRIVER_COMPLETED_RIDE: &str = "DRIVER_COMPLETED_RIDE";

/// `EntityType` of the record of an erasure.
const ERASURE: &str = "ERASURE";

/// Attributes that serve searches and tell nothing about a person.
const INTERNAL: [&str; 5] = ["GSI1PK", "GSI1SK", "GSI2PK", "GSI2SK", "matching"];

/// Attributes of a dispatch that concern its user and not its driver.
const OF_USER: [&str; 5] = ["userId", "pickupLocation", "destination", "events", "estimatedFare"];

/// The kind of a stored item.
pub(super) fn kind_of(item: &Item) -> DataKind {
    match string(item, "EntityType") {
        Some(USER | DRIVER) => DataKind::Profile,
        Some(DISPATCH) => DataKind::Dispatch,
        Some(DISPATCH_ROUTE) => DataKind::Route,
        Some(USER_DISPATCH_HISTORY | DRIVER_STATUS_HISTORY) => DataKind::History,
        Some(DRIVER_COMPLETED_RIDE) => DataKind::Ride,
        _ => DataKind::Other,
    }
}

/// The dispatch that an item is, or refers to.
pub(super) fn dispatch_of(item: &Item) -> Option<DispatchId> {
    let id = string(item, "dispatchId").or_else(|| string(item, "PK"))?;
    DispatchId::parse(id).ok()
}

/// The dispatch that a profile says its person is on.
pub(super) fn current_dispatch(profile: &Item) -> Option<DispatchId> {
    let status = profile.get("currentStatus")?.as_m().ok()?;
    DispatchId::parse(string(status, "currentDispatchId")?).ok()
}

/// A dispatch without what concerns its user only.
pub(super) fn part_of_driver(mut dispatch: Item) -> Item {
    dispatch.retain(|name, _| !OF_USER.contains(&name.as_str()));
    dispatch
}

/// An item as a JSON document for the person.
pub(super) fn shown(mut item: Item) -> serde_json::Value {
    item.retain(|name, _| !INTERNAL.contains(&name.as_str()));
    // Binary values, which no writer of this table uses, have no form in JSON.
    item.retain(|_, value| !matches!(value, AttributeValue::B(_) | AttributeValue::Bs(_)));
    serde_dynamo::from_item(item).unwrap_or(serde_json::Value::Null)
}

/// The data that a page covers.
pub(super) enum Part {
    /// The person's own partition after a sort key.
    Own(Option<String>),
    /// A user's dispatches after an entry.
    Dispatches(UserId, Option<PageToken>),
}

/// Where the next page begins.
pub(super) enum Continuation {
    /// After this sort key of the person's own partition.
    Own(String),
    /// At the user's newest dispatch.
    FirstDispatch,
    /// After this dispatch of the user.
    Dispatches(PageToken),
}

impl Continuation {
    /// Behind a page of the own partition. A driver's dispatches were found in it.
    pub(super) fn after_own(person: &Person, last: Option<String>) -> Option<Self> {
        match (last, person) {
            (Some(last), _) => Some(Self::Own(last)),
            (None, Person::User(_)) => Some(Self::FirstDispatch),
            (None, Person::Driver(_)) => None,
        }
    }

    /// Letters, digits and characters that a query needs not escape, except `:`, which it may.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Own(sk) => format!("own_{}", hex(sk)),
            Self::FirstDispatch => "dispatches".to_owned(),
            Self::Dispatches(token) => format!("dispatches_{}", token.text()),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "dispatches" {
            return Some(Self::FirstDispatch);
        }
        let (part, rest) = text.split_once('_')?;
        match part {
            "own" => unhex(rest).filter(|sk| !sk.is_empty()).map(Self::Own),
            "dispatches" => PageToken::parse(rest).ok().map(Self::Dispatches),
            _ => None,
        }
    }

    /// `None` if the person has no such part: the dispatches of a driver are found in the own partition.
    pub(super) fn part(self, person: &Person) -> Option<Part> {
        match (self, person) {
            (Self::Own(sk), _) => Some(Part::Own(Some(sk))),
            (Self::FirstDispatch, Person::User(user)) => Some(Part::Dispatches(user.clone(), None)),
            (Self::Dispatches(token), Person::User(user)) => Some(Part::Dispatches(user.clone(), Some(token))),
            (Self::FirstDispatch | Self::Dispatches(_), Person::Driver(_)) => None,
        }
    }
}

fn hex(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len() * 2), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Sort keys are ASCII, and only the spelling of [`hex`] is read.
fn unhex(text: &str) -> Option<String> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let ascii = |pair: &[u8; 2]| Some(digit(pair[0]).filter(|high| *high < 8)? * 16 + digit(pair[1])?);
    let bytes: Option<Vec<u8>> = pairs.iter().map(ascii).collect();
    bytes.filter(|_| rest.is_empty()).and_then(|bytes| String::from_utf8(bytes).ok())
}

/// Addition: the record of an erasure.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErasureItem {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    #[serde(rename = "EntityType")]
    entity_type: String,
    started_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    found: BTreeMap<String, u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Every kind with its name in records.
const KINDS: [(DataKind, &str); 7] = [
    (DataKind::Profile, "profile"),
    (DataKind::Device, "device"),
    (DataKind::Dispatch, "dispatch"),
    (DataKind::Route, "route"),
    (DataKind::History, "history"),
    (DataKind::Ride, "ride"),
    (DataKind::Other, "other"),
];

pub(super) fn erasure_item(person: &Person, erasure: &Erasure) -> Result<Item, ItemError> {
    let count = |(kind, name): (DataKind, &str)| Some((name.to_owned(), *erasure.found.get(&kind)?));
    let item = ErasureItem {
        pk: keys::erasure_pk(person),
        sk: erasure.key.clone(),
        entity_type: ERASURE.to_owned(),
        started_at: erasure.started_at.clone(),
        completed_at: erasure.completed_at.clone(),
        found: KINDS.into_iter().filter_map(count).collect(),
        next: erasure.next.clone(),
    };
    write_item(ERASURE, &item)
}

pub(super) fn read_erasure(item: Item) -> Result<Erasure, ItemError> {
    let item: ErasureItem = read_item(ERASURE, item)?;
    let count = |(kind, name): (DataKind, &str)| Some((kind, *item.found.get(name)?));
    Ok(Erasure {
        found: KINDS.into_iter().filter_map(count).collect(),
        key: item.sk,
        started_at: item.started_at,
        completed_at: item.completed_at,
        next: item.next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_survive_their_text_and_others_are_refused() {
        let user = Person::parse("user#1").unwrap();
        let own = Continuation::after_own(&user, Some("DISPATCH#2025-05-25T14:30:00#dispatch#1".to_owned())).unwrap();
        let text = own.text();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{text}");
        let Some(Part::Own(Some(sk))) = Continuation::parse(&text).and_then(|own| own.part(&user)) else { panic!() };
        assert_eq!(sk, "DISPATCH#2025-05-25T14:30:00#dispatch#1");
        let first = Continuation::after_own(&user, None).unwrap().text();
        assert!(matches!(Continuation::parse(&first).unwrap().part(&user), Some(Part::Dispatches(_, None))));
        let driver = Person::parse("driver#1").unwrap();
        assert!(Continuation::after_own(&driver, None).is_none());
        assert!(Continuation::parse(&first).unwrap().part(&driver).is_none());
        for bad in [
            "",
            "own_",
            "own_g0",
            "own_0",
            "own_ff",
            "own_4A",
            "own_4é",
            "dispatches_",
            "dispatches_x",
            "other_00",
            "own",
        ] {
            assert!(Continuation::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_record_of_an_erasure_survives_the_table() {
        let person = Person::parse("user#1").unwrap();
        let erasure = Erasure {
            key: "2025-05-25T15:30:00.000".to_owned(),
            started_at: "2025-05-25T15:30:00+09:00".to_owned(),
            completed_at: None,
            found: BTreeMap::from(KINDS.map(|(kind, _)| (kind, 3))),
            next: Some("dispatches".to_owned()),
        };
        assert_eq!(read_erasure(erasure_item(&person, &erasure).unwrap()).unwrap(), erasure);
    }
}
