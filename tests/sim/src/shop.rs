//! The shop in the simulated AWS: its tables, queues and settings, as the template has them. The benchmarks have the same.

use std::{collections::HashMap, time::Duration};

use serde_json::json;
use simulated_aws::{Index, QueueSettings, SimulatedAws, SubscriptionSettings, Table};

use crate::stripe::{API_KEY, HOST, WEBHOOK_SECRET};

/// What the partition of the index `pending` begins with of an order that stands for the publication of its event.
pub const UNPUBLISHED: &str = "unpublished-";
pub const ORDERS: &str = "orders";
pub const PRODUCTS: &str = "products";
pub const RESERVATIONS: &str = "reservations";
pub const EVENT_LOG: &str = "event-log";
pub const IDEMPOTENCY: &str = "idempotency";
pub const SUPPRESSED: &str = "suppressed";
pub const STOCK_CHANGES: &str = "stock-changes";
pub const ANALYTICS: &str = "analytics";
const TOPIC_ARN: &str = "arn:aws:sns:simulated:0:orders";
pub const PAYMENTS: &str = "payments";
/// The secret that is shared with Stripe.
const STRIPE_SECRET: &str = "arn:aws:secretsmanager:simulated:0:secret:stripe";

/// For how long a received message is hidden.
pub const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(60);
/// Orders of more than this have high priority: a part of those that the simulated customers place.
const PRIORITY_TOTAL: &str = "30";
/// How old an event may be that is mailed, in days.
pub const MAIL_MAX_AGE_DAYS: i64 = 7;

/// The queues, by the consumers behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    Product,
    Order,
    Notification,
    /// Those events of which orders have high priority, for the same consumer.
    NotificationPriority,
    /// What SES says of mails.
    Feedback,
    /// Where orders are paid.
    Payment,
    /// What is counted by day.
    Analytics,
}

impl Queue {
    /// Those of every shop.
    pub const ALL: [Self; 6] = [
        Self::Product,
        Self::Order,
        Self::Notification,
        Self::NotificationPriority,
        Self::Analytics,
        Self::Feedback,
    ];
    /// Those that subscribe to the orders' events.
    pub const OF_EVENTS: [Self; 5] = [
        Self::Product,
        Self::Order,
        Self::Notification,
        Self::NotificationPriority,
        Self::Analytics,
    ];

    /// The queue by which its consumer is known: one consumer serves two queues.
    #[must_use]
    pub fn consumer(self) -> Self {
        if self == Self::NotificationPriority { Self::Notification } else { self }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Order => "order",
            Self::Notification => "notification",
            Self::NotificationPriority => "notification-priority",
            Self::Feedback => "feedback",
            Self::Payment => "payment",
            Self::Analytics => "analytics",
        }
    }

    #[must_use]
    pub fn url(self) -> String {
        format!("http://simulated.invalid/0/{}", self.name())
    }

    #[must_use]
    pub fn dlq_url(self) -> String {
        format!("{}-dlq", self.url())
    }

    /// Maximum number of messages of an invocation.
    #[must_use]
    pub fn batch_size(self) -> usize {
        if self.consumer() == Self::Notification { 3 } else { 10 }
    }

    /// Maximum number of invocations at a time.
    #[must_use]
    pub fn concurrency_max(self) -> usize {
        match self {
            Self::Product | Self::Order | Self::Payment => 10,
            Self::Notification | Self::NotificationPriority | Self::Feedback | Self::Analytics => 2,
        }
    }

    /// Concurrent executions that are reserved for its consumer: those of all of its queues.
    #[must_use]
    pub fn reserved_concurrency(self) -> usize {
        let of_consumer = Self::ALL.into_iter().filter(|one| one.consumer() == self.consumer());
        of_consumer.map(Self::concurrency_max).sum()
    }

    /// The filter of its subscription to the orders' events.
    #[must_use]
    pub fn event_types(self) -> &'static [&'static str] {
        match self {
            Self::Product => &["OrderCreated", "OrderCancelled", "OrderExpired"],
            Self::Order => {
                &["StockReserved", "StockRejected", "PaymentSucceeded", "PaymentCancelled"]
            }
            Self::Notification | Self::NotificationPriority => &[
                "OrderCreated",
                "OrderConfirmed",
                "OrderRejected",
                "OrderCancelled",
                "OrderShipped",
                "OrderAwaitingPayment",
                "OrderPaymentReminder",
                "OrderExpired",
            ],
            Self::Feedback => &[],
            Self::Payment => &["OrderAwaitingPayment", "OrderCancelled", "OrderPaymentOverdue"],
            Self::Analytics => &[
                "OrderCreated",
                "OrderAwaitingPayment",
                "OrderConfirmed",
                "OrderRejected",
                "OrderCancelled",
                "OrderShipped",
                "OrderExpired",
            ],
        }
    }
}

