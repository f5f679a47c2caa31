//! Bars as SVG, for a page that is light or dark.
//!
//! In: labels and figures. Out: SVG. Guarantee: pure; the same figures give the same bytes.

use std::fmt::Write;

use crate::statistics::Figure;

const WIDTH: f64 = 760.0;
const LABELS: f64 = 230.0;
const VALUES: f64 = 130.0;
const ROW: f64 = 26.0;
const TITLE: f64 = 34.0;

/// One bar; its group decides its colour.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    pub label: String,
    pub group: &'static str,
    pub figure: Figure,
}

/// Bars below each other, each with its spread as a line.
#[must_use]
pub fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.figure.greatest).fold(f64::MIN_POSITIVE, f64::max);
    let scale = |value: f64| value / most * (WIDTH - LABELS - VALUES);
    #[allow(clippy::cast_precision_loss, reason = "a handful of bars")]
    let height = TITLE + ROW * bars.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\" font-weight=\"bold\" fill=\"#222222\">{}</text>\n",
        escape(title)
    );
    let mut top = TITLE;
    for bar in bars {
        let Figure { median, least, greatest } = bar.figure;
        let (middle, color) = (top + ROW / 2.0, color(bar.group));
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#222222\">{}</text>\n\
             <rect x=\"{LABELS}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{color}\"/>\n\
             <path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"#222222\" stroke-width=\"1.5\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#222222\">{} {}</text>",
            LABELS - 8.0,
            middle + 4.5,
            escape(&bar.label),
            top + 4.0,
            scale(median),
            ROW - 8.0,
            LABELS + scale(least),
            LABELS + scale(greatest),
            LABELS + scale(greatest) + 8.0,
            middle + 4.5,
            rounded(median),
            escape(unit),
        );
        top += ROW;
    }
    svg + "</svg>\n"
}

fn rounded(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn color(group: &str) -> &'static str {
    match group {
        "Python" => "#e0a63a",
        "Node.js" => "#6aa56a",
        _ => "#4a7fb5",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_width_and_the_others_are_in_proportion() {
        let bar = |label: &str, median| Bar {
            label: label.to_owned(),
            group: "Rust",
            figure: Figure { median, least: median, greatest: median },
        };
        let svg = bars("a < b", "ms", &[bar("one", 10.0), bar("two", 20.0)]);
        assert!(svg.contains("a &lt; b"), "{svg}");
        assert!(svg.contains("width=\"200.0\"") && svg.contains("width=\"400.0\""), "{svg}");
    }
}
