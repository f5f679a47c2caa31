//! localstripe, a server of Stripe's protocol that others have written, as a customer's browser and a shop's owner see it.

use anyhow::{Context, Result};
use reqwest::StatusCode;
use serde_json::Value;

/// A secret key: it takes any of more than five characters.
pub const KEY: &str = "sk_test_key";
/// A card that is charged.
pub const GOOD_CARD: &str = "4242424242424242";
/// A card that can be attached, and is declined when it is charged.
pub const DECLINED_CARD: &str = "4000000000000341";

/// See the module.
#[derive(Debug, Clone)]
pub struct LocalStripe {
    pub endpoint: String,
}

impl LocalStripe {
    /// Sends a form, as Stripe's API takes it.
    ///
    /// # Errors
    /// No answer came.
    pub async fn send_form(&self, path: &str, form: &[(&str, &str)]) -> Result<reqwest::Response> {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let request = http.post(format!("{}{path}", self.endpoint)).bearer_auth(KEY);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        Ok(request.body(form).send().await?)
    }

    /// What the customer's browser does by Stripe's JavaScript: pays with this card. Returns the status of the answer.
    ///
    /// # Errors
    /// No answer came.
    pub async fn pay(&self, payment_intent: &str, card: &str) -> Result<StatusCode> {
        let call = async |path: &str, form: &[(&str, &str)]| -> Result<(StatusCode, Value)> {
            let answer = self.send_form(path, form).await?;
            let status = answer.status();
            Ok((status, serde_json::from_str(&answer.text().await?)?))
        };
        let card = [
            ("type", "card"),
            ("card[number]", card),
            ("card[exp_month]", "12"),
            ("card[exp_year]", "2040"),
            ("card[cvc]", "123"),
        ];
        let (_, method) = call("/v1/payment_methods", &card).await?;
        let method = method["id"].as_str().context("a payment method")?;
        let path = format!("/v1/payment_intents/{payment_intent}");
        call(&path, &[("payment_method", method)]).await?;
        Ok(call(&format!("{path}/confirm"), &[]).await?.0)
    }

    /// Has it send webhooks there, signed with this secret, under this name: again, it sends them elsewhere.
    ///
    /// # Errors
    /// It refuses.
    pub async fn send_webhooks_to(
        &self,
        name: &str,
        url: &str,
        secret: &str,
        event_types: &[&str],
    ) -> Result<()> {
        let events = event_types.iter().map(|event_type| ("events[]", *event_type));
        let form: Vec<_> = [("url", url), ("secret", secret)].into_iter().chain(events).collect();
        self.send_form(&format!("/_config/webhooks/{name}"), &form).await?.error_for_status()?;
        Ok(())
    }
}
