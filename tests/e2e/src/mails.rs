//! The mails that the stack has sent, read from the emulator's SES.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{Seconds, Stack, eventually};

impl Stack {
    /// The subjects of all mails about an order.
    ///
    /// # Errors
    /// The emulator did not answer, or the stack was deployed without SES.
    pub async fn mails(&self, order: &str) -> Result<Vec<String>> {
        let mut subjects = self.all_mails().await?;
        subjects.retain(|subject| subject.contains(order));
        Ok(subjects)
    }

    /// Waits until an order has this number of mails, and returns their subjects. Other tests' mails may be before
    /// them: a hundred orders have two hundred.
    ///
    /// # Errors
    /// They do not come.
    pub async fn wait_for_mails(&self, order: &str, count: usize) -> Result<Vec<String>> {
        eventually(&format!("{count} mails of {order}"), 120.secs(), async || {
            let mails = self.mails(order).await?;
            Ok((mails.len() >= count).then_some(mails))
        })
        .await
    }

    /// The subjects of all mails.
    ///
    /// # Errors
    /// The emulator did not answer, or the stack was deployed without SES.
    pub async fn all_mails(&self) -> Result<Vec<String>> {
        let mails = self.read_mails().await?;
        Ok(mails.iter().filter_map(|mail| mail["Subject"].as_str()).map(str::to_owned).collect())
    }

    /// The mail with this subject as the emulator shows it: a JSON document.
    ///
    /// # Errors
    /// It was not sent.
    pub async fn mail(&self, subject: &str) -> Result<String> {
        let mails = self.read_mails().await?;
        let mail = mails.iter().find(|mail| mail["Subject"] == subject);
        mail.map(Value::to_string).with_context(|| format!("no mail {subject}"))
    }

    /// Has SES take mails of the stack's sender, or refuse them: its owner verifies it on AWS by a click.
    ///
    /// # Errors
    /// SES did not answer.
    pub async fn verify_sender(&self, is_verified: bool) -> Result<()> {
        let function = self.setting("NOTIFICATION_CONSUMER_FUNCTION");
        let answer =
            self.lambda.get_function_configuration().function_name(function).send().await?;
        let variables = answer.environment().and_then(|environment| environment.variables());
        let sender = variables.and_then(|all| all.get("MAIL_FROM")).context("a MAIL_FROM")?;
        let (action, name) = if is_verified {
            ("VerifyEmailIdentity", "EmailAddress")
        } else {
            ("DeleteIdentity", "Identity")
        };
        let form = [("Version", "2010-12-01"), ("Action", action), (name, sender)];
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let call = self.http.post(self.setting("EMULATOR_URL")).body(form);
        let call = call.header("content-type", "application/x-www-form-urlencoded");
        let call = call.header("authorization", self.unsigned_scope("ses"));
        call.send().await?.error_for_status()?;
        Ok(())
    }

    async fn read_mails(&self) -> Result<Vec<Value>> {
        ensure!(
            self.setting("MAIL_MODE") == "ses",
            "the tests read mails from the emulator's SES: deploy with --mail-mode ses"
        );
        let answer = self.http.get(self.setting("MAILS_URL")).send().await?.error_for_status()?;
        let json: Value = answer.json().await?;
        // MiniStack lists them by account, LocalStack in one list.
        match &json["messages"] {
            Value::Array(mails) => Ok(mails.clone()),
            Value::Object(accounts) => {
                Ok(accounts.values().filter_map(Value::as_array).flatten().cloned().collect())
            }
            _ => bail!("no mails in {json}"),
        }
    }
}
