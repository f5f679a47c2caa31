//! `orderflow log-level`.

use std::collections::HashMap;

use anyhow::{Context, Result};
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use e2e::{ALIAS, Stack};

/// What order-api is for whoever invokes it.
async fn in_force(stack: &Stack) -> Result<GetFunctionConfigurationOutput> {
    stack.configuration(stack.setting("ORDER_API_FUNCTION")).await
}

/// The variables of order-api.
async fn variables(stack: &Stack) -> Result<HashMap<String, String>> {
    let environment = in_force(stack).await?.environment.context("an environment")?;
    environment.variables.context("variables")
}

/// The version of order-api that is in force, and the one that was published last.
async fn versions(stack: &Stack) -> Result<(u32, u32)> {
    let function = stack.setting("ORDER_API_FUNCTION");
    let alias = stack.lambda.get_alias().function_name(function).name(ALIAS).send().await?;
    let list = stack.lambda.list_versions_by_function().function_name(function).send().await?;
    let published = list.versions().iter().filter_map(|one| one.version()?.parse().ok()).max();
    let in_force = alias.function_version().context("a version")?.parse()?;
    Ok((in_force, published.context("a published version")?))
}

#[tokio::test]
async fn a_functions_log_level_is_changed_and_put_back_and_nothing_else_of_it() -> Result<()> {
    let stack = Stack::load().await?;
    let deployed = variables(&stack).await?;
    let (first, newest) = versions(&stack).await?;
    assert_eq!(first, newest);
    assert!(deployed.len() > 5 && deployed["LOG_LEVEL"] == "info", "{deployed:?}");
    let changed = stack.json(&["log-level", "order-api", "debug"]).await?;
    assert_eq!((&changed["before"], &changed["level"]), (&"info".into(), &"debug".into()));
    let mut wanted = deployed.clone();
    wanted.insert("LOG_LEVEL".into(), "debug".into());
    assert_eq!(variables(&stack).await?, wanted);
    assert_eq!(versions(&stack).await?, (first + 1, first + 1));
    // It serves as before.
    let product = stack.api.product("Logged", "1", 5).await?;
    let order = stack.api.order("logged@example.com", &[(&product, 1)]).await?;
    stack.api.wait_until_settled(&order).await?;
    let again = stack.run(&["log-level", "order-api", "debug"]).await?;
    assert!(again.code == 0 && again.stdout.contains("already"), "{again:?}");
    stack.json(&["log-level", "order-api", "--reset"]).await?;
    assert_eq!(variables(&stack).await?, deployed);
    assert_eq!(versions(&stack).await?, (first + 2, first + 2));
    let unknown = stack.run(&["log-level", "order-apy", "debug"]).await?;
    assert!(unknown.code == 3 && unknown.stderr.contains("order-api"), "{unknown:?}");
    for wrong in [&["log-level", "order-api"][..], &["log-level", "order-api", "loud"]] {
        assert_eq!(stack.run(wrong).await?.code, 2, "{wrong:?}");
    }
    Ok(())
}

/// Whoever has moved the alias back to an older version does not want the newer one because of a log level.
#[tokio::test]
async fn a_log_level_brings_back_no_version_that_was_rolled_back() -> Result<()> {
    let stack = Stack::load().await?;
    stack.change_variables("PRODUCT_API", |all| drop(all.insert("BAD".into(), "1".into()))).await?;
    let function = stack.setting("PRODUCT_API_FUNCTION");
    let move_to = async |version: String| -> Result<()> {
        let alias = stack.lambda.update_alias().function_name(function).name(ALIAS);
        alias.function_version(version).send().await?;
        Ok(())
    };
    let alias = stack.lambda.get_alias().function_name(function).name(ALIAS).send().await?;
    let bad: u32 = alias.function_version().context("a version")?.parse()?;
    move_to((bad - 1).to_string()).await?;

    let refused = stack.run(&["log-level", "product-api", "debug"]).await?;
    assert!(refused.code == 1 && refused.stderr.contains("has changed since"), "{refused:?}");
    let alias = stack.lambda.get_alias().function_name(function).name(ALIAS).send().await?;
    assert_eq!(alias.function_version(), Some((bad - 1).to_string().as_str()));

    stack.change_variables("PRODUCT_API", |all| drop(all.remove("BAD"))).await?;
    stack.json(&["log-level", "product-api", "debug"]).await?;
    stack.json(&["log-level", "product-api", "--reset"]).await?;
    Ok(())
}
