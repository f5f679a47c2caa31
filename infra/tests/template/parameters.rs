//! What whoever deploys may choose.

use serde_json::{Value, json};

use crate::read::Template;

/// A number that CloudFormation may have been given as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn parameters(template: &Template) -> impl Iterator<Item = (&String, &Value)> {
    template.0["Parameters"].as_object().expect("parameters").iter()
}

/// Whether CloudFormation would take this value: its patterns have to match the whole of it.
pub(crate) fn takes(parameter: &Value, value: &str) -> bool {
    let pattern = parameter["AllowedPattern"].as_str().expect("a pattern");
    let schema = json!({ "type": "string", "pattern": format!("^(?:{pattern})$") });
    jsonschema::is_valid(&schema, &json!(value))
}

#[test]
fn every_number_has_bounds_and_a_default_within_them() {
    let template = Template::read();
    let mut numbers = 0;
    for (name, parameter) in parameters(&template) {
        if parameter["Type"] != "Number" {
            continue;
        }
        numbers += 1;
        let default = number(&parameter["Default"]).unwrap_or_else(|| panic!("{name}'s default"));
        if let Some(allowed) = parameter["AllowedValues"].as_array() {
            assert!(allowed.iter().any(|value| number(value) == Some(default)), "{name}");
        } else {
            let bound = |which: &str| {
                number(&parameter[which]).unwrap_or_else(|| panic!("{name} has no {which}"))
            };
            assert!((bound("MinValue")..=bound("MaxValue")).contains(&default), "{name}");
        }
    }
    assert!(numbers >= 10, "this test has lost sight of the numbers");
}

#[test]
fn every_text_has_a_pattern_or_a_list_of_values() {
    let template = Template::read();
    for (name, parameter) in parameters(&template) {
        if parameter["Type"] != "String" {
            continue;
        }
        let default = &parameter["Default"];
        if let Some(allowed) = parameter["AllowedValues"].as_array() {
            assert!(default.is_null() || allowed.contains(default), "{name}");
        } else {
            assert!(!parameter["AllowedPattern"].is_null(), "{name} takes anything");
            assert!(default.as_str().is_none_or(|default| takes(parameter, default)), "{name}");
        }
    }
}

/// SQS hides a message for 12 hours at most, and refuses to hide it for longer.
#[test]
fn no_retry_waits_for_longer_than_sqs_can_hide_a_message() {
    let schedule = &Template::read().0["Parameters"]["RetrySchedule"];
    for good in ["1", "1,2,4,8", "30,60,300,900", "9999"] {
        assert!(takes(schedule, good), "{good}");
    }
    for bad in ["", ",", "1,", "1,,2", "-1", "1.5", "1, 2", "43201", "100000"] {
        assert!(!takes(schedule, bad), "{bad}");
    }
}

/// Without them no order would ever be paid; that would show with the first.
#[test]
fn payments_by_stripe_are_refused_without_stripes_keys() {
    let template = Template::read();
    let by_stripe = json!({ "Fn::Equals": [{ "Ref": "Payments" }, "stripe"] });
    let with_keys = json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": "StripeSecretArn" }, ""] }] });
    let rule = &template.0["Rules"]["PaymentsByStripeNeedItsSecret"];
    assert_eq!(rule["RuleCondition"], by_stripe);
    assert_eq!(rule["Assertions"][0]["Assert"], with_keys);
    let condition = json!({ "Fn::And": [by_stripe, with_keys] });
    assert_eq!(template.0["Conditions"]["PaymentsByStripe"], condition);
    let parameters = &template.0["Parameters"];
    assert_eq!(parameters["Payments"]["Default"], "none");
    let arn = &parameters["StripeSecretArn"];
    // As AWS and the emulators make them, and those that AWS calls by itself.
    for name in ["stripe-a1B2c3", "shop/stripe-AbCdEf", "rds!db-stripe-AbCdEf"] {
        let good = format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}");
        assert!(takes(arn, &good), "{good}");
    }
    for bad in [
        "stripe",
        "sk_live_abc",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:*",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:",
        "arn:aws:ssm:eu-west-1:123456789012:parameter/stripe",
    ] {
        assert!(!takes(arn, bad), "{bad}");
    }
}

/// A path is appended to it.
#[test]
fn stripe_is_named_by_an_address_without_a_path() {
    let endpoint = &Template::read().0["Parameters"]["StripeEndpoint"];
    for good in ["https://api.stripe.com", "http://127.0.0.1:8420", "http://[::1]:8420"] {
        assert!(takes(endpoint, good), "{good}");
    }
    for bad in ["", "api.stripe.com", "https://api.stripe.com/", "https://api.stripe.com/v1"] {
        assert!(!takes(endpoint, bad), "{bad}");
    }
}

/// A sender that is none would be found out by the first mail, hours after the deployment.
#[test]
fn the_sender_of_mails_is_an_address() {
    let from = &Template::read().0["Parameters"]["MailFrom"];
    for good in ["shop@example.com", "no-reply+orders@mail.shop-1.example.co.uk", "x@y.zz"] {
        assert!(takes(from, good), "{good}");
    }
    for bad in [
        "",
        "shop",
        "shop@",
        "@example.com",
        "shop@example",
        "a b@example.com",
        "a@b!c.com",
        "a@x_y.co",
        "a@!b.com",
        "a@x.c",
        "a@1.2.3.4",
        "a@-x.com",
        "Shop <shop@example.com>",
        "a@b.com,c@d.com",
    ] {
        assert!(!takes(from, bad), "{bad}");
    }
}
