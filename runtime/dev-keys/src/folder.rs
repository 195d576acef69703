//! A folder with the keys of a local issuer.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use dispatch_api::worker_config::{LocalAccess, SampleTokens};
use dispatch_core::time::EpochMs;

use crate::signing::{Claims, SigningError, SigningKey};

/// Name of the file with the signing key, which is secret.
pub const SIGNING_KEY: &str = "signing-key.json";
/// Name of the file with the public key.
const JWKS: &str = "jwks.json";
/// Issuer of local tokens. The name cannot be registered (RFC 2606), so it never collides with a real issuer.
const ISSUER: &str = "https://local.dispatch.invalid";
/// Audience of local tokens.
const AUDIENCE: &str = "dispatch";
/// Lifetime of the sample tokens: a working day.
const SAMPLE_LIFETIME: Duration = Duration::from_hours(12);

/// Creates the keys of a folder, or reads existing ones, and issues sample tokens.
pub fn make(dir: &Path) -> Result<LocalAccess, SigningError> {
    let secret = dir.join(SIGNING_KEY);
    let key = if secret.exists() {
        SigningKey::read(&secret)?
    } else {
        let key = SigningKey::generate(ISSUER, AUDIENCE)?;
        key.write(&secret)?;
        key
    };
    let public = dir.join(JWKS);
    write(&public, &key.jwks().to_string()).map_err(|source| SigningError::File { path: public.clone(), source })?;
    let auth = key.trusted_by(&public.to_string_lossy());
    Ok(LocalAccess { auth, tokens: samples(&key)? })
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn samples(key: &SigningKey) -> Result<SampleTokens, SigningError> {
    let now = now();
    let token = |subject, scope| key.token(&Claims { subject, scopes: &[scope], lifetime: SAMPLE_LIFETIME }, now);
    Ok(SampleTokens {
        user: token("user#00001", "user")?,
        driver: token("driver#00001", "driver")?,
        payments: token("payments", "payments")?,
        operations: token("operator", "operations")?,
    })
}

/// Issues a token, signed with the key in a file and valid from now on.
pub fn token(key: &Path, claims: &Claims<'_>) -> Result<String, SigningError> {
    SigningKey::read(key)?.token(claims, now())
}

/// The issue time of tokens.
#[expect(clippy::disallowed_methods, reason = "tokens are issued by the machine's clock")]
fn now() -> EpochMs {
    EpochMs(jiff::Timestamp::now().as_millisecond())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folders_key_is_created_once_and_kept_secret() {
        let dir = tempfile::tempdir().unwrap();
        let first = make(dir.path()).unwrap();
        let secret = dir.path().join(SIGNING_KEY);
        assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(dir.path().join(JWKS)).unwrap().contains("pkcs8"));
        assert_eq!(make(dir.path()).unwrap().auth, first.auth);
    }
}
