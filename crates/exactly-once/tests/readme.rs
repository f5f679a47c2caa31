//! Whether the README says what is there.

const README: &str = include_str!("../README.md");

#[test]
fn the_consumer_in_the_readme_is_the_example_and_has_at_most_forty_lines() {
    let example = include_str!("../examples/consumer.rs").trim_end();
    assert!(README.contains(example), "README.md has another consumer than examples/consumer.rs");
    assert!(example.lines().count() <= 40);
}

/// The crates whose types stand in signatures and public fields, by the names that the sources use for them.
#[test]
fn the_readme_names_every_crate_of_the_public_api() {
    let (_, after) = README.split_once("Types of these crates stand in its API").expect("a list");
    let (list, _) = after.split_once("\n\n").expect("its end");
    let manifest = include_str!("../Cargo.toml");
    let (_, dependencies) = manifest.split_once("[dependencies]").expect("dependencies");
    let (dependencies, _) = dependencies.split_once("[dev-dependencies]").expect("their end");
    let private = ["fastrand", "futures", "sha2", "thiserror"];
    for line in dependencies.lines().filter(|line| line.contains("workspace")) {
        let name = line.split(['.', ' ']).next().expect("a name");
        assert!(list.contains(name) != private.contains(&name), "{name}");
    }
}
