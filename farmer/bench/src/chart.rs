//! Line charts as SVG: few points, seconds upward in decades.

use crate::report::seconds;
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 310.0;
const COLOURS: [&str; 2] = ["#1f6fb4", "#c8511b"];

/// A line: a name and seconds for each place.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) seconds: Vec<f64>,
}

/// A chart of lines over places that stand side by side at equal distances.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) places_name: &'static str,
    pub(crate) places: Vec<String>,
    pub(crate) lines: Vec<Line>,
}

impl Chart {
    /// The chart as an SVG document.
    pub(crate) fn svg(&self) -> String {
        let all = || self.lines.iter().flat_map(|line| &line.seconds).copied();
        let low = all().fold(f64::INFINITY, f64::min).log10().floor() as i32;
        // A decade at least.
        let high = (all().fold(0.0, f64::max).log10().ceil() as i32).max(low + 1);
        let y = |seconds: f64| {
            let share = (seconds.log10() - f64::from(low)) / f64::from(high - low);
            BOTTOM - (BOTTOM - TOP) * share
        };
        let x = |place: usize| LEFT + (RIGHT - LEFT) * (place as f64 + 0.5) / self.places.len() as f64;
        let mut svg = Svg::new();
        svg.text(WIDTH / 2.0, 22.0, "middle", "#222", self.title);
        svg.text((LEFT + RIGHT) / 2.0, HEIGHT - 10.0, "middle", "#222", self.places_name);
        for decade in low..=high {
            let at = y(10f64.powi(decade));
            svg.line((LEFT, at), (RIGHT, at), "#ddd", 1);
            svg.text(LEFT - 8.0, at + 4.0, "end", "#222", &seconds(10f64.powi(decade)));
        }
        for (place, name) in self.places.iter().enumerate() {
            svg.text(x(place), BOTTOM + 20.0, "middle", "#222", name);
        }
        for (number, (line, colour)) in self.lines.iter().zip(COLOURS).enumerate() {
            let points: Vec<(f64, f64)> =
                line.seconds.iter().enumerate().map(|(place, seconds)| (x(place), y(*seconds))).collect();
            points.windows(2).for_each(|ends| svg.line(ends[0], ends[1], colour, 2));
            for ((x, y), value) in points.iter().zip(&line.seconds) {
                // The first line's labels above it, the second one's below.
                let label = if number == 0 { y - 9.0 } else { y + 18.0 };
                svg.circle(*x, *y, colour);
                svg.text(*x, label, "middle", colour, &seconds(*value));
            }
            let key = LEFT + 180.0 * number as f64;
            svg.line((key, 40.0), (key + 24.0, 40.0), colour, 2);
            svg.text(key + 30.0, 44.0, "start", colour, line.name);
        }
        svg.finish()
    }
}

struct Svg(String);

impl Svg {
    fn new() -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        ))
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{element}").expect("a string can be written");
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, width: u32) {
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        ));
    }

    fn circle(&mut self, x: f64, y: f64, colour: &str) {
        self.push(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, colour: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>"
        ));
    }

    fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_inside_and_labelled() {
        let lines = vec![
            Line { name: "CPU", seconds: vec![0.001, 0.02, 0.5] },
            Line { name: "wall", seconds: vec![0.0009, 0.01, 0.25] },
        ];
        let places = ["100", "1,000", "8,000"].map(str::to_owned).to_vec();
        let svg = Chart { title: "a < b & c", places_name: "sectors", places, lines }.svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("a &lt; b &amp; c"));
        let centres: Vec<f64> =
            svg.split("cy=\"").skip(1).map(|rest| rest[..rest.find('"').unwrap()].parse().unwrap()).collect();
        assert_eq!(centres.len(), 6);
        assert!(centres.iter().all(|y| (TOP..=BOTTOM).contains(y)), "{centres:?}");
        // More seconds stand higher.
        assert!(centres[0] > centres[1] && centres[1] > centres[2]);
        assert!(svg.contains(">500 ms<") && svg.contains(">900 µs<"));
    }
}
