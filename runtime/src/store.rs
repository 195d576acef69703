//! The single table: items, keys and transactions.

pub mod entity;
