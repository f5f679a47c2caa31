//! The routes of the API.

use std::collections::{BTreeMap, BTreeSet};

use order::http::WAIT_SECONDS_MAX;
use serde_json::{Value, json};

use crate::{
    functions::{binary, events},
    read::{FUNCTION, Template},
};

/// What only an administrator may call, once it exists.
const ADMINS: [(&str, &str); 18] = [
    ("GET", "/analytics/daily"),
    ("HEAD", "/analytics/daily"),
    ("GET", "/admin/products"),
    ("HEAD", "/admin/products"),
    ("GET", "/admin/products/{id}"),
    ("HEAD", "/admin/products/{id}"),
    ("HEAD", "/admin/orders/{id}"),
    ("HEAD", "/orders"),
    ("HEAD", "/orders/{id}/events"),
    ("POST", "/products"),
    ("PATCH", "/products/{id}"),
    ("POST", "/products/{id}/stock"),
    ("POST", "/orders/{id}/ship"),
    ("PUT", "/orders/{id}/tags"),
    ("GET", "/orders/{id}/events"),
    ("GET", "/orders"),
    ("GET", "/admin/orders/{id}"),
    ("POST", "/admin/orders/{id}/cancel"),
];
/// Where everything ends that has no route.
const CATCH_ALL: [&str; 2] = ["/", "/{proxy+}"];

struct Route {
    method: String,
    path: String,
    function: String,
    authorizer: Option<String>,
}

fn routes() -> Vec<Route> {
    let template = Template::read();
    // One would apply to every route that names none.
    assert!(template.one("AWS::Serverless::Api", "Api")["Auth"].is_null());
    let mut routes = Vec::new();
    for (_, function) in template.all(FUNCTION) {
        for event in events(function).filter(|event| event["Type"] == "Api") {
            let text = |name: &str| event["Properties"][name].as_str().map(str::to_owned);
            let auth = &event["Properties"]["Auth"];
            if !auth.is_null() {
                // Else SAM has the API call the function with the caller's own rights, or with a role's.
                assert_eq!(auth["InvokeRole"], "NONE", "{}", event["Properties"]);
            }
            routes.push(Route {
                method: text("Method").expect("a method"),
                path: text("Path").expect("a path"),
                function: binary(function).to_owned(),
                authorizer: auth["Authorizer"].as_str().map(str::to_owned),
            });
        }
    }
    assert!(routes.len() > 15, "this test has lost sight of the routes");
    routes
}

#[test]
fn an_administrators_routes_ask_for_a_signature_and_no_others_do() {
    for Route { method, path, authorizer, .. } in routes() {
        let admins = ADMINS.contains(&(&method, &path));
        assert_eq!(authorizer.as_deref(), admins.then_some("AWS_IAM"), "{method} {path}");
    }
}

#[test]
fn a_wrong_method_is_answered_from_the_same_routes_that_the_gateway_has() {
    let mut by_path: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for route in routes().into_iter().filter(|route| !CATCH_ALL.contains(&route.path.as_str())) {
        // Every path takes a preflight, which is no call of the API's.
        let methods = by_path.entry(route.path).or_default();
        if route.method != "OPTIONS" {
            methods.insert(route.method);
        }
    }
    let answered: BTreeMap<String, BTreeSet<String>> = http_api::ROUTES
        .into_iter()
        .map(|(path, methods)| (path.to_owned(), methods.split(", ").map(str::to_owned).collect()))
        .collect();
    assert_eq!(answered, by_path);
}

#[test]
fn a_call_that_no_route_takes_ends_at_order_api_whatever_its_method() {
    let routes = routes();
    for path in CATCH_ALL {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] {
            let found = routes.iter().find(|route| route.method == method && route.path == path);
            assert_eq!(
                found.map(|route| route.function.as_str()),
                Some("order-api"),
                "{method} {path}"
            );
        }
    }
}

/// The settings of one method, or of all of them.
fn method_settings<'a>(template: &'a Template, path: &str, method: &str) -> &'a Value {
    let settings = template.one("AWS::Serverless::Api", "Api")["MethodSettings"].as_array();
    let settings = settings.expect("settings of methods").iter();
    // Those of a path that is there under a condition are so, too.
    let mut settings = settings.map(|one| match &one["Fn::If"] {
        Value::Null => one,
        choice => &choice[1],
    });
    let found = settings.find(|one| one["ResourcePath"] == path && one["HttpMethod"] == method);
    found.unwrap_or_else(|| panic!("{method} {path} has no settings"))
}

