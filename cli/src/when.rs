//! Moments and spans as people type and read them.
//!
//! In: `2025-11-20T10:00:00Z`, `2025-11-20`, `now`, or how long ago: `90s`, `15m`, `2h`, `3d`. Out: timestamps
//! and durations. Pure: the present moment is passed in. Guarantee: what was typed is taken whole or refused; a
//! time of day without a zone is refused, because it would be another moment on another machine.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime},
    tz::TimeZone,
};

/// A moment as it was typed: absolute, or relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    At(Timestamp),
    Ago(SignedDuration),
}

impl When {
    /// The moment itself. A span that reaches before the calendar's beginning means the beginning.
    pub(crate) fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::Ago(span) => now.checked_sub(span).unwrap_or(Timestamp::MIN),
        }
    }
}

/// Reads a moment.
///
/// # Errors
/// What can be typed.
pub(crate) fn when(text: &str) -> Result<When, String> {
    if text == "now" {
        return Ok(When::Ago(SignedDuration::ZERO));
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(When::At(moment));
    }
    // A date is taken only if it is all that was typed: its parser would pass over a time of day.
    let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
    if let Some(moment) = date.and_then(|date| date.to_zoned(TimeZone::UTC).ok()) {
        return Ok(When::At(moment.timestamp()));
    }
    if text.parse::<DateTime>().is_ok() {
        return Err(format!(
            "{text} has no time zone: type 2025-11-20T10:00:00Z for UTC, or 2025-11-20T10:00:00+02:00"
        ));
    }
    span(text).map(When::Ago).map_err(|_| {
        "type a moment (2025-11-20T10:00:00Z or 2025-11-20, UTC), how long ago (90s, 15m, 2h, 3d), or now"
            .to_owned()
    })
}

/// Reads a span.
///
/// # Errors
/// What can be typed.
pub(crate) fn span(text: &str) -> Result<SignedDuration, String> {
    const HELP: &str = "type a number and a unit: 90s, 15m, 2h or 3d";
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or(HELP)?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(HELP.to_owned()),
    };
    let number: i64 = number.parse().map_err(|_| HELP)?;
    number.checked_mul(seconds).map(SignedDuration::from_secs).ok_or_else(|| HELP.to_owned())
}

/// A span in its largest unit, as tables show it: `45s`, `12m`, `3h`, `9d`.
pub(crate) fn short(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2025-11-20T12:00:00Z".parse().expect("a moment")
    }

    #[test]
    fn a_moment_is_typed_absolutely_or_as_how_long_ago() {
        for (text, moment) in [
            ("2025-11-20T10:00:00Z", "2025-11-20T10:00:00Z"),
            ("2025-11-20T12:00:00+02:00", "2025-11-20T10:00:00Z"),
            ("2025-11-19", "2025-11-19T00:00:00Z"),
            ("90s", "2025-11-20T11:58:30Z"),
            ("15m", "2025-11-20T11:45:00Z"),
            ("2h", "2025-11-20T10:00:00Z"),
            ("3d", "2025-11-17T12:00:00Z"),
            ("now", "2025-11-20T12:00:00Z"),
        ] {
            let read = when(text).map(|when| when.from(now()).to_string());
            assert_eq!(read.as_deref(), Ok(moment), "{text}");
        }
    }

    #[test]
    fn a_time_of_day_without_a_zone_is_refused_with_an_example_and_never_truncated() {
        for text in ["2026-11-23T04:00", "2026-11-23T04:00:00", "2026-11-23 04:00", "20261123T0400"]
        {
            let error = when(text).expect_err(text);
            assert!(error.contains("has no time zone") && error.contains("10:00:00Z"), "{error}");
        }
        for text in ["2026-11-23[Europe/Kyiv]", "2026-11-23x", "20261123"] {
            when(text).expect_err(text);
        }
    }

    #[test]
    fn what_is_neither_is_refused_with_what_can_be_typed() {
        for text in ["", "2", "h", "2w", "-2h", "yesterday", "99999999999999999999d"] {
            let error = when(text).expect_err(text);
            assert!(error.contains("2h"), "{error}");
        }
    }

    #[test]
    fn a_span_is_shown_in_its_largest_unit() {
        for (seconds, text) in
            [(-5, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")]
        {
            assert_eq!(short(seconds), text);
        }
    }
}
