//! What the suites share: the checkout's text and crates, the rules held over them, and the kit that drives the product.
#![forbid(unsafe_code)]

pub mod bench;
pub mod budget;
pub mod kit;
pub mod licences;
pub mod load;
pub mod repository;
pub mod source;
pub mod stage;
pub mod suite;
pub mod targets;
pub mod tidy;
pub mod walls;
