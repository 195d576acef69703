//! The issuer's public keys and their source.

use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dispatch_api::worker_config::AuthConfig;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Maximum length of a key id, bytes.
pub(super) const KEY_ID_BYTES_MAX: usize = 256;
/// Maximum keys of one issuer. Issuers have two or three during a rotation.
const KEYS_MAX: usize = 64;
/// Maximum length of a key document, bytes: 64 keys of 4096 bits with their certificates are smaller.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Age at which the keys are fetched again, while the old ones are still in use. A revoked key is accepted for this
/// long.
const REFRESH_AFTER: Duration = Duration::from_mins(10);
/// Minimum time between two fetches, so that tokens with unknown key ids cannot overload the issuer.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// The same for a process without keys, which refuses every request until it has some: a worker that was started during
/// an outage of the issuer serves a second after its end.
const ASK_WITHOUT_KEYS_EVERY: Duration = Duration::from_secs(1);
/// Timeout of a fetch. The request that waits for it has ten seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// The algorithm of a name from RFC 7518. `None` for all others, including `none` and those with shared secrets.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A public key, which has exactly one algorithm.
#[derive(Clone)]
pub(super) enum PublicKey {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point of P-256.
    Ec(Vec<u8>),
    Ed(Vec<u8>),
}

/// The members of a JSON Web Key that are used here.
#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    kty: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl PublicKey {
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_) => Algorithm::Rs256,
            Self::Ec(_) => Algorithm::Es256,
            Self::Ed(_) => Algorithm::EdDsa,
        }
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            // RSA keys of less than 2048 bits never verify.
            Self::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Self::Ec(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature),
            Self::Ed(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }

    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let bytes = |member: &Option<String>| URL_SAFE_NO_PAD.decode(member.as_ref()?).ok();
        let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Self::Rsa(RsaPublicKeyComponents { n: bytes(&jwk.n)?, e: bytes(&jwk.e)? }),
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
                (x.len() == 32 && y.len() == 32).then(|| Self::Ec([vec![4], x, y].concat()))?
            }
            ("OKP", Some("Ed25519")) => Self::Ed(bytes(&jwk.x).filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let said = jwk.alg.as_deref().map(Algorithm::of_name);
        (said.is_none() || said == Some(Some(key.algorithm()))).then_some(key)
    }
}

/// Keys by their ids.
type KeySet = BTreeMap<String, PublicKey>;

/// Reads a key document. Keys of other types and uses are skipped, because issuers also publish keys for other
/// purposes.
fn read_keys(document: &[u8]) -> Result<KeySet, KeysError> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Value>,
    }
    let Document { keys } = serde_json::from_slice(document).map_err(KeysError::Document)?;
    let mut set = KeySet::new();
    for jwk in keys.into_iter().take(KEYS_MAX) {
        let Ok(jwk) = serde_json::from_value::<Jwk>(jwk) else { continue };
        let id = jwk.kid.clone().filter(|kid| (1..=KEY_ID_BYTES_MAX).contains(&kid.len()));
        if let Some((id, key)) = id.zip(PublicKey::from_jwk(&jwk)) {
            set.entry(id).or_insert(key);
        }
    }
    if set.is_empty() { Err(KeysError::Empty) } else { Ok(set) }
}

