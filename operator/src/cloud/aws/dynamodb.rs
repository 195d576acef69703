//! Tables (`DescribeTable`, `DescribeTimeToLive`, `ListTagsOfResource`, `TagResource`, `UpdateTable`,
//! `UpdateTimeToLive`), continuous backups and exports (`DescribeContinuousBackups`, `UpdateContinuousBackups`,
//! `ExportTableToPointInTime`, `DescribeExport`, `ListExports`).

use async_trait::async_trait;
use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::primitives::DateTime;
use aws_sdk_dynamodb::types::{
    BillingMode as SdkBillingMode, ExportDescription, ExportFormat as SdkFormat, ExportType,
    GlobalSecondaryIndexUpdate, IncrementalExportSpecification, IndexStatus, KeySchemaElement, KeyType,
    PointInTimeRecoverySpecification, PointInTimeRecoveryStatus, ProvisionedThroughput, StreamSpecification,
    StreamViewType, TableDescription, Tag, TimeToLiveSpecification, TimeToLiveStatus, UpdateGlobalSecondaryIndexAction,
};
use dispatch_api::dispatch_system::{BillingMode, ExportFormat};
use jiff::Timestamp;

use crate::cloud::aws::error::port_error;
use crate::cloud::ports::{
    Export, ExportExtent, ExportRequest, Exports, ObservedTable, PortError, PortErrorKind, Recovery, TableCorrection,
    Tables, Throughput,
};
use crate::engine::plan::template::STREAM_VIEW;

/// Limit of pages of `ListExports`, with 25 exports each. DynamoDB lists 90 days; hourly exports need 87 pages.
const LIST_PAGES: usize = 100;
const CORRECT: &str = "update the table";
const TAG: &str = "tag the table";
const START: &str = "start an export";
const DESCRIBE: &str = "describe an export";

pub(super) struct DynamoDb {
    client: Client,
}

impl DynamoDb {
    pub(super) fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }

    /// Corrects what `UpdateTable` sets.
    async fn update(&self, table: &str, correction: &TableCorrection) -> Result<(), PortError> {
        let TableCorrection { deletion_protection, stream, billing, .. } = correction;
        if deletion_protection.is_none() && stream.is_none() && billing.is_none() {
            return Ok(());
        }
        let mut request = self.client.update_table().table_name(table);
        request = request.set_deletion_protection_enabled(*deletion_protection);
        if stream.is_some() {
            request = request.stream_specification(stream_of_both_images()?);
        }
        request = match billing {
            None => request,
            Some((None, _)) => request.billing_mode(SdkBillingMode::PayPerRequest),
            Some((Some(capacity), indexes)) => request
                .billing_mode(SdkBillingMode::Provisioned)
                .provisioned_throughput(throughput(*capacity)?)
                .set_global_secondary_index_updates(Some(
                    indexes.iter().map(|index| index_throughput(index, *capacity)).collect::<Result<_, _>>()?,
                )),
        };
        request.send().await.map_err(|error| port_error(CORRECT, error))?;
        Ok(())
    }
}

#[async_trait]
impl Exports for DynamoDb {
    async fn start(&self, request: &ExportRequest) -> Result<Export, PortError> {
        let mut call = self
            .client
            .export_table_to_point_in_time()
            .table_arn(&request.table_arn)
            .s3_bucket(&request.bucket)
            .s3_bucket_owner(&request.bucket_owner)
            .s3_prefix(&request.prefix)
            .client_token(&request.token)
            .export_format(match request.format {
                ExportFormat::DynamoDbJson => SdkFormat::DynamodbJson,
                ExportFormat::Ion => SdkFormat::Ion,
            });
        call = match request.extent {
            ExportExtent::Full => call.export_type(ExportType::FullExport),
            ExportExtent::Incremental { from, to } => {
                let period = IncrementalExportSpecification::builder()
                    .export_from_time(DateTime::from_secs(from.as_second()))
                    .export_to_time(DateTime::from_secs(to.as_second()))
                    .build();
                call.export_type(ExportType::IncrementalExport).incremental_export_specification(period)
            }
        };
        let answer = call.send().await.map_err(|error| port_error(START, error))?;
        read(START, answer.export_description)
    }

    async fn describe(&self, arn: &str) -> Result<Export, PortError> {
        let request = self.client.describe_export().export_arn(arn);
        let answer = request.send().await.map_err(|error| port_error(DESCRIBE, error))?;
        read(DESCRIBE, answer.export_description)
    }

