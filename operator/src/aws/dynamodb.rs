//! Continuous backups and exports: `DescribeContinuousBackups`, `UpdateContinuousBackups`, `ExportTableToPointInTime`,
//! `DescribeExport`, `ListExports`.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::DateTime;
use aws_sdk_dynamodb::types::{
    ExportDescription, ExportFormat as SdkFormat, ExportType, IncrementalExportSpecification,
    PointInTimeRecoverySpecification, PointInTimeRecoveryStatus,
};
use dispatch_api::dispatch_system::ExportFormat;
use jiff::Timestamp;

use crate::aws::error::port_error;
use crate::ports::{Call, Export, ExportExtent, ExportRequest, PortError, PortErrorKind, Recovery, Tables};

/// Pages of `ListExports` read at most, 25 exports each: DynamoDB lists 90 days, and one export a day makes four.
const LIST_PAGES: usize = 20;
const START: &str = "start an export";
const DESCRIBE: &str = "describe an export";

/// DynamoDB.
pub struct DynamoDb {
    client: Client,
}

impl DynamoDb {
    /// On shared connection settings.
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }
}

impl Tables for DynamoDb {
    fn recovery<'a>(&'a self, table: &'a str) -> Call<'a, Option<Recovery>> {
        Box::pin(async move {
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
        })
    }

    fn enable_recovery<'a>(&'a self, table: &'a str) -> Call<'a, ()> {
        Box::pin(async move {
            let action = "switch point-in-time recovery on";
            let on = PointInTimeRecoverySpecification::builder()
                .point_in_time_recovery_enabled(true)
                .build()
                .map_err(|error| PortError::new(action, PortErrorKind::Invalid, error.to_string()))?;
            let request =
                self.client.update_continuous_backups().table_name(table).point_in_time_recovery_specification(on);
            request.send().await.map_err(|error| port_error(action, error))?;
            Ok(())
        })
    }

    fn start_export<'a>(&'a self, request: &'a ExportRequest) -> Call<'a, Export> {
        Box::pin(async move {
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
        })
    }

    fn export<'a>(&'a self, arn: &'a str) -> Call<'a, Export> {
        Box::pin(async move {
            let request = self.client.describe_export().export_arn(arn);
            let answer = request.send().await.map_err(|error| port_error(DESCRIBE, error))?;
            read(DESCRIBE, answer.export_description)
        })
    }

    fn exports<'a>(&'a self, table_arn: &'a str) -> Call<'a, Vec<String>> {
        Box::pin(async move {
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
        })
    }
}

fn read(action: &'static str, found: Option<ExportDescription>) -> Result<Export, PortError> {
    let missing = || PortError::new(action, PortErrorKind::Unavailable, "the answer describes no export");
    let export = found.ok_or_else(missing)?;
    let arn = export.export_arn.ok_or_else(missing)?;
    let period_end = export.incremental_export_specification.and_then(|period| period.export_to_time);
    let time = period_end.or(export.export_time).and_then(|at| Timestamp::from_second(at.secs()).ok());
    let failure = match (export.failure_code, export.failure_message) {
        (Some(code), Some(text)) => Some(format!("{code}: {text}")),
        (code, text) => code.or(text),
    };
    Ok(Export {
        arn,
        state: export.export_status.map_or_else(|| "IN_PROGRESS".to_owned(), |status| status.as_str().to_owned()),
        time,
        billed_bytes: export.billed_size_bytes,
        item_count: export.item_count,
        manifest: export.export_manifest,
        failure,
    })
}
