//! Copies of dead letters: what `dlq drop` keeps in a file before it deletes, and `dlq send` brings back.
//!
//! In: dead letters, or a file. Out: a file, or messages on their queues. Guarantees: a copy is on the disk before anything is deleted; it
//! can be read by its owner alone, because it holds customers' addresses; a body is sent byte for byte as it stands in the file, which may
//! have been edited; nothing is sent of a file that cannot be read to its end.

use std::{
    collections::{BTreeMap, HashMap},
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use exactly_once::{batching::batches, is_failure_attribute};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    error::CliError,
    output::counted,
    select::DeadLetter,
    send::{self, Message},
    stack::Stack,
};

/// Maximum size of a file that is read, in bytes: a listing reads 10,000 letters, of which most have 2 KB.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A dead letter, as the file has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    /// The queue that it goes to.
    queue: String,
    /// Why it died, for a reader.
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    attributes: BTreeMap<String, String>,
    /// Its body, if that is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    /// Its body, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_text: Option<String>,
}

impl Copy {
    fn of(letter: &DeadLetter) -> Self {
        let json = RawValue::from_string(letter.body.clone()).ok();
        // What stands around a JSON value is part of a body, and would not be part of the file's.
        let json = json.filter(|json| json.get() == letter.body);
        let body_text = if json.is_some() { None } else { Some(letter.body.clone()) };
        let (queue, reason, detail) =
            (letter.queue.clone(), letter.reason.clone(), letter.detail.clone());
        Self { queue, reason, detail, attributes: letter.attributes.clone(), body: json, body_text }
    }

    /// As it goes to its queue: without what its consumer wrote when it sent it to the DLQ.
    fn message(&self) -> Result<Message, String> {
        let body = match (&self.body, &self.body_text) {
            (Some(json), None) => json.get().to_owned(),
            (None, Some(text)) => text.clone(),
            _ => return Err("it needs either a body or a body_text".to_owned()),
        };
        let kept = self.attributes.iter();
        let kept = kept.filter(|(name, _)| !is_failure_attribute(name));
        let attributes: HashMap<_, _> =
            kept.map(|(name, value)| (name.clone(), send::text_attribute(value))).collect();
        Ok(Message { body, attributes })
    }
}

/// Keeps a copy of these letters in a new file, by default beside where the command runs. Returns where it is.
///
/// # Errors
/// The file is there already, or cannot be written.
pub(crate) fn keep(
    letters: &[DeadLetter],
    queue: &str,
    file: Option<PathBuf>,
) -> Result<PathBuf, CliError> {
    let path = file.unwrap_or_else(|| {
        let now = Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ");
        PathBuf::from(format!("orderflow-dropped-{queue}-{now}.json"))
    });
    let text = write(letters).map_err(CliError::local("writing the copy"))?;
    let kept = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let kept = kept.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        // Nothing is deleted before it is safe.
        file.sync_all()
    });
    kept.map_err(|error| {
        CliError::NotDone(format!(
            "nothing was deleted, because no copy could be kept in {}: {error}. Name another file with --copy, or do without \
             with --no-copy",
            path.display()
        ))
    })?;
    Ok(path)
}

/// One letter a line, so that a file can be looked through and edited.
fn write(letters: &[DeadLetter]) -> Result<String, serde_json::Error> {
    let lines: Result<Vec<String>, _> =
        letters.iter().map(|letter| serde_json::to_string(&Copy::of(letter))).collect();
    Ok(format!("[\n{}\n]\n", lines?.join(",\n")))
}

/// The messages of a file, by their queues.
#[derive(Debug)]
pub(crate) struct Dropped {
    messages: BTreeMap<String, Vec<Message>>,
}

impl Dropped {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is not such a file.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let refused = |why: String| CliError::NotDone(format!("{}: {why}", path.display()));
        let size = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(refused(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        Self::parse(&text).map_err(refused)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let copies: Vec<Copy> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut messages: BTreeMap<String, Vec<Message>> = BTreeMap::new();
        for (place, copy) in copies.iter().enumerate() {
            let message = copy.message();
            let message = message.map_err(|why| format!("letter {}: {why}", place + 1))?;
            messages.entry(copy.queue.clone()).or_default().push(message);
        }
        Ok(Self { messages })
    }

    /// What is asked before it is done.
    pub(crate) fn question(&self) -> String {
        let counts = self.messages.iter();
        let counts = counts.map(|(queue, messages)| {
            format!("{} to the queue {queue}", counted(messages.len() as u64, "letter"))
        });
        format!("Send {}?", counts.collect::<Vec<_>>().join(", "))
    }
}

/// What was sent.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Sent {
    pub sent: u64,
    /// Why others were not.
    pub failed: Vec<String>,
}

impl Sent {
    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let failed: String = self.failed.iter().map(|why| format!("\n  {why}")).collect();
        format!("{} sent{failed}", counted(self.sent, "letter"))
    }
}

/// Sends all of them to their queues. Again does no harm: consumers take an event once.
///
/// # Errors
/// There is no such queue, or it did not answer.
pub(crate) async fn send(stack: &Stack, dropped: &Dropped) -> Result<Sent, CliError> {
    // Before the first is sent.
    for queue in dropped.messages.keys() {
        stack.queue(queue)?;
    }
    let mut sent = Sent::default();
    for (queue, messages) in &dropped.messages {
        let queue = stack.queue(queue)?;
        for batch in batches(messages, Message::bytes) {
            for fate in send::send(stack, &queue.url, batch).await? {
                match fate {
                    Ok(()) => sent.sent += 1,
                    Err(why) => sent.failed.push(format!("to {}: {why}", queue.name)),
                }
            }
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(body: &str) -> DeadLetter {
        let attributes = [
            ("event_type", "OrderCreated"),
            ("failure_reason", "schema"),
            ("attempts", "2"),
            // As letters had them that were dropped before.
            ("failed_at", "2025-11-20T12:00:00.000Z"),
            ("consumer", "product-consumer"),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let body = body.to_owned();
        DeadLetter { body, attributes: attributes.into(), ..DeadLetter::of_reason("schema") }
    }

    #[test]
    fn what_was_dropped_comes_back_byte_for_byte_without_why_it_died() {
        let bodies =
            ["{}", r#"{"b": 1.50,"a":"é"}"#, " {} ", "not JSON", "", "\"text\"", "{\"a\":\n1}"];
        let letters: Vec<DeadLetter> = bodies.iter().map(|body| letter(body)).collect();
        let file = write(&letters).expect("a file");
        let dropped = Dropped::parse(&file).expect("letters");
        let messages = &dropped.messages["product"];
        let sent: Vec<&str> = messages.iter().map(|message| message.body.as_str()).collect();
        assert_eq!(sent, bodies);
        for message in messages {
            assert_eq!(message.attributes.keys().collect::<Vec<_>>(), ["event_type"]);
        }
        assert_eq!(dropped.question(), "Send 7 letters to the queue product?");
    }

    #[test]
    fn a_file_that_was_edited_wrongly_is_refused_as_a_whole() {
        let good = write(&[letter("{}")]).expect("a file");
        for wrong in [
            String::new(),
            "{}".to_owned(),
            good.replace("\"body\":{}", "\"body\":{"),
            good.replace(",\"body\":{}", ""),
            good.replace("\"body\":{}", "\"body\":{},\"body_text\":\"{}\""),
            good.replace("\"queue\"", "\"queu\""),
        ] {
            assert_ne!(wrong, good);
            assert!(Dropped::parse(&wrong).is_err(), "{wrong}");
        }
    }
}
