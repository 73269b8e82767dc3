//! Numbers as places on an axis.

/// An axis.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scale {
    domain: (f64, f64),
    range: (f64, f64),
    logarithmic: bool,
}

impl Scale {
    /// Each number as far from the next.
    #[must_use]
    pub const fn linear(domain: (f64, f64), range: (f64, f64)) -> Self {
        Self { domain, range, logarithmic: false }
    }

    /// Each ten times as much as far from the next; the domain is above zero.
    #[must_use]
    pub const fn logarithmic(domain: (f64, f64), range: (f64, f64)) -> Self {
        Self { domain, range, logarithmic: true }
    }

    /// The place of a number; at an end, for one beyond it.
    #[must_use]
    pub fn at(&self, number: f64) -> f64 {
        let place = |number: f64| if self.logarithmic { number.ln() } else { number };
        let (first, last) = (place(self.domain.0), place(self.domain.1));
        let share = if last > first { (place(number) - first) / (last - first) } else { 0.5 };
        self.range.0 + (self.range.1 - self.range.0) * share.clamp(0.0, 1.0)
    }

    /// Round numbers to be named beside the axis.
    #[must_use]
    pub fn ticks(&self) -> Vec<f64> {
        if self.logarithmic { powers(self.domain) } else { steps(self.domain) }
    }
}

/// Four to ten multiples of 1, 2 or 5 times a power of ten.
fn steps((first, last): (f64, f64)) -> Vec<f64> {
    let rough = (last - first) / 6.0;
    if rough <= 0.0 {
        return vec![first];
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(power);
    let (from, to) = ((first / step - 1e-9).ceil() as i64, (last / step + 1e-9).floor() as i64);
    (from..=to).map(|number| number as f64 * step).collect()
}

/// The powers of ten; where there are fewer than three, twice and five times them too.
fn powers((first, last): (f64, f64)) -> Vec<f64> {
    let (from, to) = (first.log10().floor() as i32, last.log10().ceil() as i32);
    let within = |number: &f64| (first * (1.0 - 1e-9)..=last * (1.0 + 1e-9)).contains(number);
    let times = |factors: &'static [f64]| {
        let numbers =
            (from..=to).flat_map(move |exponent| factors.iter().map(move |factor| factor * 10f64.powi(exponent)));
        numbers.filter(within).collect::<Vec<_>>()
    };
    let tens = times(&[1.0]);
    if tens.len() < 3 { times(&[1.0, 2.0, 5.0]) } else { tens }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_places() {
        let linear = Scale::linear((0.0, 2.0), (100.0, 300.0));
        assert_eq!([0.0, 1.0, 2.0, 3.0].map(|number| linear.at(number)), [100.0, 200.0, 300.0, 300.0]);
        let logarithmic = Scale::logarithmic((1.0, 10_000.0), (0.0, 400.0));
        assert!((logarithmic.at(100.0) - 200.0).abs() < 1e-9);
        assert_eq!(Scale::linear((1.0, 1.0), (0.0, 10.0)).at(1.0), 5.0);
    }

    #[test]
    fn ticks_are_round() {
        let rounded = |ticks: Vec<f64>| ticks.iter().map(|tick| format!("{tick:.2}")).collect::<Vec<_>>().join(" ");
        assert_eq!(rounded(steps((0.0, 1.7))), "0.00 0.50 1.00 1.50");
        assert_eq!(rounded(powers((14.0, 120.0))), "20.00 50.00 100.00");
        assert_eq!(rounded(steps((0.0, 1.0))), "0.00 0.20 0.40 0.60 0.80 1.00");
        assert_eq!(rounded(powers((1.0, 100_000.0))), "1.00 10.00 100.00 1000.00 10000.00 100000.00");
        assert_eq!(steps((3.0, 3.0)), [3.0]);
    }
}
