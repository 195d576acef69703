//! The filter of stream records, like the filter of an event source mapping.

use aws_sdk_dynamodbstreams::types::{AttributeValue, OperationType, Record};

use crate::ports::StoredDispatch;
use crate::store::{Codec, ItemError, StreamImage, from_stream_image};

/// The dispatch of an inserted or changed item if it waits for a driver: `REQUESTED` and without an open offer. Other
/// changes, including the algorithm's own offers, need no action here.
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

/// Checked before the whole image is converted: most records are of other items and other states.
fn is_requested(image: &StreamImage) -> bool {
    let is = |name: &str, value: &str| matches!(image.get(name), Some(AttributeValue::S(text)) if text == value);
    is("EntityType", "DISPATCH") && is("status", "REQUESTED")
}
