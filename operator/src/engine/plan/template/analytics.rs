//! Query access to the exports: a Glue table over the exported files and an Athena workgroup with a limit per query.
//!
//! A full export is stored under `<prefix>/AWSDynamoDB/<export id>/data/`. The table is partitioned by that id with
//! *injected* partition projection, so a query names its export (`WHERE export_id = '…'`): partitions need no
//! registration, exports are never mixed, and the manifests next to `data/` are not read as rows. Incremental exports
//! share `<prefix>/AWSDynamoDB/data/`.

use dispatch_api::dispatch_system::{ExportFormat, ExportType, QUERY_RESULTS_PREFIX};
use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use crate::engine::plan::template::bucket::BUCKET;
use crate::engine::plan::template::fragment::{Resource, TemplateFragment, reference, sub};
use crate::engine::plan::template::outputs;

const DATABASE: &str = "AnalyticsDatabase";
const WORKGROUP: &str = "AnalyticsWorkgroup";

/// Attributes of the entities (spec §6) for queries: strings, except [`NUMBERS`].
const TEXTS: [&str; 16] = [
    "PK",
    "SK",
    "EntityType",
    "userId",
    "driverId",
    "dispatchId",
    "status",
    "createdAt",
    "updatedAt",
    "completedAt",
    "date",
    "timestamp",
    "from",
    "to",
    "GSI1PK",
    "GSI2PK",
];
const NUMBERS: [&str; 5] = ["estimatedFare", "actualFare", "fare", "distance", "duration"];

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    let Some(analytics) = system.spec.export.analytics.as_ref().filter(|analytics| analytics.enabled) else {
        return part;
    };
    part.resource(
        DATABASE,
        Resource::new(
            "AWS::Glue::Database",
            json!({
                "CatalogId": { "Ref": "AWS::AccountId" },
                "DatabaseInput": {
                    // Hive names must not contain dashes.
                    "Name": system.names.prefix.replace('-', "_"),
                    "Description": format!("Exports of {}", system.names.table),
                },
            }),
        ),
    );
    part.resource("AnalyticsTable", table(system));
    part.resource(WORKGROUP, workgroup(system, analytics.bytes_scanned_cutoff_per_query));
    part.output(outputs::ATHENA_WORKGROUP, &reference(WORKGROUP));
    part
}

fn workgroup(system: &ValidatedSystem, bytes_scanned_cutoff: u64) -> Resource {
    let encryption = match &system.spec.aws.kms_key_arn {
        Some(key) => json!({ "EncryptionOption": "SSE_KMS", "KmsKey": key }),
        None => json!({ "EncryptionOption": "SSE_S3" }),
    };
    Resource::new(
        "AWS::Athena::WorkGroup",
        json!({
            "Name": system.names.prefix,
            "Description": format!("Queries over the exports of {}", system.names.table),
            "RecursiveDeleteOption": true,
            "WorkGroupConfiguration": {
                "EnforceWorkGroupConfiguration": true,
                "PublishCloudWatchMetricsEnabled": true,
                "BytesScannedCutoffPerQuery": bytes_scanned_cutoff,
                "ResultConfiguration": {
                    "OutputLocation": sub(&format!("s3://${{{BUCKET}}}/{QUERY_RESULTS_PREFIX}/")),
                    "ExpectedBucketOwner": { "Ref": "AWS::AccountId" },
                    "EncryptionConfiguration": encryption,
                },
            },
        }),
    )
}

fn table(system: &ValidatedSystem) -> Resource {
    let export = &system.spec.export;
    let root = format!("s3://${{{BUCKET}}}/{}/AWSDynamoDB/", export.prefix);
    let full = export.export_type == ExportType::Full;
    let parameters = if full {
        json!({
            "EXTERNAL": "TRUE",
            "projection.enabled": "true",
            "projection.export_id.type": "injected",
            // In Fn::Sub, `${!…}` is a literal `${…}`, which Athena replaces.
            "storage.location.template": sub(&format!("{root}${{!export_id}}/data/")),
        })
    } else {
        json!({ "EXTERNAL": "TRUE" })
    };
    let location = if full { root } else { format!("{root}data/") };
    Resource::new(
        "AWS::Glue::Table",
        json!({
            "CatalogId": { "Ref": "AWS::AccountId" },
            "DatabaseName": reference(DATABASE),
            "TableInput": {
                "Name": "items",
                "Description": format!("Exported items of {}", system.names.table),
                "TableType": "EXTERNAL_TABLE",
                "Parameters": parameters,
                "PartitionKeys": full.then(|| json!([{ "Name": "export_id", "Type": "string" }])),
                "StorageDescriptor": storage(export.format, export.export_type, &location),
            },
        }),
    )
}

fn storage(format: ExportFormat, export_type: ExportType, location: &str) -> Value {
    let (input, output, library) = match format {
        ExportFormat::DynamoDbJson => (
            "org.apache.hadoop.mapred.TextInputFormat",
            "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
            "org.openx.data.jsonserde.JsonSerDe",
        ),
        ExportFormat::Ion => (
            "com.amazon.ionhiveserde.formats.IonInputFormat",
            "com.amazon.ionhiveserde.formats.IonOutputFormat",
            "com.amazon.ionhiveserde.IonHiveSerDe",
        ),
    };
    json!({
        "Columns": columns(format, export_type),
        "Compressed": true,
        "InputFormat": input,
        "OutputFormat": output,
        "Location": sub(location),
        "SerdeInfo": { "SerializationLibrary": library },
    })
}

/// One column for each member of an exported record. A full export has `Item`, an incremental one the images before and
/// after.
fn columns(format: ExportFormat, export_type: ExportType) -> Value {
    let item = item_type(format);
    let columns = match export_type {
        ExportType::Full => vec![("item", item)],
        ExportType::Incremental => {
            let written_at = struct_of(&[("writetimestampmicros".to_owned(), number(format))]);
            let keys = struct_of(&[("pk".to_owned(), text(format)), ("sk".to_owned(), text(format))]);
            vec![("metadata", written_at), ("keys", keys), ("newimage", item.clone()), ("oldimage", item)]
        }
    };
    columns.into_iter().map(|(name, kind)| json!({ "Name": name, "Type": kind })).collect()
}

/// Hive names are lower-case; the readers of both formats match attribute names regardless of case.
fn item_type(format: ExportFormat) -> String {
    let texts = TEXTS.iter().map(|name| (name.to_lowercase(), text(format)));
    let numbers = NUMBERS.iter().map(|name| (name.to_lowercase(), number(format)));
    struct_of(&texts.chain(numbers).collect::<Vec<_>>())
}

fn struct_of(members: &[(String, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(name, kind)| format!("{name}:{kind}")).collect();
    format!("struct<{}>", members.join(","))
}

/// DynamoDB JSON has a type descriptor around each value (`{"S": …}`); Ion has native types.
fn text(format: ExportFormat) -> String {
    match format {
        ExportFormat::DynamoDbJson => "struct<s:string>".to_owned(),
        ExportFormat::Ion => "string".to_owned(),
    }
}

/// DynamoDB JSON writes numbers as strings (`{"N": "12000"}`).
fn number(format: ExportFormat) -> String {
    match format {
        ExportFormat::DynamoDbJson => "struct<n:string>".to_owned(),
        ExportFormat::Ion => "decimal(38,6)".to_owned(),
    }
}
