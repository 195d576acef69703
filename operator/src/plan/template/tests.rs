//! Tests of the template as a whole.

use std::path::Path;
use std::process::Command;

use dispatch_api::dispatch_system::{DispatchSystem, DispatchSystemSpec};
use dispatch_api::validate::ValidatedSystem;

use super::*;

const SEOUL: &str = "
city: seoul
region: ap-northeast-2
timezone: Asia/Seoul
aws: { tags: { team: dispatch } }
table: { deletionProtection: false }
dispatch: { offerTimeoutSeconds: 15 }
deletionPolicy: Delete
";

const PRODUCTION: &str = "
city: busan
region: ap-northeast-2
timezone: Asia/Seoul
aws:
  accountId: '123456789012'
  permissionsBoundaryArn: arn:aws:iam::123456789012:policy/dispatch-boundary
  kmsKeyArn: arn:aws:kms:ap-northeast-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab
  tags: { team: dispatch, cost-center: '4711' }
table:
  billing: { mode: Provisioned, read: { min: 100, max: 2000 }, write: { min: 100, max: 1000 } }
queues:
  offers: { retentionSeconds: 3600, visibilityTimeoutSeconds: 30, maxReceiveCount: 5 }
notifications: { fcm: { serviceAccountSecretRef: { name: fcm, key: service-account.json } } }
cache:
  nodeType: cache.r7g.large
  replicas: 2
  subnetIds: [subnet-0a1b2c3d4e5f60718, subnet-0a1b2c3d4e5f60719]
  securityGroupIds: [sg-0a1b2c3d4e5f60718]
  authSecretRef: { name: redis, key: auth-token }
export: { schedule: '0 4 * * *', retentionDays: 730, analytics: {} }
api:
  gateway:
    enabled: true
    upstream:
      vpcLink:
        subnetIds: [subnet-0a1b2c3d4e5f60718, subnet-0a1b2c3d4e5f60719]
        securityGroupIds: [sg-0a1b2c3d4e5f60718]
        listenerArn: arn:aws:elasticloadbalancing:ap-northeast-2:123456789012:listener/net/workers/50dc6c495c0c9188/f2f7dc8efc522ab2
    jwt: { issuer: 'https://login.example.com/', audiences: [dispatch] }
";

const EXTERNAL_CACHE: &str = "
city: jeju
region: ap-northeast-2
timezone: Asia/Seoul
cache: { external: { url: 'rediss://redis.example.com:6379' }, authSecretRef: { name: redis, key: auth-token } }
export: { type: Incremental, format: Ion, analytics: {} }
api:
  gateway:
    enabled: true
    upstream: { url: 'https://workers.example.com' }
    jwt: { issuer: 'https://login.example.com/', audiences: [dispatch] }
";

fn system(name: &str, spec: &str) -> ValidatedSystem {
    let spec: DispatchSystemSpec = serde_yaml::from_str(spec).unwrap();
    let mut raw = DispatchSystem::new(name, spec);
    raw.metadata.namespace = Some("cities".to_owned());
    ValidatedSystem::try_from_raw(&raw).unwrap_or_else(|errors| panic!("{name}: {errors}"))
}

fn seoul() -> ValidatedSystem {
    system("seoul", SEOUL)
}

fn production() -> ValidatedSystem {
    system("busan", PRODUCTION)
}

fn external_cache() -> ValidatedSystem {
    system("jeju", EXTERNAL_CACHE)
}

fn all() -> [(&'static str, Template); 3] {
    [("seoul", seoul()), ("production", production()), ("external_cache", external_cache())]
        .map(|(name, system)| (name, render(&system)))
}

#[test]
fn every_template_is_known_to_the_last_byte() {
    for (name, template) in all() {
        insta::assert_snapshot!(name, template.to_json_pretty());
    }
}

#[test]
fn every_template_passes_cfn_lint_without_a_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut lint = Command::new(root.join("tests/cfn-lint.sh"));
    for (name, template) in all() {
        let file = folder.path().join(format!("{name}.json"));
        std::fs::write(&file, template.to_json()).unwrap();
        lint.arg(file);
    }
    let output = lint.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
