//! `orderflow analytics daily`: units and revenue by day and status, of all products together or of each.
//!
//! In: a stack and some days. Out: sums of the rows that analytics-consumer counts, of the generation that is deployed. Guarantee:
//! sums are exact, and those of two currencies are never one.

use std::collections::BTreeMap;

use ::analytics::{
    dynamodb::{AnalyticsTable, Generation},
    rules::{Amounts, Day, Days, Row},
};
use events::{Currency, Money, ProductId};
use jiff::{ToSpan, tz::TimeZone};
use order::rules::Status;
use serde::Serialize;

use crate::{
    error::CliError,
    output::{counted, table},
    stack::Stack,
};

/// Number of days if nobody says how many, today included.
pub(crate) const DAYS_DEFAULT: i32 = 14;

/// What came to one status on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Daily {
    pub day: String,
    /// Absent: of all products.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_id: Option<ProductId>,
    pub status: Status,
    pub units: u64,
    pub revenue: Money,
    pub currency: Currency,
}

/// The days that are meant: until today, and so many as are usual, unless it is said otherwise.
///
/// # Errors
/// They are none, or too many.
pub(crate) fn days(
    from: Option<Day>,
    to: Option<Day>,
    now: jiff::Timestamp,
) -> Result<Days, CliError> {
    let to = to.unwrap_or_else(|| now.to_zoned(TimeZone::UTC).date().into());
    let first = to.date().saturating_sub((DAYS_DEFAULT - 1).days());
    let from = from.unwrap_or_else(|| first.into());
    Days::new(from, to).ok_or_else(|| {
        CliError::NotDone(format!(
            "from {} to {} are no days, or more than {}",
            from.date(),
            to.date(),
            ::analytics::rules::DAYS_MAX
        ))
    })
}

/// What came to each status on each of these days, of each product or of all.
///
/// # Errors
/// The stack is older than this command, or its table does not answer.
pub(crate) async fn daily(
    stack: &Stack,
    days: Days,
    of_each_product: bool,
) -> Result<Vec<Daily>, CliError> {
    sums(rows(stack)?.all(days).await?, of_each_product)
}

/// The rows of the generation that is deployed.
fn rows(stack: &Stack) -> Result<AnalyticsTable, CliError> {
    let table = stack.output("AnalyticsTable")?;
    Ok(AnalyticsTable::new(stack.dynamodb.clone(), table, generation(stack)))
}

/// The generation that is deployed.
pub(crate) fn generation(stack: &Stack) -> Generation {
    let deployed = stack.parameter("AnalyticsGeneration");
    deployed.and_then(|generation| generation.parse().ok()).unwrap_or_default()
}

fn sums(rows: Vec<(Row, Amounts)>, of_each_product: bool) -> Result<Vec<Daily>, CliError> {
    let mut sums: BTreeMap<_, Amounts> = BTreeMap::new();
    for (Row { day, product_id, status, currency }, amounts) in rows {
        let product_id = of_each_product.then_some(product_id);
        *sums.entry((day, product_id, status, currency)).or_default() += amounts;
    }
    let daily = sums.into_iter().map(|((day, product_id, status, currency), amounts)| {
        let Amounts { units, revenue } = amounts;
        let revenue = i64::try_from(revenue).ok().and_then(|minor| Money::from_minor(minor).ok());
        let too_much = || CliError::NotDone(format!("the revenue of {day} is no amount any more"));
        let revenue = revenue.ok_or_else(too_much)?;
        Ok(Daily { day: day.to_string(), product_id, status, units, revenue, currency })
    });
    daily.collect()
}

/// As people read it.
pub(crate) fn text(daily: &[Daily]) -> String {
    let has_products = daily.iter().any(|one| one.product_id.is_some());
    let rows = daily.iter().map(|one| {
        let mut row = vec![one.day.clone()];
        row.extend(one.product_id.iter().map(ToString::to_string));
        let revenue = format!("{} {}", one.revenue, one.currency);
        row.extend([one.status.as_str().to_owned(), one.units.to_string(), revenue]);
        row
    });
    match (daily.len(), has_products) {
        (0, _) => "Nothing is counted on these days.".to_owned(),
        (_, false) => table(&["day", "status", ">units", ">revenue"], rows),
        (lines, true) => format!(
            "{}\n{}",
            table(&["day", "product", "status", ">units", ">revenue"], rows),
            counted(lines as u64, "row")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(
        day: &str,
        product: &str,
        status: Status,
        currency: &str,
        amounts: (u64, i128),
    ) -> (Row, Amounts) {
        let row = Row {
            day: day.parse().expect("a day"),
            product_id: product.parse().expect("an id"),
            status,
            currency: currency.parse().expect("a currency"),
        };
        (row, Amounts { units: amounts.0, revenue: amounts.1 })
    }

    #[test]
    fn products_are_summed_up_and_currencies_are_not() {
        let rows = vec![
            row("2026-05-03", "a", Status::Confirmed, "UAH", (2, 300)),
            row("2026-05-03", "b", Status::Confirmed, "UAH", (1, 45)),
            row("2026-05-03", "b", Status::Confirmed, "EUR", (1, 7)),
            row("2026-05-04", "a", Status::Shipped, "UAH", (2, 300)),
        ];
        let all = sums(rows.clone(), false).expect("amounts");
        let shown: Vec<_> = all
            .iter()
            .map(|one| {
                (&*one.day, one.status, one.units, one.revenue.to_string(), one.currency.as_str())
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("2026-05-03", Status::Confirmed, 1, "0.07".to_owned(), "EUR"),
                ("2026-05-03", Status::Confirmed, 3, "3.45".to_owned(), "UAH"),
                ("2026-05-04", Status::Shipped, 2, "3.00".to_owned(), "UAH"),
            ]
        );
        assert_eq!(sums(rows, true).expect("amounts").len(), 4);
        assert!(text(&all).contains("3.45 UAH"), "{}", text(&all));
        assert_eq!(text(&[]), "Nothing is counted on these days.");
    }

    #[test]
    fn without_days_they_are_the_last_two_weeks_in_utc() {
        let now = "2026-05-03T23:30:00Z".parse().expect("a moment");
        let usual = days(None, None, now).expect("days");
        assert_eq!(usual.first().to_string(), "2026-04-20");
        assert_eq!(usual.last().to_string(), "2026-05-03");
        let day = |text: &str| text.parse::<Day>().expect("a day");
        assert!(days(Some(day("2026-05-04")), None, now).is_err());
        assert!(days(Some(day("2025-05-04")), None, now).is_err());
    }
}
