//! The desired input of the stack: the rendered template with its parameters, tags and digests. Pure.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use dispatch_api::dispatch_system::{CACHE_SECRET_FIELD, DriftPolicy, FCM_SECRET_FIELD, SecretKeyRef};
use dispatch_api::validate::ValidatedSystem;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cloud::stack::StackDescription;
use crate::cloud::{ChangeKind, ResourceChange};
use crate::engine::arn::ArnBase;
use crate::engine::error::EngineError;
use crate::engine::plan::digests::{RECORD, SECRETS_DIGEST, TEMPLATE_DIGEST};
use crate::engine::plan::hex;
use crate::engine::plan::monthly_cost::cost_of_change;
use crate::engine::plan::ownership::{Adoption, Owner};
use crate::engine::plan::recreation::Blueprint;
use crate::engine::plan::template::{self, MAX_BODY_BYTES, TemplateError};
use crate::engine::secrets::Secrets;

/// The desired input of the stack.
#[derive(Clone, Debug)]
pub struct StackInput {
    /// AWS account of the stack.
    pub account: String,
    /// Name of the stack.
    pub stack: String,
    /// Template with the digests among its outputs, as JSON.
    pub body: String,
    /// Values of the template's parameters.
    pub parameters: BTreeMap<String, SecretString>,
    /// Parameters that keep the stack's current value.
    pub unchanged: Vec<&'static str>,
    pub tags: BTreeMap<String, String>,
    /// The validated FCM service account key.
    pub fcm: Option<SecretString>,
    /// Every resource of the template, for the plan of a stack that does not exist.
    pub resources: Vec<ResourceChange>,
    pub(super) template: Value,
    pub(super) template_digest: String,
    pub(super) secrets_digest: String,
    former_secrets_digest: String,
    pub(super) owner: Owner,
    pub(super) drift_policy: DriftPolicy,
}

impl StackInput {
    /// Renders the template for an account and collects the secrets that the spec names.
    pub fn new(system: &ValidatedSystem, secrets: &Secrets, account: &str) -> Result<Self, EngineError> {
        let spec = &system.spec;
        let fcm = spec.notifications.fcm.as_ref().map(|fcm| &fcm.service_account_secret_ref);
        let fcm = fcm.map(|reference| find(secrets, FCM_SECRET_FIELD, reference)).transpose()?;
        if let Some(account) = &fcm {
            check_service_account(account)?;
        }
        let mut parameters = BTreeMap::new();
        for name in template::parameters(system) {
            if let (template::CACHE_AUTH_TOKEN, Some(reference)) = (name, &spec.cache.auth_secret_ref) {
                let token = find(secrets, CACHE_SECRET_FIELD, reference)?;
                check_auth_token(&token)?;
                parameters.insert(name.to_owned(), token);
            }
        }
        let all = all_secrets(&parameters, fcm.as_ref());
        let prefix = &system.names.prefix;
        let secrets_digest = all.as_ref().map_or_else(no_secrets, |all| slow_digest(account, prefix, all));
        let former_secrets_digest = all.as_ref().map_or_else(no_secrets, |all| former_digest(prefix, all));
        let unchanged = Vec::new();
        let given = SecretInput { parameters, unchanged, fcm, secrets_digest, former_secrets_digest };
        Self::assemble(system, account, given)
    }

    /// The desired input without the secrets, which are assumed to be those already applied. The stack keeps their
    /// values.
    pub fn without_secrets(
        system: &ValidatedSystem,
        found: Option<&StackDescription>,
        account: &str,
    ) -> Result<Self, EngineError> {
        let on_record = found.and_then(|stack| stack.outputs.get(SECRETS_DIGEST)).cloned().unwrap_or_default();
        Self::assemble(
            system,
            account,
            SecretInput {
                former_secrets_digest: on_record.clone(),
                secrets_digest: on_record,
                unchanged: template::parameters(system),
                ..SecretInput::default()
            },
        )
    }

