//! What is wanted of CloudFormation: the rendered template with its parameters and tags, and the digests by which a later look
//! knows them again. Pure.

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

/// Stack output that holds the digest of template and tags last applied.
///
/// An output and not a tag: CloudFormation hands a stack's tags on to its resources, so a digest in a tag would make every
/// update a change of every resource. Outputs cannot be updated by themselves (user guide, "Outputs"), so the digests are
/// metadata of [`RECORD`] too: whatever changes them is a change of a resource, and the outputs follow.
pub const TEMPLATE_DIGEST: &str = "AppliedTemplateDigest";
/// Stack output that holds the digest of the secrets last applied.
pub const SECRETS_DIGEST: &str = "AppliedSecretsDigest";

/// In place of a digest where data was taken in and the manifest is yet to be applied to it.
const IMPORTED: &str = "imported";
/// Logical id of the resource whose metadata are the digests. A wait condition's handle nobody waits for: it makes nothing, costs
/// nothing and needs no permission.
pub const RECORD: &str = "AppliedInput";

/// What the names of this program's change sets begin with.
pub(crate) const CHANGE_SET_PREFIX: &str = "coactus-";
pub(crate) const FCM_FIELD: &str = "spec.notifications.fcm.serviceAccountSecretRef";
const AUTH_FIELD: &str = "spec.cache.authSecretRef";

/// The wanted input of the stack.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Account the stack is in.
    pub account: String,
    /// Stack name.
    pub stack: String,
    /// Template body with the digests among its outputs.
    pub body: String,
    /// Values of the template's parameters.
    pub parameters: BTreeMap<String, SecretString>,
    /// Parameters that keep the value the stack has.
    pub unchanged: Vec<&'static str>,
    /// Stack tags.
    pub tags: BTreeMap<String, String>,
    /// The FCM service account, checked.
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
    /// Renders the template for an account and collects the secrets the manifest names.
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

    /// The wanted input as far as it can be known without the secrets: they are taken for those on record, and the stack keeps
    /// the values it has.
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

    /// Identity of the whole input.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(format!("{} {}", self.template_digest, self.secrets_digest)))
    }

    /// Whether a stack was last brought to this input, is this system's and, where drift is corrected, still has its tags.
    pub fn compare(&self, found: Option<&StackDescription>) -> Input {
        match self.applied(found) {
            Input::Applied if self.drift_policy == DriftPolicy::Correct && !self.tag_drift(found).is_empty() => {
                Input::Different
            }
            input => input,
        }
    }

    /// Tags that somebody has taken from a stack of this very input, or changed: what each is instead of what it should be. Tags that were
    /// added stay, because they may be those of an organisation. It costs no call: the stack is described with its tags.
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

    /// Whether a stack was last brought to this input, and is this system's.
    pub fn applied(&self, found: Option<&StackDescription>) -> Input {
        let on_record = |key: &str, digest: &String| found.is_some_and(|stack| stack.outputs.get(key) == Some(digest));
        let digests = [(TEMPLATE_DIGEST, &self.template_digest), (SECRETS_DIGEST, &self.secrets_digest)];
        if digests.into_iter().all(|(key, digest)| on_record(key, digest)) && self.owns(found) {
            Input::Applied
        } else {
            Input::Different
        }
    }

    /// Whether a stack was last brought to these secrets.
    pub fn secrets_applied(&self, found: Option<&StackDescription>) -> bool {
        found.is_some_and(|stack| stack.outputs.get(SECRETS_DIGEST) == Some(&self.secrets_digest))
    }

    /// Whether a stack carries this system's tags.
    pub fn owns(&self, found: Option<&StackDescription>) -> bool {
        found.is_some_and(|stack| self.owner.of_stack(stack) == Ownership::Ours)
    }

    /// Why a stack must be left alone.
    pub fn refusal(&self, found: Option<&StackDescription>, adoption: Adoption) -> Option<String> {
        found.and_then(|stack| self.owner.refusal(stack, adoption))
    }

    /// The change set that makes the stack and takes in what an earlier one has kept.
    ///
    /// What is taken in is marked `Retain` and not `RetainExceptOnCreate`, so that a creation that fails gives it back. Apart
    /// from that both mean the same, so the digests stay, unless the manifest wants the data deleted with the stack: CloudFormation
    /// takes in nothing that is not retained, and the next comparison has to find a difference.
    /// A table that lacks indexes is taken in as it is; they follow one by one.
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

    /// How far the indexes of a stack's table are; `None` where it lacks none.
    pub fn index_steps(&self, found: Option<&StackDescription>) -> Option<IndexSteps> {
        found.and_then(|stack| stack.outputs.get(TEMPLATE_DIGEST)).and_then(|record| IndexSteps::read(record))
    }

    /// The change set that brings `found` to this input, or its table one index nearer to it. Its name depends on both, so that the same comparison is made once,
    /// also by an operator that was stopped in the middle of it.
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

/// Puts something else in place of the digest, so that the next comparison finds a difference.
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

/// The digest is salted with the system's name, so that two cities with one key do not show it. The secrets are long random
/// keys, which a digest does not give away.
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
        return refuse("it is not a JSON object; FCM needs the whole key file of a service account".to_owned());
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
    let reason = "an AUTH token has 16 to 128 printable characters without space, `@`, `\"` and `/`".to_owned();
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
    fn the_template_carries_the_digests_and_the_system_knows_them_again() {
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
            "spec.notifications.fcm.serviceAccountSecretRef names secret fcm/account.json, which was not given"
        );
        let mut secrets = Secrets::default();
        secrets.insert("fcm", "account.json", fcm_key());
        let desired = Desired::of(&system, &secrets, ACCOUNT).expect("given");
        assert!(!format!("{desired:?}").contains("BEGIN"), "a secret is shown");
        assert_ne!(desired.secrets_digest, "none");
    }

    #[test]
    fn secrets_of_the_wrong_shape_are_refused_without_being_repeated() {
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
