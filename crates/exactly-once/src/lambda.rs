//! A consumer as a Lambda function: what its `main` has left to do.

use std::future::Future;

use aws_lambda_events::event::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, service_fn};

use crate::{Answers, Consumer, Failure, Handled, Message};

impl Consumer {
    /// Serves the queue until Lambda ends the process: each message goes to `handler`, see [`Consumer::run`].
    ///
    /// # Errors
    /// The runtime API is gone.
    pub async fn serve<H, F>(&self, handler: H) -> Result<(), Error>
    where
        H: Fn(Message) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        lambda_runtime::run(service_fn(async |batch: LambdaEvent<SqsEvent>| {
            Ok::<_, Error>(self.run(batch.payload, batch.context.deadline, &handler).await)
        }))
        .await
    }

    /// Serves the queue until Lambda ends the process: each batch goes to `handler`, see [`Consumer::run_batch`].
    ///
    /// # Errors
    /// The runtime API is gone.
    pub async fn serve_batches<H, F>(&self, handler: H) -> Result<(), Error>
    where
        H: Fn(Vec<Message>, Answers) -> F,
        F: Future<Output = ()>,
    {
        lambda_runtime::run(service_fn(async |batch: LambdaEvent<SqsEvent>| {
            Ok::<_, Error>(self.run_batch(batch.payload, batch.context.deadline, &handler).await)
        }))
        .await
    }

    /// Serves the queue until Lambda ends the process: each batch goes to `together` and what that leaves to `alone`, see
    /// [`Consumer::run_together`].
    ///
    /// # Errors
    /// The runtime API is gone.
    pub async fn serve_together<H, F, A, G>(&self, together: H, alone: A) -> Result<(), Error>
    where
        H: Fn(Vec<Message>, Answers) -> F,
        F: Future<Output = ()>,
        A: Fn(Message) -> G,
        G: Future<Output = Result<Handled, Failure>>,
    {
        lambda_runtime::run(service_fn(async |batch: LambdaEvent<SqsEvent>| {
            let deadline_ms = batch.context.deadline;
            // In a box: a future of that many futures is deeper than the compiler looks.
            let answer = Box::pin(self.run_together(batch.payload, deadline_ms, &together, &alone));
            Ok::<_, Error>(answer.await)
        }))
        .await
    }
}
