//! The calls of Stripe's API that a shop needs: make a PaymentIntent, read it, find it, cancel it; refund it.
//!
//! In: an SDK configuration, whose HTTP client, clock and timers carry the calls; the account's secret key. Out: what Stripe says, or a
//! [`StripeError`] that says whether the call was carried out. Guarantees: it repeats nothing by itself; what is ambiguous is
//! never reported as a failure; neither the key nor a client secret can be printed.
//!
//! The handful of calls is written by hand on the SDK's own HTTP client, which is in every function anyway and which the simulation knows:
//! the crates for Stripe's whole API are larger than all of the shop.

use std::{convert::Infallible, fmt, io, time::Duration};

use aws_config::SdkConfig;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::{
    orchestrator::{HttpRequest, HttpResponse},
    result::SdkError,
};
use aws_smithy_types::{body::SdkBody, timeout::TimeoutConfig};
use exactly_once::error::{BoxError, is_connection_refused};
use form_urlencoded::Serializer;
use jiff::Timestamp;
use order::stripe_amount::StripeAmount;
use serde::{Deserialize, de::DeserializeOwned};

/// The version of the API that is written and read here. Stripe keeps every version working.
/// <https://docs.stripe.com/api/versioning>
pub const API_VERSION: &str = "2024-06-20";
/// Where Stripe's API is.
pub const ENDPOINT: &str = "https://api.stripe.com";
/// Maximum time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum time of a call: a function's timeout is 10 s, and what has become of the call must still be written down.
const CALL_TIMEOUT: Duration = Duration::from_secs(6);
/// Number of objects in a page of a list: the most that Stripe gives.
const PAGE: u8 = 100;
/// Maximum number of pages that are read for one PaymentIntent: ten thousand made since the order was. Beyond it the answer is not known.
const PAGES_MAX: usize = 100;

/// Secret API key of the account.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// Takes a secret or restricted key, `None` if it is not of the form of one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_key = ["sk_", "rk_"].iter().any(|prefix| text.starts_with(prefix))
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_key.then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// What a customer's browser pays with. It goes to who shows the order's token, and is kept nowhere.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ClientSecret(String);

impl ClientSecret {
    /// The text, for the answer to who has shown the order's token.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

/// How far a payment has come. <https://docs.stripe.com/payments/paymentintents/lifecycle>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentStatus {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    /// It may still succeed or fail, and cannot be cancelled.
    Processing,
    /// Authorised, not taken: nothing here asks for that.
    RequiresCapture,
    Canceled,
    Succeeded,
    /// One that this version of the API does not have.
    #[serde(other)]
    Unknown,
}

/// A PaymentIntent: the attempt to have one order paid.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PaymentIntent {
    pub id: String,
    pub status: IntentStatus,
    /// In Stripe's unit of the currency.
    pub amount: u64,
    pub currency: String,
    #[serde(default)]
    pub metadata: Metadata,
    pub client_secret: Option<ClientSecret>,
    /// Why it was not paid, the last time that the customer tried.
    last_payment_error: Option<PaymentError>,
}

impl PaymentIntent {
    /// Why the last try to pay it failed, for an operator; `None` if none has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let PaymentError { code, decline_code, message } = self.last_payment_error.as_ref()?;
        let parts = [code, decline_code, message].into_iter().flatten();
        Some(parts.map(String::as_str).collect::<Vec<_>>().join(": "))
    }
}

/// Why a customer could not pay. <https://docs.stripe.com/declines/codes>
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PaymentError {
    code: Option<String>,
    decline_code: Option<String>,
    message: Option<String>,
}

/// What this shop has written on an object of Stripe's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Metadata {
    /// Which order it belongs to; `None` for what is not this shop's.
    pub order_id: Option<String>,
}

/// How far a refund has come. <https://docs.stripe.com/refunds>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    Pending,
    RequiresAction,
    Succeeded,
    Failed,
    Canceled,
    #[serde(other)]
    Unknown,
}

/// Money on its way back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refund {
    pub id: String,
    pub status: Option<RefundStatus>,
    pub amount: u64,
}

/// What a new PaymentIntent is for.
#[derive(Debug, Clone, Copy)]
pub struct NewIntent<'a> {
    pub order_id: &'a str,
    pub amount: StripeAmount,
    /// ISO 4217.
    pub currency: &'a str,
}

