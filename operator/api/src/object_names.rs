//! Names of worker objects that the workers know as well. Without the feature `crd`, unlike `names`.

/// Name of the Deployment of a role and of its related objects.
pub fn role_object(system: &str, role: &str) -> String {
    format!("{system}-{role}")
}
