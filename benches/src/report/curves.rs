//! Curves over two axes: what grows with what, and how latencies are spread.

use comparison::grouped;
use comparison::quartiles::Quartiles;
use hdrhistogram::Histogram;

use super::scale::Scale;
use super::svg::{Anchor, Svg};

const WIDTH: f64 = 590.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 62.0;
/// Names of the curves stand behind their ends.
const RIGHT: f64 = 146.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 48.0;
/// Between the base lines of two names.
const LINE: f64 = 14.0;
/// Points of a distribution.
const POINTS: usize = 250;
/// Above this share, a distribution is what the machine did, and not the path.
const SHOWN: f64 = 0.99;

/// A curve.
pub struct Curve {
    /// The class of its colour.
    pub class: &'static str,
    /// Written behind its end.
    pub name: String,
    /// Its points, from left to right, with the quartiles around them.
    pub points: Vec<(f64, Quartiles)>,
}

/// The axes of a chart.
pub struct Axes<'a> {
    /// What is to the right, with its unit.
    pub x: &'a str,
    /// What is upwards, with its unit.
    pub y: &'a str,
    /// Whether steps to the right multiply.
    pub x_logarithmic: bool,
    /// Whether steps upwards multiply; otherwise they begin at zero.
    pub y_logarithmic: bool,
}

/// Draws curves, each in a band that reaches from quartile to quartile. Without points there is no drawing.
#[must_use]
pub fn draw(curves: &[Curve], axes: &Axes<'_>, title: &str) -> String {
    let Some((x, y)) = scales(curves, axes) else { return String::new() };
    let mut svg = Svg::new(WIDTH, HEIGHT);
    grid(&mut svg, axes, &x, &y);
    let mut ends = Vec::new();
    for curve in curves.iter().filter(|curve| !curve.points.is_empty()) {
        let place = |(at, number): (f64, f64)| (x.at(at), y.at(number));
        let middle: Vec<_> = curve.points.iter().map(|(at, quartiles)| place((*at, quartiles.median))).collect();
        let lower = curve.points.iter().map(|(at, quartiles)| place((*at, quartiles.lower)));
        let upper = curve.points.iter().rev().map(|(at, quartiles)| place((*at, quartiles.upper)));
        svg.polygon(&lower.chain(upper).collect::<Vec<_>>(), &format!("band {}", curve.class));
        svg.polyline(&middle, &format!("curve {}", curve.class));
        if middle.len() < POINTS / 2 {
            middle.iter().for_each(|point| svg.dot(*point, &format!("dot {}", curve.class)));
        }
        ends.push((middle[middle.len() - 1], curve));
    }
    ends.sort_by(|(one, _), (other, _)| one.1.total_cmp(&other.1));
    let heights = spread(&ends.iter().map(|((_, height), _)| *height).collect::<Vec<_>>());
    for (height, ((end, _), curve)) in heights.into_iter().zip(ends) {
        svg.text((end + 8.0, height + 4.0), Anchor::Start, &format!("name {}", curve.class), &curve.name);
    }
    svg.finish(title)
}

fn scales(curves: &[Curve], axes: &Axes<'_>) -> Option<(Scale, Scale)> {
    let points = || curves.iter().flat_map(|curve| curve.points.iter());
    let bounds = |numbers: &mut dyn Iterator<Item = f64>| {
        numbers.fold(None, |bounds: Option<(f64, f64)>, number| {
            let (least, most) = bounds.unwrap_or((number, number));
            Some((least.min(number), most.max(number)))
        })
    };
    let across = bounds(&mut points().map(|(at, _)| *at))?;
    let up = bounds(&mut points().flat_map(|(_, quartiles)| [quartiles.lower, quartiles.upper]))?;
    let (width, height) = ((LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP));
    let x = if axes.x_logarithmic { Scale::logarithmic(across, width) } else { Scale::linear(across, width) };
    let y = if axes.y_logarithmic {
        Scale::logarithmic((up.0 / 1.5, up.1 * 1.5), height)
    } else {
        Scale::linear((0.0, up.1 * 1.08), height)
    };
    Some((x, y))
}

