//! What is not a matter of nanoseconds: many tasks that wait, many watchdogs that idle, no allocation.

pub(crate) mod allocations;
pub(crate) mod apart;
pub(crate) mod crowds;
pub(crate) mod growth;
pub(crate) mod herd;
pub(crate) mod waiting;
