use aws_sdk_dynamodb::types::{TransactWriteItem, Update};
use exactly_once::{
    Commit, Consumer, Failure, Handled, Inbox, Message, Role, TransactionWrite, commit,
    table::{number, text},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Sale {
    sale_id: String,
    product: String,
    pieces: u32,
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let env = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let aws = aws_config::load_from_env().await;
    let (dynamodb, sqs) = (aws_sdk_dynamodb::Client::new(&aws), aws_sdk_sqs::Client::new(&aws));
    let inbox = Inbox::new(dynamodb.clone(), env("IDEMPOTENCY_TABLE"), "sales");
    let consumer = Consumer::new("sales", sqs, env("QUEUE_URL"), env("DLQ_URL"));
    let handle = async |message: Message| {
        let sale: Sale = message.json()?;
        let add = Update::builder()
            .table_name(env("SALES_TABLE"))
            .key("product", text(&sale.product))
            .update_expression("ADD pieces :pieces")
            .expression_attribute_values(":pieces", number(sale.pieces));
        let add = TransactWriteItem::builder().update(add.build().map_err(Failure::transient)?);
        // The marker and the effect, in one transaction: both or neither.
        let marker = inbox.marker(&sale.sale_id);
        let writes = [marker, TransactionWrite::new(Role::Condition("add"), add.build())];
        match commit(&dynamodb, &writes).await? {
            Commit::Done => Ok(Handled::Done),
            Commit::Duplicate => Ok(Handled::Duplicate),
            refused => Err(Failure::poison("refused", format!("{refused:?}"))),
        }
    };
    consumer.serve(handle).await
}
