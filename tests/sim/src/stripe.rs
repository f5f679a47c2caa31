//! Stripe, as far as a shop's payments go: harsher than its test mode, in virtual time, decided by a seed.
//!
//! In: calls of its API, customers who pay. Out: answers as Stripe's documentation has them, webhooks to be delivered. Guarantees: what is
//! carried out under an idempotency key is carried out once as long as the key is known; whoever looks afterwards sees every PaymentIntent and refund
//! that there ever was.
//!
//! - Idempotency keys keep the first answer, a 500 included, and are forgotten after a day:
//!   <https://docs.stripe.com/api/idempotent_requests>
//! - The states of a PaymentIntent, and which can be cancelled: <https://docs.stripe.com/payments/paymentintents/lifecycle>
//! - Lists are ordered by creation, the newest first: <https://docs.stripe.com/api/pagination>
//! - Webhooks come late, twice, in any order, and again for three days: <https://docs.stripe.com/webhooks#behaviors>

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use simulated_aws::{Answer, ExternalCall, SimulatedAws};

/// Where it is.
pub(crate) const HOST: &str = "stripe.invalid";
pub(crate) const API_KEY: &str = "sk_test_simulated";
pub(crate) const WEBHOOK_SECRET: &str = "whsec_simulated";
/// After which time a key is forgotten. Stripe may prune keys that are at least a day old.
const KEY_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A PaymentIntent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intent {
    pub id: String,
    pub order_id: String,
    pub amount: u64,
    created: u64,
    pub status: &'static str,
    last_error: Option<&'static str>,
}

/// A refund of all that was paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refund {
    id: String,
    pub intent: String,
    pub amount: u64,
}

/// What Stripe tells the shop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Webhook {
    pub event_type: &'static str,
    pub body: Value,
}

#[derive(Debug)]
struct Keyed {
    at: Duration,
    /// The path and the parameters.
    request: String,
    answer: Answer,
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<String, Keyed>,
    intents: Vec<Intent>,
    refunds: Vec<Refund>,
    /// Those that are to be delivered.
    webhooks: Vec<Webhook>,
    events: usize,
}

/// See the module. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Stripe {
    aws: SimulatedAws,
    state: Arc<Mutex<State>>,
}

/// How a customer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Card {
    Good,
    Declined,
    /// The bank takes its time.
    Slow,
}

impl Stripe {
    /// A Stripe with one account, which the calls of this AWS's environments reach.
    pub(crate) fn new(aws: &SimulatedAws) -> Self {
        let stripe = Self { aws: aws.clone(), state: Arc::default() };
        let served = stripe.clone();
        aws.serve_host(HOST, move |call, is_failing| served.serve(call, is_failing));
        stripe
    }

    pub(crate) fn intents(&self) -> Vec<Intent> {
        self.lock().intents.clone()
    }

    pub(crate) fn refunds(&self) -> Vec<Refund> {
        self.lock().refunds.clone()
    }

    /// What is to be delivered since the last time.
    pub(crate) fn take_webhooks(&self) -> Vec<Webhook> {
        std::mem::take(&mut self.lock().webhooks)
    }

    /// A customer pays by a client secret; whether that was possible.
    pub(crate) fn pay(&self, client_secret: &str, card: Card) -> bool {
        let mut state = self.lock();
        let id = client_secret.split("_secret_").next().unwrap_or_default();
        let Some(intent) = state.intents.iter_mut().find(|intent| intent.id == id) else {
            return false;
        };
        if intent.status != "requires_payment_method" {
            return false;
        }
        let intent = match card {
            Card::Good => Intent { status: "succeeded", ..intent.clone() },
            Card::Declined => Intent { last_error: Some("card_declined"), ..intent.clone() },
            Card::Slow => Intent { status: "processing", ..intent.clone() },
        };
        match card {
            Card::Good => state.update(intent, "payment_intent.succeeded"),
            Card::Declined => state.update(intent, "payment_intent.payment_failed"),
            Card::Slow => state.update(intent, "payment_intent.processing"),
        }
        true
    }

