//! Tokens that are accepted, and the many that are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use parking_lot::Mutex;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dispatch_api::worker_config::AuthConfig;
use dispatch_core::time::EpochMs;
use dispatch_dev_keys::{Claims, SigningKey};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::keys::KeySource;
use super::{AuthError, Authenticator};
use crate::ports::Clock as _;
use crate::ports::clock::SystemClock;

const NOW_S: i64 = 1_750_000_000;
const NOW: EpochMs = EpochMs(NOW_S * 1000);

fn key() -> SigningKey {
    SigningKey::generate("https://login.example.com", "dispatch").unwrap()
}

fn trusting(key: &SigningKey) -> Authenticator {
    Authenticator::with_keys(&key.trusted_by("unused"), KeySource::document(key.jwks().to_string().as_bytes()).unwrap())
}

fn good_claims() -> Value {
    json!({
        "iss": "https://login.example.com", "aud": "dispatch", "sub": "user#00001", "scope": "openid user",
        "iat": NOW_S, "nbf": NOW_S, "exp": NOW_S + 600,
    })
}

fn kid(key: &SigningKey) -> String {
    key.jwks()["keys"][0]["kid"].as_str().unwrap().to_owned()
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    match member {
        Value::Null => drop(value.as_object_mut().unwrap().remove(name)),
        member => value[name] = member,
    }
    value
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[tokio::test]
async fn every_kind_of_invalid_token_is_rejected() {
    let (key, stranger) = (key(), key());
    let authenticator = trusting(&key);
    let header = json!({ "alg": "ES256", "typ": "JWT", "kid": kid(&key) });
    let claims = good_claims();
    authenticator.authenticate(&key.sign(&header, &claims).unwrap(), NOW).await.unwrap();

    let mut refused: Vec<(&str, String)> = Vec::new();
    for (what, member, value) in [
        ("alg none", "alg", json!("none")),
        ("alg in capitals", "alg", json!("NONE")),
        ("alg of a shared secret", "alg", json!("HS256")),
        ("alg of another kind of key", "alg", json!("RS256")),
        ("no alg", "alg", Value::Null),
        ("unknown kid", "kid", json!("another")),
        ("no kid", "kid", Value::Null),
        ("kid that is no text", "kid", json!(1)),
        ("jku", "jku", json!("https://evil.example.com/keys")),
        ("jwk", "jwk", stranger.jwks()["keys"][0].clone()),
        ("x5u", "x5u", json!("https://evil.example.com/cert")),
        ("x5c", "x5c", json!(["MIIB"])),
        ("crit", "crit", json!(["exp"])),
        ("b64", "b64", json!(false)),
    ] {
        refused.push((what, key.sign(&with(header.clone(), member, value), &claims).unwrap()));
    }
    for (what, member, value) in [
        ("wrong iss", "iss", json!("https://evil.example.com")),
        ("iss with a slash more", "iss", json!("https://login.example.com/")),
        ("no iss", "iss", Value::Null),
        ("wrong aud", "aud", json!("another-app")),
        ("aud that begins like ours", "aud", json!("dispatch-admin")),
        ("list of wrong auds", "aud", json!(["a", "b"])),
        ("aud of another type", "aud", json!({"dispatch": true})),
        ("no aud", "aud", Value::Null),
        ("expired", "exp", json!(NOW_S - 61)),
        ("no exp", "exp", Value::Null),
        ("exp as a text", "exp", json!("2999-01-01")),
        ("nbf of the future", "nbf", json!(NOW_S + 61)),
        ("iat of the future", "iat", json!(NOW_S + 3600)),
        ("no sub", "sub", Value::Null),
        ("empty sub", "sub", json!("")),
        ("sub of another type", "sub", json!(7)),
        ("endless sub", "sub", json!("x".repeat(300))),
        ("no scope", "scope", Value::Null),
        ("scope that only contains ours", "scope", json!("superuser users user2")),
        ("driver's scope with a user's id", "scope", json!("driver")),
        ("sub that is no id", "sub", json!("user#a/b")),
    ] {
        refused.push((what, key.sign(&header, &with(claims.clone(), member, value)).unwrap()));
    }
    let good = key.sign(&header, &claims).unwrap();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let unsigned = format!("{}.{}.", encoded(&with(header.clone(), "alg", json!("none"))), encoded(&claims));
    let forged = with(claims.clone(), "sub", json!("user#00002"));
    refused.extend([
        ("no signature", unsigned),
        ("stranger's signature", stranger.sign(&header, &claims).unwrap()),
        ("changed claims", format!("{}.{}.{signature}", encoded(&header), encoded(&forged))),
        ("cut signature", format!("{signed}.{}", &signature[..signature.len() - 4])),
        ("padding", format!("{good}=")),
        ("four parts", format!("{good}.x")),
        ("two parts", signed.to_owned()),
        ("nothing", String::new()),
        ("no base64", "a*b.c.d".to_owned()),
        ("too long", format!("{signed}{}.{signature}", "A".repeat(10_000))),
        ("claims that are a list", key.sign(&header, &json!([1])).unwrap()),
    ]);
    for (what, token) in &refused {
        let answer = authenticator.authenticate(token, NOW).await;
        assert!(matches!(answer, Err(AuthError::Refused(_))), "{what}: {answer:?}");
    }
    assert_eq!(refused.len(), 46);
}

#[tokio::test]
async fn tokens_for_other_purposes_are_rejected() {
    let key = key();
    let authenticator = trusting(&key);
    let header = json!({ "alg": "ES256", "typ": "JWT", "kid": kid(&key) });
    let answer = async |header: &Value, claims: &Value| {
        authenticator.authenticate(&key.sign(header, claims).unwrap(), NOW).await.is_ok()
    };
    for good in [json!("JWT"), json!("jwt"), json!("at+jwt"), json!("application/at+JWT"), Value::Null] {
        assert!(answer(&with(header.clone(), "typ", good.clone()), &good_claims()).await, "{good}");
    }
    for bad in [
        json!("logout+jwt"),
        json!("application/logout+jwt"),
        json!("dpop+jwt"),
        json!("id+jwt"),
        json!("JWTX"),
        json!("application/"),
        json!("application/서울"),
        json!(""),
        json!(1),
        json!(["JWT"]),
    ] {
        assert!(!answer(&with(header.clone(), "typ", bad.clone()), &good_claims()).await, "{bad}");
    }
    assert!(answer(&header, &with(good_claims(), "token_use", json!("access"))).await);
    for bad in [json!("id"), json!("refresh"), json!("Access"), json!(""), json!(1), json!(["access"])] {
        assert!(!answer(&header, &with(good_claims(), "token_use", bad.clone())).await, "{bad}");
    }
    let mut claims = good_claims();
    claims["token_use"] = Value::Null;
    assert!(!answer(&header, &claims).await);
}

/// A token of these JSON texts.
fn token_of_texts(key: &SigningKey, header: &str, claims: &str) -> String {
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    key.sign(&raw(header), &raw(claims)).unwrap()
}

#[tokio::test]
async fn a_name_that_occurs_twice_in_a_token_is_rejected() {
    let key = key();
    let authenticator = trusting(&key);
    let (kid, claims) = (kid(&key), good_claims().to_string());
    let header = format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{kid}"}}"#);
    authenticator.authenticate(&token_of_texts(&key, &header, &claims), NOW).await.unwrap();
    let twice = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    for (header, claims) in [
        (header.clone(), twice(&claims, r#""sub":"user#00002""#)),
        (header.clone(), twice(&claims, r#""sub":"user#00001""#)),
        (header.clone(), twice(&claims, r#""scope":"operations""#)),
        (header.clone(), twice(&claims, r#""s\u0075b":"user#00002""#)),
        (header.clone(), twice(&claims, r#""x":1,"x":1"#)),
        (twice(&header, r#""alg":"none""#), claims.clone()),
        (twice(&header, r#""kid":"another""#), claims.clone()),
        (twice(&header, r#""x":1,"x":1"#), claims.clone()),
        (format!(r#"["ES256","{kid}"]"#), claims.clone()),
        (twice(&header, r#""jku":null"#), claims.clone()),
    ] {
        let answer = authenticator.authenticate(&token_of_texts(&key, &header, &claims), NOW).await;
        assert!(matches!(answer, Err(AuthError::Refused(_))), "{header} {claims}: {answer:?}");
    }
}

#[tokio::test]
async fn a_public_key_cannot_be_used_as_a_shared_secret() {
    let key = key();
    let jwk = key.jwks()["keys"][0].clone();
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": kid(&key) });
    let signed = format!("{}.{}", encoded(&header), encoded(&good_claims()));
    for secret in [jwk.to_string(), jwk["x"].as_str().unwrap().to_owned()] {
        let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        let tag = URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&hmac, signed.as_bytes()));
        let answer = trusting(&key).authenticate(&format!("{signed}.{tag}"), NOW).await;
        assert_eq!(answer, Err(AuthError::Refused("the algorithm is not allowed")));
    }
}

#[tokio::test]
async fn clocks_may_differ_by_a_minute_and_no_more() {
    let key = key();
    let authenticator = trusting(&key);
    let claims = Claims { subject: "driver#00001", scopes: &["driver"], lifetime: Duration::from_mins(10) };
    let token = key.token(&claims, NOW).unwrap();
    for (offset_s, good) in [(-61, false), (-60, true), (0, true), (659, true), (660, false)] {
        let answer = authenticator.authenticate(&token, EpochMs(NOW.0 + offset_s * 1000)).await;
        assert_eq!(answer.is_ok(), good, "{offset_s} s");
    }
}

#[tokio::test]
async fn claims_are_read_as_configured() {
    let key = key();
    let mut config = key.trusted_by("unused");
    config.claims.id = "custom:dispatch_id".to_owned();
    config.claims.scopes = "cognito:groups".to_owned();
    config.claims.operations = "dispatchers".to_owned();
    let source = || KeySource::document(key.jwks().to_string().as_bytes()).unwrap();
    let authenticator = Authenticator::with_keys(&config, source());
    let header = json!({ "alg": "ES256", "kid": kid(&key) });
    // Like an access token of Cognito: no audience, groups as a list, a subject that is not an id.
    let mut claims = json!({
        "iss": "https://login.example.com", "client_id": "dispatch", "sub": "b5a3-7e", "exp": NOW_S + 600,
        "cognito:groups": ["user", "driver"], "custom:dispatch_id": "00001", "scope": "operations dispatchers",
    });
    let both = authenticator.authenticate(&key.sign(&header, &claims).unwrap(), NOW).await.unwrap();
    assert_eq!(both.subject, "b5a3-7e");
    assert_eq!(both.user.unwrap().as_str(), "user#00001");
    assert_eq!(both.driver.unwrap().as_str(), "driver#00001");
    assert!(!both.operations, "the standard claim is not used");
    claims["cognito:groups"] = json!(["dispatchers"]);
    let staff = authenticator.authenticate(&key.sign(&header, &claims).unwrap(), NOW).await.unwrap();
    assert!(staff.operations && staff.user.is_none() && staff.driver.is_none());
    claims["client_id"] = json!("another");
    assert!(authenticator.authenticate(&key.sign(&header, &claims).unwrap(), NOW).await.is_err());
}

#[tokio::test]
async fn each_kind_of_key_has_exactly_one_algorithm() {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    // PKCS #1: a sequence of the modulus, with a sign byte, and the exponent.
    let modulus = &rsa.public_key().as_ref()[9..265];
    let ed = Ed25519KeyPair::generate().unwrap();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let keys = json!({ "keys": [
        { "kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": part(modulus),
          "e": part(&[1, 0, 1]) },
        { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": part(ed.public_key().as_ref()) },
        { "kty": "OKP", "crv": "Ed25519", "kid": "for-encryption", "use": "enc", "x": part(ed.public_key().as_ref()) },
        { "kty": "RSA", "kid": "other-alg", "alg": "RS512", "n": "AQAB", "e": "AQAB" },
        { "kty": "oct", "kid": "secret", "k": "c2VjcmV0" }, { "kty": "EC", "crv": "P-521", "kid": "p521", "x": "AA", "y": "AA" },
        7, {},
    ] });
    let config = key().trusted_by("unused");
    let authenticator = Authenticator::with_keys(&config, KeySource::document(keys.to_string().as_bytes()).unwrap());
    let token = |alg: &str, kid: &str, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        let signed = format!("{}.{}", encoded(&json!({ "alg": alg, "kid": kid })), encoded(&good_claims()));
        let signature = sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let with_rsa = |message: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    };
    let with_ed = |message: &[u8]| ed.sign(message).as_ref().to_vec();
    authenticator.authenticate(&token("RS256", "rsa", &with_rsa), NOW).await.unwrap();
    authenticator.authenticate(&token("EdDSA", "ed", &with_ed), NOW).await.unwrap();
    for (alg, kid) in
        [("EdDSA", "rsa"), ("ES256", "ed"), ("EdDSA", "for-encryption"), ("RS256", "ed"), ("HS256", "secret")]
    {
        assert!(authenticator.authenticate(&token(alg, kid, &with_ed), NOW).await.is_err(), "{alg} {kid}");
    }
    assert!(KeySource::document(b"{\"keys\": [{\"kty\": \"oct\", \"kid\": \"a\", \"k\": \"eA\"}]}").is_err());
    assert!(KeySource::document(b"not json").is_err());
}

/// An issuer's key endpoint.
#[derive(Clone, Default)]
struct Issuer {
    document: Arc<Mutex<String>>,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    /// Publishes `key`, and returns an authenticator that fetches it.
    async fn start(key: &SigningKey) -> (Self, Authenticator) {
        let issuer = Self::default();
        issuer.publish(&[key]);
        issuer.answer(200);
        let routes = Router::new()
            .route("/keys", get(|State(issuer): State<Self>| async move { issuer.serve() }))
            .with_state(issuer.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let config = AuthConfig { jwks_url: Some(url), jwks_file: None, ..key.trusted_by("unused") };
        (issuer, Authenticator::new(&config).unwrap())
    }

    fn serve(&self) -> impl axum::response::IntoResponse + use<> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let status = StatusCode::from_u16(self.status.load(Ordering::SeqCst)).unwrap();
        (status, [("location", "/keys")], self.document.lock().clone())
    }

    fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwks()["keys"][0].clone()).collect();
        *self.document.lock() = json!({ "keys": keys }).to_string();
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Advances the clock of the runtime. It is paused only meanwhile, because connections of this test need real time.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn token_of(key: &SigningKey) -> String {
    let claims = Claims { subject: "user#00001", scopes: &["user"], lifetime: Duration::from_hours(24) };
    key.token(&claims, NOW).unwrap()
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_when_they_change() {
    let (old, new) = (key(), key());
    let (issuer, authenticator) = Issuer::start(&old).await;
    for _ in 0..20 {
        authenticator.authenticate(&token_of(&old), NOW).await.unwrap();
    }
    assert_eq!(issuer.asked(), 1);
    issuer.publish(&[&old, &new]);
    assert!(authenticator.authenticate(&token_of(&new), NOW).await.is_err(), "the last fetch is too recent");
    pass(Duration::from_secs(30)).await;
    authenticator.authenticate(&token_of(&new), NOW).await.unwrap();
    assert_eq!(issuer.asked(), 2);
    issuer.publish(&[&new]);
    pass(Duration::from_mins(10)).await;
    authenticator.authenticate(&token_of(&old), NOW).await.expect("old keys serve while new ones are fetched");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while authenticator.authenticate(&token_of(&old), NOW).await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "a revoked key is still accepted");
        tokio::task::yield_now().await;
    }
    assert_eq!(issuer.asked(), 3);
}

#[tokio::test]
async fn keys_stay_in_use_while_the_issuer_is_unavailable_and_no_redirect_is_followed() {
    let key = key();
    let (issuer, authenticator) = Issuer::start(&key).await;
    for status in [500, 302] {
        issuer.answer(status);
        let none = authenticator.authenticate(&token_of(&key), NOW).await;
        assert_eq!(none, Err(AuthError::NoKeys), "{status}: no token can be verified yet");
        pass(Duration::from_secs(30)).await;
    }
    assert_eq!(issuer.asked(), 2);
    issuer.answer(200);
    authenticator.authenticate(&token_of(&key), NOW).await.unwrap();
    issuer.answer(503);
    pass(Duration::from_hours(5)).await;
    for _ in 0..3 {
        authenticator.authenticate(&token_of(&key), NOW).await.expect("cached keys stay in use");
    }
    *issuer.document.lock() = "x".repeat(300 * 1024);
    issuer.answer(200);
    pass(Duration::from_secs(30)).await;
    authenticator.authenticate(&token_of(&key), NOW).await.expect("an oversized document changes nothing");
}

#[tokio::test]
async fn without_keys_the_issuer_is_asked_every_second() {
    let key = key();
    let (issuer, authenticator) = Issuer::start(&key).await;
    issuer.answer(503);
    for round in 1..=3 {
        for _ in 0..20 {
            assert_eq!(authenticator.authenticate(&token_of(&key), NOW).await, Err(AuthError::NoKeys));
        }
        assert!(issuer.asked() >= round && issuer.asked() <= round + 1, "{round}: asked {} times", issuer.asked());
        pass(Duration::from_secs(1)).await;
    }
    issuer.answer(200);
    authenticator.authenticate(&token_of(&key), NOW).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_fetch_in_half_a_minute() {
    let key = key();
    let (issuer, authenticator) = Issuer::start(&key).await;
    authenticator.authenticate(&token_of(&key), NOW).await.unwrap();
    let authenticator = Arc::new(authenticator);
    for round in 1..=3 {
        pass(Duration::from_secs(30)).await;
        let flood = (0..200).map(|n| {
            let token =
                key.sign(&json!({ "alg": "ES256", "kid": format!("kid-{round}-{n}") }), &good_claims()).unwrap();
            let authenticator = Arc::clone(&authenticator);
            tokio::spawn(async move { authenticator.authenticate(&token, NOW).await.is_err() })
        });
        for refused in futures::future::join_all(flood).await {
            assert!(refused.unwrap());
        }
        assert_eq!(issuer.asked(), 1 + round);
    }
    authenticator.authenticate(&token_of(&key), NOW).await.unwrap();
}

proptest! {
    #[test]
    fn arbitrary_text_is_rejected_without_a_panic(text in r"[A-Za-z0-9_.=-]{0,200}|\PC{0,100}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let authenticator = trusting(&key());
        prop_assert!(runtime.block_on(authenticator.authenticate(&text, NOW)).is_err());
    }
}

#[tokio::test]
async fn tokens_of_a_folders_key_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let first = dispatch_dev_keys::make(dir.path()).unwrap();
    let again = dispatch_dev_keys::make(dir.path()).unwrap();
    let workers = Authenticator::new(&again.auth).unwrap();
    let now = SystemClock.now();
    let user = workers.authenticate(&first.tokens.user, now).await.unwrap();
    assert_eq!(user.user.unwrap().as_str(), "user#00001");
    assert!(user.driver.is_none() && !user.operations);
    let operator = workers.authenticate(&again.tokens.operations, now).await.unwrap();
    assert!(operator.operations && operator.user.is_none());
    let secret = dir.path().join(dispatch_dev_keys::SIGNING_KEY);
    let claims = Claims { subject: "driver#7", scopes: &["driver"], lifetime: Duration::from_hours(1) };
    let minted = workers.authenticate(&dispatch_dev_keys::token(&secret, &claims).unwrap(), now).await.unwrap();
    assert_eq!(minted.driver.unwrap().as_str(), "driver#7");
    let other = dispatch_dev_keys::make(tempfile::tempdir().unwrap().path()).unwrap();
    assert!(workers.authenticate(&other.tokens.user, now).await.is_err(), "another folder has another key");
}
