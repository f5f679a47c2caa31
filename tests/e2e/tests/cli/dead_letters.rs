//! `orderflow dlq`.

use anyhow::{Context, Result, ensure};
use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName};
use e2e::{Capability, Queue, Seconds, Stack, eventually};
use serde_json::Value;

/// A text that no other test's message has.
fn unique() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Puts an event without its data on the product queue; its consumer sends it to the DLQ at once.
async fn poison(stack: &Stack, event_type: &str, order: &str) -> Result<()> {
    let body = format!(
        r#"{{"event_type":"{event_type}","event_version":"1.0","data":{{"order_id":"{order}"}}}}"#
    );
    let attribute = MessageAttributeValue::builder()
        .data_type("String")
        .string_value(format!("mark-{order}"))
        .build()?;
    let send = stack.sqs.send_message().queue_url(stack.queue(Queue::Product)).message_body(body);
    send.message_attributes("correlation_id", attribute).send().await?;
    Ok(())
}

/// Waits for this number of dead letters of an order, and returns them.
async fn dead(stack: &Stack, queue: &str, order: &str, count: usize) -> Result<Vec<Value>> {
    eventually(&format!("{count} dead letters of {order}"), 60.secs(), async || {
        let letters = stack.json(&["dlq", "list", queue, "--order", order]).await?;
        let letters = letters.as_array().context("a list")?;
        Ok((letters.len() == count).then(|| letters.clone()))
    })
    .await
}

