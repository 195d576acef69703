//! Rules of the code that derived schemas do not have. They are added to the OpenAPI document, so that it accepts
//! exactly what the code accepts.

use serde_json::{Value, json};
use utoipa::openapi::schema::{ArrayItems, Schema, SchemaType, Type};
use utoipa::openapi::{OpenApi, RefOr};

use super::strict_json::MAGNITUDE_MIN;
use super::validate::NAME_CHARS_MAX;
use super::visible_text;

/// Adds the rules to a document with all its schemas.
pub(super) fn add_to(document: &mut OpenApi) {
    let Some(components) = &mut document.components else { return };
    let pattern = visible_text::pattern();
    for (name, schema) in &mut components.schemas {
        let RefOr::T(Schema::Object(object)) = schema else { continue };
        for (property, schema) in &mut object.properties {
            if let RefOr::T(schema) = schema {
                of_property((name, property), schema, &pattern);
            }
        }
        if name == "CancelDispatch" {
            keyword(&mut object.extensions, "oneOf", one_party());
        }
    }
}

fn of_property((schema, property): (&str, &str), value: &mut Schema, pattern: &str) {
    match value {
        Schema::Object(object) => {
            let is_number = has_type(&object.schema_type, &Type::Number);
            if is_number && (object.minimum.is_some() || object.exclusive_minimum.is_some()) {
                keyword(&mut object.extensions, "not", too_small());
            }
            // Texts for people have a length and no other rule.
            if object.max_length.is_some() && object.pattern.is_none() {
                object.pattern = Some(pattern.to_owned());
            }
        }
        Schema::Array(array) => match (schema, property) {
            ("PutUser", "paymentMethods") => keyword(&mut array.extensions, "allOf", at_most_one_default()),
            ("DriverPreferences", "preferredRegions") => {
                if let ArrayItems::RefOrSchema(items) = &mut array.items
                    && let RefOr::T(Schema::Object(region)) = items.as_mut()
                {
                    (region.min_length, region.max_length) = (Some(1), Some(NAME_CHARS_MAX));
                    region.pattern = Some(pattern.to_owned());
                }
            }
            _ => {}
        },
        _ => {}
    }
}

fn has_type(given: &SchemaType, wanted: &Type) -> bool {
    match given {
        SchemaType::Type(one) => one == wanted,
        SchemaType::Array(all) => all.contains(wanted),
        SchemaType::AnyValue => false,
    }
}

/// Adds a keyword that the builder of schemas does not know. A schema gets one at most: their order would be random.
fn keyword(extensions: &mut Option<utoipa::openapi::extensions::Extensions>, name: &str, value: Value) {
    *extensions = Some(std::iter::once((name, value)).collect());
}

/// Numbers that cannot be stored: nearly zero. The bounds of each field exclude the large ones.
fn too_small() -> Value {
    json!({ "type": "number", "anyOf": [
        { "exclusiveMinimum": 0, "exclusiveMaximum": MAGNITUDE_MIN },
        { "exclusiveMinimum": -MAGNITUDE_MIN, "exclusiveMaximum": 0 },
    ] })
}

/// Either the user or the driver cancels.
fn one_party() -> Value {
    let only = |party: &str, other: &str| json!({ "required": [party], "properties": { party: { "type": "string" }, other: { "type": "null" } } });
    json!([only("userId", "driverId"), only("driverId", "userId")])
}

fn at_most_one_default() -> Value {
    let default = json!({ "required": ["isDefault"], "properties": { "isDefault": { "const": true } } });
    json!([{ "contains": default, "minContains": 0, "maxContains": 1 }])
}
