//! Damage to JSON: to its bytes, to its values, and to its nesting.

use std::ops::Range;

use fastrand::Rng;

const DAMAGES_MAX: usize = 4;
/// Rarely, because such inputs take a hundred times as long as others.
const ONE_IN_LARGE: u32 = 5000;
const LARGE_BYTES: usize = 300 * 1024;
const DEPTH_MAX: usize = 300;

/// What readers have been known to stumble over.
const VALUES: [&str; 58] = [
    "null",
    "true",
    "[]",
    "{}",
    "[{}]",
    "[[]]",
    "{\"\":{}}",
    "\"\"",
    "\" \"",
    "0",
    "-0",
    "-1",
    "1",
    "00",
    "0.1",
    "0.001",
    "1.5",
    "1000",
    "1001",
    "1000.00",
    "2147483648",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "90071992547409.91",
    "90071992547409.92",
    "-9223372036854775808",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "79228162514264337593543950335",
    "79228162514264337593543950336",
    "0.0000000000000000000000000001",
    "0.00000000000000000000000000001",
    "1e2",
    "1E+2",
    "1e-2",
    "1e28",
    "1e29",
    "1e-29",
    "1e308",
    "1e400",
    "-1e400",
    "1e99999999999",
    "1e-99999999999",
    "0e99999999999",
    "NaN",
    "Infinity",
    "\"1\"",
    "\"1.0\"",
    "\"1.4294967296\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\u{202e}\u{feff}\u{1f4a9}\"",
    "\"a@b.c\"",
    "\"2025-11-20T10:35:00.123Z\"",
    "\"-009999-01-01T00:00:00Z\"",
];

/// One of the corpus, with up to four damages.
pub(crate) fn damaged(corpus: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut input = any(corpus, random).clone();
    for _ in 0..random.usize(..=DAMAGES_MAX) {
        damage(&mut input, corpus, random);
    }
    if random.u32(..ONE_IN_LARGE) == 0 {
        let at = random.usize(..=input.len());
        input.splice(at..at, vec![random.u8(..); LARGE_BYTES]);
    }
    input
}

fn damage(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Rng) {
    match random.u32(..18) {
        0 => {
            if let Some(at) = place(input.len(), random) {
                input[at] ^= 1 << random.u32(..8);
            }
        }
        1 => {
            if let Some(at) = place(input.len(), random) {
                input[at] = random.u8(..);
            }
        }
        2 => {
            let (at, count) = (random.usize(..=input.len()), random.usize(1..=8));
            input.splice(at..at, (0..count).map(|_| random.u8(..)));
        }
        3 => input.truncate(random.usize(..=input.len())),
        4 => _ = input.drain(piece(input, random)),
        5 => {
            let (again, at) = (input[piece(input, random)].to_vec(), random.usize(..=input.len()));
            input.splice(at..at, again);
        }
        // The beginning of one and the end of another.
        6 => {
            let other = any(corpus, random);
            input.truncate(random.usize(..=input.len()));
            input.extend(&other[random.usize(..=other.len())..]);
        }
        7 => {
            let other = any(corpus, random);
            let foreign = other[piece(other, random)].to_vec();
            let at = random.usize(..=input.len());
            input.splice(at..at, foreign);
        }
        8 => {
            let depth = random.usize(1..=DEPTH_MAX);
            let (open, close) = if random.bool() { ("[", "]") } else { ("{\"a\":", "}") };
            if let Some(value) = scalar(input, random) {
                let inner = input[value.clone()].to_vec();
                let nested =
                    [open.repeat(depth).as_bytes(), &inner, close.repeat(depth).as_bytes()]
                        .concat();
                input.splice(value, nested);
            }
        }
        // A value of the same input in the place of another: names for numbers, ids for names.
        9 => {
            if let (Some(value), Some(other)) = (scalar(input, random), scalar(input, random)) {
                let other = input[other].to_vec();
                input.splice(value, other);
            }
        }
        10 => {
            if let Some(value) = scalar(input, random) {
                let digits: String = (0..random.usize(1..=40)).map(|_| random.digit(10)).collect();
                let point = random.usize(..=digits.len());
                let exponent = random.i32(-40..=40);
                let number = format!("{}.{}e{exponent}", &digits[..point], &digits[point..]);
                input.splice(value, number.into_bytes());
            }
        }
        _ => {
            if let Some(value) = scalar(input, random) {
                let known = VALUES[random.usize(..VALUES.len())];
                input.splice(value, known.bytes());
            }
        }
    }
}

fn any<'a>(corpus: &'a [Vec<u8>], random: &mut Rng) -> &'a Vec<u8> {
    &corpus[random.usize(..corpus.len())]
}

fn place(length: usize, random: &mut Rng) -> Option<usize> {
    (length > 0).then(|| random.usize(..length))
}

fn piece(input: &[u8], random: &mut Rng) -> Range<usize> {
    let (one, other) = (random.usize(..=input.len()), random.usize(..=input.len()));
    one.min(other)..one.max(other)
}

/// A text, number or literal of what may still be JSON, keys included.
fn scalar(input: &[u8], random: &mut Rng) -> Option<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < input.len() {
        let begin = at;
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
        if input[at] == b'"' {
            at += 1;
            while at < input.len() && input[at] != b'"' {
                at += if input[at] == b'\\' { 2 } else { 1 };
            }
            at = (at + 1).min(input.len());
        } else {
            at += input[at..].iter().take_while(|b| plain(b)).count();
        }
        if at > begin {
            found.push(begin..at);
        } else {
            at += 1;
        }
    }
    let nth = place(found.len(), random)?;
    Some(found.swap_remove(nth))
}
