//! What holds for the template as a whole.

use crate::read::{FUNCTION, QUEUE, TABLE, TOPIC, Template, target, within};

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
