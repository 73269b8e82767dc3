//! Bars with quartiles, and marks where they should end.

use comparison::quartiles::Quartiles;

use super::scale::Scale;
use super::svg::{Anchor, Svg};
use crate::judge::{Bound, Judgement, Verdict};

const WIDTH: f64 = 920.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 8.0;
const BAR: f64 = 13.0;
const GAP: f64 = 9.0;
const AXIS: f64 = 26.0;
/// What is longer ends here, so that it does not make everything else short; its number is beside it.
const LONGEST: f64 = 3.0;

/// What belongs together: one bar for each of a few series.
pub struct Row {
    /// What it is.
    pub label: String,
    /// Under which conditions.
    pub detail: String,
    /// The bars, the first on top.
    pub bars: Vec<Bar>,
    /// Where they must end.
    pub must: Option<Bound>,
    /// Where they would better end.
    pub reach: Option<f64>,
}

/// One bar.
pub struct Bar {
    /// The class of its colour.
    pub class: &'static str,
    /// Written beside it.
    pub name: String,
    /// How long it is.
    pub measured: Quartiles,
    /// What is said of it.
    pub verdict: Option<Verdict>,
}

/// Draws rows below each other, by one axis that begins at zero.
#[must_use]
pub fn draw(rows: &[Row], title: &str) -> String {
    let height = |row: &Row| BAR * row.bars.len().max(2) as f64 + GAP;
    let bottom = TOP + rows.iter().map(height).sum::<f64>();
    let scale = Scale::linear((0.0, longest(rows) * 1.04), (LEFT, WIDTH - RIGHT));
    let mut svg = Svg::new(WIDTH, bottom + AXIS);
    for tick in scale.ticks() {
        svg.line((scale.at(tick), TOP), (scale.at(tick), bottom), "grid");
        svg.text((scale.at(tick), bottom + 16.0), Anchor::Middle, "tick", &format!("{tick:.1}"));
    }
    let mut top = TOP;
    for row in rows {
        draw_row(&mut svg, row, top, &scale);
        top += height(row);
    }
    svg.finish(title)
}

fn longest(rows: &[Row]) -> f64 {
    let bars = rows.iter().flat_map(|row| row.bars.iter().map(|bar| bar.measured.upper));
    let marks = rows.iter().flat_map(|row| row.must.map(Bound::edges).unwrap_or_default().into_iter().chain(row.reach));
    bars.chain(marks).fold(1.0, f64::max).min(LONGEST)
}

fn draw_row(svg: &mut Svg, row: &Row, top: f64, scale: &Scale) {
    svg.text((LEFT - 12.0, top + 10.0), Anchor::End, "label", &row.label);
    svg.text((LEFT - 12.0, top + 23.0), Anchor::End, "detail", &row.detail);
    let bottom = top + BAR * row.bars.len() as f64;
    for (bar, number) in row.bars.iter().zip(0u8..) {
        let (y, Quartiles { lower, median, upper }) = (top + BAR * f64::from(number), bar.measured);
        svg.rect((LEFT, y), (scale.at(median) - LEFT, BAR - 2.0), &format!("bar {}", bar.class));
        let middle = y + (BAR - 2.0) / 2.0;
        svg.line((scale.at(lower), middle), (scale.at(upper), middle), "quartile");
        for end in [lower, upper] {
            svg.line((scale.at(end), middle - 3.0), (scale.at(end), middle + 3.0), "quartile");
        }
        let (class, mark) = match bar.verdict {
            Some(Verdict::Missed) => ("value missed", " ✗"),
            Some(Verdict::Reached) => ("value met", " ✓✓"),
            Some(Verdict::Met) => ("value met", " ✓"),
            Some(Verdict::NotMeasured) | None => ("value", ""),
        };
        let text = format!("{median:.2}{mark}  {}", bar.name);
        svg.text((WIDTH - RIGHT + 12.0, y + 10.0), Anchor::Start, class, &text);
    }
    for edge in row.must.map(Bound::edges).unwrap_or_default() {
        svg.line((scale.at(edge), top - 3.0), (scale.at(edge), bottom + 1.0), "must");
    }
    if let Some(reach) = row.reach {
        svg.line((scale.at(reach), top - 3.0), (scale.at(reach), bottom + 1.0), "reach");
    }
}

/// Judgements as rows: those of the same thing by IPv4 and IPv6 become one.
#[must_use]
pub fn judged(judgements: &[&Judgement]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for judgement in judgements {
        let Some(measured) = judgement.measured else { continue };
        let (detail, family) = judgement.detail.rsplit_once(", ").unwrap_or((&judgement.detail, ""));
        let class = if family == "IPv6" { "v6" } else { "v4" };
        let bar = Bar { class, name: family.to_owned(), measured, verdict: Some(judgement.verdict()) };
        match rows.iter_mut().find(|row| row.label == judgement.row && row.detail == detail) {
            Some(row) => row.bars.push(bar),
            None => rows.push(Row {
                label: judgement.row.clone(),
                detail: detail.to_owned(),
                bars: vec![bar],
                must: Some(judgement.must),
                reach: judgement.reach,
            }),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Unit;

    fn judgement(family: &str, median: f64) -> Judgement {
        Judgement {
            row: "E-W / L".into(),
            detail: format!("stream, x, {family}"),
            unit: Unit::Ratio,
            measured: Some(Quartiles { lower: median, median, upper: median }),
            samples: 12,
            must: Bound::AtLeast(0.95),
            reach: Some(1.25),
        }
    }

    #[test]
    fn both_families_are_one_row() {
        let (v4, v6) = (judgement("IPv4", 0.97), judgement("IPv6", 0.9));
        let rows = judged(&[&v4, &v6]);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].bars.iter().map(|bar| bar.class).collect::<Vec<_>>(), ["v4", "v6"]);
        assert_eq!((rows[0].label.as_str(), rows[0].detail.as_str()), ("E-W / L", "stream, x"));
        let drawing = draw(&rows, "streams");
        assert!(drawing.contains("0.97 ✓  IPv4") && drawing.contains("0.90 ✗  IPv6"), "{drawing}");
        assert_eq!((drawing.matches("class=\"must\"").count(), drawing.matches("class=\"reach\"").count()), (1, 1));
    }
}
