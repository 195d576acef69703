//! Circles of files that need each other.
//!
//! A module and the modules inside of it are one thing in several files: `engine/mod.rs` may use what `engine/offer.rs`
//! defines and the other way round, also through a third file inside of `engine`. A circle is therefore allowed if one
//! of its files is the module around all others, and only then: `engine/offer.rs` -> `http.rs` -> `engine/mod.rs` ->
//! `engine/offer.rs` is one that nothing is around. Nor does a module join two others because both use something of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::Path;

use crate::imports::{File, Imports};

/// Files of which each needs the next, and the last the first.
pub type Circle = Vec<File>;

/// The circles that are not allowed, short ones first: for each edge between two files that are not inside of each
/// other the shortest one.
pub fn find(imports: &Imports) -> Vec<Circle> {
    let mut circles: BTreeMap<BTreeSet<&File>, Circle> = BTreeMap::new();
    for (file, targets) in &imports.edges {
        for target in targets.keys() {
            if is_inside(imports, file, target) || is_inside(imports, target, file) {
                continue;
            }
            // The innermost module around both. A circle through it is one inside of it.
            let common = imports.ancestors[file].iter().zip(&imports.ancestors[target]);
            let Some((around, _)) = common.take_while(|(one, other)| one == other).last() else { continue };
            if let Some(way) = shortest(imports, target, file, around) {
                circles.entry(way.iter().copied().collect()).or_insert_with(|| way.into_iter().cloned().collect());
            }
        }
    }
    let mut circles: Vec<Circle> = circles.into_values().collect();
    circles.sort_by_key(|circle| (circle.len(), circle.clone()));
    circles
}

/// The circles as text, with the lines that import; paths are shown from `root` on.
pub fn report(circles: &[Circle], imports: &Imports, root: &Path) -> String {
    let shown = |file: &File| file.path.strip_prefix(root).unwrap_or(&file.path).display().to_string();
    let mut text = String::new();
    for circle in circles {
        let names: Vec<String> = circle.iter().chain(circle.first()).map(shown).collect();
        let _ = writeln!(text, "{}", names.join(" -> "));
        for (file, next) in circle.iter().zip(circle.iter().cycle().skip(1)) {
            let imported = imports.lines(file, next).any(|line| line.import);
            for line in imports.lines(file, next).filter(|line| line.import == imported) {
                let _ = writeln!(text, "    {}:{}: {}", shown(file), line.line, line.path);
            }
        }
    }
    text
}

fn is_inside(imports: &Imports, file: &File, module: &File) -> bool {
    imports.ancestors[file].contains(module)
}

