//! Condition, key condition, update and projection expressions of DynamoDB, as far as they are used: `=`, `<>`, `<`, `<=`,
//! `>`, `>=`, `AND`, `OR`, parentheses, `attribute_exists`, `attribute_not_exists`; `SET` with `+`, `REMOVE`, `ADD`; lists of
//! attributes.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html>
//!
//! In: a request's expressions with their names and values, and items. Out: whether a condition holds, an item as an update
//! makes it, or why DynamoDB refuses the request. Guarantee: what DynamoDB has and this has not is [`Refusal::Unsupported`],
//! never a guess.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::{Value, json};

/// An item in the wire's form: `{"S": "…"}` by attribute.
pub(crate) type Item = BTreeMap<String, Value>;

/// Maximum size of an expression.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html#limits-expression-parameters>
const EXPRESSION_BYTES_MAX: usize = 4096;
/// Names that an expression may have only behind a placeholder.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html>
static RESERVED_WORDS: LazyLock<BTreeSet<&str>> =
    LazyLock::new(|| include_str!("reserved_words.txt").lines().collect());

/// A request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// DynamoDB refuses the request itself, with a ValidationException.
    Invalid(String),
    /// It names a table or an index that is not there.
    NotFound(String),
    /// DynamoDB may know it; the simulation does not.
    Unsupported(String),
}

fn invalid<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(why.into()))
}

fn unsupported<T>(what: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Unsupported(what.into()))
}

/// A value of the request, or an attribute of the item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    Attribute(String),
    /// The attribute, or the value if the item has none. Only in an update.
    AttributeOr(String, Value),
    Value(Value),
}