#[tokio::test]
async fn poison_is_shown_fixed_and_redriven_and_the_order_settles_once() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Poisoned", "10", 10).await?;
    // A table that has lost an order, as after a restore: an event about its stock names an order that is not there.
    stack.pause(Queue::Order).await?;
    let order = stack.api.order("poison@example.com", &[(&product, 3)]).await?;
    eventually("the stock to be taken", 60.secs(), async || {
        Ok((stack.api.stock(&product).await? == 7).then_some(()))
    })
    .await?;
    let lost = stack.item("ORDERS_TABLE", "order_id", &order).await?.context("the order")?;
    let key = lost["order_id"].clone();
    let table = stack.setting("ORDERS_TABLE");
    stack.dynamodb.delete_item().table_name(table).key("order_id", key).send().await?;
    stack.resume(Queue::Order).await?;

    let letters = dead(&stack, "order", &order, 1).await?;
    assert_eq!(letters[0]["reason"], "unknown_order");
    assert_eq!(letters[0]["event_type"], "StockReserved");
    assert_eq!(letters[0]["attempts"], 1);
    let shown = stack.run(&["dlq", "show", "order", "--order", &order]).await?;
    assert_eq!(shown.code, 0, "{shown:?}");
    for part in ["unknown_order", "StockReserved", "attempts      1", &order] {
        assert!(shown.stdout.contains(part), "{}", shown.stdout);
    }

    stack.dynamodb.put_item().table_name(table).set_item(Some(lost)).send().await?;
    let redrive = ["dlq", "redrive", "order", "--reason", "unknown_order", "--order", &order];
    let done = stack.json(&[&redrive[..], &["--yes"]].concat()).await?;
    assert_eq!(done[0]["done"], 1, "{done}");
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    for queue in Queue::ALL {
        stack.wait_until_drained(queue).await?;
    }
    dead(&stack, "order", &order, 0).await?;
    assert_eq!(stack.api.stock(&product).await?, 7, "the stock was taken once");
    assert_eq!(stack.log(&order).await?.len(), 3, "created, reserved, confirmed: once each");
    assert_eq!(stack.mails(&order).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn only_what_is_selected_is_redriven_and_its_attributes_stay() -> Result<()> {
    let stack = Stack::load().await?;
    let order = unique();
    poison(&stack, "OrderCreated", &order).await?;
    poison(&stack, "OrderCancelled", &order).await?;
    dead(&stack, "product", &order, 2).await?;

    stack.pause(Queue::Product).await?;
    let selection = ["--order", &order, "--type", "OrderCreated", "--newer-than", "1h"];
    let redrive = [&["dlq", "redrive", "product"], &selection[..]].concat();
    let dry = stack.run(&[&redrive[..], &["--dry-run"]].concat()).await?;
    assert!(dry.code == 0 && dry.stdout.contains("OrderCreated"), "{dry:?}");
    assert!(!dry.stdout.contains("OrderCancelled"), "{dry:?}");
    let unasked = stack.run(&redrive).await?;
    assert!(unasked.code == 1 && unasked.stderr.contains("--yes"), "{unasked:?}");
    dead(&stack, "product", &order, 2).await?;

    let done = stack.json(&[&redrive[..], &["--yes"]].concat()).await?;
    assert_eq!((&done[0]["done"], &done[0]["by"]), (&1.into(), &"message_by_message".into()));
    let left = dead(&stack, "product", &order, 1).await?;
    assert_eq!(left[0]["event_type"], "OrderCancelled");
    let moved = stack.message_with(stack.queue(Queue::Product), &order).await?;
    let attributes = moved.message_attributes.context("attributes")?;
    let kept = attributes.get("correlation_id").and_then(|value| value.string_value());
    assert_eq!(kept, Some(format!("mark-{order}").as_str()));
    assert!(!attributes.keys().any(|name| name.starts_with("fail")), "{attributes:?}");
    stack.resume(Queue::Product).await?;

    // Still poison: it is back, with its reason.
    let back = dead(&stack, "product", &order, 2).await?;
    assert!(back.iter().all(|letter| letter["reason"] == "schema"), "{back:?}");
    stack.json(&["dlq", "drop", "product", "--order", &order, "--yes"]).await?;
    Ok(())
}

#[tokio::test]
async fn after_a_redrive_it_is_said_what_was_handled_and_what_died_again() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Redriven", "10", 10).await?;
    let order = stack.api.order("redriven@example.com", &[(&product, 3)]).await?;
    stack.api.wait_until_settled(&order).await?;
    // One that was handled before, and one that never can be.
    let created = stack.event(&order, "OrderCreated").await?;
    stack.send(stack.dlq(Queue::Product), &created).await?;
    poison(&stack, "OrderCreated", &order).await?;
    dead(&stack, "product", &order, 2).await?;
    let redrive = ["dlq", "redrive", "product", "--order", &order, "--wait", "60s", "--yes"];
    let done = stack.json(&redrive).await?;
    assert_eq!(done[0]["became"]["handled"], 1, "{done}");
    let died = &done[0]["became"]["died_again"]["schema"];
    assert_eq!(died["letters"], 1, "{done}");
    assert_eq!((&died["attempts_min"], &died["attempts_max"]), (&1.into(), &1.into()), "{done}");
    assert_eq!(done[0]["became"]["unknown"], 0, "{done}");
    assert_eq!(stack.api.stock(&product).await?, 7);
    let again = stack.run(&redrive).await?;
    let died = "0 handled, 1 died again: schema after 1 attempt";
    assert!(again.stdout.contains(died), "{again:?}");
    stack.json(&["dlq", "drop", "product", "--order", &order, "--no-copy", "--yes"]).await?;
    Ok(())
}

