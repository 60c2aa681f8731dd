//! The state of the screen: which table is in front, how each is sorted, filtered and scrolled.
//! Pure: keys in, state out.

use super::model::Kind;
use super::table::Sort;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Rows that Page Up and Page Down scroll.
const PAGE: usize = 10;
/// Characters of a filter.
const FILTER_MAX: usize = 64;

/// One table's state.
#[derive(Clone, Debug)]
pub struct Pane {
    pub sort: Sort,
    pub filter: String,
    /// Rows above the first that is shown.
    pub scroll: usize,
}

#[derive(Clone, Debug)]
pub struct Screen {
    pub focus: Kind,
    panes: [Pane; 5],
    pub paused: bool,
    pub help: bool,
    /// Whether keys go into the filter.
    pub typing: bool,
}

/// What a key asks of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    Quit,
}

impl Default for Screen {
    fn default() -> Screen {
        let pane = |kind: Kind| Pane {
            sort: kind.sort(),
            filter: String::new(),
            scroll: 0,
        };
        Screen {
            focus: Kind::Connections,
            panes: Kind::ALL.map(pane),
            paused: false,
            help: false,
            typing: false,
        }
    }
}

impl Screen {
    pub fn pane(&self, kind: Kind) -> &Pane {
        &self.panes[kind as usize]
    }

    /// Handles a key; `columns` and `rows` are those of the table in front.
    pub fn press(&mut self, key: KeyEvent, columns: usize, rows: usize) -> Wish {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Wish::Quit;
        }
        if self.typing {
            self.type_filter(key.code);
            return Wish::Nothing;
        }
        if self.help {
            self.help = false;
            return Wish::Nothing;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(Kind::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='5') => {
                self.focus = Kind::ALL[digit as usize - '1' as usize];
            }
            KeyCode::Char('s') | KeyCode::Right => self.choose(columns, 1),
            KeyCode::Char('S') | KeyCode::Left => self.choose(columns, columns.saturating_sub(1)),
            KeyCode::Char('r') => {
                let sort = &mut self.front().sort;
                sort.descending = !sort.descending;
            }
            code => self.scroll(code, rows),
        }
        Wish::Nothing
    }

    fn front(&mut self) -> &mut Pane {
        &mut self.panes[self.focus as usize]
    }

    fn turn(&mut self, by: usize) {
        self.focus = Kind::ALL[(self.focus as usize + by) % Kind::ALL.len()];
    }

    /// Sorts by another column, `by` further to the right.
    fn choose(&mut self, columns: usize, by: usize) {
        let pane = self.front();
        let column = match pane.sort.column < columns {
            true => (pane.sort.column + by) % columns.max(1),
            // It was not sorted by a column before.
            false => 0,
        };
        // The first column has names, which ascend; numbers descend.
        pane.sort = Sort {
            column,
            descending: column > 0,
        };
        pane.scroll = 0;
    }

    fn scroll(&mut self, code: KeyCode, rows: usize) {
        let last = rows.saturating_sub(1);
        let pane = self.front();
        let from = pane.scroll.min(last);
        pane.scroll = match code {
            KeyCode::Down | KeyCode::Char('j') => (from + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
            KeyCode::PageDown => (from + PAGE).min(last),
            KeyCode::PageUp => from.saturating_sub(PAGE),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => from,
        };
    }

    fn type_filter(&mut self, code: KeyCode) {
        let pane = self.front();
        match code {
            KeyCode::Char(c) if !c.is_control() && pane.filter.chars().count() < FILTER_MAX => {
                pane.filter.push(c);
                pane.scroll = 0;
            }
            KeyCode::Backspace => {
                pane.filter.pop();
                pane.scroll = 0;
            }
            KeyCode::Esc => {
                pane.filter.clear();
                self.typing = false;
            }
            KeyCode::Enter | KeyCode::Tab => self.typing = false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(screen: &mut Screen, keys: &[KeyCode]) -> Vec<Wish> {
        let press = |key: &KeyCode| screen.press(KeyEvent::from(*key), 5, 30);
        keys.iter().map(press).collect()
    }

    #[test]
    fn q_escape_and_control_c_quit_but_not_out_of_a_filter_or_the_help() {
        let mut screen = Screen::default();
        assert_eq!(press(&mut screen, &[KeyCode::Char('q')]), [Wish::Quit]);
        assert_eq!(press(&mut screen, &[KeyCode::Esc]), [Wish::Quit]);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        screen.typing = true;
        assert_eq!(screen.press(control_c, 5, 30), Wish::Quit);
        assert_eq!(press(&mut screen, &[KeyCode::Esc]), [Wish::Nothing]);
        assert!(!screen.typing);
        let wishes = press(&mut screen, &[KeyCode::Char('?'), KeyCode::Char('q')]);
        assert_eq!(wishes, [Wish::Nothing, Wish::Nothing]);
        assert!(!screen.help);
    }

    #[test]
    fn text_typed_after_a_slash_filters_the_table_in_front() {
        let mut screen = Screen::default();
        let keys = ['/', 'q', 'p', 'x'].map(KeyCode::Char);
        press(&mut screen, &keys);
        press(&mut screen, &[KeyCode::Backspace, KeyCode::Enter]);
        assert_eq!(screen.pane(Kind::Connections).filter, "qp");
        assert_eq!(screen.pane(Kind::Topics).filter, "");
        assert!(!screen.paused);
        press(&mut screen, &[KeyCode::Char('/'), KeyCode::Esc]);
        assert_eq!(screen.pane(Kind::Connections).filter, "");
    }

    #[test]
    fn tab_goes_round_and_arrows_choose_the_sort_column() {
        let mut screen = Screen::default();
        press(&mut screen, &[KeyCode::Tab; 5]);
        assert_eq!(screen.focus, Kind::Connections);
        press(&mut screen, &[KeyCode::BackTab, KeyCode::Right]);
        assert_eq!(screen.focus, Kind::Latency);
        assert_eq!(screen.pane(Kind::Latency).sort.column, 0);
        press(&mut screen, &[KeyCode::Left]);
        assert_eq!(screen.pane(Kind::Latency).sort.column, 4);
        assert!(screen.pane(Kind::Latency).sort.descending);
        press(&mut screen, &[KeyCode::Char('r')]);
        assert!(!screen.pane(Kind::Latency).sort.descending);
    }

    #[test]
    fn scrolling_stays_within_the_rows() {
        let mut screen = Screen::default();
        press(&mut screen, &[KeyCode::Up]);
        assert_eq!(screen.pane(Kind::Connections).scroll, 0);
        press(&mut screen, &[KeyCode::PageDown; 9]);
        assert_eq!(screen.pane(Kind::Connections).scroll, 29);
        press(&mut screen, &[KeyCode::PageUp]);
        assert_eq!(screen.pane(Kind::Connections).scroll, 19);
        press(&mut screen, &[KeyCode::Char('g')]);
        assert_eq!(screen.pane(Kind::Connections).scroll, 0);
    }
}
