//! Which records of the stream matter: the filter an event source mapping would have.

use aws_sdk_dynamodbstreams::types::{AttributeValue, OperationType, Record};

use crate::ports::StoredDispatch;
use crate::store::{Codec, ItemError, StreamImage, from_stream_image};

/// A dispatch that waits for a driver, in an inserted or changed item: `REQUESTED` and without a live offer. Everything else,
/// the algorithm's own offers included, is somebody else's turn.
pub(super) fn waiting_dispatch(codec: &Codec, record: &Record) -> Result<Option<StoredDispatch>, ItemError> {
    let written = matches!(record.event_name(), Some(OperationType::Insert | OperationType::Modify));
    let Some(image) = record.dynamodb().and_then(|change| change.new_image()).filter(|_| written) else {
        return Ok(None);
    };
    if !is_requested(image) {
        return Ok(None);
    }
    let stored = from_stream_image(codec, image.clone())?;
    Ok(stored.filter(|stored| !stored.state.has_live_offer()))
}

/// Looked at before the whole image is read: most records are of other items and other states.
fn is_requested(image: &StreamImage) -> bool {
    let is = |name: &str, value: &str| matches!(image.get(name), Some(AttributeValue::S(text)) if text == value);
    is("EntityType", "DISPATCH") && is("status", "REQUESTED")
}
