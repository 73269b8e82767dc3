//! Shared access to the buckets of limits: words that any CPU charges at any time.

#![expect(unsafe_code, reason = "the one door to buckets that other CPUs charge at the same time")]

use core::ptr;

use super::slot::atomic;
use crate::abi::{GuardBuckets, Rate};

/// One bucket of a limit.
///
/// Without a lock: each CPU looks, and then adds. What is added is never lost, so no more passes in the long run than the
/// rate; CPUs that look at the same moment may let one packet each through above the burst, which the next ones pay for.
#[derive(Clone, Copy, Debug)]
pub struct Bucket(*mut u64);

impl Bucket {
    /// The bucket at this address.
    ///
    /// # Safety
    /// `bucket` points to a word of a map's value, or to one that outlives this and is only used by this type.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(bucket: *mut u64) -> Self {
        Self(bucket)
    }

    /// Charges so many packets; false, and nothing charged, where they are too many. Several at once may overdraw it, which
    /// the next ones pay for.
    #[inline(always)]
    #[must_use]
    pub fn take(&self, rate: &Rate, packets: u32, now: u64) -> bool {
        let cost = rate.interval.wrapping_mul(packets as u64);
        // SAFETY: valid by `new`; a whole word.
        let filled_until = unsafe { ptr::read_volatile(self.0) };
        if filled_until > now {
            if filled_until - now > rate.tolerance {
                return false;
            }
        // SAFETY: as above.
        } else if unsafe { atomic::swap64(self.0, filled_until, now + cost) } {
            return true;
        }
        // SAFETY: as above.
        unsafe { atomic::add64(self.0, cost) };
        true
    }
}

/// One value of `GUARD_SOURCES`.
#[derive(Clone, Copy, Debug)]
pub struct SourceSlot(*mut GuardBuckets);

impl SourceSlot {
    /// The value at this address.
    ///
    /// # Safety
    /// As [`Bucket::new`], with [`GuardBuckets`].
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(buckets: *mut GuardBuckets) -> Self {
        Self(buckets)
    }

    /// Of its packets.
    #[inline(always)]
    #[must_use]
    pub const fn packets(&self) -> Bucket {
        // SAFETY: valid by `new`.
        Bucket(unsafe { &raw mut (*self.0).packets })
    }

    /// Of its SYNs to published ports.
    #[inline(always)]
    #[must_use]
    pub const fn syns(&self) -> Bucket {
        // SAFETY: valid by `new`.
        Bucket(unsafe { &raw mut (*self.0).syns })
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn passes(bucket: &Cell<u64>, rate: &Rate, now: u64) -> bool {
        // SAFETY: the cell outlives the call, and nobody else uses it meanwhile.
        unsafe { Bucket::new(bucket.as_ptr()) }.take(rate, 1, now)
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let (bucket, rate) = (Cell::new(0), Rate::new(100, 5));
        let at = |now: u64| (0..1_000).filter(|_| passes(&bucket, &rate, now)).count();
        assert_eq!(at(7 * SECOND), 5);
        assert_eq!(at(7 * SECOND + SECOND / 100), 1);
        assert_eq!(at(7 * SECOND + SECOND / 20), 4);
        assert_eq!(at(9 * SECOND), 5);
    }

    #[test]
    fn several_at_once_are_paid_for() {
        let (bucket, rate) = (Cell::new(0), Rate::new(100, 1));
        // SAFETY: as in `passes`.
        let shared = unsafe { Bucket::new(bucket.as_ptr()) };
        assert!(shared.take(&rate, 10, SECOND));
        assert!(!passes(&bucket, &rate, SECOND + SECOND / 20));
        assert!(passes(&bucket, &rate, SECOND + SECOND / 10));
    }

    proptest! {
        /// In any time, no more than the burst and what the rate brings; and not much less, where enough is asked for.
        #[test]
        fn no_more_than_the_rate(
            per_second in 1_u32..10_000_000,
            burst in 1_u32..100_000,
            steps in prop::collection::vec(0_u64..SECOND / 50, 1..300),
        ) {
            let (bucket, rate) = (Cell::new(0), Rate::new(per_second, burst));
            let (mut now, mut passed) = (SECOND, 0_u64);
            for step in steps {
                now += step;
                passed += u64::from(passes(&bucket, &rate, now));
            }
            prop_assert!(passed <= u64::from(burst) + (now - SECOND) / rate.interval + 1);
        }

        /// Asked as often as can be at each tick of the clock, all of the rate passes, where the burst covers a tick.
        #[test]
        fn no_less_than_the_rate(per_second in 1_u32..50_000, extra in 0_u32..1_000) {
            const TICK: u64 = SECOND / 100;
            let (bucket, rate) = (Cell::new(0), Rate::new(per_second, per_second.div_ceil(100) + 1 + extra));
            let mut passed = 0_u64;
            for tick in 0..300 {
                while passes(&bucket, &rate, SECOND + tick * TICK) {
                    passed += 1;
                }
            }
            prop_assert!(passed >= 299 * TICK / rate.interval, "{passed}");
        }
    }
}
