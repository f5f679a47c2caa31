//! Condition, key condition and update expressions of DynamoDB, as far as they are used: `=`, `<>`, `<`, `<=`, `>`, `>=`,
//! `AND`, `OR`, parentheses, `attribute_exists`, `attribute_not_exists`; `SET` with `+`, `REMOVE`, `ADD`.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html>
//!
//! In: an expression with its names and values, and an item. Out: whether it holds, or the item as it becomes. What is not
//! in this list is an error, never a guess.

use std::{cmp::Ordering, collections::BTreeMap};

use serde_json::{Value, json};

/// An item in the wire's form: `{"S": "…"}` by attribute.
pub(crate) type Item = BTreeMap<String, Value>;

/// The names and values that an expression refers to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub names: &'a Value,
    pub values: &'a Value,
}

/// An expression is not one that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid(pub String);

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    scope: Scope<'a>,
    item: &'a Item,
}

fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '#' | ':' | '.');
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let length = match word {
            0 if ["<=", ">=", "<>"].iter().any(|two| rest.starts_with(two)) => 2,
            0 => 1,
            _ => word,
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).copied().unwrap_or_default()
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn expect(&mut self, token: &str) -> Result<(), Invalid> {
        match self.next() {
            found if found == token => Ok(()),
            found => Err(Invalid(format!("{found:?} instead of {token:?}"))),
        }
    }

    fn name(&mut self) -> Result<String, Invalid> {
        let token = self.next();
        if token.starts_with('#') {
            let name = self.scope.names[token].as_str();
            return name.map(str::to_owned).ok_or_else(|| Invalid(format!("no name {token}")));
        }
        if token.is_empty() || token.starts_with(|c: char| !c.is_alphabetic()) {
            return Err(Invalid(format!("{token:?} is no name")));
        }
        Ok(token.to_owned())
    }

    /// A value, or an attribute, or a sum of two of them; `None` if an attribute is not there.
    fn operand(&mut self) -> Result<Option<Value>, Invalid> {
        let first = self.simple()?;
        if self.peek() != "+" {
            return Ok(first);
        }
        self.next();
        let second = self.simple()?;
        let number = |value: Option<Value>| value.as_ref().and_then(number_of);
        let sum = number(first).zip(number(second)).map(|(a, b)| a + b);
        let sum = sum.ok_or_else(|| Invalid("the operands of + must be numbers".to_owned()))?;
        Ok(Some(json!({ "N": sum.to_string() })))
    }

    fn simple(&mut self) -> Result<Option<Value>, Invalid> {
        if !self.peek().starts_with(':') {
            let name = self.name()?;
            return Ok(self.item.get(&name).cloned());
        }
        let token = self.next();
        match &self.scope.values[token] {
            Value::Null => Err(Invalid(format!("no value {token}"))),
            value => Ok(Some(value.clone())),
        }
    }

    fn or(&mut self) -> Result<bool, Invalid> {
        let mut holds = self.and()?;
        while self.peek() == "OR" {
            self.next();
            let right = self.and()?;
            holds = holds || right;
        }
        Ok(holds)
    }

    fn and(&mut self) -> Result<bool, Invalid> {
        let mut holds = self.term()?;
        while self.peek() == "AND" {
            self.next();
            let right = self.term()?;
            holds = holds && right;
        }
        Ok(holds)
    }

    fn term(&mut self) -> Result<bool, Invalid> {
        match self.peek() {
            "(" => {
                self.next();
                let holds = self.or()?;
                self.expect(")")?;
                Ok(holds)
            }
            function @ ("attribute_exists" | "attribute_not_exists") => {
                self.next();
                self.expect("(")?;
                let name = self.name()?;
                self.expect(")")?;
                Ok(self.item.contains_key(&name) == (function == "attribute_exists"))
            }
            _ => {
                let left = self.operand()?;
                let operator = self.next();
                let right = self.operand()?;
                compare(left.as_ref(), operator, right.as_ref())
            }
        }
    }

    fn end(&self) -> Result<(), Invalid> {
        match self.peek() {
            "" => Ok(()),
            token => Err(Invalid(format!("{token:?} after the end"))),
        }
    }
}