/// As many executions as callers can hold at once who wait for an order: a whole burst, and all who come while those
/// wait.
#[test]
fn callers_who_wait_for_an_order_leave_executions_to_everybody_else() {
    let template = Template::read();
    // A path in which every slash but the first is written ~1: AWS knows it by no other name.
    let settings = method_settings(&template, "/~1orders~1{id}", "GET");
    let number = |value: &Value| template.value(value).as_u64().expect("a number");
    for (limit, parameter) in [
        ("ThrottlingRateLimit", "GetOrderThrottleRate"),
        ("ThrottlingBurstLimit", "GetOrderThrottleBurst"),
    ] {
        assert_eq!(settings[limit], json!({ "Ref": parameter }));
    }
    let (rate, burst) =
        (number(&settings["ThrottlingRateLimit"]), number(&settings["ThrottlingBurstLimit"]));
    let waiting = burst + rate * WAIT_SECONDS_MAX;
    // Of the 1,000 that an account has unless it asks for more.
    assert!(waiting <= 500, "half of an account's executions are not enough for {waiting}");
    let reserve = number(&json!({ "Ref": "OrderApiReserve" }));
    assert!(
        waiting < reserve,
        "{reserve} of order-api leave no order to be placed: {waiting} wait"
    );
    let parameters = &template.0["Parameters"];
    for parameter in ["GetOrderThrottleRate", "OrderApiReserve"] {
        let text = parameters[parameter]["Description"].as_str().unwrap_or_default();
        assert!(text.contains(&WAIT_SECONDS_MAX.to_string()), "{parameter}: {text}");
    }
}

/// One script that floods a method with a whole burst, on top of all who wait for an order, must not take what the consumers
/// need of the 1,000 executions that an account has unless it asks for more.
#[test]
fn a_burst_of_one_script_leaves_the_consumers_their_executions() {
    let template = Template::read();
    let number = |parameter: &str| {
        template.0["Parameters"][parameter]["Default"].as_u64().expect("a number")
    };
    let settings = method_settings(&template, "/*", "*");
    assert_eq!(settings["ThrottlingRateLimit"], json!({ "Ref": "ThrottleRate" }));
    assert_eq!(settings["ThrottlingBurstLimit"], json!({ "Ref": "ThrottleBurst" }));
    let waiting =
        number("GetOrderThrottleBurst") + number("GetOrderThrottleRate") * WAIT_SECONDS_MAX;
    let consumers = 2 * number("ConsumerConcurrency")
        + number("PaymentConsumerConcurrency")
        + number("NotificationConsumerReserve")
        + number("FeedbackConsumerReserve")
        + number("RelayReserve");
    let taken = waiting + number("ThrottleBurst") + consumers;
    assert!(taken < 1_000, "{taken} of the account's executions");
    // Whoever keeps to the rate holds no more than a burst does, even with answers of half a second.
    assert!(number("ThrottleRate") / 2 <= number("ThrottleBurst"));
}

/// What is before the API costs by the month, so it is there only for whoever asks for it; the emulators do not have it.
#[test]
fn a_web_acl_is_before_the_api_only_where_it_is_asked_for() {
    let template = Template::read();
    let waf = &template.0["Parameters"]["Waf"];
    assert_eq!(waf["Default"], "off");
    assert_eq!(waf["AllowedValues"], json!(["on", "off"]));
    let description = waf["Description"].as_str().unwrap_or_default();
    assert!(description.contains("USD a month"), "{description}");
    let condition = json!({ "Fn::Equals": [{ "Ref": "Waf" }, "on"] });
    assert_eq!(template.0["Conditions"]["BehindWaf"], condition);
    let resources = template.0["Resources"].as_object().expect("resources");
    let kind = |resource: &Value| resource["Type"].as_str().unwrap_or_default().to_owned();
    let of_waf: Vec<_> = resources.values().filter(|one| kind(one).contains("::WAF")).collect();
    assert_eq!(of_waf.len(), 2);
    for resource in of_waf {
        assert_eq!(resource["Condition"], "BehindWaf", "{}", kind(resource));
    }
    let association = template.one("AWS::WAFv2::WebACLAssociation", "WebAclAssociation");
    assert_eq!(association["WebACLArn"], json!({ "Fn::GetAtt": "WebAcl.Arn" }));
    let stage =
        "arn:${AWS::Partition}:apigateway:${AWS::Region}::/restapis/${Api}/stages/${Api.Stage}";
    assert_eq!(association["ResourceArn"], json!({ "Fn::Sub": stage }));
}

