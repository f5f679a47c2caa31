//! The values that orders and events are made of. Each has private fields and one way in, which checks:
//! a value of these types is right by construction, and nothing past the edge checks it again.

use std::{borrow::Cow, fmt, ops::Deref, str::FromStr};

use email_address::{EmailAddress, Options};
use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected, Visitor},
};
use serde_json::{Number, value::RawValue};
use uuid::Uuid;

/// The largest amount of money in minor units: what a JSON number carries exactly in every language.
pub const MINOR_UNITS_MAX: i64 = 9_007_199_254_740_991;
/// The largest integer that a JSON number carries exactly in every language (RFC 8259, section 6).
pub(crate) const EXACT_INTEGER_MAX: u64 = 9_007_199_254_740_991;
const MONEY_SCALE: u32 = 2;
const QUANTITY_MAX: u32 = 1000;
const NAME_CHARS_MAX: usize = 200;
/// Holds the longest reason that there is: the names of 50 products of 200 characters, and a few words.
const REASON_CHARS_MAX: usize = 10_240;
const CORRELATION_ID_BYTES_MAX: usize = 128;
/// The local part of an address, before its `@` (RFC 5321, section 4.5.3.1.1).
const LOCAL_PART_BYTES_MAX: usize = 64;
/// One label of a domain (RFC 1035, section 2.3.4).
const DOMAIN_LABEL_BYTES_MAX: usize = 63;
/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` (RFC 9562, section 4).
const HYPHENATED_UUID_BYTES: usize = 36;
const EMAIL_BYTES_MAX: usize = 254;
const ERASED: &str = "erased@orderflow.invalid";
const ID_BYTES_MAX: usize = 64;

/// Why a text is not a value of the wanted type. The sentence completes "`field` …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(Cow<'static, str>);

impl InvalidValue {
    pub(crate) fn new(why: impl Into<Cow<'static, str>>) -> Self {
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

    /// What an amount is, as the end of "`field` …".
    pub const EXPECTED: &'static str =
        "must be a number from 0.00 to 90071992547409.91 with at most two decimals";
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
            return Err(D::Error::custom(Self::EXPECTED));
        }
        text.parse().map_err(D::Error::custom)
    }
}

/// Without `multipleOf: 0.01`: validators that divide binary floats refuse 0.07 by it.
impl JsonSchema for Money {
    fn schema_name() -> Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An exact amount: at most two decimals are read, and two are written. Read it as a decimal, not as a float.",
            "type": "number",
            "minimum": 0,
            // Not `maximum` and the largest amount: as an f64 that is written as 90071992547409.9.
            "exclusiveMaximum": 90_071_992_547_409.92_f64,
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
    /// What a quantity is, as the end of "`field` …".
    pub const EXPECTED: &'static str = "must be a whole number from 1 to 1000";

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
            _ => Err(InvalidValue::new(Self::EXPECTED)),
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let count = deserializer.deserialize_u64(CountVisitor(Self::EXPECTED))?;
        Self::try_from(count).map_err(D::Error::custom)
    }
}

/// A whole number as JSON Schema knows it: `5.0` and `5e0` are the integer 5 (2020-12, Core, section 4.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeNumber(i64);

impl WholeNumber {
    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }

    /// `None` if it has a fraction, or may be a rounded one: up to [`EXACT_INTEGER_MAX`] every whole f64 is the integer that was meant.
    #[allow(clippy::cast_possible_truncation, reason = "whole, and in range")]
    fn from_f64(number: f64) -> Option<Self> {
        let is_whole = number.fract() == 0.0 && number.abs() <= EXACT_INTEGER_MAX as f64;
        is_whole.then_some(Self(number as i64))
    }
}

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(deserializer)?;
        let whole = number.as_i64().map(Self).or_else(|| Self::from_f64(number.as_f64()?));
        whole.ok_or_else(|| D::Error::custom("a fraction"))
    }
}

/// Reads a count: a [`WholeNumber`] that is not negative. It says what was expected, for a message to whoever wrote it.
pub(crate) struct CountVisitor(pub(crate) &'static str);

impl Visitor<'_> for CountVisitor {
    type Value = u64;

    /// Follows "invalid type: …, expected".
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_start_matches("must be "))
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<u64, E> {
        if count > EXACT_INTEGER_MAX {
            return Err(E::invalid_value(Unexpected::Unsigned(count), &self));
        }
        Ok(count)
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<u64, E> {
        u64::try_from(count).map_err(|_| E::invalid_value(Unexpected::Signed(count), &self))
    }

    fn visit_f64<E: Error>(self, count: f64) -> Result<u64, E> {
        let whole = WholeNumber::from_f64(count).and_then(|whole| u64::try_from(whole.get()).ok());
        whole.ok_or_else(|| E::invalid_value(Unexpected::Float(count), &self))
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
    ($(#[$doc:meta])* $name:ident, $expected:expr, $is_valid:expr, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// What it is, as the end of "`field` …".
            pub const EXPECTED: &'static str = $expected;

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
                let is_valid: fn(&str) -> bool = $is_valid;
                if is_valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidValue::new(Self::EXPECTED))
                }
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
    /// Where the customer's mail goes: an address of at most 254 bytes (RFC 5321, section 4.5.3.1), in ASCII, because
    /// SES takes no other. The local part is a dot-atom (RFC 5322, section 3.2.3), neither quoted nor with a display
    /// name. The domain has at least two labels of letters, digits and hyphens (RFC 1123, section 2.1); the last has
    /// letters only, or is an internationalised one (`xn--…`, RFC 5890, section 2.3.2.1).
    Email,
    "must be an e-mail address like name@example.com of at most 254 characters",
    |text| {
        let options = Options::default().without_display_text().without_domain_literal();
        text.len() <= EMAIL_BYTES_MAX
            && text.is_ascii()
            && !text.contains(['"', '\\'])
            && EmailAddress::parse_with_options(text, options).is_ok()
            && text.rsplit_once('@').is_some_and(|(local, domain)| {
                local.len() <= LOCAL_PART_BYTES_MAX && is_public_domain(domain)
            })
    },
    json_schema!({
        "type": "string",
        "maxLength": EMAIL_BYTES_MAX,
        "pattern": r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+([A-Za-z]{2,63}|[Xx][Nn]--[A-Za-z0-9-]{0,58}[A-Za-z0-9])$",
        "allOf": [{ "pattern": "^[^@]{1,64}@" }],
    })
);

impl Email {
    /// Whose it is: mailboxes that differ in the case of their letters alone are one, wherever there are any.
    #[must_use]
    pub fn mailbox(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// The address of a customer who is forgotten. No mail reaches it: `.invalid` is no domain (RFC 2606, section 2).
    #[must_use]
    pub fn erased() -> Self {
        Self(ERASED.to_owned())
    }

    /// Whether its customer is forgotten.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.0 == ERASED
    }

    /// The address so far that its owner knows it and nobody else does: `t***@e***.com`.
    #[must_use]
    pub fn masked(&self) -> MaskedEmail {
        let (local, domain) = self.0.rsplit_once('@').unwrap_or((&self.0, ""));
        let (name, last) = domain.rsplit_once('.').unwrap_or((domain, ""));
        MaskedEmail(format!("{}***@{}***.{last}", first_byte(local), first_byte(name)))
    }
}

/// An address is ASCII: its first byte is its first character.
fn first_byte(text: &str) -> &str {
    text.get(..1).unwrap_or_default()
}

/// What may be shown of an address to somebody who is not known to be its owner, and logged. It is no address: nothing
/// makes one of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MaskedEmail(String);

impl fmt::Display for MaskedEmail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a domain is one that a name server can know: letters, digits and hyphens in at least two labels.
fn is_public_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=DOMAIN_LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_top_level = |label: &str| {
        let internationalised =
            label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"));
        internationalised || (label.len() >= 2 && label.bytes().all(|b| b.is_ascii_alphabetic()))
    };
    let Some((_, top_level)) = domain.rsplit_once('.') else { return false };
    domain.split('.').all(is_label) && is_top_level(top_level)
}

/// Whether SQS and SNS take it in a message: `#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF`
/// (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>). Control characters
/// are refused besides: no text of this contract has a use for them.
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Whether a text has something to read, in at most so many characters.
fn is_readable(text: &str, chars_max: usize) -> bool {
    text.chars().count() <= chars_max && !text.trim().is_empty() && text.chars().all(is_printable)
}

