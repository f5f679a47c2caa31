//! E-mail addresses in what is printed: whoever looks over an operator's shoulder, or reads a ticket with a screen in it,
//! learns nothing of a customer.
//!
//! In: any text, JSON among it. Out: the same with each address masked as order-api masks it. Guarantee: what looks like an
//! address is masked wherever it stands, in the body of a dead letter that nobody can read as well.

/// Masks each e-mail address: `t***@e***.com`.
pub(crate) fn mask_emails(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let local = before.len() - before.trim_end_matches(is_of_local_part).len();
        let domain = after.find(|c| !is_of_domain(c)).unwrap_or(after.len());
        // A sentence may end behind an address.
        let domain = after[..domain].trim_end_matches(['.', '-']);
        match domain.rsplit_once('.') {
            Some((name, last)) if !name.is_empty() => {
                let (before, local) = before.split_at(before.len() - local);
                masked.push_str(before);
                masked.extend(local.chars().next());
                masked.push_str("***@");
                masked.extend(name.chars().next());
                masked.push_str("***.");
                masked.push_str(last);
                rest = &after[domain.len()..];
            }
            _ => {
                masked.push_str(before);
                masked.push('@');
                rest = after;
            }
        }
    }
    masked.push_str(rest);
    masked
}

/// What an address may have before its `@` without quotes (RFC 5322, section 3.2.3), in any script (RFC 6531).
fn is_of_local_part(c: char) -> bool {
    c.is_alphanumeric() || ".!#$%&'*+-/=?^_`{|}~".contains(c)
}

fn is_of_domain(c: char) -> bool {
    c.is_alphanumeric() || ".-".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_masked_wherever_it_stands() {
        for (text, masked) in [
            ("a@example.com", "a***@e***.com"),
            (
                r#"{"to":"first.last+x@mail.example.com","n":1.50}"#,
                r#"{"to":"f***@m***.com","n":1.50}"#,
            ),
            ("To: ключ@пошта.укр.", "To: к***@п***.укр."),
            ("one@a.de, two@b.de", "o***@a***.de, t***@b***.de"),
            (r#"\"quoted\"@example.com"#, r#"\"quoted\"***@e***.com"#),
        ] {
            assert_eq!(mask_emails(text), masked);
            assert_eq!(mask_emails(masked), masked, "once more");
        }
    }

    #[test]
    fn what_is_no_address_stays_as_it_is() {
        for text in [
            "",
            "@",
            "2 @ 3",
            "a@b",
            "a@.",
            "arn:aws:sns:eu-central-1:1:orders",
            "x@-.",
            "ends with @",
        ] {
            assert_eq!(mask_emails(text), text);
        }
    }
}
