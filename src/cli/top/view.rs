//! The screen: a header, tables, a line of keys.
//!
//! ```text
//! narrow or low:  header / shards / the table in front      wide and high:  header / shards
//!                 (Tab brings another one to the front)                     latency | slow
//!                                                                           connections | topics
//! ```
//! Columns are dropped by rank if there is no room; texts are cut last.

use super::model::{Kind, Model, Summary};
use super::screen::{Pane, Screen};
use super::table::Table;
use super::value::Value;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Table as Grid};

/// From this size on all tables are on the screen.
const WIDE: u16 = 120;
const HIGH: u16 = 34;
/// Shards shown while another table is in front.
const SHARDS_MAX: usize = 8;
/// Columns of a cut text, and of one that is not.
const TEXT_MIN: u16 = 8;
const TEXT_MAX: u16 = 48;
const GAP: u16 = 2;

const KEYS: &str = " q quit  Tab table  ←→ sort  r reverse  / filter  p pause  ↑↓ scroll  ? help";
const HELP: &[&str] = &[
    "q Esc        quit",
    "Tab 1…5      the next table, or that one",
    "→ s          sort by next column",
    "← S          sort by previous column",
    "r            reverse the order",
    "/            filter: type, Enter; Esc clears it",
    "p Space      pause or resume",
    "↑↓ PgUp PgDn scroll; Home End",
    "",
    "Rates are between the last two answers,",
    "latencies of the last 10 to 20 seconds.",
    "– means that the server does not say.",
];

/// The styles; without colour, only weight distinguishes them.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    title: Style,
    front: Style,
    dim: Style,
    good: Style,
    bad: Style,
}

impl Palette {
    pub fn new(has_colour: bool) -> Palette {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let colour = |style: Style, colour| match has_colour {
            true => style.fg(colour),
            false => style,
        };
        Palette {
            title: bold,
            front: colour(bold, Color::Cyan).add_modifier(Modifier::REVERSED),
            dim: match has_colour {
                true => plain.fg(Color::DarkGray),
                false => plain.add_modifier(Modifier::DIM),
            },
            good: colour(bold, Color::Green),
            bad: colour(bold, Color::Red).add_modifier(Modifier::REVERSED),
        }
    }
}

/// What is on the screen.
pub struct View<'a> {
    /// The address of the server.
    pub address: &'a str,
    /// `None` until the first answer.
    pub model: Option<&'a Model>,
    /// Why there is no newer answer.
    pub trouble: Option<&'a str>,
    pub screen: &'a Screen,
    pub palette: Palette,
}

