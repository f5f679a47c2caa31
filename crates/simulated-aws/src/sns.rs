//! SNS: topics that copy what is published to the queues that are subscribed.
//!
//! In: Publish and PublishBatch, topics and subscriptions. Out: messages on queues, refusals with AWS's codes. Guarantees:
//! what a topic has accepted reaches each queue whose filter takes it, once or twice, soon or late, in any order, unless
//! AWS's pages say that SNS gives it up; a filter policy that this does not know is an error, never a guess.
//!
//! Who may do what is not simulated.

use std::collections::{BTreeMap, BTreeSet};

use aws_smithy_types::{DateTime, date_time::Format};
use serde_json::{Map, Value, json};

use crate::{
    SimulatedAws, State,
    sqs::{self, ATTRIBUTES_MAX, Attribute, AttributeValue, Attributes, NewMessage},
    wire::Answer,
};

/// Maximum number of entries in a batch, and size of one and of a message in bytes.
/// <https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html>
const ENTRIES_MAX: usize = 10;
const BYTES_MAX: usize = 256 * 1024;
/// How late a copy of a published message may arrive.
const FAN_OUT_MS_MAX: u64 = 3000;
/// After what time SNS gives up a queue that fails: 100,015 attempts.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html>
const RETRIES_MS: u64 = 23 * 24 * 60 * 60 * 1000;
/// How far apart its last attempts are.
const RETRY_MS_MAX: u64 = 20_000;

/// How a subscription of a queue behaves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SubscriptionSettings {
    /// What it takes, by message attributes; all if `None`.
    pub filter_policy: Option<Value>,
    /// Whether a queue gets the message as it was published, attributes included, rather than in an envelope of JSON.
    pub is_raw: bool,
    /// The URL of the queue for what cannot be delivered.
    pub dlq_url: Option<String>,
}

/// A filter policy that only SNS itself can apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFilter(String);

impl std::fmt::Display for UnknownFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the filter policy uses {}, which is not simulated", self.0)
    }
}

impl std::error::Error for UnknownFilter {}

#[derive(Debug)]
struct Subscription {
    arn: String,
    topic_arn: String,
    queue_url: String,
    settings: SubscriptionSettings,
}

/// A message that a queue does not take at present.
#[derive(Debug)]
struct Undelivered {
    queue_url: String,
    dlq_url: Option<String>,
    message: NewMessage,
    since_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Sns {
    topics: BTreeSet<String>,
    subscriptions: Vec<Subscription>,
    /// Queues that fail whenever SNS delivers to them.
    failing_queues: BTreeSet<String>,
    undelivered: Vec<Undelivered>,
    made: u64,
}

/// A call or an entry that SNS refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn invalid(message: &str) -> Self {
        Self::new("InvalidParameter", format!("Invalid parameter: {message}"))
    }

    fn answer(&self) -> Answer {
        let status = match self.code {
            "NotFound" => 404,
            "NotImplemented" => 501,
            _ => 400,
        };
        Answer::xml_error(status, self.code, &escape(&self.message))
    }
}

impl SimulatedAws {
    /// Makes a topic; its ARN.
    pub fn create_topic(&self, name: &str) -> String {
        let arn = format!("arn:aws:sns:simulated:0:{name}");
        self.lock().sns.topics.insert(arn.clone());
        arn
    }

    /// Has a queue get what is published on a topic; the subscription's ARN.
    ///
    /// # Errors
    /// The filter policy uses what is not simulated.
    pub fn subscribe(
        &self,
        topic_arn: &str,
        queue_url: &str,
        settings: SubscriptionSettings,
    ) -> Result<String, UnknownFilter> {
        // Everything that it can ask for is asked for once, so that what is unknown shows up now.
        takes(settings.filter_policy.as_ref(), &Attributes::new())?;
        let mut state = self.lock();
        let arn = format!("{topic_arn}:{}", state.sns.subscriptions.len() + 1);
        state.sns.subscriptions.push(Subscription {
            arn: arn.clone(),
            topic_arn: topic_arn.to_owned(),
            queue_url: queue_url.to_owned(),
            settings,
        });
        Ok(arn)
    }

    /// Publishes a message on every topic, as something outside the simulated functions.
    pub fn publish(&self, body: &str, attributes: &BTreeMap<String, String>) {
        let (now_ms, message) = (self.now_ms(), NewMessage::of_texts(body, attributes));
        let mut state = self.lock();
        for topic_arn in state.sns.topics.clone() {
            publish(&mut state, &topic_arn, &message, None, now_ms);
        }
    }

