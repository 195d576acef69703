//! Names of calls to the in-memory account.

/// The AWS operation of a call to the in-memory account.
pub(super) fn operation(call: &str) -> &str {
    match call {
        "describe" => "DescribeStacks",
        "create_change_set" => "CreateChangeSet",
        "change_set" => "DescribeChangeSet",
        "change_sets" => "ListChangeSets",
        "execute" => "ExecuteChangeSet",
        "discard" => "DeleteChangeSet",
        "delete" => "DeleteStack",
        "events_since" => "DescribeStackEvents",
        "resources" => "ListStackResources",
        "table" => "DescribeTable",
        "table_tags" => "ListTagsOfResource",
        "tag_table" => "TagResource",
        "expiry" => "DescribeTimeToLive",
        "correct_table" => "UpdateTable",
        "recovery" => "DescribeContinuousBackups",
        "enable_recovery" => "UpdateContinuousBackups",
        "push_exists" => "GetPlatformApplicationAttributes",
        "create_push" => "CreatePlatformApplication",
        "update_push" => "SetPlatformApplicationAttributes",
        "delete_push" => "DeletePlatformApplication",
        "cache" => "DescribeReplicationGroups",
        "queue" | "queue_depth" => "GetQueueAttributes",
        "correct_queue" => "SetQueueAttributes",
        "bucket_tags" => "GetBucketTagging",
        "tag_bucket" => "PutBucketTagging",
        "remove_versions" => "DeleteObjects",
        "account" => "GetCallerIdentity",
        other => other,
    }
}
