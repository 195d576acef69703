//! AWS as the engine uses it: ports, CloudFormation's states and changes, and the SDK adapters.

pub mod aws;
pub mod ports;
mod resource_change;
pub mod stack;

pub use resource_change::{
    ChangeCounts, ChangeKind, LiveDrift, LiveValue, MonthlyCost, PropertyValue, Replacement, ResourceChange,
};
