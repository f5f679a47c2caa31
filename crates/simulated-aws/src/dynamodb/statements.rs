//! PartiQL statements in a batch: those of one form, which take attributes out of an item.
//!
//! In: BatchExecuteStatement. Out: for each statement that it was carried out, or its own error. Guarantee: a statement of
//! another form is refused (501), never carried out in part.
//!
//! - At most 25 statements, answered in their order, each for itself: a call that is answered with 200 may have failed in
//!   all of them. <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html>
//! - An UPDATE whose WHERE clause no item fulfils is a failed condition, and makes no item.
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.update.html>
//! - The codes of a statement's error:
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchStatementError.html>

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::writes::write_alone;
use crate::{State, expression::Refusal, wire::Answer};

/// Maximum number of statements of one call.
const STATEMENTS_MAX: usize = 25;
/// How a statement fails by itself, when it could have been carried out.
const OWN_FAULTS: [&str; 3] = ["ThrottlingError", "TransactionConflict", "InternalServerError"];

/// What a statement of the form `UPDATE "table" REMOVE a REMOVE b WHERE "key" = ? AND "other" = ?` asks for, as a request
/// for UpdateItem; `None` if it has another form.
#[must_use]
pub fn update_of_statement(statement: &Value) -> Option<Value> {
    let words = words(statement["Statement"].as_str()?)?;
    let mut words = words.iter().map(String::as_str).peekable();
    let mut parameters = statement["Parameters"].as_array().into_iter().flatten();
    if words.next()? != "UPDATE" {
        return None;
    }
    let table = unquoted(words.next()?);
    let (mut names, mut removed) = (Map::new(), Vec::new());
    while words.next_if_eq(&"REMOVE").is_some() {
        let placeholder = format!("#removed{}", removed.len());
        names.insert(placeholder.clone(), json!(unquoted(words.next()?)));
        removed.push(placeholder);
    }
    if removed.is_empty() || words.next()? != "WHERE" {
        return None;
    }
    let mut key = Map::new();
    loop {
        let name = unquoted(words.next()?);
        if words.next()? != "=" || words.next()? != "?" {
            return None;
        }
        key.insert(name, parameters.next()?.clone());
        match words.next() {
            Some("AND") => {}
            None => break,
            Some(_) => return None,
        }
    }
    if parameters.next().is_some() {
        return None;
    }
    names.insert("#key".to_owned(), json!(key.keys().next()?));
    Some(json!({
        "TableName": table,
        "Key": key,
        "UpdateExpression": format!("REMOVE {}", removed.join(", ")),
        "ConditionExpression": "attribute_exists(#key)",
        "ExpressionAttributeNames": names,
    }))
}

/// A name keeps its quotes, so that it is no keyword.
fn words(statement: &str) -> Option<Vec<String>> {
    let (mut words, mut rest) = (Vec::new(), statement.trim_start());
    while let Some(first) = rest.chars().next() {
        let end = if first == '"' {
            1 + rest[1..].find('"')? + 1
        } else {
            rest.find(char::is_whitespace).unwrap_or(rest.len())
        };
        words.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Some(words)
}

fn unquoted(name: &str) -> String {
    name.trim_matches('"').to_owned()
}

pub(super) fn batch_execute(state: &mut State, request: &Value) -> Result<Answer, Refusal> {
    let statements = request["Statements"].as_array().map_or(&[][..], Vec::as_slice);
    if statements.is_empty() || statements.len() > STATEMENTS_MAX {
        return Err(Refusal::Invalid(format!(
            "1 validation error detected: Value at 'statements' failed to satisfy constraint: Member must have length less than or equal to {STATEMENTS_MAX}, and at least 1"
        )));
    }
    let updates: Option<Vec<Value>> = statements.iter().map(update_of_statement).collect();
    let updates = updates.ok_or_else(|| {
        Refusal::Unsupported("statements of another form than UPDATE … REMOVE … WHERE".to_owned())
    })?;
    // As DynamoDB Local says; no page does.
    let distinct: BTreeSet<String> =
        updates.iter().map(|update| format!("{} {}", update["TableName"], update["Key"])).collect();
    if distinct.len() < updates.len() {
        return Err(Refusal::Invalid("Provided list of item keys contains duplicates".to_owned()));
    }
    let responses: Result<Vec<Value>, Refusal> =
        updates.iter().map(|update| execute(state, update)).collect();
    Ok(Answer::ok(json!({ "Responses": responses? })))
}

fn execute(state: &mut State, update: &Value) -> Result<Value, Refusal> {
    let mut response = json!({ "TableName": update["TableName"] });
    let mut failed = |code: &str, message: &str| {
        response["Error"] = json!({ "Code": code, "Message": message });
    };
    if state.random.u64(0..1000) < state.faults.partial {
        failed(OWN_FAULTS[state.random.usize(0..OWN_FAULTS.len())], "a fault of the simulation");
        return Ok(response);
    }
    match write_alone(state, "Update", update) {
        Ok(answer) if answer.status == 200 => {}
        Ok(answer) => {
            let error: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            let exception = error["__type"].as_str().unwrap_or_default();
            let exception = exception.rsplit('#').next().unwrap_or_default();
            let code = match exception.trim_end_matches("Exception") {
                "Throttling" => "ThrottlingError",
                other => other,
            };
            failed(code, error["message"].as_str().unwrap_or_default());
        }
        Err(Refusal::Invalid(why)) => failed("ValidationError", &why),
        Err(Refusal::NotFound(what)) => failed("ResourceNotFound", &what),
        Err(unsupported @ Refusal::Unsupported(_)) => return Err(unsupported),
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(statement: &str, parameters: &Value) -> Option<Value> {
        update_of_statement(&json!({ "Statement": statement, "Parameters": parameters }))
    }

    #[test]
    fn a_statement_is_read_as_the_update_that_it_asks_for() {
        let parameters = json!([{ "S": "o" }, { "S": "e" }]);
        let read = update(
            r#"UPDATE "stack.Log-1" REMOVE a  REMOVE "b" WHERE "key" = ? AND "AND" = ?"#,
            &parameters,
        );
        assert_eq!(
            read,
            Some(json!({
                "TableName": "stack.Log-1",
                "Key": { "key": { "S": "o" }, "AND": { "S": "e" } },
                "UpdateExpression": "REMOVE #removed0, #removed1",
                "ConditionExpression": "attribute_exists(#key)",
                "ExpressionAttributeNames": { "#removed0": "a", "#removed1": "b", "#key": "AND" },
            }))
        );
    }

    #[test]
    fn a_statement_of_another_form_is_not_read_in_part() {
        let one = json!([{ "S": "o" }]);
        for statement in [
            "",
            "UPDATE",
            "SELECT * FROM t WHERE a = ?",
            r#"UPDATE "t" SET x = ? WHERE "key" = ?"#,
            r#"UPDATE "t" WHERE "key" = ?"#,
            r#"UPDATE "t" REMOVE a"#,
            r#"UPDATE "t" REMOVE a WHERE "key" = 'o'"#,
            r#"UPDATE "t" REMOVE a WHERE "key" = ? OR "other" = ?"#,
            r#"UPDATE "t" REMOVE a WHERE "key" = ? AND "other" = ?"#,
            r#"UPDATE "t" REMOVE a WHERE "key" = ? RETURNING ALL OLD *"#,
            r#"UPDATE "t REMOVE a WHERE key = ?"#,
        ] {
            assert_eq!(update(statement, &one), None, "{statement}");
        }
        assert_eq!(update(r#"UPDATE "t" REMOVE a WHERE "key" = ?"#, &json!([{}, {}])), None);
    }
}
