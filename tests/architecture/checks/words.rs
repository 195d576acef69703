use dispatch_architecture::words::{Rules, find, table};
use dispatch_architecture::workspace;

/// `banned.txt` has the rules, `scripts/words.sh` prints the same list by folder.
#[test]
fn no_name_and_no_text_uses_a_word_that_is_out_of_use() {
    let rules = Rules::of_this_repository().expect("banned.txt");
    let hits = find(&rules, &workspace::root()).expect("the repository can be read");
    let lines: Vec<String> = hits.iter().map(ToString::to_string).collect();
    assert!(hits.is_empty(), "{}\n{}", lines.join("\n"), table(&hits));
}
