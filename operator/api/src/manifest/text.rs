//! From text to JSON values, as `kubectl` reads it. Plain scalars have their meaning in YAML 1.1 (`no` is a boolean),
//! merge keys are resolved, and a text in JSON is read as JSON. Unlike `kubectl`, a repeated key is an error.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as DecodeError, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde_json::{Map, Number, Value};

/// Byte order mark, with which some editors begin a file.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// Integers up to this number have an exact floating-point number.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The documents of a text, up to the first one with a syntax error.
pub(super) fn documents(text: &str) -> Vec<Result<Value, serde_yaml::Error>> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if let Some(documents) = json_documents(text) {
        return documents.into_iter().map(Ok).collect();
    }
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let document = Reader { text }.deserialize(document);
        let ends = document.is_err();
        documents.push(document);
        if ends {
            break;
        }
    }
    documents
}

/// The documents of a text in JSON; `None` for any other text. YAML contains most of JSON, but not its escapes of
/// characters outside the basic plane.
fn json_documents(text: &str) -> Option<Vec<Value>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut documents = Vec::new();
    let mut rest = serde_json::Deserializer::from_str(text);
    while rest.end().is_err() {
        documents.push(Reader { text }.deserialize(&mut rest).ok()?);
    }
    Some(documents)
}

/// Reads one value. The text shows which scalars are plain and which are quoted.
#[derive(Clone, Copy)]
struct Reader<'t> {
    text: &'t str,
}

