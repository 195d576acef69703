//! The components that all ARNs of a system share. Pure.

/// The components that all ARNs of a system share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArnBase<'a> {
    /// `aws`, `aws-cn`, …
    pub partition: &'a str,
    pub region: &'a str,
    pub account: &'a str,
}

impl<'a> ArnBase<'a> {
    /// Parses `arn:<partition>:<service>:<region>:<account>:…`.
    pub fn parse(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (Some("arn"), Some(partition), Some(_), Some(region), Some(account), Some(_)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        Some(Self { partition, region, account })
    }

    /// ARN of an FCM platform application.
    pub fn platform_application(&self, name: &str) -> String {
        format!("arn:{}:sns:{}:{}:app/GCM/{name}", self.partition, self.region, self.account)
    }

    /// ARN of a queue.
    pub fn queue(&self, name: &str) -> String {
        self.local("sqs", name)
    }

    /// ARN of the dead-letter queue that the template creates for a queue.
    pub fn dead_letter_queue(&self, queue: &str) -> String {
        self.local("sqs", &format!("{queue}-dlq"))
    }

    pub fn table(&self, name: &str) -> String {
        self.local("dynamodb", &format!("table/{name}"))
    }

    /// ARN of a resource of a service.
    pub fn local(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}:{}:{}:{resource}", self.partition, self.region, self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_of_one_system_share_partition_region_and_account() {
        let base = ArnBase::parse("arn:aws-cn:cloudformation:cn-north-1:123456789012:stack/s/1").expect("an ARN");
        assert_eq!(base.platform_application("p"), "arn:aws-cn:sns:cn-north-1:123456789012:app/GCM/p");
        assert_eq!(base.table("t"), "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/t");
        assert_eq!(ArnBase::parse("stack/s/1"), None);
    }
}
