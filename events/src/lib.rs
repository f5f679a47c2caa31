//! The contract between the services: what an event is, which values it is made of, and its JSON form.
//!
//! In: the bytes of one event, from an SQS body or the event log. Out: an [`Event`] whose every field has
//! been checked, or a [`DecodeError`] that says which field is wrong. The JSON Schemas in `schemas/` are
//! generated from these types, and the events in `samples/` validate against them.
//!
//! Guarantees: code and schema give the same verdict, but for what a schema cannot state, which is listed in
//! `payload.rs` and in [`Stamp`]; what decodes here needs no second check; what is written here decodes again; money is
//! never a binary float, neither in memory nor on the way through JSON.

#![warn(missing_docs)]

mod envelope;
mod payload;
mod priority;
mod schema;
mod value;

pub use envelope::{Body, DecodeError, Event, EventType, MAJOR_VERSION, VERSION};
pub use payload::{
    ItemsMerged, LINES_MAX, Line, Order, Payment, RejectedOrder, RejectedStock, ShortLine, Stock,
    StockLine, merge,
};
pub use priority::Priority;
pub use schema::{schema, schemas_within};
pub use value::{
    CorrelationId, Currency, Email, Id, InvalidValue, MINOR_UNITS_MAX, MaskedEmail, Money, Name,
    OrderId, ProductId, Quantity, Reason, Stamp, WholeNumber, minor_units,
};