    /// From now on a queue fails whenever SNS delivers to it, or does so no more. SNS keeps trying for 23 days.
    pub fn fail_deliveries(&self, queue_url: &str, is_failing: bool) {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        give_up_old(&mut state, now_ms);
        if is_failing {
            state.sns.failing_queues.insert(queue_url.to_owned());
            return;
        }
        state.sns.failing_queues.remove(queue_url);
        let held = std::mem::take(&mut state.sns.undelivered);
        for one in held {
            if one.queue_url == queue_url {
                let delay_ms = state.random.u64(0..=RETRY_MS_MAX);
                sqs::deposit(&mut state, queue_url, one.message, delay_ms, now_ms);
            } else {
                state.sns.undelivered.push(one);
            }
        }
    }
}

/// Whether a policy takes a message with these attributes: for every name in it one condition holds.
/// <https://docs.aws.amazon.com/sns/latest/dg/and-or-logic.html>
fn takes(policy: Option<&Value>, attributes: &Attributes) -> Result<bool, UnknownFilter> {
    let Some(policy) = policy else { return Ok(true) };
    let unknown = || UnknownFilter(policy.to_string());
    let mut takes = true;
    for (name, conditions) in policy.as_object().ok_or_else(unknown)? {
        let values = attributes.get(name).map(values_of);
        let mut is_met = false;
        for condition in conditions.as_array().ok_or_else(unknown)? {
            is_met |= is_condition_met(condition, values.as_deref())?;
        }
        takes &= is_met;
    }
    Ok(takes)
}

/// The texts of an attribute: of a list, each.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html>
fn values_of(attribute: &Attribute) -> Vec<String> {
    match &attribute.value {
        AttributeValue::Text(list) if attribute.data_type == "String.Array" => {
            let list: Vec<Value> = serde_json::from_str(list).unwrap_or_default();
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        AttributeValue::Text(text) => vec![text.clone()],
        // Filters ignore what is binary.
        AttributeValue::Binary(_) => Vec::new(),
    }
}

/// <https://docs.aws.amazon.com/sns/latest/dg/string-value-matching.html>
fn is_condition_met(condition: &Value, values: Option<&[String]>) -> Result<bool, UnknownFilter> {
    let any = |is_met: &dyn Fn(&str) -> bool| {
        values.is_some_and(|values| values.iter().any(|value| is_met(value)))
    };
    if let Value::String(wanted) = condition {
        return Ok(any(&|value| value == wanted));
    }
    let operators = condition.as_object().into_iter().flatten().collect::<Vec<_>>();
    match operators.as_slice() {
        [(name, Value::Bool(is_wanted))] if *name == "exists" => Ok(values.is_some() == *is_wanted),
        [(name, Value::String(prefix))] if *name == "prefix" => {
            Ok(any(&|value| value.starts_with(prefix)))
        }
        [(name, Value::Array(others))]
            if *name == "anything-but" && others.iter().all(Value::is_string) =>
        {
            Ok(any(&|value| !others.iter().any(|other| other == value)))
        }
        _ => Err(UnknownFilter(condition.to_string())),
    }
}

type Fields<'a> = BTreeMap<&'a str, &'a str>;

/// The fields of a form by their names, of those that begin with `prefix`, which is left out.
fn fields<'a>(form: &'a [(String, String)], prefix: &str) -> Fields<'a> {
    let fields =
        form.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, &**value)));
    fields.collect()
}

/// The topic that is published on.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
fn read_topic(state: &State, form: &Fields<'_>) -> Result<String, Refusal> {
    let arn = form.get("TopicArn").copied().unwrap_or_default();
    if arn.is_empty() {
        return Err(Refusal::invalid(
            "TopicArn or TargetArn Reason: no value for required parameter",
        ));
    }
    let elements = arn.split(':').count();
    if elements < 6 {
        let why = format!("TopicArn Reason: An ARN must have at least 6 elements, not {elements}");
        return Err(Refusal::invalid(&why));
    }
    if !arn.starts_with("arn:aws:sns:") || elements > 6 {
        return Err(Refusal::invalid("TopicArn"));
    }
    if !state.sns.topics.contains(arn) {
        return Err(Refusal::new("NotFound", "Topic does not exist"));
    }
    Ok(arn.to_owned())
}

