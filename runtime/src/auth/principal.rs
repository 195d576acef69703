//! What a caller may do.

use dispatch_api::worker_config::ClaimsConfig;
use dispatch_core::ids::{DriverId, UserId};
use dispatch_core::time::EpochMs;
use serde_json::Value;

use super::token::{ClaimMap, text};

/// Longest subject, characters: that of `OpenID` Connect.
const SUBJECT_CHARS_MAX: usize = 255;

/// A caller: somebody may be a user and a driver at once, with the same subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Whom the issuer means; unique at the issuer.
    pub subject: String,
    /// Which user, for callers with that scope.
    pub user: Option<UserId>,
    /// Which driver.
    pub driver: Option<DriverId>,
    /// Whether it may do what only the city's own people may.
    pub operations: bool,
    /// When its token runs out.
    pub good_until: EpochMs,
}

impl Principal {
    /// From the claims of a token that was found good.
    ///
    /// The id is written with its prefix, which must then fit one of the scopes, or without. Operators need none.
    pub(super) fn of(claims: &ClaimMap, names: &ClaimsConfig, good_until: EpochMs) -> Result<Self, &'static str> {
        let subject = text(claims, "sub").filter(|sub| sub.chars().count() <= SUBJECT_CHARS_MAX);
        let subject = subject.ok_or("it has no subject")?.to_owned();
        let has = |scope: &str| claims.get(&names.scopes).is_some_and(|given| lists(given, scope));
        let id = text(claims, &names.id).unwrap_or_default();
        let user = has(&names.user).then(|| whole(UserId::PREFIX, id)).flatten();
        let driver = has(&names.driver).then(|| whole(DriverId::PREFIX, id)).flatten();
        let principal = Self {
            user: user.and_then(|id| UserId::parse(id).ok()),
            driver: driver.and_then(|id| DriverId::parse(id).ok()),
            operations: has(&names.operations),
            good_until,
            subject,
        };
        if principal.user.is_none() && principal.driver.is_none() && !principal.operations {
            return Err("it is nobody's here: no scope, or no id for it");
        }
        Ok(principal)
    }
}

/// Whether a claim of scopes lists one: a text with blanks between them, or a list.
fn lists(given: &Value, scope: &str) -> bool {
    match given {
        Value::String(text) => text.split(' ').any(|one| one == scope),
        Value::Array(all) => all.iter().any(|one| one.as_str() == Some(scope)),
        _ => false,
    }
}

/// The id with its prefix; `None` for that of another kind.
fn whole(prefix: &str, id: &str) -> Option<String> {
    if id.starts_with(prefix) {
        Some(id.to_owned())
    } else if id.is_empty() || id.contains('#') {
        None
    } else {
        Some(format!("{prefix}{id}"))
    }
}
