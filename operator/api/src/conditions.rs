//! Condition types, statuses and reasons. They are API: scripts, health checks and alerts read them, so each is spelled
//! only here. `docs/operating.md` contains the tables that [`table`] renders.

/// Declares an enum of API names: each variant has its spelling and a sentence for the documentation.
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
            /// All variants, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The spelling in the API.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The meaning, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)+
                }
            }

            /// The variant with this spelling; `None` for an unknown one, for example from another version.
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
    /// Condition types. Exactly one of `Ready`, `Reconciling` and `Stalled` is `True` at any time.
    pub enum ConditionType {
        Ready = "Ready": "The system serves and matches its spec.",
        Reconciling = "Reconciling": "The operator is working towards the spec, or will retry.",
        Stalled = "Stalled": "The operator cannot continue until the spec, a permission or an approval changes.",
        StackReady = "StackReady": "The CloudFormation stack is complete.",
        DirectResourcesReady = "DirectResourcesReady": "The resources managed outside CloudFormation match the spec.",
        Available = "Available":
            "Every worker role has a ready Pod, whether or not a roll-out is complete. Alerts page on this one.",
        WorkersReady = "WorkersReady": "The worker Deployments have all their replicas.",
        WorkersSpread = "WorkersSpread":
            "The Pods of each role run on several nodes. Absent unless a role has several; not part of `Ready`.",
        AutoscalingActive = "AutoscalingActive":
            "The autoscalers read their metrics. Absent without autoscaling; not part of `Ready`.",
        RoutesAccepted = "RoutesAccepted":
            "Proxies of the cluster accept the Ingress and the `HTTPRoute`. Absent without both; not part of `Ready`.",
        ExportsReady = "ExportsReady":
            "Scheduled exports of the table succeed. Absent without a schedule; not part of `Ready`.",
        PushReady = "PushReady":
            "SNS accepts push notifications. Absent unless `spec.notifications.fcm` is set; not part of `Ready`.",
        ConnectionPublished = "ConnectionPublished":
            "Names and addresses are published. Absent unless `spec.connection` is set; not part of `Ready`.",
        Drifted = "Drifted": "A resource was changed outside the operator.",
        PlanPending = "PlanPending": "A plan waits for an approval, or is shown but not executed.",
        CredentialsValid = "CredentialsValid":
            "AWS accepts the credentials, the account matches the spec, and the namespace allows the role.",
        Paused = "Paused": "The system is suspended.",
        DeletionBlocked = "DeletionBlocked": "The deletion cannot finish.",
        SpecAllowed = "SpecAllowed":
            "An administrator allows what the spec asks for. Absent unless it is `False`.",
    }
}