#[tokio::test]
async fn what_was_dropped_comes_back_from_its_copy_and_nothing_is_dropped_without_one() -> Result<()>
{
    let stack = Stack::load().await?;
    let order = unique();
    poison(&stack, "OrderCreated", &order).await?;
    let letters = dead(&stack, "product", &order, 1).await?;
    let copy = format!("copy-{order}.json");
    let drop = ["dlq", "drop", "product", "--order", &order, "--yes", "--copy"];
    let unwritable = stack.run(&[&drop[..], &["no-such-directory/copy.json"]].concat()).await?;
    assert!(
        unwritable.code == 1 && unwritable.stderr.contains("nothing was deleted"),
        "{unwritable:?}"
    );
    dead(&stack, "product", &order, 1).await?;
    let dropped = stack.run(&[&drop[..], &[copy.as_str()]].concat()).await?;
    assert!(dropped.code == 0 && dropped.stderr.contains(&copy), "{dropped:?}");
    dead(&stack, "product", &order, 0).await?;

    let unasked = stack.run(&["dlq", "send", &copy]).await?;
    assert!(
        unasked.code == 1 && unasked.stderr.contains("1 letter to the queue product"),
        "{unasked:?}"
    );
    let sent = stack.json(&["dlq", "send", &copy, "--yes"]).await?;
    assert_eq!(sent["sent"], 1);
    // It is poison as it was, down to the byte.
    let back = dead(&stack, "product", &order, 1).await?;
    assert_eq!(
        (&back[0]["body"], &back[0]["reason"]),
        (&letters[0]["body"], &letters[0]["reason"])
    );
    let again = stack.run(&[&drop[..], &[copy.as_str()]].concat()).await?;
    assert!(again.code == 1 && again.stderr.contains("File exists"), "{again:?}");
    stack.json(&["dlq", "drop", "product", "--order", &order, "--no-copy", "--yes"]).await?;
    dead(&stack, "product", &order, 0).await?;
    Ok(())
}

