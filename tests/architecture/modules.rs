//! The modules of a crate: what each defines, imports and names. Read from production code alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use crate::production::{self, visit_conditional};
use crate::workspace::{self, Target};

/// A path as it is written, and where.
#[derive(Debug, Clone)]
pub struct Mention {
    /// Its segments; the first may be `crate`, `self` or `super`.
    pub segments: Vec<String>,
    /// Line in the file of the module.
    pub line: usize,
    /// Whether only the feature `testing` compiles it.
    pub testing: bool,
}

/// An import.
#[derive(Debug, Clone)]
pub struct Use {
    /// What it imports.
    pub mention: Mention,
    /// The name it is imported under; `*` for all of a module.
    pub name: String,
    /// Whether others can import it from here.
    pub public: bool,
}

/// A module.
#[derive(Debug, Clone, Default)]
pub struct Module {
    /// The path from the crate's root, which has an empty one.
    pub path: Vec<String>,
    /// Its file.
    pub file: PathBuf,
    /// The module it is in.
    pub parent: Option<usize>,
    /// The modules in it.
    pub children: BTreeMap<String, usize>,
    /// Names of the types, functions, constants, traits and macros it defines.
    pub items: BTreeSet<String>,
    /// Those of them that other modules can name.
    pub public_items: BTreeSet<String>,
    /// Whether it implements something for a type of another module.
    pub extends_others: bool,
    /// Its imports, including those inside of functions.
    pub uses: Vec<Use>,
    /// The paths it names besides, with at least two segments.
    pub mentions: Vec<Mention>,
    /// The single names in its code, which matter where it imports all of a module.
    pub names: Vec<Mention>,
    /// Whether it or a module it is in needs the feature `testing`.
    pub testing: bool,
}

/// The modules of a crate; the first is its root.
#[derive(Debug, Clone, Default)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Whether other crates can name it.
    pub is_library: bool,
    /// Its modules.
    pub modules: Vec<Module>,
}

/// Where files come from: their text, or `None` where there is no such file.
pub type Files<'f> = &'f dyn Fn(&Path) -> Option<String>;