/// Why a call of Stripe has no result.
#[derive(Debug, thiserror::Error)]
pub enum StripeError {
    /// As it was asked it can never succeed. Nothing was done.
    #[error("Stripe refuses the call: {code}: {message}")]
    Refused { code: String, message: String },
    /// The object is in a state in which this cannot be done: it has moved on, and is to be read again. Nothing was done.
    #[error("the state of the object has changed")]
    StateChanged,
    /// There is no such object.
    #[error("Stripe has no such object")]
    Missing,
    /// Key or account are not in order: no call can succeed until somebody acts. Nothing was done.
    #[error("Stripe does not accept the key or the account ({0})")]
    Configuration(u16),
    /// It passes with time. Nothing was done, and the same idempotency key may be used again.
    #[error("Stripe did not take the call")]
    NotDone(#[source] BoxError),
    /// Stripe failed: it may have been done, and the same idempotency key would be answered with the same failure.
    /// <https://docs.stripe.com/api/idempotent_requests>
    #[error("Stripe failed with {0}: whether the call was carried out is unknown")]
    Failed(u16),
    /// No answer came: it may have been done, and the same idempotency key says whether it was.
    #[error("Stripe did not answer: whether the call was carried out is unknown")]
    NoAnswer(#[source] BoxError),
}

/// A call as it goes out.
#[derive(Debug)]
struct Call {
    method: &'static str,
    /// With the query.
    path: String,
    form: String,
    idempotency_key: Option<String>,
}

/// An answer, whatever it says.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// Stripe's API, for one account.
#[derive(Clone)]
pub struct Stripe {
    call: Operation<Call, Answer, Infallible>,
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stripe")
    }
}

impl Stripe {
    /// The API at this endpoint, with this key.
    ///
    /// # Panics
    /// The configuration has no HTTP client.
    #[must_use]
    pub fn new(aws: &SdkConfig, endpoint: &str, key: &ApiKey) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let authorization = format!("Bearer {}", key.0);
        let mut operation = Operation::builder()
            .service_name("Stripe")
            .operation_name("call")
            .http_client(aws.http_client().expect("an SDK configuration has an HTTP client"))
            .endpoint_url(endpoint)
            .no_auth()
            // What is repeated, and under which key, the caller decides.
            .no_retry()
            .timeout_config(timeouts);
        if let Some(sleep) = aws.sleep_impl() {
            operation = operation.sleep_impl(sleep);
        }
        if let Some(time) = aws.time_source() {
            operation = operation.time_source(time);
        }
        let call = operation
            .serializer(move |call: Call| to_request(call, &authorization))
            .deserializer(|response: &HttpResponse| Ok(read_answer(response)))
            .build();
        Self { call }
    }

    /// Makes a PaymentIntent, once for each key.
    ///
    /// # Errors
    /// See [`StripeError`].
    pub async fn create_intent(
        &self,
        idempotency_key: &str,
        new: NewIntent<'_>,
    ) -> Result<PaymentIntent, StripeError> {
        let form = Serializer::new(String::new())
            .append_pair("amount", &new.amount.get().to_string())
            .append_pair("currency", &new.currency.to_ascii_lowercase())
            .append_pair("metadata[order_id]", new.order_id)
            .finish();
        self.post("/v1/payment_intents".into(), form, Some(idempotency_key)).await
    }

    /// A PaymentIntent as it is now.
    ///
    /// # Errors
    /// See [`StripeError`].
    pub async fn get_intent(&self, id: &str) -> Result<PaymentIntent, StripeError> {
        self.get(format!("/v1/payment_intents/{}", path_segment(id))).await
    }

