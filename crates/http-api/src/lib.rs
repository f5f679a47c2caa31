//! What the HTTP functions share: reading a request so that every wrong field is named at once, answering
//! with problem+json (RFC 9457), and running an axum router behind API Gateway.
//!
//! In: API Gateway events of both shapes (REST and HTTP API). Out: JSON answers. Guarantees: bad input is a
//! 4xx that says what to do; a panic is a 500 of its request only; each request is logged once, without its
//! body; a request that came in by the catch-all route reaches no route that the gateway protects. What a request leaves
//! until after its answer ([`AfterAnswer`]) takes no time off it.

mod after_answer;
mod client_network;
mod cors;
mod cursor;
mod etag;
mod fields;
mod lambda_extension;
mod media_type;
pub mod openapi;
mod problem;
mod query;
mod request_key;
mod routes;
mod serve;

pub use after_answer::{AFTER_ANSWER_MAX, AfterAnswer, DeferredWork};
pub use client_network::ClientNetwork;
pub use cors::{CorsOrigin, EXPOSED_HEADERS};
pub use cursor::Cursor;
pub use etag::{IfMatch, has_current, if_match};
pub use fields::{BODY_BYTES_MAX, Fields};
pub use problem::{FieldError, Problem, ProblemType};
pub use query::{PAGE_DEFAULT, PAGE_MAX, QueryFields};
pub use request_key::request_key;
pub use routes::{ROUTES, unrouted};
pub use serve::{AnswerBy, Caller, app, serve, serve_and_finish};