    fn assemble(system: &ValidatedSystem, account: &str, given: SecretInput) -> Result<Self, EngineError> {
        let SecretInput { parameters, unchanged, fcm, secrets_digest, former_secrets_digest } = given;
        let rendered = template::render_in(system, Some(account));
        rendered.check()?;
        let template_digest = rendered.hash();
        let mut body = rendered.body().clone();
        body["Resources"][RECORD] = json!({
            "Type": "AWS::CloudFormation::WaitConditionHandle",
            "Metadata": { TEMPLATE_DIGEST: template_digest, SECRETS_DIGEST: secrets_digest },
        });
        for (key, value) in [(TEMPLATE_DIGEST, &template_digest), (SECRETS_DIGEST, &secrets_digest)] {
            body["Outputs"][key] = json!({ "Value": value });
        }
        body.sort_all_objects();
        let text = body.to_string();
        if text.len() > MAX_BODY_BYTES {
            return Err(TemplateError::TooLarge { bytes: text.len(), limit: MAX_BODY_BYTES }.into());
        }
        Ok(Self {
            account: account.to_owned(),
            stack: system.names.stack.clone(),
            resources: resources(&body),
            body: text,
            template: body,
            parameters,
            unchanged,
            tags: rendered.tags().clone(),
            fcm,
            template_digest,
            secrets_digest,
            former_secrets_digest,
            owner: Owner::new(system),
            drift_policy: system.spec.drift_policy,
        })
    }

    /// Tags of the stack: those of the spec, and the owner's.
    pub fn stack_tags(&self, found: Option<&StackDescription>) -> BTreeMap<String, String> {
        self.tags.iter().map(|(k, v)| (k.clone(), v.clone())).chain(self.owner.tags(found)).collect()
    }

    /// What deleted resources of a stack are created from; `None` if its ARN cannot be read.
    pub fn blueprint<'a>(&'a self, stack: &'a StackDescription) -> Option<Blueprint<'a>> {
        let base = ArnBase::parse(&stack.arn)?;
        Some(Blueprint { template: &self.template, tags: self.stack_tags(Some(stack)), base })
    }

    /// Why the engine must not change a stack.
    pub fn refusal(&self, found: Option<&StackDescription>, adoption: &Adoption) -> Option<String> {
        found.and_then(|stack| self.owner.refusal(stack, adoption))
    }

    /// Whether a stack has these secrets, by the digest among its outputs. A digest of an earlier version counts as
    /// well; the next update replaces it.
    pub(super) fn has_secrets(&self, recorded: Option<&String>) -> bool {
        recorded.is_some_and(|recorded| *recorded == self.secrets_digest || *recorded == self.former_secrets_digest)
    }

    /// Digest of the whole input.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(format!("{} {}", self.template_digest, self.secrets_digest)))
    }
}

#[derive(Default)]
struct SecretInput {
    parameters: BTreeMap<String, SecretString>,
    unchanged: Vec<&'static str>,
    fcm: Option<SecretString>,
    secrets_digest: String,
    former_secrets_digest: String,
}

fn find(secrets: &Secrets, field: &'static str, reference: &SecretKeyRef) -> Result<SecretString, EngineError> {
    secrets.get(reference).cloned().ok_or_else(|| EngineError::SecretMissing {
        field,
        name: reference.name.clone(),
        key: reference.key.clone(),
    })
}

/// Digest of a system that names no secret.
fn no_secrets() -> String {
    "none".to_owned()
}

/// All secrets of a system as one text; `None` without secrets.
fn all_secrets(parameters: &BTreeMap<String, SecretString>, fcm: Option<&SecretString>) -> Option<SecretString> {
    let parameters = parameters.iter().map(|(name, value)| (name.as_str(), value));
    let all = parameters.chain(fcm.map(|account| ("fcm", account)));
    let text = all.fold(String::new(), |text, (name, value)| text + "\n" + name + "=" + value.expose_secret());
    (!text.is_empty()).then(|| SecretString::from(text))
}

