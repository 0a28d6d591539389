//! The figures as bars, each as long as its share of the target.

use std::fmt::Write;

use crate::report::Row;

const WIDTH: f64 = 960.0;
const LABELS: f64 = 430.0;
const LINE: f64 = 24.0;
const TOP: f64 = 56.0;
/// The longest bar, in targets.
const LONGEST: f64 = 1.5;

/// An SVG; a bar that ends left of the line meets its target.
pub fn svg(rows: &[Row], title: &str) -> String {
    let height = TOP + LINE * rows.len() as f64 + 16.0;
    let scale = (WIDTH - LABELS - 120.0) / LONGEST;
    let limit = LABELS + scale;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"15\">{}</text>\n\
         <text x=\"{limit}\" y=\"46\" text-anchor=\"middle\" fill=\"#555\">target</text>\n",
        escaped(title)
    );
    for (at, row) in rows.iter().enumerate() {
        let y = TOP + LINE * at as f64;
        let length = row.share().clamp(0.004, LONGEST) * scale;
        let color = if row.is_met() { "#2a7a4b" } else { "#b3372f" };
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{}\" width=\"{length:.1}\" height=\"14\" fill=\"{color}\"/>\
             <text x=\"{:.1}\" y=\"{}\" fill=\"#333\">{} ({})</text>",
            LABELS - 8.0,
            y + 12.0,
            escaped(row.figure),
            y,
            LABELS + length + 6.0,
            y + 12.0,
            escaped(&row.shown()),
            escaped(&row.target.show()),
        );
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{limit}\" y1=\"50\" x2=\"{limit}\" y2=\"{}\" stroke=\"#555\" stroke-dasharray=\"4 3\"/>\n</svg>",
        height - 12.0
    );
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
