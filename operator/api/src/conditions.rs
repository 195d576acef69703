//! Condition types, their states and their reasons. They are API: scripts, health checks and alerts read them, so each is spelled
//! here and nowhere else. `docs/operating.md` has the table that [`table`] renders.

/// Declares an enum whose variants are spelled as text in the API, each with a sentence for the documents.
macro_rules! spelled {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $text:literal: $meaning:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $meaning] $(#[$variant_attribute])* $variant,)+
        }

        impl $name {
            /// Every variant, in the order of the documents.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The spelling in the API.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// What it means, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)+
                }
            }

            /// The variant of a spelling; `None` for one that another version wrote.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|variant| variant.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl PartialEq<$name> for String {
            fn eq(&self, variant: &$name) -> bool {
                self == variant.as_str()
            }
        }
    };
}

spelled! {
    /// Types of conditions. Exactly one of `Ready`, `Reconciling` and `Stalled` is `True` at any time.
    pub enum ConditionType {
        Ready = "Ready": "The whole system serves and matches its spec.",
        Reconciling = "Reconciling": "The operator works towards the spec, or waits for something that resolves without an edit.",
        Stalled = "Stalled": "The operator cannot continue until the spec, a permission or an approval changes.",
        StackReady = "StackReady": "The CloudFormation stack is complete.",
        DirectResourcesReady = "DirectResourcesReady": "The resources managed outside CloudFormation match the spec.",
        WorkersReady = "WorkersReady": "The worker Deployments have all their replicas.",
        ExportsReady = "ExportsReady": "Scheduled exports of the table succeed. Absent where none are scheduled; does not affect `Ready`.",
        ConnectionPublished = "ConnectionPublished": "Names and addresses are published as `spec.connection` asks. Absent where it asks for nothing; does not affect `Ready`.",
        Drifted = "Drifted": "A resource was changed outside the operator.",
        PlanPending = "PlanPending": "A plan waits for an approval, or is shown and not carried out.",
        CredentialsValid = "CredentialsValid": "AWS accepts the credentials, they belong to the account of the spec, and the namespace allows the role. Names account and role.",
        Paused = "Paused": "The system is suspended.",
        DeletionBlocked = "DeletionBlocked": "The deletion cannot finish.",
    }
}

