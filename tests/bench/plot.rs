//! Plots as SVG: lines over two logarithmic axes, and horizontal bars. The colours are those of Okabe and Ito, which
//! colour-blind readers can distinguish; the tables of the report hold the same values.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::stats::number;

const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0x7F, 0x7F, 0x7F),
];
const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
/// Pixels, as all sizes here.
const WIDTH: u32 = 880;
const TITLE: i32 = 44;
const AXIS: u32 = 50;
const MARGIN: i32 = 10;
/// Plotters divides it by 1.24.
const TEXT: u32 = 16;

/// A line.
pub(crate) struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Abscissa and ordinate, both above 0.
    pub points: Vec<(f64, f64)>,
}

/// Lines over logarithmic axes.
pub(crate) struct Lines {
    /// Heading.
    pub title: &'static str,
    /// Name and unit of the abscissa.
    pub x: &'static str,
    /// Name and unit of the ordinate.
    pub y: &'static str,
    /// The lines.
    pub series: Vec<Series>,
}

/// One group of bars.
pub(crate) struct Group {
    /// Its name, left of the bars.
    pub name: String,
    /// Length of each bar, in the order of the legend.
    pub values: Vec<f64>,
}

/// How the bars of a group are arranged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrangement {
    /// One below the other.
    Grouped,
    /// End to end.
    Stacked,
}

/// Horizontal bars.
pub(crate) struct Bars {
    /// Heading.
    pub title: String,
    /// Name and unit of the lengths.
    pub x: &'static str,
    /// What the bars of each group are.
    pub legend: Vec<&'static str>,
    /// How the bars of a group are arranged.
    pub arrangement: Arrangement,
    /// The groups, from the top.
    pub groups: Vec<Group>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// An SVG document with a heading; `draw` fills the rest.
fn document(title: &str, height: u32, draw: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        root.draw_text(title, &("sans-serif", 20, FontStyle::Bold).into_text_style(&root), (20, 14))?;
        let (_, body) = root.split_vertically(TITLE);
        draw(&body)?;
        root.present()?;
    }
    Ok(svg)
}

/// Text that begins or ends at a place, half of its height above it.
fn text(horizontal: HPos) -> TextStyle<'static> {
    ("sans-serif", TEXT).into_font().color(&BLACK).pos(Pos::new(horizontal, VPos::Center))
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// The powers of ten around some values.
fn decades(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
    let least = logs.iter().copied().fold(f64::INFINITY, f64::min).floor();
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max).ceil();
    if least.is_finite() { 10_f64.powf(least)..10_f64.powf(most.max(least + 1.0)) } else { 1.0..10.0 }
}

impl Lines {
    /// The plot as an SVG document.
    pub(crate) fn svg(&self) -> anyhow::Result<String> {
        document(self.title, 460, |area| self.draw(area))
    }

    fn draw(&self, area: &Area<'_>) -> anyhow::Result<()> {
        /// Width of the legend, right of the lines.
        const LEGEND: u32 = 250;
        let (left, right) = area.split_horizontally(WIDTH - LEGEND);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let (xs, ys) = (decades(points().map(|point| point.0)), decades(points().map(|point| point.1)));
        let mut chart = ChartBuilder::on(&left)
            .margin(MARGIN)
            .x_label_area_size(AXIS)
            .y_label_area_size(80)
            .build_cartesian_2d(xs.log_scale(), ys.log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .label_style(("sans-serif", TEXT))
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|value| tick(*value))
            .y_label_formatter(&|value| tick(*value))
            .draw()?;
        for (index, series) in self.series.iter().enumerate() {
            chart.draw_series([PathElement::new(series.points.clone(), colour(index).stroke_width(2))])?;
            let points = series.points.iter().map(|point| Circle::new(*point, 3, colour(index).filled()));
            chart.draw_series(points)?;
        }
        self.legend(&right)
    }

    /// In the order in which the lines end, from the top.
    fn legend(&self, area: &Area<'_>) -> anyhow::Result<()> {
        let end = |series: &Series| series.points.last().map_or(0.0, |point| point.1);
        let mut order: Vec<(usize, &Series)> = self.series.iter().enumerate().collect();
        order.sort_by(|(_, one), (_, other)| end(other).total_cmp(&end(one)));
        for ((index, series), y) in order.into_iter().zip((24..).step_by(24)) {
            area.draw(&Rectangle::new([(14, y - 2), (28, y + 2)], colour(index).filled()))?;
            area.draw(&Text::new(series.name.clone(), (36, y), text(HPos::Left)))?;
        }
        Ok(())
    }
}

