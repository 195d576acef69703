//! Texts that people read: which characters they may have, as a check and as a pattern for the OpenAPI document.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// Maximum combining marks on one character. Orthographies need three; more of them cover the lines above and below.
const MARKS_MAX: usize = 4;

/// Characters that no text may have: controls, invisible formatting characters, fillers, tags and private
/// characters. With one of them, an address could read differently to a driver and to a program.
const REFUSED: [RangeInclusive<char>; 19] = [
    '\0'..='\u{1f}',
    '\u{7f}'..='\u{9f}',
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{e000}'..='\u{f8ff}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{fffe}'..='\u{ffff}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// Combining marks and variation selectors, which show only on another character.
const MARKS: [RangeInclusive<char>; 12] = [
    '\u{300}'..='\u{34e}',
    '\u{350}'..='\u{36f}',
    '\u{483}'..='\u{489}',
    '\u{591}'..='\u{5bd}',
    '\u{610}'..='\u{61a}',
    '\u{64b}'..='\u{65f}',
    '\u{6d6}'..='\u{6dc}',
    '\u{1ab0}'..='\u{1aff}',
    '\u{1dc0}'..='\u{1dff}',
    '\u{20d0}'..='\u{20ff}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{fe20}'..='\u{fe2f}',
];

/// Blanks that are not refused.
const BLANKS: [RangeInclusive<char>; 7] = [
    ' '..=' ',
    '\u{a0}'..='\u{a0}',
    '\u{1680}'..='\u{1680}',
    '\u{2000}'..='\u{200a}',
    '\u{202f}'..='\u{202f}',
    '\u{205f}'..='\u{205f}',
    '\u{2800}'..='\u{2800}',
];

/// The ideographic space.
const WIDE_BLANK: RangeInclusive<char> = '\u{3000}'..='\u{3000}';

fn is_in(ranges: &[RangeInclusive<char>], c: char) -> bool {
    ranges.iter().any(|range| range.contains(&c))
}

/// Whether a text has a visible character, none that is refused, and few marks on each of them.
pub(super) fn is_visible(text: &str) -> bool {
    let (mut visible, mut marks) = (false, MARKS_MAX);
    for c in text.chars() {
        if is_in(&REFUSED, c) {
            return false;
        }
        if is_in(&MARKS, c) {
            // A text cannot begin with a mark.
            if marks == MARKS_MAX {
                return false;
            }
            marks += 1;
        } else {
            marks = 0;
            visible |= !is_in(&BLANKS, c) && !WIDE_BLANK.contains(&c);
        }
    }
    visible
}

/// The regular expression of exactly these texts.
pub(super) fn pattern() -> String {
    let (refused, marks) = (class(&REFUSED), class(&MARKS));
    let blanks = class(&BLANKS) + &class(&[WIDE_BLANK]);
    let any = format!("[^{refused}{marks}][{marks}]{{0,{MARKS_MAX}}}");
    let visible = format!("[^{refused}{marks}{blanks}][{marks}]{{0,{MARKS_MAX}}}");
    format!("^({any})*{visible}({any})*$")
}

/// The inside of a character class.
fn class(ranges: &[RangeInclusive<char>]) -> String {
    let mut class = String::new();
    for range in ranges {
        escape(&mut class, *range.start());
        if range.start() != range.end() {
            class.push('-');
            escape(&mut class, *range.end());
        }
    }
    class
}

/// The one escape that all dialects of regular expressions share has four digits. Other characters stand for
/// themselves.
fn escape(class: &mut String, c: char) {
    let code = u32::from(c);
    if code <= 0xffff {
        // Writing to a `String` cannot fail.
        let _ = write!(class, "\\u{code:04x}");
    } else {
        class.push(c);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[test]
    fn texts_without_a_visible_character_are_refused() {
        for good in [
            "서울시 중구 명동 1-2 (명동빌딩 3층)",
            "شارع الملك",
            "Äußere Straße 1",
            "a",
            "-",
            "⭐",
            "❤\u{fe0f}",
            "e\u{301}",
            "　a",
        ] {
            assert!(is_visible(good), "{good:?}");
        }
        for bad in [
            "",
            " ",
            "\u{a0}\u{3000}",
            "\u{3164}",
            "a\u{3164}",
            "\u{115f}\u{1160}",
            "\u{ffa0}",
            "\u{ad}",
            "\u{34f}",
            "\u{2800}",
            "\u{301}",
            &"\u{301}".repeat(199),
            &format!("a{}", "\u{301}".repeat(5)),
            "\u{fe0f}",
            "a\u{e0041}",
            "\u{e000}",
            "a\u{202e}b",
            "a\nb",
        ] {
            assert!(!is_visible(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn the_pattern_is_the_rule(
            text in r"\PC{0,12}|[a \x{300}\x{3000}\x{a0}]{0,12}|[ab\x{3164}\x{fe0f}\x{20e3}\x{e0041}\x{1d173}\x{0}-\x{20}]{0,6}|\p{M}{0,6}",
        ) {
            thread_local! { static PATTERN: Regex = Regex::new(&pattern()).unwrap(); }
            prop_assert_eq!(is_visible(&text), PATTERN.with(|pattern| pattern.is_match(&text)), "{:?}", text);
        }
    }
}
