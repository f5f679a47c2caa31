//! The live status of orders, for whoever has an order's token: over a WebSocket, which API Gateway holds.
//!
//! In: what API Gateway says of connections and their messages (push-api), and the events that change an order's status
//! (push-consumer). Out: messages on connections. Guarantees: who watches an order is sent its state first, and each change
//! after it at least once; each message has the order's version, so that a client drops what it knows already; nothing of the
//! shop changes here, so that whatever is lost or repeated costs a message and no order. The protocol is in
//! docs/live-updates.md.

pub mod connections;
pub mod consumer;
pub mod gateway;
pub mod protocol;
pub mod websocket;
pub mod wiring;