fn grid(svg: &mut Svg, axes: &Axes<'_>, x: &Scale, y: &Scale) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in y.ticks() {
        svg.line((LEFT, y.at(tick)), (right, y.at(tick)), "grid");
        svg.text((LEFT - 7.0, y.at(tick) + 4.0), Anchor::End, "tick", &number(tick));
    }
    for tick in x.ticks() {
        svg.line((x.at(tick), bottom), (x.at(tick), bottom + 4.0), "axis");
        svg.text((x.at(tick), bottom + 17.0), Anchor::Middle, "tick", &number(tick));
    }
    svg.line((LEFT, bottom), (right, bottom), "axis");
    svg.text((f64::midpoint(LEFT, right), HEIGHT - 10.0), Anchor::Middle, "axis-name", axes.x);
    svg.text((6.0, 12.0), Anchor::Start, "axis-name", axes.y);
}

fn number(number: f64) -> String {
    match number {
        large if large >= 1_000.0 => grouped(large as u32),
        whole if whole.fract() == 0.0 => format!("{whole:.0}"),
        small => format!("{small:.1}"),
    }
}

/// Rising heights, moved down where they are nearer to each other than a line of text.
fn spread(heights: &[f64]) -> Vec<f64> {
    let mut last = f64::NEG_INFINITY;
    let mut spread = Vec::with_capacity(heights.len());
    for height in heights {
        last = height.max(last + LINE);
        spread.push(last);
    }
    spread
}

/// The share of requests that waited no longer than so many microseconds, in percent, as the points of a curve that ends at
/// `most` of them.
#[must_use]
pub fn distribution(times: &Histogram<u64>, most: f64) -> Vec<(f64, Quartiles)> {
    let shares = (0..=POINTS).map(|point| SHOWN * point as f64 / POINTS as f64);
    let points = shares.map(|share| {
        let percent = share * 100.0;
        let time = times.value_at_quantile(share) as f64 / 1e3;
        (time, Quartiles { lower: percent, median: percent, upper: percent })
    });
    if times.is_empty() { Vec::new() } else { points.take_while(|(time, _)| *time <= most).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_rises_from_the_fastest_to_nearly_the_slowest() {
        let mut times = Histogram::new(3).expect("bounds");
        (1..=1_000u64).for_each(|time| times.record(time * 1_000).expect("in bounds"));
        let points = distribution(&times, f64::INFINITY);
        assert!(points.is_sorted_by(|one, other| one.0 <= other.0 && one.1.median < other.1.median));
        let at_half = points.iter().find(|(_, share)| share.median >= 50.0).expect("there is a middle");
        assert!((at_half.0 - 500.0).abs() < 5.0, "{at_half:?}");
        let (first, last) = (points[0].0, points[points.len() - 1].0);
        assert!((first - 1.0).abs() < 0.1 && (last - 990.0).abs() < 5.0, "{first} {last}");
        let cut = distribution(&times, 250.0);
        assert!(cut.len() < points.len() && cut.iter().all(|(time, _)| *time <= 250.0));
        assert_eq!(distribution(&Histogram::new(3).expect("bounds"), 1.0), []);
    }

    #[test]
    fn names_do_not_cover_each_other() {
        assert_eq!(spread(&[10.0, 12.0, 60.0]), [10.0, 24.0, 60.0]);
    }

    #[test]
    fn a_chart_without_points_is_not_drawn() {
        let axes = Axes { x: "ports", y: "µs", x_logarithmic: true, y_logarithmic: false };
        let mut curve = Curve { class: "ours", name: "N-S".into(), points: Vec::new() };
        assert_eq!(draw(std::slice::from_ref(&curve), &axes, "nothing"), "");
        curve.points =
            [1.0, 1_000.0].map(|ports| (ports, Quartiles { lower: 70.0, median: 80.0, upper: 90.0 })).to_vec();
        let drawing = draw(&[curve], &axes, "something");
        assert!(drawing.contains(">1,000</text>") && drawing.contains(">N-S</text>"), "{drawing}");
        assert_eq!(drawing.matches("<circle").count(), 2);
    }
}
