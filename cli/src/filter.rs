//! An SNS subscription's filter policy, applied to an event's message attributes.
//!
//! In: the policy as SNS keeps it, and attributes. Out: whether the subscription would be given the event.
//! Pure. Guarantee: a policy that uses what this does not know is an error, never a guess.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A policy on message attributes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter(Map<String, Value>);

impl Filter {
    /// Reads a policy; none takes everything.
    ///
    /// # Errors
    /// It is no policy, or one that only SNS itself can apply.
    pub(crate) fn read(policy: Option<&str>, scope: Option<&str>) -> Result<Self, String> {
        let Some(policy) = policy.filter(|policy| !policy.is_empty()) else {
            return Ok(Self::default());
        };
        if scope.is_some_and(|scope| scope != "MessageAttributes") {
            return Err("the subscription filters by message body, which cannot be replayed".into());
        }
        let Value::Object(policy) =
            serde_json::from_str(policy).map_err(|error| format!("the filter policy: {error}"))?
        else {
            return Err("the filter policy is no JSON object".into());
        };
        let filter = Self(policy);
        // Everything that it can ask for is asked for once, so that what is unknown shows up now.
        for (name, conditions) in &filter.0 {
            for condition in listed(name, conditions)? {
                meets(condition, None)?;
                meets(condition, Some(""))?;
            }
        }
        Ok(filter)
    }

    /// Whether an event with these attributes passes: for every name in the policy one condition holds.
    ///
    /// # Errors
    /// The policy uses what this does not know.
    pub(crate) fn passes(&self, attributes: &BTreeMap<String, String>) -> Result<bool, String> {
        for (name, conditions) in &self.0 {
            let value = attributes.get(name).map(String::as_str);
            let mut any = false;
            for condition in listed(name, conditions)? {
                any |= meets(condition, value)?;
            }
            if !any {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn listed<'a>(name: &str, conditions: &'a Value) -> Result<&'a Vec<Value>, String> {
    conditions.as_array().ok_or_else(|| format!("the filter policy: {name} is no list"))
}

/// Whether an attribute, if it is there, meets one condition.
fn meets(condition: &Value, value: Option<&str>) -> Result<bool, String> {
    let unknown = || format!("the filter policy uses {condition}, which only SNS can apply");
    match condition {
        Value::String(exact) => Ok(value == Some(exact)),
        Value::Object(operator) if operator.len() == 1 => {
            let (name, operand) = operator.iter().next().ok_or_else(unknown)?;
            let text = operand.as_str();
            match (name.as_str(), operand) {
                ("exists", Value::Bool(wanted)) => Ok(value.is_some() == *wanted),
                ("prefix", _) => {
                    let prefix = text.ok_or_else(unknown)?;
                    Ok(value.is_some_and(|value| value.starts_with(prefix)))
                }
                ("suffix", _) => {
                    let suffix = text.ok_or_else(unknown)?;
                    Ok(value.is_some_and(|value| value.ends_with(suffix)))
                }
                ("equals-ignore-case", _) => {
                    let wanted = text.ok_or_else(unknown)?.to_lowercase();
                    Ok(value.is_some_and(|value| value.to_lowercase() == wanted))
                }
                ("anything-but", Value::String(not)) => Ok(value.is_some_and(|value| value != not)),
                ("anything-but", Value::Array(not)) if not.iter().all(Value::is_string) => {
                    Ok(value.is_some_and(|value| !not.iter().any(|one| one == value)))
                }
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(policy: &str, event_type: Option<&str>) -> bool {
        let filter = Filter::read(Some(policy), Some("MessageAttributes")).expect("a policy");
        let attributes = event_type.map(|value| ("event_type".to_owned(), value.to_owned()));
        filter.passes(&attributes.into_iter().collect()).expect("a known policy")
    }

    #[test]
    fn a_list_of_values_takes_each_of_them_and_nothing_else() {
        let policy = r#"{"event_type":["OrderCreated","OrderCancelled"]}"#;
        assert!(passes(policy, Some("OrderCancelled")));
        assert!(!passes(policy, Some("OrderShipped")));
        assert!(!passes(policy, None));
    }

    #[test]
    fn no_policy_takes_everything() {
        let filter = Filter::read(None, None).expect("none");
        assert_eq!(filter.passes(&BTreeMap::new()), Ok(true));
    }

    #[test]
    fn the_operators_on_texts_are_known() {
        for (condition, taken, refused) in [
            (r#"{"prefix":"Order"}"#, Some("OrderCreated"), Some("StockReserved")),
            (r#"{"suffix":"ed"}"#, Some("OrderCreated"), Some("Order")),
            (r#"{"equals-ignore-case":"a"}"#, Some("A"), Some("b")),
            (r#"{"anything-but":"a"}"#, Some("b"), Some("a")),
            (r#"{"anything-but":["a","b"]}"#, Some("c"), Some("b")),
            (r#"{"exists":true}"#, Some(""), None),
            (r#"{"exists":false}"#, None, Some("")),
        ] {
            let policy = format!(r#"{{"event_type":[{condition}]}}"#);
            assert!(passes(&policy, taken), "{condition}");
            assert!(!passes(&policy, refused), "{condition}");
        }
    }

    #[test]
    fn every_name_of_a_policy_has_to_be_met() {
        assert!(!passes(r#"{"event_type":["a"],"other":["b"]}"#, Some("a")));
    }

    #[test]
    fn what_only_sns_can_apply_is_an_error() {
        for policy in [
            r#"{"n":[{"numeric":[">",1]}]}"#,
            r#"{"$or":[{"a":["b"]}]}"#,
            r#"{"a":"b"}"#,
            "[]",
            "x",
        ] {
            Filter::read(Some(policy), None).expect_err(policy);
        }
        Filter::read(Some("{}"), Some("MessageBody")).expect_err("of the body");
    }
}