    /// The PaymentIntent of this order that was made at this moment or later, or `None` if the whole list has none. By the list and not
    /// by Stripe's search, which lags behind. <https://docs.stripe.com/search#data-freshness>
    ///
    /// # Errors
    /// See [`StripeError`]; [`StripeError::NotDone`] if the list is too long to be read.
    pub async fn find_intent(
        &self,
        order_id: &str,
        made_since: Timestamp,
    ) -> Result<Option<PaymentIntent>, StripeError> {
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = Serializer::new(String::new());
            query.append_pair("created[gte]", &made_since.as_second().to_string());
            query.append_pair("limit", &PAGE.to_string());
            if let Some(after) = &after {
                query.append_pair("starting_after", after);
            }
            let page: List<PaymentIntent> =
                self.get(format!("/v1/payment_intents?{}", query.finish())).await?;
            after = page.data.last().map(|intent| intent.id.clone());
            let is_wanted =
                |intent: &PaymentIntent| intent.metadata.order_id.as_deref() == Some(order_id);
            if let Some(found) = page.data.into_iter().find(is_wanted) {
                return Ok(Some(found));
            }
            if !page.has_more || after.is_none() {
                return Ok(None);
            }
        }
        let error = io::Error::other(format!("the list has more than {PAGES_MAX} pages"));
        Err(StripeError::NotDone(error.into()))
    }

    /// Cancels a PaymentIntent, so that it can never succeed.
    ///
    /// # Errors
    /// See [`StripeError`]; [`StripeError::StateChanged`] if it has succeeded, is cancelled or processing.
    pub async fn cancel_intent(&self, id: &str) -> Result<PaymentIntent, StripeError> {
        // Without a key: what is cancelled cannot be cancelled twice.
        self.post(format!("/v1/payment_intents/{}/cancel", path_segment(id)), String::new(), None)
            .await
    }

    /// Gives back all that a PaymentIntent has taken, once for each key.
    ///
    /// # Errors
    /// See [`StripeError`]; [`StripeError::StateChanged`] if it was given back before.
    pub async fn create_refund(
        &self,
        idempotency_key: &str,
        payment_intent: &str,
    ) -> Result<Refund, StripeError> {
        let form =
            Serializer::new(String::new()).append_pair("payment_intent", payment_intent).finish();
        self.post("/v1/refunds".into(), form, Some(idempotency_key)).await
    }

    /// What was given back of a PaymentIntent, newest first: of these at most a page, of which nothing here needs more than one.
    ///
    /// # Errors
    /// See [`StripeError`].
    pub async fn list_refunds(&self, payment_intent: &str) -> Result<Vec<Refund>, StripeError> {
        let query = Serializer::new(String::new())
            .append_pair("payment_intent", payment_intent)
            .append_pair("limit", &PAGE.to_string())
            .finish();
        let list: List<Refund> = self.get(format!("/v1/refunds?{query}")).await?;
        Ok(list.data)
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<T, StripeError> {
        let call = Call { method: "GET", path, form: String::new(), idempotency_key: None };
        interpret(&self.answer(call).await?)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: String,
        form: String,
        idempotency_key: Option<&str>,
    ) -> Result<T, StripeError> {
        let idempotency_key = idempotency_key.map(str::to_owned);
        let call = Call { method: "POST", path, form, idempotency_key };
        interpret(&self.answer(call).await?)
    }

    async fn answer(&self, call: Call) -> Result<Answer, StripeError> {
        self.call.invoke(call).await.map_err(|error| {
            let is_not_sent =
                matches!(&error, SdkError::ConstructionFailure(_)) || is_connection_refused(&error);
            let error: BoxError = Box::new(error);
            if is_not_sent { StripeError::NotDone(error) } else { StripeError::NoAnswer(error) }
        })
    }
}

/// A page of a list. <https://docs.stripe.com/api/pagination>
#[derive(Debug, Deserialize)]
struct List<T> {
    data: Vec<T>,
    #[serde(default)]
    has_more: bool,
}

fn to_request(call: Call, authorization: &str) -> Result<HttpRequest, BoxError> {
    let Call { method, path, form, idempotency_key } = call;
    let mut request =
        HttpRequest::new(if form.is_empty() { SdkBody::empty() } else { SdkBody::from(form) });
    request.set_method(method)?;
    request.set_uri(path)?;
    let headers = request.headers_mut();
    headers.insert("authorization", authorization.to_owned());
    headers.insert("stripe-version", API_VERSION);
    if method == "POST" {
        headers.insert("content-type", "application/x-www-form-urlencoded");
    }
    if let Some(key) = idempotency_key {
        headers.insert("idempotency-key", key);
    }
    Ok(request)
}

/// Takes every answer for one: what it means, [`interpret`] says.
fn read_answer(response: &HttpResponse) -> Answer {
    let body = response.body().bytes().unwrap_or_default().to_vec();
    Answer { status: response.status().as_u16(), body }
}

