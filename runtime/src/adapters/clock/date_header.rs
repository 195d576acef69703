//! Reads the header `Date` of every answer of an AWS client.

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use dispatch_core::time::EpochMs;
use jiff::fmt::rfc2822::DateTimeParser;
use tokio::time::Instant;

use super::ComparedClock;

/// When an attempt was sent.
#[derive(Debug, Clone, Copy)]
struct SentAt(Instant);

impl Storable for SentAt {
    type Storer = StoreReplace<Self>;
}

/// Notes the `Date` of answers in a clock.
#[derive(Clone)]
pub(crate) struct DateHeaders(pub(crate) Arc<ComparedClock>);

impl fmt::Debug for DateHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DateHeaders")
    }
}

impl Intercept for DateHeaders {
    fn name(&self) -> &'static str {
        "DateHeaders"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(SentAt(Instant::now()));
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(parse_date);
        if let (Some(date), Some(SentAt(sent))) = (date, config.load::<SentAt>()) {
            self.0.note(date, *sent, Instant::now());
        }
        Ok(())
    }
}

/// The time in the header `Date` (RFC 9110, 5.6.7).
fn parse_date(text: &str) -> Option<EpochMs> {
    let parsed = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(EpochMs(parsed.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read_and_other_texts_are_not() {
        assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(EpochMs(784_111_777_000)));
        for text in ["", "now", "1994-11-06T08:49:37Z", "Sunday"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
