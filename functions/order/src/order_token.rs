//! The token of an order: who shows it is the one who was answered when the order was placed.
//!
//! In: the secrets of the stack, an order's id, what a caller sends as `Order-Token`. Out: the token, or whether it is right.
//! Guarantees: it is derived from the id, so that nothing is stored that could be stolen, and a repeated request is answered
//! with the same; it is compared in constant time; a secret shows up in no log.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use events::OrderId;
use http_api::Problem;
use lambda_http::http::{HeaderMap, HeaderName};
use ring::hmac;

/// By which a customer shows that the order is theirs.
pub const ORDER_TOKEN: HeaderName = HeaderName::from_static("order-token");
/// Minimum length of a secret, in characters: one that is generated has 64.
const SECRET_CHARACTERS_MIN: usize = 32;
/// What is signed besides the id, so that the same secret could sign something else without either passing for the other.
const PURPOSE: &str = "orderflow order-token 1 ";

/// Makes tokens of orders, and recognises them. While a secret is replaced, those of the previous one are still right.
#[derive(Debug, Clone)]
pub struct OrderTokens {
    current: hmac::Key,
    previous: hmac::Key,
}

/// Why a text is not taken for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret has at least {SECRET_CHARACTERS_MIN} characters")]
pub struct WeakSecret;

impl OrderTokens {
    /// Signs with `current`, and takes what `previous` has signed as well.
    ///
    /// # Errors
    /// One of them is short enough to be guessed.
    pub fn new(current: &str, previous: &str) -> Result<Self, WeakSecret> {
        Ok(Self { current: key(current)?, previous: key(previous)? })
    }

    /// The token of an order: 43 characters that need no escape in a URL, a header or JSON.
    #[must_use]
    pub fn token(&self, id: &OrderId) -> String {
        self.sign(&signed(id))
    }

    /// The HMAC of a text that begins with what it is for.
    pub(crate) fn sign(&self, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.current, text.as_bytes()))
    }

    /// Refuses who does not show the order's token.
    ///
    /// # Errors
    /// A 403 that says how to show it.
    pub fn require(&self, id: &OrderId, headers: &HeaderMap) -> Result<(), Problem> {
        let token = headers.get(ORDER_TOKEN).and_then(|token| token.to_str().ok());
        match token {
            Some(token) if self.is_token(id, token) => Ok(()),
            _ => Err(Problem::wrong_order_token(token.is_some())),
        }
    }

    /// Whether this is the token of this order. Compares in constant time.
    #[must_use]
    pub fn is_token(&self, id: &OrderId, token: &str) -> bool {
        let Ok(tag) = URL_SAFE_NO_PAD.decode(token) else { return false };
        [&self.current, &self.previous]
            .into_iter()
            .any(|key| hmac::verify(key, signed(id).as_bytes(), &tag).is_ok())
    }
}

fn key(secret: &str) -> Result<hmac::Key, WeakSecret> {
    if secret.chars().count() < SECRET_CHARACTERS_MIN {
        return Err(WeakSecret);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
}

fn signed(id: &OrderId) -> String {
    format!("{PURPOSE}{}", id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "first-secret-of-thirty-two-characters";
    const SECOND: &str = "second-secret-of-thirty-two-characters";

    fn tokens(current: &str, previous: &str) -> OrderTokens {
        OrderTokens::new(current, previous).expect("long enough")
    }

    fn id(id: &str) -> OrderId {
        id.parse().expect("an id")
    }

    #[test]
    fn a_token_is_that_of_its_order_and_of_no_other() {
        let tokens = tokens(FIRST, SECOND);
        let token = tokens.token(&id("one"));
        assert_eq!(token, tokens.token(&id("one")), "a repetition is answered with the same");
        assert!(tokens.is_token(&id("one"), &token));
        assert!(!tokens.is_token(&id("two"), &token));
        assert_eq!(token.len(), 43);
    }

    #[test]
    fn a_token_is_an_hmac_sha_256_of_the_id() {
        // Computed by Python: hmac.new(FIRST, b"orderflow order-token 1 one", "sha256"), in URL-safe base64.
        let token = tokens(FIRST, SECOND).token(&id("one"));
        assert_eq!(token, "m7zBztuwAYA2ufUYmOm6r0fg1c-JXjMII7CLlr9-vCU");
    }

    #[test]
    fn what_is_no_token_is_refused_whatever_it_is() {
        let tokens = tokens(FIRST, SECOND);
        let token = tokens.token(&id("one"));
        let (shorter, longer) = (&token[..42], format!("{token}A"));
        let other_case = token.to_ascii_lowercase();
        for wrong in ["", "=", "one", shorter, &longer, &other_case, "ключ", &"A".repeat(43)] {
            assert!(!tokens.is_token(&id("one"), wrong), "{wrong:?}");
        }
    }

    #[test]
    fn tokens_of_the_previous_secret_are_right_until_it_is_replaced_too() {
        let before = tokens(FIRST, SECOND).token(&id("one"));
        let rotated = tokens(SECOND, FIRST);
        assert_ne!(rotated.token(&id("one")), before);
        assert!(rotated.is_token(&id("one"), &before));
        let replaced = tokens(SECOND, "third-secret-of-thirty-two-characters");
        assert!(!replaced.is_token(&id("one"), &before));
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused_and_none_is_shown() {
        assert_eq!(OrderTokens::new("short", SECOND).err(), Some(WeakSecret));
        assert_eq!(OrderTokens::new(FIRST, "").err(), Some(WeakSecret));
        let shown = format!("{:?}", tokens(FIRST, SECOND));
        assert!(!shown.contains("secret-of"), "{shown}");
    }
}