#[test]
fn the_web_acl_limits_each_address_and_refuses_no_body_for_its_length() {
    let template = Template::read();
    let acl = template.one("AWS::WAFv2::WebACL", "WebAcl");
    assert_eq!(acl["Scope"], "REGIONAL");
    assert_eq!(acl["DefaultAction"], json!({ "Allow": {} }));
    let rules = acl["Rules"].as_array().expect("rules");
    let rate = &rules[0];
    assert_eq!(rate["Action"], json!({ "Block": {} }));
    let limit = &rate["Statement"]["RateBasedStatement"];
    assert_eq!(limit["AggregateKeyType"], "IP");
    assert_eq!(limit["EvaluationWindowSec"], 300);
    assert_eq!(limit["Limit"], json!({ "Ref": "WafRequestsPer5Minutes" }));
    let common = &rules[1];
    // The group's own actions stand.
    assert_eq!(common["OverrideAction"], json!({ "None": {} }));
    let group = &common["Statement"]["ManagedRuleGroupStatement"];
    assert_eq!(group["Name"], "AWSManagedRulesCommonRuleSet");
    // It refuses what is longer than 8 KB; an order may be as long as `BODY_BYTES_MAX`.
    let counted = json!([{ "Name": "SizeRestrictions_BODY", "ActionToUse": { "Count": {} } }]);
    assert_eq!(group["RuleActionOverrides"], counted);
    // A sample is a request with its headers, and with the address of a customer in its path or its query.
    for one in rules.iter().chain([acl]) {
        assert_eq!(one["VisibilityConfig"]["SampledRequestsEnabled"], false, "{}", one["Name"]);
    }
}

/// Each of the gateway's own answers: how the API's body says it, and how the resource of MiniStack does.
const ANSWERS: [(&str, &str, &str); 4] = [
    ("MISSING_AUTHENTICATION_TOKEN", "AnswerUnsigned", "Unsigned"),
    ("THROTTLED", "AnswerThrottled", "Throttled"),
    ("DEFAULT_4XX", "AnswerRefused", "Refused"),
    ("DEFAULT_5XX", "AnswerUnavailable", "Unavailable"),
];

#[test]
fn the_gateways_own_answers_are_problems_that_nobody_stores_or_takes_for_something_else() {
    let template = Template::read();
    let answers = &template.one("AWS::Serverless::Api", "Api")["GatewayResponses"];
    assert_eq!(answers.as_object().expect("answers").len(), ANSWERS.len());
    for (kind, resource, problem) in ANSWERS {
        let headers = answers[kind]["ResponseParameters"]["Headers"].as_object().expect(kind);
        for (header, value) in [
            ("Content-Type", "'application/problem+json'"),
            ("Cache-Control", "'no-store'"),
            ("X-Content-Type-Options", "'nosniff'"),
        ] {
            assert_eq!(headers.get(header), Some(&json!(value)), "{header} of {kind}");
        }
        let if_open = |value: Value| json!({ "Fn::If": ["CallsFromPages", value, { "Ref": "AWS::NoValue" }] });
        let origin = if_open(json!({ "Fn::Sub": "'${CorsOrigin}'" }));
        assert_eq!(headers["Access-Control-Allow-Origin"], origin, "{kind}");
        let exposed = if_open(json!(format!("'{}'", http_api::EXPOSED_HEADERS)));
        assert_eq!(headers["Access-Control-Expose-Headers"], exposed, "{kind}");
        let body = json!({ "application/json": { "Fn::FindInMap": ["Problem", problem, "Body"] } });
        assert_eq!(answers[kind]["ResponseTemplates"], body, "{kind}");
        // MiniStack says the same.
        let twin = template.one("AWS::ApiGateway::GatewayResponse", resource);
        assert_eq!(twin["ResponseType"], kind);
        assert_eq!(twin["ResponseTemplates"], body, "{kind}");
        let prefixed = |name: &String| format!("gatewayresponse.header.{name}");
        let prefixed = headers.iter().map(|(name, value)| (prefixed(name), value.clone()));
        assert_eq!(twin["ResponseParameters"], prefixed.collect::<Value>(), "{kind}");
    }
}

