//! A TOML file with the environment laid over it, read into a type.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, ENVIRONMENT_PREFIX};

/// A variable that is laid over the file.
struct Overlay {
    name: String,
    value: String,
    /// The value as what a key of a file is set to.
    assignment: String,
}

/// Reads any TOML file with the environment's overlay into a type.
///
/// # Errors
/// When the file is missing or malformed, or a variable names no key. No error shows a value that may hold a password.
pub fn load_table<T: DeserializeOwned>(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let overlays: Vec<_> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .map(|(name, value)| Overlay { assignment: format!("value = {value}"), name, value })
        .collect();
    let malformed = |error, overlays| malformed(path, &text, error, overlays);
    let mut table = DeTable::parse(&text).map_err(|error| malformed(error, &[]))?;
    for overlay in &overlays {
        let key = overlay.name.trim_start_matches(ENVIRONMENT_PREFIX);
        lay_over(table.get_mut(), key, overlay).map_err(|section| ConfigError::NoSection {
            variable: overlay.name.clone(),
            section: section.to_lowercase(),
        })?;
    }
    T::deserialize(toml::Deserializer::from(table)).map_err(|error| malformed(error, &overlays))
}

/// Sets `SECTION__KEY` to a value, read as TOML where it is TOML, else as text. The error is what should be a section and is none.
fn lay_over<'v, 'p>(table: &mut DeTable<'v>, path: &'p str, overlay: &'v Overlay) -> Result<(), &'p str> {
    let Some((section, rest)) = path.split_once("__") else {
        table.insert(of_no_line(path.to_lowercase().into()), value(overlay));
        return Ok(());
    };
    let found = table.entry(of_no_line(section.to_lowercase().into()));
    match found.or_insert_with(|| of_no_line(DeValue::Table(DeTable::new()))).get_mut() {
        DeValue::Table(table) => lay_over(table, rest, overlay),
        _ => Err(section),
    }
}

fn value(overlay: &Overlay) -> Spanned<DeValue<'_>> {
    let parsed = DeTable::parse(&overlay.assignment).ok().map(Spanned::into_inner);
    // More than one key: a line feed in it begins another.
    let parsed = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    of_no_line(parsed.map_or_else(|| DeValue::String(overlay.value.as_str().into()), Spanned::into_inner))
}

fn of_no_line<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// Where and why, without the line itself: it may hold a password.
fn malformed(path: &Path, text: &str, mut error: toml::de::Error, overlays: &[Overlay]) -> ConfigError {
    let line = error.span().filter(|_| overlays.is_empty()).map(|span| {
        let before = text.get(..span.start).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        format!(", line {}, column {}", before.matches('\n').count() + 1, line.chars().count() + 1)
    });
    error.set_input(None);
    let mut reason = without_addresses(error.to_string().trim()).replace('\n', " ");
    if !overlays.is_empty() {
        let names: Vec<_> = overlays.iter().map(|overlay| overlay.name.as_str()).collect();
        reason.push_str(&format!("; the environment sets {}", names.join(", ")));
    }
    ConfigError::Malformed { path: path.to_owned(), place: line.unwrap_or_default(), reason }
}

/// What follows `://` up to the end of a quoted value is left out.
fn without_addresses(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str("://***");
        shown.push_str(part.find(['"', '`']).map_or("", |end| &part[end..]));
    }
    shown
}
