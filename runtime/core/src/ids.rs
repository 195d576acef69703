//! Identifiers in the format of spec §6: `user#00001`, `driver#00001`, `dispatch#00001`.

use std::fmt;

use thiserror::Error;

/// Longest part after the prefix. A ULID has 26 characters; the examples of the specification have 5.
const SUFFIX_LEN_MAX: usize = 64;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// The prefix of the kind is missing.
    #[error("must begin with {prefix:?}")]
    Prefix {
        /// The expected prefix.
        prefix: &'static str,
    },
    /// The part after the prefix is empty, too long, or contains other characters.
    #[error("must have 1 to 64 of the characters A-Z a-z 0-9 _ - after {prefix:?}")]
    Suffix {
        /// The prefix of the kind.
        prefix: &'static str,
    },
}

fn check(text: &str, prefix: &'static str) -> Result<(), IdError> {
    let suffix = text.strip_prefix(prefix).ok_or(IdError::Prefix { prefix })?;
    let plain = suffix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if suffix.is_empty() || suffix.len() > SUFFIX_LEN_MAX || !plain {
        return Err(IdError::Suffix { prefix });
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The prefix of every id of this kind.
            pub const PREFIX: &'static str = $prefix;

            /// Parses an id, including the prefix.
            pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check(&text, Self::PREFIX)?;
                Ok(Self(text.into_boxed_str()))
            }

            /// Builds an id from the part after the prefix.
            pub fn from_suffix(suffix: &str) -> Result<Self, IdError> {
                Self::parse(format!("{}{suffix}", Self::PREFIX))
            }

            /// The id, including the prefix.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The part after the prefix, as used in URLs.
            pub fn suffix(&self) -> &str {
                &self.0[Self::PREFIX.len()..]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    };
}

id!(
    /// A user, who requests rides.
    UserId,
    "user#"
);
id!(
    /// A driver.
    DriverId,
    "driver#"
);
id!(
    /// A request for a ride, and the ride that follows from it.
    DispatchId,
    "dispatch#"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_specification_are_valid() {
        assert_eq!(DriverId::parse("driver#00001").map(|id| id.suffix().to_owned()), Ok("00001".to_owned()));
        assert_eq!(DispatchId::from_suffix("01JQ").map(|id| id.to_string()), Ok("dispatch#01JQ".to_owned()));
    }

    #[test]
    fn other_texts_are_rejected() {
        assert_eq!(UserId::parse("driver#1"), Err(IdError::Prefix { prefix: "user#" }));
        for bad in ["user#", "user#a b", "user#a#b", "user#한", &format!("user#{}", "x".repeat(65))] {
            assert_eq!(UserId::parse(bad), Err(IdError::Suffix { prefix: "user#" }), "{bad}");
        }
    }

    #[test]
    fn every_allowed_character_and_length_is_accepted() {
        let all: String = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['_', '-']).collect();
        assert_eq!(all.len(), SUFFIX_LEN_MAX);
        for good in ["-", "_", "a", "Z", "9", all.as_str()] {
            let id = UserId::from_suffix(good).unwrap();
            assert_eq!((id.suffix(), id.as_str()), (good, format!("user#{good}").as_str()));
            assert_eq!(format!("user#{good}").parse(), Ok(id));
        }
        for bad in [".", "/", "@", "[", "^", "`", "{", "a.b", "a "] {
            assert_eq!(UserId::from_suffix(bad), Err(IdError::Suffix { prefix: "user#" }), "{bad}");
        }
    }
}
