//! `dispatch-runtime keys` and `token`: the key pair of a run on this machine, and tokens signed with it. Workers that name another
//! issuer do not take them.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use dispatch_api::worker_config::{LocalAccess, SampleTokens};
use dispatch_core::time::EpochMs;

use crate::args::{TokenArgs, TokenScope};
use crate::auth::{Claims, SigningError, SigningKey};
use crate::clock::SystemClock;
use crate::port::Clock as _;

/// File of the secret, in the folder of the keys.
pub const SIGNING_KEY: &str = "signing-key.json";
/// File of the public part.
const JWKS: &str = "jwks.json";
/// Issuer of local tokens: a name nobody can register (RFC 2606), so no real issuer is ever mistaken for it.
const ISSUER: &str = "https://local.dispatch.invalid";
/// Whom local tokens are meant for.
const AUDIENCE: &str = "dispatch";
/// How long a sample token is good: a day's work.
const SAMPLE_LIFETIME: Duration = Duration::from_hours(12);

/// Makes the keys of a folder, or takes those that are there.
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
    Ok(LocalAccess { auth, tokens: samples(&key, SystemClock.now())? })
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn samples(key: &SigningKey, now: EpochMs) -> Result<SampleTokens, SigningError> {
    let token = |subject, scope| key.token(&Claims { subject, scopes: &[scope], lifetime: SAMPLE_LIFETIME }, now);
    Ok(SampleTokens {
        user: token("user#00001", "user")?,
        driver: token("driver#00001", "driver")?,
        operations: token("operator", "operations")?,
    })
}

/// A token as asked for.
pub fn token(args: &TokenArgs) -> Result<String, SigningError> {
    let scopes: Vec<&str> = args.scope.iter().map(|scope| name(*scope)).collect();
    let lifetime = Duration::from_hours(args.hours.into());
    let claims = Claims { subject: &args.subject, scopes: &scopes, lifetime };
    SigningKey::read(&args.key)?.token(&claims, SystemClock.now())
}

fn name(scope: TokenScope) -> &'static str {
    match scope {
        TokenScope::User => "user",
        TokenScope::Driver => "driver",
        TokenScope::Operations => "operations",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::auth::Authenticator;

    #[tokio::test]
    async fn a_folders_key_is_made_once_kept_secret_and_its_tokens_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let first = make(dir.path()).unwrap();
        let secret = dir.path().join(SIGNING_KEY);
        assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(dir.path().join(JWKS)).unwrap().contains("pkcs8"));
        let again = make(dir.path()).unwrap();
        assert_eq!(again.auth, first.auth);
        let workers = Authenticator::new(&again.auth).unwrap();
        let now = SystemClock.now();
        let user = workers.authenticate(&first.tokens.user, now).await.unwrap();
        assert_eq!(user.user.unwrap().as_str(), "user#00001");
        assert!(user.driver.is_none() && !user.operations);
        let operator = workers.authenticate(&again.tokens.operations, now).await.unwrap();
        assert!(operator.operations && operator.user.is_none());
        let args = TokenArgs { key: secret, subject: "driver#7".to_owned(), scope: vec![TokenScope::Driver], hours: 1 };
        let minted = workers.authenticate(&token(&args).unwrap(), now).await.unwrap();
        assert_eq!(minted.driver.unwrap().as_str(), "driver#7");
        let other = make(tempfile::tempdir().unwrap().path()).unwrap();
        assert!(workers.authenticate(&other.tokens.user, now).await.is_err(), "another folder is another issuer's key");
    }
}
