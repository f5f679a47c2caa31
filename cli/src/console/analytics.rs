//! Units and revenue of the last two weeks, as charts.
//!
//! In: what `orderflow analytics daily` says. Out: for each currency a line for each status, with a value for each day. Guarantee: a
//! day on which nothing came to a status is a zero: the table has a row for whatever was counted.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};
use events::{Currency, Money};
use jiff::Timestamp;
use order::rules::Status;
use serde::Serialize;

use super::{Answer, Console};
use crate::{
    analytics::{self, Daily},
    error::CliError,
};

/// What is drawn.
#[derive(Debug, PartialEq, Serialize)]
struct DailyCharts {
    days: Vec<String>,
    currencies: Vec<OfCurrency>,
}

#[derive(Debug, PartialEq, Serialize)]
struct OfCurrency {
    currency: Currency,
    lines: Vec<DailyLine>,
}

/// A value for each day.
#[derive(Debug, PartialEq, Serialize)]
struct DailyLine {
    status: Status,
    units: Vec<u64>,
    revenue: Vec<Money>,
}

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new().route("/api/analytics", get(daily))
}

async fn daily(State(console): State<Arc<Console>>) -> Answer<DailyCharts> {
    let days = analytics::days(None, None, Timestamp::now())?;
    let counted = analytics::daily(&console.stack, days, false).await?;
    let days = days.since(days.first()).map(|day| day.to_string()).collect();
    charts(days, &counted).map(Json)
}

fn charts(days: Vec<String>, counted: &[Daily]) -> Result<DailyCharts, CliError> {
    let mut currencies: Vec<&Currency> = counted.iter().map(|one| &one.currency).collect();
    currencies.sort();
    currencies.dedup();
    let of_currency = |currency: &Currency| {
        let of = |status: Status| {
            counted.iter().filter(move |one| one.currency == *currency && one.status == status)
        };
        let statuses = Status::ALL.into_iter().filter(|status| of(*status).next().is_some());
        let line = |status: Status| {
            let on = |day: &String| of(status).find(|one| one.day == *day);
            let zero =
                Money::from_minor(0).map_err(|error| CliError::NotDone(error.to_string()))?;
            let units = days.iter().map(|day| on(day).map_or(0, |one| one.units)).collect();
            let revenue = days.iter().map(|day| on(day).map_or(zero, |one| one.revenue)).collect();
            Ok(DailyLine { status, units, revenue })
        };
        let lines = statuses.map(line).collect::<Result<_, CliError>>()?;
        Ok(OfCurrency { currency: currency.clone(), lines })
    };
    let currencies = currencies.into_iter().map(of_currency).collect::<Result<_, CliError>>()?;
    Ok(DailyCharts { days, currencies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_value_for_each_day_and_no_status_that_nothing_came_to_has_one() {
        let one = |day: &str, status, units, revenue: &str| Daily {
            day: day.to_owned(),
            product_id: None,
            status,
            units,
            revenue: revenue.parse().expect("an amount"),
            currency: Currency::default(),
        };
        let counted = [
            one("2026-05-03", Status::Pending, 3, "30"),
            one("2026-05-03", Status::Confirmed, 2, "20"),
            one("2026-05-05", Status::Confirmed, 1, "10.5"),
        ];
        let days = ["2026-05-03", "2026-05-04", "2026-05-05"].map(str::to_owned).to_vec();
        let drawn = charts(days, &counted).expect("amounts");
        let [of_hryvnia] = &drawn.currencies[..] else { panic!("{drawn:?}") };
        let statuses: Vec<_> = of_hryvnia.lines.iter().map(|line| line.status).collect();
        assert_eq!(statuses, [Status::Pending, Status::Confirmed]);
        assert_eq!(of_hryvnia.lines[1].units, [2, 0, 1]);
        let revenue: Vec<_> = of_hryvnia.lines[1].revenue.iter().map(Money::to_string).collect();
        assert_eq!(revenue, ["20.00", "0.00", "10.50"]);
    }
}