/// Why the issuer's keys are not available.
#[derive(Debug, Error)]
pub enum KeysError {
    #[error("cannot read the issuer's keys from {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot create the HTTP client for the issuer's keys")]
    Client(#[source] reqwest::Error),
    #[error("cannot fetch the issuer's keys")]
    Fetch(#[source] reqwest::Error),
    #[error("cannot fetch the issuer's keys: the response has the status {0}")]
    Status(u16),
    #[error("cannot read the issuer's keys: the document is too long")]
    TooLong,
    #[error("cannot read the issuer's keys: the document is not valid")]
    Document(#[source] serde_json::Error),
    #[error("cannot use the issuer's keys: the document has no key for RS256, ES256 or EdDSA")]
    Empty,
    #[error("neither auth.jwksUrl nor auth.jwksFile is set")]
    Nowhere,
}

/// The source of the issuer's keys.
pub struct KeySource(Place);

enum Place {
    /// Keys that were read once and never change.
    Fixed(KeySet),
    /// A URL from which the keys are fetched.
    Address { client: reqwest::Client, url: String },
}

impl KeySource {
    /// The configured source.
    pub fn from_config(config: &AuthConfig) -> Result<Self, KeysError> {
        match (&config.jwks_file, &config.jwks_url) {
            (Some(file), _) => Self::file(Path::new(file)),
            (None, Some(url)) => Self::address(url),
            (None, None) => Err(KeysError::Nowhere),
        }
    }

    /// A fixed key document (RFC 7517).
    pub fn document(document: &[u8]) -> Result<Self, KeysError> {
        Ok(Self(Place::Fixed(read_keys(document)?)))
    }

    fn file(path: &Path) -> Result<Self, KeysError> {
        let document = std::fs::read(path).map_err(|source| KeysError::File { path: path.to_owned(), source })?;
        Self::document(&document)
    }

    /// Exactly this URL: redirects are not followed.
    fn address(url: &str) -> Result<Self, KeysError> {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(ANSWER_WITHIN);
        let builder = if url.starts_with("http://") { builder.no_proxy().tls_certs_only([]) } else { builder };
        let client = builder.build().map_err(KeysError::Client)?;
        Ok(Self(Place::Address { client, url: url.to_owned() }))
    }
}

/// The cached keys.
#[derive(Default)]
struct CachedKeys {
    keys: Arc<KeySet>,
    /// When they were fetched; `None` before the first fetch.
    read: Option<Instant>,
}

/// The keys of an issuer. They are fetched again when they are old or a token names an unknown key, and stay in use
/// while the issuer is unavailable.
#[derive(Clone)]
pub(super) struct Keys(Arc<Shared>);

struct Shared {
    source: KeySource,
    known: RwLock<CachedKeys>,
    /// When the last fetch started. Its lock allows one fetch at a time.
    asked: Mutex<Option<Instant>>,
}

impl From<KeySource> for Keys {
    fn from(source: KeySource) -> Self {
        let known = match &source.0 {
            Place::Fixed(keys) => CachedKeys { keys: Arc::new(keys.clone()), read: Some(Instant::now()) },
            Place::Address { .. } => CachedKeys::default(),
        };
        Self(Arc::new(Shared { source, known: RwLock::new(known), asked: Mutex::new(None) }))
    }
}

impl Keys {
    /// The cached key with an id. Fails if no keys were ever fetched.
    pub(super) fn find(&self, id: &str) -> Result<Option<PublicKey>, KeysError> {
        let (keys, read) = self.known();
        let key = keys.get(id);
        if key.is_some() && read.is_some_and(|read| read.elapsed() >= REFRESH_AFTER) && self.may_be_asked() {
            let keys = self.clone();
            // The task is bounded by the timeout of a fetch, and `asked` allows one fetch in 30 s.
            tokio::spawn(async move { keys.ask(read).await });
        }
        if read.is_none() { Err(KeysError::Empty) } else { Ok(key.cloned()) }
    }

    /// Whether a key with this id is cached.
    pub(super) fn has(&self, id: &str) -> bool {
        self.known().0.contains_key(id)
    }

    /// Fetches the keys, or waits for a fetch in progress. If the last fetch is too recent, does neither.
    pub(super) async fn fetch(&self) {
        let (_, read) = self.known();
        self.ask(read).await;
    }

    /// Fetches the keys if none are known.
    pub(super) async fn reach(&self) -> Result<(), KeysError> {
        let Place::Address { client, url } = &self.0.source.0 else { return Ok(()) };
        let mut asked = self.0.asked.lock().await;
        if self.known().1.is_some() {
            return Ok(());
        }
        *asked = Some(Instant::now());
        let keys = fetch(client, url).await?;
        *self.0.known.write() = CachedKeys { keys: Arc::new(keys), read: Some(Instant::now()) };
        Ok(())
    }

    fn known(&self) -> (Arc<KeySet>, Option<Instant>) {
        let known = self.0.known.read();
        (Arc::clone(&known.keys), known.read)
    }

    /// Whether a fetch may start: none is in progress, and the last one is long enough ago.
    fn may_be_asked(&self) -> bool {
        self.0.asked.try_lock().is_ok_and(|asked| !self.was_asked(*asked))
    }

    /// Whether the end of the last fetch is too recent for another one.
    fn was_asked(&self, asked: Option<Instant>) -> bool {
        let interval = if self.known().1.is_some() { ASK_EVERY } else { ASK_WITHOUT_KEYS_EVERY };
        asked.is_some_and(|at| at.elapsed() < interval)
    }

    /// Fetches the keys, unless another task has done so since `seen` or the last fetch is too recent. If the fetch
    /// fails, the cached keys stay.
    async fn ask(&self, seen: Option<Instant>) {
        let Place::Address { client, url } = &self.0.source.0 else { return };
        let mut asked = self.0.asked.lock().await;
        if self.known().1 != seen || self.was_asked(*asked) {
            return;
        }
        *asked = Some(Instant::now());
        let fetched = fetch(client, url).await;
        // Those who waited meanwhile do not wait for a fetch of their own.
        *asked = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                let known = CachedKeys { keys: Arc::new(keys), read: Some(Instant::now()) };
                *self.0.known.write() = known;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "cannot refresh the issuer's keys; the cached keys stay in use");
            }
        }
    }
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<KeySet, KeysError> {
    let mut response = client.get(url).send().await.map_err(KeysError::Fetch)?;
    // A redirect can have a body too.
    if response.status() != reqwest::StatusCode::OK {
        return Err(KeysError::Status(response.status().as_u16()));
    }
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(KeysError::Fetch)? {
        if document.len() + chunk.len() > DOCUMENT_BYTES_MAX {
            return Err(KeysError::TooLong);
        }
        document.extend_from_slice(&chunk);
    }
    read_keys(&document)
}
