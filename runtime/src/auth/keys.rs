//! The issuer's public keys, and the place they come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
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

/// Longest key id, bytes.
pub(super) const KEY_ID_BYTES_MAX: usize = 256;
/// Keys of one issuer at most; issuers have two or three, one of them coming or going.
const KEYS_MAX: usize = 64;
/// Longest document of keys, bytes: 64 keys of 4096 bits with their certificates have less.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Age at which keys are asked for again while they still serve: how long a key that was taken back is still believed.
const REFRESH_AFTER: Duration = Duration::from_mins(10);
/// Least time between two questions: strangers' key ids cannot make us bother the issuer more often.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// Longest wait for an answer. The token that waits for it has ten seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// The algorithm of a name of RFC 7518; `None` for every other one, `none` and those with shared secrets among them.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A public key, which signs in one way only.
#[derive(Clone)]
pub(super) enum PublicKey {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point of P-256.
    Ec(Vec<u8>),
    Ed(Vec<u8>),
}

/// The members of a JSON Web Key that matter here.
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
            // Keys of less than 2048 bits verify nothing.
            Self::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Self::Ec(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature),
            Self::Ed(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }

    fn of(jwk: &Jwk) -> Option<Self> {
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

/// Reads a document of keys. Those of other kinds and uses are left out: issuers publish keys for other purposes beside ours.
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
        if let Some((id, key)) = id.zip(PublicKey::of(&jwk)) {
            set.entry(id).or_insert(key);
        }
    }
    if set.is_empty() { Err(KeysError::Empty) } else { Ok(set) }
}

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("the keys cannot be read from {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client for keys cannot be made")]
    Client(#[source] reqwest::Error),
    /// The address does not answer.
    #[error("the keys cannot be fetched")]
    Fetch(#[source] reqwest::Error),
    /// The address answers something else than a document.
    #[error("the address of the keys answers with status {0}")]
    Status(u16),
    /// The document is too long.
    #[error("the document of keys is too long")]
    TooLong,
    /// The document cannot be read.
    #[error("the document of keys cannot be read")]
    Document(#[source] serde_json::Error),
    /// There is no key in it that we can use.
    #[error("the document has no key for RS256, ES256 or EdDSA")]
    Empty,
    /// The configuration names no place.
    #[error("no place of keys is configured")]
    Nowhere,
}

/// Where keys come from.
pub struct KeySource(Place);

enum Place {
    /// They were read, and stay.
    Fixed(KeySet),
    /// They are asked for there.
    Address { client: reqwest::Client, url: String },
}

impl KeySource {
    /// The configured place.
    pub fn of(config: &AuthConfig) -> Result<Self, KeysError> {
        match (&config.jwks_file, &config.jwks_url) {
            (Some(file), _) => Self::file(Path::new(file)),
            (None, Some(url)) => Self::address(url),
            (None, None) => Err(KeysError::Nowhere),
        }
    }

    /// A document of keys, RFC 7517.
    pub fn document(document: &[u8]) -> Result<Self, KeysError> {
        Ok(Self(Place::Fixed(read_keys(document)?)))
    }

    fn file(path: &Path) -> Result<Self, KeysError> {
        let document = std::fs::read(path).map_err(|source| KeysError::File { path: path.to_owned(), source })?;
        Self::document(&document)
    }

    /// This address and no other: it may not send us elsewhere either.
    fn address(url: &str) -> Result<Self, KeysError> {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(ANSWER_WITHIN);
        let builder = if url.starts_with("http://") { builder.no_proxy().tls_certs_only([]) } else { builder };
        let client = builder.build().map_err(KeysError::Client)?;
        Ok(Self(Place::Address { client, url: url.to_owned() }))
    }
}

/// The keys as they are known.
#[derive(Default)]
struct Known {
    keys: Arc<KeySet>,
    /// When they were read; `None` before the first time.
    read: Option<Instant>,
}

/// The keys of an issuer. They outlive its absence, and are asked for again when they are old or a token names an unknown one.
#[derive(Clone)]
pub(super) struct Keys(Arc<Shared>);

struct Shared {
    source: KeySource,
    known: RwLock<Known>,
    /// When the issuer was last asked, by whoever holds it: one asks at a time.
    asked: Mutex<Option<Instant>>,
}

impl From<KeySource> for Keys {
    fn from(source: KeySource) -> Self {
        let known = match &source.0 {
            Place::Fixed(keys) => Known { keys: Arc::new(keys.clone()), read: Some(Instant::now()) },
            Place::Address { .. } => Known::default(),
        };
        Self(Arc::new(Shared { source, known: RwLock::new(known), asked: Mutex::new(None) }))
    }
}

impl Keys {
    /// The key of an id; an error where no keys have ever been read.
    pub(super) async fn find(&self, id: &str) -> Result<Option<PublicKey>, KeysError> {
        let (keys, read) = self.known();
        if let Some(key) = keys.get(id) {
            if read.is_some_and(|read| read.elapsed() >= REFRESH_AFTER) && self.may_be_asked() {
                let keys = self.clone();
                // Bounded by the time of one answer; `asked` lets one through in half a minute.
                tokio::spawn(async move { keys.ask(read).await });
            }
            return Ok(Some(key.clone()));
        }
        self.ask(read).await;
        let (keys, read) = self.known();
        if read.is_none() { Err(KeysError::Empty) } else { Ok(keys.get(id).cloned()) }
    }

    fn known(&self) -> (Arc<KeySet>, Option<Instant>) {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&known.keys), known.read)
    }

    /// Whether asking is worth a task: nobody is asking, and it is not too soon.
    fn may_be_asked(&self) -> bool {
        self.0.asked.try_lock().is_ok_and(|asked| asked.is_none_or(|at| at.elapsed() >= ASK_EVERY))
    }

    /// Asks the issuer, unless somebody else did since `seen` or it is too soon. What is known stays where there is no answer.
    async fn ask(&self, seen: Option<Instant>) {
        let Place::Address { client, url } = &self.0.source.0 else { return };
        let mut asked = self.0.asked.lock().await;
        if self.known().1 != seen || asked.is_some_and(|at| at.elapsed() < ASK_EVERY) {
            return;
        }
        *asked = Some(Instant::now());
        match fetch(client, url).await {
            Ok(keys) => {
                let known = Known { keys: Arc::new(keys), read: Some(Instant::now()) };
                *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = known;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "the issuer's keys stay as they are");
            }
        }
    }
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<KeySet, KeysError> {
    let mut response = client.get(url).send().await.map_err(KeysError::Fetch)?;
    // A redirect, too, can have a body.
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
