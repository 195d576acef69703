//! The digests by which a later run recognises the input of a stack. They are outputs of the stack and metadata of one
//! resource.

/// Stack output with the digest of the template and tags last applied.
///
/// An output, not a tag: CloudFormation propagates a stack's tags to its resources, so a digest in a tag would change
/// every resource on every update. Outputs alone cannot be updated (user guide, "Outputs"), so the digests are also
/// metadata of [`RECORD`]: a new digest changes a resource, and the outputs follow.
pub const TEMPLATE_DIGEST: &str = "AppliedTemplateDigest";
/// Stack output with the digest of the secrets last applied.
pub const SECRETS_DIGEST: &str = "AppliedSecretsDigest";

/// Replaces the digest after an import, until the spec is applied to the imported data.
pub const IMPORTED: &str = "imported";
/// Logical id of the resource with the digests in its metadata. A wait condition handle creates nothing, costs nothing
/// and requires no permission.
pub const RECORD: &str = "AppliedInput";
