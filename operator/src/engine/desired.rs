//! The desired input of the stack: the rendered template with parameters and tags, and the digests by which a later run
//! recognises them. Pure.

use std::collections::BTreeMap;

use dispatch_api::dispatch_system::{DriftPolicy, SecretKeyRef};
use dispatch_api::validate::ValidatedSystem;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cloud::ResourceChange;
use crate::cloud::stack::{ChangeSetKind, ChangeSetRequest, OnExisting, StackDescription};
use crate::engine::error::EngineError;
use crate::engine::plan::indexes::IndexSteps;
use crate::engine::plan::ownership::{Adoption, Owner, Ownership};
use crate::engine::plan::template::{self, MAX_BODY_BYTES, TemplateError};
use crate::engine::plan::{Input, hex};
use crate::engine::secrets::Secrets;

/// Stack output with the digest of the template and tags last applied.
///
/// An output, not a tag: CloudFormation propagates a stack's tags to its resources, so a digest in a tag would change
/// every resource on every update. Outputs alone cannot be updated (user guide, "Outputs"), so the digests are also
/// metadata of [`RECORD`]: a new digest changes a resource, and the outputs follow.
pub const TEMPLATE_DIGEST: &str = "AppliedTemplateDigest";
/// Stack output with the digest of the secrets last applied.
pub const SECRETS_DIGEST: &str = "AppliedSecretsDigest";

/// Replaces the digest after an import, until the spec is applied to the imported data.
const IMPORTED: &str = "imported";
/// Logical id of the resource with the digests in its metadata. A wait condition handle creates nothing, costs nothing
/// and requires no permission.
pub const RECORD: &str = "AppliedInput";

/// Prefix of the names of this program's change sets.
pub(crate) const CHANGE_SET_PREFIX: &str = "coactus-";
pub(crate) const FCM_FIELD: &str = "spec.notifications.fcm.serviceAccountSecretRef";
const AUTH_FIELD: &str = "spec.cache.authSecretRef";

/// The desired input of the stack.
#[derive(Clone, Debug)]
pub struct Desired {
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
    template: Value,
    template_digest: String,
    secrets_digest: String,
    owner: Owner,
    drift_policy: DriftPolicy,
}

