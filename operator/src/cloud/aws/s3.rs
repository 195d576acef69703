//! The export bucket: tags (`GetBucketTagging`, `PutBucketTagging`) and emptying before deletion (`ListObjectVersions`
//! and `DeleteObjects`, both limited to 1,000 versions per call).

use async_trait::async_trait;
use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::BuildError;
use aws_sdk_s3::types::{Delete, ObjectIdentifier, Tag, Tagging};

use crate::cloud::aws::error::port_error;
use crate::cloud::ports::{Buckets, PortError, PortErrorKind, Removed};

const TAG: &str = "tag the bucket";
const REMOVE: &str = "empty the bucket";

pub(super) struct S3 {
    client: Client,
}

impl S3 {
    /// A custom endpoint gets path-style requests: bucket names are not host names there.
    pub(super) fn new(config: &SdkConfig) -> Self {
        let by_path = config.endpoint_url().is_some();
        let config = aws_sdk_s3::config::Builder::from(config).force_path_style(by_path).build();
        Self { client: Client::from_conf(config) }
    }
}

#[async_trait]
impl Buckets for S3 {
    async fn tags(&self, bucket: &str, owner: &str) -> Result<Option<BTreeMap<String, String>>, PortError> {
        let request = self.client.get_bucket_tagging().bucket(bucket).expected_bucket_owner(owner);
        let answer = match request.send().await {
            Ok(answer) => answer,
            // A bucket without tags is reported as an error (API reference, `GetBucketTagging`).
            Err(error) if error.as_service_error().is_some_and(|e| e.meta().code() == Some("NoSuchTagSet")) => {
                return Ok(Some(BTreeMap::new()));
            }
            Err(error) => match port_error("read the tags of the bucket", error) {
                error if error.kind == PortErrorKind::NotFound => return Ok(None),
                error => return Err(error),
            },
        };
        Ok(Some(answer.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect()))
    }

    async fn set_tags(&self, bucket: &str, owner: &str, tags: &BTreeMap<String, String>) -> Result<(), PortError> {
        let invalid = |error: BuildError| PortError::new(TAG, PortErrorKind::Invalid, error.to_string());
        // The call replaces all tags. S3 refuses it if a tag that AWS has set (`aws:…`) is missing or differs.
        let all = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        let all = all.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        let list = Tagging::builder().set_tag_set(Some(all)).build().map_err(invalid)?;
        let request = self.client.put_bucket_tagging().bucket(bucket).expected_bucket_owner(owner).tagging(list);
        request.send().await.map_err(|error| port_error(TAG, error))?;
        Ok(())
    }

    async fn remove_versions(&self, bucket: &str, owner: &str) -> Result<Removed, PortError> {
        let nothing = Removed { versions: 0, more: false };
        let request = self.client.list_object_versions().bucket(bucket).expected_bucket_owner(owner);
        let page = match request.send().await.map_err(|error| port_error(REMOVE, error)) {
            Ok(page) => page,
            Err(error) if error.kind == PortErrorKind::NotFound => return Ok(nothing),
            Err(error) => return Err(error),
        };
        let versions = page.versions().iter().map(|found| (found.key(), found.version_id()));
        let markers = page.delete_markers().iter().map(|found| (found.key(), found.version_id()));
        let objects = versions.chain(markers).filter_map(|(key, version)| {
            ObjectIdentifier::builder().key(key?).set_version_id(version.map(str::to_owned)).build().ok()
        });
        let objects: Vec<_> = objects.collect();
        if objects.is_empty() {
            return Ok(nothing);
        }
        let versions = objects.len();
        let list = Delete::builder().set_objects(Some(objects)).quiet(true).build();
        let list = list.map_err(|error| PortError::new(REMOVE, PortErrorKind::Invalid, error.to_string()))?;
        let request = self.client.delete_objects().bucket(bucket).expected_bucket_owner(owner).delete(list);
        let answer = request.send().await.map_err(|error| port_error(REMOVE, error))?;
        // S3 reports a result per object; a legal hold, for example, rejects only its own.
        if let Some(refused) = answer.errors().first() {
            let code = refused.code().unwrap_or("no code");
            let text = format!("{code}: {} objects were not removed", answer.errors().len());
            return Err(PortError::new(REMOVE, PortErrorKind::Denied, text));
        }
        Ok(Removed { versions, more: page.is_truncated().unwrap_or(false) })
    }
}