/// Files on the disk.
pub fn on_disk(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Reads all crates of the workspace in `root`.
///
/// # Errors
/// Cargo does not accept the workspace, or a file is missing or no Rust.
pub fn read_all(root: &Path) -> anyhow::Result<Vec<Crate>> {
    let packages = workspace::packages(root)?;
    let targets = packages.iter().flat_map(|package| &package.targets);
    targets.map(|target| Crate::read(target, &on_disk)).collect()
}

impl Crate {
    /// Reads a crate from its root file on.
    ///
    /// # Errors
    /// A file is missing or no Rust.
    pub fn read(target: &Target, files: Files<'_>) -> anyhow::Result<Self> {
        let is_library = target.kind == "lib";
        let mut found = Self { name: target.name.replace('-', "_"), is_library, modules: Vec::new() };
        let module = Module { file: target.root.clone(), ..Module::default() };
        let folder = target.root.parent().map(Path::to_owned).unwrap_or_default();
        found.read_file(module, &folder, files)?;
        Ok(found)
    }

    /// The files it is made of.
    pub fn files(&self) -> BTreeSet<&Path> {
        self.modules.iter().map(|module| module.file.as_path()).collect()
    }

    /// Reads a module's file; its submodules are in `folder`.
    fn read_file(&mut self, module: Module, folder: &Path, files: Files<'_>) -> anyhow::Result<Option<usize>> {
        let shown = module.file.display().to_string();
        let text = files(&module.file).with_context(|| format!("{shown} cannot be read"))?;
        let file = syn::parse_file(&text).with_context(|| shown)?;
        if production::is_test_only(&file.attrs) && !self.modules.is_empty() {
            return Ok(None);
        }
        let reading = Reading { folder: folder.to_owned(), files };
        self.read_items(module, &file.items, &reading).map(Some)
    }

    fn read_items(&mut self, module: Module, items: &[syn::Item], reading: &Reading<'_>) -> anyhow::Result<usize> {
        let id = self.modules.len();
        let (path, file, testing) = (module.path.clone(), module.file.clone(), module.testing);
        self.modules.push(module);
        let mut facts = Facts { module: Module::default(), testing };
        for item in items.iter().filter(|item| !production::is_test_only(production::item_attributes(item))) {
            if let Some((name, public)) = defined(item) {
                facts.define(name, public);
            }
            if let syn::Item::Mod(item) = item {
                let name = item.ident.to_string();
                let child = Module {
                    path: path.iter().cloned().chain([name.clone()]).collect(),
                    file: file.clone(),
                    parent: Some(id),
                    testing: testing || production::needs_testing(&item.attrs),
                    ..Module::default()
                };
                let child = match &item.content {
                    Some((_, items)) => {
                        let folder = reading.folder.join(&name);
                        Some(self.read_items(child, items, &Reading { folder, ..*reading })?)
                    }
                    None => self.read_declared(child, item, reading)?,
                };
                if let Some(child) = child {
                    facts.module.children.insert(name, child);
                }
            } else {
                facts.visit_item(item);
            }
        }
        let module = &mut self.modules[id];
        module.children = facts.module.children;
        module.items = facts.module.items;
        module.public_items = facts.module.public_items;
        module.extends_others = extends_others(items, &module.items);
        module.uses = facts.module.uses;
        module.mentions = facts.module.mentions;
        module.names = facts.module.names;
        Ok(id)
    }

    /// Reads the file that `mod name;` stands for.
    fn read_declared(
        &mut self,
        mut child: Module,
        item: &syn::ItemMod,
        reading: &Reading<'_>,
    ) -> anyhow::Result<Option<usize>> {
        let name = item.ident.to_string();
        let folder = reading.folder.join(&name);
        let written = item.attrs.iter().find_map(path_attribute);
        let beside = child.file.parent().map(Path::to_owned).unwrap_or_default();
        let candidates = match written {
            Some(path) => vec![beside.join(path)],
            None => vec![folder.join("mod.rs"), reading.folder.join(format!("{name}.rs"))],
        };
        let found = candidates.iter().find(|path| (reading.files)(path).is_some());
        let file = found.with_context(|| format!("{}: mod {name} has no file", child.file.display()))?.clone();
        child.file = file;
        self.read_file(child, &folder, reading.files)
    }
}

/// What is needed to read a file.
#[derive(Clone)]
struct Reading<'r> {
    folder: PathBuf,
    files: Files<'r>,
}

/// `#[path = "…"]`.
fn path_attribute(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    let syn::Expr::Lit(literal) = &pair.value else { return None };
    match &literal.lit {
        syn::Lit::Str(path) if pair.path.is_ident("path") => Some(path.value()),
        _ => None,
    }
}

/// The name that an item defines, and whether other modules can use it.
fn defined(item: &syn::Item) -> Option<(&syn::Ident, bool)> {
    let (name, visibility) = match item {
        syn::Item::Const(item) => (&item.ident, &item.vis),
        syn::Item::Enum(item) => (&item.ident, &item.vis),
        syn::Item::Fn(item) => (&item.sig.ident, &item.vis),
        syn::Item::Static(item) => (&item.ident, &item.vis),
        syn::Item::Struct(item) => (&item.ident, &item.vis),
        syn::Item::Trait(item) => (&item.ident, &item.vis),
        syn::Item::TraitAlias(item) => (&item.ident, &item.vis),
        syn::Item::Type(item) => (&item.ident, &item.vis),
        syn::Item::Union(item) => (&item.ident, &item.vis),
        syn::Item::Macro(item) => return item.ident.as_ref().map(|name| (name, false)),
        _ => return None,
    };
    Some((name, !matches!(visibility, syn::Visibility::Inherited)))
}