/// What is not there, or of another type, compares as false.
fn compare(left: Option<&Value>, operator: &str, right: Option<&Value>) -> Result<bool, Invalid> {
    let order = left.zip(right).and_then(|(left, right)| order_of(left, right));
    Ok(match operator {
        "=" => left.is_some() && left == right || order == Some(Ordering::Equal),
        "<>" => left.is_some() && left != right && order != Some(Ordering::Equal),
        "<" => order == Some(Ordering::Less),
        "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        ">" => order == Some(Ordering::Greater),
        ">=" => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        _ => return Err(Invalid(format!("{operator:?} is no comparison"))),
    })
}

/// The order of two texts or two numbers.
pub(crate) fn order_of(left: &Value, right: &Value) -> Option<Ordering> {
    match (left["S"].as_str(), right["S"].as_str()) {
        (Some(left), Some(right)) => Some(left.cmp(right)),
        _ => Some(number_of(left)?.cmp(&number_of(right)?)),
    }
}

fn number_of(value: &Value) -> Option<i128> {
    value["N"].as_str()?.parse().ok()
}

/// Whether a condition holds for an item; no item is an item without attributes.
pub(crate) fn holds(condition: &str, scope: Scope<'_>, item: &Item) -> Result<bool, Invalid> {
    let mut parser = Parser { tokens: tokens(condition), at: 0, scope, item };
    let holds = parser.or()?;
    parser.end()?;
    Ok(holds)
}

/// An item after an update. Every right side is read from the item as it was before.
pub(crate) fn updated(update: &str, scope: Scope<'_>, item: &Item) -> Result<Item, Invalid> {
    let mut parser = Parser { tokens: tokens(update), at: 0, scope, item };
    let mut after = item.clone();
    while !parser.peek().is_empty() {
        let clause = parser.next();
        loop {
            let name = parser.name()?;
            match clause {
                "SET" => {
                    parser.expect("=")?;
                    let value = parser.operand()?;
                    let value = value.ok_or_else(|| Invalid(format!("{name}: nothing to set")))?;
                    after.insert(name, value);
                }
                "ADD" => {
                    let value = parser.simple()?.as_ref().and_then(number_of);
                    let value = value.ok_or_else(|| Invalid(format!("{name}: no number")))?;
                    let before = item.get(&name).and_then(number_of).unwrap_or_default();
                    after.insert(name, json!({ "N": (before + value).to_string() }));
                }
                "REMOVE" => _ = after.remove(&name),
                _ => return Err(Invalid(format!("{clause:?} is no clause"))),
            }
            if parser.peek() != "," {
                break;
            }
            parser.next();
        }
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        [("a", json!({"N": "5"})), ("s", json!({"S": "x"}))]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    #[test]
    fn conditions_hold_as_dynamodb_says() {
        let (names, values) = (json!({"#a": "a"}), json!({":five": {"N": "5"}, ":x": {"S": "x"}}));
        let scope = Scope { names: &names, values: &values };
        for (condition, expected) in [
            ("#a = :five AND s = :x", true),
            ("a < :five OR a >= :five", true),
            ("attribute_not_exists(a) OR (a = :five AND attribute_exists(b))", false),
            ("b = :five", false),
            ("s <> :five", true),
        ] {
            assert_eq!(holds(condition, scope, &item()), Ok(expected), "{condition}");
        }
        for wrong in ["a =", "a ~ :five", "a = :six", "(a = :five", "a = :five a"] {
            assert!(holds(wrong, scope, &item()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_update_reads_the_item_as_it_was() {
        let (names, values) = (json!({}), json!({":d": {"N": "-2"}, ":x": {"S": "y"}}));
        let scope = Scope { names: &names, values: &values };
        let after = updated("SET a = a + :d, b = :x REMOVE s", scope, &item()).expect("valid");
        assert_eq!(after.get("a"), Some(&json!({"N": "3"})));
        assert_eq!(after.get("b"), Some(&json!({"S": "y"})));
        assert_eq!(after.get("s"), None);
        assert!(updated("SET a = missing + :d", scope, &item()).is_err());
    }
}
