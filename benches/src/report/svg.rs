//! Drawings, as text that stands inside a page. Colours come from the page's style, by class: light and dark are its matter.

use std::fmt::Write as _;

/// Where a text is beside its point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    /// Right of it.
    Start,
    /// Around it.
    Middle,
    /// Left of it.
    End,
}

/// A drawing that is being made.
pub struct Svg {
    size: (f64, f64),
    body: String,
}

impl Svg {
    /// Of this width and height, in pixels where there is room for them.
    #[must_use]
    pub fn new(width: f64, height: f64) -> Self {
        Self { size: (width, height), body: String::new() }
    }

    /// A rectangle; one of less than no width is drawn as none.
    pub fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
        let width = width.max(0.0);
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" class="{class}"/>"#
        );
    }

    /// A straight line.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        let _ = writeln!(self.body, r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#);
    }

    /// A dot.
    pub fn dot(&mut self, (x, y): (f64, f64), class: &str) {
        let _ = writeln!(self.body, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" class="{class}"/>"#);
    }

    /// Lines from point to point.
    pub fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        let _ = writeln!(self.body, r#"<polyline points="{}" class="{class}"/>"#, joined(points));
    }

    /// What such lines enclose.
    pub fn polygon(&mut self, points: &[(f64, f64)], class: &str) {
        let _ = writeln!(self.body, r#"<polygon points="{}" class="{class}"/>"#, joined(points));
    }

    /// A text, with its base line on the point.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        let _ =
            writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{text}</text>"#);
    }

    /// The drawing; `title` is what it is for those who do not see it.
    #[must_use]
    pub fn finish(self, title: &str) -> String {
        let (width, height) = self.size;
        format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" style=\"max-width:{width:.0}px\" role=\"img\">\n<title>{}</title>\n{}</svg>\n",
            escaped(title),
            self.body
        )
    }
}

fn joined(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

/// Text as it may stand in HTML and in attributes of it.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_is_well_formed() {
        let mut svg = Svg::new(10.0, 5.0);
        svg.text((1.0, 2.0), Anchor::End, "label", "a < b & \"c\"");
        svg.rect((0.0, 0.0), (-3.0, 1.0), "bar");
        svg.polyline(&[(0.0, 1.0), (2.25, 3.0)], "curve");
        let text = svg.finish("one > two");
        assert!(text.starts_with("<svg viewBox=\"0 0 10 5\""), "{text}");
        assert!(text.contains("text-anchor=\"end\" class=\"label\">a &lt; b &amp; &quot;c&quot;</text>"), "{text}");
        assert!(text.contains("width=\"0.0\"") && text.contains("points=\"0.0,1.0 2.2,3.0\""), "{text}");
        assert!(text.contains("<title>one &gt; two</title>"), "{text}");
    }
}
