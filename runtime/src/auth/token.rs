//! A token in its compact form (RFC 7515, section 3.1): taken apart, its signature checked, its claims judged.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dispatch_api::worker_config::AuthConfig;
use dispatch_core::time::EpochMs;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{Algorithm, KEY_ID_BYTES_MAX, PublicKey};

/// Longest token, bytes: twice what an issuer with many groups makes, and half of what a header may have.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// By how much the issuer's clock may differ from ours, ms.
const CLOCK_SKEW_MS: i64 = 60_000;

/// The claims of a token whose signature was checked.
pub(super) type ClaimMap = Map<String, Value>;

/// What a token's header may say. Ways to bring a key of one's own are known by name, to be refused: whoever sends one does not
/// mean us.
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

/// A token that is not believed yet.
pub(super) struct Token<'a> {
    algorithm: Algorithm,
    key_id: String,
    /// What is signed: header and claims, as they came.
    signed: &'a [u8],
    claims: &'a str,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    pub(super) fn read(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err("it is too long");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or("it has not three parts")?;
        let (header, claims) =
            signed.split_once('.').filter(|(_, rest)| !rest.contains('.')).ok_or("it has not three parts")?;
        let header: Header = read_part(header).ok_or("its header cannot be read")?;
        let foreign = [&header.jku, &header.jwk, &header.x5u, &header.x5c, &header.crit, &header.b64];
        if foreign.into_iter().any(Option::is_some) {
            return Err("its header brings a key or an extension");
        }
        let algorithm = Algorithm::of_name(&header.alg).ok_or("its algorithm is not allowed")?;
        let key_id = header.kid.filter(|kid| (1..=KEY_ID_BYTES_MAX).contains(&kid.len())).ok_or("it names no key")?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "its signature cannot be read")?;
        Ok(Self { algorithm, key_id, signed: signed.as_bytes(), claims, signature })
    }

    pub(super) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Its claims, if this key signed them in the key's own way.
    pub(super) fn verified_by(&self, key: &PublicKey) -> Result<ClaimMap, &'static str> {
        if key.algorithm() != self.algorithm {
            return Err("its algorithm is not that of its key");
        }
        if !key.verifies(self.signed, &self.signature) {
            return Err("its signature is not that of its key");
        }
        read_part(self.claims).ok_or("its claims cannot be read")
    }
}

fn read_part<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Until when claims are good, if they are of our issuer, for us, and for now. `exp` is required: a token that never ends could never be taken back.
pub(super) fn judge(claims: &ClaimMap, config: &AuthConfig, now: EpochMs) -> Result<EpochMs, &'static str> {
    if text(claims, "iss") != Some(config.issuer.as_str()) {
        return Err("another issuer made it");
    }
    // A token without an audience is Cognito's access token, whose client stands in `client_id`.
    let meant = match claims.get("aud") {
        Some(Value::String(one)) => config.audiences.contains(one),
        Some(Value::Array(all)) => {
            all.iter().filter_map(Value::as_str).any(|one| config.audiences.iter().any(|ours| ours == one))
        }
        Some(_) => false,
        None => text(claims, "client_id").is_some_and(|client| config.audiences.iter().any(|ours| ours == client)),
    };
    if !meant {
        return Err("it is meant for somebody else");
    }
    let ends = time_ms(claims, "exp")?.ok_or("it has no end")?;
    if now.0 >= ends.saturating_add(CLOCK_SKEW_MS) {
        return Err("it has run out");
    }
    for begin in ["nbf", "iat"] {
        if time_ms(claims, begin)?.is_some_and(|begins| now.0.saturating_add(CLOCK_SKEW_MS) < begins) {
            return Err("it is of the future");
        }
    }
    Ok(EpochMs(ends))
}

/// A claim that is a text and not empty.
pub(super) fn text<'a>(claims: &'a ClaimMap, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A `NumericDate`: seconds, which may have a fraction. Another type is no time.
fn time_ms(claims: &ClaimMap, name: &str) -> Result<Option<i64>, &'static str> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite()).ok_or("a time in it is not a number")?;
    // Ten thousand years either way: nothing a clock says is beyond, and the product still fits.
    #[expect(clippy::cast_possible_truncation, reason = "clamped to what fits")]
    Ok(Some((seconds.clamp(-3.2e11, 3.2e11) * 1000.0) as i64))
}