/// Whether one of the items implements something for a type that is not defined here.
fn extends_others(items: &[syn::Item], defined: &BTreeSet<String>) -> bool {
    let types = items.iter().filter_map(|item| match item {
        syn::Item::Impl(item) => Some(&*item.self_ty),
        _ => None,
    });
    let mut names = types.map(|self_type| match self_type {
        syn::Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    });
    names.any(|name| name.is_none_or(|name| !defined.contains(&name)))
}

/// Collects what a module imports and names.
struct Facts {
    module: Module,
    /// Whether the code at hand needs the feature `testing`.
    testing: bool,
}

impl Facts {
    fn enter(&mut self, attributes: &[syn::Attribute], _: &dyn Fn() -> Range<usize>, inside: impl FnOnce(&mut Self)) {
        if !production::is_test_only(attributes) {
            let before = self.testing;
            self.testing |= production::needs_testing(attributes);
            inside(self);
            self.testing = before;
        }
    }

    fn define(&mut self, name: &syn::Ident, public: bool) {
        self.module.items.insert(name.to_string());
        if public {
            self.module.public_items.insert(name.to_string());
        }
    }

    fn mention(&mut self, segments: Vec<String>, span: proc_macro2::Span) {
        let mention = self.at(segments, span);
        let list = if mention.segments.len() > 1 { &mut self.module.mentions } else { &mut self.module.names };
        list.push(mention);
    }

    fn at(&self, segments: Vec<String>, span: proc_macro2::Span) -> Mention {
        Mention { segments, line: span.start().line, testing: self.testing }
    }

    fn import(&mut self, tree: &syn::UseTree, before: &[String], public: bool) {
        let mut segments = before.to_vec();
        let (name, last, span) = match tree {
            syn::UseTree::Path(path) => {
                segments.push(path.ident.to_string());
                return self.import(&path.tree, &segments, public);
            }
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(tree, before, public));
            }
            syn::UseTree::Name(name) => (name.ident.to_string(), Some(name.ident.to_string()), name.ident.span()),
            syn::UseTree::Rename(name) => (name.rename.to_string(), Some(name.ident.to_string()), name.ident.span()),
            syn::UseTree::Glob(glob) => ("*".to_owned(), None, glob.star_token.span()),
        };
        let name = if name == "self" { before.last().cloned().unwrap_or_default() } else { name };
        segments.extend(last.filter(|last| last != "self"));
        let mention = self.at(segments, span);
        self.module.uses.push(Use { mention, name, public });
    }

    /// Paths in the tokens of a macro, which nothing but the macro itself can parse.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => self.quoted(literal),
                TokenTree::Ident(first) => {
                    let rooted = at >= 2 && is_colon(at - 1) && is_colon(at - 2);
                    let mut segments = vec![first.to_string()];
                    while is_colon(at + 1) && is_colon(at + 2) {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                        segments.push(next.to_string());
                        at += 3;
                    }
                    if !rooted {
                        self.mention(segments, first.span());
                    }
                }
                TokenTree::Punct(_) => {}
            }
            at += 1;
        }
    }

    /// A path in quotes, as in `#[serde(with = "crate::text")]`.
    fn quoted(&mut self, literal: &proc_macro2::Literal) {
        let spelled = literal.to_string();
        let Some(path) = spelled.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return };
        let segments: Vec<String> = path.split("::").map(str::to_owned).collect();
        let is_name = |name: &String| syn::parse_str::<syn::Ident>(name).is_ok() || name == "crate" || name == "super";
        if segments.len() > 1 && segments.iter().all(is_name) {
            self.mention(segments, literal.span());
        }
    }
}

impl<'ast> Visit<'ast> for Facts {
    visit_conditional!();

    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            let public = !matches!(item.vis, syn::Visibility::Inherited);
            self.import(&item.tree, &[], public);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.mention(segments, path.segments[0].ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}
