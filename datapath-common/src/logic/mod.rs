//! Pure packet logic: functions of values, the same in the kernel, in tests and under the fuzzer.

pub mod checksum;
pub mod extensions;
pub mod fragment;
pub mod headers;
pub mod message;
pub mod parse;
pub mod quoted;
pub mod rewrite;
pub mod segment;
pub mod tcp_state;
