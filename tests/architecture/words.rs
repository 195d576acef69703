//! Words that are out of use: in names of production code, and in everything that people read. The rules are in
//! `banned.txt` beside this file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context as _, bail};
use regex::{Regex, RegexSet};

use crate::lexis::{Lexis, line_of};
use crate::modules::{self, Crate};
use crate::{production, workspace};

/// Where a rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The definition of a type or trait.
    Type,
    /// The definition of a function.
    Fn,
    /// Any identifier.
    Name,
    /// A file's name.
    File,
    /// Text for people.
    Prose,
}

/// A name that is out of use.
#[derive(Debug)]
struct NameRule {
    kind: Kind,
    instead: String,
}

/// A phrase that is out of use.
#[derive(Debug)]
struct PhraseRule {
    pattern: String,
    regex: Regex,
    instead: String,
}

/// A place where a word is in use all the same.
#[derive(Debug, Clone)]
struct Exception {
    kind: Kind,
    pattern: String,
    path: PathBuf,
}

/// The rules of `banned.txt`.
#[derive(Debug, Default)]
pub struct Rules {
    names: HashMap<String, Vec<NameRule>>,
    phrases: Vec<PhraseRule>,
    /// All phrases at once.
    phrase_set: RegexSet,
    plain: Vec<Regex>,
    exceptions: Vec<Exception>,
}

/// A word that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// The file, from the root of the repository on.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// The word as it is written there.
    pub word: String,
    /// What to write instead.
    pub instead: String,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: \"{}\", write: {}", self.path.display(), self.line, self.word, self.instead)
    }
}

impl Kind {
    fn read(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "type" => Self::Type,
            "fn" => Self::Fn,
            "name" => Self::Name,
            "file" => Self::File,
            "prose" => Self::Prose,
            _ => bail!("{text} is no kind of rule"),
        })
    }
}

/// A phrase as a regular expression. Words are bounded by ASCII rules, which are fast on Korean text.
fn phrase(pattern: &str) -> String {
    format!(r"(?i-u:\b)(?i:{})(?i-u:\b)", pattern.replace(' ', r"\s+"))
}

