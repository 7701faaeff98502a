//! Measurements other than nanoseconds of a call: waiting tasks, idle watchdogs, allocations, scaling.

pub(crate) mod allocations;
pub(crate) mod apart;
pub(crate) mod crowds;
pub(crate) mod growth;
pub(crate) mod herd;
pub(crate) mod waiting;
