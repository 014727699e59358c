//! Reads a TOML file with the environment laid over it.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// Prefix of variables that overlay the file.
pub const ENVIRONMENT_PREFIX: &str = "LEGAL_AID_GATEWAY__";

/// Before a variable's value, to read it as TOML with what may stand around it: white space and comments.
const SETTING: &str = "value = ";

/// Reads any TOML file with the environment's overlay into a type.
///
/// # Errors
/// When the file is missing or malformed, or a variable that lies over it is.
pub fn load_table<T: DeserializeOwned>(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let mut variables: Vec<Variable> = Vec::new();
    for (name, value) in environment {
        if name.starts_with(ENVIRONMENT_PREFIX) {
            let begin = variables.last().map_or(text.len(), |last| last.document.len()) + 1;
            variables.push(Variable::new(name, &value, begin));
        }
    }
    let malformed = |error: toml::de::Error| malformed(path, &text, &variables, &error);
    let mut table = DeTable::parse(&text).map_err(malformed)?;
    for variable in &variables {
        let name = &variable.name[ENVIRONMENT_PREFIX.len()..];
        variable.lay_over(table.get_mut(), name).map_err(|section| ConfigError::Malformed {
            path: path.to_owned(),
            place: variable.name.clone(),
            said: format!("`{section}` has no keys"),
        })?;
    }
    T::deserialize(toml::Deserializer::from(table)).map_err(malformed)
}

/// A variable, as a document of one setting.
struct Variable {
    name: String,
    /// Where the setting begins: behind the file and the variables before it, so that the position of an error tells whose it
    /// is.
    begin: usize,
    document: String,
}

impl Variable {
    fn new(name: String, value: &str, begin: usize) -> Self {
        Self { name, begin, document: format!("{}{SETTING}{value}", "\n".repeat(begin)) }
    }

    /// Sets `SECTION__KEY` to the value. Fails with the name of what is no section.
    fn lay_over<'v>(&'v self, table: &mut DeTable<'v>, path: &str) -> Result<(), String> {
        let Some((section, rest)) = path.split_once("__") else {
            table.insert(self.at(path.to_lowercase().into()), self.value());
            return Ok(());
        };
        let section = section.to_lowercase();
        let inner = table.entry(self.at(section.clone().into()));
        match inner.or_insert_with(|| self.at(DeValue::Table(DeTable::new()))).get_mut() {
            DeValue::Table(inner) => self.lay_over(inner, rest),
            _ => Err(section),
        }
    }

    /// The value, read as TOML where it is one value of TOML, else as text.
    fn value(&self) -> Spanned<DeValue<'_>> {
        let parsed = DeTable::parse(&self.document).ok().map(Spanned::into_inner);
        let alone = parsed.filter(|table| table.len() == 1).and_then(|table| table.into_iter().next());
        alone.map_or_else(
            || self.at(DeValue::String(self.document[self.begin + SETTING.len()..].into())),
            |(_, value)| value,
        )
    }

    fn at<T>(&self, value: T) -> Spanned<T> {
        Spanned::new(self.begin..self.begin, value)
    }
}

/// Says what is wrong and where, without the line itself: a password may be in it.
fn malformed(path: &Path, text: &str, variables: &[Variable], error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    let place = match variables.iter().rev().find(|variable| variable.begin <= at) {
        Some(variable) => variable.name.clone(),
        None => {
            let before = text.get(..at).unwrap_or(text);
            let line = before.rsplit('\n').next().unwrap_or_default();
            format!("line {}, column {}", before.matches('\n').count() + 1, line.chars().count() + 1)
        }
    };
    // Without its input the error shows the keys that lead there behind its message.
    let mut error = error.clone();
    error.set_input(None);
    let shown = error.to_string();
    let keys = shown.strip_prefix(error.message()).unwrap_or_default().trim();
    let said = format!("{} {keys}", without_addresses(error.message())).trim_end().to_owned();
    ConfigError::Malformed { path: path.to_owned(), place, said }
}

/// A message without the address in a value that it quotes: a password may be anywhere in what somebody got wrong.
fn without_addresses(message: &str) -> String {
    let Some((before, address)) = message.split_once("://") else { return message.to_owned() };
    let ends = ["\", expected", "`, expected"].map(|end| address.rfind(end));
    let end = ends.into_iter().flatten().max().unwrap_or(address.len());
    format!("{before}://***{}", &address[end..])
}