impl Rules {
    /// Reads rules as `banned.txt` has them.
    ///
    /// # Errors
    /// A line that is none.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let mut rules = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            rules.line(line).with_context(|| format!("banned.txt: {line}"))?;
        }
        rules.phrase_set = RegexSet::new(rules.phrases.iter().map(|rule| phrase(&rule.pattern)))?;
        Ok(rules)
    }

    /// The rules of this repository.
    ///
    /// # Errors
    /// `banned.txt` has a line that is no rule.
    pub fn of_this_repository() -> anyhow::Result<Self> {
        Self::read(include_str!("banned.txt"))
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let (kind, rest) = line.split_once(' ').context("a kind and a pattern")?;
        match kind {
            "plain" => self.plain.push(Regex::new(&phrase(rest.trim()))?),
            "allow" => {
                let (kind, rest) = rest.split_once(' ').context("a kind")?;
                let (exception, reason) = rest.split_once(": ").context("a reason")?;
                let (pattern, path) = exception.rsplit_once(" in ").context("a path")?;
                if reason.trim().is_empty() {
                    bail!("an exception needs a reason");
                }
                let kind = Kind::read(kind)?;
                self.exceptions.push(Exception { kind, pattern: pattern.to_owned(), path: path.trim().into() });
            }
            _ => {
                let (pattern, instead) = rest.split_once(" -> ").context("what to write instead")?;
                let (pattern, instead) = (pattern.trim().to_owned(), instead.trim().to_owned());
                match Kind::read(kind)? {
                    Kind::Prose => {
                        let regex = Regex::new(&phrase(&pattern))?;
                        self.phrases.push(PhraseRule { pattern, regex, instead });
                    }
                    kind => self.names.entry(pattern).or_default().push(NameRule { kind, instead }),
                }
            }
        }
        Ok(())
    }

    fn is_allowed(&self, kind: Kind, pattern: &str, path: &Path) -> bool {
        let same = |exception: &&Exception| exception.kind == kind && exception.pattern == pattern;
        self.exceptions.iter().filter(same).any(|exception| path.starts_with(&exception.path))
    }

    /// Searches what people read in a file.
    fn search_prose(&self, path: &Path, text: &str, hits: &mut BTreeSet<Hit>) {
        let mut prose = prose(path, text);
        for plain in &self.plain {
            prose = plain.replace_all(&prose, |found: &regex::Captures<'_>| hidden(&found[0])).into_owned();
        }
        for index in self.phrase_set.matches(&prose) {
            let rule = &self.phrases[index];
            if self.is_allowed(Kind::Prose, &rule.pattern, path) {
                continue;
            }
            for found in rule.regex.find_iter(&prose) {
                let word = found.as_str().split_whitespace().collect::<Vec<_>>().join(" ");
                let line = line_of(&prose, found.start());
                hits.insert(Hit { path: path.to_owned(), line, word, instead: rule.instead.clone() });
            }
        }
        match path.extension().and_then(OsStr::to_str) {
            Some("md") => self.search_code(path, &quoted(text), &[Kind::Name], hits),
            Some("rs") => hits.extend(wide_comments(path, text)),
            _ => {}
        }
    }

    /// Searches names in a file of production code.
    fn search_names(&self, path: &Path, text: &str, hits: &mut BTreeSet<Hit>) -> anyhow::Result<()> {
        const KINDS: [Kind; 3] = [Kind::Type, Kind::Fn, Kind::Name];
        let stem = if path.ends_with("mod.rs") { path.parent().and_then(Path::file_name) } else { path.file_stem() };
        self.search_code(path, &stem.unwrap_or_default().to_string_lossy(), &[Kind::File], hits);
        let mut found = BTreeSet::new();
        self.search_code(path, text, &KINDS, &mut found);
        if !found.is_empty() {
            let production = production::of_file(text)?;
            let lexis = Lexis::new(&production);
            let places: Vec<Range<usize>> = lexis.comments.into_iter().chain(lexis.strings).collect();
            self.search_code(path, &production::blank(&production, &places), &KINDS, hits);
        }
        Ok(())
    }

    /// Searches names among the identifiers of a text.
    fn search_code(&self, path: &Path, code: &str, kinds: &[Kind], hits: &mut BTreeSet<Hit>) {
        let mut before = "";
        for word in
            code.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
        {
            for rule in self.names.get(word).into_iter().flatten().filter(|rule| kinds.contains(&rule.kind)) {
                let applies = match rule.kind {
                    Kind::Type => ["struct", "enum", "union", "trait", "type"].contains(&before),
                    Kind::Fn => before == "fn",
                    Kind::Name | Kind::File | Kind::Prose => true,
                };
                if applies && !self.is_allowed(rule.kind, word, path) {
                    let line = line_of(code, word.as_ptr().addr() - code.as_ptr().addr());
                    hits.insert(Hit {
                        path: path.to_owned(),
                        line,
                        word: word.to_owned(),
                        instead: rule.instead.clone(),
                    });
                }
            }
            before = word;
        }
    }
}

/// Searches the repository in `root`.
///
/// # Errors
/// A file cannot be read.
pub fn find(rules: &Rules, root: &Path) -> anyhow::Result<Vec<Hit>> {
    let mut hits = BTreeSet::new();
    let mut files = Vec::new();
    walk(root, &mut files)?;
    let mut production = BTreeSet::new();
    for package in workspace::packages(root)?.iter().filter(|package| !package.is_for_tests()) {
        for target in package.production_targets() {
            let one = Crate::read(target, &modules::on_disk)?;
            production.extend(one.files().into_iter().map(Path::to_owned));
        }
    }
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let path = file.strip_prefix(root).unwrap_or(&file);
        rules.search_prose(path, &text, &mut hits);
        if production.contains(&file) {
            rules.search_names(path, &text, &mut hits).with_context(|| path.display().to_string())?;
        }
    }
    Ok(hits.into_iter().collect())
}

