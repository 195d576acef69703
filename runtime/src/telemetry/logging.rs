//! Logging.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;
use crate::telemetry::AUDIT;

/// Default filter without `RUST_LOG`: the SDKs and the HTTP client log only warnings and errors.
const DEFAULT_FILTER: &str = "info,aws_config=warn,aws_smithy_runtime=warn,aws_sdk_sqs=warn,hyper=warn,hyper_util=warn";

/// Writes log lines to standard error. A second call has no effect.
pub fn init(format: LogFormat) {
    let given = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let lines = tracing_subscriber::fmt().with_env_filter(filter(given.as_deref())).with_writer(stderr);
    // The only possible failure is that a subscriber is already set.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// The filter of `RUST_LOG`. A level for all targets must not end the audit trail, so only a directive that names its
/// target applies to it.
fn filter(given: Option<&str>) -> EnvFilter {
    let given = given.filter(|text| !text.is_empty());
    let (text, filter) = match given.map(|text| (text, EnvFilter::try_new(text))) {
        Some((text, Ok(filter))) => (text, filter),
        _ => (DEFAULT_FILTER, EnvFilter::new(DEFAULT_FILTER)),
    };
    let names_audit = text.split(',').any(|directive| directive.trim().split(['=', '[']).next() == Some(AUDIT));
    match format!("{AUDIT}=info").parse() {
        Ok(directive) if !names_audit => filter.add_directive(directive),
        _ => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_for_all_targets_does_not_end_the_audit_trail() {
        for given in [None, Some(""), Some("warn"), Some("error,hyper=info"), Some("off"), Some("not a = filter")] {
            assert!(filter(given).to_string().contains("audit=info"), "{given:?}");
        }
        for given in ["warn,audit=off", "audit=warn"] {
            assert!(!filter(Some(given)).to_string().contains("audit=info"), "{given}");
        }
    }
}