spelled! {
    /// States of a condition.
    pub enum ConditionStatus {
        True = "True": "The condition holds.",
        False = "False": "The condition does not hold.",
        Unknown = "Unknown": "The operator did not look, or what it found says neither.",
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

spelled! {
    /// Reasons of conditions.
    pub enum Reason {
        Accepted = "Accepted": "AWS accepts the credentials.",
        Active = "Active": "The system is not suspended.",
        AddingIndex = "AddingIndex": "The stack adds a missing index to an imported table; DynamoDB creates one index at a time.",
        ApprovalRequired = "ApprovalRequired": "A plan waits for an approval.",
        AwsAccessDenied = "AwsAccessDenied": "AWS rejects the credentials, or they lack a permission.",
        AwsQuotaExceeded = "AwsQuotaExceeded": "An AWS quota is reached.",
        AwsRefused = "AwsRefused": "AWS rejects a request as invalid.",
        AwsThrottled = "AwsThrottled": "AWS throttles the operator's calls.",
        AwsUnavailable = "AwsUnavailable": "AWS cannot be reached or does not answer in time.",
        ChangeSetFailed = "ChangeSetFailed": "CloudFormation could not create the change set.",
        ChangesPending = "ChangesPending": "The spec has changes that are not applied.",
        ComputingChanges = "ComputingChanges": "CloudFormation computes a change set.",
        CreateFailed = "CreateFailed": "The stack could not be created.",
        DeadlineExceeded = "DeadlineExceeded": "A reconcile did not finish in time.",
        DeleteFailed = "DeleteFailed": "The stack could not be deleted.",
        DeletePreparationFailed = "DeletePreparationFailed": "The resources could not be prepared for the deletion.",
        Deleting = "Deleting": "The system is being deleted.",
        DirectResourcesNotReady = "DirectResourcesNotReady": "A resource managed outside CloudFormation does not match the spec yet.",
        DriftCorrected = "DriftCorrected": "A change made outside the operator was reverted.",
        DriftDetected = "DriftDetected": "A change made outside the operator was found.",
        DryRun = "DryRun": "The plan is shown and, because of the dry-run annotation, not carried out.",
        ExportCompleted = "ExportCompleted": "The latest scheduled export is complete.",
        ExportFailed = "ExportFailed": "The latest scheduled export failed.",
        Exporting = "Exporting": "A scheduled export is in progress.",
        ExportNotStarted = "ExportNotStarted": "A scheduled export could not be started.",
        InSync = "InSync": "What was found matches the spec.",
        InternalError = "InternalError": "The operator has a defect; its log has the details.",
        InvalidPushCredential = "InvalidPushCredential": "SNS rejects the service account key.",
        InvalidSecret = "InvalidSecret": "A Secret that the spec names has an unusable value.",
        InvalidSpec = "InvalidSpec": "The spec is invalid; the message names the field.",
        KubernetesUnavailable = "KubernetesUnavailable": "The Kubernetes API server cannot be reached or rejects a call.",
        NameTaken = "NameTaken": "An object of that name exists and belongs to another owner.",
        NotAdoptable = "NotAdoptable": "Retained data does not match what the template describes.",
        NotCreated = "NotCreated": "The stack does not exist.",
        NothingPending = "NothingPending": "No plan waits.",
        ObserveOnly = "ObserveOnly": "`spec.managementPolicy` is `Observe`.",
        OutputsMissing = "OutputsMissing": "The stack does not show all its outputs.",
        OwnedByAnother = "OwnedByAnother": "The stack, or retained data, carries another owner's tags.",
        Publishing = "Publishing": "The connection Secret is being created.",
        Published = "Published": "Names and addresses are published.",
        ResourceGone = "ResourceGone": "A resource of the stack was deleted outside the operator.",
        RetryLimitReached = "RetryLimitReached": "The same kind of failure repeated until the retry limit.",
        RoleNotAllowed = "RoleNotAllowed": "The namespace does not allow the role that the spec names.",
        RollingOut = "RollingOut": "The worker Deployments are rolling out.",
        Scheduled = "Scheduled": "The first scheduled export is due at the next time of the schedule.",
        SecretMissing = "SecretMissing": "A Secret that the spec names does not exist or lacks the key.",
        SecretsNotWritable = "SecretsNotWritable": "The operator is not permitted to write Secrets.",
        Serving = "Serving": "Every worker role has its replicas.",
        SkipRefused = "SkipRefused": "The skip-resources annotation names a resource that cannot be skipped.",
        StackBusy = "StackBusy": "An operation of the stack is running.",
        StackComplete = "StackComplete": "The stack is complete.",
        StackNotComplete = "StackNotComplete": "The stack is not complete.",
        StackNotReady = "StackNotReady": "The resources are not inspected until the stack is complete.",
        StackStalled = "StackStalled": "The stack is in a state that CloudFormation cannot leave without help.",
        Suspended = "Suspended": "`spec.suspend` is `true`.",
        TemplateTooLarge = "TemplateTooLarge": "The rendered template exceeds CloudFormation's limit.",
        UnknownStackState = "UnknownStackState": "The stack is in a state that this version does not know.",
        UpdateRollbackFailed = "UpdateRollbackFailed": "An update failed, and so did its rollback.",
        UpdateRolledBack = "UpdateRolledBack": "An update failed and was rolled back.",
        WaitingForOperationSlot = "WaitingForOperationSlot": "The limit of concurrent stack operations is reached.",
        WaitingForStack = "WaitingForStack": "The workers, or the connection, wait for the stack.",
        WorkersFailing = "WorkersFailing": "A worker Deployment exceeded its progress deadline.",
        WrongAccount = "WrongAccount": "The credentials belong to another account than the spec names.",
    }
}

spelled! {
    /// Reasons of Kubernetes Events.
    pub enum EventReason {
        StackCreateStarted = "StackCreateStarted": "CloudFormation started to create the stack.",
        StackUpdateStarted = "StackUpdateStarted": "CloudFormation started to update the stack.",
        StackCreated = "StackCreated": "The stack was created.",
        StackUpdated = "StackUpdated": "The stack was updated.",
        StackDeleteStarted = "StackDeleteStarted": "CloudFormation started to delete the stack.",
        RollbackResumed = "RollbackResumed": "A rollback was started or continued.",
        ResourcesSkipped = "ResourcesSkipped": "Resources that failed were skipped, as the annotation asks.",
        Ready = "Ready": "The system became ready.",
        WorkersReady = "WorkersReady": "The workers became ready.",
        WorkersNotReady = "WorkersNotReady": "The workers are no longer ready.",
        DriftDetected = "DriftDetected": "A change made outside the operator was found.",
        DriftCorrected = "DriftCorrected": "A change made outside the operator was reverted.",
        ExportStarted = "ExportStarted": "An export started.",
        ExportCompleted = "ExportCompleted": "An export completed.",
        ExportFailed = "ExportFailed": "An export failed or could not be started.",
        ConnectionNotPublished = "ConnectionNotPublished": "Names and addresses could not be published.",
        PlanReady = "PlanReady": "A plan waits for an approval, or is shown by a dry run.",
        Paused = "Paused": "The system was suspended.",
        Resumed = "Resumed": "The system was resumed.",
        Stalled = "Stalled": "The operator cannot continue until something changes.",
        ReconcileFailed = "ReconcileFailed": "A reconcile failed and will be retried.",
        DeletionBlocked = "DeletionBlocked": "The deletion cannot finish.",
        Deleted = "Deleted": "The system was deleted.",
    }
}

impl EventReason {
    /// Whether Kubernetes shows the event as a `Warning`.
    pub const fn is_warning(self) -> bool {
        matches!(
            self,
            Self::ResourcesSkipped
                | Self::WorkersNotReady
                | Self::DriftDetected
                | Self::ExportFailed
                | Self::ConnectionNotPublished
                | Self::PlanReady
                | Self::Stalled
                | Self::ReconcileFailed
                | Self::DeletionBlocked
        )
    }
}

/// The tables of `docs/operating.md`, in Markdown.
pub fn table() -> String {
    use std::fmt::Write as _;
    let mut text = String::from("| condition | `True` means |\n| --- | --- |\n");
    for kind in ConditionType::ALL {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "| `{kind}` | {} |", kind.meaning());
    }
    text.push_str("\n| reason | meaning |\n| --- | --- |\n");
    for reason in Reason::ALL {
        let _ = writeln!(text, "| `{reason}` | {} |", reason.meaning());
    }
    text.push_str("\n| event reason | type | meaning |\n| --- | --- | --- |\n");
    for reason in EventReason::ALL {
        let kind = if reason.is_warning() { "Warning" } else { "Normal" };
        let _ = writeln!(text, "| `{reason}` | {kind} | {} |", reason.meaning());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_unique_and_fits_the_kubernetes_pattern() {
        let pattern = regex::Regex::new("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$").unwrap();
        let mut spellings: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert!(spellings.iter().all(|text| pattern.is_match(text)));
        let count = spellings.len();
        spellings.sort_unstable();
        spellings.dedup();
        assert_eq!(spellings.len(), count);
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
            assert!(reason.meaning().ends_with('.'), "{reason}");
        }
        assert_eq!(Reason::parse("Nonsense"), None);
    }
}