    async fn list(&self, table_arn: &str) -> Result<Vec<String>, PortError> {
        let mut arns = Vec::new();
        let mut token = None;
        for _ in 0..LIST_PAGES {
            let request = self.client.list_exports().table_arn(table_arn).set_next_token(token);
            let page = request.send().await.map_err(|error| port_error("list exports", error))?;
            arns.extend(page.export_summaries().iter().filter_map(|s| s.export_arn().map(str::to_owned)));
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(arns)
    }
}

#[async_trait]
impl Tables for DynamoDb {
    async fn table(&self, table: &str) -> Result<Option<ObservedTable>, PortError> {
        let request = self.client.describe_table().table_name(table);
        match request.send().await.map_err(|error| port_error("describe the table", error)) {
            Ok(answer) => Ok(answer.table.as_ref().map(read_table)),
            Err(error) if error.kind == PortErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn tags(&self, table_arn: &str) -> Result<BTreeMap<String, String>, PortError> {
        let mut tags = BTreeMap::new();
        let mut token = None;
        for _ in 0..LIST_PAGES {
            let request = self.client.list_tags_of_resource().resource_arn(table_arn).set_next_token(token);
            let page = request.send().await.map_err(|error| port_error("list the tags of the table", error))?;
            tags.extend(page.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())));
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(tags)
    }

    async fn tag(&self, table_arn: &str, key: &str, value: &str) -> Result<(), PortError> {
        let tag = Tag::builder().key(key).value(value).build();
        let tag = tag.map_err(|error| PortError::new(TAG, PortErrorKind::Invalid, error.to_string()))?;
        let request = self.client.tag_resource().resource_arn(table_arn).tags(tag);
        request.send().await.map_err(|error| port_error(TAG, error))?;
        Ok(())
    }

    async fn expiry(&self, table: &str) -> Result<Option<String>, PortError> {
        let request = self.client.describe_time_to_live().table_name(table);
        let answer = request.send().await.map_err(|error| port_error("describe the table's time to live", error))?;
        let on = [TimeToLiveStatus::Enabled, TimeToLiveStatus::Enabling];
        let found = answer.time_to_live_description;
        let found = found.filter(|found| found.time_to_live_status().is_some_and(|status| on.contains(status)));
        Ok(found.and_then(|found| found.attribute_name))
    }

    /// The time to live comes last: DynamoDB refuses a second change of it within an hour.
    async fn correct(&self, table: &str, correction: &TableCorrection) -> Result<(), PortError> {
        self.update(table, correction).await?;
        let Some(attribute) = &correction.expiry else { return Ok(()) };
        let invalid = |error: BuildError| PortError::new(CORRECT, PortErrorKind::Invalid, error.to_string());
        let on = TimeToLiveSpecification::builder().enabled(true).attribute_name(attribute).build();
        let request = self.client.update_time_to_live().table_name(table);
        let request = request.time_to_live_specification(on.map_err(invalid)?);
        request.send().await.map_err(|error| too_soon(port_error(CORRECT, error)))?;
        Ok(())
    }

    async fn recovery(&self, table: &str) -> Result<Option<Recovery>, PortError> {
        let request = self.client.describe_continuous_backups().table_name(table);
        let answer = match request.send().await.map_err(|e| port_error("describe the table's backups", e)) {
            Ok(answer) => answer,
            Err(error) if error.kind == PortErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let status = answer
            .continuous_backups_description()
            .and_then(|backups| backups.point_in_time_recovery_description())
            .and_then(|recovery| recovery.point_in_time_recovery_status());
        let on = status == Some(&PointInTimeRecoveryStatus::Enabled);
        Ok(Some(if on { Recovery::Enabled } else { Recovery::Disabled }))
    }

    async fn enable_recovery(&self, table: &str) -> Result<(), PortError> {
        let action = "enable point-in-time recovery";
        let on = PointInTimeRecoverySpecification::builder()
            .point_in_time_recovery_enabled(true)
            .build()
            .map_err(|error| PortError::new(action, PortErrorKind::Invalid, error.to_string()))?;
        let request =
            self.client.update_continuous_backups().table_name(table).point_in_time_recovery_specification(on);
        request.send().await.map_err(|error| port_error(action, error))?;
        Ok(())
    }
}

/// DynamoDB reports a second change of the time to live within an hour with the code of an invalid request ("Time to
/// live has been modified multiple times within a fixed interval").
fn too_soon(error: PortError) -> PortError {
    let passes = error.kind == PortErrorKind::Invalid && error.message.contains("modified multiple times");
    if passes { PortError { kind: PortErrorKind::Conflict, ..error } } else { error }
}

fn read_table(found: &TableDescription) -> ObservedTable {
    let keys = |schema: &[KeySchemaElement]| {
        let mut keys: Vec<_> = schema.iter().collect();
        keys.sort_by_key(|key| key.key_type() != &KeyType::Hash);
        keys.into_iter().map(|key| key.attribute_name().to_owned()).collect::<Vec<_>>()
    };
    let indexes = found.global_secondary_indexes().iter();
    let indexes = indexes.filter_map(|index| Some((index.index_name()?.to_owned(), keys(index.key_schema()))));
    // An index without a status counts as active.
    let building = found.global_secondary_indexes().iter();
    let building = building.filter(|index| index.index_status().is_some_and(|status| *status != IndexStatus::Active));
    // A table that has always been provisioned has no summary (API reference, `BillingModeSummary`).
    let mode = found.billing_mode_summary().and_then(|summary| summary.billing_mode());
    let stream = found.stream_specification().filter(|stream| stream.stream_enabled());
    ObservedTable {
        name: found.table_name().unwrap_or_default().to_owned(),
        arn: found.table_arn().unwrap_or_default().to_owned(),
        building: building.filter_map(|index| index.index_name().map(str::to_owned)).collect(),
        keys: indexes.chain([(String::new(), keys(found.key_schema()))]).collect(),
        billing: match mode {
            Some(SdkBillingMode::PayPerRequest) => BillingMode::OnDemand,
            _ => BillingMode::Provisioned,
        },
        stream_arn: stream.and_then(|_| found.latest_stream_arn()).map(str::to_owned),
        stream_view: stream.and_then(|stream| stream.stream_view_type()).map(|view| view.as_str().to_owned()),
        deletion_protection: found.deletion_protection_enabled().unwrap_or(false),
    }
}

fn stream_of_both_images() -> Result<StreamSpecification, PortError> {
    let view = StreamViewType::from(STREAM_VIEW);
    let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(view).build();
    stream.map_err(|error| PortError::new(CORRECT, PortErrorKind::Invalid, error.to_string()))
}

fn throughput(capacity: Throughput) -> Result<ProvisionedThroughput, PortError> {
    let units = ProvisionedThroughput::builder();
    let units = units.read_capacity_units(capacity.read).write_capacity_units(capacity.write).build();
    units.map_err(|error| PortError::new(CORRECT, PortErrorKind::Invalid, error.to_string()))
}

fn index_throughput(index: &str, capacity: Throughput) -> Result<GlobalSecondaryIndexUpdate, PortError> {
    let update = UpdateGlobalSecondaryIndexAction::builder().index_name(index);
    let update = update.provisioned_throughput(throughput(capacity)?).build();
    let update = update.map_err(|error| PortError::new(CORRECT, PortErrorKind::Invalid, error.to_string()))?;
    Ok(GlobalSecondaryIndexUpdate::builder().update(update).build())
}

fn read(action: &'static str, found: Option<ExportDescription>) -> Result<Export, PortError> {
    let missing = || PortError::new(action, PortErrorKind::Unavailable, "the response contains no export");
    let export = found.ok_or_else(missing)?;
    let arn = export.export_arn.ok_or_else(missing)?;
    let moment = |at: Option<DateTime>| at.and_then(|at| Timestamp::from_second(at.secs()).ok());
    let period = export.incremental_export_specification;
    let (from, to) = period.map_or((None, None), |period| (period.export_from_time, period.export_to_time));
    let failure = match (export.failure_code, export.failure_message) {
        (Some(code), Some(text)) => Some(format!("{code}: {text}")),
        (code, text) => code.or(text),
    };
    Ok(Export {
        arn,
        state: export.export_status.map_or_else(|| "IN_PROGRESS".to_owned(), |status| status.as_str().to_owned()),
        token: export.client_token,
        started: moment(export.start_time),
        ended: moment(export.end_time),
        from: moment(from),
        time: moment(to.or(export.export_time)),
        billed_bytes: export.billed_size_bytes,
        item_count: export.item_count,
        manifest: export.export_manifest,
        failure,
    })
}
