//! The trace of one request through all services (W3C Trace Context, <https://www.w3.org/TR/trace-context/>).

use exactly_once::Ids;

/// What an event inherits from the request or event that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The same in every event and log line that one request led to.
    pub correlation_id: String,
    /// W3C `traceparent`: the caller's trace, with a span of our own.
    pub traceparent: String,
    /// The caller's, if it is one.
    pub parent: Option<String>,
}

impl Trace {
    /// Continues what the caller sent, or starts anew.
    #[must_use]
    pub fn continued(correlation_id: Option<&str>, traceparent: Option<&str>, ids: &Ids) -> Self {
        Self {
            correlation_id: correlation_id
                .filter(|id| is_plain(id))
                .map_or_else(|| ids.random().to_string(), str::to_owned),
            traceparent: child(traceparent, ids),
            parent: traceparent.filter(|p| trace_id_and_flags(p).is_some()).map(str::to_owned),
        }
    }
}

/// A new span in the trace of `parent`, or in a new trace if there is none or it is malformed.
#[must_use]
pub fn child(parent: Option<&str>, ids: &Ids) -> String {
    let span = &ids.random().simple().to_string()[..16];
    match parent.and_then(trace_id_and_flags) {
        Some((trace_id, flags)) => format!("00-{trace_id}-{span}-{flags}"),
        None => format!("00-{}-{span}-01", ids.random().simple()),
    }
}

const CORRELATION_ID_BYTES_MAX: usize = 128;

/// Whether a foreign id can go into headers, message attributes and logs as it is.
fn is_plain(id: &str) -> bool {
    (1..=CORRELATION_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

fn trace_id_and_flags(traceparent: &str) -> Option<(&str, &str)> {
    let mut parts = traceparent.split('-');
    let (version, trace_id, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    let valid = hex(version, 2)
        && version != "ff"
        && hex(trace_id, 32)
        && !zero(trace_id)
        && hex(span, 16)
        && !zero(span)
        && hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    valid.then_some((trace_id, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_child_keeps_the_trace_and_has_a_span_of_its_own() {
        let child = child(Some(PARENT), &Ids::default());
        assert!(child.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{child}");
        assert!(child.ends_with("-01") && child.len() == PARENT.len(), "{child}");
        assert_ne!(child, PARENT);
    }

    #[test]
    fn a_malformed_parent_starts_a_new_trace() {
        for parent in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            &format!("{PARENT}-x"),
        ] {
            let child = child(Some(parent), &Ids::default());
            assert!(trace_id_and_flags(&child).is_some(), "{child}");
            assert!(!child.contains("0af7651916cd43dd8448eb211c80319c"), "{parent}");
        }
    }

    #[test]
    fn a_correlation_id_that_could_forge_a_log_line_is_replaced() {
        assert_eq!(Trace::continued(Some("abc-1"), None, &Ids::default()).correlation_id, "abc-1");
        for id in ["", "a\nb", "a b", "я", &"x".repeat(129)] {
            assert_ne!(Trace::continued(Some(id), None, &Ids::default()).correlation_id, id);
        }
    }
}
