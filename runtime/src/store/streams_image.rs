//! Stream records.

use std::collections::HashMap;

use aws_sdk_dynamodbstreams::types::AttributeValue;

use super::convert::{Codec, DISPATCH, ItemError};
use super::keys;
use crate::port::StoredDispatch;

/// The `NewImage` or `OldImage` of a stream record.
pub type StreamImage = HashMap<String, AttributeValue>;

/// The dispatch in the image of a stream record; `None` where the image is of another kind of item. An image that says it is a
/// dispatch and cannot be read is an error: the record is to be reported and passed over, since it will never become readable.
pub fn from_stream_image(codec: &Codec, image: StreamImage) -> Result<Option<StoredDispatch>, ItemError> {
    let is = |name: &str, value: &str| matches!(image.get(name), Some(AttributeValue::S(text)) if text == value);
    if !is("EntityType", DISPATCH) || !is("SK", keys::DISPATCH_SK) {
        return Ok(None);
    }
    codec.read_dispatch(image).map(Some)
}
