//! Compares starting a program in a cell with starting it plainly and in other people's boxes, all in one interleaved run.
//!
//! Absolute times say as much about the machine and its neighbours as about us, so what counts is the ratio to a plain
//! spawn in the same run, and the processor time, which is the column that survives noise.

pub mod measure;
pub mod oci;
pub mod peers;
pub mod report;
pub mod starter;
