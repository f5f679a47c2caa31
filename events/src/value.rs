//! The values that orders and events are made of. Each has private fields and one way in, which checks:
//! a value of these types is right by construction, and nothing past the edge checks it again.

use std::{borrow::Cow, fmt, str::FromStr};

use email_address::{EmailAddress, Options};
use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected, Visitor},
};
use serde_json::value::RawValue;

/// The largest amount of money in minor units: what a JSON number carries exactly in every language.
pub const MINOR_UNITS_MAX: i64 = 9_007_199_254_740_991;
const MONEY_SCALE: u32 = 2;
const QUANTITY_MAX: u32 = 1000;
const NAME_CHARS_MAX: usize = 200;
const EMAIL_BYTES_MAX: usize = 254;
const ID_BYTES_MAX: usize = 64;

/// Why a text is not a value of the wanted type. The sentence completes "`field` …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(Cow<'static, str>);

impl InvalidValue {
    fn new(why: impl Into<Cow<'static, str>>) -> Self {
        Self(why.into())
    }
}

/// An exact, non-negative amount with two decimals. Integer minor units in storage, a JSON number with
/// two digits outside; a third decimal is refused rather than rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(Decimal);

impl Money {
    /// From integer minor units (kopiyky, cents).
    pub fn from_minor(units: i64) -> Result<Self, InvalidValue> {
        if !(0..=MINOR_UNITS_MAX).contains(&units) {
            return Err(InvalidValue::new(Self::EXPECTED));
        }
        Ok(Self(Decimal::new(units, MONEY_SCALE)))
    }

    /// In integer minor units: the form in which tables keep it.
    #[must_use]
    pub fn minor(self) -> i64 {
        i64::try_from(self.0.mantissa()).unwrap_or(MINOR_UNITS_MAX)
    }

    /// This amount `quantity` times, or `None` if that is more than [`MINOR_UNITS_MAX`].
    #[must_use]
    pub fn times(self, quantity: Quantity) -> Option<Self> {
        let units = self.minor().checked_mul(i64::from(quantity.get()))?;
        Self::from_minor(units).ok()
    }

    /// The sum, or `None` if it is more than [`MINOR_UNITS_MAX`].
    #[must_use]
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let units =
            amounts.into_iter().try_fold(0_i64, |sum, amount| sum.checked_add(amount.minor()))?;
        Self::from_minor(units).ok()
    }

    const EXPECTED: &'static str =
        "must be an amount from 0.00 to 90071992547409.91 with at most two decimals";
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Money {
    type Err = InvalidValue;

    /// Takes the text of a JSON number: `1000`, `1000.5`, `1e3`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || InvalidValue::new(Self::EXPECTED);
        let mut amount = Decimal::from_str_exact(text)
            .or_else(|_| Decimal::from_scientific(text))
            .map_err(|_| refuse())?;
        if amount.normalize().scale() > MONEY_SCALE {
            return Err(refuse());
        }
        amount.rescale(MONEY_SCALE);
        let units = i64::try_from(amount.mantissa()).map_err(|_| refuse())?;
        // A failed rescale leaves another scale behind, and another amount.
        if amount.scale() != MONEY_SCALE {
            return Err(refuse());
        }
        Self::from_minor(units)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Raw, because every other way through serde_json passes an f64 or drops the zeros.
        RawValue::from_string(self.to_string())
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(D::Error::custom(format!("{}, as a number", Self::EXPECTED)));
        }
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Money {
    fn schema_name() -> Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An exact amount with two decimals. Read it as a decimal, not as a float.",
            "type": "number",
            "minimum": 0,
            "exclusiveMaximum": 90_071_992_547_410_i64,
        })
    }
}

/// Money as tables keep it, for `#[serde(with = "events::minor_units")]`: an integer of minor units.
pub mod minor_units {
    use super::{Deserialize, Deserializer, Error, Money, Serializer};

