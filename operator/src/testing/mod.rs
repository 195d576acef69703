//! Fixtures and in-memory adapters for tests (feature `testing`, never enabled in a release).
#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "test support: a wrong fixture must stop the test")]

mod exports;
mod fate;
pub mod flows;
mod world;

use std::collections::BTreeMap;

use dispatch_api::dispatch_system::BillingMode;
use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use secrecy::SecretString;

use crate::cloud::ports::ObservedTable;
use crate::cloud::stack::{StackDescription, StackState};
use crate::engine::plan::ownership::SYSTEM_TAG;
use crate::engine::plan::template;

pub use exports::FakeExports;
pub(crate) use fate::carry_out;
pub use fate::{Fate, Judge, Ledger};
pub use world::{BUCKET, CACHE, QUEUE, TABLE, TOPIC, World};

/// A minimal manifest.
pub const MANIFEST: &str = "\
apiVersion: dispatch.coactus.io/v1alpha1
kind: DispatchSystem
metadata:
  name: seoul
spec:
  city: seoul
  region: ap-northeast-2
  timezone: Asia/Seoul
";

/// The system of [`MANIFEST`].
pub fn system() -> ValidatedSystem {
    let systems = read_manifests(MANIFEST).expect("a manifest");
    ValidatedSystem::try_from_raw(&systems[0]).expect("a valid system")
}

/// A service account key with a valid structure and a dummy private key.
pub fn fcm_key() -> SecretString {
    let key = serde_json::json!({
        "type": "service_account",
        "project_id": "coactus-test",
        "private_key": "-----BEGIN PRIVATE KEY-----\nnot a key\n-----END PRIVATE KEY-----\n",
        "client_email": "push@coactus-test.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    SecretString::from(key.to_string())
}

/// The stack of [`system`] in a given state.
pub fn stack_in(state: &str) -> StackDescription {
    StackDescription {
        arn: "arn:aws:cloudformation:ap-northeast-2:000000000000:stack/coactus-default-seoul/1".to_owned(),
        state: StackState::parse(state),
        reason: None,
        outputs: BTreeMap::new(),
        changed_at: None,
        tags: BTreeMap::from([(SYSTEM_TAG.to_owned(), "default/seoul".to_owned())]),
    }
}

/// A table as the template creates it.
pub fn table_look(name: &str) -> ObservedTable {
    let arn = format!("arn:aws:dynamodb:ap-northeast-2:000000000000:table/{name}");
    ObservedTable {
        name: name.to_owned(),
        keys: template::table_keys()
            .map(|(index, keys)| (index.to_owned(), keys.map(str::to_owned).to_vec()))
            .collect(),
        building: Vec::new(),
        billing: BillingMode::OnDemand,
        stream_arn: Some(format!("{arn}/stream/1")),
        stream_view: Some("NEW_AND_OLD_IMAGES".to_owned()),
        deletion_protection: true,
        arn,
    }
}