/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html>
fn read_attributes(form: &Fields<'_>) -> Result<Attributes, Refusal> {
    let mut attributes = Attributes::new();
    for place in 1.. {
        let field = |end: &str| form.get(&*format!("MessageAttributes.entry.{place}.{end}"));
        let Some(name) = field("Name") else { break };
        let data_type = field("Value.DataType").copied().unwrap_or_default();
        let text = field("Value.StringValue").map(|value| AttributeValue::Text((*value).into()));
        let binary =
            field("Value.BinaryValue").map(|value| AttributeValue::Binary((*value).into()));
        let value = match data_type.split('.').next() {
            Some("String" | "Number") => text,
            Some("Binary") => binary,
            _ => {
                let why =
                    format!("The message attribute '{name}' has an invalid message attribute type");
                return Err(Refusal::new("ParameterValueInvalid", why));
            }
        };
        match value {
            Some(AttributeValue::Text(value) | AttributeValue::Binary(value))
                if value.is_empty() =>
            {
                return Err(empty_attribute(name, data_type));
            }
            None => return Err(empty_attribute(name, data_type)),
            Some(value) => {
                let data_type = data_type.to_owned();
                attributes.insert((*name).to_owned(), Attribute { data_type, value });
            }
        }
    }
    Ok(attributes)
}

fn empty_attribute(name: &str, data_type: &str) -> Refusal {
    let value = "non-empty message attribute value for message attribute type";
    let why = format!("The message attribute '{name}' must contain {value} '{data_type}'.");
    Refusal::new("ParameterValueInvalid", why)
}

/// A message to be published, and its subject.
fn read_message(form: &Fields<'_>) -> Result<(NewMessage, Option<String>), Refusal> {
    if form.contains_key("MessageStructure") || form.contains_key("MessageGroupId") {
        return Err(Refusal::new("NotImplemented", "MessageStructure and FIFO topics"));
    }
    let body = form.get("Message").copied().unwrap_or_default().to_owned();
    if body.is_empty() {
        return Err(Refusal::invalid("Empty message"));
    }
    let attributes = read_attributes(form)?;
    let message = NewMessage { body, attributes, ..NewMessage::default() };
    if message.bytes() > BYTES_MAX {
        return Err(Refusal::invalid("Message too long"));
    }
    Ok((message, form.get("Subject").map(|subject| (*subject).to_owned())))
}

/// The entries of a batch by their place: one to ten, each with an id of its own, together no larger than a message.
/// <https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html>
fn read_entries(form: &[(String, String)]) -> Result<Vec<(String, Fields<'_>)>, Refusal> {
    let mut entries: BTreeMap<u32, Fields<'_>> = BTreeMap::new();
    for (name, value) in fields(form, "PublishBatchRequestEntries.member.") {
        if let Some((place, field)) = name.split_once('.')
            && let Ok(place) = place.parse()
        {
            entries.entry(place).or_default().insert(field, value);
        }
    }
    if entries.is_empty() {
        return Err(Refusal::new(
            "EmptyBatchRequest",
            "The batch request doesn't contain any entries.",
        ));
    }
    if entries.len() > ENTRIES_MAX {
        let why = "The batch request contains more entries than permissible.";
        return Err(Refusal::new("TooManyEntriesInBatchRequest", why));
    }
    let mut ids = BTreeSet::new();
    let (mut read, mut bytes) = (Vec::new(), 0);
    for entry in entries.into_values() {
        let id = entry.get("Id").copied().unwrap_or_default().to_owned();
        let is_id = (1..=80).contains(&id.len())
            && id.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if !is_id {
            let why =
                "The Id of a batch entry in a batch request doesn't abide by the specification.";
            return Err(Refusal::new("InvalidBatchEntryId", why));
        }
        if !ids.insert(id.clone()) {
            let why = "Two or more batch entries in the request have the same Id.";
            return Err(Refusal::new("BatchEntryIdsNotDistinct", why));
        }
        let attributes = read_attributes(&entry).unwrap_or_default();
        let body = entry.get("Message").copied().unwrap_or_default().to_owned();
        bytes += NewMessage { body, attributes, ..NewMessage::default() }.bytes();
        read.push((id, entry));
    }
    if bytes > BYTES_MAX {
        let why = "The length of all the batch messages put together is more than the limit.";
        return Err(Refusal::new("BatchRequestTooLong", why));
    }
    Ok(read)
}

