//! Plots as SVG: lines over two logarithmic axes, and horizontal bars. Colours are those of Okabe and Ito, which people who see few colours
//! can tell apart; every value that matters is also in the tables.

use std::fmt::{self, Write as _};

use crate::stats::number;

const COLOURS: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F"];
const WIDTH: f64 = 880.0;
/// Right of the lines is the legend, so that neither covers the other.
const LEGEND: f64 = 250.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 58.0;
const LEFT: f64 = 84.0;

/// A row of points.
pub struct Series {
    /// What they are of.
    pub name: String,
    /// Abscissa and ordinate, both above 0.
    pub points: Vec<(f64, f64)>,
}

/// Lines over logarithmic axes.
pub struct Lines {
    /// Heading.
    pub title: &'static str,
    /// Name and unit of the abscissa.
    pub x: &'static str,
    /// Name and unit of the ordinate.
    pub y: &'static str,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
}

/// One group of bars.
pub struct Group {
    /// Whose.
    pub name: String,
    /// Length of each bar, in the order of the legend.
    pub values: Vec<f64>,
}

/// How the bars of a group stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Below each other.
    Grouped,
    /// End to end.
    Stacked,
}

/// Horizontal bars.
pub struct Bars {
    /// Heading.
    pub title: String,
    /// Name and unit of the lengths.
    pub x: &'static str,
    /// What the bars of each group are.
    pub legend: Vec<&'static str>,
    /// How they stand.
    pub stand: Stand,
    /// The groups, from above.
    pub groups: Vec<Group>,
}

/// A drawing in the making.
struct Canvas {
    text: String,
}

impl Canvas {
    fn new(height: f64, title: &str) -> Self {
        let mut canvas = Self {
            text: format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', \
                 sans-serif\" font-size=\"13\" fill=\"#222\" role=\"img\">\n<title>{}</title>\n\
                 <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n",
                escaped(title)
            ),
        };
        canvas.add(format_args!(
            "<text x=\"20\" y=\"28\" font-size=\"16\" font-weight=\"bold\">{}</text>",
            escaped(title)
        ));
        canvas
    }

    fn add(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(element);
        self.text.push('\n');
    }

    fn write(&mut self, (x, y): (f64, f64), anchor: &str, text: &str) {
        self.add(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(text)));
    }

    fn rule(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
        self.add(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
        ));
    }

    fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// Powers of ten around some values.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
    let least = logs.iter().copied().fold(f64::INFINITY, f64::min).floor();
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max).ceil();
    if least.is_finite() { (least, most.max(least + 1.0)) } else { (0.0, 1.0) }
}

/// Whole numbers from one to another.
fn wholes((from, to): (f64, f64)) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(from), |at| Some(at + 1.0)).take_while(move |at| *at <= to + 1e-9)
}

impl Lines {
    /// The drawing.
    pub fn svg(&self) -> String {
        const HEIGHT: f64 = 460.0;
        let (right, bottom) = (WIDTH - LEGEND, HEIGHT - BOTTOM);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let (xs, ys) = (decades(points().map(|point| point.0)), decades(points().map(|point| point.1)));
        let at_x = |value: f64| LEFT + (value.log10() - xs.0) / (xs.1 - xs.0) * (right - LEFT);
        let at_y = |value: f64| bottom - (value.log10() - ys.0) / (ys.1 - ys.0) * (bottom - TOP);
        let mut canvas = Canvas::new(HEIGHT, self.title);
        for power in wholes(xs) {
            let x = at_x(10_f64.powf(power));
            canvas.rule((x, TOP), (x, bottom), "#ddd");
            canvas.write((x, bottom + 20.0), "middle", &tick(10_f64.powf(power)));
        }
        for power in wholes(ys) {
            let y = at_y(10_f64.powf(power));
            canvas.rule((LEFT, y), (right, y), "#ddd");
            canvas.write((LEFT - 8.0, y + 4.0), "end", &tick(10_f64.powf(power)));
        }
        canvas.rule((LEFT, bottom), (right, bottom), "#444");
        canvas.rule((LEFT, TOP), (LEFT, bottom), "#444");
        canvas.write((f64::midpoint(LEFT, right), HEIGHT - 14.0), "middle", self.x);
        canvas.add(format_args!(
            "<text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(TOP, bottom),
            escaped(self.y)
        ));
        for (index, series) in self.series.iter().enumerate() {
            let colour = colour(index);
            let places: Vec<(f64, f64)> = series.points.iter().map(|(x, y)| (at_x(*x), at_y(*y))).collect();
            let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            canvas.add(format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            ));
            for (x, y) in places {
                canvas.add(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"));
            }
        }
        self.legend(&mut canvas, right + 24.0);
        canvas.finish()
    }

    /// In the order in which the lines end, so that the eye finds them.
    fn legend(&self, canvas: &mut Canvas, x: f64) {
        let end = |series: &Series| series.points.last().map_or(0.0, |point| point.1);
        let mut order: Vec<(usize, &Series)> = self.series.iter().enumerate().collect();
        order.sort_by(|(_, a), (_, b)| end(b).total_cmp(&end(a)));
        for ((index, series), line) in order.into_iter().zip(0_u32..) {
            let y = TOP + 16.0 + f64::from(line) * 24.0;
            canvas.add(format_args!(
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{}\"/>",
                y - 6.0,
                colour(index)
            ));
            canvas.write((x + 22.0, y), "start", &series.name);
        }
    }
}

