//! The table.

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

/// One line of it.
pub(crate) struct Line {
    name: String,
    value: String,
}

impl Line {
    pub(crate) fn figure(name: &str, value: String) -> Self {
        Self { name: name.to_owned(), value }
    }

    pub(crate) fn ratio(name: &str, ratio: f64, aim: &str) -> Self {
        Self { name: name.to_owned(), value: format!("{ratio:.2} (aim: {aim})") }
    }
}

pub(crate) fn table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(["measured", "figure"]);
    for Line { name, value } in lines {
        table.add_row([name, value]);
    }
    table.to_string()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
