//! The screen as a terminal of some size shows it.

use super::super::model::tests::sample;
use super::super::screen::Wish;
use super::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};

struct Shown {
    lines: Vec<String>,
    coloured: bool,
}

impl Shown {
    fn text(&self) -> String {
        self.lines.join("\n")
    }

    fn line(&self, word: &str) -> &str {
        let line = self.lines.iter().find(|line| line.contains(word));
        line.unwrap_or_else(|| panic!("no {word} in\n{}", self.text()))
    }
}

fn show(view: &View<'_>, width: u16, height: u16) -> Shown {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let cells: Vec<_> = buffer.content().chunks(usize::from(width)).collect();
    let line = |cells: &&[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    };
    let plain = |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
    Shown {
        lines: cells.iter().map(line).collect(),
        coloured: !buffer.content().iter().all(plain),
    }
}

fn model() -> Model {
    Model::new(Some(&sample(10.0, 1000)), &sample(12.0, 2000))
}

fn view<'a>(model: Option<&'a Model>, screen: &'a Screen) -> View<'a> {
    View {
        address: "127.0.0.1:7412",
        model,
        trouble: None,
        screen,
        palette: Palette::new(true),
    }
}

#[test]
fn eighty_columns_show_the_shards_and_the_slowest_connections() {
    let (model, screen) = (model(), Screen::default());
    let shown = show(&view(Some(&model), &screen), 80, 24);
    let wanted = "\
ringmail 1.2.3  127.0.0.1:7412  pid 77  up 12 s  serving
7 connections   in 1.00 k msg/s, 97.7 KiB/s   out 2.00 k msg/s, 195 KiB/s
 1 Shards  by SHARD ────────────────────────────────────────────────────────────";
    assert_eq!(shown.lines[..3].join("\n"), wanted);
    assert_eq!(
        shown.line("SHARD▲").split_whitespace().next(),
        Some("SHARD▲")
    );
    assert!(shown.line(" 3 Connections ").contains("3 of 7"));
    let first = shown
        .lines
        .iter()
        .position(|line| line.contains("QUEUED▼"))
        .unwrap()
        + 1;
    let names = shown.lines[first..first + 3].iter();
    let names: Vec<&str> = names.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["slow-one", "idle", "quick"]);
    assert!(shown.lines[first].contains("293 KiB"), "{}", shown.text());
    assert!(shown.line("q quit").contains("? help"));
    assert!(!shown.text().contains("Topics"));
}

#[test]
fn a_large_terminal_shows_every_table() {
    let (model, screen) = (model(), Screen::default());
    let shown = show(&view(Some(&model), &screen), 160, 50);
    for kind in Kind::ALL {
        shown.line(kind.title());
    }
    assert!(shown.line("TURN p50").contains("OF MAX"));
    shown.line("site/8/<img src=x>");
    shown.line("drop-oldest");
}

#[test]
fn without_colour_there_is_none_and_with_it_some() {
    let (model, screen) = (model(), Screen::default());
    let mut view = view(Some(&model), &screen);
    view.trouble = Some("gone");
    assert!(show(&view, 80, 24).coloured);
    view.palette = Palette::new(false);
    assert!(!show(&view, 80, 24).coloured);
}

#[test]
fn an_error_is_shown_above_the_last_answers() {
    let (model, screen) = (model(), Screen::default());
    let mut view = view(Some(&model), &screen);
    view.trouble = Some("127.0.0.1:7412: cannot be asked");
    let shown = show(&view, 80, 24);
    assert!(shown.lines[0].contains("trying again. 127.0.0.1:7412: cannot be asked"));
    assert!(shown.lines[1].contains("no answer"));
    shown.line("slow-one");
    view.model = None;
    show(&view, 80, 24).line("Waiting for the first answer");
}

#[test]
fn keys_bring_tables_filters_and_help_to_the_screen() {
    let (model, mut screen) = (model(), Screen::default());
    let mut press = |code| assert_eq!(screen.press(KeyEvent::from(code), 5, 2), Wish::Nothing);
    press(KeyCode::Char('4'));
    press(KeyCode::Char('/'));
    press(KeyCode::Char('I'));
    press(KeyCode::Char('m'));
    let shown = show(&view(Some(&model), &screen), 80, 24);
    shown.line(" filter  Im▏");
    shown.line("site/8/<img src=x>");
    assert!(!shown.text().contains("site/7"));
    let mut press = |code| assert_eq!(screen.press(KeyEvent::from(code), 5, 2), Wish::Nothing);
    press(KeyCode::Enter);
    press(KeyCode::Char('p'));
    press(KeyCode::Char('?'));
    let shown = show(&view(Some(&model), &screen), 80, 24);
    shown.line("PAUSED");
    shown.line("reverse the order");
}

#[test]
fn any_size_can_be_drawn() {
    let (model, mut screen) = (model(), Screen::default());
    screen.help = true;
    for width in [1, 2, 7, 20, 79, 119, 120, 300] {
        for height in [1, 2, 3, 5, 12, 33, 34, 100] {
            for focus in Kind::ALL {
                screen.focus = focus;
                show(&view(Some(&model), &screen), width, height);
            }
        }
    }
}
