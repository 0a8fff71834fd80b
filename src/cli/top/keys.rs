//! What keys do.

use std::net::IpAddr;

use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};

use super::model::{Model, Pane, Popup};

/// Rows that a page key moves.
const PAGE: isize = 10;

/// A key, whatever terminal it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Tab,
    Enter,
    Escape,
    Backspace,
    Interrupt,
    Char(char),
}

/// What follows from a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    None,
    Quit,
    Ask(Job),
}

/// What somebody who talks to the daemon is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    Explain { address: IpAddr, container: Option<String> },
    Change(Change),
}

/// A change that was agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Allow(IpAddr),
    Block(IpAddr),
    /// Of a container by its name, or its address where nobody knows it.
    Quarantine(String),
}

/// The key of a terminal's event, if it is one of ours.
pub fn key(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char(_) if key.modifiers.contains(KeyModifiers::CONTROL) => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab | KeyCode::BackTab => Key::Tab,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}

impl Change {
    /// What will be done, and what will be written: one sentence each.
    pub fn question(&self) -> [String; 2] {
        match self {
            Change::Allow(to) => [
                format!("Allow {to} to every container, whatever else is said about it?"),
                format!("This writes the line `{to}` into allow.txt and takes it out of auto.txt."),
            ],
            Change::Block(to) => [
                format!("Refuse {to} to every container, and end what is open?"),
                format!("This writes the line `{to}` into block.txt."),
            ],
            Change::Quarantine(who) => [
                format!("Refuse everything new from {who}, and end what it has open?"),
                format!("This writes {who} into quarantine.txt."),
            ],
        }
    }

    /// The same as a command.
    pub fn command(&self) -> String {
        match self {
            Change::Allow(to) => format!("synhold allow {to}"),
            Change::Block(to) => format!("synhold block {to}"),
            Change::Quarantine(who) => format!("synhold block --container {who}"),
        }
    }
}

impl Model {
    /// Takes a key in.
    pub fn press(&mut self, key: Key) -> Action {
        if key == Key::Interrupt {
            return Action::Quit;
        }
        self.note = None;
        match self.popup.take() {
            Some(popup) => self.press_popup(popup, key),
            None if self.typing => self.press_filter(key),
            None => self.press_table(key),
        }
    }

    fn press_popup(&mut self, popup: Popup, key: Key) -> Action {
        match (popup, key) {
            (Popup::Question(change), Key::Char('y' | 'Y')) => {
                self.popup = Some(Popup::Waiting(change.command()));
                return Action::Ask(Job::Change(change));
            }
            (Popup::Question(_), _) => self.note = Some("nothing was changed".to_owned()),
            (Popup::Text { title, lines, top }, Key::Down | Key::Char('j') | Key::PageDown) => {
                let most = lines.len().saturating_sub(1);
                let by = if key == Key::PageDown { 10 } else { 1 };
                let top = (top + by).min(most);
                self.popup = Some(Popup::Text { title, lines, top });
            }
            (Popup::Text { title, lines, top }, Key::Up | Key::Char('k') | Key::PageUp) => {
                let top = top.saturating_sub(if key == Key::PageUp { 10 } else { 1 });
                self.popup = Some(Popup::Text { title, lines, top });
            }
            // What was asked for is done all the same; only its answer is not waited for.
            (Popup::Text { .. } | Popup::Help | Popup::Waiting(_), _) => {}
        }
        Action::None
    }

    fn press_filter(&mut self, key: Key) -> Action {
        match key {
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.typing = false;
                self.filter.clear();
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(c) if !c.is_control() => self.filter.push(c),
            _ => {}
        }
        self.settle();
        Action::None
    }

    fn press_table(&mut self, key: Key) -> Action {
        match key {
            Key::Escape if !self.filter.is_empty() => self.filter.clear(),
            Key::Char('q') | Key::Escape => return Action::Quit,
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::PageUp => self.step(-PAGE),
            Key::PageDown => self.step(PAGE),
            Key::Home | Key::Char('g') => self.step(isize::MIN),
            Key::End | Key::Char('G') => self.step(isize::MAX),
            Key::Tab => {
                self.pane = match self.pane {
                    Pane::Containers => Pane::Refusals,
                    Pane::Refusals => Pane::Containers,
                };
            }
            Key::Char('/') => self.typing = true,
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char('?' | 'h') => self.popup = Some(Popup::Help),
            Key::Enter | Key::Char('e') => return self.explain(),
            Key::Char('a') => self.propose(|to, _| to.map(Change::Allow)),
            Key::Char('b') => self.propose(|to, _| to.map(Change::Block)),
            Key::Char('Q') => self.propose(|_, who| who.map(Change::Quarantine)),
            _ => {}
        }
        self.settle();
        Action::None
    }

    fn explain(&mut self) -> Action {
        let (address, container) = self.selected();
        let Some(address) = address else {
            self.note = Some("nothing is selected that could be explained".to_owned());
            return Action::None;
        };
        self.popup = Some(Popup::Waiting(format!("synhold explain {address}")));
        Action::Ask(Job::Explain { address, container })
    }

    fn propose(&mut self, change: impl FnOnce(Option<IpAddr>, Option<String>) -> Option<Change>) {
        let (address, container) = self.selected();
        let Some(change) = change(address, container) else {
            self.note = Some("nothing is selected that this could be done to".to_owned());
            return;
        };
        if !self.may_change {
            self.note = Some(format!("changing needs root: `sudo {}`", change.command()));
            return;
        }
        self.popup = Some(Popup::Question(change));
    }
}
