//! A token in compact form (RFC 7515, section 3.1): parsing, verification of the signature, validation of the claims.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dispatch_api::worker_config::AuthConfig;
use dispatch_core::time::EpochMs;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{Algorithm, KEY_ID_BYTES_MAX, PublicKey};

/// Maximum length of a token, bytes: twice the size of a token with many groups, and half of the maximum request head.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Maximum difference between the issuer's clock and the worker's, ms.
const CLOCK_SKEW_MS: i64 = 60_000;

/// The claims of a token whose signature was verified.
pub(super) type ClaimMap = Map<String, Value>;

/// The header of a token. The members that supply a key or an extension are listed only so that they can be rejected.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    jku: Option<Value>,
    jwk: Option<Value>,
    x5u: Option<Value>,
    x5c: Option<Value>,
    crit: Option<Value>,
    b64: Option<Value>,
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
    pub(super) fn read(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err("it is too long");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or("it does not have three parts")?;
        let (header, claims) =
            signed.split_once('.').filter(|(_, rest)| !rest.contains('.')).ok_or("it does not have three parts")?;
        let header: Header = read_part(header).ok_or("the header cannot be read")?;
        let foreign = [&header.jku, &header.jwk, &header.x5u, &header.x5c, &header.crit, &header.b64];
        if foreign.into_iter().any(Option::is_some) {
            return Err("the header contains a key or an extension");
        }
        let algorithm = Algorithm::of_name(&header.alg).ok_or("the algorithm is not allowed")?;
        let key_id =
            header.kid.filter(|kid| (1..=KEY_ID_BYTES_MAX).contains(&kid.len())).ok_or("the header names no key")?;
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

fn read_part<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Validates issuer, audience and times, and returns when the token expires. `exp` is required, because a token without
/// it could never be revoked.
pub(super) fn judge(claims: &ClaimMap, config: &AuthConfig, now: EpochMs) -> Result<EpochMs, &'static str> {
    if text(claims, "iss") != Some(config.issuer.as_str()) {
        return Err("the issuer does not match");
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
