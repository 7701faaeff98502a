//! Named instances: one for each name in the process.

mod named;
mod registry;
