//! What infra/template.yaml must keep to, whoever changes it. It is read as a file: no stack is needed.

mod alarms;
mod aliases;
mod api;
mod dashboard;
mod functions;
mod general;
mod grants;
mod live_updates;
mod metrics;
mod parameters;
mod queues;
mod read;
mod tables;
