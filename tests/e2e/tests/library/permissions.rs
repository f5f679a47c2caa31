//! Whether the role in the library's template is enough for all that the library calls, where IAM is asked. That it
//! permits nothing else is compared with the code by a test of the library's own.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use aws_lambda_events::event::sqs::SqsEvent;
use aws_sdk_cloudformation::types::{Capability as StackCapability, Parameter, StackStatus};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::QueueAttributeName;
use e2e::{Capability, Seconds, Stack, eventually};
use exactly_once::{
    Commit, Consumer, Effect, EffectError, EffectKey, Failure, IdempotencyKeys, IdempotentError,
    Inbox, Outbox, Outgoing, RequestKey, commit,
};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

const TEMPLATE: &str = include_str!("../../../../crates/exactly-once/tables.yaml");
/// The beginning of the policy that allows an outbox its calls.
const OUTBOX_STATEMENTS: &str = "        - PolicyName: outbox
          PolicyDocument:
            Version: \"2012-10-17\"
            Statement:
";
const BATCH_EXECUTE: &str = "              - Effect: Allow
                Action: dynamodb:BatchExecuteStatement
                Resource: \"*\"
";

/// Deploys the template with these parameters; its outputs.
async fn deploy(
    cloudformation: &aws_sdk_cloudformation::Client,
    name: &str,
    parameters: &[(&str, &str)],
) -> Result<BTreeMap<String, String>> {
    let parameters = parameters.iter().map(|(key, value)| {
        Parameter::builder().parameter_key(*key).parameter_value(*value).build()
    });
    cloudformation
        .create_stack()
        .stack_name(name)
        // AWS has no such actions as PublishBatch and BatchExecuteStatement; there, sns:Publish allows both calls, and
        // PartiQLUpdate the statements. MiniStack has them, the latter on all tables.
        .template_body(
            TEMPLATE
                .replace("sns:Publish", "[sns:Publish, sns:PublishBatch]")
                .replace(OUTBOX_STATEMENTS, &format!("{OUTBOX_STATEMENTS}{BATCH_EXECUTE}")),
        )
        .set_parameters(Some(parameters.collect()))
        .capabilities(StackCapability::CapabilityIam)
        .send()
        .await?;
    let stack = eventually("the template to be deployed", 60.secs(), async || {
        let stacks = cloudformation.describe_stacks().stack_name(name).send().await?;
        let stack = stacks.stacks.unwrap_or_default().into_iter().next().context("a stack")?;
        let status = stack.stack_status().context("a status")?.clone();
        ensure!(!status.as_str().contains("FAILED"), "{:?}", stack.stack_status_reason());
        Ok((status == StackStatus::CreateComplete).then_some(stack))
    })
    .await?;
    let outputs = stack.outputs.unwrap_or_default().into_iter();
    Ok(outputs.filter_map(|output| Some((output.output_key?, output.output_value?))).collect())
}

async fn queue(stack: &Stack) -> Result<(String, String)> {
    let name = format!("library-{}", Uuid::new_v4());
    let url = stack.sqs.create_queue().queue_name(name).send().await?.queue_url;
    let url = url.context("a queue has a URL")?;
    let attributes = stack.sqs.get_queue_attributes().queue_url(&url);
    let attributes = attributes.attribute_names(QueueAttributeName::QueueArn).send().await?;
    let arn = attributes.attributes().and_then(|all| all.get(&QueueAttributeName::QueueArn));
    Ok((url, arn.context("a queue has an ARN")?.clone()))
}

