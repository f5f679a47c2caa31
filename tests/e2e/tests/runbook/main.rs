//! docs/runbook.md, played: a stack is broken in each of the ways that the page has a section for, the section's alarm is raised, its commands are
//! followed and print what the page shows, and then it is over. `make runbook`; with `UPDATE_RUNBOOK=1` the outputs are written into the page anew.
//! The tests run one after the other against a stack that is theirs alone.

mod configuration;
mod dead_letters;
mod failing;
mod page;
mod playing;
mod relay;
mod waiting;

use anyhow::Result;
use e2e::Stack;
use page::{FIRST, Page};
use playing::Playing;

const SAMPLES: &str = "it counts the samples of a metric, and MiniStack makes none of log lines; its commands are AWS's";
const AWS: &str =
    "it is on a metric of AWS's own, which no emulator has; its commands are AWS's, and `status`";

const PRIORITY: &str = "its commands are those of the queue `notification`, which are played; alone::priority shows what is its own";

/// Sections that no test plays, and why.
const NOT_PLAYED: [(&str, &str); 13] = [
    ("notification-priority-dlq", PRIORITY),
    ("notification-priority-waiting", PRIORITY),
    ("notification-priority-backlog", PRIORITY),
    ("relay-silent", SAMPLES),
    ("api-errors", AWS),
    ("api-latency", AWS),
    ("lambda-errors", AWS),
    ("lambda-throttles", AWS),
    ("analytics-functions", AWS),
    ("table-reads-throttled", AWS),
    ("table-writes-throttled", AWS),
    ("push-lambda-errors", AWS),
    ("push-lambda-throttles", AWS),
];

/// The sources of the tests, in which a section is played by [`Playing::begin`].
const SOURCES: [&str; 5] = [
    include_str!("configuration.rs"),
    include_str!("dead_letters.rs"),
    include_str!("failing.rs"),
    include_str!("relay.rs"),
    include_str!("waiting.rs"),
];

#[test]
fn every_section_is_played_or_it_is_said_why_not() -> Result<()> {
    let page = Page::read()?;
    for section in page.sections() {
        let begin = format!("Playing::begin(&stack, \"{section}\")");
        let is_played = section == FIRST || SOURCES.iter().any(|source| source.contains(&begin));
        let is_excused = NOT_PLAYED.iter().any(|(name, _)| *name == section);
        assert!(
            is_played != is_excused,
            "{section}: play it, or say in NOT_PLAYED why it cannot be (played: {is_played}, excused: {is_excused})"
        );
    }
    for (name, reason) in NOT_PLAYED {
        assert!(page.sections().contains(name) && !reason.is_empty(), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn the_first_commands_show_the_whole_stack_and_one_order() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, FIRST).await?;
    let product = stack.api.product("Kettle", "24.90", 10).await?;
    let order = stack.api.order("alice@example.com", &[(&product, 2)]).await?;
    stack.api.wait_until_settled(&order).await?;
    dead_letters::wait_until_nothing_moves(&stack).await?;
    let values = [("ORDER", order.as_str())];
    playing.run("status", &values).await?;
    playing.run("order show ORDER", &values).await?;
    playing.run("order history ORDER", &values).await?;
    playing.run("order trace ORDER", &values).await?;
    playing.end().await
}