impl View<'_> {
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let trouble = u16::from(self.trouble.is_some());
        let parts = [
            Constraint::Length(2 + trouble),
            Constraint::Min(0),
            Constraint::Length(1),
        ];
        let [header, body, footer] = Layout::vertical(parts).areas(area);
        self.header(frame, header);
        match self.model {
            Some(model) if area.width >= WIDE && area.height >= HIGH => {
                self.all(frame, body, model);
            }
            Some(model) => self.some(frame, body, model),
            None => {
                let waiting = Paragraph::new("Waiting for the first answer …").centered();
                frame.render_widget(waiting, body);
            }
        }
        self.footer(frame, footer);
        if self.screen.help {
            self.help(frame, area);
        }
    }

    fn header(&self, frame: &mut Frame<'_>, area: Rect) {
        let mut lines = Vec::new();
        if let Some(trouble) = self.trouble {
            let text = format!(" No answer, trying again. {} ", Value::text(trouble));
            lines.push(Line::styled(text, self.palette.bad));
        }
        let model = self.model.map(|model| &model.summary);
        lines.push(self.first_line(model));
        lines.extend(model.map(rates));
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn first_line(&self, summary: Option<&Summary>) -> Line<'static> {
        let palette = self.palette;
        let version = summary.map_or("", |summary| &summary.version);
        let mut spans = vec![
            Span::styled(format!("ringmail {}", Value::text(version)), palette.title),
            Span::raw(format!("  {}", self.address)),
        ];
        if let Some(summary) = summary {
            let up = Value::Seconds(summary.uptime_s);
            spans.push(Span::raw(format!("  pid {}  up {up}  ", summary.pid)));
            spans.push(match (self.trouble, summary.draining) {
                (Some(_), _) => Span::styled("no answer", palette.bad),
                (None, true) => Span::styled("DRAINING", palette.bad),
                (None, false) => Span::styled("serving", palette.good),
            });
        }
        if self.screen.paused {
            spans.push(Span::raw("  "));
            spans.push(Span::styled(" PAUSED ", palette.front));
        }
        Line::from(spans)
    }

    fn footer(&self, frame: &mut Frame<'_>, area: Rect) {
        let pane = self.screen.pane(self.screen.focus);
        let line = match self.screen.typing {
            true => Line::from(vec![
                Span::styled(" filter ", self.palette.front),
                Span::raw(format!(" {}▏", pane.filter)),
                Span::styled("  Enter keeps it, Esc clears it", self.palette.dim),
            ]),
            false => Line::styled(KEYS, self.palette.dim),
        };
        frame.render_widget(Paragraph::new(line), area);
    }

    fn help(&self, frame: &mut Frame<'_>, area: Rect) {
        let (width, height) = (46.min(area.width), (HELP.len() as u16 + 2).min(area.height));
        let place = Rect {
            x: area.x + (area.width - width) / 2,
            y: area.y + (area.height - height) / 2,
            width,
            height,
        };
        let lines: Vec<Line<'_>> = HELP
            .iter()
            .map(|line| Line::raw(format!(" {line}")))
            .collect();
        let block = Block::bordered().title(Line::styled(" Keys ", self.palette.title));
        frame.render_widget(Clear, place);
        frame.render_widget(Paragraph::new(lines).block(block), place);
    }

    /// Every table.
    fn all(&self, frame: &mut Frame<'_>, area: Rect, model: &Model) {
        let latency = model.table(Kind::Latency).rows.len() as u16 + 3;
        let parts = [
            Constraint::Length(self.shard_lines(model)),
            Constraint::Length(latency),
            Constraint::Min(0),
        ];
        let [shards, middle, lower] = Layout::vertical(parts).areas(area);
        let split = |area, left| {
            let parts = [Constraint::Percentage(left), Constraint::Min(0)];
            Layout::horizontal(parts).spacing(GAP).areas::<2>(area)
        };
        let [latency, slow] = split(middle, 60);
        let [connections, topics] = split(lower, 60);
        let places = [shards, latency, connections, topics, slow];
        for (kind, place) in Kind::ALL.into_iter().zip(places) {
            self.table(frame, place, model, kind);
        }
    }

    /// The shards, and the table in front.
    fn some(&self, frame: &mut Frame<'_>, area: Rect, model: &Model) {
        if self.screen.focus == Kind::Shards {
            return self.table(frame, area, model, Kind::Shards);
        }
        // On a low screen, half is for the table in front.
        let shards = self.shard_lines(model).min(area.height / 2);
        let parts = [Constraint::Length(shards), Constraint::Min(0)];
        let [shards, front] = Layout::vertical(parts).areas(area);
        self.table(frame, shards, model, Kind::Shards);
        self.table(frame, front, model, self.screen.focus);
    }

    fn shard_lines(&self, model: &Model) -> u16 {
        let rows = model.table(Kind::Shards).rows.len();
        rows.min(SHARDS_MAX) as u16 + 3
    }

    fn table(&self, frame: &mut Frame<'_>, area: Rect, model: &Model, kind: Kind) {
        let (table, pane) = (model.table(kind), self.screen.pane(kind));
        let rows = table.selected(&pane.filter, pane.sort);
        let block = Block::new()
            .borders(Borders::TOP)
            .border_style(self.palette.dim)
            .title(self.title(table, pane, kind, rows.len()));
        let note = match (table.note, rows.is_empty()) {
            (Some(note), _) => Some(note),
            (None, true) => Some("no row matches the filter"),
            (None, false) => None,
        };
        if let Some(note) = note {
            let note = Paragraph::new(format!(" {note}")).style(self.palette.dim);
            return frame.render_widget(note.block(block), area);
        }
        let inner = block.inner(area);
        let fitted = fit(table, &rows, inner.width);
        let heading = fitted.iter().map(|&(column, _)| {
            let mark = match (pane.sort.column == column, pane.sort.descending) {
                (true, true) => "▼",
                (true, false) => "▲",
                (false, _) => "",
            };
            let text = format!("{}{mark}", table.columns[column].heading);
            Cell::new(aligned(text, table.columns[column].elastic))
        });
        let heading = Row::new(heading).style(self.palette.title);
        let most = rows
            .len()
            .saturating_sub(usize::from(inner.height.max(2)) - 1);
        let shown = rows.iter().skip(pane.scroll.min(most)).map(|row| {
            let cells = fitted.iter().map(|&(column, _)| {
                let value = &row[column];
                Cell::new(aligned(value.to_string(), table.columns[column].elastic))
            });
            Row::new(cells)
        });
        let widths = fitted.iter().map(|&(_, width)| Constraint::Length(width));
        let grid = Grid::new(shown, widths)
            .header(heading)
            .column_spacing(GAP)
            .block(block);
        frame.render_widget(grid, area);
    }

    fn title(&self, table: &Table, pane: &Pane, kind: Kind, rows: usize) -> Line<'static> {
        let style = match self.screen.focus == kind {
            true => self.palette.front,
            false => self.palette.title,
        };
        let mut spans = vec![Span::styled(
            format!(" {} {} ", kind as usize + 1, kind.title()),
            style,
        )];
        if let Some(total) = table.total {
            spans.push(Span::raw(format!(" {rows} of {total} ")));
        }
        if !pane.filter.is_empty() {
            spans.push(Span::raw(format!(" filter: {} ", pane.filter)));
        }
        if let Some(column) = table.columns.get(pane.sort.column) {
            let text = format!(" by {} ", column.heading);
            spans.push(Span::styled(text, self.palette.dim));
        }
        Line::from(spans)
    }
}