impl Operand {
    fn of<'a>(&'a self, item: &'a Item) -> Option<&'a Value> {
        match self {
            Self::Attribute(name) => item.get(name),
            Self::AttributeOr(name, value) => Some(item.get(name).unwrap_or(value)),
            Self::Value(value) => Some(value),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn read(token: &str) -> Option<Self> {
        Some(match token {
            "=" => Self::Equal,
            "<>" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    /// What is not there, or of another type, is equal to nothing, and neither less nor greater than anything.
    fn holds(self, left: Option<&Value>, right: Option<&Value>) -> bool {
        let Some((left, right)) = left.zip(right) else {
            // An attribute that is not there differs from every value.
            return self == Self::NotEqual;
        };
        let order = order_of(left, right);
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Compare(Operand, Comparison, Operand),
    Exists(String, bool),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

impl Condition {
    /// Whether it holds for an item; no item is one without attributes.
    pub(crate) fn holds(&self, item: &Item) -> bool {
        match self {
            Self::Compare(left, comparison, right) => {
                comparison.holds(left.of(item), right.of(item))
            }
            Self::Exists(name, expected) => item.contains_key(name) == *expected,
            Self::And(left, right) => left.holds(item) && right.holds(item),
            Self::Or(left, right) => left.holds(item) || right.holds(item),
        }
    }
}

/// Which items of which partition a query is after.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyCondition {
    pub partition: String,
    sort: Option<(String, Comparison, Value)>,
}

impl KeyCondition {
    /// Whether it holds for an item that is in the partition.
    pub(crate) fn holds(&self, item: &Item) -> bool {
        self.sort
            .as_ref()
            .is_none_or(|(name, comparison, value)| comparison.holds(item.get(name), Some(value)))
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Set(String, Operand, Option<Operand>),
    Remove(String),
    Add(String, Value),
}

impl Action {
    fn attribute(&self) -> &str {
        match self {
            Self::Set(name, ..) | Self::Remove(name) | Self::Add(name, _) => name,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Update(Vec<Action>);

impl Update {
    /// The attributes that it writes.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Action::attribute)
    }

    /// The item after it. Every right side is read from the item as it was before.
    pub(crate) fn apply(&self, item: &Item) -> Result<Item, Refusal> {
        let mut after = item.clone();
        for action in &self.0 {
            match action {
                Action::Set(name, first, second) => {
                    let value = |operand: &Operand| match operand.of(item) {
                        Some(value) => Ok(value.clone()),
                        None => invalid(
                            "The provided expression refers to an attribute that does not exist in the item",
                        ),
                    };
                    let first = value(first)?;
                    let value = match second {
                        None => first,
                        Some(second) => sum(&first, &value(second)?)?,
                    };
                    after.insert(name.clone(), value);
                }
                Action::Remove(name) => _ = after.remove(name),
                Action::Add(name, value) => {
                    let value = match item.get(name) {
                        None => value.clone(),
                        Some(before) => sum(before, value)?,
                    };
                    after.insert(name.clone(), value);
                }
            }
        }
        Ok(after)
    }
}

fn sum(first: &Value, second: &Value) -> Result<Value, Refusal> {
    let (Some(first), Some(second)) = (first["N"].as_str(), second["N"].as_str()) else {
        return invalid("An operand in the update expression has an incorrect data type");
    };
    match (first.parse::<i128>(), second.parse::<i128>()) {
        (Ok(first), Ok(second)) => Ok(json!({ "N": (first + second).to_string() })),
        _ => unsupported(format!("{first} + {second}: arithmetic of what is no whole number")),
    }
}

/// The order of two texts or two numbers.
pub(crate) fn order_of(left: &Value, right: &Value) -> Option<Ordering> {
    match (left["S"].as_str(), right["S"].as_str()) {
        (Some(left), Some(right)) => Some(left.cmp(right)),
        _ => Some(order_of_numbers(left["N"].as_str()?, right["N"].as_str()?)),
    }
}

/// The order of two numbers in the form of [`normal_number`].
fn order_of_numbers(left: &str, right: &str) -> Ordering {
    let magnitude = |number: &str| {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        (whole.len(), whole.to_owned(), fraction.to_owned())
    };
    match (left.strip_prefix('-'), right.strip_prefix('-')) {
        (Some(left), Some(right)) => magnitude(right).cmp(&magnitude(left)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => magnitude(left).cmp(&magnitude(right)),
    }
}

/// A number as DynamoDB gives it back: without zeros that say nothing.
fn normal_number(number: &str) -> Result<String, Refusal> {
    // <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html>
    const DIGITS_MAX: usize = 38;
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if number.contains(['e', 'E']) {
        return unsupported(format!("the number {number} with an exponent"));
    }
    if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
        return invalid(format!("The parameter cannot be converted to a numeric value: {number}"));
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let significant = format!("{whole}{fraction}");
    if significant.trim_matches('0').len() > DIGITS_MAX {
        return invalid("Attempting to store more than 38 significant digits in a Number");
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(match (significant.is_empty(), fraction) {
        (true, _) => "0".to_owned(),
        (false, "") => format!("{sign}{whole}"),
        (false, fraction) => format!("{sign}{whole}.{fraction}"),
    })
}

/// A value as DynamoDB stores it, or why it does not.
pub(crate) fn normal(value: &Value) -> Result<Value, Refusal> {
    let fields = value.as_object().filter(|fields| fields.len() == 1);
    let Some((kind, inner)) = fields.and_then(|fields| fields.iter().next()) else {
        return invalid(
            "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes",
        );
    };
    let inner = match (kind.as_str(), inner) {
        ("S" | "B", Value::String(_)) | ("BOOL", Value::Bool(_)) | ("NULL", Value::Bool(true)) => {
            inner.clone()
        }
        ("N", Value::String(number)) => json!(normal_number(number)?),
        ("L", Value::Array(values)) => {
            json!(values.iter().map(normal).collect::<Result<Vec<_>, _>>()?)
        }
        ("M", Value::Object(fields)) => {
            let fields = fields.iter().map(|(name, value)| Ok((name.clone(), normal(value)?)));
            json!(fields.collect::<Result<BTreeMap<_, _>, _>>()?)
        }
        // Sets have no order, which comparisons here would have to know.
        _ => return unsupported(format!("values of type {kind}")),
    };
    Ok(json!({ kind.as_str(): inner }))
}

/// An item, or a key, as DynamoDB stores it.
pub(crate) fn normal_item(item: &Value) -> Result<Item, Refusal> {
    let fields = item.as_object().into_iter().flatten();
    fields.map(|(name, value)| Ok((name.clone(), normal(value)?))).collect()
}

/// The names and values that the expressions of a request refer to, and which of them they do.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    names: &'a Value,
    values: &'a Value,
    used: BTreeSet<String>,
    has_expressions: bool,
}

impl<'a> Scope<'a> {
    pub(crate) fn of(request: &'a Value) -> Self {
        Self {
            names: &request["ExpressionAttributeNames"],
            values: &request["ExpressionAttributeValues"],
            used: BTreeSet::new(),
            has_expressions: false,
        }
    }

    /// The expression of this field, if the request has it.
    pub(crate) fn condition(
        &mut self,
        request: &'a Value,
        field: &'static str,
    ) -> Result<Option<Condition>, Refusal> {
        let Some(mut parser) = self.parser(request, field)? else { return Ok(None) };
        let condition = parser.or()?;
        parser.end()?;
        Ok(Some(condition))
    }

    /// The update of a request; one without an expression changes nothing.
    pub(crate) fn update(&mut self, request: &'a Value) -> Result<Update, Refusal> {
        match self.parser(request, "UpdateExpression")? {
            None => Ok(Update::default()),
            Some(mut parser) => parser.update(),
        }
    }

    /// The names of the attributes that a reader wants; `None` if it wants all.
    pub(crate) fn projection(
        &mut self,
        request: &'a Value,
    ) -> Result<Option<BTreeSet<String>>, Refusal> {
        let Some(mut parser) = self.parser(request, "ProjectionExpression")? else {
            return Ok(None);
        };
        let mut names = BTreeSet::new();
        loop {
            let name = parser.name()?;
            if !names.insert(name.clone()) {
                return parser.overlap(&name);
            }
            if parser.peek() != "," {
                parser.end()?;
                return Ok(Some(names));
            }
            parser.next();
        }
    }

    /// The key condition of a query on these keys.
    pub(crate) fn key_condition(
        &mut self,
        request: &'a Value,
        keys: &[String],
    ) -> Result<KeyCondition, Refusal> {
        let condition = self.condition(request, "KeyConditionExpression")?;
        let Some(condition) = condition else {
            return invalid(
                "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.",
            );
        };
        let mut parts = BTreeMap::new();
        collect_key_parts(condition, &mut parts)?;
        let missed =
            |name: &str| invalid(format!("Query condition missed key schema element: {name}"));
        let Some((comparison, partition)) = keys.first().and_then(|key| parts.remove(key)) else {
            return missed(keys.first().map_or("", String::as_str));
        };
        if comparison != Comparison::Equal {
            return invalid("Query key condition not supported");
        }
        let partition = key_text(&partition)?;
        let sort = match keys.get(1) {
            Some(key) => parts.remove(key).map(|(how, value)| (key.clone(), how, value)),
            None => None,
        };
        if !parts.is_empty() {
            return match keys.get(1) {
                Some(key) if sort.is_none() => missed(key),
                _ => invalid("Query key condition not supported"),
            };
        }
        if let Some((_, how, value)) = &sort {
            if *how == Comparison::NotEqual {
                return invalid("Unsupported operator on KeyCondition: operator: <>");
            }
            key_text(value)?;
        }
        Ok(KeyCondition { partition, sort })
    }

    /// Refuses names and values that no expression has used.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        for (field, given) in
            [("ExpressionAttributeNames", self.names), ("ExpressionAttributeValues", self.values)]
        {
            let Some(given) = given.as_object() else { continue };
            if !self.has_expressions {
                return invalid(format!("{field} can only be specified when using expressions"));
            }
            if given.is_empty() {
                return invalid(format!("{field} must not be empty"));
            }
            let unused: Vec<_> =
                given.keys().filter(|name| !self.used.contains(*name)).cloned().collect();
            if !unused.is_empty() {
                let unused = unused.join(", ");
                return invalid(format!(
                    "Value provided in {field} unused in expressions: keys: {{{unused}}}"
                ));
            }
        }
        Ok(())
    }

    fn parser<'b>(
        &'b mut self,
        request: &'a Value,
        field: &'static str,
    ) -> Result<Option<Parser<'a, 'b>>, Refusal> {
        let Some(text) = request[field].as_str() else { return Ok(None) };
        self.has_expressions = true;
        if text.trim().is_empty() {
            return invalid(format!("Invalid {field}: The expression can not be empty;"));
        }
        if text.len() > EXPRESSION_BYTES_MAX {
            return invalid(format!(
                "Invalid {field}: Expression size has exceeded the maximum allowed size; expression size: {}",
                text.len()
            ));
        }
        Ok(Some(Parser { field, tokens: tokens(text), at: 0, parenthesis: (0, 0), scope: self }))
    }
}

fn collect_key_parts(
    condition: Condition,
    parts: &mut BTreeMap<String, (Comparison, Value)>,
) -> Result<(), Refusal> {
    match condition {
        Condition::And(left, right) => {
            collect_key_parts(*left, parts)?;
            collect_key_parts(*right, parts)
        }
        Condition::Compare(Operand::Attribute(name), comparison, Operand::Value(value)) => {
            match parts.insert(name, (comparison, value)) {
                None => Ok(()),
                Some(_) => {
                    invalid("KeyConditionExpressions must only contain one condition per key")
                }
            }
        }
        Condition::Or(..) => invalid("Invalid operator used in KeyConditionExpression: OR"),
        _ => invalid("Invalid operator used in KeyConditionExpression"),
    }
}

/// A key's value: keys are texts, and not empty.
pub(crate) fn key_text(value: &Value) -> Result<String, Refusal> {
    match value["S"].as_str() {
        Some("") => invalid(
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value.",
        ),
        Some(text) => Ok(text.to_owned()),
        None => invalid(
            "One or more parameter values were invalid: Condition parameter type does not match schema type",
        ),
    }
}

struct Parser<'a, 'b> {
    field: &'static str,
    tokens: Vec<&'a str>,
    at: usize,
    /// Places of the parentheses that were closed last.
    parenthesis: (usize, usize),
    scope: &'b mut Scope<'a>,
}

fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '#' | ':');
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let length = match word {
            0 if ["<=", ">=", "<>"].iter().any(|two| rest.starts_with(two)) => 2,
            0 => rest.chars().next().map_or(1, char::len_utf8),
            _ => word,
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

impl<'a> Parser<'a, '_> {
    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).copied().unwrap_or_default()
    }

    fn is_next(&self, keyword: &str) -> bool {
        self.peek().eq_ignore_ascii_case(keyword)
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn wrong<T>(&self, why: &str) -> Result<T, Refusal> {
        invalid(format!("Invalid {}: {why}", self.field))
    }

    fn overlap<T>(&self, name: &str) -> Result<T, Refusal> {
        self.wrong(&format!(
            "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [{name}], path two: [{name}]"
        ))
    }

    /// A syntax error, or what this parser does not know.
    fn unexpected<T>(&self, token: &str) -> Result<T, Refusal> {
        const KNOWN_TO_DYNAMODB: [&str; 12] = [
            "not",
            "between",
            "in",
            "begins_with",
            "contains",
            "size",
            "attribute_type",
            "if_not_exists",
            "list_append",
            "-",
            ".",
            "[",
        ];
        if KNOWN_TO_DYNAMODB.iter().any(|known| known.eq_ignore_ascii_case(token)) {
            return unsupported(format!("{token} in {}", self.field));
        }
        self.wrong(&format!("Syntax error; token: \"{token}\""))
    }

    fn expect(&mut self, token: &str) -> Result<(), Refusal> {
        match self.next() {
            found if found == token => Ok(()),
            found => self.unexpected(found),
        }
    }

    fn name(&mut self) -> Result<String, Refusal> {
        let token = self.next();
        let name = if token.starts_with('#') {
            let Some(name) = self.scope.names[token].as_str() else {
                return self.wrong(&format!("An expression attribute name used in the document path is not defined; attribute name: {token}"));
            };
            self.scope.used.insert(token.to_owned());
            name.to_owned()
        } else if !token.starts_with(char::is_alphabetic) || self.is_next("(") {
            return self.unexpected(token);
        } else if RESERVED_WORDS.contains(token.to_ascii_uppercase().as_str()) {
            if ["not", "between", "in", "size"]
                .iter()
                .any(|known| token.eq_ignore_ascii_case(known))
            {
                return self.unexpected(token);
            }
            return self.wrong(&format!(
                "Attribute name is a reserved keyword; reserved keyword: {token}"
            ));
        } else {
            token.to_owned()
        };
        match self.peek() {
            token @ ("." | "[") => self.unexpected(token),
            _ => Ok(name),
        }
    }

    fn value(&mut self) -> Result<Value, Refusal> {
        let token = self.next();
        if !token.starts_with(':') {
            return self.unexpected(token);
        }
        match &self.scope.values[token] {
            Value::Null => self.wrong(&format!(
                "An expression attribute value used in expression is not defined; attribute value: {token}"
            )),
            value => {
                self.scope.used.insert(token.to_owned());
                normal(value)
            }
        }
    }

    fn operand(&mut self) -> Result<Operand, Refusal> {
        if self.peek().starts_with(':') {
            return Ok(Operand::Value(self.value()?));
        }
        Ok(Operand::Attribute(self.name()?))
    }

    fn or(&mut self) -> Result<Condition, Refusal> {
        let mut condition = self.and()?;
        while self.is_next("OR") {
            self.next();
            condition = Condition::Or(condition.into(), self.and()?.into());
        }
        Ok(condition)
    }

    fn and(&mut self) -> Result<Condition, Refusal> {
        let mut condition = self.term()?;
        while self.is_next("AND") {
            self.next();
            condition = Condition::And(condition.into(), self.term()?.into());
        }
        Ok(condition)
    }

    fn term(&mut self) -> Result<Condition, Refusal> {
        match self.peek() {
            "(" => {
                let open = self.at;
                self.next();
                let condition = self.or()?;
                if self.parenthesis == (open + 1, self.at - 1) {
                    return self.wrong("The expression has redundant parentheses;");
                }
                self.parenthesis = (open, self.at);
                self.expect(")")?;
                Ok(condition)
            }
            function @ ("attribute_exists" | "attribute_not_exists") => {
                self.next();
                self.expect("(")?;
                let name = self.name()?;
                self.expect(")")?;
                Ok(Condition::Exists(name, function == "attribute_exists"))
            }
            _ => self.comparison(),
        }
    }

    fn comparison(&mut self) -> Result<Condition, Refusal> {
        let left = self.operand()?;
        let token = self.next();
        let Some(comparison) = Comparison::read(token) else { return self.unexpected(token) };
        let right = self.operand()?;
        if let (Operand::Attribute(first), true) = (&left, left == right) {
            return self.wrong(&format!("The first operand must be distinct from the remaining operands for this operator or function; operator: {token}, first operand: [{first}]"));
        }
        let is_order = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        for operand in [&left, &right] {
            if let (Operand::Value(Value::Object(value)), true) = (operand, is_order)
                && let Some(kind) =
                    value.keys().find(|kind| !["S", "N", "B"].contains(&kind.as_str()))
            {
                return self.wrong(&format!("Incorrect operand type for operator or function; operator: {token}, operand type: {kind}"));
            }
        }
        Ok(Condition::Compare(left, comparison, right))
    }

    fn update(&mut self) -> Result<Update, Refusal> {
        let (mut actions, mut clauses) = (Vec::<Action>::new(), BTreeSet::new());
        while !self.peek().is_empty() {
            let token = self.next();
            let clause = token.to_ascii_uppercase();
            match clause.as_str() {
                "SET" | "ADD" | "REMOVE" => {}
                "DELETE" => return unsupported("DELETE in UpdateExpression"),
                _ => return self.unexpected(token),
            }
            if !clauses.insert(clause.clone()) {
                return self.wrong(&format!(
                    "The \"{clause}\" section can only be used once in an update expression;"
                ));
            }
            loop {
                let action = self.action(&clause)?;
                let name = action.attribute();
                if actions.iter().any(|other| other.attribute() == name) {
                    return self.overlap(name);
                }
                actions.push(action);
                if self.peek() != "," {
                    break;
                }
                self.next();
            }
        }
        Ok(Update(actions))
    }

    fn action(&mut self, clause: &str) -> Result<Action, Refusal> {
        let name = self.name()?;
        match clause {
            "SET" => {
                self.expect("=")?;
                let first = self.set_operand()?;
                let second = match self.peek() {
                    "+" => {
                        self.next();
                        Some(self.set_operand()?)
                    }
                    "-" => return self.unexpected("-"),
                    _ => None,
                };
                if second.is_some() {
                    self.check_numbers("+", [Some(&first), second.as_ref()])?;
                }
                Ok(Action::Set(name, first, second))
            }
            "ADD" => {
                let value = self.value()?;
                let operand = Operand::Value(value.clone());
                self.check_numbers("ADD", [Some(&operand), None])?;
                Ok(Action::Add(name, value))
            }
            _ => Ok(Action::Remove(name)),
        }
    }

    fn set_operand(&mut self) -> Result<Operand, Refusal> {
        if self.peek() != "if_not_exists" {
            return self.operand();
        }
        self.next();
        self.expect("(")?;
        let name = self.name()?;
        self.expect(",")?;
        let value = self.value()?;
        self.expect(")")?;
        Ok(Operand::AttributeOr(name, value))
    }

    fn check_numbers(
        &self,
        operator: &str,
        operands: [Option<&Operand>; 2],
    ) -> Result<(), Refusal> {
        for operand in operands.into_iter().flatten() {
            if let Operand::Value(Value::Object(value)) = operand
                && let Some(kind) = value.keys().find(|kind| *kind != "N")
            {
                return self.wrong(&format!("Incorrect operand type for operator or function; operator: {operator}, operand type: {kind}"));
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Refusal> {
        match self.peek() {
            "" => Ok(()),
            token => self.unexpected(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Value {
        json!({
            "ExpressionAttributeNames": { "#a": "a", "#status": "status" },
            "ExpressionAttributeValues": { ":five": { "N": "5" }, ":x": { "S": "x" }, ":true": { "BOOL": true } },
        })
    }

    fn item() -> Item {
        normal_item(&json!({ "a": { "N": "5.0" }, "s": { "S": "x" } })).expect("an item")
    }

    fn holds(condition: &str) -> Result<bool, Refusal> {
        let mut request = request();
        request["ConditionExpression"] = json!(condition);
        let condition = Scope::of(&request).condition(&request, "ConditionExpression")?;
        Ok(condition.expect("a condition").holds(&item()))
    }

    fn updated(update: &str) -> Result<Item, Refusal> {
        let mut request = request();
        request["UpdateExpression"] = json!(update);
        Scope::of(&request).update(&request)?.apply(&item())
    }

    #[test]
    fn conditions_hold_as_dynamodb_says() {
        for (condition, expected) in [
            ("#a = :five AND s = :x", true),
            ("a < :five OR a >= :five", true),
            ("attribute_not_exists(a) OR (a = :five AND attribute_exists(b))", false),
            ("b = :five", false),
            ("b <> :five", true),
            ("b < :five", false),
            ("s < :five", false),
            ("s <> :five", true),
        ] {
            assert_eq!(holds(condition), Ok(expected), "{condition}");
        }
    }

    #[test]
    fn a_condition_that_dynamodb_refuses_is_invalid() {
        for (wrong, why) in [
            ("a =", "Syntax error"),
            ("a ~ :five", "Syntax error"),
            ("(a = :five", "Syntax error"),
            ("a = :five a", "Syntax error"),
            ("a = :six", "is not defined; attribute value: :six"),
            ("#b = :five", "is not defined; attribute name: #b"),
            ("status = :five", "reserved keyword: status"),
            ("((a = :five))", "redundant parentheses"),
            ("a = a", "must be distinct"),
            ("a < :true", "operand type: BOOL"),
            (" ", "can not be empty"),
            (&format!("a = :five{}", " ".repeat(4096)), "exceeded the maximum allowed size"),
        ] {
            match holds(wrong) {
                Err(Refusal::Invalid(text)) => assert!(text.contains(why), "{wrong}: {text}"),
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_only_dynamodb_understands_is_refused_loudly() {
        for unknown in [
            "NOT a = :five",
            "begins_with(s, :x)",
            "a BETWEEN :five AND :five",
            "m.a = :five",
            "size(s) > :five",
            "l[0] = :x",
            "a IN (:five)",
        ] {
            assert!(
                matches!(holds(unknown), Err(Refusal::Unsupported(_))),
                "{unknown}: {:?}",
                holds(unknown)
            );
        }
        for unknown in
            ["SET a = list_append(a, :five)", "SET a = a - :five", "DELETE a :x", "SET m.a = :x"]
        {
            assert!(
                matches!(updated(unknown), Err(Refusal::Unsupported(_))),
                "{unknown}: {:?}",
                updated(unknown)
            );
        }
    }

    #[test]
    fn an_update_reads_the_item_as_it_was() {
        let after = updated("SET a = a + :five, b = a REMOVE s").expect("valid");
        assert_eq!(after.get("a"), Some(&json!({"N": "10"})));
        assert_eq!(after.get("b"), Some(&json!({"N": "5"})));
        assert_eq!(after.get("s"), None);
        let after = updated("SET a = if_not_exists(a, :x), b = if_not_exists(b, :x)");
        let after = after.expect("valid");
        assert_eq!(after.get("a"), Some(&json!({"N": "5"})));
        assert_eq!(after.get("b"), Some(&request()["ExpressionAttributeValues"][":x"]));
        assert_eq!(updated("ADD n :five").expect("valid").get("n"), Some(&json!({"N": "5"})));
    }

    #[test]
    fn an_update_that_dynamodb_refuses_is_invalid() {
        for (wrong, why) in [
            ("SET a = gone + :five", "attribute that does not exist"),
            ("SET a = s + :five", "incorrect data type"),
            ("SET a = a + :x", "operand type: S"),
            ("SET a = :five, a = :x", "paths overlap"),
            ("SET a = :five REMOVE a", "paths overlap"),
            ("SET a = :five SET b = :five", "only be used once"),
            ("SET status = :five", "reserved keyword"),
        ] {
            match updated(wrong) {
                Err(Refusal::Invalid(text)) => assert!(text.contains(why), "{wrong}: {text}"),
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }

    #[test]
    fn names_and_values_that_nothing_uses_are_refused() {
        let mut request = request();
        request["ConditionExpression"] = json!("#a = :five");
        let mut scope = Scope::of(&request);
        scope.condition(&request, "ConditionExpression").expect("valid");
        let refused = scope.finish();
        assert!(
            matches!(refused, Err(Refusal::Invalid(text)) if text.contains("unused in expressions: keys: {#status}"))
        );
    }

    #[test]
    fn numbers_come_back_without_idle_zeros() {
        for (number, expected) in [
            ("007", "7"),
            ("1.50", "1.5"),
            ("-0", "0"),
            ("0.0", "0"),
            (".5", "0.5"),
            ("-10", "-10"),
        ] {
            assert_eq!(normal_number(number), Ok(expected.to_owned()));
        }
        assert!(matches!(normal_number("x"), Err(Refusal::Invalid(_))));
    }

    #[test]
    fn numbers_are_ordered_by_value() {
        for (less, greater) in
            [("-10", "-9"), ("-1", "0"), ("9", "10"), ("1.5", "1.55"), ("0.09", "0.1")]
        {
            assert_eq!(order_of_numbers(less, greater), Ordering::Less, "{less} {greater}");
            assert_eq!(order_of_numbers(greater, less), Ordering::Greater, "{less} {greater}");
        }
    }
}