impl Desired {
    /// Renders the template for an account and collects the secrets that the spec names.
    pub fn of(system: &ValidatedSystem, secrets: &Secrets, account: &str) -> Result<Self, EngineError> {
        let spec = &system.spec;
        let fcm = spec.notifications.fcm.as_ref().map(|fcm| find(secrets, FCM_FIELD, &fcm.service_account_secret_ref));
        let fcm = fcm.transpose()?;
        if let Some(account) = &fcm {
            check_service_account(account)?;
        }
        let mut parameters = BTreeMap::new();
        for name in template::parameters(system) {
            if let (template::CACHE_AUTH_TOKEN, Some(reference)) = (name, &spec.cache.auth_secret_ref) {
                let token = find(secrets, AUTH_FIELD, reference)?;
                check_auth_token(&token)?;
                parameters.insert(name.to_owned(), token);
            }
        }
        let secrets_digest = digest_of_secrets(system, &parameters, fcm.as_ref());
        Self::assemble(system, account, Given { parameters, fcm, secrets_digest, unchanged: Vec::new() })
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
            Given { secrets_digest: on_record, unchanged: template::parameters(system), ..Given::default() },
        )
    }

    fn assemble(system: &ValidatedSystem, account: &str, given: Given) -> Result<Self, EngineError> {
        let Given { parameters, unchanged, fcm, secrets_digest } = given;
        let rendered = template::render_in(system, Some(account));
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
            owner: Owner::of(system),
            drift_policy: system.spec.drift_policy,
        })
    }

    /// Digest of the whole input.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(format!("{} {}", self.template_digest, self.secrets_digest)))
    }

    /// Whether a stack has this input, belongs to this system and, if drift is to be corrected, still has its tags.
    pub fn compare(&self, found: Option<&StackDescription>) -> Input {
        match self.applied(found) {
            Input::Applied if self.drift_policy == DriftPolicy::Correct && !self.tag_drift(found).is_empty() => {
                Input::Different
            }
            input => input,
        }
    }

    /// Tags that were removed from, or changed on, a stack with this input: the current and the desired value of each.
    /// Added tags are ignored, because an organisation may require them. Makes no call: the stack's description has
    /// them.
    pub fn tag_drift(&self, found: Option<&StackDescription>) -> Vec<String> {
        let Some(stack) = found.filter(|_| self.applied(found) == Input::Applied) else { return Vec::new() };
        let wanted = self.wanted_tags(found);
        let differing = wanted.iter().filter(|(key, value)| stack.tags.get(*key) != Some(*value));
        differing
            .map(|(key, value)| {
                let is = stack.tags.get(key).map_or("absent", String::as_str);
                format!("tag {key}: {is} instead of {value}")
            })
            .collect()
    }

    fn wanted_tags(&self, found: Option<&StackDescription>) -> BTreeMap<String, String> {
        self.tags.iter().map(|(k, v)| (k.clone(), v.clone())).chain(self.owner.tags(found)).collect()
    }

    /// Whether a stack has this input and belongs to this system.
    pub fn applied(&self, found: Option<&StackDescription>) -> Input {
        let on_record = |key: &str, digest: &String| found.is_some_and(|stack| stack.outputs.get(key) == Some(digest));
        let digests = [(TEMPLATE_DIGEST, &self.template_digest), (SECRETS_DIGEST, &self.secrets_digest)];
        if digests.into_iter().all(|(key, digest)| on_record(key, digest)) && self.owns(found) {
            Input::Applied
        } else {
            Input::Different
        }
    }

    /// Whether a stack has these secrets.
    pub fn secrets_applied(&self, found: Option<&StackDescription>) -> bool {
        found.is_some_and(|stack| stack.outputs.get(SECRETS_DIGEST) == Some(&self.secrets_digest))
    }

    /// Whether a stack carries this system's tags.
    pub fn owns(&self, found: Option<&StackDescription>) -> bool {
        found.is_some_and(|stack| self.owner.of_stack(stack) == Ownership::Ours)
    }

    /// Why the engine must not change a stack.
    pub fn refusal(&self, found: Option<&StackDescription>, adoption: Adoption) -> Option<String> {
        found.and_then(|stack| self.owner.refusal(stack, adoption))
    }

    /// The change set that creates the stack and imports the data that an earlier one retained.
    ///
    /// Imported resources get `Retain`, not `RetainExceptOnCreate`, so that a failed creation leaves them in place.
    /// Otherwise both policies mean the same, so the digests stay, unless the spec's policy is `Delete`: CloudFormation
    /// imports only resources with a retaining policy, so the next comparison has to find a difference. A table that
    /// lacks indexes is imported without them; they are added one by one.
    pub fn import(&self, found: Option<&StackDescription>, steps: Option<&IndexSteps>) -> ChangeSetRequest {
        let mut request = self.change_set(ChangeSetKind::Create, found);
        request.existing = OnExisting::Import;
        let mut body = self.template.clone();
        for id in template::DATA_RESOURCES {
            if body["Resources"][id]["DeletionPolicy"] == "Delete" {
                record(&mut body, IMPORTED);
            }
            body["Resources"][id]["DeletionPolicy"] = json!("Retain");
        }
        if let Some(steps) = steps {
            lack_indexes(&mut body, steps);
        }
        request.template = body.to_string();
        request.name.push_str("-import");
        request
    }

    /// Progress of the missing indexes of a stack's table; `None` if none is missing.
    pub fn index_steps(&self, found: Option<&StackDescription>) -> Option<IndexSteps> {
        found.and_then(|stack| stack.outputs.get(TEMPLATE_DIGEST)).and_then(|record| IndexSteps::read(record))
    }

    /// The change set that updates `found` to this input, or adds the next missing index of its table. Its name is
    /// derived from both, so that a run after an interrupted one finds the same change set.
    pub fn change_set(&self, kind: ChangeSetKind, found: Option<&StackDescription>) -> ChangeSetRequest {
        let living = found.filter(|_| kind == ChangeSetKind::Update);
        let base = living.map(|stack| format!("{} {:?}", stack.arn, stack.changed_at)).unwrap_or_default();
        let digest = hex(&Sha256::digest(format!("{} {base}", self.hash())));
        let lacking = self.index_steps(living).and_then(|steps| steps.after());
        let template = lacking.map_or_else(
            || self.body.clone(),
            |steps| {
                let mut body = self.template.clone();
                lack_indexes(&mut body, &steps);
                body.to_string()
            },
        );
        ChangeSetRequest {
            stack: self.stack.clone(),
            name: format!("{CHANGE_SET_PREFIX}{}", digest.get(..32).unwrap_or(&digest)),
            kind,
            template,
            parameters: self.parameters.clone(),
            unchanged: self.unchanged.clone(),
            capabilities: template::CAPABILITIES.to_vec(),
            tags: self.wanted_tags(found),
            existing: OnExisting::Refuse,
        }
    }
}