    /// Writes minor units.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(amount: &Money, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(amount.minor())
    }

    /// Reads minor units.
    ///
    /// # Errors
    /// Not a whole number in range.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
        Money::from_minor(i64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// How many pieces of one product: 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Quantity(u32);

impl Quantity {
    /// The largest quantity of one line.
    pub const MAX: Self = Self(QUANTITY_MAX);

    /// As a plain number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// The sum of two lines of the same product, or `None` if it is more than one line may have.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        Self::try_from(u64::from(self.0) + u64::from(other.0)).ok()
    }
}

impl TryFrom<u64> for Quantity {
    type Error = InvalidValue;

    fn try_from(count: u64) -> Result<Self, Self::Error> {
        match u32::try_from(count) {
            Ok(count @ 1..=QUANTITY_MAX) => Ok(Self(count)),
            _ => Err(InvalidValue::new("must be a whole number from 1 to 1000")),
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;
        impl Visitor<'_> for Count {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 1 to 1000")
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Quantity, E> {
                count.try_into().map_err(|_| E::invalid_value(Unexpected::Unsigned(count), &self))
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<Quantity, E> {
                Err(E::invalid_value(Unexpected::Signed(count), &self))
            }
        }
        deserializer.deserialize_u64(Count)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": QUANTITY_MAX })
    }
}

/// Defines a text type by its check. The texts differ in nothing else.
macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident, $check:expr, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let check: fn(&str) -> Result<(), InvalidValue> = $check;
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

text_value!(
    /// Where the customer's mail goes: an address of at most 254 bytes (RFC 5321, section 4.5.3.1), without
    /// display name, with a dot in its domain, and in ASCII, because SES takes no other.
    Email,
    |text| {
        let options = Options::default()
            .with_required_tld()
            .without_display_text()
            .without_domain_literal();
        if text.len() > EMAIL_BYTES_MAX
            || !text.is_ascii()
            || text.contains(['"', '\\'])
            || EmailAddress::parse_with_options(text, options).is_err()
        {
            return Err(InvalidValue::new(
                "must be an e-mail address like name@example.com of at most 254 characters",
            ));
        }
        Ok(())
    },
    json_schema!({ "type": "string", "format": "email", "maxLength": EMAIL_BYTES_MAX })
);

text_value!(
    /// What a product or a category is called: 1 to 200 characters, none of them a control character.
    Name,
    |text| {
        let count = text.chars().count();
        if count == 0 || count > NAME_CHARS_MAX || text.trim().is_empty() {
            return Err(InvalidValue::new("must have 1 to 200 characters"));
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidValue::new("must not contain control characters"));
        }
        Ok(())
    },
    json_schema!({ "type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX })
);

text_value!(
    /// An ISO 4217 code of a currency whose minor unit is a hundredth.
    Currency,
    |text| {
        if text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase()) {
            Ok(())
        } else {
            Err(InvalidValue::new("must be a currency code of three capital letters, like UAH"))
        }
    },
    json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$" })
);

text_value!(
    /// The name of one order or product in tables and paths: 1 to 64 letters, digits, `-` or `_`.
    Id,
    |text| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(())
        } else {
            Err(InvalidValue::new("must be 1 to 64 letters, digits, '-' or '_'"))
        }
    },
    json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" })
);

impl Default for Currency {
    /// The hryvnia.
    fn default() -> Self {
        Self("UAH".to_owned())
    }
}

impl Id {
    /// A new one, which nobody can guess: 122 random bits (RFC 9562, version 4).
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }
}

/// The id of an order.
pub type OrderId = Id;
/// The id of a product.
pub type ProductId = Id;

/// A moment to the millisecond, written as `2025-11-20T10:35:00.123Z`: texts of it sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(jiff::Timestamp);

impl Stamp {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self::from(jiff::Timestamp::now())
    }

    /// As a timestamp, for arithmetic.
    #[must_use]
    pub fn timestamp(self) -> jiff::Timestamp {
        self.0
    }
}