/// The hits as a table of folders, those with the most first, each with its words.
pub fn table(hits: &[Hit]) -> String {
    let mut areas: BTreeMap<&Path, BTreeMap<String, usize>> = BTreeMap::new();
    for hit in hits {
        let area = hit.path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(&hit.path);
        *areas.entry(area).or_default().entry(hit.word.to_lowercase()).or_default() += 1;
    }
    let mut rows: Vec<(usize, String)> = Vec::new();
    for (area, words) in areas {
        let count: usize = words.values().sum();
        let mut words: Vec<(usize, String)> = words.into_iter().map(|(word, count)| (count, word)).collect();
        words.sort_by(|one, other| other.cmp(one));
        let words: Vec<String> = words.iter().map(|(count, word)| format!("{word} {count}")).collect();
        rows.push((count, format!("{}: {}", area.display(), words.join(", "))));
    }
    rows.sort_by_key(|(count, row)| (std::cmp::Reverse(*count), row.clone()));
    rows.into_iter().fold(String::new(), |text, (count, row)| text + &format!("{count:5}  {row}\n"))
}

/// Folders that hold no text of ours, or data.
const SKIPPED: [&str; 8] =
    [".git", ".local", ".venv", "target", "node_modules", "fixtures", "snapshots", "__pycache__"];

