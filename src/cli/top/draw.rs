//! How it is drawn: a header that hides no fault, two tables, a line of keys, and what lies above them.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};

use super::keys::Change;
use super::model::{Model, Pane, Popup};
use crate::cli::status::{headline, names, rated, reason, to, who};
use crate::cli::words;
use crate::control::{Container, Refused, Status};
use crate::engine::{Mode, Wall};

/// Faults shown one by one; the headline has their number.
const FAULTS_SHOWN: usize = 3;
/// Columns of the sparkline, one a second.
const SPARK_WIDTH: u16 = 60;

const HELP: [&str; 13] = [
    "Up Down j k PgUp PgDn g G   move",
    "Tab                         the other table",
    "/                           show only rows with a text (Esc takes it away)",
    "s                           sort containers by something else",
    "Enter e                     explain the selected destination",
    "a                           allow it to everybody",
    "b                           block it for everybody",
    "Q                           put the selected container into quarantine",
    "q Esc Ctrl-C                quit",
    "",
    "In the table of containers the destination is that of the last refusal.",
    "Whatever changes something is asked about first, and takes root.",
    "(reason) in brackets: it was told and not done.",
];

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model, now: Wall, colours: bool) {
    let ink = Ink(colours);
    let header = header(model, now, ink, frame.area().width);
    let height = u16::try_from(header.lines.len()).unwrap_or(u16::MAX);
    let [top, spark, containers, refusals, keys] = Layout::vertical([
        Constraint::Length(height),
        Constraint::Length(2),
        Constraint::Length(container_height(model, frame.area().height)),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(header), top);
    sparkline(frame, model, spark, ink);
    container_table(frame, model, containers, now, ink);
    refusal_table(frame, model, refusals, now, ink);
    frame.render_widget(footer(model, ink), keys);
    if let Some(popup) = &model.popup {
        draw_popup(frame, popup, ink);
    }
}

/// As many rows as there are containers, but no more than a part of the screen.
fn container_height(model: &Model, screen: u16) -> u16 {
    let rows = model.containers().len().max(1) + 3;
    u16::try_from(rows).unwrap_or(u16::MAX).min((screen * 2 / 5).max(5))
}

/// Colours, where they are wanted.
#[derive(Clone, Copy)]
struct Ink(bool);

impl Ink {
    fn of(self, colour: Color) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if self.0 { bold.fg(colour) } else { bold }
    }

    fn bad(self) -> Style {
        self.of(Color::Red)
    }

    fn good(self) -> Style {
        self.of(Color::Green)
    }
}

fn header(model: &Model, now: Wall, ink: Ink, width: u16) -> Text<'static> {
    let mut lines = Vec::new();
    if let Some(why) = &model.gone {
        let text = format!("DAEMON GONE, retrying: {}", words::plain(why));
        lines.extend(wrapped(&text, width, ink.bad()));
    }
    let Some(status) = &model.status else {
        lines.push(Line::from("asking the daemon..."));
        return Text::from(lines);
    };
    let (fine, text) = headline(status, now);
    // What it said last holds no longer.
    let style = match (&model.gone, fine) {
        (Some(_), _) => Style::new().add_modifier(Modifier::DIM),
        (None, true) => ink.good(),
        (None, false) => ink.bad(),
    };
    lines.extend(wrapped(&text, width, style));
    let faults = status.faults.iter().take(FAULTS_SHOWN);
    lines.extend(faults.map(|fault| Line::styled(format!("! {}", words::plain(fault)), ink.bad())));
    if let more @ 1.. = status.faults.len().saturating_sub(FAULTS_SHOWN) {
        lines.push(Line::styled(format!("! and {more} more: `synhold status`"), ink.bad()));
    }
    lines.push(Line::from(rates(status)));
    Text::from(lines)
}

/// What must not be cut off: in as many lines as it takes.
fn wrapped(text: &str, width: u16, style: Style) -> Vec<Line<'static>> {
    let lines = words::wrapped(text, usize::from(width));
    lines.into_iter().map(|line| Line::styled(line, style)).collect()
}

