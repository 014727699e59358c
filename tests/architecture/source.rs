//! Reads Rust source as far as paths go; comments, texts and what is compiled only for tests are left out.

use std::fs;
use std::path::Path;

/// A file of `src/`.
pub(crate) struct File {
    /// Such as `src/grpc/wire.rs`.
    pub(crate) name: String,
    /// Its module from the crate's root, such as `["grpc", "wire"]`; empty for `lib.rs`.
    pub(crate) module: Vec<String>,
    /// Modules that it opens in itself.
    pub(crate) inline_modules: Vec<String>,
    pub(crate) lines: usize,
    mentions: Vec<Mention>,
}

/// A path of two segments or more, such as `crate::store::Store`, and where it is written.
#[derive(Clone)]
pub(crate) struct Mention {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// The module in which it stands.
    module: Vec<String>,
}

/// Every file of `src/`, but those that hold tests only.
pub(crate) fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(root, &root.join("src"), &mut found);
    assert!(found.len() > 50, "only {} files of src/ were found", found.len());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<File>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            found.push(File::parse(name, &fs::read_to_string(&path).unwrap()));
        }
    }
}

impl File {
    pub(crate) fn parse(name: &str, text: &str) -> Self {
        let module = name.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let module: Vec<String> =
            module.split('/').filter(|segment| *segment != "lib").map(str::to_owned).collect();
        let tokens = without_tests(&tokens(text));
        let mut reader = Reader {
            tokens: &tokens,
            at: 0,
            mentions: Vec::new(),
            module: module.clone(),
            opened: Vec::new(),
        };
        let inline_modules = reader.read();
        let mentions = reader.mentions;
        Self { name: name.to_owned(), module, inline_modules, lines: text.lines().count(), mentions }
    }

    /// Paths as they are written.
    pub(crate) fn paths(&self) -> &[Mention] {
        &self.mentions
    }

    /// Paths that start at the crate or at a module near by, told from the crate's root.
    pub(crate) fn paths_within_the_crate(&self) -> Vec<Mention> {
        self.mentions.iter().filter_map(Mention::as_seen_from_the_root).collect()
    }
}

impl Mention {
    fn as_seen_from_the_root(&self) -> Option<Self> {
        let mut module = match self.segments[0].as_str() {
            "crate" | "legal_aid_gateway" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        let rest = self.segments.iter().skip_while(|segment| {
            if *segment == "super" {
                module.pop();
            }
            ["crate", "legal_aid_gateway", "self", "super"].contains(&segment.as_str())
        });
        let rest: Vec<String> = rest.cloned().collect();
        module.extend(rest);
        Some(Self { segments: module, ..self.clone() })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Join,
    Sign(char),
}

/// Finds paths among tokens.
struct Reader<'t> {
    tokens: &'t [(Token, usize)],
    at: usize,
    mentions: Vec<Mention>,
    module: Vec<String>,
    /// For each open brace, whether a module opened with it.
    opened: Vec<bool>,
}

impl Reader<'_> {
    fn read(&mut self) -> Vec<String> {
        let mut inline_modules = Vec::new();
        while let Some(token) = self.token(0) {
            match token {
                Token::Word(word) if word == "mod" && self.token(2) == Some(&Token::Sign('{')) => {
                    if let Some(Token::Word(name)) = self.token(1).cloned() {
                        inline_modules.push(name.clone());
                        self.module.push(name);
                    }
                    self.opened.push(true);
                    self.at += 3;
                }
                Token::Word(_) => self.path(Vec::new()),
                Token::Sign('{') => {
                    self.opened.push(false);
                    self.at += 1;
                }
                Token::Sign('}') => {
                    if self.opened.pop() == Some(true) {
                        self.module.pop();
                    }
                    self.at += 1;
                }
                Token::Join | Token::Sign(_) => self.at += 1,
            }
        }
        inline_modules
    }

    /// Reads one path, or the branch of a `use` tree below `prefix`.
    fn path(&mut self, prefix: Vec<String>) {
        let line = self.tokens[self.at].1;
        let is_branch = !prefix.is_empty();
        let mut segments = prefix;
        loop {
            match self.token(0).cloned() {
                Some(Token::Word(word)) => {
                    if word != "self" || segments.is_empty() {
                        segments.push(word);
                    }
                    self.at += 1;
                    if self.token(0) != Some(&Token::Join) {
                        break;
                    }
                    self.at += 1;
                }
                Some(Token::Sign('{')) => return self.branches(&segments),
                Some(Token::Sign('*')) if is_branch || segments.len() > 1 => {
                    self.at += 1;
                    break;
                }
                _ => break,
            }
        }
        if is_branch || segments.len() > 1 {
            self.mentions.push(Mention { segments, line, module: self.module.clone() });
        }
    }