impl Reader<'_> {
    /// Whether a scalar, which is a part of the text, has no quotes and no tag that makes it a string.
    fn is_plain(self, scalar: &str) -> bool {
        let at = scalar.as_ptr().addr().checked_sub(self.text.as_ptr().addr());
        let before = at.and_then(|at| self.text.get(..at));
        before.is_some_and(|before| !before.ends_with(['"', '\'']) && !before.trim_end().ends_with("!!str"))
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u128<E: DecodeError>(self, value: u128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_i128<E: DecodeError>(self, value: i128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: DecodeError>(self, value: f64) -> Result<Value, E> {
        number(value).ok_or_else(|| E::custom(format!("{value} is not a number of JSON")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Value, E> {
        let plain = self.is_plain(value).then(|| meaning(value)).flatten();
        Ok(plain.unwrap_or_else(|| Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let (mut object, mut merged) = (Map::new(), Vec::new());
        while let Some(key) = members.next_key_seed(KeyReader(self))? {
            let value = members.next_value_seed(self)?;
            match key {
                Key::Name(name) if object.contains_key(&name) => {
                    return Err(A::Error::custom(format!("duplicate entry with key {name:?}")));
                }
                Key::Name(name) => drop(object.insert(name, value)),
                Key::Merge => merged.extend(maps(value).ok_or_else(|| A::Error::custom("only maps can be merged"))?),
            }
        }
        for (name, value) in merged.into_iter().flatten() {
            object.entry(name).or_insert(value);
        }
        Ok(Value::Object(object))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let (tag, contents) = data.variant::<String>()?;
        // The contents have to be consumed.
        contents.newtype_variant_seed(self)?;
        Err(A::Error::custom(format!("the tag !{} is not supported", tag.trim_start_matches('!'))))
    }
}

/// The maps of a merge key: one, or a list of them.
fn maps(value: Value) -> Option<Vec<Map<String, Value>>> {
    match value {
        Value::Object(object) => Some(vec![object]),
        Value::Array(items) => {
            let map = |item| if let Value::Object(object) = item { Some(object) } else { None };
            items.into_iter().map(map).collect()
        }
        _ => None,
    }
}

/// A key of a map.
enum Key {
    Name(String),
    /// `<<`, the merge key of YAML 1.1.
    Merge,
}

/// Reads a key. Keys that are not strings become strings.
struct KeyReader<'t>(Reader<'t>);

impl<'de> DeserializeSeed<'de> for KeyReader<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeyReader<'_> {
    type Value = Key;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key that is a string")
    }

    fn visit_bool<E>(self, key: bool) -> Result<Key, E> {
        Ok(Key::Name(key.to_string()))
    }

    fn visit_u64<E>(self, key: u64) -> Result<Key, E> {
        Ok(Key::Name(key.to_string()))
    }

    fn visit_i64<E>(self, key: i64) -> Result<Key, E> {
        Ok(Key::Name(key.to_string()))
    }

    fn visit_f64<E>(self, key: f64) -> Result<Key, E> {
        Ok(Key::Name(key.to_string()))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(Key::Name(key.to_owned()))
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key, E> {
        Ok(if key == "<<" && self.0.is_plain(key) { Key::Merge } else { Key::Name(key.to_owned()) })
    }
}

/// What a plain scalar means in YAML 1.1, if it is another type than in YAML 1.2, in which it is a string.
fn meaning(scalar: &str) -> Option<Value> {
    match scalar {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(Value::Bool(true)),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(Value::Bool(false)),
        _ => number_of(scalar),
    }
}

/// A number as `kubectl` reads it: with underscores, or octal with a leading zero.
fn number_of(scalar: &str) -> Option<Value> {
    let digits = scalar.replace('_', "");
    let (minus, magnitude) = match digits.split_at_checked(1) {
        Some(("-", rest)) => ("-", rest),
        Some(("+", rest)) => ("", rest),
        _ => ("", digits.as_str()),
    };
    if !magnitude.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let radix = match magnitude.split_at_checked(2) {
        Some(("0x" | "0X", rest)) => Some((16, rest)),
        Some(("0b" | "0B", rest)) => Some((2, rest)),
        Some(("0o" | "0O", rest)) => Some((8, rest)),
        _ => magnitude.strip_prefix('0').filter(|rest| !rest.is_empty()).map(|rest| (8, rest)),
    };
    let whole = match radix {
        Some((radix, rest)) => u64::from_str_radix(rest, radix).ok(),
        None => magnitude.parse::<u64>().ok(),
    };
    match whole {
        Some(whole) if minus.is_empty() => Some(whole.into()),
        Some(whole) => format!("-{whole}").parse::<i64>().ok().map(Value::from),
        None => format!("{minus}{magnitude}").parse::<f64>().ok().and_then(number),
    }
}

/// A whole number as an integer, as the API server reads `600.0` and `5e+10`; `None` for what JSON has no number for.
fn number(value: f64) -> Option<Value> {
    let whole = value.fract().abs() < f64::MIN_POSITIVE && value.abs() <= EXACT_MAX;
    let whole = whole.then(|| format!("{value:.0}").parse::<i64>().ok()).flatten();
    whole.map_or_else(|| Number::from_f64(value).map(Value::Number), |whole| Some(whole.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Value {
        documents(text).pop().unwrap().unwrap()
    }

    #[test]
    fn plain_scalars_have_their_meaning_in_yaml_1_1_and_quoted_ones_are_strings() {
        for (scalar, meaning) in [
            ("no", json!(false)),
            ("Y", json!(true)),
            ("on", json!(true)),
            ("'no'", json!("no")),
            ("\"on\"", json!("on")),
            ("!!str no", json!("no")),
            ("node", json!("node")),
            ("0600", json!(384)),
            ("-010", json!(-8)),
            ("1_000", json!(1000)),
            ("0x1_F", json!(31)),
            ("012345678901", json!(12_345_678_901_u64)),
            ("'012345678901'", json!("012345678901")),
            ("600.0", json!(600)),
            ("5e+10", json!(50_000_000_000_u64)),
            ("1.5", json!(1.5)),
            ("22:00", json!("22:00")),
            ("2024-01-02", json!("2024-01-02")),
            ("1.2.3", json!("1.2.3")),
            ("~", json!(null)),
            ("|-\n  no", json!("no")),
        ] {
            assert_eq!(one(&format!("a: {scalar}\n"))["a"], meaning, "{scalar}");
            if !scalar.starts_with('|') {
                assert_eq!(one(&format!("[{scalar}]"))[0], meaning, "{scalar} in a list");
            }
        }
        assert_eq!(
            one("a: &x no\nb: *x\nc: &y 'no'\nd: *y\n"),
            json!({ "a": false, "b": false, "c": "no", "d": "no" })
        );
    }

    #[test]
    fn merge_keys_are_resolved_and_own_members_come_first() {
        let text =
            "q: &q { a: 1, b: 2 }\nr: &r { b: 3, c: 4 }\ns: { <<: *q, b: 9 }\nt: { <<: [*q, *r] }\nu: { '<<': 1 }\n";
        let value = one(text);
        assert_eq!(value["s"], json!({ "a": 1, "b": 9 }));
        assert_eq!(value["t"], json!({ "a": 1, "b": 2, "c": 4 }));
        assert_eq!(value["u"], json!({ "<<": 1 }), "a quoted key is a name");
        assert!(documents("a: { <<: 5 }").pop().unwrap().unwrap_err().to_string().contains("only maps can be merged"));
    }

    #[test]
    fn json_is_read_as_json_and_a_byte_order_mark_is_skipped() {
        assert_eq!(one("{ \"a\": \"\\ud83d\\ude00\", \"b\": \"no\" }"), json!({ "a": "😀", "b": "no" }));
        assert_eq!(documents("{\"a\": 1}\n{\"a\": 2}\n").len(), 2);
        assert_eq!(one("{ a: no }"), json!({ "a": false }), "a flow map of YAML");
        assert_eq!(one("\u{feff}a: 1\n"), json!({ "a": 1 }));
        assert_eq!(one("\u{feff}---\na: 1\n"), json!({ "a": 1 }));
    }

    #[test]
    fn repeated_keys_tags_and_numbers_beyond_json_are_errors() {
        for (text, cause) in [
            ("a: 1\na: 2\n", "duplicate entry with key \"a\""),
            ("{ \"a\": 1, \"a\": 2 }", "duplicate entry with key \"a\""),
            ("a: !Ref b\n", "the tag !Ref is not supported"),
            ("a: .nan\n", "NaN is not a number of JSON"),
            ("? [a]\n: 1\n", "a key that is a string"),
        ] {
            let error = documents(text).pop().unwrap().unwrap_err().to_string();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }
}