/// Rounds of the digest. Everyone who may describe the stack can test guesses of an AUTH token that a person chose, at
/// this price for each: some 50 ms. The operator pays it once in each reconcile of a system with secrets.
const DIGEST_ROUNDS: NonZeroU32 = match NonZeroU32::new(200_000) {
    Some(rounds) => rounds,
    None => NonZeroU32::MIN,
};

/// PBKDF2-HMAC-SHA256 (RFC 8018), salted with account and stack: cities with the same key have different digests, and
/// no table of digests serves two of them. The salt is not random, because a plan and its approval, computed by
/// different processes, must have the same id.
fn slow_digest(account: &str, prefix: &str, all: &SecretString) -> String {
    let mut digest = [0; 32];
    let salt = format!("coactus-dispatch secrets {account}/{prefix}");
    let secret = all.expose_secret().as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, DIGEST_ROUNDS, salt.as_bytes(), secret, &mut digest);
    hex(&digest)
}

/// The digest of earlier versions, a single SHA-256.
fn former_digest(prefix: &str, all: &SecretString) -> String {
    hex(&Sha256::digest(format!("{prefix}{}", all.expose_secret())))
}

/// A Firebase service account key is a JSON object of type `service_account` (Google Cloud, "Service account keys").
fn check_service_account(account: &SecretString) -> Result<(), EngineError> {
    let refuse = |reason: String| Err(EngineError::SecretInvalid { field: FCM_SECRET_FIELD, reason });
    let Ok(Value::Object(key)) = serde_json::from_str(account.expose_secret()) else {
        return refuse("it is not a JSON object; FCM requires the whole key file of a service account".to_owned());
    };
    let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("type") != "service_account" {
        return refuse("its `type` is not `service_account`".to_owned());
    }
    match ["project_id", "private_key", "client_email", "token_uri"].into_iter().find(|name| text(name).is_empty()) {
        Some(name) => refuse(format!("it has no `{name}`")),
        None => Ok(()),
    }
}

/// ElastiCache's rule for AUTH tokens (API reference, `CreateReplicationGroup`, `AuthToken`).
fn check_auth_token(token: &SecretString) -> Result<(), EngineError> {
    let token = token.expose_secret();
    let good = |c: char| c.is_ascii_alphanumeric() || template::AUTH_TOKEN_SYMBOLS.contains(c);
    if (16..=128).contains(&token.len()) && token.chars().all(good) {
        return Ok(());
    }
    let symbols = template::AUTH_TOKEN_SYMBOLS;
    let reason = format!("an AUTH token has 16 to 128 letters, digits and {symbols}; `openssl rand -hex 32` makes one");
    Err(EngineError::SecretInvalid { field: CACHE_SECRET_FIELD, reason })
}

