//! Bars as SVG, written by hand: a file for each group of workloads, a panel for each
//! figure, a bar for each engine with a line from its least to its most.

use std::fmt::Write;
use std::path::Path;

use crate::engines::{OURS, is_a_peer};
use crate::report::{Row, Table, short};
use crate::task::Result;

const WIDTH: f64 = 720.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 96.0;
const LONGEST: f64 = 500.0;
const BAR: f64 = 18.0;
const TITLE: f64 = 30.0;

/// Writes a file for each group in which something was measured of several engines.
pub(crate) fn write(folder: &Path, tables: &[Table]) -> Result<()> {
    let tables: Vec<_> = tables.iter().filter(|table| table.rows.len() > 1).collect();
    let mut groups: Vec<&str> = tables.iter().map(|table| table.group).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let panels = tables.iter().filter(|table| table.group == group);
        let panels: Vec<&Table> = panels.copied().collect();
        crate::write(&folder.join(format!("{group}.svg")), &svg(&panels)?)?;
    }
    Ok(())
}

fn svg(panels: &[&Table]) -> Result<String> {
    let whole: f64 = panels.iter().map(|panel| height(panel)).sum();
    let mut text = String::new();
    writeln!(
        text,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{whole}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>"##
    )?;
    let mut top = 0.0;
    for panel in panels {
        draw(&mut text, panel, top)?;
        top += height(panel);
    }
    text.push_str("</svg>\n");
    Ok(text)
}

fn height(panel: &Table) -> f64 {
    TITLE + BAR * panel.rows.len() as f64 + 10.0
}

/// The value of the longest bar: what the machine alone does may be out of the picture.
fn longest(panel: &Table) -> f64 {
    let most = |rows: &mut dyn Iterator<Item = &Row>| rows.map(|row| row.most).fold(0.0, f64::max);
    match most(&mut panel.rows.iter().filter(|row| is_compared(row))) {
        0.0 => most(&mut panel.rows.iter()),
        compared => compared * 1.1,
    }
}

fn is_compared(row: &Row) -> bool {
    row.engine == OURS || is_a_peer(&row.engine)
}

fn draw(text: &mut String, panel: &Table, top: f64) -> Result<()> {
    let better = if panel.more_is_better() {
        "more"
    } else {
        "less"
    };
    writeln!(
        text,
        r#"<text x="8" y="{}" font-weight="bold">{} ({better} is better)</text>"#,
        top + 20.0,
        escaped(&panel.name)
    )?;
    let longest = longest(panel).max(f64::MIN_POSITIVE);
    let place = |value: f64| LEFT + (value / longest).min(1.0) * LONGEST;
    for (row, at) in panel.rows.iter().zip(0_u16..) {
        let y = top + TITLE + BAR * f64::from(at);
        let middle = y + BAR / 2.0;
        let colour = match is_compared(row) {
            true if row.engine == OURS => "#0b7a75",
            true => "#9db4c0",
            false => "#e0e0e0",
        };
        let over = if row.median > longest { " →" } else { "" };
        let end = place(row.median);
        let (least, most) = (place(row.least), place(row.most));
        writeln!(
            text,
            r##"<text x="{}" y="{}" text-anchor="end">{}</text>
<rect x="{LEFT}" y="{}" width="{:.1}" height="{}" fill="{colour}"/>
<line x1="{least:.1}" y1="{middle}" x2="{most:.1}" y2="{middle}" stroke="#333333"/>
<text x="{:.1}" y="{}">{}{over}</text>"##,
            LEFT - 6.0,
            middle + 4.0,
            escaped(&row.engine),
            y + 2.0,
            (end - LEFT).max(0.5),
            BAR - 4.0,
            end.max(most) + 6.0,
            middle + 4.0,
            short(row.median),
        )?;
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
