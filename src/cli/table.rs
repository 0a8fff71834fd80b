//! Tables of plain text: aligned columns that fit a terminal.

/// Columns of text a line may have.
const WIDTH: usize = 100;
/// Between two columns.
const GAP: usize = 2;
/// A column that gives way keeps this much, beyond what names of one project begin with: rather a long line than rows that
/// cannot be told apart.
const NARROWEST: usize = 24;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
    /// Words that may be cut short where the line gets too long.
    Cut,
}

/// Rows under a heading.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Table {
        let heading = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        Table { columns: columns.iter().map(|(_, align)| *align).collect(), rows: vec![heading] }
    }

    /// Adds a row; it has as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, without blanks at their ends.
    pub fn lines(&self) -> Vec<String> {
        let widths = self.widths();
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let gaps = GAP * widths.len().saturating_sub(1);
        let mut over = (widths.iter().sum::<usize>() + gaps).saturating_sub(WIDTH);
        // The widest gives way first.
        while over > 0 {
            let cut =
                self.columns.iter().zip(&mut widths).filter(|(align, _)| **align == Align::Cut);
            let widest = cut.map(|(_, width)| width).max().filter(|width| **width > NARROWEST);
            let Some(width) = widest else { break };
            *width -= 1;
            over -= 1;
        }
        widths
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, align), width) in row.iter().zip(&self.columns).zip(widths) {
            if !line.is_empty() {
                line.push_str(&" ".repeat(GAP));
            }
            let cell = cut(cell, *width);
            line += &match align {
                Align::Right => format!("{cell:>width$}"),
                Align::Left | Align::Cut => format!("{cell:<width$}"),
            };
        }
        line.trim_end().to_owned()
    }
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let mut short: String = cell.chars().take(width.saturating_sub(1)).collect();
    short.push('\u{2026}');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_left_and_numbers_right() {
        let mut table =
            Table::new(&[("SET", Align::Left), ("HAS", Align::Right), ("WHY", Align::Cut)]);
        table.row(vec!["block4".to_owned(), "7".to_owned(), "because".to_owned()]);
        table.row(vec!["a".to_owned(), "1000".to_owned(), String::new()]);
        assert_eq!(table.lines(), ["SET      HAS  WHY", "block4     7  because", "a       1000"]);
    }

    #[test]
    fn names_of_one_project_are_told_apart_however_long_the_line_gets() {
        let mut table = Table::new(&[("A", Align::Cut), ("B", Align::Left)]);
        table.row(vec!["project-postgres-1".to_owned(), "x".repeat(WIDTH)]);
        assert!(table.lines()[1].starts_with("project-postgres-1  x"), "{:?}", table.lines());
    }

    #[test]
    fn what_may_be_cut_gives_way_and_the_rest_does_not() {
        let mut table = Table::new(&[("A", Align::Left), ("B", Align::Cut), ("C", Align::Cut)]);
        table.row(vec!["x".repeat(60), "y".repeat(60), "z".repeat(9)]);
        let lines = table.lines();
        let line = lines.last().unwrap();
        assert_eq!(line.chars().count(), WIDTH);
        assert!(line.contains(&"x".repeat(60)) && line.ends_with(&"z".repeat(9)), "{line}");
        assert!(line.contains("yy\u{2026}  zz"), "{line}");
    }
}
