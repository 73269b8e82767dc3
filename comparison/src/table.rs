//! Tables of text: aligned for people, or in Markdown.

/// Rows of cells under a head.
#[derive(Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&cell| cell.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells that are left out are empty.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
    }

    /// Aligned, for a terminal.
    #[must_use]
    pub fn aligned(&self) -> String {
        self.lines("  ", "", "─")
    }

    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        self.lines(" | ", "| ", "-")
    }

    fn lines(&self, between: &str, edge: &str, rule: &str) -> String {
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| self.all_rows().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let line = |row: &[String]| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let end = edge.chars().rev().collect::<String>();
            format!("{edge}{}{end}", cells.join(between)).trim_end().to_owned() + "\n"
        };
        let ruled: Vec<String> = widths.iter().map(|width| rule.repeat(*width)).collect();
        let mut text = line(&self.head) + &line(&ruled);
        self.rows.iter().for_each(|row| text += &line(row));
        text
    }

    fn all_rows(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.head).chain(&self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["a", "b"]);
        table.row(["long", "x"]);
        table.row(["y"]);
        assert_eq!(table.aligned(), "a     b\n────  ─\nlong  x\ny\n");
        assert_eq!(table.markdown(), "| a    | b |\n| ---- | - |\n| long | x |\n| y    |   |\n");
    }
}