    fn branches(&mut self, prefix: &[String]) {
        self.at += 1;
        while let Some(token) = self.token(0) {
            match token {
                Token::Sign('}') => {
                    self.at += 1;
                    return;
                }
                Token::Word(word) if word == "as" => self.at += 2,
                Token::Word(_) | Token::Sign('*') => self.path(prefix.to_vec()),
                Token::Join | Token::Sign(_) => self.at += 1,
            }
        }
    }

    fn token(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(token, _)| token)
    }
}

/// Leaves out every item below `#[cfg(test)]`.
fn without_tests(tokens: &[(Token, usize)]) -> Vec<(Token, usize)> {
    let sign = Token::Sign;
    let word = |text: &str| Token::Word(text.to_owned());
    let mark = [sign('#'), sign('['), word("cfg"), sign('('), word("test"), sign(')'), sign(']')];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().map(|(token, _)| token).take(mark.len()).eq(&mark) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += mark.len();
        let mut depth = 0_usize;
        while at < tokens.len() {
            let token = &tokens[at].0;
            at += 1;
            match token {
                Token::Sign('{' | '(' | '[') => depth += 1,
                Token::Sign(')' | ']') => depth -= 1,
                Token::Sign('}') => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                Token::Sign(';') if depth == 0 => break,
                _ => {}
            }
        }
    }
    kept
}

/// Tokens with their lines; comments, texts, numbers and lifetimes are left out.
fn tokens(text: &str) -> Vec<(Token, usize)> {
    let letters: Vec<char> = text.chars().collect();
    let letter = |at: usize| letters.get(at).copied().unwrap_or('\0');
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < letters.len() {
        let start = at;
        match letter(at) {
            '/' if letter(at + 1) == '/' => {
                while at < letters.len() && letter(at) != '\n' {
                    at += 1;
                }
            }
            '/' if letter(at + 1) == '*' => at = end_of_comment(&letters, at),
            '"' => at = end_of_text(&letters, at),
            '\'' if letter(at + 1) == '\\' || letter(at + 2) == '\'' => {
                at += if letter(at + 1) == '\\' { 3 } else { 2 };
                while at < letters.len() && letter(at) != '\'' {
                    at += 1;
                }
                at += 1;
            }
            '\'' => {
                at += 1;
                while is_word(letter(at)) {
                    at += 1;
                }
            }
            first if is_word(first) => {
                while is_word(letter(at)) {
                    at += 1;
                }
                let word: String = letters[start..at].iter().collect();
                let hashes = letters[at..].iter().take_while(|letter| **letter == '#').count();
                let raw = ["r", "br", "cr"].contains(&word.as_str());
                if raw && letter(at + hashes) == '"' {
                    at = end_of_raw_text(&letters, at, hashes);
                } else if raw && hashes == 1 {
                    // A raw name such as r#type: the next turn reads it.
                    at += 1;
                } else if !first.is_numeric() && letter(at) != '"' {
                    found.push((Token::Word(word), line));
                }
            }
            ':' if letter(at + 1) == ':' => {
                found.push((Token::Join, line));
                at += 2;
            }
            blank if blank.is_whitespace() => at += 1,
            sign => {
                found.push((Token::Sign(sign), line));
                at += 1;
            }
        }
        line += letters[start..at.min(letters.len())].iter().filter(|letter| **letter == '\n').count();
    }
    found
}

fn end_of_comment(letters: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < letters.len() {
        match (letters[at], letters[at + 1]) {
            ('/', '*') => (at, depth) = (at + 2, depth + 1),
            ('*', '/') => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    letters.len()
}

fn end_of_text(letters: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < letters.len() && letters[at] != '"' {
        at += if letters[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn end_of_raw_text(letters: &[char], start: usize, hashes: usize) -> usize {
    let mut at = start + hashes + 1;
    while at < letters.len() {
        let closes = letters[at] == '"'
            && letters[at + 1..].iter().take(hashes).filter(|letter| **letter == '#').count() == hashes;
        if closes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    letters.len()
}