/// The shortest way from one file to another, along files inside of the module `around`.
fn shortest<'i>(imports: &'i Imports, from: &'i File, to: &File, around: &File) -> Option<Vec<&'i File>> {
    let mut before: BTreeMap<&File, Option<&File>> = BTreeMap::from([(from, None)]);
    let mut open = VecDeque::from([from]);
    while let Some(file) = open.pop_front() {
        if file == to {
            let mut way: Vec<&File> =
                std::iter::successors(Some(file), |file| before.get(file).copied().flatten()).collect();
            way.reverse();
            return Some(way);
        }
        for target in imports.edges[file].keys() {
            if is_inside(imports, target, around) && !before.contains_key(target) {
                before.insert(target, Some(file));
                open.push_back(target);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::Crate;
    use crate::workspace::Target;

    /// The circles of a crate made of these files, each circle's files in alphabetical order.
    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let mut circles = find(&imports(files));
        for circle in &mut circles {
            circle.sort();
        }
        let names = |circle: &Circle| circle.iter().map(|file| file.path.display().to_string()).collect();
        circles.iter().map(names).collect()
    }

    fn imports(files: &[(&str, &str)]) -> Imports {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        let target = Target { name: "town".to_owned(), kind: "lib".to_owned(), root: "lib.rs".into() };
        Imports::new(&[Crate::read(&target, &read).expect("the crate can be read")])
    }

    #[test]
    fn two_files_that_import_each_other_are_a_circle_with_its_lines() {
        let imports = imports(&[
            ("lib.rs", "mod a;\nmod b;\nmod c;"),
            ("a.rs", "use crate::b::B;\npub struct A(B);"),
            ("b.rs", "\npub struct B;\nimpl B { fn a(&self, _: &crate::a::A) {} }"),
            ("c.rs", "use crate::{a::A, b::B};"),
        ]);
        let expected = "b.rs -> a.rs -> b.rs\n    b.rs:3: crate::a::A\n    a.rs:1: crate::b::B\n";
        assert_eq!(report(&find(&imports), &imports, Path::new("")), expected);
    }

    #[test]
    fn a_circle_of_three_goes_through_nested_groups_and_super() {
        let found = circles(&[
            ("lib.rs", "mod a; mod deep;"),
            ("a.rs", "use crate::{deep::{self as d, b::{B, more::*}}, unknown::C};\npub struct A;"),
            ("deep/mod.rs", "pub mod b; pub mod c;"),
            ("deep/b.rs", "use super::c;\npub struct B(c::C);"),
            ("deep/c.rs", "pub struct C;\nfn f() { use super::super::a::A as Other; let _: Other; }"),
        ]);
        assert_eq!(found, [["a.rs", "deep/b.rs", "deep/c.rs"]]);
    }

    #[test]
    fn a_reexport_neither_hides_nor_makes_a_circle() {
        let hub = "mod a; mod b;\npub use a::A;\npub use b::*;";
        let found = circles(&[
            ("lib.rs", "mod hub; mod user;"),
            ("hub/mod.rs", hub),
            ("hub/a.rs", "use crate::user::User;\npub struct A(User);"),
            ("hub/b.rs", "pub struct B;"),
            ("user.rs", "use crate::hub::B;\npub struct User(B);"),
        ]);
        assert_eq!(found, Vec::<Vec<String>>::new(), "only hub/b.rs is needed");
        let found = circles(&[
            ("lib.rs", "mod hub; mod user;"),
            ("hub/mod.rs", hub),
            ("hub/a.rs", "use crate::user::User;\npub struct A(User);"),
            ("hub/b.rs", "pub struct B;"),
            ("user.rs", "use crate::hub;\npub struct User;\nfn f(_: hub::A) {}"),
        ]);
        assert_eq!(found, [["hub/a.rs", "user.rs"]], "hub passes A on");
    }

    #[test]
    fn a_module_and_the_modules_inside_of_it_are_allowed_and_join_no_others() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b;\npub struct Shared; use a::A; use b::B;"),
            ("a.rs", "mod inner; mod other;\npub struct A(inner::Inner, other::Other, crate::Shared);"),
            ("a/inner.rs", "use super::other::Other; pub struct Inner; impl super::A { fn f() {} }"),
            ("a/other.rs", "pub struct Other; fn f(_: super::A) {}"),
            ("b.rs", "pub struct B(crate::Shared, crate::a::A);"),
        ]);
        assert_eq!(found, Vec::<Vec<String>>::new());
    }

    #[test]
    fn a_circle_that_leaves_a_module_and_comes_back_to_it_is_found() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "mod inner;\npub struct A(inner::Inner);"),
            ("a/inner.rs", "pub struct Inner(crate::b::B);"),
            ("b.rs", "pub struct B; fn f(_: crate::a::A) {}"),
        ]);
        assert_eq!(found, [["a/inner.rs", "a.rs", "b.rs"]]);
    }

    #[test]
    fn tests_count_for_nothing() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b; #[cfg(test)] mod missing;"),
            ("a.rs", "#[cfg(test)]\nmod tests { use crate::b::B; }\npub struct A;\n#[cfg(test)] use crate::b::B;"),
            ("b.rs", "use crate::a::A; pub struct B;"),
        ]);
        assert_eq!(found, Vec::<Vec<String>>::new());
    }

    #[test]
    fn paths_in_macros_and_attributes_count() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "pub fn a() { println!(\"{}\", crate::b::b(1)); }"),
            ("b.rs", "pub fn b(_: u8) -> u8 { crate::c::TEXT }"),
            ("c.rs", "#[derive(Debug)] pub struct C { #[serde(with = \"crate::a::text\")] c: u8 }"),
        ]);
        assert_eq!(found, [["a.rs", "b.rs", "c.rs"]]);
    }
}
