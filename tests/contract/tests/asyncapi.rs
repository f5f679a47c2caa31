//! docs/asyncapi.yaml is what the types of the events say. `UPDATE_CONTRACT=1 cargo test --workspace --test asyncapi` writes it anew
//! after a wanted change.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use contract::{CONSUMERS, asyncapi};
use events::EventType;
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn sample(event_type: EventType) -> Value {
    let path = Path::new(ROOT).join(format!("events/samples/{event_type}.json"));
    let text = fs::read_to_string(path).expect("every event type has a sample");
    serde_json::from_str(&text).expect("a sample is JSON")
}

#[test]
fn the_committed_description_is_that_of_the_types() -> Result<()> {
    let path = Path::new(ROOT).join("docs/asyncapi.yaml");
    let wanted = yaml_serde::to_string(&asyncapi(sample))?;
    if std::env::var_os("UPDATE_CONTRACT").is_some() {
        fs::write(&path, &wanted)?;
    }
    ensure!(
        fs::read_to_string(&path)? == wanted,
        "docs/asyncapi.yaml is not what the types say; after a wanted change: \
         UPDATE_CONTRACT=1 cargo test --workspace --test asyncapi"
    );
    Ok(())
}

#[test]
fn every_sample_is_valid_by_the_schema_of_its_message() -> Result<()> {
    let document = asyncapi(sample);
    for event_type in EventType::ALL {
        let message = &document["components"]["messages"][event_type.as_str()];
        let mut schema = message["payload"].clone();
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema)?;
        for other in EventType::ALL {
            ensure!(
                validator.is_valid(&sample(other)) == (other == event_type),
                "{other} as {event_type}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_consumer_takes_what_its_subscription_lets_through() -> Result<()> {
    let template: yaml_serde::Value =
        yaml_serde::from_str(&fs::read_to_string(Path::new(ROOT).join("infra/template.yaml"))?)?;
    let resources = template["Resources"].as_mapping().context("resources")?;
    let subscriptions = resources.iter().filter(|(_, resource)| {
        resource["Type"] == "AWS::SNS::Subscription"
            && !resource["Properties"]["FilterPolicy"].is_null()
    });
    let mut seen = 0;
    for (name, resource) in subscriptions {
        let name = name.as_str().context("a name")?;
        let (_, _, types) = CONSUMERS
            .iter()
            .find(|(_, known, _)| *known == name)
            .with_context(|| format!("{name} is not described"))?;
        let filter = resource["Properties"]["FilterPolicy"]["event_type"]
            .as_sequence()
            .context("a filter")?;
        let filter: Vec<_> = filter.iter().filter_map(|one| one.as_str()).collect();
        let types: Vec<_> = types.iter().map(|one| one.as_str()).collect();
        ensure!(filter == types, "{name}: {filter:?}, described as {types:?}");
        seen += 1;
    }
    ensure!(seen == CONSUMERS.len(), "{seen} subscriptions");
    Ok(())
}
