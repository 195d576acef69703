//! How a deleted queue, topic or subscription is created again, with the properties that the template gives it. Pure.
//!
//! These three are found by their names, so that a new one takes the place of the deleted one in the stack. Other types
//! have generated names or hold data.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::cloud::ports::{NewResource, NewSubscription, Subscription};
use crate::engine::arn::ArnBase;
use crate::engine::plan::existence::Method;

/// A resource to create again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recreation {
    Queue(NewResource),
    Topic(NewResource),
    Subscription(NewSubscription),
}

impl Recreation {
    /// Order of creation: a redrive policy names an existing queue, a subscription an existing topic and queue.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Queue(queue) if !queue.attributes.contains_key("RedrivePolicy") => 0,
            Self::Queue(_) => 1,
            Self::Topic(_) => 2,
            Self::Subscription(_) => 3,
        }
    }
}

/// What a resource is created from.
#[derive(Clone, Debug)]
pub struct Blueprint<'a> {
    /// The stack's template.
    pub template: &'a Value,
    /// The stack's tags.
    pub tags: BTreeMap<String, String>,
    /// What the ARNs of the stack share.
    pub base: ArnBase<'a>,
}

impl Blueprint<'_> {
    /// How to create a resource of the template again; `None` for a type that is not, and for a template that this
    /// version did not write.
    pub fn recreation(&self, logical_id: &str) -> Option<Recreation> {
        let resource = self.template["Resources"].get(logical_id)?;
        let properties = self.resolved(&resource["Properties"])?;
        let properties = properties.as_object()?;
        match Method::for_type(resource["Type"].as_str()?) {
            Method::Queue => self.named(logical_id, properties, ("QueueName", "Queues")).map(Recreation::Queue),
            Method::Topic => self.named(logical_id, properties, ("TopicName", "Topics")).map(Recreation::Topic),
            Method::Subscription => {
                let text = |name: &str| properties.get(name).and_then(Value::as_str).map(str::to_owned);
                let named = ["TopicArn", "Protocol", "Endpoint"];
                let others = properties.iter().filter(|(name, _)| !named.contains(&name.as_str()));
                Some(Recreation::Subscription(NewSubscription {
                    topic_arn: text("TopicArn")?,
                    subscription: Subscription { protocol: text("Protocol")?, endpoint: text("Endpoint")? },
                    attributes: others.map(|(name, value)| (name.clone(), attribute(value))).collect(),
                }))
            }
            _ => None,
        }
    }

    /// A queue or topic with its policy. `keys` are the property with its name, and the property of a policy that names
    /// what it applies to.
    fn named(&self, logical_id: &str, properties: &Map<String, Value>, keys: (&str, &str)) -> Option<NewResource> {
        let (name_key, subjects_key) = keys;
        let mut attributes: BTreeMap<String, String> = properties
            .iter()
            .filter(|(name, _)| name.as_str() != name_key)
            .map(|(name, value)| (name.clone(), attribute(value)))
            .collect();
        let applies = |resource: &&Value| {
            let subjects = resource["Properties"][subjects_key].as_array();
            subjects.is_some_and(|all| all.iter().any(|subject| subject["Ref"] == logical_id))
        };
        if let Some(policy) = self.template["Resources"].as_object()?.values().find(applies) {
            let document = self.resolved(&policy["Properties"]["PolicyDocument"])?;
            attributes.insert("Policy".to_owned(), attribute(&document));
        }
        let name = properties.get(name_key)?.as_str()?.to_owned();
        Some(NewResource { name, attributes, tags: self.tags.clone() })
    }

    /// A value of the template without functions; `None` if it has one that this version does not write for queues,
    /// topics and subscriptions.
    fn resolved(&self, value: &Value) -> Option<Value> {
        match value {
            Value::Array(items) => {
                items.iter().map(|item| self.resolved(item)).collect::<Option<_>>().map(Value::Array)
            }
            Value::Object(map) => match map.iter().next() {
                Some((name, of)) if map.len() == 1 && name == "Ref" => self.arn(of.as_str()?),
                Some((name, of)) if map.len() == 1 && name == "Fn::GetAtt" => {
                    (of[1] == "Arn").then(|| self.arn(of[0].as_str()?)).flatten()
                }
                Some((name, of)) if map.len() == 1 && name == "Fn::Sub" => self.substituted(of.as_str()?),
                _ if map.keys().any(|name| name.starts_with("Fn::")) => None,
                _ => {
                    let pairs = map.iter().map(|(name, value)| Some((name.clone(), self.resolved(value)?)));
                    pairs.collect::<Option<Map<_, _>>>().map(Value::Object)
                }
            },
            other => Some(other.clone()),
        }
    }

    /// ARN of a queue or topic: all references in queues, topics, subscriptions and their policies mean it.
    fn arn(&self, logical_id: &str) -> Option<Value> {
        let resource = self.template["Resources"].get(logical_id)?;
        let (service, name) = match Method::for_type(resource["Type"].as_str()?) {
            Method::Queue => ("sqs", &resource["Properties"]["QueueName"]),
            Method::Topic => ("sns", &resource["Properties"]["TopicName"]),
            _ => return None,
        };
        Some(Value::String(self.base.local(service, name.as_str()?)))
    }

    fn substituted(&self, text: &str) -> Option<Value> {
        let ArnBase { partition, region, account } = &self.base;
        let text = text
            .replace("${AWS::Partition}", partition)
            .replace("${AWS::Region}", region)
            .replace("${AWS::AccountId}", account);
        (!text.contains("${")).then_some(Value::String(text))
    }
}