/// Copies a message to the queues that take it; its id.
fn publish(
    state: &mut State,
    topic_arn: &str,
    message: &NewMessage,
    subject: Option<&str>,
    now_ms: u64,
) -> String {
    state.sns.made += 1;
    let id = format!("sns-{}", state.sns.made);
    let subscriptions = state.sns.subscriptions.iter();
    let taking = subscriptions.filter(|subscription| {
        subscription.topic_arn == topic_arn
            // What is unknown was refused when it was subscribed.
            && takes(subscription.settings.filter_policy.as_ref(), &message.attributes)
                .unwrap_or(false)
    });
    let taking: Vec<_> = taking.map(|one| (one.queue_url.clone(), one.settings.clone())).collect();
    for (queue_url, settings) in taking {
        let copy = if settings.is_raw {
            message.clone()
        } else {
            envelope(&id, topic_arn, message, subject, now_ms)
        };
        deliver(state, &queue_url, settings.dlq_url, copy, now_ms);
    }
    id
}

/// The message as it stands in an envelope.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-large-payload-raw-message-delivery.html>
fn envelope(
    id: &str,
    topic_arn: &str,
    message: &NewMessage,
    subject: Option<&str>,
    now_ms: u64,
) -> NewMessage {
    let mut body = json!({
        "Type": "Notification",
        "MessageId": id,
        "TopicArn": topic_arn,
        "Message": message.body,
        "Timestamp": timestamp(now_ms),
        "SignatureVersion": "1",
        "Signature": "simulated",
        "SigningCertURL": "http://simulated.invalid/certificate.pem",
        "UnsubscribeURL": "http://simulated.invalid/unsubscribe",
    });
    if let Some(subject) = subject {
        body["Subject"] = subject.into();
    }
    if !message.attributes.is_empty() {
        let attributes: Map<String, Value> = message
            .attributes
            .iter()
            .map(|(name, attribute)| {
                let (AttributeValue::Text(value) | AttributeValue::Binary(value)) =
                    &attribute.value;
                (name.clone(), json!({ "Type": attribute.data_type, "Value": value }))
            })
            .collect();
        body["MessageAttributes"] = attributes.into();
    }
    NewMessage { body: body.to_string(), ..NewMessage::default() }
}

fn timestamp(now_ms: u64) -> String {
    let moment = i64::try_from(now_ms).map(DateTime::from_millis).unwrap_or(DateTime::from_secs(0));
    moment.fmt(Format::DateTimeWithOffset).unwrap_or_default()
}

/// Delivers to one queue, and tries again by SNS's schedule while the attempts fail.
///
/// A client's error (the queue is gone, the message too large for it) is not tried again but goes to the subscription's DLQ.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-dead-letter-queues.html>
/// With more than ten attributes a message is discarded; that the DLQ would take it is nowhere said, and it is a queue too.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html>
fn deliver(
    state: &mut State,
    queue_url: &str,
    dlq_url: Option<String>,
    message: NewMessage,
    now_ms: u64,
) {
    if message.attributes.len() > ATTRIBUTES_MAX {
        return;
    }
    if !sqs::can_take(state, queue_url, &message) {
        if let Some(dlq_url) = dlq_url {
            sqs::deposit(state, &dlq_url, message, 0, now_ms);
        }
        return;
    }
    if state.sns.failing_queues.contains(queue_url) {
        let queue_url = queue_url.to_owned();
        state.sns.undelivered.push(Undelivered { queue_url, dlq_url, message, since_ms: now_ms });
        return;
    }
    let mut delay_ms = if state.is_prompt { 0 } else { state.random.u64(0..=FAN_OUT_MS_MAX) };
    let mut failures = 0;
    while state.random.u64(0..1000) < state.faults.fail.min(900) {
        delay_ms += retry_pause_ms(failures);
        failures += 1;
    }
    sqs::deposit(state, queue_url, message, delay_ms, now_ms);
}

/// How long SNS waits after so many failures before.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html>
fn retry_pause_ms(failures: u32) -> u64 {
    match failures {
        0..3 => 0,
        3..5 => 1000,
        5..15 => (1000 << (failures - 5)).min(RETRY_MS_MAX),
        _ => RETRY_MS_MAX,
    }
}

/// What SNS has tried to deliver for too long goes to the subscription's DLQ, or is gone.
pub(crate) fn give_up_old(state: &mut State, now_ms: u64) {
    let (old, young): (Vec<_>, Vec<_>) = std::mem::take(&mut state.sns.undelivered)
        .into_iter()
        .partition(|one| now_ms >= one.since_ms + RETRIES_MS);
    state.sns.undelivered = young;
    for one in old {
        if let Some(dlq_url) = one.dlq_url {
            sqs::deposit(state, &dlq_url, one.message, 0, now_ms);
        }
    }
}

