//! The process as a whole: per-process state, and forks.

#[cfg(not(backstay_loom))]
pub mod fork;
#[cfg_attr(backstay_loom, allow(dead_code))]
mod gate;
mod per_process;

pub(crate) use per_process::{PerProcess, this_process};