/// The gateway does not tell the two apart.
#[test]
fn whoever_meets_no_method_or_signs_nothing_reads_both_causes() {
    let template = Template::read();
    let body = template.0["Mappings"]["Problem"]["Unsigned"]["Body"].as_str().expect("a body");
    let problem: Value = serde_json::from_str(body).expect("JSON");
    let title = problem["title"].as_str().unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or_default();
    for cause in ["no such call", "administrators"] {
        assert!(title.contains(cause), "{title}");
    }
    for cause in ["does not take this method", "not signed", "Signature Version 4"] {
        assert!(detail.contains(cause), "{detail}");
    }
}

/// While one of the secrets is replaced, the other signs, and what either has signed is taken.
#[test]
fn the_secrets_of_order_tokens_are_generated_and_change_places_by_a_parameter() {
    let template = Template::read();
    let variables = &template.one(FUNCTION, "OrderApi")["Environment"]["Variables"];
    let secret = |name: &str| {
        let reference = format!("{{{{resolve:secretsmanager:${{{name}}}}}}}");
        let generated = &template.one("AWS::SecretsManager::Secret", name)["GenerateSecretString"];
        assert_eq!(generated["PasswordLength"], 64, "{name}");
        // Whatever a text may have, the emulators' and AWS's included, is taken as it is.
        assert_eq!(generated["ExcludePunctuation"], true, "{name}");
        json!({ "Fn::Sub": reference })
    };
    let (first, second) = (secret("OrderTokenSecretFirst"), secret("OrderTokenSecretSecond"));
    for (variable, if_second, if_first) in
        [("ORDER_TOKEN_SECRET", &second, &first), ("ORDER_TOKEN_SECRET_PREVIOUS", &first, &second)]
    {
        let chosen = json!({ "Fn::If": ["SecondSecretSigns", if_second, if_first] });
        assert_eq!(variables[variable], chosen, "{variable}");
    }
}

/// A browser's preflight is unsigned, and without an answer to it no page can call.
#[test]
fn every_path_takes_a_preflight_without_a_signature() {
    let routes = routes();
    for Route { path, .. } in &routes {
        let preflight = routes.iter().find(|one| one.path == *path && one.method == "OPTIONS");
        let preflight = preflight.unwrap_or_else(|| panic!("{path} takes no OPTIONS"));
        // The payment service's paths are there only with it.
        let is_of_payments = path.ends_with("/payment") || path.starts_with("/payments/");
        let function = if is_of_payments { "payment-api" } else { "order-api" };
        assert_eq!((preflight.function.as_str(), &preflight.authorizer), (function, &None));
    }
}

/// SAM leaves out a path only if all of its methods are of functions that are left out; else it makes a method without a function,
/// which API Gateway refuses.
#[test]
fn a_path_of_a_function_that_may_not_be_there_is_of_such_functions_alone() {
    let template = Template::read();
    let mut by_path: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
    for (name, function) in template.all(FUNCTION) {
        let condition = template.0["Resources"][name]["Condition"].as_str().map(str::to_owned);
        for event in events(function).filter(|event| event["Type"] == "Api") {
            let path = event["Properties"]["Path"].as_str().expect("a path").to_owned();
            by_path.entry(path).or_default().insert(condition.clone());
        }
    }
    for (path, conditions) in by_path {
        assert_eq!(conditions.len(), 1, "{path} is of functions under {conditions:?}");
    }
}

/// Whoever wants to pay calls Stripe through the API, and Stripe calls it, at its own rate.
#[test]
fn the_calls_of_payments_have_limits_of_their_own_and_payment_api_executions_for_a_burst() {
    let template = Template::read();
    let (order, payment) = (
        method_settings(&template, "/~1orders~1{id}", "GET"),
        method_settings(&template, "/~1orders~1{id}~1payment", "GET"),
    );
    for limit in ["ThrottlingRateLimit", "ThrottlingBurstLimit"] {
        assert_eq!(payment[limit], order[limit], "{limit}");
    }
    let webhook = method_settings(&template, "/~1payments~1webhook", "POST");
    assert_eq!(webhook["ThrottlingRateLimit"], 50);
    let burst = webhook["ThrottlingBurstLimit"].as_u64().expect("a number");
    let reserve = &template.0["Parameters"]["PaymentApiReserve"]["Default"];
    assert!(reserve.as_u64().is_some_and(|reserve| burst <= reserve), "{burst}");
}
