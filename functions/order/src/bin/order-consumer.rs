//! The Lambda function behind the queue `order`: wiring, and which event calls for what.

use aws_lambda_events::event::sqs::SqsEvent;
use aws_sdk_dynamodb::Client;
use delivery::{Consumer, Failure, Handled, Inbox, Incoming, Outbox};
use events::{Body, Event};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use order::{
    rules::Stock,
    dynamodb::{Orders, Settling},
};
use settings::Environment;

const NAME: &str = "order-consumer";

#[tokio::main]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let mut environment = Environment::default();
    let table = environment.text("ORDERS_TABLE");
    let event_log_table = environment.text("EVENT_LOG_TABLE");
    let idempotency_table = environment.text("IDEMPOTENCY_TABLE");
    let topic_arn = environment.text("TOPIC_ARN");
    let queue_url = environment.text("QUEUE_URL");
    let dlq_url = environment.text("DLQ_URL");
    let backoff = environment.value("RETRY_SCHEDULE", delivery::batch::Backoff::default());
    environment.check()?;
    let aws = settings::aws().await;
    let client = Client::new(&aws);
    let outbox = Outbox {
        dynamodb: client.clone(),
        sns: aws_sdk_sns::Client::new(&aws),
        table: event_log_table,
        stream_key: "order_id",
        topic_arn,
    };
    let settling = Settling {
        orders: Orders { client: client.clone(), table, outbox },
        inbox: Inbox::new(client, idempotency_table, NAME),
    };
    let sqs = aws_sdk_sqs::Client::new(&aws);
    let consumer = Consumer { name: NAME, sqs, queue_url, dlq_url, backoff };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        let handle = |message| handle(&settling, message);
        Ok::<_, Error>(consumer.run(event.payload, event.context.deadline, handle).await)
    }))
    .await
}

async fn handle(settling: &Settling, message: Incoming) -> Result<Handled, Failure> {
    let event = Event::decode(message.body.as_bytes())
        .map_err(|error| Failure::poison(error.reason(), error))?;
    message.is_event(event.id, event.body.event_type().as_str(), event.body.order_id().as_str());
    let stock = match &event.body {
        Body::StockReserved(_) => Stock::Reserved,
        Body::StockRejected(rejected) => Stock::Rejected(rejected),
        _ => return Ok(Handled::Ignored),
    };
    settling.settle(&event, event.body.order_id(), stock, &message.trace).await
}
