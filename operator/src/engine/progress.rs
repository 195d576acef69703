//! What the engine tells while it works. It never prints; who listens decides what becomes of an event.

use crate::cloud::ResourceChange;
use crate::cloud::stack::StackEvent;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step begins, in words for a person: `creating stack coactus-default-seoul`.
    Step(String),
    /// A rollback begins or is continued.
    Rollback(String),
    /// The changes about to be carried out.
    Changes(Vec<ResourceChange>),
    /// A resource of the stack (or the stack itself) changed its state.
    Stack(StackEvent),
    /// Resources are left out of an operation because a person has said so: the operation and their logical ids.
    LeftBehind(String, Vec<String>),
    /// Something that is not wrong but worth knowing.
    Note(String),
}

/// Somebody who listens.
pub trait Progress: Send {
    /// Called in the order things happen. Must not block.
    fn report(&mut self, event: Event);
}

impl<F: FnMut(Event) + Send> Progress for F {
    fn report(&mut self, event: Event) {
        self(event);
    }
}

/// Nobody listens.
pub struct Silent;

impl Progress for Silent {
    fn report(&mut self, _event: Event) {}
}
