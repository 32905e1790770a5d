//! Plots as SVG: lines over a number, bars by name, histograms. Colours are the page's, so that they follow its theme; every
//! mark tells its value when pointed at.

use std::fmt::Write;

/// Text made safe for HTML.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// The three colours of the page, in the order in which plots use them.
const COLOURS: [&str; 3] = ["first", "second", "third"];

/// One line of a plot.
pub struct Series<'a> {
    /// What it is.
    pub name: &'a str,
    /// `(x, y)`, by rising x.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;

/// Round numbers from below `low` to above `high`, about `count` of them.
fn ticks(low: f64, high: f64, count: f64) -> Vec<f64> {
    let span = (high - low).max(1e-9);
    let rough = span / count;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(power);
    let (first, last) = ((low / step).floor(), (high / step).ceil());
    (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect()
}

/// A number with as many digits as its tick needs.
fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Lines over a shared x.
pub fn lines(series: &[Series<'_>], x_name: &str, y_name: &str) -> String {
    const HEIGHT: f64 = 280.0;
    const TOP: f64 = 26.0;
    const BOTTOM: f64 = 36.0;
    let finite = || series.iter().flat_map(|s| &s.points).filter(|(_, y)| y.is_finite());
    let bound =
        |pick: fn(&(f64, f64)) -> f64, fold: fn(f64, f64) -> f64, start| finite().map(pick).fold(start, fold);
    let (x0, x1) = (bound(|p| p.0, f64::min, f64::MAX), bound(|p| p.0, f64::max, f64::MIN));
    let (y0, y1) = (bound(|p| p.1, f64::min, f64::MAX), bound(|p| p.1, f64::max, f64::MIN));
    if x0 > x1 {
        return "<p class=\"soft\">Nothing to plot: no finite value.</p>".into();
    }
    let y_ticks = ticks(y0, y1, 5.0);
    let (y0, y1) = (y_ticks[0], y_ticks[y_ticks.len() - 1].max(y_ticks[0] + 1e-9));
    let x = |value: f64| LEFT + (value - x0) / (x1 - x0).max(1e-9) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (y1 - value) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
    let mut out = open(HEIGHT, &format!("{y_name} over {x_name}"));
    for tick in &y_ticks {
        let at = y(*tick);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
            WIDTH - RIGHT
        );
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            plain(*tick)
        );
    }
    for tick in ticks(x0, x1, 12.0).into_iter().filter(|tick| (x0..=x1).contains(tick) && tick.fract() == 0.0)
    {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(tick),
            HEIGHT - BOTTOM + 16.0,
            plain(tick)
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text x=\"0\" y=\"12\">{}</text>",
        WIDTH - RIGHT,
        HEIGHT - 4.0,
        escaped(x_name),
        escaped(y_name)
    );
    let mut legend = WIDTH - RIGHT;
    for (series, colour) in series.iter().zip(COLOURS.iter().cycle()).collect::<Vec<_>>().into_iter().rev() {
        let name = escaped(series.name);
        let _ = write!(
            out,
            "<text class=\"{colour}\" x=\"{legend:.1}\" y=\"12\" text-anchor=\"end\">{name}</text>"
        );
        legend -= 7.0 * series.name.chars().count() as f64 + 18.0;
    }
    for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let points = || series.points.iter().filter(|(_, value)| value.is_finite());
        let path: Vec<String> = points().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
        let _ = write!(out, "<polyline class=\"{colour}\" points=\"{}\"/>", path.join(" "));
        for (px, py) in points() {
            let _ = write!(
                out,
                "<circle class=\"fill {colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{} {}: {py:.2} {}</title></circle>",
                x(*px),
                y(*py),
                escaped(x_name),
                plain(*px),
                escaped(y_name)
            );
        }
    }
    out.push_str("</svg>");
    out
}

/// A bar.
pub struct Bar {
    /// What it is of.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The value in words.
    pub label: String,
}

/// Horizontal bars from zero, one below the other.
pub fn bars(bars: &[Bar], what: &str) -> String {
    const ROW: f64 = 22.0;
    const NAMES: f64 = 300.0;
    const LABELS: f64 = 150.0;
    let most = bars.iter().map(|bar| bar.value).filter(|value| value.is_finite()).fold(1e-9, f64::max);
    let mut out = open(ROW * bars.len() as f64 + 4.0, what);
    for (index, bar) in bars.iter().enumerate() {
        let top = index as f64 * ROW;
        let length =
            if bar.value.is_finite() { bar.value.max(0.0) / most * (WIDTH - NAMES - LABELS) } else { 0.0 };
        let name = shortened(&bar.name);
        let _ = write!(
            out,
            "<g><title>{}: {}</title><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"fill first\" x=\"{NAMES}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{:.1}\" rx=\"2\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
            escaped(&bar.name),
            escaped(&bar.label),
            NAMES - 8.0,
            top + 15.0,
            escaped(&name),
            top + 4.0,
            ROW - 8.0,
            NAMES + length + 8.0,
            top + 15.0,
            escaped(&bar.label)
        );
    }
    out.push_str("</svg>");
    out
}

/// As much of a name as there is room for.
fn shortened(name: &str) -> String {
    const ROOM: usize = 42;
    match name.char_indices().nth(ROOM) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

fn open(height: f64, what: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escaped(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_around() {
        assert_eq!(ticks(17.1, 38.3, 5.0), [15.0, 20.0, 25.0, 30.0, 35.0, 40.0]);
        assert_eq!(ticks(0.0, 1.0, 5.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert!(ticks(3.0, 3.0, 5.0).len() < 20);
    }

    #[test]
    fn infinite_values_leave_gaps_and_names_are_escaped() {
        let series = [Series { name: "a<b", points: vec![(0.0, 1.0), (1.0, f64::INFINITY), (2.0, 3.0)] }];
        let svg = lines(&series, "x", "y & z");
        assert!(
            svg.contains("a&lt;b")
                && svg.contains("y &amp; z")
                && !svg.contains("inf")
                && !svg.contains("NaN")
        );
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(lines(&[], "x", "y").contains("Nothing to plot"));
        let bar = Bar { name: "\"n\"".into(), value: f64::NAN, label: "?".into() };
        assert!(!bars(&[bar], "bars").contains("NaN"));
    }
}