/// What [`is_readable`] takes, as a schema: the second pattern wants a character that is no white space, which is spelled
/// out because `\s` is another set in each dialect of patterns.
fn readable_text_schema(chars_max: usize) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": chars_max,
        "pattern": r"^[^\u0000-\u001f\u007f-\u009f\ufffe\uffff]+$",
        "allOf": [{
            "pattern": r"[^\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
        }],
    })
}

text_value!(
    /// What a product or a category is called: 1 to 200 characters, not all of them spaces, none of them one that is
    /// a control character or that SQS refuses.
    Name,
    "must be a text of 1 to 200 characters, not only spaces, without control characters, U+FFFE and U+FFFF",
    |text| is_readable(text, NAME_CHARS_MAX),
    readable_text_schema(NAME_CHARS_MAX)
);

text_value!(
    /// Why an order was rejected, as a sentence for the customer.
    Reason,
    "must be a text of 1 to 10240 characters, not only spaces, without control characters, U+FFFE and U+FFFF",
    |text| is_readable(text, REASON_CHARS_MAX),
    readable_text_schema(REASON_CHARS_MAX)
);

text_value!(
    /// What ties together all that one request led to. It goes into headers, message attributes and logs as it is.
    CorrelationId,
    "must be 1 to 128 visible ASCII characters",
    |text| {
        (1..=CORRELATION_ID_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic())
    },
    json_schema!({ "type": "string", "pattern": "^[!-~]{1,128}$" })
);

