//! Latency over percentile as an SVG: `--plot` of a run, `bench plot` of several.
//!
//! Both axes are logarithmic. Along x the distance to 100 % shrinks by ten from one mark to
//! the next (0, 90, 99, 99.9 … %), as far as the samples reach: beyond 1 − 1/count there is
//! nothing but the maximum.

use super::report::Report;
use hdrhistogram::Histogram;
use plotters::coord::Shift;
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 520);
/// Lines are told apart by these, in this order.
const COLORS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x5f, 0xa8),
    RGBColor(0xc0, 0x50, 0x20),
    RGBColor(0x2e, 0x8b, 0x57),
    RGBColor(0x7a, 0x3f, 0x9d),
    RGBColor(0x8a, 0x6d, 0x1f),
    RGBColor(0x50, 0x50, 0x50),
];
/// Steps along x from one mark to the next.
const STEPS: u32 = 40;

type Failed = DrawingAreaErrorKind<std::io::Error>;

/// One chart: lines over the same axes.
#[derive(Debug)]
pub struct Panel {
    pub caption: String,
    /// How many marks along x there are; see [`reach`].
    pub x_max: f64,
    pub lines: Vec<Line>,
}

/// Points (marks along x, µs), x rising.
#[derive(Debug)]
pub struct Line {
    pub name: String,
    /// Which color; the same in all panels of a picture.
    pub color: usize,
    pub points: Vec<(f64, f64)>,
}

impl Panel {
    /// A run's latencies, and the sender's lag if there is one.
    pub fn of(report: &Report, latency: &Histogram<u64>, lag: Option<&Histogram<u64>>) -> Panel {
        let x_max = reach(latency.len());
        let line = |histogram, name: &str, color| Line {
            name: name.to_owned(),
            color,
            points: points(histogram, x_max),
        };
        let mut lines = vec![line(latency, "latency", 0)];
        lines.extend(lag.map(|lag| line(lag, "sender's lag", 1)));
        Panel {
            caption: caption(report),
            x_max,
            lines,
        }
    }
}

/// Draws the panels, one below the other.
///
/// # Errors
/// What the drawing library says; drawing to a string does no I/O.
pub fn svg(panels: &[Panel]) -> Result<String, Failed> {
    let mut text = String::new();
    {
        let size = (SIZE.0, SIZE.1 * panels.len().max(1) as u32);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)?;
        let areas = area.split_evenly((panels.len().max(1), 1));
        for (area, panel) in areas.iter().zip(panels) {
            draw(area, panel)?;
        }
        area.present()?;
    }
    Ok(text)
}

fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel) -> Result<(), Failed> {
    let values = || {
        let points = panel.lines.iter().flat_map(|line| &line.points);
        points.map(|point| point.1)
    };
    // Whole decades, so that the marks stand on round numbers.
    let low = 10f64.powf(values().fold(f64::MAX, f64::min).log10().floor());
    let high = 10f64.powf(values().fold(low, f64::max).log10().ceil());
    let high = if high > low { high } else { low * 10.0 };

    let x_max = panel.x_max;
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.caption, ("sans-serif", 17))
        .margin(16)
        // The last mark stands at the edge, and half of its label beyond it.
        .margin_right(40)
        .x_label_area_size(48)
        .y_label_area_size(76)
        .build_cartesian_2d(0.0..x_max, (low..high).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile (%)")
        .y_desc("time (µs)")
        .x_labels(x_max as usize + 1)
        .x_label_formatter(&|x| percent(*x))
        .y_label_formatter(&|us| format!("{us}"))
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .max_light_lines(0)
        .draw()?;
    for line in &panel.lines {
        let style = COLORS[line.color % COLORS.len()].stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()
}

fn caption(report: &Report) -> String {
    let setting = &report.setting;
    format!(
        "{} ({}): {}, {} bytes, {:.0} {}/s{}",
        setting.benchmark,
        setting.protocol,
        setting.summary(),
        setting.bytes,
        report.rate,
        setting.units(),
        if report.void { " — VOID" } else { "" }
    )
}

/// How many marks along x the samples reach: 3 (99.9 %) for a thousand; between 1 and 6.
pub fn reach(count: u64) -> f64 {
    (count.max(1) as f64).log10().floor().clamp(1.0, 6.0)
}

/// The mark at `x`: 0 → 0 %, 1 → 90 %, 2 → 99 %, …
fn percent(x: f64) -> String {
    let decimals = (x.round() as usize).saturating_sub(2);
    format!("{:.decimals$}", 100.0 * (1.0 - 10f64.powf(-x)))
}

fn points(histogram: &Histogram<u64>, x_max: f64) -> Vec<(f64, f64)> {
    let steps = x_max as u32 * STEPS;
    let point = |step: u32| {
        let x = f64::from(step) / f64::from(STEPS);
        let ns = histogram.value_at_quantile(1.0 - 10f64.powf(-x));
        // A logarithm has no zero; a nanosecond is below what is measured.
        (x, ns.max(1) as f64 / 1000.0)
    };
    (0..=steps).map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stand_at_nines() {
        let marks: Vec<String> = (0..=5).map(|x| percent(f64::from(x))).collect();
        assert_eq!(marks, ["0", "90", "99", "99.9", "99.99", "99.999"]);
        assert_eq!((reach(0), reach(1000), reach(u64::MAX)), (1.0, 3.0, 6.0));
    }

    #[test]
    fn points_follow_the_quantiles() {
        let mut histogram = super::super::meter::histogram();
        (1..=1000).for_each(|us| histogram.record(us * 1000).unwrap());
        let points = points(&histogram, 3.0);
        assert_eq!(points.len(), 121);
        assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
        assert!((points[40].1 - 900.0).abs() < 2.0);
        assert!((points[120].1 - 999.0).abs() < 2.0);
    }
}