/// Reads an answer. <https://docs.stripe.com/api/errors>, <https://docs.stripe.com/error-low-level>
fn interpret<T: DeserializeOwned>(answer: &Answer) -> Result<T, StripeError> {
    #[derive(Deserialize, Default)]
    struct Wire {
        #[serde(default)]
        error: WireError,
    }
    #[derive(Deserialize, Default)]
    struct WireError {
        #[serde(rename = "type")]
        error_type: Option<String>,
        code: Option<String>,
        message: Option<String>,
    }
    let status = answer.status;
    if (200..300).contains(&status) {
        // It was carried out, and nobody knows what came of it.
        return serde_json::from_slice(&answer.body)
            .map_err(|error| StripeError::NoAnswer(error.into()));
    }
    let Wire { error } = serde_json::from_slice(&answer.body).unwrap_or_default();
    let is_about_key = error.error_type.as_deref() == Some("idempotency_error");
    let code = error.code.or(error.error_type).unwrap_or_else(|| format!("HTTP {status}"));
    let message = error.message.unwrap_or_else(|| "no reason given".into());
    Err(match (status, &*code) {
        (401 | 403, _) => StripeError::Configuration(status),
        // Another request with the key, or for the object, is under way; or there were too many. No result is kept of these.
        (409 | 429, _) => {
            StripeError::NotDone(io::Error::other(format!("{code}: {message}")).into())
        }
        // The key was used for something else: under it nobody learns what was done.
        _ if is_about_key => StripeError::Failed(status),
        // The failure of somebody on whom Stripe depends.
        (424 | 500..=599, _) => StripeError::Failed(status),
        (_, "payment_intent_unexpected_state" | "charge_already_refunded") => {
            StripeError::StateChanged
        }
        (404, _) => StripeError::Missing,
        _ => StripeError::Refused { code, message },
    })
}

/// An id as a part of a path: whatever is in it, it leads nowhere else.
fn path_segment(id: &str) -> String {
    form_urlencoded::byte_serialize(id.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.as_bytes().to_vec() }
    }

    fn refused(status: u16, code: &str) -> Result<PaymentIntent, StripeError> {
        let body = format!(
            r#"{{"error":{{"type":"invalid_request_error","code":"{code}","message":"m"}}}}"#
        );
        interpret(&answer(status, &body))
    }

    #[test]
    fn an_intent_is_read_as_far_as_it_matters() {
        let body = r#"{"id":"pi_1","object":"payment_intent","amount":1099,"currency":"eur","status":"requires_payment_method",
            "client_secret":"pi_1_secret_2","metadata":{"order_id":"an-order"},"charges":{"data":[]}}"#;
        let intent: PaymentIntent = interpret(&answer(200, body)).expect("an intent");
        assert_eq!(intent.status, IntentStatus::RequiresPaymentMethod);
        assert_eq!(intent.metadata.order_id.as_deref(), Some("an-order"));
        assert!(!format!("{intent:?}").contains("secret_2"), "{intent:?}");
        let new = r#"{"id":"pi_1","amount":1,"currency":"eur","status":"requires_divination"}"#;
        let intent: PaymentIntent = interpret(&answer(200, new)).expect("an intent");
        assert_eq!(intent.status, IntentStatus::Unknown);
    }

    #[test]
    fn an_error_says_whether_the_call_was_carried_out() {
        let is = |result: Result<PaymentIntent, StripeError>, is_it: fn(&StripeError) -> bool| {
            let error = result.expect_err("an error");
            assert!(is_it(&error), "{error:?}");
        };
        is(refused(400, "amount_too_small"), |e| matches!(e, StripeError::Refused { .. }));
        is(refused(402, "card_declined"), |e| matches!(e, StripeError::Refused { .. }));
        is(refused(400, "payment_intent_unexpected_state"), |e| {
            matches!(e, StripeError::StateChanged)
        });
        is(refused(400, "charge_already_refunded"), |e| matches!(e, StripeError::StateChanged));
        is(refused(404, "resource_missing"), |e| matches!(e, StripeError::Missing));
        for status in [401, 403] {
            is(refused(status, "x"), |e| matches!(e, StripeError::Configuration(_)));
        }
        for (status, code) in
            [(409, "idempotency_key_in_use"), (429, "rate_limit"), (429, "lock_timeout")]
        {
            is(refused(status, code), |e| matches!(e, StripeError::NotDone(_)));
        }
        for status in [424, 500, 502, 503, 504] {
            is(interpret(&answer(status, "<html>")), |e| matches!(e, StripeError::Failed(_)));
        }
        is(interpret(&answer(200, "{")), |e| matches!(e, StripeError::NoAnswer(_)));
    }

    #[test]
    fn a_key_has_the_form_of_one_and_is_not_printed() {
        let key = ApiKey::new("sk_test_abc123").expect("a key");
        assert!(!format!("{key:?}").contains("abc123"));
        assert!(ApiKey::new("rk_live_abc").is_some());
        for wrong in ["", "pk_test_abc", "sk_test_abc\r\nX: y", "sk_test abc"] {
            assert!(ApiKey::new(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn an_id_is_one_segment_of_a_path() {
        assert_eq!(path_segment("pi_3MtwBw"), "pi_3MtwBw");
        assert_eq!(path_segment("../refunds?a=b"), "..%2Frefunds%3Fa%3Db");
    }
}