/// Makes tables, queues and subscriptions.
///
/// # Panics
/// A filter is one that is not simulated.
pub fn deploy(aws: &SimulatedAws) {
    let table = |name: &str, keys: &[&str], indexes: &[(&str, [&str; 2])]| {
        aws.create_table(Table {
            name: name.to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            indexes: indexes
                .iter()
                .map(|(name, keys)| Index {
                    name: (*name).to_owned(),
                    keys: keys.map(str::to_owned),
                })
                .collect(),
        });
    };
    table(
        ORDERS,
        &["order_id"],
        &[
            ("pending", ["pending_shard", "created_at"]),
            ("by_customer_keys", ["customer_email", "created_at"]),
            ("awaiting_payment", ["payment_shard", "payment_next_at"]),
        ],
    );
    table(PRODUCTS, &["product_id"], &[("by_category", ["category", "product_id"])]);
    table(RESERVATIONS, &["order_id"], &[]);
    table(STOCK_CHANGES, &["product_id", "change_id"], &[]);
    table(IDEMPOTENCY, &["key"], &[]);
    table(ANALYTICS, &["day", "row"], &[]);
    table(SUPPRESSED, &["email"], &[]);
    table(EVENT_LOG, &["order_id", "event_id"], &[("outbox", ["outbox_shard", "pending_since"])]);
    aws.project_keys_only(ORDERS, "pending");
    aws.project_keys_only(ORDERS, "by_customer_keys");
    aws.project_keys_only(ORDERS, "awaiting_payment");
    aws.project_keys_only(PRODUCTS, "by_category");
    aws.project_keys_only(EVENT_LOG, "outbox");
    aws.set_time_to_live(IDEMPOTENCY, "expires_at");
    let topic_arn = aws.create_topic("orders");
    for queue in Queue::ALL {
        add_queue(aws, &topic_arn, queue);
    }
}

/// Makes what a shop has besides whose orders are paid by Stripe.
///
/// # Panics
/// A filter is one that is not simulated.
pub fn deploy_payments(aws: &SimulatedAws) {
    aws.create_table(Table {
        name: PAYMENTS.to_owned(),
        keys: vec!["order_id".to_owned()],
        indexes: Vec::new(),
    });
    let secret = json!({ "api_key": API_KEY, "webhook_secrets": [WEBHOOK_SECRET] });
    aws.put_secret(STRIPE_SECRET, secret.to_string());
    add_queue(aws, TOPIC_ARN, Queue::Payment);
}

/// Makes a queue with its DLQ, and subscribes it to the events that it is for.
fn add_queue(aws: &SimulatedAws, topic_arn: &str, queue: Queue) {
    let dlq = QueueSettings {
        retention: Duration::from_secs(14 * 24 * 60 * 60),
        ..QueueSettings::default()
    };
    let dlq_url = aws.create_queue(&format!("{}-dlq", queue.name()), dlq);
    let settings = QueueSettings {
        visibility_timeout: VISIBILITY_TIMEOUT,
        redrive: Some((dlq_url.clone(), 200)),
        ..QueueSettings::default()
    };
    let url = aws.create_queue(queue.name(), settings);
    if queue.event_types().is_empty() {
        return;
    }
    let mut filter_policy = json!({ "event_type": queue.event_types() });
    match queue {
        Queue::NotificationPriority => filter_policy["priority"] = json!(["high"]),
        Queue::Notification => filter_policy["priority"] = json!([{ "exists": false }, "normal"]),
        _ => {}
    }
    let settings = SubscriptionSettings {
        filter_policy: Some(filter_policy),
        is_raw: true,
        dlq_url: Some(dlq_url),
    };
    aws.subscribe(topic_arn, &url, settings).expect("a filter of exact values");
}