fn rates(summary: &Summary) -> Line<'static> {
    let rate = |rate: Option<f64>| Value::of(rate, Value::Rate).to_string();
    let bytes = |rate: Option<f64>| Value::of(rate, Value::Bytes).to_string();
    Line::raw(format!(
        "{} connections   in {} msg/s, {}/s   out {} msg/s, {}/s",
        Value::Count(summary.connections),
        rate(summary.messages_in),
        bytes(summary.bytes_in),
        rate(summary.messages_out),
        bytes(summary.bytes_out),
    ))
}

/// Texts to the left, numbers to the right.
fn aligned(text: String, is_text: bool) -> Line<'static> {
    match is_text {
        true => Line::raw(text),
        false => Line::raw(text).right_aligned(),
    }
}

/// The columns that have room, each with its width.
fn fit(table: &Table, rows: &[&Vec<Value>], width: u16) -> Vec<(usize, u16)> {
    let wanted = |column: usize| {
        let shown = rows
            .iter()
            .map(|row| Line::raw(row[column].to_string()).width());
        // Room for the sort mark.
        let heading = Line::raw(table.columns[column].heading).width() + 1;
        let widest = shown.max().unwrap_or_default().max(heading) as u16;
        match table.columns[column].elastic {
            true => widest.clamp(TEXT_MIN, TEXT_MAX),
            false => widest,
        }
    };
    let mut fitted: Vec<(usize, u16)> = (0..table.columns.len())
        .map(|column| (column, wanted(column)))
        .collect();
    let least = |fitted: &[(usize, u16)]| {
        let widths = fitted
            .iter()
            .map(|&(column, width)| match table.columns[column].elastic {
                true => TEXT_MIN,
                false => width,
            });
        widths.sum::<u16>() + GAP * (fitted.len().max(1) as u16 - 1)
    };
    while least(&fitted) > width {
        let ranks = fitted.iter().map(|&(column, _)| table.columns[column].rank);
        let Some(rank) = ranks.max().filter(|&rank| rank > 0) else {
            break;
        };
        // Of columns with equal rank, the last one goes.
        let gone = fitted
            .iter()
            .rposition(|&(column, _)| table.columns[column].rank == rank);
        if let Some(gone) = gone {
            fitted.remove(gone);
        }
    }
    let gaps = GAP * (fitted.len().max(1) as u16 - 1);
    let all = |fitted: &[(usize, u16)]| fitted.iter().map(|&(_, width)| width).sum::<u16>() + gaps;
    // Cut the longest text, a column at a time.
    while all(&fitted) > width {
        let texts = fitted
            .iter_mut()
            .filter(|(column, _)| table.columns[*column].elastic);
        match texts.max_by_key(|(_, width)| *width) {
            Some((_, longest)) if *longest > TEXT_MIN => *longest -= 1,
            _ => break,
        }
    }
    fitted
}

#[cfg(test)]
mod tests;
