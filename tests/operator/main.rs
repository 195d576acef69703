//! The operator's engine against a real (emulated) AWS endpoint, through the library that the command line and the controller
//! use.

mod data;
mod drift;
mod lifecycle;
mod ownership;
mod support;
