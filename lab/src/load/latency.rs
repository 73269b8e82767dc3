//! How long requests waited for their answers.

use std::time::Duration;

use hdrhistogram::Histogram;

/// How fast requests were answered.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Answers a second.
    pub rate: f64,
    /// How long each request waited, in nanoseconds, to three digits.
    pub times: Histogram<u64>,
}

impl Latency {
    /// A histogram of nanoseconds without any: to three digits, up to ten seconds.
    ///
    /// # Panics
    /// Never: the bounds are ones that the crate takes.
    #[must_use]
    pub fn histogram() -> Histogram<u64> {
        Histogram::new_with_bounds(100, 10_000_000_000, 3).expect("bounds that the crate takes")
    }

    /// Half of the answers took no longer.
    #[must_use]
    pub fn p50(&self) -> Duration {
        Duration::from_nanos(self.times.value_at_quantile(0.5))
    }

    /// 99 of 100 answers took no longer.
    #[must_use]
    pub fn p99(&self) -> Duration {
        Duration::from_nanos(self.times.value_at_quantile(0.99))
    }
}
