//! A token in compact form (RFC 7515, section 3.1): parsing, verification of the signature, validation of the claims.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dispatch_api::worker_config::AuthConfig;
use dispatch_core::time::EpochMs;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::keys::{Algorithm, KEY_ID_BYTES_MAX, PublicKey};

/// Maximum length of a token, bytes: twice the size of a token with many groups, and half of the maximum request head.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Maximum difference between the issuer's clock and the worker's, ms.
const CLOCK_SKEW_MS: i64 = 60_000;

/// The claims of a token whose signature was verified.
pub(super) type ClaimMap = Map<String, Value>;

/// Members of a header that supply a key or an extension.
const FOREIGN: [&str; 6] = ["jku", "jwk", "x5u", "x5c", "crit", "b64"];

/// Types of a token, without `application/`: those of access tokens (RFC 9068) and of issuers that name no purpose. All
/// others, for example `logout+jwt`, are for something else (RFC 8725, section 3.11).
const TYPES: [&str; 2] = ["JWT", "at+jwt"];

/// A JSON object whose names occur once. Of a name that occurs twice, other programs may read the other value, so such
/// a token is rejected (RFC 7519, section 4).
struct Members(ClaimMap);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadMembers)
    }
}

struct ReadMembers;

impl<'de> Visitor<'de> for ReadMembers {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members, A::Error> {
        let mut all = ClaimMap::new();
        while let Some((name, value)) = members.next_entry::<String, Value>()? {
            if all.insert(name, value).is_some() {
                return Err(A::Error::custom("a name occurs twice"));
            }
        }
        Ok(Members(all))
    }
}

/// A token that is not verified yet.
pub(super) struct Token<'a> {
    algorithm: Algorithm,
    key_id: String,
    /// The signed part: header and claims as they were received.
    signed: &'a [u8],
    claims: &'a str,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Parses a token without verifying it.
    pub(super) fn read(token: &'a str) -> Result<Self, &'static str> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("it is too long");
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("it does not have three parts")?;
        let (header, claims) =
            signed.split_once('.').filter(|(_, rest)| !rest.contains('.')).ok_or("it does not have three parts")?;
        let header = read_part(header).ok_or("the header cannot be read")?;
        if FOREIGN.into_iter().any(|name| header.contains_key(name)) {
            return Err("the header contains a key or an extension");
        }
        if header.get("typ").is_some_and(|given| !given.as_str().is_some_and(is_allowed_type)) {
            return Err("the type is not that of an access token");
        }
        let algorithm = text(&header, "alg").and_then(Algorithm::of_name).ok_or("the algorithm is not allowed")?;
        let key_id = text(&header, "kid").filter(|kid| kid.len() <= KEY_ID_BYTES_MAX);
        let key_id = key_id.ok_or("the header names no key")?.to_owned();
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "the signature cannot be read")?;
        Ok(Self { algorithm, key_id, signed: signed.as_bytes(), claims, signature })
    }

    pub(super) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The claims, if this key signed them with the key's own algorithm.
    pub(super) fn verified_by(&self, key: &PublicKey) -> Result<ClaimMap, &'static str> {
        if key.algorithm() != self.algorithm {
            return Err("the algorithm does not match the key");
        }
        if !key.verifies(self.signed, &self.signature) {
            return Err("the signature does not match the key");
        }
        read_part(self.claims).ok_or("the claims cannot be read")
    }
}

fn read_part(part: &str) -> Option<ClaimMap> {
    let Members(members) = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
    Some(members)
}

fn is_allowed_type(given: &str) -> bool {
    let prefix = given.get(..12).filter(|prefix| prefix.eq_ignore_ascii_case("application/"));
    let name = if prefix.is_some() { &given[12..] } else { given };
    TYPES.into_iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

/// Validates issuer, audience and times, and returns when the token expires. `exp` is required, because a token without
/// it could never be revoked.
pub(super) fn judge(claims: &ClaimMap, config: &AuthConfig, now: EpochMs) -> Result<EpochMs, &'static str> {
    if text(claims, "iss") != Some(config.issuer.as_str()) {
        return Err("the issuer does not match");
    }
    // Amazon Cognito signs identity tokens with the same keys.
    if claims.get("token_use").is_some_and(|given| given != "access") {
        return Err("it is not an access token");
    }
    // Access tokens of Amazon Cognito have no audience; their client is in `client_id`.
    let meant = match claims.get("aud") {
        Some(Value::String(one)) => config.audiences.contains(one),
        Some(Value::Array(all)) => {
            all.iter().filter_map(Value::as_str).any(|one| config.audiences.iter().any(|ours| ours == one))
        }
        Some(_) => false,
        None => text(claims, "client_id").is_some_and(|client| config.audiences.iter().any(|ours| ours == client)),
    };
    if !meant {
        return Err("the audience does not match");
    }
    let ends = time_ms(claims, "exp")?.ok_or("exp is missing")?;
    if now.0 >= ends.saturating_add(CLOCK_SKEW_MS) {
        return Err("it has expired");
    }
    for begin in ["nbf", "iat"] {
        if time_ms(claims, begin)?.is_some_and(|begins| now.0.saturating_add(CLOCK_SKEW_MS) < begins) {
            return Err("it is not valid yet");
        }
    }
    Ok(EpochMs(ends))
}

/// A claim that is a text, unless it is empty.
pub(super) fn text<'a>(claims: &'a ClaimMap, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A claim of type `NumericDate`: seconds, which may have a fraction. Any other type is an error.
fn time_ms(claims: &ClaimMap, name: &str) -> Result<Option<i64>, &'static str> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite()).ok_or("exp, nbf or iat is not a number")?;
    // Ten thousand years either way: more than any clock shows, and the product still fits.
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the range of i64")]
    Ok(Some((seconds.clamp(-3.2e11, 3.2e11) * 1000.0) as i64))
}
