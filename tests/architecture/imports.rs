//! Which file imports from which. Every import and path is followed to the file that defines what it names, through
//! modules that only re-export it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::modules::{Crate, Mention};

/// A file of a crate. A file can belong to more than one crate, as the shared parts of test suites do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// The crate's place in the list.
    pub number: usize,
    /// Where the file is.
    pub path: PathBuf,
}

/// A line that imports or names something of another file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// In the importing file, from 1.
    pub line: usize,
    /// The path as it is written there.
    pub path: String,
    /// Whether it is an import; else it names the path where it uses it.
    pub import: bool,
    /// Whether the feature `testing` is needed to compile it.
    pub testing: bool,
}

/// The files of some crates and what they import from each other.
#[derive(Debug, Clone, Default)]
pub struct Imports {
    /// From a file to the files it needs, with the lines that name them.
    pub edges: BTreeMap<File, BTreeMap<File, BTreeSet<Line>>>,
    /// For each file those of the modules around it, from the crate's root on.
    pub ancestors: BTreeMap<File, Vec<File>>,
}

impl Imports {
    /// Resolves the paths of some crates, which may name each other.
    pub fn new(crates: &[Crate]) -> Self {
        let resolver = Resolver { crates };
        let mut imports = Self::default();
        for (number, one) in crates.iter().enumerate() {
            for id in 0..one.modules.len() {
                imports.add_module(&resolver, Place { number, id });
            }
        }
        imports
    }

    /// The lines of `file` that need `other`.
    pub fn lines(&self, file: &File, other: &File) -> impl Iterator<Item = &Line> {
        self.edges.get(file).and_then(|edges| edges.get(other)).into_iter().flatten()
    }

    fn add_module(&mut self, resolver: &Resolver<'_>, here: Place) {
        let one = &resolver.crates[here.number];
        let module = &one.modules[here.id];
        let file = resolver.file(here);
        let above = std::iter::successors(module.parent, |id| one.modules[*id].parent);
        let mut ancestors: Vec<File> = above.map(|id| resolver.file(Place { id, ..here })).collect();
        ancestors.retain(|ancestor| *ancestor != file);
        ancestors.reverse();
        ancestors.dedup();
        // The first module of a file is the outermost one.
        self.ancestors.entry(file.clone()).or_insert(ancestors);
        self.edges.entry(file.clone()).or_default();
        for import in &module.uses {
            // A module that is imported is needed for what is named through it, which has an edge of its own.
            let found = resolver.resolve(here, &import.mention.segments, &mut Seen::new());
            self.add(&file, (&import.mention, true), resolver, found.iter().filter(|found| found.is_item));
        }
        for mention in &module.mentions {
            let found = resolver.resolve(here, &mention.segments, &mut Seen::new());
            self.add(&file, (mention, false), resolver, found.iter());
        }
        if module.uses.iter().any(|import| import.name == "*") {
            for mention in &module.names {
                let found = resolver.lookup(here, &mention.segments[0], &mut Seen::new());
                self.add(&file, (mention, false), resolver, found.iter().filter(|found| found.is_item));
            }
        }
    }

    fn add<'f>(
        &mut self,
        file: &File,
        (mention, import): (&Mention, bool),
        resolver: &Resolver<'_>,
        found: impl Iterator<Item = &'f Definition>,
    ) {
        for target in found.map(|found| resolver.file(found.place)).filter(|target| target != file) {
            let line = Line { line: mention.line, path: mention.segments.join("::"), import, testing: mention.testing };
            let edges = self.edges.entry(file.clone()).or_default();
            edges.entry(target).or_default().insert(line);
        }
    }
}

/// A module of a crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    number: usize,
    id: usize,
}

/// What a path names: a module, or an item that a module defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Definition {
    place: Place,
    is_item: bool,
}

struct Resolver<'c> {
    crates: &'c [Crate],
}

/// Names whose lookup has not ended. Modules may import everything from each other.
type Seen = BTreeSet<(Place, String)>;

impl Resolver<'_> {
    fn file(&self, place: Place) -> File {
        File { number: place.number, path: self.crates[place.number].modules[place.id].file.clone() }
    }

    /// What a path means in a module; nothing where it names something outside of these crates.
    fn resolve(&self, here: Place, segments: &[String], seen: &mut Seen) -> Vec<Definition> {
        let Some((first, mut rest)) = segments.split_first() else { return Vec::new() };
        let module = |id| Definition { place: Place { number: here.number, id }, is_item: false };
        let parent = |found: &Definition| self.crates[here.number].modules[found.place.id].parent.map(module);
        let mut found = match first.as_str() {
            "crate" => vec![module(0)],
            "self" => vec![module(here.id)],
            "super" => parent(&module(here.id)).into_iter().collect(),
            name => {
                let found = self.lookup(here, name, seen);
                if found.is_empty() { self.library(name).into_iter().collect() } else { found }
            }
        };
        while rest.first().is_some_and(|segment| segment == "super") {
            found = found.iter().filter_map(parent).collect();
            rest = &rest[1..];
        }
        for segment in rest {
            let Some(module) = found.iter().find(|found| !found.is_item).copied() else { return found };
            let inside = self.lookup(module.place, segment, seen);
            if inside.is_empty() {
                // A macro defines it, or it does not exist: the last module on the path is needed in any case.
                return vec![Definition { is_item: true, ..module }];
            }
            found = inside;
        }
        found
    }

    /// What a name means in a module. A module and a function may share one.
    fn lookup(&self, place: Place, name: &str, seen: &mut Seen) -> Vec<Definition> {
        if !seen.insert((place, name.to_owned())) {
            return Vec::new();
        }
        let module = &self.crates[place.number].modules[place.id];
        let mut found = Vec::new();
        if let Some(id) = module.children.get(name) {
            found.push(Definition { place: Place { id: *id, ..place }, is_item: false });
        }
        if module.items.contains(name) {
            found.push(Definition { place, is_item: true });
        }
        for import in module.uses.iter().filter(|import| import.name == name) {
            found.extend(self.resolve(place, &import.mention.segments, seen));
        }
        if found.is_empty() {
            for import in module.uses.iter().filter(|import| import.name == "*") {
                let all = self.resolve(place, &import.mention.segments, seen);
                for module in all.iter().filter(|found| !found.is_item) {
                    found.extend(self.lookup(module.place, name, seen));
                }
            }
        }
        found.dedup();
        seen.remove(&(place, name.to_owned()));
        found
    }

    fn library(&self, name: &str) -> Option<Definition> {
        let number = self.crates.iter().position(|one| one.is_library && one.name == name)?;
        Some(Definition { place: Place { number, id: 0 }, is_item: false })
    }
}
