//! The addresses of a run, as a file for shells: `. .local/seoul/env`.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::endpoints::{Endpoints, emulator_credentials};
use crate::state_dir::write_atomically;

/// Variables of a run. Tokens are not among them; `dispatch-local token` makes them with `DISPATCH_SIGNING_KEY`.
#[derive(Clone, Debug)]
pub(crate) struct EnvFile<'a> {
    pub(crate) endpoints: &'a Endpoints,
    /// Whether AWS is an emulator, whose credentials are no secret. Real ones are not written.
    pub(crate) emulated: bool,
    pub(crate) signing_key: &'a Path,
}

impl EnvFile<'_> {
    /// Writes the file. Only its owner may read it.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        write_atomically(path, self.text().as_bytes())
    }

    fn text(&self) -> String {
        let Endpoints { http, aws, region, redis, .. } = self.endpoints;
        let signing_key = self.signing_key.to_string_lossy();
        let mut text = String::new();
        let mut export = |name: &str, value: &str| {
            let quoted = value.replace('\'', r"'\''");
            let _ = writeln!(text, "export {name}='{quoted}'");
        };
        export("AWS_ENDPOINT_URL", aws);
        export("AWS_REGION", region);
        export("AWS_DEFAULT_REGION", region);
        if self.emulated {
            for (name, value) in emulator_credentials() {
                export(name, &value);
            }
        }
        export("REDIS_URL", redis);
        export("DISPATCH_API", http);
        export("DISPATCH_SIGNING_KEY", &signing_key);
        if self.emulated {
            text.push_str("unset AWS_PROFILE AWS_SESSION_TOKEN\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn endpoints() -> Endpoints {
        Endpoints {
            http: "http://127.0.0.1:8080".to_owned(),
            apps: "http://127.0.0.1:8000".to_owned(),
            admin: "http://127.0.0.1:9090".to_owned(),
            aws: "http://127.0.0.1:41234".to_owned(),
            region: "ap-northeast-2".to_owned(),
            redis: "redis://127.0.0.1:6379".to_owned(),
        }
    }

    #[test]
    fn a_shell_reads_the_file_and_only_its_owner_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        let key = dir.path().join("it's a folder/signing-key.json");
        EnvFile { endpoints: &endpoints(), emulated: true, signing_key: &key }.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let script = ". \"$0\"; printf '%s\\n' \"$AWS_ENDPOINT_URL\" \"$AWS_ACCESS_KEY_ID\" \"$DISPATCH_SIGNING_KEY\"";
        let shell = Command::new("sh").args(["-euc", script]).arg(&path).output().unwrap();
        let expected = format!("http://127.0.0.1:41234\ntest\n{}\n", key.display());
        assert_eq!(String::from_utf8(shell.stdout).unwrap(), expected);
    }

    #[test]
    fn a_real_account_keeps_its_credentials() {
        let text = EnvFile { endpoints: &endpoints(), emulated: false, signing_key: Path::new("key") }.text();
        assert!(!text.contains("ACCESS_KEY") && !text.contains("unset"), "{text}");
    }
}
