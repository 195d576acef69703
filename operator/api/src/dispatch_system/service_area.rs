//! `spec.dispatch.serviceArea`: where the city serves rides.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The area in which rides start and end. Changes reach running workers without a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.polygon) != has(self.multiPolygon)")
        .message("exactly one of polygon and multiPolygon is required")
        .field_path(".polygon")
        .reason(Reason::FieldValueInvalid),
)]
pub struct ServiceAreaSpec {
    /// Rings of one polygon: the outline, then holes. A ring has at least 4 positions `[longitude, latitude]` in
    /// degrees, of which the last repeats the first. An area that crosses the antimeridian needs `multiPolygon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polygon: Option<PolygonSpec>,
    /// Several polygons, each as in `polygon`. The area is their union. An area that crosses the antimeridian is cut
    /// into two polygons, which end at 180 and -180.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub multi_polygon: Option<Vec<PolygonSpec>>,
}

/// Rings of a polygon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolygonSpec(pub Vec<Vec<Vec<f64>>>);

impl JsonSchema for PolygonSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PolygonSpec".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// The derived schema has no bounds for inner lists.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array", "minItems": 1, "maxItems": 100,
            "items": {
                "type": "array", "minItems": 4, "maxItems": 2000,
                "items": {
                    "type": "array", "minItems": 2, "maxItems": 2,
                    "items": { "type": "number", "minimum": -180, "maximum": 180 },
                },
            },
        })
    }
}