/// `12 verdicts/s, 6 refused/min, 0.5 held/s; 2 held now; p99 below 250 us`
fn rates(status: &Status) -> String {
    let rate = &status.rates.short;
    let p99 = status
        .latency
        .p99_us
        .map_or_else(String::new, |us| format!("; 99 % of verdicts below {}", words::micros(us)));
    format!("{}; {} held now{p99}", rated(status, rate), status.held_now)
}

fn sparkline(frame: &mut Frame<'_>, model: &Model, area: Rect, ink: Ink) {
    let each = model.status.as_ref().map_or(&[][..], |status| &status.rates.each_second);
    let most = each.iter().max().copied().unwrap_or(0);
    let [graph, label] =
        Layout::horizontal([Constraint::Max(SPARK_WIDTH), Constraint::Min(10)]).areas(area);
    let room = usize::from(graph.width);
    let latest = each.get(each.len().saturating_sub(room)..).unwrap_or_default();
    let style = if ink.0 { Style::new().fg(Color::Cyan) } else { Style::new() };
    frame.render_widget(Sparkline::default().data(latest).style(style), graph);
    let label_text = format!(" verdicts/s\n of {} s, most {most}", latest.len());
    frame.render_widget(Paragraph::new(label_text), label);
}

fn container_table(frame: &mut Frame<'_>, model: &Model, area: Rect, now: Wall, ink: Ink) {
    let shown = model.containers();
    let all = model.status.as_ref().map_or(0, |status| status.containers.len());
    let count =
        if shown.len() == all { all.to_string() } else { format!("{} of {all}", shown.len()) };
    let title = format!(" Containers: {count}, by {} ", model.sort.as_str());
    let mut rows: Vec<Row<'_>> = shown.iter().map(|one| container_row(one, now, ink)).collect();
    if all == 0 {
        rows.push(Row::new(["(none known)"]));
    }
    let widths = [
        Constraint::Min(12),
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Percentage(45),
    ];
    let head = ["CONTAINER", "MODE", "ACCEPTED", "HELD", "REFUSED", "LAST REFUSAL"];
    let table = Table::new(rows, widths).header(Row::new(head));
    render(frame, table, model, Pane::Containers, (area, title), ink);
}

fn container_row(one: &Container, now: Wall, ink: Ink) -> Row<'static> {
    let mode = one.treatment();
    let last = one.last_refusal.as_ref().map_or_else(words::dash, |last| {
        format!("{} {} {}", words::ago(last.at, now), last.dst, last.reason.as_str())
    });
    let cells = [
        words::plain(&one.name),
        mode.to_owned(),
        one.accepted.to_string(),
        one.held.to_string(),
        one.refused.to_string(),
        last,
    ];
    let row = Row::new(cells);
    if one.quarantined { row.style(ink.bad()) } else { row }
}

fn refusal_table(frame: &mut Frame<'_>, model: &Model, area: Rect, now: Wall, ink: Ink) {
    let shown = model.refusals();
    let enforces = model.status.as_ref().is_none_or(|status| status.mode == Mode::Enforce);
    let what = if enforces { "Refusals of late" } else { "Would be refused of late" };
    let title = format!(" {what}: {} ", shown.len());
    let rows = shown.iter().map(|one| refusal_row(one, now));
    let widths = [
        Constraint::Length(11),
        Constraint::Fill(2),
        Constraint::Length(24),
        Constraint::Length(5),
        Constraint::Length(16),
        Constraint::Fill(1),
    ];
    let head = ["LAST", "CONTAINER", "DESTINATION", "TIMES", "REASON", "NAMES"];
    let table = Table::new(rows, widths).header(Row::new(head));
    render(frame, table, model, Pane::Refusals, (area, title), ink);
}

fn refusal_row(one: &Refused, now: Wall) -> Row<'static> {
    let last = words::ago(one.last, now);
    Row::new([last, who(one), to(one), one.count.to_string(), reason(one), names(one)])
}

