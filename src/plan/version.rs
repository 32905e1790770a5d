//! The version of the plan format.

/// The version of the format that this build writes and reads.
pub const VERSION: u32 = 5;
