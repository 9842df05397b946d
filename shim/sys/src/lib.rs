//! One system call per function.
