//! The paired comparison, for `cargo xtask bench` and for `datapath bench`.
//!
//! All sites stand at once. A round makes each run once, briefly, in shuffled order, what is compared back to back, and ratios
//! are taken inside a round: absolute numbers move by half on a shared machine, such ratios by a few hundredths.
//!
//! - [`subject`]: what is compared, and [`place`]: where that stands; [`own`] is a host of ours.
//! - [`load`]: what is measured of it.
//! - [`stand`]: everything that stands, and its rounds; [`results`]: what was measured.
//! - [`quartiles`], [`shuffle`]: what measured numbers come to, and the order to measure in.
//! - [`flows`]: forgetting all flows between two measurements.
//! - [`machine`]: where it is measured, and what else happens there.
//! - [`interruption`], [`progress`], [`table`]: being asked to stop, how far it is, tables of text.

pub mod flows;
pub mod interruption;
pub mod load;
pub mod machine;
pub mod own;
pub mod place;
pub mod progress;
pub mod quartiles;
pub mod results;
pub mod shuffle;
pub mod stand;
pub mod subject;
pub mod table;

pub use load::{Load, Measure, Reading};
pub use place::Place;
pub use results::{Results, Run, family_name};
pub use stand::Stand;
pub use subject::{Site, Subject, grouped};
