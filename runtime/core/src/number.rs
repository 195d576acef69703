//! Reading of stored numbers: DynamoDB has one number type, and other services may store a whole number as `8000.0`.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// Reads a number that is not negative as a whole one, rounded. A number in a string is refused.
///
/// # Errors
///
/// The value is not a number, is negative or does not fit into `T`.
pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Whole(PhantomData))
}

/// [`whole`] for an attribute that may be missing or null.
///
/// # Errors
///
/// As [`whole`].
pub fn whole_or_none<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_option(Maybe(PhantomData))
}

struct Maybe<T>(PhantomData<T>);

impl<'de, T: TryFrom<u64>> Visitor<'de> for Maybe<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number that is not negative, or null")
    }

    fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        whole(deserializer).map(Some)
    }
}

struct Whole<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Whole<T> {
    fn fit<E: Error>(value: u64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &"a smaller number"))
    }
}

impl<T: TryFrom<u64>> Visitor<'_> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number that is not negative")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        Self::fit(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        Self::fit(u64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))?)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        let rounded = value.round();
        // 2^53: every whole number below it is a float.
        if !(0.0..9_007_199_254_740_992.0).contains(&rounded) {
            return Err(E::invalid_value(Unexpected::Float(value), &self));
        }
        Self::fit(rounded as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::Error as ValueError;

    use super::*;

    fn read<'de, V: IntoDeserializer<'de, ValueError>>(value: V) -> Result<u32, String> {
        whole(value.into_deserializer()).map_err(|error| error.to_string())
    }

    #[test]
    fn whole_numbers_are_read_in_every_form_and_others_are_rounded() {
        assert_eq!((read(0_u64), read(7_u64), read(7_i64)), (Ok(0), Ok(7), Ok(7)));
        let floats = [8000.0, 2.4, 2.5, -0.4].map(read);
        assert_eq!(floats, [Ok(8000), Ok(2), Ok(3), Ok(0)]);
        assert_eq!((read(u64::from(u32::MAX)), read(f64::from(u32::MAX))), (Ok(u32::MAX), Ok(u32::MAX)));
    }

    #[test]
    fn negative_and_large_numbers_and_texts_are_refused() {
        for refused in [read(-1_i64), read(-0.6), read(f64::NAN), read(f64::INFINITY), read("7"), read(true)] {
            let reason = refused.unwrap_err();
            assert!(reason.ends_with("expected a number that is not negative"), "{reason}");
        }
        for refused in [read(u64::from(u32::MAX) + 1), read(f64::from(u32::MAX) + 1.0), read(1_i64 << 40)] {
            let reason = refused.unwrap_err();
            assert!(reason.ends_with("expected a smaller number"), "{reason}");
        }
        let wide = |value: f64| whole::<_, u64>(IntoDeserializer::<ValueError>::into_deserializer(value));
        assert_eq!(wide(9_007_199_254_740_991.0), Ok(9_007_199_254_740_991));
        assert!(wide(9_007_199_254_740_992.0).is_err(), "floats are not exact from here on");
    }

    /// An attribute as the formats of the table and of JSON give it.
    enum Attribute {
        Missing,
        Null,
        Number(u64),
        Text,
    }

    impl<'de> Deserializer<'de> for Attribute {
        type Error = ValueError;

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            match self {
                Self::Missing => visitor.visit_none(),
                Self::Null => visitor.visit_unit(),
                Self::Number(number) => visitor.visit_u64(number),
                Self::Text => visitor.visit_str("8000"),
            }
        }

        fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            match self {
                Self::Missing | Self::Null => self.deserialize_any(visitor),
                present => visitor.visit_some(present),
            }
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq
            tuple tuple_struct map struct enum identifier ignored_any
        }
    }

    #[test]
    fn a_missing_number_is_none_and_a_wrong_one_is_refused() {
        let read = whole_or_none::<Attribute, u32>;
        assert_eq!((read(Attribute::Missing), read(Attribute::Null)), (Ok(None), Ok(None)));
        assert_eq!((read(Attribute::Number(0)), read(Attribute::Number(8000))), (Ok(Some(0)), Ok(Some(8000))));
        assert!(read(Attribute::Text).is_err());
        assert!(read(Attribute::Number(u64::MAX)).is_err());
        let wrong = Maybe::<u32>(PhantomData).visit_str::<ValueError>("8000").unwrap_err().to_string();
        assert!(wrong.ends_with("expected a number that is not negative, or null"), "{wrong}");
    }
}
