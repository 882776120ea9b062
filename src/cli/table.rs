//! A table for people: aligned columns, nothing in it that could steer the terminal.

use std::io::{self, Write};

use chargegate::logging::one_line;

/// What is longer is cut, so that one long text does not push a whole column off the screen.
const LONGEST_CELL: usize = 60;

/// Writes the rows under their headings.
pub fn write(out: &mut impl Write, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    line(out, &widths, headings)?;
    rows.iter().try_for_each(|row| line(out, &widths, row))
}

fn line(out: &mut impl Write, widths: &[usize], cells: &[impl AsRef<str>]) -> io::Result<()> {
    let padded = widths.iter().zip(cells).map(|(width, cell)| format!("{:<width$}", cell.as_ref()));
    let line = padded.collect::<Vec<_>>().join("  ");
    writeln!(out, "{}", line.trim_end())
}

fn shown(cell: &str) -> String {
    let cell = one_line(cell);
    if cell.chars().count() <= LONGEST_CELL {
        return cell.into_owned();
    }
    let kept: String = cell.chars().take(LONGEST_CELL - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(headings: &[&str], rows: &[&[&str]]) -> String {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        let mut out = Vec::new();
        write(&mut out, headings, &rows).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(
            written(&["id", "status"], &[&["a", "idle"], &["long", "-"]]),
            "id    status\na     idle\nlong  -\n"
        );
    }

    #[test]
    fn what_a_device_wrote_cannot_steer_the_terminal() {
        assert_eq!(written(&["iccid"], &[&["\u{1b}[2Jx\ny"]]), "iccid\n\\u{1b}[2Jx\\ny\n");
    }

    #[test]
    fn a_long_text_is_cut() {
        let table = written(&["note"], &[&["é".repeat(100).as_str()]]);
        assert_eq!(table.lines().nth(1).unwrap(), format!("{}…", "é".repeat(59)));
    }
}