#[tokio::test]
async fn the_role_of_the_template_is_enough_for_everything_that_the_library_does() -> Result<()> {
    let stack = Stack::load().await?;
    if !stack.can(Capability::EnforcesIam) {
        return Ok(());
    }
    let cloudformation = aws_sdk_cloudformation::Client::new(&stack.aws);
    let (queue_url, queue_arn) = queue(&stack).await?;
    let (dlq_url, dlq_arn) = queue(&stack).await?;
    let topic = stack.sns.create_topic().name(format!("library-{}", Uuid::new_v4()));
    let topic_arn = topic.send().await?.topic_arn.context("a topic has an ARN")?;
    let name = format!("library-{}", Uuid::new_v4());
    let parameters = [("QueueArn", &*queue_arn), ("DlqArn", &*dlq_arn), ("TopicArn", &*topic_arn)];
    let outputs = deploy(&cloudformation, &name, &parameters).await?;
    let aws = stack.with_role(&outputs["FunctionRoleArn"]).await?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws);
    let (sns, sqs) = (aws_sdk_sns::Client::new(&aws), aws_sdk_sqs::Client::new(&aws));
    let (idempotency, event_log) = (&outputs["IdempotencyTable"], &outputs["EventLogTable"]);

    let refused = dynamodb.scan().table_name(idempotency).send().await;
    let refused = refused.expect_err("IAM is asked");
    assert!(refused.code().is_some_and(|code| code.contains("AccessDenied")), "{refused:?}");

    // A marker, a request's key and an event, in one transaction; then all that an outbox does.
    let inbox = Inbox::new(dynamodb.clone(), idempotency, "library").unknown_attempts_max(1);
    let keys = IdempotencyKeys::new(dynamodb.clone(), idempotency, "library");
    let outbox = Outbox::new(dynamodb.clone(), sns, event_log, &topic_arn);
    let key = RequestKey { scope: "s".into(), key: "k".into(), fingerprint: "f".into() };
    let id = Uuid::now_v7();
    let (body, attributes) = ("{}".to_owned(), BTreeMap::new());
    let events = [Outgoing { stream: "one".into(), id, body, attributes }];
    let mut writes = vec![inbox.marker(id), keys.record("key", &key, "answer")];
    writes.extend(outbox.append(&events));
    assert_eq!(commit(&dynamodb, &writes).await?, Commit::Done);
    assert!(keys.find(&key).await?.is_some());
    eventually("SNS to take the event in time", 30.secs(), async || {
        Ok((outbox.publish(&events).await == 1).then_some(()))
    })
    .await?;
    assert!(outbox.republish("one", id, Timestamp::UNIX_EPOCH).await?);
    assert_eq!(outbox.backlog().await?.pending, 1);
    assert_eq!(outbox.list_pending(10).await?.len(), 1);
    let deadline = tokio::time::Instant::now() + 20.secs();
    assert_eq!(outbox.sweep(1.secs(), deadline).await?.published, 1);

    // A lease that is completed, given back, kept as unknown, and given up.
    let lease = 4.secs();
    let done = inbox.idempotent("done", lease, async || Ok(7)).await?;
    assert_eq!(done, Effect::Done(7));
    let failed = async || Err::<(), _>(EffectError::NotDone(Failure::transient("refused")));
    let failed = inbox.idempotent("failed", lease, failed).await;
    assert!(matches!(failed, Err(IdempotentError::NotDone(_))), "{failed:?}");
    eventually("the lease of an unknown outcome to be given up", 20.secs(), async || {
        let unknown = async || Err::<(), _>(EffectError::Unknown("no answer".into()));
        match inbox.idempotent(EffectKey::new("unknown"), lease, unknown).await {
            Err(IdempotentError::UnknownTooOften { .. }) => Ok(Some(())),
            Err(IdempotentError::Unknown { .. } | IdempotentError::Held { .. }) => Ok(None),
            other => anyhow::bail!("{other:?}"),
        }
    })
    .await?;

    // A batch with a message that comes back and one that goes to the DLQ.
    let consumer = Consumer::new("library", sqs, &queue_url, &dlq_url);
    stack.send(&queue_url, "comes back").await?;
    let message = eventually("the message", 20.secs(), async || {
        let received = stack.sqs.receive_message().queue_url(&queue_url).send().await?;
        Ok(received.messages.unwrap_or_default().into_iter().next())
    })
    .await?;
    let record = |id: &str, body: &str| {
        json!({ "messageId": id, "receiptHandle": message.receipt_handle(), "body": body,
            "attributes": {}, "messageAttributes": {} })
    };
    let records = [record("1", "comes back"), record("2", "poison")];
    let batch: SqsEvent = serde_json::from_value(json!({ "Records": records }))?;
    let deadline_ms = u64::try_from((Timestamp::now() + 10.secs()).as_millisecond())?;
    let answer = consumer
        .run(batch, deadline_ms, async |message| match message.body.as_str() {
            "poison" => Err(Failure::poison("bad", "it is")),
            _ => Err(Failure::retry_in(1.secs(), "not now")),
        })
        .await;
    assert_eq!(answer.batch_item_failures.len(), 1, "the DLQ took the poison");
    eventually("the message to come back before its visibility timeout", 10.secs(), async || {
        let received = stack.sqs.receive_message().queue_url(&queue_url).send().await?;
        Ok(received.messages.and_then(|messages| messages.into_iter().next()))
    })
    .await?;

    cloudformation.delete_stack().stack_name(&name).send().await?;
    stack.sns.delete_topic().topic_arn(topic_arn).send().await?;
    for queue_url in [queue_url, dlq_url] {
        stack.sqs.delete_queue().queue_url(queue_url).send().await?;
    }
    Ok(())
}
