//! The mail that an event calls for: pure functions from event to mail.

use askama::Template;
use events::{Body, Currency, Email, Event, Line, Money, OrderId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mail {
    pub to: Email,
    pub subject: String,
    pub text: String,
}

impl Mail {
    /// The same mail about an order of which a later mail was begun before: SQS keeps no order, and an outage reorders.
    pub(crate) fn overtaken(self) -> Self {
        const NOTE: &str =
            "This message is late: your order has changed since, and another message says how.";
        Self { text: format!("{NOTE}\n\n{}", self.text), ..self }
    }
}

#[derive(Template)]
#[template(path = "mail.txt", escape = "none")]
struct Text<'a> {
    opening: &'static str,
    order_id: &'a OrderId,
    items: &'a [Line],
    total_price: Money,
    currency: &'a Currency,
    reason: Option<&'a str>,
    date: String,
}

/// The mail that an event calls for, or `None` if the customer need not know of it.
#[must_use]
pub(crate) fn mail(event: &Event) -> Option<Mail> {
    let (outcome, opening) = match event.body {
        Body::OrderCreated(_) => ("Created Successfully", "Thank you for your order."),
        Body::OrderConfirmed(_) => {
            ("Confirmed", "Your order is confirmed: its goods are set aside.")
        }
        Body::OrderRejected(_) => ("Rejected", "We are sorry: your order could not be accepted."),
        Body::OrderCancelled(_) => ("Cancelled", "Your order has been cancelled."),
        Body::OrderShipped(_) => ("Shipped", "Your order is on its way."),
        Body::OrderAwaitingPayment(_) => {
            ("Awaits Payment", "The goods of your order are set aside. Please pay for it.")
        }
        Body::OrderPaymentReminder(_) => (
            "Still Awaits Payment",
            "Your order is not paid yet. Please pay for it soon: its goods are not set aside for long.",
        ),
        Body::OrderExpired(_) => {
            ("Expired", "Your order was not paid in time. Nothing is taken from you.")
        }
        _ => return None,
    };
    let (text, to) = match &event.body {
        Body::OrderCreated(order)
        | Body::OrderConfirmed(order)
        | Body::OrderCancelled(order)
        | Body::OrderShipped(order)
        | Body::OrderAwaitingPayment(order)
        | Body::OrderPaymentReminder(order)
        | Body::OrderExpired(order) => {
            let events::Order { order_id, items, total_price, currency, customer_email } = order;
            let total_price = *total_price;
            let text = Text {
                opening,
                order_id,
                items,
                total_price,
                currency,
                reason: None,
                date: date(event),
            };
            (text, customer_email)
        }
        Body::OrderRejected(order) => {
            let events::RejectedOrder { order_id, items, currency, customer_email, .. } = order;
            let (total_price, reason) = (order.total_price, Some(order.reason.as_str()));
            let text =
                Text { opening, order_id, items, total_price, currency, reason, date: date(event) };
            (text, customer_email)
        }
        _ => return None,
    };
    Some(Mail {
        to: to.clone(),
        subject: format!("Order #{} {outcome}", event.body.order_id()),
        text: text.render().expect("the template writes to memory, which takes everything"),
    })
}

/// When the event happened, which is not when the mail is read.
fn date(event: &Event) -> String {
    event.timestamp.timestamp().strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::EventType;

    fn sample(event_type: EventType) -> Event {
        let path = format!("{}/../../events/samples/{event_type}.json", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).expect("the committed sample");
        Event::decode(&bytes).expect("a valid sample")
    }

    #[test]
    fn the_mail_of_a_new_order_says_what_was_ordered_and_when() {
        let mail = mail(&sample(EventType::OrderCreated)).expect("a mail");
        assert_eq!(mail.to.as_str(), "test@example.com");
        assert_eq!(
            mail.subject,
            "Order #3b241101-e2bb-4255-8caf-4136c566a962 Created Successfully"
        );
        assert_eq!(
            mail.text,
            "Thank you for your order.\n\n\
             Order ID: 3b241101-e2bb-4255-8caf-4136c566a962\n\
             Product: Test Laptop\n\
             Quantity: 5\n\
             Total Price: 5000.00 UAH\n\
             Date: 2025-11-20 10:35:00 UTC"
        );
    }

    #[test]
    fn a_mail_that_was_overtaken_says_so_and_is_the_same_otherwise() {
        let mail = mail(&sample(EventType::OrderCreated)).expect("a mail");
        let late = mail.clone().overtaken();
        assert!(late.text.starts_with("This message is late"), "{}", late.text);
        assert!(late.text.ends_with(&mail.text) && late.subject == mail.subject);
    }

    #[test]
    fn a_rejection_says_why() {
        let mail = mail(&sample(EventType::OrderRejected)).expect("a mail");
        assert!(mail.text.contains("\nReason: Out of stock: Test Laptop\n"), "{}", mail.text);
    }

    #[test]
    fn what_becomes_of_an_order_is_mailed_and_what_services_tell_each_other_is_not() {
        for event_type in EventType::ALL {
            let mailed = mail(&sample(event_type)).is_some();
            let is_customers = event_type.as_str().starts_with("Order")
                && event_type != EventType::OrderPaymentOverdue;
            assert_eq!(mailed, is_customers, "{event_type}");
        }
    }
}
