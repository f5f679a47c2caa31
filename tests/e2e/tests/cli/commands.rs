//! What holds for every command: arguments, exit codes, what is missing; and status, pause and resume.

use std::{
    io::{BufRead, BufReader},
    net::{Shutdown, TcpListener, TcpStream},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum};
use e2e::{Capability, Queue, Ran, Seconds, Stack, bare_command, eventually, run_command};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

/// Every command with arguments that it takes.
const COMMANDS: [&[&str]; 25] = [
    &["status"],
    &["status", "--watch"],
    &["dlq", "list"],
    &["dlq", "show", "product"],
    &["dlq", "redrive", "product", "--all"],
    &["dlq", "drop", "product", "--all"],
    &["order", "show", "some-order"],
    &["order", "list", "--late"],
    &["order", "history", "some-order"],
    &["order", "trace", "some-order"],
    &["order", "cancel", "some-order", "--yes"],
    &["order", "republish", "some-order"],
    &["outbox", "list"],
    &["outbox", "show", "some-event"],
    &["payment", "list", "--overdue"],
    &["product", "list"],
    &["mail", "unknown"],
    &["logs", "--order", "some-order"],
    &["logs", "--order", "some-order", "--since", "2h"],
    &["suppressed", "list"],
    &["suppressed", "remove", "a@example.com", "--yes"],
    &["replay", "--queue", "product", "--from", "1h"],
    &["pause", "product"],
    &["resume", "product"],
    &["console"],
];

fn complains(ran: &Ran, code: i32, of: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stderr.contains(of), "{of:?} is not in {ran:?}");
    assert_eq!(ran.stdout, "", "an error leaves stdout to scripts");
}

#[tokio::test]
async fn wrong_arguments_end_with_2_and_say_what_is_wrong() -> Result<()> {
    let wrong: [(&[&str], &str); 20] = [
        (&[], "Usage"),
        (&["no-such-command"], "unrecognized subcommand"),
        (&["status", "--no-such-option"], "unexpected argument"),
        (&["status", "--interval", "0", "--watch"], "invalid value"),
        (&["status", "--output", "xml"], "invalid value"),
        (&["dlq"], "Usage"),
        (&["dlq", "show"], "<QUEUE>"),
        (&["dlq", "list", "--older-than", "soon"], "a number and a unit"),
        (&["dlq", "redrive"], "<QUEUE>"),
        (&["dlq", "redrive", "product"], "say which dead letters"),
        (&["dlq", "drop", "product", "--all", "--reason", "schema"], "not both"),
        (&["order", "show"], "<ID>"),
        (&["replay", "--queue", "product"], "--from"),
        (&["replay", "--queue", "product", "--from", "yesterday"], "how long ago"),
        (&["replay", "--queue", "product", "--from", "2026-11-23T04:00"], "has no time zone"),
        (&["dlq", "drop", "product", "--id", "", "--yes"], "it is empty"),
        (&["dlq", "redrive", "product", "--order", "", "--yes"], "it is empty"),
        (&["status", "--stack", ""], "it is empty"),
        (&["pause"], "QUEUE"),
        (&["completions", "no-such-shell"], "invalid value"),
    ];
    for (arguments, of) in wrong {
        complains(&run_command(bare_command(arguments)?).await?, 2, of);
    }
    Ok(())
}

#[tokio::test]
async fn every_command_has_help_without_a_stack() -> Result<()> {
    for command in COMMANDS {
        let ran = run_command(bare_command(&[command, &["--help"]].concat())?).await?;
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stdout.contains("Usage: orderflow"), "{ran:?}");
    }
    let manual = run_command(bare_command(&["--help"])?).await?;
    for part in ["Environment:", "Exit status:", "Examples:"] {
        assert!(manual.stdout.contains(part), "{manual:?}");
    }
    Ok(())
}

