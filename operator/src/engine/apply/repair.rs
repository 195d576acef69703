//! Converges the resources managed outside CloudFormation.

use dispatch_api::conditions::Reason;

use crate::cloud::ports::{PortError, PortErrorKind, PushStatus};
use crate::cloud::stack::StackDescription;
use crate::engine::apply::Run;
use crate::engine::arn::ArnBase;
use crate::engine::outcome::Verdict;
use crate::engine::plan::recreation::Recreation;
use crate::engine::plan::{Credential, DirectResources, DirectStep};

impl Run<'_> {
    /// Sends the desired credential to the platform application before the stack records it, so that an interrupted run
    /// repeats it. Returns a verdict if SNS rejects the credential.
    pub(super) async fn rotate(&mut self, found: Option<&StackDescription>) -> Result<Option<Verdict>, PortError> {
        let base = found.and_then(|stack| ArnBase::parse(&stack.arn));
        let (Some(credential), Some(base), Credential::Changed) = (&self.desired.fcm, base, self.credential) else {
            return Ok(None);
        };
        let arn = base.platform_application(&self.system.names.platform_application);
        if !self.ports.push.exists(&arn).await? {
            return Ok(None);
        }
        self.step(DirectStep::UpdatePush.to_string());
        accepted(self.ports.push.update(&arn, credential).await).map(Result::err)
    }

    /// Repairs the resources managed outside CloudFormation. Returns a verdict if AWS rejects a setting of the spec.
    pub(crate) async fn repair(
        &mut self,
        steps: &[DirectStep],
        parts: &mut DirectResources,
    ) -> Result<Option<Verdict>, PortError> {
        let mut refused = None;
        for step in steps {
            self.step(step.to_string());
            match step {
                DirectStep::EnableRecovery => {
                    self.ports.tables.enable_recovery(&self.system.names.table).await?;
                    parts.recovery = Some(crate::cloud::ports::Recovery::Enabled);
                }
                DirectStep::CreatePush => {
                    if let Some(credential) = &self.desired.fcm {
                        let name = &self.system.names.platform_application;
                        match accepted(self.ports.push.create(name, credential).await)? {
                            Ok(arn) => (parts.push_arn, parts.push) = (arn, Some(PushStatus::Enabled)),
                            Err(verdict) => refused = Some(verdict),
                        }
                    }
                }
                DirectStep::UpdatePush => {
                    if let Some(credential) = &self.desired.fcm {
                        refused = accepted(self.ports.push.update(&parts.push_arn, credential).await)?.err();
                    }
                }
                DirectStep::DeletePush => {
                    self.ports.push.delete(&parts.push_arn).await?;
                    parts.push = None;
                }
                // The update of the stack has corrected them.
                DirectStep::CorrectTags { .. } => {}
                DirectStep::CorrectQueue { url, settings, .. } => self.ports.queues.correct(url, settings).await?,
                DirectStep::Recreate { recreation, .. } => match recreation {
                    Recreation::Queue(queue) => self.ports.queues.create(queue).await?,
                    Recreation::Topic(topic) => self.ports.topics.create(topic).await?,
                    Recreation::Subscription(subscription) => self.ports.topics.subscribe(subscription).await?,
                },
                DirectStep::CorrectTable { correction, .. } => {
                    let table = &self.system.names.table;
                    self.ports.tables.correct(table, correction).await?;
                    // A new stream has a new ARN.
                    parts.table = self.ports.tables.table(table).await?;
                }
            }
        }
        Ok(refused)
    }
}

/// Separates a service account key that SNS rejects from a failed call. Omits AWS's message, which may quote the key.
fn accepted<T>(answer: Result<T, PortError>) -> Result<Result<T, Verdict>, PortError> {
    match answer {
        Err(error) if error.kind == PortErrorKind::Invalid => {
            let code = error.message.split(':').next().unwrap_or_default();
            let field = dispatch_api::dispatch_system::FCM_SECRET_FIELD;
            let message = format!("{field}: SNS rejects the service account key ({code}); provide another one");
            Ok(Err(Verdict::Refused { reason: Reason::InvalidPushCredential, message }))
        }
        other => other.map(Ok),
    }
}
