//! Which requests are Stripe's, and what they say.
//!
//! In: the header `Stripe-Signature`, the raw bytes of the body, the secrets of the endpoint, the time. Out: the event, or why it is not
//! taken for Stripe's. Guarantees: nothing of the body is read before its signature is right; signatures are compared in constant time;
//! an old request is refused, so that one that somebody has overheard cannot be sent again next week.
//! <https://docs.stripe.com/webhooks#verify-manually>

use std::time::Duration;

use jiff::Timestamp;
use ring::hmac;
use serde_json::Value;

/// Maximum difference between the time that Stripe has signed and ours: what Stripe's own libraries take.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// Maximum number of signatures of one request that are compared. Stripe sends one for each secret that is valid, of which there are two
/// while one is replaced.
const SIGNATURES_MAX: usize = 8;

/// The secrets of the endpoint: while one is replaced, what either has signed is right.
#[derive(Debug, Clone)]
pub struct WebhookSecrets(Vec<hmac::Key>);

/// Why a request is not taken for Stripe's. Sending it again does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStripe {
    /// There is no such header, or it cannot be read.
    #[error("the header Stripe-Signature is missing, or is not of the form t=…,v1=…")]
    NoSignature,
    /// Nobody who knows a secret has signed this.
    #[error(
        "the signature is not right: it was signed with another secret, or the body has changed on the way"
    )]
    WrongSignature,
    /// The signature is right, but not from now.
    #[error("the signature is older or newer than 5 minutes")]
    NotNow,
    /// Stripe has signed it, and it is no event.
    #[error("the body is not an event of Stripe's: {0}")]
    NoEvent(&'static str),
}

/// An event of Stripe's, as far as it matters: that something has happened to this object. What has become of the object is asked for, because
/// events come in any order. <https://docs.stripe.com/webhooks#event-ordering>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripeEvent {
    /// By which Stripe's repetitions of it are recognised.
    pub id: String,
    /// Its type, such as `payment_intent.succeeded`.
    pub event_type: String,
    /// The PaymentIntent that it is about, or `None` if it is about something else.
    pub payment_intent: Option<String>,
}

impl WebhookSecrets {
    /// Of one secret, or of several. Empty ones are left out: an HMAC with an empty key is one that anybody can make.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| !secret.is_empty());
        Self(secrets.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())).collect())
    }

    /// Reads an event, if Stripe has signed it.
    ///
    /// # Errors
    /// Why it is not taken for Stripe's.
    pub fn read(
        &self,
        signature: Option<&str>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<StripeEvent, NotStripe> {
        let (signed_at, tags) =
            signature.and_then(parse_signature).ok_or(NotStripe::NoSignature)?;
        let mut signed = format!("{signed_at}.").into_bytes();
        signed.extend_from_slice(body);
        let is_signed =
            |tag: &Vec<u8>| self.0.iter().any(|secret| hmac::verify(secret, &signed, tag).is_ok());
        if !tags.iter().any(is_signed) {
            return Err(NotStripe::WrongSignature);
        }
        // After the signature: who has none learns nothing about our clock.
        if signed_at.abs_diff(now.as_second()) > TOLERANCE.as_secs() {
            return Err(NotStripe::NotNow);
        }
        parse_event(body)
    }
}