fn resources(body: &Value) -> Vec<ResourceChange> {
    let Some(resources) = body["Resources"].as_object() else { return Vec::new() };
    resources
        .iter()
        .map(|(logical_id, resource)| ResourceChange {
            cost: cost_of_change(ChangeKind::Add, &Value::Null, resource),
            ..ResourceChange::added(logical_id, resource["Type"].as_str().unwrap_or_default())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::comparison::Comparison;
    use crate::engine::plan::Input;
    use crate::testing::{fcm_key, system};

    const ACCOUNT: &str = "000000000000";

    #[test]
    fn the_template_carries_the_digests_of_its_input() {
        let desired = StackInput::new(&system(), &Secrets::default(), ACCOUNT).expect("no secrets needed");
        let body: Value = serde_json::from_str(&desired.body).expect("JSON");
        assert_eq!(body["Outputs"][SECRETS_DIGEST]["Value"], "none");
        assert_eq!(body["Outputs"][TEMPLATE_DIGEST]["Value"], desired.template_digest);
        assert_eq!(Comparison::new(&desired, None).input, Input::Different);
        assert!(desired.resources.iter().any(|r| r.resource_type == "AWS::DynamoDB::Table"));
    }

    #[test]
    fn a_missing_secret_is_named_by_field_name_and_key() {
        let mut system = system();
        system.spec.notifications.fcm = Some(dispatch_api::dispatch_system::FcmSpec {
            service_account_secret_ref: SecretKeyRef { name: "fcm".to_owned(), key: "account.json".to_owned() },
        });
        let error = StackInput::new(&system, &Secrets::default(), ACCOUNT).expect_err("no secret given");
        assert_eq!(
            error.to_string(),
            "spec.notifications.fcm.serviceAccountSecretRef names secret fcm/account.json, which was not provided"
        );
        let mut secrets = Secrets::default();
        secrets.insert("fcm", "account.json", fcm_key());
        let desired = StackInput::new(&system, &secrets, ACCOUNT).expect("provided");
        assert!(!format!("{desired:?}").contains("BEGIN"), "a secret is shown");
        assert_ne!(desired.secrets_digest, "none");
    }

    #[test]
    fn the_digest_of_secrets_is_slow_and_one_of_an_earlier_version_counts() {
        let secrets = |token: &str| {
            let mut secrets = Secrets::default();
            secrets.insert("cache", "token", SecretString::from(token));
            secrets
        };
        let mut system = system();
        system.spec.cache.auth_secret_ref = Some(SecretKeyRef { name: "cache".to_owned(), key: "token".to_owned() });
        let input = |token: &str, account: &str| StackInput::new(&system, &secrets(token), account).expect("a token");
        let (one, other) = (input("hunter2-hunter2-hunter2", ACCOUNT), input("hunter3-hunter3-hunter3", ACCOUNT));
        // What earlier versions recorded for this token: printf 'coactus-default-seoul\nCacheAuthToken=…' | sha256sum
        let former = hex(&Sha256::digest("coactus-default-seoul\nCacheAuthToken=hunter2-hunter2-hunter2"));
        assert!(one.has_secrets(Some(&former)) && one.has_secrets(Some(&one.secrets_digest)));
        assert!(!other.has_secrets(Some(&former)) && !other.has_secrets(Some(&one.secrets_digest)));
        assert!(!one.has_secrets(None) && !one.has_secrets(Some(&"none".to_owned())));
        assert!(!one.body.contains(&former), "a digest that is cheap to guess from is published");
        assert_ne!(one.secrets_digest, input("hunter2-hunter2-hunter2", "111122223333").secrets_digest, "no salt");
        assert_eq!(one.hash(), input("hunter2-hunter2-hunter2", ACCOUNT).hash(), "a plan is the same in every process");
    }

    #[test]
    fn invalid_secrets_are_rejected_without_being_revealed() {
        for (text, why) in [
            ("hush-hush", "not a JSON object"),
            (r#"{"type":"user"}"#, "`type`"),
            (r#"{"type":"service_account","project_id":"p"}"#, "`private_key`"),
        ] {
            let error = check_service_account(&SecretString::from(text)).expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
        assert!(check_auth_token(&SecretString::from("short")).is_err());
        assert!(check_auth_token(&SecretString::from("sixteen-chars-or")).is_ok());
        assert!(check_auth_token(&SecretString::from("0aA!&#$^<>-0aA!&#")).is_ok());
        for other in (' '..='~').filter(|c| !c.is_ascii_alphanumeric() && !template::AUTH_TOKEN_SYMBOLS.contains(*c)) {
            let token = format!("sixteen-chars-or{other}");
            let error = check_auth_token(&SecretString::from(token.as_str())).expect_err(&token).to_string();
            assert!(!error.contains("sixteen"), "{error}");
        }
    }
}