text_value!(
    /// An ISO 4217 code of a currency whose minor unit is a hundredth.
    Currency,
    "must be a currency code of three capital letters, like UAH",
    |text| text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase()),
    json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$" })
);

text_value!(
    /// The name of one order or product in tables and paths: 1 to 64 letters, digits, `-` or `_`.
    Id,
    "must be a text of 1 to 64 letters, digits, '-' or '_'",
    |text| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
    },
    json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" })
);

impl From<Uuid> for CorrelationId {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

impl Deref for CorrelationId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Default for Currency {
    /// The hryvnia.
    fn default() -> Self {
        Self("UAH".to_owned())
    }
}

impl From<Uuid> for Id {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

/// The id of an order.
pub type OrderId = Id;
/// The id of a product.
pub type ProductId = Id;

/// A moment to the millisecond, written as `2025-11-20T10:35:00.123Z`: texts of it sort by time. Read in any form of
/// RFC 3339 in capital letters, of the years 1000 to 2999, in UTC as well as in its own offset: the former is what the
/// schema cannot state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(jiff::Timestamp);

impl Stamp {
    /// What a moment is, as the end of "`field` …".
    pub const EXPECTED: &'static str =
        "must be a moment like 2025-11-20T10:35:00.123Z (RFC 3339) of the years 1000 to 2999";

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
        let refuse = || InvalidValue::new(Self::EXPECTED);
        if !is_rfc_3339(text) {
            return Err(refuse());
        }
        let moment: jiff::Timestamp = text.parse().map_err(|_| refuse())?;
        // In UTC, which is how it is written: an offset may carry it over the turn of the first or the last year.
        let year = jiff::tz::Offset::UTC.to_datetime(moment).year();
        if !(YEAR_MIN..=YEAR_MAX).contains(&year) {
            return Err(refuse());
        }
        Ok(Self::from(moment))
    }
}

/// The years of a moment: four digits, well within what the library can represent.
const YEAR_MIN: i16 = 1000;
const YEAR_MAX: i16 = 2999;
/// To the nanosecond.
const FRACTION_DIGITS_MAX: usize = 9;

/// Whether a text has the form of RFC 3339, section 5.6, in capital letters and without leap seconds, which not every
/// library reads. Libraries take more: a space for the `T`, no colons, a zone in brackets. Whether there is such a day
/// is left to them.
fn is_rfc_3339(text: &str) -> bool {
    let Some((date_and_time, rest)) = text.split_at_checked("2025-11-20T10:35:00".len()) else {
        return false;
    };
    let (fraction, offset) = rest.split_at(rest.find(['Z', '+', '-']).unwrap_or(rest.len()));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let fraction_is_valid = fraction.is_empty()
        || fraction.strip_prefix('.').is_some_and(|fraction| {
            (1..=FRACTION_DIGITS_MAX).contains(&fraction.len()) && digits(fraction)
        });
    let offset_is_valid = offset == "Z"
        || (has_form(offset.get(1..).unwrap_or_default(), "00:00")
            && offset[1..] <= *"23:59"
            && offset[4..] <= *"59");
    has_form(date_and_time, "0000-00-00T00:00:00")
        && date_and_time[17..] <= *"59"
        && fraction_is_valid
        && offset_is_valid
}

/// Whether a text has a digit where the form has `0`, and the same characters elsewhere.
fn has_form(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(found, wanted)| {
            if wanted == b'0' { found.is_ascii_digit() } else { found == wanted }
        })
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
        json_schema!({
            "type": "string",
            "format": "date-time",
            "pattern": r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
        })
    }
}