    /// The bank has decided about a slow payment.
    pub(crate) fn decide(&self, client_secret: &str, is_paid: bool) {
        let mut state = self.lock();
        let id = client_secret.split("_secret_").next().unwrap_or_default();
        let found = state.intents.iter().find(|intent| intent.id == id);
        let Some(intent) = found.filter(|intent| intent.status == "processing").cloned() else {
            return;
        };
        if is_paid {
            state.update(Intent { status: "succeeded", ..intent }, "payment_intent.succeeded");
        } else {
            let last_error = Some("payment_intent_payment_attempt_failed");
            let intent = Intent { status: "requires_payment_method", last_error, ..intent };
            state.update(intent, "payment_intent.payment_failed");
        }
    }

    fn serve(&self, call: &ExternalCall, is_failing: bool) -> Answer {
        let authorization = call.headers.get("authorization").map(String::as_str);
        if authorization != Some(&format!("Bearer {API_KEY}")) {
            return error(401, "invalid_request_error", "", "Invalid API Key provided");
        }
        let key = call.headers.get("idempotency-key").cloned();
        let now = self.aws.now();
        let request = format!("{} {}", call.path, call.body);
        if let Some(key) = &key {
            let mut state = self.lock();
            state.keys.retain(|_, keyed| now - keyed.at < KEY_LIFETIME);
            if let Some(keyed) = state.keys.get(key) {
                if keyed.request != request {
                    let why =
                        "Keys can only be used with the same parameters they were first used with.";
                    return error(400, "idempotency_error", "", why);
                }
                return keyed.answer.clone();
            }
        }
        // Half of the failures have done what they were asked for.
        let answer =
            if is_failing && self.aws.draw(0..2) == 0 { None } else { Some(self.carry_out(call)) };
        let failure = error(500, "api_error", "", "a fault of the simulation");
        let answer = answer.filter(|_| !is_failing).unwrap_or(failure);
        if let Some(key) = key {
            self.lock().keys.insert(key, Keyed { at: now, request, answer: answer.clone() });
        }
        answer
    }

    fn carry_out(&self, call: &ExternalCall) -> Answer {
        let (path, query) = call.path.split_once('?').unwrap_or((&call.path, ""));
        let parameters = if call.method == "GET" { query } else { &call.body };
        let parameters: BTreeMap<String, String> =
            form_urlencoded::parse(parameters.as_bytes()).into_owned().collect();
        let parts: Vec<&str> = path.split('/').skip(2).collect();
        match (&*call.method, &parts[..]) {
            ("POST", ["payment_intents"]) => self.create(&parameters),
            ("GET", ["payment_intents"]) => self.list(&parameters),
            ("GET", ["payment_intents", id]) => self.with_intent(id, |_, intent| intent.answer()),
            ("POST", ["payment_intents", id, "cancel"]) => self.with_intent(id, cancel),
            ("POST", ["refunds"]) => {
                let id = parameters.get("payment_intent").cloned().unwrap_or_default();
                self.with_intent(&id, refund)
            }
            ("GET", ["refunds"]) => {
                let id = parameters.get("payment_intent").cloned().unwrap_or_default();
                let state = self.lock();
                let of_intent = state.refunds.iter().filter(|refund| refund.intent == id);
                let data: Vec<Value> = of_intent.rev().map(Refund::to_json).collect();
                Answer { status: 200, body: json!({ "data": data, "has_more": false }).to_string() }
            }
            _ => error(501, "not_simulated", "", &call.path),
        }
    }

    fn create(&self, parameters: &BTreeMap<String, String>) -> Answer {
        let mut state = self.lock();
        let field = |name: &str| parameters.get(name).cloned().unwrap_or_default();
        let intent = Intent {
            id: format!("pi_{}", state.intents.len()),
            order_id: field("metadata[order_id]"),
            amount: field("amount").parse().unwrap_or_default(),
            created: self.aws.now().as_secs(),
            status: "requires_payment_method",
            last_error: None,
        };
        state.intents.push(intent.clone());
        intent.answer()
    }