spelled! {
    /// Statuses of a condition.
    pub enum ConditionStatus {
        True = "True": "The condition holds.",
        False = "False": "The condition does not hold.",
        Unknown = "Unknown": "The operator did not check, or the result is inconclusive.",
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

spelled! {
    /// Condition reasons.
    pub enum Reason {
        Accepted = "Accepted": "AWS accepts the credentials.",
        Active = "Active": "The system is not suspended.",
        AddingIndex = "AddingIndex":
            "The stack adds a missing index to an imported table; DynamoDB creates one index at a time.",
        ApprovalRequired = "ApprovalRequired": "A plan waits for an approval.",
        AutoscalingActive = "AutoscalingActive": "Every autoscaler reads its metric.",
        AutoscalingInactive = "AutoscalingInactive":
            "An autoscaler cannot read its metric, so the number of its workers stays as it is.",
        AwsAccessDenied = "AwsAccessDenied": "AWS rejects the credentials, or they lack a permission.",
        AwsQuotaExceeded = "AwsQuotaExceeded": "An AWS quota is reached.",
        AwsRefused = "AwsRefused": "AWS rejects a request as invalid.",
        AwsThrottled = "AwsThrottled": "AWS throttles the operator's calls.",
        AwsUnavailable = "AwsUnavailable": "AWS cannot be reached or does not answer in time.",
        ChangeSetFailed = "ChangeSetFailed": "CloudFormation could not create the change set.",
        ChangesPending = "ChangesPending": "The spec has changes that are not applied.",
        ComputingChanges = "ComputingChanges": "CloudFormation computes a change set.",
        CredentialsMissing = "CredentialsMissing":
            "The operator found no AWS credentials: its service account has no role, and its environment has none.",
        ContainerNotStarted = "ContainerNotStarted":
            "Kubernetes cannot start the container of a worker, for example because a Secret is missing.",
        CreateFailed = "CreateFailed": "The stack could not be created.",
        DeadlineExceeded = "DeadlineExceeded": "A reconcile did not finish in time.",
        DeleteFailed = "DeleteFailed": "The stack could not be deleted.",
        DeletePreparationFailed = "DeletePreparationFailed": "The stack could not be prepared for the deletion.",
        Deleting = "Deleting": "The system is being deleted.",
        DirectResourcesNotReady = "DirectResourcesNotReady":
            "A resource managed outside CloudFormation does not match the spec yet.",
        DriftCorrected = "DriftCorrected": "A change made outside the operator was reverted.",
        DriftDetected = "DriftDetected": "A change made outside the operator was found.",
        DryRun = "DryRun": "The plan is shown but not executed, because of the dry-run annotation.",
        ExportCompleted = "ExportCompleted": "The latest scheduled export is complete.",
        ExportFailed = "ExportFailed": "The latest scheduled export failed.",
        Exporting = "Exporting": "A scheduled export is in progress.",
        ExportNotStarted = "ExportNotStarted": "A scheduled export could not be started.",
        ImageNotPulled = "ImageNotPulled": "A node cannot pull the image of the workers.",
        InSync = "InSync": "The observed state matches the spec.",
        InternalError = "InternalError": "The operator has a defect; its log has the details.",
        InvalidPushCredential = "InvalidPushCredential": "SNS rejects the service account key.",
        InvalidSecret = "InvalidSecret": "A Secret that the spec names has an unusable value.",
        InvalidSpec = "InvalidSpec": "The spec is invalid; the message names the field.",
        KindMissing = "KindMissing": "The cluster does not serve a kind of object that the spec asks for.",
        KubernetesForbidden = "KubernetesForbidden":
            "The Kubernetes API server forbids a call: a permission is missing, or a quota or policy refuses it.",
        KubernetesRefused = "KubernetesRefused":
            "The Kubernetes API server rejects an object as invalid; the message names it.",
        KubernetesUnavailable = "KubernetesUnavailable": "The Kubernetes API server cannot be reached.",
        NameTaken = "NameTaken": "An object of that name exists in the cluster and has another owner; it is not changed.",
        NotAdoptable = "NotAdoptable": "Retained data does not match what the template describes.",
        NotAllowed = "NotAllowed":
            "Neither the namespace nor the operator allows what the spec asks for; the message has field and value.",
        NotChecked = "NotChecked": "Drift was not checked.",
        NotCreated = "NotCreated": "The stack does not exist.",
        NothingPending = "NothingPending": "No plan is pending.",
        ObserveOnly = "ObserveOnly": "`spec.managementPolicy` is `Observe`.",
        OneNode = "OneNode": "All Pods of a worker role run on one node.",
        OutOfMemory = "OutOfMemory": "A worker reached its memory limit and was killed.",
        OutputsMissing = "OutputsMissing": "The stack lacks an output.",
        OwnedByAnother = "OwnedByAnother": "The stack, or retained data, carries another owner's tags.",
        PodsRefused = "PodsRefused":
            "The API server refuses the Pods: a quota, a limit range, or another admission.",
        PodsUnschedulable = "PodsUnschedulable": "No node has room for a Pod, or none fits its constraints.",
        Publishing = "Publishing": "The connection Secret is being created.",
        Published = "Published": "Names and addresses are published.",
        PushDisabled = "PushDisabled":
            "SNS has disabled the platform application, because FCM rejects the service account key, or a person did.",
        PushEnabled = "PushEnabled": "The platform application is enabled.",
        ReplacementImpossible = "ReplacementImpossible":
            "The spec changes what CloudFormation could set only by replacing a resource that keeps its name.",
        ResourceGone = "ResourceGone": "A resource of the stack was deleted outside the operator.",
        RetryLimitReached = "RetryLimitReached": "Reconciles failed repeatedly; they are retried at longer intervals.",
        RoleNotAllowed = "RoleNotAllowed":
            "Neither the namespace nor the operator allows the role that the spec names.",
        RoleUnavailable = "RoleUnavailable": "A worker role has no ready Pod.",
        RolesAvailable = "RolesAvailable": "Every worker role has a ready Pod.",
        RollingOut = "RollingOut": "The worker Deployments are rolling out.",
        RoutePending = "RoutePending": "No proxy has accepted the Ingress or `HTTPRoute` yet.",
        RouteRejected = "RouteRejected": "A Gateway rejects the `HTTPRoute`, or cannot resolve what it refers to.",
        RoutesAccepted = "RoutesAccepted": "Proxies of the cluster accept the objects that lead to the API.",
        Scheduled = "Scheduled": "The first scheduled export is due at the next time of the schedule.",
        SecretMissing = "SecretMissing":
            "A Secret or `ConfigMap` that the spec names does not exist or lacks the key.",
        SecretsNotWritable = "SecretsNotWritable": "The operator is not permitted to write Secrets.",
        Serving = "Serving": "Every worker role has its replicas.",
        SkipRefused = "SkipRefused": "The skip-resources annotation names a resource that cannot be skipped.",
        Spread = "Spread": "The Pods of each worker role run on several nodes.",
        StackBusy = "StackBusy": "An operation on the stack is in progress.",
        StackComplete = "StackComplete": "The stack is complete.",
        StackNotComplete = "StackNotComplete": "The stack is not complete.",
        StackNotReady = "StackNotReady": "The resources are not inspected until the stack is complete.",
        StackStalled = "StackStalled": "The stack is in a state that requires manual action.",
        Suspended = "Suspended": "`spec.suspend` is `true`.",
        TableNameNotAllowed = "TableNameNotAllowed":
            "The namespace does not allow a table name that is not the system's own.",
        TemplateTooLarge = "TemplateTooLarge": "The rendered template exceeds CloudFormation's limit.",
        UnknownStackState = "UnknownStackState": "The stack is in a state that this version does not recognize.",
        UpdateRollbackFailed = "UpdateRollbackFailed": "An update failed, and so did its rollback.",
        UpdateRolledBack = "UpdateRolledBack": "An update failed and was rolled back.",
        WaitingForDependency = "WaitingForDependency":
            "A worker runs and waits for the credentials, the table, or something else that it needs.",
        WaitingForOperationSlot = "WaitingForOperationSlot": "The limit of concurrent stack operations is reached.",
        WaitingForStack = "WaitingForStack": "The workers or the connection wait for the stack.",
        WorkersCrashing = "WorkersCrashing": "A worker starts and ends with an error.",
        WorkersFailing = "WorkersFailing": "A worker Deployment exceeded its progress deadline.",
        WrongAccount = "WrongAccount": "The credentials belong to an account other than the one in the spec.",
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
        ResourcesSkipped = "ResourcesSkipped": "Failed resources were skipped, as the annotation specifies.",
        Ready = "Ready": "The system became ready.",
        WorkersReady = "WorkersReady": "The workers became ready.",
        WorkersNotReady = "WorkersNotReady": "The workers are no longer ready.",
        DriftDetected = "DriftDetected": "A change made outside the operator was found.",
        DriftCorrected = "DriftCorrected": "A change made outside the operator was reverted.",
        ExportStarted = "ExportStarted": "An export started.",
        ExportCompleted = "ExportCompleted": "An export completed.",
        ExportFailed = "ExportFailed": "An export failed or could not be started.",
        ConnectionNotPublished = "ConnectionNotPublished": "Names and addresses could not be published.",
        PushDisabled = "PushDisabled": "SNS no longer accepts push notifications.",
        PushEnabled = "PushEnabled": "SNS accepts push notifications again.",
        NotAllowed = "NotAllowed":
            "The spec asks for something that is not allowed; the operator only warns (`--restrictions=Warn`).",
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
    /// Whether the event has the type `Warning`.
    pub const fn is_warning(self) -> bool {
        matches!(
            self,
            Self::ResourcesSkipped
                | Self::WorkersNotReady
                | Self::DriftDetected
                | Self::ExportFailed
                | Self::ConnectionNotPublished
                | Self::PushDisabled
                | Self::NotAllowed
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

    /// `UPDATE_GENERATED=1` rewrites the tables instead.
    #[test]
    fn the_generated_tables_of_the_documents_are_current() {
        let (begin, end) = ("<!-- conditions:begin -->", "<!-- conditions:end -->");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(begin).unwrap();
        let (_, after) = rest.split_once(end).unwrap();
        let wanted = format!("{before}{begin}\n\n{}\n{end}{after}", table());
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        } else {
            assert!(text == wanted, "docs/operating.md is stale: run `make generate`");
        }
    }
}