/// The time and the signatures of scheme `v1`, in seconds since 1970 and as bytes. Other schemes are ignored, as Stripe advises
/// against downgrades.
fn parse_signature(header: &str) -> Option<(i64, Vec<Vec<u8>>)> {
    let fields: Vec<(&str, &str)> =
        header.split(',').filter_map(|field| field.trim().split_once('=')).collect();
    let (_, signed_at) = fields.iter().find(|(name, _)| *name == "t")?;
    // As it was signed: "+1" and "01" are other texts than 1.
    let signed_at = signed_at.parse().ok().filter(|at: &i64| at.to_string() == *signed_at)?;
    let tags = fields.iter().filter(|(name, _)| *name == "v1");
    let tags: Vec<_> = tags.filter_map(|(_, tag)| from_hex(tag)).take(SIGNATURES_MAX).collect();
    (!tags.is_empty()).then_some((signed_at, tags))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// Reads an event, of which the signature is right.
///
/// # Errors
/// What it lacks.
pub fn parse_event(body: &[u8]) -> Result<StripeEvent, NotStripe> {
    const WHAT: &str = "it has no id, type and data.object";
    let event: Value = serde_json::from_slice(body).map_err(|_| NotStripe::NoEvent(WHAT))?;
    let text = |name: &str| event[name].as_str().ok_or(NotStripe::NoEvent(WHAT));
    let (id, event_type) = (text("id")?, text("type")?);
    // A PaymentIntent, or something that hangs on one: a charge, a refund.
    let object = event["data"]["object"].as_object().ok_or(NotStripe::NoEvent(WHAT))?;
    if !id.starts_with("evt_") {
        return Err(NotStripe::NoEvent("its id does not begin with evt_"));
    }
    let field = |name: &str| object.get(name)?.as_str();
    let is_intent = field("object") == Some("payment_intent");
    let payment_intent = field(if is_intent { "id" } else { "payment_intent" });
    Ok(StripeEvent {
        id: id.to_owned(),
        event_type: event_type.to_owned(),
        payment_intent: payment_intent.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "whsec_test_secret";
    const NOW: i64 = 1_800_000_000;
    const BODY: &[u8] =
        br#"{"id":"evt_1","object":"event","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","object":"payment_intent"}}}"#;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).expect("a moment")
    }

    fn sign(secret: &str, at: i64, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, &[format!("{at}.").as_bytes(), body].concat());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn header(secret: &str, at: i64, body: &[u8]) -> String {
        format!("t={at},v1={}", sign(secret, at, body))
    }

    fn read(header: &str) -> Result<StripeEvent, NotStripe> {
        WebhookSecrets::new([SECRET]).read(Some(header), BODY, now())
    }

    fn event() -> StripeEvent {
        StripeEvent {
            id: "evt_1".into(),
            event_type: "payment_intent.succeeded".into(),
            payment_intent: Some("pi_1".into()),
        }
    }

    #[test]
    fn what_stripe_has_signed_is_read() {
        assert_eq!(read(&header(SECRET, NOW, BODY)), Ok(event()));
        // Computed by Python: hmac.new(b"whsec_test_secret", b"1800000000.{}", "sha256").
        let known = "c54fd4ffd4dd216571ba5d99b08a3cf927757e386c311b181f85788c2178e368";
        assert_eq!(sign(SECRET, NOW, b"{}"), known);
    }

    #[test]
    fn what_somebody_else_has_signed_or_changed_is_refused() {
        for wrong in [
            header("another", NOW, BODY),
            header(SECRET, NOW, b"{}"),
            // The signature of one second is not that of the next.
            format!("t={},v1={}", NOW + 1, sign(SECRET, NOW, BODY)),
            format!("t={NOW},v1={}", &sign(SECRET, NOW, BODY)[..62]),
        ] {
            assert_eq!(read(&wrong), Err(NotStripe::WrongSignature), "{wrong}");
        }
    }

    #[test]
    fn a_header_that_cannot_be_read_is_refused() {
        let tag = sign(SECRET, NOW, BODY);
        for wrong in [
            String::new(),
            format!("v1={tag}"),
            format!("t={NOW}"),
            // An older scheme proves nothing, even if it is right.
            format!("t={NOW},v0={tag}"),
            format!("t=+{NOW},v1={tag}"),
            format!("t=now,v1={tag}"),
            format!("t={NOW},v1=ключ"),
        ] {
            assert_eq!(read(&wrong), Err(NotStripe::NoSignature), "{wrong}");
        }
        let secrets = WebhookSecrets::new([SECRET]);
        assert_eq!(secrets.read(None, BODY, now()), Err(NotStripe::NoSignature));
    }

    #[test]
    fn a_signature_is_right_for_five_minutes() {
        for (at, is_taken) in
            [(NOW - 300, true), (NOW + 300, true), (NOW - 301, false), (NOW + 301, false)]
        {
            let result = read(&header(SECRET, at, BODY));
            assert_eq!(result, if is_taken { Ok(event()) } else { Err(NotStripe::NotNow) }, "{at}");
        }
    }

    #[test]
    fn while_a_secret_is_replaced_either_is_taken() {
        let both = format!("{},v1={}", header("old", NOW, BODY), sign("new", NOW, BODY));
        for secrets in [vec!["old"], vec!["new"], vec!["old", "new"], vec!["third", "new"]] {
            let secrets = WebhookSecrets::new(secrets);
            assert_eq!(secrets.read(Some(&both), BODY, now()), Ok(event()));
        }
        let one = header("old", NOW, BODY);
        let secrets = WebhookSecrets::new(["new", "old"]);
        assert_eq!(secrets.read(Some(&one), BODY, now()), Ok(event()));
    }

    #[test]
    fn an_empty_secret_signs_nothing() {
        let secrets = WebhookSecrets::new(["", SECRET]);
        let signed = header("", NOW, BODY);
        assert_eq!(secrets.read(Some(&signed), BODY, now()), Err(NotStripe::WrongSignature));
        let nobody = WebhookSecrets::new([]);
        assert_eq!(nobody.read(Some(&signed), BODY, now()), Err(NotStripe::WrongSignature));
    }

    #[test]
    fn an_event_about_a_refund_names_the_payment_that_it_is_of() {
        let read = |body: &str| {
            let signed = header(SECRET, NOW, body.as_bytes());
            WebhookSecrets::new([SECRET]).read(Some(&signed), body.as_bytes(), now())
        };
        let refund = r#"{"id":"evt_2","type":"refund.updated","data":{"object":{"id":"re_1","object":"refund","payment_intent":"pi_1"}}}"#;
        assert_eq!(read(refund).map(|event| event.payment_intent), Ok(Some("pi_1".into())));
        let other = r#"{"id":"evt_3","type":"customer.created","data":{"object":{"id":"cus_1","object":"customer"}}}"#;
        assert_eq!(read(other).map(|event| event.payment_intent), Ok(None));
        for body in ["", "[]", r#"{"id":"evt_4"}"#, r#"{"id":"x","type":"t","data":{"object":{}}}"#]
        {
            assert!(matches!(read(body), Err(NotStripe::NoEvent(_))), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_header_and_no_body_is_too_odd(header in ".{0,200}", body in prop::collection::vec(any::<u8>(), 0..200)) {
            let secrets = WebhookSecrets::new([SECRET]);
            prop_assert!(secrets.read(Some(&header), &body, now()).is_err());
        }
    }
}
