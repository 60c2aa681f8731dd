//! `ringmail bench plot`: the latencies of several runs in one picture.
//!
//! Reads what `--hdr` writes (HdrHistogram's percentile distribution, values in µs), so runs
//! of different servers, or of different days, can stand side by side.

use super::plot::{self, Line, Panel, reach};
use super::run::unwritable;
use crate::base::exit::Status;
use crate::cli::args::exit_codes;
use crate::cli::failure::Failure;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Draw the latencies of several runs as one SVG
///
/// Each run is a file written by --hdr, with a name for its curve. Runs named PANEL/NAME share
/// a panel with all others of that PANEL.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail bench plot --file latency.svg before=a.hgrm after=b.hgrm
  ringmail bench plot --file latency.svg echo/redis=1.hgrm echo/ringmail=2.hgrm 1x50/redis=3.hgrm",
    exit_codes!()
))]
pub struct Args {
    /// Where to write the picture
    #[arg(long, value_name = "FILE")]
    file: PathBuf,

    /// Runs to draw
    #[arg(value_name = "[PANEL/]NAME=FILE", required = true, value_parser = parse_run)]
    runs: Vec<Run>,
}

/// One run to draw.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    panel: String,
    name: String,
    path: PathBuf,
}

fn parse_run(text: &str) -> Result<Run, String> {
    let Some((label, path)) = text.split_once('=') else {
        return Err("NAME=FILE, or PANEL/NAME=FILE".to_owned());
    };
    let (panel, name) = label.split_once('/').unwrap_or(("", label));
    Ok(Run {
        panel: panel.to_owned(),
        name: name.to_owned(),
        path: path.into(),
    })
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let mut panels: Vec<Panel> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for run in &args.runs {
        let unreadable = |why: String| {
            let path = run.path.display();
            Failure::new(Status::Runtime, format_args!("{path}: {why}"))
        };
        let text = fs::read_to_string(&run.path).map_err(|error| unreadable(error.to_string()))?;
        let (points, count) = parse_hgrm(&text)
            .ok_or_else(|| unreadable("not a percentile distribution".to_owned()))?;
        let index = panels.iter().position(|panel| panel.caption == run.panel);
        let index = index.unwrap_or_else(|| {
            panels.push(Panel {
                caption: run.panel.clone(),
                x_max: 1.0,
                lines: Vec::new(),
            });
            panels.len() - 1
        });
        let color = names.iter().position(|name| *name == run.name);
        let color = color.unwrap_or_else(|| {
            names.push(&run.name);
            names.len() - 1
        });
        let name = run.name.clone();
        panels[index].x_max = panels[index].x_max.max(reach(count));
        panels[index].lines.push(Line {
            name,
            color,
            points,
        });
    }
    for panel in &mut panels {
        let x_max = panel.x_max;
        for line in &mut panel.lines {
            line.points.retain(|&(x, _)| x <= x_max);
        }
    }
    let svg = plot::svg(&panels)
        .map_err(|error| unwritable(&args.file, &io::Error::other(error.to_string())))?;
    fs::write(&args.file, svg).map_err(|error| unwritable(&args.file, &error))
}

/// The points of a distribution and the number of its samples. What stands beyond
/// 1 − 1/count is the maximum over and over, and left out.
fn parse_hgrm(text: &str) -> Option<(Vec<(f64, f64)>, u64)> {
    let mut points = Vec::new();
    let mut count = 0;
    let rows = text
        .lines()
        .filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    for row in rows {
        let mut fields = row.split_whitespace();
        let us: f64 = fields.next()?.parse().ok()?;
        let quantile: f64 = fields.next()?.parse().ok()?;
        count = fields.next()?.parse().ok()?;
        if quantile < 1.0 {
            // A logarithm has no zero; a nanosecond is below what is measured.
            points.push((-(1.0 - quantile).log10(), us.max(0.001)));
        }
    }
    let reach = (count.max(1) as f64).log10();
    points.retain(|&(x, _)| x <= reach);
    (!points.is_empty()).then_some((points, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::meter::histogram;
    use crate::cli::bench::report::write_hgrm;

    #[test]
    fn a_distribution_that_was_written_is_read() {
        let mut histogram = histogram();
        (1..=1000).for_each(|us| histogram.record(us * 1000).unwrap());
        let mut text = Vec::new();
        write_hgrm(&histogram, &mut text).unwrap();
        let (points, count) = parse_hgrm(std::str::from_utf8(&text).unwrap()).unwrap();
        assert_eq!(count, 1000);
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        let (x, us) = points[points.len() - 1];
        assert!(x > 2.5 && x <= 3.0 && us > 990.0, "{x} {us}");
        assert_eq!(parse_hgrm("no numbers\n"), None);
    }

    #[test]
    fn a_run_is_named_with_or_without_a_panel() {
        let run = |panel: &str, name: &str, path: &str| Run {
            panel: panel.to_owned(),
            name: name.to_owned(),
            path: path.into(),
        };
        assert_eq!(parse_run("a=/x/y=z"), Ok(run("", "a", "/x/y=z")));
        assert_eq!(parse_run("1x50/nats=b"), Ok(run("1x50", "nats", "b")));
        assert!(parse_run("a").is_err());
    }

    #[test]
    fn runs_of_one_panel_are_drawn_together() {
        let directory = std::env::temp_dir().join(format!("ringmail-plot-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut histogram = histogram();
        (1..=1000).for_each(|us| histogram.record(us * 1000).unwrap());
        let mut text = Vec::new();
        write_hgrm(&histogram, &mut text).unwrap();
        let source = directory.join("a.hgrm");
        fs::write(&source, text).unwrap();
        let file = directory.join("all.svg");
        let labels = ["first/a", "first/b", "second/a"];
        let runs = labels.map(|label| parse_run(&format!("{label}={}", source.display())).unwrap());
        run(&Args {
            file: file.clone(),
            runs: runs.into(),
        })
        .unwrap();
        let svg = fs::read_to_string(&file).unwrap();
        let captions = |caption: &str| svg.matches(caption).count();
        assert_eq!((captions("first"), captions("second")), (1, 1));
        fs::remove_dir_all(&directory).unwrap();
    }
}
