//! The Lambda function behind the queue `product`: wiring, and which event calls for what.

use aws_lambda_events::event::sqs::SqsEvent;
use aws_sdk_dynamodb::Client;
use delivery::{Consumer, Failure, Handled, Inbox, Incoming, Outbox};
use events::{Body, Event};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use product::dynamodb::{Products, Reservations};
use settings::Environment;

const NAME: &str = "product-consumer";

#[tokio::main]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let mut environment = Environment::default();
    let products_table = environment.text("PRODUCTS_TABLE");
    let table = environment.text("RESERVATIONS_TABLE");
    let event_log_table = environment.text("EVENT_LOG_TABLE");
    let idempotency_table = environment.text("IDEMPOTENCY_TABLE");
    let topic_arn = environment.text("TOPIC_ARN");
    let queue_url = environment.text("QUEUE_URL");
    let dlq_url = environment.text("DLQ_URL");
    let backoff = environment.value("RETRY_SCHEDULE", delivery::batch::Backoff::default());
    environment.check()?;
    let aws = settings::aws().await;
    let client = Client::new(&aws);
    let reservations = Reservations {
        products: Products { client: client.clone(), table: products_table },
        table,
        inbox: Inbox::new(client.clone(), idempotency_table, NAME),
        outbox: Outbox {
            dynamodb: client,
            sns: aws_sdk_sns::Client::new(&aws),
            table: event_log_table,
            stream_key: "order_id",
            topic_arn,
        },
    };
    let sqs = aws_sdk_sqs::Client::new(&aws);
    let consumer = Consumer { name: NAME, sqs, queue_url, dlq_url, backoff };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        let handle = |message| handle(&reservations, message);
        Ok::<_, Error>(consumer.run(event.payload, event.context.deadline, handle).await)
    }))
    .await
}

async fn handle(reservations: &Reservations, message: Incoming) -> Result<Handled, Failure> {
    let event = Event::decode(message.body.as_bytes())
        .map_err(|error| Failure::poison(error.reason(), error))?;
    message.is_event(event.id, event.body.event_type().as_str(), event.body.order_id().as_str());
    match &event.body {
        Body::OrderCreated(order) => reservations.reserve(&event, order, &message.trace).await,
        Body::OrderCancelled(order) => {
            reservations.release(&event, &order.order_id, &message.trace).await
        }
        _ => Ok(Handled::Ignored),
    }
}
