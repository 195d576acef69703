//! A list of allowed values: `Any`, `None`, or entries separated by commas. Pure.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// Allows every value.
const ANY: &str = "Any";
/// Allows no value, as does an empty text.
const NONE: &str = "None";

/// Values that an administrator allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowList {
    /// Every value.
    #[default]
    Any,
    /// The values that one of these entries allows. Without an entry none is allowed.
    Only(Vec<String>),
}

impl AllowList {
    /// Reads a list. `any` in another case is an entry, which allows nothing.
    pub fn parse(text: &str) -> Self {
        match text.trim() {
            ANY => Self::Any,
            NONE => Self::Only(Vec::new()),
            list => {
                let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
                Self::Only(entries.map(str::to_owned).collect())
            }
        }
    }

    /// Whether a value is allowed. `matches` compares an entry with it.
    pub fn allows(&self, value: &str, matches: fn(&str, &str) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Only(entries) => entries.iter().any(|entry| matches(entry, value)),
        }
    }
}

impl FromStr for AllowList {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::parse(text))
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str(ANY),
            Self::Only(entries) if entries.is_empty() => f.write_str(NONE),
            Self::Only(entries) => f.write_str(&entries.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(entry: &str, value: &str) -> bool {
        entry == value
    }

    #[test]
    fn any_none_and_an_empty_list_are_distinct_from_an_absent_one() {
        assert_eq!(AllowList::default(), AllowList::Any, "absent");
        assert_eq!(AllowList::parse(" Any "), AllowList::Any);
        for nothing in ["", " ", ",", " , ,", "None"] {
            assert_eq!(AllowList::parse(nothing), AllowList::Only(Vec::new()), "{nothing:?}");
        }
        assert_eq!(AllowList::parse(" a , b,"), AllowList::Only(vec!["a".to_owned(), "b".to_owned()]));
        for (text, shown) in [("Any", "Any"), ("", "None"), ("None", "None"), (" a , b,", "a,b")] {
            assert_eq!(AllowList::parse(text).to_string(), shown);
        }
    }

    #[test]
    fn a_misspelled_word_and_a_word_among_entries_allow_nothing() {
        for text in ["any", "ANY", "*", "all", "none", "Any,None", "Any, a"] {
            assert!(!AllowList::parse(text).allows("b", equal), "{text}");
        }
        assert!(AllowList::parse("None, a").allows("a", equal));
    }
}
