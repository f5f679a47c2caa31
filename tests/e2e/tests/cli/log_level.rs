//! `orderflow log-level`.

use std::collections::HashMap;

use anyhow::{Context, Result};
use e2e::Stack;

/// The variables of order-api.
async fn variables(stack: &Stack) -> Result<HashMap<String, String>> {
    let function = stack.setting("ORDER_API_FUNCTION");
    let configuration =
        stack.lambda.get_function_configuration().function_name(function).send().await?;
    let environment = configuration.environment.context("an environment")?;
    environment.variables.context("variables")
}

#[tokio::test]
async fn a_functions_log_level_is_changed_and_put_back_and_nothing_else_of_it() -> Result<()> {
    let stack = Stack::load().await?;
    let deployed = variables(&stack).await?;
    assert!(deployed.len() > 5 && deployed["LOG_LEVEL"] == "info", "{deployed:?}");
    let changed = stack.json(&["log-level", "order-api", "debug"]).await?;
    assert_eq!((&changed["before"], &changed["level"]), (&"info".into(), &"debug".into()));
    let mut wanted = deployed.clone();
    wanted.insert("LOG_LEVEL".into(), "debug".into());
    assert_eq!(variables(&stack).await?, wanted);
    // It serves as before.
    let product = stack.api.product("Logged", "1", 5).await?;
    let order = stack.api.order("logged@example.com", &[(&product, 1)]).await?;
    stack.api.wait_until_settled(&order).await?;
    let again = stack.run(&["log-level", "order-api", "debug"]).await?;
    assert!(again.code == 0 && again.stdout.contains("already"), "{again:?}");
    stack.json(&["log-level", "order-api", "--reset"]).await?;
    assert_eq!(variables(&stack).await?, deployed);
    let unknown = stack.run(&["log-level", "order-apy", "debug"]).await?;
    assert!(unknown.code == 3 && unknown.stderr.contains("order-api"), "{unknown:?}");
    for wrong in [&["log-level", "order-api"][..], &["log-level", "order-api", "loud"]] {
        assert_eq!(stack.run(wrong).await?.code, 2, "{wrong:?}");
    }
    Ok(())
}