fn render(
    frame: &mut Frame<'_>,
    table: Table<'_>,
    model: &Model,
    pane: Pane,
    (area, title): (Rect, String),
    ink: Ink,
) {
    let here = model.pane == pane;
    let border = match (here, ink.0) {
        (true, true) => Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD),
        (true, false) => Style::new().add_modifier(Modifier::BOLD),
        (false, _) => Style::new().add_modifier(Modifier::DIM),
    };
    let marker = if here { "> " } else { "  " };
    let block = Block::bordered().title(title).border_style(border);
    let selected = if here { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
    let table = table.block(block).row_highlight_style(selected).highlight_symbol(marker);
    let mut state = TableState::default().with_selected(model.row(pane));
    frame.render_stateful_widget(table, area, &mut state);
}

fn footer(model: &Model, ink: Ink) -> Paragraph<'static> {
    let text = match (&model.note, model.typing) {
        (_, true) => {
            format!("/{}_   Enter keeps it, Esc takes it away", words::plain(&model.filter))
        }
        (Some(note), false) => return Paragraph::new(words::plain(note)).style(ink.bad()),
        (None, false) if !model.filter.is_empty() => {
            format!(
                "only rows with `{}`: Esc shows all, ? help, q quit",
                words::plain(&model.filter)
            )
        }
        (None, false) => {
            "? help  Tab  / filter  s sort  e explain  a allow  b block  Q quarantine  q quit"
                .to_owned()
        }
    };
    Paragraph::new(text)
}

fn draw_popup(frame: &mut Frame<'_>, popup: &Popup, ink: Ink) {
    let (title, lines, top) = match popup {
        Popup::Help => ("Keys".to_owned(), HELP.map(str::to_owned).to_vec(), 0),
        Popup::Waiting(what) => (words::plain(what), vec!["asking...".to_owned()], 0),
        Popup::Question(change) => ("Sure?".to_owned(), question(change), 0),
        Popup::Text { title, lines, top } => (words::plain(title), lines.clone(), *top),
    };
    let area = middle(frame.area(), &lines);
    let block = Block::bordered().title(format!(" {title} ")).border_style(ink.of(Color::Yellow));
    let block = match popup {
        Popup::Text { .. } => block.title_bottom(" j k scroll, any other key closes "),
        Popup::Help | Popup::Waiting(_) => block.title_bottom(" any key closes "),
        Popup::Question(_) => block.title_bottom(" y does it, any other key does not "),
    };
    let from = u16::try_from(top).unwrap_or(u16::MAX);
    let text = Text::from(lines.into_iter().map(Line::from).collect::<Vec<Line<'_>>>());
    let text = Paragraph::new(text).wrap(Wrap { trim: false }).scroll((from, 0)).block(block);
    frame.render_widget(Clear, area);
    frame.render_widget(text, area);
}

fn question(change: &Change) -> Vec<String> {
    let [what, written] = change.question();
    let command = format!("The same as `{}`.", change.command());
    let all = [what, String::new(), written, command, String::new(), "y/N".to_owned()];
    all.iter().map(|line| words::plain(line)).collect()
}

/// Room for these lines in the middle, as far as there is.
fn middle(area: Rect, lines: &[String]) -> Rect {
    let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let width = u16::try_from(widest + 4).unwrap_or(u16::MAX).clamp(40, area.width.max(40));
    let width = width.min(area.width);
    let inner = usize::from(width.saturating_sub(2)).max(1);
    // Words that do not fit go on in the next line.
    let rows: usize = lines.iter().map(|line| line.chars().count().div_ceil(inner).max(1)).sum();
    let height = u16::try_from(rows + 2).unwrap_or(u16::MAX).min(area.height);
    let (x, y) = ((area.width - width) / 2, (area.height - height) / 2);
    Rect { x: area.x + x, y: area.y + y, width, height }
}

#[cfg(test)]
#[path = "draw_test.rs"]
mod tests;
