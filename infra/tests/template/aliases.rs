//! The alias of every function, by which it is invoked, and how a new version gets the invocations.

use serde_json::{Value, json};

use crate::{
    functions::binary,
    read::{FUNCTION, Template, list, target, within},
};

/// What the command, the tests and whoever rolls back know it by, too.
const ALIAS: &str = "live";

#[test]
fn every_function_has_published_versions_and_an_alias_that_points_to_one() {
    let template = Template::read();
    for (name, function) in template.all(FUNCTION) {
        assert_eq!(function["AutoPublishAlias"], ALIAS, "{name}");
        // Written by whoever deploys, who knows the values of the parameters.
        assert_eq!(function["AutoPublishCodeSha256"], Value::Null, "{name}");
    }
}

/// The function itself is what was deployed last, and not what is in force: after a rollback, or while a new version is tried.
#[test]
fn nothing_in_the_stack_names_a_function_but_by_its_alias() {
    let template = Template::read();
    let is_function = |name: &str| !template.one(FUNCTION, name).is_null();
    let mut by_alias = 0;
    for (name, resource) in template.0["Resources"].as_object().expect("resources") {
        for fields in within(resource).into_iter().filter_map(Value::as_object) {
            for (function, argument) in fields {
                let text = argument.as_str().unwrap_or_default();
                let named: Vec<&str> = match function.as_str() {
                    "Ref" | "Fn::GetAtt" => vec![text],
                    "Fn::Sub" => {
                        text.split("${").skip(1).filter_map(|rest| rest.split('}').next()).collect()
                    }
                    _ => Vec::new(),
                };
                for one in named {
                    let (first, rest) = one.split_once('.').unwrap_or((one, ""));
                    if is_function(first) {
                        assert_eq!(rest, "Alias", "{name} names {one}");
                        by_alias += 1;
                    }
                }
            }
        }
    }
    assert!(by_alias >= 2, "this test has lost sight of what is not written by SAM");
    // What SAM writes of a function's events goes by the alias; a schedule beside it might name a function by its text.
    for kind in ["AWS::Events::Rule", "AWS::Scheduler::Schedule"] {
        assert_eq!(template.all(kind).count(), 0, "{kind}: whose function?");
    }
}

#[test]
fn a_new_version_gets_all_invocations_at_once_unless_it_is_asked_for() {
    let template = Template::read();
    let (all, parameters) =
        (&template.0["Globals"]["Function"]["DeploymentPreference"], &template.0["Parameters"]);
    assert_eq!(all["Enabled"], json!({ "Ref": "SafeRollout" }));
    assert_eq!(all["Type"], json!({ "Ref": "SafeRolloutType" }));
    // A group of a function that is not there would be deployed otherwise.
    assert_eq!(all["PassthroughCondition"], true);
    assert_eq!(parameters["SafeRollout"]["Default"], "false");
    let rule = &template.0["Rules"]["SafeRolloutNeedsItsAlarms"];
    let is_asked_for = json!({ "Fn::Equals": [{ "Ref": "SafeRollout" }, "true"] });
    assert_eq!(rule["RuleCondition"], is_asked_for);
    let has_alarms = json!({ "Fn::Equals": [{ "Ref": "Observability" }, "full"] });
    assert_eq!(rule["Assertions"][0]["Assert"], has_alarms);
}

/// One of a DLQ would stay raised until somebody redrives, and stop the deployment of what mends it.
#[test]
fn a_new_version_is_taken_back_by_alarms_on_the_errors_of_its_function_and_no_others() {
    let template = Template::read();
    for (name, function) in template.all(FUNCTION) {
        let branches = &function["DeploymentPreference"]["Alarms"]["Fn::If"];
        let alarms: Vec<&str> = list(&branches[1]).into_iter().map(target).collect();
        assert!(branches[0].as_str().is_some_and(|condition| condition.starts_with("Full")));
        assert_eq!(branches[2], json!([]), "{name}");
        let dimension = json!({ "Fn::Sub": format!("${{AWS::StackName}}-{}", binary(function)) });
        let mut of_function = 0;
        for alarm in alarms {
            let is_on_errors = alarm.ends_with("ErrorsAlarm") || alarm == "AnalyticsFunctionsAlarm";
            assert!(is_on_errors, "{name} is taken back by {alarm}");
            let properties = template.one("AWS::CloudWatch::Alarm", alarm);
            of_function += usize::from(within(properties).contains(&&dimension));
        }
        assert!(of_function > 0, "no alarm of {name} counts its errors");
    }
}
