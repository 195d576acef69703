//! Signs access tokens for the apps and the simulator of a local run, and for tests.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dispatch_api::worker_config::AuthConfig;
use dispatch_core::time::EpochMs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use ulid::Ulid;

/// Why a key or token cannot be created or read.
#[derive(Debug, Error)]
pub enum SigningError {
    #[error("cannot read or write the key file {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file has another format. Its content may be secret, so the error does not repeat it.
    #[error("cannot read the signing key {path}: the file is not a signing key")]
    Shape { path: PathBuf },
    #[error("cannot create or use the signing key: the cryptographic library rejected it")]
    Key,
}

/// The file of a signing key, with the issuer and audience of its tokens. It is secret, so it does not implement
/// `Debug`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyFile {
    kid: String,
    issuer: String,
    audience: String,
    /// PKCS #8 of a P-256 key, base64url.
    pkcs8: String,
}

/// The content of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims<'a> {
    /// `user#00001`, `driver#00001`, or any name for callers with the scope `payments` or `operations`.
    pub subject: &'a str,
    pub scopes: &'a [&'a str],
    pub lifetime: Duration,
}

/// A P-256 key of a local issuer. It is secret, so it does not implement `Debug`.
pub struct SigningKey {
    file: KeyFile,
    pair: EcdsaKeyPair,
}

impl SigningKey {
    /// Generates a key for an issuer whose tokens have the audience `audience`.
    pub fn generate(issuer: &str, audience: &str) -> Result<Self, SigningError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let document = document.map_err(|_| SigningError::Key)?;
        Self::from_file(KeyFile {
            kid: Ulid::generate().to_string(),
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            pkcs8: URL_SAFE_NO_PAD.encode(document.as_ref()),
        })
    }

    fn from_file(file: KeyFile) -> Result<Self, SigningError> {
        let pkcs8 = URL_SAFE_NO_PAD.decode(&file.pkcs8).map_err(|_| SigningError::Key)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8);
        Ok(Self { pair: pair.map_err(|_| SigningError::Key)?, file })
    }

    /// Reads a key that [`SigningKey::write`] wrote.
    pub fn read(path: &Path) -> Result<Self, SigningError> {
        let text = std::fs::read(path).map_err(|source| SigningError::File { path: path.to_owned(), source })?;
        // Serde's error could contain a part of the key.
        let file = serde_json::from_slice(&text).map_err(|_| SigningError::Shape { path: path.to_owned() })?;
        Self::from_file(file)
    }

    /// Writes the key to a new file that only its owner may read.
    pub fn write(&self, path: &Path) -> Result<(), SigningError> {
        let KeyFile { kid, issuer, audience, pkcs8 } = &self.file;
        let document = json!({ "kid": kid, "issuer": issuer, "audience": audience, "pkcs8": pkcs8 }).to_string();
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(document.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| SigningError::File { path: path.to_owned(), source })
    }

    /// The public key as a key document (RFC 7517).
    pub fn jwks(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.file.kid,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }] })
    }

    /// The configuration with which workers accept this key's tokens; `jwks_file` is the path of the public key.
    pub fn trusted_by(&self, jwks_file: &str) -> AuthConfig {
        AuthConfig {
            issuer: self.file.issuer.clone(),
            audiences: vec![self.file.audience.clone()],
            jwks_url: None,
            jwks_file: Some(jwks_file.to_owned()),
            claims: dispatch_api::worker_config::ClaimsConfig::default(),
        }
    }

    /// Issues a token that is valid from `now` on.
    pub fn token(&self, claims: &Claims<'_>, now: EpochMs) -> Result<String, SigningError> {
        let lifetime_s = i64::try_from(claims.lifetime.as_secs()).unwrap_or(i64::MAX);
        let issued = now.0.div_euclid(1000);
        self.sign(
            &json!({ "alg": "ES256", "typ": "JWT", "kid": self.file.kid }),
            &json!({
                "iss": self.file.issuer, "aud": self.file.audience, "sub": claims.subject,
                "scope": claims.scopes.join(" "), "iat": issued, "nbf": issued, "exp": issued.saturating_add(lifetime_s),
            }),
        )
    }

    /// Signs any header and claims, including invalid ones for tests.
    pub fn sign(&self, header: &impl Serialize, claims: &impl Serialize) -> Result<String, SigningError> {
        let part = |value: serde_json::Result<Vec<u8>>| value.map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        let header = part(serde_json::to_vec(header)).map_err(|_| SigningError::Key)?;
        let claims = part(serde_json::to_vec(claims)).map_err(|_| SigningError::Key)?;
        let signed = format!("{header}.{claims}");
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| SigningError::Key)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}
