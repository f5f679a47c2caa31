//! The WebSocket API, by which customers follow their orders.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    parameters::takes,
    read::{FUNCTION, TABLE, Template, target, within},
};

const ROUTE: &str = "AWS::ApiGatewayV2::Route";

/// All of it is there, or nothing: LocalStack's free edition refuses a template that makes such an API.
#[test]
fn nothing_of_the_live_updates_is_there_where_they_are_off_which_is_the_default() {
    let template = Template::read();
    assert_eq!(template.0["Parameters"]["LiveUpdates"]["Default"], "off");
    let on = json!({ "Fn::Equals": [{ "Ref": "LiveUpdates" }, "on"] });
    assert_eq!(template.0["Conditions"]["LiveUpdatesOn"], on);
    let mut found = 0;
    for section in ["Resources", "Outputs"] {
        for (name, one) in template.0[section].as_object().expect(section) {
            let is_of_them = ["Push", "LiveUpdates", "Connections"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
            found += usize::from(is_of_them);
            let condition = one["Condition"].as_str().unwrap_or_default();
            let conditions = ["LiveUpdatesOn", "FullObservabilityOfLiveUpdates"];
            assert_eq!(conditions.contains(&condition), is_of_them, "{name}");
        }
    }
    assert!(found > 25, "this test has lost sight of the live updates");
}

/// LocalStack's CloudFormation evaluates it even in what is not made, and refuses the template.
#[test]
fn no_text_is_filled_in_with_what_may_not_be_there() {
    let template = Template::read();
    let conditional: Vec<&str> = (template.0["Resources"].as_object().expect("resources").iter())
        .filter(|(_, resource)| resource["Condition"].is_string())
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(conditional.contains(&"PushApi"), "{conditional:?}");
    for text in within(&template.0["Resources"]).iter().chain(&within(&template.0["Outputs"])) {
        let Some(text) = text["Fn::Sub"].as_str() else { continue };
        for name in &conditional {
            let is_named = [format!("${{{name}}}"), format!("${{{name}.")]
                .iter()
                .any(|reference| text.contains(reference.as_str()));
            assert!(!is_named, "use Fn::Join in place of Fn::Sub: {text}");
        }
    }
}

#[test]
fn every_message_and_the_coming_and_going_of_connections_reach_push_api() {
    let template = Template::read();
    let mut keys = BTreeSet::new();
    for (name, route) in template.all(ROUTE) {
        assert_eq!(route["ApiId"], json!({ "Ref": "LiveUpdatesApi" }), "{name}");
        let integration =
            json!({ "Fn::Join": ["/", ["integrations", { "Ref": "LiveUpdatesIntegration" }]] });
        assert_eq!(route["Target"], integration, "{name}");
        keys.insert(route["RouteKey"].as_str().expect("a key"));
    }
    assert_eq!(keys, BTreeSet::from(["$connect", "$default", "$disconnect", "watch"]));
    let api = template.one("AWS::ApiGatewayV2::Api", "LiveUpdatesApi");
    assert_eq!(api["ProtocolType"], "WEBSOCKET");
    assert_eq!(api["RouteSelectionExpression"], "$request.body.action");
    let integration = template.one("AWS::ApiGatewayV2::Integration", "LiveUpdatesIntegration");
    assert_eq!(integration["IntegrationType"], "AWS_PROXY");
    let uri = json!({ "Fn::Join": ["", [
        { "Fn::Sub": "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/" },
        { "Ref": "PushApi.Alias" },
        "/invocations",
    ]] });
    assert_eq!(integration["IntegrationUri"], uri);
    let permission = template.one("AWS::Lambda::Permission", "LiveUpdatesPermission");
    assert_eq!(target(&permission["FunctionName"]), "PushApi");
    let source = json!({ "Fn::Join": ["", [
        { "Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:" },
        { "Ref": "LiveUpdatesApi" },
        "/v1/*",
    ]] });
    assert_eq!(permission["SourceArn"], source);
}

/// Whoever opens connections has to be bounded by something: they are not known yet.
#[test]
fn the_stage_is_throttled_and_keeps_no_log_of_query_strings() {
    let template = Template::read();
    let stage = template.one("AWS::ApiGatewayV2::Stage", "LiveUpdatesStage");
    assert_eq!(stage["StageName"], "v1");
    assert_eq!(stage["AutoDeploy"], true);
    let limits = json!({
        "ThrottlingRateLimit": { "Ref": "ThrottleRate" },
        "ThrottlingBurstLimit": { "Ref": "ThrottleBurst" },
    });
    assert_eq!(stage["DefaultRouteSettings"], limits);
    assert!(stage["AccessLogSettings"].is_null());
}

#[test]
fn both_functions_post_to_the_stage_of_that_api() {
    let template = Template::read();
    let variables = |name: &str| &template.one(FUNCTION, name)["Environment"]["Variables"];
    let endpoint = json!({ "Fn::If": [
        "ConnectionsAtAws",
        { "Fn::Join": ["", [
            "https://",
            { "Ref": "LiveUpdatesApi" },
            { "Fn::Sub": ".execute-api.${AWS::Region}.${AWS::URLSuffix}/v1" },
        ]] },
        { "Fn::Join": ["/", [{ "Ref": "ConnectionsEndpoint" }, { "Ref": "LiveUpdatesApi" }, "v1"]] },
    ] });
    for function in ["PushApi", "PushConsumer"] {
        assert_eq!(variables(function)["CONNECTIONS_ENDPOINT"], endpoint, "{function}");
        assert_eq!(target(&variables(function)["CONNECTIONS_TABLE"]), "ConnectionsTable");
    }
    assert_eq!(target(&variables("PushApi")["PUSH_QUEUE_URL"]), "PushQueue");
    let parameter = &template.0["Parameters"]["ConnectionsEndpoint"];
    assert_eq!(parameter["Default"], "aws");
    assert!(takes(parameter, "http://127.0.0.1:4566/_aws/execute-api"));
    for bad in ["", "127.0.0.1:4566", "http://127.0.0.1:4566/", "http://a b"] {
        assert!(!takes(parameter, bad), "{bad}");
    }
}

/// What nobody has removed is gone when no connection can be open any more.
#[test]
fn connections_expire_and_are_found_by_their_order() {
    let template = Template::read();
    let table = template.one(TABLE, "ConnectionsTable");
    let expiry = json!({ "AttributeName": "expires_at", "Enabled": true });
    assert_eq!(table["TimeToLiveSpecification"], expiry);
    let key = json!([
        { "AttributeName": "order_id", "KeyType": "HASH" },
        { "AttributeName": "connection_id", "KeyType": "RANGE" },
    ]);
    assert_eq!(table["KeySchema"], key);
    assert_eq!(table["GlobalSecondaryIndexes"], Value::Null);
}
