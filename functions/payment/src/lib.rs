//! The payment service: has orders paid by Stripe, or ends their payment.
//!
//! In: the events of orders that await payment, are cancelled or overdue (payment-consumer); the customer's calls and Stripe's webhooks
//! (payment-api). Out: what became of a payment. Guarantees: an amount is exact or refused; a request is Stripe's by its signature alone;
//! an outcome that is not known is never taken for a failure, and a request whose outcome is not known is not made under a second key
//! before Stripe's own list lacks it; a payment ends paid, or so that it can never be paid; what a cancelled order has paid is given back
//! once.

pub mod consumer;
pub mod http;
pub mod openapi;
mod outcomes;
pub mod payments;
pub mod rules;
pub mod secrets;
pub mod stripe;
pub mod webhook;
pub mod wiring;
