//! What a request says of the form of its body (`Content-Type`) and of the answer that it takes (`Accept`).

use http::{HeaderValue, header::GetAll};

/// Whether a `Content-Type` is JSON in UTF-8: `application/json`, or a type with the suffix `+json` (RFC 6839, section 3.1).
pub(crate) fn is_json(content_type: &HeaderValue) -> bool {
    let text = content_type.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let is_json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    let mut charsets = parts.filter_map(|parameter| parameter.strip_prefix("charset="));
    is_json
        && charsets
            .all(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"))
}

/// Whether a client takes `application/json` (RFC 9110, section 12.5.1): the most specific range that has it decides. A header that
/// cannot be read is none.
pub(crate) fn accept_json(accept: GetAll<'_, HeaderValue>) -> bool {
    let mut best: Option<(u8, bool)> = None;
    let mut is_there = false;
    for range in
        accept.iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','))
    {
        let mut parts = range.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        if essence.is_empty() {
            continue;
        }
        is_there = true;
        let specificity = match essence.as_str() {
            "application/json" => 3,
            "application/*" => 2,
            "*/*" => 1,
            _ => continue,
        };
        let weight = parts.find_map(|parameter| parameter.strip_prefix("q="));
        let is_wanted =
            weight.and_then(|weight| weight.parse::<f32>().ok()).is_none_or(|weight| weight > 0.0);
        if best.is_none_or(|(known, _)| specificity > known) {
            best = Some((specificity, is_wanted));
        }
    }
    best.map_or(!is_there, |(_, is_wanted)| is_wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, header::ACCEPT};

    #[test]
    fn json_is_known_by_its_names_and_other_character_sets_are_not_read() {
        for (text, wanted) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json; charset=\"utf-8\"", true),
            ("application/merge-patch+json", true),
            ("application/json; charset=utf-16", false),
            ("text/json", false),
            ("application/x-www-form-urlencoded", false),
            ("text/plain", false),
            ("", false),
        ] {
            assert_eq!(is_json(&HeaderValue::from_static(text)), wanted, "{text}");
        }
    }

    #[test]
    fn the_most_specific_range_decides_whether_json_is_taken() {
        for (accept, wanted) in [
            (&[][..], true),
            (&[""], true),
            (&["*/*"], true),
            (&["application/json"], true),
            (&["text/html", "application/*;q=0.5"], true),
            (&["text/html, Application/JSON"], true),
            (&["text/html"], false),
            (&["application/problem+json"], false),
            (&["*/*, application/json;q=0"], false),
            (&["application/json;q=0.1, */*;q=0"], true),
            (&["*/*;q=0.0"], false),
        ] {
            let values = accept.iter().map(|text| (ACCEPT, HeaderValue::from_static(text)));
            let headers: HeaderMap = values.collect();
            assert_eq!(accept_json(headers.get_all(ACCEPT)), wanted, "{accept:?}");
        }
    }
}
