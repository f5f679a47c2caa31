//! The analytics service's HTTP calls.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, header},
    middleware,
    response::Response,
    routing::get,
};
use events::{Currency, Money, ProductId};
use exactly_once::TableError;
use http_api::{Cursor, Problem, QueryFields};
use order::rules::Status;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    dynamodb::{AnalyticsTable, RowCursor},
    rules::{Amounts, DAYS_MAX, Day, Days, Row},
};

/// Maximum number of rows of a page, and how many it has if the client does not say: of about 150 bytes each, far below the 6 MB
/// of an invocation's answer.
pub(crate) const ROWS_MAX: i32 = 1000;

pub fn routes(table: AnalyticsTable) -> Router {
    Router::new()
        .route("/analytics/daily", get(list_daily))
        // Today's sums are others in a moment.
        .layer(middleware::map_response(forbid_storing))
        .with_state(table)
}

async fn forbid_storing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What came to one status on one day, of one product.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DailyRow")]
pub(crate) struct RowResponse {
    /// In UTC: when the orders came to the status.
    #[schemars(with = "String", extend("format" = "date"))]
    pub(crate) day: String,
    pub(crate) product_id: ProductId,
    pub(crate) status: Status,
    /// Pieces.
    pub(crate) units: u64,
    /// For how much they were ordered.
    pub(crate) revenue: Money,
    pub(crate) currency: Currency,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DailyPage")]
pub(crate) struct DailyPage {
    pub(crate) rows: Vec<RowResponse>,
    pub(crate) next_cursor: Option<String>,
}

impl RowResponse {
    /// # Errors
    /// The revenue is more than an amount can be.
    fn new((row, amounts): (Row, Amounts)) -> Result<Self, TableError> {
        let Row { day, product_id, status, currency } = row;
        let revenue = i64::try_from(amounts.revenue).unwrap_or(i64::MAX);
        let revenue = Money::from_minor(revenue).map_err(TableError::corrupt("analytics"))?;
        let Amounts { units, .. } = amounts;
        Ok(Self { day: day.to_string(), product_id, status, units, revenue, currency })
    }
}

async fn list_daily(
    State(table): State<AnalyticsTable>,
    mut query: QueryFields,
) -> Result<Json<DailyPage>, Problem> {
    let parse = |text: &str| text.parse::<Day>().ok();
    let (from, to) =
        (query.required("from", Day::EXPECTED, parse), query.required("to", Day::EXPECTED, parse));
    let (limit, after) = query.page_of::<RowCursor>(ROWS_MAX, ROWS_MAX);
    let days = from.zip(to).and_then(|(from, to)| {
        let days = Days::new(from, to);
        if days.is_none() {
            let expected =
                format!("must be the day of from, or one of the {} after it", DAYS_MAX - 1);
            query.complain("to", expected);
        }
        days
    });
    query.finish()?;
    let days = days.ok_or_else(Problem::internal)?;
    let (rows, next) = table.page(days, limit, after).await?;
    let rows: Result<Vec<_>, _> = rows.into_iter().map(RowResponse::new).collect();
    Ok(Json(DailyPage { rows: rows?, next_cursor: next.map(|next| next.encode()) }))
}