fn publish_batch(
    state: &mut State,
    topic_arn: &str,
    form: &[(String, String)],
    now_ms: u64,
) -> Result<String, Refusal> {
    let (mut successful, mut failed) = (String::new(), String::new());
    for (id, entry) in read_entries(form)? {
        if state.random.u64(0..1000) < state.faults.partial {
            failed += &format!(
                "<member><Id>{id}</Id><Code>InternalError</Code><SenderFault>false</SenderFault></member>"
            );
            continue;
        }
        match read_message(&entry) {
            Ok((message, subject)) => {
                let message_id = publish(state, topic_arn, &message, subject.as_deref(), now_ms);
                successful +=
                    &format!("<member><Id>{id}</Id><MessageId>{message_id}</MessageId></member>");
            }
            Err(refusal) if refusal.code == "NotImplemented" => return Err(refusal),
            Err(Refusal { code, message }) => {
                let message = escape(&message);
                failed += &format!(
                    "<member><Id>{id}</Id><Code>{code}</Code><Message>{message}</Message>\
                     <SenderFault>true</SenderFault></member>"
                );
            }
        }
    }
    Ok(format!("<Successful>{successful}</Successful><Failed>{failed}</Failed>"))
}

/// <https://docs.aws.amazon.com/sns/latest/api/API_ListSubscriptionsByTopic.html>
fn list_subscriptions(state: &State, topic_arn: &str) -> String {
    let members = state.sns.subscriptions.iter().filter(|one| one.topic_arn == topic_arn);
    let members: String = members
        .map(|one| {
            let (arn, queue) = (&one.arn, one.queue_url.rsplit('/').next().unwrap_or_default());
            format!(
                "<member><SubscriptionArn>{arn}</SubscriptionArn><Owner>0</Owner><Protocol>sqs</Protocol>\
                 <Endpoint>arn:aws:sqs:simulated:0:{queue}</Endpoint><TopicArn>{topic_arn}</TopicArn></member>"
            )
        })
        .collect();
    format!("<Subscriptions>{members}</Subscriptions>")
}

/// <https://docs.aws.amazon.com/sns/latest/api/API_GetSubscriptionAttributes.html>
fn subscription_attributes(state: &State, form: &Fields<'_>) -> Result<String, Refusal> {
    let wanted = form.get("SubscriptionArn").copied().unwrap_or_default();
    let found = state.sns.subscriptions.iter().find(|one| one.arn == wanted);
    let found = found.ok_or_else(|| Refusal::new("NotFound", "Subscription does not exist"))?;
    let mut attributes = vec![
        ("SubscriptionArn", found.arn.clone()),
        ("TopicArn", found.topic_arn.clone()),
        ("RawMessageDelivery", found.settings.is_raw.to_string()),
    ];
    if let Some(policy) = &found.settings.filter_policy {
        attributes.push(("FilterPolicy", policy.to_string()));
        attributes.push(("FilterPolicyScope", "MessageAttributes".to_owned()));
    }
    let entries: String = attributes
        .iter()
        .map(|(name, value)| {
            format!("<entry><key>{name}</key><value>{}</value></entry>", escape(value))
        })
        .collect();
    Ok(format!("<Attributes>{entries}</Attributes>"))
}

/// A text as it stands in XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Carries out a call.
pub(crate) fn serve(aws: &SimulatedAws, form: &[(String, String)]) -> Answer {
    let now_ms = aws.now_ms();
    let mut state = aws.lock();
    let state = &mut *state;
    give_up_old(state, now_ms);
    let all = fields(form, "");
    let action = all.get("Action").copied().unwrap_or_default();
    let result = match action {
        "Publish" => read_topic(state, &all).and_then(|topic_arn| {
            let (message, subject) = read_message(&all)?;
            let id = publish(state, &topic_arn, &message, subject.as_deref(), now_ms);
            Ok(format!("<MessageId>{id}</MessageId>"))
        }),
        "PublishBatch" => read_topic(state, &all)
            .and_then(|topic_arn| publish_batch(state, &topic_arn, form, now_ms)),
        "ListSubscriptionsByTopic" => {
            read_topic(state, &all).map(|topic_arn| list_subscriptions(state, &topic_arn))
        }
        "GetSubscriptionAttributes" => subscription_attributes(state, &all),
        _ => Err(Refusal::new("NotImplemented", action)),
    };
    match result {
        Ok(result) => Answer::ok(format!(
            "<{action}Response xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><{action}Result>{result}\
             </{action}Result></{action}Response>"
        )),
        Err(refusal) => refusal.answer(),
    }
}