impl Bars {
    /// The drawing.
    pub fn svg(&self) -> String {
        const BAR: f64 = 17.0;
        const NAMES: f64 = 210.0;
        const LEGEND_LINE: f64 = 30.0;
        let lines = match self.stand {
            Stand::Grouped => self.legend.len().max(1),
            Stand::Stacked => 1,
        };
        let group_height = lines as f64 * BAR + 14.0;
        let top = TOP + LEGEND_LINE;
        let bottom = top + group_height * self.groups.len() as f64;
        let height = bottom + BOTTOM;
        let right = WIDTH - 90.0;
        let longest = self.groups.iter().map(|group| self.length(group)).fold(0.0, f64::max);
        let step = tick_step(longest);
        let most = (longest / step).ceil().max(1.0) * step;
        let at = |value: f64| NAMES + value / most * (right - NAMES);
        let mut canvas = Canvas::new(height, &self.title);
        for at_tick in wholes((0.0, most / step)) {
            let x = at(at_tick * step);
            canvas.rule((x, top), (x, bottom), "#ddd");
            canvas.write((x, bottom + 20.0), "middle", &tick(at_tick * step));
        }
        canvas.rule((NAMES, top), (NAMES, bottom), "#444");
        canvas.write((f64::midpoint(NAMES, right), height - 14.0), "middle", self.x);
        self.legend(&mut canvas, NAMES);
        for (row, group) in self.groups.iter().enumerate() {
            let y = top + row as f64 * group_height + 7.0;
            canvas.write((NAMES - 10.0, y + lines as f64 * BAR / 2.0 + 4.0), "end", &group.name);
            let mut from = 0.0;
            for (index, value) in group.values.iter().enumerate() {
                let line = if self.stand == Stand::Grouped { index } else { 0 };
                let y = y + line as f64 * BAR;
                canvas.add(format_args!(
                    "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                    at(from),
                    at(*value) - at(0.0),
                    BAR - 3.0,
                    colour(index)
                ));
                match self.stand {
                    Stand::Grouped => canvas.write((at(*value) + 6.0, y + 11.5), "start", &number(*value)),
                    Stand::Stacked => from += value,
                }
            }
            if self.stand == Stand::Stacked {
                canvas.write((at(from) + 6.0, y + 11.5), "start", &number(from));
            }
        }
        canvas.finish()
    }

    fn length(&self, group: &Group) -> f64 {
        match self.stand {
            Stand::Grouped => group.values.iter().copied().fold(0.0, f64::max),
            Stand::Stacked => group.values.iter().sum(),
        }
    }

    fn legend(&self, canvas: &mut Canvas, left: f64) {
        /// Width of a letter of this size, generously.
        const LETTER: f64 = 7.4;
        let mut x = left;
        for (index, name) in self.legend.iter().enumerate() {
            canvas.add(format_args!(
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"12\" fill=\"{}\"/>",
                TOP - 4.0,
                colour(index)
            ));
            canvas.write((x + 20.0, TOP + 7.0), "start", name);
            x += 44.0 + name.chars().count() as f64 * LETTER;
        }
    }
}

/// A round number, without the digits that say nothing.
fn tick(value: f64) -> String {
    let text = number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A round distance between ticks, some five of which are as long as the longest bar.
fn tick_step(longest: f64) -> f64 {
    let rough = (longest / 5.0).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
    factor * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let steps = [0.9, 12.0, 260.0, 41.0].map(|longest| number(tick_step(longest)));
        assert_eq!(steps, ["0.200", "5.00", "100", "10.0"]);
    }

    #[test]
    fn round_numbers_are_shown_without_decimals() {
        assert_eq!([0.0, 0.5, 1.0, 10.0, 1_000.0].map(tick), ["0", "0.5", "1", "10", "1,000"]);
    }

    #[test]
    fn decades_hold_all_values() {
        assert_eq!(wholes(decades([3.0, 1_200.0].into_iter())).count(), 5);
        assert_eq!(wholes(decades([10.0].into_iter())).count(), 2);
    }

    #[test]
    fn a_drawing_is_well_formed_and_names_what_it_shows() {
        let series = vec![Series { name: "a < b & c".to_owned(), points: vec![(1.0, 2.0), (10.0, 200.0)] }];
        let svg = Lines { title: "t", x: "drivers", y: "us", series }.svg();
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("drivers") && svg.ends_with("</svg>\n"), "{svg}");
        let groups = vec![Group { name: "A".to_owned(), values: vec![1.0, 2.0] }];
        let svg =
            Bars { title: "t".to_owned(), x: "s", legend: vec!["p50", "p95"], stand: Stand::Stacked, groups }.svg();
        assert!(svg.contains(">3.00<"), "{svg}");
    }
}
