//! What SES does by AWS's pages, one rule a test, in virtual time and through the SDK's client.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_ses::{
    Client,
    config::retry::RetryConfig,
    error::ProvideErrorMetadata,
    types::{Body, Content, Destination, Message},
};
use simulated_aws::{Faults, MailSettings, SimulatedAws, loader};
use tokio::time::sleep;

const FROM: &str = "shop@example.com";

async fn setting(settings: MailSettings) -> (SimulatedAws, Client) {
    let aws = SimulatedAws::new(1, Faults::default());
    aws.set_mail_settings(settings);
    let config = aws.environment().config(&loader().load().await);
    // As notification-consumer has it: the SDK would try a throttled call again by itself.
    let config = aws_sdk_ses::config::Builder::from(&config);
    let client = Client::from_conf(config.retry_config(RetryConfig::disabled()).build());
    (aws, client)
}

/// Sends a mail; why it was refused, or `None` if it was accepted.
async fn send(client: &Client, from: &str, to: &str) -> Option<(String, String)> {
    let content = |text: &str| Content::builder().data(text).build().expect("a content");
    let message = Message::builder()
        .subject(content("subject"))
        .body(Body::builder().text(content("text")).build())
        .build();
    let to = Destination::builder().to_addresses(to).build();
    let sent = client.send_email().source(from).destination(to).message(message).send().await;
    let error = sent.err()?;
    Some((error.code()?.to_owned(), error.message().unwrap_or_default().to_owned()))
}

async fn code(client: &Client, from: &str, to: &str) -> Option<String> {
    send(client, from, to).await.map(|(code, _)| code)
}

#[tokio::test(start_paused = true)]
async fn a_mail_that_is_accepted_is_kept_with_its_words() {
    let (aws, client) = setting(MailSettings::default()).await;
    assert_eq!(send(&client, FROM, "a@example.com").await, None);
    let mail = aws.mails().pop().expect("a mail");
    assert_eq!((&*mail.to, &*mail.subject, &*mail.text), ("a@example.com", "subject", "text"));
}

#[tokio::test(start_paused = true)]
async fn a_mail_whose_answer_is_lost_was_sent() {
    let (aws, client) = setting(MailSettings::default()).await;
    aws.set_faults(Faults { lose: 1000, ..Faults::default() });
    let content = Content::builder().data("a").build().expect("a content");
    let body = Body::builder().text(content.clone()).build();
    let message = Message::builder().subject(content).body(body).build();
    let to = Destination::builder().to_addresses("a@example.com").build();
    let sent = client.send_email().source(FROM).destination(to).message(message).send().await;
    assert!(sent.is_err());
    assert!(!aws.mails().is_empty());
}

#[tokio::test(start_paused = true)]
async fn more_mails_in_a_second_than_the_account_may_send_are_throttled() {
    let settings = MailSettings { sends_per_second_max: Some(2), ..MailSettings::default() };
    let (aws, client) = setting(settings).await;
    for _ in 0..2 {
        assert_eq!(send(&client, FROM, "a@example.com").await, None);
    }
    let (code, message) = send(&client, FROM, "a@example.com").await.expect("refused");
    assert_eq!((&*code, &*message), ("Throttling", "Maximum sending rate exceeded."));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(send(&client, FROM, "a@example.com").await, None);
    assert_eq!(aws.mails().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn in_the_sandbox_mails_go_to_verified_addresses_only() {
    let verified = ["example.com", "a@example.org"].map(str::to_owned);
    let settings = MailSettings {
        verified: Some(BTreeSet::from(verified)),
        is_sandbox: true,
        ..MailSettings::default()
    };
    let (aws, client) = setting(settings.clone()).await;
    assert_eq!(send(&client, FROM, "a@example.org").await, None);
    let (code, message) = send(&client, FROM, "b@example.org").await.expect("refused");
    assert_eq!(code, "MessageRejected");
    assert!(message.contains("not verified") && message.contains("b@example.org"), "{message}");
    assert!(!message.contains(FROM), "{message}");
    aws.set_mail_settings(MailSettings { is_sandbox: false, ..settings });
    assert_eq!(send(&client, FROM, "b@example.org").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_is_not_verified_is_refused_outside_the_sandbox_too() {
    let verified = Some(BTreeSet::from(["other@example.com".to_owned()]));
    let (aws, client) = setting(MailSettings { verified, ..MailSettings::default() }).await;
    assert_eq!(code(&client, FROM, "a@example.com").await.as_deref(), Some("MessageRejected"));
    assert!(aws.mails().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_paused_or_without_its_dns_record_sends_nothing() {
    for (settings, refusal) in [
        (
            MailSettings { is_sending_paused: true, ..MailSettings::default() },
            "AccountSendingPausedException",
        ),
        (
            MailSettings { is_mail_from_domain_broken: true, ..MailSettings::default() },
            "MailFromDomainNotVerifiedException",
        ),
    ] {
        let (aws, client) = setting(settings).await;
        assert_eq!(code(&client, FROM, "a@example.com").await.as_deref(), Some(refusal));
        assert!(aws.mails().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_address_is_an_invalid_parameter() {
    let (aws, client) = setting(MailSettings::default()).await;
    for address in ["a", "a@", "@example.com", "a@exa mple.com", "a b@example.com", "ж@example.com"]
    {
        let refused = code(&client, FROM, address).await;
        assert_eq!(refused.as_deref(), Some("InvalidParameterValue"), "{address}");
    }
    assert!(aws.mails().is_empty());
    assert_eq!(send(&client, "Shop <shop@example.com>", "a+b@xn--e1afmkfd.example").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_seed_refuses_mails_that_nothing_is_wrong_with_for_each_reason_that_passes() {
    let (aws, client) = setting(MailSettings::default()).await;
    aws.set_faults(Faults { mail: 1000, ..Faults::default() });
    let mut codes = BTreeSet::new();
    for _ in 0..30 {
        codes.extend(code(&client, FROM, "a@example.com").await);
    }
    let expected = [
        "AccountSendingPausedException",
        "MailFromDomainNotVerifiedException",
        "MessageRejected",
        "Throttling",
    ];
    assert_eq!(codes, BTreeSet::from(expected.map(str::to_owned)));
    assert!(aws.mails().is_empty());
}
