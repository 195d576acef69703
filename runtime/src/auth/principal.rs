//! What an authenticated caller may do.

use dispatch_api::worker_config::ClaimsConfig;
use dispatch_core::ids::{DriverId, UserId};
use dispatch_core::time::EpochMs;
use serde_json::Value;

use super::token::{ClaimMap, text};

/// Maximum length of a subject, characters: the limit of `OpenID` Connect.
const SUBJECT_CHARS_MAX: usize = 255;

/// An authenticated caller. A subject can be a user and a driver at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The issuer's id of the caller, unique at the issuer.
    pub subject: String,
    /// The caller's id as a user, if the token has the scope.
    pub user: Option<UserId>,
    /// The caller's id as a driver, if the token has the scope.
    pub driver: Option<DriverId>,
    /// Whether the token has the scope of programs that report payments.
    pub payments: bool,
    /// Whether the token has the scope of the city's staff and programs.
    pub operations: bool,
    /// The only city whose payments or operations the token is for; `None` if it names none.
    pub city: Option<String>,
    /// When the token expires.
    pub good_until: EpochMs,
}

impl Principal {
    /// Reads the claims of a verified token.
    ///
    /// The id may have its prefix, which must then match one of the scopes. Callers with only `payments` or
    /// `operations` need no id.
    pub(super) fn from_claims(
        claims: &ClaimMap,
        names: &ClaimsConfig,
        good_until: EpochMs,
    ) -> Result<Self, &'static str> {
        let subject = text(claims, "sub").filter(|sub| sub.chars().count() <= SUBJECT_CHARS_MAX);
        let subject = subject.ok_or("sub is missing or too long")?.to_owned();
        let has = |scope: &str| claims.get(&names.scopes).is_some_and(|given| lists(given, scope));
        let id = text(claims, &names.id).unwrap_or_default();
        let user = has(&names.user).then(|| whole(UserId::PREFIX, id)).flatten();
        let driver = has(&names.driver).then(|| whole(DriverId::PREFIX, id)).flatten();
        let principal = Self {
            user: user.and_then(|id| UserId::parse(id).ok()),
            driver: driver.and_then(|id| DriverId::parse(id).ok()),
            payments: has(&names.payments),
            operations: has(&names.operations),
            city: None,
            good_until,
            subject,
        };
        if principal.user.is_none() && principal.driver.is_none() && !principal.is_staff() {
            return Err("it has no known scope, or no id that matches its scope");
        }
        match claims.get(&names.city).filter(|_| principal.is_staff()) {
            None => Ok(principal),
            Some(Value::String(city)) => Ok(Self { city: Some(city.clone()), ..principal }),
            Some(_) => Err("the city is not a text"),
        }
    }

    /// Whether the caller acts for the city and not for a person.
    pub fn is_staff(&self) -> bool {
        self.payments || self.operations
    }

    /// Whether the token is accepted in this city.
    pub fn is_for(&self, city: &str) -> bool {
        self.city.as_ref().is_none_or(|only| only == city)
    }
}

/// Whether the scopes claim, a text separated by blanks or a list, contains a scope.
fn lists(given: &Value, scope: &str) -> bool {
    match given {
        Value::String(text) => text.split(' ').any(|one| one == scope),
        Value::Array(all) => all.iter().any(|one| one.as_str() == Some(scope)),
        _ => false,
    }
}

/// The id with its prefix; `None` if it has the prefix of another kind.
fn whole(prefix: &str, id: &str) -> Option<String> {
    if id.starts_with(prefix) {
        Some(id.to_owned())
    } else if id.is_empty() || id.contains('#') {
        None
    } else {
        Some(format!("{prefix}{id}"))
    }
}