impl Bars {
    /// The plot as an SVG document.
    pub(crate) fn svg(&self) -> anyhow::Result<String> {
        let height = self.lines() * self.groups.len() as f64 * 17.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred")]
        let height = height.ceil() as u32 + AXIS + 84;
        document(&self.title, height, |area| self.draw(area))
    }

    /// The height of a group in bars, with the space after it.
    fn lines(&self) -> f64 {
        let bars = if self.arrangement == Arrangement::Grouped { self.legend.len() } else { 1 };
        bars as f64 + 0.8
    }

    fn draw(&self, area: &Area<'_>) -> anyhow::Result<()> {
        /// Width of the names of the groups.
        const NAMES: u32 = 200;
        let (legend, body) = area.split_vertically(26);
        self.legend(&legend, i32::try_from(NAMES)? + MARGIN)?;
        let longest = self.groups.iter().map(|group| self.length(group)).fold(0.0, f64::max);
        // Room for the value at the end of the longest bar.
        let most = if longest > 0.0 { longest * 1.1 } else { 1.0 };
        let mut chart = ChartBuilder::on(&body)
            .margin(MARGIN)
            .x_label_area_size(AXIS)
            .y_label_area_size(NAMES)
            .build_cartesian_2d(0.0..most, self.lines() * self.groups.len() as f64..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .label_style(("sans-serif", TEXT))
            .x_desc(self.x)
            .x_label_formatter(&|value| tick(*value))
            .draw()?;
        for (row, group) in self.groups.iter().enumerate() {
            let top = row as f64 * self.lines() + 0.4;
            let middle = top + (self.lines() - 0.8) / 2.0;
            let name = Text::new(group.name.clone(), (-10, 0), text(HPos::Right));
            chart.plotting_area().draw(&(EmptyElement::at((0.0, middle)) + name))?;
            let mut start = 0.0;
            for (index, value) in group.values.iter().enumerate() {
                let top = if self.arrangement == Arrangement::Grouped { top + index as f64 } else { top };
                let corners = [(start, top + 0.08), (start + value, top + 0.92)];
                chart.draw_series([Rectangle::new(corners, colour(index).filled())])?;
                if self.arrangement == Arrangement::Stacked {
                    start += value;
                }
                let label = match self.arrangement {
                    Arrangement::Grouped => Some(*value),
                    Arrangement::Stacked => (index + 1 == group.values.len()).then_some(start),
                };
                if let Some(label) = label {
                    let label_text = Text::new(number(label), (6, 0), text(HPos::Left));
                    chart.draw_series([EmptyElement::at((label, top + 0.5)) + label_text])?;
                }
            }
        }
        Ok(())
    }

    fn length(&self, group: &Group) -> f64 {
        match self.arrangement {
            Arrangement::Grouped => group.values.iter().copied().fold(0.0, f64::max),
            Arrangement::Stacked => group.values.iter().sum(),
        }
    }

    fn legend(&self, area: &Area<'_>, left: i32) -> anyhow::Result<()> {
        let mut x = left;
        for (index, name) in self.legend.iter().enumerate() {
            area.draw(&Rectangle::new([(x, 6), (x + 14, 18)], colour(index).filled()))?;
            area.draw(&Text::new(*name, (x + 20, 12), text(HPos::Left)))?;
            let (width, _) = area.estimate_text_size(name, &text(HPos::Left))?;
            x += 44 + i32::try_from(width)?;
        }
        Ok(())
    }
}

/// A number without trailing zeros.
fn tick(value: f64) -> String {
    let text = number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_numbers_are_shown_without_decimals() {
        assert_eq!([0.0, 0.5, 1.0, 10.0, 1_000.0].map(tick), ["0", "0.5", "1", "10", "1,000"]);
    }

    #[test]
    fn decades_hold_all_values() {
        assert_eq!(decades([3.0, 1_200.0].into_iter()), 1.0..10_000.0);
        assert_eq!(decades([10.0].into_iter()), 10.0..100.0);
        assert_eq!(decades(std::iter::empty()), 1.0..10.0);
    }

    #[test]
    fn a_plot_is_well_formed_and_names_what_it_shows() {
        let series = vec![Series { name: "a < b & c".to_owned(), points: vec![(1.0, 2.0), (10.0, 200.0)] }];
        let svg = Lines { title: "t", x: "drivers", y: "us", series }.svg().expect("a plot");
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("drivers") && svg.ends_with("</svg>\n"), "{svg}");
        let groups = vec![Group { name: "A".to_owned(), values: vec![1.0, 2.0] }];
        let legend = vec!["p50", "p95"];
        let bars = Bars { title: "t".to_owned(), x: "s", legend, arrangement: Arrangement::Stacked, groups };
        let svg = bars.svg().expect("a plot");
        assert!(svg.contains("\n3.00\n") && svg.contains("p95"), "{svg}");
    }
}
