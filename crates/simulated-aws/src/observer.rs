//! Who watches: an observer is shown each call as it leaves its environment, the moment it has been carried out, and its
//! end, so that what has to be true at each step can be checked at each step.
//!
//! In: an observer. Out: [`Step`]s, in their order. Guarantees: nothing of this AWS changes while an observer is shown a
//! step, so that what it reads is the state between two steps; what one call has changed is seen before any other call
//! changes something.

use std::{fmt, sync::Arc};

use serde_json::Value;

use crate::{Environment, ExternalCall, SimulatedAws};

/// One request, read as far as it takes to know who serves it.
#[derive(Debug, Clone)]
pub enum Call {
    /// `x-amz-target`'s last part, and the body.
    DynamoDb(String, Value),
    /// The same of SQS.
    Sqs(String, Value),
    /// The form's fields.
    Sns(Vec<(String, String)>),
    /// The form's fields.
    Ses(Vec<(String, String)>),
    /// The same of Secrets Manager.
    SecretsManager(String, Value),
    /// What is not for AWS.
    External(ExternalCall),
    /// What nobody here serves.
    Unknown(String),
}

/// What happened. `attempt` numbers the attempts at calls: a retry of the SDK is another.
#[derive(Debug)]
pub enum Step<'a> {
    /// An attempt has left its environment.
    Begun {
        /// Its number.
        attempt: u64,
        /// The number of the environment.
        environment: u64,
        /// What is called.
        call: &'a Call,
    },
    /// An attempt has been carried out, now; nobody may ever hear its answer.
    CarriedOut {
        /// Its number.
        attempt: u64,
        /// The number of the environment.
        environment: u64,
        /// What is called.
        call: &'a Call,
        /// The answer's HTTP status.
        status: u16,
        /// The answer's body.
        answer: &'a str,
    },
    /// An attempt is over.
    Ended {
        /// Its number.
        attempt: u64,
        /// Whether its caller has heard an answer.
        is_heard: bool,
    },
    /// An environment has died, and what it was doing with it.
    Died {
        /// Its number.
        environment: u64,
    },
    /// An invocation has not answered within its function's time.
    TimedOut {
        /// The number of its environment.
        environment: u64,
    },
    /// An environment stands still in the middle of an invocation.
    Stalled {
        /// Its number.
        environment: u64,
    },
    /// A consumer has answered that a message is to be delivered again.
    GivenBack {
        /// The number of its environment.
        environment: u64,
        /// The receipt of this delivery.
        receipt_handle: &'a str,
        /// The message's body.
        body: &'a str,
        /// How long the invocation took.
        took: std::time::Duration,
    },
    /// A message is about to be deleted, because its consumer has acknowledged it.
    Acknowledged {
        /// Its queue.
        queue_url: &'a str,
        /// Its id.
        message_id: &'a str,
        /// Its body.
        body: &'a str,
    },
}

type Observe = dyn Fn(&SimulatedAws, &Step<'_>) + Send + Sync;

/// Who is shown each step, if anybody is.
#[derive(Clone, Default)]
pub(crate) struct Observer(Option<Arc<Observe>>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}

impl SimulatedAws {
    /// Has every step shown to this observer, which may read what this AWS holds.
    pub fn set_observer(&self, observe: impl Fn(&SimulatedAws, &Step<'_>) + Send + Sync + 'static) {
        self.lock().observer = Observer(Some(Arc::new(observe)));
    }

    pub(crate) fn show(&self, step: &Step<'_>) {
        // Not under the lock: an observer reads.
        let Observer(observe) = self.lock().observer.clone();
        if let Some(observe) = observe {
            observe(self, step);
        }
    }
}

impl Environment {
    /// Notes that an invocation in it has not answered within its function's time.
    pub fn note_timeout(&self) {
        self.aws.show(&Step::TimedOut { environment: self.number });
    }

    /// Notes that it stands still in the middle of an invocation.
    pub fn note_stall(&self) {
        self.aws.show(&Step::Stalled { environment: self.number });
    }

    /// Notes that an invocation in it has given this delivery of a message back.
    pub fn note_given_back(&self, receipt_handle: &str, body: &str, took: std::time::Duration) {
        let environment = self.number;
        self.aws.show(&Step::GivenBack { environment, receipt_handle, body, took });
    }
}

/// An attempt at a call that is under way: its end is shown whatever becomes of it.
#[derive(Debug)]
pub(crate) struct Attempt {
    aws: SimulatedAws,
    number: u64,
    is_heard: bool,
}

impl Attempt {
    pub(crate) fn begin(aws: &SimulatedAws, environment: u64, call: &Call) -> Self {
        let number = {
            let mut state = aws.lock();
            state.attempts += 1;
            state.attempts
        };
        aws.show(&Step::Begun { attempt: number, environment, call });
        Self { aws: aws.clone(), number, is_heard: false }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn carried_out(&self, environment: u64, call: &Call, status: u16, answer: &str) {
        let attempt = self.number;
        self.aws.show(&Step::CarriedOut { attempt, environment, call, status, answer });
    }

    pub(crate) fn heard(&mut self) {
        self.is_heard = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.aws.show(&Step::Ended { attempt: self.number, is_heard: self.is_heard });
    }
}
