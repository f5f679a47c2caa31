//! Payment by Stripe, as far as it is there: Stripe's side. No function calls it yet, and no order can be paid.
//!
//! In: orders that are to be paid, requests that claim to be Stripe's. Out: calls of Stripe's API, and what they mean. Guarantees: an
//! amount is exact or refused; a request is Stripe's by its signature alone; an outcome that is not known is never taken for a failure, and
//! a request whose outcome is not known is not made under a second key before Stripe's own list lacks it.

pub mod amount;
pub mod rules;
pub mod stripe;
pub mod webhook;
