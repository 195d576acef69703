//! Options shared by several commands.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dispatch_api::dispatch_system::DeletionPolicy;

/// Settings of every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Endpoint of all AWS services, instead of the AWS endpoints.
    #[arg(long, global = true, value_name = "URL", env = "AWS_ENDPOINT_URL", hide_env_values = true)]
    pub endpoint_url: Option<String>,
    /// Filter of the log on stderr, for example `info` or `dispatch_operator=debug,aws_config=info`.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "DISPATCH_LOG",
        hide_env_values = true,
        default_value = "warn"
    )]
    pub log: String,
}

/// The manifests of a command.
#[derive(Args, Clone, Debug)]
pub struct Manifests {
    /// Manifest file (YAML or JSON) with one or more `DispatchSystem` objects or lists of them, or a folder with such
    /// files; `-` reads standard input. May be repeated; the systems are processed in order.
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// The secrets that a manifest names.
#[derive(Args, Clone, Debug)]
pub struct SecretFiles {
    /// Value of a secret that the manifest names, read from a file. May be repeated.
    #[arg(long = "secret", value_name = "NAME/KEY=FILE")]
    pub secrets: Vec<SecretFile>,
}

/// One `NAME/KEY=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    pub name: String,
    pub key: String,
    /// File that contains the value.
    pub file: PathBuf,
}

impl std::str::FromStr for SecretFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "expected NAME/KEY=FILE, for example fcm/service-account.json=./key.json";
        let (reference, file) = text.split_once('=').ok_or(form)?;
        let (name, key) = reference.split_once('/').ok_or(form)?;
        if name.is_empty() || key.is_empty() || file.is_empty() {
            return Err(form);
        }
        Ok(Self { name: name.to_owned(), key: key.to_owned(), file: file.into() })
    }
}

/// Deletion policy of table and bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum DataPolicy {
    /// Retain table and bucket.
    Retain,
    /// Delete table and bucket.
    Delete,
}

impl From<DataPolicy> for DeletionPolicy {
    fn from(policy: DataPolicy) -> Self {
        match policy {
            DataPolicy::Retain => Self::Retain,
            DataPolicy::Delete => Self::Delete,
        }
    }
}

/// Format of a result on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Human-readable text.
    #[default]
    Table,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// Format of a document on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DocumentFormat {
    /// YAML.
    #[default]
    Yaml,
    /// JSON.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_a_name_a_key_and_a_file() {
        let secret: SecretFile = "fcm/account.json=/run/key=1.json".parse().expect("a secret");
        assert_eq!((secret.name.as_str(), secret.key.as_str()), ("fcm", "account.json"));
        assert_eq!(secret.file, PathBuf::from("/run/key=1.json"));
        for wrong in ["fcm", "fcm=file", "/key=file", "fcm/key=", "fcm/=x"] {
            assert!(wrong.parse::<SecretFile>().is_err(), "{wrong}");
        }
    }
}