/// Replaces the template digest, so that the next comparison finds a difference.
fn record(body: &mut Value, text: &str) {
    body["Outputs"][TEMPLATE_DIGEST]["Value"] = json!(text);
    body["Resources"][RECORD]["Metadata"][TEMPLATE_DIGEST] = json!(text);
}

fn lack_indexes(body: &mut Value, steps: &IndexSteps) {
    template::without_indexes(body, &steps.missing());
    record(body, &steps.record());
}

#[derive(Default)]
struct Given {
    parameters: BTreeMap<String, SecretString>,
    unchanged: Vec<&'static str>,
    fcm: Option<SecretString>,
    secrets_digest: String,
}

fn find(secrets: &Secrets, field: &'static str, reference: &SecretKeyRef) -> Result<SecretString, EngineError> {
    secrets.get(reference).cloned().ok_or_else(|| EngineError::SecretMissing {
        field,
        name: reference.name.clone(),
        key: reference.key.clone(),
    })
}

/// Salted with the system's name, so that cities with the same key have different digests. The secrets are long random
/// keys, which a digest does not reveal.
fn digest_of_secrets(
    system: &ValidatedSystem,
    parameters: &BTreeMap<String, SecretString>,
    fcm: Option<&SecretString>,
) -> String {
    if parameters.is_empty() && fcm.is_none() {
        return "none".to_owned();
    }
    let mut digest = Sha256::new();
    digest.update(&system.names.prefix);
    for (name, value) in parameters {
        digest.update(format!("\n{name}="));
        digest.update(value.expose_secret());
    }
    if let Some(account) = fcm {
        digest.update("\nfcm=");
        digest.update(account.expose_secret());
    }
    hex(&digest.finalize())
}

/// A Firebase service account key is a JSON object of type `service_account` (Google Cloud, "Service account keys").
fn check_service_account(account: &SecretString) -> Result<(), EngineError> {
    let refuse = |reason: String| Err(EngineError::SecretInvalid { field: FCM_FIELD, reason });
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

/// ElastiCache's rule for AUTH tokens (user guide, "Authenticating with the Redis OSS AUTH command").
fn check_auth_token(token: &SecretString) -> Result<(), EngineError> {
    let token = token.expose_secret();
    let good = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '"' | '/');
    if (16..=128).contains(&token.len()) && token.chars().all(good) {
        return Ok(());
    }
    let reason = "an AUTH token requires 16 to 128 printable characters without space, `@`, `\"` and `/`".to_owned();
    Err(EngineError::SecretInvalid { field: AUTH_FIELD, reason })
}

fn resources(body: &Value) -> Vec<ResourceChange> {
    let Some(resources) = body["Resources"].as_object() else { return Vec::new() };
    resources
        .iter()
        .map(|(logical_id, resource)| ResourceChange::added(logical_id, resource["Type"].as_str().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fcm_key, system};

    const ACCOUNT: &str = "000000000000";

    #[test]
    fn the_template_carries_the_digests_of_its_input() {
        let desired = Desired::of(&system(), &Secrets::default(), ACCOUNT).expect("no secrets needed");
        let body: Value = serde_json::from_str(&desired.body).expect("JSON");
        assert_eq!(body["Outputs"][SECRETS_DIGEST]["Value"], "none");
        assert_eq!(body["Outputs"][TEMPLATE_DIGEST]["Value"], desired.template_digest);
        assert_eq!(desired.compare(None), Input::Different);
        assert!(desired.resources.iter().any(|r| r.resource_type == "AWS::DynamoDB::Table"));
    }

    #[test]
    fn a_missing_secret_is_named_by_field_name_and_key() {
        let mut system = system();
        system.spec.notifications.fcm = Some(dispatch_api::dispatch_system::FcmSpec {
            service_account_secret_ref: SecretKeyRef { name: "fcm".to_owned(), key: "account.json".to_owned() },
        });
        let error = Desired::of(&system, &Secrets::default(), ACCOUNT).expect_err("no secret given");
        assert_eq!(
            error.to_string(),
            "spec.notifications.fcm.serviceAccountSecretRef names secret fcm/account.json, which was not provided"
        );
        let mut secrets = Secrets::default();
        secrets.insert("fcm", "account.json", fcm_key());
        let desired = Desired::of(&system, &secrets, ACCOUNT).expect("provided");
        assert!(!format!("{desired:?}").contains("BEGIN"), "a secret is shown");
        assert_ne!(desired.secrets_digest, "none");
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
        assert!(check_auth_token(&SecretString::from("with a slash / in it")).is_err());
    }
}