#[tokio::test]
async fn dropping_asks_first_and_leaves_what_is_not_selected() -> Result<()> {
    let stack = Stack::load().await?;
    let (order, other) = (unique(), unique());
    poison(&stack, "OrderCreated", &order).await?;
    poison(&stack, "OrderCreated", &other).await?;
    dead(&stack, "product", &order, 1).await?;
    dead(&stack, "product", &other, 1).await?;
    let drop = ["dlq", "drop", "product", "--order", &order];
    let unasked = stack.run(&drop).await?;
    assert!(unasked.code == 1 && unasked.stderr.contains("--yes"), "{unasked:?}");
    let everything = stack.run(&["dlq", "drop", "product", "--yes"]).await?;
    assert!(everything.code == 2 && everything.stderr.contains("--all"), "{everything:?}");
    dead(&stack, "product", &order, 1).await?;
    let done = stack.json(&[&drop[..], &["--yes"]].concat()).await?;
    assert_eq!(done[0]["done"], 1);
    dead(&stack, "product", &order, 0).await?;
    let left = dead(&stack, "product", &other, 1).await?;
    let id = left[0]["message_id"].as_str().context("an id")?;
    stack.json(&["dlq", "drop", "product", "--id", id, "--yes"]).await?;
    dead(&stack, "product", &other, 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_whole_dlq_of_more_than_one_page_is_redriven_and_comes_back() -> Result<()> {
    const LETTERS: usize = 25;
    let stack = Stack::load().await?;
    let order = unique();
    for _ in 0..LETTERS {
        poison(&stack, "OrderCreated", &order).await?;
    }
    let before = dead(&stack, "product", &order, LETTERS).await?;
    let done = stack.json(&["dlq", "redrive", "product", "--all", "--yes"]).await?;
    ensure!(done[0]["done"].as_u64() >= Some(LETTERS as u64), "{done}");
    let after = dead(&stack, "product", &order, LETTERS).await?;
    let ids = |letters: &[Value]| -> Vec<String> {
        letters.iter().map(|letter| letter["message_id"].to_string()).collect()
    };
    let old = ids(&before);
    assert!(ids(&after).iter().all(|id| !old.contains(id)), "every letter went round");
    let moved = done[0]["by"].clone();
    stack.json(&["dlq", "drop", "product", "--order", &order, "--yes"]).await?;
    if stack.can(Capability::MovesWholeDlqs) {
        assert_eq!(moved, "move_task");
    }
    Ok(())
}

#[tokio::test]
async fn status_counts_dead_letters_also_while_they_are_listed() -> Result<()> {
    let stack = Stack::load().await?;
    let order = unique();
    poison(&stack, "OrderCreated", &order).await?;
    dead(&stack, "product", &order, 1).await?;
    let list = ["dlq", "list", "product", "--order", order.as_str()];
    let (listed, status) = tokio::join!(stack.json(&list), stack.json(&["status"]));
    assert_eq!(listed?.as_array().map(Vec::len), Some(1));
    assert!(crate::product_queue(&status?)["dead"].as_u64() >= Some(1));
    stack.json(&["dlq", "drop", "product", "--order", &order, "--yes"]).await?;
    Ok(())
}

/// Runs the command on a terminal of its own and types an answer. `script` makes the terminal.
#[cfg(target_os = "linux")]
async fn on_a_terminal(stack: &Stack, arguments: &[&str], answer: &str) -> Result<(i32, String)> {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    let command = stack.command(arguments)?;
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<String> =
        words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
    let mut script = Command::new("script");
    script.current_dir(command.get_current_dir().context("where the command runs")?);
    script.args(["-qec", &words.join(" "), "/dev/null"]).env_clear();
    script.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut running =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Kept open until the end: an end of input would be an answer too.
    let mut keyboard = running.stdin.take().context("stdin")?;
    writeln!(keyboard, "{answer}")?;
    let output = tokio::task::spawn_blocking(move || running.wait_with_output()).await??;
    drop(keyboard);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.code().unwrap_or(-1), said))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn on_a_terminal_it_shows_what_it_is_about_and_acts_only_on_yes() -> Result<()> {
    let stack = Stack::load().await?;
    let order = unique();
    poison(&stack, "OrderCreated", &order).await?;
    dead(&stack, "product", &order, 1).await?;
    let drop = ["dlq", "drop", "product", "--order", &order];
    for no in ["n", "", "maybe"] {
        let (code, said) = on_a_terminal(&stack, &drop, no).await?;
        assert!(code == 1 && said.contains("nothing was done"), "{code}: {said}");
        assert!(said.contains("schema") && said.contains("[y/N]"), "{said}");
    }
    dead(&stack, "product", &order, 1).await?;
    let (code, said) = on_a_terminal(&stack, &drop, "y").await?;
    assert!(code == 0 && said.contains("1 deleted"), "{code}: {said}");
    dead(&stack, "product", &order, 0).await?;
    Ok(())
}

/// Waits until a DLQ has `count` letters that are received and not given back.
async fn in_flight(stack: &Stack, count: u64) -> Result<()> {
    eventually(&format!("{count} letters in flight"), 30.secs(), async || {
        let name = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        let call = stack.sqs.get_queue_attributes().queue_url(stack.dlq(Queue::Product));
        let answer = call.attribute_names(name.clone()).send().await?;
        let attributes = answer.attributes.unwrap_or_default();
        Ok((attributes.get(&name) == Some(&count.to_string())).then_some(()))
    })
    .await
}

#[tokio::test]
async fn letters_that_another_listing_holds_are_counted_and_never_taken_for_none() -> Result<()> {
    let stack = Stack::load().await?;
    let order = unique();
    poison(&stack, "OrderCreated", &order).await?;
    dead(&stack, "product", &order, 1).await?;
    let dlq = stack.dlq(Queue::Product);
    let receive = stack.sqs.receive_message().queue_url(dlq).visibility_timeout(60);
    let held = receive.max_number_of_messages(10).wait_time_seconds(1).send().await?;
    let held = held.messages().first().context("the letter")?.clone();
    let all: [&[&str]; 4] = [
        &["dlq", "list", "product"],
        &["dlq", "show", "product"],
        &["dlq", "redrive", "product", "--all", "--yes"],
        &["dlq", "drop", "product", "--order", &order, "--yes"],
    ];
    for command in all {
        let ran = stack.run(command).await?;
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(ran.stderr.contains("1 dead letter is held by another listing"), "{ran:?}");
        assert_eq!(ran.stdout.trim(), "", "nobody reads that there are none: {ran:?}");
    }
    let give_back = stack.sqs.change_message_visibility().queue_url(dlq).visibility_timeout(0);
    give_back.set_receipt_handle(held.receipt_handle).send().await?;

    let missed = stack.run(&["dlq", "list", "product", "--order", "another"]).await?;
    assert_eq!(missed.code, 0);
    assert!(missed.stdout.contains("1 letter is not selected"), "{missed:?}");
    stack.json(&["dlq", "drop", "product", "--order", &order, "--yes"]).await?;
    let none = stack.run(&["dlq", "list", "product"]).await?;
    assert!(none.code == 0 && none.stdout.contains("No dead letters."), "{none:?}");
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_listing_gives_its_letters_back() -> Result<()> {
    let stack = Stack::load().await?;
    let order = unique();
    poison(&stack, "OrderCreated", &order).await?;
    dead(&stack, "product", &order, 1).await?;
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut listing = stack.command(&["dlq", "list", "product"])?.spawn()?;
        in_flight(&stack, 1).await?;
        let kill = format!("kill -{signal} {}", listing.id());
        ensure!(std::process::Command::new("sh").args(["-c", &kill]).status()?.success());
        let ended = tokio::task::spawn_blocking(move || listing.wait()).await??;
        assert_eq!(ended.code(), Some(code));
        in_flight(&stack, 0).await?;
        assert_eq!(stack.messages(stack.dlq(Queue::Product)).await?, 1);
    }
    stack.json(&["dlq", "drop", "product", "--order", &order, "--yes"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_letter_of_a_former_version_is_listed_and_dated_and_redriven_without_its_failure()
-> Result<()> {
    let stack = Stack::load().await?;
    let order = unique();
    let mut send = stack
        .sqs
        .send_message()
        .queue_url(stack.dlq(Queue::Product))
        .message_body(format!(r#"{{"event_type":"Odd","data":{{"order_id":"{order}"}}}}"#));
    for (name, value) in [
        ("failure_reason", "schema"),
        ("failed_at", "2026-01-02T03:04:05.000Z"),
        ("first_failed_at", "2026-01-01T03:04:05.000Z"),
        ("original_message_id", "11111111-aaaa"),
        ("consumer", "product-consumer"),
        ("correlation_id", "kept"),
    ] {
        let value =
            MessageAttributeValue::builder().data_type("String").string_value(value).build()?;
        send = send.message_attributes(name, value);
    }
    send.send().await?;
    let select = ["product", "--id", "11111111-aaaa"];
    let listed = stack.json(&[&["dlq", "list"], &select[..]].concat()).await?;
    assert_eq!(
        (&listed[0]["since_is"], &listed[0]["attempts"]),
        (&"failed_at".into(), &Value::Null)
    );
    let shown = stack.run(&[&["dlq", "show"], &select[..]].concat()).await?.stdout;
    for part in ["first failed  2026-01-01T", "dead since    2026-01-02T", "11111111-aaaa"] {
        assert!(shown.contains(part), "{shown}");
    }
    stack.pause(Queue::Product).await?;
    stack.json(&[&["dlq", "redrive"], &select[..], &["--yes"]].concat()).await?;
    let moved = stack.message_with(stack.queue(Queue::Product), &order).await?;
    let attributes = moved.message_attributes.context("attributes")?;
    assert_eq!(attributes.keys().collect::<Vec<_>>(), ["correlation_id"]);
    stack.resume(Queue::Product).await?;
    // It dies again, as letters do now.
    let again = dead(&stack, "product", &order, 1).await?;
    assert_eq!(again[0]["since_is"], "failed_at", "{again:?}");
    assert!(again[0]["attempts"].is_u64(), "{again:?}");
    let attributes = again[0]["attributes"].as_object().context("attributes")?;
    assert!(!attributes.contains_key("failed_at") && !attributes.contains_key("consumer"));
    stack.json(&["dlq", "drop", "product", "--order", &order, "--yes"]).await?;
    Ok(())
}
