//! The parts of a file that only a test build compiles.

use std::ops::Range;

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, Meta, Token, punctuated::Punctuated};

/// A file's text with everything that only tests compile left blank, line for line.
///
/// # Errors
/// The text is no Rust.
pub fn of_file(text: &str) -> syn::Result<String> {
    let file = syn::parse_file(text)?;
    let mut tests = Tests { text, ranges: Vec::new() };
    if is_test_only(&file.attrs) {
        tests.ranges.push(0..text.len());
    }
    tests.visit_file(&file);
    Ok(blank(text, &tests.ranges))
}

/// A text with some of its bytes left blank, line for line.
pub fn blank(text: &str, parts: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for byte in parts.iter().cloned().flatten() {
        if bytes[byte] != b'\n' {
            bytes[byte] = b' ';
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether an item with these attributes is compiled for tests only.
pub fn is_test_only(attributes: &[Attribute]) -> bool {
    conditions(attributes).any(|condition| holds(&condition, &|name| (name == "test").then_some(false)) == Some(false))
}

/// Whether an item with these attributes is missing where the feature `testing` is off.
pub fn needs_testing(attributes: &[Attribute]) -> bool {
    let facts = |name: &str| (name == "test" || name == "feature = \"testing\"").then_some(false);
    conditions(attributes).any(|condition| holds(&condition, &facts) == Some(false))
}

fn conditions(attributes: &[Attribute]) -> impl Iterator<Item = Meta> {
    let cfg = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    cfg.filter_map(|attribute| attribute.parse_args::<Meta>().ok())
}

/// Evaluates a `cfg` condition; `None` where the known facts do not decide it.
fn holds(condition: &Meta, facts: &dyn Fn(&str) -> Option<bool>) -> Option<bool> {
    let Meta::List(list) = condition else {
        return match condition {
            Meta::NameValue(pair) => {
                let syn::Expr::Lit(literal) = &pair.value else { return None };
                let syn::Lit::Str(value) = &literal.lit else { return None };
                facts(&format!("{} = {:?}", pair.path.get_ident()?, value.value()))
            }
            _ => facts(&condition.path().get_ident()?.to_string()),
        };
    };
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
    let parts: Vec<Option<bool>> = parts.iter().map(|part| holds(part, facts)).collect();
    let (any_false, all_known) = (parts.contains(&Some(false)), !parts.contains(&None));
    if list.path.is_ident("not") {
        parts.first().copied().flatten().map(|value| !value)
    } else if list.path.is_ident("all") {
        if any_false { Some(false) } else { all_known.then_some(true) }
    } else if list.path.is_ident("any") {
        if parts.contains(&Some(true)) { Some(true) } else { all_known.then_some(false) }
    } else {
        None
    }
}

/// The visits of everything that can have a `cfg` attribute. Each calls `enter` with the attributes, the node's place,
/// and a function that visits the inside.
macro_rules! visit_conditional {
    () => {
        fn visit_item(&mut self, node: &'ast syn::Item) {
            let attributes = $crate::production::item_attributes(node);
            self.enter(attributes, &|| node.span().byte_range(), |this| visit::visit_item(this, node));
        }
        visit_conditional!(
            visit_impl_item_fn: ImplItemFn, visit_impl_item_const: ImplItemConst, visit_impl_item_type: ImplItemType,
            visit_trait_item_fn: TraitItemFn, visit_trait_item_const: TraitItemConst,
            visit_trait_item_type: TraitItemType, visit_local: Local, visit_stmt_macro: StmtMacro, visit_field: Field,
            visit_field_value: FieldValue, visit_field_pat: FieldPat, visit_variant: Variant, visit_arm: Arm
        );
    };
    ($($name:ident: $type:ident),*) => {
        $(fn $name(&mut self, node: &'ast syn::$type) {
            self.enter(&node.attrs, &|| node.span().byte_range(), |this| visit::$name(this, node));
        })*
    };
}
pub(crate) use visit_conditional;

/// Collects what only tests compile.
struct Tests<'t> {
    text: &'t str,
    ranges: Vec<Range<usize>>,
}

impl Tests<'_> {
    fn enter(&mut self, attributes: &[Attribute], range: &dyn Fn() -> Range<usize>, inside: impl FnOnce(&mut Self)) {
        if !is_test_only(attributes) {
            return inside(self);
        }
        let Range { start, mut end } = range();
        let rest = &self.text[end..];
        if rest.trim_start().starts_with(',') {
            end += rest.len() - rest.trim_start().len() + 1;
        }
        self.ranges.push(start..end);
    }
}

impl<'ast> Visit<'ast> for Tests<'_> {
    visit_conditional!();
}

/// The attributes of an item of any kind.
pub fn item_attributes(item: &syn::Item) -> &[Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::ExternCrate(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::ForeignMod(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::TraitAlias(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"//! A file.
#[cfg(test)]
mod tests;

/// Kept.
pub fn kept() {}

#[cfg(all(test, unix))]
fn gone() {}

#[cfg(any(test, feature = "testing"))]
pub mod fake;

struct Known {
    #[cfg(test)]
    gone: u8,
    #[cfg(not(test))]
    kept: u8,
}

impl Known {
    #[cfg(test)]
    fn gone() { panic!("gone") }
    fn kept(&self, name: &str) -> bool {
        match name {
            #[cfg(test)]
            "gone" => { false },
            _ => true,
        }
    }
}

#[cfg(test)]
mod inline { fn gone() {} }
pub const LAST: char = '"';
"#;

    #[test]
    fn production_is_all_but_what_only_tests_compile() {
        let production = of_file(TEXT).expect("Rust");
        assert!(!production.contains("gone") && !production.contains("mod tests"), "{production}");
        assert_eq!(production.matches("kept").count(), 3, "{production}");
        assert!(production.contains("mod fake;") && production.contains("LAST"), "{production}");
        assert_eq!(production.lines().count(), TEXT.lines().count());
        syn::parse_file(&production).expect("it is still Rust");
    }

    #[test]
    fn a_file_that_is_a_test_has_no_production_code() {
        assert_eq!(of_file("//! Tests.\n#![cfg(test)]\nfn gone() {}\n").expect("Rust").trim(), "");
    }
}
