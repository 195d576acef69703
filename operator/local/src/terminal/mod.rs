//! What people see of a run.

pub(crate) mod display;
pub(crate) mod stack_progress;
pub(crate) mod view;
