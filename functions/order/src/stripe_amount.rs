//! What an order costs, as Stripe writes it: a whole number of the smallest unit that Stripe has for the currency.
//!
//! In: an amount of money with two decimals. Out: Stripe's number, or why Stripe would not take it. Guarantee: exact; an amount that
//! would have to be rounded is refused. <https://docs.stripe.com/currencies#minor-units>

use events::{Currency, Money};

/// Maximum amount of one payment, in Stripe's unit of the currency: eight digits.
/// <https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>
pub const AMOUNT_MAX: u64 = 99_999_999;

/// Currencies whose smallest unit is the whole. <https://docs.stripe.com/currencies#zero-decimal>
const ZERO_DECIMAL: [&str; 15] = [
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF",
    "XOF", "XPF",
];
/// Currencies without decimals that Stripe still writes with two, which have to be zero.
/// <https://docs.stripe.com/currencies#special-cases>
const WRITTEN_WITH_TWO: [&str; 2] = ["ISK", "UGX"];
/// Currencies of three decimals, of which Stripe wants the last to be zero.
/// <https://docs.stripe.com/currencies#three-decimal>
const THREE_DECIMAL: [&str; 5] = ["BHD", "JOD", "KWD", "OMR", "TND"];

/// Minimum amounts, in Stripe's unit. Of other currencies Stripe converts the amount and compares that; so it is Stripe that refuses.
/// <https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>
const AMOUNTS_MIN: [(&str, u64); 24] = [
    ("USD", 50),
    ("AED", 200),
    ("AUD", 50),
    ("BGN", 100),
    ("BRL", 50),
    ("CAD", 50),
    ("CHF", 50),
    ("CZK", 1500),
    ("DKK", 250),
    ("EUR", 50),
    ("GBP", 30),
    ("HKD", 400),
    ("HUF", 17_500),
    ("INR", 50),
    ("JPY", 50),
    ("MXN", 1000),
    ("MYR", 200),
    ("NOK", 300),
    ("NZD", 50),
    ("PLN", 200),
    ("RON", 200),
    ("SEK", 300),
    ("SGD", 50),
    ("THB", 1000),
];

/// An amount that Stripe may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StripeAmount(u64);

/// Why an amount cannot be paid. What it says ends the sentence "the total …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The currency has no such fraction.
    #[error("must be a whole number: the currency has no decimals")]
    Fraction,
    /// Less than can be paid.
    #[error("is less than can be paid: the minimum is {0}")]
    TooSmall(Money),
    /// More than can be paid at once.
    #[error("is more than can be paid at once: the maximum is {0}")]
    TooLarge(Money),
}

impl StripeAmount {
    /// Converts an amount of a currency.
    ///
    /// # Errors
    /// Stripe would not take it.
    pub fn new(money: Money, currency: &Currency) -> Result<Self, AmountError> {
        let currency = currency.as_str();
        let unit = Unit::of(currency);
        let hundredths = u64::try_from(money.minor()).unwrap_or(u64::MAX);
        let amount = unit.count(hundredths).ok_or(AmountError::Fraction)?;
        let min = AMOUNTS_MIN.iter().find(|(code, _)| *code == currency).map_or(1, |(_, min)| *min);
        if amount < min {
            return Err(AmountError::TooSmall(unit.to_money(min)));
        }
        if amount > AMOUNT_MAX {
            return Err(AmountError::TooLarge(unit.to_money(AMOUNT_MAX)));
        }
        Ok(Self(amount))
    }

    /// As Stripe writes it.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

/// How Stripe's unit of a currency relates to a hundredth, in which orders are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Whole,
    Hundredth,
    /// A hundredth, of which only whole hundreds can be paid.
    HundredthOfWhole,
    Thousandth,
}

impl Unit {
    fn of(currency: &str) -> Self {
        if ZERO_DECIMAL.contains(&currency) {
            Self::Whole
        } else if WRITTEN_WITH_TWO.contains(&currency) {
            Self::HundredthOfWhole
        } else if THREE_DECIMAL.contains(&currency) {
            Self::Thousandth
        } else {
            Self::Hundredth
        }
    }

    /// Number of units in so many hundredths, `None` if that is no whole number.
    fn count(self, hundredths: u64) -> Option<u64> {
        let is_whole = hundredths.is_multiple_of(100);
        match self {
            Self::Whole => is_whole.then_some(hundredths / 100),
            Self::HundredthOfWhole => is_whole.then_some(hundredths),
            Self::Hundredth => Some(hundredths),
            Self::Thousandth => hundredths.checked_mul(10),
        }
    }

    fn to_money(self, amount: u64) -> Money {
        let hundredths = match self {
            Self::Whole => amount * 100,
            Self::Hundredth | Self::HundredthOfWhole => amount,
            Self::Thousandth => amount / 10,
        };
        let hundredths = i64::try_from(hundredths).expect("eight digits and two more fit");
        Money::from_minor(hundredths).expect("ten digits are money")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amount(money: &str, currency: &str) -> Result<u64, AmountError> {
        let (money, currency) = (money.parse().expect("money"), currency.parse().expect("a code"));
        StripeAmount::new(money, &currency).map(StripeAmount::get)
    }

    fn money(text: &str) -> Money {
        text.parse().expect("money")
    }

    #[test]
    fn each_currency_has_its_unit() {
        for (from, currency, expected) in [
            ("10.00", "USD", 1000),
            ("10.99", "UAH", 1099),
            ("500", "JPY", 500),
            ("500.00", "KRW", 500),
            // To charge 5 ISK, provide an amount value of 500.
            ("5", "ISK", 500),
            ("5.12", "KWD", 5120),
        ] {
            assert_eq!(amount(from, currency), Ok(expected), "{from} {currency}");
        }
    }

    #[test]
    fn what_would_have_to_be_rounded_is_refused() {
        for currency in ["JPY", "ISK", "UGX"] {
            assert_eq!(amount("500.50", currency), Err(AmountError::Fraction), "{currency}");
        }
    }

    #[test]
    fn what_is_too_little_or_too_much_is_refused_with_the_limit() {
        assert_eq!(amount("0.50", "EUR"), Ok(50));
        assert_eq!(amount("0.49", "EUR"), Err(AmountError::TooSmall(money("0.50"))));
        assert_eq!(amount("49", "JPY"), Err(AmountError::TooSmall(money("50"))));
        assert_eq!(amount("0", "UAH"), Err(AmountError::TooSmall(money("0.01"))));
        assert_eq!(amount("999999.99", "USD"), Ok(AMOUNT_MAX));
        assert_eq!(amount("1000000", "USD"), Err(AmountError::TooLarge(money("999999.99"))));
        assert_eq!(amount("99999999", "JPY"), Ok(AMOUNT_MAX));
        assert_eq!(amount("100000", "KWD"), Err(AmountError::TooLarge(money("99999.99"))));
        assert_eq!(
            AmountError::TooSmall(money("0.50")).to_string(),
            "is less than can be paid: the minimum is 0.50"
        );
    }

    proptest! {
        #[test]
        fn an_amount_is_exact_in_every_currency(
            hundredths in 0..=events::MINOR_UNITS_MAX,
            currency in prop::sample::select(vec!["USD", "JPY", "ISK", "KWD", "UAH", "BIF"]),
        ) {
            let money = Money::from_minor(hundredths).expect("in range");
            let currency: Currency = currency.parse().expect("a code");
            if let Ok(amount) = StripeAmount::new(money, &currency) {
                prop_assert_eq!(Unit::of(currency.as_str()).to_money(amount.get()), money);
                prop_assert!(amount.get() <= AMOUNT_MAX);
            }
        }
    }
}
