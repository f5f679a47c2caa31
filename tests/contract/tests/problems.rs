//! docs/problems.md has a section for each type of problem, and none for anything else.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use http_api::{Problem, ProblemType};
use serde_json::json;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn each_type_of_problem_has_its_section_and_each_section_its_type() -> Result<()> {
    let text = fs::read_to_string(Path::new(ROOT).join("docs/problems.md"))?;
    let sections: BTreeMap<&str, &str> = text
        .split("\n## `")
        .skip(1)
        .map(|section| section.split_once('`').context("a section's name ends"))
        .collect::<Result<_>>()?;
    for kind in ProblemType::ALL {
        let section =
            sections.get(kind.slug()).with_context(|| format!("{kind:?} has no section"))?;
        let begins = format!("`{}`, {}: {}.", kind.urn(), kind.status().as_u16(), kind.title());
        ensure!(section.trim_start().starts_with(&begins), "{kind:?}: {section}");
        ensure!(section.contains("**What to do:**"), "{kind:?} says not what to do");
    }
    ensure!(sections.len() == ProblemType::ALL.len(), "sections of no type: {:?}", sections.keys());
    Ok(())
}

#[test]
fn an_example_is_of_its_own_type() {
    for kind in ProblemType::ALL {
        let example = json!(Problem::example(*kind));
        assert_eq!(example["type"], kind.urn());
        assert_eq!(example["title"], kind.title());
        assert_eq!(example["status"], kind.status().as_u16());
    }
}

/// The gateway's own answers are written in the template: they have the same types as those of the functions.
#[test]
fn the_gateway_answers_with_types_that_are_known() -> Result<()> {
    let template = fs::read_to_string(Path::new(ROOT).join("infra/template.yaml"))?;
    let mut seen = 0;
    for urn in template.split("\"type\":\"").skip(1) {
        let urn = urn.split('"').next().unwrap_or_default();
        ensure!(ProblemType::ALL.iter().any(|kind| kind.urn() == urn), "{urn}");
        seen += 1;
    }
    ensure!(seen >= 4, "this test has lost sight of the answers");
    Ok(())
}
