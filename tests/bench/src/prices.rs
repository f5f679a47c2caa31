//! AWS's list prices in us-east-1 (N. Virginia), in US dollars, without free tiers, as of 2026-11-28.
//!
//! In: nothing. Out: prices. Guarantee: this is the only place that has any. Prices of the first tier are used throughout. Those of Lambda
//! and DynamoDB were checked against copies of AWS's pages, those of SNS and SQS against other pages of 2026; the others have not been:
//! look at their pages before a figure is relied on.

pub const REGION: &str = "us-east-1";
pub const AS_OF: &str = "2026-11-28";

/// Of a million requests. <https://aws.amazon.com/lambda/pricing/>
pub const LAMBDA_REQUESTS: f64 = 0.20;
/// Of a GB-second on arm64, which the template has. <https://aws.amazon.com/lambda/pricing/>
pub const LAMBDA_GB_SECOND: f64 = 0.000_013_333_4;
/// Of a million calls of a REST API. <https://aws.amazon.com/api-gateway/pricing/>
pub const API_GATEWAY_CALLS: f64 = 3.50;
/// Of a million write request units on demand. <https://aws.amazon.com/dynamodb/pricing/on-demand/>
pub const DYNAMODB_WRITES: f64 = 0.625;
/// Of a million read request units on demand: each a read of 4 KB that is consistent, or two that are not.
pub const DYNAMODB_READS: f64 = 0.125;
/// Of a million publishes of up to 64 KB; deliveries to SQS cost nothing. <https://aws.amazon.com/sns/pricing/>
pub const SNS_PUBLISHES: f64 = 0.50;
/// Of a million requests of a standard queue. <https://aws.amazon.com/sqs/pricing/>
pub const SQS_REQUESTS: f64 = 0.40;
/// Of a million mails: 0.10 a thousand. <https://aws.amazon.com/ses/pricing/>
pub const SES_MAILS: f64 = 100.0;
/// Of a GB of logs. <https://aws.amazon.com/cloudwatch/pricing/>
pub const LOGS_GB: f64 = 0.50;

/// Of a million state transitions of a standard workflow: 0.025 a thousand. <https://aws.amazon.com/step-functions/pricing/>
pub const STEP_FUNCTIONS_TRANSITIONS: f64 = 25.0;
/// Of a million requests of express workflows, and of a GB-second of theirs.
pub const STEP_FUNCTIONS_EXPRESS: f64 = 1.0;
pub const STEP_FUNCTIONS_EXPRESS_GB_SECOND: f64 = 0.000_016_67;
/// Of a million durable operations, of a GB written, and of a GB kept for a month. <https://aws.amazon.com/lambda/pricing/>
pub const DURABLE_OPERATIONS: f64 = 8.0;
pub const DURABLE_GB_WRITTEN: f64 = 0.25;
pub const DURABLE_GB_MONTH: f64 = 0.15;