/// A property as an attribute of SQS or SNS, which are texts.
fn attribute(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::template;
    use crate::testing::system;

    const ARN: &str = "arn:aws:cloudformation:ap-northeast-2:000000000000:stack/coactus-default-seoul/1";

    fn recreation(logical_id: &str) -> Option<Recreation> {
        let rendered = template::render(&system());
        let base = ArnBase::parse(ARN).unwrap();
        Blueprint { template: rendered.body(), tags: rendered.tags().clone(), base }.recreation(logical_id)
    }

    #[test]
    fn every_queue_topic_and_subscription_of_the_template_can_be_created_again() {
        let rendered = template::render(&system());
        for (logical_id, resource) in rendered.body()["Resources"].as_object().unwrap() {
            let is_named = matches!(
                Method::for_type(resource["Type"].as_str().unwrap()),
                Method::Queue | Method::Topic | Method::Subscription
            );
            let made = recreation(logical_id);
            assert_eq!(made.is_some(), is_named, "{logical_id}");
            let text = format!("{made:?}");
            assert!(!text.contains("Fn::") && !text.contains("${") && !text.contains("\"Ref\""), "{text}");
        }
    }

    #[test]
    fn a_queue_has_its_settings_its_policy_and_its_tags() {
        let Some(Recreation::Queue(queue)) = recreation("NotificationsQueue") else { panic!("a queue") };
        assert_eq!(queue.name, "coactus-default-seoul-notifications");
        assert_eq!(queue.attributes["SqsManagedSseEnabled"], "true");
        let redrive: Value = serde_json::from_str(&queue.attributes["RedrivePolicy"]).unwrap();
        let dead_letters = "arn:aws:sqs:ap-northeast-2:000000000000:coactus-default-seoul-notifications-dlq";
        assert_eq!(redrive["deadLetterTargetArn"], dead_letters);
        let policy: Value = serde_json::from_str(&queue.attributes["Policy"]).unwrap();
        let topic = "arn:aws:sns:ap-northeast-2:000000000000:coactus-default-seoul-notifications";
        assert_eq!(policy["Statement"][0]["Condition"]["ArnEquals"]["aws:SourceArn"], topic);
        assert_eq!(queue.tags["coactus:system"], "default/seoul");

        let Some(Recreation::Topic(topic)) = recreation("Topic") else { panic!("a topic") };
        assert!(topic.attributes["Policy"].contains("DenyWithoutTls"));
        let Some(Recreation::Subscription(new)) = recreation("TopicSubscription") else { panic!("a subscription") };
        assert_eq!(new.attributes["RawMessageDelivery"], "true");
        assert!(new.attributes["RedrivePolicy"].contains("-notifications-undelivered"));
    }

    #[test]
    fn what_others_name_is_created_first() {
        let ranks = ["OffersQueueDeadLetters", "OffersQueue", "Topic", "TopicSubscription"]
            .map(|logical_id| recreation(logical_id).unwrap().rank());
        assert_eq!(ranks, [0, 1, 2, 3]);
    }
}
