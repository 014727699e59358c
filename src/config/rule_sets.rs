//! The folder of rule sets that an operator adds.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::domain::eligibility::{RuleSetError, RuleSets};

/// Why the rule sets cannot be used.
#[derive(Debug, Error)]
pub enum RulesError {
    /// The folder, or a file in it, cannot be read.
    #[error("cannot read {path}: {source}; eligibility.rules names a folder of *.toml files")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A set is wrong.
    #[error(transparent)]
    RuleSet(#[from] RuleSetError),
}

/// Reads the built-in rule sets and those of `folder`, in the order of their names.
///
/// # Errors
/// When a file cannot be read or is wrong; the text names file and line.
pub fn read_rule_sets(folder: Option<&Path>) -> Result<RuleSets, RulesError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| RulesError::Unreadable { path, source }
    };
    let mut paths = Vec::new();
    if let Some(folder) = folder {
        for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
            let path = entry.map_err(unreadable(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
        files.push((path.display().to_string(), text));
    }
    Ok(RuleSets::load(files)?)
}