/// Reads a UUID in the one form of RFC 9562, section 4. The library takes braces, `urn:uuid:` and bare digits, too.
pub(crate) fn hyphenated_uuid<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Uuid, D::Error> {
    let refuse = || D::Error::custom("must be a UUID like 0198c9a4-7a52-7c4e-9f0e-3a1f6c2b7d11");
    let text = String::deserialize(deserializer)?;
    if text.len() != HYPHENATED_UUID_BYTES {
        return Err(refuse());
    }
    Uuid::try_parse(&text).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_masked_address_tells_its_owner_which_it_is_and_nobody_what_it_is() {
        for (address, masked) in [
            ("private.person@mail.example.com", "p***@m***.com"),
            ("a@b.cd", "a***@b***.cd"),
            ("+@xn--e1afmkfd.xn--p1ai", "+***@x***.xn--p1ai"),
        ] {
            let email: Email = address.parse().expect("an address");
            assert_eq!(email.masked().to_string(), masked);
        }
    }

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
        for json in ["1", "1000", "5.0", "1e2"] {
            assert!(serde_json::from_str::<Quantity>(json).is_ok(), "{json}");
        }
        for json in ["0", "-1", "1.5", "1001", "1000000000000", "1e400", r#""5""#, "null"] {
            assert!(serde_json::from_str::<Quantity>(json).is_err(), "{json} passed");
        }
    }

    #[test]
    fn addresses_that_no_mail_reaches_are_refused() {
        for text in [
            "test@example.com",
            "a.b+c@sub.example.co.uk",
            "o'neil@example.com",
            "a@1.2.example",
            "a@x-y.co",
            "a@xn--e1aybc.xn--p1ai",
        ] {
            assert!(text.parse::<Email>().is_ok(), "{text}");
        }
        let long = format!("{}@example.com", "a".repeat(250));
        let long_local_part = format!("{}@example.com", "a".repeat(65));
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
            "a@b!c.com",
            "a@x_y.co",
            "a@x.c",
            "a@1.2.3.4",
            "a@-x.com",
            "a@x-.com",
            "a@x..com",
            "a@x.com.",
            "a@x.c0m",
            "a..b@x.com",
            &long_local_part,
            &long,
        ] {
            assert!(text.parse::<Email>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn names_have_visible_characters_only() {
        assert!("Ноутбук 15″".parse::<Name>().is_ok());
        assert!("x".repeat(200).parse::<Name>().is_ok());
        for text in [
            "",
            "   ",
            "\u{3000}",
            "a\u{0}b",
            "a\nb",
            "\u{7f}",
            "a\u{fffe}",
            "a\u{ffff}",
            &"x".repeat(201),
        ] {
            assert!(text.parse::<Name>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn moments_have_the_form_of_rfc_3339_only() {
        for text in [
            "2025-11-20T10:35:00Z",
            "2025-11-20T10:35:00.123456789Z",
            "2025-11-20T10:35:00+00:00",
            "2025-11-20T10:35:00.5-00:00",
            "2024-02-29T23:59:59+23:59",
        ] {
            let stamp: Stamp = text.parse().expect(text);
            assert_eq!(stamp.to_string().parse(), Ok(stamp), "{text}");
        }
        for text in [
            "",
            "2025-11-20 10:35:00Z",
            "2025-11-20t10:35:00z",
            "2025-11-20T10:35:00",
            "2025-11-20T10:35Z",
            "20251120T103500Z",
            "2025-11-20T10:35:00,5Z",
            "2025-11-20T10:35:00.Z",
            "2025-11-20T10:35:00.1234567890Z",
            "2025-11-20T10:35:60Z",
            "2025-11-20T24:00:00Z",
            "2025-02-29T10:35:00Z",
            "2025-11-20T10:35:00+0200",
            "2025-11-20T10:35:00+02",
            "2025-11-20T10:35:00+24:00",
            "2025-11-20T10:35:00+02:60",
            "2025-11-20T10:35:00Z[UTC]",
            "2025-11-20T10:35:00ZZ",
            "+002025-11-20T10:35:00Z",
            "0999-12-31T23:59:59Z",
            "3000-01-01T00:00:00Z",
            // These are of another year in UTC.
            "1000-01-01T00:00:00+01:00",
            "2999-12-31T23:30:00-01:00",
        ] {
            assert!(text.parse::<Stamp>().is_err(), "{text:?} passed");
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
