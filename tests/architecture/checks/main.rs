//! What every change of the sources must keep: the invariants of ARCHITECTURE.md that can be read off the sources and
//! the dependency graph, no import circles, and the words of this repository.

#![cfg(test)]

mod dependencies;
mod sources;
mod words;
