//! `cargo lambda deploy` of one function into the running stack: new code, and everything else as the template
//! has set it. It changes a function that others use, so it needs the stack for itself.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use e2e::{ALIAS, Seconds, Stack, eventually};

/// What order-api says of an order that is not there, and what it says with another letter in its code.
const SAYS: [&[u8]; 2] = [b"There is no order ", b"There is no 0rder "];

/// Deploys the dev build of `binary` as the code of `function`, with other words in it if it is to be `changed`. A
/// release build would take minutes, and what is tested is not what is in the code.
fn deploy(stack: &Stack, function: &str, binary: &str, changed: bool) -> Result<()> {
    let (test, root) =
        (env::current_exe()?, PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.."));
    let built = test.ancestors().nth(2).context("a target directory")?.join(binary);
    // As `cargo lambda build` leaves it.
    let staged = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("lambda");
    fs::create_dir_all(staged.join(binary))?;
    let bootstrap = staged.join(binary).join("bootstrap");
    fs::copy(&built, &bootstrap)
        .with_context(|| format!("no {}: `make build` builds it", built.display()))?;
    if changed {
        let mut code = fs::read(&bootstrap)?;
        let places = code.windows(SAYS[0].len()).enumerate().filter(|(_, part)| *part == SAYS[0]);
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        ensure!(!places.is_empty(), "{binary} does not say {:?}", SAYS[0]);
        for place in places {
            code[place..place + SAYS[1].len()].copy_from_slice(SAYS[1]);
        }
        fs::write(&bootstrap, code)?;
    }
    let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let run = Command::new(&python)
        .current_dir(&root)
        .args(["localstack/cargo_lambda.py", "deploy", function, "--binary-name", binary])
        .args(["--alias", ALIAS])
        .arg("--lambda-dir")
        .arg(&staged)
        .args(["--endpoint-url", stack.setting("EMULATOR_URL")])
        .args(["--region", stack.setting("AWS_REGION")])
        // Nothing of what its user is to AWS.
        .envs(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|key| (key, stack.setting(key))))
        .envs(["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"].map(|key| (key, "/dev/null")))
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN")
        .output()
        .with_context(|| {
            format!("{} does not run: install Python, or set PYTHON", python.display())
        })?;
    let said = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "cargo lambda deploy failed, {}:\n{said}", run.status);
    Ok(())
}

async fn configuration(stack: &Stack) -> Result<GetFunctionConfigurationOutput> {
    stack.configuration(stack.setting("ORDER_API_FUNCTION")).await
}

fn assert_configured_alike(
    one: &GetFunctionConfigurationOutput,
    other: &GetFunctionConfigurationOutput,
) {
    assert_eq!(one.environment(), other.environment());
    assert_eq!(one.memory_size(), other.memory_size());
    assert_eq!(one.timeout(), other.timeout());
    assert_eq!(one.role(), other.role());
    assert_eq!(one.runtime(), other.runtime());
    assert_eq!(one.architectures(), other.architectures());
    assert_eq!(one.logging_config(), other.logging_config());
}

#[tokio::test]
async fn one_function_is_deployed_and_keeps_the_configuration_of_the_template() -> Result<()> {
    let stack = Stack::load().await?;
    let function = stack.setting("ORDER_API_FUNCTION");
    let before = configuration(&stack).await?;
    assert_eq!((before.memory_size(), before.timeout()), (Some(256), Some(10)));
    let variables = before.environment().and_then(|environment| environment.variables());
    let table = variables.and_then(|variables| variables.get("ORDERS_TABLE"));
    assert_eq!(table.map(String::as_str), Some(stack.setting("ORDERS_TABLE")));

    deploy(&stack, function, "order-api", true)?;
    eventually("the changed code to answer", 30.secs(), async || {
        let answer = stack.api.call("GET", "/orders/none", "").await?;
        Ok((answer.json["detail"] == r#"There is no 0rder "none"."#).then_some(()))
    })
    .await?;
    let between = configuration(&stack).await?;
    assert_ne!(between.code_sha256(), before.code_sha256());
    assert_configured_alike(&between, &before);

    deploy(&stack, function, "order-api", false)?;
    eventually("order-api to answer", 30.secs(), async || {
        let answer = stack.api.call("GET", "/orders/none", "").await?;
        Ok((answer.json["detail"] == r#"There is no order "none"."#).then_some(()))
    })
    .await?;
    let after = configuration(&stack).await?;
    assert_ne!(after.code_sha256(), between.code_sha256());
    assert_configured_alike(&after, &before);
    let product = stack.api.product("Deployed", "1", 1).await?;
    let order = stack.api.order("deployed@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    Ok(())
}