/// Ends of the names of files with text for people.
const TEXTS: [&str; 14] = [
    ".rs",
    ".md",
    ".yaml",
    ".yml",
    ".toml",
    ".sh",
    ".py",
    ".js",
    ".html",
    ".lua",
    ".json",
    "Makefile",
    "Containerfile",
    ".ci/run",
];

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                walk(&path, files)?;
            }
        } else if TEXTS.iter().any(|end| path.to_string_lossy().ends_with(end)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// Takes the place of what is no prose, so that no phrase goes across it.
const HIDDEN: char = '\u{1}';

fn hidden(text: &str) -> String {
    text.chars().map(|letter| if letter == '\n' { letter } else { HIDDEN }).collect()
}

static CODE_SPANS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?s)```.*?```|`[^`\n]+`").ok());

/// The prose of a file, line for line, without the marks of comments.
fn prose(path: &Path, text: &str) -> String {
    match path.extension().and_then(OsStr::to_str) {
        Some("rs") => {
            let lexis = Lexis::new(text);
            let mut prose = String::new();
            let mut end = 0;
            let mut places: Vec<(Range<usize>, bool)> = lexis.comments.into_iter().map(|place| (place, true)).collect();
            places.extend(lexis.strings.into_iter().map(|place| (place, false)));
            places.sort_by_key(|(place, _)| place.start);
            for (place, comment) in places {
                prose += &hidden(&text[end..place.start]);
                end = place.end;
                prose += &if comment { unmarked(&text[place]) } else { text[place].replace("\\\n", " \n") };
            }
            prose + &hidden(&text[end..])
        }
        Some("md") => match CODE_SPANS.as_ref() {
            Some(spans) => spans.replace_all(text, |found: &regex::Captures<'_>| hidden(&found[0])).into_owned(),
            None => text.to_owned(),
        },
        _ => unmarked(text),
    }
}

/// Lines of comments that are longer than lines of code; rustfmt does not wrap them.
fn wide_comments(path: &Path, text: &str) -> Vec<Hit> {
    const COLUMNS: usize = 120;
    let comments = Lexis::new(text).comments;
    let wide = comments.into_iter().flat_map(|comment| {
        let end = text[comment.end..].find('\n').map_or(text.len(), |length| comment.end + length);
        let start = text[..comment.start].rfind('\n').map_or(0, |newline| newline + 1);
        let first = line_of(text, start);
        let columns = text[start..end].lines().map(|line| line.chars().count()).collect::<Vec<_>>();
        columns.into_iter().zip(first..).filter(|(columns, _)| *columns > COLUMNS)
    });
    let instead = format!("comments in at most {COLUMNS} columns");
    wide.map(|(columns, line)| Hit {
        path: path.to_owned(),
        line,
        word: format!("{columns} columns"),
        instead: instead.clone(),
    })
    .collect()
}

/// The code that a document quotes.
fn quoted(text: &str) -> String {
    let Some(spans) = CODE_SPANS.as_ref() else { return String::new() };
    let mut code = String::new();
    let mut end = 0;
    for span in spans.find_iter(text) {
        code += &hidden(&text[end..span.start()]);
        code += span.as_str();
        end = span.end();
    }
    code
}

/// Blanks the marks of comments at the start of lines.
fn unmarked(text: &str) -> String {
    let line = |line: &str| {
        let body = line.trim_start().trim_start_matches(['/', '#', '*', '!', '-']);
        " ".repeat(line.chars().count() - body.chars().count()) + body
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "# a comment\n\
        type Zorp -> Noun\n\
        fn zig -> new\n\
        name Zag -> Other\n\
        file zoo -> park\n\
        prose zaps( up)? -> writes\n\
        prose zip along -> walk\n\
        plain zaps well\n\
        allow prose zip along in docs/old: a quotation\n";

    /// What is found in a file: line and word.
    fn found(path: &str, text: &str) -> Vec<(usize, String)> {
        let rules = Rules::read(RULES).expect("rules");
        let mut hits = BTreeSet::new();
        rules.search_prose(Path::new(path), text, &mut hits);
        if path.starts_with("src") {
            rules.search_names(Path::new(path), text, &mut hits).expect("it can be read");
        }
        hits.into_iter().map(|hit| (hit.line, hit.word)).collect()
    }

    fn hits(list: &[(usize, &str)]) -> Vec<(usize, String)> {
        list.iter().map(|(line, word)| (*line, (*word).to_owned())).collect()
    }

    #[test]
    fn names_are_those_of_production_code() {
        let text = "pub struct Zorp;\nimpl Zorp { fn zig() -> Zag { Zag } }\n#[cfg(test)]\nmod tests { fn zig() {} }\n\
                    const TEXT: &str = \"fn zig Zag\"; // Zag\nstruct Zorpy;\n";
        let expected = hits(&[(1, "Zorp"), (1, "zoo"), (2, "Zag"), (2, "zig")]);
        assert_eq!(found("src/zoo.rs", text), expected);
        assert_eq!(found("src/zoo/mod.rs", text), expected);
    }

    #[test]
    fn prose_is_in_comments_strings_and_documents_and_goes_over_lines() {
        let text = "/// It Zaps\n/// up, and they zip\nfn zaps() {}\n/// along. It zaps well.\n\
                    const T: &str = \"zip \\\n    along\";\n";
        assert_eq!(found("tests/a.rs", text), hits(&[(1, "Zaps up"), (5, "zip along")]));
        assert_eq!(found("docs/a.md", "It `zaps` and\nzip\nalong: `Zag`.\n"), hits(&[(2, "zip along"), (3, "Zag")]));
        assert_eq!(found("a.yaml", "a: 1 # it zaps\n# zip\n# along\n"), hits(&[(1, "zaps"), (2, "zip along")]));
    }

    #[test]
    fn comments_are_as_wide_as_code() {
        let text = format!(
            "fn f() {{}} // {}\n/// {}\nconst C: &str = \"{}\";\n",
            "가".repeat(107),
            "a".repeat(117),
            "a".repeat(120)
        );
        assert_eq!(found("tests/a.rs", &text), hits(&[(2, "121 columns")]));
    }

    #[test]
    fn an_exception_is_for_one_rule_and_one_place() {
        assert_eq!(found("docs/old/a.md", "zip along, it zaps"), hits(&[(1, "zaps")]));
        assert!(Rules::read("allow prose zaps in docs").is_err(), "it has no reason");
        assert!(Rules::read("prose zaps").is_err() && Rules::read("verb zaps -> writes").is_err());
    }

    #[test]
    fn a_hit_names_file_line_word_and_what_to_write() {
        let (path, word) = (PathBuf::from("a.md"), "zaps".to_owned());
        let hit = Hit { path, line: 3, word, instead: "writes".to_owned() };
        assert_eq!(hit.to_string(), "a.md:3: \"zaps\", write: writes");
        assert_eq!(table(&[hit]), "    1  a.md: zaps 1\n");
    }

    #[test]
    fn the_rules_of_this_repository_can_be_read() {
        Rules::of_this_repository().expect("banned.txt");
    }
}
