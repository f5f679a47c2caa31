//! The template as JSON: each of CloudFormation's tags in its long form, so `!Ref X` is `{"Ref": "X"}`.

use serde_json::{Value, json};
use yaml_serde::Value as Yaml;

pub(crate) struct Template(pub Value);

impl Template {
    pub(crate) fn read() -> Self {
        let text = include_str!("../../template.yaml");
        let yaml = yaml_serde::from_str(text).expect("the template is YAML");
        let mut template = long_form(yaml);
        let defaults = template["Globals"]["Function"].clone();
        let resources = template["Resources"].as_object_mut().expect("resources");
        for resource in resources.values_mut().filter(|r| r["Type"] == FUNCTION) {
            for (name, default) in defaults.as_object().expect("defaults") {
                let own = &mut resource["Properties"][name];
                if own.is_null() {
                    *own = default.clone();
                }
            }
        }
        Self(template)
    }

    /// The names and properties of all resources of a type, with what `Globals` adds.
    pub(crate) fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let resources = self.0["Resources"].as_object().expect("resources");
        let of_kind = resources.iter().filter(move |(_, resource)| resource["Type"] == kind);
        of_kind.map(|(name, resource)| (name.as_str(), &resource["Properties"]))
    }

    /// The properties of a resource; null if there is none of that name and type.
    pub(crate) fn one(&self, kind: &str, name: &str) -> &Value {
        let resource = &self.0["Resources"][name];
        if resource["Type"] == kind { &resource["Properties"] } else { &Value::Null }
    }

    /// A value, or the default of the parameter that it refers to.
    pub(crate) fn value<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["Ref"].as_str() {
            Some(parameter) => &self.0["Parameters"][parameter]["Default"],
            None => value,
        }
    }
}

pub(crate) const FUNCTION: &str = "AWS::Serverless::Function";
pub(crate) const QUEUE: &str = "AWS::SQS::Queue";
pub(crate) const TABLE: &str = "AWS::DynamoDB::Table";
pub(crate) const TOPIC: &str = "AWS::SNS::Topic";

/// The resource that a `Ref` or `Fn::GetAtt` names.
pub(crate) fn target(value: &Value) -> &str {
    let named = value["Ref"].as_str().or(value["Fn::GetAtt"].as_str()).unwrap_or_default();
    named.split('.').next().unwrap_or_default()
}

/// What CloudFormation takes as one thing or as a list of them.
pub(crate) fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.iter().collect(),
        one => vec![one],
    }
}

/// All values in a tree, the inner ones included.
pub(crate) fn within(value: &Value) -> Vec<&Value> {
    let mut found = vec![value];
    match value {
        Value::Array(values) => found.extend(values.iter().flat_map(within)),
        Value::Object(fields) => found.extend(fields.values().flat_map(within)),
        _ => {}
    }
    found
}

fn long_form(yaml: Yaml) -> Value {
    match yaml {
        Yaml::Sequence(values) => values.into_iter().map(long_form).collect(),
        Yaml::Mapping(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                (name.as_str().expect("names are text").to_owned(), long_form(value))
            })
            .collect(),
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let name = match tag.trim_start_matches('!') {
                "Ref" => "Ref".to_owned(),
                function => format!("Fn::{function}"),
            };
            json!({ name: long_form(tagged.value) })
        }
        plain => yaml_serde::from_value(plain).expect("a scalar"),
    }
}