    fn list(&self, parameters: &BTreeMap<String, String>) -> Answer {
        let state = self.lock();
        let since: u64 =
            parameters.get("created[gte]").and_then(|at| at.parse().ok()).unwrap_or_default();
        let limit: usize =
            parameters.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(10);
        let mut newest_first: Vec<&Intent> =
            state.intents.iter().rev().filter(|intent| intent.created >= since).collect();
        if let Some(after) = parameters.get("starting_after") {
            let place = newest_first.iter().position(|intent| intent.id == *after);
            newest_first = newest_first.split_off(place.map_or(0, |place| place + 1));
        }
        let page: Vec<Value> =
            newest_first.iter().take(limit).map(|intent| intent.to_json()).collect();
        let has_more = newest_first.len() > limit;
        Answer { status: 200, body: json!({ "data": page, "has_more": has_more }).to_string() }
    }

    fn with_intent(&self, id: &str, then: fn(&mut State, Intent) -> Answer) -> Answer {
        let mut state = self.lock();
        match state.intents.iter().find(|intent| intent.id == id).cloned() {
            Some(intent) => then(&mut state, intent),
            None => {
                let why = "No such payment_intent";
                error(404, "invalid_request_error", "resource_missing", why)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn update(&mut self, intent: Intent, event_type: &'static str) {
        self.events += 1;
        let body = json!({
            "id": format!("evt_{}", self.events),
            "type": event_type,
            "data": { "object": intent.to_json() },
        });
        self.webhooks.push(Webhook { event_type, body });
        if let Some(known) = self.intents.iter_mut().find(|known| known.id == intent.id) {
            *known = intent;
        }
    }
}

fn cancel(state: &mut State, intent: Intent) -> Answer {
    if intent.status != "requires_payment_method" {
        let why = format!("You cannot cancel a PaymentIntent with the status {}", intent.status);
        return error(400, "invalid_request_error", "payment_intent_unexpected_state", &why);
    }
    let intent = Intent { status: "canceled", ..intent };
    state.update(intent.clone(), "payment_intent.canceled");
    intent.answer()
}

fn refund(state: &mut State, intent: Intent) -> Answer {
    if intent.status != "succeeded" {
        let why = "This PaymentIntent does not have a successful charge to refund.";
        return error(400, "invalid_request_error", "payment_intent_unexpected_state", why);
    }
    if state.refunds.iter().any(|refund| refund.intent == intent.id) {
        let why = "The charge has already been refunded.";
        return error(400, "invalid_request_error", "charge_already_refunded", why);
    }
    let id = format!("re_{}", state.refunds.len());
    let refund = Refund { id, intent: intent.id, amount: intent.amount };
    state.refunds.push(refund.clone());
    Answer { status: 200, body: refund.to_json().to_string() }
}

impl Intent {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id, "object": "payment_intent", "amount": self.amount, "currency": "uah",
            "created": self.created, "status": self.status, "metadata": { "order_id": self.order_id },
            "client_secret": format!("{}_secret_x", self.id),
            "last_payment_error": self.last_error.map(|code| json!({ "code": code, "message": "declined" })),
        })
    }

    fn answer(&self) -> Answer {
        Answer { status: 200, body: self.to_json().to_string() }
    }
}

impl Refund {
    fn to_json(&self) -> Value {
        json!({ "id": self.id, "amount": self.amount, "status": "succeeded" })
    }
}

fn error(status: u16, error_type: &str, code: &str, message: &str) -> Answer {
    let mut error = json!({ "type": error_type, "message": message });
    if !code.is_empty() {
        error["code"] = json!(code);
    }
    Answer { status, body: json!({ "error": error }).to_string() }
}
