//! What holds for the template as a whole.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::read::{FUNCTION, QUEUE, TABLE, TOPIC, Template, list, target, within};

#[test]
fn nothing_is_of_one_account_region_or_partition() {
    let template = Template::read();
    for text in within(&template.0).into_iter().filter_map(|value| value.as_str()) {
        let words: Vec<_> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
        let account =
            |word: &&str| word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_digit());
        assert!(!words.iter().any(account), "an account: {text}");
        // As in eu-central-1.
        let region = |word: &&str| {
            let parts: Vec<_> = word.split('-').collect();
            parts.len() >= 3
                && parts[0].len() == 2
                && parts.last().is_some_and(|n| n.parse::<u8>().is_ok())
        };
        assert!(!words.iter().any(region), "a region: {text}");
        assert!(!text.contains("arn:aws"), "a partition: {text}");
    }
}

/// The names that a `Ref`, `Fn::GetAtt`, `Fn::Sub`, `Fn::If` or `Condition` uses, each with what it has to name.
fn references(value: &Value) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for fields in within(value).into_iter().filter_map(Value::as_object) {
        for (function, argument) in fields {
            let text = argument.as_str().unwrap_or_default();
            match function.as_str() {
                // SAM's own name of a function's alias has a point in it.
                "Ref" => found.push(("value", text.split('.').next().unwrap_or(text).to_owned())),
                "Fn::GetAtt" => {
                    found.push(("resource", text.split('.').next().unwrap_or(text).to_owned()))
                }
                "Fn::Sub" => {
                    let names = text.split("${").skip(1).filter_map(|rest| rest.split('}').next());
                    found.extend(
                        names.map(|name| {
                            ("value", name.split('.').next().unwrap_or(name).to_owned())
                        }),
                    );
                }
                "Fn::If" => {
                    let condition = argument[0].as_str().unwrap_or_default();
                    found.push(("condition", condition.to_owned()));
                }
                "Fn::Condition" => found.push(("condition", text.to_owned())),
                _ => {}
            }
        }
    }
    found
}

/// cfn-lint does not look into a SAM function's environment; a deployment does, after some minutes.
#[test]
fn every_reference_names_something_that_is_there_and_every_parameter_is_used() {
    let template = Template::read();
    let names = |section: &str| -> BTreeSet<String> {
        template.0[section].as_object().expect(section).keys().cloned().collect()
    };
    let (parameters, resources, conditions) =
        (names("Parameters"), names("Resources"), names("Conditions"));
    let mut used = BTreeSet::new();
    for section in ["Globals", "Conditions", "Resources", "Outputs"] {
        for (kind, name) in references(&template.0[section]) {
            let is_there = match kind {
                "condition" => conditions.contains(&name),
                "resource" => resources.contains(&name),
                _ => {
                    name.starts_with("AWS::")
                        || parameters.contains(&name)
                        || resources.contains(&name)
                }
            };
            assert!(is_there, "no {kind} is called {name}");
            used.insert(name);
        }
    }
    assert!(used.len() > 60, "this test has lost sight of the references");
    for parameter in &parameters {
        assert!(used.contains(parameter), "{parameter} is used nowhere");
    }
}

/// Each condition that a resource or an output is under, from `Condition` and from the `Fn::If`s around a reference; what is
/// referred to may be there only under one of these.
fn check_conditions(template: &Template, value: &Value, under: &[&str], place: &str) {
    let condition_of = |name: &str| template.0["Resources"][name]["Condition"].as_str();
    let check = |name: &str| {
        if let Some(condition) = condition_of(name.split('.').next().unwrap_or(name)) {
            assert!(under.contains(&condition), "{place} names {name}, which may not be there");
        }
    };
    match value {
        Value::Array(values) => {
            values.iter().for_each(|value| check_conditions(template, value, under, place));
        }
        Value::Object(fields) => {
            for (function, argument) in fields {
                let text = argument.as_str().unwrap_or_default();
                match function.as_str() {
                    "Fn::If" => {
                        let condition = argument[0].as_str().unwrap_or_default();
                        let met = &template.0["Conditions"][condition]["Fn::And"];
                        let met = list(met).into_iter().filter_map(|c| c["Fn::Condition"].as_str());
                        let met: Vec<&str> = met.chain([condition]).collect();
                        let then = [under, &met].concat();
                        check_conditions(template, &argument[1], &then, place);
                        check_conditions(template, &argument[2], under, place);
                        continue;
                    }
                    "Ref" | "Fn::GetAtt" => check(text),
                    "Fn::Sub" => {
                        let names = text.split("${").skip(1);
                        names.filter_map(|rest| rest.split('}').next()).for_each(check);
                    }
                    "DependsOn" => {
                        list(argument).into_iter().filter_map(Value::as_str).for_each(check)
                    }
                    _ => {}
                }
                check_conditions(template, argument, under, place);
            }
        }
        _ => {}
    }
}

/// CloudFormation refuses the whole template otherwise, and only where the condition is not met.
#[test]
fn what_is_there_under_a_condition_is_named_only_under_the_same() {
    let template = Template::read();
    let mut conditional = 0;
    for section in ["Resources", "Outputs"] {
        for (name, one) in template.0[section].as_object().expect(section) {
            let condition = one["Condition"].as_str();
            conditional += usize::from(condition.is_some());
            check_conditions(&template, one, condition.as_slice(), name);
        }
    }
    assert!(conditional > 20, "this test has lost sight of the conditions");
}

/// The payment service is there as a whole or not at all, but for an alarm that an emulator refuses.
#[test]
fn nothing_of_the_payment_service_is_there_where_orders_are_not_paid() {
    let template = Template::read();
    for section in ["Resources", "Outputs"] {
        for (name, one) in template.0[section].as_object().expect(section) {
            let is_of_payments = name.starts_with("Payment");
            let condition = one["Condition"].as_str().unwrap_or_default();
            let conditions = ["PaymentsByStripe", "FullObservabilityOfPayments"];
            assert_eq!(conditions.contains(&condition), is_of_payments, "{name}");
        }
    }
}

#[test]
fn whoever_deploys_has_to_say_how_mails_leave() {
    let template = Template::read();
    let mode = &template.0["Parameters"]["MailMode"];
    assert!(mode.is_object() && mode["Default"].is_null());
}

#[test]
fn what_operators_and_tests_need_to_know_is_an_output() {
    let template = Template::read();
    let outputs: Vec<_> = template.0["Outputs"]
        .as_object()
        .expect("outputs")
        .values()
        .map(|output| target(&output["Value"]))
        .collect();
    for kind in ["AWS::Serverless::Api", FUNCTION, QUEUE, TABLE, TOPIC] {
        for (name, _) in template.all(kind) {
            assert!(outputs.contains(&name), "{name}");
        }
    }
}