#[tokio::test]
async fn completions_are_made_for_every_shell_without_a_stack() -> Result<()> {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run_command(bare_command(&["completions", shell])?).await?;
        assert!(ran.code == 0 && ran.stdout.contains("orderflow"), "{ran:?}");
        assert!(ran.stdout.contains("COMPLETE"), "it asks the command: {ran:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_shell_completes_the_queues_of_the_stack_or_those_of_the_template() -> Result<()> {
    let stack = Stack::load().await?;
    let ask = async |mut run: std::process::Command, words: &[&str]| -> Result<Vec<String>> {
        run.env("COMPLETE", "bash").env("_CLAP_IFS", "\n");
        run.env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        run.args(["--", "orderflow"]).args(words);
        let ran = run_command(run).await?;
        assert_eq!(ran.code, 0, "{ran:?}");
        Ok(ran.stdout.lines().map(str::to_owned).collect())
    };
    let of_stack = ask(stack.command(&[])?, &["dlq", "redrive", ""]).await?;
    let status = stack.json(&["status"]).await?;
    for queue in status["queues"].as_array().into_iter().flatten() {
        let name = queue["name"].as_str().unwrap_or_default();
        assert!(of_stack.iter().any(|word| word == name), "{name} of {of_stack:?}");
    }
    assert!(!of_stack.iter().any(|word| word == "payment"), "no orders are paid: {of_stack:?}");
    let anywhere = ask(bare_command(&[])?, &["pause", ""]).await?;
    for name in ["product", "payment", "all"] {
        assert!(anywhere.iter().any(|word| word == name), "{name} of {anywhere:?}");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_stack_every_command_ends_with_3_and_says_how_to_get_one() -> Result<()> {
    let stack = Stack::load().await?;
    for command in COMMANDS {
        let ran = stack.run(&[command, &["--stack", "no-such-stack"]].concat()).await?;
        complains(&ran, 3, "no stack no-such-stack");
    }
    Ok(())
}

#[tokio::test]
async fn without_credentials_every_command_ends_with_1_and_says_how_to_get_them() -> Result<()> {
    let stack = Stack::load().await?;
    for command in COMMANDS {
        let mut run = stack.command(command)?;
        run.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        complains(&run_command(run).await?, 1, "no AWS credentials: sign in");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_region_a_profile_or_an_answer_the_command_says_so() -> Result<()> {
    let stack = Stack::load().await?;
    let mut run = stack.command(&["status"])?;
    run.env_remove("AWS_REGION");
    complains(&run_command(run).await?, 1, "--region");
    let ran = stack.run(&["status", "--profile", "no-such-profile"]).await?;
    complains(&ran, 1, "no AWS credentials in profile no-such-profile");
    // Port 9 is nobody's: discard.
    let ran = stack.run(&["status", "--endpoint-url", "http://127.0.0.1:9"]).await?;
    complains(&ran, 1, "AWS does not answer (");
    Ok(())
}

#[tokio::test]
async fn what_does_not_exist_ends_with_3_and_what_there_is() -> Result<()> {
    let stack = Stack::load().await?;
    let unknown: [&[&str]; 4] = [
        &["dlq", "show", "no-such-queue"],
        &["pause", "no-such-queue"],
        &["dlq", "redrive", "no-such-queue", "--all"],
        &["replay", "--queue", "no-such-queue", "--from", "1h"],
    ];
    for command in unknown {
        let ran = stack.run(command).await?;
        complains(&ran, 3, "there are analytics, feedback, notification, order, product");
    }
    for command in ["show", "history", "cancel", "republish"] {
        let ran = stack.run(&["order", command, "no-such-order", "--yes"]).await?;
        complains(&ran, 3, "no order \"no-such-order\"");
    }
    let ran = stack.run(&["dlq", "show", "product", "--id", "no-such-letter"]).await?;
    complains(&ran, 3, "no such dead letter");
    Ok(())
}

#[tokio::test]
async fn status_counts_every_queue_the_outbox_and_the_orders() -> Result<()> {
    let stack = Stack::load().await?;
    let status = stack.json(&["status"]).await?;
    let queues = status["queues"].as_array().context("queues")?;
    let names: Vec<_> = queues.iter().filter_map(|queue| queue["name"].as_str()).collect();
    assert_eq!(names, ["analytics", "feedback", "notification", "order", "product"]);
    for queue in queues {
        for count in ["waiting", "in_flight", "delayed", "dead"] {
            assert!(queue[count].is_u64(), "{queue}");
        }
        assert_eq!(queue["consumer"], "on");
    }
    assert!(status["outbox"]["pending"].is_u64() && status["outbox"]["stuck"].is_u64(), "{status}");
    assert!(status["orders"]["pending_too_long"].is_u64(), "{status}");
    let text = stack.run(&["status"]).await?.stdout;
    for word in ["WAITING", "IN FLIGHT", "DEAD", "OLDEST", "CONSUMER", "Outbox:", "Orders:"] {
        assert!(text.contains(word), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn status_check_ends_with_a_code_of_its_own_while_there_is_a_dead_letter() -> Result<()> {
    let stack = Stack::load().await?;
    let calm = stack.run(&["status", "--check"]).await?;
    assert_eq!(calm.code, 0, "{calm:?}");
    stack.send(stack.queue(Queue::Product), "{").await?;
    eventually("the dead letter", 60.secs(), async || {
        Ok((stack.messages(stack.dlq(Queue::Product)).await? > 0).then_some(()))
    })
    .await?;
    let alarmed = stack.run(&["status", "--check", "--output", "json"]).await?;
    assert!(
        alarmed.code == 5 && alarmed.stderr.contains("1 dead letter of product"),
        "{alarmed:?}"
    );
    // Monitoring reads the same as everybody.
    let status: Value = serde_json::from_str(&alarmed.stdout)?;
    assert_eq!(crate::product_queue(&status)["dead"], 1, "{status}");
    stack.json(&["dlq", "drop", "product", "--all", "--no-copy", "--yes"]).await?;
    assert_eq!(stack.run(&["status", "--check"]).await?.code, 0);
    Ok(())
}

#[tokio::test]
async fn status_shows_the_age_of_the_oldest_message_where_there_are_metrics() -> Result<()> {
    let stack = Stack::load().await?;
    if !stack.can(Capability::HasQueueMetrics) {
        return Ok(());
    }
    // No emulator measures the age, so it is put where AWS puts it.
    const AGE_SECONDS: u64 = 432;
    let name = stack.queue(Queue::Product).rsplit('/').next().unwrap_or_default();
    let dimension = Dimension::builder().name("QueueName").value(name).build();
    let datum = MetricDatum::builder()
        .metric_name("ApproximateAgeOfOldestMessage")
        .dimensions(dimension)
        .value(AGE_SECONDS as f64)
        .build();
    stack.cloudwatch.put_metric_data().namespace("AWS/SQS").metric_data(datum).send().await?;
    let product = stack.api.product("Measured", "1", 1).await?;
    stack.api.order("measured@example.com", &[(&product, 1)]).await?;
    eventually("the age, and the rates that the emulator measures", 180.secs(), async || {
        let status = stack.json(&["status"]).await?;
        let queue = crate::product_queue(&status);
        let rates = queue["sent_per_minute"].is_u64() && queue["done_per_minute"].is_u64();
        Ok((queue["oldest_age_seconds"] == AGE_SECONDS && rates).then_some(()))
    })
    .await?;
    let text = stack.run(&["status"]).await?.stdout;
    assert!(text.contains(" 7m "), "{text}");
    Ok(())
}

#[tokio::test]
async fn status_watch_goes_on_and_prints_one_json_document_a_line() -> Result<()> {
    let stack = Stack::load().await?;
    let arguments = ["status", "--watch", "--interval", "1", "--output", "json"];
    let mut watching = stack.command(&arguments)?.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(watching.stdout.take().context("stdout")?).lines();
    let read: Result<Vec<Value>> =
        lines.take(2).map(|line| Ok(serde_json::from_str(&line?)?)).collect();
    watching.kill()?;
    watching.wait()?;
    let read = read?;
    assert_eq!(read.len(), 2);
    assert_ne!(read[0]["at"], read[1]["at"]);
    Ok(())
}

#[tokio::test]
async fn a_paused_consumer_keeps_200_orders_waiting_and_after_resume_all_settle() -> Result<()> {
    const ORDERS: u64 = 200;
    let stack = Stack::load().await?;
    let product = stack.api.product("Two hundred", "10", ORDERS).await?;
    let paused = stack.json(&["pause", "product", "--yes"]).await?;
    assert_eq!(paused[0]["consumer"], "off");
    let line = [(product.as_str(), 1)];
    let orders: Vec<String> = stream::iter(0..ORDERS)
        .map(|_| stack.api.order("pause@example.com", &line))
        .buffer_unordered(16)
        .try_collect()
        .await?;
    let status = stack.json(&["status"]).await?;
    let queue = crate::product_queue(&status);
    assert_eq!(queue["consumer"], "off");
    assert_eq!(queue["waiting"], ORDERS, "nothing is taken and nothing is lost: {queue}");
    assert!(status["orders"]["pending"].as_u64() >= Some(ORDERS), "{status}");

    let resumed = stack.json(&["resume", "all"]).await?;
    assert!(
        resumed.as_array().is_some_and(|all| all.iter().all(|one| one["consumer"] == "on")),
        "{resumed}"
    );
    let settled: Vec<String> = stream::iter(&orders)
        .map(|order| stack.api.wait_until_settled(order))
        .buffer_unordered(16)
        .try_collect()
        .await?;
    assert!(settled.iter().all(|status| status == "confirmed"), "{settled:?}");
    assert_eq!(stack.api.stock(&product).await?, 0);
    Ok(())
}

#[tokio::test]
async fn pausing_asks_first_and_status_shows_for_how_long_a_consumer_has_been_off() -> Result<()> {
    let stack = Stack::load().await?;
    let unasked = stack.run(&["pause", "product"]).await?;
    complains(&unasked, 1, "--yes");
    assert_eq!(crate::product_queue(&stack.json(&["status"]).await?)["consumer"], "on");

    stack.json(&["pause", "product", "--yes"]).await?;
    let status = stack.json(&["status"]).await?;
    let queue = crate::product_queue(&status);
    let at = |value: &Value| value.as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let since = at(&queue["consumer_since"]).with_context(|| format!("since when: {queue}"))?;
    let age = at(&status["at"]).context("the moment")?.duration_since(since).as_secs();
    assert!((0..120).contains(&age), "{age} s: {queue}");
    let text = stack.run(&["status"]).await?.stdout;
    assert!(text.contains("off for "), "{text}");
    let again = stack.run(&["pause", "product"]).await?;
    assert_eq!(again.code, 0, "nobody is asked about what is so already: {again:?}");
    stack.json(&["resume", "product"]).await?;
    Ok(())
}

/// A way to the stack's endpoint that can be closed and opened.
struct Way {
    url: String,
    state: Arc<Mutex<WayState>>,
}

#[derive(Default)]
struct WayState {
    closed: bool,
    connections: Vec<TcpStream>,
}

impl Way {
    fn to(endpoint: &str) -> Result<Self> {
        let target =
            endpoint.split_once("://").context("a URL")?.1.trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(Mutex::new(WayState::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if state.closed {
                    continue;
                }
                let Ok(far) = TcpStream::connect(&target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else {
                        continue;
                    };
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                state.connections.extend([near, far]);
            }
        });
        Ok(Self { url, state })
    }

    fn set_closed(&self, closed: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = closed;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

#[tokio::test]
async fn status_watch_says_what_is_not_up_to_date_and_goes_on_watching() -> Result<()> {
    let stack = Stack::load().await?;
    let mut command =
        stack.command(&["status", "--watch", "--interval", "1", "--output", "json"])?;
    let endpoint = command.get_envs().find(|(name, _)| *name == "AWS_ENDPOINT_URL");
    let endpoint = endpoint.and_then(|(_, url)| url?.to_str()).context("the endpoint")?.to_owned();
    let way = Way::to(&endpoint)?;
    command.env("AWS_ENDPOINT_URL", &way.url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watching = command.spawn()?;
    let mut shown = BufReader::new(watching.stdout.take().context("stdout")?).lines();
    let mut said = BufReader::new(watching.stderr.take().context("stderr")?).lines();
    let watched = (|| {
        shown.next().context("a first status")??;
        way.set_closed(true);
        let complaint = said.next().context("a complaint")??;
        assert!(complaint.starts_with("not up to date since 20"), "{complaint}");
        assert!(complaint.contains("AWS does not answer"), "{complaint}");
        way.set_closed(false);
        // What was on its way before may come too; then it is up to date again.
        shown.next().context("a second status")??;
        shown.next().context("a third status")??;
        anyhow::Ok(())
    })();
    watching.kill()?;
    watching.wait()?;
    watched
}
