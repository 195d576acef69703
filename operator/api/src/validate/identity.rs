//! Immutable fields. The rules of the definition refuse such a change, but API servers before Kubernetes 1.25 store the
//! rules without enforcing them. The operator therefore compares each spec with the values that it recorded.

use super::{Findings, ValidatedSystem, ValidationErrors};
use crate::dispatch_system::IdentityStatus;

impl ValidatedSystem {
    /// Refuses a spec whose immutable fields differ from the recorded ones.
    pub fn keeps_identity(&self, recorded: &IdentityStatus) -> Result<(), ValidationErrors> {
        let spec = &self.spec;
        let mut found = Findings::default();
        let mut same = |path: &str, now: &str, was: &str| {
            if now != was {
                found.refuse(path, now, format!("the field is immutable; its value was {was}"));
            }
        };
        same("spec.city", &spec.city, &recorded.city);
        same("spec.region", &spec.region, &recorded.region);
        same("spec.timezone", &spec.timezone, &recorded.timezone);
        same("spec.currency", &spec.currency, &recorded.currency);
        same("spec.table.name", &self.names.table, &recorded.table_name);
        if let Some(account) = &recorded.account_id {
            same("spec.aws.accountId", spec.aws.account_id.as_deref().unwrap_or_default(), account);
        }
        found.finish()
    }

    /// The values to record. An account id that is set later is recorded later.
    pub fn identity(&self) -> IdentityStatus {
        IdentityStatus {
            city: self.spec.city.clone(),
            region: self.spec.region.clone(),
            timezone: self.spec.timezone.clone(),
            currency: self.spec.currency.clone(),
            table_name: self.names.table.clone(),
            account_id: self.spec.aws.account_id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;
    use serde_json::{Value, json};

    use super::*;

    fn system(change: &Value) -> ValidatedSystem {
        let mut spec = json!({ "city": "seoul", "region": "ap-northeast-2", "timezone": "Asia/Seoul" });
        for (field, value) in change.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let metadata = ObjectMeta { name: Some("seoul".to_owned()), ..ObjectMeta::default() };
        ValidatedSystem::of_object(&metadata, &spec).unwrap()
    }

    #[test]
    fn immutable_fields_are_refused_by_their_paths_and_others_are_not() {
        let recorded = system(&json!({})).identity();
        for (path, change) in [
            ("spec.city", json!({ "city": "busan" })),
            ("spec.region", json!({ "region": "us-east-1" })),
            ("spec.timezone", json!({ "timezone": "Asia/Tokyo" })),
            ("spec.currency", json!({ "currency": "USD" })),
            ("spec.table.name", json!({ "table": { "name": "another" } })),
        ] {
            let errors = system(&change).keeps_identity(&recorded).unwrap_err();
            assert_eq!(errors.0.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), [path]);
        }
        assert_eq!(system(&json!({ "suspend": true })).keeps_identity(&recorded), Ok(()));
    }

    #[test]
    fn an_account_id_can_be_set_once() {
        let named = system(&json!({ "aws": { "accountId": "111122223333" } }));
        assert_eq!(named.keeps_identity(&system(&json!({})).identity()), Ok(()));
        let errors = system(&json!({})).keeps_identity(&named.identity()).unwrap_err();
        assert_eq!(
            errors.to_string(),
            "spec.aws.accountId: an empty string is not allowed: the field is immutable; its value was 111122223333"
        );
    }
}