/// The environment variables that say that orders are paid by Stripe.
pub(crate) fn payment_variables(reservation_minutes: u64) -> HashMap<String, String> {
    let endpoint = format!("http://{HOST}");
    let minutes = reservation_minutes.to_string();
    let variables = [
        ("PAYMENTS", "stripe"),
        ("PAYMENTS_TABLE", PAYMENTS),
        ("STRIPE_SECRET_ARN", STRIPE_SECRET),
        ("STRIPE_ENDPOINT", &endpoint),
        ("RESERVATION_MINUTES", &minutes),
    ];
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Number of partitions of the sparse indexes, as the template's parameters have it by default.
pub const SHARDS_DEFAULT: u64 = 8;

/// The environment variables of the functions, those of a consumer for this queue.
#[must_use]
pub fn variables(queue: Queue, shards: u64) -> HashMap<String, String> {
    let (queue_url, dlq_url) = (queue.consumer().url(), queue.consumer().dlq_url());
    let priority_queue_url = Queue::NotificationPriority.url();
    let priority_dlq_url = Queue::NotificationPriority.dlq_url();
    let mail_max_age_days = MAIL_MAX_AGE_DAYS.to_string();
    let shards = shards.to_string();
    let variables = [
        ("ORDERS_TABLE", ORDERS),
        ("PRODUCTS_TABLE", PRODUCTS),
        ("RESERVATIONS_TABLE", RESERVATIONS),
        ("STOCK_CHANGES_TABLE", STOCK_CHANGES),
        ("IDEMPOTENCY_TABLE", IDEMPOTENCY),
        ("EVENT_LOG_TABLE", EVENT_LOG),
        ("TOPIC_ARN", TOPIC_ARN),
        ("OUTBOX_SHARDS", &shards),
        ("PENDING_SHARDS", &shards),
        ("ORDERS_PER_CLIENT_HOUR", "0"),
        ("MAILS_PER_ADDRESS_DAY", "0"),
        ("ORDER_TOKEN_SECRET", "the-secret-of-the-simulated-shop-that-signs"),
        ("ORDER_TOKEN_SECRET_PREVIOUS", "the-secret-of-the-simulated-shop-that-signed"),
        ("CURRENCY", "UAH"),
        ("CORS_ORIGIN", "none"),
        ("QUEUE_URL", &queue_url),
        ("DLQ_URL", &dlq_url),
        ("PRIORITY_QUEUE_URL", &priority_queue_url),
        ("PRIORITY_DLQ_URL", &priority_dlq_url),
        ("PRIORITY_TOTAL", PRIORITY_TOTAL),
        ("RETRY_SCHEDULE", "30,60,300,900"),
        ("GIVE_UP_AFTER_SECONDS", "7200"),
        ("MAIL_MODE", "ses"),
        ("MAIL_FROM", "shop@example.com"),
        ("MAIL_CONFIGURATION_SET", "simulated"),
        ("SUPPRESSED_TABLE", SUPPRESSED),
        ("ANALYTICS_TABLE", ANALYTICS),
        ("ANALYTICS_GENERATION", "1"),
        ("MAIL_MAX_AGE_DAYS", &mail_max_age_days),
        ("MAILS_PER_SECOND", "14"),
        ("RELAY_AGE_SECONDS", "60"),
        ("ORDER_PENDING_MAX_MINUTES", "15"),
        ("PAYMENTS", "none"),
        ("RESERVATION_MINUTES", "30"),
    ];
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