impl From<jiff::Timestamp> for Stamp {
    fn from(moment: jiff::Timestamp) -> Self {
        // Every moment of jiff's range has its millisecond in that range; the fallback is never taken.
        Self(jiff::Timestamp::from_millisecond(moment.as_millisecond()).unwrap_or(moment))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl FromStr for Stamp {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment: jiff::Timestamp = text.parse().map_err(|_| {
            InvalidValue::new("must be a moment like 2025-11-20T10:35:00.123Z (RFC 3339)")
        })?;
        Ok(Self::from(moment))
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Stamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn money_takes_every_json_spelling_of_an_exact_amount() {
        for (text, units) in [
            ("1000", 100_000),
            ("1000.0", 100_000),
            ("1000.00", 100_000),
            ("1000.000", 100_000),
            ("1e3", 100_000),
            ("0.01", 1),
            ("0", 0),
            ("19.9", 1990),
            ("90071992547409.91", MINOR_UNITS_MAX),
        ] {
            assert_eq!(text.parse::<Money>().map(Money::minor), Ok(units), "{text}");
        }
    }

    #[test]
    fn money_refuses_what_it_could_only_round() {
        for text in [
            "0.001",
            "1.005",
            "-1",
            "-0.01",
            "1e-3",
            "90071992547409.92",
            "1e30",
            "1e400",
            "NaN",
            "",
            "1,5",
            "99999999999999999999999999999999999999",
        ] {
            assert!(text.parse::<Money>().is_err(), "{text} passed");
        }
        for json in [r#""5.00""#, "null", "true", "[1]", "{}"] {
            assert!(serde_json::from_str::<Money>(json).is_err(), "{json} passed");
        }
    }

    #[test]
    fn quantities_are_whole_numbers_from_1_to_1000() {
        for json in ["1", "1000"] {
            assert!(serde_json::from_str::<Quantity>(json).is_ok(), "{json}");
        }
        for json in ["0", "-1", "1.5", "1001", "1000000000000", "1e2", r#""5""#, "null"] {
            assert!(serde_json::from_str::<Quantity>(json).is_err(), "{json} passed");
        }
    }

    #[test]
    fn addresses_that_no_mail_reaches_are_refused() {
        for text in ["test@example.com", "a.b+c@sub.example.co.uk", "o'neil@example.com"] {
            assert!(text.parse::<Email>().is_ok(), "{text}");
        }
        let long = format!("{}@example.com", "a".repeat(250));
        for text in [
            "",
            "test",
            "@example.com",
            "test@",
            "test@localhost",
            "a b@example.com",
            "a@example.com\n",
            "a@b@example.com",
            "A <a@example.com>",
            "a@[127.0.0.1]",
            "ж@example.com",
            "\"a b\"@example.com",
            "a@example.com\r\nBcc: b@example.com",
            &long,
        ] {
            assert!(text.parse::<Email>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn names_have_visible_characters_only() {
        assert!("Ноутбук 15″".parse::<Name>().is_ok());
        assert!("x".repeat(200).parse::<Name>().is_ok());
        for text in ["", "   ", "a\u{0}b", "a\nb", "\u{7f}", &"x".repeat(201)] {
            assert!(text.parse::<Name>().is_err(), "{text:?} passed");
        }
    }

    proptest! {
        #[test]
        fn money_survives_json_to_the_last_unit(units in 0..=MINOR_UNITS_MAX) {
            let amount = Money::from_minor(units).expect("in range");
            let json = serde_json::to_string(&amount).expect("a number");
            prop_assert_eq!(json.split('.').nth(1).map(str::len), Some(2));
            prop_assert_eq!(serde_json::from_str::<Money>(&json).expect("its own form"), amount);
        }

        #[test]
        fn no_text_makes_a_value_panic(text in ".{0,40}") {
            let _ = text.parse::<Money>();
            let _ = text.parse::<Email>();
            let _ = text.parse::<Stamp>();
            let _ = text.parse::<Id>();
        }

        #[test]
        fn stamps_sort_as_texts_as_they_do_in_time(a in 0..4_000_000_000_000_i64, b in 0..4_000_000_000_000_i64) {
            let stamp = |ms| Stamp::from(jiff::Timestamp::from_millisecond(ms).expect("in range"));
            prop_assert_eq!(a.cmp(&b), stamp(a).to_string().cmp(&stamp(b).to_string()));
        }
    }
}
